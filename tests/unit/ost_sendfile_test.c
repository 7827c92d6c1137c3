/* Reads that leave the page cache without a copy; and by RDMA, over a fabric in memory, memory without one. */
#include "common/transport_rdma.h"
#include "tests/unit/fake_verbs.h"
#include "tests/unit/ost_io.h"
#include "tests/unit/unit.h"

#include <linux/magic.h>
#include <sys/statfs.h>

static const struct where large = { .ino = 8, .gen = 1, .stripe = 4 * MIB };

static bool has_rdma;

/* In the place of common/transport_rdma.c's, which loads the plug-in. */
int transport_rdma_new(struct loop *on, const struct transport_limits *limits, struct transport **ret_transport)
{
	return has_rdma ? strake_transport_rdma_new(on, limits, ret_transport) : -ENODEV;
}

const char *transport_rdma_reason(void)
{
	return "";
}

static bool read_is(uint32_t offset, const uint8_t *expected, size_t length)
{
	uint8_t *got = malloc(MIB);
	int result = read_options(large, offset, got, MIB, true);
	bool same = result == (int)length && memcmp(got, expected, length) == 0;

	free(got);

	return same;
}

/* A kernel that tells what is in the page cache, and a disk below it. */
static bool sendfile_is_possible(void)
{
	uint64_t range[2] = { 0, 1 }, counts[5];
	struct statfs fs;

	if (syscall(SYS_cachestat, ost->objects_dir, range, counts, 0) < 0 && errno == ENOSYS)
		printf("skipped: this kernel has no cachestat()\n");
	else if (fstatfs(ost->objects_dir, &fs) < 0 || fs.f_type == TMPFS_MAGIC)
		printf("skipped: tmpfs has everything in the page cache\n");
	else
		return true;

	return false;
}

/* By sendfile at the latest when it has been read: the system may have dropped it from the page cache meanwhile. */
static bool leaves_by_sendfile(uint32_t offset, const uint8_t *want, size_t length)
{
	uint64_t before = ost->reads_by_sendfile;

	for (int i = 0; i < 100 && ost->reads_by_sendfile == before; i++)
		assert(read_is(offset, want, length));

	return ost->reads_by_sendfile == before + 1;
}

static bool leaves_otherwise(uint32_t offset, const uint8_t *want, size_t length)
{
	uint64_t before = ost->reads_by_sendfile;

	return read_is(offset, want, length) && ost->reads_by_sendfile == before;
}

/* Only what is there, large, in the page cache, and nobody wants sums of. */
static void by_sendfile(void)
{
	uint8_t *data, *bytes, *got;

	if (!sendfile_is_possible())
		return;
	data = calloc(1, 2 * MIB);
	bytes = pattern(MIB, 11);
	got = malloc(MIB);
	assert(read_is(0, data, 0)); /* no object */
	memcpy(data, bytes, MIB);
	assert(write_at(large, 0, bytes, MIB) == 0 && leaves_otherwise(0, data, MIB)); /* from the disk */
	assert(leaves_by_sendfile(0, data, MIB));
	assert(read_at(large, 0, got, MIB) == MIB && ost->reads_by_sendfile == 1);
	/* Up to the end, from within a page, and too little. */
	assert(leaves_by_sendfile(300000, data + 300000, MIB - 300000));
	assert(leaves_otherwise(MIB - 5000, data + MIB - 5000, 5000));
	assert(leaves_otherwise(MIB, data, 0));
	/* A hole, and what is behind it; a range of one page more than a pipe has room for. */
	memcpy(data + MIB + MIB / 2, bytes, 1000);
	assert(write_at(large, MIB + MIB / 2, bytes, 1000) == 0);
	assert(leaves_by_sendfile(MIB, data + MIB, MIB / 2 + 1000));
	assert(leaves_otherwise(100, data + 100, MIB));
	set_fault(DISK_READ, -EIO, 2);
	assert(read_options(large, 0, got, MIB, true) == -EIO);
	assert(leaves_by_sendfile(0, data, MIB));
	assert(ost->pipes.count == 1);
	free(data);
	free(bytes);
	free(got);
}

START_TEST(reads_without_sums_leave_by_sendfile)
{
	fixture_format();
	fixture_run(by_sendfile);
	temp_dir_remove(fixture_dir);
}
END_TEST

#define READERS 24

static unsigned int readers;

/* Whatever is cut away meanwhile: what comes is as long as promised, and the file's. */
static void reader_of_cut(void *arg)
{
	const uint8_t *data = arg;
	uint8_t *got = malloc(MIB);
	int length = read_options(large, 0, got, MIB, true);

	assert((length == MIB || length == MIB / 2) && memcmp(got, data, MIB / 2) == 0);
	for (int i = MIB / 2; i < length; i++)
		assert(got[i] == data[i] || got[i] == 0);
	free(got);
	readers--;
}

static void cut_meanwhile(void)
{
	const struct where half = {
		.ino = 8, .gen = 1, .stripe = 4 * MIB, .cut = 1, .cut_start = MIB / 2, .cut_end = UINT64_MAX
	};
	uint8_t *data;

	if (!sendfile_is_possible())
		return;
	data = pattern(MIB, 12);
	assert(write_at(large, 0, data, MIB) == 0 && read_is(0, data, MIB));
	for (readers = 0; readers < READERS; readers++)
		assert(fiber_start(loop, reader_of_cut, data) == 0);
	while (ost->reads_by_sendfile == 0)
		fiber_yield();
	assert(readers > 0 && cut(half) == 0);
	while (readers > 0)
		fiber_yield();
	assert(read_is(0, data, MIB / 2));
	free(data);
}

START_TEST(a_cut_does_not_disturb_what_is_being_sent)
{
	fixture_format();
	fixture_run(cut_meanwhile);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void reader_that_goes(void *arg)
{
	uint8_t *got = malloc(MIB);
	struct object_message message;
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	struct call rpc = { .opcode = OP_READ, .request = &request.base, .bulk_in = got, .bulk_in_size = MIB };

	(void)arg;
	request.object = object_message(&message, large);
	request.length = MIB;
	request.has_no_sums = request.no_sums = true;
	(void)peer_call(client, &rpc);
	call_release(&rpc);
	free(got);
	readers--;
}

/* What a peer that went did not take must not be the beginning of another's answer. */
static void gone_meanwhile(void)
{
	unsigned int most;
	uint8_t *data;

	if (!sendfile_is_possible())
		return;
	data = pattern(MIB, 13);
	assert(write_at(large, 0, data, MIB) == 0 && read_is(0, data, MIB));
	for (readers = 0; readers < READERS; readers++)
		assert(fiber_start(loop, reader_that_goes, NULL) == 0);
	while (ost->reads_by_sendfile == 0)
		fiber_yield();
	most = ost->pipes.count;
	assert(most > 1);
	client = peer_free(client);
	while (readers > 0)
		fiber_yield();
	client = fixture_connect(ROLE_CLIENT);
	for (int i = 0; i < READERS; i++)
		assert(read_is(0, data, MIB));
	assert(ost->pipes.count < most);
	free(data);
}

START_TEST(what_a_gone_peer_left_is_thrown_away)
{
	fixture_format();
	fixture_run(gone_meanwhile);
	temp_dir_remove(fixture_dir);
}
END_TEST

static struct peer *connect_by_rdma(void)
{
	struct peer *peer;
	struct peer_config config = {
		.fs = ost->identity.fs,
		.target = ost->identity.target,
		.role = ROLE_OST,
		.own_role = ROLE_CLIENT,
		.key = &ost->key,
		.address_count = 1,
	};
	struct address_list reachable;
	const char *address = reachable.text[1];

	assert(service_reachable(ost->service, NULL, &reachable) == 0);
	assert(reachable.count == 2 && address_is_rdma(address));
	uuid_make(&config.own_uuid);
	config.addresses = &address;
	assert(peer_new(loop, &config, &peer) == 0);
	return peer;
}

/* What would leave by sendfile over TCP: from memory, and no pipe is filled that the transport would have to read. */
static void by_rdma(void)
{
	struct peer *tcp = client;
	uint8_t *data = pattern(MIB, 14);
	unsigned int writes;

	assert(write_at(large, 0, data, MIB) == 0 && read_is(0, data, MIB));
	assert(!sendfile_is_possible() || leaves_by_sendfile(0, data, MIB));
	client = connect_by_rdma();
	writes = fabric.writes;
	assert(leaves_otherwise(0, data, MIB) && fabric.writes == writes + 1);
	peer_free(client);
	client = tcp;
	free(data);
}

START_TEST(reads_without_sums_leave_memory_by_rdma)
{
	fixture_format();
	fixture_body = by_rdma;
	has_rdma = true;
	ck_assert_int_eq(loop_new(&loop), 0);
	fabric_begin(loop, 1, 300);
	ck_assert_int_eq(fiber_start(loop, fixture_fiber, NULL), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	fabric_end();
	loop = loop_free(loop);
	temp_dir_remove(fixture_dir);
}
END_TEST

UNIT_MAIN("ost_sendfile", reads_without_sums_leave_by_sendfile, a_cut_does_not_disturb_what_is_being_sent,
	  what_a_gone_peer_left_is_thrown_away, reads_without_sums_leave_memory_by_rdma)
