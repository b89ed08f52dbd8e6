# shellcheck shell=bash
# Shared by the scripts beside this file, which source it. It defines functions and `repository`, adds the
# folders in which brokers and cargo usually are to PATH, and does nothing else.

repository=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# The program that the scripts build and run; the callers use this variable.
# shellcheck disable=SC2034
program=mqtt-connection-sharing

# Mosquitto is often in a folder that only root has on PATH. Rustup's folder may be on PATH only after the next
# login.
PATH="$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin:${CARGO_HOME:-${HOME:-/}/.cargo}/bin"

# die MESSAGE [STATUS]: prints one line on standard error and ends the script.
die() {
    printf '%s: %s\n' "$(basename -- "$0")" "$1" >&2
    exit "${2:-1}"
}

# help_from_header: prints the comment at the top of the running script.
help_from_header() {
    sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' -- "$0"
}

# need_command NAME ADVICE: ends the script unless NAME can be run.
need_command() {
    command -v "$1" >/dev/null 2>&1 || die "'$1' is not installed: $2" 127
}

need_cargo() {
    need_command cargo 'install Rust with rustup (https://rustup.rs), open a new shell, and try again'
    need_command cc 'Rust links with a C compiler; on Debian and Ubuntu: apt-get install build-essential'
}

# have_openssl_headers: succeeds if the crate openssl-sys can find an installed OpenSSL. The crate looks at these
# variables, then asks pkg-config; headers in /usr/include alone are not enough. Apple's system has its own TLS.
have_openssl_headers() {
    [[ $(uname -s) == Darwin ]] && return 0
    [[ -n ${OPENSSL_DIR:-} ]] && return 0
    [[ -n ${OPENSSL_LIB_DIR:-} && -n ${OPENSSL_INCLUDE_DIR:-} ]] && return 0
    "${PKG_CONFIG:-pkg-config}" --exists openssl 2>/dev/null
}

# need_vendored_tools: ends the script if a tool for building OpenSSL from source is missing.
need_vendored_tools() {
    local why="OpenSSL's headers are missing, and building OpenSSL from source needs"
    local advice='install them, or (quicker) the headers: apt-get install pkg-config libssl-dev'
    command -v make >/dev/null 2>&1 || die "$why make: $advice" 127
    command -v perl >/dev/null 2>&1 || die "$why perl: $advice" 127
    perl -MFindBin -MIPC::Cmd -MFile::Compare -e 1 2>/dev/null ||
        die "$why perl's modules FindBin, IPC::Cmd and File::Compare: $advice" 127
}

# build_program CARGO-ARGUMENTS...: builds the program and sets `program_file` to the file that cargo names,
# wherever the target folder is.
build_program() {
    local messages
    messages=$(cd -- "$repository" &&
        cargo build --locked --bin "$program" --message-format=json-render-diagnostics "$@") || return
    program_file=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$messages" | tail -n 1)
    [[ -x $program_file ]] || die "cargo built the program but did not say where: look at 'cargo build --bin $program'"
}

# find_or_build_program CARGO-ARGUMENTS...: sets `program_file` to the file that MQTT_CONNECTION_SHARING_BIN names, or
# builds the program, with an OpenSSL of its own where the headers are missing.
find_or_build_program() {
    if [[ -n ${MQTT_CONNECTION_SHARING_BIN:-} ]]; then
        program_file=$MQTT_CONNECTION_SHARING_BIN
        [[ -f $program_file && -x $program_file ]] ||
            die "MQTT_CONNECTION_SHARING_BIN is '$program_file', which cannot be run: name the program's file, or unset it" 2
        [[ $program_file == /* ]] || program_file=$PWD/$program_file
        return
    fi
    need_cargo
    have_openssl_headers || { need_vendored_tools && set -- "$@" --features vendored-openssl; }
    build_program "$@" || die 'the build failed: cargo says why above' 101
}

# forget_program_settings: removes the program's settings from the environment, so that none reaches a test.
forget_program_settings() {
    local name
    for name in ${!MQTT_@}; do
        [[ $name == MQTT_CONNECTION_SHARING_BIN ]] || unset "$name"
    done
    unset RUST_LOG
}
