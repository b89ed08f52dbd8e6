#!/usr/bin/env bash
# Has scripts/shell-files.sh write the program's completions and manual pages. Loads the completions into bash, zsh and
# fish, completes a command, a flag, a word and a file in each, and has mandoc look at each page.
#
# usage: tests/completions.sh PROGRAM
#
# It needs bash, zsh, fish and mandoc. `scripts/test.sh --all` runs it.
set -euo pipefail

program=${1:?usage: tests/completions.sh PROGRAM}
name=mqtt-connection-sharing
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
touch "$folder/settings.toml"
shell_files=$(dirname -- "${BASH_SOURCE[0]}")/../scripts/shell-files.sh
"$shell_files" "$program" "$folder"

die() {
    printf 'completions.sh: %s\n' "$1" >&2
    exit 1
}

# A slash at the end is no other folder.
for prefix in "$folder"/one/usr "$folder"/two/usr/; do
    "$shell_files" "$program" "$prefix"
    [[ -e $prefix/share/zsh/vendor-completions/_$name ]] || die "'$prefix' got no file for Debian's zsh"
done

# offered_by_bash WORD...: prints what bash offers for the last of the words.
offered_by_bash() {
    # shellcheck disable=SC2016 # the inner shell expands it
    bash --norc --noprofile -c '
        script=$1 name=$2
        shift
        source "$script"
        function=$(complete -p "$name")
        function=${function##*-F }
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "${function%% *}" "$name" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
        printf "%s\n" "${COMPREPLY[@]}"' bash "$folder/share/bash-completion/completions/$name" "$name" "$@"
}

# offered_by_fish WORD...: as above. Fish writes a description behind each.
offered_by_fish() {
    # shellcheck disable=SC2016 # fish expands it
    fish --no-config -c 'source $argv[1]; complete -C "$argv[2]"' \
        "$folder/share/fish/vendor_completions.d/$name.fish" "$name $*" | cut -f 1
}

# offered_by_zsh WORD...: the words of the line that Tab leaves in a zsh with a terminal. It completes the last one where
# there is one way, and may put the = of a flag behind it.
offered_by_zsh() {
    # shellcheck disable=SC2016 # zsh expands it
    timeout 60 zsh -f -c '
        zmodload zsh/zpty
        zpty shell "TERM=dumb zsh -f -i"
        zpty -w shell "fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -d $1/dump; print load\"\"ed"
        zpty -r shell output "*loaded*"
        # Control-X makes the line show itself after the completion.
        zpty -w shell "show() { print -r -- \"<\$BUFFER>\" }; zle -N show; bindkey \"^X\" show; print bou\"\"nd"
        zpty -r shell output "*bound*"
        zpty -n -w shell "$2"$'"'\\t\\x18'"'
        zpty -r shell output "*<*>*"
        output=${output##*<}
        print -r -- ${output%%>*}' zsh "$folder/share/zsh/site-functions" "$name $*" | tr -s ' =' '\n'
}

# offers SHELL EXPECTED WORD...: fails unless this is among what the shell offers for the last word.
offers() {
    local shell=$1 expected=$2 offered
    shift 2
    offered=$("offered_by_$shell" "$@")
    grep -qxF -e "$expected" <<<"$offered" ||
        die "$shell offers no $expected for '$*', but: $(tr '\n' ' ' <<<"$offered")"
}

for shell in bash zsh fish; do
    offers "$shell" bench ben
    offers "$shell" --threads bench --thr
    offers "$shell" --publish-count demo --publish-c
    offers "$shell" sync bench --mode sy
    offers "$shell" json check --output js
    offers "$shell" --window settings bench --wind
    offers "$shell" "$folder/settings.toml" --config "$folder/sett"
    printf '%s: ok\n' "$shell"
done
# A flag of another command is not offered.
for shell in bash fish; do
    ! "offered_by_$shell" demo --thr | grep -q . || die "$shell offers flags of bench for the demo"
done

# The next word behind a switch is none of its own.
for shell in bash fish; do
    ! "offered_by_$shell" demo --local tr | grep -qx true || die "$shell offers a value behind --local"
done

pages=("$folder"/share/man/man1/*.1)
((${#pages[@]} > 6)) || die 'there are too few manual pages'
mandoc -T lint -W warning "${pages[@]}" || die 'mandoc warns of a manual page'
printf 'mandoc: ok, %s pages\n' "${#pages[@]}"
