/* Who looks up name after name is told of the rest from one READDIR, unless asking is safer. */
#include "client/fs_state.h"
#include "client/shown.h"
#include "client/stat_store.h"
#include "common/lock_list.h"
#include "tests/unit/client_fake.h"

#include <fcntl.h>

#define FILES 100 /* f2 .. f101, of those numbers */

static struct fs_ctx caller(void)
{
	return (struct fs_ctx){ .trusted = true, .pid = 1234 };
}

static void make_files(struct fake *fake)
{
	char name[16];

	for (unsigned int i = 2; i < 2 + FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		fake_make(fake, name, S_IFREG | 0644);
	}
	fake_make(fake, "dir", S_IFDIR | 0755); /* is not kept */
}

static int look_up(struct fs *fs, struct fs_ctx *ctx, unsigned int i, struct attr *ret_attr)
{
	char name[16];
	int err;

	snprintf(name, sizeof(name), "f%u", i);
	err = fs_lookup(fs, ctx, 1, name, strlen(name), ret_attr);
	assert(err < 0 || ret_attr->ino == i);
	return err;
}

/* Is the MDT asked for that one? What was found is forgotten again. */
static bool asks_as(struct fake *fake, struct fs *fs, struct fs_ctx *ctx, unsigned int i)
{
	unsigned int before = fake->asked[OP_LOOKUP];
	struct attr attr;

	assert(look_up(fs, ctx, i, &attr) == 0);
	assert(attr.version == fake->inodes[i - 1].version && attr.name_version == fake->inodes[i - 1].name_version);
	fs_forget(fs, i, 1);
	return fake->asked[OP_LOOKUP] != before;
}

static bool asks(struct fake *fake, struct fs *fs, unsigned int i)
{
	struct fs_ctx ctx = caller();

	return asks_as(fake, fs, &ctx, i);
}

static uint64_t fetched(struct fs *fs)
{
	struct fs_stats stats;

	fs_stats(fs, &stats);
	return stats.names_ahead;
}

/*
 * A mount that has the files of the root fetched; nothing is too old while a test runs. Its marks are those of one key, by
 * which no two names or inodes here share one: by a drawn one two do now and then, and then one is asked for needlessly.
 */
static void mount_fetched(struct fake *fake, struct fake_mount *ret_mount)
{
	static const struct uuid key = { .bytes = { 7 } };
	int64_t now_ns = fake->now_ns != 0 ? fake->now_ns : (int64_t)clock_real_ns();
	struct fs_config config;

	make_files(fake);
	for (unsigned int i = 1; i < FILES; i++)
		fake->inodes[i].ctime_ns = now_ns - 3 * (int64_t)NSEC_PER_SEC;
	fake->inodes[FILES].ctime_ns = now_ns; /* may change again: the last one is not kept */
	fake_config(fake, &config);
	config.attr_timeout_ms = 100000;
	fake_mount(fake, &config, ret_mount);
	stat_store_free(ret_mount->fs->stat_store);
	ret_mount->fs->stat_store = stat_store_new(STAT_STORE_BYTES, &key);
	assert(ret_mount->fs->stat_store != NULL);
	for (unsigned int i = 2; i < 2 + STAT_LOOKUPS; i++)
		assert(asks(fake, ret_mount->fs, i));
	while (fetched(ret_mount->fs) < FILES - 1)
		fiber_sleep_ms(1);
}

static void told_body(struct fake *fake)
{
	struct fake_mount mount;
	struct fs_ctx ctx = caller();
	struct fs_stats stats;
	struct attr attr;
	uint64_t name_ns;

	mount_fetched(fake, &mount);
	for (unsigned int i = 21; i < 1 + FILES; i++)
		assert(!asks(fake, mount.fs, i));
	assert(fake->asked[OP_LOOKUP] == STAT_LOOKUPS && fake->asked[OP_READDIR] == 3);
	fs_stats(mount.fs, &stats);
	assert(stats.names_ahead == FILES - 1 && stats.lookups_ahead == FILES - 20);
	assert(asks(fake, mount.fs, 1 + FILES));

	/* Believed for the rest of the time. */
	assert(look_up(mount.fs, &ctx, 20, &attr) == 0 && ctx.name_asked_ns != 0 && ctx.name_asked_ns < clock_ns());
	assert(fs_entry_shown(mount.fs, &ctx, 1, &attr, &name_ns) <= 100000 * NSEC_PER_MSEC);
	assert(name_ns > 0 && name_ns < 100000 * NSEC_PER_MSEC);
	ctx.name_asked_ns = 0;
	fs_entry_shown(mount.fs, &ctx, 1, &attr, &name_ns);
	assert(name_ns == 100000 * NSEC_PER_MSEC);
	fs_forget(mount.fs, 20, 1);
	assert(fs_lookup(mount.fs, &ctx, 1, "f1", 2, &attr) == -ENOENT); /* what is not known is asked for */
	fake_unmount(&mount);
}

START_TEST(lookups_are_answered_from_one_reading)
{
	fake_run(told_body);
}
END_TEST

/* Only what has changed some seconds ago by the clock that ctimes are of; ours is an hour ahead, or behind. */
static void clock_body(struct fake *fake, int64_t ahead_s)
{
	struct fake_mount mount;

	fake->now_ns = (int64_t)clock_real_ns() + ahead_s * (int64_t)NSEC_PER_SEC;
	mount_fetched(fake, &mount);
	assert(!asks(fake, mount.fs, FILES) && asks(fake, mount.fs, 1 + FILES));
	assert(fetched(mount.fs) == FILES - 1);
	fake_unmount(&mount);
}

static void clock_ahead_body(struct fake *fake)
{
	clock_body(fake, 3600);
}

static void clock_behind_body(struct fake *fake)
{
	clock_body(fake, -3600);
}

START_TEST(what_is_young_goes_by_the_clock_of_the_mdt)
{
	fake_run(clock_ahead_body);
	fake_run(clock_behind_body);
}
END_TEST

static void callers_body(struct fake *fake)
{
	struct fake_mount mount, strict;
	struct fs_ctx ctx = caller();
	struct fs_config config;
	struct attr attr;

	mount_fetched(fake, &mount);
	ctx.trusted = false;
	assert(asks_as(fake, mount.fs, &ctx, 20));
	ctx = caller();
	ctx.pid = 0;
	assert(asks_as(fake, mount.fs, &ctx, 21));

	/* An open sends him back: he looks up again, and is told by the MDT; others are not held up by that. */
	ctx = caller();
	shown_sent_back(mount.fs, &ctx);
	assert(look_up(mount.fs, &ctx, 22, &attr) == 0 && ctx.name_asked_ns == 0);
	fs_forget(mount.fs, 22, 1);
	ctx.pid = 4321;
	assert(!asks_as(fake, mount.fs, &ctx, 23));

	/* Where names are shared under locks nobody is told. */
	shown_share_dir(mount.fs, 2);
	assert(!asks_as(fake, mount.fs, &ctx, 24));
	shown_share_dir(mount.fs, 1);
	assert(asks_as(fake, mount.fs, &ctx, 25));
	fake_unmount(&mount);

	fake_config(fake, &config);
	config.attr_timeout_ms = 0;
	fake_mount(fake, &config, &strict);
	for (unsigned int i = 2; i < 2 + FILES; i++)
		assert(asks_as(fake, strict.fs, &ctx, i));
	assert(fetched(strict.fs) == 0);
	fake_unmount(&strict);
}

START_TEST(some_are_always_told_by_the_mdt)
{
	fake_run(callers_body);
}
END_TEST

/* As if the kernel had it. */
static void keep(struct fs *fs, uint64_t ino)
{
	struct inode *inode = inode_get(fs->inodes, ino);

	inode_lookup_add(inode);
	inode_put(inode);
}

static void newer_body(struct fake *fake)
{
	struct fake_mount mount;
	struct fs_ctx ctx = caller();
	struct attr attr, set = { .mode = 0600 };
	struct fake_inode *inodes = fake->inodes;
	struct file *file;
	bool is_kept;

	mount_fetched(fake, &mount);

	/* What is known to be newer is told. */
	fake_changed(fake, &inodes[20 - 1]);
	assert(fs_getattr(mount.fs, &ctx, 20, true, &attr) == 0);
	keep(mount.fs, 21);
	fake_changed(fake, &inodes[21 - 1]);
	assert(fs_getattr(mount.fs, &ctx, 21, true, &attr) == 0);
	assert(!asks(fake, mount.fs, 21));
	/* ... but where all that was known of it is forgotten, as 20 was, and of its names when they have changed, it is asked for. */
	assert(asks(fake, mount.fs, 20));
	inodes[21 - 1].name_version = ++fake->version;
	inodes[21 - 1].version = fake->version;
	assert(fs_getattr(mount.fs, &ctx, 21, true, &attr) == 0);
	assert(asks(fake, mount.fs, 21));

	/* What we change ourselves, also when it is forgotten. */
	assert(fs_setattr(mount.fs, &ctx, 30, SETATTR_MODE, &set, &attr) == 0);
	assert(asks(fake, mount.fs, 30));

	/* ... a name that another mount has freed meanwhile. */
	snprintf(inodes[32 - 1].name, sizeof(inodes[32 - 1].name), "gone");
	assert(fs_create(mount.fs, &ctx, 1, "f32", 3, 0644, O_RDWR, &attr, &file, &is_kept) == 0 &&
	       attr.ino == FILES + 3);
	fs_release(file);
	assert(fs_lookup(mount.fs, &ctx, 1, "f32", 3, &attr) == 0 && attr.ino == FILES + 3);

	/* Written elsewhere, as an open has told. */
	keep(mount.fs, 31);
	inodes[31 - 1].unsure = inodes[31 - 1].fixed = true;
	fake->ost_end[0] = 5000;
	assert(fs_getattr(mount.fs, &ctx, 31, true, &attr) == 0 && attr.size == 5000);
	assert(look_up(mount.fs, &ctx, 31, &attr) == 0 && attr.size == 5000);
	fake_unmount(&mount);
}

START_TEST(what_is_known_to_be_newer_counts)
{
	fake_run(newer_body);
}
END_TEST

/* It may be done, whatever the answer is: then the answer tells nothing of it. */
static bool refuse_changes(struct fake *fake, struct request *request)
{
	(void)fake;
	switch (request->header.opcode) {
	case OP_UNLINK:
	case OP_RENAME:
	case OP_LINK:
	case OP_MKNOD:
		service_reply_error(request, -EIO);
		return true;
	default:
		return false;
	}
}

static void changed_body(struct fake *fake)
{
	struct fake_mount mount;
	struct fs_ctx ctx = caller();
	struct attr attr;

	mount_fetched(fake, &mount);
	fake->hook = refuse_changes;
	assert(fs_unlink(mount.fs, &ctx, 1, "f20", 3) == -EIO && asks(fake, mount.fs, 20));
	assert(fs_rename(mount.fs, &ctx, 1, "f21", 3, 1, "f22", 3, 0) == -EIO);
	assert(asks(fake, mount.fs, 21) && asks(fake, mount.fs, 22));
	assert(fs_link(mount.fs, &ctx, 23, 1, "f24", 3, &attr) == -EIO && asks(fake, mount.fs, 24));
	assert(fs_mknod(mount.fs, &ctx, 1, "f25", 3, S_IFREG | 0644, 0, &attr) == -EIO && asks(fake, mount.fs, 25));
	assert(!asks(fake, mount.fs, 26));
	fake_unmount(&mount);
}

START_TEST(names_that_may_have_changed_are_asked_for)
{
	fake_run(changed_body);
}
END_TEST

static bool grant(struct fake *fake, struct request *request)
{
	const Strake__LockRequest *asked = (const Strake__LockRequest *)request->body;
	Strake__LockReply reply = STRAKE__LOCK_REPLY__INIT;
	struct fake_attr attr;

	if (request->header.opcode != OP_LOCK)
		return false;
	reply.outcome = LOCK_GRANTED;
	if (asked->lock->type != LOCK_FREE)
		reply.attr = fake_attr_fill(&fake->inodes[asked->ino - 1], &attr);
	fake_reply(request, &reply.base);
	return true;
}

/* Who had the lock before may have done things to names. */
static void locked_body(struct fake *fake)
{
	const struct fs_lock want = { .type = F_WRLCK, .owner = 1, .end = UINT64_MAX };
	struct fake_mount mount;
	struct fs_ctx ctx = caller();
	struct file *file;
	bool is_kept;

	mount_fetched(fake, &mount);
	fake->hook = grant;
	assert(fs_open_file(mount.fs, &ctx, 20, O_RDWR, &file, &is_kept) == 0);
	assert(!asks(fake, mount.fs, 21));
	assert(fs_lock(file, &ctx, &want, false) == 0);
	assert(asks(fake, mount.fs, 22));
	fs_release(file);
	fake_unmount(&mount);
}

START_TEST(a_lock_voids_all)
{
	fake_run(locked_body);
}
END_TEST

/* Counts those that come with attributes. */
static bool count(void *arg, const struct dir_entry *entry)
{
	*(unsigned int *)arg += entry->attr != NULL;
	return true;
}

/* Who lists the directory from its start has seen what is there. A name comes without attributes if it may be an old one. */
static void listing_body(struct fake *fake)
{
	struct fake_mount mount;
	struct fs_ctx ctx = caller();
	struct inode *inode;
	struct attr attr;
	unsigned int with_attr = 0;
	uint64_t asked_ns = clock_ns();

	mount_fetched(fake, &mount);
	assert(!asks(fake, mount.fs, 20));
	inode = inode_get(mount.fs->inodes, 50);
	assert(fs_getattr(mount.fs, &ctx, 50, true, &attr) == 0);
	inode->attr.name_version = inode->attr.version = attr.version + 1000;
	assert(fs_readdir(mount.fs, &ctx, 1, 0, true, count, &with_attr) == 0);
	assert(with_attr == FILES && ctx.name_asked_ns > asked_ns);
	inode_put(inode);
	assert(asks(fake, mount.fs, 21));
	fake_unmount(&mount);
}

START_TEST(a_listing_voids_what_was_fetched_before)
{
	fake_run(listing_body);
}
END_TEST

static bool refuse_no(struct fake *fake, struct request *request)
{
	const Strake__LookupRequest *asked = (const Strake__LookupRequest *)request->body;

	(void)fake;
	if (request->header.opcode != OP_LOOKUP || asked->name.len != 2)
		return false;
	service_reply_error(request, -ESTALE);
	return true;
}

static void void_body(struct fake *fake)
{
	struct fake_mount mount;
	struct fs_ctx ctx = caller();
	struct attr attr;

	mount_fetched(fake, &mount);
	assert(!asks(fake, mount.fs, 20));
	fake->hook = refuse_no;
	assert(fs_lookup(mount.fs, &ctx, 1, "no", 2, &attr) == -ESTALE);
	fake->hook = NULL;
	assert(asks(fake, mount.fs, 21));
	fake_unmount(&mount);
}

START_TEST(an_estale_voids_all)
{
	fake_run(void_body);
}
END_TEST

static void session_body(struct fake *fake)
{
	struct fake_mount mount;
	struct fs_ctx ctx = caller();
	struct attr attr;

	mount_fetched(fake, &mount);
	assert(!asks(fake, mount.fs, 20));
	fake->session++; /* nobody knows ours */
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
	assert(asks(fake, mount.fs, 21));
	fake_unmount(&mount);
}

START_TEST(another_session_voids_all)
{
	fake_run(session_body);
}
END_TEST

static void log_body(struct fake *fake)
{
	struct fake_mount mount;
	struct fs_ctx ctx = caller();
	struct attr attr;

	fake_log_index = 1000;
	mount_fetched(fake, &mount);
	assert(!asks(fake, mount.fs, 20));
	fake_log_index = 900; /* it has lost its last records, and counts versions again */
	fake->inodes[21 - 1].version = 1;
	assert(fs_getattr(mount.fs, &ctx, 1, true, &attr) == 0);
	assert(asks(fake, mount.fs, 21));
	fake_unmount(&mount);
}

START_TEST(a_lost_log_voids_all)
{
	fake_run(log_body);
}
END_TEST

static bool hold_readdir(struct fake *fake, struct request *request)
{
	return request->header.opcode == OP_READDIR && fake->held_count == 0 && fake_hold(fake, request);
}

/* The reading is under way when something is done. */
static void crossing_body(struct fake *fake)
{
	struct fake_mount mount;
	struct fs_config config;
	struct fs_ctx ctx = caller();
	struct attr attr, set = { .mode = 0600 };
	struct file *file;
	bool keep;

	make_files(fake);
	fake_config(fake, &config);
	config.attr_timeout_ms = 100000;
	fake_mount(fake, &config, &mount);
	fake->hook = hold_readdir;
	for (unsigned int i = 2; i < 2 + STAT_LOOKUPS; i++)
		assert(asks(fake, mount.fs, i));
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	/* No lookup waits for it. */
	assert(asks(fake, mount.fs, 20));
	assert(fs_create(mount.fs, &ctx, 1, "f21", 3, 0644, O_RDWR, &attr, &file, &keep) == 0);
	fs_release(file);
	fs_forget(mount.fs, 21, 1);
	assert(fs_setattr(mount.fs, &ctx, 22, SETATTR_MODE, &set, &attr) == 0);
	fake_let_go(fake);
	while (fetched(mount.fs) < FILES)
		fiber_sleep_ms(1);
	assert(asks(fake, mount.fs, 20) && asks(fake, mount.fs, 21) && asks(fake, mount.fs, 22));
	assert(!asks(fake, mount.fs, 23));
	fake_unmount(&mount);
}

START_TEST(what_is_done_while_it_is_read_counts)
{
	fake_run(crossing_body);
}
END_TEST

/* The mount ends in the middle of it. */
static void end_body(struct fake *fake)
{
	struct fake_mount mount;
	struct fs_config config;

	make_files(fake);
	fake_config(fake, &config);
	config.attr_timeout_ms = 100000;
	fake_mount(fake, &config, &mount);
	fake->hook = hold_readdir;
	for (unsigned int i = 2; i < 2 + STAT_LOOKUPS; i++)
		assert(asks(fake, mount.fs, i));
	while (fake->held_count == 0)
		fiber_sleep_ms(1);
	fake_unmount(&mount);
	fake_let_go(fake);
}

START_TEST(a_mount_does_not_wait_for_it)
{
	fake_run(end_body);
}
END_TEST

UNIT_MAIN("client_stat_ahead", lookups_are_answered_from_one_reading, what_is_young_goes_by_the_clock_of_the_mdt,
	  some_are_always_told_by_the_mdt, what_is_known_to_be_newer_counts, names_that_may_have_changed_are_asked_for,
	  a_lock_voids_all, a_listing_voids_what_was_fetched_before, an_estale_voids_all, another_session_voids_all,
	  a_lost_log_voids_all, what_is_done_while_it_is_read_counts, a_mount_does_not_wait_for_it)
