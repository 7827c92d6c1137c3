/*
 * ATIMES: inodes were read. Only the time of access changes, and only forwards; whoever has set it since the reader last
 * looked is right. Neither version nor ctime: nothing that anybody keeps of the inode is old by that.
 */
#include "mds/apply.h"

int atimes_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__AtimesRequest *request = (const void *)message;
	struct inode inode;

	for (size_t i = 0; i < request->n_ino; i++) {
		if (inode_load(change->view, request->ino[i], &inode) < 0 || inode.atime_ns != request->seen_ns[i] ||
		    request->atime_ns[i] <= inode.atime_ns)
			continue;
		inode.atime_ns = request->atime_ns[i];
		inode_store(change->view, &inode);
	}
	return 0;
}
