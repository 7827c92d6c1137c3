/* Many requests and many objects at once: writes do not mix, a new object is made once, descriptors and buffers are few. */
#include "tests/unit/ost_io.h"
#include "tests/unit/unit.h"

#define WRITERS 24

static unsigned int writers;

static void writer(void *arg)
{
	uint32_t slot = (uint32_t)(uintptr_t)arg;
	uint8_t *data = malloc(STRIPE);

	for (uint32_t round = 1; round <= 20; round++) {
		struct write_call call = {
			.where = a, .data = data, .length = STRIPE, .session = SESSION, .slot = slot, .seq = round
		};

		memset(data, (int)(slot * 8 + round), STRIPE);
		assert(write_call(&call) == 0);
	}
	free(data);
	writers--;
}

static void check_uniform(void)
{
	uint8_t *got = malloc(STRIPE);

	assert(read_at(a, 0, got, STRIPE) == STRIPE);
	for (size_t i = 1; i < STRIPE; i++)
		assert(got[i] == got[0]);
	free(got);
}

/* Writes of the same range never mix, nor does a read see half of one. */
static void overlapping(void)
{
	for (uintptr_t i = 10; i < 10 + WRITERS; i++) {
		writers++;
		assert(fiber_start(loop, writer, (void *)i) == 0);
	}
	while (writers > 0) {
		fiber_sleep_ms(1);
		if (object_file_exists(a))
			check_uniform();
	}
	check_uniform();
}

START_TEST(overlapping_writes_do_not_mix)
{
	fixture_format();
	fixture_run(overlapping);
	temp_dir_remove(fixture_dir);
}
END_TEST

static struct where new_object(uint64_t number)
{
	return (struct where){ .ino = 1000 + number, .gen = 1, .seq = number % 3 };
}

static void maker(void *arg)
{
	uint32_t slot = (uint32_t)(uintptr_t)arg;
	uint8_t *data = malloc(STRIPE);

	for (uint32_t round = 1; round <= 20; round++) {
		struct write_call call = { .where = new_object(round * WRITERS + slot / 2),
					   .data = data + slot % 2 * (STRIPE / 2),
					   .offset = slot % 2 * (STRIPE / 2),
					   .length = STRIPE / 2,
					   .session = SESSION,
					   .slot = slot,
					   .seq = round };

		memset(data, (int)(slot / 2 + round), STRIPE);
		assert(write_call(&call) == 0);
	}
	free(data);
	writers--;
}

/* Objects that are not there yet, many of them at once, each by two who want it. */
static void new_ones(void)
{
	uint8_t *got = malloc(STRIPE), *wanted = malloc(STRIPE);

	for (uintptr_t slot = 10; slot < 10 + WRITERS; slot++) {
		writers++;
		assert(fiber_start(loop, maker, (void *)slot) == 0);
	}
	while (writers > 0)
		fiber_sleep_ms(1);
	for (uint32_t round = 1; round <= 20; round++) {
		for (uint32_t half = 5; half < (10 + WRITERS) / 2; half++) {
			struct totals totals;

			memset(wanted, (int)(half + round), STRIPE);
			assert(read_at(new_object(round * WRITERS + half), 0, got, STRIPE) == STRIPE);
			assert(memcmp(got, wanted, STRIPE) == 0);
			assert(commit(new_object(round * WRITERS + half), &totals) == 0);
			assert(totals.blocks == STRIPE / 512);
		}
	}
	free(got);
	free(wanted);
}

START_TEST(new_objects_are_made_once)
{
	fixture_format();
	fixture_run(new_ones);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* Descriptors are few, dirty ones are synced before they are closed. */
static void many_objects(void)
{
	char text[32], got[64];
	struct totals totals;

	for (uint64_t seq = 0; seq < 100; seq++) {
		snprintf(text, sizeof(text), "object %d", (int)seq);
		assert(write_text((struct where){ .ino = 9, .gen = 1, .seq = seq }, 0, text) == 0);
		assert(ost->object_count <= 9);
	}
	for (uint64_t seq = 0; seq < 100; seq++) {
		snprintf(text, sizeof(text), "object %d", (int)seq);
		assert(read_at((struct where){ .ino = 9, .gen = 1, .seq = seq }, 0, got, sizeof(got)) ==
		       (int)strlen(text));
		assert(memcmp(got, text, strlen(text)) == 0);
	}
	assert(commit((struct where){ .ino = 9, .gen = 1 }, &totals) == 0);
	assert(totals.end == 99 * STRIPE + strlen("object 99") && totals.blocks == 100 * 8);
}

static int refuse_syncs(void *arg, enum disk_op op)
{
	(void)arg;
	return op == DISK_SYNC ? -EIO : 0;
}

static int touch(uint64_t seq)
{
	return write_text((struct where){ .ino = 9, .gen = 1, .seq = seq }, 0, "x");
}

/* What the index knows as well as what is new: a descriptor with bytes that no sync has seen stays open. */
static void dirty_objects(void)
{
	char got[64];

	for (uint64_t seq = 0; seq < 16; seq++)
		assert(touch(seq) == 0 && commit((struct where){ .ino = 9, .gen = 1 }, NULL) == 0);
	/* Seven that are dirty, and a clean one, which goes first though it was used last. */
	for (uint64_t seq = 0; seq < 7; seq++)
		assert(touch(seq) == 0);
	assert(read_at((struct where){ .ino = 9, .gen = 1, .seq = 15 }, 0, got, sizeof(got)) > 0);
	syncs = 0;
	disk_set_fault(ost->disk, count_syncs, NULL);
	assert(touch(7) == 0 && ost->object_count == 8 && syncs == 0);
	assert(touch(8) == 0 && ost->object_count == 8 && syncs > 0);
	for (uint64_t seq = 1; seq < 9; seq++)
		assert(touch(seq) == 0);
	disk_set_fault(ost->disk, refuse_syncs, NULL);
	assert(touch(9) == 0 && ost->object_count > 8);
	disk_set_fault(ost->disk, NULL, NULL);
	assert(touch(10) == 0 && ost->object_count <= 8);
}

static void no_descriptors(void)
{
	for (uint64_t seq = 0; seq < 8; seq++)
		assert(touch(seq) == 0);
	set_fault(DISK_OPEN, -EMFILE, 1);
	assert(touch(8) == 0 && ost->object_count == 4);
}

START_TEST(few_descriptors_suffice)
{
	fixture_format();
	fixture_config.objects_open = 8;
	fixture_run(many_objects);
	fixture_run(dirty_objects);
	fixture_config.objects_open = 100;
	fixture_run(no_descriptors);
	temp_dir_remove(fixture_dir);
}
END_TEST

static bool read_over;

static void read_fiber(void *arg)
{
	(void)arg;
	assert(text_is(a, 0, "x"));
	read_over = true;
}

/* Buffers are bounded; who gets none waits for one. */
static void bounded_buffers(void)
{
	static const size_t sizes[] = { 1, 512 * 1024, DATA_POOL_MAX };
	struct bulk *held[1000];
	size_t count = 0, bytes = 0;

	assert(write_text(a, 0, "x") == 0);
	for (size_t i = 0; i < 3; i++) {
		while ((held[count] = data_pool_get(ost->buffers, sizes[i]))) {
			bytes += held[count++]->size;
			assert(bytes <= 72 * MIB && count < 1000);
		}
	}
	assert(fiber_start(loop, read_fiber, NULL) == 0);
	while (ost->running == 0)
		fiber_sleep_ms(1);
	for (int i = 0; i < 20; i++)
		fiber_yield();
	assert(!read_over);
	for (size_t i = 0; i < count; i++)
		held[i]->release(held[i]);
	while (!read_over)
		fiber_sleep_ms(1);
}

START_TEST(buffers_are_bounded_and_waited_for)
{
	fixture_format();
	fixture_run(bounded_buffers);
	temp_dir_remove(fixture_dir);
}
END_TEST

UNIT_MAIN("ost_many", overlapping_writes_do_not_mix, new_objects_are_made_once, few_descriptors_suffice,
	  buffers_are_bounded_and_waited_for)
