/*
 * Write JSON (RFC 8259) to a stream, indented by two spaces.
 *
 *   - Every value has a key within an object, and NULL for it within an array and outermost. Nesting that does not
 *     match is a programmer's error.
 *   - Strings are taken as UTF-8; what is not becomes U+FFFD, since file names may be any bytes.
 *   - Errors of the stream are kept and told by json_end().
 */
#ifndef STRAKE_COMMON_JSON_H
#define STRAKE_COMMON_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 16

struct json {
	FILE *file;
	unsigned int depth;
	struct json_level {
		bool array;
		bool begun;          /* it has a member: the next one needs a comma */
	} level[JSON_DEPTH_MAX + 1]; /* level[0]: the one value outside of all */
};

void json_begin(struct json *json, FILE *file); /* borrowed until json_end() */
int json_end(struct json *json);                /* a newline, flushed; 0 or -EIO */

void json_object_begin(struct json *json, const char *key);
void json_object_end(struct json *json);
void json_array_begin(struct json *json, const char *key);
void json_array_end(struct json *json);

void json_string(struct json *json, const char *key, const char *value); /* NULL: null */
void json_unsigned(struct json *json, const char *key, uint64_t value);
void json_signed(struct json *json, const char *key, int64_t value);
void json_real(struct json *json, const char *key, double value); /* what is no finite number: null */
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

#endif
