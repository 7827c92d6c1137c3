/* Locks of who is killed while he waits for one. */
#include "common/lock_list.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

#define OWNER 17

static struct fake_mount mount;
static struct file *file;
static struct fs_ctx waiter;
static char order[16]; /* Wait for it; Ask, and do not wait; give back all that the Owner has */
static bool hold;      /* keep the next LOCK */
static unsigned int over;

static void note(char what)
{
	size_t length = strlen(order);

	assert(length + 1 < sizeof(order));
	order[length] = what;
}

/* Somebody else has it as long as it is waited for; the right to append nobody. */
static void answer_lock(struct fake *fake, struct request *request)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;
	Strake__LockReply reply = STRAKE__LOCK_REPLY__INIT;
	struct fake_attr attr;

	reply.outcome = asked->wait && asked->lock->kind != LOCK_APPEND ? LOCK_QUEUED : LOCK_GRANTED;
	if (asked->lock->type != LOCK_FREE && reply.outcome == LOCK_GRANTED)
		reply.attr = fake_attr_fill(&fake->inodes[1], &attr);
	fake_reply(request, &reply.base);
}

static bool serve(struct fake *fake, struct request *request)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;

	if (request->header.opcode == OP_LOCK_TEST)
		answer_lock(fake, request);
	if (request->header.opcode != OP_LOCK)
		return request->header.opcode == OP_LOCK_TEST;
	if (asked->lock->type != LOCK_FREE)
		note(asked->wait ? 'W' : 'A');
	else if (asked->drop == LOCK_DROP_OWNER)
		note('O');
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
	memset(order, 0, sizeof(order));
	waiter = (struct fs_ctx){ .trusted = true };
	over = 0;
	assert(fiber_start(fake->loop, lock_fiber, NULL) == 0);
	while (order[0] == 0)
		fiber_sleep_ms(1);
}

static void end(void)
{
	while (over == 0)
		fiber_sleep_ms(1);
	assert(strcmp(order, "WAO") == 0);
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
	bool keep;

	fake_make(fake, "f", S_IFREG | 0644);
	fake->hook = serve;
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	assert(fs_open_file(mount.fs, &ctx, 2, O_RDWR, &file, &keep) == 0);

	begin(fake);
	assert(fs_lock_test(file, &ctx, &any) == 0); /* after what was in line: it has been answered, and waits */
	fs_interrupt(&waiter);
	end();

	hold = true;
	begin(fake);
	fs_interrupt(&waiter);
	fiber_yield();
	assert(strcmp(order, "W") == 0 && fake->held_count == 1);
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

UNIT_MAIN("client_locks", who_is_killed_while_he_waits_leaves_no_lock)
