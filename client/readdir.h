/*
 * What READDIRs brought beyond what was asked for: the kernel takes a directory in smaller pieces than the MDT gives
 * it. A few pages per filesystem, each for one directory; believed as long as attributes are, and while the directory
 * is not known to have changed. Thread-safe.
 */
#ifndef STRAKE_CLIENT_READDIR_H
#define STRAKE_CLIENT_READDIR_H

#include "client/inode.h"
#include "proto/mds.pb-c.h"

/*
 * Is it an answer about what comes after that cookie? No name leads elsewhere than into the directory (who reads it may make
 * files of these names), and cookies lead on. Pure.
 */
bool readdir_is_sound(const Strake__ReaddirReply *reply, uint64_t after);

struct dir_cache; /* opaque: readdir.c */

struct dir_cache *dir_cache_new(void); /* NULL: no memory */
struct dir_cache *dir_cache_free(struct dir_cache *cache);

/* All names that the MDT has of the directory, none of them from memory. -ECANCELED: fn wants no more. */
int readdir_names(struct inode *dir, struct fs_ctx *ctx, bool (*fn)(void *arg, const char *name, size_t len),
		  void *arg);

#endif
