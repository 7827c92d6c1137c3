/* Sizes and times as people write them. */
#ifndef STRAKE_COMMON_UNITS_H
#define STRAKE_COMMON_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* "4M", "4MiB", "65536", "1g": binary multiples, suffixes K M G T P, with or without iB/B. -EINVAL, -ERANGE. */
int units_parse_size(const char *text, uint64_t *ret_bytes);
/* "4.0 MiB", "512 B"; returns out. */
const char *units_format_size(uint64_t bytes, char out[16]);

/* A whole decimal number within [min, max]. -EINVAL, -ERANGE. */
int units_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number);

#endif
