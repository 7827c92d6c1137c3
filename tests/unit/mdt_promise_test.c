/* Who waits at a serving MDT because another session alone adds names (mds/alone.h), and through a restart. */
#include "mds/opens.h"
#include "tests/unit/mdt_fixture.h"

#define ADDS ALONE_ADDS

/* A CREATE of "x" in the root, in a fiber of its own. */
struct late {
	struct client *client;
	int err;
	bool answered;
	uint64_t ino;
};

static void create_late(void *arg)
{
	struct late *late = arg;
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct call call = { .opcode = OP_CREATE, .request = &request.base, .slot = 1, .seq = 1 };

	request.cred = &late->client->cred;
	request.parent = 1;
	request.name = name_data("x");
	request.mode = 0755;
	request.has_open_modes = true;
	request.open_modes = OPEN_WRITE;
	late->err = client_ask(late->client, &call);
	late->ino = late->err == 0 ? ((const Strake__EntryReply *)call.reply)->attr->ino : 0;
	call_release(&call);
	late->answered = true;
}

/* A name in the root. Is it said that nobody else adds one? */
static bool add(struct client *client, const char *name, uint32_t seq)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct call call = { .opcode = OP_MKDIR, .request = &request.base, .slot = 1, .seq = seq };
	bool alone;

	request.cred = &client->cred;
	request.parent = 1;
	request.name = name_data(name);
	request.mode = 0755;
	ck_assert_int_eq(client_ask(client, &call), 0);
	alone = ((const Strake__EntryReply *)call.reply)->parent_alone_ms > 0;
	call_release(&call);
	return alone;
}

static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g", "h" };

/* On the same line, after a CREATE that waits: who has given that up finds what comes of it. */
static void overtaken_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	struct client other = { .loop = ost->loop };
	struct late late = { .client = &other };
	uint64_t ino, until_ns;

	client_open_session(client);
	client_connect(&other, &ost->setting);
	client_open_session(&other);
	for (uint32_t i = 0; i < ADDS; i++) {
		until_ns = clock_ns() + ALONE_MS * NSEC_PER_MSEC;
		ck_assert(add(client, names[i], 1 + i) == (i + 1 == ADDS));
	}
	ck_assert_int_eq(fiber_start(ost->loop, create_late, &late), 0);
	fiber_yield();
	ck_assert_int_eq(client_lookup(&other, 1, "x", &ino), 0);
	ck_assert_uint_ge(clock_ns(), until_ns);
	while (!late.answered)
		fiber_sleep_ms(1);
	ck_assert_int_eq(late.err, 0);
	ck_assert_uint_eq(late.ino, ino);
	ck_assert_uint_eq(opens_modes(ost->mdt->opens, other.session, ino), OPEN_WRITE);
	ck_assert(!add(client, names[ADDS], 1 + ADDS)); /* it is not alone any more */
	other.peer = peer_free(other.peer);
	story_end(ost);
}

START_TEST(a_lookup_comes_after_the_create)
{
	ost_run(overtaken_story, false, 0);
}
END_TEST

static int tell_again(struct client *client)
{
	Strake__ReclaimRequest request = STRAKE__RECLAIM_REQUEST__INIT;
	struct call call = { .opcode = OP_RECLAIM, .request = &request.base };
	int err = client_ask(client, &call);

	call_release(&call);
	return err;
}

/* A new MDT knows of no promise: nobody adds names until all are over. Nor does it promise before it is known to be a new one. */
static void restart_story(void *arg)
{
	struct fake_ost *ost = arg;
	struct client *client = &ost->client;
	uint32_t seq = 1;
	uint64_t ended_ns;

	client_open_session(client);
	for (uint32_t i = 0; i < ADDS; i++, seq++)
		ck_assert(add(client, names[i], seq) == (i + 1 == ADDS));
	mdt_end(ost);
	ended_ns = clock_ns();
	mdt_again(ost);
	ck_assert_uint_ge(ost->mdt->alone.start_ns, ended_ns);
	for (uint32_t i = 0; i < ADDS; i++, seq++)
		ck_assert(!add(client, names[ADDS + i], seq));
	ck_assert_uint_ge(clock_ns(), ended_ns + ALONE_HELD_MS * NSEC_PER_MSEC);
	ck_assert_int_eq(tell_again(client), 0);
	for (uint32_t i = 0; i < ADDS; i++, seq++)
		ck_assert(add(client, (char[]){ 'r', (char)('0' + i), '\0' }, seq) == (i + 1 == ADDS));
	story_end(ost);
}

START_TEST(promises_end_with_the_mdt)
{
	ost_run(restart_story, false, 0);
}
END_TEST

UNIT_MAIN("mdt_promise", a_lookup_comes_after_the_create, promises_end_with_the_mdt)
