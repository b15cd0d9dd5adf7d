#!/usr/bin/env bash
# Runs a program on a current Mesa llvmpipe with a current validation layer beside it, both out of the folder
# that scripts/modern-vulkan.sh fills, whatever the system has installed. The program itself may be built on
# the older system: it is started by the newer C library's loader.
#
# usage: scripts/modern-run.sh PROGRAM ARGUMENTS…    a program built already
#        scripts/modern-run.sh go test ./…           what Go builds inside runs there, and so do its children
#
# A program started the first way finds the loader, not itself, behind /proc/self/exe, and those it starts in
# turn run on the system's C library, where the newer driver cannot be loaded. What `go` builds under this
# script names the newer loader and libraries in its own header, so it has neither problem: for tests, take it.
set -euo pipefail
root=$("$(dirname "$0")/modern-vulkan.sh")
libs=$root/usr/lib/$(uname -m)-linux-gnu
loader=
for candidate in "$root"/usr/lib64/ld-linux-*.so.* "$root"/usr/lib/ld-linux-*.so.*; do
	[ -e "$candidate" ] && loader=$candidate && break
done
[ -n "$loader" ] || { echo "modern-run: no dynamic loader in $root; run scripts/modern-vulkan.sh --refresh" >&2; exit 1; }
[ $# -gt 0 ] || { echo "usage: $0 PROGRAM ARGUMENTS…" >&2; exit 2; }

program=$(command -v "$1") || { echo "modern-run: no program $1" >&2; exit 127; }
shift
drivers=("$root"/usr/share/vulkan/icd.d/lvp_icd*.json)
export VK_DRIVER_FILES=${drivers[0]}
export VK_LAYER_PATH=$root/usr/share/vulkan/explicit_layer.d
unset VK_ICD_FILENAMES VK_ADD_DRIVER_FILES VK_ADD_LAYER_PATH
export CGO_LDFLAGS="${CGO_LDFLAGS:-} -Wl,--dynamic-linker=$loader -Wl,--disable-new-dtags -Wl,-rpath,$libs"
[ "$(basename "$program")" != go ] || exec "$program" "$@"
# Scripts and static programs (a Go test without cgo) have no use for a loader, and the loader would refuse them.
"$loader" --verify "$program" >/dev/null 2>&1 || exec "$program" "$@"
exec "$loader" --library-path "$libs" --argv0 "$program" "$program" "$@"
