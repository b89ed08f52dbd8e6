#!/usr/bin/env bash
# Loads the program's completions into bash, zsh and fish, and completes a command, a flag, a word and a file in each;
# then lets mandoc look at each manual page.
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

die() {
    printf 'completions.sh: %s\n' "$1" >&2
    exit 1
}

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
        printf "%s\n" "${COMPREPLY[@]}"' bash "$folder/bash" "$name" "$@"
}

# offered_by_fish WORD...: as above. Fish writes a description behind each.
offered_by_fish() {
    # shellcheck disable=SC2016 # fish expands it
    fish --no-config -c 'source $argv[1]; complete -C "$argv[2]"' "$folder/fish" "$name $*" | cut -f 1
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
        print -r -- ${output%%>*}' zsh "$folder" "$name $*" | tr -s ' =' '\n'
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
    file=$folder/$shell
    # Zsh finds it by its name in a folder.
    [[ $shell != zsh ]] || file=$folder/_$name
    "$program" completions "$shell" >"$file"
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

pages=0
# The list of commands in the help.
for command in '' $("$program" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    # shellcheck disable=SC2086 # nothing, or one word
    "$program" man $command >"$folder/page.1"
    mandoc -T lint -W warning "$folder/page.1" || die "mandoc warns of the page of '$command'"
    pages=$((pages + 1))
done
((pages > 5)) || die 'the help names no commands'
printf 'mandoc: ok, %s pages\n' "$pages"
