#!/usr/bin/env bash
# Writes the completions of the program and its manual pages to where shells and man look for them.
#
# usage: scripts/shell-files.sh PROGRAM PREFIX       for example:
#        scripts/shell-files.sh ~/.cargo/bin/mqtt-connection-sharing ~/.local
#
# PROGRAM is the program's file, and has to be of this repository. The files, below PREFIX/share:
#   bash-completion/completions/mqtt-connection-sharing
#   fish/vendor_completions.d/mqtt-connection-sharing.fish
#   zsh/site-functions/_mqtt-connection-sharing      below a PREFIX that ends in /usr, zsh/vendor-completions/ as Debian has it
#   man/man1/mqtt-connection-sharing.1, and one for each command
# Zsh reads what is in a folder of its fpath; add the one below your own PREFIX to it before compinit.
#
#   -h, --help   this text
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in
    -h | --help) help_from_header && exit 0 ;;
esac
(($# == 2)) || die 'it takes the program and a folder: see --help' 2
program_path=$1 prefix=${2%/} name=mqtt-connection-sharing
[[ -x $program_path ]] || die "'$program_path' is no program: build it first, with cargo build --release" 2
share=$prefix/share
zsh_folder=$share/zsh/site-functions
[[ $prefix != */usr ]] || zsh_folder=$share/zsh/vendor-completions

# write FILE ARGUMENTS...: writes what the program prints, with the folder for it.
write() {
    local file=$1 text
    shift
    text=$("$program_path" "$@") || die "'$program_path $*' failed: it says why above"
    mkdir -p -- "${file%/*}" || die "cannot make the folder '${file%/*}': check its permissions"
    printf '%s\n' "$text" >"$file" || die "cannot write '$file': check its permissions"
}

write "$share/bash-completion/completions/$name" completions bash
write "$share/fish/vendor_completions.d/$name.fish" completions fish
write "$zsh_folder/_$name" completions zsh
write "$share/man/man1/$name.1" man
# The list of commands in the help.
commands=$("$program_path" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p')
[[ -n $commands ]] || die "the help of '$program_path' lists no commands: is it $name?"
for command in $commands; do
    write "$share/man/man1/$name-$command.1" man "$command"
done
