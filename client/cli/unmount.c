#include "client/cli/unmount.h"
#include "client/cli/mountinfo.h"
#include "client/mount_registry.h"
#include "common/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAVE_TRIES 40
#define LEAVE_MS    50
#define LOOK_MS     100 /* between two looks at how far the daemon is */

#define IDLE_LOOK_MS 500 /* between two looks whether the kernel gets on */

/* The time it has run, in ns: it grows while the kernel works for it, however slowly. 0 where that is not told. */
static unsigned long long run_time(const struct process *process)
{
	unsigned long long time_ns = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)process->pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%llu", &time_ns) != 1)
		time_ns = 0;
	fclose(file);
	return time_ns;
}

/*
 * Wait for a child, at most until it has not run for so long (< 0: for ever). Its exit status, -errno; -EINPROGRESS: it
 * waits for something, and is left to that.
 */
static int child_wait(pid_t pid, int idle_max_ms)
{
	struct process child;
	int status;

	if (idle_max_ms >= 0 && process_identify(pid, &child) == 0) {
		unsigned long long ran = 0, before;
		int idle_ms = 0;

		while (process_wait(&child, IDLE_LOOK_MS) == -ETIMEDOUT) {
			before = ran;
			ran = run_time(&child);
			idle_ms = ran == before ? idle_ms + IDLE_LOOK_MS : 0;
			if (idle_ms >= idle_max_ms)
				return -EINPROGRESS;
		}
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -ECHILD;
}

/* Its exit status, or as child_wait(). */
static int run(const char *const argv[], int idle_max_ms)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	return child_wait(pid, idle_max_ms);
}

/* Others than root let fusermount3 do it, which says itself what is wrong. */
static int fusermount(const char *path, bool lazy)
{
	const char *plain[] = { "fusermount3", "-u", "--", path, NULL };
	const char *lazily[] = { "fusermount3", "-u", "-z", "--", path, NULL };
	int status = run(lazy ? lazily : plain, UNMOUNT_KERNEL_MS);

	return status > 0 ? -EPERM : status;
}

/*
 * umount(2), in a process of its own: the kernel first writes out the pages it holds, which takes servers, and nothing
 * ends a process that waits for that. An errno is less than an exit status can be.
 */
static int kernel_unmount(const char *path, int umount_flags)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(umount2(path, umount_flags) < 0 ? errno : 0);
	status = child_wait(pid, UNMOUNT_KERNEL_MS);
	return status > 0 ? -status : status;
}

/* Out of umount(8)'s table, into which the daemon has put it; it would do this itself, but has died. */
static void clean_table(const char *path)
{
	const char *argv[] = { "umount", "--fake", "-i", path, NULL };

	(void)run(argv, -1);
}

static int detach(const char *path, unsigned int flags)
{
	int umount_flags = UMOUNT_NOFOLLOW, err;

	if (geteuid() != 0)
		return fusermount(path, flags & UNMOUNT_LAZY);
	if (flags & UNMOUNT_FORCE)
		umount_flags |= MNT_FORCE;
	if (flags & UNMOUNT_LAZY)
		umount_flags |= MNT_DETACH;
	err = kernel_unmount(path, umount_flags);
	/* Force has ended what they waited for: those who hang in the mount now get the time to leave it. */
	for (unsigned int i = 0; i < LEAVE_TRIES && err == -EBUSY && (flags & UNMOUNT_FORCE); i++) {
		usleep(LEAVE_MS * 1000);
		err = kernel_unmount(path, umount_flags);
	}
	/* Force was the end of it for all who use it: nobody gains by its staying in the tree. */
	if (err == -EBUSY && (flags & UNMOUNT_FORCE))
		err = kernel_unmount(path, umount_flags | MNT_DETACH);
	return err;
}

/* Ours: by its type, or, as fstype=fuse leaves that out, by the daemon that has entered it. */
static bool is_ours(const struct mountinfo *info, bool registered)
{
	return registered || strcmp(info->type, "fuse.strake") == 0 || strcmp(info->type, "fuse") == 0;
}

int unmount_detach(const char *path, unsigned int flags, struct process *ret_daemon, char *error, size_t error_size)
{
	struct mountinfo info = { 0 };
	struct mount_entry entry = { 0 };
	int err = mountinfo_find(0, path, &info);
	bool registered =
		err == 0 && mount_registry_find_mounted(path, info.source, info.major, info.minor, &entry) == 0;
	bool was_there = err == -ENOENT && mount_registry_find_by_path(path, &entry) == 0;
	struct process daemon = entry.daemon;

	if (registered || was_there)
		mount_entry_release(&entry);
	if (err == -ENOENT) {
		snprintf(error, error_size, "nothing is mounted on %s", path);
		*ret_daemon = daemon;
		return err;
	}
	if (err == 0 && !is_ours(&info, registered)) {
		snprintf(error, error_size, "what is mounted on %s is no StrakeFS but %s", path, info.type);
		return -EINVAL;
	}
	if (err == 0)
		err = detach(path, flags);
	if (err == -EINPROGRESS) {
		snprintf(
			error, error_size,
			"%s is unmounted, but the kernel holds pages of mapped files that the servers do not take yet; "
			"it goes on trying, and so does its daemon (pid %d)",
			path, (int)daemon.pid);
		return err;
	}
	if (err) {
		snprintf(error, error_size, "cannot unmount %s: %s", path,
			 err == -EBUSY ? "it is in use (fuser -m tells by whom; -l detaches it all the same)"
				       : strerror(-err));
		return err;
	}
	if (!registered && geteuid() == 0)
		clean_table(path);
	*ret_daemon = daemon;
	return 0;
}

/* --- the daemon's end ------------------------------------------------------------------------------------------- */

/* What the daemon says of itself while it is waited for. */
struct progress {
	bool leaving; /* the kernel has let it go */
	bool held;    /* it has not: mount_entry_is_held() */
	bool seen;    /* whether it has can be seen */
	uint64_t bytes;
	unsigned int files, silent;
	uint64_t began_ns, moved_ns; /* when the wait began, and when bytes or files changed last */
	bool said;
};

static void progress_look(struct progress *progress, const struct process *daemon, uint64_t now_ns)
{
	struct mount_entry entry;

	if (mount_registry_find_by_daemon(daemon, &entry) < 0)
		return;
	if (entry.leaving != progress->leaving || entry.bytes != progress->bytes || entry.files != progress->files)
		progress->moved_ns = now_ns;
	progress->leaving = entry.leaving;
	progress->held = mount_entry_is_held(&entry);
	progress->seen = entry.device_id != 0;
	progress->bytes = entry.bytes;
	progress->files = entry.files;
	progress->silent = entry.silent;
	mount_entry_release(&entry);
}

/* What it still does is to end its connections: by iWARP that takes 10 s where a server does not answer. */
static bool progress_holds_nothing(const struct progress *progress)
{
	return progress->leaving && progress->bytes == 0 && progress->files == 0;
}

/* Is it vain to wait on? */
static bool progress_is_stuck(const struct progress *progress, uint64_t now_ns)
{
	unsigned int patience_ms =
		progress->silent > 0 || progress_holds_nothing(progress) ? UNMOUNT_SILENT_MS : UNMOUNT_STILL_MS;

	return now_ns - progress->moved_ns > patience_ms * NSEC_PER_MSEC;
}

/* The mount serves others yet: for how long is not known. */
static bool progress_is_busy(const struct progress *progress, uint64_t now_ns)
{
	unsigned int patience_ms = progress->held ? UNMOUNT_HELD_MS : UNMOUNT_UNSEEN_MS;

	return !progress->leaving && (progress->held || !progress->seen) &&
	       now_ns - progress->began_ns > patience_ms * NSEC_PER_MSEC;
}

static void stuck_sentence(const char *path, const struct process *daemon, const struct progress *progress, char *error,
			   size_t error_size)
{
	if (!progress->leaving)
		snprintf(error, error_size, "%s is unmounted, but its daemon (pid %d) does not answer", path,
			 (int)daemon->pid);
	else
		snprintf(error, error_size,
			 "%s is unmounted, but %llu bytes of %u files are not yet written: the servers do not take "
			 "them; its daemon (pid %d) goes on trying",
			 path, (unsigned long long)progress->bytes, progress->files, (int)daemon->pid);
}

static void say_nothing_left(const char *path, const struct process *daemon)
{
	fprintf(stderr,
		"strake: %s is unmounted and nothing is left to be written; its daemon (pid %d) still ends its "
		"connections\n",
		path, (int)daemon->pid);
}

static int wait_patiently(const char *path, const struct process *daemon, char *error, size_t error_size)
{
	struct progress progress = { .began_ns = clock_ns() };
	int err;

	progress.moved_ns = progress.began_ns;
	while ((err = process_wait(daemon, LOOK_MS)) == -ETIMEDOUT) {
		uint64_t now_ns = clock_ns();

		progress_look(&progress, daemon, now_ns);
		if (progress_is_busy(&progress, now_ns)) {
			fprintf(stderr,
				"strake: %s is detached; its daemon (pid %d) goes on until nobody uses it, also in "
				"other "
				"mount namespaces, and all is written\n",
				path, (int)daemon->pid);
			return 0;
		}
		if (progress_is_stuck(&progress, now_ns) && progress_holds_nothing(&progress)) {
			say_nothing_left(path, daemon);
			return 0;
		}
		if (progress_is_stuck(&progress, now_ns)) {
			stuck_sentence(path, daemon, &progress, error, error_size);
			return -EINPROGRESS;
		}
		if (!progress.said && !progress_holds_nothing(&progress) &&
		    now_ns - progress.began_ns > UNMOUNT_SAY_MS * NSEC_PER_MSEC) {
			fprintf(stderr,
				"strake: %s is unmounted, its daemon (pid %d) still writes out what it holds; waiting "
				"for "
				"that (interrupting this stops the waiting, not the writing)\n",
				path, (int)daemon->pid);
			progress.said = true;
		}
	}
	if (err)
		snprintf(error, error_size, "%s: its daemon (pid %d): %s", path, (int)daemon->pid, strerror(-err));
	return err;
}

/* The daemon takes the first signal as the wish to end, the second, of another kind to be told apart, as an order. */
static int wait_impatiently(const char *path, const struct process *daemon, char *error, size_t error_size)
{
	struct progress progress = { .began_ns = clock_ns() };
	bool vain = false;

	progress.moved_ns = progress.began_ns;
	while (!vain) {
		uint64_t now_ns;

		if (process_wait(daemon, LOOK_MS) == 0)
			return 0;
		now_ns = clock_ns();
		progress_look(&progress, daemon, now_ns);
		vain = now_ns - progress.began_ns > UNMOUNT_FORCE_MS * NSEC_PER_MSEC ||
		       (progress.silent > 0 && now_ns - progress.moved_ns > UNMOUNT_VAIN_MS * NSEC_PER_MSEC);
	}
	if (progress_holds_nothing(&progress)) {
		say_nothing_left(path, daemon);
		return 0;
	}
	(void)process_signal(daemon, SIGTERM);
	(void)process_signal(daemon, SIGINT);
	if (process_wait(daemon, UNMOUNT_FORCE_MS) < 0)
		(void)process_signal(daemon, SIGKILL);
	(void)process_wait(daemon, UNMOUNT_FORCE_MS);
	snprintf(error, error_size,
		 "%s is unmounted; the servers did not take what it still held, and that is given up", path);
	return -EIO;
}

int unmount_wait(const char *path, unsigned int flags, const struct process *daemon, char *error, size_t error_size)
{
	if (daemon->pid == 0)
		return 0;
	if (flags & UNMOUNT_FORCE)
		return wait_impatiently(path, daemon, error, error_size);
	return wait_patiently(path, daemon, error, error_size);
}
