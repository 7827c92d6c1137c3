/*
 * An OST's data buffers, in three sizes (common/bufpool.h): for small files, for a mount's usual request, for a frame's
 * largest bulk. Page-aligned, so that O_DIRECT takes them; bounded, so that many clients cannot take all memory: who gets
 * none waits. For one loop's thread.
 */
#ifndef STRAKE_OSS_DATA_POOL_H
#define STRAKE_OSS_DATA_POOL_H

#include "common/bulk.h"
#include "common/frame.h"

#define DATA_POOL_MAX FRAME_BULK_MAX

struct data_pool; /* opaque: data_pool.c */

/* available(owner) is called when a buffer has come back after somebody was refused one. */
int data_pool_new(void (*available)(void *owner), void *owner, struct data_pool **ret_pool);
struct data_pool *data_pool_free(struct data_pool *pool); /* nobody waits */

/* size <= DATA_POOL_MAX. NULL: none just now. */
struct bulk *data_pool_get(struct data_pool *pool, size_t size);
/* The same, but waits for one, in a fiber. Hold no lock meanwhile: those who have the buffers may wait for it. */
struct bulk *data_pool_wait(struct data_pool *pool, size_t size);

/* Tell those who wait to try again: now and then, for when it was the machine that had no memory. */
void data_pool_poke(struct data_pool *pool);

#endif
