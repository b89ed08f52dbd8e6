#!/usr/bin/env bash
# Stands in for AWS's command line. It knows the calls of scripts/aws-thing.sh, fails with the words and the status of the
# real one, and refuses any other call.
#
# The folder AWS_STAND_IN is its account:
#   calls                       each call with its arguments, one a line
#   failures                    lines `ACTION STATUS WORDS...`: this action (or any: *) fails with these words
#   account                     the number of the account, where it is not 123456789012
#   things/NAME                 a thing
#   policies/NAME/VERSION       the text of a version; `default` names the one in force
#   certificates/ID/            status, pem, and the folders policies/ and things/ with a file for each that it has
#   lagging                     while it exists, the next deletion is refused, as AWS does some seconds after detaching
#   interrupting                while it exists, the next certificate that is made interrupts the process group
#   key-modes                   the permissions of each private key in the moment in which it was written
set -euo pipefail
cd -- "$AWS_STAND_IN"
mkdir -p things policies certificates
printf '%s\n' "$*" >>calls

region=${AWS_REGION:-} words=()
while (($#)); do
    case $1 in
        --region) region=$2 && shift ;;
        --profile | --output) shift ;;
        *) words+=("$1") ;;
    esac
    shift
done
service=${words[0]} action=${words[1]}

# option NAME: the value of an option; fails without it.
option() {
    local at
    for ((at = 2; at < ${#words[@]} - 1; at++)); do
        [[ ${words[at]} != "$1" ]] || { printf '%s' "${words[at + 1]}" && return; }
    done
    return 1
}

need() {
    option "$1" || { printf 'aws: [ERROR]: the following arguments are required: %s\n' "$1" >&2 && exit 252; }
}

throw() { # EXCEPTION TEXT
    local operation
    operation=$(sed -E 's/(^|-)(.)/\U\2/g' <<<"$action")
    printf '\nAn error occurred (%s) when calling the %s operation: %s\n' "$1" "$operation" "$2" >&2
    exit 254
}

if [[ -f failures ]]; then
    while read -r which status text; do
        [[ $which == "$action" || $which == '*' ]] || continue
        printf '\n%s\n' "$text" >&2
        exit "$status"
    done <failures
fi
account=$(cat account 2>/dev/null || echo 123456789012)
[[ $service == sts || -n $region ]] || {
    echo 'You must specify a region. You can also configure your region by running "aws configure".' >&2
    exit 253
}

# Each of these sets the variable of its name, and fails with the exception for what is not there.
thing() {
    thing=$(need --thing-name)
    [[ -e things/$thing ]] || throw ResourceNotFoundException "Thing $thing not found"
}
policy() {
    policy=$(need --policy-name)
    [[ -d policies/$policy ]] || throw ResourceNotFoundException "Policy not found (policyName=$policy)"
}
certificate() { # OPTION
    certificate=$(need "$1")
    certificate=${certificate##*/}
    [[ -d certificates/$certificate ]] || throw ResourceNotFoundException "The certificate given does not exist: $certificate"
}

# names FILES...: the last parts of the paths, in one line.
names() {
    local file line=''
    for file in "$@"; do
        [[ ! -e $file ]] || line+=$'\t'${file##*/}
    done
    printf '%s\n' "${line#$'\t'}"
}

# owners KIND NAME: the certificates that have this policy or thing.
owners() {
    local file line=''
    for file in certificates/*/"$1/$2"; do
        [[ -e $file ]] || continue
        file=${file#certificates/}
        line+=$'\t'arn:aws:iot:$region:$account:cert/${file%%/*}
    done
    printf '%s\n' "${line#$'\t'}"
}

lag() {
    if [[ -e lagging ]]; then
        rm lagging
        throw "$1" 'it is still attached'
    fi
}

document() {
    local text
    text=$(need --policy-document)
    [[ $text == file://* ]] || { echo "no file: $text" >&2 && exit 252; }
    cat -- "${text#file://}"
}

query=$(option --query || true)
case "$service $action $query" in
    'sts get-caller-identity [Account,Arn]')
        printf '%s\tarn:aws:sts::%s:assumed-role/engineer/me\n' "$account" "$account"
        ;;
    'iot describe-endpoint endpointAddress') echo "abc123-ats.iot.$region.amazonaws.com" ;;
    'iot describe-thing thingName') thing && echo "$thing" ;;
    'iot create-thing ') touch "things/$(need --thing-name)" ;;
    'iot list-thing-principals principals') thing && owners things "$thing" ;;
    'iot delete-thing ')
        thing=$(need --thing-name)
        [[ -z $(owners things "$thing") ]] || throw InvalidRequestException "Thing $thing is still attached to principals"
        lag InvalidRequestException
        rm -f "things/$thing"
        ;;
    'iot get-policy policyDocument') policy && tr -s ' \n' ' ' <"policies/$policy/$(<"policies/$policy/default")" ;;
    'iot create-policy ')
        policy=$(need --policy-name)
        [[ ! -e policies/$policy ]] || throw ResourceAlreadyExistsException "Policy cannot be created - name already exists"
        mkdir "policies/$policy"
        document >"policies/$policy/1"
        echo 1 >"policies/$policy/default"
        ;;
    'iot list-targets-for-policy targets') policy && owners policies "$policy" ;;
    'iot list-policy-versions policyVersions[?!isDefaultVersion].versionId')
        policy
        default=$(<"policies/$policy/default") others=()
        for file in "policies/$policy"/[0-9]*; do
            [[ ${file##*/} == "$default" ]] || others+=("$file")
        done
        names ${others[@]+"${others[@]}"}
        ;;
    'iot delete-policy-version ') policy && rm "policies/$policy/$(need --policy-version-id)" ;;
    'iot delete-policy ')
        policy
        [[ -z $(owners policies "$policy") ]] || throw DeleteConflictException 'The policy is attached to a target'
        versions=("policies/$policy"/[0-9]*)
        ((${#versions[@]} == 1)) || throw DeleteConflictException 'The policy has other versions'
        lag DeleteConflictException
        rm -r "policies/$policy"
        ;;
    'iot create-keys-and-certificate certificateArn')
        key=$(need --private-key-outfile) pem=$(need --certificate-pem-outfile)
        [[ " ${words[*]} " == *' --set-as-active '* ]] || { echo 'it would be inactive' >&2 && exit 252; }
        openssl req -x509 -newkey rsa:2048 -nodes -keyout made.key -out made.pem -days 1 -subj '/CN=AWS IoT Certificate' 2>/dev/null
        # This is the form in which AWS gives keys.
        openssl rsa -traditional -in made.key 2>/dev/null >"$key"
        stat -c '%a' "$key" "$(dirname -- "$key")" >>key-modes
        cp made.pem "$pem"
        id=$(openssl x509 -in made.pem -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr '[:upper:]' '[:lower:]')
        mkdir -p "certificates/$id/policies" "certificates/$id/things"
        mv made.pem "certificates/$id/pem"
        rm made.key
        echo ACTIVE >"certificates/$id/status"
        if [[ -e interrupting ]]; then
            rm interrupting
            kill -INT 0
        fi
        echo "arn:aws:iot:$region:$account:cert/$id"
        ;;
    'iot describe-certificate certificateDescription.status')
        certificate --certificate-id && cat "certificates/$certificate/status"
        ;;
    'iot describe-certificate certificateDescription.certificatePem')
        certificate --certificate-id && cat "certificates/$certificate/pem"
        ;;
    'iot update-certificate ')
        certificate --certificate-id && need --new-status >"certificates/$certificate/status"
        ;;
    'iot attach-policy ') policy && certificate --target && touch "certificates/$certificate/policies/$policy" ;;
    'iot detach-policy ') policy && certificate --target && rm -f "certificates/$certificate/policies/$policy" ;;
    'iot attach-thing-principal ') thing && certificate --principal && touch "certificates/$certificate/things/$thing" ;;
    'iot detach-thing-principal ') thing && certificate --principal && rm -f "certificates/$certificate/things/$thing" ;;
    'iot list-attached-policies policies[].policyName')
        certificate --target && names "certificates/$certificate/policies"/*
        ;;
    'iot list-principal-things things') certificate --principal && names "certificates/$certificate/things"/* ;;
    'iot delete-certificate ')
        certificate --certificate-id
        [[ $(<"certificates/$certificate/status") != ACTIVE ]] ||
            throw CertificateStateException 'The certificate must be deactivated (not ACTIVE) before deletion'
        [[ -z $(names "certificates/$certificate"/{policies,things}/*) ]] ||
            throw DeleteConflictException 'Things or policies must be detached before deletion'
        lag DeleteConflictException
        rm -r "certificates/$certificate"
        ;;
    *)
        echo "the stand-in for aws does not know: $service $action --query $query" >&2
        exit 252
        ;;
esac
