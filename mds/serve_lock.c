/*
 * LOCK and LOCK_TEST: the wire's side of locks.h. Nothing of it is a record.
 *
 *   - A wish that must wait is answered QUEUED at once, so that it holds no slot; when it is granted the connection by which
 *     it came is told (LOCK_PUSH), and the client asks again. A push may be lost: then the client does so after a while.
 *   - Exactly once: what comes late is kept out by its slot's number (leases.h); what is sent again changes nothing, for a
 *     client has one of these requests under way per inode.
 *   - After a start of the MDT: EAGAIN to who has not told its locks again, and to all who want new ones, until all have.
 */
#include "mds/mdt.h"

#include "common/logger.h"

#include <errno.h>
#include <inttypes.h>

/* --- who is told -------------------------------------------------------------------------------------------------- */

static void push(const struct lock_route *route, uint64_t waiter, uint64_t recall)
{
	Strake__LockPush message = STRAKE__LOCK_PUSH__INIT;

	if (!route->to)
		return;
	message.n_waiter = waiter != 0;
	message.waiter = &waiter;
	message.n_recall = recall != 0;
	message.recall = &recall;
	service_push(route->to, OP_LOCK_PUSH, &message.base);
}

static void push_granted(void *owner, const struct lock_route *route, uint64_t waiter)
{
	(void)owner;
	push(route, waiter, 0);
}

static void push_recall(void *owner, const struct lock_route *route, uint64_t ino)
{
	(void)owner;
	push(route, 0, ino);
}

const struct lock_events mdt_lock_events = { .granted = push_granted, .recall = push_recall };

static struct lock_route *route_of(const struct request *request)
{
	struct lock_route *route = service_conn_data(request->conn);

	if (!route) {
		route = lock_route_new(request->conn);
		service_conn_set_data(request->conn, route);
	}
	return route;
}

void mdt_lock_route_gone(void *owner, struct service_conn *conn)
{
	struct lock_route *route = service_conn_data(conn);

	(void)owner;
	service_conn_set_data(conn, NULL);
	if (route)
		route->to = NULL;
	lock_route_put(route);
}

/* --- wire --------------------------------------------------------------------------------------------------------- */

static struct lock lock_of(const Strake__Lock *wire, uint64_t session)
{
	bool whole = wire->kind != LOCK_POSIX;

	return (struct lock){
		.kind = (enum lock_kind)wire->kind,
		.type = (enum lock_type)wire->type,
		.pid = wire->pid,
		.session = session,
		.owner = wire->kind == LOCK_APPEND ? 0 : wire->owner,
		.handle = wire->handle,
		.start = whole ? 0 : wire->start,
		.end = whole ? UINT64_MAX : wire->end,
	};
}

static void tell_conflict(Strake__Lock *out, const struct lock *lock, uint64_t asker)
{
	strake__lock__init(out);
	out->kind = lock->kind;
	out->type = lock->type;
	out->start = lock->start;
	out->end = lock->end;
	out->owner = lock->owner;
	out->has_pid = 1;
	out->pid = lock->session == asker ? lock->pid : 0;
}

static Strake__LockReply *answer_lock(struct answer *answer, uint32_t outcome)
{
	strake__lock_reply__init(&answer->as.lock);
	answer->body = &answer->as.lock.base;
	answer->as.lock.outcome = outcome;
	return &answer->as.lock;
}

/* --- operations --------------------------------------------------------------------------------------------------- */

static void give_back(struct mdt *mdt, const Strake__LockRequest *request, const struct lock *lock)
{
	switch ((enum lock_drop)request->drop) {
	case LOCK_DROP_RANGE:
		locks_give(mdt->locks, request->ino, lock);
		return;
	case LOCK_DROP_OWNER:
		locks_drop_owner(mdt->locks, request->ino, lock->session, lock->owner);
		return;
	case LOCK_DROP_HANDLE:
		locks_drop_handle(mdt->locks, request->ino, lock->session, lock->handle);
		return;
	}
}

static int take(struct mdt *mdt, struct request *request, const struct lock *lock, struct answer *answer)
{
	const Strake__LockRequest *body = (const void *)request->body;
	struct lock_wish wish = {
		.ino = body->ino,
		.lock = *lock,
		.waiter = body->waiter,
		.wait = body->wait,
		.route = route_of(request),
	};
	enum lock_outcome outcome;
	struct inode inode;
	struct lock conflict;
	int err;

	if (!mdt_grants_locks(mdt, lock->session))
		return -EAGAIN;
	err = inode_load(mdt->state.view, body->ino, &inode);
	if (err < 0)
		return -ESTALE;
	err = locks_take(mdt->locks, &wish, &outcome, &conflict);
	if (err < 0)
		return err;
	answer_lock(answer, outcome);
	if (outcome == LOCK_GRANTED)
		answer->as.lock.attr =
			answer_inode(answer, &inode, admit_is_unsure(&mdt->admission, lock->session, inode.ino));
	return 0;
}

void mdt_serve_lock(struct mdt *mdt, struct request *request)
{
	const Strake__LockRequest *body = (const void *)request->body;
	struct lock lock = lock_of(body->lock, request->header.session);
	struct answer answer;
	int err = 0;

	answer_init(&answer, mdt->admission.unfenced);
	if (!leases_find(mdt->leases, lock.session)->reclaimed) {
		err = -EAGAIN;
	} else if (lock.type != LOCK_FREE) {
		err = take(mdt, request, &lock, &answer);
	} else {
		give_back(mdt, body, &lock);
		answer_lock(&answer, LOCK_GRANTED);
	}
	mdt_answer(mdt, request, err, &answer);
	answer_release(&answer);
}

void mdt_serve_lock_test(struct mdt *mdt, struct request *request)
{
	const Strake__LockRequest *body = (const void *)request->body;
	uint64_t session = request->header.session;
	struct lock lock = lock_of(body->lock, session), conflict;
	Strake__Lock wire;
	struct answer answer;

	if (session == 0 || lock.type == LOCK_FREE || !mdt_grants_locks(mdt, session)) {
		mdt_refuse(mdt, request, session == 0 || lock.type == LOCK_FREE ? -EINVAL : -EAGAIN);
		return;
	}
	answer_init(&answer, mdt->admission.unfenced);
	if (locks_test(mdt->locks, body->ino, &lock, &conflict)) {
		answer_lock(&answer, LOCK_GRANTED);
	} else {
		tell_conflict(&wire, &conflict, session);
		answer_lock(&answer, LOCK_CONFLICT)->conflict = &wire;
	}
	mdt_answer(mdt, request, 0, &answer);
	answer_release(&answer);
}

void mdt_reclaim_locks(struct mdt *mdt, const struct request *request)
{
	const Strake__ReclaimRequest *reclaim = (const void *)request->body;

	for (size_t i = 0; i < reclaim->n_lock; i++) {
		struct lock lock = lock_of(reclaim->lock[i]->lock, request->header.session);
		int err = locks_reclaim(mdt->locks, reclaim->lock[i]->ino, &lock, route_of(request));

		if (err < 0)
			log_error("session %" PRIx64 ": a lock on inode %" PRIx64
				  " that it held before the restart is %s",
				  lock.session, reclaim->lock[i]->ino,
				  err == -EBUSY ? "held by another one" : "one too many");
	}
}
