#!/bin/sh
# Becomes PID 1 of a small machine: systemd in namespaces of its own, on a copy of ROOT that is thrown away (root only).
# Started by booted.py, in a cgroup of its own: unshare --mount --pid --fork --uts --ipc --net --cgroup boot_systemd.sh FOLDER ROOT [SHOWN ...]
set -eu
base=$1
lower=$2
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
root=$base/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$base/upper,workdir=$base/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
node() { mknod -m 666 "$root/dev/$1" c "$2" "$3"; }
node null 1 3
node zero 1 5
node full 1 7
node random 1 8
node urandom 1 9
node tty 5 0
for shown in "$@"; do
    mkdir -p "$root$shown"
    mount --rbind "$shown" "$root$shown"
done
# Only what a service meets: no login, no timers, nobody else's services.
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
rm -f "$root"/etc/systemd/system/*.target.wants/* "$root"/etc/systemd/system/*.service.wants/*
for unit in getty.target systemd-timesyncd.service systemd-udevd.service systemd-udev-trigger.service systemd-resolved.service \
    systemd-networkd.service systemd-update-utmp.service systemd-binfmt.service systemd-sysctl.service rc-local.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
hostname edge-lab
ip link set lo up 2>/dev/null || true
cd "$root"
mkdir -p old
pivot_root . old
umount -l old
rmdir old
# As on a real machine: credentials are mounted from a process of their own.
mount --make-rshared /
exec env -i container=edge-lab PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    /lib/systemd/systemd --log-target=console --log-level=warning --show-status=0
