#!/usr/bin/env bash
# Runs a current glslc (cooperative matrices, bfloat16) on systems whose own is older.
# usage: scripts/glslc.sh GLSLC-ARGUMENTS…
set -euo pipefail
root=$("$(dirname "$0")/modern-vulkan.sh")
for loader in "$root"/usr/lib64/ld-linux-*.so.* "$root"/usr/lib/ld-linux-*.so.*; do
	[ -e "$loader" ] && exec "$loader" --library-path "$root/usr/lib/$(uname -m)-linux-gnu" "$root/usr/bin/glslc" "$@"
done
echo "glslc: no dynamic loader in $root; run scripts/modern-vulkan.sh --refresh" >&2
exit 1
