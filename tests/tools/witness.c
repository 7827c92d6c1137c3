/*
 * witness: does things to files, writes down outside what it was promised, and says later whether that was kept.
 *
 *     witness run [-n OPERATIONS] [-s SEED] LOG DIR     exits 1 at the first error
 *     witness do LOG DIR OPERATION...                   these, each one word: "create SLOT", "mkdir SLOT", "remove SLOT",
 *                                                       "rename SLOT SLOT", "link SLOT SLOT", "write SLOT BLOCK BLOCKS",
 *                                                       "truncate SLOT BLOCKS", "punch SLOT BLOCK BLOCKS", "fsync SLOT",
 *                                                       "fsyncdir FOLDER"; or "clear": everything is removed, and that
 *                                                       synced. It goes on from what was done before
 *     witness check LOG DIR                             after whatever has happened; it fsyncs what it finds, and the next
 *                                                       run goes on from there
 *
 * One process does one thing after the other, each noted in LOG before it is begun and when it was answered. What is to be
 * found after a power failure, then:
 *
 *   names   The tree as it was after one of the operations, no older than the last fsync of a file or folder that was
 *           answered: the MDT's log loses its end and nothing else.
 *   bytes   Every block of 4 KiB says which file it belongs to, where, and which operation wrote it. One that was fsynced
 *           is there, or a later one; a block never has bytes of two operations, or another file's. Where a truncate or a
 *           punch is part of the tree that was found, what was before it is zeros for ever.
 *   sizes   What fsync or a truncate left, or up to the end of what was written since.
 *   inodes  A new file or folder never has a number that was seen before.
 *
 * LOG, a line each, numbers of operations growing:  N name slot...  begun;  = N ino  answered. Lines of the state that a
 * check leaves come first (state_save()).
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDERS  3
#define NAMES    8
#define SLOTS    (FOLDERS * NAMES)
#define BLOCK    4096u
#define BLOCKS   64u
#define UNSYNCED 12 /* writes to a file before it is fsynced */

#define CONTAINER(array) (sizeof(array) / sizeof((array)[0]))

/* The same words in LOG. */
enum kind { CREATE, MKDIR, REMOVE, RENAME, LINK, WRITE, TRUNCATE, PUNCH, FSYNC, FSYNCDIR, KINDS };
static const char *const kind_names[KINDS] = { "create", "mkdir",    "remove", "rename", "link",
					       "write",  "truncate", "punch",  "fsync",  "fsyncdir" };

struct operation {
	uint64_t number;
	enum kind kind;
	uint64_t a, b,
		c; /* create, mkdir, remove: slot; rename, link: from, to; others: file, first block, blocks; folder */
	bool answered;
};

/* A file or folder, by the number of the operation that made it. */
struct object {
	uint64_t id, ino; /* ino 0: nobody knows it yet */
	bool folder;
	uint64_t size;           /* in blocks */
	uint64_t blocks[BLOCKS]; /* 0: zeros */

	/* run */
	int fd; /* -1 */
	unsigned int unsynced;
};

static struct {
	const char *dir, *log_path;
	int log;
	uint64_t seed, random, number;

	/* Where LOG begins. */
	uint64_t slots[SLOTS]; /* ids; 0: none */
	struct object *objects;
	size_t object_count;
	uint64_t *inos; /* all there ever were */
	size_t ino_count;

	struct operation *operations;
	size_t operation_count;
} witness = { .log = -1 };

static _Noreturn __attribute__((format(printf, 1, 2))) void wrong(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "witness: %s: operation %" PRIu64 ": ", witness.log_path, witness.number);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("\n", stderr);
	exit(1);
}

static void *more(void *array, size_t count, size_t size)
{
	void *longer = (count & (count - 1)) == 0 ? reallocarray(array, count == 0 ? 1 : 2 * count, size) : array;

	if (!longer)
		wrong("out of memory");
	return longer;
}

static struct object *object_find(uint64_t id)
{
	for (size_t i = witness.object_count; i-- > 0;)
		if (witness.objects[i].id == id)
			return &witness.objects[i];
	wrong("there is no file %" PRIu64, id);
}

static struct object *object_add(uint64_t id, uint64_t ino, bool folder)
{
	witness.objects = more(witness.objects, witness.object_count, sizeof(*witness.objects));
	witness.objects[witness.object_count] = (struct object){ .id = id, .ino = ino, .folder = folder, .fd = -1 };
	return &witness.objects[witness.object_count++];
}

static void ino_add(uint64_t ino)
{
	for (size_t i = 0; i < witness.ino_count; i++)
		if (witness.inos[i] == ino)
			wrong("inode number %" PRIu64 " comes a second time", ino);
	witness.inos = more(witness.inos, witness.ino_count, sizeof(*witness.inos));
	witness.inos[witness.ino_count++] = ino;
}

static const char *slot_path(uint64_t slot, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/d%" PRIu64 "/n%" PRIu64, witness.dir, slot / NAMES, slot % NAMES);
	return out;
}

static const char *folder_path(uint64_t folder, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/d%" PRIu64, witness.dir, folder);
	return out;
}

/* --- blocks ----------------------------------------------------------------------------------------------------------- */

static uint64_t word(uint64_t id, uint64_t block, uint64_t number, size_t i)
{
	switch (i) {
	case 0:
		return id;
	case 1:
		return block;
	case 2:
		return number;
	default:
		return (id * 31 + block * 7 + number + i) * UINT64_C(0x9e3779b97f4a7c15);
	}
}

static void block_fill(uint64_t id, uint64_t block, uint64_t number, uint64_t out[BLOCK / 8])
{
	for (size_t i = 0; i < BLOCK / 8; i++)
		out[i] = word(id, block, number, i);
}

/* Which operation wrote it. */
static uint64_t block_read(const struct object *object, uint64_t block, const uint64_t data[BLOCK / 8])
{
	static const uint64_t zeros[BLOCK / 8];

	if (memcmp(data, zeros, BLOCK) == 0)
		return 0;
	if (data[0] != object->id || data[1] != block)
		wrong("block %" PRIu64 " of file %" PRIu64 " is foreign: file %" PRIx64 " block %" PRIx64, block,
		      object->id, data[0], data[1]);
	for (size_t i = 3; i < BLOCK / 8; i++)
		if (data[i] != word(object->id, block, data[2], i))
			wrong("block %" PRIu64 " of file %" PRIu64 " is mixed from byte %zu on", block, object->id,
			      i * 8);
	return data[2];
}

/* --- the log ---------------------------------------------------------------------------------------------------------- */

static __attribute__((format(printf, 1, 2))) void note(const char *format, ...)
{
	char line[128];
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (write(witness.log, line, (size_t)size) != size)
		wrong("%s: %s", witness.log_path, strerror(errno));
}

/* One that a power failure cuts off is there without its answer. */
static void operation_add(uint64_t number, enum kind kind, uint64_t a, uint64_t b, uint64_t c)
{
	witness.operations = more(witness.operations, witness.operation_count, sizeof(*witness.operations));
	witness.operations[witness.operation_count++] = (struct operation){ number, kind, a, b, c, false };
	witness.number = number;
	if (kind == CREATE || kind == MKDIR)
		object_add(number, 0, kind == MKDIR);
}

static void line_read(const char *line)
{
	uint64_t number, a = 0, b = 0, c = 0;
	char name[16];

	if (sscanf(line, "= %" SCNu64 " %" SCNu64, &number, &a) == 2) {
		assert(witness.operation_count > 0 && number == witness.number);
		witness.operations[witness.operation_count - 1].answered = true;
		if (a != 0) {
			object_find(number)->ino = a;
			ino_add(a);
		}
	} else if (sscanf(line, "number %" SCNu64, &number) == 1) {
		witness.number = number;
	} else if (sscanf(line, "ino %" SCNu64, &number) == 1) {
		ino_add(number);
	} else if (sscanf(line, "object %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &number, &a, &b, &c) == 4) {
		object_add(number, a, b)->size = c;
	} else if (sscanf(line, "block %" SCNu64 " %" SCNu64 " %" SCNu64, &number, &a, &b) == 3) {
		object_find(number)->blocks[a] = b;
	} else if (sscanf(line, "slot %" SCNu64 " %" SCNu64, &a, &number) == 2) {
		witness.slots[a] = number;
	} else if (sscanf(line, "%" SCNu64 " %15s %" SCNu64 " %" SCNu64 " %" SCNu64, &number, name, &a, &b, &c) >= 2) {
		for (enum kind kind = 0; kind < KINDS; kind++)
			if (strcmp(name, kind_names[kind]) == 0)
				operation_add(number, kind, a, b, c);
		assert(witness.number == number);
	} else {
		wrong("what is that? %s", line);
	}
}

static bool log_read(void)
{
	FILE *file = fopen(witness.log_path, "re");
	char line[128];

	if (!file)
		return false;
	while (fgets(line, sizeof(line), file))
		line_read(line);
	fclose(file);
	return true;
}

static void log_open(const char *path, int flags)
{
	witness.log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, 0600);
	if (witness.log < 0)
		wrong("%s: %s", path, strerror(errno));
}

/* Written anew: the state as it was found is where it goes on. */
static void state_save(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s.new", witness.log_path);
	log_open(path, O_TRUNC);
	note("number %" PRIu64 "\n", witness.number);
	for (size_t i = 0; i < witness.ino_count; i++)
		note("ino %" PRIu64 "\n", witness.inos[i]);
	for (size_t i = 0; i < witness.object_count; i++) {
		const struct object *object = &witness.objects[i];
		bool named = false;

		for (uint64_t slot = 0; slot < SLOTS; slot++)
			named = named || witness.slots[slot] == object->id;
		if (!named)
			continue;
		note("object %" PRIu64 " %" PRIu64 " %d %" PRIu64 "\n", object->id, object->ino, object->folder,
		     object->size);
		for (uint64_t block = 0; block < object->size; block++)
			if (object->blocks[block] != 0)
				note("block %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", object->id, block,
				     object->blocks[block]);
	}
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		if (witness.slots[slot] != 0)
			note("slot %" PRIu64 " %" PRIu64 "\n", slot, witness.slots[slot]);
	if (rename(path, witness.log_path) < 0)
		wrong("%s: %s", path, strerror(errno));
}

static void names_apply(uint64_t slots[SLOTS], const struct operation *operation)
{
	switch (operation->kind) {
	case CREATE:
	case MKDIR:
		slots[operation->a] = operation->number;
		break;
	case REMOVE:
		slots[operation->a] = 0;
		break;
	case RENAME:
		slots[operation->b] = slots[operation->a];
		slots[operation->a] = 0;
		break;
	case LINK:
		slots[operation->b] = slots[operation->a];
		break;
	default:
		break;
	}
}

/* --- run -------------------------------------------------------------------------------------------------------------- */

static uint64_t draw(uint64_t below)
{
	witness.random ^= witness.random << 13;
	witness.random ^= witness.random >> 7;
	witness.random ^= witness.random << 17;
	return (witness.random >> 11) % below;
}

static int must(int result, const char *what)
{
	if (result < 0)
		wrong("%s: %s", what, strerror(errno));
	return result;
}

static void begin(enum kind kind, uint64_t a, uint64_t b, uint64_t c)
{
	note("%" PRIu64 " %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", ++witness.number, kind_names[kind], a, b, c);
}

static void end(uint64_t ino)
{
	note("= %" PRIu64 " %" PRIu64 "\n", witness.number, ino);
}

static int object_open(struct object *object, uint64_t slot)
{
	char path[PATH_MAX];

	if (object->fd < 0)
		object->fd = must(open(slot_path(slot, path), O_RDWR | O_CLOEXEC), "open");
	return object->fd;
}

static void object_close(struct object *object)
{
	if (object->fd >= 0)
		must(close(object->fd), "close");
	object->fd = -1;
}

static void run_create(uint64_t slot)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	begin(CREATE, slot, 0, 0);
	fd = must(open(slot_path(slot, path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644), "create");
	must(fstat(fd, &st), "fstat");
	ino_add(st.st_ino);
	end(st.st_ino);
	witness.slots[slot] = witness.number;
	object_add(witness.number, st.st_ino, false)->fd = fd;
}

static void run_mkdir(uint64_t slot)
{
	char path[PATH_MAX];
	struct stat st;

	begin(MKDIR, slot, 0, 0);
	must(mkdir(slot_path(slot, path), 0755), "mkdir");
	must(stat(path, &st), "stat");
	ino_add(st.st_ino);
	end(st.st_ino);
	witness.slots[slot] = witness.number;
	object_add(witness.number, st.st_ino, true);
}

static void run_remove(uint64_t slot)
{
	struct object *object = object_find(witness.slots[slot]);
	char path[PATH_MAX];

	object_close(object);
	begin(REMOVE, slot, 0, 0);
	must(object->folder ? rmdir(slot_path(slot, path)) : unlink(slot_path(slot, path)), "remove");
	end(0);
	witness.slots[slot] = 0;
}

static void run_rename(uint64_t from, uint64_t to)
{
	char from_path[PATH_MAX], to_path[PATH_MAX];

	if (witness.slots[to] == witness.slots[from])
		return; /* two names of one file: rename() does nothing */
	if (witness.slots[to] != 0) {
		if (object_find(witness.slots[to])->folder != object_find(witness.slots[from])->folder)
			return;
		object_close(object_find(witness.slots[to]));
	}
	begin(RENAME, from, to, 0);
	must(rename(slot_path(from, from_path), slot_path(to, to_path)), "rename");
	end(0);
	witness.slots[to] = witness.slots[from];
	witness.slots[from] = 0;
}

static void run_link(uint64_t from, uint64_t to)
{
	char from_path[PATH_MAX], to_path[PATH_MAX];

	if (witness.slots[to] != 0)
		return;
	begin(LINK, from, to, 0);
	must(link(slot_path(from, from_path), slot_path(to, to_path)), "link");
	end(0);
	witness.slots[to] = witness.slots[from];
}

static void run_fsync(struct object *object, uint64_t slot)
{
	int fd = object_open(object, slot);

	begin(FSYNC, object->id, 0, 0);
	must(draw(2) == 0 ? fsync(fd) : fdatasync(fd), "fsync");
	end(0);
	object->unsynced = 0;
}

static void run_write(struct object *object, uint64_t slot, uint64_t first, uint64_t count)
{
	static uint64_t data[BLOCKS * BLOCK / 8];
	int fd = object_open(object, slot);
	size_t done = 0;

	begin(WRITE, object->id, first, count);
	for (uint64_t i = 0; i < count; i++)
		block_fill(object->id, first + i, witness.number, data + i * (BLOCK / 8));
	while (done < count * BLOCK) {
		ssize_t n = pwrite(fd, (char *)data + done, count * BLOCK - done, (off_t)(first * BLOCK + done));

		must((int)n, "write");
		done += (size_t)n;
	}
	end(0);
	if (first + count > object->size)
		object->size = first + count;
	if (++object->unsynced == UNSYNCED)
		run_fsync(object, slot);
}

static void run_truncate(struct object *object, uint64_t slot, uint64_t size)
{
	int fd = object_open(object, slot);

	begin(TRUNCATE, object->id, size, 0);
	must(ftruncate(fd, (off_t)(size * BLOCK)), "truncate");
	end(0);
	object->size = size;
}

static void run_punch(struct object *object, uint64_t slot, uint64_t first, uint64_t count)
{
	int fd = object_open(object, slot);

	begin(PUNCH, object->id, first, count);
	must(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(first * BLOCK), (off_t)(count * BLOCK)),
	     "punch");
	end(0);
}

static void run_fsyncdir(uint64_t folder)
{
	char path[PATH_MAX];
	int fd = must(open(folder_path(folder, path), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open");

	begin(FSYNCDIR, folder, 0, 0);
	must(fsync(fd), "fsync");
	end(0);
	close(fd);
}

static void draw_write(struct object *object, uint64_t slot)
{
	uint64_t first = draw(4) == 0 ? object->size : draw(BLOCKS), count = 1 + draw(draw(3) == 0 ? BLOCKS : 4);

	if (first >= BLOCKS)
		first = 0;
	run_write(object, slot, first, count < BLOCKS - first ? count : BLOCKS - first);
}

static void draw_punch(struct object *object, uint64_t slot)
{
	uint64_t first = draw(BLOCKS), count = 1 + draw(BLOCKS - first);

	run_punch(object, slot, first, count);
}

static void draw_for_file(struct object *object, uint64_t slot, uint64_t dice)
{
	if (dice < 50)
		draw_write(object, slot);
	else if (dice < 64)
		run_fsync(object, slot);
	else if (dice < 74)
		run_truncate(object, slot, draw(BLOCKS));
	else if (dice < 78)
		run_truncate(object, slot, 0);
	else if (dice < 84)
		draw_punch(object, slot);
	else
		object_close(object);
}

static void draw_one(void)
{
	uint64_t slot = draw(SLOTS), dice = draw(100);
	struct object *object = witness.slots[slot] != 0 ? object_find(witness.slots[slot]) : NULL;

	if (dice < 6)
		run_fsyncdir(slot / NAMES);
	else if (!object && dice < 20)
		run_mkdir(slot);
	else if (!object)
		run_create(slot);
	else if (dice < 16)
		run_remove(slot);
	else if (dice < 26)
		run_rename(slot, draw(SLOTS));
	else if (object->folder)
		return;
	else if (dice < 30)
		run_link(slot, draw(SLOTS));
	else
		draw_for_file(object, slot, draw(100));
}

/* The folders, for ever: LOG begins when they are durable. */
static void make_folders(void)
{
	int fd = must(open(witness.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), witness.dir);
	char path[PATH_MAX];

	for (uint64_t folder = 0; folder < FOLDERS; folder++)
		must(mkdir(folder_path(folder, path), 0755), path);
	must(fsync(fd), witness.dir);
	close(fd);
}

static void run(uint64_t operations)
{
	if (!log_read())
		make_folders();
	if (witness.operation_count > 0)
		wrong("to go on, check it first");
	log_open(witness.log_path, 0);
	witness.random = (witness.seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	for (uint64_t i = 0; i < operations; i++)
		draw_one();
}

static void run_clear(void)
{
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		if (witness.slots[slot] != 0)
			run_remove(slot);
	for (uint64_t folder = 0; folder < FOLDERS; folder++)
		run_fsyncdir(folder);
}

static void do_one(const char *text)
{
	char word[16] = "";
	uint64_t a = 0, b = 0, c = 0;
	int given = sscanf(text, "%15s %" SCNu64 " %" SCNu64 " %" SCNu64, word, &a, &b, &c);
	enum kind kind = CREATE;

	while (kind < KINDS && strcmp(word, kind_names[kind]) != 0)
		kind++;
	if (strcmp(word, "clear") == 0) {
		run_clear();
		return;
	}
	if (given < 2 || kind == KINDS || a >= SLOTS || b >= BLOCKS || c > BLOCKS - b)
		wrong("what is that? %s", text);
	if (kind == CREATE)
		run_create(a);
	else if (kind == MKDIR)
		run_mkdir(a);
	else if (kind == FSYNCDIR)
		run_fsyncdir(a);
	else if (witness.slots[a] == 0)
		wrong("%s: nothing is there", text);
	else if (kind == REMOVE)
		run_remove(a);
	else if (kind == RENAME)
		run_rename(a, b);
	else if (kind == LINK)
		run_link(a, b);
	else if (kind == WRITE)
		run_write(object_find(witness.slots[a]), a, b, c);
	else if (kind == TRUNCATE)
		run_truncate(object_find(witness.slots[a]), a, b);
	else if (kind == PUNCH)
		run_punch(object_find(witness.slots[a]), a, b, c);
	else
		run_fsync(object_find(witness.slots[a]), a);
}

static void do_all(char **texts)
{
	if (!log_read())
		make_folders();
	for (size_t i = 0; i < witness.operation_count; i++) {
		if (!witness.operations[i].answered)
			wrong("to go on, check it first");
		names_apply(witness.slots, &witness.operations[i]);
	}
	log_open(witness.log_path, 0);
	witness.random = UINT64_C(0x9e3779b97f4a7c15);
	while (*texts)
		do_one(*texts++);
}

/* --- check: what is there --------------------------------------------------------------------------------------------- */

struct found {
	uint64_t ino, links;
	bool folder;
};

static void folder_look(uint64_t folder, struct found found[SLOTS])
{
	char path[PATH_MAX];
	struct dirent *dirent;
	DIR *dir = opendir(folder_path(folder, path));

	if (!dir)
		wrong("%s: %s", path, strerror(errno));
	while (errno = 0, (dirent = readdir(dir)) != NULL) {
		uint64_t name = strtoull(dirent->d_name + 1, NULL, 10);
		struct stat st;

		if (dirent->d_name[0] == '.')
			continue;
		if (dirent->d_name[0] != 'n' || name >= NAMES)
			wrong("%s/%s: who made that?", path, dirent->d_name);
		must(fstatat(dirfd(dir), dirent->d_name, &st, AT_SYMLINK_NOFOLLOW), dirent->d_name);
		found[folder * NAMES + name] = (struct found){ st.st_ino, st.st_nlink, S_ISDIR(st.st_mode) };
	}
	must(-errno, path);
	must(fsync(dirfd(dir)), path);
	closedir(dir);
}

/* A file's size and blocks, into object; from now on they stay. */
static void contents_look(struct object *object, uint64_t slot)
{
	uint64_t data[BLOCK / 8];
	char path[PATH_MAX];
	int fd = must(open(slot_path(slot, path), O_RDONLY | O_CLOEXEC), path);
	struct stat st;

	must(fstat(fd, &st), path);
	if (st.st_size % BLOCK != 0 || st.st_size > BLOCKS * BLOCK)
		wrong("%s (file %" PRIu64 ") has %lld bytes", path, object->id, (long long)st.st_size);
	object->size = (uint64_t)st.st_size / BLOCK;
	memset(object->blocks, 0, sizeof(object->blocks));
	for (uint64_t block = 0; block < object->size; block++) {
		ssize_t n = pread(fd, data, BLOCK, (off_t)(block * BLOCK));

		if (n != BLOCK)
			wrong("%s (file %" PRIu64 ") block %" PRIu64 ": %s", path, object->id, block,
			      n < 0 ? strerror(errno) : "is cut short");
		object->blocks[block] = block_read(object, block, data);
	}
	must(fsync(fd), path);
	close(fd);
}

/* --- check: what may be there ----------------------------------------------------------------------------------------- */

static bool names_match(const uint64_t slots[SLOTS], const struct found found[SLOTS])
{
	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		const struct object *object;
		uint64_t links = 0;

		if ((slots[slot] == 0) != (found[slot].ino == 0))
			return false;
		if (slots[slot] == 0)
			continue;
		object = object_find(slots[slot]);
		if (object->folder != found[slot].folder || (object->ino != 0 && object->ino != found[slot].ino))
			return false;
		for (uint64_t other = 0; other < SLOTS; other++)
			links += slots[other] == slots[slot];
		if (!object->folder && links != found[slot].links)
			return false;
	}
	return true;
}

/* What a file may be when the tree is as it was after operation `until`. */
struct allowed {
	uint64_t size_min, size_max, size;
	bool written; /* ever */
	struct {
		uint64_t numbers[UNSYNCED + 8];
		unsigned int count;
	} blocks[BLOCKS];
};

static void allow(struct allowed *allowed, uint64_t block, uint64_t number, bool only)
{
	if (only)
		allowed->blocks[block].count = 0;
	assert(allowed->blocks[block].count < CONTAINER(allowed->blocks[block].numbers));
	allowed->blocks[block].numbers[allowed->blocks[block].count++] = number;
}

static void allow_write(struct allowed *allowed, const struct operation *operation)
{
	uint64_t end_of_it = operation->b + operation->c;

	for (uint64_t block = operation->b; block < end_of_it; block++)
		allow(allowed, block, operation->number, false);
	allowed->size = allowed->size > end_of_it ? allowed->size : end_of_it;
	allowed->size_max = allowed->size_max > end_of_it ? allowed->size_max : end_of_it;
	allowed->written = true;
}

static void allow_truncate(struct allowed *allowed, uint64_t size)
{
	for (uint64_t block = size; block < BLOCKS; block++)
		allow(allowed, block, 0, true);
	allowed->size = allowed->size_min = allowed->size_max = size;
}

static void allow_fsync(struct allowed *allowed)
{
	for (uint64_t block = 0; block < BLOCKS; block++)
		allow(allowed, block, allowed->blocks[block].numbers[allowed->blocks[block].count - 1], true);
	allowed->size_min = allowed->size_max = allowed->size;
}

static void allowed_make(struct allowed *allowed, const struct object *begin_with, uint64_t until)
{
	allow_truncate(allowed, 0);
	allowed->written = begin_with->size > 0;
	allowed->size = allowed->size_min = allowed->size_max = begin_with->size;
	for (uint64_t block = 0; block < BLOCKS; block++)
		allow(allowed, block, begin_with->blocks[block], true);
	for (size_t i = 0; i < witness.operation_count; i++) {
		const struct operation *operation = &witness.operations[i];

		if (operation->kind < WRITE || operation->kind == FSYNCDIR || operation->a != begin_with->id)
			continue;
		if (operation->kind == WRITE) {
			allow_write(allowed, operation);
		} else if (operation->kind == FSYNC) {
			if (operation->answered)
				allow_fsync(allowed);
		} else if (operation->number > until) {
			/* Lost. What came after a truncate to 0 went into another content, which is lost with it. */
			if (operation->kind == TRUNCATE && operation->b == 0 && allowed->written)
				return;
		} else if (operation->kind == TRUNCATE) {
			allow_truncate(allowed, operation->b);
		} else {
			for (uint64_t block = operation->b; block < operation->b + operation->c; block++)
				allow(allowed, block, 0, true);
		}
	}
}

static bool is_allowed(const struct allowed *allowed, uint64_t block, uint64_t number)
{
	for (unsigned int i = 0; i < allowed->blocks[block].count; i++)
		if (allowed->blocks[block].numbers[i] == number)
			return true;
	return false;
}

/* seen: the object as it was found; text says what is wrong with it. */
static bool contents_match(const struct object *before, const struct object *seen, uint64_t until, char text[256])
{
	static struct allowed allowed;

	allowed_make(&allowed, before, until);
	if (seen->size < allowed.size_min || seen->size > allowed.size_max) {
		snprintf(text, 256,
			 "file %" PRIu64 " has %" PRIu64 " blocks, not %" PRIu64 " to %" PRIu64
			 " (the tree is that after %" PRIu64 ")",
			 seen->id, seen->size, allowed.size_min, allowed.size_max, until);
		return false;
	}
	for (uint64_t block = 0; block < seen->size; block++) {
		if (is_allowed(&allowed, block, seen->blocks[block]))
			continue;
		snprintf(text, 256,
			 "file %" PRIu64 " block %" PRIu64 " is of operation %" PRIu64 ", not %" PRIu64 " to %" PRIu64
			 " (the tree is that after %" PRIu64 ")",
			 seen->id, block, seen->blocks[block], allowed.blocks[block].numbers[0],
			 allowed.blocks[block].numbers[allowed.blocks[block].count - 1], until);
		return false;
	}
	return true;
}

/* The tree that was found fits that after operation `until`; do the files? Then the state is what was found. */
static bool state_match(const uint64_t slots[SLOTS], const struct found found[SLOTS], uint64_t until, char text[256])
{
	struct object *seen = calloc(SLOTS, sizeof(*seen));
	bool matches = true;

	if (!seen)
		wrong("out of memory");
	for (uint64_t slot = 0; slot < SLOTS && matches; slot++) {
		if (slots[slot] == 0)
			continue;
		seen[slot] = *object_find(slots[slot]);
		if (!seen[slot].folder) {
			contents_look(&seen[slot], slot);
			matches = contents_match(object_find(slots[slot]), &seen[slot], until, text);
		}
	}
	for (uint64_t slot = 0; slot < SLOTS && matches; slot++) {
		if (slots[slot] == 0)
			continue;
		if (object_find(slots[slot])->ino == 0)
			ino_add(seen[slot].ino = found[slot].ino);
		*object_find(slots[slot]) = seen[slot];
	}
	free(seen);
	return matches;
}

static void check(void)
{
	struct found found[SLOTS] = { { 0 } };
	uint64_t slots[SLOTS], synced = 0;
	char text[256] = "the tree is none that there was since the last fsync";

	if (!log_read())
		wrong("%s: %s", witness.log_path, strerror(errno));
	for (uint64_t folder = 0; folder < FOLDERS; folder++)
		folder_look(folder, found);
	for (size_t i = 0; i < witness.operation_count; i++)
		if (witness.operations[i].answered && witness.operations[i].kind >= FSYNC)
			synced = i + 1;
	memcpy(slots, witness.slots, sizeof(slots));
	for (size_t i = 0; i <= witness.operation_count; i++) {
		if (i > 0)
			names_apply(slots, &witness.operations[i - 1]);
		if (i < synced || !names_match(slots, found))
			continue;
		if (state_match(slots, found, i == 0 ? 0 : witness.operations[i - 1].number, text)) {
			memcpy(witness.slots, slots, sizeof(slots));
			state_save();
			return;
		}
	}
	wrong("%s", text);
}

int main(int argc, char **argv)
{
	uint64_t operations = 1000;

	for (int c; (c = getopt(argc, argv, "n:s:")) != -1;) {
		if (c == 'n')
			operations = strtoull(optarg, NULL, 10);
		else if (c == 's')
			witness.seed = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	if (argc - optind < 3) {
		fputs("usage: witness run [-n OPERATIONS] [-s SEED] LOG DIR\n"
		      "       witness do LOG DIR OPERATION...\n"
		      "       witness check LOG DIR\n",
		      stderr);
		return 2;
	}
	witness.log_path = argv[optind + 1];
	witness.dir = argv[optind + 2];
	if (strcmp(argv[optind], "run") == 0)
		run(operations);
	else if (strcmp(argv[optind], "do") == 0)
		do_all(argv + optind + 3);
	else
		check();
	return 0;
}
