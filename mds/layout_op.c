/*
 * LAYOUT: fix the OSTs of a file, or set how a directory's or an unwritten file's shall be striped.
 *
 * `like`: an unwritten file gets stripes and OSTs of another file, so that these can copy between the two. Only where all of
 * them still take new files: a copy must not fail for want of room where a write would not.
 *
 * A file made while OSTs were known has them from its creation (create.c). One that is striped anew gets a new gen with
 * them: whoever still writes by the old layout is told so by the OSTs (the old content is destroyed).
 */
#include "mds/access.h"
#include "mds/apply.h"
#include "mds/destroy.h"

#include <errno.h>
#include <string.h>

static bool is_written(const struct change *change, const struct inode *inode)
{
	return inode->size > 0 || inode->blocks > 0 || inode->cut > 0 || (inode->flags & INODE_SIZE_UNSURE) ||
	       change_is_fact(change, FACT_ATTR_UNSURE);
}

static int check_layout(const struct change *change, const Strake__LayoutRequest *request, const struct inode *inode)
{
	int err;

	if (!inode_is_file(inode) && !inode_is_dir(inode))
		return -EINVAL;
	if (request->like) {
		if (!inode_is_file(inode))
			return -EINVAL;
		if (!change_is_fact(change, FACT_OPEN_WRITE)) {
			err = access_check(change->view, request->cred, inode, W_OK);
			if (err < 0)
				return err;
		}
		return is_written(change, inode) ? -EBUSY : 0;
	}
	if (request->set) {
		err = access_owner(request->cred, inode);
		if (err == 0)
			err = access_unsealed(inode);
		if (err < 0)
			return err;
		return inode_is_file(inode) && is_written(change, inode) ? -EBUSY : 0;
	}
	if (inode_is_dir(inode))
		return -EISDIR;
	if (inode->layout.ost_count == 0 && change->record->ost_count == 0)
		return change_is_fact(change, FACT_OSTS_FULL) ? -ENOSPC : -EAGAIN;
	return 0;
}

static void fix_osts(const struct change *change, struct layout *layout)
{
	const struct record *record = change->record;

	layout->ost_count = record->ost_count;
	if (record->ost_count > 0)
		layout->stripe_count = record->ost_count;
	memcpy(layout->ost_indices, record->osts, record->ost_count * sizeof(*record->osts));
}

/* It has no bytes, but may have had some by writes that nobody has told of: they go with the old gen. */
static void renew(struct change *change, struct inode *inode)
{
	destroy_content(change, inode);
	if (inode_has_objects(inode)) {
		inode->gen = change->record->number;
		inode->data_version = change->index;
	}
}

int layout_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__LayoutRequest *request = (const void *)message;
	struct inode inode, like;
	struct answer_before before;
	int err;

	err = inode_load(change->view, request->ino, &inode);
	if (err < 0)
		return err;
	err = check_layout(change, request, &inode);
	if (err < 0)
		return err;
	if (request->like) {
		err = inode_load(change->view, request->like, &like);
		if (err < 0)
			return err;
		if (!inode_is_file(&like) || !inode_has_objects(&like))
			return -EINVAL;
		if (change_is_fact(change, FACT_OSTS_FULL))
			return -EXDEV;
	}

	before = answer_before(&inode);
	if (request->like) {
		renew(change, &inode);
		inode.layout = like.layout;
		change_touch(change, &inode);
	} else if (request->set) {
		renew(change, &inode);
		inode.layout.stripe_size = request->set->stripe_size;
		inode.layout.stripe_count = request->set->stripe_count;
		if (inode_is_file(&inode))
			fix_osts(change, &inode.layout);
		change_touch(change, &inode);
	} else if (inode.layout.ost_count == 0) {
		fix_osts(change, &inode.layout);
		change_store(change, &inode);
	}

	answer_changed(change->answer, &inode, change_is_fact(change, FACT_ATTR_UNSURE), &before);
	return 0;
}
