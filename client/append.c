#include "client/append.h"

#include "client/ctx_wait.h"
#include "client/fs_state.h"
#include "client/lock_op.h"

#include <errno.h>
#include <stdlib.h>

#define LOOK_NS NSEC_PER_SEC /* others may change the size by other means: seen after that */

static const struct lock append_lock = { .kind = LOCK_APPEND, .type = LOCK_EXCLUSIVE, .end = UINT64_MAX };

static void give_back(struct worker *worker, void *arg)
{
	struct inode *inode = arg;
	struct inode_locks *locks = inode->locks;
	struct lock nothing = append_lock;
	struct lock_op *op = NULL;

	nothing.type = LOCK_FREE;
	pthread_mutex_lock(&inode->lock);
	while (locks->append_due > 0 || locks->appenders > 0)
		fiber_wait(&locks->changed, &inode->lock);
	locks->recalled = false;
	while (lock_op_start(inode, &nothing, LOCK_DROP_RANGE, false, &op) < 0) {
		pthread_mutex_unlock(&inode->lock);
		fiber_sleep_ms(10);
		pthread_mutex_lock(&inode->lock);
	}
	pthread_mutex_unlock(&inode->lock);
	lock_op_put(op);
	inode_put(inode);
	(void)worker;
}

/* inode->lock is held. */
static void give(struct inode *inode)
{
	if (worker_spawn(fs_worker(inode->fs), give_back, inode_ref(inode)) < 0)
		inode_put(inode); /* not the last: the caller has one. It is asked for again. */
	else
		inode->locks->append = APPEND_ENDING;
}

void append_give(struct inode *inode)
{
	if (inode->locks->append == APPEND_HELD)
		give(inode);
}

void append_settled(struct lock_op *op)
{
	struct inode_locks *locks = op->inode->locks;
	bool asked = op->wait && locks->append == APPEND_ASKED;

	if (asked || (!op->wait && locks->append == APPEND_ENDING))
		locks->append = APPEND_NONE;
	if (asked && op->err == 0) {
		locks->append = APPEND_HELD;
		locks->append_due = locks->append_waiting;
		locks->append_looked_ns = clock_ns();
		/* Or nobody can append any more: who has asked for it was killed, and the last one has closed the file. */
		if (locks->recalled || op->inode->open_write == 0)
			append_give(op->inode);
	} else if (asked) {
		locks->append_error = op->err;
		locks->append_failures++;
		/* Asked for and not answered (soft): the MDT may have given it, and would ask for it in vain. */
		if (lock_list_holds(&locks->held, &append_lock, LOCK_EXCLUSIVE))
			give(op->inode);
	}
	fiber_wake_all(&locks->changed);
}

/* It is ours; look at the size once in a while, which others may change without that right. */
static int look_at_size(struct inode *inode, struct fs_ctx *ctx)
{
	struct attr attr;
	bool look;

	pthread_mutex_lock(&inode->lock);
	look = clock_ns() - inode->locks->append_looked_ns > LOOK_NS;
	if (look)
		inode->locks->append_looked_ns = clock_ns();
	pthread_mutex_unlock(&inode->lock);
	return look ? inode_fetch_attr(inode, ctx, true, &attr) : 0;
}

/* Is there an operation of before to be seen through first? */
static bool is_behind(const struct inode_locks *locks)
{
	return locks->append == APPEND_ENDING ||
	       (locks->append == APPEND_ASKED && locks->turn_now < locks->append_turn);
}

int append_begin(struct inode *inode, struct fs_ctx *ctx, unsigned int *ret_mark)
{
	struct worker *worker = fs_worker(inode->fs);
	struct inode_locks *locks;
	struct lock_op *op;
	bool waited = false, mine = false;
	unsigned int failures = 0;
	uint64_t end_ns = lock_patience_end(inode->fs);
	int err = 0;

	*ret_mark = 0;
	if (inode->fs->config.local_locks)
		return 0;
	pthread_mutex_lock(&inode->lock);
	locks = locks_get(inode);
	if (locks == NULL)
		err = -ENOMEM;
	while (err == 0) {
		if (waited && locks->append_failures != failures) {
			err = locks->append_error;
			break;
		}
		mine = waited && locks->append_due > 0 &&
		       (locks->append == APPEND_HELD || locks->append == APPEND_ENDING);
		if (mine)
			locks->append_due--;
		if (mine || locks->append == APPEND_HELD) {
			locks->appenders++;
			*ret_mark = locks->append_losses;
			break;
		}
		if (locks->append == APPEND_NONE) {
			err = lock_op_start(inode, &append_lock, LOCK_DROP_RANGE, true, &op);
			if (err < 0)
				break;
			locks->append = APPEND_ASKED;
			locks->append_turn = op->turn;
			lock_op_put(op); /* it goes on without us */
		}
		failures = locks->append_failures;
		locks->append_waiting++;
		err = ctx_wait_in(worker, ctx, &locks->changed, &inode->lock,
				  is_behind(locks) ? end_ns : CTX_WAIT_FOREVER);
		err = err == -ETIMEDOUT ? -EIO : err;
		locks->append_waiting--;
		waited = true;
	}
	/* Who goes away has no turn. */
	if (locks != NULL && err < 0 && locks->append_due > locks->append_waiting) {
		locks->append_due = locks->append_waiting;
		fiber_wake_all(&locks->changed);
	}
	pthread_mutex_unlock(&inode->lock);
	if (err == 0) {
		err = look_at_size(inode, ctx);
		if (err < 0)
			append_end(inode);
	}
	return err;
}

void append_end(struct inode *inode)
{
	if (inode->fs->config.local_locks)
		return;
	pthread_mutex_lock(&inode->lock);
	inode->locks->appenders--;
	if (inode->locks->append == APPEND_ENDING)
		fiber_wake_all(&inode->locks->changed);
	pthread_mutex_unlock(&inode->lock);
}

bool append_stands(const struct inode *inode, unsigned int mark)
{
	return inode->fs->config.local_locks || inode->locks->append_losses == mark;
}

void append_recalled(struct fs *fs, uint64_t ino)
{
	struct inode *inode = inode_find(fs->inodes, ino);

	if (inode == NULL)
		return;
	pthread_mutex_lock(&inode->lock);
	if (inode->locks != NULL) {
		if (inode->locks->append == APPEND_ASKED)
			inode->locks->recalled = true; /* the answer is on its way by another connection */
		append_give(inode);
	}
	pthread_mutex_unlock(&inode->lock);
	inode_put(inode);
}

/* The MDT cannot ask for them any more. */
static void give_back_all(struct worker *worker, void *arg)
{
	struct inode **inodes;
	size_t count;

	(void)arg;
	if (inode_table_list(worker->fs->inodes, &inodes, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		pthread_mutex_lock(&inodes[i]->lock);
		if (inodes[i]->locks != NULL)
			append_give(inodes[i]);
		pthread_mutex_unlock(&inodes[i]->lock);
		inode_put(inodes[i]);
	}
	free(inodes);
}

void append_disconnected(struct worker *worker)
{
	if (!worker->stopping && atomic_load(&worker->fs->lock_waiters) > 0)
		(void)worker_spawn(worker, give_back_all, NULL);
}

void append_lost(struct inode *inode)
{
	struct inode_locks *locks = inode->locks;

	locks->append_losses++;
	locks->append_due = 0;
	if (locks->append == APPEND_HELD)
		locks->append = APPEND_NONE;
	fiber_wake_all(&locks->changed);
}
