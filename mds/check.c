#include "mds/check.h"

#include "mds/cut.h"
#include "mds/destroy.h"
#include "mds/dirent.h"
#include "mds/orphan.h"
#include "mds/pack.h"
#include "mds/sessions.h"
#include "mds/xattr.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DEPTH_MAX 1000000 /* directories above a directory: more is a ring */

/* What was counted of an inode while all tables are gone through. */
struct tally {
	uint64_t ino;
	uint64_t links, entries, subdirs;
	uint64_t named_in; /* the directory that has the last entry seen */
};

struct check {
	struct state *state;
	struct tally *tallies; /* sorted by ino: the inode table's order */
	size_t count;
	int64_t faults;
	void (*report)(void *arg, const char *text);
	void *arg;
};

static void fault(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fault(struct check *check, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	check->faults++;
	check->report(check->arg, text);
}

static int compare_tally(const void *key, const void *element)
{
	uint64_t ino = *(const uint64_t *)key, other = ((const struct tally *)element)->ino;

	return ino < other ? -1 : ino > other;
}

static struct tally *tally_of(const struct check *check, uint64_t ino)
{
	if (check->count == 0)
		return NULL;
	return bsearch(&ino, check->tallies, check->count, sizeof(*check->tallies), compare_tally);
}

/* Calls fn for each row of a table. */
static void each_row(struct check *check, enum view_table table,
		     void (*fn)(struct check *check, struct bytes key, struct bytes value))
{
	struct view_cursor cursor;
	int err = view_seek(check->state->view, table, (struct bytes){ "", 0 }, &cursor);

	if (err < 0)
		return;
	for (; err == 0; err = view_next(&cursor))
		fn(check, cursor.key, cursor.value);
	view_cursor_end(&cursor);
}

static void count_inode(struct check *check, struct bytes key, struct bytes value)
{
	(void)key;
	(void)value;
	check->count++;
}

static void note_inode(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key);

	(void)value;
	check->tallies[check->count++] = (struct tally){ .ino = unpack_key64(&unpack) };
}

static void check_dirent(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key), row = unpack_begin(value);
	uint64_t parent = unpack_key64(&unpack), cookie = unpack_key64(&unpack), ino = unpack_u64(&row);
	struct bytes name = unpack_bytes(&unpack, (size_t)(unpack.end - unpack.at));
	uint32_t type = (uint32_t)unpack_u8(&row) << 12;
	struct tally *dir = tally_of(check, parent), *tally = tally_of(check, ino);
	struct inode inode;

	if (!dir)
		fault(check, "an entry in directory %" PRIx64 ", which does not exist", parent);
	if (cookie != dirent_cookie(check->state, name))
		fault(check, "an entry in directory %" PRIx64 " stands under the wrong hash", parent);
	if (!tally || inode_load(check->state->view, ino, &inode) < 0) {
		fault(check, "directory %" PRIx64 " names inode %" PRIx64 ", which does not exist", parent, ino);
		return;
	}
	if ((inode.mode & S_IFMT) != type)
		fault(check, "directory %" PRIx64 " has the wrong type for inode %" PRIx64, parent, ino);
	tally->links++;
	tally->named_in = parent;
	if (dir) {
		dir->entries++;
		dir->subdirs += inode_is_dir(&inode);
	}
}

static void check_links(struct check *check, const struct inode *inode, const struct tally *tally)
{
	uint64_t names = inode->ino == INODE_ROOT ? 1 : tally->links;
	uint64_t expected = inode_is_dir(inode) ? (names > 0 ? 2 + tally->subdirs : 0) : names;

	if (inode->nlink != expected)
		fault(check, "inode %" PRIx64 " says %" PRIu32 " links, but there are %" PRIu64, inode->ino,
		      inode->nlink, expected);
	if (!inode_is_dir(inode))
		return;
	if (names > 1)
		fault(check, "directory %" PRIx64 " has %" PRIu64 " names", inode->ino, names);
	if (inode->entries != tally->entries)
		fault(check, "directory %" PRIx64 " says %" PRIu64 " entries, but there are %" PRIu64, inode->ino,
		      inode->entries, tally->entries);
	if (inode->ino != INODE_ROOT && names == 1 && inode->parent != tally->named_in)
		fault(check, "directory %" PRIx64 " says its parent is %" PRIx64 ", but it is in %" PRIx64, inode->ino,
		      inode->parent, tally->named_in);
}

static void check_above(struct check *check, const struct inode *inode)
{
	struct inode at = *inode;
	unsigned int depth = 0;

	while (at.ino != INODE_ROOT && depth++ < DEPTH_MAX) {
		if (inode_load(check->state->view, at.parent, &at) < 0) {
			fault(check, "the way up from directory %" PRIx64 " ends", inode->ino);
			return;
		}
	}
	if (depth > DEPTH_MAX)
		fault(check, "directory %" PRIx64 " is in a ring", inode->ino);
}

static void check_inode(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key);
	uint64_t ino = unpack_key64(&unpack), orphan;
	struct view *view = check->state->view;
	const struct meta *meta = &check->state->meta;
	struct bytes sessions;
	struct inode inode;
	uint32_t xattrs, xattr_bytes;
	bool is_orphan = orphan_from(view, ino, &orphan, &sessions) == 0 && orphan == ino;

	inode_decode(ino, value, &inode);
	check_links(check, &inode, tally_of(check, ino));
	if (is_orphan != (inode.nlink == 0))
		fault(check, "inode %" PRIx64 " has %" PRIu32 " links and is %s orphan", ino, inode.nlink,
		      is_orphan ? "an" : "no");
	if (inode_is_dir(&inode) && inode.nlink > 0)
		check_above(check, &inode);
	xattr_count(view, ino, &xattrs, &xattr_bytes);
	if (xattrs != inode.xattr_count || xattr_bytes != inode.xattr_bytes)
		fault(check, "inode %" PRIx64 " says %" PRIu32 " xattrs, but there are %" PRIu32, ino,
		      inode.xattr_count, xattrs);
	if (ino >= meta->reserved || inode.gen >= meta->reserved)
		fault(check, "inode %" PRIx64 " has a number that was never reserved", ino);
}

static void check_xattr(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key);
	uint64_t ino = unpack_key64(&unpack);

	(void)value;
	if (!tally_of(check, ino))
		fault(check, "an xattr of inode %" PRIx64 ", which does not exist", ino);
}

static void check_slot(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key);
	uint64_t session = unpack_key64(&unpack);
	struct session_row row;

	(void)value;
	if (session_get(check->state->view, session, &row) < 0)
		fault(check, "a slot of session %" PRIx64 ", which does not exist", session);
}

static void check_orphan(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key), holders = unpack_begin(value);
	uint64_t ino = unpack_key64(&unpack);
	struct session_row row;

	if (!tally_of(check, ino))
		fault(check, "orphan %" PRIx64 " does not exist", ino);
	while (!unpack_is_done(&holders)) {
		uint64_t session = unpack_u64(&holders);

		if (session_get(check->state->view, session, &row) < 0)
			fault(check, "orphan %" PRIx64 " is held by session %" PRIx64 ", which does not exist", ino,
			      session);
	}
}

static void check_destroy(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key);
	uint64_t ino = unpack_key64(&unpack), gen = unpack_key64(&unpack);
	struct inode inode;

	(void)value;
	if (inode_load(check->state->view, ino, &inode) == 0 && inode.gen == gen)
		fault(check, "the content (%" PRIx64 ", %" PRIx64 ") lives and is in the destroy queue", ino, gen);
}

static void check_cut(struct check *check, struct bytes key, struct bytes value)
{
	struct unpack unpack = unpack_begin(key);
	uint64_t ino = unpack_key64(&unpack);
	struct cut_row row;
	struct inode inode;

	(void)value;
	if (cut_get(check->state->view, ino, &row) < 0 || inode_load(check->state->view, ino, &inode) < 0 ||
	    !inode_has_objects(&inode) || inode.gen != row.gen || inode.cut != row.number)
		fault(check, "a pending cut of inode %" PRIx64 " that is not its latest", ino);
}

int64_t state_check(struct state *state, void (*report)(void *arg, const char *text), void *arg)
{
	struct check check = { .state = state, .report = report, .arg = arg };
	uint64_t orphans = 0;
	struct bytes sessions;

	each_row(&check, TABLE_INODE, count_inode);
	check.tallies = calloc(check.count + 1, sizeof(*check.tallies));
	if (!check.tallies)
		return -ENOMEM;
	check.count = 0;
	each_row(&check, TABLE_INODE, note_inode);
	each_row(&check, TABLE_DIRENT, check_dirent);
	each_row(&check, TABLE_INODE, check_inode);
	each_row(&check, TABLE_XATTR, check_xattr);
	each_row(&check, TABLE_SLOT, check_slot);
	each_row(&check, TABLE_ORPHAN, check_orphan);
	each_row(&check, TABLE_DESTROY, check_destroy);
	each_row(&check, TABLE_CUT, check_cut);

	for (uint64_t ino = 0; orphan_from(state->view, ino, &ino, &sessions) == 0; ino++)
		orphans++;
	if (orphans != state->meta.orphans)
		fault(&check, "there are %" PRIu64 " orphans, but %" PRIu64 " were counted", orphans,
		      state->meta.orphans);
	if (check.count != state->meta.inodes)
		fault(&check, "there are %zu inodes, but %" PRIu64 " were counted", check.count, state->meta.inodes);
	if (!tally_of(&check, INODE_ROOT))
		fault(&check, "there is no root");
	free(check.tallies);
	return check.faults;
}
