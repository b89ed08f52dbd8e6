#!/usr/bin/env bash
# Sets up a thing at AWS IoT Core for this program, with the aws command, and checks it.
#
# usage: scripts/aws-thing.sh [OPTIONS] NAME             for example: scripts/aws-thing.sh my-thing
#        scripts/aws-thing.sh --delete [OPTIONS] NAME
#
# The script makes the thing NAME, an active certificate with its key, and the policy mqtt-connection-sharing-NAME from
# config/aws-iot-policy.json. It attaches them to each other and asks for the account's endpoint. NAME is the client
# identifier, too: 1 to 100 letters, digits, _ and -, with a letter or digit first. The files:
#   certs/NAME/        private.pem.key, certificate.pem.crt, policy.json, the certificate's name at AWS, and what else was made
#   config/NAME.toml   endpoint, client identifier, certificate and key
# At the end it runs: mqtt-connection-sharing check --config config/NAME.toml. The exit status is that of this check: 0 if
# all is well. Before that: 2 usage, 127 a tool is missing, 1 anything else.
#
# A second run takes up what is there. It makes no second certificate while the files are there and the certificate is
# active, and it changes no policy of that name that has another text. A key or certificate that is in certs/NAME and was
# not made by this script stops it. No authority is downloaded: the program trusts those of the system, which know Amazon's.
#
#   --port 443       write config/NAME.toml for port 443 (8883 otherwise), where firewalls let nothing else out
#   --delete         undo what was made here: detach, deactivate and delete the certificates; delete policy and thing, unless
#                    they were there before or other certificates use them; delete the files. It may be repeated
#   --yes            delete without asking
#   --dry-run        read what is there, print the calls that would change anything, and make none of them
#   --region REGION  AWS's region, in place of that of the environment or the profile
#   --profile NAME   a profile of the aws command
#   -h, --help       this text
#
# The program is built first, unless MQTT_CONNECTION_SHARING_BIN names its file. The script ignores the caller's MQTT_*
# variables.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

name='' port=8883 delete=no yes=no dry=no options=()
while (($#)); do
    case $1 in
        --port | --region | --profile)
            [[ -n ${2:-} ]] || die "$1 needs a value: see --help" 2
            case $1 in
                --port) port=$2 ;;
                *) options+=("$1" "$2") ;;
            esac
            shift
            ;;
        --delete) delete=yes ;;
        --yes) yes=yes ;;
        --dry-run) dry=yes ;;
        -h | --help) help_from_header && exit 0 ;;
        -*) die "unknown option '$1': see --help" 2 ;;
        *)
            [[ -z $name ]] || die "one name, please, and not both '$name' and '$1': see --help" 2
            name=$1
            [[ -n $name ]] || die 'the name is empty: see --help' 2
            ;;
    esac
    shift
done
[[ -n $name ]] || die 'which thing? Give its name, for example: scripts/aws-thing.sh my-thing' 2
# AWS allows a colon in the name of a thing, but not in that of a policy; some systems allow none in that of a file.
is_name() {
    # In other locales more letters lie between a and z.
    local LC_ALL=C
    [[ $name =~ ^[a-zA-Z0-9][a-zA-Z0-9_-]{0,99}$ ]]
}
is_name || die "'$name' cannot be the name: use 1 to 100 letters, digits, _ and -, with a letter or digit first" 2
[[ $port == 8883 || $port == 443 ]] || die "AWS IoT takes MQTT on the ports 8883 and 443, not on '$port'" 2

policy=$program-$name
folder=$repository/certs/$name
key=$folder/private.pem.key
certificate=$folder/certificate.pem.crt
# The names at AWS of the certificates that this script has made, one a line, the one in use last.
arns=$folder/certificate-arns
# What else it has made at AWS, one a line: thing, policy. A folder without this file is not of this script.
record=$folder/made-here
document=$folder/policy.json
configuration=$repository/config/$name.toml
mark="# Made by scripts/aws-thing.sh for the thing $name."

[[ ! -e $configuration || $(head -n 1 -- "$configuration") == "$mark"* ]] ||
    die "'config/$name.toml' is there and is not of this script: choose another name" 2
# AWS gives a key once.
for file in "$key" "$certificate"; do
    [[ $delete == yes || ! -e $file || -e $arns ]] ||
        die "'certs/$name/${file##*/}' is there and is not of this script: choose another name" 2
done
need_command aws "install AWS's command line: https://aws.amazon.com/cli/"
forget_program_settings
# The aws command would show long answers in a pager.
export AWS_PAGER=''
work=$(mktemp -d) || die 'cannot make a temporary folder: set TMPDIR'
new=''
trap 'rm -rf -- "$work" ${new:+"$new"}' EXIT
trap 'stop 130' INT
trap 'stop 143' TERM HUP

# stop STATUS: ends the script at a signal.
stop() {
    [[ -z $new ]] ||
        printf "%s: AWS may have made a certificate whose key is lost: see 'aws iot list-certificates', and delete the newest\n" \
            "${0##*/}" >&2
    exit "$1"
}

# call SERVICE ACTION ARGUMENTS...: runs aws. Sets `answer` to its output, or, if it fails, `problem` to what it says.
call() {
    answer='' problem=''
    if answer=$(aws ${options[@]+"${options[@]}"} "$@" --output text 2>"$work/problem"); then
        if [[ $answer == None ]]; then answer=''; fi
    else
        problem=$(tr -s '\n' ' ' <"$work/problem")
        problem=${problem# } problem=${problem% }
        return 1
    fi
}

# fail TRIED: ends the script with what was tried, what the aws command said, and what to do.
fail() {
    local advice='mend that, and run this again: it goes on where it stopped'
    case $problem in
        *'locate credentials'* | *NoCredentials* | *'no credentials'*)
            advice="the aws command has no credentials: run 'aws configure' or 'aws sso login', or give --profile"
            ;;
        *'specify a region'*) advice="give --region, such as eu-central-1, or run 'aws configure set region REGION'" ;;
        *'config profile'*'could not be found'*) advice="'aws configure list-profiles' shows the profiles that there are" ;;
        *ExpiredToken* | *'oken has expired'* | *InvalidClientTokenId* | *UnrecognizedClient* | *SignatureDoesNotMatch* | \
            *'SSO session'*)
            advice="the credentials are not valid, or no longer: renew them ('aws configure', 'aws sso login')"
            ;;
        *AccessDenied* | *UnauthorizedException* | *'not authorized'*)
            advice='the credentials lack a permission'
            if [[ $problem =~ calling\ the\ ([A-Za-z]+)\ operation ]]; then
                advice="have the permission iot:${BASH_REMATCH[1]} given to the user or role of these credentials"
            fi
            ;;
        *'connect to the endpoint'* | *'onnect timeout'*)
            advice='check the network and the spelling of the region'
            ;;
        *LimitExceeded*) advice='the account has as many as it may: delete some that are no longer needed' ;;
        *Throttling*) advice='AWS asks for a pause: run this again in a minute' ;;
    esac
    die "$1: ${problem:-the aws command failed and does not say why}: $advice"
}

# ask TRIED SERVICE ACTION...: a call that changes nothing and must succeed.
ask() {
    local tried=$1
    shift
    call "$@" || fail "$tried"
}

# finds TRIED SERVICE ACTION...: the same, for a thing that need not be there. Returns 1 if it is not.
finds() {
    local tried=$1
    shift
    call "$@" && return
    [[ $problem == *ResourceNotFoundException* ]] || fail "$tried"
    return 1
}

# change TRIED SERVICE ACTION...: a call that changes something, or its text with --dry-run.
change() {
    local tried=$1
    shift
    if [[ $dry == yes ]]; then
        printf 'would run:'
        printf ' %q' aws ${options[@]+"${options[@]}"} "$@"
        printf '\n'
        answer=''
        return
    fi
    call "$@" || fail "$tried"
}

# change_when_free TRIED SERVICE ACTION...: the same for a deletion. AWS detaches in the background, and refuses to delete
# what is still attached.
change_when_free() {
    local tried=$1 deadline=$((SECONDS + 60))
    shift
    if [[ $dry == yes ]]; then
        change "$tried" "$@"
        return
    fi
    until call "$@"; do
        case $problem in
            *ResourceNotFoundException*) return ;;
            *DeleteConflict* | *InvalidRequest*) ((SECONDS < deadline)) || fail "$tried" ;;
            *) fail "$tried" ;;
        esac
        sleep 1
    done
}

# report made|kept|gone WORDS...: says what has become of something. With --dry-run nothing is made or gone.
report() {
    local state=$1
    shift
    [[ $dry == yes && $state != kept ]] || printf '%s  %s\n' "$state" "$*"
}

# note_made thing|policy: keeps it for --delete.
note_made() {
    [[ $dry == yes ]] || printf '%s\n' "$1" >>"$record"
}

was_made() {
    grep -qxF -- "$1" "$record" 2>/dev/null
}

# without WORD TEXT: the words of TEXT that are not WORD, one a line.
without() {
    # shellcheck disable=SC2086 # several words
    printf '%s\n' $2 | grep -vxF -- "$1" || true
}

# Finds out which account and region these credentials are for. Nothing is changed before that.
locate() {
    ask 'asking for the account' sts get-caller-identity --query '[Account,Arn]'
    local account arn region
    read -r account arn <<<"$answer"
    ask "asking for the account's endpoint" iot describe-endpoint --endpoint-type iot:Data-ATS --query endpointAddress
    endpoint=$answer
    region=${endpoint#*.iot.} region=${region%%.*}
    [[ $endpoint =~ ^[a-zA-Z0-9-]+(\.ats)?\.iot\.[a-z0-9-]+\.[a-z0-9.-]+$ && $account =~ ^[0-9]+$ && $arn == arn:*:* ]] ||
        die "AWS gave the endpoint '$endpoint' and the account '$account', which are none: is 'aws' its command?"
    arn=${arn#arn:}
    prefix=arn:${arn%%:*}:iot:$region:$account
    local line
    while read -r line; do
        [[ $line == "$prefix":* ]] ||
            die "'certs/$name' has a key for ${line%:*}, and these credentials are for $prefix: give --profile or --region of that, or choose another name"
    done < <(cat -- "$arns" 2>/dev/null)
}

ensure_thing() {
    if finds 'looking for the thing' iot describe-thing --thing-name "$name" --query thingName; then
        report kept "thing $name"
    else
        change 'making the thing' iot create-thing --thing-name "$name"
        note_made thing
        report made "thing $name"
    fi
}

ensure_policy() {
    local text
    text=$(<"$repository/config/aws-iot-policy.json")
    text=${text//arn:aws:iot:REGION:ACCOUNT:/$prefix:}
    text=${text//CLIENT_ID/$name}
    if [[ $dry == no ]]; then
        printf '%s\n' "$text" >"$document.new"
        mv -f -- "$document.new" "$document"
    fi
    if finds 'looking for the policy' iot get-policy --policy-name "$policy" --query policyDocument; then
        report kept "policy $policy"
        # AWS may give the text in another form.
        [[ $(tr -d '[:space:]' <<<"$answer") == "$(tr -d '[:space:]' <<<"$text")" ]] ||
            printf 'note: this policy has another text than certs/%s/policy.json, and keeps it. To replace it:\n  aws%s\n' "$name" \
                "$(printf ' %q' ${options[@]+"${options[@]}"} iot create-policy-version --policy-name "$policy" \
                    --policy-document "file://$document" --set-as-default)"
    else
        change 'making the policy' iot create-policy --policy-name "$policy" --policy-document "file://$document"
        note_made policy
        report made "policy $policy"
    fi
}

# Sets `arn` to the certificate in use, and makes one if there is none.
ensure_certificate() {
    local older='' other id
    arn=$(tail -n 1 -- "$arns" 2>/dev/null || true)
    id=${arn##*/}
    if [[ -n $arn && -s $key ]]; then
        if finds 'looking at the certificate' iot describe-certificate --certificate-id "$id" \
            --query certificateDescription.status; then
            [[ $answer == ACTIVE ]] ||
                die "the certificate $arn is $answer: activate it (aws iot update-certificate --certificate-id $id --new-status ACTIVE), or remove 'certs/$name/${key##*/}' to have another one made"
            if [[ ! -s $certificate && $dry == no ]]; then
                ask 'fetching the certificate' iot describe-certificate --certificate-id "$id" \
                    --query certificateDescription.certificatePem
                printf '%s\n' "$answer" >"$certificate.new"
                mv -f -- "$certificate.new" "$certificate"
            fi
            report kept "certificate $arn"
            return
        fi
        printf 'note: the certificate %s is no longer at AWS, and another one takes its place\n' "$arn"
    fi
    # With --dry-run there may be no thing yet.
    if finds "asking for the thing's certificates" iot list-thing-principals --thing-name "$name" --query principals; then
        older=$answer
    fi
    if [[ $dry == yes ]]; then
        change 'making a certificate' iot create-keys-and-certificate --set-as-active
        arn=CERTIFICATE_ARN
        return
    fi
    # The key comes into a folder that only its owner can enter, and is moved when it is complete.
    new=$(mktemp -d "$folder/.new.XXXXXX") || die "cannot write to 'certs/$name': check its permissions"
    change 'making a certificate' iot create-keys-and-certificate --set-as-active --query certificateArn \
        --certificate-pem-outfile "$new/certificate.pem.crt" --private-key-outfile "$new/private.pem.key"
    arn=$answer
    [[ $arn == "$prefix":cert/* && -s $new/certificate.pem.crt && -s $new/private.pem.key ]] ||
        die "AWS has made a certificate, but the aws command gave no key: see 'aws iot list-certificates', and delete the newest"
    # Until the key is there, the next run takes the certificate for lost.
    rm -f -- "$key"
    printf '%s\n' "$arn" >>"$arns"
    mv -f -- "$new/certificate.pem.crt" "$certificate"
    mv -f -- "$new/private.pem.key" "$key"
    chmod 600 -- "$key"
    rmdir -- "$new"
    new=''
    report made "certificate $arn"
    for other in $older; do
        printf 'note: the thing has another certificate, whose key is not here: %s\n' "$other"
        printf '  It stays valid until: aws iot update-certificate --certificate-id %s --new-status INACTIVE\n' "${other##*/}"
    done
}

write_configuration() {
    [[ $dry == no ]] || return 0
    local text="$mark Git ignores it.
# A second run writes it anew and keeps a changed one as $name.toml.old; --delete removes it.
endpoint = \"$endpoint\"
port = $port
client-id = \"$name\"
cert = \"../certs/$name/${certificate##*/}\"
key = \"../certs/$name/${key##*/}\""
    if [[ $port == 443 ]]; then text+=$'\n'"alpn = [\"x-amzn-mqtt-ca\"]"; fi
    if [[ -e $configuration ]]; then
        if [[ $(<"$configuration") == "$text" ]]; then
            report kept "config/$name.toml"
            return
        fi
        mv -f -- "$configuration" "$configuration.old"
        printf 'note: config/%s.toml was another one, and is config/%s.toml.old now\n' "$name" "$name"
    fi
    printf '%s\n' "$text" >"$configuration.new"
    mv -f -- "$configuration.new" "$configuration"
    report made "config/$name.toml"
}

# delete_certificate ARN: deletes it, or sets `used` if other things use it.
delete_certificate() {
    local arn=$1 id=${1##*/} status things others one
    if ! finds 'looking at the certificate' iot describe-certificate --certificate-id "$id" \
        --query certificateDescription.status; then
        report gone "certificate $arn"
        return
    fi
    status=$answer
    ask "asking for the certificate's things" iot list-principal-things --principal "$arn" --query things
    # The answer has its words in one line.
    things=$(without '' "$answer")
    others=$(without "$name" "$things")
    if [[ $things != "$others" ]]; then
        change 'detaching the certificate from the thing' iot detach-thing-principal --thing-name "$name" --principal "$arn"
    fi
    if [[ -n $others ]]; then
        used=yes
        report kept "certificate $arn, which other things use: ${others//$'\n'/, }"
        return
    fi
    ask "asking for the certificate's policies" iot list-attached-policies --target "$arn" --query 'policies[].policyName'
    for one in $answer; do
        change "detaching the policy $one" iot detach-policy --policy-name "$one" --target "$arn"
    done
    [[ $status != ACTIVE ]] ||
        change 'deactivating the certificate' iot update-certificate --certificate-id "$id" --new-status INACTIVE
    change_when_free 'deleting the certificate' iot delete-certificate --certificate-id "$id"
    report gone "certificate $arn"
}

# keep_foreign WORDS SERVICE ACTION...: reports as kept what this script has not made, with the call that deletes it.
keep_foreign() {
    report kept "$1, which was not made by this script here. To delete it:"
    shift
    printf '  aws%s\n' "$(printf ' %q' ${options[@]+"${options[@]}"} "$@")"
}

# others_of WORDS: those that are not certificates of this script.
others_of() {
    local left=$1 one
    for one in ${made[@]+"${made[@]}"}; do left=$(without "$one" "$left"); done
    printf '%s' "$left"
}

delete_policy() {
    if ! finds "asking for the policy's targets" iot list-targets-for-policy --policy-name "$policy" --query targets; then
        report gone "policy $policy"
        return
    fi
    local others one
    others=$(others_of "$answer")
    if [[ $used == yes ]]; then
        report kept "policy $policy, which the certificate has that is kept"
        return
    elif [[ -n $others ]]; then
        report kept "policy $policy, which other certificates have: ${others//$'\n'/, }"
        ! was_made policy || left=yes
        return
    elif ! was_made policy; then
        keep_foreign "policy $policy" iot delete-policy --policy-name "$policy"
        return
    fi
    ask "asking for the policy's versions" iot list-policy-versions --policy-name "$policy" \
        --query 'policyVersions[?!isDefaultVersion].versionId'
    for one in $answer; do
        change "deleting version $one of the policy" iot delete-policy-version --policy-name "$policy" --policy-version-id "$one"
    done
    change_when_free 'deleting the policy' iot delete-policy --policy-name "$policy"
    report gone "policy $policy"
}

delete_thing() {
    local others
    if finds 'looking for the thing' iot list-thing-principals --thing-name "$name" --query principals; then
        others=$(others_of "$answer")
        if [[ -n $others ]]; then
            report kept "thing $name, which has certificates that were not made here: ${others//$'\n'/, }"
            ! was_made thing || left=yes
            return
        elif ! was_made thing; then
            keep_foreign "thing $name" iot delete-thing --thing-name "$name"
            return
        fi
        change_when_free 'deleting the thing' iot delete-thing --thing-name "$name"
    fi
    report gone "thing $name"
}

delete_files() {
    if [[ $used == yes ]]; then
        report kept "certs/$name and config/$name.toml, since other things use the certificate"
        return
    fi
    local files=("$document" "$configuration" "$configuration.old") file
    # The two lists go last: a deletion that is interrupted can be repeated.
    if [[ -e $arns ]]; then files+=("$key" "$certificate" "$arns"); fi
    if [[ $left == no ]]; then files+=("$record"); fi
    for file in "${files[@]}"; do
        [[ -e $file ]] || continue
        if [[ $dry == yes ]]; then
            printf 'would remove: %s\n' "${file#"$repository/"}"
        else
            rm -f -- "$file"
            report gone "${file#"$repository/"}"
        fi
    done
    [[ $dry == no ]] || return 0
    if [[ $left == yes ]]; then
        report kept "${record#"$repository/"}, from which --delete can go on"
    elif ! rmdir -- "$folder" 2>/dev/null; then
        report kept "certs/$name, which has other files"
    fi
}

# Reads the names of the certificates that were made here into `made`.
made=() used=no left=no
read_made() {
    local one
    while read -r one; do made+=("$one"); done < <(cat -- "$arns" 2>/dev/null)
}

if [[ $delete == yes ]]; then
    if [[ ! -e $arns && ! -e $record ]]; then
        printf "'certs/%s' names nothing that was made by this script here: nothing is deleted\n" "$name"
        exit 0
    fi
    locate
    read_made
    if [[ $yes == no && $dry == no ]]; then
        [[ -t 0 ]] || die 'deleting needs a terminal to ask on, or --yes' 2
        printf 'To be deleted from %s, with the files in certs/%s and config/%s.toml:\n' "$prefix" "$name" "$name"
        ! was_made thing || printf '  thing %s\n' "$name"
        ! was_made policy || printf '  policy %s\n' "$policy"
        for one in ${made[@]+"${made[@]}"}; do printf '  certificate %s\n' "$one"; done
        read -r -p 'Delete these? [y/N] ' answer || answer=n
        [[ $answer == [yY]* ]] || die 'nothing is deleted'
    fi
    for one in ${made[@]+"${made[@]}"}; do delete_certificate "$one"; done
    delete_policy
    delete_thing
    delete_files
    exit 0
fi

locate
if [[ $dry == no ]]; then
    find_or_build_program --profile demo
    # Nothing that is made from here on is for others to read.
    umask 077
    if ! mkdir -p -- "$folder" || ! chmod 700 -- "$folder"; then die "cannot make 'certs/$name': check the permissions of 'certs'"; fi
    : >>"$record"
fi
ensure_thing
ensure_policy
ensure_certificate
change 'attaching the policy' iot attach-policy --policy-name "$policy" --target "$arn"
change 'attaching the certificate to the thing' iot attach-thing-principal --thing-name "$name" --principal "$arn"
write_configuration
[[ $dry == no ]] || exit 0
# AWS takes some seconds to let a new certificate in.
check=("$program" check --config "config/$name.toml" --topic filter/sync/check --wait 30s)
printf '\n%s\n' "${check[*]}"
cd -- "$repository"
"$program_file" "${check[@]:1}"
