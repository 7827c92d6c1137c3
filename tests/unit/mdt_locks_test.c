/* Locks by the wire: given, told of, fenced when their session is lost, and told again to an MDT that was restarted. */
#include "tests/unit/mdt_fixture.h"

struct lock_ask {
	struct client *client;
	uint64_t ino;
	uint32_t kind, type, drop;
	uint64_t start, waiter; /* a POSIX lock is of ten bytes */
	uint32_t slot, seq;
};

/* The outcome, or -errno. */
static int lock_ask(const struct lock_ask *ask)
{
	Strake__Lock lock = STRAKE__LOCK__INIT;
	Strake__LockRequest request = STRAKE__LOCK_REQUEST__INIT;
	struct call call = { .opcode = OP_LOCK, .request = &request.base, .slot = ask->slot, .seq = ask->seq };
	const Strake__LockReply *reply;
	int result;

	lock.kind = ask->kind ? ask->kind : LOCK_POSIX;
	lock.type = ask->type;
	lock.start = ask->start;
	lock.end = ask->start + 9;
	lock.owner = 1;
	request.ino = ask->ino;
	request.lock = &lock;
	request.has_waiter = request.has_wait = request.wait = ask->waiter > 0;
	request.waiter = ask->waiter;
	request.has_drop = 1;
	request.drop = ask->drop;
	result = client_ask(ask->client, &call);
	if (result == 0) {
		reply = (const Strake__LockReply *)call.reply;
		result = (int)reply->outcome;
		if (result == LOCK_GRANTED && ask->type != LOCK_FREE)
			ck_assert_uint_eq(reply->attr->ino, ask->ino);
	}
	call_release(&call);
	return result;
}

static int lock_take(struct client *client, uint64_t ino, uint64_t start, uint32_t seq)
{
	return lock_ask(&(struct lock_ask){
		.client = client, .ino = ino, .type = LOCK_EXCLUSIVE, .start = start, .slot = 9, .seq = seq });
}

static int lock_give(struct client *client, uint64_t ino, uint64_t start, uint32_t seq)
{
	return lock_ask(&(struct lock_ask){
		.client = client, .ino = ino, .type = LOCK_FREE, .start = start, .slot = 9, .seq = seq });
}

static void lock_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	struct lock_ask ask = { .client = &other, .type = LOCK_EXCLUSIVE, .slot = 9, .seq = 2, .waiter = 77 };
	uint64_t file, last;
	uint32_t seq = 1;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	client_open_session(&other);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	while (ost->session_count != 2)
		fiber_sleep_ms(1);
	last = mdt_log_last(ost->mdt->log);

	/* Asked twice it is taken once; who waits is told. */
	ask.ino = file;
	ck_assert_int_eq(lock_take(client, file, 0, 1), LOCK_GRANTED);
	ck_assert_int_eq(lock_take(client, file, 0, 1), LOCK_GRANTED);
	ck_assert_int_eq(lock_take(&other, file, 9, 1), LOCK_CONFLICT);
	ck_assert_int_eq(lock_ask(&ask), LOCK_QUEUED);
	ck_assert_int_eq(lock_give(client, file, 0, 2), LOCK_GRANTED);
	while (other.pushed != 77)
		fiber_sleep_ms(1);
	ask.seq++;
	ck_assert_int_eq(lock_ask(&ask), LOCK_GRANTED);

	/* One that comes late, after what was done in its slot since, is a ghost's; of a change as of a lock. */
	ck_assert_int_eq(lock_give(&other, file, 0, 9), LOCK_GRANTED);
	ck_assert_int_eq(lock_take(&other, file, 0, 8), -ESTALE);
	ck_assert_int_eq(client_make(&other, OP_MKDIR, 1, "late", 9, 8, NULL), -ESTALE);
	ck_assert_int_eq(lock_take(client, file, 0, 3), LOCK_GRANTED);
	ck_assert_uint_eq(mdt_log_last(ost->mdt->log), last);
	ck_assert_int_eq(client_make(client, OP_MKDIR, 1, "dir", 9, 5, NULL), 0);
	ck_assert_int_eq(lock_give(client, file, 0, 4), -ESTALE);
	ck_assert_int_eq(lock_give(client, file, 0, 6), LOCK_GRANTED);

	/* The right to append is asked back from who has it; and whoever has it hears of a truncate elsewhere. */
	ask = (struct lock_ask){ .client = client,
				 .ino = file,
				 .kind = LOCK_APPEND,
				 .type = LOCK_EXCLUSIVE,
				 .slot = 9,
				 .seq = 7,
				 .waiter = 1 };
	ck_assert_int_eq(lock_ask(&ask), LOCK_GRANTED);
	ck_assert_int_eq(truncate_file(&other, file, 100, 1), 0);
	while (client->recalled != file)
		fiber_sleep_ms(1);
	client->recalled = 0;
	ask.client = &other;
	ask.seq = 10;
	ck_assert_int_eq(lock_ask(&ask), LOCK_QUEUED);
	while (client->recalled != file)
		fiber_sleep_ms(1);
	other.peer = peer_free(other.peer);
	story_end(ost);
}

/* The fences stand for longer than any lease, while the OST says that a write runs: no lock is given away for that. */
static void wait_long(struct fake_ost *ost, struct client *client, uint64_t file, uint32_t seq)
{
	const uint64_t long_ns = 2 * (uint64_t)MDT_FENCE_MS * NSEC_PER_MSEC;
	struct mdt *mdt = ost->mdt;
	unsigned int told;

	while (!ost_links_say_runs(mdt->links))
		fiber_sleep_ms(1);
	mdt->evicted.since_ns -= long_ns;
	for (size_t i = 0; i < mdt->fence_count; i++)
		mdt->fences[i].since_ns -= long_ns;
	/* Each answer has it look at them. */
	for (told = ost->sessions + 2; ost->sessions < told;)
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_take(client, file, 0, seq), LOCK_CONFLICT);
}

/* Two sessions that the OST knows, and a file. */
static void two_begin(struct fake_ost *ost, struct client *other, uint64_t *ret_file)
{
	client_open_session(&ost->client);
	client_connect(other, &ost->setting);
	client_open_session(other);
	ck_assert_int_eq(client_make(&ost->client, OP_CREATE, 1, "file", 0, 1, ret_file), 0);
	while (ost->session_count != 2)
		fiber_sleep_ms(1);
}

/* What a lost session has on its way to an OST must not come after what the next holder of its lock writes. */
static void fence_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	uint64_t file, lost;
	uint32_t seq = 1;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	client_open_session(&other);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	while (ost->session_count != 2)
		fiber_sleep_ms(1);

	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(lock_take(&other, file, 0, 1), LOCK_GRANTED);
		ost->service = service_free(ost->service);
		lost = other.session;
		if (round == 0)
			leases_find(ost->mdt->leases, lost)->heard_ns = 1;
		else
			ck_assert_int_eq(end_session(&other), 0);
		while (leases_find(ost->mdt->leases, lost))
			fiber_sleep_ms(1);
		ck_assert_int_eq(lock_take(client, file, 0, seq++), LOCK_CONFLICT);
		ck_assert(ost->mdt->admission.unfenced == (round == 0)); /* who leaves writes no more */
		ost->runs = UINT_MAX;                                    /* the last one is on its way to the disk, */
		service_start(ost);
		wait_long(ost, client, file, seq++); /* for longer than any lease */
		ck_assert(ost->mdt->admission.unfenced == (round == 0));
		ost->runs = 3;
		while (lock_take(client, file, 0, seq++) != LOCK_GRANTED)
			fiber_sleep_ms(1);
		ck_assert_uint_eq(ost->session_count, 1);
		ck_assert_uint_eq(ost->runs, 0);
		ck_assert(!ost->mdt->admission.unfenced);
		ck_assert_int_eq(lock_give(client, file, 0, seq++), LOCK_GRANTED);
		other.session = 0;
		client_open_session(&other);
		while (ost->session_count != 2)
			fiber_sleep_ms(1);
	}
	other.peer = peer_free(other.peer);
	story_end(ost);
}

/* Nor by an OST that is in the map no longer: it serves for as long as its lease lasts. */
static void left_story(void *arg)
{
	const uint64_t long_ns = 2 * (uint64_t)MDT_FENCE_MS * NSEC_PER_MSEC;
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	struct mdt *mdt = ost->mdt;
	uint64_t file, lost;
	uint32_t seq = 1;

	two_begin(ost, &other, &file);
	ck_assert_int_eq(lock_take(&other, file, 0, 1), LOCK_GRANTED);
	lost = other.session;
	give_map(ost, false);
	leases_find(mdt->leases, lost)->heard_ns = 1;
	while (leases_find(mdt->leases, lost))
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_take(client, file, 0, seq++), LOCK_CONFLICT);
	ck_assert(mdt->admission.unfenced);

	/* Nor does it help that it comes back, and has been told, while another may have left. */
	give_map(ost, true);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_take(client, file, 0, seq++), LOCK_CONFLICT);

	/* Nor that then one leaves which has been told: what was told least counts. */
	give_map(ost, false);
	ost->session_count = 0;
	give_map(ost, true);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_take(client, file, 0, seq++), LOCK_CONFLICT);
	mdt->evicted.since_ns -= long_ns;
	mdt->fences[0].since_ns -= long_ns;
	while (lock_take(client, file, 0, seq++) != LOCK_GRANTED)
		fiber_sleep_ms(1);
	other.peer = peer_free(other.peer);
	story_end(ost);
}

static int reclaim_lock(struct client *client, uint64_t ino, uint64_t start, bool more, uint64_t instance)
{
	Strake__Lock lock = STRAKE__LOCK__INIT;
	Strake__HeldLock held = STRAKE__HELD_LOCK__INIT, *list = &held;
	Strake__ReclaimRequest request = STRAKE__RECLAIM_REQUEST__INIT;
	struct call call = { .opcode = OP_RECLAIM, .request = &request.base };
	int err;

	lock.kind = LOCK_POSIX;
	lock.type = LOCK_EXCLUSIVE;
	lock.start = start;
	lock.end = start + 9;
	lock.owner = 1;
	held.ino = ino;
	held.lock = &lock;
	request.lock = &list;
	request.n_lock = 1;
	request.has_more = 1;
	request.more = more;
	request.has_instance = 1;
	request.instance = instance;
	err = client_ask(client, &call);
	call_release(&call);
	return err;
}

static void lock_reclaim_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	uint64_t file, instance, old;
	uint32_t seq = 1;

	two_begin(ost, &other, &file);
	ck_assert_int_eq(lock_take(client, file, 0, seq++), LOCK_GRANTED);
	ck_assert_int_eq(lock_take(client, file, 20, seq++), LOCK_GRANTED);
	renew(client, &old);

	/* Which session had ended before is not known: who is not fenced yet might hold what is asked for. */
	ost->service = service_free(ost->service);
	mdt_end(ost);
	mdt_again(ost);
	renew(client, &instance);
	reclaim(&other, file);

	/* All wait for who has not told; and he has to tell before he does anything. In parts, all to the same MDT. */
	ck_assert_int_eq(lock_take(&other, file, 40, seq++), -EAGAIN);
	ck_assert_int_eq(lock_give(client, file, 0, seq++), -EAGAIN);
	ck_assert_int_eq(reclaim_lock(client, file, 0, true, old), -ESTALE);
	ck_assert_int_eq(reclaim_lock(client, file, 0, true, instance), 0);
	ck_assert_int_eq(lock_take(&other, file, 40, seq++), -EAGAIN);
	ck_assert_int_eq(reclaim_lock(client, file, 20, false, instance), 0);
	ck_assert_int_eq(lock_take(&other, file, 40, seq++), -EAGAIN);
	service_start(ost);
	while (lock_take(&other, file, 40, seq++) != LOCK_GRANTED)
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_take(&other, file, 0, seq++), LOCK_CONFLICT);
	ck_assert_int_eq(lock_take(&other, file, 20, seq++), LOCK_CONFLICT);

	/* A RECLAIM that comes late brings nothing back. */
	ck_assert_int_eq(lock_give(client, file, 0, seq++), LOCK_GRANTED);
	ck_assert_int_eq(reclaim_lock(client, file, 0, true, instance), 0);
	ck_assert_int_eq(lock_take(&other, file, 0, seq++), LOCK_GRANTED);

	/* With all OSTs told it is the sessions that are waited for. */
	mdt_end(ost);
	mdt_again(ost);
	reclaim(&other, file);
	while (!ost_links_have_sessions(ost->mdt->links, ost->mdt->start.index))
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_take(&other, file, 60, seq++), -EAGAIN);
	reclaim(client, file);
	ck_assert_int_eq(lock_take(&other, file, 60, seq++), LOCK_GRANTED);
	other.peer = peer_free(other.peer);
	story_end(ost);
}

START_TEST(locks_are_given_and_told)
{
	ost_run(lock_story, false, 0);
}
END_TEST

START_TEST(locks_wait_for_the_fence)
{
	ost_run(fence_story, false, 0);
}
END_TEST

START_TEST(locks_wait_for_an_ost_that_has_left)
{
	ost_run(left_story, false, 0);
}
END_TEST

START_TEST(a_restart_is_told_the_locks)
{
	ost_run(lock_reclaim_story, false, 0);
}
END_TEST

/* Of a mount that lives for long: 2^31 requests of one sort may lie between two of the other in a slot. */
static void wrap_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct lock_ask ask = { .client = client, .type = LOCK_EXCLUSIVE, .slot = 5, .seq = 1 };

	client_open_session(client);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, 1, &ask.ino), 0);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	ck_assert_int_eq(lock_ask(&ask), LOCK_GRANTED);
	ck_assert_int_eq(client_make(client, OP_MKDIR, 1, "a", 5, 0x7fffffff, NULL), 0);
	ck_assert_int_eq(client_make(client, OP_MKDIR, 1, "b", 5, 0x80000100, NULL), 0);
	ask.seq = 0xfffffff0;
	ck_assert_int_eq(lock_ask(&ask), LOCK_GRANTED);
	ask.seq = 0x200;
	ck_assert_int_eq(lock_ask(&ask), LOCK_GRANTED);
	ck_assert_int_eq(client_make(client, OP_MKDIR, 1, "c", 5, 0x201, NULL), 0);
	ck_assert_int_eq(client_make(client, OP_MKDIR, 1, "d", 5, 0xfffffff1, NULL), -ESTALE);
	ask.seq = 0xfffffff2;
	ck_assert_int_eq(lock_ask(&ask), -ESTALE);
	story_end(ost);
}

START_TEST(numbers_of_slots_wrap)
{
	ost_run(wrap_story, false, 0);
}
END_TEST

/* --- giving back when all that may be asked is asked ---------------------------------------------------------------- */

#define WISHES (2 * SERVICE_CREDITS_DEFAULT)

struct wishes {
	struct client *client;
	uint64_t ino;
	unsigned int begun, queued;
};

static void wish_fiber(void *arg)
{
	struct wishes *wishes = arg;
	const unsigned int i = wishes->begun++;
	const struct lock_ask ask = {
		.client = wishes->client,
		.ino = wishes->ino,
		.type = LOCK_EXCLUSIVE,
		.waiter = 1000 + i,
		.slot = 10 + i % 50,
		.seq = 1 + i / 50,
	};

	ck_assert_int_eq(lock_ask(&ask), LOCK_QUEUED);
	wishes->queued++;
}

/*
 * More locks are wished for by one connection than it has credits, and nobody gets his. Then it is told to give back
 * another one: it can, as who waits for a lock takes no credit. A class of credits for what pushes cause would be for that.
 */
static void recall_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	struct lock_ask append = { .client = client, .kind = LOCK_APPEND, .type = LOCK_EXCLUSIVE, .slot = 9, .seq = 1 };
	struct wishes wishes = { .client = client };
	uint64_t file;

	two_begin(ost, &other, &file);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "wanted", 0, 2, &wishes.ino), 0);
	ck_assert_int_eq(lock_take(&other, wishes.ino, 0, 1), LOCK_GRANTED);
	append.ino = file;
	ck_assert_int_eq(lock_ask(&append), LOCK_GRANTED);
	for (unsigned int i = 0; i < WISHES; i++)
		ck_assert_int_eq(fiber_start(ost->loop, wish_fiber, &wishes), 0);

	append.client = &other;
	append.seq = 2;
	append.waiter = 77;
	ck_assert_int_eq(lock_ask(&append), LOCK_QUEUED);
	while (client->recalled != file)
		fiber_sleep_ms(1);
	append.client = client;
	append.waiter = 0;
	append.type = LOCK_FREE;
	ck_assert_int_eq(lock_ask(&append), LOCK_GRANTED);
	while (other.pushed != 77)
		fiber_sleep_ms(1);
	while (wishes.queued < WISHES)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(client->pushed, 0);
	other.peer = peer_free(other.peer);
	story_end(ost);
}

START_TEST(who_waits_for_many_can_give_back)
{
	ost_run(recall_story, false, 0);
}
END_TEST

UNIT_MAIN("mdt_locks", locks_are_given_and_told, locks_wait_for_the_fence, locks_wait_for_an_ost_that_has_left,
	  a_restart_is_told_the_locks, numbers_of_slots_wrap, who_waits_for_many_can_give_back)
