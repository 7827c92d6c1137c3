/* What an operation on a file's locks does beside the question: what comes before it, when it is asked again, what is told anew. */
#include "client/file.h"
#include "client/fs_state.h"
#include "client/locks.h"
#include "client/session.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

#define OWNER 17

static struct fake_mount mount;
static struct file *file;
static bool taken;                /* by somebody else, as long as it is waited for */
static uint64_t waiter;           /* number of the last that waits */
static uint64_t owner;            /* in the last LOCK */
static struct service_conn *conn; /* by which it came */
static int refused;               /* GLIMPSEs, with this error */
static bool hold;                 /* keep the next LOCK */
static struct fake *cluster;

/* Notes: Wait for a lock; Ask for one, and do not wait; give Back; write; report the size; Drop pages. */
static void answer_lock(struct fake *fake, struct request *request)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;

	fake_note(asked->lock->type == LOCK_FREE ? 'B' : asked->wait ? 'W' : 'A');
	waiter = asked->waiter;
	owner = asked->lock->owner;
	conn = request->conn;
	fake_reply_lock(fake, request, taken && asked->wait ? LOCK_QUEUED : LOCK_GRANTED);
}

static bool serve(struct fake *fake, struct request *request)
{
	Strake__WriteReply written = STRAKE__WRITE_REPLY__INIT;

	switch (request->header.opcode) {
	case OP_LOCK:
		if (hold) {
			hold = false;
			return fake_hold(fake, request);
		}
		answer_lock(fake, request);
		return true;
	case OP_WRITE:
		fake_note('w');
		fake_reply(request, &written.base);
		return true;
	case OP_SIZE:
		fake_note('s');
		return false;
	case OP_GLIMPSE:
		if (refused == 0)
			return false;
		service_reply_error(request, refused);
		return true;
	default:
		return false;
	}
}

/* drop_pages NULL: nobody has pages. */
static void begin_as(struct fake *fake, bool (*hook)(struct fake *fake, struct request *request), int flags,
		     void (*drop_pages)(void *owner, uint64_t ino, uint64_t offset, uint64_t size))
{
	struct fs_config config;

	taken = hold = false;
	refused = 0;
	cluster = fake;
	fake_one_file(fake, hook, &config);
	config.drop_pages = drop_pages;
	fake_mount(fake, &config, &mount);
	file = fake_open(mount.fs, flags);
}

static void begin(struct fake *fake)
{
	begin_as(fake, serve, O_RDWR, NULL);
}

static void end(void)
{
	fs_release(file);
	fake_unmount(&mount);
}

static int lock_range(short type, uint64_t start, uint64_t until, bool wait)
{
	const struct fs_lock want = { .type = type, .owner = OWNER, .start = start, .end = until };
	struct fs_ctx ctx = { .trusted = true };

	return fs_lock(file, &ctx, &want, wait);
}

static int lock(short type)
{
	return lock_range(type, 0, UINT64_MAX, false);
}

static void put(const char *text)
{
	struct fs_ctx ctx = { .trusted = true };

	assert(fs_write(file, &ctx, 0, text, strlen(text), NULL) == 0);
}

static bool in_order(const char *wanted)
{
	bool is = strcmp(fake_order, wanted) == 0;

	memset(fake_order, 0, sizeof(fake_order));
	return is;
}

/* --- barriers ----------------------------------------------------------------------------------------------------- */

/* Before any question what was written here is on the OSTs, and the MDT knows how much that is. */
static void out_body(struct fake *fake)
{
	begin(fake);
	put("before");
	assert(lock(F_WRLCK) == 0 && in_order("wsA"));
	put("under the lock");
	assert(lock(F_UNLCK) == 0 && in_order("wsB") && fake->inodes[1].size == 14);
	end();
}

START_TEST(what_was_written_is_out_before_a_lock_goes)
{
	fake_run(out_body);
}
END_TEST

/* The OSTs do not say where the file ends: nobody has the lock who does not know. */
static void unusable_body(struct fake *fake)
{
	begin(fake);
	fake->inodes[1].unsure = true;
	fake_changed(fake, &fake->inodes[1]);
	refused = -EIO;
	assert(lock(F_WRLCK) == -EIO && in_order("AB"));
	refused = 0;
	assert(lock(F_WRLCK) == 0 && in_order("A"));
	end();
}

START_TEST(a_lock_that_cannot_be_used_is_given_back)
{
	fake_run(unusable_body);
}
END_TEST

/* --- the kernel's pages ------------------------------------------------------------------------------------------- */

static bool restart; /* the MDT comes back meanwhile */

static void drop_pages(void *fs_owner, uint64_t ino, uint64_t offset, uint64_t size)
{
	unsigned int before = cluster->asked[OP_RECLAIM];

	(void)fs_owner;
	assert(ino == FAKE_FILE && offset == 0 && size == 0);
	assert(!file->inode->pages_valid); /* else an open would have them kept */
	fake_note('D');
	if (!restart)
		return;
	restart = false;
	cluster->instance++;
	fs_session_renew_soon(mount.fs->session);
	while (cluster->asked[OP_RECLAIM] == before)
		fiber_sleep_ms(1);
}

/* Who is given a lock sees no page of what was there before; and keeps those that are of what is there. */
static void pages_body(struct fake *fake)
{
	begin_as(fake, serve, O_RDONLY, drop_pages);
	assert(lock(F_RDLCK) == 0 && in_order("AD")); /* what the open has said is perhaps not done yet */
	assert(lock(F_UNLCK) == 0 && in_order("B"));
	assert(lock(F_RDLCK) == 0 && in_order("A"));
	assert(lock(F_UNLCK) == 0 && in_order("B"));
	fake_changed(fake, &fake->inodes[1]);
	assert(lock(F_RDLCK) == 0 && in_order("AD"));
	assert(lock(F_UNLCK) == 0 && in_order("B"));

	/* What another MDT told counts no more. */
	fake_changed(fake, &fake->inodes[1]);
	restart = true;
	assert(lock(F_RDLCK) == 0 && !restart && in_order("AD"));
	assert(lock(F_UNLCK) == 0 && in_order("B"));
	assert(lock(F_RDLCK) == 0 && in_order("AD"));
	end();
}

/* What was written by a mapping is out before a write lock goes: once for each open, or where it is known to be mapped. */
static void mapped_body(struct fake *fake)
{
	begin_as(fake, serve, O_RDWR, drop_pages);
	assert(lock(F_WRLCK) == 0 && in_order("AD"));
	assert(lock(F_UNLCK) == 0 && in_order("DB"));
	assert(lock(F_WRLCK) == 0 && in_order("AD"));
	assert(lock(F_UNLCK) == 0 && in_order("B"));
	assert(lock(F_WRLCK) == 0 && in_order("A"));
	file->inode->mapped = true;
	assert(lock(F_UNLCK) == 0 && in_order("DB"));
	end();
}

START_TEST(no_page_is_older_than_the_lock)
{
	fake_run(pages_body);
	fake_run(mapped_body);
}
END_TEST

/* --- waiting ------------------------------------------------------------------------------------------------------ */

static bool waiting;

static void wait_fiber(void *arg)
{
	(void)arg;
	assert(lock_range(F_WRLCK, 0, UINT64_MAX, true) == 0);
	waiting = false;
}

static void tell(struct fake *fake)
{
	Strake__LockPush push = STRAKE__LOCK_PUSH__INIT;

	(void)fake;
	push.n_waiter = 1;
	push.waiter = &waiter;
	service_push(conn, OP_LOCK_PUSH, &push.base);
}

/* Wait for it, until somebody else gives it back and that happens: how long it took. */
static uint64_t wait_until(struct fake *fake, void (*happens)(struct fake *fake))
{
	uint64_t began_ns;

	taken = waiting = true;
	assert(fiber_start(fake->loop, wait_fiber, NULL) == 0);
	while (fake_order[0] == 0)
		fiber_sleep_ms(1);
	taken = false;
	began_ns = clock_ns();
	if (happens != NULL)
		happens(fake);
	while (waiting)
		fiber_sleep_ms(1);
	assert(in_order("WW") && lock(F_UNLCK) == 0 && in_order("B"));
	return clock_ns() - began_ns;
}

/* Who waits asks again when he is told, or may have missed it; and by himself now and then, as a word may be lost. */
static void told_body(struct fake *fake)
{
	begin(fake);
	assert(wait_until(fake, tell) < 3 * NSEC_PER_SEC);
	assert(wait_until(fake, fake_break_connections) < 3 * NSEC_PER_SEC);
	assert(wait_until(fake, NULL) < 10 * NSEC_PER_SEC);
	end();
}

START_TEST(who_waits_asks_again)
{
	fake_run(told_body);
}
END_TEST

static struct fs_ctx killed;
static bool killed_over, freed;

static void killed_fiber(void *arg)
{
	const struct fs_lock want = { .type = F_WRLCK, .owner = OWNER, .end = UINT64_MAX };

	(void)arg;
	killed = (struct fs_ctx){ .trusted = true };
	assert(fs_lock(file, &killed, &want, false) == -EINTR);
	killed_over = true;
}

static void free_fiber(void *arg)
{
	(void)arg;
	assert(lock(F_UNLCK) == 0);
	freed = true;
}

/* Who is gone before his turn comes takes nothing: nobody would have it. */
static void killed_body(struct fake *fake)
{
	begin(fake);
	assert(lock(F_WRLCK) == 0 && in_order("A"));
	hold = true;
	killed_over = freed = false;
	assert(fiber_start(fake->loop, free_fiber, NULL) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	assert(fiber_start(fake->loop, killed_fiber, NULL) == 0);
	fiber_yield();
	fs_interrupt(&killed);
	while (!killed_over)
		fiber_sleep_ms(1);
	fake->held_count = 0;
	answer_lock(fake, fake->held[0]);
	while (!freed)
		fiber_sleep_ms(1);
	assert(lock(F_RDLCK) == 0 && in_order("BA")); /* in line behind him */
	end();
}

START_TEST(who_is_gone_before_his_turn_takes_nothing)
{
	fake_run(killed_body);
}
END_TEST

/* --- an MDT that comes back --------------------------------------------------------------------------------------- */

#define RANGES 600

static unsigned int told, parts;
static bool told_all;

static bool serve_reclaim(struct fake *fake, struct request *request)
{
	const Strake__ReclaimRequest *asked = (const Strake__ReclaimRequest *)request->body;

	(void)fake;
	fake_order[0] = 0;
	if (request->header.opcode != OP_RECLAIM)
		return serve(fake, request);
	assert(!told_all);
	for (size_t i = 0; i < asked->n_lock; i++) {
		assert(asked->lock[i]->ino == FAKE_FILE && asked->lock[i]->lock->owner == OWNER &&
		       asked->lock[i]->lock->type == LOCK_EXCLUSIVE);
		told++;
	}
	parts++;
	told_all = !asked->more;
	return false;
}

/* All locks are told, in parts; the last one says that it is the last, and has what is open. */
static void restart_body(struct fake *fake)
{
	begin_as(fake, serve_reclaim, O_RDWR, NULL);
	for (uint64_t i = 0; i < RANGES; i++)
		assert(lock_range(F_WRLCK, 10 * i, 10 * i + 4, false) == 0);
	fake->instance++;
	fs_session_renew_soon(mount.fs->session);
	while (!told_all)
		fiber_sleep_ms(1);
	assert(told == RANGES && parts > 2 && fake->reclaimed == 1);
	end();
}

START_TEST(an_mdt_that_comes_back_is_told_of_all_locks)
{
	fake_run(restart_body);
}
END_TEST

/* --- whose it is --------------------------------------------------------------------------------------------------- */

/* The kernel's numbers of flock owners come again: two handles are two owners, whatever it says. */
static void flock_body(struct fake *fake)
{
	const struct fs_lock want = { .flock = true, .type = F_WRLCK, .owner = OWNER };
	struct fs_ctx ctx = { .trusted = true };
	struct file *second;
	uint64_t first_owner;

	begin(fake);
	second = fake_open(mount.fs, O_RDWR);
	assert(fs_lock(file, &ctx, &want, false) == 0);
	first_owner = owner;
	assert(fs_lock(second, &ctx, &want, false) == 0 && owner != first_owner);
	fs_release(second);
	end();
}

START_TEST(a_flock_is_its_handles)
{
	fake_run(flock_body);
}
END_TEST

UNIT_MAIN("client_lock_op", what_was_written_is_out_before_a_lock_goes, a_lock_that_cannot_be_used_is_given_back,
	  no_page_is_older_than_the_lock, who_waits_asks_again, who_is_gone_before_his_turn_takes_nothing,
	  an_mdt_that_comes_back_is_told_of_all_locks, a_flock_is_its_handles)
