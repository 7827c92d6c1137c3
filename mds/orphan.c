#include "mds/orphan.h"

#include "common/logger.h"
#include "mds/destroy.h"
#include "mds/pack.h"
#include "proto/mdt_record.pb-c.h"

#include <errno.h>
#include <inttypes.h>

static void orphan_check(uint64_t ino, struct bytes sessions)
{
	if (sessions.size == 0 || sessions.size % sizeof(uint64_t) != 0 ||
	    sessions.size / sizeof(uint64_t) > RECORD_HOLDERS_MAX)
		logger_die("the MDT's state is damaged: orphan %" PRIx64 " has %zu bytes of sessions", ino,
			   sessions.size);
}

static int orphan_get(struct view *view, uint64_t ino, struct bytes *ret_sessions)
{
	uint8_t key[8];

	if (view_get(view, TABLE_ORPHAN, key_of(key, ino), ret_sessions) < 0)
		return -ENOENT;
	orphan_check(ino, *ret_sessions);
	return 0;
}

int orphan_from(struct view *view, uint64_t from, uint64_t *ret_ino, struct bytes *ret_sessions)
{
	uint8_t key[8];
	struct view_cursor cursor;
	struct unpack unpack;

	if (view_seek(view, TABLE_ORPHAN, key_of(key, from), &cursor) < 0)
		return -ENOENT;
	unpack = unpack_begin(cursor.key);
	*ret_ino = unpack_key64(&unpack);
	*ret_sessions = cursor.value;
	view_cursor_end(&cursor);
	orphan_check(*ret_ino, *ret_sessions);
	return 0;
}

bool orphan_has(struct bytes sessions, uint64_t session)
{
	struct unpack unpack = unpack_begin(sessions);

	while (!unpack_is_done(&unpack)) {
		if (unpack_u64(&unpack) == session)
			return true;
	}
	return false;
}

bool orphan_is_held_by(struct view *view, uint64_t ino, uint64_t session)
{
	struct bytes sessions;

	return orphan_get(view, ino, &sessions) == 0 && orphan_has(sessions, session);
}

static void orphan_store(struct view *view, uint64_t ino, const uint64_t *sessions, size_t count)
{
	uint8_t key[8], out[RECORD_HOLDERS_MAX * sizeof(uint64_t)];
	struct pack pack = { out, out + sizeof(out) };

	for (size_t i = 0; i < count; i++)
		pack_u64(&pack, sessions[i]);
	view_put(view, TABLE_ORPHAN, key_of(key, ino), (struct bytes){ out, (size_t)(pack.at - out) });
}

void orphan_make(struct change *change, struct inode *inode)
{
	const struct record *record = change->record;

	inode->nlink = 0;
	inode->ctime_ns = change->now_ns;
	inode->version = inode->name_version = change->index;
	if (record->holder_count == 0) {
		inode_destroy(change, inode);
		return;
	}
	inode_store(change->view, inode);
	orphan_store(change->view, inode->ino, record->holders, record->holder_count);
	change->state->meta.orphans++;
}

void orphan_adopt(struct change *change, struct inode *inode)
{
	uint8_t key[8];

	view_del(change->view, TABLE_ORPHAN, key_of(key, inode->ino));
	change->state->meta.orphans--;
	inode->flags &= ~(uint32_t)INODE_LINKABLE;
}

/* One session lets go of one orphan. */
static void orphan_release(struct change *change, uint64_t ino, struct bytes sessions, uint64_t session)
{
	uint64_t left[RECORD_HOLDERS_MAX];
	size_t count = 0;
	struct unpack unpack = unpack_begin(sessions);
	struct inode inode;
	uint8_t key[8];

	while (!unpack_is_done(&unpack)) {
		uint64_t other = unpack_u64(&unpack);

		if (other != session)
			left[count++] = other;
	}
	if (count > 0) {
		orphan_store(change->view, ino, left, count);
		return;
	}

	view_del(change->view, TABLE_ORPHAN, key_of(key, ino));
	change->state->meta.orphans--;
	if (inode_load(change->view, ino, &inode) < 0 || inode.nlink != 0)
		logger_die("the MDT's state is damaged: orphan %" PRIx64 " has no inode, or one with a name", ino);
	inode_destroy(change, &inode);
}

void orphans_release_all(struct change *change, uint64_t session)
{
	uint64_t ino = 0;
	struct bytes sessions;

	if (change->state->meta.orphans == 0)
		return;
	for (; orphan_from(change->view, ino, &ino, &sessions) == 0; ino++) {
		if (orphan_has(sessions, session))
			orphan_release(change, ino, sessions, session);
	}
}

int release_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__ReleaseRecord *record = (const void *)message;
	uint64_t session = change->record->session;
	struct bytes sessions;

	for (size_t i = 0; i < record->n_ino; i++) {
		if (orphan_get(change->view, record->ino[i], &sessions) == 0 && orphan_has(sessions, session))
			orphan_release(change, record->ino[i], sessions, session);
	}
	return 0;
}
