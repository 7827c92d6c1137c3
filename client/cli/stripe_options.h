/* -S, -c and -R: how a new file or directory is to be striped. Pure. */
#ifndef STRAKE_CLIENT_CLI_STRIPE_OPTIONS_H
#define STRAKE_CLIENT_CLI_STRIPE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stripe_options {
	bool has_size, has_count; /* what is not given is inherited */
	uint64_t size;
	uint32_t count; /* 0: all OSTs */
};

/* One option and its value, letter 'S', 'c' or 'R': 0, or -EINVAL and a sentence for the user. */
int stripe_options_set(struct stripe_options *options, int letter, const char *value, char *error, size_t error_size);

static inline bool stripe_options_given(const struct stripe_options *options)
{
	return options->has_size || options->has_count;
}

#endif
