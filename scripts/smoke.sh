#!/usr/bin/env bash
# The smoke test: the program against a real Mosquitto over mutual TLS, and three refusals.
#
# usage: scripts/smoke.sh
#
# The demo must succeed, and its JSON must say so. Without a client certificate, with a certificate of another
# authority, and for a server under another name, the program must end with exit status 3 and one line that names
# the certificate or the name. The script prints `ok` or `FAILED` for each check, then the counts; the exit status
# is 0 when all passed.
# The script builds the program first (profile dev), unless MQTT_CONNECTION_SHARING_BIN names its file.
# scripts/broker.sh starts and stops Mosquitto. The script ignores the caller's MQTT_* variables.
#
#   -h, --help   this text
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# The program runs fast and may retry once: a refusal must be final.
options=(--publish-delay 0 --iteration-delay 0 --iterations 2 --connect-interval 0 --retry-attempts 1)
passed=0 failed=0

# run COMMAND...: sets `status` to its status, `out` and `err` to its streams. A command that hangs has failed.
run() {
    local limit=()
    ! command -v timeout >/dev/null 2>&1 || limit=(timeout --kill-after=5 60)
    status=0
    ${limit[@]+"${limit[@]}"} "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    out=$(<"$work/out") err=$(<"$work/err")
}

ok() { # NAME
    passed=$((passed + 1))
    printf 'ok      %s\n' "$1"
}

not_ok() { # NAME WHY
    failed=$((failed + 1))
    printf 'FAILED  %s: %s\n' "$1" "$2"
    printf '  exit status: %s\n' "$status"
    sed 's/^/  standard output: /' "$work/out"
    sed 's/^/  standard error: /' "$work/err"
}

count() { # TEXT in STRING
    local rest=$2 found=0
    while [[ $rest == *"$1"* ]]; do
        rest=${rest#*"$1"}
        found=$((found + 1))
    done
    echo "$found"
}

demo_succeeds() {
    local name='the demo against Mosquitto: 2 of 2 iterations, nothing lost' json key why=''
    run "$program_file" "${options[@]}" --output json
    json=$(tr -d '[:space:]' <"$work/out")
    for key in published acknowledged received; do
        if [[ $json != *"\"$key\":"[1-9]* || $json == *"\"$key\":0"* ]]; then why="\"$key\" must not be 0"; fi
    done
    for key in lost duplicated unexpected; do
        if (($(count "\"$key\":0" "$json") != 2)); then why="\"$key\":0 was expected for both iterations"; fi
    done
    # One is for the whole run, one for each of the two iterations.
    if (($(count '"success":true' "$json") != 3)); then why='"success":true was expected three times'; fi
    for key in '"iterations":2' '"succeeded":2'; do
        if [[ $json != *"$key"[!0-9]* ]]; then why="$key was expected"; fi
    done
    # The most important reason comes last, because the last one is printed.
    if [[ $json != '{'*'}' ]]; then why='one JSON object on standard output was expected'; fi
    if [[ $err == *panicked* ]]; then why='a thread panicked'; fi
    if ((status != 0)); then why='exit status 0 was expected'; fi
    if [[ -z $why ]]; then ok "$name"; else not_ok "$name" "$why"; fi
}

# refused NAME WORDS COMMAND...: expects exit status 3, one line on standard error that matches WORDS, and no
# results.
refused() {
    local name=$1 words=$2
    shift 2
    run "$@"
    if ((status != 3)); then
        not_ok "$name" 'exit status 3 was expected'
    elif [[ $err == *panicked* ]]; then
        not_ok "$name" 'it panicked'
    elif (($(grep -c . "$work/err") != 1)); then
        not_ok "$name" 'one line on standard error was expected'
    elif ! grep -qiE -- "$words" "$work/err"; then
        not_ok "$name" "the error must speak of '$words'"
    elif [[ -n $out ]]; then
        not_ok "$name" 'nothing was expected on standard output'
    else
        ok "$name"
    fi
}

# broker.sh runs this second half of the script beside the broker.
if [[ ${1:-} == --beside-broker ]]; then
    program_file=$2
    work=$(mktemp -d "$BROKER_DIR/smoke.XXXXXX")
    demo_succeeds
    # -q: errors only, so that standard error has one line.
    options+=(-q)
    refused 'no client certificate is refused' certificate \
        env -u MQTT_CERT -u MQTT_KEY "$program_file" "${options[@]}"
    refused 'a client certificate of another authority is refused' certificate \
        "$program_file" "${options[@]}" --cert "$BROKER_CERTS/other-client.pem" --key "$BROKER_CERTS/other-client.key"
    refused 'a server under another name is refused' 'certificate|name' \
        "$program_file" "${options[@]}" --tls-server-name wrong.example
    printf '%s passed, %s failed\n' "$passed" "$failed"
    ((failed == 0)) || exit 1
    exit 0
fi

case ${1:-} in
    '') ;;
    -h | --help) help_from_header && exit 0 ;;
    *) die "unknown argument '$1': see --help" 2 ;;
esac
forget_program_settings
find_or_build_program
exec "$repository/scripts/broker.sh" -- "$repository/scripts/smoke.sh" --beside-broker "$program_file"
