#include "common/hex.h"
#include "common/key.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGITS "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static char dir[PATH_MAX];

static const char *path_of(const char *name)
{
	static char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void file_write(const char *path, const void *data, size_t size, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

START_TEST(written_and_read)
{
	struct key key, back;
	struct stat stat;
	char text[80] = "", digits[2 * KEY_SIZE + 2];
	int fd;

	temp_dir_make(dir);
	key_make(&key);
	umask(0);
	ck_assert_int_eq(key_write(path_of("k"), &key), 0);
	ck_assert_int_eq(key_read(path_of("k"), &back), 0);
	ck_assert_mem_eq(key.bytes, back.bytes, KEY_SIZE);

	ck_assert_int_eq(lstat(path_of("k"), &stat), 0);
	ck_assert_uint_eq(stat.st_mode, S_IFREG | 0600);
	ck_assert_int_eq(stat.st_size, 2 * KEY_SIZE + 1);
	fd = open(path_of("k"), O_RDONLY);
	ck_assert_int_eq(read(fd, text, sizeof(text)), 2 * KEY_SIZE + 1);
	close(fd);
	memcpy(hex_format(key.bytes, KEY_SIZE, digits), "\n", 2);
	ck_assert_str_eq(text, digits);

	/* Never over another key. */
	key_make(&back);
	ck_assert_int_eq(key_write(path_of("k"), &back), -EEXIST);
	ck_assert_int_eq(key_read(path_of("k"), &back), 0);
	ck_assert_mem_eq(key.bytes, back.bytes, KEY_SIZE);

	/* In the current folder, too. */
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(key_write("here", &key), 0);
	ck_assert_int_eq(key_read("here", &back), 0);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(key_write(path_of("no/such/folder"), &key), -ENOENT);
	temp_dir_remove(dir);
}
END_TEST

START_TEST(two_keys_differ)
{
	struct key a, b;

	key_make(&a);
	key_make(&b);
	ck_assert_mem_ne(a.bytes, b.bytes, KEY_SIZE);
}
END_TEST

START_TEST(malformed_files)
{
	static const struct {
		const char *text;
		size_t size;
		int err;
	} rows[] = {
		{ DIGITS "\n", 65, 0 },
		{ DIGITS, 64, 0 },
		{ "ABCDEFabcdef" DIGITS, 64, 0 },
		{ "", 0, -EINVAL },
		{ "\n", 1, -EINVAL },
		{ DIGITS, 63, -EINVAL },
		{ DIGITS "\n\n", 66, -EINVAL },
		{ DIGITS "0", 65, -EINVAL },
		{ DIGITS "\r\n", 66, -EINVAL },
		{ " " DIGITS, 65, -EINVAL },
		{ "g" DIGITS, 64, -EINVAL },
		{ "\0" DIGITS, 64, -EINVAL },
		{ DIGITS "\0", 65, -EINVAL },
		{ DIGITS DIGITS DIGITS, 192, -EINVAL },
	};
	struct key key = { .bytes = { 42 } };

	temp_dir_make(dir);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct key before = key;

		file_write(path_of("k"), rows[i].text, rows[i].size, 0600);
		ck_assert_int_eq(key_read(path_of("k"), &key), rows[i].err);
		if (rows[i].err)
			ck_assert_mem_eq(key.bytes, before.bytes, KEY_SIZE);
	}
	ck_assert_int_eq(key_read(path_of("none"), &key), -ENOENT);
	ck_assert_int_eq(key_read(dir, &key), -EINVAL);
	ck_assert_int_eq(mkfifo(path_of("fifo"), 0600), 0);
	ck_assert_int_eq(key_read(path_of("fifo"), &key), -EINVAL);
	temp_dir_remove(dir);
}
END_TEST

/* A key that any other user may read, write or execute is no secret. */
START_TEST(readable_by_others)
{
	struct key key;

	temp_dir_make(dir);
	for (mode_t mode = 0; mode <= 0777; mode++) {
		if ((mode & 0600) != 0600)
			continue;
		file_write(path_of("k"), DIGITS, 64, mode);
		ck_assert_int_eq(key_read(path_of("k"), &key), mode & 077 ? -EPERM : 0);
	}
	temp_dir_remove(dir);
}
END_TEST

static void check_mac(const struct key *key, const struct key_part *parts, size_t count, const char *digits)
{
	uint8_t mac[MAC_SIZE], expected[MAC_SIZE];

	ck_assert_int_eq(hex_parse(digits, expected, MAC_SIZE), 0);
	key_mac(key, parts, count, mac);
	ck_assert_mem_eq(mac, expected, MAC_SIZE);
}

/* RFC 4231, cases 1 and 2; a shorter key is the same as one filled up with zeros. */
START_TEST(mac_vectors)
{
	struct key key = { 0 };

	memset(key.bytes, 0x0b, 20);
	check_mac(&key, &(struct key_part){ "Hi There", 8 }, 1,
		  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");

	memset(&key, 0, sizeof(key));
	memcpy(key.bytes, "Jefe", 4);
	check_mac(&key, &(struct key_part){ "what do ya want for nothing?", 28 }, 1,
		  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	check_mac(&key,
		  (struct key_part[]){ { "what do ya", 10 }, { NULL, 0 }, { " want for ", 10 }, { "nothing?", 8 } }, 4,
		  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
END_TEST

START_TEST(mac_of_nothing)
{
	const struct key key = { 0 };
	uint8_t none[MAC_SIZE], empty[MAC_SIZE];

	key_mac(&key, NULL, 0, none);
	key_mac(&key, &(struct key_part){ "", 0 }, 1, empty);
	ck_assert_mem_eq(none, empty, MAC_SIZE);
	check_mac(&key, NULL, 0, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}
END_TEST

UNIT_MAIN("key", written_and_read, two_keys_differ, malformed_files, readable_by_others, mac_vectors, mac_of_nothing)
