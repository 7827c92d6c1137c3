/*
 * After a kill: is what the ledger tells of in the objects?
 *
 * Writes are taken apart into pieces, one per page. Of each page the last write that was done must be there, byte for byte
 * by its sum; what was written to the page before that cannot be missing then. Not looked for is what
 *   - a cut or DESTROY took away later;
 *   - a write covered later that was not done when we were killed: its client sends it again.
 * Where such a write covered a part only, it may be there instead: that also was written after all before it. Nobody can
 * tell where a part of either is there.
 */
#include "oss/ledger_internal.h"
#include "oss/object_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct piece {
	const struct ledger_record *record;
	uint64_t offset;
	uint32_t length, sum;
	uint64_t order;
};

struct zeroed {
	const struct ledger_record *record;
	uint64_t order;
};

struct evidence {
	struct piece *pieces;
	struct zeroed *zeroed;
	size_t piece_count, zeroed_count;
};

/* --- taking the writes apart -------------------------------------------------------------------------------------------- */

static void count(const struct ledger *ledger, struct evidence *evidence)
{
	const struct ledger_record *record;

	for (uint64_t position = ledger->header->begin; (record = ledger_next(ledger, &position));) {
		if (record->kind == LEDGER_ZEROED)
			evidence->zeroed_count++;
		else
			evidence->piece_count += bulk_sums_count(record->write.offset, record->write.length);
	}
}

static struct piece *take_apart(const struct ledger_record *record, uint64_t order, struct piece *out)
{
	uint64_t offset = record->write.offset, end = offset + record->write.length;

	for (size_t i = 0; offset < end; i++) {
		uint64_t next = offset - offset % BULK_PIECE + BULK_PIECE;

		if (next > end)
			next = end;
		*out++ = (struct piece){
			.record = record,
			.offset = offset,
			.length = (uint32_t)(next - offset),
			.sum = record->sums[i],
			.order = order,
		};
		offset = next;
	}

	return out;
}

/* False: there is nonsense in it. */
static bool collect(const struct ledger *ledger, struct evidence *evidence)
{
	struct zeroed *zeroed = evidence->zeroed;
	struct piece *piece = evidence->pieces;
	const struct ledger_record *record;
	uint64_t position = ledger->header->begin;

	while ((record = ledger_next(ledger, &position))) {
		if (record->kind == LEDGER_ZEROED)
			*zeroed++ = (struct zeroed){ record, position };
		else
			piece = take_apart(record, position, piece);
	}

	return position == ledger->header->end;
}

/* --- order ------------------------------------------------------------------------------------------------------------ */

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_files(const struct ledger_record *a, const struct ledger_record *b)
{
	int order = compare_numbers(a->ino, b->ino);

	return order ? order : compare_numbers(a->gen, b->gen);
}

static int compare_objects(const struct ledger_record *a, const struct ledger_record *b)
{
	int order = compare_files(a, b);

	return order ? order : compare_numbers(a->write.seq, b->write.seq);
}

static int compare_pages(const struct piece *a, const struct piece *b)
{
	int order = compare_objects(a->record, b->record);

	return order ? order : compare_numbers(a->offset / BULK_PIECE, b->offset / BULK_PIECE);
}

static int compare_pieces(const void *a, const void *b)
{
	const struct piece *one = a, *two = b;
	int order = compare_pages(one, two);

	return order ? order : compare_numbers(one->order, two->order);
}

static int compare_zeroed(const void *a, const void *b)
{
	return compare_files(((const struct zeroed *)a)->record, ((const struct zeroed *)b)->record);
}

/* --- judging ------------------------------------------------------------------------------------------------------------ */

static bool is_zeroed_by(const struct piece *piece, const struct zeroed *zeroed)
{
	uint64_t start = piece->record->write.seq * zeroed->record->zeroed.stripe_size + piece->offset;

	return zeroed->order > piece->order && start < zeroed->record->zeroed.end &&
	       start + piece->length > zeroed->record->zeroed.start;
}

static bool is_zeroed(const struct evidence *evidence, const struct piece *piece)
{
	size_t low = 0, high = evidence->zeroed_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_files(evidence->zeroed[middle].record, piece->record) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (size_t i = low; i < evidence->zeroed_count; i++) {
		if (compare_files(evidence->zeroed[i].record, piece->record) != 0)
			break;
		if (is_zeroed_by(piece, &evidence->zeroed[i]))
			return true;
	}

	return false;
}

static bool covers(const struct piece *piece, const struct piece *older)
{
	return piece->offset <= older->offset && older->offset + older->length <= piece->offset + piece->length;
}

static bool overlaps(const struct piece *piece, const struct piece *other)
{
	return piece->offset < other->offset + other->length && other->offset < piece->offset + piece->length;
}

/* Of `count` pieces of one page, in order: the one that must be there, or NULL. None that was done is after it. */
static const struct piece *judge(const struct evidence *evidence, const struct piece *pieces, size_t count)
{
	const struct piece *last = NULL;

	for (size_t i = 0; i < count; i++) {
		if (pieces[i].record->state == LEDGER_DONE)
			last = &pieces[i];
		else if (last && covers(&pieces[i], last))
			last = NULL;
	}

	return last && !is_zeroed(evidence, last) ? last : NULL;
}

/* The descriptor is kept for the next piece of the same object. */
struct reader {
	int objects_dir, fd;
	const struct ledger_record *record;
};

static int look(struct reader *reader, const struct piece *piece)
{
	const struct ledger_record *record = piece->record;
	uint8_t page[BULK_PIECE];
	ssize_t got;

	if (!reader->record || compare_objects(reader->record, record) != 0) {
		char path[OBJECT_PATH_SIZE];

		if (reader->fd >= 0)
			close(reader->fd);
		object_path(record->ino, record->gen, record->write.seq, path);
		reader->fd = openat(reader->objects_dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		reader->record = record;
	}
	if (reader->fd < 0)
		return -ESTALE;
	got = pread(reader->fd, page, piece->length, (off_t)piece->offset);
	if (got < 0)
		return -errno;

	return (size_t)got == piece->length && crc32c(page, piece->length) == piece->sum ? 0 : -ESTALE;
}

static int look_at_page(const struct evidence *evidence, struct reader *reader, const struct piece *pieces,
			size_t count)
{
	const struct piece *last = judge(evidence, pieces, count);
	int err = last ? look(reader, last) : 0;

	for (const struct piece *piece = last; err == -ESTALE && ++piece < pieces + count;) {
		if (overlaps(piece, last))
			err = look(reader, piece);
	}

	return err;
}

static int look_at_all(const struct evidence *evidence, struct reader *reader)
{
	size_t next;
	int err = 0;

	for (size_t i = 0; i < evidence->piece_count && err == 0; i = next) {
		for (next = i + 1; next < evidence->piece_count; next++) {
			if (compare_pages(&evidence->pieces[i], &evidence->pieces[next]) != 0)
				break;
		}
		err = look_at_page(evidence, reader, &evidence->pieces[i], next - i);
	}

	return err;
}

static int verify(const struct ledger *ledger, struct evidence *evidence, int objects_dir)
{
	struct reader reader = { .objects_dir = objects_dir, .fd = -1 };
	int err;

	if (!collect(ledger, evidence))
		return -ESTALE;
	qsort(evidence->pieces, evidence->piece_count, sizeof(*evidence->pieces), compare_pieces);
	qsort(evidence->zeroed, evidence->zeroed_count, sizeof(*evidence->zeroed), compare_zeroed);
	err = look_at_all(evidence, &reader);
	if (reader.fd >= 0)
		close(reader.fd);

	return err;
}

int ledger_verify(const struct ledger *ledger, int objects_dir)
{
	struct evidence evidence = { 0 };
	int err = -ENOMEM;

	if (ledger_instance(ledger) == 0)
		return -ESTALE;
	count(ledger, &evidence);
	evidence.pieces = malloc((evidence.piece_count + 1) * sizeof(*evidence.pieces));
	evidence.zeroed = malloc((evidence.zeroed_count + 1) * sizeof(*evidence.zeroed));
	if (evidence.pieces && evidence.zeroed)
		err = verify(ledger, &evidence, objects_dir);
	free(evidence.pieces);
	free(evidence.zeroed);

	return err;
}
