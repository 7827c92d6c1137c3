#include "client/cli/links.h"

#include "common/fiber.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define BUCKETS_FIRST 64

struct link {
	struct link *next;
	uint64_t dev, ino;
	uint64_t left; /* names that have not been dealt with */
	enum { LINK_WANTED, LINK_COPYING, LINK_COPIED } state;
	struct links_copy copy;
};

struct links {
	struct link **buckets;
	size_t bucket_count, count; /* bucket_count: a power of two */
	struct fiber_queue changed;
};

struct links *links_new(void)
{
	struct links *links = calloc(1, sizeof(*links));

	if (!links)
		return NULL;
	links->bucket_count = BUCKETS_FIRST;
	links->buckets = calloc(links->bucket_count, sizeof(struct link *));
	if (!links->buckets) {
		free(links);
		return NULL;
	}
	return links;
}

static void link_free(struct link *link)
{
	free(link->copy.path);
	free(link);
}

struct links *links_free(struct links *links)
{
	if (!links)
		return NULL;
	for (size_t i = 0; i < links->bucket_count; i++) {
		while (links->buckets[i]) {
			struct link *link = links->buckets[i];

			links->buckets[i] = link->next;
			link_free(link);
		}
	}
	free(links->buckets);
	free(links);
	return NULL;
}

static size_t bucket_of(size_t bucket_count, uint64_t dev, uint64_t ino)
{
	return (size_t)((ino ^ dev) * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (bucket_count - 1);
}

/* Where the link is, or would be put. */
static struct link **link_at(struct links *links, uint64_t dev, uint64_t ino)
{
	struct link **at = &links->buckets[bucket_of(links->bucket_count, dev, ino)];

	while (*at && ((*at)->dev != dev || (*at)->ino != ino))
		at = &(*at)->next;
	return at;
}

/* Twice the buckets; without memory for them it only becomes slower. */
static void links_grow(struct links *links)
{
	size_t count = 2 * links->bucket_count;
	struct link **buckets = calloc(count, sizeof(struct link *));

	if (!buckets)
		return;
	for (size_t i = 0; i < links->bucket_count; i++) {
		while (links->buckets[i]) {
			struct link *link = links->buckets[i];
			struct link **to = &buckets[bucket_of(count, link->dev, link->ino)];

			links->buckets[i] = link->next;
			link->next = *to;
			*to = link;
		}
	}
	free(links->buckets);
	links->buckets = buckets;
	links->bucket_count = count;
}

static struct link *link_make(struct links *links, uint64_t dev, uint64_t ino, uint64_t nlink)
{
	struct link *link = calloc(1, sizeof(*link)), **at;

	if (!link)
		return NULL;
	*link = (struct link){ .dev = dev, .ino = ino, .left = nlink };
	if (links->count == 2 * links->bucket_count)
		links_grow(links);
	at = link_at(links, dev, ino);
	link->next = *at;
	*at = link;
	links->count++;
	return link;
}

int links_enter(struct links *links, uint64_t dev, uint64_t ino, uint64_t nlink, enum links_verdict *ret_verdict,
		struct links_copy *ret_to)
{
	struct link *link;

	for (;;) {
		link = *link_at(links, dev, ino);
		if (!link)
			link = link_make(links, dev, ino, nlink);
		if (!link)
			return -ENOMEM;
		if (link->state != LINK_COPYING)
			break;
		fiber_wait(&links->changed, NULL);
	}
	if (link->state == LINK_WANTED) {
		link->state = LINK_COPYING;
		*ret_verdict = LINKS_FIRST;
	} else {
		*ret_verdict = LINKS_OTHER;
		*ret_to = link->copy;
	}
	return 0;
}

static void link_end_copying(struct links *links, uint64_t dev, uint64_t ino, bool copied, struct links_copy copy)
{
	struct link *link = *link_at(links, dev, ino);

	assert(link && link->state == LINK_COPYING);
	link->state = copied ? LINK_COPIED : LINK_WANTED;
	link->copy = copy;
	fiber_wake_all(&links->changed);
	links_leave(links, dev, ino);
}

void links_copied(struct links *links, uint64_t dev, uint64_t ino, struct links_copy copy)
{
	link_end_copying(links, dev, ino, true, copy);
}

void links_failed(struct links *links, uint64_t dev, uint64_t ino)
{
	link_end_copying(links, dev, ino, false, (struct links_copy){ 0 });
}

void links_leave(struct links *links, uint64_t dev, uint64_t ino)
{
	struct link **at = link_at(links, dev, ino), *link = *at;

	/* It may be gone: a file got more names while the tree was read. */
	if (!link || --link->left > 0)
		return;
	*at = link->next;
	links->count--;
	link_free(link);
}
