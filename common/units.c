#include "common/units.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Digits only: neither sign nor space. ret_rest is the first character that is none. */
static int digits_parse(const char *text, uint64_t *ret_number, const char **ret_rest)
{
	uint64_t number = 0;
	const char *at = text;

	for (; *at >= '0' && *at <= '9'; at++) {
		uint64_t digit = (uint64_t)(*at - '0');

		if (number > (UINT64_MAX - digit) / 10)
			return -ERANGE;
		number = number * 10 + digit;
	}
	if (at == text)
		return -EINVAL;
	*ret_number = number;
	*ret_rest = at;
	return 0;
}

int units_parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char letters[] = "KMGTP";
	const char *rest, *letter;
	unsigned int shift = 0;
	uint64_t number;
	int err = digits_parse(text, &number, &rest);

	if (err)
		return err;
	if (*rest != '\0') {
		letter = strchr(letters, *rest & ~0x20);
		if (letter && *letter != '\0') {
			shift = 10 * (unsigned int)(letter - letters + 1);
			rest++;
			if (strcasecmp(rest, "iB") == 0)
				rest += 2;
		}
		if (strcasecmp(rest, "B") == 0)
			rest++;
	}
	if (*rest != '\0')
		return -EINVAL;
	if (number > UINT64_MAX >> shift)
		return -ERANGE;
	*ret_bytes = number << shift;
	return 0;
}

const char *units_format_size(uint64_t bytes, char out[16])
{
	static const char letters[] = "KMGTPE";
	double size = (double)bytes;
	int letter = -1;

	/* What would be written as 1024.0 is 1.0 of the next. */
	while (letter < 5 && size >= (letter < 0 ? 1024 : 1023.95)) {
		size /= 1024;
		letter++;
	}
	if (letter < 0)
		snprintf(out, 16, "%u B", (unsigned int)bytes);
	else
		snprintf(out, 16, "%.1f %ciB", size, letters[letter]);
	return out;
}

int units_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number)
{
	const char *rest;
	uint64_t number;
	int err = digits_parse(text, &number, &rest);

	if (err)
		return err;
	if (*rest != '\0')
		return -EINVAL;
	if (number < min || number > max)
		return -ERANGE;
	*ret_number = number;
	return 0;
}
