/* The first look: streams that fit together have no suspect; each thing that does not fit makes one, with its number. */
#include "client/fsck/merge.h"
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define STRIPE  65536u
#define FRESH   1000
#define MAX     64
#define OSTS    2
#define REGULAR (S_IFREG >> 12)
#define FOLDER  (S_IFDIR >> 12)
#define NOTHING UINT64_MAX /* no number is suspect */

/* What the streams give. */
static struct scene {
	struct fsck_inode inodes[MAX];
	size_t inode_count, inode_at;
	struct sorted links[MAX];
	size_t link_count, link_at;
	struct fsck_row rows[OSTS][MAX];
	size_t row_count[OSTS], row_at[OSTS];
	int row_error[OSTS]; /* instead of the end */
} scene;

static struct told {
	size_t count;
	uint64_t ino[MAX];
	unsigned int suspicion[MAX];
	bool exists[MAX];
	int broken[OSTS];
} told;

static int scene_inode(void *arg, const struct fsck_inode **ret_inode)
{
	(void)arg;
	if (scene.inode_at == scene.inode_count)
		return -ENOENT;
	*ret_inode = &scene.inodes[scene.inode_at++];
	return 0;
}

static int scene_link(void *arg, struct sorted *ret_link)
{
	(void)arg;
	if (scene.link_at == scene.link_count)
		return -ENOENT;
	*ret_link = scene.links[scene.link_at++];
	return 0;
}

static int scene_row(void *arg, unsigned int source, struct fsck_row *ret_row)
{
	(void)arg;
	if (scene.row_at[source] == scene.row_count[source])
		return scene.row_error[source] ? scene.row_error[source] : -ENOENT;
	*ret_row = scene.rows[source][scene.row_at[source]++];
	return 0;
}

static bool scene_ost(void *arg, uint32_t ost)
{
	(void)arg;
	return ost < OSTS;
}

static int tell(void *arg, uint64_t ino, unsigned int suspicion, bool exists)
{
	(void)arg;
	ck_assert(told.count == 0 || told.ino[told.count - 1] < ino);
	told.ino[told.count] = ino;
	told.suspicion[told.count] = suspicion;
	told.exists[told.count++] = exists;
	return 0;
}

static void tell_broken(void *arg, unsigned int source, int err)
{
	(void)arg;
	told.broken[source] = err;
}

static struct fsck_totals merge(void)
{
	const struct fsck_streams streams = { NULL, scene_inode, scene_link, scene_row, OSTS, scene_ost, FRESH };
	const struct fsck_sink sink = { NULL, tell, tell_broken };
	struct fsck_totals totals;

	memset(&told, 0, sizeof(told));
	scene.inode_at = scene.link_at = 0;
	memset(scene.row_at, 0, sizeof(scene.row_at));
	ck_assert_int_eq(fsck_merge(&streams, &sink, &totals), 0);
	return totals;
}

/* One suspect, or none. */
static void expect(uint64_t ino, unsigned int suspicion, bool exists)
{
	merge();
	if (ino == NOTHING) {
		ck_assert_msg(told.count == 0, "%llu is suspect", (unsigned long long)told.ino[0]);
		return;
	}
	ck_assert_uint_eq(told.count, 1);
	ck_assert_uint_eq(told.ino[0], ino);
	ck_assert_uint_eq(told.suspicion[0], suspicion);
	ck_assert(told.exists[0] == exists);
}

static struct fsck_inode *add_inode(uint64_t ino, uint32_t mode, uint32_t nlink)
{
	struct fsck_inode *inode = &scene.inodes[scene.inode_count++];

	fsck_inode_init(inode, ino);
	inode->exists = true;
	inode->gen = ino;
	inode->mode = mode;
	inode->nlink = nlink;
	inode->layout.stripe_size = STRIPE;
	return inode;
}

static struct fsck_inode *add_file(uint64_t ino, uint64_t size)
{
	struct fsck_inode *inode = add_inode(ino, S_IFREG | 0644, 1);

	inode->size = size;
	inode->layout.stripe_count = inode->layout.ost_count = 2;
	inode->layout.ost_indices[0] = 1;
	inode->layout.ost_indices[1] = 0;
	return inode;
}

static struct sorted *add_link(uint64_t ino, uint64_t parent, uint8_t type)
{
	scene.links[scene.link_count] =
		(struct sorted){ .ino = ino, .other = parent, .kind = SORTED_LINK, .type = type };
	return &scene.links[scene.link_count++];
}

static struct sorted *add_entries(uint64_t ino, uint64_t count, uint32_t subdirs)
{
	scene.links[scene.link_count] =
		(struct sorted){ .ino = ino, .other = count, .subdirs = subdirs, .kind = SORTED_ENTRIES };
	return &scene.links[scene.link_count++];
}

static struct fsck_object *add_object(int ost, uint64_t ino, uint64_t seq, uint64_t size)
{
	struct fsck_row *row = &scene.rows[ost][scene.row_count[ost]++];

	*row = (struct fsck_row){ .is_object = true,
				  .object = { .ost = ost, .ino = ino, .gen = ino, .seq = seq, .size = size } };
	return &row->object;
}

/* 1: the root, with dir 10 and file 20, which has three objects; file 30 is in 10, without any. */
static void scene_make(void)
{
	struct fsck_inode *inode;

	memset(&scene, 0, sizeof(scene));
	inode = add_inode(1, S_IFDIR | 0755, 3);
	inode->parent = 1;
	inode->entries = 2;
	inode = add_inode(10, S_IFDIR | 0755, 2);
	inode->parent = 1;
	inode->entries = 1;
	add_file(20, 2 * STRIPE + 7);
	add_file(30, 0);
	add_entries(1, 2, 1);
	add_link(10, 1, FOLDER);
	add_entries(10, 1, 0);
	add_link(20, 1, REGULAR);
	add_link(30, 10, REGULAR);
	add_object(1, 20, 0, STRIPE);
	add_object(1, 20, 2, 7);
	add_object(0, 20, 1, STRIPE);
}

START_TEST(what_fits)
{
	struct fsck_totals totals;

	scene_make();
	totals = merge();
	expect(NOTHING, 0, false);
	ck_assert_uint_eq(totals.inodes, 4);
	ck_assert_uint_eq(totals.objects, 3);
	ck_assert_uint_eq(totals.orphans, 0);
	ck_assert(totals.root);

	memset(&scene, 0, sizeof(scene));
	ck_assert(!merge().root);
	expect(NOTHING, 0, false);
}
END_TEST

START_TEST(inodes_and_links)
{
	scene_make();
	scene.inodes[2].nlink = 2;
	expect(20, SUSPECT_LINKS, true);
	scene_make();
	scene.link_count--;
	expect(30, SUSPECT_LINKS, true);
	scene_make();
	scene.links[0].other = 3; /* the root says 2 entries */
	expect(1, SUSPECT_ENTRIES, true);
	scene_make();
	add_link(40, 10, REGULAR);
	expect(40, SUSPECT_LINKS, false);
	scene_make();
	add_entries(40, 3, 0);
	expect(40, SUSPECT_ENTRIES, false);
	scene_make();
	scene.links[3].misplaced = 1;
	expect(20, SUSPECT_LINKS, true);
	scene_make();
	scene.links[3].type = FOLDER;
	expect(20, SUSPECT_LINKS, true);
	scene_make();
	scene.inodes[3].orphan = true;
	scene.inodes[3].holders = 1;
	expect(30, SUSPECT_INODE, true);
	scene_make();
	scene.inodes[3].layout.ost_indices[0] = 7; /* which does not exist */
	expect(30, SUSPECT_INODE, true);
}
END_TEST

START_TEST(objects)
{
	scene_make();
	scene.rows[1][0].object.lost = true;
	expect(20, SUSPECT_OBJECTS, true);
	scene_make();
	scene.inodes[2].size--;
	expect(20, SUSPECT_OBJECTS, true);
	scene_make();
	add_object(1, 25, 0, 1);
	expect(25, SUSPECT_OBJECTS, false);
	scene_make();
	add_object(0, 30, 1, 0);
	expect(NOTHING, 0, false);
	scene_make();
	add_object(0, 30, 0, 0); /* not there */
	expect(30, SUSPECT_OBJECTS, true);
	scene_make();
	scene.rows[0][1] = scene.rows[0][0];
	scene.row_count[0] = 2;
	scene.rows[0][0] = (struct fsck_row){ .content = { .ino = 20, .gen = 20, .cut = 1 } };
	expect(20, SUSPECT_OBJECTS, true);
	scene.inodes[2].cut = 1;
	expect(NOTHING, 0, false);
	scene.rows[0][0].content.destroyed = true;
	expect(20, SUSPECT_OBJECTS, true);
}
END_TEST

/* Everything about one number makes one suspect; and numbers that no inode has come in their turn. */
START_TEST(several_suspicions)
{
	scene_make();
	scene.inodes[2].nlink = 2;
	scene.inodes[2].xattrs_differ = true;
	scene.rows[1][1].object.size++;
	add_link(999, 1, REGULAR);
	merge();
	ck_assert_uint_eq(told.count, 2);
	ck_assert_uint_eq(told.ino[0], 20);
	ck_assert_uint_eq(told.suspicion[0], SUSPECT_INODE | SUSPECT_LINKS | SUSPECT_OBJECTS);
	ck_assert_uint_eq(told.ino[1], 999);
}
END_TEST

/* What was made after the links were collected has none, and that is no wonder. Its objects are looked at. */
START_TEST(what_is_fresh)
{
	scene_make();
	add_file(FRESH, 10);
	expect(NOTHING, 0, false);
	add_object(1, FRESH, 0, 11);
	expect(FRESH, SUSPECT_OBJECTS, true);
}
END_TEST

/* An OST whose stream breaks is left out; what the others have is looked at all the same. */
START_TEST(a_broken_stream)
{
	scene_make();
	scene.row_error[1] = -ETIMEDOUT;
	scene.row_count[1] = 1;
	scene.rows[0][0].object.lost = true;
	expect(20, SUSPECT_OBJECTS, true);
	ck_assert_int_eq(told.broken[1], -ETIMEDOUT);
	ck_assert_int_eq(told.broken[0], 0);
}
END_TEST

UNIT_MAIN("fsck_merge", what_fits, inodes_and_links, objects, several_suspicions, what_is_fresh, a_broken_stream)
