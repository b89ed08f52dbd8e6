#!/usr/bin/env bash
# Compares this library with other MQTT clients and a raw loop. Each publishes the same messages in turn, against a
# server that acknowledges at once and against a private Mosquitto, and receives the same messages from a server that
# sends as fast as its window allows. All with mutual TLS on this machine.
#
# usage: scripts/peers.sh [--quick] [--json FILE] [--chart FILE]
#
# The script prints the medians of five rounds of one second for each of them (three seconds with 1,024 threads) and
# the ratios that matter. It takes some twelve minutes. Run it on a machine that has nothing else to do.
#
#   --quick       three rounds of 0.3 seconds: some three minutes, and too short for the ratios to mean much
#   --json FILE   also write the figures to FILE
#   --chart FILE  also draw the chart into FILE (SVG); benches/README.md shows benches/peers/chart.svg
#   -h, --help    this text
#
# The package is benches/peers, outside of the library's build. Building it compiles the Paho C library, which
# needs cmake and OpenSSL's headers (on Debian and Ubuntu: apt-get install cmake pkg-config libssl-dev). The run
# also needs mosquitto. It makes its servers and certificates itself and removes them.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

rounds=5 seconds=1 outputs=()
while (($#)); do
    case $1 in
        --quick) rounds=3 seconds=0.3 ;;
        --json | --chart)
            [[ -n ${2:-} ]] || die "$1 needs a file: see --help" 2
            case $2 in
                /*) outputs+=("$1" "$2") ;;
                *) outputs+=("$1" "$PWD/$2") ;;
            esac
            shift
            ;;
        -h | --help) help_from_header && exit 0 ;;
        *) die "unknown argument '$1': see --help" 2 ;;
    esac
    shift
done
need_cargo
need_command cmake 'it builds the Paho C library; on Debian and Ubuntu: apt-get install cmake'
need_command mosquitto 'on Debian and Ubuntu: apt-get install mosquitto; on macOS: brew install mosquitto'
need_command openssl 'on Debian and Ubuntu: apt-get install openssl'
have_openssl_headers || die "OpenSSL's headers are missing; on Debian and Ubuntu: apt-get install pkg-config libssl-dev" 127

folder=$(mktemp -d "${TMPDIR:-/tmp}/peers.XXXXXX") || die 'cannot make a temporary folder: set TMPDIR'
trap 'rm -rf -- "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$repository/scripts/gen-certs.sh" "$folder/certs" >"$folder/gen-certs.log"
cd -- "$repository/benches/peers"
cargo build --locked --release --quiet --manifest-path ../../Cargo.toml --bin mqtt-connection-sharing
program=${CARGO_TARGET_DIR:-$repository/target}/release/mqtt-connection-sharing
cargo build --locked --release --quiet
cargo run --locked --release --quiet -- suite --certs "$folder/certs" --rounds "$rounds" --seconds "$seconds" \
    --program "$program" \
    ${outputs[@]+"${outputs[@]}"}
