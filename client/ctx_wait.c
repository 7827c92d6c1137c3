#include "client/ctx_wait.h"

#include <errno.h>

/* One wait, on the waiter's stack, in two lists: of its ctx (for fs_interrupt) and of its worker (for worker_free). */
struct ctx_wait {
	struct ctx_wait *ctx_next, **ctx_link;
	struct ctx_wait *worker_next, **worker_link;
	struct call *call;         /* or: */
	struct fiber_queue *queue; /* guarded by */
	pthread_mutex_t *mutex;
};

static void wait_begin(struct worker *worker, struct fs_ctx *ctx, struct ctx_wait *wait)
{
	wait->ctx_next = ctx->waiting;
	wait->ctx_link = &ctx->waiting;
	if (wait->ctx_next != NULL)
		wait->ctx_next->ctx_link = &wait->ctx_next;
	ctx->waiting = wait;

	wait->worker_next = worker->waits;
	wait->worker_link = &worker->waits;
	if (wait->worker_next != NULL)
		wait->worker_next->worker_link = &wait->worker_next;
	worker->waits = wait;
}

static void wait_end(struct ctx_wait *wait)
{
	*wait->ctx_link = wait->ctx_next;
	if (wait->ctx_next != NULL)
		wait->ctx_next->ctx_link = wait->ctx_link;
	*wait->worker_link = wait->worker_next;
	if (wait->worker_next != NULL)
		wait->worker_next->worker_link = wait->worker_link;
}

/* The waiter leaves the lists itself, when its fiber runs. */
static void wait_kick(struct ctx_wait *wait)
{
	if (wait->call != NULL) {
		call_cancel(wait->call);
		return;
	}
	if (wait->mutex != NULL)
		pthread_mutex_lock(wait->mutex);
	fiber_wake_all(wait->queue);
	if (wait->mutex != NULL)
		pthread_mutex_unlock(wait->mutex);
}

void fs_interrupt(struct fs_ctx *ctx)
{
	atomic_store(&ctx->interrupted, true);
	for (struct ctx_wait *wait = ctx->waiting; wait != NULL; wait = wait->ctx_next)
		wait_kick(wait);
}

void fs_signal(struct fs_ctx *ctx)
{
	atomic_store(&ctx->signalled, true);
	for (struct ctx_wait *wait = ctx->waiting; wait != NULL; wait = wait->ctx_next)
		if (wait->call == NULL)
			wait_kick(wait);
}

void ctx_wait_kick(struct worker *worker)
{
	for (struct ctx_wait *wait = worker->waits; wait != NULL; wait = wait->worker_next)
		wait_kick(wait);
}

int ctx_wait_check(const struct worker *worker, const struct fs_ctx *ctx)
{
	if (atomic_load_explicit(&ctx->interrupted, memory_order_relaxed))
		return -EINTR;
	return worker->stopping ? -ECANCELED : 0;
}

int ctx_wait_in(struct worker *worker, struct fs_ctx *ctx, struct fiber_queue *queue, pthread_mutex_t *mutex,
		uint64_t until_ns)
{
	struct ctx_wait wait = { .queue = queue, .mutex = mutex };
	int err = ctx_wait_check(worker, ctx);
	int timed_out = 0;

	if (err < 0)
		return err;

	wait_begin(worker, ctx, &wait);
	if (until_ns == CTX_WAIT_FOREVER)
		fiber_wait(queue, mutex);
	else
		timed_out = fiber_wait_until(queue, mutex, until_ns);
	wait_end(&wait);

	err = ctx_wait_check(worker, ctx);
	return err < 0 ? err : timed_out;
}

int ctx_wait_ms(struct worker *worker, struct fs_ctx *ctx, unsigned int ms)
{
	struct fiber_queue nobody = { 0 };
	int err = ctx_wait_in(worker, ctx, &nobody, NULL, clock_ns() + ms * NSEC_PER_MSEC);

	return err == -ETIMEDOUT ? 0 : err;
}

int ctx_wait_call(struct worker *worker, struct fs_ctx *ctx, struct peer *peer, struct call *call)
{
	struct ctx_wait wait = { .call = call };
	int err;

	wait_begin(worker, ctx, &wait);
	err = peer_call(peer, call);
	wait_end(&wait);
	return err;
}
