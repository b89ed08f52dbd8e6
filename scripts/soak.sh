#!/usr/bin/env bash
# The soak run: eight publishers and two subscribers share one connection at full rate. It goes through a proxy
# that cuts, stalls or slows it at random, to a real Mosquitto that is killed every few seconds.
#
# usage: scripts/soak.sh [--dev] [MINUTES [SEED [MQTT]]]
#
# MINUTES is 1 unless given; fractions are fine. MQTT is the version, 3.1.1 or 5; 3.1.1 unless given. The run prints a line each second with rates, connections and
# memory, then a summary. The exit status is 1 if a message was lost, had no outcome, or an untrue one, or if
# memory grew by more than a quarter after the first 10,000 messages.
#
#   --dev        build with the profile dev: a slower program, but most of it is usually built already
#   -h, --help   this text
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

profile=(--release)
while (($#)); do
    case $1 in
        --dev) profile=() ;;
        -h | --help) help_from_header && exit 0 ;;
        -*) die "unknown argument '$1': see --help" 2 ;;
        *) break ;;
    esac
    shift
done
(($# <= 3)) || die 'too many arguments: see --help' 2
need_cargo
need_command mosquitto 'on Debian and Ubuntu: apt-get install mosquitto; on macOS: brew install mosquitto'
forget_program_settings
cd -- "$repository"
exec cargo run --locked --quiet ${profile[@]+"${profile[@]}"} --example soak -- "$@"
