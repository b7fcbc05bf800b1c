#!/bin/sh
# Installs Debian's RabbitMQ for the tests, and does not let it start: the tests start servers of their own.
set -eu
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "The tests need RabbitMQ 3.10 or later in /usr/lib/rabbitmq, and cannot install it here." >&2
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
apt-get install -qq --yes --no-install-recommends rabbitmq-server >/dev/null
