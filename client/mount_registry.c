#include "client/mount_registry.h"
#include "client/run_dir.h"
#include "common/units.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX 4096

#define INITIAL_PID_NAMESPACE 0xEFFFFFFC /* as Linux numbers it, always */

void mount_entry_release(struct mount_entry *entry)
{
	free(entry->mountpoint);
	free(entry->source);
	*entry = (struct mount_entry){ 0 };
}

/* 0: there is none, or it cannot be seen. */
static uint64_t device_id(unsigned int major, unsigned int minor)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u", major, minor);
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

bool mount_entry_is_held(const struct mount_entry *entry)
{
	return entry->device_id != 0 && device_id(entry->major, entry->minor) == entry->device_id;
}

bool mount_entry_is_of(const struct mount_entry *entry, const struct address_list *mgs)
{
	struct address_list theirs;
	char subdir[PATH_MAX];

	return address_source_parse(entry->source, &theirs, subdir, sizeof(subdir)) == 0 &&
	       address_lists_meet(&theirs, mgs);
}

/* --- text ------------------------------------------------------------------------------------------------------- */

static void put_escaped(FILE *file, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
		if (*c <= ' ' || *c == '\\' || *c == 127)
			fprintf(file, "\\%03o", *c);
		else
			fputc(*c, file);
	}
}

static char *unescape(const char *text)
{
	char *out = malloc(strlen(text) + 1), *to = out;

	if (!out)
		return NULL;
	while (*text != '\0') {
		unsigned int code;

		if (*text == '\\' && sscanf(text + 1, "%3o", &code) == 1 && code > 0 && code < 256 &&
		    strlen(text) >= 4) {
			*to++ = (char)code;
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = '\0';
	return out;
}

static int entry_format(const struct mount_entry *entry, char **ret_text)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	if (!file)
		return -ENOMEM;
	fprintf(file, "pid = %d\nstarttime = %llu\nmountpoint = ", (int)entry->daemon.pid,
		(unsigned long long)entry->daemon.starttime);
	put_escaped(file, entry->mountpoint);
	fputs("\nsource = ", file);
	put_escaped(file, entry->source);
	fprintf(file, "\ndevice = %u:%u %llu\n", entry->major, entry->minor, (unsigned long long)entry->device_id);
	if (entry->leaving)
		fprintf(file, "leaving = %llu %u %u\n", (unsigned long long)entry->bytes, entry->files, entry->silent);
	if (fclose(file) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret_text = text;
	return 0;
}

static int entry_take(struct mount_entry *entry, const char *key, const char *value)
{
	char **field = strcmp(key, "mountpoint") == 0 ? &entry->mountpoint
		       : strcmp(key, "source") == 0   ? &entry->source
						      : NULL;
	uint64_t number;
	int err;

	if (field) {
		free(*field);
		*field = unescape(value);
		return *field ? 0 : -ENOMEM;
	}
	if (strcmp(key, "pid") == 0) {
		err = units_parse_number(value, 1, INT_MAX, &number);
		if (err == 0)
			entry->daemon.pid = (pid_t)number;
		return err;
	}
	if (strcmp(key, "device") == 0) {
		unsigned long long id;

		if (sscanf(value, "%u:%u %llu", &entry->major, &entry->minor, &id) != 3)
			return -EINVAL;
		entry->device_id = id;
		return 0;
	}
	if (strcmp(key, "leaving") == 0) {
		unsigned long long bytes;

		if (sscanf(value, "%llu %u %u", &bytes, &entry->files, &entry->silent) != 3)
			return -EINVAL;
		entry->bytes = bytes;
		entry->leaving = true;
		return 0;
	}
	if (strcmp(key, "starttime") == 0)
		return units_parse_number(value, 0, UINT64_MAX, &entry->daemon.starttime);
	return 0; /* a newer program's */
}

static int entry_read(const char *path, struct mount_entry *ret_entry)
{
	struct mount_entry entry = { 0 };
	char *line = NULL;
	size_t room = 0;
	int err = 0;
	FILE *file = fopen(path, "re");

	if (!file)
		return -errno;
	while (err == 0 && getline(&line, &room, file) >= 0) {
		char *equals = strstr(line, " = ");

		line[strcspn(line, "\n")] = '\0';
		if (!equals)
			continue;
		*equals = '\0';
		err = entry_take(&entry, line, equals + 3);
	}
	free(line);
	fclose(file);
	if (err == 0 && (entry.daemon.pid == 0 || !entry.mountpoint || !entry.source))
		err = -EINVAL;
	if (err)
		mount_entry_release(&entry);
	else
		*ret_entry = entry;
	return err;
}

/* --- files ------------------------------------------------------------------------------------------------------ */

int mount_registry_dir(char *ret_path, size_t size)
{
	char name[32] = "mounts", space[64];
	unsigned long long number;
	ssize_t length = readlink("/proc/self/ns/pid", space, sizeof(space) - 1);

	if (length > 0) {
		space[length] = '\0';
		if (sscanf(space, "pid:[%llu]", &number) == 1 && number != INITIAL_PID_NAMESPACE)
			snprintf(name, sizeof(name), "mounts.%llu", number);
	}
	return run_dir(name, ret_path, size);
}

static int entry_path(pid_t pid, char out[PATH_MAX])
{
	char dir[PATH_MAX];
	int length, err = mount_registry_dir(dir, sizeof(dir));

	if (err)
		return err;
	length = snprintf(out, PATH_MAX, "%s/%d", dir, (int)pid);
	return length < 0 || length >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int mount_registry_add(const char *mountpoint, const char *source, unsigned int major, unsigned int minor)
{
	struct mount_entry entry = { .major = major, .minor = minor, .device_id = device_id(major, minor) };
	char path[PATH_MAX], *text;
	int err = entry_path(getpid(), path);

	if (err == 0)
		err = process_identify(getpid(), &entry.daemon);
	if (err)
		return err;
	entry.mountpoint = strdup(mountpoint);
	entry.source = strdup(source);
	err = entry.mountpoint && entry.source ? entry_format(&entry, &text) : -ENOMEM;
	if (err == 0) {
		err = run_dir_write(path, text);
		free(text);
	}
	mount_entry_release(&entry);
	return err;
}

int mount_registry_leaving(uint64_t bytes, unsigned int files, unsigned int silent)
{
	struct mount_entry entry;
	char path[PATH_MAX], *text;
	int err = entry_path(getpid(), path);

	if (err == 0)
		err = entry_read(path, &entry);
	if (err)
		return err;
	entry.leaving = true;
	entry.bytes = bytes;
	entry.files = files;
	entry.silent = silent;
	err = entry_format(&entry, &text);
	if (err == 0) {
		err = run_dir_write(path, text);
		free(text);
	}
	mount_entry_release(&entry);
	return err;
}

void mount_registry_remove(void)
{
	char path[PATH_MAX];

	if (entry_path(getpid(), path) == 0)
		unlink(path);
}

/* Younger than the other? By pid where one tick saw both. */
static int entry_compare(const void *left, const void *right)
{
	const struct mount_entry *a = left, *b = right;

	if (a->daemon.starttime != b->daemon.starttime)
		return a->daemon.starttime > b->daemon.starttime ? -1 : 1;
	return (a->daemon.pid < b->daemon.pid) - (a->daemon.pid > b->daemon.pid);
}

/* Read one file of the folder; false where it is none of a living mount. */
static bool entry_load(const char *dir, const char *name, struct mount_entry *ret_entry)
{
	char path[PATH_MAX];
	int length;

	if (name[strspn(name, "0123456789")] != '\0')
		return false;
	length = snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (length < 0 || (size_t)length >= sizeof(path) || entry_read(path, ret_entry) < 0)
		return false;
	if (process_is_alive(&ret_entry->daemon))
		return true;
	mount_entry_release(ret_entry);
	unlink(path);
	return false;
}

int mount_registry_list(struct mount_entry **ret_entries, size_t *ret_count)
{
	struct mount_entry *entries = NULL, entry;
	char path[PATH_MAX];
	struct dirent *dirent;
	size_t count = 0;
	DIR *dir;
	int err = mount_registry_dir(path, sizeof(path));

	if (err)
		return err;
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (err == 0 && count < ENTRIES_MAX && (dirent = readdir(dir)) != NULL) {
		struct mount_entry *more;

		if (!entry_load(path, dirent->d_name, &entry))
			continue;
		more = reallocarray(entries, count + 1, sizeof(*entries));
		if (more) {
			entries = more;
			entries[count++] = entry;
		} else {
			mount_entry_release(&entry);
			err = -ENOMEM;
		}
	}
	closedir(dir);
	if (err) {
		mount_registry_list_free(entries, count);
		return err;
	}
	if (count > 0)
		qsort(entries, count, sizeof(*entries), entry_compare);
	*ret_entries = entries;
	*ret_count = count;
	return 0;
}

struct mount_entry *mount_registry_list_free(struct mount_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		mount_entry_release(&entries[i]);
	free(entries);
	return NULL;
}

/* What is looked for: that daemon's; or on that path, from that source, or, without one, in our mount namespace. */
struct wanted {
	const struct process *daemon;
	const char *mountpoint, *source;
	unsigned int major, minor;
};

/* Does its daemon live in our mount namespace? False where that cannot be seen. */
static bool entry_is_here(const struct mount_entry *entry)
{
	char path[64];
	struct stat ours, its;

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)entry->daemon.pid);
	return stat("/proc/self/ns/mnt", &ours) == 0 && stat(path, &its) == 0 && ours.st_dev == its.st_dev &&
	       ours.st_ino == its.st_ino;
}

static bool entry_is_wanted(const struct mount_entry *entry, const struct wanted *wanted)
{
	bool has_device = entry->major != 0 || entry->minor != 0;

	if (wanted->daemon)
		return entry->daemon.pid == wanted->daemon->pid && entry->daemon.starttime == wanted->daemon->starttime;
	if (strcmp(entry->mountpoint, wanted->mountpoint) != 0)
		return false;
	if (!wanted->source)
		return entry_is_here(entry);
	/* One that is leaving served what was mounted there before. */
	return !entry->leaving && strcmp(entry->source, wanted->source) == 0 &&
	       (!has_device || (entry->major == wanted->major && entry->minor == wanted->minor));
}

/* The newest of them. */
static int entry_find(const struct wanted *wanted, struct mount_entry *ret_entry)
{
	struct mount_entry *entries;
	size_t count;
	int err = mount_registry_list(&entries, &count);

	if (err)
		return err;
	err = -ENOENT;
	for (size_t i = 0; i < count && err; i++) {
		if (!entry_is_wanted(&entries[i], wanted))
			continue;
		*ret_entry = entries[i];
		entries[i] = (struct mount_entry){ 0 }; /* handed on */
		err = 0;
	}
	mount_registry_list_free(entries, count);
	return err;
}

int mount_registry_find_by_path(const char *mountpoint, struct mount_entry *ret_entry)
{
	return entry_find(&(struct wanted){ .mountpoint = mountpoint }, ret_entry);
}

int mount_registry_find_mounted(const char *mountpoint, const char *source, unsigned int major, unsigned int minor,
				struct mount_entry *ret_entry)
{
	return entry_find(
		&(struct wanted){ .mountpoint = mountpoint, .source = source, .major = major, .minor = minor },
		ret_entry);
}

int mount_registry_find_by_daemon(const struct process *daemon, struct mount_entry *ret_entry)
{
	return entry_find(&(struct wanted){ .daemon = daemon }, ret_entry);
}
