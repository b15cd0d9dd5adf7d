#!/usr/bin/env bash
# Builds vkandinsky.exe with MinGW and runs it under Wine on the host's software driver: devices, verify on the embedded
# cases, and a short generate in a folder whose name has blanks, Cyrillic letters and more than 260 characters.
# `make wine` installs what it needs first.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-scripts/go.sh}
CGO_ENABLED=1 CC=x86_64-w64-mingw32-gcc GOOS=windows GOARCH=amd64 "$go" build -o vkandinsky.exe ./cmd/vkandinsky

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

# 280 characters of folders: more than Windows' MAX_PATH.
deep="$work/видео с пробелами"
for i in 1 2 3 4 5; do deep="$deep/папка-с-очень-длинным-именем-для-проверки-путей-$i"; done
mkdir -p "$deep"
run synth --preset demo --output "$(windows "$deep/модель")"
run generate --config "$(windows "$deep/модель/config.yaml")" --checkpoint-dir "$(windows "$deep/модель")" \
	--prompt "Лиса бежит по снегу." --video-duration 0 --sample-steps 2 \
	--enable-block-swap --blocks-in-memory 2 --seed 1 --output-filename "$(windows "$deep/кадр 1.png")"
[ -s "$deep/кадр 1.png" ] || fail "generate left no picture"

# A mistake is exit status 2 and one line, on Windows too.
status=0
run generate --config "$(windows "$deep/нет такого.yaml")" >"$work/mistake.txt" 2>&1 || status=$?
[ "$status" = 2 ] || fail "a missing file gave exit status $status, want 2"

# Ctrl-C ends a run soon, with an error and without a half-written file.
run generate --config "$(windows "$deep/модель/config.yaml")" --checkpoint-dir "$(windows "$deep/модель")" \
	--prompt "Лиса" --video-duration 5 --sample-steps 100 --output-filename "$(windows "$deep/прервано.mp4")" >"$work/interrupted.txt" 2>&1 &
job=$!
sleep 20
# Wine shows the program by its own command line and turns SIGINT into a console's Ctrl-C.
program=$(pgrep -nf "^vkandinsky\.exe generate.*$(basename "$work")") || fail "the run to interrupt is not there: $(cat "$work/interrupted.txt")"
kill -INT "$program"
status=0
wait "$job" || status=$?
case $status in 0 | 124) fail "Ctrl-C gave exit status $status: $(tail -n 3 "$work/interrupted.txt")" ;; esac
[ -z "$(find "$deep" -name 'прервано*' -o -name '*.tmp*')" ] || fail "Ctrl-C left $(ls "$deep")"
echo "vkandinsky.exe: devices, verify, generate, long and Cyrillic paths, Ctrl-C"
