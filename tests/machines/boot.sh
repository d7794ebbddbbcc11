#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Second half: PID 1 of the machine makes its file system, moves into it and becomes systemd.
# boot.sh ROOT HOSTNAME FILES [LAYER...]: FILES (a folder) is copied over the root first.
set -eu
root=$1 name=$2 files=$3
shift 3
lower=$root
for layer in "$@"; do lower=$layer:$lower; done

# What a machine writes lies in memory of this mount namespace: nothing can be left over.
mount -t tmpfs -o size=4g,mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$lower,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cp -a "$files/." /mnt/root/
cd /mnt/root

# Of the kernel's settings only those of its own network are the machine's business.
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
	touch "dev/$device"
	mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

hostname "$name"
mkdir -p .old
pivot_root . .old
exec env -i container=galelb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	sh -c 'umount -l /.old; rmdir /.old; exec /lib/systemd/systemd --log-target=journal --show-status=no'
