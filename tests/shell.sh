#!/bin/sh
# Uses each command of the program as a script would: pipes, files, exit statuses, time-outs, signals.
#
# usage: scripts/broker.sh --fast -- dash tests/shell.sh PROGRAM
#
# It runs under any POSIX shell, beside the broker that the variables MQTT_ENDPOINT and so on name. It prints `ok` or
# `FAILED` for each check; the exit status is 0 when all passed.
set -u

program=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export MQTT_CONNECT_INTERVAL=0
failed=0

# check NAME: tells whether the command before succeeded.
check() {
    if [ "$?" -eq 0 ]; then
        printf 'ok      %s\n' "$1"
    else
        printf 'FAILED  %s\n' "$1"
        failed=$((failed + 1))
        tail -n 5 "$work"/out "$work"/err 2>/dev/null
    fi
}

# run EXPECTED ARGUMENTS...: runs the program, with its streams in the files `out` and `err`. Succeeds if its exit status
# is the expected one.
run() {
    expected=$1
    shift
    status=0
    "$program" "$@" >out 2>err || status=$?
    [ "$status" -eq "$expected" ]
}

run 0 version && grep -q '^mqtt-connection-sharing ' out
check 'version'
run 0 help && grep -q ' sub ' out && run 0 sub --help && run 0 man >/dev/null && run 0 completions bash
check 'help, man and completions'
run 0 settings pub --topic a && cp out settings.toml && run 0 pub --config settings.toml --message x
check 'settings, read back by another run'
run 0 demo --iterations 1 --publish-delay 0 --output json && grep -q '"success":true' out
check 'demo'
run 0 bench --messages 100 --output json && grep -q '"acknowledged":100,' out
check 'bench'
run 0 check --topic shell/check --output json && grep -q '"stopped_at":null' out
check 'check'

printf 'any bytes: \001\377\n\n' >bytes
"$program" pub --topic shell/bytes --retain <bytes >out 2>err
check 'pub from a file by <'
run 0 sub shell/bytes --count 1 --within 10s --format raw && cmp -s out bytes
check 'sub gives the same bytes'
run 0 pub --topic shell/bytes --retain --message '' && run 5 sub shell/bytes --count 1 --within 100ms
check 'an empty message clears the one that was kept, and status 5 says that none came'

# A session is there from the first run on, so that nothing is lost between two runs.
run 0 sub shell/lines --client-id lines --within 1ms
printf '%s\n' one 'two words' '' | "$program" pub --topic shell/lines --lines >out 2>err &&
    grep -q '^ok: 3 messages acknowledged over 1 connection' out
check 'pub: each line of a pipe is a message'
"$program" sub shell/lines --client-id lines --count 3 --within 10s 2>err | cut -f 2 >out &&
    printf '%s\n' one 'two words' '' | cmp -s - out
check 'sub: each message is a line, and cut finds the payload'
run 5 sub shell/lines --client-id lines --count 1 --within 100ms
check 'what was printed does not come again'

run 0 sub shell/head --client-id head --within 1ms
printf '%s\n' 1 2 3 | "$program" pub --topic shell/head --lines --threads 3 >out 2>err
{
    "$program" sub shell/head --client-id head 2>err
    echo "$?" >status
} | head -n 1 >out
[ "$(wc -l <out)" -eq 1 ] && [ "$(cat status)" -eq 0 ]
check 'sub | head -n 1 ends well'

number=0
while [ "$number" -lt 200 ]; do
    number=$((number + 1))
    printf '%01000d\n' "$number"
done >many
run 0 sub shell/slow --client-id slow --within 1ms
"$program" pub --topic shell/slow --lines <many >out 2>err
"$program" sub shell/slow --client-id slow --count 200 --within 30s 2>err | {
    sleep 1
    cut -f 2
} >out
cmp -s out many
check 'a slow reader loses nothing'

run 2 pub --message x && grep -q 'no topic is given' err && [ ! -s out ]
check 'status 2: wrong usage'
run 3 pub --topic a --message x --endpoint mqtt://127.0.0.1:1 --retry-attempts 1 --retry-base 1ms && [ ! -s out ]
check 'status 3: no connection'
"$program" sub shell/nothing >out 2>err &
sub=$!
until grep -q ' connected to ' err || ! kill -0 "$sub"; do sleep 1; done
kill -TERM "$sub"
status=0
wait "$sub" || status=$?
[ "$status" -eq 130 ] && ! grep -q -e '^error' -e ' ERROR ' err
check 'a signal ends a sub'

"$program" demo --iterations 0 --publish-delay 0 --iteration-delay 0 --output jsonl >out 2>err &
probe=$!
until grep -q '"event":"iteration"' out || ! kill -0 "$probe"; do sleep 1; done
kill -TERM "$probe"
status=0
wait "$probe" || status=$?
[ "$status" -eq 130 ] && tail -n 1 out | grep -q '"event":"end".*"exit_status":130'
check 'a signal ends a probe, and its last line says so'

exit "$((failed > 0))"
