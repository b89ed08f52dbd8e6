#!/usr/bin/env bash
# Tries the packages that scripts/package.sh has made: installs the .deb with dpkg, runs the program, removes it, and sees
# that nothing is left; unpacks the tarball and runs that program, too.
#
# usage: scripts/package/try.sh DIR
#
# Each program tells its version and its help, and checks a Mosquitto over mutual TLS (scripts/broker.sh): once with the
# authority that it is given, and once with one that the system trusts. For that a namespace has another /etc/ssl/certs.
# The script runs as root, since dpkg needs that, and on Debian or Ubuntu. It refuses where the package is installed already.
#
#   -h, --help   this text
set -euo pipefail
# shellcheck source=../common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../common.sh"

# check_broker PROGRAM ENVIRONMENT...: runs the check beside the broker.
check_broker() {
    local file=$1 out
    shift
    out=$(env "$@" "$file" check --topic a/b) || die "'$file check' failed: $out"
    [[ $out == *'ok: 11 steps in '* ]] || die "'$file check' has not tried every step: $out"
}

# broker.sh runs this part of the script beside the broker.
if [[ ${1:-} == --beside-broker ]]; then
    check_broker "$2" LC_ALL=C
    trusted=$BROKER_DIR/trusted
    mkdir -- "$trusted"
    cp -- "$BROKER_CERTS/ca.pem" "$trusted/ca.pem"
    # Programs look for one file, or for files by their hashes.
    cp -- "$BROKER_CERTS/ca.pem" "$trusted/ca-certificates.crt"
    openssl rehash "$trusted" 2>/dev/null
    unshare -rm "$0" --trusting "$trusted" "$2"
    exit
elif [[ ${1:-} == --trusting ]]; then
    mount --bind "$2" /etc/ssl/certs
    check_broker "$3" -u MQTT_CA_FILE
    exit
fi
case ${1:-} in
    -h | --help) help_from_header && exit 0 ;;
    '' | -*) die 'which folder? See --help' 2 ;;
esac
cd -- "$1" || die "cannot enter '$1': make the packages with scripts/package.sh"
[[ $(id -u) == 0 ]] || die 'dpkg needs root'
for tool in dpkg openssl unshare mount sha256sum; do need_command "$tool" 'it comes with Debian and Ubuntu'; done
forget_program_settings
! dpkg -s "$program" >/dev/null 2>&1 || die "the package is installed already: remove it with 'dpkg --purge $program'"
sha256sum --quiet --check SHA256SUMS || die 'the packages are not those of SHA256SUMS: make them anew'
work=$(mktemp -d) || die 'cannot make a temporary folder: set TMPDIR'
# shellcheck disable=SC2329,SC2317 # the trap calls it
clean_up() {
    dpkg --purge "$program" >/dev/null 2>&1 || true
    rm -rf -- "$work"
}
trap clean_up EXIT

# try PREFIX: the program below this folder, and the files beside it.
try() {
    local file=$1/bin/$program version
    version=$(sed -n -e '/^version = /{s/.*"\(.*\)"/\1/p' -e 'q;}' "$repository/Cargo.toml")
    [[ $("$file" --version) == "$program $version" ]] || die "'$file' is not version $version"
    [[ $("$file" demo --help) == *--endpoint* ]] || die "'$file demo --help' does not tell of --endpoint"
    local page
    for page in "$program" "$program-bench"; do
        [[ $(gzip -dc "$1/share/man/man1/$page.1.gz") == *$'\n.TH '* ]] || die "there is no manual page $page below '$1'"
    done
    bash -n "$1/share/bash-completion/completions/$program"
    [[ -s $2 ]] || die "'$2' is missing"
    [[ -s $1/share/fish/vendor_completions.d/$program.fish ]] || die "fish's completions are missing below '$1'"
    "$repository/scripts/broker.sh" -- "$repository/scripts/package/try.sh" --beside-broker "$file"
    printf 'ok    %s\n' "$file"
}

dpkg --install "$program"_*.deb >"$work/dpkg.log" 2>&1 || die "dpkg does not install it: $(tr '\n' ' ' <"$work/dpkg.log")"
try /usr "/usr/share/zsh/vendor-completions/_$program"
dpkg --listfiles "$program" >"$work/files"
dpkg --purge "$program" >"$work/dpkg.log" 2>&1 || die "dpkg does not remove it: $(tr '\n' ' ' <"$work/dpkg.log")"
while read -r file; do
    # Folders may be those of other packages as well.
    [[ ! -e $file || (-d $file && $file != *"$program"*) ]] || die "'$file' is left after removing the package"
done <"$work/files"
printf 'ok    removed, and nothing is left\n'

mkdir -- "$work/unpacked"
tar -xzf "$program"-*.tar.gz -C "$work/unpacked" --strip-components 1
try "$work/unpacked" "$work/unpacked/share/zsh/site-functions/_$program"
cat -- "$work/unpacked/share/doc/$program/VERSION"
