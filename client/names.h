/* Taking over what replies about names bring. Within libstrake only. */
#ifndef STRAKE_CLIENT_NAMES_H
#define STRAKE_CLIENT_NAMES_H

#include "client/inode.h"
#include "proto/mds.pb-c.h"

/* Attributes of an inode that may be known here (NULL: none). */
void names_take_known(struct fs *fs, const Strake__Attr *wire, uint64_t asked_ns);

/* The inode of an entry with a reference, and its attributes; the parent's too. -EPROTO, -ENOMEM. */
int names_take_entry(struct fs *fs, const Strake__EntryReply *reply, uint64_t asked_ns, struct inode **ret_inode,
		     struct attr *ret_attr);

#endif
