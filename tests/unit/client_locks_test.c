/* Locks of who is killed while he waits for one, and of a session that is lost. */
#include "client/file.h"
#include "client/fs_state.h"
#include "client/locks.h"
#include "client/session.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

#define OWNER 17

static struct fake_mount mount;
static struct file *file;
static struct fs_ctx waiter;
static bool hold; /* keep the next LOCK, SESSION_OPENs, WRITEs */
static unsigned int over;

/* Somebody else has it as long as it is waited for; the right to append nobody. */
static void answer_lock(struct fake *fake, struct request *request)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;

	fake_reply_lock(fake, request, asked->wait && asked->lock->kind != LOCK_APPEND ? LOCK_QUEUED : LOCK_GRANTED);
}

/* Notes: Wait for it; Ask, and do not wait; give back all that the Owner has. */
static bool serve(struct fake *fake, struct request *request)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;

	if (request->header.opcode == OP_LOCK_TEST)
		answer_lock(fake, request);
	if (request->header.opcode != OP_LOCK)
		return request->header.opcode == OP_LOCK_TEST;
	if (asked->lock->type != LOCK_FREE)
		fake_note(asked->wait ? 'W' : 'A');
	else if (asked->drop == LOCK_DROP_OWNER)
		fake_note('O');
	if (hold) {
		hold = false;
		return fake_hold(fake, request);
	}
	answer_lock(fake, request);
	return true;
}

static void lock_fiber(void *arg)
{
	const struct fs_lock want = { .type = F_WRLCK, .owner = OWNER, .end = UINT64_MAX };

	(void)arg;
	assert(fs_lock(file, &waiter, &want, true) == -EINTR);
	/* The end of its process, before anything else runs. */
	assert(fs_close_by(file, &(struct fs_ctx){ .trusted = true }, OWNER) == 0);
	over++;
}

static void begin(struct fake *fake)
{
	memset(fake_order, 0, sizeof(fake_order));
	waiter = (struct fs_ctx){ .trusted = true };
	over = 0;
	assert(fiber_start(fake->loop, lock_fiber, NULL) == 0);
	while (fake_order[0] == 0)
		fiber_sleep_ms(1);
}

static void end(void)
{
	while (over == 0)
		fiber_sleep_ms(1);
	assert(strcmp(fake_order, "WAO") == 0);
}

/*
 * Who is killed leaves at once, and the lock is asked for once more without waiting. It may be granted by that, so that comes
 * before what his end gives back: else somebody who is dead would have it.
 */
static void killed_body(struct fake *fake)
{
	struct fs_lock any = { .type = F_WRLCK, .owner = OWNER + 1, .end = UINT64_MAX };
	struct fs_config config;
	struct fs_ctx ctx = { .trusted = true };

	fake_one_file(fake, serve, &config);
	fake_mount(fake, &config, &mount);
	file = fake_open(mount.fs, O_RDWR);

	begin(fake);
	assert(fs_lock_test(file, &ctx, &any) == 0); /* after what was in line: it has been answered, and waits */
	fs_interrupt(&waiter);
	end();

	hold = true;
	begin(fake);
	fs_interrupt(&waiter);
	fiber_yield();
	assert(strcmp(fake_order, "W") == 0 && fake->held_count == 1);
	fake->held_count = 0;
	answer_lock(fake, fake->held[0]);
	end();

	fs_release(file);
	fake_unmount(&mount);
}

START_TEST(who_is_killed_while_he_waits_leaves_no_lock)
{
	fake_run(killed_body);
}
END_TEST

static bool unreachable; /* LOCKs have no answer */
static unsigned int freed, taken;

static bool serve_or_not(struct fake *fake, struct request *request)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;

	if (request->header.opcode != OP_LOCK)
		return false;
	if (unreachable)
		service_conn_close(request->conn);
	else if (asked->lock->type == LOCK_FREE)
		freed++;
	else
		taken++;
	answer_lock(fake, request);
	return true;
}

static void mount_soft(struct fake *fake, bool (*hook)(struct fake *fake, struct request *request))
{
	struct fs_config config;

	fake_one_file(fake, hook, &config);
	config.soft = true;
	fake_mount(fake, &config, &mount);
	file = fake_open(mount.fs, O_RDWR);
}

/* What was asked for before has had time. */
static void be_impatient(void)
{
	mount.fs->config.soft_timeout_ms = 1000;
}

/* A soft mount does not wait for what it gives back, nor behind it; but that is seen through, as nobody else would do it. */
static void soft_body(struct fake *fake)
{
	struct fs_lock want = { .type = F_WRLCK, .owner = OWNER, .end = UINT64_MAX };
	struct fs_ctx ctx = { .trusted = true }, append = { .trusted = true, .append = true };
	uint64_t refs;

	mount_soft(fake, serve_or_not);
	assert(fs_lock(file, &ctx, &want, false) == 0 && taken == 1);

	be_impatient();
	unreachable = true;
	want.type = F_UNLCK;
	assert(fs_lock(file, &ctx, &want, false) == -EIO);
	want.type = F_WRLCK;
	assert(fs_lock(file, &ctx, &want, false) == -EIO && fs_lock(file, &ctx, &want, true) == -EIO);
	/* Who tries again and again leaves nothing in line. */
	refs = file->inode->refs;
	for (int i = 0; i < 3; i++)
		assert(fs_lock(file, &ctx, &want, false) == -EIO);
	assert(file->inode->refs == refs);
	assert(fs_lock_test(file, &ctx, &want) == -EIO);
	assert(fs_write(file, &append, 0, "x", 1, NULL) == -EIO);
	fs_release(file);

	/* It is free, and nothing is taken any more that nobody waits for, but the right to append, which goes back. */
	unreachable = false;
	while (freed < 3) /* the range, what the handle has, and that right */
		fiber_sleep_ms(1);
	assert(taken == 2);
	fake_unmount(&mount);
}

/* When what it gave back is answered at last, it takes again. */
static void soft_again_body(struct fake *fake)
{
	const struct fs_lock want = { .type = F_WRLCK, .owner = OWNER, .end = UINT64_MAX };
	struct fs_lock none = want;
	struct fs_ctx ctx = { .trusted = true };
	int err = -EIO;

	freed = taken = 0;
	mount_soft(fake, serve_or_not);
	assert(fs_lock(file, &ctx, &want, false) == 0);
	be_impatient();
	unreachable = true;
	none.type = F_UNLCK;
	assert(fs_lock(file, &ctx, &none, false) == -EIO && fs_lock(file, &ctx, &want, false) == -EIO);
	unreachable = false;
	while (freed == 0)
		fiber_sleep_ms(1);
	for (int tries = 0; tries < 1000 && err == -EIO; tries++) {
		fiber_sleep_ms(1);
		err = fs_lock(file, &ctx, &want, false);
	}
	assert(err == 0 && taken == 2);
	fs_release(file);
	fake_unmount(&mount);
}

static unsigned int given_back; /* rights to append */
static bool hold_locks;         /* keep every LOCK */

static bool forgets_us(struct fake *fake, struct request *request)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;
	Strake__WriteReply reply = STRAKE__WRITE_REPLY__INIT;

	switch (request->header.opcode) {
	case OP_LOCK:
	case OP_LOCK_TEST:
		if (hold || hold_locks)
			return fake_hold(fake, request);
		given_back += asked->lock->kind == LOCK_APPEND && asked->lock->type == LOCK_FREE;
		answer_lock(fake, request);
		return true;
	case OP_SESSION_OPEN:
	case OP_SETATTR:
	case OP_PUNCH:
		return hold ? fake_hold(fake, request) : false;
	case OP_WRITE:
		if (hold)
			return fake_hold(fake, request);
		fake_reply(request, &reply.base);
		return true;
	default:
		return false;
	}
}

static void begin_lost(struct fake *fake, uint64_t memory_max, bool locked)
{
	const struct fs_lock want = { .type = F_WRLCK, .owner = OWNER, .end = UINT64_MAX };
	struct fs_config config;
	struct fs_ctx ctx = { .trusted = true };

	over = 1;
	fake_one_file(fake, forgets_us, &config);
	config.memory_max = memory_max;
	fake_mount(fake, &config, &mount);
	file = fake_open(mount.fs, O_RDWR);
	assert(!locked || fs_lock(file, &ctx, &want, false) == 0);
}

static void lose_session(struct fake *fake)
{
	unsigned int before = fake->held_count;

	hold = true;
	fake->session += 100;
	fs_session_renew_soon(mount.fs->session);
	while (fake->held_count == before)
		fiber_sleep_ms(1);
	hold = false;
}

static void let_all_go(struct fake *fake)
{
	for (unsigned int i = 0; i < fake->held_count; i++) {
		if (fake->held[i]->header.opcode == OP_LOCK)
			answer_lock(fake, fake->held[i]);
		else if (fake->held[i]->header.opcode == OP_SESSION_OPEN)
			fake_mdt_answer(fake, fake->held[i]);
		else
			service_reply_error(fake->held[i], -ENOSESSION);
	}
	fake->held_count = 0;
	while (over == 0)
		fiber_sleep_ms(1);
}

static void end_lost(struct fake *fake)
{
	const struct fs_lock any = { .type = F_RDLCK, .owner = OWNER + 1, .end = UINT64_MAX };
	struct fs_ctx ctx = { .trusted = true };
	struct attr attr;

	let_all_go(fake);
	assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0); /* in the new session */
	assert(fs_write(file, &ctx, 0, "x", 1, NULL) == -EIO && fs_fallocate(file, &ctx, 0, 0, 1) == -EIO);
	assert(fs_lock(file, &ctx, &any, false) == -EIO);
	fs_release(file);
	fake_unmount(&mount);
}

/*
 * As soon as the session is known to be lost, and before there is another one, others may have the lock: nothing is taken any
 * more from who had it, as it would be sent in the next session.
 */
static void lost_body(struct fake *fake)
{
	struct fs_ctx ctx = { .trusted = true };

	begin_lost(fake, 1 << 30, true);
	assert(fs_write(file, &ctx, 0, "early", 5, NULL) == 0);
	lose_session(fake);
	assert(fs_write(file, &ctx, 0, "later", 5, NULL) == -EIO);
	end_lost(fake);
}

static int write_result;

static void write_fiber(void *arg)
{
	static uint8_t bytes[512 * 1024];
	struct fs_ctx ctx = { .trusted = true };

	(void)arg;
	write_result = fs_write(file, &ctx, sizeof(bytes), bytes, sizeof(bytes), NULL);
	over++;
}

/* The same of who began his write before, and waits for memory. */
static void lost_waiting_body(struct fake *fake)
{
	static uint8_t bytes[512 * 1024];
	struct fs_ctx ctx = { .trusted = true };

	begin_lost(fake, 1024 * 1024, true);
	hold = true;
	over = 0;
	assert(fs_write(file, &ctx, 0, bytes, sizeof(bytes), NULL) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	assert(fiber_start(fake->loop, write_fiber, NULL) == 0);
	fiber_yield();
	lose_session(fake);
	assert(over == 0);
	end_lost(fake);
	assert(write_result == -EIO);
}

static void truncate_fiber(void *arg)
{
	struct fs_ctx ctx = { .trusted = true, .file = file };
	struct attr attr = { .size = 1 };

	(void)arg;
	write_result = fs_setattr(mount.fs, &ctx, 2, SETATTR_SIZE | SETATTR_BY_HANDLE, &attr, &attr);
	over++;
}

static void punch_fiber(void *arg)
{
	struct fs_ctx ctx = { .trusted = true };

	(void)arg;
	write_result = fs_fallocate(file, &ctx, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
	over++;
}

/* Nor does what he has asked for come to pass in the next session. */
static void lost_asking_body(struct fake *fake, void (*asks)(void *arg), enum op_number op)
{
	struct fs_ctx ctx = { .trusted = true };
	struct attr attr;

	begin_lost(fake, 1 << 30, true);
	fake->inodes[1].size = 8192;
	fake_changed(fake, &fake->inodes[1]);
	assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0 && attr.size == 8192);
	hold = true;
	over = 0;
	assert(fiber_start(fake->loop, asks, NULL) == 0);
	while (fake->asked[op] == 0)
		fiber_sleep_ms(1);
	lose_session(fake);
	end_lost(fake);
	assert(write_result == -EIO && fake->asked[op] == 1);
}

static void lost_truncate_body(struct fake *fake)
{
	lost_asking_body(fake, truncate_fiber, OP_SETATTR);
}

static void lost_punch_body(struct fake *fake)
{
	lost_asking_body(fake, punch_fiber, OP_PUNCH);
}

static void take_fiber(void *arg)
{
	const struct fs_lock want = { .type = F_WRLCK, .owner = OWNER, .end = UINT64_MAX };
	struct fs_ctx ctx = { .trusted = true };

	(void)arg;
	write_result = fs_lock(file, &ctx, &want, false);
	over++;
}

/* Nor is a lock of the old session had that is granted only now: it is asked for again in the new one. */
static void lost_granted_body(struct fake *fake)
{
	struct fs_ctx ctx = { .trusted = true };

	begin_lost(fake, 1 << 30, false);
	hold = true;
	over = 0;
	assert(fiber_start(fake->loop, take_fiber, NULL) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	lose_session(fake);
	let_all_go(fake);
	assert(write_result == 0 && fake->asked[OP_LOCK] > 1 && fs_write(file, &ctx, 0, "x", 1, NULL) == 0);
	fs_release(file);
	fake_unmount(&mount);
}

static size_t locks_held(const struct inode *inode)
{
	struct held_locks held = { 0 };

	assert(locks_collect(inode, &held) == 0);
	free(held.items);
	return held.count;
}

/* Nor is one kept, for the next session to tell of, that is on its way back from a file that is closed. */
static void lost_closed_body(struct fake *fake)
{
	struct fs_ctx ctx = { .trusted = true };
	struct inode *inode;
	struct attr attr;

	begin_lost(fake, 1 << 30, true);
	inode = inode_ref(file->inode);
	assert(locks_held(inode) == 1);
	hold = true;
	fs_release(file);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	lose_session(fake);
	assert(locks_held(inode) == 0);
	let_all_go(fake);
	assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0 && locks_held(inode) == 0);
	inode_put(inode);
	fake_unmount(&mount);
}

/* What was given up without an answer may be held, also if the MDT was started again meanwhile: it is given back at the end. */
static void soft_doubt_body(struct fake *fake)
{
	struct inode *inode;

	mount_soft(fake, forgets_us);
	be_impatient();
	inode = inode_ref(file->inode);
	hold_locks = true; /* also when it is sent once more at the end of the patience */
	over = 0;
	assert(fiber_start(fake->loop, take_fiber, NULL) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	fake->reclaim = true;
	fs_session_renew_soon(mount.fs->session);
	while (over == 0 || fake->asked[OP_RECLAIM] == 0)
		fiber_sleep_ms(1);
	hold_locks = false;
	let_all_go(fake); /* too late */
	assert(write_result == -EIO && locks_held(inode) == 1);
	fs_release(file);
	while (locks_held(inode) > 0)
		fiber_sleep_ms(1);
	inode_put(inode);
	fake_unmount(&mount);
}

static void append_fiber(void *arg)
{
	struct fs_ctx ctx = { .trusted = true, .append = true };

	(void)arg;
	write_result = fs_write(file, &ctx, 0, "end", 3, NULL);
	over++;
}

/* Who waits within an append has the right to it no more: he gets it anew, and with it the end that others have made. */
static void lost_append_body(struct fake *fake)
{
	static uint8_t bytes[512 * 1024];
	struct fs_ctx ctx = { .trusted = true };
	struct attr attr;

	begin_lost(fake, 1 << 30, false);
	append_fiber(NULL); /* from now on the mount has the right, until somebody else asks for it */
	assert(write_result == 0 && fs_flush(file, &ctx) == 0 && fake->asked[OP_LOCK] == 1);
	hold = true;
	over = 0;
	for (unsigned int i = 0; i < 25; i++) {
		assert(fs_write(file, &ctx, i * sizeof(bytes), bytes, sizeof(bytes), NULL) == 0);
		while (i == 15 && fake->held_count < 8) /* WRITEs at a time; the rest makes it wait then */
			fiber_sleep_ms(1);
	}
	assert(fiber_start(fake->loop, append_fiber, NULL) == 0);
	fiber_yield();
	assert(over == 0);
	lose_session(fake);
	fake->inodes[1].size = UINT64_C(1) << 30;
	fake_changed(fake, &fake->inodes[1]);
	let_all_go(fake);
	assert(write_result == 0 && fake->asked[OP_LOCK] > 1);
	assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0 && attr.size == (UINT64_C(1) << 30) + 3);
	fs_release(file);
	fake_unmount(&mount);
}

static void killed_append_fiber(void *arg)
{
	(void)arg;
	waiter = (struct fs_ctx){ .trusted = true, .append = true };
	write_result = fs_write(file, &waiter, 0, "end", 3, NULL);
	over++;
}

/* Who has asked for it was killed, and the file is open for writing no more: then the right is given back when it comes. */
static void append_for_nobody_body(struct fake *fake)
{
	struct file *reader;

	begin_lost(fake, 1 << 30, false);
	reader = fake_open(mount.fs, O_RDONLY);
	hold = true;
	over = 0;
	assert(fiber_start(fake->loop, killed_append_fiber, NULL) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	hold = false;
	fs_interrupt(&waiter);
	while (over == 0)
		fiber_sleep_ms(1);
	assert(write_result == -EINTR);
	fs_release(file);
	let_all_go(fake);
	while (given_back == 0)
		fiber_sleep_ms(1);
	fs_release(reader);
	fake_unmount(&mount);
}

START_TEST(a_soft_mount_sees_through_what_it_gives_back)
{
	fake_run(soft_body);
	fake_run(soft_again_body);
	fake_run(soft_doubt_body);
}
END_TEST

START_TEST(nobody_keeps_no_right_to_append)
{
	fake_run(append_for_nobody_body);
}
END_TEST

START_TEST(who_has_lost_his_lock_writes_nothing_more)
{
	fake_run(lost_truncate_body);
	fake_run(lost_punch_body);
	fake_run(lost_granted_body);
	fake_run(lost_closed_body);
	fake_run(lost_body);
	fake_run(lost_waiting_body);
	fake_run(lost_append_body);
}
END_TEST

UNIT_MAIN("client_locks", who_is_killed_while_he_waits_leaves_no_lock, a_soft_mount_sees_through_what_it_gives_back,
	  nobody_keeps_no_right_to_append, who_has_lost_his_lock_writes_nothing_more)
