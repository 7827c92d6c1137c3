#include "oss/helper.h"

#include "common/container_of.h"
#include "common/fiber.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* On the stack of the fiber that waits; or, for a close, in memory of its own. */
struct job {
	int (*fn)(void *arg); /* NULL: close(fd) */
	void *arg;
	int fd;
	int result;
	bool done;
	struct loop_post post;
	struct fiber_queue queue;
	struct job *next;
};

struct helper {
	struct loop *loop;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t work;
	struct job *first, *last;
	bool at_work, stop;
};

static void finished(struct loop_post *post)
{
	struct job *job = container_of(post, struct job, post);

	job->done = true;
	fiber_wake_all(&job->queue);
}

static void run(struct helper *helper, struct job *job)
{
	if (!job->fn) {
		close(job->fd);
		free(job);
		return;
	}
	job->result = job->fn(job->arg);
	loop_post(helper->loop, &job->post);
}

static void *helper_main(void *arg)
{
	struct helper *helper = arg;

	pthread_mutex_lock(&helper->lock);
	for (;;) {
		struct job *job = helper->first;

		if (!job && helper->stop)
			break;
		helper->at_work = job;
		if (!job) {
			pthread_cond_wait(&helper->work, &helper->lock);
			continue;
		}
		helper->first = job->next;
		if (!helper->first)
			helper->last = NULL;
		pthread_mutex_unlock(&helper->lock);
		run(helper, job);
		pthread_mutex_lock(&helper->lock);
	}
	pthread_mutex_unlock(&helper->lock);

	return NULL;
}

static void enqueue(struct helper *helper, struct job *job)
{
	pthread_mutex_lock(&helper->lock);
	if (helper->last)
		helper->last->next = job;
	else
		helper->first = job;
	helper->last = job;
	pthread_mutex_unlock(&helper->lock);
	pthread_cond_signal(&helper->work); /* who wakes up finds the lock free */
}

int helper_new(struct loop *loop, struct helper **ret_helper)
{
	struct helper *helper = calloc(1, sizeof(*helper));
	sigset_t all, before;
	int err;

	if (!helper)
		return -ENOMEM;
	helper->loop = loop;
	pthread_mutex_init(&helper->lock, NULL);
	pthread_cond_init(&helper->work, NULL);
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(&helper->thread, NULL, helper_main, helper);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err < 0) {
		free(helper);
		return err;
	}
	*ret_helper = helper;

	return 0;
}

struct helper *helper_free(struct helper *helper)
{
	if (!helper)
		return NULL;
	pthread_mutex_lock(&helper->lock);
	helper->stop = true;
	pthread_cond_signal(&helper->work);
	pthread_mutex_unlock(&helper->lock);
	pthread_join(helper->thread, NULL);
	pthread_cond_destroy(&helper->work);
	pthread_mutex_destroy(&helper->lock);
	free(helper);

	return NULL;
}

int helper_run(struct helper *helper, int (*fn)(void *arg), void *arg)
{
	struct job job = { .fn = fn, .arg = arg, .post = { .run = finished } };

	enqueue(helper, &job);
	while (!job.done)
		fiber_wait(&job.queue, NULL);

	return job.result;
}

bool helper_is_idle(struct helper *helper)
{
	bool idle;

	pthread_mutex_lock(&helper->lock);
	idle = !helper->first && !helper->at_work;
	pthread_mutex_unlock(&helper->lock);

	return idle;
}

void helper_close(struct helper *helper, int fd)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job) {
		close(fd); /* slow at worst */
		return;
	}
	job->fd = fd;
	enqueue(helper, job);
}
