#include "client/cli/cluster.h"
#include "client/cli/mountinfo.h"
#include "client/mount_registry.h"
#include "client/run_dir.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define BOOT_ID_SIZE 40

/* --- paths and addresses ---------------------------------------------------------------------------------------- */

void cluster_member_path(const struct cluster *cluster, const struct cluster_member *member, const char *sub,
			 const char *suffix, char *out)
{
	/* cluster_load() has seen to it that DIR is short enough */
	int length = snprintf(out, PATH_MAX, "%s/%s%s%s", cluster->dir, sub, member->name, suffix);

	assert(length > 0 && length < PATH_MAX);
}

static const char *local_host(const struct cluster *cluster)
{
	if (!address_host_is_wildcard(cluster->config.listen))
		return cluster->config.listen;
	return strchr(cluster->config.listen, ':') ? "::1" : "127.0.0.1";
}

static bool is_rdma_only(const struct cluster *cluster)
{
	return strcmp(cluster->config.transport, "rdma") == 0;
}

void cluster_member_address(const struct cluster *cluster, const struct cluster_member *member, char out[ADDRESS_SIZE])
{
	address_join(local_host(cluster), member->port, out);
	if (is_rdma_only(cluster))
		address_to_rdma(out, out);
}

static void find_mgs_addresses(struct cluster *cluster)
{
	struct cluster_config *config = &cluster->config;

	cluster->mgs = (struct address_list){ .count = 1 };
	address_join(local_host(cluster), config->mgs_port, cluster->mgs.text[0]);
	if (address_host_is_wildcard(config->listen)) {
		struct address_list more = { .count = 0 };

		(void)address_reachable(config->listen, config->mgs_port, NULL, &more);
		for (size_t i = 0; i < more.count && cluster->mgs.count < ADDRESS_LIST_MAX; i++)
			memcpy(cluster->mgs.text[cluster->mgs.count++], more.text[i], ADDRESS_SIZE);
	}
	for (size_t i = 0; is_rdma_only(cluster) && i < cluster->mgs.count; i++)
		address_to_rdma(cluster->mgs.text[i], cluster->mgs.text[i]);
}

/* --- pid files -------------------------------------------------------------------------------------------------- */

/* Start times count from the boot, and DIR/run may outlive it. */
static void boot_id(char out[BOOT_ID_SIZE])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!file || !fgets(out, BOOT_ID_SIZE, file))
		strcpy(out, "-");
	out[strcspn(out, "\n")] = '\0';
	if (file)
		fclose(file);
}

int cluster_member_enter(const struct cluster *cluster, const struct cluster_member *member)
{
	char path[PATH_MAX], boot[BOOT_ID_SIZE], text[128];
	struct process self;
	int err = process_identify(getpid(), &self);

	if (err)
		return err;
	boot_id(boot);
	snprintf(text, sizeof(text), "%d %llu %s\n", (int)self.pid, (unsigned long long)self.starttime, boot);
	cluster_member_path(cluster, member, "run/", ".pid", path);
	return run_dir_write(path, text);
}

static bool member_is_running(const struct cluster *cluster, const struct cluster_member *member,
			      struct process *ret_process)
{
	char path[PATH_MAX], boot[BOOT_ID_SIZE], its_boot[BOOT_ID_SIZE];
	unsigned long long starttime;
	struct process process;
	int pid, count;
	FILE *file;

	cluster_member_path(cluster, member, "run/", ".pid", path);
	file = fopen(path, "re");
	if (!file)
		return false;
	count = fscanf(file, "%d %llu %39s", &pid, &starttime, its_boot);
	fclose(file);
	boot_id(boot);
	if (count != 3 || strcmp(boot, its_boot) != 0)
		return false;
	process = (struct process){ .pid = pid, .starttime = starttime };
	if (!process_is_alive(&process))
		return false;
	*ret_process = process;
	return true;
}

/* --- the cluster ------------------------------------------------------------------------------------------------ */

static void add_member(struct cluster *cluster, enum role role, uint32_t index, const char *program, uint16_t port)
{
	struct cluster_member *member = &cluster->members[cluster->member_count++];

	*member = (struct cluster_member){ .role = role, .index = index, .program = program, .port = port };
	if (role == ROLE_MGS)
		strcpy(member->name, "mgs");
	else
		snprintf(member->name, sizeof(member->name), "%s%u", role == ROLE_MDT ? "mds" : "ost", index);
	member->running = member_is_running(cluster, member, &member->process);
}

void cluster_find_members(struct cluster *cluster)
{
	const struct cluster_config *config = &cluster->config;

	find_mgs_addresses(cluster);
	cluster->member_count = 0;
	add_member(cluster, ROLE_MGS, 0, "strake-mgs", config->mgs_port);
	add_member(cluster, ROLE_MDT, 0, "strake-mds", config->mds_port);
	for (unsigned int i = 0; i < config->ost_count; i++)
		add_member(cluster, ROLE_OST, i, "strake-oss", config->ost_ports[i]);
}

static int find_dir(struct cluster *cluster, const char *dir, char *error, size_t error_size)
{
	if (!realpath(dir, cluster->dir)) {
		int err = -errno;

		snprintf(error, error_size, "%s: %s", dir, strerror(-err));
		return err;
	}
	if (strchr(cluster->dir, ',')) {
		snprintf(error, error_size, "%s: a cluster's path must not have a comma in it, which separates", dir);
		return -EINVAL;
	}
	if (strlen(cluster->dir) > PATH_MAX - 64) {
		snprintf(error, error_size, "%s: %s", dir, strerror(ENAMETOOLONG));
		return -ENAMETOOLONG;
	}
	return 0;
}

int cluster_lock(struct cluster *cluster, const char *dir, char *error, size_t error_size)
{
	int err = find_dir(cluster, dir, error, error_size);

	if (err)
		return err;
	cluster->lock = open(cluster->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cluster->lock < 0 || flock(cluster->lock, LOCK_EX) < 0) {
		err = -errno;
		snprintf(error, error_size, "%s: %s", dir, strerror(-err));
		if (cluster->lock >= 0)
			close(cluster->lock);
		cluster->lock = -1;
	}
	return err;
}

int cluster_load(struct cluster *cluster, const char *dir, char *error, size_t error_size)
{
	int err = find_dir(cluster, dir, error, error_size);

	if (err == 0)
		err = cluster_config_read(cluster->dir, &cluster->config, error, error_size);
	if (err == 0)
		cluster_find_members(cluster);
	return err;
}

void cluster_release(struct cluster *cluster)
{
	if (cluster->lock >= 0)
		close(cluster->lock);
	cluster->lock = -1;
}

/* --- its mounts ------------------------------------------------------------------------------------------------- */

struct mount_search {
	const struct cluster *cluster;
	struct cluster_mount *mounts;
	size_t count;
	int err;
};

static struct cluster_mount *add_mount(struct mount_search *search, const char *path, const char *source)
{
	struct cluster_mount *more = reallocarray(search->mounts, search->count + 1, sizeof(*more));

	if (!more) {
		search->err = -ENOMEM;
		return NULL;
	}
	search->mounts = more;
	more += search->count++;
	*more = (struct cluster_mount){ .major = 0 };
	snprintf(more->path, sizeof(more->path), "%s", path);
	snprintf(more->source, sizeof(more->source), "%s", source);
	return more;
}

static bool has_device(const struct cluster_mount *mount, const struct mountinfo *info)
{
	return mount->major == info->major && mount->minor == info->minor;
}

static bool is_mount(const struct cluster_mount *mount, const struct mountinfo *info)
{
	bool known = mount->major != 0 || mount->minor != 0;

	return strcmp(mount->path, info->path) == 0 && strcmp(mount->source, info->source) == 0 &&
	       (!known || has_device(mount, info));
}

bool cluster_mount_is_seen(const struct cluster_mount *mount, pid_t pid)
{
	struct mountinfo info;

	return mountinfo_find(pid, mount->path, &info) == 0 && is_mount(mount, &info);
}

/* A mount whose daemon was killed is in no registry, but still in the tree; so is another place of one that lives. */
static bool search_tree(void *arg, const struct mountinfo *info)
{
	struct mount_search *search = arg;
	struct process daemon = { 0 };
	struct address_list mgs;
	struct cluster_mount *mount;
	char subdir[PATH_MAX];

	if (strncmp(info->type, "fuse", 4) != 0 ||
	    address_source_parse(info->source, &mgs, subdir, sizeof(subdir)) < 0 ||
	    !address_lists_meet(&mgs, &search->cluster->mgs))
		return true;
	for (size_t i = 0; i < search->count; i++) {
		if (is_mount(&search->mounts[i], info))
			return true;
		if (has_device(&search->mounts[i], info))
			daemon = search->mounts[i].daemon;
	}
	mount = add_mount(search, info->path, info->source);
	if (!mount)
		return false;
	mount->daemon = daemon;
	mount->major = info->major;
	mount->minor = info->minor;
	return true;
}

static int search_registry(struct mount_search *search)
{
	struct mount_entry *entries;
	size_t count;
	int err = mount_registry_list(&entries, &count);

	if (err)
		return err;
	for (size_t i = 0; i < count && search->err == 0; i++) {
		struct cluster_mount *mount;

		if (!mount_entry_is_of(&entries[i], &search->cluster->mgs))
			continue;
		mount = add_mount(search, entries[i].mountpoint, entries[i].source);
		if (!mount)
			break;
		mount->daemon = entries[i].daemon;
		mount->major = entries[i].major;
		mount->minor = entries[i].minor;
	}
	mount_registry_list_free(entries, count);
	return search->err;
}

int cluster_mounts(const struct cluster *cluster, struct cluster_mount **ret_mounts, size_t *ret_count)
{
	struct mount_search search = { .cluster = cluster };
	int err = search_registry(&search);

	if (err == 0)
		err = mountinfo_each(0, search_tree, &search);
	if (err == 0)
		err = search.err;
	if (err) {
		free(search.mounts);
		return err;
	}
	*ret_mounts = search.mounts;
	*ret_count = search.count;
	return 0;
}
