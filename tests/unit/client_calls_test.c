/* How libstrake sees operations through: slots, resends, EAGAIN, lost sessions, interrupts, patience. */
#include "client/fs_state.h"
#include "client/probe.h"
#include "client/tell.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

static struct fs_ctx root_ctx(void)
{
	return (struct fs_ctx){ .trusted = true };
}

/* Create and release; the result. */
static int create(struct fs *fs, struct fs_ctx *ctx, const char *name)
{
	struct file *file;
	struct attr attr;
	bool keep;
	int err = fs_create(fs, ctx, 1, name, strlen(name), 0644, O_RDWR, &attr, &file, &keep);

	if (err == 0) {
		fs_release(file);
		fs_forget(fs, attr.ino, 1);
	}
	return err;
}

/* --- mount, unmount --------------------------------------------------------------------------------------------------- */

static void mount_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	assert(fs_root(mount.fs) == 1);
	assert(uuid_equal(fs_uuid(mount.fs), &fake->fs_uuid));
	assert(fs_lookup(mount.fs, &ctx, 1, "nothing", 7, &attr) == -ENOENT);
	fake_unmount(&mount);
	assert(fake->asked[OP_SESSION_OPEN] == 1);
	assert(fake->asked[OP_SESSION_CLOSE] == 1);
}

static void answer_later(void *arg)
{
	struct fake *fake = arg;

	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	fiber_sleep_ms(3 * TELL_CLOSE_MS);
	fake_let_go(fake);
}

static bool hold_session_close(struct fake *fake, struct request *request)
{
	return request->header.opcode == OP_SESSION_CLOSE && fake_hold(fake, request);
}

static void close_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct file *file;
	struct attr attr;
	bool keep;

	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	assert(fs_create(mount.fs, &ctx, 1, "open", 4, 0644, O_RDWR, &attr, &file, &keep) == 0);
	fs_forget(mount.fs, attr.ino, 1);
	fake->hook = hold_session_close;
	assert(fiber_start(fake->loop, answer_later, fake) == 0);
	fake_unmount(&mount);
	assert(fake->asked[OP_SESSION_CLOSE] == 1 && fake->asked[OP_CLOSE] == 0);
}

START_TEST(nothing_is_asked_in_a_session_that_was_closed)
{
	fake_run(close_body);
}
END_TEST

START_TEST(mount_opens_one_session_and_closes_it)
{
	fake_run(mount_body);
}
END_TEST

static void subdir_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	char error[512] = "";

	fake_make(fake, "sub", S_IFDIR | 0755);
	fake_make(fake, "plain", S_IFREG | 0644);
	fake_config(fake, &config);
	snprintf(config.subdir, sizeof(config.subdir), "//sub/");
	fake_mount(fake, &config, &mount);
	assert(fs_root(mount.fs) == 2);
	fake_unmount(&mount);

	snprintf(config.subdir, sizeof(config.subdir), "/plain");
	assert(fs_open(fake->loop, &config, 10000, &mount.fs, error, sizeof(error)) == -ENOTDIR);
	snprintf(config.subdir, sizeof(config.subdir), "/none");
	assert(fs_open(fake->loop, &config, 10000, &mount.fs, error, sizeof(error)) == -ENOENT);
	assert(strstr(error, "/none") != NULL);
	key_make(&config.key);
	assert(fs_open(fake->loop, &config, 10000, &mount.fs, error, sizeof(error)) == -EKEYREJECTED);
}

START_TEST(a_subdirectory_is_the_root_and_errors_have_words)
{
	fake_run(subdir_body);
}
END_TEST

/* --- resends ------------------------------------------------------------------------------------------------------------ */

static struct frame_header first_copy;
static unsigned int copies;

/* The first CREATE is executed, but its answer is lost with the connection. */
static bool lose_first_answer(struct fake *fake, struct request *request)
{
	if (request->header.opcode != OP_CREATE)
		return false;
	copies++;
	if (copies == 1) {
		first_copy = request->header;
		service_conn_close(request->conn);
		fake_mdt_answer(fake, request);
		return true;
	}
	assert((request->header.flags & FRAME_RESENT) != 0);
	assert((first_copy.flags & FRAME_RESENT) == 0);
	assert(request->header.session == first_copy.session && request->header.slot == first_copy.slot &&
	       request->header.seq == first_copy.seq);
	return false;
}

static void resend_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct fs_stats stats;
	struct statvfs space;

	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	assert(fs_statfs(mount.fs, &ctx, &space) == 0); /* and what the mount asks by itself has been answered */
	fake->hook = lose_first_answer;
	assert(create(mount.fs, &ctx, "once") == 0);
	assert(copies == 2 && fake->inode_count == 2);
	fs_stats(mount.fs, &stats);
	assert(stats.resends == 1);
	fake->hook = NULL;
	assert(create(mount.fs, &ctx, "twice") == 0); /* the fake checks that seq has grown */
	fake_unmount(&mount);
}

START_TEST(a_lost_answer_is_asked_for_again_in_the_same_slot)
{
	fake_run(resend_body);
}
END_TEST

/* --- EAGAIN ------------------------------------------------------------------------------------------------------------- */

static bool again_twice(struct fake *fake, struct request *request)
{
	(void)fake;
	if (request->header.opcode != OP_SETATTR || ++copies > 2)
		return false;
	assert((request->header.flags & FRAME_RESENT) == 0);
	assert(copies == 1 || request->header.slot != first_copy.slot || request->header.seq == first_copy.seq + 1);
	first_copy = request->header;
	service_reply_error(request, -EAGAIN);
	return true;
}

static void again_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr = { .size = 5 }, now;

	fake_make(fake, "f", S_IFREG | 0644);
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	fake->hook = again_twice;
	assert(fs_setattr(mount.fs, &ctx, 2, SETATTR_SIZE, &attr, &now) == 0);
	assert(now.size == 5 && copies == 3);
	fake_unmount(&mount);
}

START_TEST(eagain_is_asked_again_as_a_new_request)
{
	fake_run(again_body);
}
END_TEST

/* --- lost sessions -------------------------------------------------------------------------------------------------------- */

struct parallel_create {
	struct fs *fs;
	unsigned int done;
	struct fiber_queue queue;
	char name[32];
};

static struct parallel_create creating;

static void create_fiber(void *arg)
{
	struct fs_ctx ctx = root_ctx();
	char name[32];

	snprintf(name, sizeof(name), "n%u", *(unsigned int *)arg);
	assert(create(creating.fs, &ctx, name) == 0);
	creating.done++;
	fiber_wake_all(&creating.queue);
}

static void create_many(struct fake *fake, struct fs *fs, unsigned int count)
{
	static unsigned int numbers[256];

	creating = (struct parallel_create){ .fs = fs };
	for (unsigned int i = 0; i < count; i++) {
		numbers[i] = i;
		assert(fiber_start(fake->loop, create_fiber, &numbers[i]) == 0);
	}
	while (creating.done < count)
		fiber_wait(&creating.queue, NULL);
}

static void lost_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct file *file;
	bool keep;

	fake_make(fake, "open", S_IFREG | 0644);
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	assert(fs_open_file(mount.fs, &ctx, 2, O_RDWR, &file, &keep) == 0);
	assert(fake->inodes[1].opened == 3);

	fake->session += 100; /* nobody knows the old one */
	create_many(fake, mount.fs, 50);
	assert(fake->asked[OP_SESSION_OPEN] == 2);
	assert(fake->asked[OP_RECLAIM] == 1 && fake->reclaimed == 1);
	assert(fake->inodes[1].opened == 3);
	fs_release(file);
	fake_unmount(&mount);
}

START_TEST(a_lost_session_is_joined_again_once_and_open_files_reclaimed)
{
	fake_run(lost_body);
}
END_TEST

/* Nobody asks for anything: the lease is kept all the same. */
static void renew_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;

	fake->lease_ms = 300;
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	while (fake->asked[OP_SESSION_RENEW] < 12) /* a few are asked for by the peers that have connected */
		fiber_sleep_ms(5);
	fake_unmount(&mount);
}

START_TEST(the_lease_is_renewed)
{
	fake_run(renew_body);
}
END_TEST

/* --- slots ---------------------------------------------------------------------------------------------------------------- */

static unsigned int most_held;

static bool hold_creates(struct fake *fake, struct request *request)
{
	if (request->header.opcode != OP_CREATE)
		return false;
	fake_hold(fake, request);
	if (fake->held_count > most_held)
		most_held = fake->held_count;
	return true;
}

/* Let go what is held, whenever nothing else moves. */
static void let_go_now_and_then(void *arg)
{
	struct fake *fake = arg;

	while (fake->hook != NULL) {
		for (int i = 0; i < 20; i++)
			fiber_yield();
		fake_let_go(fake);
		fiber_sleep_ms(1);
	}
}

static void slots_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;

	fake->slots_granted = 8; /* for the worker and for the control worker: four each */
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	fake->hook = hold_creates;
	assert(fiber_start(fake->loop, let_go_now_and_then, fake) == 0);
	create_many(fake, mount.fs, 100);
	fake->hook = NULL;
	assert(fake->inode_count == 101);
	assert(most_held == 4);
	fiber_sleep_ms(5); /* the other fiber's end */
	fake_unmount(&mount);
}

START_TEST(no_more_requests_than_slots_are_under_way)
{
	fake_run(slots_body);
}
END_TEST

/* --- interrupts and patience ------------------------------------------------------------------------------------------------ */

struct interrupting {
	struct fake *fake;
	struct fs_ctx *ctx;
};

static void interrupt_when_asked(void *arg)
{
	struct interrupting *interrupting = arg;

	while (interrupting->fake->held_count == 0)
		fiber_sleep_ms(1);
	fs_interrupt(interrupting->ctx);
}

static void interrupt_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct interrupting interrupting = { fake, &ctx };

	fake->slots_granted = 2; /* one for the worker: the slot of the interrupted one must be of use again */
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	fake->hook = hold_creates;
	assert(fiber_start(fake->loop, interrupt_when_asked, &interrupting) == 0);
	assert(create(mount.fs, &ctx, "cut short") == -EINTR);
	assert(ctx.waiting == NULL);
	fake_let_go(fake);
	fake->hook = NULL;
	ctx = root_ctx();
	assert(create(mount.fs, &ctx, "seen through") == 0);
	/* It was executed after all: what it opened does not stay open. */
	while (fake_named(fake, "cut short", 9)->opened != 0)
		fiber_sleep_ms(5);
	fake_unmount(&mount);
}

START_TEST(an_interrupted_call_returns_and_its_slot_goes_on)
{
	fake_run(interrupt_body);
}
END_TEST

static bool silent(struct fake *fake, struct request *request)
{
	return request->header.opcode == OP_CREATE || request->header.opcode == OP_GETATTR ? fake_hold(fake, request)
											   : false;
}

static void soft_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	uint64_t began;

	fake_config(fake, &config);
	config.soft = true;
	fake_mount(fake, &config, &mount);
	mount.fs->config.soft_timeout_ms = 300; /* only now: what is answered has time */
	fake->hook = silent;
	began = clock_ns();
	assert(create(mount.fs, &ctx, "x") == -EIO);
	assert(clock_ns() - began >= 300 * NSEC_PER_MSEC && clock_ns() - began < 50 * NSEC_PER_SEC);
	fake_let_go(fake);
	fake->hook = NULL;
	fake_unmount(&mount);
}

START_TEST(a_soft_mount_gives_up_after_its_time)
{
	fake_run(soft_body);
}
END_TEST

static void root_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;
	uint64_t began;

	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	fake->hook = silent;
	began = clock_ns();
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
	assert(attr.ino == 1 && clock_ns() - began < 5 * NSEC_PER_SEC);
	fake_let_go(fake);
	fake->hook = NULL;
	fake_unmount(&mount);
}

START_TEST(the_roots_attributes_are_told_without_the_mdt)
{
	fake_run(root_body);
}
END_TEST

/* --- signs of life ------------------------------------------------------------------------------------------------------ */

static void await_troubled(struct fs *fs, unsigned int count)
{
	uint64_t began = clock_ns();
	struct fs_stats stats;

	do {
		fiber_sleep_ms(10);
		fs_stats(fs, &stats);
		assert(clock_ns() - began < 20 * NSEC_PER_SEC);
	} while (stats.targets_troubled != count);
}

static void probe_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct probe probe;

	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	service_free(fake->osts[1]);
	probe_begin(&probe, mount.worker);
	await_troubled(mount.fs, 1);
	fake->osts[1] = fake_service(fake, ROLE_OST, fake->ost_uuids[1], fake_ost_handle, &fake->ost_owners[1],
				     &fake->ost_ports[1]);
	await_troubled(mount.fs, 0);
	probe_end(&probe);
	fake_unmount(&mount);
}

START_TEST(who_gives_no_sign_of_life_is_told)
{
	fake_run(probe_body);
}
END_TEST

UNIT_MAIN("client_calls", mount_opens_one_session_and_closes_it, nothing_is_asked_in_a_session_that_was_closed,
	  who_gives_no_sign_of_life_is_told, a_subdirectory_is_the_root_and_errors_have_words,
	  a_lost_answer_is_asked_for_again_in_the_same_slot, eagain_is_asked_again_as_a_new_request,
	  a_lost_session_is_joined_again_once_and_open_files_reclaimed, the_lease_is_renewed,
	  no_more_requests_than_slots_are_under_way, an_interrupted_call_returns_and_its_slot_goes_on,
	  a_soft_mount_gives_up_after_its_time, the_roots_attributes_are_told_without_the_mdt)
