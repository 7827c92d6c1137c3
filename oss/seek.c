/*
 * SEEK: the next data or the next hole, of an object or of all that follow it here. Data reaches to the end of its block, as
 * on a disk, also where an object ends within it and the file goes on. Behind that all is hole, up to the end of the stripe;
 * an object that there is not is a hole as a whole.
 */
#include "common/layout.h"
#include "oss/operations.h"
#include "oss/ost_object.h"

#include <errno.h>
#include <unistd.h>

#define BLOCK 4096u /* of what is stored, mostly */

struct seeking {
	int fd, whence;
	off_t offset;
};

static int seek_run(void *arg)
{
	struct seeking *seeking = arg;

	seeking->offset = lseek(seeking->fd, seeking->offset, seeking->whence);

	return seeking->offset < 0 ? -errno : 0;
}

static uint64_t block_end(uint64_t offset)
{
	return (offset + BLOCK - 1) / BLOCK * BLOCK;
}

static int seek_object(struct ost_object *object, uint64_t stripe_size, bool hole, uint64_t *offset)
{
	struct seeking seeking = { .fd = object->fd, .whence = hole ? SEEK_HOLE : SEEK_DATA };
	uint64_t found;
	int err;

	if (*offset >= block_end(object->size))
		return hole ? 0 : -ENXIO;
	/* What follows the last byte in its block is as that one. */
	seeking.offset = (off_t)(*offset < object->size ? *offset : object->size - 1);
	err = helper_run(object->file->ost->helper, seek_run, &seeking);
	if (err == -ENXIO && hole)
		return 0;
	if (err < 0)
		return err == -ENXIO ? err : ost_io_error(object->file->ost, err);
	found = (uint64_t)seeking.offset;
	if (hole && found >= object->size)
		found = block_end(found);
	if (found >= stripe_size)
		return -ENXIO;
	if (found > *offset)
		*offset = found;

	return 0;
}

static int seek_file(struct ost_file *file, uint64_t stripe_size, uint64_t seq, bool hole, uint64_t *offset)
{
	struct ost_object *object;
	struct object_turn turn;
	int err = object_get(file, seq, false, &object);

	if (err == -ENOENT)
		return hole ? 0 : -ENXIO;
	if (err < 0)
		return err;
	object_begin(object, &turn, *offset, stripe_size, false, false);
	err = seek_object(object, stripe_size, hole, offset);
	object_end(object, &turn);
	object_put(object);

	return err;
}

/* From object to object. *ret_more: the limit has come before anything was found, and *seq is the next to look into. */
static int seek_on(struct ost_file *file, const Strake__SeekRequest *seek, uint64_t *seq, uint64_t *offset,
		   bool *ret_more)
{
	struct index_object row;
	uint64_t there;
	int err;

	for (uint32_t looked = 0;; looked++) {
		if (!seek->hole) {
			/* What the index does not know has no data. */
			if (index_next_object(file->ost->index, file->ino, file->gen, *seq, &there, &row) < 0)
				return -ENXIO;
			if (there != *seq)
				*offset = 0;
			*seq = there;
		}
		if (*seq >= seek->seq_end)
			return -ENXIO;
		if (looked == seek->limit) {
			*ret_more = true;
			return 0;
		}
		err = seek_file(file, seek->object->stripe_size, *seq, seek->hole, offset);
		if (err != -ENXIO)
			return err;
		*seq += seek->stride;
		*offset = 0;
	}
}

void ost_seek(struct ost *ost, struct request *request)
{
	const Strake__SeekRequest *seek = (const Strake__SeekRequest *)request->body;
	const Strake__Object *id = seek->object;
	Strake__SeekReply body = STRAKE__SEEK_REPLY__INIT;
	struct ost_file *file;
	bool more = false;
	int err = ost_check_object(id);

	if (err == 0 && seek->offset >= id->stripe_size)
		err = -ENXIO;
	if (err == 0 && seek->stride > 0 && (seek->stride > LAYOUT_STRIPES_MAX || seek->limit == 0))
		err = -EINVAL;
	if (err == 0)
		err = file_enter(ost, id->ino, id->gen, id->stripe_size, id->cut, false, &file);
	if (err == 0) {
		body.offset = seek->offset;
		body.seq = id->seq;
		if (seek->stride > 0)
			err = seek_on(file, seek, &body.seq, &body.offset, &more);
		else
			err = seek_file(file, id->stripe_size, id->seq, seek->hole, &body.offset);
		file_leave(file);
	}
	body.has_seq = seek->stride > 0;
	body.has_more = body.more = more;
	service_reply(request, &(struct reply){ .err = err, .body = err == 0 ? &body.base : NULL });
}
