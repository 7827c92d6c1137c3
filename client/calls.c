/*
 * Operations seen through: slot, attempts, resends, patience.
 *
 *     session -> slot, next number -> attempt -> answered?  no: again in the same slot, with FRAME_RESENT
 *                                                           yes: EAGAIN, ENOSESSION: again from the start; else done
 */
#include "client/ctx_wait.h"
#include "client/fs_state.h"
#include "client/peers.h"
#include "client/session.h"
#include "client/slot_share.h"
#include "client/stat_store.h"
#include "common/status.h"

#include <assert.h>
#include <errno.h>

#define AGAIN_FIRST_MS      2 /* pauses after EAGAIN */
#define AGAIN_MAX_MS        50
#define RETRY_FIRST_MS      10 /* pauses after a broken connection */
#define RETRY_MAX_MS        500
#define UNKNOWN_MS          100 /* pause after an OST did not know the session */
#define CLOSING_PATIENCE_NS (5 * NSEC_PER_SEC / 2)
#define CLOSING_ATTEMPT_MS  2000
#define MAP_WAIT_MS         200 /* pause while the map lacks the target */

struct asking {
	struct worker *worker;
	struct fs_ctx *ctx;
	enum role role;
	uint32_t index;
	struct call *call;
	struct target_state *state;
	uint64_t began_ns;
	uint64_t patience_ns;      /* 0: as the mount has it */
	unsigned int tries;        /* attempts and repetitions so far */
	bool (*may_go)(void *arg); /* in the session at hand; NULL: in any */
	void *may_go_arg;
};

/* When an operation without an answer is given up. */
static uint64_t give_up_at(const struct asking *asking)
{
	const struct fs *fs = asking->worker->fs;
	uint64_t at = CTX_WAIT_FOREVER;

	if (asking->patience_ns != 0)
		at = asking->began_ns + asking->patience_ns;
	else if (fs->config.soft)
		at = asking->began_ns + fs->config.soft_timeout_ms * NSEC_PER_MSEC;
	if (atomic_load(&fs->closing) && asking->state->troubled && at > asking->began_ns + CLOSING_PATIENCE_NS)
		at = asking->began_ns + CLOSING_PATIENCE_NS;
	return at;
}

static unsigned int attempt_ms(const struct asking *asking, const struct peer *peer)
{
	unsigned int ms = PEER_ATTEMPT_MS;
	uint64_t at = give_up_at(asking), now = clock_ns();

	/* An OST may take its time to commit; who is not even there, or an MDT that does not answer, has gone. */
	if (atomic_load(&asking->worker->fs->closing) && (asking->role == ROLE_MDT || !peer_is_connected(peer)))
		ms = CLOSING_ATTEMPT_MS;
	if (at != CTX_WAIT_FOREVER && (at <= now || (at - now) / NSEC_PER_MSEC < ms))
		ms = at <= now ? 1 : (unsigned int)((at - now) / NSEC_PER_MSEC) + 1;
	return ms;
}

static unsigned int backoff_ms(unsigned int first, unsigned int max, unsigned int tries)
{
	return tries > 8 || first << tries > max ? max : first << tries;
}

static void trouble(struct asking *asking, const char *reason)
{
	targets_trouble(asking->worker->fs->targets, asking->state, asking->began_ns, reason);
}

/* The connection's fate, not the server's answer: worth another attempt. */
static bool is_transient(int err)
{
	switch (err) {
	case -ETIMEDOUT:
	case -ECONNRESET:
	case -ECANCELED: /* the peer was replaced, or fs_close() wants us to think again */
	case -EKEYREJECTED:
	case -ESTALE:
	case -EPROTO:
	case -ENXIO:
	case -ENOMEM:
		return true;
	default:
		return false;
	}
}

static int attempt(struct asking *asking)
{
	struct peer *peer;
	int err = peers_get(asking->worker->peers, asking->role, asking->index, &peer);

	asking->call->answered = false;
	if (err < 0)
		return err;
	asking->call->attempt_ms = attempt_ms(asking, peer);
	return ctx_wait_call(asking->worker, asking->ctx, peer, asking->call);
}

/* Attempt until the server answers (call->answered) or nobody wants it any more. */
static int see_through(struct asking *asking)
{
	struct call *call = asking->call;
	uint64_t began_ns;
	int err, check;

	for (;;) {
		began_ns = clock_ns();
		err = attempt(asking);
		if (call->answered || !is_transient(err))
			return err;

		check = ctx_wait_check(asking->worker, asking->ctx);
		if (check < 0)
			return check;
		trouble(asking, peers_reason(asking->worker->peers, asking->role, asking->index, err));
		if (clock_ns() >= give_up_at(asking))
			return -EIO;
		call_release(call);
		call->flags |= FRAME_RESENT;
		atomic_fetch_add(&asking->worker->fs->counters.resends, 1);

		/* What took its time needs no pause besides. */
		if (clock_ns() - began_ns < NSEC_PER_SEC) {
			check = ctx_wait_ms(asking->worker, asking->ctx,
					    err == -ENXIO ? MAP_WAIT_MS
							  : backoff_ms(RETRY_FIRST_MS, RETRY_MAX_MS, asking->tries));
			if (check < 0)
				return check;
		}
		asking->tries++;
	}
}

/* The worker's slots in the session that is in force, with a reference. */
static int current_slots(struct asking *asking, struct slot_share **ret_share)
{
	struct worker *worker = asking->worker;
	struct slot_share *share;
	uint64_t number;
	uint32_t slots;
	int err;

	err = fs_session_get(worker->fs->session, worker, asking->ctx, give_up_at(asking), &number, &slots);
	if (err < 0)
		return err == -ETIMEDOUT ? -EIO : err;
	if (worker->slots == NULL || slot_share_session(worker->slots) != number) {
		err = slot_share_new(number, slots, worker->index, worker->fs->worker_count, &share);
		if (err < 0)
			return err;
		slot_share_put(worker->slots);
		worker->slots = share;
	}
	*ret_share = slot_share_ref(worker->slots);
	return 0;
}

/* One request, new or for ever: a number of its own, sent until it is answered. */
static int ask_once(struct asking *asking, const struct op *op)
{
	struct worker *worker = asking->worker;
	struct call *call = asking->call;
	struct slot slot = { 0 };
	struct slot_share *share;
	struct log_mark mark;
	int err;

	call->answered = false;
	err = current_slots(asking, &share);
	if (err < 0)
		return err;
	if (asking->may_go != NULL && !asking->may_go(asking->may_go_arg)) {
		slot_share_put(share);
		return -ENOSESSION;
	}
	/* There is no new session before the locks of the old one are lost. */
	if (asking->ctx->file != NULL && file_is_lost(asking->ctx->file)) {
		slot_share_put(share);
		return -EIO;
	}
	if ((op->flags & OP_SLOT) != 0) {
		int64_t ost = asking->role == ROLE_OST ? (int64_t)asking->index : -1;

		err = slot_take(share, ost, worker, asking->ctx, give_up_at(asking), &slot);
		if (err < 0) {
			slot_share_put(share);
			return err == -ETIMEDOUT ? -EIO : err;
		}
		if (worker->fs->config.sync && asking->role == ROLE_MDT)
			call->flags |= FRAME_SYNC;
	}
	call->flags &= (uint16_t)~FRAME_RESENT;
	call->session = slot_share_session(share);
	call->slot = slot.number;
	call->seq = slot.seq;
	mark = fs_session_log_mark(worker->fs->session);
	err = see_through(asking);
	if (asking->role == ROLE_MDT && call->answered)
		fs_session_log_seen(worker->fs->session, mark, call->log_index, call->durable_index);
	slot_release(&slot);
	slot_share_put(share);
	return err;
}

/* The server has answered, but not with a result: 0 when the request is to be repeated. */
static int prepare_again(struct asking *asking, int err)
{
	struct fs_session *session = asking->worker->fs->session;
	unsigned int ms = backoff_ms(AGAIN_FIRST_MS, AGAIN_MAX_MS, asking->tries);

	if (err == -ENOSESSION && asking->role == ROLE_MDT) {
		fs_session_lost(session, asking->call->session);
		ms = 0; /* fs_session_get() waits */
	} else if (err == -ENOSESSION) {
		/* The MDT has the last word on that. */
		if (fs_session_number(session) == asking->call->session)
			fs_session_renew_soon(session);
		ms = UNKNOWN_MS;
		trouble(asking, "it does not know this mount's session");
	} else {
		trouble(asking, "not ready for this yet");
	}
	asking->tries++;
	if (clock_ns() >= give_up_at(asking))
		return -EIO;
	call_release(asking->call);
	return ms == 0 ? ctx_wait_check(asking->worker, asking->ctx) : ctx_wait_ms(asking->worker, asking->ctx, ms);
}

static int ask(struct asking *asking)
{
	const struct op *op = op_find(asking->call->opcode);
	int err;

	assert(op != NULL && op->role == asking->role);
	asking->began_ns = clock_ns();
	asking->state = peers_state(asking->worker->peers, asking->role, asking->index);
	if (asking->state == NULL)
		return -ENOMEM;
	do {
		err = ctx_wait_check(asking->worker, asking->ctx);
		if (err < 0)
			return err;
		err = ask_once(asking, op);
		if (!asking->call->answered)
			return err;
		if (err != -EAGAIN && err != -ENOSESSION) {
			targets_well(asking->worker->fs->targets, asking->state);
			if (err == -ESTALE && asking->role == ROLE_MDT)
				stat_store_void(asking->worker->fs->stat_store); /* he may have come by a name of it */
			return err;
		}
		err = prepare_again(asking, err);
	} while (err == 0);
	asking->call->answered = false;
	return err;
}

int worker_mds_call_within(struct worker *worker, struct fs_ctx *ctx, struct call *call, unsigned int patience_ms)
{
	struct asking asking = {
		.worker = worker,
		.ctx = ctx,
		.role = ROLE_MDT,
		.call = call,
		.patience_ns = patience_ms * NSEC_PER_MSEC,
	};

	atomic_fetch_add_explicit(&worker->fs->counters.mds_calls, 1, memory_order_relaxed);
	return ask(&asking);
}

int worker_mds_call(struct worker *worker, struct fs_ctx *ctx, struct call *call)
{
	return worker_mds_call_within(worker, ctx, call, 0);
}

int worker_ost_call(struct worker *worker, struct fs_ctx *ctx, uint32_t ost, struct call *call)
{
	return worker_ost_call_while(worker, ctx, ost, call, NULL, NULL);
}

int worker_ost_call_while(struct worker *worker, struct fs_ctx *ctx, uint32_t ost, struct call *call,
			  bool (*may_go)(void *arg), void *arg)
{
	struct asking asking = {
		.worker = worker,
		.ctx = ctx,
		.role = ROLE_OST,
		.index = ost,
		.call = call,
		.may_go = may_go,
		.may_go_arg = arg,
	};

	atomic_fetch_add_explicit(&worker->fs->counters.ost_calls, 1, memory_order_relaxed);
	return ask(&asking);
}
