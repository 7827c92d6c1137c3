/* Attributes between the wire, struct attr and struct stat. */
#ifndef STRAKE_CLIENT_ATTR_H
#define STRAKE_CLIENT_ATTR_H

#include "client/fs.h"
#include "proto/common.pb-c.h"

#define ATTR_BLKSIZE_MAX (512u * 1024) /* st_blksize: what one request carries, or a stripe where that is smaller */

/* -EPROTO: numbers that cannot be; -ENOMEM. */
int attr_from_wire(const Strake__Attr *wire, struct attr *ret_attr);

/* The same content: what was read before is still right. */
bool attr_same_content(const struct attr *a, const struct attr *b);

#endif
