#!/usr/bin/env bash
# Fuzzes the decoders and a whole session with hostile bytes from libFuzzer, in release mode with debug assertions
# and overflow checks. It works with stable Rust and needs a C++ compiler.
#
# usage: scripts/fuzz.sh [decode|decode5|session|session5|all] [--runs N | --minutes M] [--jobs N] [--seed N] [--grow]
#        scripts/fuzz.sh decode|decode5|session|session5 --replay FILE...
#
# All targets run one after the other unless one is named, each for a minute unless told otherwise. A target
# begins with the corpus in tests/fuzz/corpus and with the inputs that earlier runs found (in the target folder).
# At the end there is a line for each target: executions, seconds, rate, findings. A finding is a broken rule, a
# panic, more memory than any input can call for, or ten seconds for one input. It ends the run with status 1, the
# path of the input and the command that replays it.
#
#   --runs N     execute each target this many times, over all jobs
#   --minutes M  run each target for this many minutes
#   --jobs N     run this many processes at a time; 1 unless given
#   --seed N     seed of the first process, one more for each further one; random unless given
#   --grow       afterwards add the inputs that reach more code than the corpus does to the corpus
#   --replay     run the inputs in these files, each once; a session tells the story of one that breaks a rule
#   -h, --help   this text
#
# The targets are in src/mqtt/v4/tests (MQTT 3.1.1), src/mqtt/v5/tests (MQTT 5) and src/mqtt/session/tests/drivers (the
# sessions of both), which explain what an input means. `cargo test --lib corpus` replays the corpus without libFuzzer.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

targets=(decode decode5 session session5) runs='' minutes='' jobs=1 seed=0 grow='' replay=()

# number NAME VALUE: ends the script unless VALUE is a whole number above 0.
number() {
    [[ ${2:-} =~ ^[1-9][0-9]{0,11}$ ]] || die "$1 wants a whole number above 0, not '${2:-}'" 2
}

case ${1:-} in
    decode | decode5 | session | session5) targets=("$1") && shift ;;
    all) shift ;;
esac
while (($#)); do
    case $1 in
        --runs) number "$1" "${2:-}" && runs=$2 && shift ;;
        --minutes) number "$1" "${2:-}" && minutes=$2 && shift ;;
        --jobs) number "$1" "${2:-}" && jobs=$2 && shift ;;
        --seed) number "$1" "${2:-}" && seed=$2 && shift ;;
        --grow) grow=yes ;;
        --replay)
            shift
            (($#)) || die '--replay wants at least one file' 2
            replay=("$@")
            break
            ;;
        -h | --help) help_from_header && exit 0 ;;
        *) die "unknown argument '$1': see --help" 2 ;;
    esac
    shift
done
[[ -z $runs || -z $minutes ]] || die 'either --runs or --minutes' 2
[[ -n $runs ]] || minutes=${minutes:-1}
if ((${#replay[@]})); then
    ((${#targets[@]} == 1)) || die '--replay wants a target before it: decode, decode5, session or session5' 2
    for i in "${!replay[@]}"; do
        [[ -r ${replay[i]} ]] || die "cannot read ${replay[i]}" 2
        [[ ${replay[i]} == /* ]] || replay[i]=$PWD/${replay[i]}
    done
fi
need_cargo
need_command c++ 'libFuzzer is C++; on Debian and Ubuntu: apt-get install g++'
cd -- "$repository"

# The same flags as cargo-fuzz, except those for the sanitizers, which need a nightly compiler. Build scripts do
# not get these flags, because of --target.
host=$(rustc -vV | sed -n 's/^host: //p')
work=${CARGO_TARGET_DIR:-target}/fuzz
[[ $work == /* ]] || work=$PWD/$work
printf 'building (minutes at first)\n'
RUSTFLAGS='--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table' \
    cargo build --quiet --locked --release --manifest-path tests/fuzz/Cargo.toml --target "$host" --target-dir "$work"
programs=$work/$host/release
export RUST_BACKTRACE=0

limits=(-timeout=10 -rss_limit_mb=512 -dict=tests/fuzz/mqtt.dict)

longest_input() {
    case $1 in
        decode | decode5) echo 256 ;;
        *) echo 512 ;;
    esac
}

# field LOG NAME: prints a number that libFuzzer writes at the end of a log.
field() {
    sed -n "s/^stat::$2: *//p" "$1" | tail -n 1
}

if ((${#replay[@]})); then
    for file in "${replay[@]}"; do
        printf '== %s\n' "$file"
        "$programs/${targets[0]}" "${limits[@]}" "$file"
    done
    exit
fi

# run TARGET: fuzzes the target and prints its line; returns 1 with a finding.
run() {
    local target=$1 job pids=() found=() executions=0 start=$SECONDS log done_here
    local inputs=$work/inputs/$target corpus=tests/fuzz/corpus/$target findings=$work/findings/$target
    mkdir -p -- "$inputs" "$findings"
    rm -f -- "$findings"/log-*
    for ((job = 1; job <= jobs; job++)); do
        local arguments=("${limits[@]}" -max_len="$(longest_input "$target")" -print_final_stats=1
            -artifact_prefix="$findings/" -reload=1)
        if [[ -n $runs ]]; then
            arguments+=(-runs="$(((runs + jobs - 1) / jobs))")
        else
            arguments+=(-max_total_time="$((minutes * 60))")
        fi
        ((seed == 0)) || arguments+=(-seed="$((seed + job - 1))")
        "$programs/$target" "${arguments[@]}" "$inputs" "$corpus" >"$findings/log-$job" 2>&1 &
        pids+=($!)
    done
    # shellcheck disable=SC2064 # these processes
    trap "kill ${pids[*]} 2>/dev/null || true" EXIT
    for ((job = 1; job <= jobs; job++)); do
        log=$findings/log-$job
        wait "${pids[job - 1]}" || found+=("$log")
        done_here=$(field "$log" number_of_executed_units)
        executions=$((executions + ${done_here:-0}))
    done
    trap - EXIT
    local seconds=$((SECONDS - start))
    printf '%s: executions %s, seconds %s, executions per second %s, findings %s\n' "$target" "$executions" \
        "$seconds" "$((executions / (seconds > 0 ? seconds : 1)))" "${#found[@]}"
    for log in ${found[@]+"${found[@]}"}; do
        local input
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        if [[ -z $input ]]; then
            tail -n 20 -- "$log" >&2
            printf 'fuzz.sh: %s ended without an input to show for it; all of its log: %s\n' "$target" "$log" >&2
            continue
        fi
        grep -a -m 1 -A 3 -e 'panicked at' -e 'above the limit' -e 'ERROR: libFuzzer' -- "$log" | cut -c 1-1000 >&2 || true
        printf 'fuzz.sh: a finding: %s\n  again: scripts/fuzz.sh %s --replay %s\n' "$input" "$target" "$input" >&2
    done
    if [[ -n $grow ]]; then
        "$programs/$target" "${limits[@]}" -set_cover_merge=1 -use_counters=0 -max_len="$(longest_input "$target")" \
            "$corpus" "$inputs" >"$findings/log-grow" 2>&1
        printf '%s: the corpus has %s inputs\n' "$target" "$(find "$corpus" -type f | wc -l)"
    fi
    ((${#found[@]} == 0))
}

status=0
for target in "${targets[@]}"; do
    run "$target" || status=1
done
exit "$status"
