#include "mds/query.h"

#include <errno.h>

static const struct query_row {
	uint16_t op;
	int (*function)(struct query *query, const ProtobufCMessage *message);
} query_table[] = {
	{ OP_LOOKUP, lookup_query },           { OP_GETATTR, getattr_query }, { OP_READLINK, readlink_query },
	{ OP_READDIR, readdir_query },         { OP_ACCESS, access_query },   { OP_GETXATTR, getxattr_query },
	{ OP_LISTXATTR, listxattr_query },     { OP_STATFS, statfs_query },   { OP_FSCK_ENTRIES, fsck_entries_query },
	{ OP_FSCK_INODES, fsck_inodes_query },
};

static const struct query_row *query_find(uint16_t op)
{
	for (size_t i = 0; i < sizeof(query_table) / sizeof(*query_table); i++) {
		if (query_table[i].op == op)
			return &query_table[i];
	}
	return NULL;
}

bool query_has(uint16_t op)
{
	return query_find(op) != NULL;
}

int query_answer(struct query *query, uint16_t op, const ProtobufCMessage *message)
{
	const struct query_row *row = query_find(op);

	return row ? row->function(query, message) : -EOPNOTSUPP;
}
