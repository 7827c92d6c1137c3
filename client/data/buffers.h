/*
 * The data buffers of a filesystem: equal, page-aligned pieces of BUFFERS_SIZE + one page, shared by all workers, kept
 * and handed out again last in first out so that they stay in the cache. Thread-safe. What is out is counted against
 * the filesystem's memory budget by its users, not here.
 */
#ifndef STRAKE_CLIENT_BUFFERS_H
#define STRAKE_CLIENT_BUFFERS_H

#include "common/bulk.h"

#include <stdbool.h>
#include <stddef.h>

#define BUFFERS_SIZE (512u * 1024)
#define BUFFERS_ROOM (BUFFERS_SIZE + 4096u)

struct buffers; /* opaque: buffers.c */

struct buffers *buffers_new(void);
struct buffers *buffers_free(struct buffers *buffers); /* all have been released */

/* BUFFERS_ROOM bytes; its release() may be called by any thread. NULL: no memory. */
struct bulk *buffers_get(struct buffers *buffers);

#endif
