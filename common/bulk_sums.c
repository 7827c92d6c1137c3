#include "common/bulk_sums.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <stdbool.h>

/* ISA-L takes the length as an int. */
#define CRC_STEP ((size_t)1 << 30)

/*
 * ISA-L leaves out the inversion before and after that the standard has; and it takes a pointer to what it does not
 * change.
 */
uint32_t crc32c_more(uint32_t sum, const void *data, size_t size)
{
	unsigned char *at = (unsigned char *)(uintptr_t)data;

	sum = ~sum;
	while (size > 0) {
		size_t step = size < CRC_STEP ? size : CRC_STEP;

		sum = crc32_iscsi(at, (int)step, sum);
		at += step;
		size -= step;
	}
	return ~sum;
}

uint32_t crc32c(const void *data, size_t size)
{
	return crc32c_more(0, data, size);
}

/* From offset to the next cut. */
static size_t piece_room(uint64_t offset)
{
	return BULK_PIECE - (size_t)(offset % BULK_PIECE);
}

size_t bulk_sums_count(uint64_t offset, size_t length)
{
	size_t first = piece_room(offset);

	if (length == 0)
		return 0;
	if (length <= first)
		return 1;
	return 1 + (length - first - 1) / BULK_PIECE + 1;
}

void bulk_sums_make(uint64_t offset, const struct iovec *iov, int iov_count, uint32_t *sums)
{
	size_t room = piece_room(offset); /* left in the piece */
	uint32_t sum = 0;                 /* of the piece up to here */
	bool begun = false;

	for (int i = 0; i < iov_count; i++) {
		const uint8_t *at = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		while (left > 0) {
			size_t step = left < room ? left : room;

			sum = crc32c_more(sum, at, step);
			begun = true;
			at += step;
			left -= step;
			room -= step;
			if (room > 0)
				continue;
			*sums++ = sum;
			sum = 0;
			begun = false;
			room = BULK_PIECE;
		}
	}
	if (begun)
		*sums = sum;
}

int bulk_sums_check(uint64_t offset, const void *data, size_t length, const uint32_t *sums, size_t count,
		    uint64_t *ret_bad_offset)
{
	const uint8_t *at = data;

	if (count != bulk_sums_count(offset, length))
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		size_t room = piece_room(offset), step = length < room ? length : room;

		if (crc32c(at, step) != sums[i]) {
			if (ret_bad_offset)
				*ret_bad_offset = offset;
			return -EBADMSG;
		}
		offset += step;
		at += step;
		length -= step;
	}
	return 0;
}
