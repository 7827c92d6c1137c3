/*
 * Who may do what: mode bits by owner, group and others, access ACLs, root, the sticky bit, and who owns. Reads the state
 * where an inode has an ACL, and changes nothing.
 *
 * Where cred.trusted is set the mount's kernel has checked permissions already, with capabilities and groups that are not
 * known here: mode bits, ACLs and group membership are then not looked at again. What depends on ownership always is.
 */
#ifndef STRAKE_MDS_ACCESS_H
#define STRAKE_MDS_ACCESS_H

#include "mds/inode.h"
#include "proto/common.pb-c.h"

#include <unistd.h> /* R_OK, W_OK, X_OK */

/* What a file may belong to: -1 is nobody (chown(2)); a kernel lets not even root write to a file of nobody's. */
bool access_is_id(uint32_t id);

/*
 * Root squash: of a request by root, make one by nobody, whom nobody has checked. The message is unpacked and stays so;
 * others' and those without credentials are left as they are.
 */
#define ACCESS_NOBODY 65534
void access_squash(ProtobufCMessage *message);

bool access_is_root(const Strake__Cred *cred);
bool access_in_group(const Strake__Cred *cred, uint32_t gid); /* by gid and groups only */

/* By mode bits and ACL, whether trusted or not: what access(2) asks. -EACCES; -EPERM to write what is immutable. */
int access_mode(struct view *view, const Strake__Cred *cred, const struct inode *inode, int mask);

/* The same for a request: fine when trusted, unless it is immutable, of which no kernel knows. -EACCES, -EPERM. */
int access_check(struct view *view, const Strake__Cred *cred, const struct inode *inode, int mask);

/* The same for an open in these modes (OPEN_READ, OPEN_WRITE); append: what is written goes to the end. */
int access_open(struct view *view, const Strake__Cred *cred, const struct inode *inode, unsigned int modes,
		bool append);

/* Neither immutable nor append-only (chattr(1)): -EPERM, whoever asks. */
int access_unsealed(const struct inode *inode);

/* Only the owner or root. -EPERM. */
int access_owner(const Strake__Cred *cred, const struct inode *inode);

/* An entry for inode may leave dir or be replaced there: write permission (-EACCES), the sticky bit, chattr(1) (-EPERM). */
int access_remove(struct view *view, const Strake__Cred *cred, const struct inode *dir, const struct inode *inode);

/* May the asker hand out the rights of the inode's group? Where he is trusted, kill_sgid is his kernel's word that not. */
bool access_is_member(const Strake__Cred *cred, const struct inode *inode, bool kill_sgid);

/*
 * The mode after a write, truncate or chown by somebody: without S_ISUID, and S_ISGID where it means a privilege: with
 * S_IXGRP, and to those who are no members.
 */
uint32_t access_mode_without_privileges(const struct inode *inode, bool member);

#endif
