#!/usr/bin/env bash
# Judges brokers that speak MQTT 5: Mosquitto, the embedded broker, ejabberd and rumqttd get the same small experiments,
# and the verdicts are printed side by side. A verdict that differs from the standard's has to be documented in
# tests/brokers/peers.rs; any other one fails the run.
#
# usage: scripts/brokers.sh
#
# The script installs mosquitto and ejabberd with apt-get, if they are missing and it may (as root, or by sudo without a
# password), and builds rumqttd from crates.io below target/. It starts each broker itself, on a free port of 127.0.0.1
# and with a temporary folder, and ends it. No service of the system is started or used.
#
#   -h, --help   this text
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# The last one that was tried.
rumqttd_version=0.20.0

case ${1:-} in
    '') ;;
    -h | --help) help_from_header && exit 0 ;;
    *) die "unknown argument '$1': see --help" 2 ;;
esac
cd -- "$repository"
forget_program_settings
need_cargo

missing_packages() {
    command -v mosquitto >/dev/null 2>&1 || echo mosquitto
    # The command alone does not do: the module for MQTT is in the same package.
    compgen -G '/usr/lib/*/ejabberd-*/ebin/mod_mqtt.beam' >/dev/null || echo ejabberd
    command -v erl >/dev/null 2>&1 || echo erlang-base
}

install_packages() {
    local missing as_root=()
    missing=$(missing_packages | tr '\n' ' ')
    missing=${missing% }
    [[ -n $missing ]] || return 0
    command -v apt-get >/dev/null 2>&1 ||
        die "missing: $missing (names as on Debian): install them with your system's package manager" 127
    if [[ $(id -u) != 0 ]]; then
        sudo -n true 2>/dev/null || die "missing: $missing: run 'sudo apt-get install $missing' and try again" 127
        as_root=(sudo -n)
    fi
    printf 'installing: %s\n' "$missing"
    ${as_root[@]+"${as_root[@]}"} apt-get update -q || die "'apt-get update' failed: install by hand: $missing" 127
    # In runlevel 1 no package starts its service.
    # shellcheck disable=SC2086 # several words
    ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -q -y --no-install-recommends $missing ||
        die "'apt-get install' failed: install by hand: $missing" 127
    hash -r
    missing=$(missing_packages | tr '\n' ' ')
    [[ -z $missing ]] || die "still missing after installing: $missing: see apt-get's messages above" 127
}

# Does nothing if this version is there. Its own Cargo.lock names a crate that recent compilers refuse.
build_rumqttd() {
    local root=$1
    cargo install --quiet rumqttd --version "$rumqttd_version" --no-default-features --root "$root" \
        --target-dir "$root/build" --config profile.release.opt-level=1 --config profile.release.debug=false ||
        die 'rumqttd could not be built: see above'
}

# Prints the verdicts: of each subject, the word of each broker.
table() {
    awk -F '\t' '
        # The line of a test may stand before its first verdict.
        { sub(/^test [a-z_]+ \.\.\. /, "", $1) }
        NF == 3 {
            if (!($1 in width)) { brokers[++columns] = $1; width[$1] = length($1) }
            if (!($2 in seen)) { subjects[++rows] = $2; seen[$2] = 1 }
            word[$2, $1] = $3
        }
        END {
            for (row = 1; row <= rows; row++) {
                printf "%s\n", subjects[row]
                for (column = 1; column <= columns; column++)
                    printf "    %-10s %s\n", brokers[column], word[subjects[row], brokers[column]]
            }
        }' "$1"
}

install_packages
root=${CARGO_TARGET_DIR:-target}/brokers
mkdir -p "$root"
root=$(cd -- "$root" && pwd)
build_rumqttd "$root"
output=$(mktemp)
trap 'rm -f -- "$output"' EXIT
status=0
# One after the other, so that the lines of one broker stand together.
env RUMQTTD="$root/bin/rumqttd" cargo test --locked --features local-broker --test brokers -- --include-ignored \
    --nocapture --test-threads 1 >"$output" 2>&1 || status=$?
if ((status != 0)); then
    cat "$output"
    die 'a broker differs from what is documented, or a limit is not kept: see above'
fi
table "$output"
grep '^test result: ok' "$output"
