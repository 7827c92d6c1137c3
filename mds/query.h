/*
 * Queries: operations that change nothing. One function each, in the files named below; they read the state as it is and
 * are answered at once.
 */
#ifndef STRAKE_MDS_QUERY_H
#define STRAKE_MDS_QUERY_H

#include "mds/admit.h"
#include "mds/answer.h"

struct query {
	const struct admission *with; /* state and volatile tables */
	struct state *state;
	uint64_t session;  /* of the asker; 0: none */
	uint64_t instance; /* of the MDT */
	int64_t now_ns;    /* its time */
	struct answer *answer;
};

/* Answer one: 0 or -errno; the body is in query->answer. -EOPNOTSUPP: no query. */
int query_answer(struct query *query, uint16_t op, const ProtobufCMessage *message);
bool query_has(uint16_t op);

#define QUERY_FUNCTION(name) int name(struct query *query, const ProtobufCMessage *message)

/* lookup.c */
QUERY_FUNCTION(lookup_query);
/* readdir.c */
QUERY_FUNCTION(readdir_query);
/* getattr.c */
QUERY_FUNCTION(getattr_query);
QUERY_FUNCTION(readlink_query);
QUERY_FUNCTION(access_query);
/* xattr.c */
QUERY_FUNCTION(getxattr_query);
QUERY_FUNCTION(listxattr_query);
/* statfs.c */
QUERY_FUNCTION(statfs_query);
/* fsck.c */
QUERY_FUNCTION(fsck_entries_query);
QUERY_FUNCTION(fsck_inodes_query);

/* An inode as this asker is told it. */
static inline bool query_is_unsure(const struct query *query, const struct inode *inode)
{
	return inode_has_objects(inode) && admit_is_unsure(query->with, query->session, inode->ino);
}

static inline Strake__Attr *query_inode(struct query *query, const struct inode *inode)
{
	return answer_inode(query->answer, inode, query_is_unsure(query, inode));
}

#endif
