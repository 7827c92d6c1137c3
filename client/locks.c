#include "client/locks.h"

#include "client/append.h"
#include "client/file.h"
#include "client/fs_state.h"
#include "client/lock_op.h"
#include "common/logger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct inode_locks *locks_get(struct inode *inode)
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
		err = lock_op_start(inode, &lock, LOCK_DROP_RANGE, wait && lock.type != LOCK_FREE, &op);
	pthread_mutex_unlock(&inode->lock);
	return op == NULL ? err : lock_op_wait(op, ctx);
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
	err = lock_turns_wait(file->inode, ctx); /* what a close before has begun to give back is free */
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
		given = lock_op_start(inode, &all, LOCK_DROP_OWNER, false, &op);
	pthread_mutex_unlock(&inode->lock);
	err = fs_flush(file, ctx);
	if (op != NULL)
		given = lock_op_wait(op, ctx);
	return err < 0 ? err : given == -ENOMEM ? given : 0;
}

static bool handle_holds(const struct inode_locks *locks, uint64_t handle)
{
	for (size_t i = 0; i < locks->held.count; i++)
		if (locks->held.items[i].handle == handle)
			return true;
	return locks->operations > 0;
}

void locks_close_handle(struct file *file)
{
	const struct lock all = { .kind = LOCK_POSIX, .handle = file->number, .end = UINT64_MAX };
	struct inode *inode = file->inode;
	struct lock_op *op = NULL;

	pthread_mutex_lock(&inode->lock);
	if (inode->locks != NULL && handle_holds(inode->locks, file->number) &&
	    lock_op_start(inode, &all, LOCK_DROP_HANDLE, false, &op) < 0)
		log_error("no memory to give back the locks of a file that is closed");
	if (inode->locks != NULL && inode->open_write <= ((file->flags & O_ACCMODE) != O_RDONLY)) {
		inode->locks->laundered = false;
		append_give(inode);
	}
	pthread_mutex_unlock(&inode->lock);
	if (op != NULL)
		lock_op_put(op);
}

/* --- what the MDT says ------------------------------------------------------------------------------------------- */

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
		append_recalled(worker->fs, push->recall[i]);
}

void locks_disconnected(struct worker *worker)
{
	for (struct lock_op *op = worker->lock_ops; op != NULL; op = op->next) {
		op->told = true;
		fiber_wake_all(&op->telling);
	}
	append_disconnected(worker);
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
	pthread_mutex_lock(&inode->lock);
	if (inode->locks != NULL) {
		inode->locks->held.count = 0;
		append_lost(inode);
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
