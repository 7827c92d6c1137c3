/*
 * Extended attributes: rows of table xattr.
 *
 *     key: ino (big-endian), name     value: the value
 *
 * Namespaces: user. (files and directories, by mode bits), trusted. (root), security. (root; capabilities go when the file
 * is written by others or changes its owner). There are no ACLs: system. is -EOPNOTSUPP, like all others.
 */
#ifndef STRAKE_MDS_XATTR_H
#define STRAKE_MDS_XATTR_H

#include "mds/apply.h"

#define XATTR_NAME_LEN_MAX  255
#define XATTR_VALUE_LEN_MAX 65536
#define XATTR_NAMES_LEN_MAX 65536 /* of all names of an inode, with their NULs: what listxattr(2) can tell */

/* A capability that file's writers must not inherit. The caller stores the inode. */
void xattr_drop_capability(struct change *change, struct inode *inode);

void xattrs_delete(struct view *view, uint64_t ino);

#endif
