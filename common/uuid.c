#include "common/uuid.h"

#include "common/hex.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* The text is groups of bytes with dashes between them. */
static const uint8_t groups[] = { 4, 2, 2, 2, 6 };
#define GROUPS (sizeof(groups) / sizeof(*groups))

void uuid_make(struct uuid *ret_uuid)
{
	/* Up to 256 bytes come whole once the pool is ready (getrandom(2)); only the wait for that is interrupted. */
	while (getrandom(ret_uuid->bytes, UUID_SIZE, 0) != UUID_SIZE)
		assert(errno == EINTR);
	ret_uuid->bytes[6] = (uint8_t)((ret_uuid->bytes[6] & 0x0f) | 0x40); /* version 4 */
	ret_uuid->bytes[8] = (uint8_t)((ret_uuid->bytes[8] & 0x3f) | 0x80); /* the RFC's variant */
}

bool uuid_is_zero(const struct uuid *uuid)
{
	static const struct uuid zero;

	return uuid_equal(uuid, &zero);
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->bytes, b->bytes, UUID_SIZE) == 0;
}

const char *uuid_format(const struct uuid *uuid, char out[UUID_STRING_SIZE])
{
	const uint8_t *bytes = uuid->bytes;
	char *at = out;

	for (size_t i = 0; i < GROUPS; i++) {
		if (i > 0)
			*at++ = '-';
		at = hex_format(bytes, groups[i], at);
		bytes += groups[i];
	}
	*at = '\0';
	return out;
}

int uuid_parse(const char *text, struct uuid *ret_uuid)
{
	struct uuid uuid;
	uint8_t *bytes = uuid.bytes;

	for (size_t i = 0; i < GROUPS; i++) {
		if (i > 0 && *text++ != '-')
			return -EINVAL;
		if (hex_parse(text, bytes, groups[i]) < 0)
			return -EINVAL;
		text += 2 * groups[i];
		bytes += groups[i];
	}
	if (*text != '\0')
		return -EINVAL;
	*ret_uuid = uuid;
	return 0;
}

int uuid_from_bytes(const void *data, size_t size, struct uuid *ret_uuid)
{
	if (size != UUID_SIZE)
		return -EINVAL;
	memcpy(ret_uuid->bytes, data, UUID_SIZE);
	return 0;
}
