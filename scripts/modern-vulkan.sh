#!/usr/bin/env bash
# Fetches a current shader compiler, Mesa and validation layer beside the system and prints their folder.
#
# Debian 12 and Ubuntu 24.04 ship a glslc that knows no cooperative matrices, a Mesa without them and a
# validation layer that misses most hazards. This script takes glslc, Mesa's llvmpipe, the validation layer,
# spirv-tools and everything they need (C library included) from Debian unstable and unpacks them into a
# cache folder. Nothing is installed, no root is needed, and apt's own state is not touched: lists, cache and
# package status are private to the folder. scripts/modern-run.sh and scripts/glslc.sh run programs from it.
#
# usage: scripts/modern-vulkan.sh [--refresh]     prints the folder; --refresh fetches the newest packages
# environment: VKANDINSKY_MODERN   the folder (default ~/.cache/vkandinsky/modern)
#              VKANDINSKY_MIRROR   Debian mirror (default http://deb.debian.org/debian)
set -euo pipefail

home=${VKANDINSKY_MODERN:-${XDG_CACHE_HOME:-$HOME/.cache}/vkandinsky/modern}
mirror=${VKANDINSKY_MIRROR:-http://deb.debian.org/debian}
packages=(glslc mesa-vulkan-drivers vulkan-validationlayers spirv-tools)
root=$home/root
# Raising the number makes existing caches stale: do so when the package list or the layout changes.
stamp=$home/complete-1

say() { echo "modern-vulkan: $*" >&2; }
die() { say "$*"; exit 1; }

if [ "${1:-}" = --refresh ]; then
	rm -f "$stamp"
elif [ $# -gt 0 ]; then
	die "unknown argument $1 (usage: scripts/modern-vulkan.sh [--refresh])"
fi
if [ -e "$stamp" ]; then
	echo "$root"
	exit 0
fi

for tool in apt-get dpkg flock; do
	command -v "$tool" >/dev/null || die "needs $tool, that is Debian, Ubuntu or a relative of theirs"
done
mkdir -p "$home"
home=$(cd "$home" && pwd)
root=$home/root
stamp=$home/complete-1

# Two callers at once (a parallel build) must not fetch twice or read a half-unpacked folder.
exec 9>"$home/lock"
flock 9
if [ -e "$stamp" ]; then
	echo "$root"
	exit 0
fi

# again runs a command up to four times: mirrors drop connections now and then.
again() {
	local try
	for try in 1 2 3 4; do
		"$@" && return 0
		[ "$try" = 4 ] || { say "try $try of '$1 ${2:-}' failed; again in $((try * 3)) s"; sleep $((try * 3)); }
	done
	return 1
}

# keyring prints the path of Debian's archive keys. Debian has them; Ubuntu has them in the package
# debian-archive-keyring, which is unpacked into the cache after Ubuntu's apt has checked it. Without keys the
# script stops: unpacked programs are run, so they are never taken unsigned.
keyring() {
	local name=usr/share/keyrings/debian-archive-keyring.gpg dir=$home/keyring
	for key in "/$name" "$dir/$name"; do
		[ -s "$key" ] && { echo "$key"; return; }
	done
	say "fetching Debian's archive keys"
	rm -rf "$dir" && mkdir -p "$dir"
	(cd "$dir" && again apt-get -q download debian-archive-keyring) >&2 ||
		die "no Debian archive keys: run 'apt-get update' as root, or install debian-archive-keyring, and try again"
	dpkg -x "$dir"/debian-archive-keyring_*.deb "$dir"
	[ -s "$dir/$name" ] || die "package debian-archive-keyring lacks $name"
	echo "$dir/$name"
}

key=$(keyring)
arch=$(dpkg --print-architecture)
apt=$home/apt
rm -rf "$apt" "$root.new"
mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc/preferences.d,etc/apt.conf.d} "$root.new"
: >"$apt/status"
echo "deb [signed-by=$key arch=$arch] $mirror sid main" >"$apt/etc/sources.list"

# The private apt keeps the system's proxy settings but none of its sources, keys, pins or package status.
# APT::Sandbox::User: as root, apt would drop to _apt, which cannot write into a private cache folder.
cat >"$apt/apt.conf" <<CONF
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
APT::Get::List-Cleanup "false";
Acquire::Retries "3";
Acquire::Languages "none";
Acquire::Check-Valid-Until "true";
CONF

# fetch updates the lists first each time: sid moves, and a list read before a push names files that are gone.
fetch() {
	APT_CONFIG=$apt/apt.conf apt-get -q --error-on=any update &&
		APT_CONFIG=$apt/apt.conf apt-get -q -y --download-only install "${packages[@]}"
}
say "fetching ${packages[*]} from Debian sid into $home (about 80 MB)"
again fetch >"$home/apt.log" 2>&1 || { tail -n 15 "$home/apt.log" >&2; die "cannot fetch the packages; whole log in $home/apt.log"; }

for deb in "$apt"/cache/archives/*.deb; do
	dpkg -x "$deb" "$root.new" || die "cannot unpack $deb"
done

libs=$root.new/usr/lib/$(uname -m)-linux-gnu
[ -x "$root.new/usr/bin/glslc" ] || die "the packages hold no glslc"
ls "$root.new"/usr/share/vulkan/icd.d/lvp_icd*.json >/dev/null || die "the packages hold no llvmpipe driver"
[ -e "$libs/libvulkan.so.1" ] || die "the packages hold no Vulkan loader"
# Programs that open the loader by its development name must not get the system's older one.
ln -sf libvulkan.so.1 "$libs/libvulkan.so"

(cd "$apt/cache/archives" && ls *.deb) >"$home/packages.txt"
rm -rf "$root"
mv "$root.new" "$root"
rm -rf "$apt"
touch "$stamp"
say "ready: $(grep -c . "$home/packages.txt") packages, listed in $home/packages.txt"
echo "$root"
