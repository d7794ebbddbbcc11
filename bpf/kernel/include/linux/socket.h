/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Address families, for bpf_fib_lookup. */
#ifndef GALELB_KERNEL_SOCKET_H
#define GALELB_KERNEL_SOCKET_H

#define AF_INET 2
#define AF_INET6 10

#endif
