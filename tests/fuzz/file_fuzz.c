/*
 * Small files: configuration, a data directory's identity, a key, a cluster's configuration, a mount's entry in the registry.
 * The first byte chooses, and says whether an identity gets its right sum before, and an entry a living process.
 */
#include "client/cli/cluster_config.h"
#include "client/mount_registry.h"
#include "common/bulk_sums.h"
#include "common/daemon_config.h"
#include "common/identity.h"
#include "common/key.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/work_dir.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

enum kind { KIND_CONFIG, KIND_IDENTITY, KIND_KEY, KIND_CLUSTER, KIND_MOUNT, KINDS };
#define RIGHT_SUM 0x80
#define SUM_SIZE  (sizeof("crc32c = 01234567\n") - 1)

static int config_key(void *owner, const char *name, const char *value, char *error, size_t error_size)
{
	unsigned int *keys = owner;

	++*keys;
	if (strcmp(name, "listen") != 0)
		return DAEMON_CONFIG_UNKNOWN;
	if (value[0] != 'b')
		return 0;
	snprintf(error, error_size, "%s is bad", value);
	return -EINVAL;
}

static void config_one(uint8_t *data, size_t size)
{
	unsigned int keys = 0;
	const struct daemon_config config = { .path = "F", .section = "oss", .key = config_key, .owner = &keys };
	char error[256] = "";
	FILE *file;
	int err;

	if (size == 0)
		return;
	file = fmemopen(data, size, "r");
	assert(file != NULL);
	err = daemon_config_read(file, &config, error, sizeof(error));
	assert(err <= 0 && (err == 0) == (error[0] == 0));
	fclose(file);
}

static void identity_one(const uint8_t *data, size_t size, bool right_sum)
{
	struct identity identity = { 0 };
	char *text = fuzz_text(data, size), line[SUM_SIZE + 1];
	int err;

	if (right_sum && size >= SUM_SIZE) {
		snprintf(line, sizeof(line), "crc32c = %08x\n", crc32c(text, size - SUM_SIZE));
		memcpy(text + size - SUM_SIZE, line, SUM_SIZE);
	}
	err = identity_parse(text, size, &identity);
	assert(err == 0 || err == -EINVAL || err == -EPROTONOSUPPORT);
	assert((err == -EPROTONOSUPPORT) == (identity.format_version > IDENTITY_FORMAT_VERSION));
	if (err == 0) {
		assert(identity.role == ROLE_MGS || identity.role == ROLE_MDT || identity.role == ROLE_OST);
		assert(identity.fs_name[0] != 0 && strnlen(identity.fs_name, sizeof(identity.fs_name)) < size);
	}
	free(text);
}

static void key_one(const uint8_t *text, size_t size)
{
	struct key key;
	int err = key_parse((const char *)text, size, &key);

	assert(err == 0 || err == -EINVAL);
	if (err == 0)
		assert(size == 2 * KEY_SIZE || (size == 2 * KEY_SIZE + 1 && text[size - 1] == '\n'));
}

static void put_file(const char *path, const uint8_t *text, size_t size, const char *end)
{
	FILE *file = fopen(path, "we");

	assert(file != NULL && (size == 0 || fwrite(text, 1, size, file) == size));
	assert(fputs(end, file) >= 0 && fclose(file) == 0);
}

/* What is understood is within its bounds, and what is not comes with a sentence. */
static void cluster_one(const uint8_t *text, size_t size)
{
	static struct cluster_config config;
	char path[4200], error[256] = "";
	int err;

	snprintf(path, sizeof(path), "%s/cluster.conf", work_dir());
	put_file(path, text, size, "");
	err = cluster_config_read(work_dir(), &config, error, sizeof(error));
	assert(err == 0 || err == -EINVAL);
	assert((err == 0) == (error[0] == 0));
	if (err < 0)
		return;
	assert(config.ost_count > 0 && config.ost_count <= CLUSTER_OSTS_MAX);
	assert(strnlen(config.name, sizeof(config.name)) < sizeof(config.name));
	assert(strnlen(config.listen, sizeof(config.listen)) < sizeof(config.listen));
}

/* All entries: none, or that one. */
static size_t list_mounts(struct mount_entry **ret_entries)
{
	size_t count;

	assert(mount_registry_list(ret_entries, &count) == 0 && count <= 1);
	return count;
}

static bool same_mount(const struct mount_entry *a, const struct mount_entry *b)
{
	return strcmp(a->mountpoint, b->mountpoint) == 0 && strcmp(a->source, b->source) == 0 &&
	       a->daemon.pid == b->daemon.pid && a->daemon.starttime == b->daemon.starttime && a->major == b->major &&
	       a->minor == b->minor && a->device_id == b->device_id;
}

/* In the place of this process's entry. If it is one, that its mount is leaving is added to it, and nothing else changes. */
static void mount_one(const uint8_t *text, size_t size, bool of_ours)
{
	struct mount_entry *entries, *again;
	char dir[4200], path[4300], ours[100] = "";
	struct process self;

	assert(setenv("STRAKE_RUN_DIR", work_dir(), 1) == 0 && mount_registry_dir(dir, sizeof(dir)) == 0);
	assert(process_identify(getpid(), &self) == 0);
	if (of_ours)
		snprintf(ours, sizeof(ours), "\npid = %d\nstarttime = %llu\n", (int)self.pid,
			 (unsigned long long)self.starttime);
	snprintf(path, sizeof(path), "%s/%d", dir, (int)self.pid);
	put_file(path, text, size, ours);
	if (list_mounts(&entries) == 1) {
		assert(!of_ours || entries->daemon.pid == self.pid);
		(void)mount_entry_is_held(entries);
		assert(mount_registry_leaving(7, 8, 9) == 0 && list_mounts(&again) == 1);
		assert(same_mount(entries, again));
		assert(again->leaving && again->bytes == 7 && again->files == 8 && again->silent == 9);
		mount_registry_list_free(again, 1);
		mount_registry_list_free(entries, 1);
	}
	mount_registry_remove();
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	uint8_t selector, *text;

	if (size == 0)
		return;
	selector = *data++;
	size--;
	text = fuzz_copy(data, size);
	switch ((selector & ~RIGHT_SUM) % KINDS) {
	case KIND_CONFIG:
		config_one(text, size);
		break;
	case KIND_IDENTITY:
		identity_one(text, size, selector & RIGHT_SUM);
		break;
	case KIND_CLUSTER:
		cluster_one(text, size);
		break;
	case KIND_MOUNT:
		mount_one(text, size, selector & RIGHT_SUM);
		break;
	default:
		key_one(text, size);
	}
	free(text);
}

static void fuzz_seeds(void)
{
	static const char config[] = "# a comment\n[mgs]\nlisten = a\n[oss]\n  listen = *:9402 ; more\nother = 1\n",
			  identity[] = "format_version = 1\nfs_name = strake\n"
				       "fs = 01234567-89ab-4cde-8f01-23456789abcd\n"
				       "target = 11234567-89ab-4cde-8f01-23456789abcd\n"
				       "role = ost\nindex = 3\ncrc32c = 00000000\n",
			  key[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
			  cluster[] = "[cluster]\nname = strake\nlisten = 127.0.0.1\nosts = 2\n"
				      "transport = rdma\ndurability = strict\n"
				      "[ports]\nmgs = 1\nmds0 = 2\nost0 = 3\nost1 = 4\n",
			  mount[] = "pid = 4\nstarttime = 5\nmountpoint = /m\\040\\134\nsource = host,[::1]:2:/dir\n"
				    "device = 0:45 3017\nleaving = 1 2 3\nnewer = 1\n";
	uint8_t selector = KIND_CONFIG;

	fuzz_seed(&selector, 1, config, strlen(config));
	selector = KIND_IDENTITY | RIGHT_SUM;
	fuzz_seed(&selector, 1, identity, strlen(identity));
	selector = KIND_KEY;
	fuzz_seed(&selector, 1, key, strlen(key));
	selector = KIND_CLUSTER;
	fuzz_seed(&selector, 1, cluster, strlen(cluster));
	selector = KIND_MOUNT | RIGHT_SUM;
	fuzz_seed(&selector, 1, mount, strlen(mount));
}
