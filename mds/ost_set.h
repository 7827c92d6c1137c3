/* The OSTs that have not answered yet, in rows of the destroy queue and of pending cuts. Pure. */
#ifndef STRAKE_MDS_OST_SET_H
#define STRAKE_MDS_OST_SET_H

#include "common/layout.h"
#include "mds/pack.h"

#define OST_SET_SIZE_MAX (2 + 2 * LAYOUT_STRIPES_MAX)

static inline void ost_set_pack(struct pack *pack, const uint16_t *osts, uint32_t count)
{
	pack_u16(pack, (uint16_t)count);
	for (uint32_t i = 0; i < count; i++)
		pack_u16(pack, osts[i]);
}

/* Into osts[LAYOUT_STRIPES_MAX]; too many make the unpacking bad. */
static inline uint32_t ost_set_unpack(struct unpack *unpack, uint16_t *osts)
{
	uint32_t count = unpack_u16(unpack);

	if (count > LAYOUT_STRIPES_MAX) {
		unpack->bad = true;
		return 0;
	}
	for (uint32_t i = 0; i < count; i++)
		osts[i] = unpack_u16(unpack);
	return count;
}

static inline bool ost_set_has(const uint16_t *osts, uint32_t count, uint32_t ost)
{
	for (uint32_t i = 0; i < count; i++) {
		if (osts[i] == ost)
			return true;
	}
	return false;
}

/* Takes one out; returns how many are left. */
static inline uint32_t ost_set_without(uint16_t *osts, uint32_t count, uint32_t ost)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (osts[i] != ost)
			osts[left++] = osts[i];
	}
	return left;
}

#endif
