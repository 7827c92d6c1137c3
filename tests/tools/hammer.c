/*
 * hammer: many processes that create, write, read, truncate, rename and unlink files, each against a model of its own
 * in memory, so that any byte, size or name that is lost, old or foreign is found at once.
 *
 *     hammer [-p PROCESSES] [-n OPERATIONS] [-u FILE] [-c COUNTS] [-s SEED] [-m MAX_FILE_BYTES] DIR [DIR2]
 *
 * With -u it does not stop after so many operations, but when FILE is there. In COUNTS each process keeps, as a uint64_t,
 * how many it has done, so that others can see it go on.
 *
 * With DIR2 (the same directory through another mount) every look at a file goes, after a close, through one of the two
 * mounts by turns: close-to-open must hold between them. Runs of the same seed do the same. Exits 0 when all was right;
 * prints what was wrong, with seed, process and operation, and exits 1 otherwise.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES   24
#define HISTORY 10

struct model_file {
	bool exists;
	char *data;
	size_t size;
	int fd;                    /* -1: closed */
	int fd_mount;              /* through which mount it is open */
	char history[HISTORY][80]; /* what was done to it, a ring */
	unsigned int done;
};

struct hammer {
	uint64_t rng, seed;
	unsigned int process;
	unsigned long operation;
	const char *last; /* operation's name */
	char dirs[2][4096];
	int mounts;
	size_t max_size;
	struct model_file files[FILES];
	char *scratch;
	const char *until; /* or NULL */
	int counts;        /* a descriptor, or -1 */
};

static uint64_t hammer_random(struct hammer *h, uint64_t below)
{
	h->rng ^= h->rng << 13;
	h->rng ^= h->rng >> 7;
	h->rng ^= h->rng << 17;
	return below == 0 ? 0 : (h->rng >> 11) % below;
}

static __attribute__((format(printf, 3, 4))) void hammer_note(struct hammer *h, unsigned int file, const char *format,
							      ...)
{
	struct model_file *f = &h->files[file];
	char *line = f->history[f->done++ % HISTORY];
	int n = snprintf(line, sizeof(f->history[0]), "%lu: ", h->operation);
	va_list args;

	va_start(args, format);
	vsnprintf(line + n, sizeof(f->history[0]) - (size_t)n, format, args);
	va_end(args);
}

static void hammer_tell(const struct hammer *h, unsigned int file)
{
	const struct model_file *f = &h->files[file];

	for (unsigned int i = f->done > HISTORY ? f->done - HISTORY : 0; i < f->done; i++)
		fprintf(stderr, "hammer:   process %u f%u %s\n", h->process, file, f->history[i % HISTORY]);
}

static _Noreturn __attribute__((format(printf, 2, 3))) void hammer_wrong(const struct hammer *h, const char *format,
									 ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "hammer: seed %llu process %u operation %lu (%s): %s\n", (unsigned long long)h->seed,
		h->process, h->operation, h->last, text);
	_exit(1);
}

/* Through which mount the next path goes. */
static int hammer_mount(struct hammer *h)
{
	return (int)hammer_random(h, (uint64_t)h->mounts);
}

static const char *hammer_path(struct hammer *h, int mount, unsigned int file, char out[4200])
{
	snprintf(out, 4200, "%s/p%u.f%u", h->dirs[mount], h->process, file);
	return out;
}

static void hammer_close(struct hammer *h, unsigned int file)
{
	struct model_file *f = &h->files[file];

	if (f->fd < 0)
		return;
	if (close(f->fd) < 0)
		hammer_wrong(h, "close of f%u: %s", file, strerror(errno));
	f->fd = -1;
}

/* An open descriptor of an existing file: the one there is, or a new one through either mount. */
static int hammer_open(struct hammer *h, unsigned int file)
{
	struct model_file *f = &h->files[file];
	char path[4200];

	if (f->fd >= 0)
		return f->fd;
	f->fd_mount = hammer_mount(h);
	f->fd = open(hammer_path(h, f->fd_mount, file, path), O_RDWR | O_CLOEXEC);
	if (f->fd < 0)
		hammer_wrong(h, "open of f%u: %s", file, strerror(errno));
	return f->fd;
}

static void hammer_check_range(struct hammer *h, unsigned int file, size_t offset, size_t length)
{
	struct model_file *f = &h->files[file];
	int fd = hammer_open(h, file);
	size_t expect = offset >= f->size ? 0 : f->size - offset < length ? f->size - offset : length;
	size_t done = 0;

	while (done < length) {
		ssize_t n = pread(fd, h->scratch + done, length - done, (off_t)(offset + done));

		if (n < 0)
			hammer_wrong(h, "read of f%u at %zu: %s", file, offset + done, strerror(errno));
		if (n == 0)
			break;
		done += (size_t)n;
	}
	if (done != expect)
		hammer_wrong(h, "read of f%u at %zu+%zu gave %zu bytes, not %zu (size %zu)", file, offset, length, done,
			     expect, f->size);
	for (size_t i = 0; i < expect; i++)
		if (h->scratch[i] != f->data[offset + i])
			hammer_tell(h, file), hammer_wrong(h, "f%u byte %zu is %02x, not %02x (read %zu+%zu, size %zu)",
							   file, offset + i, (unsigned char)h->scratch[i],
							   (unsigned char)f->data[offset + i], offset, length, f->size);
}

static void op_create(struct hammer *h, unsigned int file)
{
	struct model_file *f = &h->files[file];
	char path[4200];

	h->last = "create";
	hammer_close(h, file);
	f->fd_mount = hammer_mount(h);
	f->fd = open(hammer_path(h, f->fd_mount, file, path),
		     O_RDWR | O_CREAT | O_CLOEXEC | (f->exists ? O_TRUNC : O_EXCL), 0644);
	if (f->fd < 0)
		hammer_wrong(h, "open of f%u: %s", file, strerror(errno));
	hammer_note(h, file, "create (%s)", f->exists ? "O_TRUNC" : "O_EXCL");
	f->exists = true;
	f->size = 0;
}

static void op_write(struct hammer *h, unsigned int file)
{
	struct model_file *f = &h->files[file];
	size_t length = 1 + (size_t)hammer_random(h, hammer_random(h, 4) == 0 ? h->max_size / 2 : 9000);
	size_t offset = hammer_random(h, 3) == 0 ? f->size : (size_t)hammer_random(h, h->max_size - length);
	int fd = hammer_open(h, file);
	size_t done = 0;

	h->last = "write";
	if (offset + length > h->max_size)
		length = h->max_size - offset;
	hammer_note(h, file, "write %zu+%zu, size %zu", offset, length, f->size);
	for (size_t i = 0; i < length; i++)
		h->scratch[i] = (char)(h->operation * 31 + h->process * 7 + i * 13 + (i >> 8));
	while (done < length) {
		ssize_t n = pwrite(fd, h->scratch + done, length - done, (off_t)(offset + done));

		if (n <= 0)
			hammer_wrong(h, "write of f%u at %zu: %s", file, offset + done,
				     n == 0 ? "0 bytes" : strerror(errno));
		done += (size_t)n;
	}
	if (offset > f->size)
		memset(f->data + f->size, 0, offset - f->size);
	memcpy(f->data + offset, h->scratch, length);
	if (offset + length > f->size)
		f->size = offset + length;
}

static void op_truncate(struct hammer *h, unsigned int file)
{
	struct model_file *f = &h->files[file];
	size_t size = hammer_random(h, 4) == 0 ? 0 : (size_t)hammer_random(h, h->max_size);

	h->last = "truncate";
	hammer_note(h, file, "truncate to %zu, size %zu", size, f->size);
	if (ftruncate(hammer_open(h, file), (off_t)size) < 0)
		hammer_wrong(h, "ftruncate of f%u to %zu: %s", file, size, strerror(errno));
	if (size > f->size)
		memset(f->data + f->size, 0, size - f->size);
	f->size = size;
}

static void op_read(struct hammer *h, unsigned int file)
{
	size_t length = 1 + (size_t)hammer_random(h, hammer_random(h, 4) == 0 ? h->max_size : 9000);

	h->last = "read";
	hammer_check_range(h, file, (size_t)hammer_random(h, h->files[file].size + 1), length);
}

static void op_reopen_and_check(struct hammer *h, unsigned int file)
{
	struct stat st;
	char path[4200];

	h->last = "close, stat, read all";
	hammer_note(h, file, "%s and open", h->files[file].fd < 0 ? "stat" : "close");
	hammer_close(h, file);
	if (stat(hammer_path(h, hammer_mount(h), file, path), &st) < 0)
		hammer_wrong(h, "stat of f%u: %s", file, strerror(errno));
	/* Across mounts a stat may be as old as the attribute timeout; an open may not. */
	if (fstat(hammer_open(h, file), &st) < 0)
		hammer_wrong(h, "fstat of f%u: %s", file, strerror(errno));
	if ((size_t)st.st_size != h->files[file].size)
		hammer_tell(h, file), hammer_wrong(h, "f%u has %lld bytes, not %zu", file, (long long)st.st_size,
						   h->files[file].size);
	hammer_check_range(h, file, 0, h->max_size);
}

static void op_fsync(struct hammer *h, unsigned int file)
{
	h->last = "fsync";
	hammer_note(h, file, "fsync");
	if (fsync(hammer_open(h, file)) < 0)
		hammer_wrong(h, "fsync of f%u: %s", file, strerror(errno));
}

static void op_rename(struct hammer *h, unsigned int file)
{
	unsigned int to = (unsigned int)hammer_random(h, FILES);
	char from_path[4200], to_path[4200];
	int mount = hammer_mount(h);

	h->last = "rename";
	if (to == file)
		return;
	/* Descriptors stay open across a rename on one mount; with two, names may be cached: start from closed files.
	 */
	if (h->mounts > 1) {
		hammer_close(h, file);
	}
	hammer_close(h, to);
	if (rename(hammer_path(h, mount, file, from_path), hammer_path(h, mount, to, to_path)) < 0)
		hammer_wrong(h, "rename of f%u to f%u: %s", file, to, strerror(errno));

	hammer_note(h, file, "renamed from f%u to f%u", file, to);
	char *spare = h->files[to].data;
	h->files[to] = h->files[file];
	h->files[file] = (struct model_file){ .fd = -1, .data = spare };
}

static void op_unlink(struct hammer *h, unsigned int file)
{
	struct model_file *f = &h->files[file];
	char path[4200];

	h->last = "unlink";
	if (unlink(hammer_path(h, hammer_mount(h), file, path)) < 0)
		hammer_wrong(h, "unlink of f%u: %s", file, strerror(errno));
	if (f->fd >= 0) {
		h->last = "read after unlink";
		if (h->mounts == 1)
			hammer_check_range(h, file, 0, f->size);
		hammer_close(h, file);
	}
	f->exists = false;
	f->size = 0;
}

static void op_list(struct hammer *h)
{
	bool seen[FILES] = { false };
	char prefix[32];
	DIR *dir = opendir(h->dirs[hammer_mount(h)]);

	h->last = "readdir";
	if (dir == NULL)
		hammer_wrong(h, "opendir: %s", strerror(errno));
	snprintf(prefix, sizeof(prefix), "p%u.f", h->process);
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		unsigned long file;

		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
			continue;
		file = strtoul(e->d_name + strlen(prefix), NULL, 10);
		if (file >= FILES || seen[file] || !h->files[file].exists)
			hammer_wrong(h, "readdir shows %s, which %s", e->d_name,
				     file < FILES && seen[file] ? "it showed before" : "is not there");
		seen[file] = true;
	}
	closedir(dir);
	for (unsigned int i = 0; i < FILES; i++)
		if (h->files[i].exists && !seen[i])
			hammer_wrong(h, "readdir does not show f%u", i);
}

static void hammer_one(struct hammer *h)
{
	unsigned int file = (unsigned int)hammer_random(h, FILES);
	uint64_t dice = hammer_random(h, 100);

	if (!h->files[file].exists || dice < 4)
		op_create(h, file);
	else if (dice < 40)
		op_write(h, file);
	else if (dice < 60)
		op_read(h, file);
	else if (dice < 72)
		op_reopen_and_check(h, file);
	else if (dice < 80)
		op_truncate(h, file);
	else if (dice < 85)
		op_fsync(h, file);
	else if (dice < 92)
		op_rename(h, file);
	else if (dice < 97)
		op_unlink(h, file);
	else
		op_list(h);
}

static bool hammer_goes_on(const struct hammer *h, unsigned long operations)
{
	uint64_t done = h->operation - 1;

	if (h->counts >= 0 && pwrite(h->counts, &done, sizeof(done), (off_t)(h->process * sizeof(done))) < 0)
		hammer_wrong(h, "counting: %s", strerror(errno));
	return h->until == NULL ? done < operations : access(h->until, F_OK) < 0;
}

static _Noreturn void hammer_process(struct hammer *h, unsigned long operations)
{
	h->rng = (h->seed * UINT64_C(0x9e3779b97f4a7c15)) ^ ((uint64_t)(h->process + 1) << 32) ^ 88172645463325252ULL;
	h->scratch = malloc(h->max_size + 16);
	for (unsigned int i = 0; i < FILES; i++)
		h->files[i] = (struct model_file){ .fd = -1, .data = calloc(1, h->max_size + 16) };

	for (h->operation = 1; hammer_goes_on(h, operations); h->operation++)
		hammer_one(h);

	for (unsigned int i = 0; i < FILES; i++) {
		if (!h->files[i].exists)
			continue;
		op_reopen_and_check(h, i);
		op_unlink(h, i);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	unsigned long processes = 4, operations = 1000;
	struct hammer h = { .seed = 1, .max_size = 1 << 20, .counts = -1 };
	const char *counts = NULL;
	int failed = 0;

	for (int c; (c = getopt(argc, argv, "p:n:u:c:s:m:")) != -1;) {
		if (c == 'p')
			processes = strtoul(optarg, NULL, 10);
		else if (c == 'n')
			operations = strtoul(optarg, NULL, 10);
		else if (c == 'u')
			h.until = optarg;
		else if (c == 'c')
			counts = optarg;
		else if (c == 's')
			h.seed = strtoull(optarg, NULL, 10);
		else if (c == 'm')
			h.max_size = strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	if (optind >= argc || argc - optind > 2) {
		fprintf(stderr, "usage: hammer [-p PROCESSES] [-n OPERATIONS] [-u FILE] [-c COUNTS] [-s SEED] "
				"[-m MAX_FILE_BYTES] DIR [DIR2]\n");
		return 2;
	}
	if (counts != NULL)
		h.counts = open(counts, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (counts != NULL && h.counts < 0) {
		fprintf(stderr, "hammer: %s: %s\n", counts, strerror(errno));
		return 2;
	}
	h.mounts = argc - optind;
	for (int i = 0; i < h.mounts; i++)
		snprintf(h.dirs[i], sizeof(h.dirs[i]), "%s", argv[optind + i]);

	for (h.process = 0; h.process < processes; h.process++)
		if (fork() == 0)
			hammer_process(&h, operations);
	for (int status; wait(&status) > 0;)
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			failed++;
	if (failed > 0) {
		fprintf(stderr, "hammer: %d of %lu processes found something wrong\n", failed, processes);
		return 1;
	}
	if (h.until != NULL)
		printf("hammer: %lu processes, seed %llu: all right\n", processes, (unsigned long long)h.seed);
	else
		printf("hammer: %lu processes, %lu operations each, seed %llu: all right\n", processes, operations,
		       (unsigned long long)h.seed);
	return 0;
}
