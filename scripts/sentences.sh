#!/usr/bin/env bash
# Counts sentences without a subject at their head in the comments of the sources and in the papers: those that begin
# with What, Whoever, Whatever, Who, Of which or Were and ask nothing. CONTRIBUTING.md says why they are hard to read.
#
# usage: scripts/sentences.sh [--most N] [FOLDER]...
#
# The script prints each with its file and line, and how many there are. It reads the files that end in .rs and .md. The
# folders are src and those of the papers unless given.
#
#   --most N     fail, with status 1, when there are more than N
#   -h, --help   this text
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

most='' folders=()
while (($#)); do
    case $1 in
        --most)
            [[ ${2:-} =~ ^[0-9]+$ ]] || die '--most needs a number: see --help' 2
            most=$2
            shift
            ;;
        -h | --help) help_from_header && exit 0 ;;
        -*) die "unknown argument '$1': see --help" 2 ;;
        *) folders+=("$1") ;;
    esac
    shift
done
cd -- "$repository"
if ((${#folders[@]} == 0)); then
    folders=(src certs config benches examples tests/README.md README.md CONTRIBUTING.md CHANGELOG.md)
fi
for folder in "${folders[@]}"; do
    [[ -e $folder ]] || die "there is no $folder" 2
done

# shellcheck disable=SC2016 # awk's own variables
found=$(find "${folders[@]}" \( -name target -prune \) -o \( -name '*.rs' -o -name '*.md' \) -print | LC_ALL=C sort | xargs awk '
    # Comment lines that follow one another are one text.
    function look(    rest, head, sentence, at) {
        rest = text
        while (match(rest, /(^|[.!?)] +)(What|Whoever|Whatever|Who|Of which|Were) +[a-z]/)) {
            at = RSTART
            head = substr(rest, at)
            sub(/^[.!?)] +/, "", head)
            sentence = head
            if (match(sentence, /[.?!]( |$)/)) sentence = substr(sentence, 1, RSTART)
            if (sentence !~ /\?$/) print file ":" line ": " substr(sentence, 1, 90)
            rest = substr(head, 5)
        }
        text = ""
    }
    FNR == 1 { look(); file = FILENAME; is_paper = file ~ /\.md$/; is_code = 0 }
    # A heading, a row and a point of a list are texts of their own.
    is_paper && /^```/ { look(); is_code = !is_code; next }
    is_paper {
        if ($0 == "" || /^#/ || /^\|/ || /^ *([-*]|[0-9]+\.) /) look()
        if ($0 == "" || is_code || /^#/) next
        words = $0
        gsub(/[*`|]/, "", words)
        sub(/^ *(-|[0-9]+\.) +/, "", words)
        sub(/^ +/, "", words)
        if (text == "") line = FNR
        text = text (text == "" ? "" : " ") words
        next
    }
    /^[ \t]*\/\// {
        words = $0
        sub(/^[ \t]*\/\/[\/!]?[ \t]*/, "", words)
        if (words == "") { look(); next }
        if (text == "") line = FNR
        text = text (text == "" ? "" : " ") words
        next
    }
    { look() }
    END { look() }
')
count=0
if [[ -n $found ]]; then
    printf '%s\n' "$found"
    count=$(printf '%s\n' "$found" | wc -l)
fi
printf 'sentences without a subject at their head: %s\n' "$((count))"
if [[ -n $most ]] && ((count > most)); then
    die "at most $most are allowed: name the subject first" 1
fi
