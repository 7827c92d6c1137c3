#include "common/hex.h"

#include <errno.h>

char *hex_format(const void *data, size_t size, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 0xf];
	}
	return out;
}

static int digit_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

int hex_parse(const char *text, void *ret_data, size_t size)
{
	uint8_t *bytes = ret_data;

	for (size_t i = 0; i < size; i++) {
		int high = digit_value(text[2 * i]), low;

		if (high < 0)
			return -EINVAL;
		low = digit_value(text[2 * i + 1]);
		if (low < 0)
			return -EINVAL;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}
