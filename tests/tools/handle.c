/*
 * handle: file handles, as name_to_handle_at(2) gives them and open_by_handle_at(2) takes them.
 *
 *     handle take PATH...     a line for each: the path, the inode number, the handle (PATH has no blanks)
 *     handle open MNT         reads such lines; a line for each: the path, and what its handle leads to in that mount:
 *                             of a file its first line, of a directory its path, of a symlink where that leads, of
 *                             others their type; or the name of the error
 *     handle append MNT TEXT  reads such lines, and writes TEXT at the end of each file
 *
 * That what is found is another inode than was taken is an error of its own: "OTHER". Exit status 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANDLE_MAX 128 /* MAX_HANDLE_SZ */

struct taken {
	char path[PATH_MAX];
	uint64_t ino;
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + HANDLE_MAX];
	};
};

static void die(const char *what)
{
	fprintf(stderr, "handle: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void take(const char *path)
{
	struct taken taken = { .handle.handle_bytes = HANDLE_MAX };
	struct stat st;
	int mount_id;

	if (name_to_handle_at(AT_FDCWD, path, &taken.handle, &mount_id, 0) < 0 || lstat(path, &st) < 0)
		die(path);
	printf("%s %ju %d ", path, (uintmax_t)st.st_ino, taken.handle.handle_type);
	for (unsigned int i = 0; i < taken.handle.handle_bytes; i++)
		printf("%02x", taken.handle.f_handle[i]);
	printf("\n");
}

/* The next line of the input; 0: there is none. */
static int next(struct taken *ret_taken)
{
	char hex[2 * HANDLE_MAX + 1];
	size_t bytes;

	if (scanf("%4095s %ju %d %256s", ret_taken->path, (uintmax_t *)&ret_taken->ino, &ret_taken->handle.handle_type,
		  hex) != 4)
		return 0;
	bytes = strlen(hex) / 2;
	ret_taken->handle.handle_bytes = (unsigned int)bytes;
	for (size_t i = 0; i < bytes; i++) {
		unsigned int byte;

		sscanf(hex + 2 * i, "%2x", &byte);
		ret_taken->handle.f_handle[i] = (unsigned char)byte;
	}
	return 1;
}

/* What it leads to, in words; < 0: errno tells. */
static int describe(int mnt, struct taken *taken, char *out, size_t size)
{
	int fd = open_by_handle_at(mnt, &taken->handle, O_PATH), file;
	char proc[64];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (st.st_ino != taken->ino) {
		n = snprintf(out, size, "OTHER");
	} else if (S_ISREG(st.st_mode)) {
		file = open_by_handle_at(mnt, &taken->handle, O_RDONLY);
		n = file < 0 ? -1 : read(file, out, size - 1);
		close(file);
	} else if (S_ISDIR(st.st_mode)) {
		file = open_by_handle_at(mnt, &taken->handle, O_RDONLY | O_DIRECTORY);
		n = file < 0 ? -1 : readlink(proc, out, size - 1);
		close(file);
	} else if (S_ISLNK(st.st_mode)) {
		n = readlinkat(fd, "", out, size - 1);
	} else {
		n = snprintf(out, size, "%o", st.st_mode & S_IFMT);
	}
	close(fd);
	if (n < 0)
		return -1;
	out[n] = 0;
	out[strcspn(out, "\n")] = 0;
	return 0;
}

static int append(int mnt, struct taken *taken, const char *text)
{
	int fd = open_by_handle_at(mnt, &taken->handle, O_WRONLY | O_APPEND);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	return fd < 0 || close(fd) < 0 || n < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct taken taken = { 0 };
	char text[PATH_MAX];
	int mnt;

	if (argc > 2 && strcmp(argv[1], "take") == 0) {
		for (int i = 2; i < argc; i++)
			take(argv[i]);
		return 0;
	}
	if (argc < 3 || (strcmp(argv[1], "open") != 0 && (argc < 4 || strcmp(argv[1], "append") != 0))) {
		fprintf(stderr, "usage: handle take PATH... | open MNT | append MNT TEXT\n");
		return 2;
	}
	mnt = open(argv[2], O_RDONLY | O_DIRECTORY);
	if (mnt < 0)
		die(argv[2]);
	while (next(&taken)) {
		int err = argc > 3 ? append(mnt, &taken, argv[3]) : describe(mnt, &taken, text, sizeof(text));

		printf("%s %s\n", taken.path, err < 0 ? strerrorname_np(errno) : argc > 3 ? "done" : text);
	}
	return 0;
}
