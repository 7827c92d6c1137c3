/* Records for the tests of the log: payloads that follow from the index, and a replay that knows them again. */
#ifndef STRAKE_TESTS_LOG_RECORDS_H
#define STRAKE_TESTS_LOG_RECORDS_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#define PAYLOAD_MAX 3000

/* What was replayed last; 0: nothing. */
static uint64_t replayed_first, replayed_last;

static uint32_t random_state = 0x5eed;

static inline uint32_t draw(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % below;
}

static inline size_t payload_make(uint64_t index, uint8_t out[PAYLOAD_MAX])
{
	size_t size = 1 + index * 2654435761u % (index % 50 == 0 ? PAYLOAD_MAX : 90);

	for (size_t i = 0; i < size; i++)
		out[i] = (uint8_t)(index + i * 7);
	return size;
}

/* In order, and each as it was appended. */
static inline int replay_record(void *owner, uint64_t index, const void *payload, size_t size)
{
	uint8_t want[PAYLOAD_MAX];
	size_t want_size = payload_make(index, want);

	(void)owner;
	assert(index == replayed_last + 1 || replayed_first == 0);
	assert(size == want_size && memcmp(payload, want, size) == 0);
	if (replayed_first == 0)
		replayed_first = index;
	replayed_last = index;
	return 0;
}

#endif
