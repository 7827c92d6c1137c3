#include "client/fuse/notify.h"

#include "client/fuse/protocol.h"
#include "common/fiber.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* On the stack of the fiber that waits. */
struct wish {
	struct wish *next;
	uint64_t nodeid;
	int64_t off, len;
	bool done;
	struct fiber_queue waiter;
};

struct fuse_notifier {
	int fd;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t work;
	struct wish *first, **last;
	unsigned int wish_count; /* not taken yet */
	unsigned int thread_count;
	unsigned int idle; /* threads that do not wait for the kernel */
	bool ending;
	pthread_t threads[NOTIFY_THREADS_MAX];
};

/* off < 0: the attributes only; len 0: all from there on. */
static void invalidate(int fd, uint64_t nodeid, int64_t off, int64_t len)
{
	struct {
		struct fuse_out_header header;
		struct fuse_notify_inval_inode_out inode;
	} out = {
		.header = { .len = sizeof(out), .error = FUSE_NOTIFY_INVAL_INODE },
		.inode = { .ino = nodeid, .off = off, .len = len },
	};

	/* An error means that the kernel does not know it, so has nothing to drop. */
	(void)!write(fd, &out, sizeof(out));
}

static void *notify(void *arg)
{
	struct fuse_notifier *notifier = arg;

	pthread_mutex_lock(&notifier->lock);
	while (!notifier->ending || notifier->first != NULL) {
		struct wish *wish = notifier->first;

		if (wish == NULL) {
			pthread_cond_wait(&notifier->work, &notifier->lock);
			continue;
		}
		notifier->wish_count--;
		notifier->first = wish->next;
		if (notifier->first == NULL)
			notifier->last = &notifier->first;
		notifier->idle--;
		pthread_mutex_unlock(&notifier->lock);
		invalidate(notifier->fd, wish->nodeid, wish->off, wish->len);
		pthread_mutex_lock(&notifier->lock);
		notifier->idle++;
		wish->done = true;
		fiber_wake_all(&wish->waiter);
	}
	pthread_mutex_unlock(&notifier->lock);
	return NULL;
}

static int start_thread(struct fuse_notifier *notifier)
{
	int err = -pthread_create(&notifier->threads[notifier->thread_count], NULL, notify, notifier);

	if (err == 0) {
		notifier->thread_count++;
		notifier->idle++;
	}
	return err;
}

int fuse_notifier_new(int fd, struct fuse_notifier **ret_notifier)
{
	struct fuse_notifier *notifier = calloc(1, sizeof(*notifier));
	int err;

	if (notifier == NULL)
		return -ENOMEM;
	notifier->fd = fd;
	notifier->last = &notifier->first;
	pthread_mutex_init(&notifier->lock, NULL);
	pthread_cond_init(&notifier->work, NULL);
	pthread_mutex_lock(&notifier->lock);
	err = start_thread(notifier);
	pthread_mutex_unlock(&notifier->lock);
	if (err < 0)
		fuse_notifier_free(notifier);
	else
		*ret_notifier = notifier;
	return err;
}

struct fuse_notifier *fuse_notifier_free(struct fuse_notifier *notifier)
{
	if (notifier == NULL)
		return NULL;
	pthread_mutex_lock(&notifier->lock);
	notifier->ending = true;
	pthread_cond_broadcast(&notifier->work);
	pthread_mutex_unlock(&notifier->lock);
	for (unsigned int i = 0; i < notifier->thread_count; i++)
		pthread_join(notifier->threads[i], NULL);
	pthread_mutex_destroy(&notifier->lock);
	pthread_cond_destroy(&notifier->work);
	free(notifier);
	return NULL;
}

void fuse_notifier_drop_pages(struct fuse_notifier *notifier, uint64_t nodeid, uint64_t offset, uint64_t size)
{
	struct wish wish = { .nodeid = nodeid, .off = (int64_t)offset, .len = (int64_t)size };

	pthread_mutex_lock(&notifier->lock);
	*notifier->last = &wish;
	notifier->last = &wish.next;
	/* Without another thread it waits for those there are. */
	if (++notifier->wish_count > notifier->idle && notifier->thread_count < NOTIFY_THREADS_MAX)
		(void)start_thread(notifier);
	pthread_cond_signal(&notifier->work);
	while (!wish.done)
		fiber_wait(&wish.waiter, &notifier->lock);
	pthread_mutex_unlock(&notifier->lock);
}

void fuse_notifier_expire_names(struct fuse_notifier *notifier)
{
	struct fuse_out_header out = { .len = sizeof(out), .error = FUSE_NOTIFY_INC_EPOCH };

	(void)!write(notifier->fd, &out, sizeof(out));
}

void fuse_notifier_drop_attr(struct fuse_notifier *notifier, uint64_t nodeid)
{
	invalidate(notifier->fd, nodeid, -1, 0);
}
