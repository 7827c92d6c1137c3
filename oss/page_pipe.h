/*
 * Pipes in which pages of the page cache, by reference, wait for their socket: bulk of a READ without sums (read.c). A
 * bounded number, kept for reuse. For one loop's thread.
 */
#ifndef STRAKE_OSS_PAGE_PIPE_H
#define STRAKE_OSS_PAGE_PIPE_H

#include "common/bulk.h"
#include "common/frame.h"

#define PAGE_PIPES_MAX 64u
#define PAGE_PIPE_ROOM FRAME_BULK_MAX /* in whole pages: a range that begins within one may need one more */

struct page_pipe {
	struct bulk bulk; /* its release() brings the pipe back, emptied; it has no data of its own */
	int in, out;      /* write to `in`, read from `out`; neither blocks */
	struct page_pipes *pipes;
	struct page_pipe *next;
};

/* Those that are not in use. Zero-initialise. */
struct page_pipes {
	struct page_pipe *first;
	unsigned int count; /* all */
};

/* An empty one. NULL: none just now; the bytes must take another way. */
struct page_pipe *page_pipe_get(struct page_pipes *pipes);
void page_pipes_release(struct page_pipes *pipes); /* all are back */

#endif
