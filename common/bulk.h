/*
 * Bulk memory: a piece of data on its way between a socket and a disk or a caller, and who wants it back. It comes from
 * a pool (bufpool.h), or from whatever owner made it; the struct is embedded in what the owner keeps of it.
 *
 * Handed from one to the next without being copied; whoever has it last calls release(), once.
 */
#ifndef STRAKE_COMMON_BULK_H
#define STRAKE_COMMON_BULK_H

#include <stddef.h>
#include <sys/uio.h>

struct bulk {
	void *data;
	size_t size; /* room */
	void (*release)(struct bulk *bulk);
};

/* Bytes of bulk that lies in parts. */
static inline size_t bulk_iov_size(const struct iovec *iov, int count)
{
	size_t size = 0;

	for (int i = 0; i < count; i++)
		size += iov[i].iov_len;
	return size;
}

#endif
