/*
 * Who may be writing what, for a start. What is open is told again after a restart; but of a session that does not come back nobody
 * would know what it was writing: bytes that it had not reported might lie beyond sizes that nobody doubts. So the log says who
 * opens what for writing, and behind each checkpoint, durable with it, all of it. It does not say what is closed: a start takes
 * too much for open rather than too little. What a power failure takes with the log's end is not known.
 */
#include "mds/mdt.h"

#include "common/logger.h"
#include "proto/mdt_record.pb-c.h"

#include <stdlib.h>

static void note_inodes(struct mdt *mdt, uint64_t session, uint64_t *inos, size_t count)
{
	Strake__WritersRecord record = STRAKE__WRITERS_RECORD__INIT;

	if (mdt->admission.space_low) { /* there is need of what room the log has: all of it, later */
		mdt->writers_owed = true;
		return;
	}
	for (size_t i = 0; i < count; i += record.n_ino) {
		record.ino = inos + i;
		record.n_ino = count - i < MDT_IDS_PER_LOG ? count - i : MDT_IDS_PER_LOG;
		mdt_submit_own(mdt, RECORD_WRITERS, session, &record.base);
	}
}

void mdt_note_writer(struct mdt *mdt, uint64_t session, uint64_t ino)
{
	note_inodes(mdt, session, &ino, 1);
}

struct written {
	uint64_t *inos;
	size_t count;
};

static void count_written(void *arg, uint64_t ino, unsigned int modes)
{
	struct written *written = arg;

	if (!(modes & OPEN_WRITE))
		return;
	if (written->inos)
		written->inos[written->count] = ino;
	written->count++;
}

void mdt_note_writers(struct mdt *mdt, uint64_t session)
{
	struct written written = { .count = 0 };

	opens_each_inode(mdt->opens, session, count_written, &written);
	if (written.count == 0)
		return;
	written.inos = malloc(written.count * sizeof(*written.inos));
	if (!written.inos)
		logger_die("out of memory for the open files of a session");
	written.count = 0;
	opens_each_inode(mdt->opens, session, count_written, &written);
	note_inodes(mdt, session, written.inos, written.count);
	free(written.inos);
}

void mdt_note_all_writers(struct mdt *mdt)
{
	mdt->writers_owed = false;
	for (size_t i = 0; i < leases_count(mdt->leases); i++)
		mdt_note_writers(mdt, leases_at(mdt->leases, i)->session);
}

static void presume_created(struct mdt *mdt, const struct record *record)
{
	Strake__CreateRequest *create = strake__create_request__unpack(NULL, record->body.size, record->body.data);

	if (create && (create->open_modes & OPEN_WRITE))
		opens_presume(mdt->opens, record->session, mdt->outcome.opened_ino);
	strake__create_request__free_unpacked(create, NULL);
}

void mdt_presume_open(struct mdt *mdt, const struct record *record)
{
	Strake__WritersRecord *writers;

	if (record->op == OP_SESSION_CLOSE || record->op == RECORD_EVICT)
		opens_drop_session(mdt->opens, record->session);
	if ((record->op == OP_CREATE || record->op == OP_TMPFILE) && mdt->outcome.opened_ino)
		presume_created(mdt, record);
	if (record->op != RECORD_WRITERS)
		return;
	writers = strake__writers_record__unpack(NULL, record->body.size, record->body.data);
	for (size_t i = 0; writers && i < writers->n_ino; i++)
		opens_presume(mdt->opens, record->session, writers->ino[i]);
	strake__writers_record__free_unpacked(writers, NULL);
}
