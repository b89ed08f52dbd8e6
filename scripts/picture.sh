#!/usr/bin/env bash
# Makes the two pictures that README.md begins with, from one run of the demo against a private Mosquitto. The script
# kills the broker while the threads publish, and starts it again two seconds later.
#
# usage: scripts/picture.sh [--into DIR]
#
#   --into DIR   write timeline.svg and terminal.svg into DIR, in place of src/app/picture/demo.svg (what the
#                program draws with its flag for a timeline) and src/app/view/demo.svg (the terminal, animated)
#   -h, --help   this text
#
# The script needs mosquitto, openssl and tmux. It ends with an error if the run did not recover, or if a picture names
# this machine, its user or a folder. Look at both pictures before you keep them.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# The first line of the terminal shows this, word for word.
demo=(mqtt-connection-sharing --iterations 1 --publish-count 24 --publish-delay 400ms)
# A look at the terminal each `tick` seconds. The broker is away for so many looks.
tick=0.2 away=9
columns=84

# record FOLDER PROGRAM: runs the demo in a terminal, and keeps a screen for each look in FOLDER/screens.
record() {
    local folder=$1 look='' killed='' number
    # The lines of the log would be most of the screen; the view says the same in fewer words.
    export RUST_LOG=mqtt_connection_sharing=off
    # Short pauses between attempts, and a name that says nothing of this machine.
    export MQTT_CONNECT_INTERVAL=0 MQTT_RETRY_MAX=1s MQTT_CLIENT_ID=demo
    export MQTT_TIMELINE=$folder/timeline.svg TMUX_TMPDIR=$folder
    unset TMUX NO_COLOR
    second=''
    trap end_record EXIT
    # shellcheck disable=SC2016 # the shell in the terminal expands it
    terminal new-session -d -x "$columns" -y 16 -- env TERM=screen sh -c \
        'printf "$ %s\n" "$1"; shift; "$0" "$@"; echo $? >"$STATUS"; exec cat' \
        "$2" "${demo[*]}" "${demo[@]:1}"
    for ((number = 0; number < 150; number++)); do
        look=$(terminal capture-pane -p -e)
        printf '%s\f\n' "$look" >>"$folder/screens"
        if [[ -z $killed && $look == *' 4 of 12'* ]]; then
            kill -9 "$BROKER_PID"
            killed=$number
        elif [[ -n $killed && -z $second ]] && ((number >= killed + away)); then
            mosquitto -c "$BROKER_DIR/mosquitto.conf" >/dev/null 2>&1 &
            second=$!
        fi
        [[ ! -s $STATUS ]] || break
        sleep "$tick"
    done
    [[ -s $STATUS && $(<"$STATUS") == 0 ]] || die "the demo did not end well; its terminal: $look"
    [[ $look == *'the session was kept'* ]] || die "the broker did not come back with the session: try again; $look"
}

# shellcheck disable=SC2329,SC2317 # the trap calls it
end_record() {
    terminal kill-server 2>/dev/null || true
    [[ -n $second ]] || return 0
    kill "$second" 2>/dev/null || true
    # It writes into the broker's folder until it has ended.
    wait "$second" 2>/dev/null || true
}

terminal() { tmux -u -L picture -f /dev/null "$@"; }

# draw_terminal SCREENS: prints an SVG. Each line of text is drawn once for each time that it is on the screen, and a
# keyframe rule for each such length hides it afterwards. The last screen stays for some seconds. Where a person wants
# no motion, it is the only one.
draw_terminal() {
    awk -v tick="$tick" -v columns="$columns" -v hold=25 -v title="${demo[*]}" '
        BEGIN { RS = "\f\n"; FS = "\n"; frames = 0; rows = 0 }
        { for (row = 1; row <= NF; row++) { screen[frames, row] = $row; if (width($row) && row > rows) rows = row } frames++ }
        # The text of a line with its colours.
        function drawn(line,    out, text, end, codes, count, at) {
            out = ""
            while (line != "") {
                end = index(line, "\033[")
                text = end ? substr(line, 1, end - 1) : line
                gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text)
                if (text != "") out = out ((bold colour) == "" ? text : "<tspan class=\"" bold colour "\">" text "</tspan>")
                if (!end) break
                line = substr(line, end + 2)
                end = index(line, "m")
                # A sequence without a number stands for 0.
                count = split(substr(line, 1, end - 1) ";", codes, ";") - 1
                for (at = 1; at <= count; at++) {
                    if (codes[at] == "" || codes[at] == 0) bold = colour = ""
                    else if (codes[at] == 1) bold = "b "
                    else if (codes[at] == 39) colour = ""
                    else if (codes[at] >= 30 && codes[at] <= 37) colour = "c" codes[at]
                }
                line = substr(line, end + 1)
            }
            return out
        }
        # How many columns a line takes. Some kinds of awk count bytes.
        function width(line) { gsub(/\033\[[0-9;]*m/, "", line); gsub(/µ/, "u", line); return length(line) }
        function put(row, from, to,    class, style) {
            if (text[row] == "") return
            if (from > 0 || to < all) {
                class = " class=\"m k" (to - from) (to == all ? " z" : "") "\""
                style = sprintf(" style=\"animation-delay:%.1fs\"", from * tick)
                lengths[to - from] = 1
            }
            body = body sprintf("<text x=\"14\" y=\"%d\" textLength=\"%d\"%s%s>%s</text>\n", row * 18 + 12, wide[row] * 8, class, style, text[row])
        }
        END {
            all = frames + hold
            for (frame = 0; frame < frames; frame++) {
                bold = colour = ""
                for (row = 1; row <= rows; row++) {
                    now = drawn(screen[frame, row])
                    if (frame && now == text[row]) continue
                    if (frame) put(row, since[row], frame)
                    text[row] = now; since[row] = frame; wide[row] = width(screen[frame, row])
                }
            }
            for (row = 1; row <= rows; row++) put(row, since[row], all)
            for (length_ in lengths)
                rules = rules sprintf("@keyframes k%d{0%%{visibility:visible}%.4f%%{visibility:hidden}}.k%d{animation-name:k%d}\n", \
                    length_, length_ * 100 / all, length_, length_)
            w = columns * 8 + 28; h = rows * 18 + 28
            printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" xml:space=\"preserve\">\n", w, h, w, h
            printf "<title>A terminal in which this runs: %s</title>\n", title
            print "<style>text{font:13px ui-monospace,\"SF Mono\",Menlo,Consolas,\"DejaVu Sans Mono\",monospace;white-space:pre;fill:#1b1d20}"
            print ".paper{fill:#f6f7f9;stroke:#dcdee2}.b{font-weight:700}.c31{fill:#b3261e}.c32{fill:#00704f}.c33{fill:#8f5a00}.c36{fill:#0072b2}"
            print "@media (prefers-color-scheme:dark){text{fill:#e8eaed}.paper{fill:#16181b;stroke:#33373d}.c31{fill:#ff8a80}.c32{fill:#1bbf91}.c33{fill:#e69f00}.c36{fill:#56b4e9}}"
            print ".m{visibility:hidden}.z{visibility:visible}"
            printf "@media (prefers-reduced-motion:no-preference){.m{visibility:hidden;animation:%.1fs step-end infinite}\n%s}</style>\n", all * tick, rules
            printf "<rect class=\"paper\" x=\".5\" y=\".5\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n%s</svg>\n", w - 1, h - 1, body
        }' "$1"
}

# names_nothing FILE: ends the script if a picture has something of this machine in it.
names_nothing() {
    local word
    for word in "$(hostname)" "$(id -un)" "${HOME:-/}" "$folder" "$repository" localhost 127.0.0.1; do
        # A word of one letter or two would be found anywhere.
        ((${#word} < 3)) || ! grep -qwF -- "$word" "$1" || die "the picture $1 has '$word' in it"
    done
}

# The script calls itself with this word beside the broker.
if [[ ${1:-} == --record ]]; then
    record "$2" "$3"
    exit
fi
timeline=$repository/src/app/picture/demo.svg screen=$repository/src/app/view/demo.svg
while (($#)); do
    case $1 in
        --into)
            [[ -n ${2:-} ]] || die '--into needs a folder: see --help' 2
            mkdir -p -- "$2"
            timeline=$2/timeline.svg screen=$2/terminal.svg
            shift
            ;;
        -h | --help) help_from_header && exit 0 ;;
        *) die "unknown argument '$1': see --help" 2 ;;
    esac
    shift
done
need_cargo
need_command mosquitto 'on Debian and Ubuntu: apt-get install mosquitto; on macOS: brew install mosquitto'
need_command tmux 'on Debian and Ubuntu: apt-get install tmux; on macOS: brew install tmux'
forget_program_settings
build_program --quiet
folder=$(mktemp -d "${TMPDIR:-/tmp}/picture.XXXXXX") || die 'cannot make a temporary folder: set TMPDIR'
trap 'rm -rf -- "$folder"' EXIT
export STATUS=$folder/status
"$repository/scripts/broker.sh" -- "$repository/scripts/picture.sh" --record "$folder" "$program_file"
grep -q 'session resumed' "$folder/timeline.svg" || die 'the timeline has no room to say "session resumed": try again'
# The broker's port says nothing to anybody.
sed -E -i.as-seen 's/127\.0\.0\.1:[0-9]+/ADDRESS:PORT/g' "$folder/screens"
draw_terminal "$folder/screens" >"$folder/terminal.svg"
names_nothing "$folder/timeline.svg"
names_nothing "$folder/terminal.svg"
cp -- "$folder/timeline.svg" "$timeline"
cp -- "$folder/terminal.svg" "$screen"
printf 'wrote %s and %s\n' "$timeline" "$screen"
