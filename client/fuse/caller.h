/*
 * Who waits in the kernel for an answer: is about to die, is member of a group, is the kernel itself.
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
#include <sys/types.h>

/* Has that thread ended, or will it as soon as its call returns? By /proc: some system calls, which do not wait. */
bool caller_is_dying(uint32_t tid);

/* The same by what /proc/TID/status says. */
bool caller_status_is_dying(FILE *status);

/*
 * What a request of uid does not tell of its caller: is he a member of that group, or has he the right to keep setgid bits
 * as if he were (CAP_FSETID)? And that right alone. False where /proc does not show him: so of whoever an NFS server asks
 * for, but for root.
 */
bool caller_is_member(uint32_t tid, uid_t uid, gid_t group);
bool caller_has_fsetid(uint32_t tid, uid_t uid);
bool caller_status_is_member(FILE *status, gid_t group);
bool caller_status_has_fsetid(FILE *status);

/*
 * Is it a thread of the kernel, such as an NFS server's? It comes to what it opens by handles, and so by no name; and
 * makes nothing of an ESTALE but to hand it on. Read from /proc/TID/stat.
 */
bool caller_is_kernel(uint32_t tid);
bool caller_stat_is_kernel(FILE *stat);

#endif
