#!/usr/bin/env bash
# Vets and builds vkandinsky.exe with MinGW and runs it under Wine on the host's software driver: devices, verify on the
# embedded cases, a quick doctor, a short generate in a folder whose name has blanks, Cyrillic letters and more than 260 characters,
# and Ctrl-C. `make wine` installs what it needs first.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-scripts/go.sh}
cross=(env CGO_ENABLED=1 CC=x86_64-w64-mingw32-gcc GOOS=windows GOARCH=amd64)
"${cross[@]}" "$go" vet ./...
"${cross[@]}" "$go" build -o vkandinsky.exe ./cmd/vkandinsky

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() {
	echo "vkandinsky.exe $*"
	timeout 900 scripts/wine.sh vkandinsky.exe "$@" </dev/null
}
fail() { echo "windows: $*" >&2; exit 1; }
# windows PATH prints how Wine's programs see a path of the host.
windows() { printf 'Z:%s' "${1//\//\\}"; }

run devices | tee "$work/devices.txt"
grep -qi llvmpipe "$work/devices.txt" || fail "devices lists no llvmpipe"
run verify
run doctor --quick --quiet | tee "$work/doctor.txt"
grep -q '^ok *kernels' "$work/doctor.txt" || fail "doctor found no kernels in order"

# 280 characters of folders: more than Windows' MAX_PATH.
deep="$work/видео с пробелами"
for i in 1 2 3 4 5; do deep="$deep/папка-с-очень-длинным-именем-для-проверки-путей-$i"; done
mkdir -p "$deep"
run synth --preset tiny --output "$(windows "$deep/модель")"
cp cmd/vkandinsky/testdata/first.png "$deep/первый кадр.png"
# generate NAME ARGUMENTS… makes a clip of one second from the picture.
generate() {
	run generate --config "$(windows "$deep/модель/i2v.yaml")" --prompt "Лиса бежит по снегу." \
		--image "$(windows "$deep/первый кадр.png")" --width 48 --height 32 --video-duration 1 \
		--enable-block-swap --blocks-in-memory 2 --seed 1 --output-filename "$(windows "$deep/$1")" "${@:2}"
}
generate "клип 1.mp4" --sample-steps 2 --contact-sheet "$(windows "$deep/кадры 1.png")"
[ -s "$deep/кадры 1.png" ] || fail "generate left no contact sheet"
frames=$(ffprobe -v error -select_streams v:0 -count_packets -show_entries stream=nb_read_packets -of csv=p=0 "$deep/клип 1.mp4")
[ "${frames%%,*}" = 25 ] || fail "the clip has ${frames:-no} frames, want 25"

# A mistake is exit status 2 and one line, on Windows too.
status=0
run generate --config "$(windows "$deep/нет такого.yaml")" >"$work/mistake.txt" 2>&1 || status=$?
[ "$status" = 2 ] || fail "a missing file gave exit status $status, want 2: $(tail -n 3 "$work/mistake.txt")"

# Ctrl-C ends a run in order: status 130, no half-written file.
generate "прервано.mp4" --sample-steps 500 --on-interrupt discard >"$work/interrupted.txt" 2>&1 &
job=$!
for _ in {1..120}; do
	! grep -q '^denoise' "$work/interrupted.txt" || break
	kill -0 "$job" 2>/dev/null || break
	sleep 1
done
grep -q '^denoise' "$work/interrupted.txt" || fail "the run to interrupt never denoised: $(tail -n 3 "$work/interrupted.txt")"
# Wine shows the program by its own command line and turns SIGINT into a console's Ctrl-C.
program=$(pgrep -nf "^vkandinsky\.exe generate.*$(basename "$work")") || fail "the run to interrupt is gone: $(tail -n 3 "$work/interrupted.txt")"
kill -INT "$program"
status=0
wait "$job" || status=$?
[ "$status" = 130 ] || fail "Ctrl-C gave exit status $status, want 130: $(tail -n 3 "$work/interrupted.txt")"
left=$(find "$deep" -name '*прервано*' -o -name '*.tmp*')
[ -z "$left" ] || fail "Ctrl-C left $left"
echo "vkandinsky.exe: devices, verify, generate, long and Cyrillic paths, a mistake, Ctrl-C"
