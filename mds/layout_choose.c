#include "mds/layout_choose.h"

#include <assert.h>
#include <errno.h>

/* Free space is weighed in these, so that sums of weights stay far from overflowing. */
#define WEIGHT_UNIT (UINT64_C(1) << 24)
/* Credits stay within so many rounds: an OST that is owed more than it can get must not be owed ever more. */
#define CREDIT_ROUNDS 4

static struct choose_ost *find(struct layout_chooser *chooser, uint32_t index)
{
	for (size_t i = 0; i < chooser->count; i++) {
		if (chooser->osts[i].index == index)
			return &chooser->osts[i];
	}
	return NULL;
}

static void take_over(struct choose_ost *ost, const Strake__Target *target)
{
	ost->listed = true;
	ost->usable = target->state == STRAKE__TARGET_STATE__TARGET_UP && target->instance != 0;
	ost->full = target->state == STRAKE__TARGET_STATE__TARGET_FULL;
	ost->bytes_total = target->bytes_total;
	ost->bytes_free = target->bytes_free;
	ost->objects_total = target->objects_total;
	ost->objects_free = target->objects_free;
	ost->weight = (int64_t)(target->bytes_free / WEIGHT_UNIT) + 1;
}

void layout_chooser_set(struct layout_chooser *chooser, const Strake__ClusterMap *map)
{
	struct choose_ost *ost;
	size_t left = 0;

	for (size_t i = 0; i < chooser->count; i++)
		chooser->osts[i].listed = false;
	for (size_t i = 0; i < map->n_target; i++) {
		if (map->target[i]->role != STRAKE__TARGET_ROLE__TARGET_OST || map->target[i]->index > UINT16_MAX)
			continue;
		ost = find(chooser, map->target[i]->index);
		if (!ost && chooser->count == CHOOSE_OSTS_MAX)
			continue;
		if (!ost) {
			ost = &chooser->osts[chooser->count++];
			*ost = (struct choose_ost){ .index = (uint16_t)map->target[i]->index };
		}
		take_over(ost, map->target[i]);
	}
	for (size_t i = 0; i < chooser->count; i++) {
		if (chooser->osts[i].listed)
			chooser->osts[left++] = chooser->osts[i];
	}
	chooser->count = left;
}

/* The usable one with the most credit that is not taken yet. */
static struct choose_ost *richest(struct layout_chooser *chooser, const bool *taken)
{
	struct choose_ost *best = NULL;

	for (size_t i = 0; i < chooser->count; i++) {
		struct choose_ost *ost = &chooser->osts[i];

		if (ost->usable && !taken[i] && (!best || ost->credit > best->credit))
			best = ost;
	}
	return best;
}

/* One turn of the rotation over all that are usable. */
static struct choose_ost *next_turn(struct layout_chooser *chooser, const bool *taken)
{
	struct choose_ost *best;
	int64_t sum = 0;

	for (size_t i = 0; i < chooser->count; i++) {
		struct choose_ost *ost = &chooser->osts[i];

		if (!ost->usable)
			continue;
		ost->credit += ost->weight;
		sum += ost->weight;
	}
	best = richest(chooser, taken);
	best->credit -= sum;
	for (size_t i = 0; i < chooser->count; i++) {
		struct choose_ost *ost = &chooser->osts[i];

		if (ost->credit > CREDIT_ROUNDS * sum)
			ost->credit = CREDIT_ROUNDS * sum;
		else if (ost->credit < -CREDIT_ROUNDS * sum)
			ost->credit = -CREDIT_ROUNDS * sum;
	}
	return best;
}

int layout_choose(struct layout_chooser *chooser, uint32_t wished, uint16_t *ret_osts, uint32_t *ret_count)
{
	bool taken[CHOOSE_OSTS_MAX] = { false };
	struct choose_ost *ost;
	size_t usable = 0;
	bool full = false;
	uint32_t count = wished, first;

	for (size_t i = 0; i < chooser->count; i++) {
		usable += chooser->osts[i].usable;
		full |= chooser->osts[i].full;
	}
	if (usable == 0)
		return full ? -ENOSPC : -EAGAIN;
	if (count == 0 || count > usable)
		count = (uint32_t)usable;
	if (count > LAYOUT_STRIPES_MAX)
		count = LAYOUT_STRIPES_MAX;

	/* All of them: only who comes first is to be chosen. */
	ost = next_turn(chooser, taken);
	first = (uint32_t)(ost - chooser->osts);
	if (count == usable) {
		*ret_count = 0;
		for (size_t i = 0; i < chooser->count; i++) {
			ost = &chooser->osts[(first + i) % chooser->count];
			if (ost->usable)
				ret_osts[(*ret_count)++] = ost->index;
		}
		return 0;
	}

	for (uint32_t i = 0; i < count; i++) {
		if (i > 0)
			ost = next_turn(chooser, taken);
		taken[ost - chooser->osts] = true;
		ret_osts[i] = ost->index;
	}
	*ret_count = count;
	return 0;
}

bool layout_chooser_may(const struct layout_chooser *chooser, uint16_t index)
{
	for (size_t i = 0; i < chooser->count; i++) {
		if (chooser->osts[i].index == index)
			return chooser->osts[i].usable;
	}
	return false;
}
