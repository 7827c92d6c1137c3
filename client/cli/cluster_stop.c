/*
 * strake cluster stop: the mounts, then the MDS, the OSS, the MGS, each when the ones before have ended, so that all of
 * them can still write out what they hold. Leaves nothing but the data, the logs and the configuration.
 */
#include "client/cli/cli.h"
#include "client/cli/cluster.h"
#include "client/cli/unmount.h"
#include "client/key_find.h"
#include "client/mount_registry.h"
#include "common/ledger_path.h"
#include "common/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_MS     30000 /* for one kind of process to end when asked to; for a mount that writes out, to get on with it */
#define KILL_MS     5000 /* for one that was killed */
#define BUSY_MS     3000 /* a mount in use is detached all the same after that */
#define BUSY_TRY_MS 100
#define LOOK_MS     100 /* between two looks at how far a mount is with writing out */

/* --- processes -------------------------------------------------------------------------------------------------- */

static int milliseconds_left(uint64_t deadline_ns)
{
	uint64_t now_ns = clock_ns();

	return now_ns < deadline_ns ? (int)((deadline_ns - now_ns) / NSEC_PER_MSEC) + 1 : 0;
}

/* Wait for the end of a process that was asked to; beyond the deadline kill it. 0, or 1 when it came to that. */
static int see_the_end(const struct process *process, const char *name, uint64_t deadline_ns)
{
	if (process_wait(process, milliseconds_left(deadline_ns)) == 0)
		return 0;
	cli_fail("%s (pid %d) does not end; it is killed", name, (int)process->pid);
	(void)process_signal(process, SIGKILL);
	if (process_wait(process, KILL_MS) < 0)
		cli_fail("%s (pid %d) is still there", name, (int)process->pid);
	return CLI_FAILED;
}

/* An OST that was killed leaves its ledger behind, for its next start: without it clients send again what they hold. */
static void forget_ledger(const struct cluster *cluster, const struct cluster_member *member)
{
	char dir[PATH_MAX], path[LEDGER_PATH_SIZE], error[PATH_MAX + 256];
	struct identity identity;

	cluster_member_path(cluster, member, "", "", dir);
	if (identity_read(dir, &identity, error, sizeof(error)) < 0)
		return;
	ledger_path(LEDGER_DIR, &identity.target, path);
	unlink(path);
}

/* All members of a role, together. */
static int stop_members(struct cluster *cluster, enum role role)
{
	uint64_t deadline_ns = clock_ns() + STOP_MS * NSEC_PER_MSEC;
	int status = 0;

	for (size_t i = 0; i < cluster->member_count; i++)
		if (cluster->members[i].role == role && cluster->members[i].running)
			(void)process_signal(&cluster->members[i].process, SIGTERM);
	for (size_t i = 0; i < cluster->member_count; i++) {
		struct cluster_member *member = &cluster->members[i];
		char path[PATH_MAX];

		if (member->role != role)
			continue;
		if (member->running)
			status |= see_the_end(&member->process, member->name, deadline_ns);
		cluster_member_path(cluster, member, "run/", ".pid", path);
		if (process_is_alive(&member->process))
			continue;
		unlink(path);
		if (role == ROLE_OST)
			forget_ledger(cluster, member);
	}
	return status;
}

/* --- mounts ----------------------------------------------------------------------------------------------------- */

/*
 * Not in our tree. In another mount namespace, where only its daemon can take it away; or nowhere any more, and the
 * daemon is writing out what it holds and must not be disturbed.
 */
static int detach_elsewhere(const struct cluster_mount *mount)
{
	int err;

	if (mount->daemon.pid == 0 || !cluster_mount_is_seen(mount, mount->daemon.pid))
		return 0;
	err = process_signal(&mount->daemon, SIGTERM);
	return err && err != -ESRCH
		       ? cli_fail("%s: its daemon (pid %d): %s", mount->path, (int)mount->daemon.pid, strerror(-err))
		       : 0;
}

/*
 * Out of the tree, whoever is in it: for those the connection to the daemon ends (MNT_FORCE). What the daemon still
 * holds it writes out; that is waited for later.
 */
static int detach_mount(const struct cluster_mount *mount)
{
	uint64_t deadline_ns = clock_ns() + BUSY_MS * NSEC_PER_MSEC;
	char error[PATH_MAX + 256];
	struct process daemon;
	int err;

	if (!cluster_mount_is_seen(mount, 0))
		return detach_elsewhere(mount);
	while ((err = unmount_detach(mount->path, 0, &daemon, error, sizeof(error))) == -EBUSY &&
	       milliseconds_left(deadline_ns) > 0)
		usleep(BUSY_TRY_MS * 1000);
	if (err == -EBUSY) {
		cli_fail("%s is in use and is detached all the same", mount->path);
		err = unmount_detach(mount->path, UNMOUNT_LAZY | UNMOUNT_FORCE, &daemon, error, sizeof(error));
	}
	/* Somebody else was faster. */
	return err && err != -ENOENT ? cli_fail("%s", error) : 0;
}

/* What a daemon that writes out holds at the least so far; UINT64_MAX: it has not said yet. */
struct held {
	uint64_t bytes, files;
};

/* Has it written out some more since the last look? */
static bool gets_on(const struct process *daemon, struct held *held)
{
	struct mount_entry entry;
	bool less;

	if (mount_registry_find_by_daemon(daemon, &entry) < 0)
		return false;
	less = entry.leaving && (entry.bytes < held->bytes || entry.files < held->files);
	if (less)
		*held = (struct held){ entry.bytes, entry.files };
	mount_entry_release(&entry);
	return less;
}

/* As see_the_end(); but who gets on with writing out what nobody else has is waited for, however long that takes. */
static int see_the_mount_end(const struct cluster_mount *mount, uint64_t deadline_ns)
{
	struct held held = { UINT64_MAX, UINT64_MAX };

	while (process_wait(&mount->daemon, LOOK_MS) < 0) {
		if (gets_on(&mount->daemon, &held))
			deadline_ns = clock_ns() + STOP_MS * NSEC_PER_MSEC;
		if (milliseconds_left(deadline_ns) == 0)
			return see_the_end(&mount->daemon, mount->path, deadline_ns);
	}
	return 0;
}

static int stop_mounts(const struct cluster *cluster)
{
	uint64_t deadline_ns;
	struct cluster_mount *mounts;
	size_t count;
	int status = 0, err = cluster_mounts(cluster, &mounts, &count);

	if (err)
		return cli_fail("cannot see what is mounted: %s", strerror(-err));
	for (size_t i = 0; i < count; i++)
		status |= detach_mount(&mounts[i]);
	deadline_ns = clock_ns() + STOP_MS * NSEC_PER_MSEC;
	for (size_t i = 0; i < count; i++)
		if (mounts[i].daemon.pid != 0)
			status |= see_the_mount_end(&mounts[i], deadline_ns);
	free(mounts);
	return status;
}

/* --- the verb --------------------------------------------------------------------------------------------------- */

/* Whose it is not must not unmount it, nor wait for what he cannot end. */
static int check_rights(const struct cluster *cluster)
{
	for (size_t i = 0; i < cluster->member_count; i++) {
		const struct cluster_member *member = &cluster->members[i];

		if (member->running && process_signal(&member->process, 0) == -EPERM)
			return cli_fail("%s (pid %d) is another user's: stop the cluster as that user, or as root",
					member->name, (int)member->process.pid);
	}
	return 0;
}

static int stop_all(struct cluster *cluster)
{
	static const enum role order[] = { ROLE_MDT, ROLE_OST, ROLE_MGS };
	char path[PATH_MAX + 8];
	int status = check_rights(cluster);

	if (status)
		return status;
	status = stop_mounts(cluster);
	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
		status |= stop_members(cluster, order[i]);
	key_find_forget(&cluster->mgs);
	snprintf(path, sizeof(path), "%s/run", cluster->dir);
	(void)rmdir(path); /* stays while something in it still runs */
	return status;
}

int cluster_stop(const char *dir)
{
	struct cluster *cluster = calloc(1, sizeof(*cluster));
	char error[PATH_MAX + 256];
	int status;

	if (!cluster)
		return cli_fail("%s", strerror(ENOMEM));
	cluster->lock = -1;
	if (cluster_lock(cluster, dir, error, sizeof(error)) < 0 ||
	    cluster_load(cluster, dir, error, sizeof(error)) < 0)
		status = cli_fail("%s", error);
	else
		status = stop_all(cluster);
	cluster_release(cluster);
	free(cluster);
	return status;
}
