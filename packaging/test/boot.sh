#!/usr/bin/env bash
# Boots the system in the directory ROOT: becomes its process 1. Has to be the first process of new mount, pid, cgroup,
# uts, ipc and network namespaces; see systemd.sh.
set -euo pipefail

root=$1

mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for dir in run tmp dev; do
	mount -t tmpfs -o mode=0755 "$dir" "$root/$dir"
done
chmod 1777 "$root/tmp"
for node in null zero full random urandom tty; do
	touch "$root/dev/$node"
	mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

hostname perdure-test
cd "$root"
mkdir -p .outside
pivot_root . .outside
umount --lazy .outside
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	/usr/lib/systemd/systemd --system --unit=multi-user.target </dev/null >/dev/null 2>&1
