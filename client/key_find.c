#include "client/key_find.h"
#include "client/run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUFFIX ".key"
#define RDMA   "rdma:++" /* a name has no slashes */

static int read_named(const char *path, const char *named_by, struct key *ret_key, char *error, size_t error_size)
{
	int err = key_read(path, ret_key);

	switch (err) {
	case 0:
		break;
	case -EINVAL:
		snprintf(error, error_size, "%s%s: this is no key (64 hexadecimal digits)", named_by, path);
		break;
	case -EPERM:
		snprintf(error, error_size, "%s%s: others than its owner may read this key; chmod 600 it", named_by,
			 path);
		break;
	default:
		snprintf(error, error_size, "%s%s: %s", named_by, path, strerror(-err));
		break;
	}
	return err;
}

static int record_path(const char *address, char out[PATH_MAX])
{
	char dir[PATH_MAX];
	int length, err = run_dir("clusters", dir, sizeof(dir));

	if (err)
		return err;
	if (strchr(address_plain(address), '/'))
		return -EINVAL;
	length = snprintf(out, PATH_MAX, "%s/%s%s" SUFFIX, dir, address_is_rdma(address) ? RDMA : "",
			  address_plain(address));
	return length < 0 || length >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static bool record_exists(const char *address, char ret_path[PATH_MAX])
{
	return record_path(address, ret_path) == 0 && access(ret_path, F_OK) == 0;
}

/* Of an address of either kind: the cluster is the same. */
static bool either_exists(const char *address, char ret_path[PATH_MAX])
{
	char rdma[ADDRESS_SIZE];

	address_to_rdma(address_plain(address), rdma);
	return record_exists(address_plain(address), ret_path) || record_exists(rdma, ret_path);
}

/* This machine under another name? Then the records' name for it is tried too. */
static bool address_is_here(const char *address, uint16_t *ret_port)
{
	char host[256], own[256] = "";

	if (address_split(address, host, ret_port) < 0)
		return false;
	if (gethostname(own, sizeof(own) - 1) < 0)
		own[0] = '\0';
	return strcmp(host, "localhost") == 0 || strcmp(host, own) == 0;
}

static bool find_record(const struct address_list *mgs, char ret_path[PATH_MAX])
{
	static const char *const loopbacks[] = { "127.0.0.1", "::1" };

	for (size_t i = 0; i < mgs->count; i++) {
		uint16_t port;

		if (either_exists(mgs->text[i], ret_path))
			return true;
		if (!address_is_here(mgs->text[i], &port))
			continue;
		for (size_t k = 0; k < sizeof(loopbacks) / sizeof(*loopbacks); k++) {
			char address[ADDRESS_SIZE];

			address_join(loopbacks[k], port, address);
			if (either_exists(address, ret_path))
				return true;
		}
	}
	return false;
}

/* Behind what error says: which clusters' keys would have been found. */
static void name_clusters(char *error, size_t error_size)
{
	struct address_list here;
	size_t used = strlen(error);

	if (key_find_clusters(&here) < 0)
		return;
	for (size_t i = 0; i < here.count && used < error_size; i++)
		used += (size_t)snprintf(error + used, error_size - used, "%s%s",
					 i == 0 ? "; or name a cluster that was started here: -m " : " or ",
					 here.text[i]);
}

int key_find(const char *option, const struct address_list *mgs, struct key *ret_key, char *error, size_t error_size)
{
	const char *environment = getenv("STRAKE_KEY");
	char path[PATH_MAX];

	if (option)
		return read_named(option, "--key ", ret_key, error, error_size);
	if (environment && environment[0] != '\0')
		return read_named(environment, "STRAKE_KEY=", ret_key, error, error_size);
	if (access(KEY_FIND_ETC, F_OK) == 0)
		return read_named(KEY_FIND_ETC, "", ret_key, error, error_size);
	if (find_record(mgs, path))
		return read_named(path, "", ret_key, error, error_size);
	snprintf(error, error_size,
		 "no cluster key for %s: copy cluster.key from the data directory of the MGS and name it "
		 "with --key FILE or "
		 "STRAKE_KEY, or put it into " KEY_FIND_ETC,
		 mgs->count > 0 ? mgs->text[0] : "?");
	name_clusters(error, error_size);
	return -ENOENT;
}

int key_find_record(const struct address_list *mgs, const char *key_path)
{
	for (size_t i = 0; i < mgs->count; i++) {
		char path[PATH_MAX];
		int err = record_path(mgs->text[i], path);

		if (err == 0)
			err = run_dir_link(path, key_path);
		if (err)
			return err;
	}
	return 0;
}

void key_find_forget(const struct address_list *mgs)
{
	for (size_t i = 0; i < mgs->count; i++) {
		char path[PATH_MAX];

		if (record_path(mgs->text[i], path) == 0)
			unlink(path);
	}
}

/* "HOST:PORT.key", and the key is still there. */
static bool record_address(const char *name, char out[ADDRESS_SIZE])
{
	bool is_rdma = strncmp(name, RDMA, strlen(RDMA)) == 0;
	size_t length, suffix = strlen(SUFFIX);
	char path[PATH_MAX];

	name += is_rdma ? strlen(RDMA) : 0;
	length = strlen(name);

	if (length <= suffix || strcmp(name + length - suffix, SUFFIX) != 0 ||
	    length - suffix >= ADDRESS_SIZE - strlen(ADDRESS_RDMA))
		return false;
	memcpy(out, name, length - suffix);
	out[length - suffix] = '\0';
	if (is_rdma)
		address_to_rdma(out, out);
	return record_exists(out, path);
}

int key_find_clusters(struct address_list *ret_mgs)
{
	struct address_list list = { 0 };
	struct dirent *dirent;
	char path[PATH_MAX];
	DIR *dir;
	int err = run_dir("clusters", path, sizeof(path));

	if (err)
		return err;
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (list.count < ADDRESS_LIST_MAX && (dirent = readdir(dir)) != NULL)
		list.count += record_address(dirent->d_name, list.text[list.count]);
	closedir(dir);
	*ret_mgs = list;
	return 0;
}
