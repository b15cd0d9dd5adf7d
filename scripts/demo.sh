#!/usr/bin/env bash
# Makes demo.mp4, one second in which a red circle moves to the right, and demo.png, a contact sheet of its frames, with
# the small trained model that is inside the program. `make demo` installs and builds what it needs first.
#
# Two of the transformer's eight visual blocks are on the device at a time: the others wait in host memory.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-scripts/go.sh}
"$go" build -o vkandinsky ./cmd/vkandinsky
./vkandinsky generate --prompt "a red circle moves to the right" --blocks-in-memory 2 --stats \
	--output-filename demo.mp4 --contact-sheet demo.png

frames=$(ffprobe -v error -select_streams v:0 -count_packets -show_entries stream=nb_read_packets -of csv=p=0 demo.mp4)
frames=${frames%%,*}
[ "$frames" = 25 ] || { echo "demo: demo.mp4 has $frames frames, want 25" >&2; exit 1; }
echo "demo.mp4: $frames frames; demo.png: a contact sheet of them"
