/* FSCK_ENTRIES and FSCK_INODES: everything once, in order, whatever the size of the pieces; and what only the MDT knows. */
#include "common/frame.h"
#include "common/fsck_rules.h"
#include "mdt_driver.h"
#include "tests/tools/mdt_damage.h"
#include "unit.h"

#define FILES 9000 /* more than one piece of either list */

static const Strake__FsckEntriesReply *entries(struct driver *driver, struct bytes after, bool names)
{
	Strake__FsckEntriesRequest request = STRAKE__FSCK_ENTRIES_REQUEST__INIT;

	request.has_after = after.size > 0;
	request.after.data = (uint8_t *)(uintptr_t)after.data;
	request.after.len = after.size;
	request.has_names = request.names = names;
	ck_assert_int_eq(driver_query(driver, OP_FSCK_ENTRIES, &request.base), 0);
	return &driver->answer.as.fsck_entries;
}

static const Strake__FsckInodesReply *inodes(struct driver *driver, uint64_t from, uint64_t to, bool count)
{
	Strake__FsckInodesRequest request = STRAKE__FSCK_INODES_REQUEST__INIT;

	request.from = from;
	request.to = to;
	request.has_count = request.count = count;
	ck_assert_int_eq(driver_query(driver, OP_FSCK_INODES, &request.base), 0);
	return &driver->answer.as.fsck_inodes;
}

static const Strake__FsckInode *inode_of(struct driver *driver, uint64_t ino)
{
	const Strake__FsckInodesReply *reply = inodes(driver, ino, ino + 1, false);

	ck_assert_uint_eq(reply->n_inode, 1);
	ck_assert_uint_eq(reply->inode[0]->ino, ino);
	return reply->inode[0];
}

START_TEST(every_entry_once)
{
	struct driver *driver = driver_new();
	uint64_t first = driver_mkdir(driver, DRIVER_ROOT, "1"), second = driver_mkdir(driver, DRIVER_ROOT, "2");
	uint8_t after[VIEW_KEY_MAX];
	size_t after_size, seen = 0, pieces = 0;
	uint64_t parent = 0;
	char name[32];

	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		driver_create(driver, i % 3 ? first : second, name);
		if (i == FILES / 2)
			driver_checkpoint(driver);
	}
	for (int names = 0; names < 2; names++) {
		seen = pieces = after_size = 0;
		parent = 0;
		do {
			const Strake__FsckEntriesReply *reply =
				entries(driver, (struct bytes){ after, after_size }, names);

			ck_assert_uint_eq(reply->n_ino, reply->n_parent);
			ck_assert_uint_eq(reply->n_type, reply->n_parent);
			ck_assert_uint_eq(reply->n_name, names ? reply->n_parent : 0);
			ck_assert_uint_eq(reply->n_misplaced, 0);
			ck_assert_uint_eq(reply->fresh, driver->numbers.next);
			ck_assert_uint_le(strake__fsck_entries_reply__get_packed_size(reply), FRAME_BODY_MAX);
			for (size_t i = 0; i < reply->n_parent; i++) {
				ck_assert_uint_ge(reply->parent[i], parent);
				parent = reply->parent[i];
				ck_assert_uint_eq(reply->type[i],
						  (parent == DRIVER_ROOT ? S_IFDIR + 0u : S_IFREG + 0u) >> 12);
				if (names)
					ck_assert_int_eq(reply->name[i].data[0] == 'f', parent != DRIVER_ROOT);
			}
			seen += reply->n_parent;
			pieces++;
			after_size = reply->has_after ? reply->after.len : 0;
			if (after_size > 0)
				memcpy(after, reply->after.data, after_size);
		} while (after_size > 0);
		ck_assert_uint_eq(seen, FILES + 2);
		ck_assert_uint_gt(pieces, 1);
	}
	driver_free(driver);
}
END_TEST

START_TEST(every_inode_once)
{
	struct driver *driver = driver_new();
	uint64_t from = 0, seen = 0, last = 0;
	char name[32];

	driver_set_osts(driver, 3);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		driver_create(driver, DRIVER_ROOT, name);
		if (i == FILES / 2)
			driver_checkpoint(driver);
	}
	while (from < UINT64_MAX) {
		const Strake__FsckInodesReply *reply = inodes(driver, from, UINT64_MAX, false);

		ck_assert_uint_eq(reply->inodes, FILES + 1);
		ck_assert_uint_le(strake__fsck_inodes_reply__get_packed_size(reply), FRAME_BODY_MAX);
		for (size_t i = 0; i < reply->n_inode; i++) {
			ck_assert_uint_gt(reply->inode[i]->ino, last);
			last = reply->inode[i]->ino;
			ck_assert_uint_lt(last, reply->next);
			ck_assert_uint_eq(reply->inode[i]->layout->n_ost_indices, last == DRIVER_ROOT ? 0 : 3);
		}
		seen += reply->n_inode;
		from = reply->next;
	}
	ck_assert_uint_eq(seen, FILES + 1);
	driver_free(driver);
}
END_TEST

START_TEST(what_there_is_of_one)
{
	struct driver *driver = driver_new();
	const Strake__FsckInode *row;
	const Strake__FsckInodesReply *reply;
	Strake__ReserveRecord reserve = STRAKE__RESERVE_RECORD__INIT;
	struct inode inode;
	uint64_t dir, file, end;

	driver_set_osts(driver, 2);
	dir = driver_mkdir(driver, DRIVER_ROOT, "dir");
	driver_mkdir(driver, dir, "sub");
	file = driver_create(driver, dir, "file");

	reply = inodes(driver, dir, dir + 1, true);
	ck_assert_uint_eq(reply->inode[0]->counted_entries, 2);
	ck_assert_uint_eq(reply->inode[0]->counted_subdirs, 1);
	reply = inodes(driver, 4711, 4712, true); /* nothing */
	ck_assert_uint_eq(reply->n_inode, 1);
	ck_assert(!reply->inode[0]->has_mode && reply->inode[0]->has_counted_entries);
	reply = inodes(driver, 4711, 4712, false);
	ck_assert_uint_eq(reply->n_inode, 0);
	ck_assert_uint_eq(reply->next, 4712);

	/* Who writes it. */
	ck_assert(!inode_of(driver, file)->size_unsure);
	opens_add(driver->opens, driver->session, file, OPEN_WRITE);
	ck_assert(inode_of(driver, file)->size_unsure);
	opens_remove(driver->opens, driver->session, file, OPEN_WRITE);
	ck_assert(!inode_of(driver, file)->size_unsure);

	/* A cut that waits for both OSTs; then another content, and the old one waits to be destroyed. */
	inode = driver_inode(driver, file);
	ck_assert_int_eq(driver_size(driver, &inode, 100000, true), 0);
	ck_assert_int_eq(driver_truncate(driver, file, 5000), 0);
	row = inode_of(driver, file);
	ck_assert_uint_eq(row->cut, 1);
	ck_assert_uint_eq(row->pending_cut->gen, file);
	ck_assert_uint_eq(row->pending_cut->cut, 1);
	ck_assert_uint_eq(row->pending_cut->n_ost, 2);
	ck_assert_int_eq(driver_truncate(driver, file, 0), 0);
	row = inode_of(driver, file);
	ck_assert_ptr_null(row->pending_cut);
	ck_assert_uint_eq(row->n_destroy, 1);
	ck_assert_uint_eq(row->destroy[0]->gen, file);
	ck_assert_uint_gt(row->gen, file);
	ck_assert_uint_eq(row->destroy[0]->n_ost, 2);
	ck_assert_uint_eq(row->version, driver->index);

	/* Unlinked and open, then gone; what is left is in the destroy queue. */
	opens_add(driver->opens, driver->session, file, OPEN_READ);
	ck_assert_int_eq(driver_unlink(driver, dir, "file"), 0);
	row = inode_of(driver, file);
	ck_assert(row->has_holders && row->holders == 1 && row->holders_unknown == 0 && row->nlink == 0);
	driver_release(driver, driver->session, file);
	row = inode_of(driver, file);
	ck_assert(!row->has_mode && !row->has_holders);
	ck_assert_uint_eq(row->n_destroy, 2);
	driver_acknowledge_all(driver);
	reply = inodes(driver, file, file + 1, false);
	ck_assert_uint_eq(reply->n_inode, 0);
	ck_assert_uint_eq(reply->void_end, 0);

	/* Numbers that nobody has, and one who has one of them. */
	reserve.up_to = 2 * driver->state.meta.reserved;
	reserve.has_rest_is_void = reserve.rest_is_void = 1;
	inode.ino = inode.gen = driver->state.meta.given + 1;
	end = driver->state.meta.reserved;
	driver_own(driver, RECORD_RESERVE, 0, &reserve.base);
	reply = inodes(driver, dir, dir + 1, false);
	ck_assert_uint_eq(reply->void_end, end);
	ck_assert(!reply->inode[0]->never_given);
	inode_store(driver->state.view, &inode);
	ck_assert(inode_of(driver, inode.ino)->never_given);
	inode.gen = end; /* not given out yet */
	inode_store(driver->state.view, &inode);
	ck_assert(inode_of(driver, inode.ino)->never_given);
	driver_free(driver);
}
END_TEST

START_TEST(more_destroys_than_fit)
{
	struct driver *driver = driver_new();
	const Strake__FsckInode *row;
	struct inode inode;
	uint64_t file;

	driver_set_osts(driver, 2);
	file = driver_create(driver, DRIVER_ROOT, "file");
	for (unsigned int i = 0; i <= FSCK_DESTROYS_MAX; i++) {
		row = inode_of(driver, file);
		ck_assert_uint_eq(row->n_destroy, i);
		ck_assert(!row->destroys_cut_off);
		inode = driver_inode(driver, file);
		ck_assert_int_eq(driver_size(driver, &inode, 1, true), 0);
		ck_assert_int_eq(driver_truncate(driver, file, 0), 0);
	}
	row = inode_of(driver, file);
	ck_assert_uint_eq(row->n_destroy, FSCK_DESTROYS_MAX);
	ck_assert(row->destroys_cut_off);
	for (size_t i = 1; i < row->n_destroy; i++)
		ck_assert_uint_gt(row->destroy[i]->gen, row->destroy[i - 1]->gen);
	driver_free(driver);
}
END_TEST

START_TEST(a_wrong_hash_is_told)
{
	struct driver *driver = driver_new();
	const Strake__FsckEntriesReply *reply;
	uint64_t file;

	driver_create(driver, DRIVER_ROOT, "a");
	file = driver_create(driver, DRIVER_ROOT, "b");
	driver_create(driver, DRIVER_ROOT, "c");
	damage_misplace_entry(&driver->state, DRIVER_ROOT, "b");
	reply = entries(driver, (struct bytes){ NULL, 0 }, true);
	ck_assert_uint_eq(reply->n_misplaced, 1);
	ck_assert_uint_eq(reply->ino[reply->misplaced[0]], file);
	driver_free(driver);
}
END_TEST

START_TEST(nonsense_is_refused)
{
	struct driver *driver = driver_new();
	Strake__FsckInodesRequest some = STRAKE__FSCK_INODES_REQUEST__INIT;
	Strake__FsckEntriesRequest request = STRAKE__FSCK_ENTRIES_REQUEST__INIT;
	uint8_t key[VIEW_KEY_MAX + 1] = { 0 };

	some.from = some.to = 5;
	ck_assert_int_eq(driver_query(driver, OP_FSCK_INODES, &some.base), -EINVAL);
	some.to = 7;
	some.has_count = some.count = 1;
	ck_assert_int_eq(driver_query(driver, OP_FSCK_INODES, &some.base), -EINVAL);
	request.has_after = 1;
	request.after.data = key;
	ck_assert_int_eq(driver_query(driver, OP_FSCK_ENTRIES, &request.base), -EINVAL);
	request.after.len = VIEW_KEY_MAX;
	ck_assert_int_eq(driver_query(driver, OP_FSCK_ENTRIES, &request.base), -EINVAL);
	request.after.len = VIEW_KEY_MAX - 1;
	ck_assert_int_eq(driver_query(driver, OP_FSCK_ENTRIES, &request.base), 0);
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_fsck", every_entry_once, every_inode_once, what_there_is_of_one, more_destroys_than_fit,
	  a_wrong_hash_is_told, nonsense_is_refused)
