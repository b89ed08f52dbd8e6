#!/usr/bin/env bash
# Makes the packages of the program for Linux, with which nobody has to compile it.
#
# usage: scripts/package.sh [DIR]        DIR is target/packages unless given; the script makes it when it is missing
#
#   mqtt-connection-sharing_VERSION-1_ARCHITECTURE.deb         for Debian and Ubuntu, with the system's OpenSSL
#   mqtt-connection-sharing-VERSION-ARCHITECTURE-linux.tar.gz  for any Linux, with OpenSSL inside; needs glibc alone
#   SHA256SUMS
#
# Both have the program, its manual pages, completions for bash, zsh and fish, the papers that explain it, and examples of
# settings. Cargo.toml lists the files (package.metadata.deb). The tarball has one folder, for any place or for /usr/local:
#   tar -xzf mqtt-connection-sharing-VERSION-ARCHITECTURE-linux.tar.gz -C /usr/local --strip-components 1
# Its file share/doc/mqtt-connection-sharing/VERSION names the OpenSSL inside and the glibc that it needs. That is the one
# of the system that the script runs on, or an older one: make packages on the oldest system that they are for.
#
# The script builds the program twice, and cargo-deb once: some ten minutes the first time. It needs a Debian or Ubuntu with
# OpenSSL's headers, and make and perl. It installs nothing outside of target/.
#
#   -h, --help   this text
set -euo pipefail
# The packages have the permissions of these files.
umask 022
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# The version with which the packages were tried.
cargo_deb=3.8.0

case ${1:-} in
    -h | --help) help_from_header && exit 0 ;;
    -*) die "unknown option '$1': see --help" 2 ;;
esac
(($# <= 1)) || die 'one folder, please: see --help' 2
[[ $(uname -s) == Linux ]] || die 'the packages are for Linux and are made there'
need_cargo
for tool in dpkg-deb dpkg-shlibdeps objdump strip; do need_command "$tool" 'on Debian and Ubuntu: apt-get install dpkg-dev'; done
have_openssl_headers || die "OpenSSL's headers are missing: apt-get install pkg-config libssl-dev" 127
need_vendored_tools
packages=${1:-}
# The script goes to another folder.
[[ -z $packages || $packages == /* ]] || packages=$PWD/$packages
cd -- "$repository"
forget_program_settings
unset MQTT_CONNECTION_SHARING_BIN

target=${CARGO_TARGET_DIR:-target}
packages=${packages:-$target/packages}
# Cargo.toml names this folder. It has the completions and the manual pages.
files=target/package-files
mkdir -p -- "$packages" || die "cannot make the folder '$packages': choose another one"
packages=$(CDPATH='' cd -- "$packages" && pwd)
work=$(mktemp -d) || die 'cannot make a temporary folder: set TMPDIR'
trap 'rm -rf -- "$work"' EXIT

# The program for the tarball, stripped. Rust asks the linker for libgcc_s, which is not glibc's; this file makes it take
# the static library in its place.
build_static() {
    local link=$target/package-link
    mkdir -p -- "$link"
    link=$(CDPATH='' cd -- "$link" && pwd)
    printf 'GROUP ( libgcc_eh.a libgcc.a )\n' >"$link/libgcc_s.so"
    cargo rustc --locked --release --bin "$program" --features vendored-openssl -- -C "link-arg=-L$link"
    strip -o "$work/$program" "$target/release/$program"
    local others
    others=$(ldd "$work/$program" | awk '{ print $1 }' |
        grep -vE '^(linux-vdso\.so\.|lib(c|m|dl|rt|pthread|resolv)\.so\.|/.*/ld-linux)' || true)
    [[ -z $others ]] || die "the program for the tarball needs more than glibc: $others"
}

install_cargo_deb() {
    local root=$target/tools
    cargo_deb_file=$root/bin/cargo-deb
    [[ $("$cargo_deb_file" --version 2>/dev/null) != "cargo-deb $cargo_deb" ]] || return 0
    cargo install --quiet --locked --force cargo-deb --version "$cargo_deb" --root "$root" --target-dir "$root/build" \
        --no-default-features --features lzma || die 'cargo-deb could not be built: cargo says why above' 101
}

# Takes the files of the .deb, with another program and other places.
make_tarball() { # DEB
    local version architecture name tree doc glibc openssl
    version=$(dpkg-deb -f "$1" Version)
    version=${version%-*}
    architecture=$(uname -m)
    name=$program-$version-$architecture-linux
    tree=$work/$name
    dpkg-deb -x "$1" "$work/deb"
    mv -- "$work/deb/usr" "$tree"
    cp -- "$work/$program" "$tree/bin/$program"
    mv -- "$tree/share/zsh/vendor-completions" "$tree/share/zsh/site-functions"
    doc=$tree/share/doc/$program
    glibc=$(objdump -T "$tree/bin/$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
    openssl=$(grep -aoE 'OpenSSL [0-9]+\.[0-9]+\.[0-9]+ [0-9]+ [A-Z][a-z]+ [0-9]{4}' "$tree/bin/$program" | sed -n 1p)
    [[ -n $glibc && -n $openssl ]] || die 'the program for the tarball does not tell its OpenSSL or its glibc'
    cat >"$doc/VERSION" <<END
$program $version for $architecture
Needs: glibc ${glibc#GLIBC_} or later, and no other library.
Inside: $openssl, by The OpenSSL Project Authors, under the Apache License 2.0 (LICENSE-APACHE).
It gets no updates with the system: take a newer package when OpenSSL has one.
END
    # The same sources give the same tarball.
    tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" \
        -cf - "$name" | gzip -9n >"$packages/$name.tar.gz"
    printf 'made  %s\n' "$packages/$name.tar.gz"
    sed 's/^/      /' "$doc/VERSION"
}

rm -f -- "$packages/$program"[_-]*.deb "$packages/$program"-*.tar.gz "$packages/SHA256SUMS"
build_static
build_program --release || die 'the build failed: cargo says why above' 101
rm -rf -- "$files"
scripts/shell-files.sh "$program_file" "$files/usr"
install_cargo_deb
"$cargo_deb_file" --no-build --strip --no-dbgsym --quiet --output "$packages" >/dev/null || die 'cargo-deb failed: it says why above'
deb=$(printf '%s\n' "$packages/$program"_*.deb)
printf 'made  %s\n' "$deb"
make_tarball "$deb"
(cd -- "$packages" && sha256sum -- *.deb *.tar.gz >SHA256SUMS)
printf 'made  %s\n' "$packages/SHA256SUMS"
