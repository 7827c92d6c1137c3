#include "oss/ost.h"

#include "common/address.h"
#include "common/fiber.h"
#include "common/ledger_path.h"
#include "common/logger.h"
#include "oss/ost_file.h"
#include "oss/ost_object.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#define SLOTS_PER_SESSION_MAX 1024
#define IO_ERROR_SAID_MS      60000

static uint64_t boot_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);

	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static void random_fill(void *bytes, size_t size)
{
	ssize_t got = getrandom(bytes, size, 0);

	assert(got == (ssize_t)size); /* so few bytes always come at once */
}

void ost_new_instance(struct ost *ost)
{
	uint64_t before = ost->instance;

	do
		random_fill(&ost->instance, sizeof(ost->instance));
	while (ost->instance == 0 || ost->instance == before);
	ledger_begin(ost->ledger, ost->instance);
}

void ost_ledger_make_room(struct ost *ost, size_t sum_count)
{
	while (!ledger_has_room(ost->ledger, sum_count)) {
		if (object_commit_all(ost) < 0)
			ledger_begin(ost->ledger, 0); /* to start without it is better than not to go on */
		else if (!ledger_has_room(ost->ledger, sum_count) && ost->writes)
			fiber_wait(&ost->write_done, NULL); /* the first record is one of theirs */
	}
}

/* The first, and then now and then: a disk that fails does so many times. */
static void say_io_error(struct ost *ost, int err)
{
	uint64_t now_ns = clock_ns();

	if (ost->io_errors > 1 && now_ns - ost->io_error_said_ns < IO_ERROR_SAID_MS * NSEC_PER_MSEC)
		return;
	ost->io_error_said_ns = now_ns;
	log_error("OST %u: %s: %s; I/O errors so far: %" PRIu64 "; it is degraded until it is restarted",
		  ost->identity.index, ost->config.dir, strerror(-err), ost->io_errors);
}

int ost_io_error(struct ost *ost, int err)
{
	switch (err) {
	case -ENOSPC:
	case -EDQUOT:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
	case -EFBIG:
		return err;
	default:
		ost->io_errors++;
		say_io_error(ost, err);
		return -EIO;
	}
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */

/* objects/ and its folders, made where they are missing. */
static int open_folders(struct ost *ost)
{
	char path[4096], name[3];
	struct statfs fs;
	int fd;

	snprintf(path, sizeof(path), "%s/objects", ost->config.dir);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	ost->objects_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ost->objects_dir < 0 || fstatfs(ost->objects_dir, &fs) < 0)
		return -errno;
	ost->syncfs_works = fs.f_type != FUSE_SUPER_MAGIC;
	for (unsigned int folder = 0; folder < OBJECT_FOLDERS; folder++) {
		object_folder_name(folder, name);
		if (mkdirat(ost->objects_dir, name, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	if (fsync(ost->objects_dir) < 0)
		return -errno;
	fd = open(ost->config.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	close(fd);

	return 0;
}

static bool folder_has_objects(int objects_dir, unsigned int folder)
{
	uint64_t ino, gen, seq;
	struct dirent *entry;
	bool found = false;
	char name[3];
	DIR *dir;
	int fd;

	object_folder_name(folder, name);
	fd = openat(objects_dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return true; /* rather not */
	while (!found && (entry = readdir(dir)))
		found = object_name_parse(folder, entry->d_name, &ino, &gen, &seq);
	closedir(dir);

	return found;
}

/* The first start of all, then; but not when what the index knew is lost. */
static int make_index(struct ost *ost, bool *ret_clean, char *error, size_t error_size)
{
	for (unsigned int folder = 0; folder < OBJECT_FOLDERS; folder++) {
		if (!folder_has_objects(ost->objects_dir, folder))
			continue;
		/* Destroyed files would come back to life, and cuts be made twice. */
		snprintf(error, error_size,
			 "%s/index is missing or empty although there are objects; restore it from a backup",
			 ost->config.dir);
		return -EINVAL;
	}

	return index_open(ost->config.dir, &ost->identity.target, true, &ost->index, ret_clean, error, error_size);
}

static void open_ledger(struct ost *ost)
{
	const char *dir = ost->config.ledger_dir;
	struct statfs fs;

	if (!dir && statfs(LEDGER_DIR, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		dir = LEDGER_DIR; /* on a disk it could be older than what it tells of */
	if (!dir || ledger_open(dir, &ost->identity.target, &ost->ledger) < 0)
		ost->ledger = NULL;
}

/* What goes may have been forgotten by the ledger, also for a start after this one. */
static void end_ledger(void *arg)
{
	struct ost *ost = arg;

	ledger_begin(ost->ledger, 0);
}

static int open_index(struct ost *ost, char *error, size_t error_size)
{
	bool clean;
	int err;

	err = index_open(ost->config.dir, &ost->identity.target, false, &ost->index, &clean, error, error_size);
	if (err == -ENOENT)
		err = make_index(ost, &clean, error, error_size);
	if (err < 0)
		return err;
	open_ledger(ost);
	/* A clean stop leaves no ledger. Where there is one the directory is older: a copy that was put back. */
	if (clean && ledger_instance(ost->ledger) == 0)
		return 0;
	if (clean)
		log_warning(
			"OST %u: %s was stopped cleanly, but an OST has run since and was killed: an older copy of it?",
			ost->identity.index, ost->config.dir);
	ost->recovered = true;
	err = index_recover(ost->index, ost->objects_dir, ost->syncfs_works, end_ledger, ost, &ost->recovery);
	if (err < 0)
		snprintf(error, error_size, "%s: cannot compare index and objects: %s", ost->config.dir,
			 strerror(-err));

	return err;
}

/*
 * Under which instance do we go on? That of the clean stop; after a kill, or on an older copy, that of the ledger if all it
 * tells of is there.
 */
static void choose_instance(struct ost *ost)
{
	ost->instance = ost->recovered ? 0 : index_clean_instance(ost->index);
	if (ost->instance == 0 && ledger_verify(ost->ledger, ost->objects_dir) == 0)
		ost->instance = ledger_instance(ost->ledger);
	ost->kept = ost->instance != 0;
	if (ost->kept)
		ledger_begin(ost->ledger, ost->instance);
	else
		ost_new_instance(ost);
}

static int open_all(struct ost *ost, char *error, size_t error_size)
{
	const struct ost_config *config = &ost->config;
	char path[4096];
	int err;

	err = identity_open(config->dir, ROLE_OST, &ost->identity, &ost->identity_lock, error, error_size);
	if (err < 0)
		return err;
	if (config->index >= 0 && ost->identity.index != (uint32_t)config->index) {
		snprintf(error, error_size, "%s is OST %u, not %d; give the right --data-dir or --ost-index",
			 config->dir, ost->identity.index, config->index);
		return -EINVAL;
	}
	if (config->key) {
		ost->key = *config->key;
	} else {
		snprintf(path, sizeof(path), "%s/cluster.key", config->dir);
		err = key_read(path, &ost->key);
		if (err < 0) {
			snprintf(error, error_size, "%s: %s", path,
				 err == -EPERM ? "others than its owner may read it; chmod 600 it" : strerror(-err));
			return err;
		}
	}
	err = open_folders(ost);
	if (err < 0) {
		snprintf(error, error_size, "%s/objects: %s", config->dir, strerror(-err));
		return err;
	}

	err = open_index(ost, error, error_size);
	if (err == 0)
		choose_instance(ost);

	return err;
}

int ost_open(const struct ost_config *config, struct ost **ret_ost, char *error, size_t error_size)
{
	struct ost *ost = calloc(1, sizeof(*ost));
	int err;

	if (!ost) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	ost->config = *config;
	if (ost->config.full_percent == 0)
		ost->config.full_percent = OST_FULL_PERCENT_DEFAULT;
	if (ost->config.objects_open == 0)
		ost->config.objects_open = OST_OBJECTS_OPEN_DEFAULT;
	if (!ost->config.clock_ns)
		ost->config.clock_ns = boot_clock_ns;
	random_fill(&ost->sessions_epoch_ns, sizeof(ost->sessions_epoch_ns));
	ost->identity_lock = ost->objects_dir = -1;
	ost->destroying = ost->voids.busy = (struct fiber_mutex)FIBER_MUTEX_INIT;
	err = open_all(ost, error, error_size);
	if (err < 0) {
		ost_close(ost);
		return err;
	}
	*ret_ost = ost;

	return 0;
}

/* --- starting --------------------------------------------------------------------------------------------------------- */

static struct bulk *bulk_alloc(void *owner, size_t size)
{
	struct ost *ost = owner;

	return data_pool_get(ost->buffers, size);
}

static void buffers_available(void *owner)
{
	struct ost *ost = owner;

	if (ost->service)
		service_bulk_available(ost->service);
}

static void mgs_refused(void *owner, int err, const char *text)
{
	struct ost *ost = owner;

	(void)err;
	if (ost->config.refused)
		ost->config.refused(ost->config.owner, text);
}

static int reachable(void *owner, const char *preferred, struct address_list *ret_list)
{
	return service_reachable(((struct ost *)owner)->service, preferred, ret_list);
}

static int fail(char *error, size_t error_size, const char *what, int err)
{
	snprintf(error, error_size, "%s: %s", what, strerror(-err));

	return err;
}

static int start_service(struct ost *ost, char *error, size_t error_size)
{
	struct service_config service = {
		.fs = ost->identity.fs,
		.target = ost->identity.target,
		.role = ROLE_OST,
		.key = &ost->key,
		.owner = ost,
		.handle = ost_handle,
		.bulk_alloc = bulk_alloc,
	};
	const struct address_list *listen = ost->config.listen;
	int err = service_new(ost->loop, &service, &ost->service);

	if (err < 0)
		return fail(error, error_size, "starting", err);
	for (size_t i = 0; i < listen->count && err == 0; i++) {
		uint16_t port;

		err = service_listen(ost->service, listen->text[i], &port);
		if (err < 0)
			service_listen_explain(listen->text[i], err, error, error_size);
		else if (i == 0)
			ost->port = port;
	}

	return err;
}

static int start_mgs(struct ost *ost)
{
	struct mgs_client_config mgs = {
		.mgs = ost->config.mgs,
		.fs = ost->identity.fs,
		.key = &ost->key,
		.own_role = ROLE_OST,
		.own_uuid = ost->identity.target,
		.index = ost->identity.index,
		.tally = ost->config.mgs_tally,
		.owner = ost,
		.reachable = reachable,
		.capacity = ost_capacity,
		.refused = mgs_refused,
	};

	if (ost->config.mgs.count == 0)
		return 0;

	return mgs_client_new(ost->loop, &mgs, &ost->mgs);
}

int ost_start(struct ost *ost, struct loop *loop, char *error, size_t error_size)
{
	int err;

	ost->loop = loop;
	err = disk_new(loop, &ost->disk);
	if (err < 0)
		return fail(error, error_size, "io_uring", err);
	err = helper_new(loop, &ost->helper);
	if (err == 0)
		err = helper_new(loop, &ost->syncer);
	if (err == 0)
		err = helper_new(loop, &ost->copier);
	if (err == 0)
		err = helper_new(loop, &ost->maker);
	if (err == 0)
		err = data_pool_new(buffers_available, ost, &ost->buffers);
	if (err == 0)
		err = slot_table_new(SLOTS_PER_SESSION_MAX, &ost->slots);
	if (err < 0)
		return fail(error, error_size, "starting", err);
	err = index_start(ost->index, loop);
	if (err < 0)
		return fail(error, error_size, "the index cannot be written", err);
	err = ost_load_voids(ost);
	if (err < 0)
		return fail(error, error_size, "starting", err);
	ost_capacity_refresh(ost);
	err = start_service(ost, error, error_size);
	if (err < 0)
		return err;
	err = start_mgs(ost);
	if (err < 0)
		return fail(error, error_size, "MGS client", err);
	ost->ticking = true;
	err = fiber_start(loop, ost_tick, ost);
	if (err < 0) {
		ost->ticking = false;
		return fail(error, error_size, "starting", err);
	}

	return 0;
}

/* --- stopping --------------------------------------------------------------------------------------------------------- */

static int sync_filesystem(void *arg)
{
	const struct ost *ost = arg;

	return syncfs(ost->objects_dir) < 0 ? -errno : 0;
}

static int sync_folders(struct ost *ost)
{
	int err = 0;

	for (unsigned int folder = 0; folder < OBJECT_FOLDERS && err == 0; folder++)
		err = object_sync_folder(ost, folder);

	return err;
}

/* Nothing runs any more: all that was written, made or unlinked becomes durable. */
static int settle(struct ost *ost)
{
	int err = object_commit_all(ost);

	if (err == 0)
		err = ost->syncfs_works ? helper_run(ost->syncer, sync_filesystem, ost) : sync_folders(ost);
	if (err == 0)
		err = index_sync(ost->index, index_last_change(ost->index));

	return err;
}

/* Buffers come back while connections close; nobody is to read on into them. */
static void stop_serving(struct ost *ost)
{
	struct service *service = ost->service;

	ost->mgs = mgs_client_free(ost->mgs);
	ost->service = NULL;
	service_free(service);
}

int ost_stop(struct ost *ost)
{
	int err, close_err;
	bool clean;

	ost->stopping = true;
	stop_serving(ost);
	fiber_wake_all(&ost->tick);
	fiber_yield(); /* the MGS client's fiber ends, too */
	while (ost->running > 0 || ost->ticking)
		fiber_wait(&ost->idle, NULL);
	err = ost->disk ? settle(ost) : 0;
	object_close_idle(ost);
	clean = err == 0 && !ost->left_behind;
	close_err = index_close(ost->index, clean ? ost->instance : 0);
	ost->index = NULL;
	if (clean && close_err == 0)
		ost->ledger = ledger_close(ost->ledger, true);

	return err < 0 ? err : close_err;
}

struct ost *ost_close(struct ost *ost)
{
	if (!ost)
		return NULL;
	stop_serving(ost);
	file_forget_idle(ost);
	ost->slots = slot_table_free(ost->slots);
	session_table_release(&ost->sessions);
	free(ost->voids.ranges);
	ost->buffers = data_pool_free(ost->buffers);
	page_pipes_release(&ost->pipes);
	ost->helper = helper_free(ost->helper);
	ost->syncer = helper_free(ost->syncer);
	ost->copier = helper_free(ost->copier);
	ost->maker = helper_free(ost->maker);
	ost->disk = disk_free(ost->disk);
	if (ost->index)
		(void)index_close(ost->index, 0);
	ledger_close(ost->ledger, false);
	free(ost->left_cuts);
	if (ost->objects_dir >= 0)
		close(ost->objects_dir);
	if (ost->identity_lock >= 0)
		close(ost->identity_lock);
	explicit_bzero(&ost->key, sizeof(ost->key));
	free(ost);

	return NULL;
}
