/*
 * One thread that makes the system calls which may sleep and which the ring does not know (ftruncate, lseek for holes,
 * statvfs, syncfs, the close that frees an unlinked file), or not as one (disk_make()), so that the loop never does.
 */
#ifndef STRAKE_OSS_HELPER_H
#define STRAKE_OSS_HELPER_H

#include "common/loop.h"

#include <stdbool.h>

struct helper; /* opaque: helper.c */

int helper_new(struct loop *loop, struct helper **ret_helper);
struct helper *helper_free(struct helper *helper); /* finishes what was asked first; nobody waits any more */

/* Run fn(arg) there and wait for it, in a fiber of the loop. Returns its result. */
int helper_run(struct helper *helper, int (*fn)(void *arg), void *arg);

/* Would what is asked now begin at once? */
bool helper_is_idle(struct helper *helper);

/* Close a descriptor there; nobody waits. */
void helper_close(struct helper *helper, int fd);

#endif
