/* The flusher: what is due is sent, reported and now and then committed; and the end, when all of it is. */
#include "client/ctx_wait.h"
#include "client/data/internal.h"
#include "client/targets.h"
#include "common/logger.h"

#include <errno.h>
#include <stdlib.h>

#define FLUSHER_TICK_MS   250
#define FLUSHES_MAX       64 /* inodes at a time; and as many that wait for OSTs which do not answer */
#define STOP_LOOK_MS      10
#define STOP_PATIENCE_MS  2000 /* after that the next failure is the last */
#define STOP_FAILURES_MAX 10
#define DRAIN_PAUSE_MS    200 /* after a failure */

static void flush(struct inode *inode, struct fs_ctx *ctx)
{
	if (data_write_out(inode, ctx) == 0)
		data_report_size(inode, ctx, false);
}

static void flush_run(struct worker *worker, void *arg)
{
	struct fs_ctx ctx = { .trusted = true };
	struct inode *inode = arg;

	flush(inode, &ctx);
	pthread_mutex_lock(&inode->lock);
	inode->data->flushing = false;
	pthread_mutex_unlock(&inode->lock);
	worker->fs->data->flushes--;
	inode_put(inode);
}

static bool goes_to_troubled(const struct extent_set *set, const struct inode *inode)
{
	const struct layout *layout = inode->attr.layout;

	for (size_t i = 0; layout->ost_count > 0 && i < set->count; i++) {
		struct layout_piece piece = layout_piece_at(layout, set->items[i]->offset, set->items[i]->length);
		const struct target_state *state = targets_state(inode->fs->targets, ROLE_OST, piece.ost);

		if (state != NULL && atomic_load(&state->troubled))
			return true;
	}
	return false;
}

/* Does anything of it wait for an OST that does not answer? inode->lock is held. */
static bool is_held_up(const struct inode *inode)
{
	if (targets_troubled(inode->fs->targets) == 0)
		return false;
	return goes_to_troubled(&inode->data->flight, inode) || goes_to_troubled(&inode->data->dirty, inode);
}

/* How many of the flushes under way are held up. */
static unsigned int flusher_held_up(struct inode **inodes, size_t count)
{
	unsigned int held_up = 0;

	for (size_t i = 0; i < count; i++) {
		pthread_mutex_lock(&inodes[i]->lock);
		held_up += inodes[i]->data->flushing && is_held_up(inodes[i]);
		pthread_mutex_unlock(&inodes[i]->lock);
	}
	return held_up;
}

/*
 * Send and report what is due; each inode on a fiber of its own, so that an OST that is away holds up no other's. Nor do many
 * of them: they have places of their own. held_up: of the flushes under way.
 */
static void flusher_start(struct data_fs *data_fs, struct inode *inode, unsigned int *held_up)
{
	struct inode_data *data = inode->data;
	uint64_t due = clock_ns() - DATA_DIRTY_MS * NSEC_PER_MSEC;
	bool wanted, waits;

	pthread_mutex_lock(&inode->lock);
	wanted = (data->dirty.count > 0 || data->report) && data->oldest_dirty_ns <= due && !data->flushing;
	waits = wanted && is_held_up(inode);
	wanted = wanted && (waits ? *held_up : data_fs->flushes - *held_up) < FLUSHES_MAX;
	if (wanted && worker_spawn(data_fs->worker, flush_run, inode_ref(inode)) < 0) {
		inode_put(inode); /* not the last: the caller has one */
		wanted = false;
	}
	if (wanted) {
		data->flushing = true;
		data_fs->flushes++;
		*held_up += waits;
	}
	pthread_mutex_unlock(&inode->lock);
}

/* When the oldest answer came that is not committed, and how many bytes are not. */
static uint64_t flusher_oldest_answer(struct inode **inodes, size_t count, uint64_t *ret_bytes)
{
	uint64_t oldest = UINT64_MAX, bytes = 0;

	for (size_t i = 0; i < count; i++) {
		struct inode_data *data = inodes[i]->data;

		pthread_mutex_lock(&inodes[i]->lock);
		if (data->uncommitted.count > 0 && data->oldest_answer_ns < oldest)
			oldest = data->oldest_answer_ns;
		bytes += data->uncommitted.bytes;
		pthread_mutex_unlock(&inodes[i]->lock);
	}
	*ret_bytes = bytes;
	return oldest;
}

static void inodes_put(struct inode **inodes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		data_account(inodes[i]->data);
		inode_put(inodes[i]);
	}
	free(inodes);
}

/* Have done what is due. */
static void flusher_round(struct data_fs *data_fs)
{
	size_t count;
	struct inode **inodes = data_fs_inodes(data_fs, &count);
	uint64_t much =
		data_fs->write_max / 2 < DATA_UNCOMMITTED_BYTES ? data_fs->write_max / 2 : DATA_UNCOMMITTED_BYTES;
	unsigned int held_up = flusher_held_up(inodes, count);
	uint64_t oldest, bytes;

	for (size_t i = 0; i < count; i++)
		flusher_start(data_fs, inodes[i], &held_up);
	oldest = flusher_oldest_answer(inodes, count, &bytes);
	if (atomic_load(&data_fs->hurry) || bytes > much ||
	    oldest <= clock_ns() - DATA_UNCOMMITTED_MS * NSEC_PER_MSEC) {
		atomic_store(&data_fs->hurry, false);
		data_commit_start(data_fs, inodes, count);
	}
	inodes_put(inodes, count);
}

int data_sync_all(struct data_fs *data_fs, struct fs_ctx *ctx)
{
	size_t count;
	struct inode **inodes = data_fs_inodes(data_fs, &count);
	int first = 0;

	for (size_t i = 0; i < count; i++) {
		int err = data_write_out(inodes[i], ctx);

		if (err == 0)
			err = data_report_size(inodes[i], ctx, false);
		if (err == 0)
			err = data_commit(inodes[i], ctx, false);
		if (err < 0 && first == 0)
			first = err;
		inode_put(inodes[i]);
	}
	free(inodes);
	return first;
}

static void flusher(struct worker *worker, void *arg)
{
	struct data_fs *data_fs = arg;
	uint64_t trimmed_ns = clock_ns();

	(void)worker;
	while (!data_fs->stopping) {
		fiber_wait_until(&data_fs->flusher_queue, NULL, clock_ns() + FLUSHER_TICK_MS * NSEC_PER_MSEC);
		if (!data_fs->stopping)
			flusher_round(data_fs);
		if (clock_ns() - trimmed_ns > DATA_UNCOMMITTED_MS * NSEC_PER_MSEC) {
			buffers_trim(data_fs->buffers);
			trimmed_ns = clock_ns();
		}
	}
	data_fs->flusher_runs = false;
	fiber_wake_all(&data_fs->flusher_queue);
}

int data_fs_start(struct data_fs *data_fs, struct worker *worker)
{
	int err;

	data_fs->worker = worker;
	err = worker_spawn(worker, flusher, data_fs);
	data_fs->flusher_runs = err == 0;
	return err;
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

struct stopping {
	struct inode **inodes;
	struct fs_ctx *ctx;
};

static int stop_one(struct worker *worker, void *arg, unsigned int i)
{
	const struct stopping *stopping = arg;

	(void)worker;
	flush(stopping->inodes[i], stopping->ctx);
	return 0;
}

/* Everything once: 1, 0 when there was nothing to do, or what a commit failed with. */
static int stop_round(struct data_fs *data_fs, struct fs_ctx *ctx)
{
	size_t count;
	struct inode **inodes = data_fs_inodes(data_fs, &count);
	int err;

	if (count == 0)
		return 0;
	for (size_t at = 0; at < count; at += FLUSHES_MAX) {
		struct stopping stopping = { .inodes = inodes + at, .ctx = ctx };
		size_t batch = count - at < FLUSHES_MAX ? count - at : FLUSHES_MAX;

		worker_parallel(data_fs->worker, (unsigned int)batch, stop_one, &stopping);
	}
	err = data_commit_all(data_fs, ctx, inodes, count);
	inodes_put(inodes, count);
	return err < 0 ? err : 1;
}

int data_fs_drain(struct data_fs *data_fs, struct fs_ctx *ctx)
{
	unsigned int failures = 0;
	int err;

	while ((err = stop_round(data_fs, ctx)) != 0) {
		int stop = err < 0 ? ctx_wait_ms(data_fs->worker, ctx, DRAIN_PAUSE_MS)
				   : ctx_wait_check(data_fs->worker, ctx);

		if (stop < 0)
			return stop;
		if (err < 0 && ++failures == STOP_FAILURES_MAX)
			return err;
	}
	return 0;
}

/* What is still held goes with its inodes, which nothing keeps any more. */
static void data_fs_abandon(struct data_fs *data_fs)
{
	size_t count;
	struct inode **inodes;

	pthread_mutex_lock(&data_fs->lock);
	data_fs->abandoned = true;
	pthread_mutex_unlock(&data_fs->lock);
	inodes = data_fs_inodes(data_fs, &count);
	inodes_put(inodes, count);
}

void data_fs_stop(struct data_fs *data_fs, struct fs_ctx *ctx)
{
	uint64_t until_ns, lost = atomic_load(&data_fs->lost);
	unsigned int failures = 0;

	data_fs->stopping = true;
	fiber_wake_all(&data_fs->flusher_queue);
	while (data_fs->flusher_runs)
		fiber_wait(&data_fs->flusher_queue, NULL);
	/* What it has begun ends by itself; fs_close() makes that soon. */
	while (data_fs->flushes > 0 || data_fs->commits != NULL)
		fiber_sleep_ms(STOP_LOOK_MS);
	/* What a disk refused for good would be refused for ever. */
	until_ns = clock_ns() + STOP_PATIENCE_MS * NSEC_PER_MSEC;
	for (;;) {
		int err = stop_round(data_fs, ctx);

		if (err == 0 || atomic_load(&ctx->interrupted))
			break;
		if (err < 0 && (++failures == STOP_FAILURES_MAX || clock_ns() > until_ns))
			break;
		fiber_yield();
	}
	lost = atomic_load(&data_fs->lost) - lost + atomic_load(&data_fs->held);
	if (lost > 0)
		log_error("%llu bytes could not be brought to stable storage", (unsigned long long)lost);
	data_fs_abandon(data_fs);
}
