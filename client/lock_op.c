#include "client/lock_op.h"

#include "client/append.h"
#include "client/ctx_wait.h"
#include "client/fs_state.h"
#include "client/locks.h"
#include "client/session.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#define ASK_MS 5000 /* who waits asks again after that, told or not */

/* --- turns ------------------------------------------------------------------------------------------------------- */

/* inode->lock is held. */
static void turn_take(struct lock_op *op)
{
	op->turn = op->inode->locks->turn_next++;
}

/* Those before end, whatever happens: nobody's signal cuts them short. */
static void turn_wait(struct lock_op *op)
{
	struct inode *inode = op->inode;

	pthread_mutex_lock(&inode->lock);
	while (inode->locks->turn_now != op->turn)
		fiber_wait(&inode->locks->changed, &inode->lock);
	pthread_mutex_unlock(&inode->lock);
}

static void turn_end(struct lock_op *op)
{
	struct inode *inode = op->inode;

	pthread_mutex_lock(&inode->lock);
	assert(inode->locks->turn_now == op->turn);
	inode->locks->turn_now++;
	fiber_wake_all(&inode->locks->changed);
	pthread_mutex_unlock(&inode->lock);
}

static void turn_again(struct lock_op *op)
{
	pthread_mutex_lock(&op->inode->lock);
	turn_take(op);
	pthread_mutex_unlock(&op->inode->lock);
	turn_wait(op);
}

uint64_t lock_patience_end(const struct fs *fs)
{
	return fs->config.soft ? clock_ns() + fs->config.soft_timeout_ms * NSEC_PER_MSEC : CTX_WAIT_FOREVER;
}

int lock_turns_wait(struct inode *inode, struct fs_ctx *ctx)
{
	uint64_t until, end_ns = lock_patience_end(inode->fs);
	int err = 0;

	pthread_mutex_lock(&inode->lock);
	until = inode->locks != NULL ? inode->locks->turn_next : 0;
	while (err == 0 && until > 0 && inode->locks->turn_now < until)
		err = ctx_wait_in(fs_worker(inode->fs), ctx, &inode->locks->changed, &inode->lock, end_ns);
	pthread_mutex_unlock(&inode->lock);
	return err == -ETIMEDOUT ? -EIO : err;
}

/* --- asking ------------------------------------------------------------------------------------------------------ */

/* Of a waiter that was queued too, what the MDT gives is what was asked. inode->lock is held. */
static void note(struct lock_op *op)
{
	struct lock_list *held = &op->inode->locks->held;

	switch ((enum lock_drop)op->drop) {
	case LOCK_DROP_RANGE:
		lock_list_set(held, &op->lock);
		return;
	case LOCK_DROP_OWNER:
		lock_list_drop(held, lock_of_owner, &op->lock);
		return;
	case LOCK_DROP_HANDLE:
		lock_list_drop(held, lock_of_handle, &op->lock);
		return;
	}
}

struct answer {
	enum lock_outcome outcome;
	struct attr attr; /* LOCK_GRANTED of a lock */
	uint64_t asked_ns, reclaims;
};

/*
 * LOCK, in the operation's turn. An answer from before a RECLAIM is worth nothing: what it tells of was perhaps not in it.
 * Without an answer the lock may be ours: so it counts until it is given back. And that is not given up (soft): nobody else
 * would do it.
 */
static int ask(struct lock_op *op, struct answer *ret)
{
	struct inode *inode = op->inode;
	struct fs_session *session = inode->fs->session;
	Strake__Lock lock;
	Strake__LockRequest request = STRAKE__LOCK_REQUEST__INIT;
	const Strake__LockReply *reply = NULL;
	struct call call = { .opcode = OP_LOCK, .request = &request.base };
	bool taken = op->lock.type != LOCK_FREE, same;
	int err;

	lock_to_wire(&op->lock, &lock);
	request.ino = inode->ino;
	request.lock = &lock;
	request.has_waiter = op->waiter != 0;
	request.waiter = op->waiter;
	request.has_drop = true;
	request.drop = op->drop;
	do {
		call_release(&call);
		err = fs_session_reclaims_wait(session, op->worker, &op->ctx);
		pthread_mutex_lock(&inode->lock);
		if (err == 0)
			err = lock_list_reserve(&inode->locks->held);
		pthread_mutex_unlock(&inode->lock);
		if (err < 0)
			return err;
		request.has_wait = true;
		request.wait = op->wait && !op->ended;
		op->told = false;
		ret->reclaims = fs_session_reclaims(session);
		ret->asked_ns = clock_ns();
		err = worker_mds_call_within(op->worker, &op->ctx, &call, taken ? 0 : UINT_MAX);
		reply = err == 0 ? (const Strake__LockReply *)call.reply : NULL;
		pthread_mutex_lock(&inode->lock);
		same = fs_session_reclaims(session) == ret->reclaims;
		if (reply != NULL ? same && reply->outcome == LOCK_GRANTED : taken && !call.answered)
			note(op);
		pthread_mutex_unlock(&inode->lock);
	} while (err == 0 && !same);
	if (err == 0) {
		ret->outcome = (enum lock_outcome)reply->outcome;
		if (taken && ret->outcome == LOCK_GRANTED)
			err = inode_take_attr(inode, reply->attr, ret->asked_ns, &ret->attr);
	}
	call_release(&call);
	return err;
}

/* What gives back. Meanwhile it is known since when. */
static int ask_to_free(struct lock_op *op, struct answer *ret)
{
	struct inode *inode = op->inode;
	int err;

	pthread_mutex_lock(&inode->lock);
	inode->locks->giving_ns = clock_ns();
	pthread_mutex_unlock(&inode->lock);
	err = ask(op, ret);
	pthread_mutex_lock(&inode->lock);
	inode->locks->giving_ns = 0;
	pthread_mutex_unlock(&inode->lock);
	return err;
}

/* --- operations -------------------------------------------------------------------------------------------------- */

/* QUEUED: until there is a reason to ask again, and its turn has come. With an error it has none. */
static int wait_to_be_told(struct lock_op *op)
{
	uint64_t until_ns = clock_ns() + ASK_MS * NSEC_PER_MSEC;
	int err = 0;

	op->queued = true;
	while (!op->told && !op->ended && err == 0)
		err = ctx_wait_in(op->worker, &op->ctx, &op->telling, NULL, until_ns);
	if (!op->queued) {
		turn_wait(op);
		return 0;
	}
	op->queued = false;
	if (err < 0 && err != -ETIMEDOUT)
		return err;
	turn_again(op);
	return 0;
}

static void give_back(struct lock_op *op)
{
	struct answer answer = { 0 };

	op->lock.type = LOCK_FREE;
	(void)ask_to_free(op, &answer);
}

/* Its turn has come; it is over at the end. */
static int take(struct lock_op *op)
{
	struct answer answer = { 0 };
	int err;

	for (;;) {
		lock_bring_out(op);
		err = ask(op, &answer);
		/* Who is closing is in line behind us by now, to give back what we still may get. */
		if (err == 0 && answer.outcome == LOCK_QUEUED && op->ended)
			err = ask(op, &answer);
		turn_end(op);
		if (err < 0)
			return err;
		if (answer.outcome != LOCK_QUEUED)
			break;
		err = wait_to_be_told(op);
		if (err < 0)
			return err;
	}
	switch (answer.outcome) {
	case LOCK_GRANTED:
		err = lock_look_anew(op, &answer.attr, answer.asked_ns, answer.reclaims);
		if (err < 0) {
			turn_again(op);
			give_back(op);
			turn_end(op);
		}
		return err;
	case LOCK_CONFLICT:
		return op->ended ? -EINTR : -EAGAIN;
	case LOCK_DEADLOCK:
		return -EDEADLK;
	default:
		return -EPROTO;
	}
}

static int give(struct lock_op *op)
{
	struct answer answer = { 0 };
	int err;

	lock_bring_out(op);
	err = ask_to_free(op, &answer);
	turn_end(op);
	return err;
}

void lock_op_put(struct lock_op *op)
{
	if (--op->refs > 0)
		return;
	inode_put(op->inode);
	free(op);
}

static void op_run(struct worker *worker, void *arg)
{
	struct lock_op *op = arg;

	(void)worker;
	turn_wait(op);
	op->begun = true;
	if (op->lock.type == LOCK_FREE)
		op->err = give(op);
	else if (!op->left)
		op->err = take(op);
	else
		turn_end(op);
	if (op->waiter != 0) {
		*op->link = op->next;
		if (op->next != NULL)
			op->next->link = op->link;
	}
	pthread_mutex_lock(&op->inode->lock);
	op->inode->locks->operations--;
	if (op->lock.kind == LOCK_APPEND)
		append_settled(op);
	pthread_mutex_unlock(&op->inode->lock);
	op->over = true;
	fiber_wake_all(&op->done);
	lock_op_put(op);
}

int lock_op_start(struct inode *inode, const struct lock *lock, uint32_t drop, bool wait, struct lock_op **ret_op)
{
	struct fs *fs = inode->fs;
	struct worker *worker = fs_worker(fs);
	struct lock_op *op = calloc(1, sizeof(*op));

	if (op == NULL || locks_get(inode) == NULL || worker_spawn(worker, op_run, op) < 0) {
		free(op);
		return -ENOMEM;
	}
	op->worker = worker;
	op->inode = inode_ref(inode);
	op->refs = 2;
	op->lock = *lock;
	op->drop = drop;
	op->wait = wait;
	op->ctx.trusted = true;
	inode->locks->operations++;
	turn_take(op);
	if (wait) {
		op->waiter = atomic_fetch_add(&fs->lock_waiters, 1) + 1;
		op->next = worker->lock_ops;
		op->link = &worker->lock_ops;
		if (op->next != NULL)
			op->next->link = &op->next;
		worker->lock_ops = op;
	}
	*ret_op = op;
	return 0;
}

/* It asks once more, before whatever its caller does next: a close of his would have nothing to give back yet. */
static void op_end_wait(struct lock_op *op)
{
	op->ended = true;
	if (op->queued) {
		pthread_mutex_lock(&op->inode->lock);
		turn_take(op);
		pthread_mutex_unlock(&op->inode->lock);
		op->queued = false;
	}
	fiber_wake_all(&op->telling);
}

/* What gives back sees itself through, with nobody waiting; on a soft mount there is no waiting for it, nor behind it. */
static bool op_waits_soft(const struct lock_op *op)
{
	return op->lock.type == LOCK_FREE || !op->begun;
}

int lock_op_wait(struct lock_op *op, struct fs_ctx *ctx)
{
	uint64_t end_ns = lock_patience_end(op->inode->fs);
	int err = 0;

	while (!op->over && err == 0) {
		if (op->wait && !op->ended && atomic_load(&ctx->signalled))
			op_end_wait(op);
		err = ctx_wait_in(op->worker, ctx, &op->done, NULL, op_waits_soft(op) ? end_ns : CTX_WAIT_FOREVER);
		if (err == -ETIMEDOUT)
			err = op_waits_soft(op) ? -EIO : 0;
	}
	op->left = !op->over;
	if (op->over)
		err = op->err;
	else if (op->wait)
		op_end_wait(op);
	lock_op_put(op);
	return err;
}
