/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* l4_nat_sweep: a helper program that removes expired flows and frees quarantined ports. */
#ifndef GALELB_L4_NAT_SWEEP_H
#define GALELB_L4_NAT_SWEEP_H
#ifndef GALE_TC

#define L4_NAT_SWEEP_ENTRIES	64	/* per run */
#define L4_NAT_SWEEP_FLOWS	0	/* what: entries of a forward table; index = bucket * 4 + n */
#define L4_NAT_SWEEP_PORTS	1	/* what: port slots (full_nat) or entries of a return table */

/*
 * The first 64 bytes of the program's data, both ways; 16 native u32 ("=16I"). It answers 0, or 1
 * when the request cannot be read. A run looks at no more than L4_NAT_SWEEP_ENTRIES entries and
 * leaves in `first` where the next one goes on, so it may be run with `repeat`: counts add up. The
 * table is done when a run leaves `first` as it was.
 */
struct l4_nat_sweep {
	u32 what;		/* 0  in: L4_NAT_SWEEP_* */
	u32 family;		/* 1  in: 4 or 6 */
	u32 first;		/* 2  in and out: index of an entry */
	u32 tick;		/* 3  out: now */
	u32 seen;		/* 4  in and out, like all that follow: entries looked at */
	u32 used;		/* 5  of those, left in use */
	u32 removed;		/* 6  flows removed, or ports freed */
	u32 busy;		/* 7  expired, but somebody was at it: next time */
	u32 established;	/* 8  of the used: TCP, both sides have answered */
	u32 half_open;		/* 9  TCP, not yet */
	u32 closing;		/* 10 TCP with a FIN or RST */
	u32 udp;		/* 11 */
	u32 quarantined;	/* 12 ports not yet free */
	u32 pad[3];
};

static __always_inline void l4_nat_sweep_count(struct l4_nat_sweep *s, u64 word, u64 back)
{
	u32 f = l4_nat_state(word), both = f | l4_nat_state(back);

	s->used++;
	if (!(both & L4_NAT_TCP))
		s->udp++;
	else if (both & (L4_NAT_FIN | L4_NAT_RST))
		s->closing++;
	else if (f & L4_NAT_SEEN)
		s->established++;
	else
		s->half_open++;
}

/* The key and word of one entry; NULL past the end. */
static __always_inline u64 *l4_nat_entry_at(u32 family, u32 index, struct l4_nat_key *k)
{
	struct l4_nat_bucket4 *b;
	struct l4_nat_entry4 *e;

#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6) {
		struct l4_nat_bucket6 *b6 = l4_nat_bucket6_get(L4_NAT_FORWARD, index / L4_NAT_ENTRIES);
		struct l4_nat_entry6 *e6;

		if (!b6)
			return NULL;
		GALE_OPAQUE(b6);
		e6 = &b6->entry[index & (L4_NAT_ENTRIES - 1)];
		k->hi = L4_NAT_READ(e6->hi);
		k->lo = L4_NAT_READ(e6->lo);
		k->key = L4_NAT_READ(e6->key);
		return &e6->word;
	}
#endif
	b = l4_nat_bucket4_get(L4_NAT_FORWARD, index / L4_NAT_ENTRIES);
	if (!b)
		return NULL;
	GALE_OPAQUE(b);
	e = &b->entry[index & (L4_NAT_ENTRIES - 1)];
	k->key = L4_NAT_READ(e->key);
	return &e->word;
}

/* Remove one flow if it has expired. Its node may be down: then l4_nat_down's rule is not ours. */
static __always_inline void l4_nat_sweep_flow(struct l4_nat_sweep *s, u32 family, u64 *entry,
					      struct l4_nat_key *k, u16 now)
{
	u64 word = L4_NAT_READ(*entry), back = 0, *lock;
	int done = 0;

	if (word < L4_NAT_USED)
		return;
	l4_nat_key_rehash(k, family);
	if (l4_nat_back(family, k, word, &back) && !l4_nat_expired(word, back, now)) {
		l4_nat_sweep_count(s, word, back);
		return;
	}
	lock = l4_nat_lock_of(k->hash);
	if (lock && l4_nat_swap(lock, 0, 1)) {
		done = l4_nat_remove(family, k, entry, word);
		l4_nat_unlock(lock);
	}
	if (done)
		s->removed++;
	else
		s->busy++;
}

#ifndef L4_NAT_DNAT
static __always_inline void l4_nat_sweep_port(struct l4_nat_sweep *s, u64 *slot, u16 now)
{
	u64 word = L4_NAT_READ(*slot);

	if (word >= L4_NAT_USED)
		s->used++;
	else if (word > L4_NAT_BUSY) {
		if (l4_nat_older(now, word, L4_NAT_TCP_CLOSED) && l4_nat_swap(slot, word, L4_NAT_FREE))
			s->removed++;
		else
			s->quarantined++;
	}
}
#endif

static __always_inline void l4_nat_sweep_run(struct l4_nat_sweep *s, u16 now)
{
	u32 i, family = gale_family(s->family);

	for (i = 0; i < L4_NAT_SWEEP_ENTRIES; i++) {
		struct l4_nat_key k;
		u64 *at;

		if (s->what == L4_NAT_SWEEP_FLOWS) {
			at = l4_nat_entry_at(family, s->first, &k);
			if (!at)
				break;
			l4_nat_sweep_flow(s, family, at, &k, now);
		} else {
#ifdef L4_NAT_DNAT
			break;
#else
			at = l4_nat_slot(family, s->first);
			if (!at)
				break;
			l4_nat_sweep_port(s, at, now);
#endif
		}
		s->first++;
		s->seen++;
	}
}

int l4_nat_sweep(struct xdp_md *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct l4_nat_sweep *data = gale_data(ctx), *s;

	if (!scratch || (void *)(data + 1) > gale_data_end(ctx))
		return 1;
	s = (void *)scratch->work;
	*s = *data;
	s->tick = gale_tick();
	l4_nat_sweep_run(s, s->tick);
	*data = *s;
	return 0;
}

#endif
#endif
