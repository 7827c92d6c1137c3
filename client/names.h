/* Taking over what replies about names bring. Within libstrake only. */
#ifndef STRAKE_CLIENT_NAMES_H
#define STRAKE_CLIENT_NAMES_H

#include "client/inode.h"
#include "proto/mds.pb-c.h"

/* The attributes (NULL: none) of an inode that may be known here and that ctx has just changed: shown_changed(). */
void names_take_changed(struct fs *fs, const struct fs_ctx *ctx, const Strake__Attr *wire, uint64_t asked_ns);

/*
 * The inode of an entry with a reference, and its attributes; the parent's too, if it is told. came: the name by which it was
 * changed, if it was; NULL: by none. -EPROTO, -ENOMEM.
 */
int names_take_entry(struct fs *fs, const struct fs_ctx *ctx, const Strake__EntryReply *reply, uint64_t asked_ns,
		     const ProtobufCBinaryData *came, struct inode **ret_inode, struct attr *ret_attr);

#endif
