#!/usr/bin/env bash
# Builds the program and runs its demo, with nothing to set up: broker and certificates are its own.
#
# usage: scripts/demo.sh [ARGUMENTS...]       for example: scripts/demo.sh --iterations 1 --output json
#        scripts/demo.sh bench [ARGUMENTS...]     the program's bench in place of the demo
#
# ARGUMENTS go to the program (`scripts/demo.sh -- --help` shows its own help), and its exit status comes back:
# 0 success, 1 the demo failed, 2 usage, 3 no connection, 4 refused, 130 interrupted. Before it runs: 101 it
# could not be built, 127 a tool is missing.
# The build needs Rust and a C compiler. Where OpenSSL's headers are missing, it builds OpenSSL as well,
# which takes some minutes and needs perl and make.
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
features=local-broker
if ! have_openssl_headers; then
    need_vendored_tools
    features+=,vendored-openssl
    printf "demo.sh: OpenSSL's headers are missing: building OpenSSL as well, which takes some minutes\n" >&2
fi
build_program --release --features "$features" || die 'the build failed: cargo says why above' 101
word=()
if [[ ${1:-} == bench ]]; then
    word=(bench)
    shift
fi
# In the program's place: signals and exit status are the program's own.
exec "$program_file" ${word[@]+"${word[@]}"} --local "$@"
