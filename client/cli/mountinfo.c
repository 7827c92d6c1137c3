#include "client/cli/mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SYMLINKS_MAX 40

/* One field, \ooo undone. */
static void take_field(char *out, size_t size, const char *field, size_t length)
{
	size_t used = 0;

	for (size_t i = 0; i < length && used + 1 < size; i++) {
		unsigned int code;

		if (field[i] == '\\' && i + 3 < length && sscanf(field + i + 1, "%3o", &code) == 1) {
			out[used++] = (char)code;
			i += 3;
		} else {
			out[used++] = field[i];
		}
	}
	out[used] = '\0';
}

static const char *skip_fields(const char *at, unsigned int count)
{
	while (count-- > 0 && at) {
		at = strchr(at, ' ');
		if (at)
			at++;
	}
	return at;
}

/* id parent major:minor root PATH options [tags...] - TYPE SOURCE super-options */
static bool line_parse(const char *line, struct mountinfo *info)
{
	const char *path = skip_fields(line, 4), *dash = strstr(line, " - "), *type, *source;

	if (!path || !dash || sscanf(line, "%*u %*u %u:%u", &info->major, &info->minor) != 2)
		return false;
	type = dash + 3;
	source = skip_fields(type, 1);
	if (!source)
		return false;
	take_field(info->path, sizeof(info->path), path, strcspn(path, " "));
	take_field(info->type, sizeof(info->type), type, strcspn(type, " "));
	take_field(info->source, sizeof(info->source), source, strcspn(source, " "));
	return true;
}

int mountinfo_each(pid_t pid, bool (*fn)(void *arg, const struct mountinfo *info), void *arg)
{
	struct mountinfo *info = malloc(sizeof(*info));
	char path[64] = "/proc/self/mountinfo", *line = NULL;
	size_t room = 0;
	FILE *file;
	int err;

	if (pid != 0)
		snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
	file = fopen(path, "re");
	err = !file ? -errno : !info ? -ENOMEM : 0;
	while (err == 0 && getline(&line, &room, file) >= 0)
		if (line_parse(line, info) && !fn(arg, info))
			break;
	free(line);
	free(info);
	if (file)
		fclose(file);
	return err;
}

struct search {
	const char *path;
	struct mountinfo *found;
	bool is_found;
};

static bool search_one(void *arg, const struct mountinfo *info)
{
	struct search *search = arg;

	if (strcmp(info->path, search->path) == 0) {
		*search->found = *info; /* the last one is on top */
		search->is_found = true;
	}
	return true;
}

int mountinfo_find(pid_t pid, const char *path, struct mountinfo *ret_info)
{
	struct search search = { .path = path, .found = ret_info };
	int err = mountinfo_each(pid, search_one, &search);

	if (err)
		return err;
	return search.is_found ? 0 : -ENOENT;
}

/* The folder's real path and the last name; "", "." and ".." as last names are the folder's own business. */
static int split_path(const char *text, char ret_dir[PATH_MAX], char ret_name[NAME_MAX + 1])
{
	char path[PATH_MAX], *slash;
	size_t length = strlen(text);

	if (length == 0)
		return -ENOENT;
	if (length >= sizeof(path))
		return -ENAMETOOLONG;
	memcpy(path, text, length + 1);
	while (length > 1 && path[length - 1] == '/')
		path[--length] = '\0';
	slash = strrchr(path, '/');
	ret_name[0] = '\0';
	if (slash ? strlen(slash + 1) > NAME_MAX : length > NAME_MAX)
		return -ENAMETOOLONG;
	strcpy(ret_name, slash ? slash + 1 : path);
	if (strcmp(ret_name, ".") == 0 || strcmp(ret_name, "..") == 0 || ret_name[0] == '\0') {
		ret_name[0] = '\0';
		return realpath(path, ret_dir) ? 0 : -errno;
	}
	if (slash)
		*(slash == path ? slash + 1 : slash) = '\0';
	return realpath(slash ? path : ".", ret_dir) ? 0 : -errno;
}

int mount_path(const char *text, char ret_path[PATH_MAX])
{
	char current[PATH_MAX], dir[PATH_MAX], name[NAME_MAX + 1], link[PATH_MAX];

	if (strlen(text) >= sizeof(current))
		return -ENAMETOOLONG;
	strcpy(current, text);
	for (unsigned int i = 0; i < SYMLINKS_MAX; i++) {
		int err = split_path(current, dir, name), length;
		ssize_t link_length;

		if (err)
			return err;
		length = name[0] == '\0'
				 ? snprintf(ret_path, PATH_MAX, "%s", dir)
				 : snprintf(ret_path, PATH_MAX, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name);
		if (length < 0 || length >= PATH_MAX)
			return -ENAMETOOLONG;
		/* Of a mount's root this asks the kernel only, not who serves it. */
		link_length = readlink(ret_path, link, sizeof(link) - 1);
		if (link_length < 0)
			return 0;
		link[link_length] = '\0';
		length = link[0] == '/' ? snprintf(current, sizeof(current), "%s", link)
					: snprintf(current, sizeof(current), "%s/%s", dir, link);
		if (length < 0 || (size_t)length >= sizeof(current))
			return -ENAMETOOLONG;
	}
	return -ELOOP;
}
