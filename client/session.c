#include "client/session.h"

#include "client/absent.h"
#include "client/ctx_wait.h"
#include "client/data/data.h"
#include "client/fs_state.h"
#include "client/locks.h"
#include "client/peers.h"
#include "client/stat_store.h"
#include "client/tell.h"
#include "common/logger.h"
#include "common/status.h"
#include "proto/mds.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SESSION_ATTEMPT_MS 3000
#define SESSION_PAUSE_MS   200
#define RECLAIM_OPENS      1024 /* in one request, so that the MDT has time for others between two */
#define RECLAIM_LOCKS      256  /* likewise */
#define LEASE_MIN_MS       300

struct fs_session {
	struct fs *fs;
	unsigned int slots_wished;
	struct fs_ctx ctx; /* the keeper's */

	_Atomic uint64_t number;   /* 0: none. Changes under the lock. */
	_Atomic uint64_t reclaims; /* likewise */
	_Atomic bool root_squash;  /* as the MDT said last */

	pthread_mutex_t lock; /* guards all below */
	struct fiber_queue changed;
	struct fiber_queue keeper; /* waits here for work */
	uint32_t slots, lease_ms;
	uint64_t instance; /* of the MDT; 0: not told yet */
	uint64_t renew_at_ns;
	struct log_mark log;
	uint64_t log_durable; /* the MDT's log up to this record survives everything */
	bool give_up;         /* the session was lost, and the data that was written in it is still there */
	bool keeper_runs, stopping;
};

struct fs_session *fs_session_new(struct fs *fs, unsigned int slots_wished)
{
	struct fs_session *session = calloc(1, sizeof(*session));

	if (session == NULL)
		return NULL;
	session->fs = fs;
	session->slots_wished = slots_wished;
	session->ctx.trusted = true;
	pthread_mutex_init(&session->lock, NULL);
	return session;
}

struct fs_session *fs_session_free(struct fs_session *session)
{
	if (session != NULL) {
		pthread_mutex_destroy(&session->lock);
		free(session);
	}
	return NULL;
}

/* --- what workers ask -------------------------------------------------------------------------------------------- */

uint64_t fs_session_number(const struct fs_session *session)
{
	return atomic_load(&session->number);
}

int fs_session_get(struct fs_session *session, struct worker *worker, struct fs_ctx *ctx, uint64_t until_ns,
		   uint64_t *ret_number, uint32_t *ret_slots)
{
	int err = 0;

	pthread_mutex_lock(&session->lock);
	while (session->number == 0 && err == 0)
		err = ctx_wait_in(worker, ctx, &session->changed, &session->lock, until_ns);
	if (session->number != 0) {
		*ret_number = session->number;
		*ret_slots = session->slots;
		err = 0;
	}
	pthread_mutex_unlock(&session->lock);
	return err;
}

void fs_session_lost(struct fs_session *session, uint64_t number)
{
	pthread_mutex_lock(&session->lock);
	if (session->number == number) {
		log_warning("the MDT does not know session %llu any more (its lease ran out); joining again",
			    (unsigned long long)number);
		session->number = 0;
		session->give_up = true;
		fiber_wake_all(&session->keeper);
	}
	pthread_mutex_unlock(&session->lock);
}

void fs_session_renew_soon(struct fs_session *session)
{
	pthread_mutex_lock(&session->lock);
	session->renew_at_ns = 0;
	fiber_wake_all(&session->keeper);
	pthread_mutex_unlock(&session->lock);
}

struct log_mark fs_session_log_mark(struct fs_session *session)
{
	struct log_mark mark;

	pthread_mutex_lock(&session->lock);
	mark = session->log;
	pthread_mutex_unlock(&session->lock);
	return mark;
}

bool fs_session_log_is_durable(struct fs_session *session)
{
	bool durable;

	pthread_mutex_lock(&session->lock);
	durable = session->log.highest > 0 && session->log.highest <= session->log_durable;
	pthread_mutex_unlock(&session->lock);
	return durable;
}

void fs_session_log_seen(struct fs_session *session, struct log_mark mark, uint64_t log_index, uint64_t durable_index)
{
	bool counts, lost;

	/* A reply from before the loss that comes late, or the second to show it, says nothing new. */
	pthread_mutex_lock(&session->lock);
	counts = mark.losses == session->log.losses;
	lost = counts && log_index != 0 && log_index < mark.highest;
	if (counts && !lost && log_index > session->log.highest)
		session->log.highest = log_index;
	if (counts && !lost && durable_index > session->log_durable)
		session->log_durable = durable_index;
	pthread_mutex_unlock(&session->lock);
	if (!lost)
		return;

	log_warning("the MDT's log has lost its last records (%llu, was %llu)", (unsigned long long)log_index,
		    (unsigned long long)mark.highest);
	/* Without memory for it the renewal will do it. Others must not take it for done before it is. */
	(void)inode_table_distrust(session->fs->inodes);
	pthread_mutex_lock(&session->lock);
	if (mark.losses == session->log.losses) {
		session->log = (struct log_mark){ .highest = log_index, .losses = mark.losses + 1 };
		session->log_durable = durable_index; /* of an older copy it is lower */
	}
	pthread_mutex_unlock(&session->lock);
	fs_session_renew_soon(session);
}

bool fs_session_squashes_root(const struct fs_session *session)
{
	return atomic_load(&session->root_squash);
}

bool fs_root_is_nobody(const struct fs *fs)
{
	return fs_session_squashes_root(fs->session);
}

uint64_t fs_session_reclaims(const struct fs_session *session)
{
	return atomic_load(&session->reclaims);
}

int fs_session_reclaims_wait(struct fs_session *session, struct worker *worker, struct fs_ctx *ctx)
{
	int err = 0;

	pthread_mutex_lock(&session->lock);
	while (session->reclaims % 2 == 1 && err == 0)
		err = ctx_wait_in(worker, ctx, &session->changed, &session->lock, CTX_WAIT_FOREVER);
	pthread_mutex_unlock(&session->lock);
	return err;
}

static void reclaims_step(struct fs_session *session)
{
	pthread_mutex_lock(&session->lock);
	session->reclaims++;
	fiber_wake_all(&session->changed);
	pthread_mutex_unlock(&session->lock);
}

/* --- what the keeper asks ---------------------------------------------------------------------------------------- */

/*
 * Ask the MDT until it answers: its word is the result (call->answered). -ETIMEDOUT when the time has come,
 * -EKEYREJECTED when our key is wrong, -EINTR when the session is being stopped.
 */
static int ask(struct fs_session *session, struct call *call, uint64_t until_ns)
{
	struct worker *worker = session->fs->control;
	struct target_state *state = peers_state(worker->peers, ROLE_MDT, 0);
	uint64_t began_ns = clock_ns(), now_ns;
	struct peer *peer;
	int err;

	if (state == NULL)
		return -ENOMEM;
	for (;;) {
		err = ctx_wait_check(worker, &session->ctx);
		if (err < 0)
			return err;
		now_ns = clock_ns();
		if (now_ns >= until_ns)
			return -ETIMEDOUT;

		call->answered = false;
		call->attempt_ms = SESSION_ATTEMPT_MS;
		if (until_ns - now_ns < SESSION_ATTEMPT_MS * NSEC_PER_MSEC)
			call->attempt_ms = (unsigned int)((until_ns - now_ns) / NSEC_PER_MSEC) + 1;
		err = peers_get(worker->peers, ROLE_MDT, 0, &peer);
		if (err == 0)
			err = ctx_wait_call(worker, &session->ctx, peer, call);
		if (call->answered && err != -EAGAIN) {
			targets_well(session->fs->targets, state);
			return err;
		}
		if (err == -EKEYREJECTED)
			return err;
		targets_trouble(session->fs->targets, state, began_ns, peers_reason(worker->peers, ROLE_MDT, 0, err));
		call_release(call);
		err = ctx_wait_ms(worker, &session->ctx, SESSION_PAUSE_MS);
		if (err < 0)
			return err;
	}
}

/* A session of our own: SESSION_OPEN. What it brings is not published yet. */
static int join(struct fs_session *session, uint64_t until_ns, uint64_t *ret_number, uint64_t *ret_root)
{
	struct fs *fs = session->fs;
	Strake__SessionOpenRequest request = STRAKE__SESSION_OPEN_REQUEST__INIT;
	const Strake__SessionOpenReply *reply;
	struct call call = { .opcode = OP_SESSION_OPEN, .request = &request.base };
	char hostname[256] = "?";
	int err;

	gethostname(hostname, sizeof(hostname) - 1);
	request.client_uuid.data = fs->mount_uuid.bytes;
	request.client_uuid.len = UUID_SIZE;
	request.hostname = hostname;
	request.pid = (uint32_t)getpid();
	request.mountpoint = (char *)(uintptr_t)fs->config.mountpoint;
	request.slots = session->slots_wished;
	err = ask(session, &call, until_ns);
	if (err < 0) {
		call_release(&call);
		return err;
	}
	reply = (const Strake__SessionOpenReply *)call.reply;
	atomic_store(&session->root_squash, reply->root_squash);
	if (reply->session == 0 || reply->slots < fs->worker_count || reply->fs_uuid.len != UUID_SIZE ||
	    memcmp(reply->fs_uuid.data, fs->uuid.bytes, UUID_SIZE) != 0) {
		call_release(&call);
		return -EPROTO;
	}
	pthread_mutex_lock(&session->lock);
	session->slots = reply->slots;
	session->lease_ms = reply->lease_ms < LEASE_MIN_MS ? LEASE_MIN_MS : reply->lease_ms;
	session->instance = 0;
	session->renew_at_ns = 0; /* the first renewal tells the instance */
	pthread_mutex_unlock(&session->lock);
	*ret_number = reply->session;
	*ret_root = reply->root_ino;
	call_release(&call);
	return 0;
}

static void publish(struct fs_session *session, uint64_t number)
{
	pthread_mutex_lock(&session->lock);
	session->number = number;
	fiber_wake_all(&session->changed);
	pthread_mutex_unlock(&session->lock);
}

/* --- reclaim ----------------------------------------------------------------------------------------------------- */

struct reclaim {
	struct inode **inodes; /* those that are open, with a reference each */
	size_t count;          /* of them */
	uint64_t *inos;
	uint32_t *modes;
	struct held_locks locks;
};

static void reclaim_clear(struct reclaim *reclaim)
{
	for (size_t i = 0; i < reclaim->count; i++)
		inode_put(reclaim->inodes[i]);
	free(reclaim->inodes);
	free(reclaim->inos);
	free(reclaim->modes);
	free(reclaim->locks.items);
}

/*
 * What is open here, and from now on taken as told; and every cached attribute loses its worth. What was told and is closed
 * stays told until CLOSE says otherwise, as this MDT may have executed its OPEN or CREATE before; but who opens it again must
 * tell, as it may not have.
 */
static int reclaim_collect(struct fs_session *session, struct reclaim *ret_reclaim)
{
	struct reclaim reclaim = { 0 };
	size_t all;
	int err, locks = 0;

	stat_store_void(session->fs->stat_store);
	err = inode_table_list(session->fs->inodes, &reclaim.inodes, &all);
	if (err < 0)
		return err;
	atomic_store(&session->fs->doubted_ns, UINT64_MAX);
	reclaim.inos = calloc(all + 1, sizeof(*reclaim.inos));
	reclaim.modes = calloc(all + 1, sizeof(*reclaim.modes));
	for (size_t i = 0; i < all; i++) {
		struct inode *inode = reclaim.inodes[i];
		unsigned int modes = 0;

		pthread_mutex_lock(&inode->lock);
		inode_doubt(inode);
		if (locks == 0)
			locks = locks_collect(inode, &reclaim.locks);
		if (reclaim.modes != NULL && reclaim.inos != NULL) {
			modes = tell_modes(inode);
			inode->told_modes |= modes;
			inode->known_modes = modes;
		}
		pthread_mutex_unlock(&inode->lock);
		if (modes == 0) {
			inode_put(inode);
			continue;
		}
		reclaim.inodes[reclaim.count] = inode;
		reclaim.inos[reclaim.count] = inode->ino;
		reclaim.modes[reclaim.count++] = modes;
	}
	atomic_store(&session->fs->doubted_ns, clock_ns());
	if (reclaim.inos == NULL || reclaim.modes == NULL || locks < 0) {
		reclaim_clear(&reclaim);
		return -ENOMEM;
	}
	*ret_reclaim = reclaim;
	return 0;
}

/* A part of the locks; the open files come after them, and with the last of those the MDT takes all as told. */
static int reclaim_locks(struct fs_session *session, uint64_t number, uint64_t instance, const struct held_lock *held,
			 size_t count)
{
	Strake__ReclaimRequest request = STRAKE__RECLAIM_REQUEST__INIT;
	Strake__HeldLock locks[RECLAIM_LOCKS], *pointers[RECLAIM_LOCKS];
	Strake__Lock wires[RECLAIM_LOCKS];
	struct call call = { .opcode = OP_RECLAIM, .request = &request.base, .session = number };
	int err;

	for (size_t i = 0; i < count; i++) {
		strake__held_lock__init(&locks[i]);
		locks[i].ino = held[i].ino;
		locks[i].lock = &wires[i];
		lock_to_wire(&held[i].lock, &wires[i]);
		pointers[i] = &locks[i];
	}
	request.lock = pointers;
	request.n_lock = count;
	request.has_more = request.more = true;
	request.has_instance = true;
	request.instance = instance;
	err = ask(session, &call, UINT64_MAX);
	call_release(&call);
	return err;
}

static int reclaim_opens(struct fs_session *session, uint64_t number, uint64_t instance, const struct reclaim *open)
{
	size_t told = 0;
	int err;

	do {
		Strake__ReclaimRequest request = STRAKE__RECLAIM_REQUEST__INIT;
		struct call call = { .opcode = OP_RECLAIM, .request = &request.base, .session = number };
		size_t rest = open->count - told, part = rest < RECLAIM_OPENS ? rest : RECLAIM_OPENS;

		request.ino = open->inos + told;
		request.modes = open->modes + told;
		request.n_ino = request.n_modes = part;
		told += part;
		request.has_more = request.more = told < open->count;
		request.has_instance = true;
		request.instance = instance;
		err = ask(session, &call, UINT64_MAX);
		call_release(&call);
	} while (err == 0 && told < open->count);
	return err;
}

/* Tell that instance of the MDT all that is open here, and all locks, in this session. joined: it is a new one. */
static int reclaim(struct fs_session *session, uint64_t number, uint64_t instance, bool joined)
{
	struct reclaim open = { 0 };
	int err = 0;

	reclaims_step(session);
	absent_forget_all(session->fs->absent);
	if (joined)
		err = locks_lost(session->fs); /* they were another session's */
	if (err == 0)
		err = reclaim_collect(session, &open);
	for (size_t i = 0; i < open.locks.count && err == 0; i += RECLAIM_LOCKS) {
		size_t rest = open.locks.count - i;

		err = reclaim_locks(session, number, instance, &open.locks.items[i],
				    rest < RECLAIM_LOCKS ? rest : RECLAIM_LOCKS);
	}
	if (err == 0)
		err = reclaim_opens(session, number, instance, &open);
	reclaims_step(session);
	reclaim_clear(&open);
	return err;
}

/* --- the keeper -------------------------------------------------------------------------------------------------- */

/*
 * What was written in the session that was lost must not come after what others have written since. Nor what is written from
 * now on by who believes that he has a lock: first of all he has none.
 */
static int give_up_data(struct fs_session *session)
{
	uint64_t bytes = 0;
	int err;

	if (!session->give_up)
		return 0;
	reclaims_step(session); /* what is answered from before counts no more */
	err = locks_lost(session->fs);
	reclaims_step(session);
	if (err == 0)
		err = data_fs_give_up(session->fs->data, &bytes);
	if (err < 0)
		return err;
	session->give_up = false;
	if (bytes > 0)
		log_error("%llu bytes were not on stable storage when the session was lost: they are given up",
			  (unsigned long long)bytes);
	return 0;
}

/* SESSION_RENEW. *ret_reclaim: it wants to be told what is open here; known_instance 0: none. */
static int ask_renewal(struct fs_session *session, uint64_t number, uint64_t known_instance, uint64_t *ret_instance,
		       bool *ret_reclaim)
{
	Strake__SessionRenewRequest request = STRAKE__SESSION_RENEW_REQUEST__INIT;
	const Strake__SessionRenewReply *reply;
	struct call call = { .opcode = OP_SESSION_RENEW, .request = &request.base, .session = number };
	int err;

	request.has_instance = known_instance != 0;
	request.instance = known_instance;
	err = ask(session, &call, UINT64_MAX);
	if (err == 0) {
		reply = (const Strake__SessionRenewReply *)call.reply;
		atomic_store(&session->root_squash, reply->root_squash);
		*ret_instance = reply->instance;
		*ret_reclaim = reply->reclaim;
	}
	call_release(&call);
	return err;
}

static void rejoin(struct fs_session *session)
{
	uint64_t number, root, instance;
	bool wanted;
	int err;

	err = give_up_data(session);
	if (err == 0)
		err = join(session, UINT64_MAX, &number, &root);
	if (err == 0)
		err = ask_renewal(session, number, 0, &instance, &wanted);
	if (err == 0)
		err = reclaim(session, number, instance, true);
	if (err == 0) {
		log_info("joined again as session %llu", (unsigned long long)number);
		publish(session, number);
	} else if (err != -EINTR) {
		log_warning("the MDT does not let us join: %s; trying again", strerror(-err));
		ctx_wait_ms(session->fs->control, &session->ctx, 1000);
	}
}

static void renew(struct fs_session *session, uint64_t number)
{
	uint64_t instance;
	bool restarted = false;
	int err = ask_renewal(session, number, session->instance, &instance, &restarted);

	if (err == 0) {
		restarted |= session->instance != 0 && session->instance != instance;
		if (restarted)
			err = reclaim(session, number, instance, false);
		if (err == 0)
			session->instance = instance;
	}
	if (err == -ENOSESSION)
		fs_session_lost(session, number);

	pthread_mutex_lock(&session->lock);
	session->renew_at_ns = clock_ns() + (err == 0 ? session->lease_ms / 3 : 1000) * NSEC_PER_MSEC;
	pthread_mutex_unlock(&session->lock);
}

static void keep(void *arg)
{
	struct fs_session *session = arg;

	pthread_mutex_lock(&session->lock);
	while (!session->stopping) {
		uint64_t number = session->number;

		if (number != 0 && session->renew_at_ns > clock_ns()) {
			fiber_wait_until(&session->keeper, &session->lock, session->renew_at_ns);
			continue;
		}
		pthread_mutex_unlock(&session->lock);
		if (number == 0)
			rejoin(session);
		else
			renew(session, number);
		pthread_mutex_lock(&session->lock);
	}
	session->keeper_runs = false;
	fiber_wake_all(&session->changed);
	pthread_mutex_unlock(&session->lock);
}

int fs_session_start(struct fs_session *session, uint64_t until_ns, uint64_t *ret_root)
{
	uint64_t number;
	int err = join(session, until_ns, &number, ret_root);

	if (err < 0)
		return err;
	publish(session, number);
	session->keeper_runs = true;
	err = fiber_start(session->fs->loop, keep, session);
	if (err < 0)
		session->keeper_runs = false;
	return err;
}

void fs_session_stop(struct fs_session *session, unsigned int patience_ms)
{
	struct call call = { .opcode = OP_SESSION_CLOSE };

	pthread_mutex_lock(&session->lock);
	session->stopping = true;
	fiber_wake_all(&session->keeper);
	pthread_mutex_unlock(&session->lock);
	fs_interrupt(&session->ctx);
	pthread_mutex_lock(&session->lock);
	while (session->keeper_runs)
		fiber_wait(&session->changed, &session->lock);
	/* Nothing more is asked in it: with the session its open files are closed, so a CLOSE that waits is not missed. */
	call.session = session->number;
	session->number = 0;
	pthread_mutex_unlock(&session->lock);

	/* What we cannot tell now, the MDT learns when the lease runs out. */
	if (call.session != 0) {
		session->ctx.interrupted = false;
		ask(session, &call, clock_ns() + patience_ms * NSEC_PER_MSEC);
		call_release(&call);
	}
}
