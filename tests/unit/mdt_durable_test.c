/* What waits for the disk: promises to clients, and all that OSTs are told. The test holds the syncs of the log. */
#include "tests/unit/held_disk.h"
#include "tests/unit/mdt_fixture.h"

/* One request to the MDT whose log cannot be synced, in a fiber of its own. */
struct ask {
	struct fake_ost *ost;
	struct call call;
	uint64_t cut_index; /* what the answer tells of */
	bool tells;
	unsigned int *left; /* of those who have no answer */
};

static void ask_run(void *arg)
{
	struct ask *ask = arg;

	ck_assert_int_eq(client_ask(&ask->ost->client, &ask->call), 0);
	if (ask->tells)
		ck_assert_uint_ge(ask->call.durable_index, ask->cut_index);
	call_release(&ask->call);
	--*ask->left;
}

static void cut_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	Strake__SetattrRequest truncate = STRAKE__SETATTR_REQUEST__INIT;
	Strake__GetattrRequest getattr = STRAKE__GETATTR_REQUEST__INIT, getattr_other = STRAKE__GETATTR_REQUEST__INIT;
	Strake__LookupRequest lookup = STRAKE__LOOKUP_REQUEST__INIT;
	Strake__ReaddirRequest readdir = STRAKE__READDIR_REQUEST__INIT;
	Strake__OpenRequest open = STRAKE__OPEN_REQUEST__INIT;
	Strake__CreateRequest create = STRAKE__CREATE_REQUEST__INIT;
	Strake__SizeRequest size = STRAKE__SIZE_REQUEST__INIT;
	struct cut_row row;
	uint64_t file, other;
	unsigned int left = 0, others_left = 0;
	uint32_t seq = 1;

	client_open_session(client);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "other", 0, seq++, &other), 0);
	truncate.cred = lookup.cred = readdir.cred = open.cred = create.cred = &client->cred;
	truncate.ino = getattr.ino = open.ino = size.ino = file;
	getattr_other.ino = other;
	truncate.has_size = 1;
	truncate.size = 5000;
	lookup.parent = create.parent = readdir.ino = 1;
	lookup.name = create.name = name_data("file");
	readdir.max_bytes = 65536;
	readdir.has_attrs = readdir.attrs = 1;
	open.modes = OPEN_READ;
	size.gen = file;
	size.cut = 1;
	size.has_wrote = size.wrote = 1;

	struct ask asks[] = {
		/* The first is sent twice. */
		{ .call = { .opcode = OP_SETATTR, .request = &truncate.base, .slot = 0, .seq = seq }, .tells = true },
		{ .call = { .opcode = OP_SETATTR, .request = &truncate.base, .slot = 0, .seq = seq }, .tells = true },
		{ .call = { .opcode = OP_GETATTR, .request = &getattr.base }, .tells = true },
		{ .call = { .opcode = OP_LOOKUP, .request = &lookup.base }, .tells = true },
		{ .call = { .opcode = OP_READDIR, .request = &readdir.base }, .tells = true },
		{ .call = { .opcode = OP_OPEN, .request = &open.base }, .tells = true },
		{ .call = { .opcode = OP_CREATE, .request = &create.base, .slot = 1, .seq = 1 }, .tells = true },
		{ .call = { .opcode = OP_SIZE, .request = &size.base, .slot = 2, .seq = 1 }, .tells = true },
		{ .call = { .opcode = OP_GETATTR, .request = &getattr_other.base } },
	};
	const size_t count = sizeof(asks) / sizeof(*asks);

	disk_hold(true);
	for (size_t i = 0; i < count; i++) {
		asks[i].ost = ost;
		asks[i].left = asks[i].tells ? &left : &others_left;
		++*asks[i].left;
		ck_assert_int_eq(fiber_start(client->loop, ask_run, &asks[i]), 0);
		while (i == 0 && cut_get(ost->mdt->state.view, file, &row) < 0)
			fiber_sleep_ms(1);
		asks[i].cut_index = row.index;
	}
	/* One that tells nothing of it is answered at once; with that, all before it on the connection have been read. */
	while (others_left > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_lt(mdt_log_durable(ost->mdt->log), row.index);
	ck_assert_uint_eq(left, count - 1);
	ck_assert_uint_eq(ost->cut_number, 0);
	disk_hold(false);
	while (left > 0 || ost->cut_number == 0)
		fiber_sleep_ms(1);

	story_end(ost);
}

static void second_session(void *arg)
{
	struct client *other = arg;

	client_open_session(other);
	other->running = 0;
}

/* A file is made shorter, in a fiber of its own. */
struct shorten {
	struct client *client;
	uint64_t ino;
	uint32_t seq;
	bool answered;
};

static void shorten_run(void *arg)
{
	struct shorten *shorten = arg;

	ck_assert_int_eq(truncate_file(shorten->client, shorten->ino, 5000, shorten->seq), 0);
	shorten->answered = true;
}

/* It ends, and the OST knows. */
static void session_gone(struct fake_ost *ost, struct client *client)
{
	ck_assert_int_eq(end_session(client), 0);
	client->peer = peer_free(client->peer);
	while (ost->session_count != 2)
		fiber_sleep_ms(1);
}

/* While nothing can be synced: what a lost tail of the log would take back is not told. */
static void held_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client, other = { .loop = ost->loop, .running = 1 };
	struct client third = { .loop = ost->loop, .running = 1 };
	struct shorten cut;
	unsigned int before;
	uint64_t file;
	uint32_t seq = 1;

	client_open_session(client);
	while (ost->session_count != 1)
		fiber_sleep_ms(1);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, seq++, &file), 0);
	client_connect(&other, &ost->setting);

	disk_hold(true);
	ck_assert_int_eq(client_unlink(client, 1, "file", 0, seq++), 0);
	ck_assert_int_eq(fiber_start(ost->loop, second_session, &other), 0);
	while (leases_count(ost->mdt->leases) != 2)
		fiber_sleep_ms(1);
	go_round(client);
	ck_assert_uint_eq(pending_rows(ost, TABLE_DESTROY), 1);
	ck_assert_uint_eq(ost->destroyed, 0);
	ck_assert_uint_eq(ost->session_count, 1);
	ck_assert_uint_eq(other.running, 1);
	disk_hold(false);
	while (ost->destroyed < 1 || ost->session_count != 2 || other.running > 0)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->sessions_newest, other.session);

	/* Nor to an OST that comes back meanwhile; what was ordered before it gets. */
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "away", 0, seq++, &file), 0);
	ost->service = service_free(ost->service);
	ck_assert_int_eq(client_unlink(client, 1, "away", 0, seq++), 0);
	while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
		fiber_sleep_ms(1);
	before = ost->sessions;
	client_connect(&third, &ost->setting);
	disk_hold(true);
	ck_assert_int_eq(fiber_start(ost->loop, second_session, &third), 0);
	while (leases_count(ost->mdt->leases) != 3)
		fiber_sleep_ms(1);
	service_start(ost);
	while (ost->destroyed < 2)
		fiber_sleep_ms(1);
	ck_assert_uint_eq(ost->destroyed_ino[1], file);
	ck_assert_uint_eq(ost->sessions, before);
	disk_hold(false);
	while (third.running > 0 || ost->session_count != 3)
		fiber_sleep_ms(1);
	session_gone(ost, &third);

	/*
	 * A sync ends that began between two records: what the first one orders may go, not the second's, nor the table with
	 * a session that was opened after it (ost_handle() looks). A few times, because what the log's thread began may also
	 * be a note.
	 */
	for (unsigned int round = 0; round < 5; round++) {
		third = (struct client){ .loop = ost->loop, .running = 1 };
		client_connect(&third, &ost->setting);
		ost->destroyed = 0;
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, "one", 0, seq++, NULL), 0);
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, "two", 0, seq++, NULL), 0);
		ck_assert_int_eq(client_make(client, OP_CREATE, 1, "three", 0, seq++, &file), 0);
		while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
			fiber_sleep_ms(1);
		disk_hold(true);
		ck_assert_int_eq(client_unlink(client, 1, "one", 0, seq++), 0);
		while (!disk_is_waited_for())
			fiber_sleep_ms(1);
		ck_assert_int_eq(client_unlink(client, 1, "two", 1, round), 0);
		cut = (struct shorten){ .client = client, .ino = file, .seq = seq++ };
		ck_assert_int_eq(fiber_start(ost->loop, shorten_run, &cut), 0);
		ck_assert_int_eq(fiber_start(ost->loop, second_session, &third), 0);
		while (leases_count(ost->mdt->leases) != 3)
			fiber_sleep_ms(1);
		go_round(client);
		ck_assert_uint_eq(pending_rows(ost, TABLE_CUT), 1);
		disk_pass_one();
		for (unsigned int i = 0; i < 5; i++)
			go_round(client);
		disk_hold(false);
		while (!cut.answered || ost->destroyed < 2 || pending_rows(ost, TABLE_DESTROY) > 0 ||
		       pending_rows(ost, TABLE_CUT) > 0)
			fiber_sleep_ms(1);
		ck_assert_int_eq(client_unlink(client, 1, "three", 0, seq++), 0);
		while (ost->destroyed < 3 || pending_rows(ost, TABLE_DESTROY) > 0 || third.running > 0)
			fiber_sleep_ms(1);
		session_gone(ost, &third);
	}
	other.peer = peer_free(other.peer);
	story_end(ost);
}

static void promise_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct make promised = { .client = client, .name = "promised", .slot = 1, .seq = 1, .flags = FRAME_SYNC };
	struct make again = promised; /* sent once more */
	struct make plain = { .client = client, .name = "plain", .slot = 2, .seq = 1 };
	uint64_t fastest_ns = UINT64_MAX;

	client_open_session(client);
	disk_hold(true);
	ck_assert_int_eq(fiber_start(ost->loop, make_run, &promised), 0);
	ck_assert_int_eq(fiber_start(ost->loop, make_run, &again), 0);
	ck_assert_int_eq(fiber_start(ost->loop, make_run, &plain), 0);
	go_round(client);
	ck_assert(!promised.answered && !again.answered);
	ck_assert(plain.answered == !ost->strict);
	disk_hold(false);
	while (!promised.answered || !again.answered || !plain.answered)
		fiber_sleep_ms(1);

	/* What is waited for is synced at once, not when the log would be. */
	for (uint32_t i = 0; i < 20; i++) {
		char name[16];
		struct make quick = { .client = client, .name = name, .slot = 1, .seq = 2 + i, .flags = FRAME_SYNC };
		uint64_t began_ns = clock_ns();

		snprintf(name, sizeof(name), "quick%u", i);
		make_run(&quick);
		if (clock_ns() - began_ns < fastest_ns)
			fastest_ns = clock_ns() - began_ns;
	}
	ck_assert_uint_lt(fastest_ns, MDT_LOG_SYNC_MS / 2 * NSEC_PER_MSEC);
	story_end(ost);
}

/* A checkpoint begins; who has what open for writing stands in the log before it, and will not be read there again. */
static void writers_story(void *arg)
{
	static uint8_t value[VIEW_VALUE_MAX];
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct view *view = ost->mdt->state.view;
	Strake__OpenRequest open = STRAKE__OPEN_REQUEST__INIT;
	struct call call = { .opcode = OP_OPEN, .request = &open.base };
	uint64_t began, until_ns;

	client_open_session(client);
	ck_assert_int_eq(client_make(client, OP_CREATE, 1, "file", 0, 1, &open.ino), 0);
	open.cred = &client->cred;
	open.modes = OPEN_WRITE;
	ck_assert_int_eq(client_ask(client, &call), 0);
	call_release(&call);
	while (mdt_log_durable(ost->mdt->log) < mdt_log_last(ost->mdt->log))
		fiber_sleep_ms(1);

	disk_hold(true);
	began = mdt_log_last(ost->mdt->log);
	for (uint32_t key = 0; view_active_bytes(view) < CHECKPOINT_BYTES; key++)
		view_put(view, TABLE_XATTR, (struct bytes){ &key, sizeof(key) },
			 (struct bytes){ value, sizeof(value) });
	checkpoint_consider(ost->mdt->checkpoint);
	for (until_ns = clock_ns() + 500 * NSEC_PER_MSEC; clock_ns() < until_ns; fiber_sleep_ms(1))
		ck_assert(view_is_frozen(view));
	disk_hold(false);
	while (view_is_frozen(view))
		fiber_sleep_ms(1);
	ck_assert_uint_gt(mdt_log_durable(ost->mdt->log), began);
	story_end(ost);
}

START_TEST(cuts_are_told_when_durable)
{
	ost_run(cut_story, false, 0);
}
END_TEST

START_TEST(nothing_is_told_that_could_be_lost)
{
	ost_run(held_story, false, 0);
}
END_TEST

START_TEST(promises_wait_for_the_disk)
{
	ost_run(promise_story, false, 0);
	ost_run(promise_story, true, 0);
}
END_TEST

START_TEST(who_writes_is_durable_with_the_checkpoint)
{
	ost_run(writers_story, false, 0);
}
END_TEST

UNIT_MAIN("mdt_durable", cuts_are_told_when_durable, nothing_is_told_that_could_be_lost, promises_wait_for_the_disk,
	  who_writes_is_durable_with_the_checkpoint)
