#include "client/data/buffers.h"

#include "common/lasting.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define KEEP_MIN 64 /* idle ones that are kept whether they are needed or not */

struct buffer {
	struct bulk bulk; /* first: release() gets its address */
	struct buffers *buffers;
	struct buffer *next;
};

struct buffers {
	pthread_mutex_t lock;
	struct buffer *idle;
	unsigned int out_count, keep_max;
	_Atomic unsigned int idle_count; /* written under the lock */
	unsigned int idle_least;         /* since the last buffers_trim() */
};

struct buffers *buffers_new(unsigned int keep_max)
{
	struct buffers *buffers = calloc(1, sizeof(*buffers));

	if (buffers != NULL) {
		pthread_mutex_init(&buffers->lock, NULL);
		buffers->keep_max = keep_max > KEEP_MIN ? keep_max : KEEP_MIN;
	}
	return buffers;
}

static void buffer_unmap(struct buffer *buffer)
{
	lasting_remove(buffer->bulk.data);
	munmap(buffer->bulk.data, BUFFERS_ROOM);
	free(buffer);
}

/* NULL: there is none. The lock is held. */
static struct buffer *idle_take(struct buffers *buffers)
{
	struct buffer *buffer = buffers->idle;

	if (buffer != NULL) {
		buffers->idle = buffer->next;
		buffers->idle_count--;
	}
	return buffer;
}

struct buffers *buffers_free(struct buffers *buffers)
{
	struct buffer *buffer;

	if (buffers == NULL)
		return NULL;
	assert(buffers->out_count == 0);
	while ((buffer = idle_take(buffers)) != NULL)
		buffer_unmap(buffer);
	pthread_mutex_destroy(&buffers->lock);
	free(buffers);
	return NULL;
}

static void buffer_release(struct bulk *bulk)
{
	struct buffer *buffer = (struct buffer *)(void *)bulk;
	struct buffers *buffers = buffer->buffers;
	bool keep;

	pthread_mutex_lock(&buffers->lock);
	buffers->out_count--;
	keep = buffers->idle_count < buffers->keep_max;
	if (keep) {
		buffer->next = buffers->idle;
		buffers->idle = buffer;
		buffers->idle_count++;
	}
	pthread_mutex_unlock(&buffers->lock);
	if (!keep)
		buffer_unmap(buffer);
}

static struct buffer *buffer_map(struct buffers *buffers)
{
	struct buffer *buffer = malloc(sizeof(*buffer));

	if (buffer == NULL)
		return NULL;
	buffer->buffers = buffers;
	buffer->bulk = (struct bulk){ .size = BUFFERS_ROOM, .release = buffer_release };
	buffer->bulk.data = mmap(NULL, BUFFERS_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer->bulk.data == MAP_FAILED) {
		free(buffer);
		return NULL;
	}
	lasting_add(buffer->bulk.data, BUFFERS_ROOM);
	return buffer;
}

struct bulk *buffers_get(struct buffers *buffers)
{
	struct buffer *buffer;

	pthread_mutex_lock(&buffers->lock);
	buffer = idle_take(buffers);
	if (buffers->idle_least > buffers->idle_count)
		buffers->idle_least = buffers->idle_count;
	buffers->out_count++;
	pthread_mutex_unlock(&buffers->lock);
	if (buffer == NULL)
		buffer = buffer_map(buffers);
	if (buffer == NULL) {
		pthread_mutex_lock(&buffers->lock);
		buffers->out_count--;
		pthread_mutex_unlock(&buffers->lock);
		return NULL;
	}
	return &buffer->bulk;
}

/* So many idle ones, in a list. The lock is held. */
static struct buffer *idle_take_some(struct buffers *buffers, unsigned int count)
{
	struct buffer *taken = NULL;

	for (; count > 0; count--) {
		struct buffer *buffer = idle_take(buffers);

		buffer->next = taken;
		taken = buffer;
	}
	return taken;
}

static void unmap_all(struct buffer *going)
{
	while (going != NULL) {
		struct buffer *buffer = going;

		going = buffer->next;
		buffer_unmap(buffer);
	}
}

void buffers_trim(struct buffers *buffers)
{
	struct buffer *going;

	pthread_mutex_lock(&buffers->lock);
	going = idle_take_some(buffers, buffers->idle_least > KEEP_MIN ? (buffers->idle_least - KEEP_MIN + 1) / 2 : 0);
	buffers->idle_least = buffers->idle_count;
	pthread_mutex_unlock(&buffers->lock);
	unmap_all(going);
}

void buffers_limit(struct buffers *buffers, uint64_t idle_max)
{
	struct buffer *going = NULL;

	if (atomic_load_explicit(&buffers->idle_count, memory_order_relaxed) <= idle_max)
		return;
	pthread_mutex_lock(&buffers->lock);
	if (buffers->idle_count > idle_max)
		going = idle_take_some(buffers, buffers->idle_count - (unsigned int)idle_max);
	if (buffers->idle_least > buffers->idle_count)
		buffers->idle_least = buffers->idle_count;
	pthread_mutex_unlock(&buffers->lock);
	unmap_all(going);
}
