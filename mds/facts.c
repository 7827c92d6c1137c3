#include "mds/facts.h"

#include "mds/cut.h"
#include "mds/destroy.h"
#include "mds/dirent.h"
#include "mds/inode.h"
#include "mds/orphan.h"
#include "mds/pack.h"
#include "mds/sessions.h"
#include "mds/void.h"
#include "mds/xattr.h"

#include <errno.h>
#include <string.h>

static const enum view_table tables[FACTS_TABLES] = {
	[FACTS_INODE] = TABLE_INODE,     [FACTS_ORPHAN] = TABLE_ORPHAN, [FACTS_CUT] = TABLE_CUT,
	[FACTS_DESTROY] = TABLE_DESTROY, [FACTS_XATTR] = TABLE_XATTR,
};

void facts_begin(struct state *state, uint64_t from, struct facts_walk *ret_walk)
{
	struct facts_walk *walk = ret_walk;
	uint8_t key[8];

	walk->state = state;
	for (int i = 0; i < FACTS_TABLES; i++)
		walk->open[i] = view_seek(state->view, tables[i], key_of(key, from), &walk->cursors[i]) == 0;
}

void facts_end(struct facts_walk *walk)
{
	for (int i = 0; i < FACTS_TABLES; i++) {
		if (walk->open[i])
			view_cursor_end(&walk->cursors[i]);
		walk->open[i] = false;
	}
}

/* Every key begins with the inode's number. */
static bool stands_on(const struct facts_walk *walk, enum facts_table table, uint64_t ino)
{
	struct unpack key;

	if (!walk->open[table])
		return false;
	key = unpack_begin(walk->cursors[table].key);
	return unpack_key64(&key) == ino;
}

static void advance(struct facts_walk *walk, enum facts_table table)
{
	walk->open[table] = view_next(&walk->cursors[table]) == 0;
}

/* The lowest number that any of the tables stands on. -ENOENT: none stands. */
static int lowest(const struct facts_walk *walk, uint64_t *ret_ino)
{
	int err = -ENOENT;

	*ret_ino = UINT64_MAX;
	for (int i = 0; i < FACTS_TABLES; i++) {
		struct unpack key;
		uint64_t ino;

		if (!walk->open[i])
			continue;
		key = unpack_begin(walk->cursors[i].key);
		ino = unpack_key64(&key);
		if (ino < *ret_ino)
			*ret_ino = ino;
		err = 0;
	}
	return err;
}

static void take_osts(struct fsck_osts *osts, const uint16_t *index, uint32_t count)
{
	osts->count = count;
	memcpy(osts->index, index, count * sizeof(*index));
}

/*
 * Going up from a directory, does one never come to the root? In every ring there is a directory below one with a higher
 * number, so it is enough to go up from those. (Brent: the hare stops where the tortoise waits when they run in a ring.)
 */
static bool way_is_lost(struct view *view, const struct inode *dir)
{
	uint64_t tortoise = dir->ino, steps = 0, wait = 1;
	struct inode hare = *dir;

	if (dir->ino == INODE_ROOT || dir->nlink == 0 || dir->parent < dir->ino)
		return false;
	while (hare.ino != INODE_ROOT) {
		if (inode_load(view, hare.parent, &hare) < 0 || hare.ino == tortoise)
			return true;
		if (++steps == wait) {
			tortoise = hare.ino;
			wait *= 2;
			steps = 0;
		}
	}
	return false;
}

static bool is_never_given(struct state *state, uint64_t number)
{
	return number > state->meta.given || number_is_void(state->view, number);
}

static void take_inode(struct state *state, const struct inode *inode, struct fsck_inode *facts)
{
	facts->exists = true;
	facts->gen = inode->gen;
	facts->mode = inode->mode;
	facts->nlink = inode->nlink;
	facts->size = inode->size;
	facts->version = inode->version;
	facts->parent = inode->parent;
	facts->entries = inode->entries;
	facts->cut = inode->cut;
	facts->size_unsure = (inode->flags & INODE_SIZE_UNSURE) != 0;
	facts->linkable = (inode->flags & INODE_LINKABLE) != 0;
	facts->never_given = is_never_given(state, inode->ino) || is_never_given(state, inode->gen);
	facts->way_is_lost = inode_is_dir(inode) && way_is_lost(state->view, inode);
	facts->layout.stripe_size = inode->layout.stripe_size;
	facts->layout.stripe_count = inode->layout.stripe_count;
	facts->layout.ost_count = inode->layout.ost_count;
	memcpy(facts->layout.ost_indices, inode->layout.ost_indices,
	       inode->layout.ost_count * sizeof(*inode->layout.ost_indices));
}

static void take_orphan(struct state *state, struct bytes sessions, struct fsck_inode *facts)
{
	struct unpack unpack = unpack_begin(sessions);
	struct session_row row;

	facts->orphan = true;
	for (; unpack.at < unpack.end && !unpack.bad; facts->holders++) {
		if (session_get(state->view, unpack_u64(&unpack), &row) < 0)
			facts->holders_unknown++;
	}
}

static void take_cut(struct state *state, struct fsck_inode *facts)
{
	struct cut_row row;

	if (cut_get(state->view, facts->ino, &row) < 0)
		return;
	facts->cut_pending = true;
	facts->pending_gen = row.gen;
	facts->pending_number = row.number;
	take_osts(&facts->cut_awaited, row.osts, row.ost_count);
}

static void take_destroy(struct state *state, struct bytes bytes, struct fsck_inode *facts)
{
	struct unpack key = unpack_begin(bytes);
	struct destroy_row row;

	(void)unpack_key64(&key);
	if (facts->destroy_count == FSCK_DESTROYS_MAX) {
		facts->destroys_cut_off = true;
		return;
	}
	if (destroy_get(state->view, facts->ino, unpack_key64(&key), &row) < 0)
		return;
	facts->destroys[facts->destroy_count].gen = row.gen;
	take_osts(&facts->destroys[facts->destroy_count++].awaited, row.osts, row.ost_count);
}

static uint32_t acl_flag_of(struct bytes key)
{
	char name[XATTR_NAME_LEN_MAX + 1];
	size_t size = key.size - sizeof(uint64_t);
	enum acl_kind kind;

	if (size > XATTR_NAME_LEN_MAX)
		return 0;
	memcpy(name, (const uint8_t *)key.data + sizeof(uint64_t), size);
	name[size] = '\0';
	if (!acl_kind_of(name, &kind))
		return 0;
	return kind == ACL_ACCESS ? INODE_ACL_ACCESS : INODE_ACL_DEFAULT;
}

/* The xattrs of a number, against what its inode (NULL: there is none) says of them. */
static void take_xattrs(struct facts_walk *walk, const struct inode *inode, struct fsck_inode *facts)
{
	const struct view_cursor *cursor = &walk->cursors[FACTS_XATTR];
	const uint32_t acl_flags = INODE_ACL_ACCESS | INODE_ACL_DEFAULT;
	uint64_t count = 0, name_bytes = 0;
	uint32_t flags = 0;

	for (; stands_on(walk, FACTS_XATTR, facts->ino); advance(walk, FACTS_XATTR)) {
		count++;
		name_bytes += cursor->key.size - sizeof(facts->ino) + 1;
		flags |= acl_flag_of(cursor->key);
	}
	facts->xattrs_differ = inode ? count != inode->xattr_count || name_bytes != inode->xattr_bytes ||
					       flags != (inode->flags & acl_flags)
				     : count > 0;
}

int facts_next(struct facts_walk *walk, struct fsck_inode *ret_inode)
{
	struct state *state = walk->state;
	struct fsck_inode *facts = ret_inode;
	struct inode inode;
	uint64_t ino;

	if (lowest(walk, &ino) < 0)
		return -ENOENT;
	fsck_inode_init(facts, ino);
	if (stands_on(walk, FACTS_INODE, ino)) {
		inode_decode(ino, walk->cursors[FACTS_INODE].value, &inode);
		take_inode(state, &inode, facts);
		advance(walk, FACTS_INODE);
	}
	if (stands_on(walk, FACTS_ORPHAN, ino)) {
		take_orphan(state, walk->cursors[FACTS_ORPHAN].value, facts);
		advance(walk, FACTS_ORPHAN);
	}
	if (stands_on(walk, FACTS_CUT, ino)) {
		take_cut(state, facts);
		advance(walk, FACTS_CUT);
	}
	for (; stands_on(walk, FACTS_DESTROY, ino); advance(walk, FACTS_DESTROY))
		take_destroy(state, walk->cursors[FACTS_DESTROY].key, facts);
	take_xattrs(walk, facts->exists ? &inode : NULL, facts);
	return 0;
}

int facts_count_entries(struct state *state, uint64_t ino, uint64_t max, struct fsck_entries *ret_entries)
{
	struct fsck_entries entries = { 0 };
	struct dirent_walk walk;
	struct dirent_row row;
	int err = dirent_walk_begin(state, ino, 0, &walk, &row);

	for (; err == 0 && entries.count <= max; err = dirent_walk_next(&walk, &row)) {
		entries.count++;
		entries.subdirs += S_ISDIR(row.type);
	}
	dirent_walk_end(&walk);
	if (entries.count > max)
		return -E2BIG;
	*ret_entries = entries;
	return 0;
}
