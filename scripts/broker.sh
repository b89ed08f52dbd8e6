#!/usr/bin/env bash
# Starts a private Mosquitto with mutual TLS on a free port of this machine, for trying out and testing.
#
# usage: scripts/broker.sh [OPTIONS]                      runs until Ctrl-C and says how to reach it
#        scripts/broker.sh [OPTIONS] -- COMMAND ARGS...   runs COMMAND beside it, then ends with its status
#
#   --dir DIR    keep configuration, log, sessions and certificates in DIR (made when missing, kept at the
#                end); without this option they are in a private temporary folder, which is removed at the end
#   --certs DIR  use ca.pem, server.*, client.* of this folder (see scripts/gen-certs.sh), and make no new ones
#   --fast       write sessions to disk once a second instead of at each change: for many messages
#   --plain      also listen without TLS, for debugging
#   -h, --help   this text
#
# The environment of COMMAND has the program's variables MQTT_ENDPOINT, MQTT_CA_FILE, MQTT_CERT and MQTT_KEY, and
#   BROKER_PORT, BROKER_PID                the TLS port, the process
#   BROKER_DIR, BROKER_CERTS               the folders; BROKER_DIR has mosquitto.conf and mosquitto.log
#   BROKER_PLAIN_PORT                      the port without TLS, with --plain
# The configuration is config/mosquitto.conf. The broker listens on 127.0.0.1 only. To see how a program behaves
# when the broker dies: kill -9 "$BROKER_PID", then mosquitto -c "$BROKER_DIR/mosquitto.conf" (and stop that
# one yourself).
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

directory='' certs='' plain=no fast=no command=()
while (($#)); do
    case $1 in
        --dir | --certs)
            [[ -n ${2:-} ]] || die "$1 needs a folder: see --help" 2
            if [[ $1 == --dir ]]; then directory=$2; else certs=$2; fi
            shift
            ;;
        --fast) fast=yes ;;
        --plain) plain=yes ;;
        -h | --help) help_from_header && exit 0 ;;
        --)
            shift
            (($#)) || die 'a command must follow --: see --help' 2
            command=("$@")
            break
            ;;
        *) die "unknown argument '$1' (a command goes after --): see --help" 2 ;;
    esac
    shift
done
need_command mosquitto 'on Debian and Ubuntu: apt-get install mosquitto; on macOS: brew install mosquitto'
need_command openssl 'on Debian and Ubuntu: apt-get install openssl'
((${#command[@]} == 0)) || need_command "${command[0]}" 'give its path, or check its spelling'

broker='' remove=no

# runs PID: succeeds while this child runs. The shell knows its own children, so a process that got the same
# number later is never taken for one of them.
runs() {
    local running
    running=$(jobs -pr)
    [[ -n $1 && $'\n'$running$'\n' == *$'\n'"$1"$'\n'* ]]
}

broker_runs() { runs "$broker"; }

stop_broker() {
    local deadline=$((SECONDS + 5))
    if broker_runs; then
        kill -TERM "$broker" 2>/dev/null || true
        while broker_runs && ((SECONDS < deadline)); do sleep 0.02; done
        if broker_runs; then kill -KILL "$broker" 2>/dev/null || true; fi
    fi
    [[ -z $broker ]] || wait "$broker" 2>/dev/null || true
    broker=''
}

# shellcheck disable=SC2329,SC2317 # the trap calls it
clean_up() {
    trap '' INT TERM HUP
    stop_broker
    if [[ $remove == yes ]]; then
        rm -rf -- "$directory"
    elif [[ -n $directory ]]; then
        rm -f -- "$directory/broker.pid"
    fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

if [[ -z $directory ]]; then
    directory=$(mktemp -d "${TMPDIR:-/tmp}/mqtt-broker.XXXXXX") || die 'cannot make a temporary folder: set TMPDIR, or use --dir'
    remove=yes
else
    asked=$directory directory=
    reason=$(mkdir -p -- "$asked" 2>&1) || die "cannot make the folder '$asked', choose another for --dir: $reason"
    asked=$(CDPATH='' cd -- "$asked" && pwd) || die "cannot enter the folder '$asked': choose another for --dir"
    if other=$(cat -- "$asked/broker.pid" 2>/dev/null) && [[ $(ps -o comm= -p "$other" 2>/dev/null) == *mosquitto* ]]; then
        die "a broker (process $other) already uses '$asked': stop it, or choose another folder for --dir"
    fi
    directory=$asked
fi

if [[ -n $certs ]]; then
    certs=$(CDPATH='' cd -- "$certs" 2>/dev/null && pwd) || die 'cannot enter the folder of --certs: check its name'
    for name in ca.pem server.pem server.key client.pem client.key; do
        [[ -r $certs/$name ]] || die "'$certs/$name' is missing or not readable: make it with scripts/gen-certs.sh '$certs'"
    done
    for name in server client; do
        openssl verify -CAfile "$certs/ca.pem" "$certs/$name.pem" >/dev/null 2>&1 ||
            die "'$certs/$name.pem' has expired or is not signed by ca.pem beside it: make new ones with scripts/gen-certs.sh --force"
    done
else
    certs=$directory/certs
    "$repository/scripts/gen-certs.sh" "$certs" >"$directory/gen-certs.log" ||
        die "no certificates: the line before says why"
fi

connects() { # PORT
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Prints a port that nobody listens on now, below those that the system gives to outgoing connections.
free_port() {
    local port tries
    for ((tries = 0; tries < 100; tries++)); do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        connects "$port" || { echo "$port" && return; }
    done
    die 'found no free port between 20000 and 32000 in 100 tries: see what occupies them (ss -ltn)'
}

write_configuration() {
    local text
    text=$(<"$repository/config/mosquitto.conf")
    # Without this an & in a path would stand for the replaced word.
    shopt -u patsub_replacement 2>/dev/null || true
    text=${text//@PORT@/$port}
    text=${text//@USER@/$(id -un 2>/dev/null || echo mosquitto)}
    text=${text//@CERTS@/$certs}
    text=${text//@DIR@/$directory}
    if [[ $fast == yes ]]; then text=${text/autosave_on_changes true/autosave_on_changes false}; fi
    printf '%s\n' "$text" >"$directory/mosquitto.conf"
    if [[ $plain == yes ]]; then
        printf '\n# Added by --plain: no TLS, no name. The TLS listener asks for a certificate all the same.\n%s\n%s\n' \
            "listener $plain_port 127.0.0.1" 'allow_anonymous true' >>"$directory/mosquitto.conf"
    fi
}

# handshake: succeeds if our own broker answers. Only a broker with our server key passes, and it must accept
# our client.
handshake() {
    local limit=()
    ! command -v timeout >/dev/null 2>&1 || limit=(timeout 5)
    ${limit[@]+"${limit[@]}"} openssl s_client -connect "127.0.0.1:$port" -servername localhost -verify_hostname localhost \
        -verify_return_error -CAfile "$certs/ca.pem" -cert "$certs/client.pem" -key "$certs/client.key" \
        </dev/null >"$directory/handshake.log" 2>&1
}

last_error() {
    grep -i error "$directory/mosquitto.log" | tail -n 1 || tail -n 1 "$directory/mosquitto.log"
}

# await_ready: returns 0 when the broker serves, and 1 when another process took a port in between.
await_ready() {
    local deadline=$((SECONDS + 20))
    while ((SECONDS <= deadline)); do
        if ! broker_runs; then
            if grep -q 'Address already in use' "$directory/mosquitto.log"; then return 1; fi
            die "Mosquitto ended at its start: $(last_error)"
        fi
        if connects "$port" && { [[ $plain == no ]] || connects "$plain_port"; } && handshake && broker_runs; then
            return 0
        fi
        sleep 0.05
    done
    if connects "$port"; then
        die "Mosquitto on port $port does not take the certificates in '$certs': $(grep -i 'error' "$directory/handshake.log" | head -n 1)"
    fi
    die "Mosquitto did not listen on port $port within 20 s: $(last_error)"
}

ready=no
for ((attempt = 0; attempt < 20; attempt++)); do
    port=$(free_port)
    plain_port=$(free_port)
    [[ $port != "$plain_port" ]] || continue
    write_configuration
    # The broker gets a process group of its own. Ctrl-C then reaches the command only, which may still need the
    # broker to end well.
    set -m
    mosquitto -c "$directory/mosquitto.conf" >"$directory/mosquitto.log" 2>&1 </dev/null &
    broker=$!
    set +m
    echo "$broker" >"$directory/broker.pid"
    if await_ready; then
        ready=yes
        break
    fi
    stop_broker
done
[[ $ready == yes ]] || die 'other programs took 20 ports in a row just before Mosquitto could: try again'

export MQTT_ENDPOINT=localhost:$port MQTT_CA_FILE=$certs/ca.pem MQTT_CERT=$certs/client.pem MQTT_KEY=$certs/client.key
export BROKER_PORT=$port BROKER_PID=$broker BROKER_DIR=$directory BROKER_CERTS=$certs
if [[ $plain == yes ]]; then export BROKER_PLAIN_PORT=$plain_port; fi

if ((${#command[@]} == 0)); then
    arguments=$(printf ' %q' --endpoint "$MQTT_ENDPOINT" --ca-file "$MQTT_CA_FILE" --cert "$MQTT_CERT" --key "$MQTT_KEY")
    printf 'Mosquitto (process %s) serves %s with mutual TLS; its log: %s\n' "$broker" "$MQTT_ENDPOINT" "$directory/mosquitto.log"
    if [[ $plain == yes ]]; then printf 'Without TLS: --endpoint mqtt://localhost:%s\n' "$plain_port"; fi
    printf '\nRun the program against it, in another terminal:\n'
    printf '  cargo run --release --manifest-path %q --%s\n' "$repository/Cargo.toml" "$arguments"
    printf 'or, installed:\n  %s%s\n\nCtrl-C stops the broker.\n' "$program" "$arguments"
    status=0
    wait "$broker" || status=$?
    die "Mosquitto ended by itself with status $status: $(last_error)"
fi

# The command runs in the background, because a shell that waits for a foreground command does not react to
# TERM. It keeps the standard input and, unlike other background commands, the reaction to Ctrl-C.
(trap - INT TERM HUP EXIT && exec "${command[@]}") <&0 &
child=$!
ended_by=''
# The terminal sends Ctrl-C to the command as well. Other signals reach this script alone, which passes them on.
trap ':' INT
trap 'ended_by=143; kill -TERM "$child" 2>/dev/null || true' TERM
trap 'ended_by=129; kill -HUP "$child" 2>/dev/null || true' HUP
status=0 broker_ended=no
# Standard error is off here, because the shell would announce the end of a broker that the command has killed.
# A note below says it instead.
{
    while :; do
        status=0
        wait "$child" || status=$?
        # A signal cuts a wait short, which looks like the end of the command. While the command runs it is not.
        runs "$child" || break
    done
    # If the last wait was cut short, this one returns the command's status. 127: the shell has told it already.
    again=0
    wait "$child" || again=$?
    ((again == 127)) || status=$again
    if ! broker_runs; then
        broker_ended=yes
        wait "$broker" || true
    fi
} 2>/dev/null
if [[ $broker_ended == yes ]]; then printf 'broker.sh: note: the broker ended before the command did\n' >&2; fi
exit "${ended_by:-$status}"
