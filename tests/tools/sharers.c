/*
 * sharers: processes of several threads that share a few files on one mount, by write, by mapped pages that are stored to
 * and read, with truncates, holes and opens between them, against one model that all share. A file's bytes are cells of 8,
 * each with an owner who alone writes it; many owners share a page. So what any read must find is known:
 *
 *   - A cell has its own number and how often it was written. The owner notes what it is about to be before he writes, and
 *     that it is so after; whoever reads it finds something between the two. Where nobody writes that is one value.
 *   - Sizes and holes change under the file's lock, taken alone; everything else shares it. What is cut off is zeros from
 *     then on.
 *
 *     sharers [-p PROCESSES] [-t THREADS] [-n OPERATIONS] [-r ROUNDS] [-s SEED] [-m MAX_FILE_BYTES] DIR [DIR2]
 *
 * After each round all bytes are compared, through DIR2 (the same directory by another mount) where it is given. Exits 0
 * when all was right; prints what was wrong and exits 1 otherwise. The seed repeats the choices, not who comes first.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES         3
#define CELL          sizeof(uint64_t)
#define PIECE         125   /* cells in a row of one owner: not a page's, nor a power of two's */
#define RANGE         16384 /* cells at most in one read */
#define PAGE          UINT64_C(4096)
#define TORN_TRIES    100
#define PROCESSES_MAX 64
#define THREADS_MAX   16

/* In memory that all processes share. */
struct cell {
	_Atomic uint64_t before, after; /* written so often: before the last write, after it; 0 0: zeros */
};

struct model_file {
	pthread_rwlock_t lock;
	uint64_t size; /* a multiple of CELL */
	struct cell *cells;
};

struct setting {
	unsigned int processes, threads;
	unsigned long operations, rounds;
	uint64_t seed, max_size;
	const char *dirs[2];
	struct model_file *files;  /* FILES */
	_Atomic uint64_t *counter; /* of writes, so that none is like another */
};

/* What a process has of a file; its threads share it. */
struct view {
	uint64_t *map;
	_Atomic int fd;
};

struct sharer {
	const struct setting *setting;
	struct view *views;
	unsigned int number; /* among all */
	uint64_t rng;
	uint64_t *buffer;
	const char *doing;
};

static uint64_t draw(struct sharer *sharer, uint64_t below)
{
	sharer->rng ^= sharer->rng << 13;
	sharer->rng ^= sharer->rng >> 7;
	sharer->rng ^= sharer->rng << 17;
	return below == 0 ? 0 : (sharer->rng >> 11) % below;
}

static _Noreturn void wrong(const struct sharer *sharer, unsigned int file, const char *what, uint64_t at,
			    uint64_t found)
{
	const struct model_file *model = &sharer->setting->files[file];

	printf("sharers: seed %llu, sharer %u, %s, file %u: %s at cell %llu: %#llx (size %llu, written %#llx to "
	       "%#llx): %s\n",
	       (unsigned long long)sharer->setting->seed, sharer->number, sharer->doing, file, what,
	       (unsigned long long)at, (unsigned long long)found, (unsigned long long)model->size,
	       (unsigned long long)atomic_load(&model->cells[at].after),
	       (unsigned long long)atomic_load(&model->cells[at].before), strerror(errno));
	fflush(stdout);
	_exit(1);
}

static void path_of(const char *dir, unsigned int file, char out[4200])
{
	snprintf(out, 4200, "%s/shared%u", dir, file);
}

static int file_open(const struct sharer *sharer, unsigned int file, int flags)
{
	char path[4200];
	int fd;

	path_of(sharer->setting->dirs[0], file, path);
	fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		wrong(sharer, file, "open", 0, 0);
	return fd;
}

/* --- cells -------------------------------------------------------------------------------------------------------- */

/* What a cell holds that was written as the n-th of all: that, and which one it is. */
static uint64_t value_of(uint64_t cell, uint64_t n)
{
	return n == 0 ? 0 : n << 24 | (cell & 0xffffff);
}

/* Is that what the cell may hold, having been `before` when it was looked at first, and `after` when last? */
static bool is_between(uint64_t cell, uint64_t value, uint64_t before, uint64_t after)
{
	uint64_t n = value >> 24;

	return value == value_of(cell, n) && n >= before && n <= after;
}

/* A map's or a buffer's cells [from, to), which were read since `seen` was filled. Those that were torn are told. */
static bool cells_match(struct sharer *sharer, unsigned int file, uint64_t from, uint64_t to, const uint64_t *found,
			const uint64_t *seen)
{
	const struct model_file *model = &sharer->setting->files[file];

	for (uint64_t i = 0; i < to - from; i++) {
		uint64_t after = atomic_load(&model->cells[from + i].after);

		if (is_between(from + i, found[i], seen[i], after))
			continue;
		if (after == seen[i])
			wrong(sharer, file, "wrong bytes", from + i, found[i]);
		return false; /* it is being written: perhaps only half of it was there */
	}
	return true;
}

/* The file's cells [from, to) as they are known to be at least, before they are read. */
static uint64_t *cells_known(struct sharer *sharer, unsigned int file, uint64_t from, uint64_t to)
{
	uint64_t *seen = sharer->buffer + RANGE;

	for (uint64_t i = from; i < to; i++)
		seen[i - from] = atomic_load(&sharer->setting->files[file].cells[i].before);
	return seen;
}

static void do_read(struct sharer *sharer, unsigned int file, bool mapped)
{
	uint64_t count = sharer->setting->files[file].size / CELL, from = draw(sharer, count), to;
	struct view *view = &sharer->views[file];

	sharer->doing = mapped ? "read of mapped pages" : "read";
	to = from + 1 + draw(sharer, draw(sharer, 4) == 0 ? RANGE : 600);
	if (to > count)
		to = count;
	for (unsigned int tries = 0; from < to && tries < TORN_TRIES; tries++) {
		const uint64_t *seen = cells_known(sharer, file, from, to);
		ssize_t wanted = (ssize_t)((to - from) * CELL);

		if (mapped) {
			for (uint64_t i = from; i < to; i++)
				sharer->buffer[i - from] = atomic_load((_Atomic uint64_t *)&view->map[i]);
		} else if (pread(view->fd, sharer->buffer, (size_t)wanted, (off_t)(from * CELL)) != wanted) {
			wrong(sharer, file, "short read", from, 0);
		}
		if (cells_match(sharer, file, from, to, sharer->buffer, seen))
			return;
	}
}

/* Some cells of a piece that is the sharer's own. */
static void do_write(struct sharer *sharer, unsigned int file, bool mapped)
{
	const struct setting *setting = sharer->setting;
	struct model_file *model = &setting->files[file];
	uint64_t count = model->size / CELL, owners = setting->processes * setting->threads;
	uint64_t piece = draw(sharer, count / PIECE / owners + 1) * owners + sharer->number;
	uint64_t from = piece * PIECE + draw(sharer, PIECE), to = from + 1 + draw(sharer, PIECE);
	uint64_t n = atomic_fetch_add(setting->counter, 1) + 1;
	ssize_t wanted;

	sharer->doing = mapped ? "store to mapped pages" : "write";
	if (to > (piece + 1) * PIECE)
		to = (piece + 1) * PIECE;
	if (to > count)
		to = count;
	if (from >= to)
		return;
	wanted = (ssize_t)((to - from) * CELL);
	for (uint64_t i = from; i < to; i++) {
		atomic_store(&model->cells[i].after, n);
		sharer->buffer[i - from] = value_of(i, n);
		if (mapped)
			atomic_store((_Atomic uint64_t *)&sharer->views[file].map[i], value_of(i, n));
	}
	if (!mapped && pwrite(sharer->views[file].fd, sharer->buffer, (size_t)wanted, (off_t)(from * CELL)) != wanted)
		wrong(sharer, file, "short write", from, 0);
	for (uint64_t i = from; i < to; i++)
		atomic_store(&model->cells[i].before, n);
}

/* --- what is done to the whole file ------------------------------------------------------------------------------- */

static void do_sync(struct sharer *sharer, unsigned int file)
{
	const struct model_file *model = &sharer->setting->files[file];
	uint64_t from = draw(sharer, model->size + 1) & ~(PAGE - 1);

	sharer->doing = "sync";
	if (draw(sharer, 2) == 0 && msync((char *)sharer->views[file].map + from, model->size - from, MS_SYNC) < 0)
		wrong(sharer, file, "msync", from / CELL, 0);
	if (draw(sharer, 4) == 0 && fsync(sharer->views[file].fd) < 0)
		wrong(sharer, file, "fsync", 0, 0);
	/* What is on the servers is dropped here: the next look asks the daemon. */
	if (posix_fadvise(sharer->views[file].fd, (off_t)from, 0, POSIX_FADV_DONTNEED) != 0)
		wrong(sharer, file, "fadvise", 0, 0);
}

static void do_open(struct sharer *sharer, unsigned int file)
{
	int fd;

	sharer->doing = "open";
	fd = file_open(sharer, file, O_RDWR);
	/* The number stays, so that other threads may be using it. */
	if (dup3(fd, sharer->views[file].fd, O_CLOEXEC) < 0 || close(fd) < 0)
		wrong(sharer, file, "close", 0, 0);
}

static void cells_clear(struct model_file *model, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		atomic_store(&model->cells[i].before, 0);
		atomic_store(&model->cells[i].after, 0);
	}
}

static uint64_t do_truncate(struct sharer *sharer, unsigned int file, uint64_t size)
{
	char path[4200];
	int err = 0;

	path_of(sharer->setting->dirs[0], file, path);
	switch (draw(sharer, 4)) {
	case 0:
		sharer->doing = "truncate to nothing";
		size = 0;
		err = close(file_open(sharer, file, O_RDWR | O_TRUNC));
		break;
	case 1:
		sharer->doing = "truncate by name";
		err = truncate(path, (off_t)size);
		break;
	default:
		sharer->doing = "truncate";
		err = ftruncate(sharer->views[file].fd, (off_t)size);
	}
	if (err < 0)
		wrong(sharer, file, sharer->doing, size / CELL, 0);
	return size;
}

/* Alone with the file: it gets another size, or a hole. */
static void do_shape(struct sharer *sharer, unsigned int file)
{
	struct model_file *model = &sharer->setting->files[file];
	uint64_t count = sharer->setting->max_size / CELL, from = draw(sharer, count), to = from + draw(sharer, 3000);
	uint64_t size = draw(sharer, count + 1) * CELL;
	struct stat st;

	if (draw(sharer, 3) == 0 && model->size > 0) {
		sharer->doing = "hole";
		if (to > count)
			to = count;
		if (from < to && fallocate(sharer->views[file].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)(from * CELL), (off_t)((to - from) * CELL)) < 0)
			wrong(sharer, file, "fallocate", from, 0);
		cells_clear(model, from, to);
	} else {
		size = do_truncate(sharer, file, size);
		cells_clear(model, size / CELL, count);
		model->size = size;
		if (draw(sharer, 4) > 0) { /* longer at once: what was cut off must not come back */
			model->size = sharer->setting->max_size;
			if (ftruncate(sharer->views[file].fd, (off_t)model->size) < 0)
				wrong(sharer, file, "extend", 0, 0);
		}
	}
	if (fstat(sharer->views[file].fd, &st) < 0 || (uint64_t)st.st_size != model->size)
		wrong(sharer, file, "size", 0, (uint64_t)st.st_size);
}

static void step(struct sharer *sharer)
{
	unsigned int file = (unsigned int)draw(sharer, FILES);
	uint64_t dice = draw(sharer, 1000);
	struct model_file *model = &sharer->setting->files[file];

	if (dice < 4)
		pthread_rwlock_wrlock(&model->lock);
	else
		pthread_rwlock_rdlock(&model->lock);
	if (dice < 4)
		do_shape(sharer, file);
	else if (dice < 20)
		do_sync(sharer, file);
	else if (dice < 60)
		do_open(sharer, file);
	else if (dice < 530)
		do_write(sharer, file, dice < 330);
	else
		do_read(sharer, file, dice < 760);
	pthread_rwlock_unlock(&model->lock);
}

/* --- processes ---------------------------------------------------------------------------------------------------- */

static void *thread(void *arg)
{
	struct sharer *sharer = arg;

	sharer->buffer = malloc(2 * RANGE * CELL);
	for (unsigned long i = 0; i < sharer->setting->operations; i++)
		step(sharer);
	free(sharer->buffer);
	return NULL;
}

static _Noreturn void process(const struct setting *setting, unsigned int number, unsigned long round)
{
	struct view views[FILES];
	struct sharer sharers[THREADS_MAX];
	pthread_t threads[THREADS_MAX];

	for (unsigned int i = 0; i < setting->threads; i++) {
		sharers[i] = (struct sharer){ setting, views, number * setting->threads + i, .doing = "start" };
		sharers[i].rng = (setting->seed + round) * UINT64_C(0x9e3779b97f4a7c15) ^ (sharers[i].number + 1);
	}
	for (unsigned int file = 0; file < FILES; file++) {
		views[file].fd = file_open(&sharers[0], file, O_RDWR);
		views[file].map = mmap(NULL, setting->max_size, PROT_READ | PROT_WRITE, MAP_SHARED, views[file].fd, 0);
		if (views[file].map == MAP_FAILED)
			wrong(&sharers[0], file, "mmap", 0, 0);
	}
	for (unsigned int i = 0; i < setting->threads; i++)
		if (pthread_create(&threads[i], NULL, thread, &sharers[i]) != 0)
			wrong(&sharers[i], 0, "pthread_create", 0, 0);
	for (unsigned int i = 0; i < setting->threads; i++)
		pthread_join(threads[i], NULL);
	_exit(0);
}

/* All is quiet: every byte, through the other mount if there is one. */
static void check_all(const struct setting *setting)
{
	uint64_t *found = malloc(setting->max_size);
	struct sharer sharer = { .setting = setting, .doing = "look at all of it" };
	char path[4200];
	ssize_t size;
	int fd;

	for (unsigned int file = 0; file < FILES; file++) {
		const struct model_file *model = &setting->files[file];

		path_of(setting->dirs[setting->dirs[1] != NULL], file, path);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		size = 0;
		for (ssize_t n = 1; fd >= 0 && n > 0; size += n > 0 ? n : 0)
			n = pread(fd, (char *)found + size, setting->max_size - (uint64_t)size, size);
		if (fd < 0 || (uint64_t)size != model->size)
			wrong(&sharer, file, "size", 0, (uint64_t)size);
		for (uint64_t i = 0; i < model->size / CELL; i++)
			if (found[i] != value_of(i, atomic_load(&model->cells[i].after)))
				wrong(&sharer, file, "wrong bytes", i, found[i]);
		close(fd);
	}
	free(found);
}

static void *shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		fprintf(stderr, "sharers: no memory\n");
		exit(2);
	}
	return memory;
}

static void setting_begin(struct setting *setting)
{
	struct sharer sharer = { .setting = setting, .doing = "start" };
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	setting->counter = shared(sizeof(*setting->counter));
	setting->files = shared(FILES * sizeof(*setting->files));
	for (unsigned int file = 0; file < FILES; file++) {
		setting->files[file].cells = shared(setting->max_size / CELL * sizeof(struct cell));
		pthread_rwlock_init(&setting->files[file].lock, &attr);
		setting->files[file].size = setting->max_size;
		if (ftruncate(file_open(&sharer, file, O_RDWR | O_CREAT | O_TRUNC), (off_t)setting->max_size) < 0)
			wrong(&sharer, file, "truncate", 0, 0);
	}
}

static bool round_run(const struct setting *setting, unsigned long round)
{
	pid_t pids[PROCESSES_MAX];
	bool good = true;

	for (unsigned int i = 0; i < setting->processes; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			process(setting, i, round);
	}
	for (int status; wait(&status) > 0;) {
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			continue;
		/* Whoever ends so may have locks that the others wait for. */
		for (unsigned int i = 0; good && i < setting->processes; i++)
			kill(pids[i], SIGKILL);
		good = false;
	}
	if (good)
		check_all(setting);
	return good;
}

int main(int argc, char **argv)
{
	struct setting setting = { 4, 2, .operations = 1000, .rounds = 1, .seed = 1, .max_size = 400000 };

	for (int c; (c = getopt(argc, argv, "p:t:n:r:s:m:")) != -1;) {
		if (c == 'p')
			setting.processes = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 't')
			setting.threads = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'n')
			setting.operations = strtoul(optarg, NULL, 10);
		else if (c == 'r')
			setting.rounds = strtoul(optarg, NULL, 10);
		else if (c == 's')
			setting.seed = strtoull(optarg, NULL, 10);
		else if (c == 'm')
			setting.max_size = strtoull(optarg, NULL, 10) / CELL * CELL;
		else
			return 2;
	}
	if (optind >= argc || argc - optind > 2 || setting.processes > PROCESSES_MAX || setting.threads > THREADS_MAX ||
	    setting.max_size == 0) {
		fprintf(stderr, "usage: sharers [-p PROCESSES] [-t THREADS] [-n OPERATIONS] [-r ROUNDS] [-s SEED] "
				"[-m MAX_FILE_BYTES] DIR [DIR2]\n");
		return 2;
	}
	for (int i = optind; i < argc; i++)
		setting.dirs[i - optind] = argv[i];
	setting_begin(&setting);
	for (unsigned long round = 0; round < setting.rounds; round++)
		if (!round_run(&setting, round))
			return 1;
	printf("sharers: %u processes of %u threads, %lu operations each, %lu rounds, seed %llu: all right\n",
	       setting.processes, setting.threads, setting.operations, setting.rounds,
	       (unsigned long long)setting.seed);
	return 0;
}
