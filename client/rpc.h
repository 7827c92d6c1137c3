/* Small things that every request to the MDT is made of. What they return borrows from their arguments. */
#ifndef STRAKE_CLIENT_RPC_H
#define STRAKE_CLIENT_RPC_H

#include "client/fs.h"
#include "proto/common.pb-c.h"

/* protobuf-c's structures know no const; packing only reads. */
static inline ProtobufCBinaryData rpc_bytes(const void *data, size_t size)
{
	return (ProtobufCBinaryData){ .len = size, .data = (uint8_t *)(uintptr_t)data };
}

static inline char *rpc_string(const char *text)
{
	return (char *)(uintptr_t)text;
}

static inline Strake__Cred rpc_cred(const struct fs_ctx *ctx)
{
	Strake__Cred cred = STRAKE__CRED__INIT;

	_Static_assert(sizeof(gid_t) == sizeof(uint32_t), "groups are sent as they are");
	cred.uid = ctx->uid;
	cred.gid = ctx->gid;
	cred.n_groups = ctx->group_count;
	cred.groups = (uint32_t *)(uintptr_t)ctx->groups;
	cred.has_trusted = ctx->trusted;
	cred.trusted = ctx->trusted;
	return cred;
}

#endif
