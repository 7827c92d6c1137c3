/*
 * FSCK_OBJECTS and FSCK_FILES of an OST, over the wire: all that the index knows, in order; files that are missing or too
 * many; and none of it imagined while others write, cut and destroy.
 */
#include "tests/unit/ost_fixture.h"

#include "proto/fsck.pb-c.h"
#include "tests/unit/unit.h"

#include <fcntl.h>

#define ROWS 4096

static struct row {
	uint32_t kind;
	uint64_t ino, gen, seq, value;
} rows[ROWS];
static size_t row_count, pieces;

static void take(const Strake__FsckObjectsReply *reply)
{
	assert(reply->n_row == reply->n_ino && reply->n_row == reply->n_gen && reply->n_row == reply->n_seq &&
	       reply->n_row == reply->n_value);
	for (size_t i = 0; i < reply->n_row; i++) {
		assert(row_count < ROWS);
		rows[row_count++] =
			(struct row){ reply->row[i], reply->ino[i], reply->gen[i], reply->seq[i], reply->value[i] };
	}
}

/* All below `to`, from an inode on, into rows. */
static int list(uint64_t from, uint64_t to)
{
	Strake__FsckObjectsRequest request = STRAKE__FSCK_OBJECTS_REQUEST__INIT;
	bool more = true;
	int err = 0;

	request.ino = from;
	request.to = to;
	row_count = pieces = 0;
	while (more && err == 0) {
		struct call call = { .opcode = OP_FSCK_OBJECTS, .request = &request.base };
		const Strake__FsckObjectsReply *reply;

		err = peer_call(client, &call);
		assert(call.answered);
		if (err == 0) {
			reply = (const Strake__FsckObjectsReply *)call.reply;
			take(reply);
			more = reply->more;
			request.ino = reply->next_ino;
			request.gen = reply->next_gen;
			request.place = reply->next_place;
			pieces++;
		}
		call_release(&call);
	}
	return err;
}

static bool row_is(size_t i, Strake__FsckRow kind, uint64_t ino, uint64_t gen, uint64_t seq, uint64_t value)
{
	return i < row_count && rows[i].kind == (uint32_t)kind && rows[i].ino == ino && rows[i].gen == gen &&
	       rows[i].seq == seq && rows[i].value == value;
}

static struct found {
	size_t files, foreign;
	uint64_t ino, gen, seq, size; /* of the last file */
	char name[256];               /* of the last foreign one */
} found;

static int look_into_folder(uint32_t folder)
{
	Strake__FsckFilesRequest request = STRAKE__FSCK_FILES_REQUEST__INIT;
	struct call call = { .opcode = OP_FSCK_FILES, .request = &request.base };
	const Strake__FsckFilesReply *reply;
	int err;

	request.folder = folder;
	err = peer_call(client, &call);
	assert(call.answered);
	if (err == 0) {
		reply = (const Strake__FsckFilesReply *)call.reply;
		found.files += reply->n_ino;
		found.foreign += reply->n_foreign;
		if (reply->n_ino > 0) {
			found.ino = reply->ino[reply->n_ino - 1];
			found.gen = reply->gen[reply->n_ino - 1];
			found.seq = reply->seq[reply->n_ino - 1];
			found.size = reply->size[reply->n_ino - 1];
		}
		if (reply->n_foreign > 0)
			snprintf(found.name, sizeof(found.name), "%.*s", (int)reply->foreign[0].len,
				 (const char *)reply->foreign[0].data);
	}
	call_release(&call);
	return err;
}

static void look_into_all(void)
{
	memset(&found, 0, sizeof(found));
	for (uint32_t folder = 0; folder < OBJECT_FOLDERS; folder++)
		assert(look_into_folder(folder) == 0);
}

/* --- what is there ---------------------------------------------------------------------------------------------------- */

static const struct where a = { .ino = 100, .gen = 1 }, b = { .ino = 100, .gen = 5 }, c = { .ino = 200, .gen = 200 };

static void in_order(void)
{
	struct where at = c;

	assert(list(0, UINT64_MAX) == 0 && row_count == 0);
	at.seq = 3;
	assert(write_text(at, 0, "third") == 0);
	at.seq = 1;
	assert(write_text(at, 10, "first") == 0);
	assert(write_text(b, 0, "b") == 0);
	assert(write_text(a, 0, "a") == 0);
	assert(commit(a, NULL) == 0);
	assert(destroy(&a.ino, &a.gen, 1, SESSION) == 0);
	at.cut = 4;
	at.cut_start = STRIPE + 12;
	at.cut_end = STRIPE + 14;
	assert(cut(at) == 0);

	assert(list(0, UINT64_MAX) == 0);
	assert(row_count == 5);
	assert(row_is(0, STRAKE__FSCK_ROW__FSCK_ROW_DESTROYED, 100, 1, 0, 0));
	assert(row_is(1, STRAKE__FSCK_ROW__FSCK_ROW_OBJECT, 100, 5, 0, 1));
	assert(row_is(2, STRAKE__FSCK_ROW__FSCK_ROW_CONTENT, 200, 200, 0, 4));
	assert(row_is(3, STRAKE__FSCK_ROW__FSCK_ROW_OBJECT, 200, 200, 1, 15));
	assert(row_is(4, STRAKE__FSCK_ROW__FSCK_ROW_OBJECT, 200, 200, 3, 5));
	assert(list(101, UINT64_MAX) == 0 && row_count == 3);
	assert(list(100, 101) == 0 && row_count == 2);
	assert(list(100, 200) == 0 && row_count == 2);
	assert(list(201, UINT64_MAX) == 0 && row_count == 0);
	look_into_all();
	assert(found.files == 0 && found.foreign == 0);
}

START_TEST(all_that_the_index_knows)
{
	fixture_format();
	fixture_run(in_order);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void many_pieces(void)
{
	struct where at = { .ino = 1, .gen = 1 };
	uint64_t cuts = 0;

	/* One content of many objects, then many of one, half of them cut. */
	for (at.seq = 0; at.seq < 1500; at.seq++)
		assert(write_text(at, 0, "x") == 0);
	at.seq = 0;
	for (at.ino = 2; at.ino < 1000; at.ino++) {
		at.gen = at.ino;
		at.cut = at.ino % 2;
		at.cut_start = 5;
		at.cut_end = 6;
		cuts += at.cut;
		assert(write_text(at, 0, "x") == 0);
	}
	assert(list(0, UINT64_MAX) == 0);
	assert(pieces == 3);
	assert(row_count == 1500 + 998 + cuts);
	for (size_t i = 1; i < row_count; i++) {
		const struct row *before = &rows[i - 1], *row = &rows[i];

		assert(row->ino > before->ino || (row->ino == before->ino && row->kind > before->kind) ||
		       (row->ino == before->ino && row->seq > before->seq));
	}
}

START_TEST(a_piece_at_a_time)
{
	fixture_format();
	fixture_run(many_pieces);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- what is wrong ---------------------------------------------------------------------------------------------------- */

static void lost_and_unknown(void)
{
	char path[OBJECT_PATH_SIZE];
	struct where at = c;
	int fd;

	assert(write_text(a, 0, "a") == 0 && write_text(c, 0, "c") == 0);
	object_path(a.ino, a.gen, 0, path);
	assert(unlinkat(ost->objects_dir, path, 0) == 0);
	assert(list(0, UINT64_MAX) == 0 && row_count == 2);
	assert(row_is(0, STRAKE__FSCK_ROW__FSCK_ROW_LOST, 100, 1, 0, 0));
	assert(row_is(1, STRAKE__FSCK_ROW__FSCK_ROW_OBJECT, 200, 200, 0, 1));

	at.seq = 7;
	object_path(at.ino, at.gen, at.seq, path);
	fd = openat(ost->objects_dir, path, O_CREAT | O_WRONLY, 0600);
	assert(fd >= 0 && pwrite(fd, "more", 4, 0) == 4 && close(fd) == 0);
	fd = openat(ost->objects_dir, "5a/core", O_CREAT | O_WRONLY, 0600);
	assert(fd >= 0 && close(fd) == 0);
	look_into_all();
	assert(found.files == 1 && found.ino == at.ino && found.gen == at.gen && found.seq == 7 && found.size == 4);
	assert(found.foreign == 1 && strcmp(found.name, "core") == 0);
}

START_TEST(lost_and_unknown_files)
{
	fixture_format();
	fixture_run(lost_and_unknown);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void nonsense(void)
{
	Strake__FsckObjectsRequest request = STRAKE__FSCK_OBJECTS_REQUEST__INIT;
	struct call call = { .opcode = OP_FSCK_OBJECTS, .request = &request.base };

	request.gen = UINT64_MAX;
	assert(peer_call(client, &call) == -EINVAL);
	call_release(&call);
	request.gen = 0;
	request.place = UINT64_MAX;
	assert(peer_call(client, &call) == -EINVAL);
	call_release(&call);
	assert(look_into_folder(OBJECT_FOLDERS) == -EINVAL);
}

START_TEST(nonsense_is_refused)
{
	fixture_format();
	fixture_run(nonsense);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- while others work ------------------------------------------------------------------------------------------------ */

#define ROUNDS   30
#define CONTENTS 16

static bool busy;
static struct fiber_queue busy_end;

/* Contents that come, are cut to pieces and go. */
static void work(void *arg)
{
	uint64_t ino[CONTENTS], gen[CONTENTS];

	(void)arg;
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		for (uint64_t i = 0; i < CONTENTS; i++) {
			struct where at = { .ino = 10 + i, .gen = round * CONTENTS + i };

			ino[i] = at.ino;
			gen[i] = at.gen;
			for (at.seq = 0; at.seq < 3; at.seq++)
				assert(write_text(at, 0, "text") == 0);
			at.seq = 0;
			at.cut = 1;
			at.cut_start = STRIPE;
			at.cut_end = UINT64_MAX;
			if (i % 2)
				assert(cut(at) == 0);
		}
		assert(destroy(ino, gen, CONTENTS, SESSION - 1) == 0);
	}
	busy = false;
	fiber_wake_all(&busy_end);
}

static void nothing_imagined(void)
{
	size_t seen = 0;

	busy = true;
	assert(fiber_start(loop, work, NULL) == 0);
	while (busy) {
		assert(list(0, UINT64_MAX) == 0);
		for (size_t i = 0; i < row_count; i++)
			assert(rows[i].kind != STRAKE__FSCK_ROW__FSCK_ROW_LOST);
		seen += row_count;
		look_into_all();
		assert(found.files == 0 && found.foreign == 0);
	}
	assert(seen > 0);
}

START_TEST(nothing_is_imagined_while_others_work)
{
	fixture_format();
	fixture_run(nothing_imagined);
	temp_dir_remove(fixture_dir);
}
END_TEST

UNIT_MAIN("ost_fsck", all_that_the_index_knows, a_piece_at_a_time, lost_and_unknown_files, nonsense_is_refused,
	  nothing_is_imagined_while_others_work)
