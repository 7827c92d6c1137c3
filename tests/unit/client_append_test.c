/* The right to append: whose turn it is, when it goes back, and what becomes of both when somebody is killed or the session is lost. */
#include "client/data/internal.h"
#include "client/file.h"
#include "client/fs_state.h"
#include "client/lock_op.h"
#include "client/session.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

static struct fake_mount mount;
static struct file *file;
static struct fs_ctx appenders[2];
static int results[2];
static unsigned int over, looked;

static uint64_t size_given;        /* as the MDT had it when it was given back last */
static struct service_conn *asker; /* by which that was asked last */
static struct {
	bool lock, getattr, write, session_open; /* of the file */
} hold;

/* --- the servers ------------------------------------------------------------------------------------------------- */

/* Notes: the right is Taken, Given back. */
static void note(const struct fake *fake, const struct request *request)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;

	if (asked->lock->kind != LOCK_APPEND)
		return; /* of a file that is closed, what was taken through its handle */
	asker = request->conn;
	fake_note(asked->lock->type == LOCK_FREE ? 'G' : 'T');
	if (asked->lock->type == LOCK_FREE)
		size_given = fake->inodes[1].size;
}

static void answer(struct fake *fake, struct request *request)
{
	Strake__WriteReply written = STRAKE__WRITE_REPLY__INIT;

	switch (request->header.opcode) {
	case OP_LOCK:
		fake_reply_lock(fake, request, LOCK_GRANTED);
		return;
	case OP_WRITE:
		fake_reply(request, &written.base);
		return;
	default:
		fake_mdt_answer(fake, request);
	}
}

static bool is_held(const struct request *request)
{
	switch (request->header.opcode) {
	case OP_LOCK:
		return hold.lock;
	case OP_WRITE:
		return hold.write;
	case OP_SESSION_OPEN:
		return hold.session_open;
	case OP_GETATTR:
		return hold.getattr && ((const Strake__GetattrRequest *)request->body)->ino == FAKE_FILE;
	default:
		return false;
	}
}

static bool serve(struct fake *fake, struct request *request)
{
	uint16_t opcode = request->header.opcode;

	if (opcode == OP_LOCK && request->header.session != fake->session)
		return false;
	if (opcode == OP_LOCK)
		note(fake, request);
	if (is_held(request))
		return fake_hold(fake, request);
	if (opcode != OP_LOCK && opcode != OP_WRITE)
		return false;
	answer(fake, request);
	return true;
}

static void wait_held(const struct fake *fake, unsigned int count)
{
	while (fake->held_count < count)
		fiber_sleep_ms(1);
}

static void let_go(struct fake *fake)
{
	memset(&hold, 0, sizeof(hold));
	for (unsigned int i = 0; i < fake->held_count; i++)
		answer(fake, fake->held[i]);
	fake->held_count = 0;
}

/* Another mount wants to append. */
static void recall(void)
{
	Strake__LockPush push = STRAKE__LOCK_PUSH__INIT;
	uint64_t ino = FAKE_FILE;

	push.n_recall = 1;
	push.recall = &ino;
	service_push(asker, OP_LOCK_PUSH, &push.base);
}

/* Another mount has appended. */
static void append_elsewhere(struct fake *fake)
{
	fake->inodes[1].size = UINT64_C(1) << 30;
	fake_changed(fake, &fake->inodes[1]);
}

/* --- the mount --------------------------------------------------------------------------------------------------- */

static void begin_as(struct fake *fake, bool soft)
{
	struct fs_config config;

	memset(&hold, 0, sizeof(hold));
	over = looked = 0;
	fake_one_file(fake, serve, &config);
	config.soft = soft;
	fake_mount(fake, &config, &mount);
	file = fake_open(mount.fs, O_RDWR);
}

static void begin(struct fake *fake)
{
	begin_as(fake, false);
}

static void end(void)
{
	fs_release(file);
	fake_unmount(&mount);
}

static void append_fiber(void *arg)
{
	size_t i = (size_t)((struct fs_ctx *)arg - appenders);

	appenders[i] = (struct fs_ctx){ .trusted = true, .append = true };
	results[i] = fs_write(file, &appenders[i], 0, "end", 3, NULL);
	over++;
}

static void start(struct fake *fake, unsigned int i)
{
	assert(fiber_start(fake->loop, append_fiber, &appenders[i]) == 0);
	fiber_yield();
}

static void append(void)
{
	append_fiber(&appenders[0]);
	assert(results[0] == 0);
	over = 0;
}

static void wait_over(unsigned int count)
{
	while (over < count)
		fiber_sleep_ms(1);
}

/* Who looks at the file; and when he is answered he kills somebody. */
static void look_fiber(void *arg)
{
	struct fs_ctx ctx = { .trusted = true }, *kills = arg;
	struct attr attr;

	assert(fs_getattr(mount.fs, &ctx, FAKE_FILE, true, &attr) == 0);
	if (kills != NULL)
		fs_interrupt(kills);
	looked++;
}

static void look(struct fake *fake, struct fs_ctx *kills)
{
	unsigned int held = fake->held_count;

	hold.getattr = true;
	assert(fiber_start(fake->loop, look_fiber, kills) == 0);
	wait_held(fake, held + 1);
	hold.getattr = false;
}

/* What was on its way to the MDT, and what follows from its answers at once, has come. */
static void settle(void)
{
	struct fs_ctx ctx = { .trusted = true };
	struct attr attr;

	for (int i = 0; i < 5; i++)
		assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
}

static void expect(const char *wanted)
{
	for (int ms = 0; strcmp(fake_order, wanted) != 0 && ms < 20000; ms++)
		fiber_sleep_ms(1);
	assert(strcmp(fake_order, wanted) == 0);
}

/* The same where a question may have been asked twice. */
static void expect_last(char wanted)
{
	for (int ms = 0; fake_order[strlen(fake_order) - 1] != wanted && ms < 20000; ms++)
		fiber_sleep_ms(1);
	assert(fake_order[strlen(fake_order) - 1] == wanted);
}

static uint64_t size(void)
{
	struct fs_ctx ctx = { .trusted = true };
	struct attr attr;

	assert(fs_getattr(mount.fs, &ctx, FAKE_FILE, true, &attr) == 0);
	return attr.size;
}

/* --- turns ------------------------------------------------------------------------------------------------------- */

static void kept_body(struct fake *fake)
{
	begin(fake);
	append();
	append();
	settle();
	expect("T");
	recall();
	expect("TG");
	assert(size_given == 6);
	append_elsewhere(fake);
	append();
	expect("TGT");
	assert(size() == (UINT64_C(1) << 30) + 3);

	/* The MDT cannot ask for it any more, or may have. */
	fake_break_connections(fake);
	expect("TGTG");
	append();
	expect("TGTGT");
	fs_release(file);
	expect("TGTGTG");
	fake_unmount(&mount);
}

/* The question for it overtakes the grant: those who wait have their turn, and then it goes. */
static void overtaken_body(struct fake *fake)
{
	begin(fake);
	hold.lock = true;
	start(fake, 0);
	start(fake, 1);
	wait_held(fake, 1);
	recall();
	let_go(fake);
	wait_over(2);
	expect("TG");
	assert(results[0] == 0 && results[1] == 0 && size_given == 6);
	end();
}

/* Somebody has begun and has not placed his bytes: it stays for so long. */
static void busy_body(struct fake *fake)
{
	begin(fake);
	append();
	file->inode->locks->append_looked_ns = 0; /* long ago */
	hold.getattr = true;
	start(fake, 0);
	wait_held(fake, 1);
	recall();
	settle();
	expect("T");
	let_go(fake);
	wait_over(1);
	expect("TG");
	assert(results[0] == 0 && size_given == 6);
	end();
}

START_TEST(the_right_is_kept_until_it_is_wanted)
{
	fake_run(kept_body);
	fake_run(overtaken_body);
	fake_run(busy_body);
}
END_TEST

/* --- who is killed ------------------------------------------------------------------------------------------------ */

/* The right comes, and before he can have his turn he is killed. */
static void killed_in_turn_body(struct fake *fake)
{
	begin(fake);
	hold.lock = true;
	start(fake, 0);
	wait_held(fake, 1);
	look(fake, &appenders[0]);
	hold.lock = false;
	answer(fake, fake->held[1]); /* both come at once, and this is seen first */
	answer(fake, fake->held[0]);
	fake->held_count = 0;
	wait_over(1);
	assert(results[0] == -EINTR && looked == 1);
	recall();
	expect("TG");
	end();
}

/* Killed while he looks at the size. */
static void killed_looking_body(struct fake *fake)
{
	begin(fake);
	append();
	file->inode->locks->append_looked_ns = 0;
	hold.getattr = true;
	start(fake, 0);
	wait_held(fake, 1);
	fs_interrupt(&appenders[0]);
	wait_over(1);
	assert(results[0] == -EINTR);
	let_go(fake);
	recall();
	expect("TG");
	assert(size_given == 3);
	end();
}

static void lose_session(struct fake *fake)
{
	unsigned int held = fake->held_count;

	hold.session_open = true;
	fake->session += 100;
	fs_session_renew_soon(mount.fs->session);
	wait_held(fake, held + 1);
}

/* Killed while he begins anew, as the session was lost while he waited for memory. */
static void killed_anew_body(struct fake *fake)
{
	static uint8_t bytes[512 * 1024];
	struct fs_ctx ctx = { .trusted = true };

	begin(fake);
	append();
	assert(fs_flush(file, &ctx) == 0);
	hold.write = true;
	for (unsigned int i = 0; i < 25; i++) {
		assert(fs_write(file, &ctx, i * sizeof(bytes), bytes, sizeof(bytes), NULL) == 0);
		if (i == 15)
			wait_held(fake, DATA_SENDERS_MAX); /* the rest makes him wait then */
	}
	start(fake, 0);
	assert(over == 0);
	lose_session(fake);
	for (unsigned int i = 0; i < DATA_SENDERS_MAX; i++)
		service_reply_error(fake->held[i], -ENOSESSION);
	fake->held[0] = fake->held[DATA_SENDERS_MAX];
	fake->held_count = 1;
	let_go(fake);
	hold.lock = true;
	wait_held(fake, 1);
	fs_interrupt(&appenders[0]);
	wait_over(1);
	assert(results[0] == -EINTR);
	let_go(fake);
	settle();
	recall();
	expect_last('G');
	end();
}

START_TEST(who_is_killed_holds_up_nobody)
{
	fake_run(killed_in_turn_body);
	fake_run(killed_looking_body);
	fake_run(killed_anew_body);
}
END_TEST

/* --- who gives up ------------------------------------------------------------------------------------------------- */

/* The MDT may give the right to somebody who has given up (soft): it goes back, or no other mount ever had it. */
static void soft_body(struct fake *fake)
{
	begin_as(fake, true);
	mount.fs->config.soft_timeout_ms = 500; /* what was asked for before has had time */
	hold.lock = true;
	start(fake, 0);
	wait_over(1);
	assert(results[0] == -EIO && fake_order[0] == 'T');
	let_go(fake); /* too late */
	expect_last('G');
	mount.fs->config.soft_timeout_ms = 60000;
	append();
	assert(size() == 3);
	expect_last('T');
	end();
}

START_TEST(who_gives_up_keeps_no_right)
{
	fake_run(soft_body);
}
END_TEST

/* --- a lost session ----------------------------------------------------------------------------------------------- */

/*
 * The right has come, is wanted elsewhere already, and before who waited for it has had his turn the session is lost: with it
 * his turn, as others append from then on.
 */
static void turn_lost_body(struct fake *fake)
{
	begin(fake);
	hold.lock = true;
	start(fake, 0);
	wait_held(fake, 1);
	look(fake, NULL);
	hold.lock = false;
	hold.session_open = true;
	recall();
	service_reply_error(fake->held[1], -ENOSESSION); /* all three come at once, in this order */
	answer(fake, fake->held[0]);
	fake->held_count = 0;
	wait_held(fake, 1);
	assert(over == 0);
	append_elsewhere(fake);
	let_go(fake);
	wait_over(1);
	assert(results[0] == 0 && size() == (UINT64_C(1) << 30) + 3);
	assert(strncmp(fake_order, "TG", 2) == 0); /* he had been given it */
	expect_last('T');
	while (looked == 0)
		fiber_sleep_ms(1);
	end();
}

START_TEST(turns_end_with_the_session)
{
	fake_run(turn_lost_body);
}
END_TEST

UNIT_MAIN("client_append", the_right_is_kept_until_it_is_wanted, who_is_killed_holds_up_nobody,
	  who_gives_up_keeps_no_right, turns_end_with_the_session)
