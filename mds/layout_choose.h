/*
 * Which OSTs a new file gets: those that are up and have room, in proportion to their free space.
 *
 * Smooth weighted rotation: each choice gives every OST a credit of its weight, takes the one with the most, and takes the
 * sum of weights off it. So of any number of files in a row each OST gets its share, and equals take turns. Pure.
 */
#ifndef STRAKE_MDS_LAYOUT_CHOOSE_H
#define STRAKE_MDS_LAYOUT_CHOOSE_H

#include "common/layout.h"
#include "proto/mgs.pb-c.h"

#include <stddef.h>

#define CHOOSE_OSTS_MAX 4096

struct choose_ost {
	uint16_t index;
	bool usable; /* up, with room and in good health */
	bool full;
	bool listed; /* by the map that is being taken over */
	uint64_t bytes_total, bytes_free, objects_total, objects_free;
	int64_t weight, credit;
};

struct layout_chooser {
	struct choose_ost osts[CHOOSE_OSTS_MAX];
	size_t count;
};

/* As the cluster map has them; credits are kept. */
void layout_chooser_set(struct layout_chooser *chooser, const Strake__ClusterMap *map);

/*
 * Choose up to `wished` OSTs (0: all there are), at most LAYOUT_STRIPES_MAX, each once.
 * -ENOSPC those that are up are full; -EAGAIN none is usable for other reasons.
 */
int layout_choose(struct layout_chooser *chooser, uint32_t wished, uint16_t *ret_osts, uint32_t *ret_count);

/* Would it be chosen? */
bool layout_chooser_may(const struct layout_chooser *chooser, uint16_t index);

#endif
