#include "client/worker.h"

#include "common/container_of.h"

#include "client/ctx_wait.h"
#include "client/fs_state.h"
#include "client/peers.h"
#include "client/slot_share.h"
#include "client/tell.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static _Thread_local struct worker *current;

struct worker *fs_worker(struct fs *fs)
{
	struct loop *loop = loop_current();
	struct worker *found = NULL;

	if (current != NULL && current->fs == fs)
		return current;
	pthread_mutex_lock(&fs->lock);
	for (unsigned int i = 0; i < fs->worker_count && found == NULL; i++)
		if (fs->workers[i] != NULL && fs->workers[i]->loop == loop)
			found = fs->workers[i];
	pthread_mutex_unlock(&fs->lock);
	assert(found != NULL);
	return found;
}

static void follow_map(struct loop_post *post)
{
	struct worker *worker = container_of(post, struct worker, map_post);

	atomic_store(&worker->map_posted, false);
	if (!worker->stopping)
		peers_follow_map(worker->peers);
}

int worker_new(struct fs *fs, struct loop *loop, unsigned int index, struct worker **ret_worker)
{
	struct worker *worker = calloc(1, sizeof(*worker));

	assert(index < fs->worker_count);
	if (worker == NULL)
		return -ENOMEM;
	worker->fs = fs;
	worker->loop = loop;
	worker->index = index;
	worker->map_post.run = follow_map;
	worker->peers = peers_new(worker);
	worker->tells = tell_queue_new(worker);
	if (worker->peers == NULL || worker->tells == NULL) {
		tell_queue_free(worker->tells);
		peers_free(worker->peers);
		free(worker);
		return -ENOMEM;
	}

	pthread_mutex_lock(&fs->lock);
	assert(fs->workers[index] == NULL);
	fs->workers[index] = worker;
	pthread_mutex_unlock(&fs->lock);
	current = worker;
	*ret_worker = worker;
	return 0;
}

struct worker *worker_free(struct worker *worker)
{
	struct fs *fs;

	if (worker == NULL)
		return NULL;
	fs = worker->fs;
	worker->stopping = true;
	ctx_wait_kick(worker);
	while (worker->busy > 0)
		fiber_wait(&worker->idle, NULL);
	/* Where one loop has several workers, fibers of another may have come to wait on this one: they end now. */
	while (worker->waits != NULL)
		fiber_yield();

	pthread_mutex_lock(&fs->lock);
	fs->workers[worker->index] = NULL;
	pthread_mutex_unlock(&fs->lock);
	/* Nobody posts any more; but a post may still be on its way. */
	while (atomic_load(&worker->map_posted))
		fiber_yield();

	tell_queue_free(worker->tells);
	peers_free(worker->peers);
	slot_share_put(worker->slots);
	if (current == worker)
		current = NULL;
	free(worker);
	return NULL;
}

/* --- fibers ------------------------------------------------------------------------------------------------------ */

struct spawned {
	struct worker *worker;
	void (*fn)(struct worker *worker, void *arg);
	void *arg;
};

static void spawned_run(void *arg)
{
	struct spawned spawned = *(struct spawned *)arg;

	free(arg);
	spawned.fn(spawned.worker, spawned.arg);
	if (--spawned.worker->busy == 0)
		fiber_wake_all(&spawned.worker->idle);
}

int worker_spawn(struct worker *worker, void (*fn)(struct worker *worker, void *arg), void *arg)
{
	struct spawned *spawned = malloc(sizeof(*spawned));

	if (spawned == NULL)
		return -ENOMEM;
	*spawned = (struct spawned){ .worker = worker, .fn = fn, .arg = arg };
	if (fiber_start(worker->loop, spawned_run, spawned) < 0) {
		free(spawned);
		return -ENOMEM;
	}
	worker->busy++;
	return 0;
}

struct parallel {
	struct worker *worker;
	int (*fn)(struct worker *worker, void *arg, unsigned int i);
	void *arg;
	unsigned int left, first_failed;
	int err;
	struct fiber_queue done;
};

struct parallel_part {
	struct parallel *all;
	unsigned int i;
};

static void parallel_end(struct parallel *all, unsigned int i, int err)
{
	if (err < 0 && (all->err == 0 || i < all->first_failed)) {
		all->err = err;
		all->first_failed = i;
	}
	if (--all->left == 0)
		fiber_wake_all(&all->done);
}

static void parallel_run(void *arg)
{
	struct parallel_part part = *(struct parallel_part *)arg;

	free(arg);
	parallel_end(part.all, part.i, part.all->fn(part.all->worker, part.all->arg, part.i));
}

int worker_parallel(struct worker *worker, unsigned int count,
		    int (*fn)(struct worker *worker, void *arg, unsigned int i), void *arg)
{
	struct parallel all = { .worker = worker, .fn = fn, .arg = arg, .left = count };

	if (count == 0)
		return 0;
	for (unsigned int i = 1; i < count; i++) {
		struct parallel_part *part = malloc(sizeof(*part));

		if (part != NULL) {
			*part = (struct parallel_part){ .all = &all, .i = i };
			if (fiber_start(worker->loop, parallel_run, part) == 0)
				continue;
			free(part);
		}
		parallel_end(&all, i, fn(worker, arg, i)); /* no memory for another fiber: one after the other */
	}
	parallel_end(&all, 0, fn(worker, arg, 0));
	while (all.left > 0)
		fiber_wait(&all.done, NULL);
	return all.err;
}
