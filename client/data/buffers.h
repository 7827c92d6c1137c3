/*
 * The data buffers of a filesystem: equal, page-aligned pieces of BUFFERS_SIZE + one page, shared by all workers, kept
 * and handed out again last in first out so that they stay in the cache. Thread-safe. What is out is counted against
 * the filesystem's memory budget by its users, not here; they see to it that idle ones have room in it, too: buffers_limit().
 * Their memory is known to last (common/lasting.h).
 *
 * A new one costs the kernel more than the bytes that come into it: a fault for each page. So as many are kept as are in use
 * at a time, up to a bound, and given back slowly when they are not needed any more: buffers_trim().
 */
#ifndef STRAKE_CLIENT_BUFFERS_H
#define STRAKE_CLIENT_BUFFERS_H

#include "common/bulk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUFFERS_SIZE (512u * 1024)
#define BUFFERS_ROOM (BUFFERS_SIZE + 4096u)

struct buffers; /* opaque: buffers.c */

/* keep_max: so many at most are kept idle. */
struct buffers *buffers_new(unsigned int keep_max);
struct buffers *buffers_free(struct buffers *buffers); /* all have been released */

/* BUFFERS_ROOM bytes; its release() may be called by any thread. NULL: no memory. */
struct bulk *buffers_get(struct buffers *buffers);

/* To be called now and then, by one thread: half of those that nobody has needed since the last call go. */
void buffers_trim(struct buffers *buffers);

/* So many may stay idle now; what more there are goes. Cheap where there are not. */
void buffers_limit(struct buffers *buffers, uint64_t idle_max);

#endif
