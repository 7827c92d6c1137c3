/*
 * The file, whose last line has the CRC32C of all before it:
 *
 *     format_version = 1
 *     fs_name = NAME
 *     fs = UUID
 *     target = UUID
 *     role = mgs, mdt or ost
 *     index = 0
 *     crc32c = 8 hex digits
 *
 * Whatever a newer format adds, the first line and the last stay as they are: so an old program can tell a newer file
 * from a damaged one.
 */
#include "common/identity.h"

#include "common/bulk_sums.h"
#include "common/fd_io.h"
#include "common/units.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "identity"
#define FILE_MAX  4096
#define SUM_LINE  "crc32c = %08x\n"
#define SUM_SIZE  (sizeof("crc32c = 01234567\n") - 1)

/* What a person calls it: the program, and the word of `strake format`. */
static const struct {
	enum role role;
	const char *format, *program;
} servers[] = {
	{ ROLE_MGS, "mgs", "strake-mgs" },
	{ ROLE_MDT, "mds", "strake-mds" },
	{ ROLE_OST, "oss", "strake-oss" },
};
#define SERVERS (sizeof(servers) / sizeof(*servers))

static const char *role_format(enum role role)
{
	for (size_t i = 0; i < SERVERS; i++)
		if (servers[i].role == role)
			return servers[i].format;
	return "mgs|mds|oss";
}

static const char *role_program(enum role role)
{
	for (size_t i = 0; i < SERVERS; i++)
		if (servers[i].role == role)
			return servers[i].program;
	return "its server";
}

/* --- text ------------------------------------------------------------------------------------------------------- */

/* On a line of its own it must come back as it went. */
static bool name_is_valid(const char *name)
{
	size_t length = strnlen(name, IDENTITY_NAME_MAX + 1);

	if (length == 0 || length > IDENTITY_NAME_MAX || name[0] == ' ' || name[length - 1] == ' ')
		return false;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return false;
	return true;
}

static int set_name(struct identity *identity, const char *value)
{
	if (!name_is_valid(value))
		return -EINVAL;
	strcpy(identity->fs_name, value);
	return 0;
}

static int set_fs(struct identity *identity, const char *value)
{
	return uuid_parse(value, &identity->fs);
}

static int set_target(struct identity *identity, const char *value)
{
	return uuid_parse(value, &identity->target);
}

static int set_role(struct identity *identity, const char *value)
{
	for (size_t i = 0; i < SERVERS; i++) {
		if (strcmp(role_name(servers[i].role), value) == 0) {
			identity->role = servers[i].role;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_number(uint32_t *field, const char *value)
{
	uint64_t number;
	int err = units_parse_number(value, 0, UINT32_MAX, &number);

	if (err == 0)
		*field = (uint32_t)number;
	return err;
}

static int set_index(struct identity *identity, const char *value)
{
	return set_number(&identity->index, value);
}

static int set_format_version(struct identity *identity, const char *value)
{
	return set_number(&identity->format_version, value);
}

/* The lines, in their order. */
static const struct {
	const char *key;
	int (*set)(struct identity *identity, const char *value);
} lines[] = {
	{ "format_version", set_format_version },
	{ "fs_name", set_name },
	{ "fs", set_fs },
	{ "target", set_target },
	{ "role", set_role },
	{ "index", set_index },
};
#define LINES (sizeof(lines) / sizeof(*lines))

static size_t text_format(const struct identity *identity, char out[FILE_MAX])
{
	char fs[UUID_STRING_SIZE], target[UUID_STRING_SIZE];
	int length = snprintf(out, FILE_MAX,
			      "format_version = %u\nfs_name = %s\nfs = %s\ntarget = %s\nrole = %s\nindex = %u\n",
			      identity->format_version, identity->fs_name, uuid_format(&identity->fs, fs),
			      uuid_format(&identity->target, target), role_name(identity->role), identity->index);

	return (size_t)(length +
			snprintf(out + length, FILE_MAX - (size_t)length, SUM_LINE, crc32c(out, (size_t)length)));
}

/* Does the last line hold the sum of the others? */
static bool sum_is_right(const char *text, size_t size)
{
	char line[SUM_SIZE + 1];

	if (size < SUM_SIZE)
		return false;
	snprintf(line, sizeof(line), SUM_LINE, crc32c(text, size - SUM_SIZE));
	return memcmp(text + size - SUM_SIZE, line, SUM_SIZE) == 0;
}

/* One "KEY = VALUE" line; the text goes on at *text. Changes the line's end to a NUL. */
static int line_parse(char **text, size_t row, struct identity *identity)
{
	const size_t key = strlen(lines[row].key);
	char *line = *text, *end = strchr(line, '\n');

	if (!end || strncmp(line, lines[row].key, key) != 0 || strncmp(line + key, " = ", 3) != 0)
		return -EINVAL;
	*end = '\0';
	*text = end + 1;
	return lines[row].set(identity, line + key + 3);
}

int identity_parse(char *text, size_t size, struct identity *ret_identity)
{
	struct identity identity = { 0 };
	char *const start = text;

	if (!sum_is_right(text, size) || strlen(text) != size)
		return -EINVAL;
	for (size_t row = 0; row < LINES; row++) {
		if (line_parse(&text, row, &identity) < 0)
			return -EINVAL;
		if (row == 0 && identity.format_version > IDENTITY_FORMAT_VERSION) {
			ret_identity->format_version = identity.format_version;
			return -EPROTONOSUPPORT;
		}
	}
	if (text + SUM_SIZE != start + size || identity.format_version != IDENTITY_FORMAT_VERSION)
		return -EINVAL;
	*ret_identity = identity;
	return 0;
}

/* --- making one ------------------------------------------------------------------------------------------------- */

int identity_write(const char *dir, const struct identity *identity)
{
	char text[FILE_MAX], path[PATH_MAX];

	if (!name_is_valid(identity->fs_name) || set_role(&(struct identity){ 0 }, role_name(identity->role)) < 0 ||
	    identity->format_version != IDENTITY_FORMAT_VERSION)
		return -EINVAL;
	if (snprintf(path, sizeof(path), "%s/" FILE_NAME, dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	return fd_make_file(path, text, text_format(identity, text), 0644);
}

/* --- reading one ------------------------------------------------------------------------------------------------ */

/* The descriptor of DIR/identity, which may be there or not. role only says whose command to name. */
static int identity_file_open(const char *dir, enum role role, int *ret_fd, char *error, size_t error_size)
{
	int err, fd, dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir_fd < 0) {
		err = -errno;
		if (err == -ENOENT)
			snprintf(error, error_size,
				 "%s is not there: is its disk mounted? To make a new one: strake format %s -d %s", dir,
				 role_format(role), dir);
		else
			snprintf(error, error_size, "%s: %s", dir, strerror(-err));
		return err;
	}
	fd = openat(dir_fd, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	err = fd < 0 ? -errno : 0;
	close(dir_fd);
	if (err == -ENOENT)
		snprintf(error, error_size,
			 "%s holds no StrakeFS data (no file '" FILE_NAME
			 "'): is its disk mounted? To make a new one: strake format %s -d %s",
			 dir, role_format(role), dir);
	else if (err)
		snprintf(error, error_size, "%s/" FILE_NAME ": %s", dir, strerror(-err));
	else
		*ret_fd = fd;
	return err;
}

static int identity_file_read(int fd, const char *dir, enum role role, struct identity *ret_identity, char *error,
			      size_t error_size)
{
	struct identity identity = { 0 };
	char text[FILE_MAX + 1];
	ssize_t size = fd_read_all(fd, text, FILE_MAX);
	int err;

	if (size < 0) {
		err = (int)size;
		snprintf(error, error_size, "%s/" FILE_NAME ": %s", dir, strerror(-err));
		return err;
	}
	text[size] = '\0';
	err = identity_parse(text, (size_t)size, &identity);
	if (err == -EPROTONOSUPPORT)
		snprintf(error, error_size, "%s has format %u and this program knows %u: run a newer StrakeFS on it",
			 dir, identity.format_version, IDENTITY_FORMAT_VERSION);
	else if (err)
		snprintf(error, error_size,
			 "%s/" FILE_NAME " is damaged: put it back from a copy; or, for a new and empty directory: "
			 "strake format %s -d DIR",
			 dir, role_format(role));
	else
		*ret_identity = identity;
	return err;
}

static int identity_role_check(const struct identity *identity, enum role role, const char *dir, char *error,
			       size_t error_size)
{
	if (identity->role == role)
		return 0;
	snprintf(error, error_size,
		 "%s belongs to %s%u of filesystem \"%s\", which %s serves; to make one for this server: strake format "
		 "%s -d DIR",
		 dir, role_name(identity->role), identity->index, identity->fs_name, role_program(identity->role),
		 role_format(role));
	return -EINVAL;
}

static int identity_lock(int fd, const char *dir, char *error, size_t error_size)
{
	int err;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	err = errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (err == -EBUSY)
		snprintf(error, error_size,
			 "%s is in use by another server that runs on it; to see which: fuser -v %s/" FILE_NAME, dir,
			 dir);
	else
		snprintf(error, error_size, "%s/" FILE_NAME ": locking it: %s", dir, strerror(-err));
	return err;
}

int identity_open(const char *dir, enum role role, struct identity *ret_identity, int *ret_lock, char *error,
		  size_t error_size)
{
	struct identity identity;
	int fd, err = identity_file_open(dir, role, &fd, error, error_size);

	if (err)
		return err;
	err = identity_file_read(fd, dir, role, &identity, error, error_size);
	if (err == 0)
		err = identity_role_check(&identity, role, dir, error, error_size);
	if (err == 0)
		err = identity_lock(fd, dir, error, error_size);
	if (err) {
		close(fd);
		return err;
	}
	*ret_identity = identity;
	*ret_lock = fd;
	return 0;
}

int identity_read(const char *dir, struct identity *ret_identity, char *error, size_t error_size)
{
	int fd, err = identity_file_open(dir, ROLE_ANY, &fd, error, error_size);

	if (err)
		return err;
	err = identity_file_read(fd, dir, ROLE_ANY, ret_identity, error, error_size);
	close(fd);
	return err;
}
