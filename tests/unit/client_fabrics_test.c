/* A mount and an MDT with two fabrics between them: RDMA, over a fabric in memory (fake_verbs.h), and TCP. */
#include "client/file.h"
#include "client/fs_state.h"
#include "client/lock_op.h"
#include "common/transport_rdma.h"
#include "tests/unit/client_fake.h"
#include "tests/unit/fake_verbs.h"

#include <fcntl.h>

#define AT_MOST_MS 4000 /* on a busy machine; who waits for a lock asks again after 5 s, told or not */

/* In the place of common/transport_rdma.c's, which loads the plug-in. */
int transport_rdma_new(struct loop *loop, const struct transport_limits *limits, struct transport **ret_transport)
{
	if (fabric.loop == NULL)
		fabric_begin(loop, 1, 300);
	return strake_transport_rdma_new(loop, limits, ret_transport);
}

const char *transport_rdma_reason(void)
{
	return "";
}

static bool taken = true; /* by somebody else */
static enum fabric asked_by;

static bool serve(struct fake *fake, struct request *request)
{
	if (request->header.opcode != OP_LOCK)
		return false;
	asked_by = service_conn_fabric(request->conn);
	fake_reply_lock(fake, request, taken ? LOCK_QUEUED : LOCK_GRANTED);
	return true;
}

static void lock_fiber(void *file)
{
	const struct fs_lock want = { .type = F_WRLCK, .owner = 17, .end = UINT64_MAX };
	struct fs_ctx ctx = { .trusted = true };

	assert(fs_lock(file, &ctx, &want, true) == 0);
	taken = true;
}

static bool waits_by_rdma(struct fs *fs)
{
	const struct lock_op *op = fs_worker(fs)->lock_ops;

	return op != NULL && op->queued && asked_by == FABRIC_RDMA;
}

/* He has been told to wait for a push, and nothing else is under way: silence is noticed, and by TCP he asks again. */
static void silent_body(struct fake *fake)
{
	struct fs_config config;
	struct fake_mount mount;
	struct address_list list;
	struct file *file;
	uint64_t began_ns;

	fake->after = fabric_end;
	assert(service_reachable(fake->mdt, NULL, &list) == 0 && list.count == 2);
	strcpy(fake->mdt_second, list.text[1]);
	fake_one_file(fake, serve, &config);
	fake_mount(fake, &config, &mount);
	file = fake_open(mount.fs, O_RDWR);
	assert(fiber_start(fake->loop, lock_fiber, file) == 0);
	while (!waits_by_rdma(mount.fs))
		fiber_sleep_ms(1);
	taken = false;
	fabric.silent = true;
	began_ns = clock_ns();
	while (!taken)
		fiber_sleep_ms(1);
	assert(asked_by == FABRIC_TCP && clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	fabric.silent = false;
	fs_release(file);
	fake_unmount(&mount);
}

START_TEST(silence_is_noticed_by_who_waits_for_a_lock)
{
	fake_run(silent_body);
}
END_TEST

UNIT_MAIN("client_fabrics", silence_is_noticed_by_who_waits_for_a_lock)
