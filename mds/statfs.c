/* STATFS: the room on the OSTs, as the cluster map tells it, and for inodes on the MDT's disk. */
#include "mds/query.h"

#define INODE_DISK_BYTES 1024 /* what an inode with its name takes there, roughly */

int statfs_query(struct query *query, const ProtobufCMessage *message)
{
	const struct layout_chooser *chooser = query->with->chooser;
	Strake__StatfsReply *reply = &query->answer->as.statfs;
	uint64_t objects_free = 0, inodes_free;

	(void)message;
	strake__statfs_reply__init(reply);
	for (size_t i = 0; i < chooser->count; i++) {
		reply->bytes_total += chooser->osts[i].bytes_total;
		reply->bytes_free += chooser->osts[i].bytes_free;
		objects_free += chooser->osts[i].objects_free;
	}
	inodes_free = query->with->disk_free > ADMIT_RESERVE
			      ? (query->with->disk_free - ADMIT_RESERVE) / INODE_DISK_BYTES
			      : 0;
	reply->files_free = chooser->count > 0 && objects_free < inodes_free ? objects_free : inodes_free;
	reply->files_total = query->state->meta.inodes + reply->files_free;
	query->answer->body = &reply->base;
	return 0;
}
