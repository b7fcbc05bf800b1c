#!/bin/sh
# Installs packages of Debian for the tests: `tests/install.sh PATH PACKAGE …`, if there is nothing at PATH yet.
# It does not let servers start: the tests start servers of their own.
set -eu
path=$1
shift
test -x "$path" && exit
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "The tests need $path, of Debian's $1, and cannot install it here." >&2
	echo "On Debian or Ubuntu: sudo make servers. Elsewhere: run the tests in a container of debian:12." >&2
	exit 1
fi
policy=/usr/sbin/policy-rc.d
if ! test -e $policy; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
