/* What chattr(1) sets, and what it forbids, to whom and by which operation. */
#include "mdt_driver.h"
#include "unit.h"

#include "mds/access.h"

#include <stdio.h> /* RENAME_EXCHANGE */

#define OWNER 1000

enum { IMMUTABLE = 1, APPEND = 2, NODUMP = 4, NOATIME = 8 };

struct scene {
	struct driver *driver;
	uint64_t dir, file, sub;
};

static int set_flags(struct driver *driver, uint64_t ino, uint32_t flags)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.has_flags = 1;
	request.flags = flags;
	return driver_change(driver, OP_SETATTR, &request.base);
}

static void become(struct driver *driver, uint32_t uid)
{
	driver->cred.uid = driver->cred.gid = uid;
}

static int chown_to(struct driver *driver, uint64_t ino, uint32_t uid)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.has_uid = request.has_gid = 1;
	request.uid = request.gid = uid;
	return driver_change(driver, OP_SETATTR, &request.base);
}

static struct scene scene_new(void)
{
	struct scene scene = { .driver = driver_new() };

	scene.dir = driver_mkdir(scene.driver, DRIVER_ROOT, "dir");
	scene.file = driver_create(scene.driver, scene.dir, "file");
	scene.sub = driver_mkdir(scene.driver, scene.dir, "sub");
	driver_create(scene.driver, DRIVER_ROOT, "other");
	return scene;
}

static uint32_t told_flags(struct driver *driver, uint64_t ino)
{
	Strake__GetattrRequest get = STRAKE__GETATTR_REQUEST__INIT;

	get.ino = ino;
	ck_assert_int_eq(driver_query(driver, OP_GETATTR, &get.base), 0);
	return driver->answer.as.attr.attr->flags;
}

START_TEST(who_may_set_them)
{
	struct scene scene = scene_new();
	struct driver *driver = scene.driver;
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;
	uint64_t link;

	ck_assert_int_eq(chown_to(driver, scene.file, OWNER), 0);
	become(driver, OWNER);
	ck_assert_int_eq(set_flags(driver, scene.file, NODUMP | NOATIME), 0);
	ck_assert_uint_eq(driver_attr_reply(driver)->attr->flags, NODUMP | NOATIME);
	ck_assert_int_eq(set_flags(driver, scene.file, NODUMP | IMMUTABLE), -EPERM);
	ck_assert_int_eq(set_flags(driver, scene.file, NODUMP | APPEND), -EPERM);
	become(driver, OWNER + 1);
	driver->cred.has_trusted = driver->cred.trusted = 1;
	ck_assert_int_eq(set_flags(driver, scene.file, 0), -EPERM);
	become(driver, 0);
	ck_assert_int_eq(set_flags(driver, scene.file, 16), -EOPNOTSUPP);
	ck_assert_int_eq(set_flags(driver, scene.file, NODUMP | IMMUTABLE), 0);
	ck_assert_uint_eq(told_flags(driver, scene.file), NODUMP | IMMUTABLE);
	/* What stays immutable stays as it is. */
	ck_assert_int_eq(set_flags(driver, scene.file, IMMUTABLE), -EPERM);
	ck_assert_int_eq(set_flags(driver, scene.file, IMMUTABLE | NODUMP), 0);
	become(driver, OWNER);
	ck_assert_int_eq(set_flags(driver, scene.file, NODUMP), -EPERM);
	become(driver, 0);
	ck_assert_int_eq(set_flags(driver, scene.file, APPEND), 0);
	ck_assert_uint_eq(told_flags(driver, scene.file), APPEND);

	/* Alone, and of files and directories. */
	request.cred = &driver->cred;
	request.ino = scene.dir;
	request.has_flags = request.has_mode = 1;
	request.mode = 0700;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &request.base), -EINVAL);
	ck_assert_int_eq(driver_make(driver, OP_SYMLINK, DRIVER_ROOT, "link", 0, &link), 0);
	ck_assert_int_eq(set_flags(driver, link, NODUMP), -EOPNOTSUPP);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(some_are_inherited)
{
	struct scene scene = scene_new();
	struct driver *driver = scene.driver;
	uint64_t ino;

	ck_assert_int_eq(set_flags(driver, scene.dir, NODUMP | NOATIME | APPEND), 0);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, scene.dir, "f", 0644, &ino), 0);
	ck_assert_uint_eq(driver_entry(driver)->attr->flags, NODUMP | NOATIME);
	ck_assert_int_eq(driver_make(driver, OP_MKDIR, scene.dir, "d", 0755, &ino), 0);
	ck_assert_uint_eq(told_flags(driver, ino), NODUMP | NOATIME);
	driver_free(driver);
}
END_TEST

/* --- what they forbid -------------------------------------------------------------------------------------------------- */

static int setattr(struct scene *s, uint64_t ino, Strake__SetattrRequest request)
{
	request.cred = &s->driver->cred;
	request.ino = ino;
	return driver_change(s->driver, OP_SETATTR, &request.base);
}

#define SETATTR(...) \
	((Strake__SetattrRequest){ .base = PROTOBUF_C_MESSAGE_INIT(&strake__setattr_request__descriptor), __VA_ARGS__ })

static int do_chmod(struct scene *s)
{
	return setattr(s, s->file, SETATTR(.has_mode = 1, .mode = 0600));
}
static int do_chown(struct scene *s)
{
	return setattr(s, s->file, SETATTR(.has_gid = 1, .gid = 5));
}
static int do_truncate(struct scene *s)
{
	return setattr(s, s->file, SETATTR(.has_size = 1, .size = 5, .has_open_handle = 1, .open_handle = 1));
}
static int do_times(struct scene *s)
{
	return setattr(s, s->file, SETATTR(.has_mtime_ns = 1, .mtime_ns = 5));
}
static int do_one_time(struct scene *s)
{
	return setattr(s, s->file, SETATTR(.has_mtime_now = 1, .mtime_now = 1));
}
static int do_touch(struct scene *s)
{
	return setattr(s, s->file, SETATTR(.has_mtime_now = 1, .mtime_now = 1, .has_atime_now = 1, .atime_now = 1));
}
static int do_setxattr(struct scene *s)
{
	return driver_setxattr(s->driver, s->file, "trusted.x", "v", 0);
}
static int do_removexattr(struct scene *s)
{
	return driver_removexattr(s->driver, s->file, "trusted.y");
}
static int do_punch(struct scene *s)
{
	Strake__PunchRequest request = STRAKE__PUNCH_REQUEST__INIT;

	request.cred = &s->driver->cred;
	request.ino = s->file;
	request.end = 5;
	return driver_change(s->driver, OP_PUNCH, &request.base);
}
static int do_layout(struct scene *s)
{
	Strake__LayoutRequest request = STRAKE__LAYOUT_REQUEST__INIT;
	Strake__Layout layout = STRAKE__LAYOUT__INIT;

	layout.stripe_size = LAYOUT_STRIPE_SIZE_DEFAULT;
	request.cred = &s->driver->cred;
	request.ino = s->file;
	request.set = &layout;
	return driver_change(s->driver, OP_LAYOUT, &request.base);
}
static int do_size(struct scene *s)
{
	struct inode inode = driver_inode(s->driver, s->file);

	return driver_size(s->driver, &inode, 100, true);
}
static int do_link(struct scene *s)
{
	return driver_link(s->driver, s->file, DRIVER_ROOT, "hard");
}
static int do_unlink(struct scene *s)
{
	return driver_unlink(s->driver, s->dir, "file");
}
static int do_rename(struct scene *s)
{
	return driver_rename(s->driver, s->dir, "file", DRIVER_ROOT, "moved", 0);
}
static int do_replace(struct scene *s)
{
	return driver_rename(s->driver, DRIVER_ROOT, "other", s->dir, "file", 0);
}
static int do_exchange(struct scene *s)
{
	return driver_rename(s->driver, DRIVER_ROOT, "other", s->dir, "file", RENAME_EXCHANGE);
}
static int open_as(struct scene *s, unsigned int modes, bool append)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct inode inode = driver_inode(s->driver, s->file);
	int err;

	request.cred = &s->driver->cred;
	request.parent = s->dir;
	request.name = driver_name("file");
	request.mode = 0644;
	request.has_open_modes = 1;
	request.open_modes = modes;
	request.has_append = request.append = append;
	err = driver_change(s->driver, OP_CREATE, &request.base);
	ck_assert_int_eq(access_open(s->driver->state.view, &s->driver->cred, &inode, modes, append), err);
	return err;
}
static int do_open(struct scene *s)
{
	return open_as(s, OPEN_READ, false);
}
static int do_open_write(struct scene *s)
{
	return open_as(s, OPEN_READ | OPEN_WRITE, false);
}
static int do_open_append(struct scene *s)
{
	return open_as(s, OPEN_WRITE, true);
}
static int do_create(struct scene *s)
{
	return driver_make(s->driver, OP_CREATE, s->dir, "new", 0644, NULL);
}
static int do_mkdir(struct scene *s)
{
	return driver_make(s->driver, OP_MKDIR, s->dir, "new", 0755, NULL);
}
static int do_link_into(struct scene *s)
{
	return driver_link(s->driver, s->file, s->dir, "hard");
}
static int do_rmdir(struct scene *s)
{
	return driver_rmdir(s->driver, s->dir, "sub");
}
static int do_move_in(struct scene *s)
{
	return driver_rename(s->driver, DRIVER_ROOT, "other", s->dir, "moved", 0);
}
static int do_below(struct scene *s)
{
	return driver_make(s->driver, OP_CREATE, s->sub, "new", 0644, NULL);
}
static int do_read(struct scene *s)
{
	return driver_lookup(s->driver, s->dir, "file", NULL);
}

START_TEST(what_they_forbid)
{
	static const struct {
		const char *what;
		int (*run)(struct scene *s);
		int immutable, append, dir_immutable, dir_append; /* the file is, the directory is */
	} cases[] = {
		{ "chmod", do_chmod, -EPERM, -EPERM, 0, 0 },
		{ "chown", do_chown, -EPERM, -EPERM, 0, 0 },
		{ "truncate", do_truncate, -EPERM, -EPERM, 0, 0 },
		{ "utimes", do_times, -EPERM, -EPERM, 0, 0 },
		{ "utimes of one", do_one_time, -EPERM, -EPERM, 0, 0 },
		{ "touch", do_touch, -EPERM, 0, 0, 0 },
		{ "setxattr", do_setxattr, -EPERM, -EPERM, 0, 0 },
		{ "removexattr", do_removexattr, -EPERM, -EPERM, 0, 0 },
		{ "punch", do_punch, -EPERM, -EPERM, 0, 0 },
		{ "layout", do_layout, -EPERM, -EPERM, 0, 0 },
		{ "what was written before", do_size, 0, 0, 0, 0 },
		{ "link", do_link, -EPERM, -EPERM, 0, 0 },
		{ "unlink", do_unlink, -EPERM, -EPERM, -EPERM, -EPERM },
		{ "rename", do_rename, -EPERM, -EPERM, -EPERM, -EPERM },
		{ "rename over it", do_replace, -EPERM, -EPERM, -EPERM, -EPERM },
		{ "exchange", do_exchange, -EPERM, -EPERM, -EPERM, -EPERM },
		{ "open", do_open, 0, 0, 0, 0 },
		{ "open to write", do_open_write, -EPERM, -EPERM, 0, 0 },
		{ "open to append", do_open_append, -EPERM, 0, 0, 0 },
		{ "create", do_create, 0, 0, -EPERM, 0 },
		{ "mkdir", do_mkdir, 0, 0, -EPERM, 0 },
		{ "link into it", do_link_into, -EPERM, -EPERM, -EPERM, 0 },
		{ "rmdir", do_rmdir, 0, 0, -EPERM, -EPERM },
		{ "rename into it", do_move_in, 0, 0, -EPERM, 0 },
		{ "create below", do_below, 0, 0, 0, 0 },
		{ "lookup", do_read, 0, 0, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const int expected[] = { cases[i].immutable, cases[i].append, cases[i].dir_immutable,
					 cases[i].dir_append };

		for (int way = 0; way < 8; way++) {
			struct scene scene = scene_new();
			struct driver *driver = scene.driver;
			int err;

			ck_assert_int_eq(driver_setxattr(driver, scene.file, "trusted.y", "v", 0), 0);
			ck_assert_int_eq(
				set_flags(driver, way % 4 < 2 ? scene.file : scene.dir, way % 2 ? APPEND : IMMUTABLE),
				0);
			/* Neither root nor a kernel that has checked changes anything in it. */
			driver->cred.has_trusted = driver->cred.trusted = way / 4;
			err = cases[i].run(&scene);
			ck_assert_msg(err == expected[way % 4], "%s, %d: %d", cases[i].what, way, err);
			driver_check(driver);
			driver_free(driver);
		}
	}
}
END_TEST

UNIT_MAIN("mdt_flags", who_may_set_them, some_are_inherited, what_they_forbid)
