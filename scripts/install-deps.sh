#!/usr/bin/env bash
# Installs, with apt, those of the wanted system packages that are missing. Does nothing, and needs no root, when
# all are there; otherwise it runs apt-get as root or through sudo.
#
# usage: scripts/install-deps.sh GROUP…
#   build    C compiler and headers, for cgo
#   vulkan   Vulkan loader and Mesa's software driver
#   test     the Khronos validation layer
#   media    ffmpeg, for H.264
#   windows  MinGW cross compiler, Wine and a virtual X display
set -euo pipefail

wanted=()
for group in "$@"; do
	case $group in
	build) wanted+=(gcc libc6-dev ca-certificates) ;;
	vulkan) wanted+=(libvulkan1 mesa-vulkan-drivers) ;;
	test) wanted+=(vulkan-validationlayers) ;;
	media) wanted+=(ffmpeg) ;;
	windows) wanted+=(gcc-mingw-w64-x86-64-win32 wine wine64 xvfb xauth) ;;
	*) echo "install-deps: unknown group $group" >&2; exit 2 ;;
	esac
done

if ! command -v dpkg-query >/dev/null; then
	echo "install-deps: not a Debian-like system; make sure these are installed: ${wanted[*]}" >&2
	exit 0
fi

missing=()
for package in "${wanted[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "install-deps: needs root to install ${missing[*]}" >&2; exit 1; }
	root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# run shows apt's talk only when it fails, and tries again: mirrors drop connections now and then.
run() {
	local try
	for try in 1 2 3; do
		"${root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 </dev/null && return 0
		sleep $((try * 3))
	done
	tail -n 20 "$log" >&2
	echo "install-deps: '$*' failed" >&2
	return 1
}
echo "installing ${missing[*]}"
run apt-get -q update
run apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "${missing[@]}"
