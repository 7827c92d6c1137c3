/* What becomes of written bytes when the session is lost, and of reports that the MDT refuses. */
#include "client/worker.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

static uint64_t first_session;
static unsigned int late; /* WRITEs in a session in which nothing was written */

static struct fs_ctx root_ctx(void)
{
	return (struct fs_ctx){ .trusted = true };
}

static void begin(struct fake *fake, struct fake_mount *mount)
{
	struct fs_config config;

	fake_one_file(fake, NULL, &config);
	fake_mount(fake, &config, mount);
	first_session = fake->session;
}

static void written(struct request *request)
{
	Strake__WriteReply reply = STRAKE__WRITE_REPLY__INIT;

	reply.instance = 7;
	fake_reply(request, &reply.base);
}

static void committed(struct request *request)
{
	Strake__CommitReply reply = STRAKE__COMMIT_REPLY__INIT;

	reply.instance = 7;
	fake_reply(request, &reply.base);
}

/* OSTs that know which session is in force. */
static bool osts(struct fake *fake, struct request *request)
{
	switch (request->header.opcode) {
	case OP_WRITE:
		late += request->header.session > first_session;
		if (request->header.session == fake->session)
			written(request);
		else
			service_reply_error(request, -ENOSESSION);
		return true;
	case OP_COMMIT:
		committed(request);
		return true;
	default:
		return false;
	}
}

static bool osts_that_hold(struct fake *fake, struct request *request)
{
	return request->header.opcode == OP_WRITE ? fake_hold(fake, request) : osts(fake, request);
}

static bool osts_not_ready(struct fake *fake, struct request *request)
{
	if (request->header.opcode != OP_WRITE)
		return osts(fake, request);
	fake->session += 100; /* the MDT forgets us meanwhile */
	fake->hook = osts;
	service_reply_error(request, -EAGAIN);
	return true;
}

static bool nothing_held(struct fs *fs)
{
	struct fs_stats stats;

	fs_stats(fs, &stats);
	return stats.bytes_held == 0 && stats.files_held == 0;
}

/* Everything goes on, and who was not there before is told nothing. */
static void goes_on(struct fake *fake, struct fs *fs)
{
	struct fs_ctx ctx = root_ctx();
	struct file *file = fake_open(fs, O_RDWR);

	assert(late == 0);
	assert(fs_write(file, &ctx, 0, "later", 5, NULL) == 0);
	assert(fs_fsync(file, &ctx, false) == 0);
	assert(late == 1 && fake->inodes[1].size == 5);
	assert(nothing_held(fs));
	fs_release(file);
}

/* Told once to each that had it open. */
static void told_once(struct file *file)
{
	struct fs_ctx ctx = root_ctx();

	assert(fs_fsync(file, &ctx, false) == -EIO);
	assert(fs_fsync(file, &ctx, false) == 0);
	assert(fs_flush(file, &ctx) == 0);
}

static void again_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct fake_mount mount;
	struct file *file, *other;
	struct fs_stats stats;

	begin(fake, &mount);
	file = fake_open(mount.fs, O_RDWR);
	other = fake_open(mount.fs, O_RDWR);
	fake->hook = osts_not_ready;
	assert(fs_write(file, &ctx, 0, "early", 5, NULL) == 0);
	told_once(file);
	told_once(other);
	assert(fake->session > first_session + 100 && nothing_held(mount.fs));
	fs_stats(mount.fs, &stats);
	assert(stats.bytes_lost == 5);
	goes_on(fake, mount.fs);
	fs_release(other);
	fs_release(file);
	fake_unmount(&mount);
}

START_TEST(a_write_does_not_go_on_in_another_session)
{
	fake_run(again_body);
}
END_TEST

static void write_out_fiber(void *arg)
{
	struct fs_ctx ctx = root_ctx();

	(void)fs_flush(arg, &ctx); /* -EIO, to a handle of its own */
}

/* One extent on the OST, one on its way, one that has not set out. */
static void held_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct fake_mount mount;
	struct file *file, *flushed;
	struct attr attr;

	begin(fake, &mount);
	file = fake_open(mount.fs, O_RDWR);
	flushed = fake_open(mount.fs, O_RDWR);
	fake->hook = osts;
	assert(fs_write(file, &ctx, 0, "early", 5, NULL) == 0);
	assert(fs_flush(file, &ctx) == 0);
	fake->hook = osts_that_hold;
	assert(fs_write(file, &ctx, 0, "EARLY", 5, NULL) == 0);
	assert(fiber_start(fake->loop, write_out_fiber, flushed) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	assert(fs_write(file, &ctx, 100, "dirty", 5, NULL) == 0);

	fake->session += 100;
	fake->hook = osts;
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0); /* joins again */
	assert(fake->held_count == 1);
	written(fake->held[0]); /* it had arrived in time after all */
	fake->held_count = 0;
	told_once(file);
	assert(nothing_held(mount.fs));
	goes_on(fake, mount.fs);
	fs_release(flushed);
	fs_release(file);
	fake_unmount(&mount);
}

START_TEST(what_was_written_in_a_lost_session_is_gone)
{
	fake_run(held_body);
}
END_TEST

/* The MDT has restarted and knows the session: nothing is lost. */
static void reclaim_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct fake_mount mount;
	struct fs_stats stats;
	struct file *file;

	begin(fake, &mount);
	file = fake_open(mount.fs, O_RDWR);
	fake->hook = osts;
	while (fake->asked[OP_SESSION_RENEW] == 0)
		fiber_sleep_ms(1);
	assert(fs_write(file, &ctx, 0, "early", 5, NULL) == 0);
	fake->instance++;
	fake->reclaim = true;
	fake_break_connections(fake);
	while (fake->asked[OP_RECLAIM] == 0)
		fiber_sleep_ms(1);
	assert(fs_fsync(file, &ctx, false) == 0);
	fs_stats(mount.fs, &stats);
	assert(stats.bytes_lost == 0 && late == 0 && fake->inodes[1].size == 5 && fake->session == first_session);
	fs_release(file);
	fake_unmount(&mount);
}

START_TEST(a_restarted_mdt_that_knows_us_costs_nothing)
{
	fake_run(reclaim_body);
}
END_TEST

static uint64_t stale_until_ns;
static unsigned int stale_reports;

static bool mdt_with_another_gen(struct fake *fake, struct request *request)
{
	if (request->header.opcode != OP_SIZE || clock_ns() >= stale_until_ns)
		return osts(fake, request);
	stale_reports++;
	service_reply_error(request, -ESTALE);
	return true;
}

static void stale_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct fake_mount mount;
	struct file *file;

	begin(fake, &mount);
	file = fake_open(mount.fs, O_RDWR);
	fake->hook = mdt_with_another_gen;
	stale_until_ns = clock_ns() + NSEC_PER_SEC;
	assert(fs_write(file, &ctx, 0, "early", 5, NULL) == 0);
	assert(fs_flush(file, &ctx) == 0);
	assert(fake->inodes[1].size == 5 && stale_reports > 1 && stale_reports < 30);
	fs_release(file);
	fake_unmount(&mount);
}

START_TEST(a_report_that_is_refused_for_a_while_is_not_lost)
{
	fake_run(stale_body);
}
END_TEST

UNIT_MAIN("client_fence", a_write_does_not_go_on_in_another_session, what_was_written_in_a_lost_session_is_gone,
	  a_restarted_mdt_that_knows_us_costs_nothing, a_report_that_is_refused_for_a_while_is_not_lost)
