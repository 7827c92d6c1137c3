/* What a mount knows of names that are not there is forgotten when it may be wrong: absent_test has how it is known. */
#include "client/absent.h"
#include "client/fs_state.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

#define DIR 5 /* no matter which */

static struct fake_mount mount;

static bool knows(void)
{
	return absent_is(mount.fs->absent, DIR, "no", 2, clock_ns());
}

static void mount_knows(struct fake *fake, unsigned int soft_ms)
{
	const struct absent_change change = {
		.dir = DIR,
		.version_before = 1,
		.version = 2,
		.alone_until_ns = clock_ns() + 1000 * NSEC_PER_SEC,
		.came = "a",
		.came_len = 1,
	};
	struct fs_config config;

	fake_config(fake, &config);
	config.soft = soft_ms > 0;
	fake_mount(fake, &config, &mount);
	if (soft_ms > 0) /* only now: what is answered has time */
		mount.fs->config.soft_timeout_ms = soft_ms;
	absent_made(mount.fs->absent, DIR, 1, clock_ns());
	absent_changed(mount.fs->absent, &change, clock_ns());
	assert(knows());
}

static bool silent(struct fake *fake, struct request *request)
{
	switch (request->header.opcode) {
	case OP_CREATE:
	case OP_MKDIR:
	case OP_LINK:
	case OP_RENAME:
	case OP_UNLINK:
		return fake_hold(fake, request);
	default:
		return false;
	}
}

static int create(struct fs_ctx *ctx)
{
	struct file *file;
	struct attr attr;
	bool keep;

	return fs_create(mount.fs, ctx, 1, "x", 1, 0644, O_RDWR, &attr, &file, &keep);
}

static int make_dir(struct fs_ctx *ctx)
{
	struct attr attr;

	return fs_mkdir(mount.fs, ctx, 1, "x", 1, 0755, &attr);
}

static int link_file(struct fs_ctx *ctx)
{
	struct attr attr;

	return fs_link(mount.fs, ctx, 2, 1, "x", 1, &attr);
}

static int rename_file(struct fs_ctx *ctx)
{
	return fs_rename(mount.fs, ctx, 1, "f", 1, 1, "x", 1, 0);
}

static int unlink_file(struct fs_ctx *ctx)
{
	return fs_unlink(mount.fs, ctx, 1, "f", 1);
}

/* Whatever may add a name yet, wherever: nothing is known. What only takes one away leaves that as it is. */
static void given_up_body(struct fake *fake)
{
	static int (*const changes[])(struct fs_ctx * ctx) = { create, make_dir, link_file, rename_file, unlink_file };
	struct fs_ctx ctx = { .trusted = true };

	fake_make(fake, "f", S_IFREG | 0644);
	for (unsigned int i = 0; i < 5; i++) {
		mount_knows(fake, 1000);
		fake->hook = silent;
		assert(changes[i](&ctx) == -EIO);
		assert(knows() == (i == 4));
		fake->hook = NULL;
		while (fake->held_count > 0)
			service_reply_error(fake->held[--fake->held_count], -EIO);
		fake_unmount(&mount);
	}
}

START_TEST(who_gives_up_a_change_knows_nothing)
{
	fake_run(given_up_body);
}
END_TEST

/* In another session, and with another MDT, others may have been alone there since. */
static void forgotten_body(struct fake *fake)
{
	struct fs_ctx ctx = { .trusted = true };
	struct attr attr;

	mount_knows(fake, 0);
	fake->session++;
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
	assert(!knows());
	fake_unmount(&mount);
}

START_TEST(another_session_knows_nothing)
{
	fake_run(forgotten_body);
}
END_TEST

UNIT_MAIN("client_absent", who_gives_up_a_change_knows_nothing, another_session_knows_nothing)
