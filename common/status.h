/* The one map between errno and the wire's status numbers (proto/status.def). Total in both directions. */
#ifndef STRAKE_COMMON_STATUS_H
#define STRAKE_COMMON_STATUS_H

#include <stdint.h>

/* The errno by which an unknown session is told: see proto/status.def. */
#define ENOSESSION ENOTUNIQ

uint32_t status_from_errno(int err);  /* 0 or -errno in; what has no number becomes EIO's */
int status_to_errno(uint32_t status); /* 0 or -errno; an unknown number becomes -EIO */

#endif
