/* Looking: attributes, listings, whole trees, as text that must be the same in both trees. */
#include "tests/tools/model/model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LONG_AGO_NS (INT64_C(1500000000) * 1000000000) /* a time before it was set by a step: the same in both trees */
#define DEPTH_MAX   60
#define TREE_MAX    4096 /* files of a tree */

void answer_begin(struct answer *answer)
{
	answer->error = 0;
	answer->value = 0;
	memset(answer->seen, 0, sizeof(answer->seen));
	answer->len = 0;
	answer_add(answer, "%s", "");
}

void answer_add(struct answer *answer, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	answer->text = realloc(answer->text, answer->len + (size_t)len + 1);
	if (answer->text == NULL)
		abort();
	va_start(args, format);
	vsnprintf(answer->text + answer->len, (size_t)len + 1, format, args);
	va_end(args);
	answer->len += (size_t)len;
}

void answer_result(struct answer *answer, int64_t value)
{
	answer->error = value < 0 ? errno : 0;
	answer->value = value < 0 ? -1 : value;
}

uint64_t sum_of(const void *data, size_t len, uint64_t sum)
{
	const uint8_t *byte = data;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ byte[i]) * UINT64_C(0x100000001b3);
	return sum;
}

static int64_t ns_of(struct timespec time)
{
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static char type_of(mode_t mode)
{
	static const char types[] = "?pc?d?b?-?l?s???";

	return types[(mode & S_IFMT) >> 12];
}

/* What goes through a fifo passes no filesystem, and the kernel tells no mount of it. */
static bool has_times(const struct stat *st)
{
	return !S_ISFIFO(st->st_mode);
}

static void add_stat(struct answer *answer, const struct stat *st)
{
	answer_add(answer, " %c%04o %u:%u links %ju", type_of(st->st_mode), st->st_mode & 07777, st->st_uid, st->st_gid,
		   (uintmax_t)st->st_nlink);
	if (!S_ISDIR(st->st_mode)) /* a directory's size is each filesystem's own */
		answer_add(answer, " size %jd", (intmax_t)st->st_size);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		answer_add(answer, " dev %u:%u", major(st->st_rdev), minor(st->st_rdev));
	if (!has_times(st))
		return;
	if (ns_of(st->st_mtim) < LONG_AGO_NS)
		answer_add(answer, " mtime %" PRId64, ns_of(st->st_mtim));
	if (ns_of(st->st_atim) < LONG_AGO_NS)
		answer_add(answer, " atime %" PRId64, ns_of(st->st_atim));
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Extended attributes: names sorted, sums of values. */
static void add_xattrs(struct answer *answer, const char *path)
{
	static char list[65536], value[65536];
	char *names[256];
	size_t count = 0;
	ssize_t len = llistxattr(path, list, sizeof(list));

	for (char *name = list; len > 0 && name < list + len && count < 256; name += strlen(name) + 1)
		names[count++] = name;
	qsort(names, count, sizeof(*names), compare_strings);
	for (size_t i = 0; i < count; i++) {
		ssize_t size = lgetxattr(path, names[i], value, sizeof(value));

		answer_add(answer, " %s=%zd:%" PRIx64, names[i], size, size < 0 ? 0 : sum_of(value, (size_t)size, 1));
	}
}

static void add_target(struct answer *answer, const char *path)
{
	char target[PATH_MAX];
	ssize_t len = readlink(path, target, sizeof(target) - 1);

	answer_add(answer, " -> %.*s", len < 0 ? 1 : (int)len, len < 0 ? "?" : target);
}

static void add_content(struct answer *answer, const char *path)
{
	static char buffer[1 << 17];
	int fd = open(path, O_RDONLY | O_NOFOLLOW);
	uint64_t sum = 1;
	ssize_t n;

	while (fd >= 0 && (n = read(fd, buffer, sizeof(buffer))) > 0)
		sum = sum_of(buffer, (size_t)n, sum);
	answer_add(answer, " sum %" PRIx64 "%s", sum, fd < 0 || n < 0 ? " unreadable" : "");
	if (fd >= 0)
		close(fd);
}

static void see(struct answer *answer, unsigned int slot, const struct stat *st)
{
	if (!has_times(st))
		return;
	answer->seen[slot] = (struct seen){
		.exists = true, .ino = st->st_ino, .mtime_ns = ns_of(st->st_mtim), .ctime_ns = ns_of(st->st_ctim)
	};
}

static void look_at_path(const char *path, unsigned int slot, struct answer *answer)
{
	struct stat st;

	answer_add(answer, "%s:", path);
	if (lstat(path, &st) < 0) {
		answer_add(answer, " %s\n", strerror(errno));
		return;
	}
	add_stat(answer, &st);
	if (S_ISLNK(st.st_mode))
		add_target(answer, path);
	add_xattrs(answer, path);
	answer_add(answer, "\n");
	see(answer, slot, &st);
}

void look(struct player *player, const struct step *step, struct answer *answer)
{
	char parent[PATH_ROOM];
	struct stat st;
	char *slash;

	answer_begin(answer);
	for (unsigned int i = 0; i < 2; i++) {
		if (step->path[i][0] != '/')
			continue;
		look_at_path(step->path[i], i * 2, answer);
		snprintf(parent, sizeof(parent), "%s", step->path[i]);
		slash = strrchr(parent, '/');
		slash[slash == parent] = '\0';
		look_at_path(parent, i * 2 + 1, answer);
	}
	for (unsigned int i = 0; strchr(ops[step->op].operands, 'f') != NULL && i < 2; i++) {
		answer_add(answer, "#%u:", step->fd[i]);
		if (fstat(player->fds[step->fd[i]], &st) == 0) {
			add_stat(answer, &st);
			see(answer, 4 + i, &st);
		}
		answer_add(answer, "\n");
	}
}

void look_at_dir(int fd, struct answer *answer)
{
	char *lines[1024];
	unsigned int count = 0;
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	if (dir == NULL) {
		answer_result(answer, -1);
		close(fd);
		return;
	}
	errno = 0;
	while (count < 1024 && (entry = readdir(dir)) != NULL) {
		bool same = strcmp(entry->d_name, "..") == 0 ||
			    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino == entry->d_ino;

		if (asprintf(&lines[count++], "%u %s%s\n", entry->d_type, entry->d_name,
			     same ? "" : " of another inode") < 0)
			abort();
		errno = 0;
	}
	answer_result(answer, errno == 0 ? (int64_t)count : -1);
	closedir(dir);
	qsort(lines, count, sizeof(*lines), compare_strings);
	for (unsigned int i = 0; i < count; i++) {
		answer_add(answer, "%s", lines[i]);
		free(lines[i]);
	}
}

/* --- trees ------------------------------------------------------------------------------------------------------- */

struct walk {
	struct answer *answer;
	void (*visit)(struct walk *walk, const char *path, const struct stat *st);
	struct {
		uint64_t ino;
		char *path; /* the first name of it */
	} firsts[TREE_MAX];
	unsigned int count;
};

static void walk_dir(struct walk *walk, char *path, size_t len, unsigned int depth)
{
	struct dirent **entries;
	struct stat st;
	int n = scandir(len == 0 ? "/" : path, &entries, NULL, alphasort);

	if (n < 0) {
		answer_add(walk->answer, "%s: %s\n", path, strerror(errno));
		return;
	}
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		size_t more = strlen(name) + 1;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && len + more < PATH_MAX && depth < DEPTH_MAX) {
			path[len] = '/';
			memcpy(path + len + 1, name, more);
			if (lstat(path, &st) < 0) {
				answer_add(walk->answer, "%s: %s\n", path, strerror(errno));
			} else {
				walk->visit(walk, path, &st);
				if (S_ISDIR(st.st_mode))
					walk_dir(walk, path, len + more, depth + 1);
			}
			path[len] = '\0';
		}
		free(entries[i]);
	}
	free(entries);
}

static void walk_all(struct answer *answer, void (*visit)(struct walk *, const char *, const struct stat *))
{
	char path[PATH_MAX + 1] = "";
	static struct walk walk;

	walk.answer = answer;
	walk.visit = visit;
	walk.count = 0;
	walk_dir(&walk, path, 0, 0);
	for (unsigned int i = 0; i < walk.count; i++)
		free(walk.firsts[i].path);
}

static void visit_fully(struct walk *walk, const char *path, const struct stat *st)
{
	answer_add(walk->answer, "%s:", path);
	for (unsigned int i = 0; i < walk->count && !S_ISDIR(st->st_mode); i++) {
		if (walk->firsts[i].ino == st->st_ino) {
			answer_add(walk->answer, " is %s\n", walk->firsts[i].path);
			return;
		}
	}
	if (!S_ISDIR(st->st_mode) && walk->count < TREE_MAX) {
		walk->firsts[walk->count].ino = st->st_ino;
		walk->firsts[walk->count++].path = strdup(path);
	}
	add_stat(walk->answer, st);
	if (S_ISLNK(st->st_mode))
		add_target(walk->answer, path);
	if (S_ISREG(st->st_mode))
		add_content(walk->answer, path);
	add_xattrs(walk->answer, path);
	answer_add(walk->answer, "\n");
}

static void visit_name(struct walk *walk, const char *path, const struct stat *st)
{
	answer_add(walk->answer, "%c %s\n", type_of(st->st_mode), path);
}

void look_at_tree(struct player *player, const struct step *step, struct answer *answer)
{
	(void)player;
	(void)step;
	walk_all(answer, visit_fully);
}

void look_for_names(struct player *player, const struct step *step, struct answer *answer)
{
	(void)player;
	(void)step;
	answer_add(answer, "d /\n");
	walk_all(answer, visit_name);
}
