#include "oss/data_pool.h"

#include "common/bufpool.h"
#include "common/fiber.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define ALIGNMENT 4096u

enum { CLASSES = 3 };

struct data_pool {
	struct bufpool *pools[CLASSES];
	struct fiber_queue waiters;
	void (*available)(void *owner);
	void *owner;
};

/* 72 MiB at most. */
static const struct {
	size_t size;
	unsigned int count;
} classes[CLASSES] = {
	{ 64u * 1024, 256 },
	{ 512u * 1024, 80 },
	{ DATA_POOL_MAX, 16 },
};

void data_pool_poke(struct data_pool *pool)
{
	fiber_wake_all(&pool->waiters);
	if (pool->available)
		pool->available(pool->owner);
}

static void came_back(void *owner)
{
	data_pool_poke(owner);
}

int data_pool_new(void (*available)(void *owner), void *owner, struct data_pool **ret_pool)
{
	struct data_pool *pool = calloc(1, sizeof(*pool));
	int err = 0;

	if (!pool)
		return -ENOMEM;
	pool->available = available;
	pool->owner = owner;
	for (int i = 0; i < CLASSES && err == 0; i++) {
		err = bufpool_new(classes[i].size, ALIGNMENT, classes[i].count, &pool->pools[i]);
		if (err == 0)
			bufpool_set_available(pool->pools[i], came_back, pool);
	}
	if (err < 0) {
		data_pool_free(pool);
		return err;
	}
	*ret_pool = pool;

	return 0;
}

struct data_pool *data_pool_free(struct data_pool *pool)
{
	if (!pool)
		return NULL;
	for (int i = 0; i < CLASSES; i++)
		pool->pools[i] = bufpool_free(pool->pools[i]);
	free(pool);

	return NULL;
}

struct bulk *data_pool_get(struct data_pool *pool, size_t size)
{
	int class_index = 0;

	assert(size <= DATA_POOL_MAX);
	while (classes[class_index].size < size)
		class_index++;

	return bufpool_get(pool->pools[class_index]);
}

struct bulk *data_pool_wait(struct data_pool *pool, size_t size)
{
	struct bulk *bulk;

	while (!(bulk = data_pool_get(pool, size)))
		fiber_wait(&pool->waiters, NULL);

	return bulk;
}
