#!/usr/bin/env bash
# Fetches a current shader compiler, Mesa and validation layer beside the system and prints their folder.
#
# Debian 12 and Ubuntu 24.04 ship a glslc that knows no cooperative matrices, a Mesa without them and a validation
# layer that misses most hazards. This takes glslc, Mesa's llvmpipe, the validation layer, spirv-tools and everything
# they need, C library included, from Debian unstable (about 80 MB) and unpacks them into a cache folder without root;
# scripts/fetch-sid.sh does the fetching. scripts/modern-run.sh and scripts/glslc.sh run programs from there.
#
# usage: scripts/modern-vulkan.sh [--refresh]     prints the folder; --refresh fetches the newest packages
# environment: VKANDINSKY_MODERN   the cache folder (default ~/.cache/vkandinsky/modern)
set -euo pipefail

home=${VKANDINSKY_MODERN:-${XDG_CACHE_HOME:-$HOME/.cache}/vkandinsky/modern}
case ${1:-} in
"") ;;
--refresh) rm -f "$home/complete" ;;
*) echo "modern-vulkan: unknown argument $1 (usage: scripts/modern-vulkan.sh [--refresh])" >&2; exit 2 ;;
esac

root=$("$(dirname "$0")/fetch-sid.sh" "$home" glslc mesa-vulkan-drivers vulkan-validationlayers spirv-tools)
libs=$root/usr/lib/$(uname -m)-linux-gnu
for file in "$root/usr/bin/glslc" "$root"/usr/share/vulkan/icd.d/lvp_icd*.json "$libs/libvulkan.so.1" \
	"$root/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json"; do
	[ -e "$file" ] || { echo "modern-vulkan: the packages hold no $file" >&2; exit 1; }
done
# Programs that open the loader by its development name must not get the system's older one.
[ -e "$libs/libvulkan.so" ] || ln -sf libvulkan.so.1 "$libs/libvulkan.so"
# LLVM looks for its libraries in $ORIGIN/../lib first and would then take the system's older ones.
[ -e "$root/usr/lib/lib" ] || ln -sfn "$(basename "$libs")" "$root/usr/lib/lib"
echo "$root"
