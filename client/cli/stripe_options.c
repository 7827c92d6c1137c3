#include "client/cli/stripe_options.h"

#include "common/layout.h"
#include "common/units.h"

#include <errno.h>
#include <stdio.h>

static int set_size(struct stripe_options *options, const char *value, char *error, size_t error_size)
{
	uint64_t size;

	if (units_parse_size(value, &size) < 0) {
		snprintf(error, error_size, "-S: \"%s\" is no size (65536, 64K, 4M, 1G)", value);
		return -EINVAL;
	}
	if (size < LAYOUT_STRIPE_SIZE_MIN || size > LAYOUT_STRIPE_SIZE_MAX || (size & (size - 1)) != 0) {
		snprintf(error, error_size, "-S: a stripe size is a power of two from 64K to 1G, %s is not", value);
		return -EINVAL;
	}
	options->has_size = true;
	options->size = size;
	return 0;
}

static int set_count(struct stripe_options *options, const char *value, char *error, size_t error_size)
{
	uint64_t count;

	if (units_parse_number(value, 0, LAYOUT_STRIPES_MAX, &count) < 0) {
		snprintf(error, error_size, "-c: \"%s\" is no number from 0 (all OSTs) to %d", value,
			 LAYOUT_STRIPES_MAX);
		return -EINVAL;
	}
	options->has_count = true;
	options->count = (uint32_t)count;
	return 0;
}

static int check_replicas(const char *value, char *error, size_t error_size)
{
	uint64_t count;

	if (units_parse_number(value, 0, UINT64_MAX, &count) < 0)
		snprintf(error, error_size, "-R: \"%s\" is no number", value);
	else if (count != 1)
		snprintf(error, error_size, "-R %s: replication does not exist yet in this version", value);
	else
		return 0;
	return -EINVAL;
}

int stripe_options_set(struct stripe_options *options, int letter, const char *value, char *error, size_t error_size)
{
	switch (letter) {
	case 'S':
		return set_size(options, value, error, error_size);
	case 'c':
		return set_count(options, value, error, error_size);
	default:
		return check_replicas(value, error, error_size);
	}
}
