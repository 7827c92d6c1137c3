/*
 * Extended attributes: rows of table xattr.
 *
 *     key: ino (big-endian), name     value: the value
 *
 * Namespaces: user. (files and directories, by mode bits), trusted. (root), security. (root; capabilities go when the file
 * is written by others or changes its owner), and of system. the two ACLs (acl.h), which everybody may read and the owner
 * change. All others are -EOPNOTSUPP.
 *
 * Which ACLs an inode has stands in its flags, so that nobody looks for what few have.
 */
#ifndef STRAKE_MDS_XATTR_H
#define STRAKE_MDS_XATTR_H

#include "mds/acl.h"
#include "mds/apply.h"

#define XATTR_NAME_LEN_MAX  255
#define XATTR_VALUE_LEN_MAX 65536
#define XATTR_NAMES_LEN_MAX 65536 /* of all names of an inode, with their NULs: what listxattr(2) can tell */

/* A capability that file's writers must not inherit. The caller stores the inode. */
void xattr_drop_capability(struct change *change, struct inode *inode);

void xattrs_delete(struct view *view, uint64_t ino);

/* The ACL of an inode that has it by its flags. */
void xattr_acl_load(struct view *view, const struct inode *inode, enum acl_kind kind, struct acl *ret_acl);
/* Give an inode an ACL, or another one; of count 0: take it away. The caller stores the inode. */
void xattr_acl_store(struct view *view, struct inode *inode, enum acl_kind kind, const struct acl *acl);

#endif
