/* Records: what goes in comes out; anything else is refused. */
#include "mds/record.h"
#include "unit.h"

#include <errno.h>
#include <string.h>

static struct record_space space;

static const uint64_t holders[] = { 5, 6, UINT64_MAX };
static const uint16_t osts[] = { 3, 0, 65535 };

static size_t make(uint8_t *out, size_t size)
{
	struct record record = {
		.op = OP_RENAME,
		.facts = FACT_ATTR_UNSURE | FACT_NO_SPACE,
		.time_ns = -5,
		.session = UINT64_C(1) << 60,
		.slot = 7,
		.seq = UINT32_MAX,
		.number = 12345,
		.holder_count = 3,
		.ost_count = 3,
		.holders = holders,
		.osts = osts,
		.body = { "body", 4 },
	};

	ck_assert_uint_le(record_size(&record), size);
	record_encode(&record, out, record_size(&record));
	return record_size(&record);
}

START_TEST(comes_back)
{
	uint8_t payload[256];
	size_t size = make(payload, sizeof(payload));
	struct record record;

	ck_assert_int_eq(record_decode((struct bytes){ payload, size }, &space, &record), 0);
	ck_assert_uint_eq(record.op, OP_RENAME);
	ck_assert_uint_eq(record.facts, FACT_ATTR_UNSURE | FACT_NO_SPACE);
	ck_assert_int_eq(record.time_ns, -5);
	ck_assert_uint_eq(record.session, UINT64_C(1) << 60);
	ck_assert_uint_eq(record.slot, 7);
	ck_assert_uint_eq(record.seq, UINT32_MAX);
	ck_assert_uint_eq(record.number, 12345);
	ck_assert_uint_eq(record.holder_count, 3);
	ck_assert_mem_eq(record.holders, holders, sizeof(holders));
	ck_assert_uint_eq(record.ost_count, 3);
	ck_assert_mem_eq(record.osts, osts, sizeof(osts));
	ck_assert_uint_eq(record.body.size, 4);
	ck_assert_mem_eq(record.body.data, "body", 4);
}
END_TEST

START_TEST(other_lengths_are_refused)
{
	uint8_t payload[256] = { 0 };
	size_t size = make(payload, sizeof(payload));
	struct record record;

	for (size_t shorter = 0; shorter < size; shorter++)
		ck_assert_int_eq(record_decode((struct bytes){ payload, shorter }, &space, &record), -EBADMSG);
	ck_assert_int_eq(record_decode((struct bytes){ payload, size + 1 }, &space, &record), -EBADMSG);
}
END_TEST

START_TEST(any_bytes_are_judged)
{
	uint8_t payload[256], bad[256];
	size_t size = make(payload, sizeof(payload));
	struct record record;
	unsigned int seed = 1;

	/* Sanitizers watch. */
	for (int i = 0; i < 200000; i++) {
		memcpy(bad, payload, size);
		for (int flips = 0; flips < 3; flips++)
			bad[(size_t)rand_r(&seed) % size] = (uint8_t)rand_r(&seed);
		(void)record_decode((struct bytes){ bad, size }, &space, &record);
	}
}
END_TEST

UNIT_MAIN("mdt_record", comes_back, other_lengths_are_refused, any_bytes_are_judged)
