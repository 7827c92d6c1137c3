/*
 * Room for one answer as a protobuf message, and how an inode becomes an Attr in it. Lives on the asker's stack; only its
 * first lines are initialised. What it points to is borrowed from the state, so it is packed or sent before the state
 * changes.
 */
#ifndef STRAKE_MDS_ANSWER_H
#define STRAKE_MDS_ANSWER_H

#include "common/arena.h"
#include "mds/inode.h"
#include "proto/fsck.pb-c.h"
#include "proto/mds.pb-c.h"

#define ANSWER_ATTRS 4

struct answer_attr {
	Strake__Attr attr;
	Strake__Cut cut;
	Strake__Layout layout;
};

struct answer {
	const ProtobufCMessage *body; /* one of the union, or NULL: empty */
	size_t attr_count;
	uint64_t cut_index; /* the newest record that made a cut which the answer tells of; 0: it tells of none */
	bool unfenced;      /* a session that was lost may write yet: admission's */
	bool has_arena;     /* more room (readdir, xattrs) */
	struct arena arena;
	union {
		Strake__EntryReply entry;
		Strake__AttrReply attr;
		Strake__RenameReply rename;
		Strake__ReadlinkReply readlink;
		Strake__ReaddirReply readdir;
		Strake__GetxattrReply getxattr;
		Strake__ListxattrReply listxattr;
		Strake__StatfsReply statfs;
		Strake__LockReply lock;
		Strake__SessionOpenReply session_open;
		Strake__SessionRenewReply session_renew;
		Strake__FsckEntriesReply fsck_entries;
		Strake__FsckInodesReply fsck_inodes;
	} as;
	struct answer_attr attrs[ANSWER_ATTRS];
	uint32_t osts[ANSWER_ATTRS][LAYOUT_STRIPES_MAX];
};

void answer_init(struct answer *answer, bool unfenced);
void answer_release(struct answer *answer);

/* Begin a body of that kind and make it the answer. */
Strake__EntryReply *answer_entry(struct answer *answer);
Strake__AttrReply *answer_attr(struct answer *answer);
Strake__RenameReply *answer_rename(struct answer *answer);

/* An inode as the answer tells it; unsure: others may be writing it now. At most ANSWER_ATTRS in one answer. */
Strake__Attr *answer_inode(struct answer *answer, const struct inode *inode, bool unsure);

/* The same in other memory; osts has room for as many as the inode's layout has. */
void answer_fill_attr(struct answer *answer, struct answer_attr *out, uint32_t *osts, const struct inode *inode,
		      bool unsure);

/* What an inode was before a change, so that a cache which was right stays right. */
struct answer_before {
	uint64_t version, data_version;
	int64_t mtime_ns;
};

static inline struct answer_before answer_before(const struct inode *inode)
{
	return (struct answer_before){ inode->version, inode->data_version, inode->mtime_ns };
}

/* Make an AttrReply the answer: the inode as it is now, and what it was. */
void answer_changed(struct answer *answer, const struct inode *inode, bool unsure, const struct answer_before *before);

/* Memory as long as the answer lives; NULL when there is none, or over the bound of one frame. */
void *answer_alloc(struct answer *answer, size_t size);

#endif
