#include "client/cli/data_dir.h"

#include "common/fd_io.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int complain(char *error, size_t error_size, const char *path, int err)
{
	snprintf(error, error_size, "%s: %s", path, strerror(-err));
	return err;
}

/* What a fresh local filesystem has, and what an interrupted format leaves behind. */
static bool may_be_there(const char *name)
{
	static const char *const names[] = { ".", "..", "lost+found", "cluster.key", "admin.key" };
	static const char *const halves[] = { "cluster.key.new.", "admin.key.new.", "identity.new." };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	for (size_t i = 0; i < sizeof(halves) / sizeof(*halves); i++)
		if (strncmp(name, halves[i], strlen(halves[i])) == 0)
			return true;
	return false;
}

int data_dir_check(const char *path, char *error, size_t error_size)
{
	struct dirent *dirent;
	DIR *dir = opendir(path);
	int err = 0;

	if (!dir)
		return errno == ENOENT ? 0 : complain(error, error_size, path, -errno);
	while (err == 0 && (dirent = readdir(dir)) != NULL) {
		if (strcmp(dirent->d_name, "identity") == 0) {
			snprintf(error, error_size,
				 "%s is a data directory already; to make it anew, and lose what it holds, empty it "
				 "first",
				 path);
			err = -EEXIST;
		} else if (!may_be_there(dirent->d_name)) {
			snprintf(error, error_size,
				 "%s is not empty (there is \"%s\"); name an empty or a new directory", path,
				 dirent->d_name);
			err = -ENOTEMPTY;
		}
	}
	closedir(dir);
	return err;
}

/* Write the key, or find that the interrupted format of before did. wanted NULL: whatever is there, or a new one. */
static int place_key(const char *dir, const char *name, const struct key *wanted, char *error, size_t error_size)
{
	char path[PATH_MAX];
	struct key key, found;
	int length = snprintf(path, sizeof(path), "%s/%s", dir, name), err;

	if (length < 0 || (size_t)length >= sizeof(path))
		return complain(error, error_size, dir, -ENAMETOOLONG);
	err = key_read(path, &found);
	if (err == 0 && (!wanted || memcmp(found.bytes, wanted->bytes, KEY_SIZE) == 0))
		return 0;
	if (err != -ENOENT) {
		snprintf(error, error_size, "%s is there already and %s; remove it", path,
			 err ? "cannot be used" : "is another key");
		return err ? err : -EEXIST;
	}
	if (wanted)
		key = *wanted;
	else
		key_make(&key);
	err = key_write(path, &key);
	explicit_bzero(&key, sizeof(key));
	return err ? complain(error, error_size, path, err) : 0;
}

int data_dir_make(const struct data_dir *dir, struct identity *ret_identity, char *error, size_t error_size)
{
	struct identity identity = {
		.fs = dir->fs, .role = dir->role, .index = dir->index, .format_version = IDENTITY_FORMAT_VERSION
	};
	char parent[PATH_MAX + 4];
	int err = data_dir_check(dir->path, error, error_size);

	assert(dir->role == ROLE_MGS || (dir->key && !uuid_is_zero(&dir->fs)));
	if (err)
		return err;
	if (strlen(dir->fs_name) > IDENTITY_NAME_MAX || dir->fs_name[0] == '\0') {
		snprintf(error, error_size, "the filesystem's name \"%s\" must have 1 to %d bytes", dir->fs_name,
			 IDENTITY_NAME_MAX);
		return -EINVAL;
	}
	snprintf(identity.fs_name, sizeof(identity.fs_name), "%s", dir->fs_name);
	if (uuid_is_zero(&identity.fs))
		uuid_make(&identity.fs);
	uuid_make(&identity.target);

	if (mkdir(dir->path, 0700) < 0 && errno != EEXIST)
		return complain(error, error_size, dir->path, -errno);
	snprintf(parent, sizeof(parent), "%s/..", dir->path);
	err = fd_sync_folder(parent);
	if (err)
		return complain(error, error_size, parent, err);
	err = place_key(dir->path, "cluster.key", dir->key, error, error_size);
	if (err == 0 && dir->role == ROLE_MGS)
		err = place_key(dir->path, "admin.key", NULL, error, error_size);
	if (err)
		return err;
	err = identity_write(dir->path, &identity);
	if (err)
		return complain(error, error_size, dir->path, err);
	*ret_identity = identity;
	return 0;
}
