/* UUIDs (RFC 9562, version 4): filesystems, targets, mounts. */
#ifndef STRAKE_COMMON_UUID_H
#define STRAKE_COMMON_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UUID_SIZE        16
#define UUID_STRING_SIZE 37 /* with the NUL */

struct uuid {
	uint8_t bytes[UUID_SIZE];
};

void uuid_make(struct uuid *ret_uuid); /* getrandom(2); does not fail */
bool uuid_is_zero(const struct uuid *uuid);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
const char *uuid_format(const struct uuid *uuid, char out[UUID_STRING_SIZE]); /* returns out */
int uuid_parse(const char *text, struct uuid *ret_uuid);                      /* -EINVAL */
int uuid_from_bytes(const void *data, size_t size, struct uuid *ret_uuid);    /* -EINVAL unless 16 bytes */

#endif
