/*
 * CRC32C (Castagnoli, RFC 3720 appendix B.4; computed by ISA-L) of buffers, and of bulk in pieces cut at multiples of
 * BULK_PIECE of the object's offset, so that the first and the last piece may be short.
 */
#ifndef STRAKE_COMMON_BULK_SUMS_H
#define STRAKE_COMMON_BULK_SUMS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define BULK_PIECE 4096u

uint32_t crc32c(const void *data, size_t size);
uint32_t crc32c_more(uint32_t sum, const void *data, size_t size); /* sum of what came before, then of this */

/* How many sums a bulk of that place and length has. */
size_t bulk_sums_count(uint64_t offset, size_t length);
/* Into sums[bulk_sums_count()]. The data may lie in several parts. */
void bulk_sums_make(uint64_t offset, const struct iovec *iov, int iov_count, uint32_t *sums);
/* 0, or -EBADMSG and (if not NULL) the offset of the first bad piece; -EINVAL when count is not what it must be. */
int bulk_sums_check(uint64_t offset, const void *data, size_t length, const uint32_t *sums, size_t count,
		    uint64_t *ret_bad_offset);

#endif
