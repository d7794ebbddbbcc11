/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Any version that has XDP fragments; programs for packets are not bound to a kernel version. */
#ifndef GALELB_KERNEL_VERSION_H
#define GALELB_KERNEL_VERSION_H

#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 18, 0)

#endif
