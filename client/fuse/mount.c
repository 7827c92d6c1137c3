#include "client/fuse/mount.h"

#include "client/data/buffers.h"
#include "common/logger.h"

#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <mntent.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_AHEAD_KB 1024
#define NOTE_MS       1000 /* for an entry in umount(8)'s table */

struct fuse_mount {
	struct fuse_session *libfuse; /* libfuse's own idea of a session: only mounts */
	char mountpoint[4096];
	unsigned int major, minor; /* the device number that the kernel gave it; 0 0: not known */
};

/* --- attaching --------------------------------------------------------------------------------------------------- */

/* What libfuse has to say while it mounts. It is asked by one thread only. */
static char libfuse_word[256];

static __attribute__((format(printf, 2, 0))) void libfuse_says(enum fuse_log_level level, const char *format,
							       va_list args)
{
	(void)level;
	vsnprintf(libfuse_word, sizeof(libfuse_word), format, args);
	libfuse_word[strcspn(libfuse_word, "\n")] = 0;
}

/* "fsname=SOURCE,subtype=strake,...": malloc'ed. A comma in the source would end the option. */
static char *attach_words(const struct mount_options *options)
{
	char source[2 * sizeof(options->source)], *words;
	size_t n = 0;

	for (const char *c = options->source; *c != 0; c++) {
		if (*c == ',' || *c == '\\')
			source[n++] = '\\';
		source[n++] = *c;
	}
	source[n] = 0;
	return asprintf(&words, "fsname=%s%s,default_permissions,max_read=%u%s%s", source,
			options->plain_type ? "" : ",subtype=strake", BUFFERS_SIZE,
			geteuid() == 0 ? ",allow_other,dev,suid" : "", options->kernel) < 0
		       ? NULL
		       : words;
}

/* The kernel answers from what it knows: nobody serves the mount yet, or its servers may be away. */
static int device_of(const char *path, unsigned int *ret_major, unsigned int *ret_minor)
{
	struct statx stx;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &stx) < 0)
		return -errno;
	*ret_major = stx.stx_dev_major;
	*ret_minor = stx.stx_dev_minor;
	return 0;
}

int fuse_mount_attach(const struct mount_options *options, struct fuse_mount **ret_mount, int *ret_fd, char *error,
		      size_t error_size)
{
	static const struct fuse_lowlevel_ops none;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_mount *mount = calloc(1, sizeof(*mount));
	char *words = attach_words(options);
	int err = -ENOMEM;

	fuse_set_log_func(libfuse_says);
	if (mount != NULL && words != NULL && fuse_opt_add_arg(&args, "mount.strake") == 0 &&
	    fuse_opt_add_arg(&args, "-o") == 0 && fuse_opt_add_arg(&args, words) == 0) {
		snprintf(mount->mountpoint, sizeof(mount->mountpoint), "%s", options->mountpoint);
		mount->libfuse = fuse_session_new(&args, &none, sizeof(none), NULL);
		err = mount->libfuse == NULL || fuse_session_mount(mount->libfuse, mount->mountpoint) != 0 ? -EIO : 0;
	}
	free(words);
	fuse_opt_free_args(&args);
	if (err < 0) {
		snprintf(error, error_size, "cannot mount on %.400s: %s", options->mountpoint,
			 err == -ENOMEM         ? "no memory"
			 : libfuse_word[0] != 0 ? libfuse_word
						: "see what fusermount3 said");
		if (mount != NULL && mount->libfuse != NULL)
			fuse_session_destroy(mount->libfuse);
		free(mount);
		return err;
	}
	(void)device_of(mount->mountpoint, &mount->major, &mount->minor);
	*ret_mount = mount;
	*ret_fd = fuse_session_fd(mount->libfuse);
	return 0;
}

void fuse_mount_device(const struct fuse_mount *mount, unsigned int *ret_major, unsigned int *ret_minor)
{
	*ret_major = mount->major;
	*ret_minor = mount->minor;
}

/* --- detaching --------------------------------------------------------------------------------------------------- */

struct fuse_mount *fuse_mount_detach(struct fuse_mount *mount)
{
	if (mount != NULL) {
		fuse_session_unmount(mount->libfuse); /* leaves it alone where the kernel has ended the connection */
		fuse_session_destroy(mount->libfuse);
		free(mount);
	}
	return NULL;
}

/*
 * Run a program, wait for it as long as that (< 0: for ever), and throw away what it says. Its exit status, or -errno;
 * -ETIMEDOUT: it is left to itself.
 */
static int run_silently(const char *const argv[], int timeout_ms)
{
	char *const *words = (char *const *)(uintptr_t)argv; /* posix_spawn() only reads them */
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	struct pollfd poller = { .events = POLLIN };
	pid_t pid;
	int err, status;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attributes, &none);
	err = posix_spawnp(&pid, argv[0], &actions, &attributes, words, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	if (err != 0)
		return -err;
	poller.fd = timeout_ms < 0 ? -1 : pidfd_open(pid, 0);
	if (poller.fd >= 0) {
		err = poll(&poller, 1, timeout_ms);
		close(poller.fd);
		if (err == 0)
			return -ETIMEDOUT;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -ECHILD;
}

static void *detach_run(void *arg)
{
	char *path = arg;
	const char *fusermount[] = { "fusermount3", "-u", "-z", "-q", "--", path, NULL };
	int err = umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;

	if (err < 0 && geteuid() != 0)
		err = run_silently(fusermount, -1);
	if (err < 0)
		log_warning("cannot unmount %s: %s", path, strerror(-err));
	free(path);
	return NULL;
}

void fuse_mount_detach_lazily(const struct fuse_mount *mount)
{
	unsigned int major, minor;
	pthread_t thread;
	char *path;

	/* Whatever has been mounted over it is not ours to take away. */
	if (device_of(mount->mountpoint, &major, &minor) < 0 || major != mount->major || minor != mount->minor) {
		log_warning("cannot unmount %s: another mount lies on it", mount->mountpoint);
		return;
	}
	path = strdup(mount->mountpoint);
	if (path == NULL || pthread_create(&thread, NULL, detach_run, path) != 0) {
		log_warning("cannot unmount %s: no memory", mount->mountpoint);
		free(path);
		return;
	}
	pthread_detach(thread);
}

/* --- settings ---------------------------------------------------------------------------------------------------- */

void fuse_mount_tune(const struct fuse_mount *mount)
{
	char path[96];
	FILE *setting;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", mount->major, mount->minor);
	setting = fopen(path, "we");
	if (setting == NULL)
		return;
	fprintf(setting, "%d\n", READ_AHEAD_KB);
	fclose(setting);
}

void fuse_mount_announce(const struct fuse_mount *mount, const struct mount_options *options)
{
	/* Options of mount(8): only note it (-f), call no helper (-i). */
	const char *note[] = { "mount",
			       "-f",
			       "-i",
			       "--no-canonicalize",
			       "-t",
			       options->plain_type ? "fuse" : "fuse.strake",
			       "-o",
			       "helper=strake",
			       options->source,
			       mount->mountpoint,
			       NULL };

	if (geteuid() == 0)
		(void)run_silently(note, NOTE_MS);
}

void fuse_mount_renounce(const struct fuse_mount *mount)
{
	const char *note[] = { "umount", "--fake", "-i", mount->mountpoint, NULL };

	if (geteuid() == 0)
		(void)run_silently(note, NOTE_MS);
}

/* --- times of access ---------------------------------------------------------------------------------------------- */

static bool has_word(const char *words, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = words; (at = strstr(at, word)) != NULL; at += length)
		if ((at == words || at[-1] == ',') && (at[length] == ',' || at[length] == 0))
			return true;
	return false;
}

static unsigned int atime_of(const char *words)
{
	unsigned int atime = has_word(words, "relatime") ? ATIME_RELATIVE : ATIME_STRICT;

	if (has_word(words, "noatime") || has_word(words, "ro"))
		atime = ATIME_NONE;
	return atime | (has_word(words, "nodiratime") ? ATIME_NOT_OF_DIRECTORIES : 0);
}

int fuse_mount_atime(const struct fuse_mount *mount, unsigned int *ret_atime)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, words[512], path[sizeof(mount->mountpoint)];
	unsigned int major, minor;
	size_t room = 0;
	int err = mounts == NULL ? -errno : -ENOENT;

	/* Of several that show the filesystem (bind mounts) the one that we have made, or whichever is left. */
	while (mounts != NULL && getline(&line, &room, mounts) >= 0) {
		if (sscanf(line, "%*u %*u %u:%u %*s %4095s %511s", &major, &minor, path, words) != 4 ||
		    major != mount->major || minor != mount->minor)
			continue;
		if (err < 0 || strcmp(path, mount->mountpoint) == 0)
			*ret_atime = atime_of(words);
		err = 0;
	}
	free(line);
	if (mounts != NULL)
		fclose(mounts);
	return err;
}

void fuse_mount_set_atime(const struct fuse_mount *mount, unsigned int atime)
{
	static const uint64_t kinds[] = {
		[ATIME_NONE] = MOUNT_ATTR_NOATIME,
		[ATIME_RELATIVE] = MOUNT_ATTR_RELATIME,
		[ATIME_STRICT] = MOUNT_ATTR_STRICTATIME,
	};
	bool not_of_dirs = (atime & ATIME_NOT_OF_DIRECTORIES) != 0;
	struct mount_attr attr = {
		.attr_set = kinds[atime & ~ATIME_NOT_OF_DIRECTORIES] | (not_of_dirs ? MOUNT_ATTR_NODIRATIME : 0),
		.attr_clr = MOUNT_ATTR__ATIME | (not_of_dirs ? 0 : MOUNT_ATTR_NODIRATIME),
	};

	/* What is wished is done all the same: only mount(8) does not show it. */
	(void)mount_setattr(AT_FDCWD, mount->mountpoint, AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, &attr, sizeof(attr));
}

/* --- remount ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *word;
	unsigned long set, clear;
} flags_known[] = {
	{ "ro", MS_RDONLY, 0 },     { "rw", 0, MS_RDONLY },     { "nodev", MS_NODEV, 0 },
	{ "dev", 0, MS_NODEV },     { "nosuid", MS_NOSUID, 0 }, { "suid", 0, MS_NOSUID },
	{ "noexec", MS_NOEXEC, 0 }, { "exec", 0, MS_NOEXEC },   { "dirsync", MS_DIRSYNC, 0 },
};

static unsigned long flags_of(const char *words)
{
	unsigned long flags = 0;

	while (*words != 0) {
		size_t length = strcspn(words, ",");

		for (size_t i = 0; i < sizeof(flags_known) / sizeof(*flags_known); i++)
			if (strlen(flags_known[i].word) == length && strncmp(flags_known[i].word, words, length) == 0)
				flags = (flags | flags_known[i].set) & ~flags_known[i].clear;
		words += length;
		words += *words == ',';
	}
	return flags;
}

/* Those of times of access: none named means as it was. */
static unsigned long atime_flags_of(const struct mount_options *options)
{
	static const unsigned long kinds[] = {
		[ATIME_NONE] = MS_NOATIME,
		[ATIME_RELATIVE] = MS_RELATIME,
		[ATIME_STRICT] = MS_STRICTATIME,
	};

	if (!options->atime_given)
		return 0;
	return kinds[options->fs.atime & ~ATIME_NOT_OF_DIRECTORIES] |
	       ((options->fs.atime & ATIME_NOT_OF_DIRECTORIES) ? MS_NODIRATIME : 0);
}

/* Is the mount on top of that path one of ours? */
static bool is_ours(const char *mountpoint)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	char text[16384];
	struct mntent entry;
	bool ours = false;

	if (mounts == NULL)
		return false;
	while (getmntent_r(mounts, &entry, text, sizeof(text)) != NULL)
		if (strcmp(entry.mnt_dir, mountpoint) == 0)
			ours = strcmp(entry.mnt_type, "fuse.strake") == 0 || strcmp(entry.mnt_type, "fuse") == 0;
	endmntent(mounts);
	return ours;
}

int fuse_mount_remount(const struct mount_options *options)
{
	int err = 0;

	if (!is_ours(options->mountpoint)) {
		fprintf(stderr, "mount.strake: no StrakeFS is mounted on %s\n", options->mountpoint);
		return -EINVAL;
	}
	if (mount(options->source, options->mountpoint, NULL,
		  MS_REMOUNT | flags_of(options->kernel) | atime_flags_of(options), NULL) < 0) {
		err = -errno;
		fprintf(stderr, "mount.strake: cannot remount %s: %s\n", options->mountpoint, strerror(-err));
	}
	return err;
}
