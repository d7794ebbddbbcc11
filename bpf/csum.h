/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Internet checksum arithmetic (RFC 1624), on words as they lie in the packet. */
#ifndef GALELB_CSUM_H
#define GALELB_CSUM_H

/* Add to a sum what replacing one 32-bit word by another changes. */
static __always_inline u64 gale_sum_replace(u64 sum, u32 from, u32 to)
{
	return sum + (u32)~from + to;
}

static __always_inline u64 gale_sum_words(u32 *words, u32 count)
{
	u64 sum = 0;
	u32 i;

#pragma unroll
	for (i = 0; i < count; i++)
		sum += words[i];
	return sum;
}

/* 32 bits in one's complement from a sum of at most 2^16 words. */
static __always_inline u32 gale_fold32(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return sum;
}

/* 16 bits in one's complement from a sum below 2^40: over a hundred words of 32 bits. */
static __always_inline u16 gale_fold16(u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The checksum after the changes summed up in `diff`. */
static __always_inline u16 gale_csum_apply(u16 check, u64 diff)
{
	return ~gale_fold16(diff + (u16)~check);
}

#endif
