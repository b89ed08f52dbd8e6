#!/usr/bin/env bash
# Makes a local certificate authority, and its certificates for a broker and a client.
#
# usage: scripts/gen-certs.sh [--rsa] [--p12] [--force] [DIR]
#
# DIR is the repository's certs/ unless given; the script makes it when it is missing. The files:
#   ca.pem, ca.key                  the authority: brokers and clients trust ca.pem
#   server.pem, server.key          the broker, for localhost, 127.0.0.1 and ::1
#   client.pem, client.key          the client
#   other-ca.pem, other-ca.key      a second authority that nobody trusts, for tests
#   other-client.pem, other-client.key   a client of the second authority: the broker must refuse it
# Keys are P-256, readable by their owner only; certificates are valid for 825 days. The organization has letters and
# digits only, since rumqttd takes it for a tenant's name.
#
#   --rsa      RSA keys of 2048 bits; client keys in the form in which AWS IoT issues them (PKCS#1)
#   --p12      also client.p12 (certificate and key in one file) and client.p12.password
#   --force    replace the files named above; without it, existing files are checked and kept
#   -h, --help this text
#
# The script never touches other files in DIR. Use the certificates for trying out and testing only: the authority's
# key lies beside them, without a password.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

days=825
rsa=no p12=no force=no directory=
while (($#)); do
    case $1 in
        --rsa) rsa=yes ;;
        --p12) p12=yes ;;
        --force) force=yes ;;
        -h | --help) help_from_header && exit 0 ;;
        -*) die "unknown option '$1': see --help" 2 ;;
        *)
            [[ -n $1 && -z $directory ]] || die 'one folder, please: see --help' 2
            directory=$1
            ;;
    esac
    shift
done
need_command openssl 'on Debian and Ubuntu: apt-get install openssl'
directory=${directory:-$repository/certs}

umask 077
reason=$(umask 022 && mkdir -p -- "$directory" 2>&1) ||
    die "cannot make the folder '$directory', choose one that you may write to: $reason"
directory=$(CDPATH='' cd -- "$directory" && pwd) || die "cannot enter the folder '$directory': check its permissions"
# The script makes files here and moves them when complete, so that an interrupted run leaves no half file.
work=$(mktemp -d "$directory/.gen-certs.XXXXXX" 2>/dev/null) || die "cannot write to '$directory': choose another folder"
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# quietly COMMAND...: runs openssl and shows its output only if it fails.
quietly() {
    "$@" >"$work/output" 2>&1 || die "'openssl $2' failed: $(tr '\n' ' ' <"$work/output")"
}

new_key() { # NAME
    if [[ $rsa == yes ]]; then
        quietly openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$work/$1.key"
    else
        quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1.key"
    fi
    if [[ $rsa == yes && $1 == *client ]]; then
        # OpenSSL 3 writes PKCS#1 when asked for the traditional form; older versions write no other form.
        openssl rsa -traditional -in "$work/$1.key" -out "$work/$1.pkcs1" >"$work/output" 2>&1 ||
            quietly openssl rsa -in "$work/$1.key" -out "$work/$1.pkcs1"
        mv -- "$work/$1.pkcs1" "$work/$1.key"
    fi
}

install_pair() { # NAME
    chmod 600 "$work/$1.key"
    chmod 644 "$work/$1.pem"
    mv -f -- "$work/$1.key" "$directory/$1.key"
    mv -f -- "$work/$1.pem" "$directory/$1.pem"
    printf 'made  %s\n' "$directory/$1.pem" "$directory/$1.key"
}

serial() { openssl rand -hex 16; }

make_ca() { # NAME COMMON-NAME
    new_key "$1"
    cat >"$work/$1.cnf" <<END
[req]
prompt = no
distinguished_name = subject
x509_extensions = extensions
[subject]
O = LocalTest
CN = $2
[extensions]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
    quietly openssl req -x509 -new -sha256 -days "$days" -set_serial "0x$(serial)" -config "$work/$1.cnf" \
        -key "$work/$1.key" -out "$work/$1.pem"
    install_pair "$1"
}

make_leaf() { # CA NAME COMMON-NAME PURPOSE [SUBJECT-ALTERNATIVE-NAMES]
    [[ -f $directory/$1.key ]] ||
        die "'$directory/$1.key' is missing, so $2.pem cannot be signed: restore it, or make all anew with --force"
    new_key "$2"
    # TLS 1.2 may agree on a key by RSA encryption, which needs one more permission.
    local usage=digitalSignature
    [[ $rsa == no ]] || usage+=', keyEncipherment'
    cat >"$work/$2.cnf" <<END
[req]
prompt = no
distinguished_name = subject
[subject]
O = LocalTest
CN = $3
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, $usage
extendedKeyUsage = $4
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
${5:+subjectAltName = $5}
END
    quietly openssl req -new -sha256 -config "$work/$2.cnf" -key "$work/$2.key" -out "$work/$2.csr"
    quietly openssl x509 -req -sha256 -days "$days" -set_serial "0x$(serial)" -in "$work/$2.csr" \
        -CA "$directory/$1.pem" -CAkey "$directory/$1.key" \
        -extfile "$work/$2.cnf" -extensions extensions -out "$work/$2.pem"
    install_pair "$2"
}

# check_pair NAME CA: ends the script unless the pair is still valid, belongs together, and is signed by its
# authority.
check_pair() {
    local file=$directory/$1
    quietly openssl x509 -in "$file.pem" -noout -subject
    openssl x509 -in "$file.pem" -noout -checkend 86400 >/dev/null ||
        die "'$file.pem' has expired or will within a day: make all anew with --force"
    if [[ -f $file.key ]]; then
        [[ $(openssl x509 -in "$file.pem" -noout -pubkey) == "$(openssl pkey -in "$file.key" -pubout 2>&1)" ]] ||
            die "'$file.key' is not the key of '$file.pem': make all anew with --force"
    fi
    openssl verify -CAfile "$directory/$2.pem" "$file.pem" >/dev/null 2>&1 ||
        die "'$file.pem' is not signed by '$directory/$2.pem': make all anew with --force"
}

kept=no
if [[ $force == yes ]]; then
    for name in ca server client other-ca other-client; do
        rm -f -- "$directory/$name.pem" "$directory/$name.key"
    done
    rm -f -- "$directory/client.p12" "$directory/client.p12.password"
fi

# ensure NAME CA COMMAND...: keeps the pair if both files exist, makes it if neither exists, and otherwise ends the
# script with advice.
ensure() {
    local name=$1 ca=$2
    shift 2
    if [[ -e $directory/$name.pem && (-e $directory/$name.key || $name == "$ca") ]]; then
        kept=yes
        printf 'kept  %s\n' "$directory/$name.pem"
    elif [[ -e $directory/$name.pem || -e $directory/$name.key ]]; then
        die "only one of '$directory/$name.pem' and '$name.key' exists: restore the other, or make all anew with --force"
    else
        "$@"
    fi
    check_pair "$name" "$ca"
}

ensure ca ca make_ca ca 'local test CA'
ensure server ca make_leaf ca server localhost serverAuth 'DNS:localhost, IP:127.0.0.1, IP:::1'
ensure client ca make_leaf ca client local-client clientAuth
ensure other-ca other-ca make_ca other-ca 'unrelated test CA'
ensure other-client other-ca make_leaf other-ca other-client local-client clientAuth

if [[ $p12 == yes && -e $directory/client.p12 ]]; then
    printf 'kept  %s\n' "$directory/client.p12"
elif [[ $p12 == yes ]]; then
    openssl rand -hex 16 >"$work/client.p12.password"
    quietly openssl pkcs12 -export -name local-client -in "$directory/client.pem" -inkey "$directory/client.key" \
        -passout "file:$work/client.p12.password" -out "$work/client.p12"
    mv -f -- "$work/client.p12" "$work/client.p12.password" "$directory"
    printf 'made  %s\n' "$directory/client.p12" "$directory/client.p12.password"
fi
if [[ $kept == yes && $rsa == yes ]]; then
    printf 'note: the files kept may have other keys than --rsa would make; --force replaces them\n' >&2
fi
