/*
 * Frames: header and body. The first byte says whether the sums are made right before: what lies behind them would
 * never be reached otherwise.
 */
#include "common/bulk_sums.h"
#include "common/transport_frame.h"
#include "tests/fuzz/fuzz.h"

#include <endian.h>
#include <errno.h>

#define BODY_LEN_AT   40
#define BODY_SUM_AT   64
#define HEADER_SUM_AT 68

static void put_sum(uint8_t *at, uint32_t sum)
{
	sum = htole32(sum);
	memcpy(at, &sum, sizeof(sum));
}

static void sums_mend(uint8_t *frame, size_t size)
{
	uint32_t body_len;

	if (size < FRAME_HEADER_SIZE)
		return;
	memcpy(&body_len, frame + BODY_LEN_AT, sizeof(body_len));
	body_len = le32toh(body_len);
	if (body_len <= size - FRAME_HEADER_SIZE)
		put_sum(frame + BODY_SUM_AT, crc32c(frame + FRAME_HEADER_SIZE, body_len));
	put_sum(frame + HEADER_SUM_AT, crc32c(frame, HEADER_SUM_AT));
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	struct frame_header header = { 0 };
	uint8_t again[FRAME_HEADER_SIZE], *frame;
	size_t need = 0;
	int err;

	if (size == 0)
		return;
	frame = fuzz_copy(data + 1, --size);
	if (data[0] & 1)
		sums_mend(frame, size);
	err = transport_frame_parse(frame, size, &header, &need);
	assert(err == 0 || err == -EPROTO || err == -EPROTONOSUPPORT || err == -EBADMSG || err == -EMSGSIZE);
	assert(need >= FRAME_HEADER_SIZE && need <= FRAME_HEADER_SIZE + FRAME_BODY_MAX);
	if (err == 0 && need <= size) {
		assert(header.body_len == need - FRAME_HEADER_SIZE && header.bulk_len <= FRAME_BULK_MAX);
		frame_encode(&header, again);
		assert(memcmp(again, frame, FRAME_HEADER_SIZE) == 0);
	}
	free(frame);
}

static void fuzz_seeds(void)
{
	static const uint8_t body[] = "some bytes of a body";
	uint8_t out[FRAME_HEADER_SIZE + sizeof(body)];

	for (uint8_t mend = 0; mend < 2; mend++) {
		for (enum frame_kind kind = FRAME_REQUEST; kind <= FRAME_PUSH; kind++) {
			const struct transport_message message = {
				.header = { .kind = kind, .opcode = 0x310, .xid = 7, .session = 8, .slot = 9 },
				.raw = body,
				.raw_len = sizeof(body),
			};

			transport_frame_pack(&message, sizeof(body), 100, out);
			fuzz_seed(&mend, 1, out, sizeof(out));
			fuzz_seed(&mend, 1, out, FRAME_HEADER_SIZE);
		}
	}
}
