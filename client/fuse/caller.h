/*
 * Who waits in the kernel for an answer.
 *
 * Linux tells of every signal that a caller gets (INTERRUPT), once per request: also of timers, children's ends and
 * others that no call of a local filesystem is cut short by, and that programs do not expect there. So a request is
 * given up only when its caller is about to die; as the kernel does not tell when that comes later, one has to look.
 */
#ifndef STRAKE_CLIENT_FUSE_CALLER_H
#define STRAKE_CLIENT_FUSE_CALLER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Has that thread ended, or will it as soon as its call returns? By /proc: some system calls, which do not wait. */
bool caller_is_dying(uint32_t tid);

/* The same by what /proc/TID/status says. */
bool caller_status_is_dying(FILE *status);

#endif
