/* A request has come: which operation it is, and a fiber for it. */
#include "common/fiber.h"
#include "common/layout.h"
#include "oss/operations.h"

#include <errno.h>

static const struct {
	uint16_t opcode;
	void (*run)(struct ost *ost, struct request *request);
} operations[] = {
	{ OP_READ, ost_read },
	{ OP_WRITE, ost_write },
	{ OP_COMMIT, ost_commit },
	{ OP_ALLOCATE, ost_allocate },
	{ OP_COPY, ost_copy },
	{ OP_GLIMPSE, ost_glimpse },
	{ OP_SEEK, ost_seek },
	{ OP_CUT, ost_cut },
	{ OP_DESTROY, ost_destroy },
	{ OP_VOID, ost_void },
	{ OP_SESSIONS, ost_sessions },
	{ OP_FSCK_OBJECTS, ost_fsck_objects },
	{ OP_FSCK_FILES, ost_fsck_files },
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
