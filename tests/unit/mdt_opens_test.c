/* What sessions have open: who may open it again, and what silence and a restart of the MDT make of it. */
#include "mds/orphan.h"
#include "mds/sessions.h"
#include "tests/unit/mdt_fixture.h"

/* CREATE with open_modes. */
static uint64_t create_as(struct client *client, const char *name, uint32_t modes, uint32_t slot, uint32_t seq)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct call call = { .opcode = OP_CREATE, .request = &request.base, .slot = slot, .seq = seq };
	uint64_t ino;

	request.cred = &client->cred;
	request.parent = 1;
	request.name = name_data(name);
	request.mode = 0600;
	request.has_open_modes = 1;
	request.open_modes = modes;
	ck_assert_int_eq(client_ask(client, &call), 0);
	ino = ((const Strake__EntryReply *)call.reply)->attr->ino;
	call_release(&call);
	return ino;
}

static uint64_t create_open(struct client *client, const char *name, uint32_t slot, uint32_t seq)
{
	return create_as(client, name, OPEN_READ, slot, seq);
}

/* A CLOSE that has lain on another connection takes nothing of what was opened after it. */
static void turn_story(struct client *client, const struct opens *opens, uint64_t file)
{
	ck_assert(open_in_turn(client, OP_OPEN, file, 1));
	ck_assert(open_in_turn(client, OP_OPEN, file, UINT32_MAX + UINT64_C(3)));
	ck_assert(open_in_turn(client, OP_OPEN, file, 2));
	ck_assert(open_in_turn(client, OP_CLOSE, file, UINT32_MAX + UINT64_C(2)));
	ck_assert_uint_eq(opens_modes(opens, client->session, file), OPEN_READ);
	ck_assert(open_in_turn(client, OP_CLOSE, file, 3 * (UINT32_MAX + UINT64_C(1)) / 2 + 4)); /* long after it */
	ck_assert_uint_eq(opens_modes(opens, client->session, file), 0);
}

static void open_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	uint64_t file;
	uint32_t seq = 1;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	client_open_session(&other);
	file = create_open(client, "file", 0, seq++);
	ck_assert_uint_eq(opens_modes(ost->mdt->opens, client->session, file), OPEN_READ);
	ck_assert(open_file(&other, OP_OPEN, file));
	other.cred.uid = 1000;
	ck_assert(!open_file(&other, OP_OPEN, file));
	other.cred.uid = 0;
	ck_assert(open_file(&other, OP_CLOSE, file));

	turn_story(&other, ost->mdt->opens, file);

	/* Without a name it can be opened again by who has it open, and by nobody else. */
	ck_assert_int_eq(client_unlink(client, 1, "file", 0, seq++), 0);
	ck_assert(open_file(client, OP_OPEN, file));
	ck_assert(!open_file(&other, OP_OPEN, file));
	other.peer = peer_free(other.peer);
	story_end(ost);
}

static void open_to_write(struct client *client, uint64_t ino)
{
	Strake__OpenRequest open = STRAKE__OPEN_REQUEST__INIT;
	struct call call = { .opcode = OP_OPEN, .request = &open.base };

	open.cred = &client->cred;
	open.ino = ino;
	open.modes = OPEN_WRITE;
	ck_assert_int_eq(client_ask(client, &call), 0);
	call_release(&call);
}

static bool size_is_unsure(struct fake_ost *ost, uint64_t ino)
{
	struct inode inode;

	ck_assert_int_eq(inode_load(ost->mdt->state.view, ino, &inode), 0);
	return (inode.flags & INODE_SIZE_UNSURE) != 0;
}

/* It starts again with its folder as it was before it ended: as after a kill. */
static void mdt_killed(struct fake_ost *ost)
{
	char command[3 * PATH_MAX + 64];

	snprintf(command, sizeof(command), "cp -a %s %s.copy", ost->setting.dir, ost->setting.dir);
	ck_assert_int_eq(system(command), 0);
	mdt_end(ost);
	snprintf(command, sizeof(command), "rm -r %s && mv %s.copy %s", ost->setting.dir, ost->setting.dir,
		 ost->setting.dir);
	ck_assert_int_eq(system(command), 0);
	mdt_again(ost);
}

/* Nothing is heard of it any more. */
static void lose_session(struct fake_ost *ost, uint64_t session)
{
	leases_find(ost->mdt->leases, session)->heard_ns = 1;
	while (leases_find(ost->mdt->leases, session))
		fiber_sleep_ms(1);
}

/* A session that does not come back to an MDT that was away may have written more than it had told. */
static void lost_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	uint64_t made, old, idle, closed;
	uint32_t seq = 1;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	for (int kill = 0; kill < 2; kill++) {
		const char *const names[2][4] = { { "a", "b", "c", "d" }, { "e", "f", "g", "h" } };

		other.session = 0;
		client_open_session(&other);
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, names[kill][0], 0, seq++, &old), 0);
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, names[kill][1], 0, seq++, &idle), 0);
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, names[kill][2], 0, seq++, &closed), 0);
		open_to_write(client, closed);
		made = create_as(&other, names[kill][3], OPEN_WRITE, 0, 1);
		open_to_write(&other, old);
		go_round(client);
		if (kill == 1) {
			mdt_killed(ost);
		} else {
			mdt_end(ost);
			mdt_again(ost);
		}
		reclaim(client, idle);
		ck_assert_uint_eq(opens_modes(ost->mdt->opens, client->session, closed), 0);
		ck_assert(!size_is_unsure(ost, old));
		/* That it is open to be read, too, takes nothing from that. */
		ck_assert(open_file(&other, OP_OPEN, old));
		lose_session(ost, other.session);
		ck_assert(size_is_unsure(ost, old) && size_is_unsure(ost, made));
		ck_assert(!size_is_unsure(ost, idle) && !size_is_unsure(ost, closed));
		ck_assert_uint_eq(opens_modes(ost->mdt->opens, other.session, old), 0);
	}
	other.peer = peer_free(other.peer);
	story_end(ost);
}

/* The answer to a CREATE was lost with the MDT, and the record lies before a checkpoint when the CREATE comes again. */
static void resent_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop };
	uint64_t made, idle;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	client_open_session(&other);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "idle", 0, 1, &idle), 0);
	made = create_as(&other, "made", OPEN_WRITE, 0, 1);
	for (int i = 0; i < 2; i++) {
		mdt_end(ost);
		mdt_again(ost);
		reclaim(&other, idle);
	}
	ck_assert_uint_eq(opens_modes(ost->mdt->opens, other.session, made), 0);
	ck_assert_uint_eq(create_as(&other, "made", OPEN_WRITE, 0, 1), made);
	ck_assert_uint_eq(opens_modes(ost->mdt->opens, other.session, made), OPEN_WRITE);
	go_round(client);
	mdt_killed(ost);
	lose_session(ost, other.session);
	ck_assert(size_is_unsure(ost, made));
	other.peer = peer_free(other.peer);
	story_end(ost);
}

static void lease_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct leases *leases = ost->mdt->leases;
	const uint64_t lease_ns = SESSION_LEASE_MS * NSEC_PER_MSEC;
	Strake__SessionOpenRequest request = STRAKE__SESSION_OPEN_REQUEST__INIT;
	struct call call = { .opcode = OP_SESSION_OPEN, .request = &request.base };
	struct session_row row;
	struct lease *lease;
	struct inode inode;
	struct uuid uuid;
	uint64_t file, now_ns;

	client_open_session(client);
	file = create_open(client, "file", 0, 1);
	opens_add(ost->mdt->opens, client->session, file, OPEN_WRITE);

	/* Any request renews it. */
	lease = leases_find(leases, client->session);
	now_ns = loop_now_ns(ost->loop);
	lease->heard_ns = now_ns - lease_ns / 2;
	go_round(client);
	ck_assert_uint_ge(lease->heard_ns, now_ns);

	/* That the MDT itself stood still is nobody's silence. */
	lease->heard_ns -= lease_ns + lease_ns / 2;
	ost->mdt->tick_at_ns -= 2 * lease_ns;
	while (ost->mdt->tick_at_ns < loop_now_ns(ost->loop))
		fiber_sleep_ms(1);
	ck_assert_ptr_nonnull(leases_find(leases, client->session));

	/* Silence is. */
	lease->heard_ns = loop_now_ns(ost->loop) - lease_ns - 1;
	while (leases_count(leases) > 0 || ost->session_count > 0)
		fiber_sleep_ms(1);
	ck_assert_int_eq(session_get(ost->mdt->state.view, client->session, &row), -ENOENT);
	ck_assert_uint_eq(opens_count(ost->mdt->opens), 0);
	ck_assert_int_eq(inode_load(ost->mdt->state.view, file, &inode), 0);
	ck_assert((inode.flags & INODE_SIZE_UNSURE) != 0);

	/* One that says good-bye takes with it what it has open. */
	client->session = 0;
	client_open_session(client);
	ck_assert(open_file(client, OP_OPEN, file));
	ck_assert_int_eq(end_session(client), 0);
	ck_assert_uint_eq(opens_count(ost->mdt->opens), 0);

	/* There are so many and no more. */
	uuid_make(&uuid);
	for (uint64_t session = UINT64_MAX - SESSIONS_MAX; session < UINT64_MAX; session++)
		leases_add(leases, session, &(struct uuid){ 0 }, 1, true, loop_now_ns(ost->loop));
	request.client_uuid = (ProtobufCBinaryData){ .data = uuid.bytes, .len = UUID_SIZE };
	request.hostname = (char[]){ "here" };
	ck_assert_int_eq(client_ask(client, &call), -EMFILE);
	call_release(&call);
	for (uint64_t session = UINT64_MAX - SESSIONS_MAX; session < UINT64_MAX; session++)
		leases_remove(leases, session);
	story_end(ost);
}

static bool is_held(struct fake_ost *ost, uint64_t ino)
{
	return orphan_is_held_by(ost->mdt->state.view, ino, ost->client.session);
}

static void reclaim_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	uint64_t held, forgotten, again, instance, next_instance;
	struct inode inode;
	uint32_t seq = 1;

	client_open_session(client);
	held = create_open(client, "held", 0, seq++);
	forgotten = create_open(client, "forgotten", 0, seq++);
	again = create_open(client, "again", 1, 1);
	ck_assert_int_eq(client_unlink(client, 1, "held", 0, seq++), 0);
	ck_assert_int_eq(client_unlink(client, 1, "forgotten", 0, seq++), 0);
	ck_assert(!renew(client, &instance));

	mdt_stop(ost->mdt);
	mdt_close(ost->mdt);
	mdt_start(ost);
	give_map(ost, true);
	ck_assert(renew(client, &next_instance));
	ck_assert_uint_ne(instance, next_instance);

	/* Before it has told, it may have it open in other modes than those it closes. */
	ck_assert(open_file(client, OP_CLOSE, held));
	ck_assert(is_held(ost, held) && is_held(ost, forgotten));
	/* The answer to a CREATE was lost with the MDT: it is open all the same. */
	ck_assert_uint_eq(create_open(client, "again", 1, 1), again);

	reclaim(client, held);
	ck_assert(!renew(client, &next_instance));
	ck_assert(is_held(ost, held));
	ck_assert_int_lt(inode_load(ost->mdt->state.view, forgotten, &inode), 0);
	ck_assert_int_eq(client_unlink(client, 1, "again", 0, seq++), 0);
	ck_assert(is_held(ost, again));
	ck_assert(open_file(client, OP_CLOSE, held));
	ck_assert(!is_held(ost, held));
	story_end(ost);
}

START_TEST(what_is_open)
{
	ost_run(open_story, false, 0);
}
END_TEST

START_TEST(silent_sessions_end)
{
	ost_run(lease_story, false, 0);
}
END_TEST

START_TEST(a_restart_is_told_what_is_open)
{
	ost_run(reclaim_story, false, 0);
}
END_TEST

START_TEST(what_is_written_while_it_is_away_is_in_doubt)
{
	ost_run(lost_story, false, 0);
}
END_TEST

START_TEST(what_is_opened_by_a_late_answer_is_in_doubt)
{
	ost_run(resent_story, false, 0);
}
END_TEST

UNIT_MAIN("mdt_opens", what_is_open, silent_sessions_end, a_restart_is_told_what_is_open,
	  what_is_written_while_it_is_away_is_in_doubt, what_is_opened_by_a_late_answer_is_in_doubt)
