/*
 * A pool of equal, aligned buffers for one loop: bulk on its way between sockets and disk.
 *
 *   - A buffer is made when it is first needed, up to count_max of them, and kept. What came back last is given out
 *     first, so that a quiet loop works in few buffers, which stay in its cache.
 *   - All calls, release() of the buffers too, are of the loop's thread.
 *   - The content of a buffer is whatever its last user left.
 *   - Their memory is known to last (lasting.h): nothing moves in or out of what is given back.
 */
#ifndef STRAKE_COMMON_BUFPOOL_H
#define STRAKE_COMMON_BUFPOOL_H

#include "common/bulk.h"

#include <stddef.h>

struct bufpool; /* opaque: bufpool.c */

/* size > 0 bytes each; alignment is a power of two, at least a page is given. -EINVAL, -ENOMEM. */
int bufpool_new(size_t size, size_t alignment, unsigned int count_max, struct bufpool **ret_pool);

/* Returns NULL. Buffers that are out stay valid; the pool's memory goes with the last of them. */
struct bufpool *bufpool_free(struct bufpool *pool);

/*
 * A buffer; its release() brings it back. NULL: count_max are out (or no memory for another). Then the next release()
 * calls available(owner), if that is set, with the buffer already back: it may bufpool_get().
 */
struct bulk *bufpool_get(struct bufpool *pool);
void bufpool_set_available(struct bufpool *pool, void (*available)(void *owner), void *owner);

unsigned int bufpool_count_out(const struct bufpool *pool);

#endif
