/* What an MDT has an OST do: sessions, cuts and destroys, refused, away, back and replaced. */
#include "mds/sessions.h"
#include "tests/unit/mdt_fixture.h"

static void ost_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct inode inode;
	uint64_t file, held;
	uint32_t seq = 1;
	int err;

	client_open_session(client);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->sessions_newest, client->session);

	/* A cut reaches the OST, durably ordered; the next waits for it. */
	ost->refuse = 2;
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	ck_assert_int_eq(truncate_file(client, file, 5000, seq++), 0);
	while ((err = truncate_file(client, file, 4000, seq++)) == -EAGAIN)
		fiber_sleep_ms(2);
	ck_assert_int_eq(err, 0);
	while (ost->cut_number != 2 || pending_rows(ost, TABLE_CUT) > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->cut_ino, file);
	ck_assert_uint_eq(ost->cut_start, 4000);

	/* One that knows of a newer gen has nothing to cut. */
	ost->stale = 1;
	ck_assert_int_eq(truncate_file(client, file, 3000, seq++), 0);
	while (pending_rows(ost, TABLE_CUT) > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->stale, 0);
	ck_assert_uint_eq(ost->cut_start, 4000);

	/* Destroyed when the last who has it open is gone; refused together, alone, and then no more. */
	ost->refuse = 2;
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "held", 0, seq++, &held), 0);
	ck_assert(open_file(client, OP_OPEN, held));
	ck_assert_int_eq(client_unlink(client, 1, "held", 0, seq++), 0);
	ck_assert_int_eq(client_unlink(client, 1, "file", 0, seq++), 0);
	while (ost->destroyed < 1 || pending_rows(ost, TABLE_DESTROY) > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->destroyed, 1);
	ck_assert_uint_eq(ost->destroyed_ino[0], file);
	ck_assert_uint_eq(ost->destroys_newest, client->session);
	ck_assert(open_file(client, OP_OPEN, held));
	ck_assert(open_file(client, OP_CLOSE, held));
	ck_assert(!open_file(client, OP_OPEN, held));
	while (ost->destroyed < 2 || pending_rows(ost, TABLE_DESTROY) > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->destroyed_ino[1], held);

	/* An evicted session leaves the table, and doubt about the size of what it was writing. */
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "written", 0, seq++, &file), 0);
	opens_add(ost->mdt->opens, client->session, file, OPEN_WRITE);
	mdt_evict(ost->mdt, client->session);
	ck_assert_int_eq(inode_load(ost->mdt->state.view, file, &inode), 0);
	ck_assert((inode.flags & INODE_SIZE_UNSURE) != 0);
	while (ost->session_count != 0)
		fiber_sleep_ms(1);

	/* The OST leaves the map, comes again, and the MDT ends while it is spoken to. */
	give_map(ost, false);
	fiber_sleep_ms(5);
	give_map(ost, true);
	fiber_yield();
	story_end(ost);
}

/* An OST that comes again hears of the sessions first, serves them as long as it hears, and has one UUID. */
static void replaced_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	unsigned int before;
	uint64_t file, began_ns;
	uint32_t seq = 1;

	client_open_session(client);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	ost->service = service_free(ost->service);
	ck_assert_int_eq(client_unlink(client, 1, "file", 0, seq++), 0);
	while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
		fiber_sleep_ms(1);
	go_round(client);
	service_start(ost);
	while (ost->destroyed < 1)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->first_op, OP_SESSIONS);
	ck_assert_uint_eq(ost->sessions_heard, ost->clock - 1); /* so that it grants the lease */

	/* Its lease is renewed in time though nothing changes. */
	before = ost->sessions;
	began_ns = clock_ns();
	while (ost->sessions == before)
		fiber_sleep_ms(10);
	ck_assert_uint_lt(clock_ns() - began_ns, SESSION_LEASE_MS / 2 * NSEC_PER_MSEC);

	/* Another one under its index: the old one is spoken to no more. */
	ost->service = service_free(ost->service);
	uuid_make(&ost->target);
	strcpy(ost->address, "127.0.0.1:0");
	service_start(ost);
	give_map(ost, true);
	before = ost->sessions;
	while (ost->sessions == before)
		fiber_sleep_ms(1);
	story_end(ost);
}

/* The disk was full, and nobody changes anything while room is made: still it is seen. */
static void room_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	uint64_t last;

	client_open_session(client);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	last = mdt_log_last(ost->mdt->log);
	ost->mdt->admission.space_low = true;
	while (ost->mdt->admission.space_low)
		fiber_sleep_ms(10);
	ck_assert_uint_eq(mdt_log_last(ost->mdt->log), last);
	ck_assert_int_eq(client_make(client, OP_MKDIR, 1, "dir", 0, 1, NULL), 0);
	story_end(ost);
}

START_TEST(room_is_seen_without_a_change)
{
	ost_run(room_story, false, 0);
}
END_TEST

START_TEST(osts_are_told)
{
	ost_run(ost_story, false, 0);
}
END_TEST

START_TEST(osts_come_back_and_are_replaced)
{
	ost_run(replaced_story, false, 0);
}
END_TEST

UNIT_MAIN("mdt_osts", osts_are_told, osts_come_back_and_are_replaced, room_is_seen_without_a_change)
