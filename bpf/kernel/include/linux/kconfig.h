/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a kernel configuration would say; clang is told to read this before anything else. */
#ifndef GALELB_KERNEL_KCONFIG_H
#define GALELB_KERNEL_KCONFIG_H

#define CONFIG_64BIT 1
#define CONFIG_BPF_SYSCALL 1

#include <linux/types.h>

#endif
