/* COPY: bytes and holes, who may and may not, and what a kill in the middle or after it leaves. */
#include "tests/unit/ost_fixture.h"

#include "oss/object_path.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdlib.h>

static const struct where a = { .ino = 100, .gen = 1 }, b = { .ino = 200, .gen = 1 };

static uint8_t *pattern(size_t size, unsigned int seed)
{
	uint8_t *bytes = malloc(size);

	assert(bytes);
	for (size_t i = 0; i < size; i++) {
		seed = seed * 1103515245 + 12345;
		bytes[i] = (uint8_t)(seed >> 16);
	}

	return bytes;
}

/* All of an object is that, and zeros behind. */
static bool object_is(struct where where, const uint8_t *wanted)
{
	uint8_t *got = malloc(STRIPE);
	bool same;

	assert(got && read_at(where, 0, got, STRIPE) >= 0);
	same = memcmp(got, wanted, STRIPE) == 0;
	free(got);

	return same;
}

/* --- bytes and holes ----------------------------------------------------------------------------------------------------- */

static void bytes_body(void)
{
	uint8_t *source = pattern(STRIPE, 1), *model = calloc(1, STRIPE);
	unsigned int seed = 7;
	struct totals totals;
	int64_t grown = 0;

	assert(model && write_at(a, 0, source, STRIPE) == 0);
	assert(copy_call(a, 0, b, 0, STRIPE, SESSION, ++next_seq, &grown) == 0 && object_is(b, source));
	assert(glimpse(b, &totals) == 0 && grown == (int64_t)totals.blocks && totals.end == STRIPE);
	assert(copy_call(a, 0, b, 0, STRIPE, SESSION, ++next_seq, &grown) == 0 && grown == 0);

	/* Any part to any place, over what is there. */
	memcpy(model, source, STRIPE);
	for (int i = 0; i < 100; i++) {
		uint32_t from, to, length;

		seed = seed * 1103515245 + 12345;
		from = (seed >> 8) % STRIPE;
		seed = seed * 1103515245 + 12345;
		to = (seed >> 8) % STRIPE;
		seed = seed * 1103515245 + 12345;
		length = 1 + (seed >> 8) % (STRIPE - (from > to ? from : to));
		assert(copy(a, from, b, to, length) == 0);
		memcpy(model + to, source + from, length);
	}
	assert(object_is(b, model) && object_is(a, source));

	/* Within one object, where the parts do not overlap. */
	assert(copy(b, 100, b, 40000, 20000) == 0);
	memcpy(model + 40000, model + 100, 20000);
	assert(object_is(b, model));
	assert(copy(b, 0, b, 4095, 4096) == -EINVAL && copy(b, 4096, b, 1, 4096) == -EINVAL &&
	       copy(b, 0, b, 0, 1) == -EINVAL);
	free(source);
	free(model);
}

static void holes_body(void)
{
	struct where c = { .ino = 300, .gen = 1 }, none = { .ino = 400, .gen = 1 }, new = { .ino = 500, .gen = 1 };
	uint8_t *bytes = pattern(STRIPE, 2), *model = calloc(1, STRIPE);
	struct totals totals;

	/* Holes stay, and are made where there were bytes. */
	assert(model && write_at(a, 16384, bytes, 4096) == 0 && write_at(a, 40000, bytes, 100) == 0);
	memcpy(model + 16384, bytes, 4096);
	memcpy(model + 40000, bytes, 100);
	assert(copy(a, 0, b, 0, STRIPE) == 0 && object_is(b, model));
	assert(glimpse(b, &totals) == 0 && totals.blocks <= 24 && seek(b, 0, false) == 16384);
	assert(write_at(c, 0, bytes, STRIPE) == 0 && copy(a, 0, c, 0, STRIPE) == 0 && object_is(c, model));
	assert(glimpse(c, &totals) == 0 && totals.blocks <= 24 && seek(c, 0, false) == 16384);

	/* Of an object that there is not: none is made, and one that is there is emptied. */
	assert(copy(none, 0, new, 0, STRIPE) == 0 && glimpse(new, &totals) == 0 && totals.end == 0);
	assert(copy(none, 100, c, 16384, 4096) == 0);
	memset(model + 16384, 0, 4096);
	assert(object_is(c, model));
	free(bytes);
	free(model);
}

/* Room that the target may lose is taken first for what the source has, not for its holes. */
static void room_body(void)
{
	uint8_t *bytes = pattern(STRIPE, 8), *model = calloc(1, STRIPE);
	const uint32_t last = STRIPE - 4096;
	struct totals totals;

	assert(model && write_at(a, 0, bytes, 4096) == 0 && write_at(a, last, bytes, 4096) == 0);
	memcpy(model, bytes, 4096);
	memcpy(model + last, bytes, 4096);
	assert(allocate(b, 0, 4096) == 0 && copy(a, 0, b, 0, STRIPE) == 0 && object_is(b, model));
	assert(glimpse(b, &totals) == 0 && totals.blocks <= 24 && seek(b, 4096, false) == last);
	free(bytes);
	free(model);
}

static void forms_body(void)
{
	struct where other = { .ino = 200, .gen = 1, .stripe = STRIPE * 2 };
	uint8_t *bytes = pattern(STRIPE, 3);

	assert(write_at(a, 0, bytes, STRIPE) == 0 && write_text(b, 0, "target") == 0);
	assert(copy(a, 0, b, 0, 0) == -EINVAL && copy(a, 1, b, 0, STRIPE) == -EINVAL &&
	       copy(a, 0, b, 1, STRIPE) == -EINVAL);
	assert(copy(a, STRIPE + 1, b, 0, 1) == -EINVAL && copy(a, 0, other, 0, 1) == -EINVAL);
	assert(text_is(b, 0, "target"));
	free(bytes);
}

START_TEST(bytes_and_holes_arrive)
{
	void (*const bodies[])(void) = { bytes_body, holes_body, room_body, forms_body };

	for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
		fixture_format();
		fixture_run(bodies[i]);
		temp_dir_remove(fixture_dir);
	}
}
END_TEST

/* --- who may ------------------------------------------------------------------------------------------------------------- */

static void fence_body(void)
{
	char got[100];
	const uint64_t none[] = { SESSION + 1 }, both[] = { SESSION, SESSION + 1 };
	uint32_t seq;

	assert(write_text(a, 0, "source") == 0 && write_text(b, 0, "target") == 0);
	/* Cuts that it brings are applied first, of either; an older one of the target is refused. */
	assert(copy(with_cut(a, 1, 3, UINT64_MAX), 0, b, 0, 6) == 0);
	assert(read_at(b, 0, got, 100) == 6 && memcmp(got, "sou\0\0\0", 6) == 0);
	assert(write_text(b, 0, "target") == 0);
	assert(glimpse(with_cut(b, 1, 3, UINT64_MAX), &(struct totals){ 0 }) == 0);
	assert(copy(a, 0, b, 0, 3) == -ESTALE && text_is(b, 0, "tar"));
	assert(copy(a, 0, with_cut(b, 1, 3, UINT64_MAX), 0, 3) == 0 && text_is(b, 0, "sou"));

	/* Once in a slot, however often it is sent. */
	seq = next_seq += 2;
	assert(copy_call(a, 0, with_cut(b, 1, 3, UINT64_MAX), 0, 1, SESSION, seq, NULL) == 0);
	assert(write_call(&(struct write_call){ .where = with_cut(b, 1, 3, UINT64_MAX),
						.data = "x",
						.length = 1,
						.session = SESSION,
						.slot = 2,
						.seq = 1 }) == 0);
	assert(copy_call(a, 0, with_cut(b, 1, 3, UINT64_MAX), 0, 1, SESSION, seq, NULL) == 0 && text_is(b, 0, "xou"));
	assert(copy_call(a, 0, with_cut(b, 1, 3, UINT64_MAX), 0, 1, SESSION, seq - 1, NULL) == -ESTALE);

	/* Not by who was evicted, not from or to what is gone. */
	assert(push_sessions(mdt, 2, none, 1, SESSION + 1) == 0);
	assert(copy(a, 0, with_cut(b, 1, 3, UINT64_MAX), 0, 1) == -ENOSESSION && text_is(b, 0, "xou"));
	assert(push_sessions(mdt, 3, both, 2, SESSION + 1) == 0);
	assert(destroy(&a.ino, &a.gen, 1, SESSION) == 0 && copy(a, 0, with_cut(b, 1, 3, UINT64_MAX), 0, 1) == -ESTALE);
	assert(destroy(&b.ino, &b.gen, 1, SESSION) == 0 &&
	       copy((struct where){ .ino = 300, .gen = 1 }, 0, b, 0, 1) == -ESTALE);
}

START_TEST(only_who_may_copies_and_only_what_there_is)
{
	fixture_format();
	fixture_run(fence_body);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- each waiting for the other --------------------------------------------------------------------------------------------- */

static unsigned int ended;

static void there_fiber(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < 50; i++)
		assert(copy_call(a, 0, with_cut(b, 1 + i, 60000, 60001), 0, 4096, SESSION, 1000 + i, NULL) == 0 ||
		       i > 0);
	ended++;
}

static int back(uint32_t i)
{
	Strake__CopyRequest request = STRAKE__COPY_REQUEST__INIT;
	struct call rpc = { .opcode = OP_COPY, .request = &request.base, .session = SESSION, .slot = 2, .seq = 1 + i };
	struct object_message from, to;
	int err;

	request.from = object_message(&from, b);
	request.to = object_message(&to, with_cut(a, 1 + i, 60000, 60001));
	request.from_offset = request.to_offset = 8192;
	request.length = 4096;
	err = peer_call(client, &rpc);
	call_release(&rpc);

	return err;
}

static void circle_body(void)
{
	uint8_t *bytes = pattern(STRIPE, 4);

	assert(write_at(a, 0, bytes, STRIPE) == 0 && write_at(b, 0, bytes, STRIPE) == 0);
	assert(fiber_start(loop, there_fiber, NULL) == 0);
	for (uint32_t i = 0; i < 50; i++)
		assert(back(i) == 0);
	while (!ended)
		fiber_sleep_ms(1);
	free(bytes);
}

START_TEST(two_that_copy_to_each_other_and_cut_end)
{
	fixture_format();
	fixture_run(circle_body);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- kills --------------------------------------------------------------------------------------------------------------- */

static uint64_t before;

static void copied_then_killed(void)
{
	uint8_t *old = pattern(STRIPE, 5), *new = pattern(STRIPE, 6);
	FILE *note;
	char path[PATH_MAX + 16];

	/* What is copied over was written and not committed; and a part of a page that stays. */
	assert(write_at(b, 0, old, STRIPE) == 0 && write_at(a, 0, new, STRIPE) == 0);
	assert(copy(a, 0, b, 0, 8192) == 0 && copy(a, 10000, b, 10000, 5000) == 0);
	snprintf(path, sizeof(path), "%s/instance", fixture_dir);
	note = fopen(path, "w");
	assert(note && fprintf(note, "%llu", (unsigned long long)ost->instance) > 0 && fclose(note) == 0);
	kill_self();
}

static void after_copied(void)
{
	uint8_t *model = pattern(STRIPE, 5), *new = pattern(STRIPE, 6);

	memcpy(model, new, 8192);
	memcpy(model + 10000, new + 10000, 5000);
	/* Nothing is lost, so nobody has to send what the copy covered. */
	assert(ost->recovered && ost->kept && ost->instance == before && object_is(b, model) && object_is(a, new));
	free(model);
	free(new);
}

static uint64_t noted(void)
{
	char path[PATH_MAX + 16];
	unsigned long long number = 0;
	FILE *note;

	snprintf(path, sizeof(path), "%s/instance", fixture_dir);
	note = fopen(path, "r");
	ck_assert(note && fscanf(note, "%llu", &number) == 1 && fclose(note) == 0);
	ck_assert_int_eq(unlink(path), 0);

	return number;
}

static char first_synced; /* what stood there when something was first synced */

static int look_at_the_first_sync(void *arg, enum disk_op op)
{
	char path[OBJECT_PATH_SIZE];
	int fd;

	(void)arg;
	if (op != DISK_SYNC || first_synced != 0)
		return 0;
	object_path(b.ino, b.gen, b.seq, path);
	fd = openat(ost->objects_dir, path, O_RDONLY | O_CLOEXEC);
	assert(fd >= 0 && pread(fd, &first_synced, 1, 2) == 1);
	close(fd);

	return 0;
}

/* Nobody looks any more whether the rest of its pages is still there: it is durable before. */
static void part_of_a_page(void)
{
	assert(write_text(a, 0, "new") == 0 && write_text(b, 0, "older bytes") == 0);
	disk_set_fault(ost->disk, look_at_the_first_sync, NULL);
	assert(copy(a, 0, b, 2, 3) == 0);
	assert(first_synced == 'd' && text_is(b, 0, "olnew bytes"));
}

START_TEST(what_shares_a_page_with_a_copy_is_durable_before)
{
	fixture_format();
	fixture_run(part_of_a_page);
	temp_dir_remove(fixture_dir);
}
END_TEST

START_TEST(a_kill_after_a_copy_loses_nothing_and_sends_nothing_again)
{
	fixture_format();
	fixture_run_killed(copied_then_killed);
	before = noted();
	fixture_run(after_copied);
	temp_dir_remove(fixture_dir);
}
END_TEST

UNIT_MAIN("ost_copy", bytes_and_holes_arrive, only_who_may_copies_and_only_what_there_is,
	  two_that_copy_to_each_other_and_cut_end, what_shares_a_page_with_a_copy_is_durable_before,
	  a_kill_after_a_copy_loses_nothing_and_sends_nothing_again)
