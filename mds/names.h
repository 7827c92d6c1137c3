/*
 * What all operations on names begin with: the directory, and what it has under a name. For apply and for reading alike.
 */
#ifndef STRAKE_MDS_NAMES_H
#define STRAKE_MDS_NAMES_H

#include "mds/access.h"
#include "mds/dirent.h"

/*
 * A directory that the asker may search.
 * -ESTALE no such inode; -ENOTDIR; -EACCES
 */
int names_dir(struct state *state, const Strake__Cred *cred, uint64_t ino, struct inode *ret_dir);

/* The inode of an entry. -ENOENT. An entry without its inode ends the process. */
int names_find(struct state *state, uint64_t parent, struct bytes name, struct inode *ret_inode);

static inline struct bytes name_of(ProtobufCBinaryData data)
{
	return (struct bytes){ data.data, data.len };
}

#endif
