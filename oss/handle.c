/* A request has come: which operation it is, and a fiber for it. */
#include "common/fiber.h"
#include "common/layout.h"
#include "oss/operations.h"

#include <errno.h>

static const struct {
	uint16_t opcode;
	void (*run)(struct ost *ost, struct request *request);
	bool changes; /* something that the index is to keep */
} operations[] = {
	{ OP_READ, ost_read, false },
	{ OP_WRITE, ost_write, true },
	{ OP_COMMIT, ost_commit, true },
	{ OP_ALLOCATE, ost_allocate, true },
	{ OP_COPY, ost_copy, true },
	{ OP_GLIMPSE, ost_glimpse, false },
	{ OP_SEEK, ost_seek, false },
	{ OP_CUT, ost_cut, true },
	{ OP_DESTROY, ost_destroy, true },
	{ OP_VOID, ost_void, true },
	{ OP_SESSIONS, ost_sessions, false },
	{ OP_FSCK_OBJECTS, ost_fsck_objects, false },
	{ OP_FSCK_FILES, ost_fsck_files, false },
};

static void request_end(struct ost *ost)
{
	if (--ost->running == 0)
		fiber_wake_all(&ost->idle);
}

static void run(void *arg)
{
	struct request *request = arg;
	struct ost *ost = request->handler_data;
	uint16_t opcode = request->header.opcode;

	for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
		if (operations[i].opcode == opcode) {
			if (operations[i].changes && index_is_broken(ost->index))
				service_reply_error(request, ost_io_error(ost, -EROFS));
			else
				operations[i].run(ost, request);
			request_end(ost);
			return;
		}
	}
	service_reply_error(request, -EOPNOTSUPP);
	request_end(ost);
}

void ost_handle(void *owner, struct request *request)
{
	struct ost *ost = owner;

	request->handler_data = ost;
	ost->running++;
	if (fiber_start(ost->loop, run, request) < 0) {
		service_reply_error(request, -ENOMEM);
		request_end(ost);
	}
}

int ost_check_file(uint64_t ino, uint64_t gen)
{
	return ino == 0 || ino == UINT64_MAX || gen == UINT64_MAX ? -EINVAL : 0;
}

int ost_check_stripe(uint64_t stripe_size)
{
	return stripe_size < LAYOUT_STRIPE_SIZE_MIN || stripe_size > LAYOUT_STRIPE_SIZE_MAX ||
			       (stripe_size & (stripe_size - 1)) != 0
		       ? -EINVAL
		       : 0;
}

int ost_check_object(const Strake__Object *object)
{
	if (ost_check_file(object->ino, object->gen) < 0 || ost_check_stripe(object->stripe_size) < 0)
		return -EINVAL;

	return object->seq > (uint64_t)LAYOUT_FILE_SIZE_MAX / object->stripe_size ? -EINVAL : 0;
}
