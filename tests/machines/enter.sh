#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First half of a machine's start: a place among the control groups, then namespaces of its own.
# enter.sh CGROUP BOOT... : runs in the machine's network namespace and in a private mount namespace.
set -eu
cgroup=$1
shift

# The mounts of this half vanish with the mount namespace; the cgroup is removed by who stops the machine.
mount -t tmpfs tmpfs /mnt
mkdir /mnt/cgroup
mount -t cgroup2 cgroup2 /mnt/cgroup
mkdir "/mnt/cgroup/$cgroup"
echo $$ >"/mnt/cgroup/$cgroup/cgroup.procs"

# --kill-child: when this process is killed, so is PID 1 of the machine, and with it all that runs there.
exec unshare --mount --propagation private --pid --fork --kill-child --uts --ipc --cgroup -- "$@"
