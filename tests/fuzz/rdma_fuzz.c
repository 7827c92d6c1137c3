/*
 * What an RDMA peer tells: the greeting, which comes before any key is proved, the header of a segment, and the preface of a
 * frame. The first byte chooses.
 */
#include "common/rdma/credits.h"
#include "common/rdma/preface.h"
#include "common/rdma/segment.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>

enum kind { KIND_GREETING, KIND_SEGMENT, KIND_PREFACE, KINDS };

static void greeting_one(const uint8_t *data, size_t size)
{
	uint8_t again[GREETING_SIZE];
	struct greeting greeting, read;
	int err = greeting_decode(data, size, &greeting);

	assert(err == 0 || err == -EPROTO || err == -EPROTONOSUPPORT);
	if (err < 0)
		return;
	assert(greeting.receives >= CREDITS_MIN && greeting.receives <= CREDITS_MAX);
	assert(greeting.segment_size >= SEGMENT_SIZE_MIN && greeting.segment_size <= SEGMENT_SIZE_MAX);
	greeting_encode(&greeting, again);
	assert(greeting_decode(again, sizeof(again), &read) == 0);
	assert(read.receives == greeting.receives && read.segment_size == greeting.segment_size &&
	       read.voids == greeting.voids);
}

static void segment_one(const uint8_t *data, size_t size)
{
	uint8_t *again = fuzz_copy(data, size);
	struct segment_header header, read;
	int err = segment_decode(data, size, &header);

	assert(err == 0 || err == -EPROTO);
	if (err == 0) {
		assert(header.length == size - SEGMENT_HEADER_SIZE);
		segment_encode(&header, again);
		assert(segment_decode(again, size, &read) == 0);
		assert(read.kind == header.kind && read.returned == header.returned && read.length == header.length);
	}
	free(again);
}

static void check_preface(const struct preface *preface, size_t size)
{
	uint8_t again[PREFACE_SIZE_MAX];
	struct preface read;
	size_t need;

	assert(preface->piece_count <= PREFACE_PIECES);
	for (unsigned int i = 0; i < preface->piece_count; i++)
		assert(preface->pieces[i].size > 0);
	if (preface->voidable) {
		assert(preface->piece_count > 0 || preface->place.size > 0);
		(void)preface_void_key(preface);
	}
	/* A place of no size is none, and takes none. */
	need = preface_encode(preface, again);
	assert(need == size || (preface->place.size == 0 && need < size));
	assert(preface_decode(again, need, &read, &size) == 0 && size == need);
	assert(read.apart == preface->apart && read.voidable == preface->voidable);
	assert(read.piece_count == preface->piece_count && read.place.size == preface->place.size);
}

/* It comes in parts: with each it is refused, or told how much there must be of it, which never gets less. */
static void preface_one(const uint8_t *data, size_t size)
{
	size_t need = 0, before = 0;
	struct preface preface;

	for (size_t come = 0; come <= size; come++) {
		uint8_t *part = fuzz_copy(data, come);
		int err = preface_decode(part, come, &preface, &need);

		free(part);
		assert(err == 0 || err == -EPROTO);
		if (err < 0)
			return;
		assert(need >= before && need >= PREFACE_SIZE_MIN && need <= PREFACE_SIZE_MAX);
		before = need;
		if (come == need) {
			check_preface(&preface, need);
			return;
		}
	}
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (size == 0)
		return;
	copy = fuzz_copy(data + 1, size - 1);
	switch (data[0] % KINDS) {
	case KIND_GREETING:
		greeting_one(copy, size - 1);
		break;
	case KIND_SEGMENT:
		segment_one(copy, size - 1);
		break;
	default:
		preface_one(copy, size - 1);
	}
	free(copy);
}

static void fuzz_seeds(void)
{
	const struct greeting greeting = { CREDITS_OURS, SEGMENT_SIZE, true };
	const struct preface prefaces[] = {
		{ .apart = true, .piece_count = 1, .pieces = { { 1, 2, 3 } } },
		{ .place = { 4, 5, 6 }, .voidable = true },
		{ .piece_count = 2, .pieces = { { 1, 2, 3 }, { 4, 5, 6 } }, .place = { 7, 8, 9 } },
	};
	uint8_t out[PREFACE_SIZE_MAX] = { 0 }, selector = KIND_GREETING;

	greeting_encode(&greeting, out);
	fuzz_seed(&selector, 1, out, GREETING_SIZE);
	selector = KIND_SEGMENT;
	for (enum segment_kind kind = SEGMENT_DATA; kind <= SEGMENT_BYE; kind++) {
		uint32_t length = kind == SEGMENT_DATA ? 5 : 0;

		segment_encode(&(struct segment_header){ kind, 3, length }, out);
		fuzz_seed(&selector, 1, out, SEGMENT_HEADER_SIZE + length);
	}
	selector = KIND_PREFACE;
	for (size_t i = 0; i < sizeof(prefaces) / sizeof(*prefaces); i++)
		fuzz_seed(&selector, 1, out, preface_encode(&prefaces[i], out));
}
