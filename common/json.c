#include "common/json.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How many bytes the UTF-8 character here has (RFC 3629); 0: it is none. */
static size_t utf8_length(const unsigned char *at)
{
	size_t length;

	if (at[0] < 0x80)
		return 1;
	if (at[0] >= 0xc2 && at[0] <= 0xdf)
		length = 2;
	else if (at[0] >= 0xe0 && at[0] <= 0xef)
		length = 3;
	else if (at[0] >= 0xf0 && at[0] <= 0xf4)
		length = 4;
	else
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	/* Longer than need be; a surrogate; above U+10FFFF. */
	if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
	    (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	return length;
}

static void put_string(FILE *file, const char *text)
{
	static const char letters[] = "btnvfr"; /* of \b and those after it; JSON has no \v */
	const unsigned char *at = (const unsigned char *)text;

	fputc('"', file);
	while (*at != '\0') {
		size_t length = utf8_length(at);

		if (length == 0) {
			fputs("\\ufffd", file);
			length = 1;
		} else if (*at == '"' || *at == '\\') {
			fprintf(file, "\\%c", *at);
		} else if (*at >= '\b' && *at <= '\r' && *at != '\v') {
			fprintf(file, "\\%c", letters[*at - '\b']);
		} else if (*at < ' ' || *at == 0x7f) {
			fprintf(file, "\\u%04x", *at);
		} else {
			fwrite(at, 1, length, file);
		}
		at += length;
	}
	fputc('"', file);
}

static void put_line(struct json *json)
{
	fprintf(json->file, "\n%*s", 2 * (int)json->depth, "");
}

/* What stands before a value: a comma, a line, a key. */
static void value_begin(struct json *json, const char *key)
{
	struct json_level *level = &json->level[json->depth];

	assert((key != NULL) == (json->depth > 0 && !level->array));
	assert(json->depth > 0 || !level->begun);
	if (level->begun)
		fputc(',', json->file);
	level->begun = true;
	if (json->depth > 0)
		put_line(json);
	if (key) {
		put_string(json->file, key);
		fputs(": ", json->file);
	}
}

static void nest_begin(struct json *json, const char *key, bool array)
{
	value_begin(json, key);
	assert(json->depth < JSON_DEPTH_MAX);
	json->level[++json->depth] = (struct json_level){ .array = array };
	fputc(array ? '[' : '{', json->file);
}

static void nest_end(struct json *json, bool array)
{
	bool begun = json->level[json->depth].begun;

	assert(json->depth > 0 && json->level[json->depth].array == array);
	json->depth--;
	if (begun)
		put_line(json);
	fputc(array ? ']' : '}', json->file);
}

void json_begin(struct json *json, FILE *file)
{
	*json = (struct json){ .file = file, .level[0].array = true };
}

int json_end(struct json *json)
{
	assert(json->depth == 0 && json->level[0].begun);
	fputc('\n', json->file);
	return fflush(json->file) == 0 && !ferror(json->file) ? 0 : -EIO;
}

void json_object_begin(struct json *json, const char *key)
{
	nest_begin(json, key, false);
}

void json_object_end(struct json *json)
{
	nest_end(json, false);
}

void json_array_begin(struct json *json, const char *key)
{
	nest_begin(json, key, true);
}

void json_array_end(struct json *json)
{
	nest_end(json, true);
}

void json_string(struct json *json, const char *key, const char *value)
{
	if (!value) {
		json_null(json, key);
		return;
	}
	value_begin(json, key);
	put_string(json->file, value);
}

void json_unsigned(struct json *json, const char *key, uint64_t value)
{
	value_begin(json, key);
	fprintf(json->file, "%" PRIu64, value);
}

void json_signed(struct json *json, const char *key, int64_t value)
{
	value_begin(json, key);
	fprintf(json->file, "%" PRId64, value);
}

void json_real(struct json *json, const char *key, double value)
{
	char text[32];

	if (!isfinite(value)) {
		json_null(json, key);
		return;
	}
	value_begin(json, key);
	/* With 17 digits it always comes back as it was; mostly with 15, which read better. */
	snprintf(text, sizeof(text), "%.15g", value);
	if (strtod(text, NULL) != value)
		snprintf(text, sizeof(text), "%.17g", value);
	fputs(text, json->file);
}

void json_bool(struct json *json, const char *key, bool value)
{
	value_begin(json, key);
	fputs(value ? "true" : "false", json->file);
}

void json_null(struct json *json, const char *key)
{
	value_begin(json, key);
	fputs("null", json->file);
}
