#!/usr/bin/env bash
# Fetches packages of Debian unstable, with all they depend on, and unpacks them into a folder beside the system.
#
# Nothing is installed, no root is needed, and apt's own state is not touched: lists, cache and package status are
# private and temporary. What is unpacked is a tree like /, in FOLDER/root; FOLDER/packages.txt lists the packages.
# A folder that is complete for the same packages is left alone, so calling it again costs milliseconds.
#
# usage: scripts/fetch-sid.sh FOLDER PACKAGE…           prints FOLDER/root
# environment: VKANDINSKY_MIRROR   Debian mirror (default http://deb.debian.org/debian)
set -euo pipefail

say() { echo "fetch-sid: $*" >&2; }
die() { say "$*"; exit 1; }

[ $# -ge 2 ] || die "usage: scripts/fetch-sid.sh FOLDER PACKAGE…"
mkdir -p "$1"
home=$(cd "$1" && pwd)
shift
packages=("$@")
mirror=${VKANDINSKY_MIRROR:-http://deb.debian.org/debian}
root=$home/root

complete() { [ "$(cat "$home/complete" 2>/dev/null)" = "${packages[*]}" ]; }
if complete; then
	echo "$root"
	exit 0
fi
for tool in apt-get dpkg flock; do
	command -v "$tool" >/dev/null || die "needs $tool, that is Debian, Ubuntu or a relative of theirs"
done

# Two callers at once (a parallel build) must not fetch twice or read a half-unpacked folder.
exec 9>"$home/lock"
flock 9
if complete; then
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
# debian-archive-keyring, which is unpacked into the folder after Ubuntu's apt has checked it. Without keys the
# script stops: unpacked programs are run, so they are never taken unsigned.
keyring() {
	local name=usr/share/keyrings/debian-archive-keyring.gpg dir=$home/keyring key
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
mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc} "$root.new"
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
Acquire::Retries "3";
Acquire::Languages "none";
CONF

# update reads the lists. A mirror that has stood still past its lists' date is used all the same: apt checks their
# signature either way, they are only old.
update() {
	local run=(env "APT_CONFIG=$apt/apt.conf" apt-get -q --error-on=any) status=0
	"${run[@]}" update >"$apt/update.log" 2>&1 || status=$?
	cat "$apt/update.log"
	if [ "$status" = 0 ] || ! grep -q 'is expired' "$apt/update.log"; then
		return "$status"
	fi
	say "the mirror's lists are out of date"
	"${run[@]}" -o Acquire::Check-Valid-Until=false update
}
# fetch updates the lists each time: sid moves, and a list read before a push names files that are gone.
fetch() {
	update && APT_CONFIG=$apt/apt.conf apt-get -q -y --download-only install "${packages[@]}"
}
say "fetching ${packages[*]} from Debian sid into $home"
again fetch >"$home/apt.log" 2>&1 || { tail -n 15 "$home/apt.log" >&2; die "cannot fetch the packages; whole log in $home/apt.log"; }
for deb in "$apt"/cache/archives/*.deb; do
	dpkg -x "$deb" "$root.new" || die "cannot unpack $deb"
done
(cd "$apt/cache/archives" && ls -- *.deb) >"$home/packages.txt"
rm -rf "$root" "$home/complete"
mv "$root.new" "$root"
echo "${packages[*]}" >"$home/complete"
rm -rf "$apt"
say "ready: $(grep -c . "$home/packages.txt") packages, listed in $home/packages.txt"
echo "$root"
