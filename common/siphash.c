#include "common/siphash.h"

#include <endian.h>
#include <string.h>

#define ROUNDS_WORD  2 /* after each word of the message */
#define ROUNDS_FINAL 4

struct siphash_state {
	uint64_t v0, v1, v2, v3;
};

static uint64_t load_le64(const uint8_t *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	return le64toh(word);
}

static uint64_t rotate(uint64_t word, unsigned int bits)
{
	return word << bits | word >> (64 - bits);
}

static void siphash_rounds(struct siphash_state *state, unsigned int count)
{
	while (count-- > 0) {
		state->v0 += state->v1;
		state->v2 += state->v3;
		state->v1 = rotate(state->v1, 13) ^ state->v0;
		state->v3 = rotate(state->v3, 16) ^ state->v2;
		state->v0 = rotate(state->v0, 32);

		state->v2 += state->v1;
		state->v0 += state->v3;
		state->v1 = rotate(state->v1, 17) ^ state->v2;
		state->v3 = rotate(state->v3, 21) ^ state->v0;
		state->v2 = rotate(state->v2, 32);
	}
}

static void siphash_word(struct siphash_state *state, uint64_t word)
{
	state->v3 ^= word;
	siphash_rounds(state, ROUNDS_WORD);
	state->v0 ^= word;
}

uint64_t siphash(const uint8_t key[SIPHASH_KEY_SIZE], const void *data, size_t size)
{
	const uint64_t k0 = load_le64(key), k1 = load_le64(key + 8);
	/* The constants are the paper's: "somepseudorandomlygeneratedbytes". */
	struct siphash_state state = {
		.v0 = k0 ^ UINT64_C(0x736f6d6570736575),
		.v1 = k1 ^ UINT64_C(0x646f72616e646f6d),
		.v2 = k0 ^ UINT64_C(0x6c7967656e657261),
		.v3 = k1 ^ UINT64_C(0x7465646279746573),
	};
	const uint8_t *bytes = data;
	/* The last word: what is left of the message, and its length modulo 256 in the highest byte. */
	uint64_t last = (uint64_t)size << 56;
	size_t at = 0;

	for (; size - at >= 8; at += 8)
		siphash_word(&state, load_le64(bytes + at));
	for (unsigned int shift = 0; at < size; at++, shift += 8)
		last |= (uint64_t)bytes[at] << shift;
	siphash_word(&state, last);

	state.v2 ^= 0xff;
	siphash_rounds(&state, ROUNDS_FINAL);
	return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}
