/*
 * Who may do what: mode bits by owner, group and others, root, the sticky bit, and who owns. Pure.
 *
 * Where cred.trusted is set the mount's kernel has checked permissions already, with capabilities and groups that are not
 * known here: mode bits and group membership are then not looked at again. What depends on ownership always is.
 */
#ifndef STRAKE_MDS_ACCESS_H
#define STRAKE_MDS_ACCESS_H

#include "mds/inode.h"
#include "proto/common.pb-c.h"

#include <unistd.h> /* R_OK, W_OK, X_OK */

/* What a file may belong to: -1 is nobody (chown(2)); a kernel lets not even root write to a file of nobody's. */
bool access_is_id(uint32_t id);

bool access_is_root(const Strake__Cred *cred);
bool access_in_group(const Strake__Cred *cred, uint32_t gid); /* by gid and groups only */

/* By the mode bits, whether trusted or not: what access(2) asks. -EACCES. */
int access_mode(const Strake__Cred *cred, const struct inode *inode, int mask);

/* The same for a request: fine when trusted. -EACCES. */
int access_check(const Strake__Cred *cred, const struct inode *inode, int mask);

/* Only the owner or root. -EPERM. */
int access_owner(const Strake__Cred *cred, const struct inode *inode);

/* An entry for inode may leave dir or be replaced there: write permission (-EACCES), the sticky bit (-EPERM). */
int access_remove(const Strake__Cred *cred, const struct inode *dir, const struct inode *inode);

/* The mode after a write, truncate or chown by somebody: without S_ISUID, and S_ISGID where it means a privilege. */
uint32_t access_mode_without_privileges(const Strake__Cred *cred, const struct inode *inode);

#endif
