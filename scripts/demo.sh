#!/usr/bin/env bash
# Builds the program and runs its demo. Nothing has to be set up: the program starts a broker and makes the
# certificates itself.
#
# usage: scripts/demo.sh [ARGUMENTS...]       for example: scripts/demo.sh --iterations 1 --output json
#        scripts/demo.sh bench [ARGUMENTS...]     the program's bench in place of the demo
#        scripts/demo.sh check [ARGUMENTS...]     the program's check
#
# ARGUMENTS go to the program (`scripts/demo.sh demo --help` shows its flags). The exit status is the program's:
# 0 success, 1 the demo failed, 2 usage, 3 no connection, 4 refused, 130 interrupted. If the program does not run:
# 101 it could not be built, 127 a tool is missing.
# The build needs Rust and a C compiler. If OpenSSL's headers are missing, the script asks on a terminal whether to
# build OpenSSL as well, which takes some minutes more and needs perl and make. Without a terminal it builds it.
#
#   -h, --help   this text
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in
    -h | --help) help_from_header && exit 0 ;;
    --) shift ;;
esac
need_cargo
word=() features=local-broker
# The demo needs a quick build, the bench a fast program.
profile=(--profile demo) takes='two to four minutes'
case ${1:-} in
    bench) word=(bench) profile=(--release) takes='five to ten minutes' ;;
    demo | check) word=("$1") ;;
esac
shift "${#word[@]}"
if ! have_openssl_headers; then
    printf '%s\n' "demo.sh: OpenSSL's headers are missing. On Debian and Ubuntu they come with:" \
        '    apt-get install pkg-config libssl-dev' >&2
    if [[ -t 0 && -t 2 ]]; then
        read -r -p 'Build OpenSSL from source as well, some five minutes more? [y/N] ' answer || answer=n
        [[ $answer == [yY]* ]] || die "install the headers and try again" 127
    fi
    need_vendored_tools
    features+=,vendored-openssl
    takes+=', and some five more for OpenSSL'
fi
printf 'demo.sh: building the program and its embedded broker: %s the first time, seconds afterwards\n' "$takes" >&2
build_program "${profile[@]}" --features "$features" || die 'the build failed: cargo says why above' 101
# The program replaces this script, so that it receives the signals and its exit status counts.
exec "$program_file" ${word[@]+"${word[@]}"} --local "$@"
