#include "common/bufpool.h"

#include "common/lasting.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct buffer {
	struct bulk bulk; /* first: release() gets its address */
	struct bufpool *pool;
	struct buffer *next; /* in the pool */
};

struct bufpool {
	size_t size, alignment;
	size_t mapped; /* size, rounded up to pages */
	unsigned int count_max, count_out;
	struct buffer *first; /* those in the pool, the last released first */
	bool found_empty;     /* since the last release */
	bool freed;           /* by its owner: goes with the last buffer that is out */
	void (*available)(void *owner);
	void *owner;
};

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

int bufpool_new(size_t size, size_t alignment, unsigned int count_max, struct bufpool **ret_pool)
{
	const size_t page = page_size();
	struct bufpool *pool;

	if (size == 0 || alignment == 0 || (alignment & (alignment - 1)) != 0 || count_max == 0)
		return -EINVAL;
	if (size > SIZE_MAX / 4 || alignment > SIZE_MAX / 4)
		return -ENOMEM;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->size = size;
	pool->alignment = alignment < page ? page : alignment;
	pool->mapped = (size + page - 1) & ~(page - 1);
	pool->count_max = count_max;
	*ret_pool = pool;
	return 0;
}

/* Pages at a multiple of alignment: of a mapping that is too large by that, the ends are given back. NULL. */
static void *pages_map(size_t size, size_t alignment)
{
	const size_t extra = alignment - page_size(), total = size + extra;
	uint8_t *start = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before;

	if (start == MAP_FAILED)
		return NULL;
	before = (size_t)(-(uintptr_t)start & (alignment - 1));
	if (before > 0)
		munmap(start, before);
	if (before < extra)
		munmap(start + before + size, extra - before);
	return start + before;
}

static void pool_end(struct bufpool *pool)
{
	while (pool->first) {
		struct buffer *buffer = pool->first;

		pool->first = buffer->next;
		lasting_remove(buffer->bulk.data);
		munmap(buffer->bulk.data, pool->mapped);
		free(buffer);
	}
	free(pool);
}

struct bufpool *bufpool_free(struct bufpool *pool)
{
	if (!pool)
		return NULL;
	assert(!pool->freed);
	pool->freed = true;
	pool->available = NULL;
	if (pool->count_out == 0)
		pool_end(pool);
	return NULL;
}

static void buffer_release(struct bulk *bulk)
{
	struct buffer *buffer = (struct buffer *)(void *)bulk;
	struct bufpool *pool = buffer->pool;
	bool wanted = pool->found_empty;

	assert(pool->count_out > 0);
	buffer->next = pool->first;
	pool->first = buffer;
	pool->count_out--;
	pool->found_empty = false;
	if (pool->freed && pool->count_out == 0)
		pool_end(pool);
	else if (wanted && pool->available)
		pool->available(pool->owner);
}

static struct buffer *buffer_new(struct bufpool *pool)
{
	struct buffer *buffer = malloc(sizeof(*buffer));

	if (!buffer)
		return NULL;
	buffer->pool = pool;
	buffer->bulk = (struct bulk){ .size = pool->size, .release = buffer_release };
	buffer->bulk.data = pages_map(pool->mapped, pool->alignment);
	if (!buffer->bulk.data) {
		free(buffer);
		return NULL;
	}
	lasting_add(buffer->bulk.data, pool->mapped);
	return buffer;
}

struct bulk *bufpool_get(struct bufpool *pool)
{
	struct buffer *buffer = pool->first;

	assert(!pool->freed);
	if (buffer) {
		pool->first = buffer->next;
	} else if (pool->count_out < pool->count_max) {
		buffer = buffer_new(pool);
	}
	if (!buffer) {
		pool->found_empty = true;
		return NULL;
	}
	pool->count_out++;
	return &buffer->bulk;
}

void bufpool_set_available(struct bufpool *pool, void (*available)(void *owner), void *owner)
{
	pool->available = available;
	pool->owner = owner;
}

unsigned int bufpool_count_out(const struct bufpool *pool)
{
	return pool->count_out;
}
