/*
 * Waiting that can be cut short: by fs_interrupt() of the caller's ctx, or by worker_free(). Everything in libstrake
 * that waits for long waits through one of these. A ctx may wait in several fibers at once (worker_parallel()), all on
 * one worker.
 *
 * All return 0 when woken or done, and
 * -EINTR      the ctx was interrupted
 * -ECANCELED  the worker is being freed
 * -ETIMEDOUT  the time has come
 */
#ifndef STRAKE_CLIENT_CTX_WAIT_H
#define STRAKE_CLIENT_CTX_WAIT_H

#include "client/worker.h"

#define CTX_WAIT_FOREVER UINT64_MAX

/* 0, or why to wait no more. */
int ctx_wait_check(const struct worker *worker, const struct fs_ctx *ctx);

/* As fiber_wait_until(): mutex (held, or NULL) guards the queue. Woken also for nothing: check your condition again. */
int ctx_wait_in(struct worker *worker, struct fs_ctx *ctx, struct fiber_queue *queue, pthread_mutex_t *mutex,
		uint64_t until_ns);

int ctx_wait_ms(struct worker *worker, struct fs_ctx *ctx, unsigned int ms); /* 0 when they have passed */

/* peer_call(); cut short it is -ECANCELED as from call_cancel(): ctx_wait_check() says which. */
int ctx_wait_call(struct worker *worker, struct fs_ctx *ctx, struct peer *peer, struct call *call);

/* Have all that wait on the worker look again why; with worker->stopping set they end. */
void ctx_wait_kick(struct worker *worker);

#endif
