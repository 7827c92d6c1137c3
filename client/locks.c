#include "client/locks.h"

#include "client/attr.h"
#include "client/ctx_wait.h"
#include "client/data/data.h"
#include "client/file.h"
#include "client/fs_state.h"
#include "client/session.h"
#include "client/shown.h"
#include "client/stat_store.h"
#include "common/logger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#define APPEND_LOOK_NS NSEC_PER_SEC /* others may change the size by other means: seen after that */

enum append_state {
	APPEND_NONE,
	APPEND_ASKED, /* an operation is under way */
	APPEND_HELD,
	APPEND_ENDING, /* wanted elsewhere: given back when those who have their turn are done */
};

/* All guarded by inode->lock. */
struct inode_locks {
	struct lock_list held;
	uint64_t turn_next, turn_now;
	struct fiber_queue changed; /* turns, or the right to append */
	unsigned int operations;    /* under way, QUEUED ones too */
	uint64_t giving_ns; /* since then the one whose turn it is gives back, and has no answer; 0: it does not */
	bool laundered;     /* mapped pages were brought out since it was opened for writing */

	enum append_state append;
	uint64_t append_turn;                   /* of the operation that asks for it */
	bool recalled;                          /* while it is asked for */
	unsigned int appenders, append_waiting; /* now between begin and end; waiting for it */
	unsigned int append_due;                /* of those who wait, who have their turn before it goes */
	unsigned int append_failures;
	unsigned int append_losses; /* it went with the session */
	int append_error;
	uint64_t append_looked_ns;
};

/* One fs_lock() and the like. Of one worker. */
struct lock_op {
	struct worker *worker;
	struct inode *inode;
	unsigned int refs; /* its fiber, and whoever waits for it */
	struct lock lock;
	uint32_t drop; /* of LOCK_FREE */
	bool wait;
	bool ended; /* the caller wants to wait no longer */
	bool begun; /* it has had its turn */
	bool left;  /* and the caller is gone before that: what is taken would be nobody's */
	bool over;
	int err;
	uint64_t turn;
	bool queued;             /* it has no turn, and waits to be told */
	struct fiber_queue done; /* the caller waits here */
	struct fs_ctx ctx;

	uint64_t waiter; /* 0: never waits */
	bool told;       /* ask again */
	struct fiber_queue telling;
	struct lock_op *next, **link; /* of the worker's that may wait */
};

static struct inode_locks *locks_get(struct inode *inode)
{
	if (inode->locks == NULL)
		inode->locks = calloc(1, sizeof(*inode->locks));
	return inode->locks;
}

void locks_free(struct inode *inode)
{
	if (inode->locks == NULL)
		return;
	lock_list_release(&inode->locks->held);
	free(inode->locks);
	inode->locks = NULL;
}

bool locks_are_used(const struct inode *inode)
{
	const struct inode_locks *locks = inode->locks;

	if (locks == NULL)
		return false;
	if (locks->operations > 0)
		return true;
	for (size_t i = 0; i < locks->held.count; i++)
		if (locks->held.items[i].kind != LOCK_APPEND)
			return true;
	return false;
}

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

/* How long a caller waits for others' operations: what is given back goes on until it is answered, also on a soft mount. */
static uint64_t patience_end(const struct fs *fs)
{
	return fs->config.soft ? clock_ns() + fs->config.soft_timeout_ms * NSEC_PER_MSEC : CTX_WAIT_FOREVER;
}

/* All that are in line now, as long as the caller waits. */
static int turns_wait(struct inode *inode, struct fs_ctx *ctx)
{
	uint64_t until, end_ns = patience_end(inode->fs);
	int err = 0;

	pthread_mutex_lock(&inode->lock);
	until = inode->locks != NULL ? inode->locks->turn_next : 0;
	while (err == 0 && until > 0 && inode->locks->turn_now < until)
		err = ctx_wait_in(fs_worker(inode->fs), ctx, &inode->locks->changed, &inode->lock, end_ns);
	pthread_mutex_unlock(&inode->lock);
	return err == -ETIMEDOUT ? -EIO : err;
}

/* --- barriers ---------------------------------------------------------------------------------------------------- */

/* Does the operation give up a write lock, or part of one? */
static bool ends_writing(const struct lock_op *op)
{
	struct inode *inode = op->inode;
	bool ends;

	if (op->lock.kind == LOCK_APPEND || op->lock.type == LOCK_EXCLUSIVE || op->drop != LOCK_DROP_RANGE)
		return false; /* at a close the kernel has brought out its pages before it tells us */
	pthread_mutex_lock(&inode->lock);
	ends = lock_list_holds(&inode->locks->held, &op->lock, LOCK_EXCLUSIVE);
	pthread_mutex_unlock(&inode->lock);
	return ends;
}

/* Have the kernel drop its pages, the dirty ones written out first. The fiber waits for it. */
static void drop_pages(struct inode *inode)
{
	const struct fs_config *config = &inode->fs->config;

	if (config->drop_pages != NULL)
		config->drop_pages(config->owner, inode->ino, 0, 0);
}

static void launder(struct lock_op *op)
{
	struct inode *inode = op->inode;
	bool wanted;

	pthread_mutex_lock(&inode->lock);
	wanted = inode->open_write > 0 && (inode->mapped || !inode->locks->laundered);
	if (wanted) {
		inode->locks->laundered = true;
		inode->pages_valid = false;
	}
	pthread_mutex_unlock(&inode->lock);
	if (wanted)
		drop_pages(inode);
}

/* What was written here is out. Where that fails the error is told by close and fsync; it holds up no lock. */
static void bring_out(struct lock_op *op)
{
	struct inode *inode = op->inode;
	bool unreported;

	if (ends_writing(op))
		launder(op);
	pthread_mutex_lock(&inode->lock);
	unreported = data_unreported(inode);
	pthread_mutex_unlock(&inode->lock);
	if (unreported && data_write_out(inode, &op->ctx) == 0)
		(void)data_report_size(inode, &op->ctx, false);
}

/* What others have written is seen. attr came with the grant; reclaims: as then. */
static int look_anew(struct lock_op *op, struct attr *attr, uint64_t asked_ns, uint64_t reclaims)
{
	struct inode *inode = op->inode;
	const struct fs_config *config = &inode->fs->config;
	uint64_t opened_ns, dir;
	bool keep, believed, shared = attr->size_unsure;
	int err = inode_settle_size(inode, &op->ctx, asked_ns, attr);

	if (op->lock.kind != LOCK_APPEND)
		stat_store_void(inode->fs->stat_store); /* its holder before may have done things to names */
	if (err < 0)
		return err;
	pthread_mutex_lock(&inode->lock);
	keep = inode_pages_are(inode, attr);
	believed = shown_is_believed(inode);
	shared |= inode->pages_valid && inode->pages_data_version != attr->data_version;
	dir = inode->dir;
	if (!keep)
		inode->pages_valid = false;
	opened_ns = inode->pages_opened_ns;
	pthread_mutex_unlock(&inode->lock);
	if (shared && op->lock.kind != LOCK_APPEND)
		shown_share_dir(inode->fs, dir);
	/* An append goes past the kernel's pages, which it drops itself when it hears of the new size. */
	if (op->lock.kind == LOCK_APPEND || keep) {
		if (believed && config->drop_attr != NULL)
			config->drop_attr(config->owner, inode->ino);
		return 0;
	}
	drop_pages(inode);
	pthread_mutex_lock(&inode->lock);
	if (fs_session_reclaims(inode->fs->session) == reclaims)
		inode_pages_become(inode, attr);
	if (inode->pages_opened_ns == opened_ns)
		inode->pages_opened_ns = 0; /* what that open was to drop has gone */
	pthread_mutex_unlock(&inode->lock);
	return 0;
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

void lock_to_wire(const struct lock *lock, Strake__Lock *out)
{
	strake__lock__init(out);
	out->kind = lock->kind;
	out->type = lock->type;
	out->start = lock->start;
	out->end = lock->end;
	out->owner = lock->owner;
	out->has_handle = out->has_pid = true;
	out->handle = lock->handle;
	out->pid = lock->pid;
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
	uint64_t until_ns = clock_ns() + LOCKS_ASK_MS * NSEC_PER_MSEC;
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
		bring_out(op);
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
		err = look_anew(op, &answer.attr, answer.asked_ns, answer.reclaims);
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

	bring_out(op);
	err = ask_to_free(op, &answer);
	turn_end(op);
	return err;
}

static void op_put(struct lock_op *op)
{
	if (--op->refs > 0)
		return;
	inode_put(op->inode);
	free(op);
}

static void append_settled(struct lock_op *op);

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
	op_put(op);
}

/* inode->lock is held, and it is in line when this returns. The reference is the caller's: op_wait() or op_put(). */
static int op_start(struct inode *inode, const struct lock *lock, uint32_t drop, bool wait, struct lock_op **ret_op)
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

static int op_wait(struct lock_op *op, struct fs_ctx *ctx)
{
	uint64_t end_ns = patience_end(op->inode->fs);
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
	op_put(op);
	return err;
}

/* --- the calls --------------------------------------------------------------------------------------------------- */

static struct lock lock_of(const struct file *file, const struct fs_lock *want)
{
	bool flock = want->flock;

	return (struct lock){
		.kind = flock ? LOCK_FLOCK : LOCK_POSIX,
		.type = want->type == F_RDLCK   ? LOCK_SHARED
			: want->type == F_WRLCK ? LOCK_EXCLUSIVE
						: LOCK_FREE,
		.pid = (uint32_t)want->pid,
		/* flock(2)'s locks are the open file's: numbers of owners come again, numbers of handles do not. */
		.owner = flock ? file->number : want->owner,
		.handle = file->number,
		.start = flock ? 0 : want->start,
		.end = flock ? UINT64_MAX : want->end,
	};
}

/* Is there anything that has such a lock, or will? inode->lock is held. */
static bool may_hold(const struct inode *inode, const struct lock *lock)
{
	return inode->locks != NULL &&
	       (inode->locks->operations > 0 || lock_list_holds(&inode->locks->held, lock, LOCK_SHARED));
}

/* Is the MDT away for so long that a soft mount would wait behind it in vain? inode->lock is held. */
static bool gives_in_vain(const struct inode *inode)
{
	const struct fs_config *config = &inode->fs->config;

	return config->soft && inode->locks != NULL && inode->locks->giving_ns != 0 &&
	       clock_ns() - inode->locks->giving_ns > config->soft_timeout_ms * NSEC_PER_MSEC;
}

int fs_lock(struct file *file, struct fs_ctx *ctx, const struct fs_lock *want, bool wait)
{
	struct inode *inode = file->inode;
	struct lock lock = lock_of(file, want);
	struct lock_op *op = NULL;
	int err = 0;

	if (lock.start > lock.end)
		return -EINVAL;
	if (lock.type != LOCK_FREE && atomic_load(&file->lost))
		return -EIO;
	pthread_mutex_lock(&inode->lock);
	if (lock.type != LOCK_FREE && gives_in_vain(inode))
		err = -EIO;
	else if (lock.type != LOCK_FREE || may_hold(inode, &lock))
		err = op_start(inode, &lock, LOCK_DROP_RANGE, wait && lock.type != LOCK_FREE, &op);
	pthread_mutex_unlock(&inode->lock);
	return op == NULL ? err : op_wait(op, ctx);
}

int fs_lock_test(struct file *file, struct fs_ctx *ctx, struct fs_lock *want)
{
	struct lock wanted = lock_of(file, want);
	Strake__Lock lock;
	Strake__LockRequest request = STRAKE__LOCK_REQUEST__INIT;
	const Strake__LockReply *reply;
	struct call call = { .opcode = OP_LOCK_TEST, .request = &request.base };
	int err;

	if (wanted.start > wanted.end || wanted.type == LOCK_FREE)
		return -EINVAL;
	lock_to_wire(&wanted, &lock);
	request.ino = file->inode->ino;
	request.lock = &lock;
	err = turns_wait(file->inode, ctx); /* what a close before has begun to give back is free */
	if (err == 0)
		err = worker_mds_call(fs_worker(file->fs), ctx, &call);
	if (err == 0) {
		reply = (const Strake__LockReply *)call.reply;
		want->type = F_UNLCK;
		if (reply->conflict != NULL) {
			want->type = reply->conflict->type == LOCK_EXCLUSIVE ? F_WRLCK : F_RDLCK;
			want->start = reply->conflict->start;
			want->end = reply->conflict->end;
			want->pid = (pid_t)reply->conflict->pid;
		}
	}
	call_release(&call);
	return err;
}

/* Is there nothing that a close by that owner has to give back? */
static bool gives_nothing(struct inode *inode, uint64_t owner)
{
	const struct lock all = { .kind = LOCK_POSIX, .owner = owner, .end = UINT64_MAX };
	bool nothing;

	pthread_mutex_lock(&inode->lock);
	nothing = !may_hold(inode, &all);
	pthread_mutex_unlock(&inode->lock);
	return nothing;
}

bool fs_close_is_nothing(struct file *file, uint64_t owner)
{
	struct inode *inode = file->inode;

	return (file->flags & O_ACCMODE) == O_RDONLY && !atomic_load(&file->lost) && gives_nothing(inode, owner);
}

int fs_close_by(struct file *file, struct fs_ctx *ctx, uint64_t owner)
{
	const struct lock all = { .kind = LOCK_POSIX, .owner = owner, .end = UINT64_MAX };
	struct inode *inode = file->inode;
	struct lock_op *op = NULL;
	int err, given = 0;

	/* In line before anything is waited for. */
	pthread_mutex_lock(&inode->lock);
	if (may_hold(inode, &all))
		given = op_start(inode, &all, LOCK_DROP_OWNER, false, &op);
	pthread_mutex_unlock(&inode->lock);
	err = fs_flush(file, ctx);
	if (op != NULL)
		given = op_wait(op, ctx);
	return err < 0 ? err : given == -ENOMEM ? given : 0;
}

static bool handle_holds(const struct inode_locks *locks, uint64_t handle)
{
	for (size_t i = 0; i < locks->held.count; i++)
		if (locks->held.items[i].handle == handle)
			return true;
	return locks->operations > 0;
}

static void append_give(struct inode *inode);

void locks_close_handle(struct file *file)
{
	const struct lock all = { .kind = LOCK_POSIX, .handle = file->number, .end = UINT64_MAX };
	struct inode *inode = file->inode;
	struct lock_op *op = NULL;

	pthread_mutex_lock(&inode->lock);
	if (inode->locks != NULL && handle_holds(inode->locks, file->number) &&
	    op_start(inode, &all, LOCK_DROP_HANDLE, false, &op) < 0)
		log_error("no memory to give back the locks of a file that is closed");
	if (inode->locks != NULL && inode->open_write <= ((file->flags & O_ACCMODE) != O_RDONLY)) {
		inode->locks->laundered = false;
		append_give(inode);
	}
	pthread_mutex_unlock(&inode->lock);
	if (op != NULL)
		op_put(op);
}

/* --- the right to append ----------------------------------------------------------------------------------------- */

static const struct lock append_lock = { .kind = LOCK_APPEND, .type = LOCK_EXCLUSIVE, .end = UINT64_MAX };

/* The operation that asked for it, or gave it back, is over. inode->lock is held. */
static void append_settled(struct lock_op *op)
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
	}
	fiber_wake_all(&locks->changed);
}

static void append_end(struct worker *worker, void *arg)
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
	while (op_start(inode, &nothing, LOCK_DROP_RANGE, false, &op) < 0) {
		pthread_mutex_unlock(&inode->lock);
		fiber_sleep_ms(10);
		pthread_mutex_lock(&inode->lock);
	}
	pthread_mutex_unlock(&inode->lock);
	op_put(op);
	inode_put(inode);
	(void)worker;
}

/* Give it back, when those who have their turn are done. inode->lock is held. */
static void append_give(struct inode *inode)
{
	struct inode_locks *locks = inode->locks;

	if (locks->append != APPEND_HELD)
		return;
	if (worker_spawn(fs_worker(inode->fs), append_end, inode_ref(inode)) < 0) {
		inode_put(inode); /* not the last: the caller has one. It is asked for again. */
		return;
	}
	locks->append = APPEND_ENDING;
}

/* It is ours; look at the size once in a while, which others may change without that right. */
static int append_look(struct inode *inode, struct fs_ctx *ctx)
{
	struct attr attr;
	bool look;

	pthread_mutex_lock(&inode->lock);
	look = clock_ns() - inode->locks->append_looked_ns > APPEND_LOOK_NS;
	if (look)
		inode->locks->append_looked_ns = clock_ns();
	pthread_mutex_unlock(&inode->lock);
	return look ? inode_fetch_attr(inode, ctx, true, &attr) : 0;
}

/* Is there an operation of before to be seen through first? */
static bool append_is_behind(const struct inode_locks *locks)
{
	return locks->append == APPEND_ENDING ||
	       (locks->append == APPEND_ASKED && locks->turn_now < locks->append_turn);
}

int locks_append_begin(struct inode *inode, struct fs_ctx *ctx, unsigned int *ret_mark)
{
	struct worker *worker = fs_worker(inode->fs);
	struct inode_locks *locks;
	struct lock_op *op;
	bool waited = false, mine = false;
	unsigned int failures = 0;
	uint64_t end_ns = patience_end(inode->fs);
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
			err = op_start(inode, &append_lock, LOCK_DROP_RANGE, true, &op);
			if (err < 0)
				break;
			locks->append = APPEND_ASKED;
			locks->append_turn = op->turn;
			op_put(op); /* it goes on without us */
		}
		failures = locks->append_failures;
		locks->append_waiting++;
		err = ctx_wait_in(worker, ctx, &locks->changed, &inode->lock,
				  append_is_behind(locks) ? end_ns : CTX_WAIT_FOREVER);
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
		err = append_look(inode, ctx);
		if (err < 0)
			locks_append_end(inode);
	}
	return err;
}

void locks_append_end(struct inode *inode)
{
	if (inode->fs->config.local_locks)
		return;
	pthread_mutex_lock(&inode->lock);
	inode->locks->appenders--;
	if (inode->locks->append == APPEND_ENDING)
		fiber_wake_all(&inode->locks->changed);
	pthread_mutex_unlock(&inode->lock);
}

bool locks_append_stands(const struct inode *inode, unsigned int mark)
{
	return inode->fs->config.local_locks || inode->locks->append_losses == mark;
}

/* --- what the MDT says ------------------------------------------------------------------------------------------- */

static void recalled(struct fs *fs, uint64_t ino)
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

void locks_pushed(struct worker *worker, const Strake__LockPush *push)
{
	for (size_t i = 0; i < push->n_waiter; i++) {
		struct lock_op *op = worker->lock_ops;

		while (op != NULL && op->waiter != push->waiter[i])
			op = op->next;
		if (op != NULL) { /* else it has asked again by itself */
			op->told = true;
			fiber_wake_all(&op->telling);
		}
	}
	for (size_t i = 0; i < push->n_recall && !worker->stopping; i++)
		recalled(worker->fs, push->recall[i]);
}

/* The MDT cannot ask for them any more. */
static void give_back_appends(struct worker *worker, void *arg)
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

void locks_disconnected(struct worker *worker)
{
	for (struct lock_op *op = worker->lock_ops; op != NULL; op = op->next) {
		op->told = true;
		fiber_wake_all(&op->telling);
	}
	if (!worker->stopping && atomic_load(&worker->fs->lock_waiters) > 0)
		(void)worker_spawn(worker, give_back_appends, NULL);
}

/* --- the session ------------------------------------------------------------------------------------------------- */

int locks_collect(const struct inode *inode, struct held_locks *held)
{
	const struct lock_list *list = inode->locks != NULL ? &inode->locks->held : NULL;
	size_t room = held->room > 0 ? held->room : 64;
	struct held_lock *items;

	if (list == NULL || list->count == 0)
		return 0;
	while (room < held->count + list->count)
		room *= 2;
	if (room > held->room) {
		items = reallocarray(held->items, room, sizeof(*items));
		if (items == NULL)
			return -ENOMEM;
		held->items = items;
		held->room = room;
	}
	for (size_t i = 0; i < list->count; i++)
		held->items[held->count++] = (struct held_lock){ inode->ino, list->items[i] };
	return 0;
}

/* Each handle of a file that is locked: how many. */
static unsigned int handles_lost(struct fs *fs)
{
	unsigned int handles = 0;

	pthread_mutex_lock(&fs->files_lock);
	for (struct file *file = fs->files; file != NULL; file = file->next) {
		struct inode *inode = file->inode;
		const struct inode_locks *locks;

		pthread_mutex_lock(&inode->lock);
		locks = inode->locks;
		for (size_t i = 0; locks != NULL && i < locks->held.count && !atomic_load(&file->lost); i++)
			if (locks->held.items[i].kind != LOCK_APPEND) {
				atomic_store(&file->lost, true);
				handles++;
			}
		pthread_mutex_unlock(&inode->lock);
	}
	pthread_mutex_unlock(&fs->files_lock);
	return handles;
}

static void inode_lost(struct inode *inode)
{
	struct inode_locks *locks;

	pthread_mutex_lock(&inode->lock);
	locks = inode->locks;
	if (locks != NULL) {
		locks->held.count = 0;
		locks->append_losses++;
		locks->append_due = 0;
		if (locks->append == APPEND_HELD)
			locks->append = APPEND_NONE;
		fiber_wake_all(&locks->changed);
	}
	pthread_mutex_unlock(&inode->lock);
}

int locks_lost(struct fs *fs)
{
	unsigned int handles;
	struct inode **inodes;
	size_t count;
	/* Also of files that are closed: a lock may be on its way back, the right to append be kept. */
	int err = inode_table_list(fs->inodes, &inodes, &count);

	if (err < 0)
		return err;
	handles = handles_lost(fs);
	for (size_t i = 0; i < count; i++) {
		inode_lost(inodes[i]);
		inode_put(inodes[i]);
	}
	free(inodes);
	if (handles > 0)
		log_error("the session was lost, and locks with it: %u open files fail until they are closed", handles);
	return 0;
}
