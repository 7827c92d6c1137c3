/*
 * SIZE: what a writer says of a file after its data is on the OSTs, and RECORD_UNSURE: that a writer was lost before it
 * could.
 *
 *   - A report of another gen or cut than the inode's is of bytes that are void: -ESTALE.
 *   - The end of data is merged by maximum. A writer knows only some OSTs' blocks: it tells by how many they have grown,
 *     and all writers' add up, to no more than the file can have; but while others may be writing it what one tells may
 *     be of bytes that they have yet to report, behind the end that is known. A report that is not a writer's comes from
 *     all OSTs: its blocks are exact, and it ends the doubt about the size, unless somebody who was lost may write yet, or
 *     might have when they were asked; a writer may have asked them, too.
 *   - data_version: a writer's report changes it, and so does what a lost writer may have written: when it is lost, when
 *     the doubt ends, and when bytes are found that nobody has reported.
 *   - mtime is the record's time less the report's age, unless somebody has set it since that write.
 */
#include "mds/access.h"
#include "mds/apply.h"
#include "mds/xattr.h"

#include "proto/mdt_record.pb-c.h"

#include <errno.h>

static void set_written(const struct change *change, const Strake__SizeRequest *request, struct inode *inode)
{
	int64_t age_ns = request->age_ns < (uint64_t)change->now_ns ? (int64_t)request->age_ns : change->now_ns;
	int64_t written_ns = change->now_ns - age_ns;

	if (inode->mtime_set_ns != 0 && written_ns > inode->mtime_set_ns) {
		inode->mtime_ns = written_ns;
		inode->mtime_set_ns = 0;
	} else if (inode->mtime_set_ns == 0 && written_ns > inode->mtime_ns) {
		inode->mtime_ns = written_ns;
	}
	if (written_ns > inode->ctime_ns)
		inode->ctime_ns = written_ns;
}

static uint64_t blocks_written(const struct change *change, const Strake__SizeRequest *request,
			       const struct inode *inode)
{
	uint64_t full = (inode->size + 4095) / 4096 * 8, before = inode->blocks, now;

	if (request->exact)
		return request->blocks;
	if (!request->has_grown)
		return request->blocks > before ? request->blocks : before;
	if (request->grown < 0)
		return before > -(uint64_t)request->grown ? before - -(uint64_t)request->grown : 0;
	now = before + (uint64_t)request->grown;
	if (now > full && !change_is_fact(change, FACT_ATTR_UNSURE))
		now = full > before ? full : before;
	return now;
}

/* Whoever was lost is fenced, and was when the OSTs were asked: since then nobody else was lost who had it open. */
static bool ends_doubt(const struct change *change, const Strake__SizeRequest *request, const struct inode *inode)
{
	if (change_is_fact(change, FACT_UNFENCED))
		return false;
	return !request->has_asked_data_version || request->asked_data_version == inode->data_version;
}

int size_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__SizeRequest *request = (const void *)message;
	struct inode inode;
	struct answer_before before;
	bool ends;
	int err;

	err = inode_load(change->view, request->ino, &inode);
	if (err < 0)
		return err;
	if (!inode_is_file(&inode))
		return -EINVAL;
	if (request->gen != inode.gen || request->cut != inode.cut)
		return -ESTALE;
	if (request->end > LAYOUT_FILE_SIZE_MAX)
		return -EFBIG;

	/* Who asked the OSTs may have asked too early: he asks again. */
	ends = ends_doubt(change, request, &inode);
	if (!request->wrote && !request->exact && (inode.flags & INODE_SIZE_UNSURE) && !ends)
		return -EBUSY;

	before = answer_before(&inode);
	if (request->wrote || request->end > inode.size || (inode.flags & INODE_SIZE_UNSURE))
		inode.data_version = change->index;
	if (request->end > inode.size)
		inode.size = request->end;
	if (request->wrote) {
		inode.blocks = blocks_written(change, request, &inode);
		set_written(change, request, &inode);
	} else {
		inode.blocks = request->blocks;
		if (ends)
			inode.flags &= ~(uint32_t)INODE_SIZE_UNSURE;
	}
	/* Writers have no credentials here; that it must be done is the client's word. */
	if (request->kill_suid) {
		inode.mode = access_mode_without_privileges(&inode, !request->kill_sgid);
		xattr_drop_capability(change, &inode);
	}
	change_store(change, &inode);

	answer_changed(change->answer, &inode, change_is_fact(change, FACT_ATTR_UNSURE), &before);
	return 0;
}

int unsure_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__UnsureRecord *record = (const void *)message;
	struct inode inode;

	for (size_t i = 0; i < record->n_ino; i++) {
		if (inode_load(change->view, record->ino[i], &inode) < 0 || !inode_is_file(&inode))
			continue;
		inode.flags |= INODE_SIZE_UNSURE;
		inode.data_version = change->index;
		change_store(change, &inode);
	}
	return 0;
}

/* Nothing: it is for a start, which has to know what was being written (writers.c). */
int writers_apply(struct change *change, const ProtobufCMessage *message)
{
	(void)change, (void)message;
	return 0;
}
