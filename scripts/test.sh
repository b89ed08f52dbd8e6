#!/usr/bin/env bash
# Runs every check of this repository. Continuous integration runs it, and so should you before a commit.
#
# usage: scripts/test.sh [--quick | --all]
#
# The steps: the tools are there; shell syntax; format; sentences; the fuzz targets compile; clippy with the default
# features, with local-broker, and of the library alone; documentation; all tests; demos, benches and faults of the
# program with MQTT 5; the tests that local-broker changes; the smoke test; a page of shell; a short soak run. Most tests
# wait, so three steps run beside them: the drivers of the session, optimised, with their largest worlds; the models of
# what threads share, checked with loom; the storms on slow links.
# Warnings are errors. The first step that fails ends the run; nothing is skipped.
#
#   --quick   format, sentences, clippy, unit tests, the floor plan and one run against Mosquitto: less than three
#             minutes once the dependencies are built
#   --all     besides all steps: shellcheck, faults in the models, the live view in a terminal, AWS IoT on its real names
#             and ports in namespaces, completions in real shells, the manual pages read by mandoc, the package built from
#             its own files, the .deb and the tarball made, installed and run, pictures in a browser, storms of a million
#             messages, a network that fails with MQTT 5, the verdicts of MQTT 5 on ejabberd and rumqttd, a program that
#             is killed 200 times in mid-work, the page of shell in other shells, and the fuzz targets for some minutes; for
#             this it also installs shellcheck, tmux, chromium, iproute2, dpkg-dev, zsh, fish, mandoc, dash, busybox, g++ and
#             ejabberd. It needs root or sudo, because it installs the .deb, and the network, for cargo-deb and rumqttd
#
# The script needs Mosquitto, openssl, OpenSSL's headers, pkg-config, a C compiler and script(1). It installs those that are
# missing with apt-get if it can (as root, or by sudo without a password), and otherwise names them. It adds rustfmt
# and clippy with rustup. Install Rust itself first: https://rustup.rs
#
#   -h, --help   this text
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# Tests that run at one time, where most of them wait.
threads=8

# Words of the tests that run beside the others, in steps of their own.
drivers=tests::drivers:: slow_links=large_messages_get_through_slow_links_that_are_cut

mode=${1:-}
case $mode in
    '' | --quick | --all) ;;
    -h | --help) help_from_header && exit 0 ;;
    *) die "unknown argument '$1': see --help" 2 ;;
esac
cd -- "$repository"
forget_program_settings
unset MQTT_CONNECTION_SHARING_BIN SUITE_MQTT

step_name='' step_start=0 beside_names=() beside_jobs=() work=$(mktemp -d)
# shellcheck disable=SC2329,SC2317 # the trap calls it
report_failure() {
    local status=$?
    ((status == 0)) || printf '\ntest.sh: FAILED in the step "%s" after %s s, with status %s\n' \
        "$step_name" "$((SECONDS - step_start))" "$status" >&2
    local job
    for ((job = 0; job < ${#beside_jobs[@]}; job++)); do
        kill -- "-${beside_jobs[job]}" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap report_failure EXIT

# step NAME COMMAND...: runs the command and says how long it took. A failure ends the whole run. (`if` or `||`
# around the command would make it go on after an error inside, so neither is used.)
step() {
    step_name=$1 step_start=$SECONDS
    shift
    printf '\n== %s\n' "$step_name"
    "$@"
    printf -- '-- %s: ok, %s s\n' "$step_name" "$((SECONDS - step_start))"
}

# beside NAME COMMAND...: begins a step that runs beside those that follow. Its output comes when `together` waits for it.
beside() {
    beside_names+=("$1")
    shift
    # Job control gives it a process group, so that a failure elsewhere can end all of it.
    set -m
    (
        begin=$SECONDS
        "$@"
        printf 'it took %s s\n' "$((SECONDS - begin))"
    ) >"$work/${#beside_jobs[@]}" 2>&1 </dev/null &
    set +m
    beside_jobs+=("$!")
}

# together: waits for all steps that run beside others.
together() {
    local job
    for ((job = 0; job < ${#beside_jobs[@]}; job++)); do
        step "${beside_names[job]}" finish "$job"
    done
    beside_jobs=()
}

finish() { # JOB
    local status=0
    wait "${beside_jobs[$1]}" || status=$?
    cat "$work/$1"
    return "$status"
}

missing_packages() {
    command -v cc >/dev/null 2>&1 || echo build-essential
    command -v openssl >/dev/null 2>&1 || echo openssl
    command -v mosquitto >/dev/null 2>&1 || echo mosquitto
    command -v script >/dev/null 2>&1 || echo bsdutils
    if [[ $mode == --all ]]; then
        command -v shellcheck >/dev/null 2>&1 || echo shellcheck
        command -v tmux >/dev/null 2>&1 || echo tmux
        command -v dash >/dev/null 2>&1 || echo dash
        command -v busybox >/dev/null 2>&1 || echo busybox
        command -v chromium >/dev/null 2>&1 || echo chromium
        local tool
        for tool in zsh fish mandoc; do
            command -v "$tool" >/dev/null 2>&1 || echo "$tool"
        done
        command -v c++ >/dev/null 2>&1 || echo g++
        command -v ip >/dev/null 2>&1 || echo iproute2
        command -v dpkg-shlibdeps >/dev/null 2>&1 || echo dpkg-dev
    fi
    have_openssl_headers || printf '%s\n' pkg-config libssl-dev
}

tools() {
    local missing
    missing=$(missing_packages | tr '\n' ' ')
    missing=${missing% }
    if [[ -n $missing ]]; then
        local as_root=()
        command -v apt-get >/dev/null 2>&1 ||
            die "missing: $missing (names as on Debian): install them with your system's package manager" 127
        if [[ $(id -u) != 0 ]]; then
            sudo -n true 2>/dev/null || die "missing: $missing: run 'sudo apt-get install $missing' and try again" 127
            as_root=(sudo -n)
        fi
        printf 'installing: %s\n' "$missing"
        ${as_root[@]+"${as_root[@]}"} apt-get update -q || die "'apt-get update' failed: install by hand: $missing" 127
        # shellcheck disable=SC2086 # several words
        ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends $missing ||
            die "'apt-get install' failed: install by hand: $missing" 127
        hash -r
        missing=$(missing_packages | tr '\n' ' ')
        [[ -z $missing ]] || die "still missing after installing: $missing: see apt-get's messages above" 127
    fi
    if [[ $mode == --all && $(id -u) != 0 ]]; then
        sudo -n true 2>/dev/null || die '--all installs a package of the program: run it as root, or allow sudo' 2
    fi
    need_cargo
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        if [[ $component == fmt ]]; then component=rustfmt; fi
        need_command rustup "cargo has no $component: install it as you installed Rust"
        rustup component add "$component" || die "cannot add $component: rustup says why above" 127
    done
    cargo --version
    mosquitto -h | sed -n 1p || true
    openssl version
}

shell_scripts=(scripts/*.sh scripts/package/*.sh .ci/run tests/*.sh tests/program/aws_thing/aws.sh)

shell_syntax() {
    local file
    for file in "${shell_scripts[@]}"; do
        bash -n "$file"
        [[ $file == scripts/common.sh || -x $file ]] || die "$file cannot be run: chmod +x $file"
    done
}

# Checks the targets as scripts/fuzz.sh builds them, without the instrumentation and libFuzzer itself. Nothing is
# linked, so any file can replace libFuzzer, which saves a minute of compiling C++.
fuzz_targets() {
    local work=${CARGO_TARGET_DIR:-target}/fuzz
    env RUSTFLAGS='--cfg fuzzing -D warnings' CUSTOM_LIBFUZZER_PATH="$PWD/tests/fuzz/Cargo.toml" \
        cargo check --quiet --locked --manifest-path tests/fuzz/Cargo.toml --target-dir "$work"
}

# selected SUITES COMMAND...: runs tests that words of their names select, in so many suites. A suite without any would
# check nothing.
selected() {
    local suites=$1 found
    shift
    "$@" 2>&1 | tee "$work/selected"
    found=$(grep -Ec '^test result: ok\. [1-9]' "$work/selected" || true)
    ((found == suites)) || die "tests have such names in $found suites, not in $suites: see above"
}

# Cargo's arguments for the package of models.
models=(--locked --release --manifest-path tests/models/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/models")

# Cargo's arguments for the suites that the feature local-broker changes.
with_broker=(--locked --features local-broker --test program --test library --test brokers)

# The library's unit tests as the step `exploration` runs them. Only a build without debug assertions has the largest
# worlds. It uses the dependencies of the other tests. An incremental build would inline less.
optimised() {
    local package=profile.dev.package.mqtt-connection-sharing
    env CARGO_INCREMENTAL=0 nice -n 19 cargo test --locked --features local-broker --lib \
        --config "$package.opt-level=2" --config "$package.debug-assertions=false" \
        --config "$package.overflow-checks=true" "$@"
}

# Compiles all that the tests need, so that those that run side by side do not wait for a compiler.
builds() {
    cargo test --locked --no-run
    cargo test "${with_broker[@]}" --no-run
    optimised --no-run
    cargo build "${models[@]}"
}

# Runs all tests but those that run beside them. Most wait for a broker, a process or a time-out, so more run at a time
# than there are processors.
all_tests() {
    env RUST_TEST_THREADS="$threads" cargo test --locked -- --skip "$drivers" --skip "$slow_links"
}

# Runs suites of the program with MQTT 5, which `all_tests` runs with MQTT 3.1.1.
with_mqtt_5() {
    selected 1 env SUITE_MQTT=5 RUST_TEST_THREADS="$threads" cargo test --locked --test program "$@"
}

# Only the tests that this feature adds or changes: the rest is the same code as above. Its unit tests are in the step
# `exploration`.
local_broker_tests() {
    selected 3 env RUST_TEST_THREADS="$threads" cargo test "${with_broker[@]}" -- \
        local_broker:: local_links:: local_program:: secrets:: settings:: golden:: examples:: embedded
    selected 1 cargo test --locked --features local-broker --doc local
}

# One for each version of MQTT, which waits for a minute.
storms_on_slow_links() {
    cargo test --locked --test storm "$slow_links" | tee "$work/slow_links"
    grep -q '^test result: ok\. 2 passed' "$work/slow_links" || die 'there is not one for each version: see above'
}

# Runs the drivers of the session, with the largest worlds of its exploration and the longest run of its stories from
# bytes, and the unit tests of the feature local-broker.
exploration() {
    optimised -- --show-output "$drivers" local:: >"$work/exploration" 2>&1 || {
        cat "$work/exploration"
        return 1
    }
    grep -E '^test |distinct states, no violation$' "$work/exploration"
    # Without this line the largest world was not explored.
    grep -Eq '^everything: [0-9]+ distinct states, no violation$' "$work/exploration" ||
        die 'the largest world was not explored'
}

# Checks the build of a library user, which has neither the program nor its crates.
library_alone() {
    local most=62 crates
    cargo clippy --locked --all-targets --no-default-features -- -D warnings
    crates=$(cargo tree --locked -e normal --no-default-features --prefix none | sed 's/ (\*)//' | sort -u | wc -l)
    ((crates <= most)) || die "the library has $crates crates without the feature cli, more than $most"
}

# Builds the package from its own files, for which nothing that only lies in the working folder may be needed. Nothing that
# git ignores may be in it: keys and the settings of things lie there.
package() {
    local files
    files=$(cargo package --locked --allow-dirty --list)
    local status=0
    git check-ignore --stdin <<<"$files" || status=$?
    # 1 means that none is ignored.
    ((status == 1)) || die "the package has files that git ignores, or git cannot tell (status $status)"
    ! grep -E '\.(pem|key|crt|p12)$' <<<"$files" || die 'the package has certificates or keys'
    cargo package --locked --allow-dirty
}

# Completes in real shells, and has the manual pages read.
completions() {
    cargo build --locked --bins
    tests/completions.sh "${CARGO_TARGET_DIR:-target}/debug/mqtt-connection-sharing"
}

# Makes the packages of the program, installs the one, and runs both.
packages() {
    local folder=${CARGO_TARGET_DIR:-target}/packages as_root=()
    [[ $(id -u) == 0 ]] || as_root=(sudo -n "PATH=$PATH")
    scripts/package.sh "$folder"
    ${as_root[@]+"${as_root[@]}"} scripts/package/try.sh "$folder"
}

storm() {
    env STORM_MESSAGES=1000000 cargo test --locked --release --test storm -- --nocapture --skip forgetting
}

kills() {
    selected 1 env KILLS=200 cargo test --locked --test library -- --nocapture kills::
}

# Explores every interleaving of the threads' meeting points within a bound, and puts faults into them with `--faults`.
explore_models() {
    nice -n 19 cargo run --quiet "${models[@]}" -- "$@"
}

# Opens the pictures of real runs in Chromium.
pictures() {
    cargo test --locked --test browser -- --nocapture --test-threads 1
}

# Uses the program in a page of shell, under each of these shells.
shell_page() {
    local shell words
    find_or_build_program
    for shell in "$@"; do
        printf '%s:\n' "$shell"
        read -ra words <<<"$shell"
        scripts/broker.sh --fast -- "${words[@]}" tests/shell.sh "$program_file"
    done
}

fuzzing() {
    scripts/fuzz.sh decode --minutes 2
    scripts/fuzz.sh decode5 --minutes 2
    scripts/fuzz.sh session --minutes 2
    scripts/fuzz.sh session5 --minutes 2
}

step 'tools' tools
step 'shell syntax' shell_syntax
step 'format' cargo fmt --all --check
step 'sentences' scripts/sentences.sh --most 5
step 'clippy' cargo clippy --locked --all-targets -- -D warnings
if [[ $mode == --quick ]]; then
    step 'unit tests' cargo test --locked --lib --bins
    step 'floor plan' selected 1 cargo test --locked --test library house
    step 'against Mosquitto' selected 1 cargo test --locked --test program the_default_run
else
    [[ $mode != --all ]] || step 'shellcheck' shellcheck "${shell_scripts[@]}"
    step 'format of the fuzz targets' cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
    step 'fuzz targets compile' fuzz_targets
    step 'format of the models' cargo fmt --manifest-path tests/models/Cargo.toml --check
    step 'clippy, local-broker' cargo clippy --locked --all-targets --features local-broker -- -D warnings
    # --all-targets leaves out tests that `cargo test` does not run.
    step 'clippy, pictures in a browser' cargo clippy --locked --test browser -- -D warnings
    step 'the library alone' library_alone
    step 'documentation' env RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --features local-broker
    step 'builds' builds
    beside 'exploration' exploration
    beside 'storms on slow links' storms_on_slow_links
    beside 'models' explore_models
    step 'tests' all_tests
    if [[ $mode == --all ]]; then
        step 'the program with MQTT 5' with_mqtt_5 -- demo:: bench:: faults::
    else
        # Without the network that fails, and 20,000 messages in memory.
        step 'the program with MQTT 5' with_mqtt_5 -- demo:: bench:: broker_faults:: --skip twenty_thousand
    fi
    step 'tests, local-broker' local_broker_tests
    [[ $mode != --all ]] || step 'tests with MQTT 5, local-broker' \
        with_mqtt_5 --features local-broker -- local_broker:: local_links::
    together
    step 'smoke test' scripts/smoke.sh
    step 'a page of shell' shell_page sh
    [[ $mode != --all ]] || step 'a page of shell, other shells' shell_page bash dash 'busybox ash'
    step 'short soak run' scripts/soak.sh --dev 0.25
    [[ $mode != --all ]] || step 'models, with faults' explore_models --faults
    [[ $mode != --all ]] || step 'live view in a terminal' \
        selected 1 cargo test --locked --test program view:: -- --ignored
    [[ $mode != --all ]] || step 'AWS IoT on real names and ports' \
        selected 1 cargo test --locked --test program aws_thing::real_names:: -- --ignored
    [[ $mode != --all ]] || step 'completions and manual pages' completions
    [[ $mode != --all ]] || step 'package' package
    [[ $mode != --all ]] || step 'packages of the program' packages
    [[ $mode != --all ]] || step 'pictures in a browser' pictures
    [[ $mode != --all ]] || step 'storm of a million messages' storm
    [[ $mode != --all ]] || step 'brokers of MQTT 5' scripts/brokers.sh
    [[ $mode != --all ]] || step '200 kills in mid-work' kills
    [[ $mode != --all ]] || step 'fuzzing' fuzzing
fi
printf '\nall passed in %s s\n' "$SECONDS"
