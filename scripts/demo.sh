#!/usr/bin/env bash
# Makes demo.mp4, a short image-to-video clip of a small random-weight model with block swapping on, and demo.png, a
# contact sheet of its frames. `make demo` installs and builds what it needs first.
#
# The weights are noise and so is the picture: what the demo shows is the whole road, from a checkpoint in the published
# layout to a video, with two of the transformer's blocks on the device at a time.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-scripts/go.sh}
mkdir -p demo
"$go" build -o vkandinsky ./cmd/vkandinsky
[ -e demo/checkpoint/i2v.yaml ] || ./vkandinsky synth --preset demo --output demo/checkpoint
ffmpeg -hide_banner -loglevel error -y -f lavfi -i mandelbrot=size=256x192:rate=1 -frames:v 1 demo/first.png

./vkandinsky generate \
	--config demo/checkpoint/i2v.yaml --prompt "A red fox runs through deep snow." --image demo/first.png \
	--width 128 --height 96 --video-duration 1 --enable-block-swap --blocks-in-memory 2 --seed 1 --stats \
	--output-filename demo.mp4 --contact-sheet demo.png

frames=$(ffprobe -v error -select_streams v:0 -count_packets -show_entries stream=nb_read_packets -of csv=p=0 demo.mp4)
frames=${frames%%,*}
[ "$frames" = 25 ] || { echo "demo: demo.mp4 has $frames frames, want 25" >&2; exit 1; }
echo "demo.mp4: $frames frames; demo.png: a contact sheet of them"
