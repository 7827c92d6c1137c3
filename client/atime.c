#include "client/atime.h"

#include "client/fs_state.h"
#include "proto/mds.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#define DAY_NS (INT64_C(86400) * 1000000000)

struct atimes {
	struct fs *fs;
	struct worker *worker;    /* that tells now and then */
	struct fiber_queue queue; /* it waits here */
	struct fiber_mutex telling;

	pthread_mutex_t lock; /* guards all below */
	bool runs, stopping;
	struct inode **waiting;
	size_t count, max;
};

struct atimes *atimes_new(struct fs *fs)
{
	struct atimes *atimes = calloc(1, sizeof(*atimes));

	if (atimes != NULL) {
		atimes->fs = fs;
		pthread_mutex_init(&atimes->lock, NULL);
		pthread_mutex_init(&atimes->telling.guard, NULL);
	}
	return atimes;
}

struct atimes *atimes_free(struct atimes *atimes)
{
	if (atimes == NULL)
		return NULL;
	for (size_t i = 0; i < atimes->count; i++)
		inode_put(atimes->waiting[i]);
	free(atimes->waiting);
	pthread_mutex_destroy(&atimes->lock);
	pthread_mutex_destroy(&atimes->telling.guard);
	free(atimes);
	return NULL;
}

/* --- noting ------------------------------------------------------------------------------------------------------ */

static bool make_room(struct atimes *atimes)
{
	size_t max = atimes->max == 0 ? 64 : 2 * atimes->max;
	struct inode **waiting;

	if (atimes->count < atimes->max)
		return true;
	if (max > ATIMES_MAX)
		return false;
	waiting = reallocarray(atimes->waiting, max, sizeof(*waiting));
	if (waiting == NULL)
		return false;
	atimes->waiting = waiting;
	atimes->max = max;
	return true;
}

/* It waits from now on. False: there is no room. */
static bool enter(struct atimes *atimes, struct inode *inode)
{
	bool entered;

	pthread_mutex_lock(&atimes->lock);
	entered = make_room(atimes);
	if (entered)
		atimes->waiting[atimes->count++] = inode_ref(inode);
	if (atimes->count == ATIMES_BATCH)
		fiber_wake_all(&atimes->queue);
	pthread_mutex_unlock(&atimes->lock);
	return entered;
}

static bool is_due(unsigned int rule, const struct attr *attr, int64_t now_ns)
{
	if (rule == ATIME_STRICT)
		return true;
	return attr->atime_ns <= attr->mtime_ns || attr->atime_ns <= attr->ctime_ns ||
	       now_ns - attr->atime_ns >= DAY_NS;
}

/* Whatever our clock says, it was read after it was changed. */
static int64_t not_before(int64_t now_ns, const struct attr *attr)
{
	if (now_ns < attr->mtime_ns)
		now_ns = attr->mtime_ns;
	return now_ns < attr->ctime_ns ? attr->ctime_ns : now_ns;
}

bool atime_note(struct inode *inode)
{
	unsigned int rule = atomic_load_explicit(&inode->fs->atime_rule, memory_order_relaxed);
	int64_t now_ns = (int64_t)clock_real_ns();
	bool due, first = false;

	if (rule == ATIME_NONE)
		return false;
	pthread_mutex_lock(&inode->lock);
	due = inode->attr_valid && inode->attr.nlink > 0 && !(inode->attr.flags & ATTR_NOATIME) &&
	      !((rule & ATIME_NOT_OF_DIRECTORIES) && S_ISDIR(inode->attr.mode)) &&
	      is_due(rule & ~ATIME_NOT_OF_DIRECTORIES, &inode->attr, now_ns);
	now_ns = not_before(now_ns, &inode->attr);
	due = due && now_ns > inode->attr.atime_ns;
	if (due) {
		first = !inode->atime_waits;
		if (first)
			inode->atime_seen_ns = inode->attr.atime_ns;
		inode->atime_waits = true;
		inode->attr.atime_ns = now_ns;
		first &= !inode->atime_listed;
		inode->atime_listed = true;
	}
	pthread_mutex_unlock(&inode->lock);
	if (!first || enter(inode->fs->atimes, inode))
		return due;
	pthread_mutex_lock(&inode->lock);
	inode->atime_listed = inode->atime_waits = false;
	pthread_mutex_unlock(&inode->lock);
	return false;
}

void atime_void(struct inode *inode)
{
	pthread_mutex_lock(&inode->lock);
	inode->atime_waits = false;
	pthread_mutex_unlock(&inode->lock);
}

void atime_merge(struct inode *inode, struct attr *attr)
{
	if (!inode->atime_waits)
		return;
	if (attr->atime_ns == inode->atime_seen_ns)
		attr->atime_ns = inode->attr.atime_ns;
	else if (attr->atime_ns != inode->attr.atime_ns)
		inode->atime_waits = false; /* somebody else has set it, or has read later */
}

/* --- telling ----------------------------------------------------------------------------------------------------- */

struct batch {
	size_t count;
	struct inode *inodes[ATIMES_BATCH];
	uint64_t inos[ATIMES_BATCH];
	int64_t seen_ns[ATIMES_BATCH], atime_ns[ATIMES_BATCH];
};

/* What waits, a batch of it. They wait on until the answer is here, so that nobody sees an older time meanwhile. */
static void batch_take(struct atimes *atimes, struct batch *batch)
{
	size_t taken = 0;

	batch->count = 0;
	pthread_mutex_lock(&atimes->lock);
	taken = atimes->count < ATIMES_BATCH ? atimes->count : ATIMES_BATCH;
	atimes->count -= taken;
	for (size_t i = 0; i < taken; i++)
		batch->inodes[i] = atimes->waiting[atimes->count + i];
	pthread_mutex_unlock(&atimes->lock);

	for (size_t i = 0; i < taken; i++) {
		struct inode *inode = batch->inodes[i];
		bool waits;

		pthread_mutex_lock(&inode->lock);
		waits = inode->atime_waits;
		if (waits) {
			batch->inos[batch->count] = inode->ino;
			batch->seen_ns[batch->count] = inode->atime_seen_ns;
			batch->atime_ns[batch->count] = inode->attr.atime_ns;
		} else {
			inode->atime_listed = false;
		}
		pthread_mutex_unlock(&inode->lock);
		if (waits)
			batch->inodes[batch->count++] = inode;
		else
			inode_put(inode);
	}
}

static int batch_tell(struct atimes *atimes, struct fs_ctx *ctx, unsigned int patience_ms, struct batch *batch)
{
	Strake__AtimesRequest request = STRAKE__ATIMES_REQUEST__INIT;
	struct call call = { .opcode = OP_ATIMES, .request = &request.base };
	int err;

	request.ino = batch->inos;
	request.seen_ns = batch->seen_ns;
	request.atime_ns = batch->atime_ns;
	request.n_ino = request.n_seen_ns = request.n_atime_ns = batch->count;
	err = worker_mds_call_within(fs_worker(atimes->fs), ctx, &call, patience_ms);
	if (err < 0 && call.answered)
		err = 0; /* refused for good */
	call_release(&call);
	return err;
}

/* It was told, or not; who was read meanwhile, or was not told, waits on. */
static void batch_end(struct atimes *atimes, struct batch *batch, bool told)
{
	for (size_t i = 0; i < batch->count; i++) {
		struct inode *inode = batch->inodes[i];
		bool again;

		pthread_mutex_lock(&inode->lock);
		if (told && inode->atime_waits && inode->atime_seen_ns == batch->seen_ns[i]) {
			inode->atime_seen_ns = batch->atime_ns[i];
			inode->atime_waits = inode->attr.atime_ns != batch->atime_ns[i];
		}
		again = inode->atime_listed = inode->atime_waits;
		pthread_mutex_unlock(&inode->lock);
		if (again && !enter(atimes, inode)) {
			pthread_mutex_lock(&inode->lock);
			inode->atime_listed = inode->atime_waits = false;
			pthread_mutex_unlock(&inode->lock);
		}
		inode_put(inode);
	}
}

/* At least 1, as 0 is for ever. */
static unsigned int left_ms(uint64_t until_ns)
{
	uint64_t now_ns = clock_ns();

	return now_ns >= until_ns ? 1 : (unsigned int)((until_ns - now_ns) / NSEC_PER_MSEC) + 1;
}

void atimes_tell(struct atimes *atimes, struct fs_ctx *ctx, unsigned int patience_ms)
{
	uint64_t until_ns = clock_ns() + patience_ms * NSEC_PER_MSEC;
	struct batch *batch = malloc(sizeof(*batch));
	size_t left;
	int err = 0;

	if (batch == NULL)
		return;
	/* One after the other: whoever returns has told what waited when he came. His turn is part of his patience. */
	fiber_mutex_lock(&atimes->telling);
	pthread_mutex_lock(&atimes->lock);
	left = atimes->count;
	pthread_mutex_unlock(&atimes->lock);
	while (left > 0 && err == 0) {
		batch_take(atimes, batch);
		if (batch->count > 0) {
			err = batch_tell(atimes, ctx, patience_ms == 0 ? 0 : left_ms(until_ns), batch);
			batch_end(atimes, batch, err == 0);
		}
		left = left > ATIMES_BATCH ? left - ATIMES_BATCH : 0;
	}
	fiber_mutex_unlock(&atimes->telling);
	free(batch);
}

static void tell_now_and_then(struct worker *worker, void *arg)
{
	struct atimes *atimes = arg;
	struct fs_ctx ctx = { .trusted = true };

	(void)worker;
	pthread_mutex_lock(&atimes->lock);
	while (!atimes->stopping) {
		fiber_wait_until(&atimes->queue, &atimes->lock, clock_ns() + ATIMES_TELL_MS * NSEC_PER_MSEC);
		if (atimes->stopping)
			break;
		pthread_mutex_unlock(&atimes->lock);
		atimes_tell(atimes, &ctx, ATIMES_PATIENCE_MS);
		pthread_mutex_lock(&atimes->lock);
	}
	atimes->runs = false;
	fiber_wake_all(&atimes->queue);
	pthread_mutex_unlock(&atimes->lock);
}

int atimes_start(struct atimes *atimes, struct worker *worker)
{
	int err = worker_spawn(worker, tell_now_and_then, atimes);

	atimes->runs = err == 0;
	return err;
}

void atimes_stop(struct atimes *atimes)
{
	pthread_mutex_lock(&atimes->lock);
	atimes->stopping = true;
	while (atimes->runs) {
		fiber_wake_all(&atimes->queue);
		fiber_wait(&atimes->queue, &atimes->lock);
	}
	pthread_mutex_unlock(&atimes->lock);
}
