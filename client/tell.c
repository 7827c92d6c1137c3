#include "client/tell.h"

#include "common/container_of.h"

#include "client/ctx_wait.h"
#include "client/data/data.h"
#include "client/fs_state.h"
#include "client/rpc.h"
#include "client/session.h"
#include "proto/mds.pb-c.h"

#include <errno.h>
#include <stdlib.h>

/* Inodes to close, in the order of their last release; each with a reference. Linked by inode->close_next. */
struct close_list {
	struct inode *first, *last;
	unsigned int count;
};

struct tell_queue {
	struct worker *worker;
	struct loop_timer timer;
	struct close_list closes;
	unsigned int late; /* of these could not be told the last time */
	bool sending;
};

static void list_add(struct close_list *list, struct inode *inode)
{
	inode->close_next = NULL;
	if (list->last != NULL)
		list->last->close_next = inode;
	else
		list->first = inode;
	list->last = inode;
	list->count++;
}

static struct inode *list_take(struct close_list *list)
{
	struct inode *inode = list->first;

	if (inode != NULL) {
		list->first = inode->close_next;
		if (list->first == NULL)
			list->last = NULL;
		list->count--;
	}
	return inode;
}

unsigned int tell_modes(const struct inode *inode)
{
	return (inode->open_read > 0 ? OPEN_READ : 0u) | (inode->open_write > 0 ? OPEN_WRITE : 0u);
}

/* --- OPEN -------------------------------------------------------------------------------------------------------- */

/* Of an inode they are taken in the order of what is told of it: a CLOSE that was given up is older than what comes after. */
static uint64_t next_turn(struct worker *worker)
{
	return atomic_fetch_add(&worker->fs->tell_turns, 1) + 1;
}

/* *ret_told: the MDT may have taken note, whatever the result. */
static int send_open(struct worker *worker, struct inode *inode, struct fs_ctx *ctx, unsigned int modes, bool append,
		     struct attr *ret_attr, bool *ret_told)
{
	struct fs_session *session = worker->fs->session;
	Strake__Cred cred = rpc_cred(ctx);
	Strake__OpenRequest request = STRAKE__OPEN_REQUEST__INIT;
	struct call call = { .opcode = OP_OPEN, .request = &request.base };
	uint64_t reclaims, asked_ns;
	int err;

	request.cred = &cred;
	request.ino = inode->ino;
	request.modes = modes;
	request.has_append = request.append = append;
	request.has_turn = true;
	*ret_told = false;
	do {
		err = fs_session_reclaims_wait(session, worker, ctx);
		if (err < 0)
			return err;
		reclaims = fs_session_reclaims(session);
		asked_ns = clock_ns();
		request.turn = next_turn(worker);
		call_release(&call);
		err = worker_mds_call(worker, ctx, &call);
	} while (err == 0 && fs_session_reclaims(session) != reclaims);

	*ret_told = err == 0 || !call.answered;
	if (err == 0)
		err = inode_take_attr(inode, ((const Strake__AttrReply *)call.reply)->attr, asked_ns, ret_attr);
	call_release(&call);
	return err < 0 ? err : inode_settle_size(inode, ctx, asked_ns, ret_attr);
}

static int tell(struct inode *inode, struct fs_ctx *ctx, unsigned int modes, bool append, bool again,
		struct attr *ret_attr)
{
	struct worker *worker = fs_worker(inode->fs);
	bool told;
	int err = 0;

	pthread_mutex_lock(&inode->lock);
	while (inode->telling && err == 0)
		err = ctx_wait_in(worker, ctx, &inode->changed, &inode->lock, CTX_WAIT_FOREVER);
	if (err < 0 || (!again && (inode->known_modes & modes) == modes)) {
		pthread_mutex_unlock(&inode->lock);
		return err < 0 ? err : inode_fetch_attr(inode, ctx, true, ret_attr);
	}
	inode->telling = inode->told_before = true;
	pthread_mutex_unlock(&inode->lock);

	err = send_open(worker, inode, ctx, modes, append, ret_attr, &told);

	pthread_mutex_lock(&inode->lock);
	if (told)
		inode->told_modes |= modes;
	if (err == 0)
		inode->known_modes |= modes;
	inode->telling = false;
	fiber_wake_all(&inode->changed);
	pthread_mutex_unlock(&inode->lock);
	return err;
}

int tell_open(struct inode *inode, struct fs_ctx *ctx, unsigned int modes, bool append, struct attr *ret_attr)
{
	/* What is told already needs no telling; but where the kernel has not checked the access, the MDT does by OPEN. */
	bool again = !ctx->trusted || (ctx->uid == 0 && fs_session_squashes_root(inode->fs->session));

	return tell(inode, ctx, modes, append, again, ret_attr);
}

static void hold_end(struct inode *inode)
{
	pthread_mutex_lock(&inode->lock);
	inode->open_read--;
	pthread_mutex_unlock(&inode->lock);
	tell_close(inode);
	inode_put(inode);
}

static void hold_run_out(struct worker *worker, void *arg)
{
	struct fs_ctx ctx = { .trusted = true };

	ctx_wait_ms(worker, &ctx, TELL_HOLD_MS);
	hold_end(arg);
}

int tell_hold(struct inode *inode, struct fs_ctx *ctx)
{
	struct attr attr;
	int err;

	pthread_mutex_lock(&inode->lock);
	inode->open_read++;
	pthread_mutex_unlock(&inode->lock);
	inode_ref(inode);
	err = tell_open(inode, ctx, OPEN_READ, false, &attr);
	if (err < 0 || worker_spawn(fs_worker(inode->fs), hold_run_out, inode) < 0)
		hold_end(inode);
	return err;
}

uint64_t tell_mark(struct fs *fs)
{
	return fs_session_reclaims(fs->session);
}

int tell_created(struct inode *inode, struct fs_ctx *ctx, unsigned int modes, uint64_t mark, struct attr *attr)
{
	bool certain;

	pthread_mutex_lock(&inode->lock);
	certain = !inode->told_before && mark % 2 == 0 && mark == fs_session_reclaims(inode->fs->session);
	if (certain) {
		inode->told_modes |= modes;
		inode->known_modes |= modes;
		inode->told_before = true;
	}
	pthread_mutex_unlock(&inode->lock);
	/* The CREATE was checked. */
	return certain ? 0 : tell(inode, ctx, modes, true, true, attr);
}

/* --- CLOSE ------------------------------------------------------------------------------------------------------- */

static void queue_send(struct worker *worker, void *arg);

static void queue_due(struct loop_timer *timer)
{
	struct tell_queue *queue = container_of(timer, struct tell_queue, timer);

	if (queue->sending || queue->closes.count == 0 || queue->worker->stopping)
		return;
	if (worker_spawn(queue->worker, queue_send, queue) == 0)
		queue->sending = true;
	else
		loop_timer_set(queue->worker->loop, &queue->timer, clock_ns() + TELL_CLOSE_MS * NSEC_PER_MSEC);
}

/* See that the queue is sent before long: at once where a batch is full of what was not looked at before. */
static void queue_wind(struct tell_queue *queue)
{
	uint64_t ms = queue->closes.count >= queue->late + TELL_CLOSE_BATCH ? 0 : TELL_CLOSE_MS;

	if (queue->sending || queue->closes.count == 0 || queue->worker->stopping)
		return;
	if (queue->timer.loop == NULL || ms == 0)
		loop_timer_set(queue->worker->loop, &queue->timer, clock_ns() + ms * NSEC_PER_MSEC);
}

struct tell_queue *tell_queue_new(struct worker *worker)
{
	struct tell_queue *queue = calloc(1, sizeof(*queue));

	if (queue != NULL) {
		queue->worker = worker;
		queue->timer.expired = queue_due;
	}
	return queue;
}

struct tell_queue *tell_queue_free(struct tell_queue *queue)
{
	struct inode *inode;

	if (queue == NULL)
		return NULL;
	loop_timer_cancel(&queue->timer);
	while ((inode = list_take(&queue->closes)) != NULL)
		inode_put(inode);
	free(queue);
	return NULL;
}

void tell_close(struct inode *inode)
{
	struct tell_queue *queue = fs_worker(inode->fs)->tells;
	bool add;

	pthread_mutex_lock(&inode->lock);
	/* While telling, what is told may grow yet: look again when it is sent. */
	add = !inode->close_queued && (inode->telling || (inode->told_modes & ~tell_modes(inode)) != 0);
	if (add)
		inode->close_queued = true;
	pthread_mutex_unlock(&inode->lock);
	if (!add)
		return;
	list_add(&queue->closes, inode_ref(inode));
	queue_wind(queue);
}

void tell_disown(struct inode *inode, unsigned int modes)
{
	pthread_mutex_lock(&inode->lock);
	inode->told_modes |= modes & ~tell_modes(inode);
	inode->told_before = true;
	pthread_mutex_unlock(&inode->lock);
	tell_close(inode);
}

struct close_batch {
	unsigned int count;
	struct inode *inodes[TELL_CLOSE_BATCH];
	uint64_t inos[TELL_CLOSE_BATCH];
	uint32_t modes[TELL_CLOSE_BATCH];
};

enum close_verdict { CLOSE_NEEDLESS, CLOSE_NOW, CLOSE_LATER };

/* What to tell of an inode from the queue; CLOSE_NOW: it is `telling` from here on. */
static enum close_verdict close_decide(struct inode *inode, uint32_t *ret_modes)
{
	enum close_verdict verdict;
	unsigned int excess;

	pthread_mutex_lock(&inode->lock);
	excess = inode->told_modes & ~tell_modes(inode);
	if (inode->telling || ((excess & OPEN_WRITE) != 0 && data_unreported(inode)))
		verdict = CLOSE_LATER;
	else
		verdict = excess == 0 ? CLOSE_NEEDLESS : CLOSE_NOW;
	if (verdict == CLOSE_NOW) {
		inode->telling = true;
		*ret_modes = excess;
	}
	if (verdict != CLOSE_LATER)
		inode->close_queued = false;
	pthread_mutex_unlock(&inode->lock);
	return verdict;
}

static void batch_fill(struct close_batch *batch, struct close_list *from, struct close_list *later)
{
	struct inode *inode;

	batch->count = 0;
	while (batch->count < TELL_CLOSE_BATCH && (inode = list_take(from)) != NULL) {
		switch (close_decide(inode, &batch->modes[batch->count])) {
		case CLOSE_NEEDLESS:
			inode_put(inode);
			break;
		case CLOSE_LATER:
			list_add(later, inode);
			break;
		case CLOSE_NOW:
			batch->inodes[batch->count] = inode;
			batch->inos[batch->count++] = inode->ino;
			break;
		}
	}
}

static int batch_send(struct worker *worker, struct close_batch *batch)
{
	struct fs_session *session = worker->fs->session;
	struct fs_ctx ctx = { .trusted = true };
	Strake__CloseRequest request = STRAKE__CLOSE_REQUEST__INIT;
	struct call call = { .opcode = OP_CLOSE, .request = &request.base };
	uint64_t reclaims;
	int err;

	request.ino = batch->inos;
	request.n_ino = batch->count;
	request.modes = batch->modes;
	request.n_modes = batch->count;
	request.has_turn = true;
	do {
		err = fs_session_reclaims_wait(session, worker, &ctx);
		if (err < 0)
			return err;
		reclaims = fs_session_reclaims(session);
		request.turn = next_turn(worker);
		err = worker_mds_call(worker, &ctx, &call);
		/* An answer is an answer: an inode that the MDT does not know is not open there either. */
		if (err < 0 && call.answered)
			err = 0;
		call_release(&call);
	} while (err == 0 && fs_session_reclaims(session) != reclaims);
	return err;
}

/* The batch has been told (or not): let others tell, and try again what failed. */
static void batch_end(struct close_batch *batch, bool told, struct close_list *later)
{
	for (unsigned int i = 0; i < batch->count; i++) {
		struct inode *inode = batch->inodes[i];
		bool again = false;

		pthread_mutex_lock(&inode->lock);
		inode->telling = false;
		inode->known_modes &= ~batch->modes[i];
		if (told)
			inode->told_modes &= ~batch->modes[i];
		else if (!inode->close_queued)
			again = inode->close_queued = true;
		fiber_wake_all(&inode->changed);
		pthread_mutex_unlock(&inode->lock);
		if (again)
			list_add(later, inode);
		else
			inode_put(inode);
	}
}

static void queue_send(struct worker *worker, void *arg)
{
	struct tell_queue *queue = arg;
	struct close_list later = { 0 };
	struct close_batch batch;
	struct inode *inode;

	while (queue->closes.count > 0 && !worker->stopping) {
		batch_fill(&batch, &queue->closes, &later);
		if (batch.count > 0)
			batch_end(&batch, batch_send(worker, &batch) == 0, &later);
	}
	queue->late = later.count;
	while ((inode = list_take(&later)) != NULL)
		list_add(&queue->closes, inode);
	queue->sending = false;
	queue_wind(queue);
}
