#!/usr/bin/env bash
# Runs a Go 1.26 or newer: the one on PATH, or one unpacked from Debian unstable beside the system.
#
# Debian 12's own Go (1.19) is too old even to fetch another toolchain by itself. Debian's Go programs are linked
# statically, so a newer release's run on an older system; scripts/fetch-sid.sh does the fetching (about 60 MB).
#
# usage: scripts/go.sh GO-ARGUMENTS…
set -euo pipefail

# recent GO tells whether a go command is 1.26 or newer. GOTOOLCHAIN=local: what is here counts, not what it could fetch.
recent() {
	local version
	version=$(cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
	[[ $version =~ ^go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 26 ]
}

# start GO ARGUMENTS… puts GO first on PATH, for the programs that call go in turn.
start() {
	PATH=$(dirname "$1"):$PATH exec "$@"
}

for go in "$(command -v go || true)" /usr/local/go/bin/go; do
	[ -z "$go" ] || ! recent "$go" || start "$go" "$@"
done
home=${XDG_CACHE_HOME:-$HOME/.cache}/vkandinsky/go
fetch=$(dirname "$0")/fetch-sid.sh
# The release series this was written for; when unstable has dropped it, the newest.
root=$("$fetch" "$home" golang-1.26-go) || root=$("$fetch" "$home" golang-go)
for go in "$root"/usr/lib/go-1.*/bin/go; do
	! recent "$go" || start "$go" "$@"
done
echo "go: no Go 1.26 or newer on PATH, and none in $root" >&2
exit 1
