/*
 * COPY: a part of one object into another of the same OST.
 *
 *   slot -> both files: destroyed, cut? -> both objects, in turn -> session still alive? -> noted -> the disk copies -> made
 *   durable -> the reply, kept in the slot
 *
 *   - Stable when answered: its asker has no bytes that it could send again.
 *   - The ledger is told that the target's part loses its content, before it does: no WRITE is looked for there any more. Else
 *     a start after a kill would miss it, take a new instance, and have the bytes of before the copy sent again, over it.
 *     What shares a page with the part is not looked for either, so where there may be such the target is made durable first.
 *   - A crash in the middle leaves a part of it, and no answer: it is asked again, and does all of it.
 *   - Order, so that nobody waits in a circle: files by (ino, gen), then objects by (ino, gen, seq). Also of two whose cuts wait.
 *   - Holes stay holes: what the source does not have is punched in the target.
 */
#include "common/bulk_sums.h"
#include "oss/operations.h"
#include "oss/ost_object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define COPY_STEP   (1024u * 1024) /* on the helper's thread at a time */
#define COPY_BUFFER (64u * 1024)

struct copy_end {
	uint64_t ino, gen, seq, stripe_size, offset;
	Strake__Cut cut;
	bool has_cut;
	struct ost_file *file;
	struct ost_object *object; /* NULL: there is none */
	struct object_turn turn;
};

struct copying {
	struct ost *ost;
	struct ost_slot slot;
	struct copy_end from, to;
	uint64_t length;
	int64_t grown;
	bool same_file, same_object;
};

/* --- the disk, on the helper ----------------------------------------------------------------------------------------- */

/* What is left to do. */
struct step {
	int from_fd, to_fd;
	uint64_t from, to, end; /* end: of the source's part */
	uint64_t from_size;
	uint64_t to_size;  /* of the target's file, with what a WRITE that failed has left behind its object's end */
	uint64_t data_end; /* in the target: of the last that was no hole */
	uint64_t data,
		hole; /* in the source: its next data, and where that ends; both are the end where there is none */
};

static int copy_by_hand(struct step *step, size_t length)
{
	uint8_t *buffer = malloc(COPY_BUFFER);
	ssize_t got, put = 0;

	if (!buffer)
		return -ENOMEM;
	got = pread(step->from_fd, buffer, length < COPY_BUFFER ? length : COPY_BUFFER, (off_t)step->from);
	if (got > 0)
		put = pwrite(step->to_fd, buffer, (size_t)got, (off_t)step->to);
	free(buffer);
	if (got <= 0 || put <= 0)
		return got < 0 || put < 0 ? -errno : -EIO;
	step->from += (uint64_t)put;
	step->to += (uint64_t)put;
	step->data_end = step->to;

	return 0;
}

static int copy_data(struct step *step, size_t length)
{
	off_t from = (off_t)step->from, to = (off_t)step->to;
	ssize_t done = copy_file_range(step->from_fd, &from, step->to_fd, &to, length, 0);

	if (done > 0) {
		step->from += (uint64_t)done;
		step->to += (uint64_t)done;
		step->data_end = step->to;
		return 0;
	}
	if (done < 0 && errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
		return -errno;

	return copy_by_hand(step, length);
}

static int write_zeros(int fd, uint64_t start, uint64_t end)
{
	static const uint8_t zeros[COPY_BUFFER];

	while (start < end) {
		size_t size = end - start < COPY_BUFFER ? (size_t)(end - start) : COPY_BUFFER;
		ssize_t done = pwrite(fd, zeros, size, (off_t)start);

		if (done < 0)
			return -errno;
		start += (uint64_t)done;
	}

	return 0;
}

/* Zeros where the source has none; nothing needs doing behind the end of the target's file. */
static int copy_hole(struct step *step, uint64_t length)
{
	uint64_t end = step->to + length;
	int err = 0;

	if (end > step->to_size)
		end = step->to_size;
	if (step->to < end && fallocate(step->to_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)step->to,
					(off_t)(end - step->to)) < 0)
		err = errno == EOPNOTSUPP || errno == ENOSYS ? write_zeros(step->to_fd, step->to, end) : -errno;
	step->from += length;
	step->to += length;

	return err;
}

/* Where the source's data ends: what lies behind its object's end is none of it. */
static uint64_t source_end(const struct step *step)
{
	return step->end < step->from_size ? step->end : step->from_size;
}

/* Where the source has data next. */
static int find_data(void *arg)
{
	struct step *step = arg;
	uint64_t end = source_end(step);
	off_t data, hole;

	step->data = step->hole = step->end;
	if (step->from_fd < 0 || step->from >= end)
		return 0;
	data = lseek(step->from_fd, (off_t)step->from, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? 0 : -errno;
	if ((uint64_t)data >= end)
		return 0;
	hole = lseek(step->from_fd, data, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	step->data = (uint64_t)data;
	step->hole = (uint64_t)hole < end ? (uint64_t)hole : end;

	return 0;
}

static int step_run(void *arg)
{
	struct step *step = arg;
	uint64_t length;
	int err = find_data(step);

	if (err < 0)
		return err;
	if (step->data > step->from)
		return copy_hole(step, step->data - step->from);
	length = step->hole - step->from;

	return copy_data(step, length < COPY_STEP ? length : COPY_STEP);
}

/* --- what must be around it -------------------------------------------------------------------------------------------- */

/* Where the target may have room that a COPY takes away when it fails: first what the data needs, and no hole of the source. */
static int take_room(struct copying *copying, const struct step *whole)
{
	struct ost_object *object = copying->to.object;
	struct step step = *whole;
	int err = 0;

	if (!object_may_have_room(object, step.to + (source_end(&step) - step.from)))
		return 0;
	while (err == 0 && step.from < source_end(&step)) {
		err = helper_run(copying->ost->copier, find_data, &step);
		if (err == 0 && step.data < step.hole)
			err = object_take_room(object, step.to + (step.data - step.from),
					       step.to + (step.hole - step.from));
		step.to += step.hole - step.from;
		step.from = step.hole;
	}

	return err;
}

static int copy_bytes(struct copying *copying)
{
	struct ost *ost = copying->ost;
	const struct copy_end *to = &copying->to;
	struct running_write running = { .session = copying->slot.session };
	uint64_t start = to->seq * to->stripe_size + to->offset;
	struct step step = {
		.from_fd = copying->from.object ? copying->from.object->fd : -1,
		.to_fd = to->object->fd,
		.from = copying->from.offset,
		.to = to->offset,
		.end = copying->from.offset + copying->length,
		.from_size = copying->from.object ? copying->from.object->size : 0,
	};
	bool whole = to->offset % BULK_PIECE == 0 && ((to->offset + copying->length) % BULK_PIECE == 0 ||
						      to->offset + copying->length >= to->object->size);
	int err = whole ? 0 : object_commit(to->object);

	if (err < 0)
		return err;
	ost_ledger_make_room(ost, 0);
	err = ost_change_begin(ost, &running);
	if (err < 0)
		return err;
	step.to_size = object_file_size(to->object);
	ledger_note_zeroed(ost->ledger, to->ino, to->gen, to->stripe_size, start, start + copying->length);
	if (source_end(&step) > step.from)
		err = take_room(copying, &step);
	while (err == 0 && step.from < step.end)
		err = helper_run(ost->copier, step_run, &step);
	object_wrote(to->object, err == 0 ? step.data_end : 0);
	ost_change_end(ost, &running);

	return err < 0 ? ost_io_error(ost, err) : 0;
}

static uint64_t round_down(uint64_t offset)
{
	return offset / BULK_PIECE * BULK_PIECE;
}

static uint64_t round_up(uint64_t offset)
{
	return (offset + BULK_PIECE - 1) / BULK_PIECE * BULK_PIECE;
}

/* Of the target whole pages: what is written beside it in the same page comes before or after it. */
static void begin_turns(struct copying *copying)
{
	struct copy_end *from = &copying->from, *to = &copying->to;
	uint64_t start = round_down(to->offset), end = round_up(to->offset + copying->length);
	bool first = from->ino < to->ino ||
		     (from->ino == to->ino && (from->gen < to->gen || (from->gen == to->gen && from->seq < to->seq)));

	if (copying->same_object) {
		if (start > from->offset)
			start = from->offset;
		if (end < from->offset + copying->length)
			end = from->offset + copying->length;
		object_begin(to->object, &to->turn, start, end, true, false);
		return;
	}
	if (from->object && first)
		object_begin(from->object, &from->turn, from->offset, from->offset + copying->length, false, false);
	object_begin(to->object, &to->turn, start, end, true, false);
	if (from->object && !first)
		object_begin(from->object, &from->turn, from->offset, from->offset + copying->length, false, false);
}

static int copy_objects(struct copying *copying)
{
	struct copy_end *from = &copying->from, *to = &copying->to;
	int err = object_get(from->file, from->seq, false, &from->object);

	if (err < 0 && err != -ENOENT)
		return err;
	err = object_get(to->file, to->seq, from->object, &to->object);
	if (err == 0) {
		begin_turns(copying);
		err = copy_bytes(copying);
		object_end(to->object, &to->turn);
		if (from->object && !copying->same_object)
			object_end(from->object, &from->turn);
		if (err < 0)
			object_undo(to->object);
		else
			copying->grown = object_take_grown(to->object);
		if (err == 0)
			err = object_commit(to->object);
		object_put(to->object);
	} else if (err == -ENOENT) {
		err = 0; /* a hole to where a hole is */
	}
	if (from->object)
		object_put(from->object);

	return err;
}

static int enter(struct ost *ost, struct copy_end *end, bool write)
{
	return file_enter(ost, end->ino, end->gen, end->stripe_size, end->has_cut ? &end->cut : NULL, write,
			  &end->file);
}

static int enter_both(struct copying *copying)
{
	struct copy_end *from = &copying->from, *to = &copying->to;
	bool from_first = from->ino < to->ino || (from->ino == to->ino && from->gen < to->gen);
	struct copy_end *first = from_first ? from : to, *second = from_first ? to : from;
	int err = enter(copying->ost, first, first == to);

	if (err < 0)
		return err;
	if (copying->same_file) {
		from->file = to->file;
		return 0;
	}
	err = enter(copying->ost, second, second == to);
	if (err < 0)
		file_leave(first->file);

	return err;
}

static int copy_run(struct copying *copying)
{
	uint64_t change;
	int err = enter_both(copying);

	if (err < 0)
		return err;
	err = copy_objects(copying);
	change = copying->to.file->last_change;
	if (!copying->same_file)
		file_leave(copying->from.file);
	file_leave(copying->to.file);

	return err < 0 ? err : index_sync(copying->ost->index, change);
}

/* --- the request ------------------------------------------------------------------------------------------------------- */

static int take_end(struct copy_end *end, const Strake__Object *object, uint64_t offset, uint64_t length)
{
	int err = ost_check_object(object);

	if (err < 0)
		return err;
	if (offset > object->stripe_size || length > object->stripe_size - offset)
		return -EINVAL;
	*end = (struct copy_end){
		.ino = object->ino,
		.gen = object->gen,
		.seq = object->seq,
		.stripe_size = object->stripe_size,
		.offset = offset,
		.has_cut = object->cut,
	};
	if (object->cut)
		end->cut = *object->cut;

	return 0;
}

static int take(struct copying *copying, const Strake__CopyRequest *asked)
{
	struct copy_end *from = &copying->from, *to = &copying->to;
	int err = take_end(from, asked->from, asked->from_offset, asked->length);

	if (err == 0)
		err = take_end(to, asked->to, asked->to_offset, asked->length);
	if (err < 0 || asked->length == 0)
		return err < 0 ? err : -EINVAL;
	copying->length = asked->length;
	copying->same_file = from->ino == to->ino && from->gen == to->gen;
	copying->same_object = copying->same_file && from->seq == to->seq;
	if (copying->same_object && from->offset < to->offset + asked->length &&
	    to->offset < from->offset + asked->length)
		return -EINVAL;

	return 0;
}

void ost_copy(struct ost *ost, struct request *request)
{
	Strake__CopyReply body = STRAKE__COPY_REPLY__INIT;
	struct copying copying = { .ost = ost };
	int err = take(&copying, (const Strake__CopyRequest *)request->body);

	if (err < 0) {
		service_reply_error(request, err);
		return;
	}
	if (!ost_slot_begin(ost, request, &copying.slot))
		return;
	err = copy_run(&copying);
	body.grown = copying.grown;
	ost_slot_finish(ost, &copying.slot, err, &body.base);
}
