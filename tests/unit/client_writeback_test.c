/* When dirty bytes go out: what close, fsync and sync promise, what is reported, and how much is held. */
#include "tests/unit/client_osts.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef STRAKE_SAN
static unsigned int buffers_mapped; /* data buffers, in use or not */
static bool no_buffers;             /* there is no memory for another */

/* In place of the C library's. */
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	if (length == BUFFERS_ROOM && no_buffers) {
		errno = ENOMEM;
		return (void *)-1;
	}
	buffers_mapped += length == BUFFERS_ROOM;
	return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

int munmap(void *address, size_t length)
{
	buffers_mapped -= length == BUFFERS_ROOM;
	return (int)syscall(SYS_munmap, address, length);
}
#endif

/* What an OST refuses is told by the next close or fsync of each handle, once, and does not come later. */
static void refused_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct fs_stats stats;

	begin(fake);
	osts.refuse = -ENOSPC;
	put_text(0, "x");
	assert(flush() == -ENOSPC && flush() == 0);
	osts.refuse = -EIO;
	put_text(0, "y");
	assert(fsync_file() == -EIO && fsync_file() == 0);
	osts.refuse = 0;
	assert(fs_flush(direct, &ctx) == -EIO && fs_flush(direct, &ctx) == 0);
	fs_stats(mount.fs, &stats);
	assert(stats.bytes_lost == 2 && nothing_held() && all_are(0, 10, 0));
	end();
}

START_TEST(what_an_ost_refuses_is_told_once)
{
	fake_run(refused_body);
}
END_TEST

/* ... or when it is sent again after a close has been answered: then it is told by a sync of all, too. */
static void refused_late_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();

	begin(fake);
	put_out(0, "one");
	assert(fs_sync(mount.fs, &ctx) == 0 && nothing_held());

	/* It finds that out itself. */
	put_out(0, "two");
	lose(0);
	osts.refuse = -ENOSPC;
	assert(fs_sync(mount.fs, &ctx) == -ENOSPC && nothing_held());
	assert(fs_sync(mount.fs, &ctx) == 0 && flush() == -ENOSPC && fs_flush(direct, &ctx) == -ENOSPC);

	/* Others have. */
	osts.refuse = 0;
	put_out(0, "three");
	lose(0);
	osts.refuse = -EIO;
	assert(fs_fsync(direct, &ctx, false) == -EIO && nothing_held());
	assert(fs_sync(mount.fs, &ctx) == -EIO && fs_sync(mount.fs, &ctx) == 0);
	osts.refuse = 0;
	end();
}

START_TEST(what_is_refused_after_a_close_is_told_by_a_sync)
{
	fake_run(refused_late_body);
}
END_TEST

static void order_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct file *sync;

	begin(fake);
	put_text(0, "x");
	assert(fsync_file() == 0 && strcmp(osts.order, "WCTL") == 0);
	memset(osts.order, 0, sizeof(osts.order));
	put_text(0, "x");
	assert(flush() == 0 && strcmp(osts.order, "WS") == 0);
	memset(osts.order, 0, sizeof(osts.order));
	put(direct, 0, "x", 1);
	assert(strcmp(osts.order, "W") == 0);
	assert(fs_flush(direct, &ctx) == 0);
	memset(osts.order, 0, sizeof(osts.order));
	sync = fake_open(mount.fs, O_RDWR | O_DSYNC);
	put(sync, 0, "x", 1);
	assert(strcmp(osts.order, "WCTL") == 0);
	fs_release(sync);

	/* sync(2) of all. */
	memset(osts.order, 0, sizeof(osts.order));
	put_text(STRIPE, "x");
	assert(fs_sync(mount.fs, &ctx) == 0 && strcmp(osts.order, "WSCL") == 0);
	end();
}

START_TEST(fsync_is_write_commit_size_and_log)
{
	fake_run(order_body);
}
END_TEST

static bool see_attr(void *arg, const struct dir_entry *entry)
{
	if (entry->ino == 2)
		*(bool *)arg = entry->attr != NULL;
	return true;
}

/* Does a listing give the file's attributes? */
static bool listed_with_attr(void)
{
	struct fs_ctx ctx = root_ctx();
	bool with = false;

	assert(fs_readdir(mount.fs, &ctx, 1, 0, true, see_attr, &with) == 0);
	return with;
}

static void report_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx(), writer = { .uid = 1, .kill_suid = true };

	begin(fake);
	/* What is dirty yet is the next report's business. */
	put_text(0, "12345");
	assert(data_write_out(file->inode, &ctx) == 0);
	assert(!listed_with_attr()); /* not as the MDT knows them */
	put_text(8192, "more");
	assert(data_report_size(file->inode, &ctx, false) == 0 && osts.end == 5);
	assert(flush() == 0 && osts.end == 8196 && !osts.kill_suid && listed_with_attr());

	/* Blocks are what the OSTs told since the last one; the time is the write's, not the report's. */
	put_letters(0, 'x', 8192);
	assert(data_write_out(file->inode, &ctx) == 0);
	fiber_sleep_ms(20);
	assert(flush() == 0 && osts.grown == 8 && osts.age_ns >= 20 * NSEC_PER_MSEC);
	put_letters(0, 'x', 8192);
	assert(data_write_out(file->inode, &ctx) == 0);
	put_letters(0, 'x', 8192);
	assert(flush() == 0 && osts.grown == 16 && !osts.exact);

	assert(fs_write(file, &writer, 0, "x", 1, NULL) == 0);
	assert(flush() == 0 && osts.kill_suid);
	put_text(0, "x");
	assert(flush() == 0 && !osts.kill_suid);
	end();
}

/* What an OST has grown by may be of WRITEs that it has not answered: it is told when these are. */
static void blocks_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	const struct inode_data *data;

	begin(fake);
	osts.hold = OP_WRITE;
	for (uint64_t at = 0; at < ROOM; at += 8192)
		put_letters(at, 'x', 8192);
	data = file->inode->data;
	start(flush_fiber);
	while (fake->held_count < 2)
		fiber_sleep_ms(1);
	osts.hold = 0;
	answer_write(fake->held[--fake->held_count]);
	while (data->dirty.count > 0 || data->flight.count > fake->held_count)
		fiber_sleep_ms(1);
	assert(data_report_size(file->inode, &ctx, false) == 0 && osts.end > 0 && osts.grown == 0);
	while (fake->held_count > 0)
		answer_write(fake->held[--fake->held_count]);
	assert(finish() == 0 && osts.grown == ROOM / EXTENT_BLOCK * 8);
	end();
}

/* Closed without a flush: the MDT hears of the size before it hears that nobody writes. */
static void close_body(struct fake *fake)
{
	begin(fake);
	fs_release(direct);
	direct = NULL;
	put_text(0, "x");
	fs_release(file);
	file = NULL;
	while (fake->asked[OP_CLOSE] == 0)
		fiber_sleep_ms(5);
	assert(strcmp(osts.order, "WSX") == 0);
	end();
}

static int second_result;
static bool second_over;

static void second_fiber(void *arg)
{
	struct fs_ctx ctx = root_ctx();

	(void)arg;
	second_result = data_report_size(file->inode, &ctx, false);
	second_over = true;
}

static struct fs_ctx reporter;

static void report_fiber(void *arg)
{
	(void)arg;
	reporter = root_ctx();
	background_result = data_report_size(file->inode, &reporter, false);
	background_over = true;
}

/* Answer the SIZE that is kept. */
static void let_size_go(struct fake *fake)
{
	assert(fake->held_count == 1);
	osts.hold = 0;
	fake->held_count = 0;
	fake_reply_attr(fake->held[0], &fake->inodes[1], osts.size_before);
}

/*
 * Whoever reports is killed before the answer: that is waited for without him, so that nothing is added twice, and what an OST
 * then loses is still known to be of nobody else.
 */
static void killed_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();

	begin(fake);
	put_letters(0, 'x', 8192);
	assert(data_write_out(file->inode, &ctx) == 0);
	osts.hold = OP_SIZE;
	start(report_fiber);
	fs_interrupt(&reporter);
	assert(finish() == -EINTR && osts.grown > 0);
	let_size_go(fake);
	assert(flush() == 0 && fake->asked[OP_SIZE] == 1);
	lose(0);
	assert(fsync_file() == 0 && all_are(0, 8192, 'x') && is_at(osts.stable, 8191, "x"));
	put_letters(0, 'y', 8192);
	assert(flush() == 0 && osts.grown == 16 && !osts.exact);
	end();
}

/* Where it was given up (soft), what the MDT may have taken is not added again, but counted. */
static void doubt_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();

	begin_as(fake, UINT64_C(1) << 30, 500);
	put_letters(0, 'x', 8192);
	assert(data_write_out(file->inode, &ctx) == 0);
	osts.hold = OP_SIZE;
	assert(data_report_size(file->inode, &ctx, false) == -EIO && osts.grown > 0);
	assert(flush() == -EIO && fake->held_count == 1);
	let_size_go(fake); /* too late */
	put_letters(0, 'x', 8192);
	assert(flush() == 0 && osts.exacts > 0); /* the flusher may have told it before */
	put_letters(0, 'x', 8192);
	assert(flush() == 0 && !osts.exact);
	end();
}

/* The file was replaced while it was on its way: of the new content it tells nothing. */
static void replaced_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();

	begin(fake);
	put_letters(0, 'x', 8192);
	assert(data_write_out(file->inode, &ctx) == 0);
	osts.hold = OP_SIZE;
	start(flush_fiber);
	assert(osts.grown == 8);
	replace_elsewhere();
	learn();
	let_size_go(fake);
	assert(finish() == 0);
	put_letters(0, 'y', 8192);
	assert(flush() == 0 && osts.grown == 8);

	/* What could not be told is told with the next one. */
	osts.stale_size = true;
	put_letters(0, 'y', 8192);
	assert(flush() == 0 && !osts.stale_size && osts.grown == 8);
	end();
}

static struct attr stat_of_it;

static void stat_fiber(void *arg)
{
	struct fs_ctx ctx = root_ctx();

	(void)arg;
	background_result = fs_getattr(mount.fs, &ctx, 2, true, &stat_of_it);
	background_over = true;
}

/*
 * Others write, too, so the OSTs are asked for its size; and before their answers are here it has grown by a write of ours, which is
 * told by then.
 */
static void overtaken_body(struct fake *fake)
{
	const Strake__GlimpseReply before = STRAKE__GLIMPSE_REPLY__INIT;

	begin(fake);
	fake->inodes[1].unsure = fake->inodes[1].written = true;
	fake_changed(fake, &fake->inodes[1]);
	osts.hold = OP_GLIMPSE;
	start(stat_fiber);
	while (fake->held_count < FAKE_OSTS)
		fiber_sleep_ms(1);
	put_letters(0, 'x', 8192);
	assert(flush() == 0 && fake->asked[OP_SIZE] == 1);
	for (unsigned int i = 0; i < FAKE_OSTS; i++)
		fake_reply(fake->held[i], &before.base);
	fake->held_count = 0;
	assert(finish() == 0 && stat_of_it.size == 8192 && !stat_of_it.size_unsure);
	end();
}

/* Who waits for another's report is woken by each answer of an OST; that uses up no patience with what is stale. */
static void turn_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();

	begin(fake);
	put_letters(0, 'x', 8192);
	assert(data_write_out(file->inode, &ctx) == 0);
	osts.hold = OP_SIZE;
	start(flush_fiber);
	put_letters(0, 'y', 8192);
	assert(data_write_out(file->inode, &ctx) == 0);
	second_over = false;
	assert(fiber_start(fake->loop, second_fiber, NULL) == 0);
	for (int i = 0; i < 200; i++) {
		fiber_wake_all(&file->inode->changed);
		fiber_yield();
	}
	osts.stale_size = true;
	let_size_go(fake);
	assert(finish() == 0);
	while (!second_over)
		fiber_sleep_ms(1);
	assert(second_result == 0 && !osts.stale_size);
	end();
}

START_TEST(a_report_tells_what_is_on_the_osts)
{
	fake_run(report_body);
	fake_run(blocks_body);
	fake_run(killed_body);
	fake_run(doubt_body);
	fake_run(replaced_body);
	fake_run(overtaken_body);
	fake_run(turn_body);
	fake_run(close_body);
}
END_TEST

/* Nobody asks for it: it goes out, is reported and committed all the same. */
static void flusher_body(struct fake *fake)
{
	begin(fake);
	put_text(0, "x");
	while (osts.end != 1)
		fiber_sleep_ms(5);
	while (!nothing_held())
		fiber_sleep_ms(5);
	assert(is_at(osts.stable, 0, "x"));
	put_text(0, "y");
	end();
	assert(is_at(osts.stable, 0, "y"));
}

#define MANY 70

/* One more file, of the same gen for the OSTs, its first stripe on that one. */
static struct file *another(struct fake *fake, unsigned int number, uint32_t ost)
{
	struct fs_ctx ctx = root_ctx();
	struct fake_inode *inode;
	struct file *opened;
	char name[16];
	bool keep;

	snprintf(name, sizeof(name), "f%u", number);
	inode = fake_make(fake, name, S_IFREG | 0644);
	inode->gen = fake->inodes[1].gen;
	inode->fixed = true;
	inode->turned = ost == 1;
	assert(fs_open_file(mount.fs, &ctx, inode->ino, O_RDWR, &opened, &keep) == 0);
	return opened;
}

/* Whatever waits for an OST that is away: what goes to another is flushed. */
static void away_body(struct fake *fake)
{
	struct file *held_up[MANY], *other;

	begin(fake);
	service_free(fake->osts[0]);
	for (unsigned int i = 0; i < MANY; i++) {
		held_up[i] = another(fake, i, 0);
		put(held_up[i], 0, "x", 1);
	}
	other = another(fake, MANY, 1);
	while (mount.fs->data->flushes < 64)
		fiber_sleep_ms(5);
	put(other, 0, "y", 1);
	while (osts.bytes[0] != 'y')
		fiber_sleep_ms(5);
	fake->osts[0] = fake_service(fake, ROLE_OST, fake->ost_uuids[0], fake_ost_handle, &fake->ost_owners[0],
				     &fake->ost_ports[0]);
	while (!nothing_held())
		fiber_sleep_ms(5);
	assert(osts.bytes[0] == 'x');
	for (unsigned int i = 0; i < MANY; i++)
		fs_release(held_up[i]);
	fs_release(other);
	end();
}

START_TEST(nothing_is_held_for_long)
{
	fake_run(flusher_body);
	fake_run(away_body);
}
END_TEST

static bool writer_over;

static void many_writes(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 300; i++)
		put_letters(i * 8192, (char)i, 8192);
	writer_over = true;
}

/* With OSTs that commit nothing, writers wait. */
static void memory_body(struct fake *fake)
{
	const uint64_t bound = (1 << 20) / 4 * 3;
	struct fs_stats stats;
	uint64_t most = 0;

	begin_with(fake, 1 << 20);
	osts.hold = OP_COMMIT;
	assert(fiber_start(fake->loop, many_writes, NULL) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	for (int i = 0; i < 20; i++)
		fiber_sleep_ms(5);
	fs_stats(mount.fs, &stats);
	assert(!writer_over && stats.bytes_held <= bound);
	osts.hold = 0;
	fake->held_count = 0;
	answer_commit(fake->held[0], 0);
	while (!writer_over) {
		fs_stats(mount.fs, &stats);
		most = stats.bytes_held > most ? stats.bytes_held : most;
		fiber_sleep_ms(1);
	}
	assert(most <= bound);
	assert(fsync_file() == 0 && nothing_held());
	for (unsigned int i = 0; i < 300; i++)
		assert(all_are(i * 8192, (i + 1) * 8192, (uint8_t)i));
	/* Bytes over bytes that are dirty yet take no more. */
	put_letters(0, 'x', 8192);
	put_letters(100, 'y', 8000);
	assert(fsync_file() == 0 && nothing_held());
	end();
}

static void large_writes(void *arg)
{
	static char block[512 * 1024];

	(void)arg;
	for (unsigned int i = 0; i < 40; i++)
		put(file, i * sizeof(block), block, sizeof(block));
	writer_over = true;
}

/* One file does not take it all: with OSTs that do not answer, its writers wait for them. */
static void dirty_body(struct fake *fake)
{
	begin(fake);
	writer_over = false;
	osts.hold = OP_WRITE;
	assert(fiber_start(fake->loop, large_writes, NULL) == 0);
	while (fake->held_count < DATA_SENDERS_MAX)
		fiber_sleep_ms(1);
	for (int i = 0; i < 20; i++)
		fiber_sleep_ms(5);
	assert(!writer_over && file->inode->data->dirty.bytes <= DATA_DIRTY_MAX + 512 * 1024);
	osts.hold = 0;
	osts.swallow = true;
	while (fake->held_count > 0)
		answer_write(fake->held[--fake->held_count]);
	while (!writer_over)
		fiber_sleep_ms(1);
	assert(fsync_file() == 0 && nothing_held());
	end();
}

START_TEST(writers_wait_for_memory)
{
	fake_run(memory_body);
	fake_run(dirty_body);
}
END_TEST

#ifndef STRAKE_SAN
/* Buffers that are kept to be used again go for what is held elsewhere: all of it stays within the budget. */
static void budget_body(struct fake *fake)
{
	static char block[BUFFERS_SIZE];
	const uint64_t budget = 32u << 20;
	struct fs_stats stats;

	begin_with(fake, budget);
	osts.swallow = true;
	for (unsigned int i = 0; i < 40; i++)
		put(file, i * sizeof(block), block, sizeof(block));
	assert(fsync_file() == 0 && nothing_held() && buffers_mapped > 10);
	/* Pieces that are no neighbours have memory of their own. */
	osts.hold = OP_COMMIT;
	for (unsigned int i = 0; i < 2500; i++)
		put(file, i * 16384, block, 8192);
	fs_stats(mount.fs, &stats);
	assert(stats.bytes_held == 2500 * 8192);
	assert(stats.bytes_held + (uint64_t)buffers_mapped * BUFFERS_ROOM <= budget);
	osts.hold = 0;
	while (fake->held_count > 0)
		answer_commit(fake->held[--fake->held_count], 0);
	end();
}

/* A write for which there is no memory leaves the file's end where it was. */
static void no_memory_body(struct fake *fake)
{
	static char block[BUFFERS_SIZE];
	struct fs_ctx ctx = root_ctx();

	begin(fake);
	put_text(0, "x");
	no_buffers = true;
	assert(fs_write(file, &ctx, BUFFERS_SIZE, block, sizeof(block), NULL) == -ENOMEM);
	no_buffers = false;
	assert(known_size() == 1 && flush() == 0 && osts.end == 1 && known_size() == 1);
	end();
}
#endif

START_TEST(memory_is_bounded_and_may_be_missing)
{
#ifndef STRAKE_SAN
	fake_run(budget_body);
	fake_run(no_memory_body);
#endif
}
END_TEST

/* Many bytes at the beginning of what is empty go at once, nobody asks for it; others wait for more. */
static void first_body(struct fake *fake)
{
	static char many[100 * 1024];

	begin(fake);
	osts.hold = OP_WRITE;
	put(file, 0, many, sizeof(many));
	assert(file->inode->data->senders == 1);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	put(file, sizeof(many), many, sizeof(many));
	assert(file->inode->data->dirty.bytes == sizeof(many));
	osts.hold = 0;
	answer_write(fake->held[--fake->held_count]);
	end();
}

START_TEST(the_first_bytes_of_a_file_go_at_once)
{
	fake_run(first_body);
}
END_TEST

static int set_times(void)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr = { .mtime_ns = 5 }, now;

	return fs_setattr(mount.fs, &ctx, 2, SETATTR_MTIME, &attr, &now);
}

/* A time that is set waits for no OST, and is the last word on what was written before, which is reported later. */
static void times_body(struct fake *fake)
{
	begin(fake);
	osts.hold = OP_WRITE;
	put_text(0, "before");
	assert(set_times() == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	osts.hold = 0;
	answer_write(fake->held[--fake->held_count]);
	assert(flush() == 0 && osts.end == 6 && osts.wrote && osts.age_ns == UINT64_MAX);
	put_text(6, "after");
	assert(flush() == 0 && osts.end == 11 && osts.age_ns < UINT64_MAX);
	put_text(11, "and");
	assert(set_times() == 0);
	put_text(14, "after");
	assert(flush() == 0 && osts.end == 19 && osts.age_ns < UINT64_MAX);

	/* It was not set: then that of the write counts, or one that was set after it. */
	osts.setattr_fails = true;
	put_text(0, "x");
	assert(set_times() == -EPERM);
	assert(flush() == 0 && osts.wrote && osts.age_ns < UINT64_MAX);
	osts.setattr_fails = false;
	put_text(0, "x");
	assert(set_times() == 0);
	osts.setattr_fails = true;
	assert(set_times() == -EPERM && data_unreported(file->inode));
	assert(flush() == 0 && osts.wrote && osts.age_ns == UINT64_MAX);
	osts.setattr_fails = false;
	end();
}

/* A report that is under way when a time is set could come after it, and is waited for. */
static void times_fiber(void *arg)
{
	*(int *)arg = set_times();
}

static void reported_body(struct fake *fake)
{
	int err = 1;

	begin(fake);
	put_text(0, "x");
	osts.hold = OP_SIZE;
	start(flush_fiber);
	memset(osts.order, 0, sizeof(osts.order));
	assert(fiber_start(fake->loop, times_fiber, &err) == 0);
	fiber_yield();
	assert(strcmp(osts.order, "") == 0);
	let_size_go(fake);
	assert(finish() == 0);
	while (err == 1)
		fiber_sleep_ms(1);
	assert(err == 0 && strcmp(osts.order, "M") == 0);
	end();
}

/* ... nor does one that says "older than any time" come before the time. */
static void unset_body(struct fake *fake)
{
	const struct inode_data *data;
	int err = 1;

	begin(fake);
	put_text(0, "x");
	data = file->inode->data;
	memset(osts.order, 0, sizeof(osts.order));
	osts.hold = OP_SETATTR;
	assert(fiber_start(fake->loop, times_fiber, &err) == 0);
	start(flush_fiber);
	while (strchr(osts.order, 'W') == NULL || data->dirty.count + data->flight.count > 0)
		fiber_sleep_ms(1);
	while (file->inode->changed.first == NULL && !background_over) /* it waits for its turn, or for an answer */
		fiber_sleep_ms(1);
	learn(); /* a question that comes behind a report */
	assert(err == 1 && strchr(osts.order, 'S') == NULL);
	osts.hold = 0;
	fake->held_count = 0;
	fake_reply_attr(fake->held[0], &fake->inodes[1], fake->inodes[1].data_version);
	assert(finish() == 0 && err == 0 && strchr(osts.order, 'S') != NULL && osts.age_ns == UINT64_MAX);
	end();
}

/* What writes take from setuid bits is taken before new ones are given. */
static void privileges_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr = { .mode = S_IFREG | 04755 }, now;

	begin(fake);
	ctx.kill_suid = true;
	assert(fs_write(file, &ctx, 0, "x", 1, NULL) == 0);
	ctx.kill_suid = false;
	assert(fs_setattr(mount.fs, &ctx, 2, SETATTR_MODE, &attr, &now) == 0);
	assert(strcmp(osts.order, "WSM") == 0 && osts.kill_suid);
	assert(flush() == 0 && strcmp(osts.order, "WSM") == 0);

	/* Others wait for nothing. */
	memset(osts.order, 0, sizeof(osts.order));
	ctx.kill_suid = true;
	assert(fs_write(file, &ctx, 0, "x", 1, NULL) == 0);
	attr.mode = S_IFREG | 0755;
	assert(fs_setattr(mount.fs, &ctx, 2, SETATTR_MODE, &attr, &now) == 0 && osts.order[0] == 'M');
	assert(flush() == 0);
	end();
}

START_TEST(what_is_set_comes_after_what_was_written)
{
	fake_run(times_body);
	fake_run(reported_body);
	fake_run(unset_body);
	fake_run(privileges_body);
}
END_TEST

static bool capable;

static bool serve_capability(struct fake *fake, struct request *request)
{
	Strake__GetxattrReply reply = STRAKE__GETXATTR_REPLY__INIT;
	struct fake_inode *inode = &fake->inodes[1];

	if (request->header.opcode == OP_GETXATTR && capable)
		fake_reply(request, &reply.base);
	else if (request->header.opcode == OP_GETXATTR)
		service_reply_error(request, -ENODATA);
	if (request->header.opcode == OP_GETXATTR)
		return true;
	if (request->header.opcode != OP_REMOVEXATTR)
		return serve(fake, request);
	capable = false;
	fake_changed(fake, inode);
	fake_reply_attr(request, inode, 0);
	return true;
}

/* So many questions and removals when ten writes have it dropped. */
static void dropping_costs(struct fake *fake, unsigned int questions, unsigned int removals)
{
	struct fs_ctx ctx = root_ctx();
	unsigned int asked = fake->asked[OP_GETXATTR], removed = fake->asked[OP_REMOVEXATTR];

	for (int i = 0; i < 10; i++)
		fs_drop_capability(file, &ctx);
	assert(fake->asked[OP_GETXATTR] - asked == questions && fake->asked[OP_REMOVEXATTR] - removed == removals);
}

static void capability_body(struct fake *fake)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	begin(fake);
	fake->hook = serve_capability;
	mount.fs->config.attr_timeout_ms = 3600000; /* however slow the machine is */
	assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0);
	dropping_costs(fake, 1, 0);
	dropping_costs(fake, 0, 0);

	/* The file has changed, in whatever way: seen with its attributes. */
	capable = true;
	fake_changed(fake, &fake->inodes[1]);
	assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0);
	dropping_costs(fake, 2, 1);
	assert(!capable);
	dropping_costs(fake, 0, 0);

	/* It was changed here. */
	put_out(0, "x");
	dropping_costs(fake, 1, 0);

	/* Nothing is believed: a strict mount. */
	mount.fs->config.attr_timeout_ms = 0;
	put_out(0, "y");
	dropping_costs(fake, 10, 0);
	end();
}

START_TEST(a_file_without_capability_is_asked_for_it_once)
{
	fake_run(capability_body);
}
END_TEST

UNIT_MAIN("client_writeback", what_an_ost_refuses_is_told_once, what_is_refused_after_a_close_is_told_by_a_sync,
	  fsync_is_write_commit_size_and_log, a_report_tells_what_is_on_the_osts, nothing_is_held_for_long,
	  writers_wait_for_memory, memory_is_bounded_and_may_be_missing, the_first_bytes_of_a_file_go_at_once,
	  what_is_set_comes_after_what_was_written, a_file_without_capability_is_asked_for_it_once)
