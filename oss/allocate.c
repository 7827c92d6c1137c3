/*
 * ALLOCATE: room for a part of an object, so that later writes there do not find the disk full.
 *
 *   - The object keeps its size, so GLIMPSE tells the file's end as before; it is made where there is none.
 *   - What cannot fit is refused before anything is taken: the filesystem's free space, with what the file has here already,
 *     must be as much as the caller wants here in all. (That is more than enough where it has some of it: better to try.)
 *   - Later writes that fail do not take it away (object_take_room()).
 *   - It brings no bytes, so no ledger and no instance: what a crash takes is room, and fsync makes it last.
 */
#include "common/layout.h"
#include "oss/operations.h"
#include "oss/ost_object.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>

struct allocation {
	struct ost *ost;
	struct ost_slot slot;
	uint64_t ino, gen, seq, stripe_size;
	Strake__Cut cut;
	bool has_cut;
	uint64_t offset, length, total;
};

struct look {
	int fd;
	struct statvfs vfs;
};

static int look_run(void *arg)
{
	struct look *look = arg;

	return fstatvfs(look->fd, &look->vfs) < 0 ? -errno : 0;
}

static int check_room(const struct allocation *allocation)
{
	struct ost *ost = allocation->ost;
	struct look look = { .fd = ost->objects_dir };
	uint64_t end, blocks, room;
	struct ost_file *file;
	int err = helper_run(ost->helper, look_run, &look);

	if (err < 0)
		return ost_io_error(ost, err);
	room = look.vfs.f_bfree * look.vfs.f_frsize;
	if (room >= allocation->total)
		return 0;
	err = file_get(ost, allocation->ino, allocation->gen, &file);
	if (err < 0)
		return err;
	err = file_totals(file, &end, &blocks);
	file_put(file);

	return err < 0 || room + blocks * 512 >= allocation->total ? err : -ENOSPC;
}

static int allocate_object(const struct allocation *allocation, struct ost_file *file)
{
	struct ost *ost = allocation->ost;
	struct running_write running = { .session = allocation->slot.session };
	struct ost_object *object;
	struct object_turn turn;
	int err = object_get(file, allocation->seq, true, &object);

	if (err < 0)
		return err;
	object_begin(object, &turn, allocation->offset, allocation->offset + allocation->length, true, false);
	err = ost_change_begin(ost, &running);
	if (err == 0) {
		err = disk_fallocate(ost->disk, object->fd, FALLOC_FL_KEEP_SIZE, allocation->offset,
				     allocation->length);
		object_has_room(object, allocation->offset + allocation->length);
		object_wrote(object, 0);
		(void)object_take_grown(object);
		ost_change_end(ost, &running);
		if (err < 0 && err != -EOPNOTSUPP)
			err = ost_io_error(ost, err);
	}
	object_end(object, &turn);
	object_put(object);

	return err;
}

static int allocate_run(const struct allocation *allocation)
{
	struct ost_file *file;
	int err = allocation->total > 0 ? check_room(allocation) : 0;

	if (err == 0)
		err = file_enter(allocation->ost, allocation->ino, allocation->gen, allocation->stripe_size,
				 allocation->has_cut ? &allocation->cut : NULL, true, &file);
	if (err < 0)
		return err;
	if (allocation->length > 0)
		err = allocate_object(allocation, file);
	file_leave(file);

	return err;
}

void ost_allocate(struct ost *ost, struct request *request)
{
	const Strake__AllocateRequest *asked = (const Strake__AllocateRequest *)request->body;
	const Strake__Object *id = asked->object;
	struct allocation allocation = {
		.ost = ost,
		.ino = id->ino,
		.gen = id->gen,
		.seq = id->seq,
		.stripe_size = id->stripe_size,
		.has_cut = id->cut,
		.offset = asked->offset,
		.length = asked->length,
		.total = asked->total,
	};
	int err = ost_check_object(id);

	if (err == 0 && (asked->offset > id->stripe_size || asked->length > id->stripe_size - asked->offset))
		err = -EINVAL;
	if (err < 0) {
		service_reply_error(request, err);
		return;
	}
	if (id->cut)
		allocation.cut = *id->cut;
	if (!ost_slot_begin(ost, request, &allocation.slot))
		return;
	err = allocate_run(&allocation);
	ost_slot_finish(ost, &allocation.slot, err, NULL);
}
