/* The metadata half of libstrake against real servers: every call, and what happens when the MDS dies, hangs or forgets us. */
#include "client/data/data.h"
#include "client/file.h"
#include "client/fs_state.h"
#include "client/session.h"
#include "client/worker.h"
#include "tests/unit/client_real.h"

#include <sys/xattr.h>

static struct fs_ctx root_ctx(void)
{
	return (struct fs_ctx){ .trusted = true };
}

static struct fs_ctx user_ctx(uid_t uid)
{
	return (struct fs_ctx){ .uid = uid, .gid = uid };
}

/* Create and release; the inode's number. */
static uint64_t make_file(struct fs *fs, uint64_t parent, const char *name)
{
	struct fs_ctx ctx = root_ctx();
	struct file *file;
	struct attr attr;
	bool keep;

	assert(fs_create(fs, &ctx, parent, name, strlen(name), 0644, O_RDWR | O_EXCL, &attr, &file, &keep) == 0);
	fs_release(file);
	return attr.ino;
}

static int lookup(struct fs *fs, uint64_t parent, const char *name, struct attr *ret_attr)
{
	struct fs_ctx ctx = root_ctx();
	int err = fs_lookup(fs, &ctx, parent, name, strlen(name), ret_attr);

	if (err == 0)
		fs_forget(fs, ret_attr->ino, 1);
	return err;
}

/* --- names --------------------------------------------------------------------------------------------------------------- */

struct names {
	unsigned int count, attrs;
	uint64_t last;
	char seen[64][256];
};

static bool collect(void *arg, const struct dir_entry *entry)
{
	struct names *names = arg;

	assert(names->count < 64 && entry->cookie > names->last);
	names->last = entry->cookie;
	names->attrs += entry->attr != NULL;
	snprintf(names->seen[names->count++], 256, "%.*s", (int)entry->name_len, entry->name);
	return true;
}

static bool has(const struct names *names, const char *name)
{
	for (unsigned int i = 0; i < names->count; i++)
		if (strcmp(names->seen[i], name) == 0)
			return true;
	return false;
}

static void names_body(struct real *real)
{
	struct fs_config config;
	struct real_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr dir, attr, other;
	struct names names = { 0 };
	struct file *opened;
	char target[64];
	bool keep;
	uint64_t root, file;
	size_t len;

	real_config(real, &config);
	real_mount(real, &config, &mount);
	root = fs_root(mount.fs);
	ctx.umask = 022;
	assert(fs_mkdir(mount.fs, &ctx, root, "dir", 3, 0777, &dir) == 0);
	assert(S_ISDIR(dir.mode) && (dir.mode & 07777) == 0755 && dir.nlink == 2);
	assert(fs_mkdir(mount.fs, &ctx, root, "dir", 3, 0777, &dir) == -EEXIST);
	file = make_file(mount.fs, dir.ino, "file");
	assert(lookup(mount.fs, dir.ino, "file", &attr) == 0 && attr.ino == file && S_ISREG(attr.mode));
	assert(fs_create(mount.fs, &ctx, dir.ino, "file", 4, 0644, O_RDWR | O_EXCL, &attr, &opened, &keep) == -EEXIST);
	assert(fs_mknod(mount.fs, &ctx, dir.ino, "fifo", 4, S_IFIFO | 0666, 0, &attr) == 0);
	assert(S_ISFIFO(attr.mode) && (attr.mode & 0777) == 0644);
	assert(fs_mknod(mount.fs, &ctx, dir.ino, "null", 4, S_IFCHR | 0600, 0x103, &attr) == 0);
	assert(S_ISCHR(attr.mode) && attr.rdev == 0x103);
	assert(fs_symlink(mount.fs, &ctx, dir.ino, "sym", 3, "../dir/file", 11, &attr) == 0);
	assert(S_ISLNK(attr.mode) && attr.size == 11);
	assert(fs_readlink(mount.fs, &ctx, attr.ino, target, sizeof(target), &len) == 0);
	assert(len == 11 && memcmp(target, "../dir/file", 11) == 0);
	assert(fs_readlink(mount.fs, &ctx, attr.ino, target, 5, &len) == -ERANGE);
	assert(fs_link(mount.fs, &ctx, file, root, "hard", 4, &attr) == 0);
	assert(attr.ino == file && attr.nlink == 2);

	assert(fs_readdir(mount.fs, &ctx, dir.ino, 0, true, collect, &names) == 0);
	assert(names.count == 6 && names.attrs == 4);
	assert(strcmp(names.seen[0], ".") == 0 && strcmp(names.seen[1], "..") == 0);
	assert(has(&names, "file") && has(&names, "fifo") && has(&names, "null") && has(&names, "sym"));

	assert(fs_rename(mount.fs, &ctx, dir.ino, "file", 4, root, "moved", 5, 0) == 0);
	assert(lookup(mount.fs, dir.ino, "file", &attr) == -ENOENT);
	assert(lookup(mount.fs, root, "moved", &attr) == 0 && attr.ino == file);
	assert(fs_rename(mount.fs, &ctx, dir.ino, "sym", 3, root, "moved", 5, RENAME_NOREPLACE) == -EEXIST);
	assert(fs_rename(mount.fs, &ctx, dir.ino, "sym", 3, root, "moved", 5, RENAME_EXCHANGE) == 0);
	assert(lookup(mount.fs, dir.ino, "sym", &attr) == 0 && attr.ino == file);
	assert(fs_rmdir(mount.fs, &ctx, root, "dir", 3) == -ENOTEMPTY);
	assert(fs_unlink(mount.fs, &ctx, root, "dir", 3) == -EISDIR);
	assert(fs_unlink(mount.fs, &ctx, dir.ino, "sym", 3) == 0);
	assert(fs_getattr(mount.fs, &ctx, file, false, &attr) == 0 && attr.nlink == 1); /* brought by the reply */
	assert(fs_unlink(mount.fs, &ctx, dir.ino, "fifo", 4) == 0);
	assert(fs_unlink(mount.fs, &ctx, dir.ino, "null", 4) == 0);
	assert(fs_getattr(mount.fs, &ctx, root, true, &other) == 0 && other.nlink == 3);
	assert(fs_rmdir(mount.fs, &ctx, root, "dir", 3) == 0);
	assert(fs_getattr(mount.fs, &ctx, root, false, &other) == 0 && other.nlink == 2);
	assert(fs_rmdir(mount.fs, &ctx, root, "moved", 5) == -ENOTDIR);
	assert(fs_lookup(mount.fs, &ctx, root, "moved", 5, &attr) == 0 && S_ISLNK(attr.mode));
	real_unmount(&mount);
}

START_TEST(names_come_move_and_go)
{
	real_run(names_body);
}
END_TEST

/* --- attributes --------------------------------------------------------------------------------------------------------- */

static uint64_t mds_calls(struct fs *fs)
{
	struct fs_stats stats;

	fs_stats(fs, &stats);
	return stats.mds_calls;
}

static void attributes_body(struct real *real)
{
	struct fs_config config;
	struct real_mount mount;
	struct fs_ctx ctx = root_ctx(), user = user_ctx(1000), other = user_ctx(1001);
	struct attr attr,
		set = { .mode = 04755, .uid = 1000, .gid = 1000, .size = 12345, .mtime_ns = 77, .atime_ns = 66 },
		give = set;
	const gid_t groups[] = { 76, 77 };
	/* u::7, u:9:4, g::5, m::5, o::2 */
	static const uint8_t named_acl[] = { 2, 0, 0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  4,
					     0, 9, 0,   0,   0,   4,   0,  5, 0,   255, 255, 255, 255, 16, 0,
					     5, 0, 255, 255, 255, 255, 32, 0, 2,   0,   255, 255, 255, 255 };
	struct statvfs statvfs;
	struct file *file;
	uint64_t root, ino, asked, began_ns;
	char value[64], list[128];
	size_t len;
	bool keep;

	real_config(real, &config);
	real_mount(real, &config, &mount);
	root = fs_root(mount.fs);
	ino = make_file(mount.fs, root, "f");
	assert(fs_setattr(mount.fs, &ctx, ino, SETATTR_UID | SETATTR_GID, &set, &attr) == 0);
	assert(attr.uid == 1000 && attr.gid == 1000);
	assert(fs_setattr(mount.fs, &user, ino, SETATTR_MODE, &set, &attr) == 0 && (attr.mode & 07777) == 04755);
	assert(fs_setattr(mount.fs, &other, ino, SETATTR_MODE, &set, &attr) == -EPERM);
	give.gid = 77;
	assert(fs_setattr(mount.fs, &user, ino, SETATTR_GID, &give, &attr) == -EPERM);
	user.groups = groups;
	user.group_count = 2;
	assert(fs_setattr(mount.fs, &user, ino, SETATTR_GID, &give, &attr) == 0 && attr.gid == 77);
	assert(fs_setattr(mount.fs, &ctx, ino, SETATTR_ATIME | SETATTR_MTIME, &set, &attr) == 0);
	assert(attr.mtime_ns == 77 && attr.atime_ns == 66);
	assert(fs_setattr(mount.fs, &ctx, ino, SETATTR_MTIME_NOW, &set, &attr) == 0 && attr.mtime_ns > 1000);

	/* Each truncate makes a cut, which waits for the OSTs to have heard of the one before. */
	for (uint64_t size = 12345; size < 12350; size++) {
		set.size = size;
		assert(fs_setattr(mount.fs, &ctx, ino, SETATTR_SIZE, &set, &attr) == 0);
		assert(attr.size == size);
	}
	assert(fs_open_file(mount.fs, &ctx, ino, O_RDWR | O_TRUNC, &file, &keep) == 0);
	assert(fs_getattr(mount.fs, &ctx, ino, false, &attr) == 0 && attr.size == 0);
	fs_release(file);
	set.size = UINT64_C(1) << 63;
	assert(fs_setattr(mount.fs, &ctx, ino, SETATTR_SIZE, &set, &attr) == -EFBIG);

	assert(fs_access(mount.fs, &user, ino, R_OK | W_OK) == 0);
	assert(fs_access(mount.fs, &other, ino, W_OK) == -EACCES);
	assert(fs_open_file(mount.fs, &other, ino, O_RDWR, &file, &keep) == -EACCES);
	assert(fs_statfs(mount.fs, &ctx, &statvfs) == 0 && statvfs.f_blocks > 0 && statvfs.f_namemax == 255);

	/* That it has none is known; what not all may read is asked nevertheless. */
	assert(fs_getattr(mount.fs, &ctx, ino, true, &attr) == 0 && attr.no_xattrs);
	asked = mds_calls(mount.fs);
	assert(fs_getxattr(mount.fs, &ctx, ino, "security.capability", value, sizeof(value), &len) == -ENODATA);
	assert(mds_calls(mount.fs) == asked);
	assert(fs_getxattr(mount.fs, &other, ino, "user.one", value, sizeof(value), &len) == -ENODATA);
	assert(mds_calls(mount.fs) > asked); /* closes are told meanwhile, too */
	assert(fs_setxattr(mount.fs, &ctx, ino, "security.one", "1", 1, 0) == 0);
	assert(fs_getxattr(mount.fs, &ctx, ino, "security.one", value, sizeof(value), &len) == 0 && len == 1);
	assert(fs_removexattr(mount.fs, &ctx, ino, "security.one") == 0);

	/* So it is with ACLs, also of what has other xattrs, and where nothing is believed for longer than it is true. */
	mount.fs->config.attr_timeout_ms = 0;
	assert(fs_setxattr(mount.fs, &ctx, ino, "user.zero", "0", 1, 0) == 0);
	do { /* where they came within the 10 ms that make them those of just now */
		began_ns = clock_ns();
		assert(fs_getattr(mount.fs, &ctx, ino, true, &attr) == 0 && !attr.no_xattrs);
		asked = mds_calls(mount.fs);
		assert(fs_getxattr(mount.fs, &ctx, ino, "system.posix_acl_access", value, sizeof(value), &len) ==
		       -ENODATA);
		asked = mds_calls(mount.fs) - asked;
	} while (clock_ns() - began_ns >= 10 * NSEC_PER_MSEC);
	assert(asked == 0);
	asked = mds_calls(mount.fs);
	usleep(20000);
	assert(fs_getxattr(mount.fs, &ctx, ino, "system.posix_acl_access", value, sizeof(value), &len) == -ENODATA);
	assert(mds_calls(mount.fs) > asked);
	mount.fs->config.attr_timeout_ms = 100000;
	assert(fs_getattr(mount.fs, &ctx, ino, true, &attr) == 0);
	asked = mds_calls(mount.fs);
	usleep(20000);
	assert(fs_getxattr(mount.fs, &ctx, ino, "system.posix_acl_default", value, sizeof(value), &len) == -ENODATA);
	assert(mds_calls(mount.fs) == asked);
	assert(fs_setxattr(mount.fs, &ctx, ino, "system.posix_acl_access", named_acl, sizeof(named_acl), 0) == 0);
	assert(fs_getxattr(mount.fs, &ctx, ino, "system.posix_acl_access", value, sizeof(value), &len) == 0);
	assert(len == sizeof(named_acl) && memcmp(value, named_acl, len) == 0);
	assert(fs_getattr(mount.fs, &ctx, ino, false, &attr) == 0 && !attr.no_acl[0] && attr.no_acl[1]);
	assert((attr.mode & 0777) == 0752); /* came with the answer */
	assert(fs_removexattr(mount.fs, &ctx, ino, "system.posix_acl_access") == 0);
	assert(fs_removexattr(mount.fs, &ctx, ino, "user.zero") == 0);

	assert(fs_setxattr(mount.fs, &ctx, ino, "user.one", "1", 1, XATTR_CREATE) == 0);
	assert(fs_setxattr(mount.fs, &ctx, ino, "user.one", "2", 1, XATTR_CREATE) == -EEXIST);
	assert(fs_setxattr(mount.fs, &ctx, ino, "user.two", "22", 2, 0) == 0);
	assert(fs_getxattr(mount.fs, &ctx, ino, "user.two", value, sizeof(value), &len) == 0 && len == 2);
	assert(memcmp(value, "22", 2) == 0);
	assert(fs_getxattr(mount.fs, &ctx, ino, "user.two", NULL, 0, &len) == 0 && len == 2);
	assert(fs_getxattr(mount.fs, &ctx, ino, "user.two", value, 1, &len) == -ERANGE);
	assert(fs_getxattr(mount.fs, &ctx, ino, "user.none", value, 1, &len) == -ENODATA);
	assert(fs_listxattr(mount.fs, &ctx, ino, list, sizeof(list), &len) == 0 && len == 18);
	assert(fs_listxattr(mount.fs, &ctx, ino, list, 17, &len) == -ERANGE);
	assert(fs_removexattr(mount.fs, &ctx, ino, "user.one") == 0);
	assert(fs_removexattr(mount.fs, &ctx, ino, "user.one") == -ENODATA);

	assert(fs_mkdir(mount.fs, &ctx, root, "wide", 4, 0755, &set) == 0);
	assert(fs_set_layout(mount.fs, &ctx, set.ino, 65536, 1) == 0);
	assert(fs_set_layout(mount.fs, &ctx, set.ino, 65537, 1) == -EINVAL);
	ino = make_file(mount.fs, set.ino, "narrow");
	assert(fs_getattr(mount.fs, &ctx, ino, true, &attr) == 0);
	assert(attr.layout->stripe_size == 65536 && attr.layout->stripe_count == 1);
	assert(fs_getattr(mount.fs, &ctx, 999999, true, &attr) == -ESTALE);
	real_unmount(&mount);
}

START_TEST(attributes_are_set_and_told)
{
	real_run(attributes_body);
}
END_TEST

/* --- what the kernel is told to drop ----------------------------------------------------------------------------------- */

struct drops {
	unsigned int count;
	uint64_t ino[8];
};

static void note_drop(void *owner, uint64_t ino)
{
	struct drops *drops = owner;

	assert(drops->count < 8);
	drops->ino[drops->count++] = ino;
}

/* Since the last look these were dropped, in whatever order, and no others (0: none). */
static bool dropped(struct drops *drops, uint64_t a, uint64_t b)
{
	bool as_wanted = drops->count == (a != 0) + (unsigned int)(b != 0);

	for (unsigned int i = 0; i < drops->count; i++)
		as_wanted &= drops->ino[i] == a || drops->ino[i] == b;
	drops->count = 0;
	return as_wanted;
}

static void show_to(struct fs *fs, pid_t pid, uint64_t ino)
{
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	ctx.pid = pid;
	assert(fs_getattr(fs, &ctx, ino, false, &attr) == 0);
	fs_attr_shown(fs, &ctx, &attr);
}

static void show(struct fs *fs, uint64_t ino)
{
	show_to(fs, 0, ino);
}

static void drops_body(struct real *real)
{
	struct fs_config config;
	struct real_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct drops drops = { 0 };
	struct file *file;
	struct attr attr;
	uint64_t dir, other, ino;
	bool keep;
	struct fs *fs;

	real_config(real, &config);
	config.attr_timeout_ms = 100000;
	config.drop_attr = note_drop;
	config.owner = &drops;
	real_mount(real, &config, &mount);
	fs = mount.fs;
	assert(fs_mkdir(fs, &ctx, fs_root(fs), "dir", 3, 0755, &attr) == 0);
	dir = attr.ino;
	assert(fs_mkdir(fs, &ctx, fs_root(fs), "other", 5, 0755, &attr) == 0);
	other = attr.ino;
	assert(dropped(&drops, 0, 0)); /* nobody was shown any of them */

	show(fs, dir);
	assert(fs_mkdir(fs, &ctx, dir, "a", 1, 0755, &attr) == 0 && dropped(&drops, dir, 0));
	assert(fs_mkdir(fs, &ctx, dir, "b", 1, 0755, &attr) == 0 && dropped(&drops, 0, 0)); /* not shown since */
	show(fs, dir);
	assert(fs_mkdir(fs, &ctx, dir, "b", 1, 0755, &attr) == -EEXIST && dropped(&drops, 0, 0));
	assert(fs_rmdir(fs, &ctx, dir, "b", 1) == 0 && dropped(&drops, dir, 0));
	show(fs, dir);
	assert(fs_create(fs, &ctx, dir, "f", 1, 0644, O_RDWR, &attr, &file, &keep) == 0 && dropped(&drops, dir, 0));
	ino = attr.ino;
	fs_release(file);
	show(fs, dir);
	assert(fs_link(fs, &ctx, ino, dir, "l", 1, &attr) == 0 && dropped(&drops, dir, 0));
	show(fs, dir);
	assert(fs_unlink(fs, &ctx, dir, "l", 1) == 0 && dropped(&drops, dir, 0));
	show(fs, dir);
	show(fs, other);
	assert(fs_rename(fs, &ctx, dir, "a", 1, other, "a", 1, 0) == 0 && dropped(&drops, dir, other));
	show(fs, ino);
	assert(fs_rename(fs, &ctx, dir, "f", 1, dir, "g", 1, 0) == 0 && dropped(&drops, ino, 0));
	show(fs, ino);
	assert(fs_setxattr(fs, &ctx, ino, "user.x", "1", 1, 0) == 0 && dropped(&drops, ino, 0));
	show(fs, ino);
	assert(fs_removexattr(fs, &ctx, ino, "user.x") == 0 && dropped(&drops, ino, 0));

	/* What he himself was shown has arrived; what was shown to somebody else, too, may not have. */
	ctx.pid = 7;
	show_to(fs, 7, dir);
	assert(fs_mkdir(fs, &ctx, dir, "c", 1, 0755, &attr) == 0 && dropped(&drops, 0, 0));
	show_to(fs, 7, dir);
	assert(fs_mkdir(fs, &ctx, dir, "d", 1, 0755, &attr) == 0 && dropped(&drops, 0, 0));
	show_to(fs, 8, dir);
	assert(fs_mkdir(fs, &ctx, dir, "e", 1, 0755, &attr) == 0 && dropped(&drops, dir, 0));
	show_to(fs, 8, dir);
	show_to(fs, 7, dir);
	assert(fs_mkdir(fs, &ctx, dir, "h", 1, 0755, &attr) == 0 && dropped(&drops, dir, 0));
	show_to(fs, 8, dir);
	assert(fs_rmdir(fs, &ctx, dir, "h", 1) == 0 && dropped(&drops, dir, 0));
	real_unmount(&mount);
}

START_TEST(what_was_shown_is_dropped_when_we_change_it)
{
	real_run(drops_body);
}
END_TEST

/* --- open files of two mounts ---------------------------------------------------------------------------------------------- */

static void orphan_body(struct real *real)
{
	struct fs_config config;
	struct real_mount one, two, stranger;
	struct fs_ctx ctx = root_ctx();
	struct file *file, *again;
	struct attr attr;
	uint64_t root, ino;
	bool keep;
	int err = 0;

	real_config(real, &config);
	real_mount(real, &config, &one);
	real_mount(real, &config, &two);
	root = fs_root(one.fs);
	ino = make_file(one.fs, root, "held");
	assert(fs_open_file(one.fs, &ctx, ino, O_RDWR, &file, &keep) == 0);
	assert(lookup(two.fs, root, "held", &attr) == 0);
	assert(fs_unlink(two.fs, &ctx, root, "held", 4) == 0);
	assert(lookup(one.fs, root, "held", &attr) == -ENOENT);
	assert(fs_getattr(one.fs, &ctx, ino, true, &attr) == 0 && attr.nlink == 0);
	assert(fs_open_file(two.fs, &ctx, ino, O_RDONLY, &again, &keep) < 0);

	/* It stays through a crash of the MDS, and goes with the last who had it open. */
	real_kill(&real->mds, SIGKILL);
	real_start(real, &real->mds);
	assert(fs_getattr(one.fs, &ctx, ino, true, &attr) == 0 && attr.nlink == 0);
	fs_release(file);
	/* Who has looked it up remembers it as long as he may hold it by its path. */
	real_mount(real, &config, &stranger);
	for (int tries = 0; tries < 1000 && err == 0; tries++) {
		fiber_sleep_ms(10);
		err = fs_getattr(stranger.fs, &ctx, ino, true, &attr);
	}
	assert(err == -ESTALE || err == -ENOENT);
	/* It still has attributes for him, but no bytes. */
	assert(fs_setattr(one.fs, &ctx, ino, SETATTR_MODE, &(struct attr){ .mode = 0600 }, &attr) == 0);
	assert(attr.nlink == 0 && attr.mode == (S_IFREG | 0600));
	assert(fs_setattr(one.fs, &ctx, ino, SETATTR_SIZE, &(struct attr){ .size = 1 }, &attr) == -ESTALE);
	real_unmount(&stranger);
	real_unmount(&two);
	real_unmount(&one);
}

START_TEST(an_unlinked_file_lives_while_it_is_open)
{
	real_run(orphan_body);
}
END_TEST

/* --- a dying MDS ---------------------------------------------------------------------------------------------------------------- */

#define MAKERS 16

struct makers {
	struct fs *fs;
	unsigned int running, made;
	bool enough;
	struct fiber_queue ended;
};

struct maker {
	struct makers *all;
	unsigned int number;
};

/* Creates with O_EXCL, renames, unlinks: what is executed twice or not at all shows as an error. */
static void maker_fiber(void *arg)
{
	struct maker *maker = arg;
	struct makers *all = maker->all;
	uint64_t root = fs_root(all->fs);
	struct fs_ctx ctx = root_ctx();
	struct attr attr;

	for (unsigned int i = 0; !all->enough; i++) {
		char name[32], to[32];
		size_t len = (size_t)snprintf(name, sizeof(name), "m%u-%u", maker->number, i);
		size_t to_len = (size_t)snprintf(to, sizeof(to), "r%u-%u", maker->number, i);
		uint64_t ino = make_file(all->fs, root, name);

		assert(fs_rename(all->fs, &ctx, root, name, len, root, to, to_len, 0) == 0);
		if (i % 2 == 0) {
			assert(fs_unlink(all->fs, &ctx, root, to, to_len) == 0);
		} else {
			assert(lookup(all->fs, root, to, &attr) == 0 && attr.ino == ino);
		}
		fs_forget(all->fs, ino, 1);
		all->made++;
	}
	if (--all->running == 0)
		fiber_wake_all(&all->ended);
}

static void crash_body(struct real *real)
{
	struct fs_config config;
	struct real_mount mount;
	struct makers makers;
	struct maker maker[MAKERS];
	struct fs_ctx ctx = root_ctx();
	struct fs_stats stats;
	unsigned int before;

	real_config(real, &config);
	real_mount(real, &config, &mount);
	makers = (struct makers){ .fs = mount.fs, .running = MAKERS };
	for (unsigned int i = 0; i < MAKERS; i++) {
		maker[i] = (struct maker){ .all = &makers, .number = i };
		assert(fiber_start(real->loop, maker_fiber, &maker[i]) == 0);
	}
	for (int round = 0; round < 5; round++) {
		before = makers.made;
		while (makers.made < before + 100)
			fiber_sleep_ms(1);
		real_kill(&real->mds, SIGKILL);
		real_start(real, &real->mds);
	}
	before = makers.made;
	while (makers.made < before + 100)
		fiber_sleep_ms(1);
	makers.enough = true;
	while (makers.running > 0)
		fiber_wait(&makers.ended, NULL);
	fs_stats(mount.fs, &stats);
	assert(stats.resends > 0);
	(void)ctx;
	real_unmount(&mount);
}

START_TEST(nothing_is_done_twice_or_lost_when_the_mds_is_killed)
{
	real_run(crash_body);
}
END_TEST

/* --- an MDS that hangs, or has gone ------------------------------------------------------------------------------------------------ */

static void interrupt_soon(void *arg)
{
	fiber_sleep_ms(100);
	fs_interrupt(arg);
}

static void hang_body(struct real *real)
{
	struct fs_config config;
	struct real_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;
	uint64_t root, began;

	real_config(real, &config);
	real_mount(real, &config, &mount);
	root = fs_root(mount.fs);
	kill(real->mds.pid, SIGSTOP);
	assert(fiber_start(real->loop, interrupt_soon, &ctx) == 0);
	began = clock_ns();
	assert(fs_mkdir(mount.fs, &ctx, root, "d", 1, 0755, &attr) == -EINTR);
	assert(clock_ns() - began < 8 * NSEC_PER_SEC); /* not when the attempt is over */

	ctx = root_ctx();
	began = clock_ns();
	assert(fs_getattr(mount.fs, &ctx, root, true, &attr) == 0 && attr.ino == root);
	assert(clock_ns() - began < 5 * NSEC_PER_SEC);
	kill(real->mds.pid, SIGCONT);
	assert(fs_mkdir(mount.fs, &ctx, root, "e", 1, 0755, &attr) == 0);

	/* An end without the MDS does not take long. */
	real_kill(&real->mds, SIGKILL);
	began = clock_ns();
	real_unmount(&mount);
	assert(clock_ns() - began < 5 * NSEC_PER_SEC);
}

START_TEST(waiting_for_a_hung_mds_can_be_cut_short)
{
	real_run(hang_body);
}
END_TEST

/* --- a lost session -------------------------------------------------------------------------------------------------------------- */

/* Close our session behind the mount's back: to the MDT it is as if the lease had run out. */
static void evict(struct real_mount *mount)
{
	struct fs_ctx ctx = root_ctx();
	struct call call = { .opcode = OP_SESSION_CLOSE };

	assert(worker_mds_call(mount->worker, &ctx, &call) == 0);
	call_release(&call);
}

static void evicted_body(struct real *real)
{
	struct fs_config config;
	struct real_mount one, two;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;
	struct file *file;
	uint64_t root, ino, before;
	bool keep;

	real_config(real, &config);
	real_mount(real, &config, &one);
	real_mount(real, &config, &two);
	root = fs_root(one.fs);
	ino = make_file(one.fs, root, "f");
	assert(fs_open_file(one.fs, &ctx, ino, O_RDWR, &file, &keep) == 0);
	before = fs_session_number(one.fs->session);
	evict(&one);
	assert(fs_mkdir(one.fs, &ctx, root, "d", 1, 0755, &attr) == 0);
	assert(fs_session_number(one.fs->session) != before);

	/* The new session has told what is open: unlinked elsewhere, it lives on. */
	assert(fs_unlink(two.fs, &ctx, root, "f", 1) == 0);
	assert(fs_getattr(one.fs, &ctx, ino, true, &attr) == 0 && attr.nlink == 0);
	fs_release(file);
	real_unmount(&two);
	real_unmount(&one);
}

START_TEST(an_evicted_mount_joins_again)
{
	real_run(evicted_body);
}
END_TEST

static void expect_content(struct file *file, uint64_t offset, const char *text)
{
	struct fs_ctx ctx = root_ctx();
	struct read_result result;
	char buffer[8];
	char found[8] = "";
	size_t length = 0;

	assert(fs_read(file, &ctx, offset, strlen(text), buffer, &result) == 0 && result.len == strlen(text));
	for (int i = 0; i < result.iov_count; length += result.iov[i++].iov_len)
		memcpy(found + length, result.iov[i].iov_base, result.iov[i].iov_len);
	read_release(&result);
	assert(strcmp(found, text) == 0);
}

/*
 * What an evicted mount still had to say does not come after what others have written since. The other mounts after the
 * eviction: where its WRITE is taken, the session table has come that has it, and has the evicted one no more.
 * False: this took so long that all had been said before the table came.
 */
static bool evicted_writer_round(struct real *real, const char *name)
{
	struct fs_config config;
	struct real_mount one, two;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;
	struct fs_stats stats;
	struct file *file, *other, *later;
	bool keep, told;

	real_config(real, &config);
	real_mount(real, &config, &one);
	assert(fs_create(one.fs, &ctx, fs_root(one.fs), name, 1, 0644, O_RDWR, &attr, &file, &keep) == 0);
	assert(fs_write(file, &ctx, 0, "old", 3, NULL) == 0 && fs_write(file, &ctx, 8192, "old", 3, NULL) == 0);
	assert(data_write_out(file->inode, &ctx) == 0);
	assert(fs_write(file, &ctx, 0, "OLD", 3, NULL) == 0);
	evict(&one);
	real_mount(real, &config, &two);
	assert(fs_open_file(two.fs, &ctx, attr.ino, O_RDWR | O_DIRECT, &other, &keep) == 0);
	assert(fs_write(other, &ctx, 0, "new", 3, NULL) == 0 && fs_write(other, &ctx, 8192, "new", 3, NULL) == 0);
	assert(fs_fsync(other, &ctx, false) == 0);

	told = fs_fsync(file, &ctx, false) == -EIO;
	assert(fs_fsync(file, &ctx, false) == 0);
	expect_content(other, 0, "new");
	expect_content(other, 8192, "new");
	fs_stats(one.fs, &stats);
	assert(stats.bytes_held == 0 && (stats.bytes_lost > 0) == told);

	assert(fs_open_file(one.fs, &ctx, attr.ino, O_RDWR, &later, &keep) == 0 && !keep);
	expect_content(later, 0, "new");
	assert(fs_write(later, &ctx, 0, "3rd", 3, NULL) == 0 && fs_fsync(later, &ctx, false) == 0);
	expect_content(other, 0, "3rd");
	fs_release(later);
	fs_release(other);
	fs_release(file);
	real_unmount(&two);
	real_unmount(&one);
	return told;
}

static void evicted_writer_body(struct real *real)
{
	char name[] = "a";

	while (!evicted_writer_round(real, name))
		assert(++name[0] <= 'z');
}

START_TEST(an_evicted_mounts_late_bytes_are_void)
{
	real_run(evicted_writer_body);
}
END_TEST

/* --- data beside it ---------------------------------------------------------------------------------------------------------------- */

static void written_body(struct real *real)
{
	static char block[100000];
	struct fs_config config;
	struct real_mount one, two;
	struct fs_ctx ctx = root_ctx();
	struct attr attr, again, set = { .size = 10, .mtime_ns = 77 };
	struct file *file, *other;
	uint64_t root, ino;
	bool keep;

	real_config(real, &config);
	real_mount(real, &config, &one);
	real_mount(real, &config, &two);
	root = fs_root(one.fs);
	assert(fs_create(one.fs, &ctx, root, "f", 1, 0644, O_RDWR, &attr, &file, &keep) == 0);
	ino = attr.ino;

	/* What was written is seen here at once, with times that stay. */
	assert(fs_write(file, &ctx, 0, block, sizeof(block), NULL) == 0);
	assert(fs_getattr(one.fs, &ctx, ino, false, &attr) == 0 && attr.size == sizeof(block));
	assert(fs_flush(file, &ctx) == 0);
	assert(fs_getattr(one.fs, &ctx, ino, true, &again) == 0 && again.mtime_ns == attr.mtime_ns);

	/* Times that were set are the last word on what was written before. */
	assert(fs_write(file, &ctx, sizeof(block), block, 1, NULL) == 0);
	assert(fs_setattr(one.fs, &ctx, ino, SETATTR_MTIME, &set, &attr) == 0);
	assert(fs_fsync(file, &ctx, false) == 0);
	assert(fs_getattr(one.fs, &ctx, ino, true, &attr) == 0 && attr.mtime_ns == 77);
	assert(attr.size == sizeof(block) + 1);

	/* The other mount asks the OSTs while it is being written. */
	assert(fs_write(file, &ctx, 200000, block, 1000, NULL) == 0);
	assert(data_write_out(file->inode, &ctx) == 0);
	assert(fs_getattr(two.fs, &ctx, ino, true, &attr) == 0 && attr.size == 201000);

	/* A truncate cuts what was written before it, not after. */
	assert(fs_write(file, &ctx, 300000, block, 1000, NULL) == 0);
	assert(fs_setattr(one.fs, &ctx, ino, SETATTR_SIZE, &set, &attr) == 0 && attr.size == 10);
	assert(fs_write(file, &ctx, 10, block, 5, NULL) == 0);
	assert(fs_flush(file, &ctx) == 0);
	assert(fs_getattr(two.fs, &ctx, ino, true, &attr) == 0 && attr.size == 15);

	/* Our own writes leave our pages right, and another's do not. */
	assert(fs_open_file(one.fs, &ctx, ino, O_RDONLY, &other, &keep) == 0);
	fs_release(other);
	assert(fs_write(file, &ctx, 0, block, 5, NULL) == 0 && fs_flush(file, &ctx) == 0);
	assert(fs_open_file(one.fs, &ctx, ino, O_RDONLY, &other, &keep) == 0 && keep);
	fs_release(other);
	assert(fs_open_file(two.fs, &ctx, ino, O_RDWR, &other, &keep) == 0);
	assert(fs_write(other, &ctx, 0, block, 5, NULL) == 0 && fs_flush(other, &ctx) == 0);
	fs_release(other);
	assert(fs_open_file(one.fs, &ctx, ino, O_RDONLY, &other, &keep) == 0 && !keep);
	fs_release(other);
	fs_release(file);
	real_unmount(&two);
	real_unmount(&one);
}

START_TEST(sizes_times_and_pages_follow_what_is_written)
{
	real_run(written_body);
}
END_TEST

/* What open says of the kernel's pages. */
static bool pages_kept(struct fs *fs, uint64_t ino)
{
	struct fs_ctx ctx = root_ctx();
	struct file *file;
	bool keep;

	assert(fs_open_file(fs, &ctx, ino, O_RDONLY, &file, &keep) == 0);
	fs_release(file);
	return keep;
}

/* Content that changed without the time or the size showing it. */
static void hidden_body(struct real *real)
{
	struct fs_config config;
	struct real_mount reader, early, late;
	struct fs_ctx ctx = root_ctx();
	struct attr attr, set, now;
	struct file *a, *b, *held;
	bool keep;

	real_config(real, &config);
	real_mount(real, &config, &reader);
	real_mount(real, &config, &early);
	real_mount(real, &config, &late);
	assert(fs_create(early.fs, &ctx, fs_root(early.fs), "f", 1, 0644, O_RDWR, &attr, &a, &keep) == 0);
	assert(fs_write(a, &ctx, 0, "12345678", 8, NULL) == 0 && fs_flush(a, &ctx) == 0);
	assert(fs_lookup(reader.fs, &ctx, fs_root(reader.fs), "f", 1, &attr) == 0);
	(void)pages_kept(reader.fs, attr.ino);
	assert(pages_kept(reader.fs, attr.ino));

	/* Overwritten, and the time set back. */
	assert(fs_getattr(early.fs, &ctx, attr.ino, true, &set) == 0);
	assert(fs_write(a, &ctx, 0, "1", 1, NULL) == 0 && fs_flush(a, &ctx) == 0);
	assert(fs_setattr(early.fs, &ctx, attr.ino, SETATTR_MTIME, &set, &now) == 0);
	assert(now.mtime_ns == set.mtime_ns && now.size == set.size);
	assert(!pages_kept(reader.fs, attr.ino));
	assert(pages_kept(reader.fs, attr.ino));

	/* Written before another's write, and reported after it: the latter's time stays. */
	assert(fs_write(a, &ctx, 0, "2", 1, NULL) == 0);
	assert(fs_open_file(late.fs, &ctx, attr.ino, O_RDWR, &b, &keep) == 0);
	assert(fs_write(b, &ctx, 1, "2", 1, NULL) == 0 && fs_flush(b, &ctx) == 0);
	assert(!pages_kept(reader.fs, attr.ino));
	assert(pages_kept(reader.fs, attr.ino));
	assert(fs_getattr(reader.fs, &ctx, attr.ino, true, &set) == 0);
	assert(fs_flush(a, &ctx) == 0);
	assert(fs_getattr(reader.fs, &ctx, attr.ino, true, &now) == 0);
	assert(now.mtime_ns == set.mtime_ns && now.size == set.size);
	assert(!pages_kept(reader.fs, attr.ino));
	assert(pages_kept(reader.fs, attr.ino));
	fs_release(b);
	fs_release(a);

	/* Our own writes still leave ours right. */
	assert(fs_open_file(reader.fs, &ctx, attr.ino, O_RDWR, &held, &keep) == 0);
	assert(fs_write(held, &ctx, 3, "3", 1, NULL) == 0 && fs_flush(held, &ctx) == 0);
	fs_release(held);
	assert(pages_kept(reader.fs, attr.ino));
	fs_forget(reader.fs, attr.ino, 1);
	real_unmount(&late);
	real_unmount(&early);
	real_unmount(&reader);
}

START_TEST(content_that_changed_in_hiding_is_not_kept)
{
	real_run(hidden_body);
}
END_TEST

/* The end of a mount whose data cannot be written any more comes, and soon. */
static void dead_ost_body(struct real *real)
{
	static char block[4096];
	struct fs_config config;
	struct real_mount mount;
	struct fs_ctx ctx = root_ctx();
	struct attr attr;
	struct file *file;
	uint64_t began;
	bool keep;

	real_config(real, &config);
	real_mount(real, &config, &mount);
	for (uint32_t i = 0; i < REAL_OSTS; i++)
		real_kill(&real->oss[i], SIGKILL);
	assert(fs_create(mount.fs, &ctx, fs_root(mount.fs), "f", 1, 0644, O_RDWR, &attr, &file, &keep) == 0);
	assert(fs_write(file, &ctx, 0, block, sizeof(block), NULL) == 0);
	fs_release(file);
	began = clock_ns();
	real_unmount(&mount);
	assert(clock_ns() - began < 8 * NSEC_PER_SEC);
}

START_TEST(a_mount_ends_without_its_osts)
{
	real_run(dead_ost_body);
}
END_TEST

UNIT_MAIN("client_cluster", names_come_move_and_go, attributes_are_set_and_told,
	  what_was_shown_is_dropped_when_we_change_it, an_unlinked_file_lives_while_it_is_open,
	  nothing_is_done_twice_or_lost_when_the_mds_is_killed, waiting_for_a_hung_mds_can_be_cut_short,
	  an_evicted_mount_joins_again, an_evicted_mounts_late_bytes_are_void,
	  content_that_changed_in_hiding_is_not_kept, sizes_times_and_pages_follow_what_is_written,
	  a_mount_ends_without_its_osts)
