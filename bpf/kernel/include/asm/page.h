/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bcc's ring buffers and perf buffers count pages. */
#ifndef GALELB_KERNEL_PAGE_H
#define GALELB_KERNEL_PAGE_H

#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)

#endif
