/*
 * RENAME: a name moves, replaces another, or two change places (RENAME_EXCHANGE); where it was a whiteout may stay
 * (RENAME_WHITEOUT).
 *
 * Nothing is keyed by path, so a directory moves with all that is below it by two rows. That it does not move below
 * itself is checked up the tree: a directory's row has its parent.
 */
#include "mds/alone.h"
#include "mds/apply.h"
#include "mds/names.h"
#include "mds/orphan.h"

#include "common/logger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h> /* RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT */

/* Both ends of a rename. The directories are one and the same struct when the name stays in its directory. */
struct rename_ends {
	struct inode dirs[2];
	struct inode *from_dir, *to_dir;
	struct inode source, target;
	bool has_target, exchange;
};

/* Is ino the directory `below`, or above it? */
static bool is_above(struct view *view, uint64_t ino, uint64_t below)
{
	struct inode dir;

	for (uint64_t at = below; at != ino; at = dir.parent) {
		if (inode_load(view, at, &dir) < 0)
			logger_die("the MDT's state is damaged: inode %" PRIx64 ", above directory %" PRIx64
				   ", does not exist",
				   at, below);
		if (dir.parent == at || dir.nlink == 0) /* the root; or removed, and only open still */
			return false;
	}
	return true;
}

/* What leads nowhere whoever asks. 1: source and target are one inode, so there is nothing to do. */
static int check_shape(const struct change *change, const struct rename_ends *ends, unsigned int flags)
{
	bool moves = ends->from_dir != ends->to_dir;

	if (ends->has_target && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (!ends->has_target && ends->exchange)
		return -ENOENT;
	if (moves && inode_is_dir(&ends->source) && is_above(change->view, ends->source.ino, ends->to_dir->ino))
		return -EINVAL;
	if (moves && ends->has_target && inode_is_dir(&ends->target) &&
	    is_above(change->view, ends->target.ino, ends->from_dir->ino))
		return ends->exchange ? -EINVAL : -ENOTEMPTY;
	if (ends->has_target && ends->source.ino == ends->target.ino)
		return 1;
	return ends->to_dir->nlink == 0 ? -ENOENT : 0;
}

/* A directory that gets another parent is changed itself ("..") and needs write permission. */
static int check_moved_dir(struct view *view, const Strake__Cred *cred, const struct rename_ends *ends,
			   const struct inode *inode)
{
	if (ends->from_dir == ends->to_dir || !inode_is_dir(inode))
		return 0;
	return access_check(view, cred, inode, W_OK);
}

static int check_permissions(struct view *view, const Strake__Cred *cred, const struct rename_ends *ends)
{
	int err;

	err = access_remove(view, cred, ends->from_dir, &ends->source);
	if (err < 0)
		return err;
	if (ends->has_target)
		err = access_remove(view, cred, ends->to_dir, &ends->target);
	else
		err = access_check(view, cred, ends->to_dir, W_OK | X_OK);
	if (err < 0)
		return err;
	if (ends->has_target && !ends->exchange) {
		if (inode_is_dir(&ends->source) && !inode_is_dir(&ends->target))
			return -ENOTDIR;
		if (!inode_is_dir(&ends->source) && inode_is_dir(&ends->target))
			return -EISDIR;
	}
	err = check_moved_dir(view, cred, ends, &ends->source);
	if (err < 0)
		return err;
	return ends->exchange ? check_moved_dir(view, cred, ends, &ends->target) : 0;
}

/* May a whiteout be made? It is no device, so anybody may who may make something there. */
static int check_whiteout(const struct change *change, const Strake__Cred *cred)
{
	if (!access_is_id(cred->uid) || !access_is_id(cred->gid))
		return -EINVAL;
	return change_is_fact(change, FACT_NO_SPACE) ? -ENOSPC : 0;
}

/* A directory's ".." goes from one parent to the other. */
static int move_link(struct inode *from, struct inode *to)
{
	if (from == to)
		return 0;
	if (to->nlink >= INODE_LINKS_MAX)
		return -EMLINK;
	from->nlink--;
	to->nlink++;
	return 0;
}

/* Links of both directories after it. Changes the structs only. */
static int count_links(struct rename_ends *ends)
{
	bool source_dir = inode_is_dir(&ends->source);
	bool target_dir = ends->has_target && inode_is_dir(&ends->target);

	if (ends->exchange) {
		if (source_dir == target_dir)
			return 0;
		return source_dir ? move_link(ends->from_dir, ends->to_dir) : move_link(ends->to_dir, ends->from_dir);
	}
	if (target_dir)
		ends->to_dir->nlink--; /* of the empty directory that is replaced */
	return source_dir ? move_link(ends->from_dir, ends->to_dir) : 0;
}

static void store_moved(struct change *change, struct inode *inode, const struct inode *dir)
{
	if (inode_is_dir(inode))
		inode->parent = dir->ino;
	change_touch_names(change, inode);
}

/* The old name goes, or is a whiteout's. */
static void leave_name(struct change *change, const Strake__RenameRequest *request, struct inode *dir)
{
	struct bytes name = name_of(request->name);
	struct inode whiteout;

	if (!(request->flags & RENAME_WHITEOUT)) {
		dirent_del(change->state, dir->ino, name);
		dir->entries--;
		return;
	}
	create_whiteout(change, request->cred, dir, &whiteout);
	change_touch_names(change, &whiteout);
	dirent_put(change->state, dir->ino, name, whiteout.ino, whiteout.mode);
}

static void rename_change(struct change *change, const Strake__RenameRequest *request, struct rename_ends *ends)
{
	struct state *state = change->state;
	struct bytes from = name_of(request->name), to = name_of(request->new_name);

	if (ends->exchange) {
		dirent_put(state, ends->from_dir->ino, from, ends->target.ino, ends->target.mode);
		store_moved(change, &ends->target, ends->from_dir);
	} else {
		leave_name(change, request, ends->from_dir);
		if (!ends->has_target) {
			ends->to_dir->entries++;
		} else if (inode_is_dir(&ends->target) || ends->target.nlink == 1) {
			orphan_make(change, &ends->target);
		} else {
			ends->target.nlink--;
			change_touch_names(change, &ends->target);
		}
	}
	dirent_put(state, ends->to_dir->ino, to, ends->source.ino, ends->source.mode);
	store_moved(change, &ends->source, ends->to_dir);

	change_touch_dir(change, ends->from_dir);
	if (ends->to_dir != ends->from_dir)
		change_touch_dir(change, ends->to_dir);
}

int rename_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__RenameRequest *request = (const void *)message;
	struct rename_ends ends = { .exchange = (request->flags & RENAME_EXCHANGE) != 0 };
	Strake__RenameReply *reply;
	uint64_t name_version_before, from_version_before, to_version_before;
	int err;

	ends.from_dir = ends.to_dir = &ends.dirs[0];
	err = names_dir(change->state, request->cred, request->parent, ends.from_dir);
	if (err < 0)
		return err;
	if (request->new_parent != request->parent) {
		ends.to_dir = &ends.dirs[1];
		err = names_dir(change->state, request->cred, request->new_parent, ends.to_dir);
		if (err < 0)
			return err;
	}
	err = names_find(change->state, ends.from_dir->ino, name_of(request->name), &ends.source);
	if (err < 0)
		return err;
	ends.has_target = names_find(change->state, ends.to_dir->ino, name_of(request->new_name), &ends.target) == 0;

	name_version_before = ends.source.name_version;
	from_version_before = ends.from_dir->version;
	to_version_before = ends.to_dir->version;
	err = check_shape(change, &ends, request->flags);
	if (err < 0)
		return err;
	if (err == 0) {
		err = check_permissions(change->view, request->cred, &ends);
		if (err < 0)
			return err;
		if (!ends.exchange && ends.has_target && inode_is_dir(&ends.target) && ends.target.entries > 0)
			return -ENOTEMPTY;
		if (request->flags & RENAME_WHITEOUT)
			err = check_whiteout(change, request->cred);
		if (err == 0)
			err = count_links(&ends);
		if (err < 0)
			return err;
		rename_change(change, request, &ends);
	}

	reply = answer_rename(change->answer);
	reply->attr = answer_inode(change->answer, &ends.source, change_is_fact(change, FACT_ATTR_UNSURE));
	if (ends.has_target)
		reply->replaced =
			answer_inode(change->answer, &ends.target, change_is_fact(change, FACT_REPLACED_UNSURE));
	reply->parent_attr = answer_inode(change->answer, ends.from_dir, false);
	reply->has_parent_version_before = 1;
	reply->parent_version_before = from_version_before;
	if (ends.to_dir != ends.from_dir) {
		reply->new_parent_attr = answer_inode(change->answer, ends.to_dir, false);
		reply->has_new_parent_version_before = 1;
		reply->new_parent_version_before = to_version_before;
	}
	if (change_is_fact(change, FACT_ALONE)) {
		reply->has_alone_ms = 1;
		reply->alone_ms = ALONE_MS;
	}
	reply->has_name_version_before = 1;
	reply->name_version_before = name_version_before;
	return 0;
}
