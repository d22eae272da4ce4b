#!/usr/bin/env bash
# Installs the Debian package in a system that a real systemd runs, and does to it what happens to a service: kills,
# a hang, an upgrade, stops, reboots, removal. Through all of it a counting program has to go on.
#
#   bash packaging/test/systemd.sh [PACKAGE.deb]     (default: the newest in build/)
#
# Needs root, debootstrap and dpkg-deb. The system is Debian, made once in ${XDG_CACHE_HOME:-/var/cache}/perdure-test and copied
# for each run; it has no network.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-/var/cache}/perdure-test
suite=trixie
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
log=/var/log/perdure/counter.log # in the system

deb=${1:-$(find "$top/build" -maxdepth 1 -name 'perdure_*.deb' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)}
[ -f "$deb" ] || { echo 'no package: run "make deb" first' >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || { echo 'this test needs root' >&2; exit 2; }

work='' root='' init='' group='' client=''

# ---- the system

make_system() {
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
	if [ ! -d "$cache/$suite" ]; then
		echo "making a $suite system in $cache"
		rm -rf "$cache/$suite.part"
		debootstrap --variant=minbase --include=systemd,dbus,iproute2,procps "$suite" "$cache/$suite.part" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
			{ tail -n 20 "$cache/debootstrap.log" >&2; return 1; }
		rm -rf "$cache/$suite.part"/var/cache/apt/archives/*.deb
		mv "$cache/$suite.part" "$cache/$suite"
	fi
	work=$(mktemp -d "$cache/run.XXXXXX")
	root=$work/root
	cp -a --reflink=auto "$cache/$suite" "$root"
	flock -u 9
}

# boot starts the system. Its process 1, as seen from outside, is in $init.
boot() {
	# In a control group of its own, so that it sees nothing of ours.
	local mount
	mount=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	group=$mount/perdure-test.$$
	mkdir -p "$group"
	setsid bash -c 'echo $$ >"$0/cgroup.procs" && exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --net \
		--propagation private bash "$1" "$2"' "$group" "$here/boot.sh" "$root" 2>>"$work/boot.log" &
	unshare=$!
	init=
	within 120 'init=$(cat /proc/$unshare/task/$unshare/children) && [ -n "$init" ]' "the namespaces"
	init=${init%% *}
	# A group with processes of its own could not share out its controllers.
	within 120 "[ \"\$(cat /proc/$init/comm)\" = systemd ]" 'process 1'
	echo "$unshare" >"$mount/cgroup.procs"
	within 120 up 'the system'
}

# up reports whether the system has booted. "Degraded" it is where the kernel's modules cannot be loaded.
up() {
	case $(inside systemctl is-system-running 2>&1 || true) in
	running | degraded) ;;
	*) return 1 ;;
	esac
}

# kill_all ends all processes of the system at once.
kill_all() {
	kill -KILL "$init"
	wait "$unshare" 2>/dev/null || true
	init=
}

# inside runs a command in the system.
inside() {
	nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root --wd=/ \
		env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"
}

end() {
	local status=$?
	if [ "$status" -ne 0 ]; then
		echo "FAILED: $step"
		if [ -f "$work/boot.log" ]; then cat "$work/boot.log"; fi
		if [ -n "$init" ]; then
			inside systemctl --no-pager --full status perdure.service perdure.socket perdure-keeper.service || true
			inside journalctl --no-pager --boot --lines=60 --unit=perdure.service --unit=perdure-keeper.service || true
			inside perdure ps || true
		fi
	fi
	if [ -n "$client" ]; then kill "$client" 2>/dev/null || true; fi
	if [ -n "$init" ]; then kill_all; fi
	if [ -n "$group" ]; then find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true; fi
	if [ -n "$work" ]; then rm -rf "$work"; fi
	exit "$status"
}
trap end EXIT

# ---- what is looked at

step=
step() {
	step=$1
	printf '%4d s  %s\n' "$SECONDS" "$step"
}

# within SECONDS CONDITION WHAT waits until a condition holds.
within() {
	local deadline=$((SECONDS + $1))
	until eval "$2"; do
		if ((SECONDS >= deadline)); then
			echo "after $1 s still not: $3" >&2
			return 1
		fi
		sleep 0.1
	done
}

# field PROPERTY of the service, as systemd sees it.
field() { inside systemctl show --property="$1" --value perdure.service; }

# of KEY prints what the daemon says of the counter: the value of a key of perdure ps --json.
of() { inside perdure ps --json | tr ',{}' '\n' | sed -n "s/^ *\"$1\": *\"\?\([^\"]*\)\"\?\$/\1/p" | head -n 1; }

worker() {
	local pid
	pid=$(of pid)
	[ -n "$pid" ] && [ "$pid" != 0 ] && echo "$pid"
}

count() { tail -n 1 "$root$log"; }

# goes_on waits until the counter is well beyond what it was.
goes_on() {
	local from=$1
	within 120 "[ \"\$(count)\" -gt $((from + 10)) ] 2>/dev/null" "the counter is beyond $from"
}

active() { inside systemctl --quiet is-active perdure.service; }

# another_daemon waits until the daemon is not the process that it was.
another_daemon() {
	local old=$1
	within 120 "active && [ \"\$(field MainPID)\" != $old ] && inside perdure ps >/dev/null" 'another daemon serves'
}

same_worker() {
	[ "$(worker)" = "$1" ] || { echo "the worker is $(worker), it was $1" >&2; return 1; }
}

# no_process wants nothing to be left but the keeper, which holds connections over a stop.
no_process() {
	within 60 '! inside pgrep -u perdure --list-full | grep -v "perdure keeper "' 'no process is left'
}

no_keeper() {
	within 60 '! inside pgrep -u perdure --list-full' 'the keeper is gone'
}

# talk opens a connection to the server and keeps it busy: each line has to come back. The client ends with the first one
# that does not.
talk() {
	inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/7000
		for ((n = 1; ; n++)); do
			echo "line $n" >&3 && read -r -t 60 -u 3 line && [ "$line" = "line $n" ] || { echo "line $n: $line" >/srv/client.failed; exit 1; }
			echo "$n" >/srv/client.count
			sleep 0.05
		done' &
	client=$!
	talks
}

# talks wants the one connection to go on.
talks() {
	local from
	from=$(cat "$root/srv/client.count" 2>/dev/null || echo 0)
	within 90 "[ -e $root/srv/client.failed ] || [ \"\$(cat $root/srv/client.count 2>/dev/null)\" -gt $((from + 5)) ] 2>/dev/null" 'the connection goes on'
	if [ -e "$root/srv/client.failed" ]; then
		echo "the connection did not go on: $(cat "$root/srv/client.failed")" >&2
		return 1
	fi
}

# hush ends the client.
hush() {
	kill "$client"
	wait "$client" 2>/dev/null || true
	client=
}

# steady N looks at all that the counter ever wrote: it counts without a gap, and falls back, to a generation, at most N
# times; never to the beginning.
steady() {
	awk -v most="$1" '
		NR == 1 && $1 != 1 { print "it began with " $1; bad = 1 }
		NR > 1 && $1 != last + 1 {
			if ($1 > last || $1 == 1) { print "line " NR ": " $1 " after " last; bad = 1 }
			back++
		}
		{ last = $1 }
		END {
			if (back > most) { print "it fell back " back " times, at most " most " are to be expected"; bad = 1 }
			print "        counted to " last " in " NR " lines, fell back " back + 0 " times"
			exit bad
		}' "$root$log"
}

# ---- the test

step 'make the system and two versions of the package'
make_system
cp "$deb" "$root/srv/one.deb"
dpkg-deb --raw-extract "$deb" "$work/two"
version=$(sed -n 's/^Version: //p' "$work/two/DEBIAN/control")
sed -i "s/^Version: .*/Version: $version+1/" "$work/two/DEBIAN/control"
dpkg-deb --root-owner-group --build -Znone "$work/two" "$root/srv/two.deb" >/dev/null
cp "$top/testdata/guests/counter.wasm" "$top/testdata/guests/server.wasm" "$root/srv/"

step 'boot'
boot

step 'install: the daemon runs, is enabled, and has its user'
inside apt-get install -y -q /srv/one.deb >"$work/install.log" 2>&1 || { cat "$work/install.log" >&2; exit 1; }
within 120 active 'the service is active'
inside systemctl --quiet is-enabled perdure.service perdure.socket perdure-keeper.service
inside systemctl --quiet is-active perdure.socket perdure-keeper.service
inside id perdure >/dev/null
inside perdure ps >/dev/null
[ "$(inside stat -c '%U %a' /var/lib/perdure)" = 'perdure 700' ]
if inside setpriv --reuid=nobody --clear-groups perdure ps --socket /run/perdure/perdure.sock 2>/dev/null; then
	echo 'anybody may give commands' >&2
	exit 1
fi

step 'a program that is dropped into the folder runs'
echo 'args = ["20"]' >"$root/srv/counter.toml"
inside cp /srv/counter.toml /srv/counter.wasm /var/lib/perdure/modules/
within 120 '[ -s "$root$log" ]' 'the counter has written something'
goes_on 1
[ "$(inside perdure logs counter | head -n 3 | tr '\n' ' ')" = '1 2 3 ' ]
pid=$(worker)
inside perdure inspect counter | sed 's/^/        /; s/ *$//'
if [ "$(printf '%s\n' 6.7 "$(uname -r)" | sort -V | head -n 1)" = 6.7 ]; then # with what the kernel needs beside it
	inside ls -l "/proc/$pid/fd" | grep -q userfaultfd || { echo 'the unit does not let the worker have userfaultfd' >&2; exit 1; }
fi

step 'a connection to a program goes on over kill -9 of its worker'
echo 'listen = ["tcp://127.0.0.1:7000"]' >"$root/srv/server.toml"
inside cp /srv/server.toml /srv/server.wasm /var/lib/perdure/modules/
within 120 'inside bash -c "exec 3<>/dev/tcp/127.0.0.1/7000" 2>/dev/null' 'the server listens'
talk
server=$(inside perdure inspect server --json | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p' | head -n 1)
inside kill -KILL "$server"
talks
within 60 'inside perdure inspect server | grep -q "at the last restore 2 went on, 0 were lost, 0 reset"' 'perdure inspect shows the sockets'

step 'the keeper of the connections is restarted, executed anew, and killed'
for how in restart reload restart; do
	inside perdure stop server
	inside systemctl "$how" perdure-keeper.service
	inside perdure start server
	talks
done
inside systemctl kill --kill-whom=main --signal=KILL perdure-keeper.service
talks
inside perdure restart server
talks

step 'kill -9 of the daemon: the next one adopts the worker'
daemon=$(field MainPID)
inside kill -KILL "$daemon"
another_daemon "$daemon"
same_worker "$pid"
goes_on "$(count)"
talks
[ "$(of restarts)" = 0 ]

step 'reload: the worker runs on, and so does the daemon'
daemon=$(field MainPID)
inside sed -i 's/^settle = .*/settle = "150ms"/' /etc/perdure/perdure.toml
inside systemctl reload perdure
goes_on "$(count)"
same_worker "$pid"
[ "$(field MainPID)" = "$daemon" ]

step 'a new version: its daemon adopts the worker, the changed configuration stays'
inside apt-get install -y -q /srv/two.deb >"$work/upgrade.log" 2>&1 || { cat "$work/upgrade.log" >&2; exit 1; }
[ "$(inside dpkg-query --show --showformat '${Version}' perdure)" = "$version+1" ]
another_daemon "$daemon"
same_worker "$pid"
goes_on "$(count)"
inside grep -q '^settle = "150ms"' /etc/perdure/perdure.toml
talks
inside systemctl is-active --quiet perdure-keeper.service
inside systemctl restart perdure.service
talks
pid=$(worker)
steady 0

# asked PATH prints what the daemon answers where it serves metrics.
asked() {
	inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/9464 && printf "GET %s HTTP/1.0\r\n\r\n" "$0" >&3 && cat <&3' "$1" 2>/dev/null
}

step 'stop: suspended, nothing is left; start: it goes on with the next number'
inside systemctl stop perdure.socket perdure.service
[ "$(field Result)" = success ]
no_process
before=$(count)
inside mkdir -p /etc/systemd/system/perdure.service.d
printf '[Service]\nWatchdogSec=10\n' >"$root/etc/systemd/system/perdure.service.d/watchdog.conf"
inside sed -i 's/^metrics_listen = .*/metrics_listen = "127.0.0.1:9464"/' /etc/perdure/perdure.toml
inside systemctl daemon-reload
inside systemctl start perdure.service
within 60 'asked /readyz | grep -q "^HTTP/1.0 200"' 'ready'
within 60 'asked /metrics | grep "^perdure_process_generation{process=\"counter\"} [1-9]" >/dev/null' 'the metrics have the counter'
goes_on "$before"
[ "$(worker)" != "$pid" ]
talks
hush
steady 0

step 'a daemon that hangs is killed by the watchdog; the worker runs on'
pid=$(worker)
daemon=$(field MainPID)
inside kill -STOP "$daemon"
another_daemon "$daemon"
same_worker "$pid"
goes_on "$(count)"
steady 0

step 'kill -9 of the worker: restored from the newest generation'
inside kill -KILL "$pid"
within 120 'new=$(worker) && [ "$new" != "$pid" ]' 'another worker'
goes_on "$(count)"
steady 1

step 'an orderly reboot: it goes on with the next number'
inside systemctl poweroff 2>/dev/null || true # the system may be faster than its answer
within 120 '! kill -0 "$unshare" 2>/dev/null' 'the system has ended'
init=
before=$(count)
boot
within 120 active 'the service is active'
goes_on "$before"
steady 1

step 'all processes are killed at once, and the system boots again'
kill_all
before=$(count)
boot
within 120 active 'the service is active'
goes_on "$before"
steady 2

step 'remove: suspended, what was saved stays'
inside apt-get remove -y -q perdure >"$work/remove.log" 2>&1 || { cat "$work/remove.log" >&2; exit 1; }
no_keeper
before=$(count)
inside test -d /var/lib/perdure/counter
inside test -f /etc/perdure/perdure.toml
if active; then exit 1; fi

step 'install again: it goes on with the next number'
inside apt-get install -y -q /srv/two.deb >"$work/again.log" 2>&1 || { cat "$work/again.log" >&2; exit 1; }
within 120 active 'the service is active'
goes_on "$before"
steady 2

step 'purge: nothing stays'
inside apt-get purge -y -q perdure >"$work/purge.log" 2>&1 || { cat "$work/purge.log" >&2; exit 1; }
no_keeper
for path in /var/lib/perdure /var/log/perdure /var/cache/perdure /run/perdure /etc/perdure/perdure.toml /usr/bin/perdure; do
	if inside test -e "$path"; then
		echo "$path is still there" >&2
		exit 1
	fi
done

step 'all went well'
