/* The rules of fsck, one by one: facts that are right are not told of, and each thing that can be wrong is. */
#include "common/fsck_rules.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STRIPE 65536u

static unsigned int counts[FSCK_KINDS], told;

static void count(void *arg, const struct fsck_finding *finding)
{
	(void)arg;
	ck_assert_uint_gt(strlen(finding->text), 0);
	counts[finding->kind]++;
	told++;
}

static const struct fsck_report report = { count, NULL };

/* Exactly one finding, of that kind. */
static void expect_one(enum fsck_kind kind)
{
	ck_assert_msg(told == 1 && counts[kind] == 1, "%u findings, %u of kind %s", told, counts[kind],
		      fsck_kind_word(kind));
	memset(counts, 0, sizeof(counts));
	told = 0;
}

static void expect_none(void)
{
	ck_assert_uint_eq(told, 0);
}

/* A file with two stripes on the OSTs 4 and 2, 2.5 stripes long. */
static struct fsck_inode file(void)
{
	struct fsck_inode inode;

	fsck_inode_init(&inode, 100);
	inode.exists = true;
	inode.gen = 101;
	inode.mode = S_IFREG | 0644;
	inode.nlink = 1;
	inode.size = 2 * STRIPE + STRIPE / 2;
	inode.layout.stripe_size = STRIPE;
	inode.layout.stripe_count = inode.layout.ost_count = 2;
	inode.layout.ost_indices[0] = 4;
	inode.layout.ost_indices[1] = 2;
	return inode;
}

static struct fsck_inode dir(void)
{
	struct fsck_inode inode;

	fsck_inode_init(&inode, 200);
	inode.exists = true;
	inode.gen = 200;
	inode.mode = S_IFDIR | 0755;
	inode.nlink = 3;
	inode.parent = FSCK_ROOT;
	inode.entries = 5;
	inode.layout.stripe_size = STRIPE;
	return inode;
}

static uint32_t type_bit(uint32_t mode)
{
	return UINT32_C(1) << ((mode & S_IFMT) >> 12);
}

START_TEST(an_inode_alone)
{
	struct fsck_inode inode = file();

	fsck_check_inode(&inode, &report);
	expect_none();

	inode.nlink = 0;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_ORPHAN); /* it has no link and nobody holds it */
	inode.orphan = true;
	inode.holders = 2;
	fsck_check_inode(&inode, &report);
	expect_none();
	inode.holders_unknown = 1;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_ORPHAN);
	inode.holders_unknown = 2;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_ORPHAN);
	inode.holders_unknown = 0;
	inode.nlink = 1;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_ORPHAN); /* it has a link and is an orphan */
	inode.exists = false;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_ORPHAN);

	inode = file();
	inode.linkable = true;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_ORPHAN); /* it has a name */
	inode.nlink = 0;
	inode.orphan = true;
	inode.holders = 1;
	fsck_check_inode(&inode, &report);
	expect_none();
	inode.mode = S_IFIFO | 0644;
	inode.layout.ost_count = 0;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_ORPHAN);

	inode = file();
	inode.xattrs_differ = true;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_XATTRS);
	inode = file();
	inode.never_given = true;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_NUMBER);
	inode = dir();
	inode.way_is_lost = true;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_UNREACHABLE);
}
END_TEST

START_TEST(layouts)
{
	struct fsck_inode inode = file();

	inode.layout.stripe_size = STRIPE + 1;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_LAYOUT);
	inode = file();
	inode.layout.stripe_count = 3;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_LAYOUT);
	inode = file();
	inode.layout.ost_indices[1] = 4;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_LAYOUT);
	inode = file();
	inode.layout.ost_count = 0; /* not fixed yet */
	fsck_check_inode(&inode, &report);
	expect_none();
	inode = dir();
	fsck_check_inode(&inode, &report);
	expect_none();
	inode.layout.stripe_count = inode.layout.ost_count = 1;
	inode.layout.ost_indices[0] = 0;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_LAYOUT);
}
END_TEST

static bool is_below(void *arg, uint32_t ost)
{
	return ost < *(uint32_t *)arg;
}

START_TEST(osts_that_are_not_there)
{
	struct fsck_inode inode = file();
	uint32_t count = 5;

	inode.destroy_count = 1;
	inode.destroys[0] = (struct fsck_destroy){ .gen = 50, .awaited = { 1, { 3 } } };
	fsck_check_osts(&inode, is_below, &count, &report);
	expect_none();
	count = 4;
	fsck_check_osts(&inode, is_below, &count, &report);
	expect_one(FSCK_LAYOUT);
	inode.destroys[0].awaited.index[0] = 9;
	inode.layout.ost_indices[0] = 0;
	fsck_check_osts(&inode, is_below, &count, &report);
	expect_one(FSCK_DESTROY);
}
END_TEST

START_TEST(cuts_and_destroys)
{
	struct fsck_inode inode = file();

	inode.cut = 3;
	inode.cut_pending = true;
	inode.pending_gen = inode.gen;
	inode.pending_number = 3;
	inode.cut_awaited = (struct fsck_osts){ 1, { 2 } };
	fsck_check_inode(&inode, &report);
	expect_none();
	inode.pending_number = 2;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_CUT);
	inode.pending_number = 3;
	inode.pending_gen++;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_CUT);
	inode.exists = false;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_CUT);

	inode = file();
	inode.destroy_count = 1;
	inode.destroys[0] = (struct fsck_destroy){ .gen = 50, .awaited = { 1, { 2 } } };
	fsck_check_inode(&inode, &report);
	expect_none();
	inode.destroys[0].gen = inode.gen;
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_DESTROY);
	inode.destroys[0] = (struct fsck_destroy){ .gen = 50, .awaited = { .count = 0 } };
	fsck_check_inode(&inode, &report);
	expect_one(FSCK_DESTROY);
}
END_TEST

START_TEST(links_of_a_file)
{
	struct fsck_inode inode = file();
	struct fsck_links links = { .count = 1, .parent = 7, .types = type_bit(S_IFREG), .name = "name" };

	fsck_check_links(&inode, &links, &report);
	expect_none();
	inode.nlink = 2;
	fsck_check_links(&inode, &links, &report);
	expect_one(FSCK_LINKS);
	links.count = 2;
	fsck_check_links(&inode, &links, &report);
	expect_none();
	links.types |= type_bit(S_IFLNK);
	fsck_check_links(&inode, &links, &report);
	expect_one(FSCK_TYPE);
	links = (struct fsck_links){ .count = 0 };
	fsck_check_links(&inode, &links, &report);
	expect_one(FSCK_NO_ENTRY);
	inode.nlink = 0; /* an orphan */
	fsck_check_links(&inode, &links, &report);
	expect_none();
	inode.exists = false;
	fsck_check_links(&inode, &links, &report);
	expect_none();
	links.count = 1;
	fsck_check_links(&inode, &links, &report);
	expect_one(FSCK_NO_INODE);
	inode = file();
	links = (struct fsck_links){ .count = 1, .types = type_bit(S_IFREG), .misplaced = 1 };
	fsck_check_links(&inode, &links, &report);
	expect_one(FSCK_HASH);
}
END_TEST

START_TEST(names_of_a_directory)
{
	struct fsck_inode inode = dir();
	struct fsck_links links = { .count = 1, .parent = FSCK_ROOT, .types = type_bit(S_IFDIR) };

	fsck_check_links(&inode, &links, &report);
	expect_none();
	links.parent = 9;
	fsck_check_links(&inode, &links, &report);
	expect_one(FSCK_PARENT);
	links.count = 2;
	fsck_check_links(&inode, &links, &report);
	expect_one(FSCK_SEVERAL_NAMES);
	links = (struct fsck_links){ .count = 0 };
	fsck_check_links(&inode, &links, &report);
	expect_one(FSCK_NO_ENTRY);
	inode.ino = inode.parent = FSCK_ROOT; /* which nobody names */
	fsck_check_links(&inode, &links, &report);
	expect_none();
}
END_TEST

START_TEST(entries_in_a_directory)
{
	struct fsck_inode inode = dir();
	struct fsck_entries entries = { .count = 5, .subdirs = 1 };

	fsck_check_entries(&inode, &entries, &report);
	expect_none();
	entries.count = 6;
	fsck_check_entries(&inode, &entries, &report);
	expect_one(FSCK_ENTRIES);
	entries = (struct fsck_entries){ .count = 5, .subdirs = 2 };
	fsck_check_entries(&inode, &entries, &report);
	expect_one(FSCK_LINKS);
	inode.nlink = 0; /* removed, and open */
	inode.entries = 0;
	entries = (struct fsck_entries){ 0 };
	fsck_check_entries(&inode, &entries, &report);
	expect_none();
	inode.exists = false;
	fsck_check_entries(&inode, &entries, &report);
	expect_none();
	entries.count = 1;
	fsck_check_entries(&inode, &entries, &report);
	expect_one(FSCK_NO_DIRECTORY);
	inode = file();
	fsck_check_entries(&inode, &entries, &report);
	expect_one(FSCK_NO_DIRECTORY);
}
END_TEST

START_TEST(objects)
{
	struct fsck_inode inode = file();
	struct fsck_object object = { .ost = 4, .ino = 100, .gen = 101, .seq = 2, .size = STRIPE / 2 };

	fsck_check_object(&inode, &object, &report);
	expect_none();
	object.size++;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_BEYOND);
	inode.size_unsure = true;
	fsck_check_object(&inode, &object, &report);
	expect_none();
	inode.size_unsure = false;
	inode.cut_pending = true;
	inode.cut_awaited = (struct fsck_osts){ 1, { 4 } };
	fsck_check_object(&inode, &object, &report);
	expect_none();
	inode.cut_awaited.index[0] = 2;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_BEYOND);
	object.size = STRIPE + 1;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_TOO_LONG);
	object.seq = 1000;
	object.size = 0; /* of a write that failed: nothing is there */
	fsck_check_object(&inode, &object, &report);
	expect_none();
	object.size = STRIPE;
	object.seq = UINT64_MAX - 1; /* no overflow */
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_BEYOND);
	object.seq = 1;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_MISPLACED);
	object.ost = 2;
	fsck_check_object(&inode, &object, &report);
	expect_none();
	object.lost = true;
	inode.void_end = 1000; /* there are such, but this one lives */
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_LOST);
	inode.layout.ost_count = 0;
	object.lost = false;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_MISPLACED);
}
END_TEST

START_TEST(objects_of_nobody)
{
	struct fsck_inode inode = file();
	struct fsck_object object = { .ost = 4, .ino = 100, .gen = 50, .size = 1 };

	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_LEAKED);
	inode.destroy_count = 1;
	inode.destroys[0] = (struct fsck_destroy){ .gen = 50, .awaited = { 1, { 4 } } };
	fsck_check_object(&inode, &object, &report);
	expect_none();
	object.lost = true; /* less to destroy */
	fsck_check_object(&inode, &object, &report);
	expect_none();
	object.lost = false;
	object.ost = 2; /* which has answered */
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_LEAKED);
	object.gen = 60;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_LEAKED);
	inode.destroys_cut_off = true; /* it may be among those that were not told */
	fsck_check_object(&inode, &object, &report);
	expect_none();
	object.gen = 40;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_LEAKED);
	fsck_inode_init(&inode, 100);
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_LEAKED);
	/* Void, as its OST has heard, or not yet. */
	inode.void_end = 41;
	fsck_check_object(&inode, &object, &report);
	expect_none();
	object.void_end = 41;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_LEAKED);
	object.void_end = inode.void_end = 40;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_LEAKED);
	inode = file();
	inode.mode = S_IFDIR | 0755;
	object.gen = 101;
	fsck_check_object(&inode, &object, &report);
	expect_one(FSCK_LEAKED);
}
END_TEST

START_TEST(contents)
{
	struct fsck_inode inode = file();
	struct fsck_content content = { .ost = 4, .ino = 100, .gen = 101, .cut = 3 };

	inode.cut = 3;
	fsck_check_content(&inode, &content, &report);
	expect_none();
	content.cut = 4;
	fsck_check_content(&inode, &content, &report);
	expect_one(FSCK_CUT);
	content.cut = 2;
	fsck_check_content(&inode, &content, &report);
	expect_one(FSCK_CUT);
	inode.cut_pending = true;
	inode.cut_awaited = (struct fsck_osts){ 1, { 4 } };
	fsck_check_content(&inode, &content, &report);
	expect_none();
	content.destroyed = true;
	fsck_check_content(&inode, &content, &report);
	expect_one(FSCK_DESTROYED);
	content.gen = 50; /* as it must be */
	fsck_check_content(&inode, &content, &report);
	expect_none();
}
END_TEST

START_TEST(equal)
{
	struct fsck_inode a = file(), b = file();

	ck_assert(fsck_inode_equal(&a, &b));
	b.version++;
	ck_assert(!fsck_inode_equal(&a, &b));
	b = file();
	b.size_unsure = true;
	ck_assert(!fsck_inode_equal(&a, &b));
	a.cut_pending = b.cut_pending = true;
	b.size_unsure = false;
	a.cut_awaited = (struct fsck_osts){ 2, { 4, 2 } };
	b.cut_awaited = (struct fsck_osts){ 1, { 4 } };
	ck_assert(!fsck_inode_equal(&a, &b));
	b.cut_awaited = a.cut_awaited;
	ck_assert(fsck_inode_equal(&a, &b));
	a.destroy_count = 1;
	a.destroys[0] = (struct fsck_destroy){ .gen = 50, .awaited = { 2, { 4, 2 } } };
	ck_assert(!fsck_inode_equal(&a, &b));
	b.destroy_count = 1;
	b.destroys[0] = (struct fsck_destroy){ .gen = 50, .awaited = { 1, { 4 } } };
	ck_assert(!fsck_inode_equal(&a, &b));
}
END_TEST

UNIT_MAIN("fsck_rules", an_inode_alone, layouts, osts_that_are_not_there, cuts_and_destroys, links_of_a_file,
	  names_of_a_directory, entries_in_a_directory, objects, objects_of_nobody, contents, equal)
