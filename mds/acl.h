/*
 * POSIX ACLs: what the value of system.posix_acl_access or _default says, what it means for mode bits and for who may do
 * what. Pure; the rules are acl(5)'s and, where that is silent, Linux's (fs/posix_acl.c). xattr.h keeps them.
 *
 *     u32 version | per entry: u16 tag, u16 permissions, u32 id          all little-endian
 *
 *   - Entries are in this order: the owner, named users, the group, named groups, the mask, the others. A mask there
 *     must be where somebody is named.
 *   - An access ACL and the mode bits are one thing twice: the owner's, the others', and as the group's bits the mask's,
 *     or the group's entry where there is no mask. An ACL that says no more than mode bits can is not kept at all.
 */
#ifndef STRAKE_MDS_ACL_H
#define STRAKE_MDS_ACL_H

#include "mds/bytes.h"
#include "proto/common.pb-c.h"

#include <stdbool.h>

/* Linux's FUSE carries no more than a page. */
#define ACL_SIZE_MAX    4096
#define ACL_ENTRIES_MAX ((ACL_SIZE_MAX - 4) / 8)

enum acl_kind {
	ACL_ACCESS,  /* of the inode itself */
	ACL_DEFAULT, /* of a directory: for what is made in it */
};

struct acl_entry {
	uint16_t tag, perm; /* R_OK | W_OK | X_OK */
	uint32_t id;        /* of named users and groups */
};

struct acl {
	size_t count; /* 0: there is none */
	struct acl_entry entries[ACL_ENTRIES_MAX];
};

/* Which of the two has this name as an xattr? False: none of them. */
bool acl_kind_of(const char *name, enum acl_kind *ret_kind);
const char *acl_name(enum acl_kind kind);

/* -EOPNOTSUPP another version; -EINVAL no ACL; -E2BIG. A value without entries is none: count 0. */
int acl_decode(struct bytes value, struct acl *ret_acl);
/* Into room for ACL_SIZE_MAX bytes; the result is as long as it has to be. */
struct bytes acl_encode(const struct acl *acl, void *out);

/* Does it say more than mode bits can? */
bool acl_is_extended(const struct acl *acl);
/* The mode with the rights that the access ACL gives. */
uint32_t acl_mode(const struct acl *acl, uint32_t mode);
/* chmod: the access ACL that says what the mode's bits say now. */
void acl_chmod(struct acl *acl, uint32_t mode);
/* Of a directory's default ACL make the access ACL of what is made in it with *mode, which both of them restrict. */
void acl_inherit(struct acl *acl, uint32_t *mode);

/* May the asker, who is not root, do that (R_OK | W_OK | X_OK) with what belongs to uid and gid? -EACCES. */
int acl_check(const struct acl *acl, const Strake__Cred *cred, uint32_t uid, uint32_t gid, int mask);

#endif
