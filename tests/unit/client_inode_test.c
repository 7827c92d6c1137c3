/* What libstrake knows of inodes: the table, attributes and their age, the kernel's pages. */
#include "client/attr.h"
#include "client/fs_state.h"
#include "client/layouts.h"
#include "tests/unit/unit.h"

#include <errno.h>

static struct fs fs;

static void set_up(void)
{
	fs.config.attr_timeout_ms = 1000;
	fs.inodes = inode_table_new(&fs);
	ck_assert_ptr_nonnull(fs.inodes);
}

static void tear_down(void)
{
	fs.inodes = inode_table_free(fs.inodes);
}

static struct attr attr_of(uint64_t ino, uint64_t version, uint64_t size)
{
	return (struct attr){
		.ino = ino, .gen = 9, .mode = S_IFREG, .version = version, .size = size, .data_version = version
	};
}

static void set(struct inode *inode, const struct attr *attr, uint64_t asked_ns)
{
	pthread_mutex_lock(&inode->lock);
	inode_set_attr(inode, attr, asked_ns);
	pthread_mutex_unlock(&inode->lock);
}

START_TEST(an_inode_lives_as_long_as_its_references)
{
	struct inode *inode, **all;
	size_t count;

	set_up();
	inode = inode_get(fs.inodes, 5);
	ck_assert_ptr_eq(inode_get(fs.inodes, 5), inode);
	inode_lookup_add(inode);
	inode_lookup_add(inode);
	inode_put(inode);
	inode_put(inode);
	ck_assert_ptr_eq(inode_find(fs.inodes, 5), inode);
	inode_put(inode);
	inode_lookup_drop(fs.inodes, 5, 1);
	ck_assert_int_eq(inode_table_list(fs.inodes, &all, &count), 0);
	ck_assert_uint_eq(count, 1);
	inode_put(all[0]);
	free(all);
	inode_lookup_drop(fs.inodes, 5, 7); /* more than there are: what a kernel never sends does no harm */
	ck_assert_ptr_null(inode_find(fs.inodes, 5));
	inode_lookup_drop(fs.inodes, 5, 1);
	tear_down();
}
END_TEST

START_TEST(the_table_grows_and_finds_all)
{
	set_up();
	for (uint64_t ino = 1; ino <= 10000; ino++)
		inode_lookup_add(inode_get(fs.inodes, ino << 20));
	for (uint64_t ino = 1; ino <= 10000; ino++) {
		struct inode *inode = inode_find(fs.inodes, ino << 20);

		ck_assert_ptr_nonnull(inode);
		ck_assert_uint_eq(inode->ino, ino << 20);
		inode_put(inode);
		inode_put(inode); /* inode_get()'s */
	}
	for (uint64_t ino = 1; ino <= 5000; ino++)
		inode_lookup_drop(fs.inodes, ino << 20, 1);
	ck_assert_ptr_null(inode_find(fs.inodes, UINT64_C(5000) << 20));
	tear_down(); /* takes the rest with it */
}
END_TEST

START_TEST(an_older_version_does_not_replace_a_newer_one)
{
	struct inode *inode;
	struct attr attr;

	set_up();
	inode = inode_get(fs.inodes, 5);
	attr = attr_of(5, 10, 100);
	set(inode, &attr, 1000);
	ck_assert_uint_eq(inode->attr_expires_ns, 1000 + NSEC_PER_SEC);
	attr = attr_of(5, 9, 50);
	set(inode, &attr, 2000);
	ck_assert_uint_eq(inode->attr.size, 100);
	ck_assert_uint_eq(inode->attr_expires_ns, 1000 + NSEC_PER_SEC);

	/* The same version asked for earlier does not make it older. */
	attr = attr_of(5, 10, 100);
	set(inode, &attr, 500);
	ck_assert_uint_eq(inode->attr_expires_ns, 1000 + NSEC_PER_SEC);

	/* After the MDT's log may have lost its tail, lower numbers are the truth. */
	inode_distrust(inode);
	ck_assert_uint_eq(inode->attr_expires_ns, 0);
	attr = attr_of(5, 9, 50);
	set(inode, &attr, 3000);
	ck_assert_uint_eq(inode->attr.size, 50);
	inode_put(inode);
	tear_down();
}
END_TEST

START_TEST(an_unsure_size_is_not_believed_and_does_not_shrink_what_osts_said)
{
	struct inode *inode;
	struct attr attr;

	set_up();
	inode = inode_get(fs.inodes, 5);
	attr = attr_of(5, 10, 100);
	set(inode, &attr, 1000);
	attr = attr_of(5, 11, 80);
	attr.size_unsure = true;
	set(inode, &attr, 2000);
	ck_assert_uint_eq(inode->attr.size, 100);
	ck_assert_uint_eq(inode->attr_expires_ns, 0);

	attr.version = 12;
	attr.cut = 1; /* a truncate: now it did shrink */
	set(inode, &attr, 3000);
	ck_assert_uint_eq(inode->attr.size, 80);
	inode_put(inode);
	tear_down();
}
END_TEST

START_TEST(pages_are_kept_while_nobody_else_changed_the_file)
{
	struct inode *inode;
	struct attr attr = attr_of(5, 10, 100);

	set_up();
	inode = inode_get(fs.inodes, 5);
	ck_assert(!inode_keep_pages(inode, &attr)); /* the first open */
	ck_assert(inode_keep_pages(inode, &attr));

	/* Our own write: the content before it is what we had. */
	attr = attr_of(5, 11, 200);
	inode_note_own_change(inode, 10, &attr, 1000);
	ck_assert(inode_keep_pages(inode, &attr));

	/* Ours again, but somebody else's came between. */
	attr = attr_of(5, 14, 300);
	inode_note_own_change(inode, 13, &attr, 1000);
	ck_assert(!inode_keep_pages(inode, &attr));
	ck_assert(inode_keep_pages(inode, &attr));

	/* The same size and time tell nothing. */
	attr.data_version++;
	ck_assert(!inode_keep_pages(inode, &attr));
	ck_assert(inode_keep_pages(inode, &attr));

	/* Others' truncate, others' new content. */
	attr.cut++;
	ck_assert(!inode_keep_pages(inode, &attr));
	attr.gen++;
	ck_assert(!inode_keep_pages(inode, &attr));
	inode_distrust(inode);
	ck_assert(!inode_keep_pages(inode, &attr));

	/* An MDT that does not tell. */
	attr.data_version = 0;
	ck_assert(!inode_keep_pages(inode, &attr));
	ck_assert(!inode_keep_pages(inode, &attr));
	inode_note_own_change(inode, 0, &attr, 1000);
	ck_assert(!inode_keep_pages(inode, &attr));
	inode_put(inode);
	tear_down();
}
END_TEST

START_TEST(attributes_come_from_the_wire_and_go_to_stat)
{
	Strake__Attr wire = STRAKE__ATTR__INIT;
	Strake__Layout layout = STRAKE__LAYOUT__INIT;
	Strake__Cut cut = STRAKE__CUT__INIT;
	uint32_t indices[] = { 3, 1, 70000 };
	struct attr attr;
	struct stat st;

	wire.ino = 5;
	wire.gen = 6;
	wire.mode = S_IFREG | 0640;
	wire.nlink = 2;
	wire.size = 12345;
	wire.blocks = 32;
	wire.mtime_ns = -1;
	wire.atime_ns = INT64_C(1700000000123456789);
	cut.number = 7;
	cut.has_start = cut.has_end = true;
	cut.start = 10;
	cut.end = UINT64_MAX;
	wire.cut = &cut;
	layout.stripe_size = 65536;
	layout.stripe_count = 2;
	layout.ost_indices = indices;
	layout.n_ost_indices = 2;
	wire.layout = &layout;
	ck_assert_int_eq(attr_from_wire(&wire, &attr), 0);
	ck_assert_uint_eq(attr.cut, 7);
	ck_assert_uint_eq(attr.cut_end, UINT64_MAX);
	ck_assert_uint_eq(attr.layout->ost_count, 2);
	ck_assert_uint_eq(attr.layout->ost_indices[0], 3);
	ck_assert(!attr.size_unsure);

	attr_to_stat(&attr, &st);
	ck_assert_int_eq(st.st_size, 12345);
	ck_assert_int_eq(st.st_blksize, 65536);
	ck_assert_int_eq(st.st_mtim.tv_sec, -1); /* just before the epoch */
	ck_assert_int_eq(st.st_mtim.tv_nsec, 999999999);
	ck_assert_int_eq(st.st_atim.tv_nsec, 123456789);

	layout.n_ost_indices = 3;
	ck_assert_int_eq(attr_from_wire(&wire, &attr), -EPROTO); /* no such index */
	layout.n_ost_indices = 2;
	wire.size = UINT64_MAX;
	ck_assert_int_eq(attr_from_wire(&wire, &attr), -EPROTO);
	wire.size = 0;
	wire.ino = 0;
	ck_assert_int_eq(attr_from_wire(&wire, &attr), -EPROTO);
}
END_TEST

START_TEST(a_layout_is_kept_once)
{
	struct layout ask = { .stripe_size = 65536, .stripe_count = 2, .ost_count = 2, .ost_indices = { 3, 1, 9 } };
	const struct layout *first = layout_keep(&ask), *other;

	ask.ost_indices[2] = 8; /* not one of them */
	ck_assert_ptr_eq(layout_keep(&ask), first);
	ask.ost_indices[1] = 2;
	other = layout_keep(&ask);
	ck_assert_ptr_ne(other, first);
	ck_assert_uint_eq(other->ost_indices[1], 2);
	ck_assert_uint_eq(first->ost_indices[1], 1);
	ck_assert_uint_eq(first->ost_indices[2], 0);
	ask.stripe_size = 131072;
	ck_assert_ptr_ne(layout_keep(&ask), other);

	/* More than there are buckets. */
	for (uint16_t i = 0; i < 4000; i++) {
		ask.ost_indices[1] = (uint16_t)(4 + i);
		other = layout_keep(&ask);
		ck_assert_uint_eq(other->ost_indices[1], 4 + i);
		ck_assert_ptr_eq(layout_keep(&ask), other);
	}
}
END_TEST

UNIT_MAIN("client_inode", an_inode_lives_as_long_as_its_references, the_table_grows_and_finds_all,
	  an_older_version_does_not_replace_a_newer_one,
	  an_unsure_size_is_not_believed_and_does_not_shrink_what_osts_said,
	  pages_are_kept_while_nobody_else_changed_the_file, attributes_come_from_the_wire_and_go_to_stat,
	  a_layout_is_kept_once)
