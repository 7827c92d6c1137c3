/* The offline check of an MDT's state finds every kind of damage, and names it. */
#include "mdt_driver.h"
#include "tests/tools/mdt_damage.h"
#include "unit.h"

/*
 * root: file, dir/{inner, hard}, a/, b/, doomed (an orphan); inner has two names. Numbers as they were given.
 */
struct scene {
	struct driver *driver;
	struct state *state;
	uint64_t file, dir, inner, a, b, orphan;
};

static struct scene scene_make(void)
{
	struct scene scene = { .driver = driver_new() };
	struct driver *driver = scene.driver;

	scene.state = &driver->state;
	driver_set_osts(driver, 3);
	scene.file = driver_create(driver, DRIVER_ROOT, "file");
	scene.dir = driver_mkdir(driver, DRIVER_ROOT, "dir");
	scene.inner = driver_create(driver, scene.dir, "inner");
	ck_assert_int_eq(driver_link(driver, scene.inner, scene.dir, "hard"), 0);
	scene.a = driver_mkdir(driver, DRIVER_ROOT, "a");
	scene.b = driver_mkdir(driver, DRIVER_ROOT, "b");
	ck_assert_int_eq(driver_setxattr(driver, scene.file, "user.x", "y", 0), 0);
	scene.orphan = driver_create(driver, DRIVER_ROOT, "doomed");
	opens_add(driver->opens, driver->session, scene.orphan, OPEN_READ);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "doomed"), 0);
	driver_check(driver);
	return scene;
}

static void no_inode(struct scene *s)
{
	damage_add_entry(s->state, s->dir, "ghost", 4711, S_IFREG);
}
static void no_directory(struct scene *s)
{
	damage_add_entry(s->state, 4711, "lost", s->file, S_IFREG);
}
static void no_entry(struct scene *s)
{
	damage_delete_entry(s->state, DRIVER_ROOT, "file");
}
static void more_links(struct scene *s)
{
	damage_nlink(s->state, s->inner, 3);
}
static void more_dir_links(struct scene *s)
{
	damage_nlink(s->state, s->dir, 3);
}
static void two_names(struct scene *s)
{
	damage_add_entry(s->state, s->dir, "again", s->a, S_IFDIR);
}
static void wrong_parent(struct scene *s)
{
	damage_parent(s->state, s->a, s->dir);
}
static void wrong_entries(struct scene *s)
{
	damage_entries(s->state, s->dir, 7);
}
static void ring(struct scene *s)
{
	damage_ring(s->state, DRIVER_ROOT, "a", "b");
}
static void wrong_type(struct scene *s)
{
	damage_add_entry(s->state, DRIVER_ROOT, "file", s->file, S_IFLNK);
}
static void wrong_hash(struct scene *s)
{
	damage_misplace_entry(s->state, DRIVER_ROOT, "file");
}
static void orphan_with_links(struct scene *s)
{
	damage_orphan(s->state, s->file, s->driver->session);
}
static void orphan_of_nobody(struct scene *s)
{
	damage_orphan(s->state, s->orphan, 4711);
}
static void orphan_of_nothing(struct scene *s)
{
	damage_orphan(s->state, 4711, s->driver->session);
}
static void linkable_with_links(struct scene *s)
{
	struct inode inode = damage_load(s->state, s->file);

	inode.flags |= INODE_LINKABLE;
	damage_store(s->state, &inode);
}
static void no_orphan(struct scene *s)
{
	uint8_t key[8];

	view_del(s->state->view, TABLE_ORPHAN, key_of(key, s->orphan));
}
static void more_xattrs(struct scene *s)
{
	damage_xattr(s->state, s->file, "user.z");
}
/* By its flags it has an ACL, by its xattrs none: nobody would look for one, or the MDT would end that does. */
static void acl_of_flags(struct scene *s)
{
	struct inode inode = damage_load(s->state, s->file);

	inode.flags |= INODE_ACL_ACCESS;
	damage_store(s->state, &inode);
}
static void xattr_of_nothing(struct scene *s)
{
	damage_xattr(s->state, 4711, "user.z");
}
static void number(struct scene *s)
{
	damage_gen(s->state, s->file, UINT64_C(1) << 40);
}
static void layout(struct scene *s)
{
	struct inode inode = damage_load(s->state, s->file);

	inode.layout.ost_indices[0] = inode.layout.ost_indices[1];
	damage_store(s->state, &inode);
}
static void cut(struct scene *s)
{
	damage_cut(s->state, s->file, s->file, 5, 0);
}
static void destroy(struct scene *s)
{
	damage_destroy(s->state, s->file, s->file, 0, false);
}
static void inode_count(struct scene *s)
{
	s->state->meta.inodes++;
}

static const struct {
	void (*damage)(struct scene *scene);
	const char *says;
} damages[] = {
	{ no_inode, "names inode 4711, which does not exist" },
	{ no_directory, "directory 4711, which does not exist" },
	{ no_entry, "no directory names it" },
	{ more_links, "says 3 links, but there are 2" },
	{ more_dir_links, "says 3 links, but has 0 directories" },
	{ two_names, "has 2 names" },
	{ wrong_parent, "says its parent is" },
	{ wrong_entries, "says 7 entries, but there are 2" },
	{ ring, "does not lead to the root" },
	{ wrong_type, "has the wrong type" },
	{ wrong_hash, "stands under the wrong hash" },
	{ orphan_with_links, "has 1 links and is an orphan" },
	{ orphan_of_nobody, "is held by no session that exists" },
	{ orphan_of_nothing, "orphan 4711 does not exist" },
	{ linkable_with_links, "is to get its first name" },
	{ no_orphan, "has 0 links and is no orphan" },
	{ more_xattrs, "has other xattrs than it counts" },
	{ acl_of_flags, "has other xattrs than it counts" },
	{ xattr_of_nothing, "xattrs of inode 4711, which does not exist" },
	{ number, "was never given out" },
	{ layout, "impossible layout" },
	{ cut, "that is not its latest" },
	{ destroy, "lives and is in the destroy queue" },
	{ inode_count, "inodes, but" },
};

/* Until it has been said. */
static void look_for(void *arg, const char *text)
{
	const char **says = arg;

	if (*says && strstr(text, *says))
		*says = NULL;
}

START_TEST(every_damage_is_named)
{
	for (size_t i = 0; i < sizeof(damages) / sizeof(*damages); i++) {
		struct scene scene = scene_make();
		const char *says = damages[i].says;

		damages[i].damage(&scene);
		if (i % 2)
			driver_checkpoint(scene.driver);
		ck_assert_int_gt(state_check(scene.state, look_for, &says), 0);
		ck_assert_msg(!says, "nothing says \"%s\"", damages[i].says);
		driver_free(scene.driver);
	}
}
END_TEST

UNIT_MAIN("mdt_check", every_damage_is_named)
