/* Bytes as pairs of hexadecimal digits. Written in lower case, read in both. Pure. */
#ifndef STRAKE_COMMON_HEX_H
#define STRAKE_COMMON_HEX_H

#include <stddef.h>
#include <stdint.h>

/* Writes 2 * size digits and no NUL; returns where they end. */
char *hex_format(const void *data, size_t size, char *out);

/* Reads size bytes from 2 * size digits; reads no further than the first character that is none. -EINVAL. */
int hex_parse(const char *text, void *ret_data, size_t size);

#endif
