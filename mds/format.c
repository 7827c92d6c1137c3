/* RECORD_FORMAT: the first record, an empty filesystem. RECORD_RESERVE: numbers that may be given out from now on. */
#include "mds/apply.h"
#include "mds/dirent.h"
#include "mds/void.h"

#include "proto/mdt_record.pb-c.h"

#include <assert.h>
#include <string.h>

int format_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__FormatRecord *format = (const void *)message;
	struct meta *meta = &change->state->meta;
	struct inode root = {
		.ino = format->root_ino,
		.gen = format->root_ino,
		.mode = format->root_mode,
		.uid = format->root_uid,
		.gid = format->root_gid,
		.nlink = 2,
		.parent = format->root_ino,
		.data_version = change->index,
		.name_version = change->index,
		.atime_ns = change->now_ns,
		.mtime_ns = change->now_ns,
		.btime_ns = change->now_ns,
		.layout.stripe_size = format->layout->stripe_size,
		.layout.stripe_count = format->layout->stripe_count,
	};

	assert(!change->state->formatted && format->hash_key.len == HASH_KEY_SIZE);
	memcpy(meta->hash_key, format->hash_key.data, HASH_KEY_SIZE);
	meta->reserved = format->first_number;
	meta->given = format->first_number - 1;
	meta->inodes = 1;
	change->state->formatted = true;
	change_touch(change, &root);
	return 0;
}

int reserve_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__ReserveRecord *reserve = (const void *)message;
	struct meta *meta = &change->state->meta;

	if (reserve->rest_is_void && meta->given + 1 < meta->reserved)
		void_rest(change);
	assert(reserve->up_to > meta->given);
	meta->reserved = reserve->up_to;
	return 0;
}
