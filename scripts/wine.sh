#!/usr/bin/env bash
# Runs a Windows program under Wine, on a virtual X display, with the host's Vulkan drivers.
#
# The Wine prefix is private (~/.cache/vkandinsky/wine) and made on first use. Paths in arguments are Windows paths;
# Z:\ is the host's /.
#
# usage: scripts/wine.sh PROGRAM.exe ARGUMENTS…
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: scripts/wine.sh PROGRAM.exe ARGUMENTS…" >&2; exit 2; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vkandinsky
export WINEPREFIX=${WINEPREFIX:-$cache/wine} WINEARCH=win64
export WINEDEBUG=${WINEDEBUG:--all}
# File names pass through the locale: without UTF-8, Cyrillic ones are lost.
export LC_ALL=C.UTF-8
# No Gecko or Mono: Wine would ask to download them.
export WINEDLLOVERRIDES="mscoree=;mshtml=;winemenubuilder.exe="

mkdir -p "$cache"
log=$cache/wine.log
# Debian's /usr/bin/wine prints a note about 32-bit programs each time; the loader behind it does not.
wine=$(command -v wine64 || true)
[ -n "$wine" ] || { [ -x /usr/lib/wine/wine64 ] && wine=/usr/lib/wine/wine64; } || wine=wine
xvfb=(xvfb-run -a -e "$log" -s "-screen 0 640x480x24")

system32=$WINEPREFIX/drive_c/windows/system32
if [ ! -e "$WINEPREFIX/ready" ]; then
	exec 9>"$cache/wine.lock"
	flock 9
	if [ ! -e "$WINEPREFIX/ready" ]; then
		"${xvfb[@]}" "$wine" wineboot --init >"$log" 2>&1 || { tail -n 20 "$log" >&2; echo "wine: cannot make $WINEPREFIX" >&2; exit 1; }
		if [ ! -e "$system32/bcryptprimitives.dll" ]; then
			x86_64-w64-mingw32-gcc -O2 -shared -o "$system32/bcryptprimitives.dll" "$(dirname "$0")/wine/bcryptprimitives.c" -ladvapi32
		fi
		touch "$WINEPREFIX/ready"
	fi
	flock -u 9
	exec 9>&-
fi
# Wine's desktop process outlives the program by a second and complains when the display goes.
exec "${xvfb[@]}" "$wine" "$@" 2> >(grep --line-buffered -v '^X connection to :' >&2)
