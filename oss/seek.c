/* SEEK: the next data or the next hole of an object. Behind its end all is hole, up to the end of its stripe. */
#include "oss/operations.h"
#include "oss/ost_object.h"

#include <errno.h>
#include <unistd.h>

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

static int seek_object(struct ost_object *object, uint64_t stripe_size, bool hole, uint64_t *offset)
{
	struct seeking seeking = {
		.fd = object->fd,
		.whence = hole ? SEEK_HOLE : SEEK_DATA,
		.offset = (off_t)*offset,
	};
	int err;

	if (*offset >= object->size)
		return hole ? 0 : -ENXIO;
	err = helper_run(object->file->ost->helper, seek_run, &seeking);
	if (err == -ENXIO && hole)
		return 0;
	if (err < 0)
		return err == -ENXIO ? err : ost_io_error(object->file->ost, err);
	if ((uint64_t)seeking.offset >= stripe_size)
		return -ENXIO;
	*offset = (uint64_t)seeking.offset;

	return 0;
}

static int seek_file(struct ost_file *file, const Strake__SeekRequest *seek, uint64_t *offset)
{
	uint64_t stripe_size = seek->object->stripe_size;
	struct ost_object *object;
	struct object_turn turn;
	int err = object_get(file, seek->object->seq, false, &object);

	if (err == -ENOENT)
		return seek->hole ? 0 : -ENXIO;
	if (err < 0)
		return err;
	object_begin(object, &turn, *offset, stripe_size, false, false);
	err = seek_object(object, stripe_size, seek->hole, offset);
	object_end(object, &turn);
	object_put(object);

	return err;
}

void ost_seek(struct ost *ost, struct request *request)
{
	const Strake__SeekRequest *seek = (const Strake__SeekRequest *)request->body;
	const Strake__Object *id = seek->object;
	Strake__SeekReply body = STRAKE__SEEK_REPLY__INIT;
	struct ost_file *file;
	int err = ost_check_object(id);

	if (err == 0 && seek->offset >= id->stripe_size)
		err = -ENXIO;
	if (err == 0)
		err = file_enter(ost, id->ino, id->gen, id->stripe_size, id->cut, false, &file);
	if (err == 0) {
		body.offset = seek->offset;
		err = seek_file(file, seek, &body.offset);
		file_leave(file);
	}
	service_reply(request, &(struct reply){ .err = err, .body = err == 0 ? &body.base : NULL });
}
