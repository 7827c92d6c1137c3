/*
 * Bulk memory: a piece of data on its way between a socket and a disk or a caller, and who wants it back. It comes from
 * a pool (bufpool.h), or from whatever owner made it; the struct is embedded in what the owner keeps of it.
 *
 * Handed from one to the next without being copied; whoever has it last calls release(), once.
 */
#ifndef STRAKE_COMMON_BULK_H
#define STRAKE_COMMON_BULK_H

#include <stddef.h>

struct bulk {
	void *data;
	size_t size; /* room */
	void (*release)(struct bulk *bulk);
};

#endif
