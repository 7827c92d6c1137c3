/*
 * VOID: gens that no content has or will ever have (mds/void.h). What is here of them goes, and is not made again.
 *
 *   1. ranges that are new enter memory and the index; from then on who comes gets ESTALE (file_load())
 *   2. contents in memory are destroyed as by DESTROY: that waits for who is inside them, so that nobody makes an object
 *   3. the index is gone through from its beginning, a piece with each request, and what it has of them is destroyed
 *   4. the ranges are marked as swept, so that the MDT may tell of them as often as it likes, and the index is synced
 *
 * The index becomes durable in the order of its changes, so a range is when an object of it is unlinked. After a crash
 * before 4 the MDT asks again, and 3 begins anew. The ranges stay for good: a session may live on for years.
 */
#include "oss/operations.h"
#include "oss/ost_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONTENTS_MAX 256   /* destroyed with one request */
#define LOOK_MAX     16384 /* places of the index looked at with one request */
#define YIELD_EVERY  128

struct contents {
	size_t count;
	uint64_t ino[CONTENTS_MAX], gen[CONTENTS_MAX];
};

/* The first range that ends above the number. */
static size_t find(const struct ost_voids *voids, uint64_t number)
{
	size_t low = 0, high = voids->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (voids->ranges[middle].row.end <= number)
			low = middle + 1;
		else
			high = middle;
	}

	return low;
}

bool ost_is_void(const struct ost *ost, uint64_t gen)
{
	size_t at = find(&ost->voids, gen);

	return at < ost->voids.count && ost->voids.ranges[at].first <= gen;
}

static bool is_swept(const struct ost_voids *voids)
{
	for (size_t i = 0; i < voids->count; i++) {
		if (!voids->ranges[i].row.swept)
			return false;
	}

	return true;
}

uint64_t ost_void_end(const struct ost *ost)
{
	const struct ost_voids *voids = &ost->voids;
	uint64_t end = 0;

	for (size_t i = 0; i < voids->count && voids->ranges[i].row.swept; i++)
		end = voids->ranges[i].row.end;

	return end;
}

/* --- ranges ----------------------------------------------------------------------------------------------------------- */

static int insert(struct ost_voids *voids, size_t at, uint64_t first, struct index_void row)
{
	struct ost_void *ranges = reallocarray(voids->ranges, voids->count + 1, sizeof(*ranges));

	if (!ranges)
		return -ENOMEM;
	memmove(&ranges[at + 1], &ranges[at], (voids->count - at) * sizeof(*ranges));
	ranges[at] = (struct ost_void){ first, row };
	voids->ranges = ranges;
	voids->count++;

	return 0;
}

int ost_load_voids(struct ost *ost)
{
	struct index_key key = index_void_key(0);
	union index_value value;
	int err = 0;

	while (err == 0 && index_next(ost->index, &key, &value) == 0) {
		err = insert(&ost->voids, ost->voids.count, key.part[0], value.range);
		key.part[0]++;
	}

	return err;
}

/* Nothing of it is known, and ranges[at] lies behind it: the range before it grows, or it is one of its own. */
static int add_range(struct ost *ost, size_t at, uint64_t first, uint64_t end)
{
	struct ost_voids *voids = &ost->voids;
	struct index_void row = { .end = end };
	int err = 0;

	if (at > 0 && voids->ranges[at - 1].row.end == first) {
		first = voids->ranges[at - 1].first;
		voids->ranges[at - 1].row = row;
	} else {
		err = insert(voids, at, first, row);
	}
	if (err < 0)
		return err;
	voids->at = index_object_key(0, 0, 0);
	index_put_void(ost->index, first, row);

	return 0;
}

/*
 * What of it we do not know yet. It may have grown; and the ranges of an MDT that went on from an older copy of its state
 * lie over those that it has told us before.
 */
static int take_range(struct ost *ost, uint64_t first, uint64_t end)
{
	const struct ost_voids *voids = &ost->voids;
	int err = first < end ? 0 : -EINVAL;

	while (err == 0 && first < end) {
		size_t at = find(voids, first);
		bool is_last = at == voids->count || voids->ranges[at].first >= end;
		uint64_t stop = is_last ? end : voids->ranges[at].first;

		if (first < stop)
			err = add_range(ost, at, first, stop);
		first = is_last ? end : voids->ranges[find(voids, stop)].row.end;
	}

	return err;
}

static void mark_swept(struct ost *ost)
{
	for (size_t i = 0; i < ost->voids.count; i++) {
		struct ost_void *range = &ost->voids.ranges[i];

		if (range->row.swept)
			continue;
		range->row.swept = true;
		index_put_void(ost->index, range->first, range->row);
	}
}

/* --- contents --------------------------------------------------------------------------------------------------------- */

/* False: there is no room. */
static bool add(struct contents *contents, uint64_t ino, uint64_t gen)
{
	if (contents->count == CONTENTS_MAX)
		return false;
	contents->ino[contents->count] = ino;
	contents->gen[contents->count++] = gen;

	return true;
}

/* Those that were in memory before the range was known. False: there are more. */
static bool find_in_memory(const struct ost *ost, struct contents *contents)
{
	for (size_t i = 0; i < OST_FILE_BUCKETS; i++) {
		for (const struct ost_file *file = ost->file_buckets[i]; file; file = file->bucket_next) {
			if (!file->row.destroyed && ost_is_void(ost, file->gen) && !add(contents, file->ino, file->gen))
				return false;
		}
	}

	return true;
}

/* The next place where there may be one. */
static void skip(const struct ost *ost, struct index_key *at)
{
	uint64_t gen = at->part[1] + 1; /* a gen is never all ones */
	size_t next = find(&ost->voids, gen);

	if (next == ost->voids.count)
		*at = index_object_key(at->part[0] + 1, 0, 0);
	else if (ost->voids.ranges[next].first > gen)
		*at = index_object_key(at->part[0], ost->voids.ranges[next].first, 0);
	else
		*at = index_object_key(at->part[0], gen, 0);
}

/* Those of a piece of the index. False: there are more of them, or there is more to look at. */
static bool find_in_index(struct ost *ost, struct contents *contents)
{
	struct index_key *at = &ost->voids.at;
	union index_value value;

	for (unsigned int looks = 0; looks < LOOK_MAX; looks++) {
		if (index_next(ost->index, at, &value) < 0)
			return true;
		if (ost_is_void(ost, at->part[1]) && !add(contents, at->part[0], at->part[1]))
			return false;
		skip(ost, at);
		if (looks % YIELD_EVERY == 0)
			fiber_yield();
	}

	return false;
}

/* -EAGAIN: there is more. */
static int sweep(struct ost *ost, uint64_t newest_session)
{
	struct contents contents = { .count = 0 };
	struct index_key at = ost->voids.at;
	bool all = find_in_memory(ost, &contents) && find_in_index(ost, &contents);
	int err = ost_destroy_contents(ost, contents.ino, contents.gen, contents.count, newest_session);

	if (err < 0) {
		ost->voids.at = at;
		return err;
	}
	if (!all)
		return -EAGAIN;
	mark_swept(ost);

	return 0;
}

/* --- the request ------------------------------------------------------------------------------------------------------ */

static int take_all(struct ost *ost, const Strake__VoidRequest *request)
{
	int err = request->n_first != request->n_end ? -EINVAL : 0;

	for (size_t i = 0; i < request->n_first && err == 0; i++)
		err = take_range(ost, request->first[i], request->end[i]);

	return err;
}

void ost_void(struct ost *ost, struct request *request)
{
	const Strake__VoidRequest *voids = (const Strake__VoidRequest *)request->body;
	int err;

	fiber_mutex_lock(&ost->voids.busy);
	err = take_all(ost, voids);
	if (err == 0 && !is_swept(&ost->voids))
		err = sweep(ost, voids->newest_session);
	/* Also when it is known already: an earlier answer may have been that it could not be synced. */
	if (err == 0)
		err = index_sync(ost->index, index_last_change(ost->index));
	fiber_mutex_unlock(&ost->voids.busy);
	service_reply_error(request, err);
}
