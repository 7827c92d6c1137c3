/* What the MDT is told of open files, names and directories as libstrake gives them. */
#include "client/fs_state.h"
#include "client/tell.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

static struct fs_ctx root_ctx(void)
{
	return (struct fs_ctx){ .trusted = true };
}

static struct file *open_file(struct fs *fs, uint64_t ino, int flags, bool *ret_keep)
{
	struct fs_ctx ctx = root_ctx();
	struct file *file;

	assert(fs_open_file(fs, &ctx, ino, flags, &file, ret_keep) == 0);
	return file;
}

/* --- telling ------------------------------------------------------------------------------------------------------------ */

/* Each has a number, above that of what was told before. */
static bool see_turns(struct fake *fake, struct request *request)
{
	static uint64_t last;
	uint64_t turn;

	(void)fake;
	if (request->header.opcode == OP_OPEN)
		turn = ((const Strake__OpenRequest *)request->body)->turn;
	else if (request->header.opcode == OP_CLOSE)
		turn = ((const Strake__CloseRequest *)request->body)->turn;
	else
		return false;
	assert(turn > last);
	last = turn;
	return false;
}

static void tell_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct file *reader, *writer, *second;
	bool keep;

	fake_make(fake, "f", S_IFREG | 0644);
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	fake->hook = see_turns;
	reader = open_file(mount.fs, 2, O_RDONLY, &keep);
	assert(fake->inodes[1].opened == 1 && fake->asked[OP_OPEN] == 1);
	second = open_file(mount.fs, 2, O_RDONLY, &keep);
	assert(fake->asked[OP_OPEN] == 1); /* it knows; fresh attributes were asked for */
	writer = open_file(mount.fs, 2, O_WRONLY, &keep);
	assert(fake->inodes[1].opened == 3 && fake->asked[OP_OPEN] == 2);

	/* Closed and opened again at once: nothing is told. */
	fs_release(writer);
	writer = open_file(mount.fs, 2, O_WRONLY, &keep);
	fiber_sleep_ms(TELL_CLOSE_MS * 2);
	assert(fake->asked[OP_OPEN] == 2 && fake->asked[OP_CLOSE] == 0);

	fs_release(writer);
	fs_release(reader);
	while (fake->asked[OP_CLOSE] == 0)
		fiber_sleep_ms(5);
	assert(fake->inodes[1].opened == 1); /* the second reader's */
	fs_release(second);
	while (fake->asked[OP_CLOSE] == 1)
		fiber_sleep_ms(5);
	assert(fake->inodes[1].opened == 0);
	writer = open_file(mount.fs, 2, O_RDWR, &keep);
	assert(fake->inodes[1].opened == 3);
	fs_release(writer);
	fake_unmount(&mount);
}

START_TEST(modes_are_told_when_they_grow_and_when_they_are_gone)
{
	fake_run(tell_body);
}
END_TEST

static void batch_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct file *files[TELL_CLOSE_BATCH + 10];
	char name[16];
	bool keep;

	for (unsigned int i = 0; i < TELL_CLOSE_BATCH + 10; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		fake_make(fake, name, S_IFREG | 0644);
	}
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	for (unsigned int i = 0; i < TELL_CLOSE_BATCH + 10; i++)
		files[i] = open_file(mount.fs, 2 + i, O_RDONLY, &keep);
	for (unsigned int i = 0; i < TELL_CLOSE_BATCH + 10; i++)
		fs_release(files[i]);
	while (fake->asked[OP_CLOSE] < 2)
		fiber_sleep_ms(5);
	assert(fake->asked[OP_CLOSE] == 2 && fake->closed_inodes == 10);
	for (unsigned int i = 0; i < TELL_CLOSE_BATCH + 10; i++)
		assert(fake->inodes[1 + i].opened == 0);
	fake_unmount(&mount);
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* Files of somebody who was killed, whose bytes are still to be sent: they are looked at now and then, however many. */
static void late_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct file *files[2 * TELL_CLOSE_BATCH];
	struct fs_ctx ctx = root_ctx();
	uint64_t began_ns, used_ns;
	char name[16];
	bool keep;

	for (unsigned int i = 0; i < 2 * TELL_CLOSE_BATCH; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		fake_make(fake, name, S_IFREG | 0644)->fixed = true;
	}
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	for (unsigned int i = 0; i < 2 * TELL_CLOSE_BATCH; i++) {
		files[i] = open_file(mount.fs, 2 + i, O_WRONLY, &keep);
		assert(fs_write(files[i], &ctx, 0, "x", 1, NULL) == 0);
	}
	for (unsigned int i = 0; i < 2 * TELL_CLOSE_BATCH; i++)
		fs_release(files[i]);
	quick_time_off(); /* the CPU's is the machine's */
	began_ns = clock_ns();
	used_ns = cpu_ns();
	while (clock_ns() - began_ns < 4 * TELL_CLOSE_MS * NSEC_PER_MSEC)
		fiber_sleep_ms(10);
	used_ns = cpu_ns() - used_ns;
	assert(used_ns < (clock_ns() - began_ns) / 2);
	while (fake->asked[OP_CLOSE] < 2)
		fiber_sleep_ms(5);
	fake_unmount(&mount);
}

START_TEST(closes_that_must_wait_cost_nothing)
{
	fake_run(late_body);
}
END_TEST

START_TEST(closes_are_sent_together)
{
	fake_run(batch_body);
}
END_TEST

static bool refuse_open(struct fake *fake, struct request *request)
{
	(void)fake;
	if (request->header.opcode != OP_OPEN)
		return false;
	service_reply_error(request, -EACCES);
	return true;
}

static void refused_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct inode *inode;
	struct file *file;
	bool keep;

	fake_make(fake, "f", S_IFREG | 0644);
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	fake->hook = refuse_open;
	inode = inode_get(mount.fs->inodes, 2);
	assert(fs_open_file(mount.fs, &ctx, 2, O_RDWR, &file, &keep) == -EACCES);
	assert(inode->open_read == 0 && inode->open_write == 0 && inode->told_modes == 0 && !inode->close_queued);
	inode_put(inode);
	assert(fs_open_file(mount.fs, &ctx, 99, O_RDWR, &file, &keep) == -EACCES);
	fake_unmount(&mount);
}

START_TEST(a_refused_open_leaves_nothing_behind)
{
	fake_run(refused_body);
}
END_TEST

/* --- a restarted MDT -------------------------------------------------------------------------------------------------------- */

static bool hold_reclaim(struct fake *fake, struct request *request)
{
	return request->header.opcode == OP_RECLAIM ? fake_hold(fake, request) : false;
}

static void restart_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct file *first, *second;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;
	bool keep;

	fake_make(fake, "first", S_IFREG | 0644);
	fake_make(fake, "second", S_IFREG | 0644);
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	first = open_file(mount.fs, 2, O_RDWR, &keep);
	while (fake->asked[OP_SESSION_RENEW] == 0)
		fiber_sleep_ms(1);

	/* It comes back without memory of who has what open, and with a lower log. */
	fake->instance++;
	fake->reclaim = true;
	fake->inodes[1].opened = 0;
	fake->inodes[1].version = 0;
	fake->inodes[1].size = 77;
	fake->hook = hold_reclaim;
	fake_break_connections(fake);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);

	/* Opened while the RECLAIM is under way, which does not name it: told after it. */
	fake->hook = NULL;
	fake_let_go(fake);
	second = open_file(mount.fs, 3, O_RDONLY, &keep);
	assert(fake->inodes[1].opened == 3 && fake->inodes[2].opened == 1);
	assert(fake->reclaimed == 1);
	assert(fs_getattr(mount.fs, &ctx, 2, false, &attr) == 0 && attr.size == 77);
	fs_release(first);
	fs_release(second);
	fake_unmount(&mount);
}

START_TEST(a_restarted_mdt_is_told_again_at_once)
{
	fake_run(restart_body);
}
END_TEST

/* The MDT that has come back opens a file before it is told what is open, and by then the file is closed. */
static void closed_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct file *file;
	bool keep;

	fake_make(fake, "f", S_IFREG | 0644);
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	while (fake->asked[OP_SESSION_RENEW] == 0)
		fiber_sleep_ms(1);
	file = open_file(mount.fs, 2, O_RDWR, &keep);
	fs_release(file);
	fake->instance++;
	fake->reclaim = true;
	fake_break_connections(fake);
	while (fake->asked[OP_RECLAIM] == 0)
		fiber_sleep_ms(1);
	while (fake->inodes[1].opened != 0)
		fiber_sleep_ms(1);
	fake_unmount(&mount);
}

static bool hold_close(struct fake *fake, struct request *request)
{
	return request->header.opcode == OP_CLOSE ? fake_hold(fake, request) : false;
}

/* Its CLOSE waits while the MDT comes back, which is not told of it as it is closed; opened again it is. */
static void reopened_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct file *file;
	bool keep;

	fake_make(fake, "f", S_IFREG | 0644);
	fake_make(fake, "first", S_IFREG | 0644);
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	while (fake->asked[OP_SESSION_RENEW] == 0)
		fiber_sleep_ms(1);
	fake->hook = hold_close;
	fs_release(open_file(mount.fs, 3, O_RDONLY, &keep));
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	fs_release(open_file(mount.fs, 2, O_RDONLY, &keep)); /* waits for the first one's */

	fake->instance++;
	fake->reclaim = true;
	fake->inodes[1].opened = 0;
	fake_break_connections(fake);
	while (fake->asked[OP_RECLAIM] == 0)
		fiber_sleep_ms(1);
	file = open_file(mount.fs, 2, O_RDONLY, &keep);
	assert(fake->inodes[1].opened == OPEN_READ);
	fake->hook = NULL;
	fake_let_go(fake);
	fs_release(file);
	fake_unmount(&mount);
}

START_TEST(what_was_closed_before_a_reclaim_is_told)
{
	fake_run(closed_body);
	fake_run(reopened_body);
}
END_TEST

/* A log that lost its tail shows in the first reply: nothing that was cached is believed, nor newer than what comes. */
static void lost_tail_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	unsigned int renewals;
	struct attr attr;

	fake_log_index = 100;
	fake_make(fake, "a", S_IFREG | 0644);
	fake_make(fake, "b", S_IFREG | 0644);
	fake_config(fake, &config);
	config.attr_timeout_ms = 100000;
	fake_mount(fake, &config, &mount);
	assert(fs_lookup(mount.fs, &ctx, 1, "a", 1, &attr) == 0 && attr.size == 0);
	while (fake->asked[OP_SESSION_RENEW] == 0)
		fiber_sleep_ms(1);

	renewals = fake->asked[OP_SESSION_RENEW];
	fake_log_index = 99;
	fake->inodes[1].version--;
	fake->inodes[1].size = 77;
	assert(fs_getattr(mount.fs, &ctx, 3, true, &attr) == 0);
	assert(fs_getattr(mount.fs, &ctx, 2, false, &attr) == 0 && attr.size == 77);
	while (fake->asked[OP_SESSION_RENEW] == renewals)
		fiber_sleep_ms(1);

	/* From there it counts anew, and once more. */
	fake_log_index = 103;
	assert(fs_getattr(mount.fs, &ctx, 3, true, &attr) == 0);
	fake_log_index = 102;
	fake->inodes[1].version--;
	fake->inodes[1].size = 78;
	assert(fs_getattr(mount.fs, &ctx, 3, true, &attr) == 0);
	assert(fs_getattr(mount.fs, &ctx, 2, false, &attr) == 0 && attr.size == 78);
	fs_forget(mount.fs, 2, 1);
	fake_unmount(&mount);
}

START_TEST(a_lost_tail_of_the_log_shows_at_once)
{
	fake_run(lost_tail_body);
}
END_TEST

static bool hold_getattr_of_b(struct fake *fake, struct request *request)
{
	if (request->header.opcode != OP_GETATTR || ((const Strake__GetattrRequest *)request->body)->ino != 3)
		return false;
	return fake_hold(fake, request);
}

static struct fs *getattr_fs;
static bool getattr_done;

static void getattr_fiber(void *arg)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	(void)arg;
	assert(fs_getattr(getattr_fs, &ctx, 3, true, &attr) == 0);
	getattr_done = true;
}

/* Replies may overtake each other. */
static void late_reply_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	unsigned int asked;
	struct attr attr;

	fake_log_index = 100;
	fake_make(fake, "a", S_IFREG | 0644);
	fake_make(fake, "b", S_IFREG | 0644);
	fake_config(fake, &config);
	config.attr_timeout_ms = 100000;
	fake_mount(fake, &config, &mount);
	fake->hook = hold_getattr_of_b;
	getattr_fs = mount.fs;
	assert(fiber_start(fake->loop, getattr_fiber, NULL) == 0);
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	fake_log_index = 120;
	assert(fs_lookup(mount.fs, &ctx, 1, "a", 1, &attr) == 0);
	fake_log_index = 110;
	fake->hook = NULL;
	fake_let_go(fake);
	while (!getattr_done)
		fiber_sleep_ms(1);
	fake_log_index = 121;
	asked = fake->asked[OP_GETATTR];
	assert(fs_getattr(mount.fs, &ctx, 2, false, &attr) == 0 && fake->asked[OP_GETATTR] == asked);
	fs_forget(mount.fs, 2, 1);
	fake_unmount(&mount);
}

START_TEST(a_reply_that_comes_late_is_no_loss)
{
	fake_run(late_reply_body);
}
END_TEST

static void fsync_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	fake_log_index = 100;
	fake_durable_index = 99;
	fake_make(fake, "a", S_IFREG | 0644);
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	assert(fs_fsync_ino(mount.fs, &ctx, 1) == 0 && fake->asked[OP_SYNC] == 1);

	/* The log is one: what any reply tells of it counts. */
	fake_durable_index = 100;
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
	assert(fs_fsync_ino(mount.fs, &ctx, 1) == 0 && fake->asked[OP_SYNC] == 1);
	fake_log_index = 101;
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
	assert(fs_fsync_ino(mount.fs, &ctx, 1) == 0 && fake->asked[OP_SYNC] == 2);

	/* An older copy counts from lower: what was durable before says nothing of it. */
	fake_log_index = 50;
	fake_durable_index = 49;
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
	assert(fs_fsync_ino(mount.fs, &ctx, 1) == 0 && fake->asked[OP_SYNC] == 3);
	fake_unmount(&mount);
}

START_TEST(fsync_asks_the_mdt_only_for_what_is_not_stable)
{
	fake_run(fsync_body);
}
END_TEST

/* --- created files ----------------------------------------------------------------------------------------------------------- */

static void create_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;
	struct file *file, *again;
	bool keep;

	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	assert(fs_create(mount.fs, &ctx, 1, "new", 3, 0644, O_RDWR, &attr, &file, &keep) == 0);
	assert(attr.ino == 2 && file_ino(file) == 2 && fake->asked[OP_OPEN] == 0);
	fs_release(file);
	while (fake->asked[OP_CLOSE] == 0)
		fiber_sleep_ms(5);

	/* It is there already, and has content: cut, and told again since a CLOSE might cross. */
	fake->inodes[1].size = 10;
	fake_changed(fake, &fake->inodes[1]);
	assert(fs_create(mount.fs, &ctx, 1, "new", 3, 0644, O_RDWR | O_TRUNC, &attr, &again, &keep) == 0);
	assert(attr.size == 0 && fake->inodes[1].size == 0 && fake->asked[OP_OPEN] == 1);
	fs_release(again);
	fs_forget(mount.fs, 2, 2);
	fake_unmount(&mount);
}

START_TEST(create_opens_without_asking_twice)
{
	fake_run(create_body);
}
END_TEST

/* --- sizes -------------------------------------------------------------------------------------------------------------------- */

static uint64_t size_asked; /* the data_version in the last SIZE */

static bool see_size(struct fake *fake, struct request *request)
{
	(void)fake;
	if (request->header.opcode == OP_SIZE)
		size_asked = ((const Strake__SizeRequest *)request->body)->asked_data_version;
	return false;
}

static void unsure_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	fake_make(fake, "f", S_IFREG | 0644);
	fake->inodes[1].unsure = fake->inodes[1].fixed = true;
	fake->inodes[1].size = 1000;
	fake->ost_end[0] = 500;
	fake->ost_end[1] = 5000;
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	assert(fs_lookup(mount.fs, &ctx, 1, "f", 1, &attr) == 0);
	assert(attr.size == 5000 && attr.blocks == 16 && !attr.size_unsure);
	assert(fake->asked[OP_GLIMPSE] == 2);
	assert(fs_getattr(mount.fs, &ctx, 2, false, &attr) == 0);
	assert(attr.size == 5000 && fake->asked[OP_GLIMPSE] == 2 && fake->asked[OP_GETATTR] == 1); /* the root's */
	fake->ost_end[0] = 6000;
	fake_changed(fake, &fake->inodes[1]);
	assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0);
	assert(attr.size == 6000 && fake->asked[OP_GLIMPSE] == 4 && fake->asked[OP_SIZE] == 0);

	/* An idle writer is told of once, a lost one's file is sure from then on. */
	fake->inodes[1].written = true;
	for (int i = 0; i < 5; i++)
		assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0 && attr.size == 6000);
	assert(fake->asked[OP_SIZE] == 1);
	fake->inodes[1].written = false;
	fake_changed(fake, &fake->inodes[1]);
	for (int i = 0; i < 5; i++)
		assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0 && attr.size == 6000);
	assert(fake->asked[OP_SIZE] == 2 && fake->asked[OP_GLIMPSE] == 4 + 5 * 2 + 2 * 2);

	/* ... whom every OST refuses: before, what they say ends nothing. */
	fake->hook = see_size;
	fake->inodes[1].unsure = fake->inodes[1].unfenced = true;
	fake_changed(fake, &fake->inodes[1]);
	for (int i = 0; i < 5; i++)
		assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0 && attr.size == 6000);
	assert(fake->asked[OP_SIZE] == 2);
	fake->inodes[1].unfenced = false;
	assert(fs_getattr(mount.fs, &ctx, 2, true, &attr) == 0 && fake->asked[OP_SIZE] == 3);
	assert(size_asked == fake->inodes[1].data_version);
	fs_forget(mount.fs, 2, 1);
	fake_unmount(&mount);
}

START_TEST(unsure_sizes_come_from_the_osts)
{
	fake_run(unsure_body);
}
END_TEST

static void keep_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr = { .mtime_ns = 5 }, now;
	bool keep;

	fake_make(fake, "f", S_IFREG | 0644);
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	fs_release(open_file(mount.fs, 2, O_RDONLY, &keep));
	fs_release(open_file(mount.fs, 2, O_RDONLY, &keep));
	/* The inode went with its last reference: it must not be believed unchanged. */
	assert(fs_lookup(mount.fs, &ctx, 1, "f", 1, &now) == 0);
	fs_release(open_file(mount.fs, 2, O_RDONLY, &keep));
	fs_release(open_file(mount.fs, 2, O_RDONLY, &keep));
	assert(keep);
	assert(fs_setattr(mount.fs, &ctx, 2, SETATTR_MTIME, &attr, &now) == 0);
	fs_release(open_file(mount.fs, 2, O_RDONLY, &keep));
	assert(keep); /* our own */
	fake_changed(fake, &fake->inodes[1]);
	fs_release(open_file(mount.fs, 2, O_RDONLY, &keep));
	assert(!keep); /* somebody else's */
	fs_forget(mount.fs, 2, 1);
	fake_unmount(&mount);
}

START_TEST(pages_are_kept_over_opens)
{
	fake_run(keep_body);
}
END_TEST

/* --- directories ---------------------------------------------------------------------------------------------------------------- */

struct listing {
	unsigned int count, most; /* takes `most` at a time */
	uint64_t last;
	bool attrs, dots;
};

static bool take_entry(void *arg, const struct dir_entry *entry)
{
	struct listing *listing = arg;
	char name[16];

	if (listing->most == 0)
		return false;
	assert(entry->cookie > listing->last);
	if (entry->cookie <= 2) {
		assert(entry->name_len == entry->cookie && memcmp(entry->name, "..", entry->name_len) == 0);
		assert(entry->ino == 1 && entry->type == S_IFDIR && entry->attr == NULL);
	} else {
		snprintf(name, sizeof(name), "f%u", listing->count - 2);
		assert(entry->name_len == strlen(name) && memcmp(entry->name, name, entry->name_len) == 0);
		assert((entry->attr != NULL) == listing->attrs);
	}
	listing->last = entry->cookie;
	listing->count++;
	listing->most--;
	return true;
}

static void readdir_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	char name[16];

	for (unsigned int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		fake_make(fake, name, S_IFREG | 0644);
	}
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	for (unsigned int attrs = 0; attrs < 2; attrs++) {
		struct listing listing = { .attrs = attrs == 1 };
		unsigned int before;

		fake->asked[OP_READDIR] = 0;
		do {
			before = listing.count;
			listing.most = 7;
			assert(fs_readdir(mount.fs, &ctx, 1, listing.last, listing.attrs, take_entry, &listing) == 0);
		} while (listing.count > before);
		assert(listing.count == 102);
		assert(fake->asked[OP_READDIR] == 3); /* pages of 40, whatever the pieces */
	}
	for (uint64_t ino = 2; ino <= 101; ino++) {
		struct inode *inode = inode_find(mount.fs->inodes, ino);

		assert(inode != NULL && inode->lookups == 1); /* the kernel knows them now */
		inode_put(inode);
	}
	for (uint64_t ino = 2; ino <= 101; ino++)
		fs_forget(mount.fs, ino, 1);
	assert(inode_find(mount.fs->inodes, 2) == NULL);
	fake_unmount(&mount);
}

START_TEST(a_directory_is_read_in_pieces_and_asked_for_in_pages)
{
	fake_run(readdir_body);
}
END_TEST

/* What the MDT says of a directory that can be of none. */
static const struct strange {
	const char *name;
	uint64_t cookie;
	size_t count;
	bool end;
} strange[] = {
	{ "", 10, 1, true },    { ".", 10, 1, true },        { "..", 10, 1, true }, { "../up", 10, 1, true },
	{ "/up", 10, 1, true }, { "a/b", 10, 1, true },      { NULL, 10, 1, true }, { "known", 0, 1, false },
	{ "a", 10, 2, true },   { "nothing", 10, 0, false },
};
static const struct strange *strange_now;

static bool answer_strangely(struct fake *fake, struct request *request)
{
	Strake__ReaddirReply reply = STRAKE__READDIR_REPLY__INIT;
	Strake__Dirent dirents[2], *list[2];
	uint8_t text[NAME_MAX + 1];

	(void)fake;
	if (request->header.opcode != OP_READDIR)
		return false;
	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i < 2; i++) {
		list[i] = &dirents[i];
		strake__dirent__init(list[i]);
		list[i]->name = (ProtobufCBinaryData){ sizeof(text), text };
		if (strange_now->name != NULL)
			list[i]->name = (ProtobufCBinaryData){ strlen(strange_now->name),
							       (uint8_t *)(uintptr_t)strange_now->name };
		list[i]->ino = 2;
		list[i]->type = S_IFREG;
		list[i]->cookie = strange_now->cookie - i; /* they ascend */
	}
	reply.entry = list;
	reply.n_entry = strange_now->count;
	reply.end = strange_now->end;
	reply.parent = 1;
	fake_reply(request, &reply.base);
	return true;
}

static void strange_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();

	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	fake->hook = answer_strangely;
	for (size_t i = 0; i < sizeof(strange) / sizeof(*strange); i++) {
		struct listing listing = { .most = 7 };

		strange_now = &strange[i];
		assert(fs_readdir(mount.fs, &ctx, 1, 0, false, take_entry, &listing) == -EPROTO && listing.count == 0);
	}
	fake->hook = NULL;
	fake_unmount(&mount);
}

START_TEST(what_can_be_in_no_directory_is_refused)
{
	fake_run(strange_body);
}
END_TEST

struct search {
	const char *name;
	uint64_t last;
	unsigned int most;
	bool found;
};

static bool look_at(void *arg, const struct dir_entry *entry)
{
	struct search *search = arg;

	if (search->most-- == 0)
		return false;
	search->last = entry->cookie;
	search->found |=
		entry->name_len == strlen(search->name) && memcmp(entry->name, search->name, entry->name_len) == 0;
	return true;
}

/* Is it among the next `most` entries after *cookie, which goes on? */
static bool is_listed(struct fs *fs, uint64_t *cookie, unsigned int most, const char *name)
{
	struct fs_ctx ctx = root_ctx();
	struct search search = { .name = name, .most = most, .last = *cookie };

	assert(fs_readdir(fs, &ctx, 1, *cookie, false, look_at, &search) == 0);
	*cookie = search.last;
	return search.found;
}

/* What others have changed: from the start at once, further on when the directory is known to be another. */
static void changed_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;
	uint64_t cookie = 0;
	char name[16];

	for (unsigned int i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		fake_make(fake, name, S_IFREG | 0644);
	}
	fake_config(fake, &config);
	fake_mount(fake, &config, &mount);
	assert(is_listed(mount.fs, &cookie, 100, "f5"));
	snprintf(fake->inodes[6].name, sizeof(fake->inodes[6].name), "new5");
	cookie = 0;
	assert(is_listed(mount.fs, &cookie, 10, "new5"));
	snprintf(fake->inodes[21].name, sizeof(fake->inodes[21].name), "new20");
	fake_changed(fake, &fake->inodes[0]);
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
	assert(is_listed(mount.fs, &cookie, 100, "new20"));
	fake_unmount(&mount);
}

START_TEST(what_others_change_in_a_directory_is_listed)
{
	fake_run(changed_body);
}
END_TEST

UNIT_MAIN("client_open", fsync_asks_the_mdt_only_for_what_is_not_stable,
	  modes_are_told_when_they_grow_and_when_they_are_gone, closes_that_must_wait_cost_nothing,
	  closes_are_sent_together, a_refused_open_leaves_nothing_behind, a_restarted_mdt_is_told_again_at_once,
	  what_was_closed_before_a_reclaim_is_told, a_lost_tail_of_the_log_shows_at_once,
	  a_reply_that_comes_late_is_no_loss, create_opens_without_asking_twice, unsure_sizes_come_from_the_osts,
	  pages_are_kept_over_opens, a_directory_is_read_in_pieces_and_asked_for_in_pages,
	  what_others_change_in_a_directory_is_listed, what_can_be_in_no_directory_is_refused)
