/*
 * What people write: addresses, sizes, numbers, UUIDs, words; names of any bytes on their way into JSON; and names that lie in an
 * OST's folders. The first byte chooses.
 */
#include "common/address.h"
#include "common/fabrics.h"
#include "common/json.h"
#include "common/logger.h"
#include "common/units.h"
#include "common/uuid.h"
#include "oss/object_path.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <limits.h>

/* What is taken is normal: written and read again it is the same. */
static void address_one(const char *text)
{
	char host[256], host_again[256], joined[ADDRESS_SIZE];
	uint16_t port, port_again;
	int err = address_split(text, host, &port);

	assert(err == 0 || err == -EINVAL);
	if (err < 0)
		return;
	address_join(host, port, joined);
	if (host[0] == 0) /* ":PORT", the wildcard: joined it reads so again */
		assert(joined[0] == ':');
	assert(address_split(joined, host_again, &port_again) == 0);
	assert(strcmp(host, host_again) == 0 && port == port_again);
	assert(address_with_port(text, port, joined) == 0 && address_is_rdma(text) == address_is_rdma(joined));
}

static void list_check(const struct address_list *list)
{
	assert(list->count > 0 && list->count <= ADDRESS_LIST_MAX);
	for (size_t i = 0; i < list->count; i++) {
		assert(strnlen(list->text[i], ADDRESS_SIZE) < ADDRESS_SIZE);
		address_one(list->text[i]);
	}
}

static void list_one(const char *text)
{
	struct address_list list;
	int err = address_list_parse(text, ADDRESS_PORT_DEFAULT, &list);

	assert(err == 0 || err == -EINVAL);
	if (err == 0)
		list_check(&list);
}

static void source_one(const char *text)
{
	struct address_list list;
	char path[64];
	int err = address_source_parse(text, &list, path, sizeof(path));

	assert(err == 0 || err == -EINVAL || err == -ENAMETOOLONG);
	if (err == 0) {
		list_check(&list);
		assert(path[0] == '/' && strnlen(path, sizeof(path)) < sizeof(path));
	}
}

static void number_one(const char *text)
{
	char formatted[16];
	uint64_t number;
	int err = units_parse_size(text, &number);

	assert(err == 0 || err == -EINVAL || err == -ERANGE);
	if (err == 0)
		assert(strlen(units_format_size(number, formatted)) < sizeof(formatted));
	err = units_parse_number(text, 10, 1000, &number);
	assert(err == 0 || err == -EINVAL || err == -ERANGE);
	if (err == 0)
		assert(number >= 10 && number <= 1000);
}

static void uuid_one(const char *text)
{
	char formatted[UUID_STRING_SIZE];
	struct uuid uuid, again;

	if (uuid_parse(text, &uuid) < 0)
		return;
	assert(uuid_parse(uuid_format(&uuid, formatted), &again) == 0 && uuid_equal(&uuid, &again));
}

/* One line of printable UTF-8, with a quotation mark at its begin and its end and no other that is not escaped. */
static void json_one(const char *text)
{
	struct json json;
	char *out = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&out, &size);

	assert(file != NULL);
	json_begin(&json, file);
	json_string(&json, NULL, text);
	assert(json_end(&json) == 0 && fclose(file) == 0);
	assert(size >= 3 && out[0] == '"' && out[size - 2] == '"' && out[size - 1] == '\n');
	for (size_t i = 1; i < size - 2; i++) {
		unsigned char c = (unsigned char)out[i];

		assert(c >= ' ' && c != 0x7f && c != '"');
		if (c == '\\')
			assert(++i < size - 2 && strchr("\"\\bfnrtu", out[i]) != NULL);
	}
	free(out);
}

static void word_one(const char *text)
{
	enum fabrics_choice choice;
	enum logger_level level;

	if (fabrics_parse(text, &choice) == 0)
		assert(choice == FABRICS_AUTO || choice == FABRICS_RDMA || choice == FABRICS_TCP);
	if (logger_level_parse(text, &level) == 0)
		assert(level >= LOGGER_ERROR && level <= LOGGER_DEBUG);
}

/* An object's file, in one folder at most, and then under the name that it would get. */
static void object_one(const char *text)
{
	char path[OBJECT_PATH_SIZE];
	uint64_t ino, gen, seq;
	unsigned int found = 0;

	for (unsigned int folder = 0; folder < OBJECT_FOLDERS; folder++) {
		if (!object_name_parse(folder, text, &ino, &gen, &seq))
			continue;
		object_path(ino, gen, seq, path);
		assert(object_folder(ino, gen) == folder && strcmp(path + strlen("XX/"), text) == 0);
		found++;
	}
	assert(found <= 1);
}

static void (*const parsers[])(const char *text) = { address_one, list_one, source_one, number_one,
						     uuid_one,    json_one, word_one,   object_one };
#define PARSERS (sizeof(parsers) / sizeof(*parsers))

static void fuzz_one(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return;
	text = fuzz_text(data + 1, size - 1);
	parsers[data[0] % PARSERS](text);
	free(text);
}

static void fuzz_seeds(void)
{
	static const char *const texts[] = {
		"host",
		"host:1",
		"[::1]",
		"[fe80::1%eth0]:9400",
		":9400",
		"*",
		"a,b:2,[::]:3",
		"a,b:/dir/dir",
		"4MiB",
		"512k",
		"1000",
		"18446744073709551615",
		"01234567-89ab-4cde-8f01-23456789abcd",
		"auto",
		"debug",
		"0000000000000005.0000000000000006.00000003",
		"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 \xff \t\n\"\\",
	};

	for (uint8_t parser = 0; parser < PARSERS; parser++)
		for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
			fuzz_seed(&parser, 1, texts[i], strlen(texts[i]));
}
