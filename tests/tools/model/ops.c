/* What steps call. Each runs in a player's process, whose root is one of the two trees, and tells all that a program sees. */
#include "tests/tools/model/model.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h> /* RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BYTES_MAX 700000

#define OP(name) static void op_##name(struct player *player, const struct step *step, struct answer *answer)
#define RESULT(call)                           \
	do {                                   \
		(void)player;                  \
		answer_result(answer, (call)); \
	} while (0)
#define P0 step->path[0]
#define P1 step->path[1]
#define N0 step->n[0]
#define N1 step->n[1]
#define N2 step->n[2]
#define F0 player->fds[step->fd[0]]
#define F1 player->fds[step->fd[1]]

static uint8_t bytes[BYTES_MAX];

static size_t length_of(uint64_t number)
{
	return number < BYTES_MAX ? (size_t)number : BYTES_MAX;
}

/* Bytes that are no others', and never 0. */
static const void *pattern(uint64_t seed, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)((seed + i / 256 * 7 + i) % 255 + 1);
	return bytes;
}

static void got_bytes(struct answer *answer, int64_t n)
{
	answer_result(answer, n);
	if (n > 0)
		answer_add(answer, "sum %" PRIx64 "\n", sum_of(bytes, (size_t)n, 1));
}

/* --- open files --------------------------------------------------------------------------------------------------- */

/* The slot's old file is closed first. */
static void take_fd(struct player *player, unsigned int slot, int fd, struct answer *answer)
{
	int err = errno;

	if (player->fds[slot] >= 0)
		answer_add(answer, "close %d\n", close(player->fds[slot]));
	player->fds[slot] = fd;
	errno = err;
	answer_result(answer, fd < 0 ? -1 : 0);
}

/* A directory does not stay open: what becomes of one that is removed then is not the same on a mount. */
OP(open)
{
	int fd = open(P0, (int)N0 | O_CLOEXEC | O_NONBLOCK, (mode_t)N1);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		close(fd);
		answer_add(answer, "a directory\n");
	} else {
		take_fd(player, step->fd[0], fd, answer);
	}
}

OP(dup)
{
	take_fd(player, step->fd[1], fcntl(F0, F_DUPFD_CLOEXEC, 100), answer);
}

OP(close)
{
	RESULT(close(F0));
	F0 = -1;
}

OP(read)
{
	got_bytes(answer, read(F0, bytes, length_of(N0)));
}

OP(pread)
{
	got_bytes(answer, pread(F0, bytes, length_of(N1), (off_t)N0));
}

OP(write)
{
	RESULT(write(F0, pattern(N1, length_of(N0)), length_of(N0)));
}

OP(pwrite)
{
	RESULT(pwrite(F0, pattern(N2, length_of(N1)), length_of(N1), (off_t)N0));
}

OP(pwritev)
{
	size_t len = length_of(N1), first = len / 3;
	const uint8_t *data = pattern(N2, len);
	struct iovec parts[2] = { { bytes, first }, { bytes + first, len - first } };

	(void)data;
	RESULT(pwritev(F0, parts, 2, (off_t)N0));
}

/* Of a directory only back to its beginning: other positions are each filesystem's own. */
OP(lseek)
{
	off_t offset = N1 == SEEK_SET ? (off_t)N0 : -(off_t)(N0 % 9000);
	struct stat st;

	if (fstat(F0, &st) == 0 && S_ISDIR(st.st_mode))
		RESULT(lseek(F0, 0, SEEK_SET));
	else
		RESULT(lseek(F0, offset, (int)N1));
}

OP(ftruncate)
{
	RESULT(ftruncate(F0, (off_t)N0));
}

OP(truncate)
{
	RESULT(truncate(P0, (off_t)N0));
}

/* Whether space alone changes a file's times is each filesystem's own: so they change here anyway. */
OP(fallocate)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };

	RESULT(fallocate(F0, modes[N2 % 5], (off_t)N0, (off_t)N1));
	if (answer->error == 0)
		answer_add(answer, "times %d\n", futimens(F0, NULL));
}

OP(copy)
{
	off_t from = (off_t)N0, to = (off_t)N1;

	RESULT(copy_file_range(F0, &from, F1, &to, length_of(N2 % 300000), 0));
	if (answer->error == 0)
		answer_add(answer, "to %jd %jd\n", (intmax_t)from, (intmax_t)to);
}

OP(fsync)
{
	RESULT(N0 % 3 == 0 ? fsync(F0) : N0 % 3 == 1 ? fdatasync(F0) : syncfs(F0));
}

/* A shared map of what the file has, from a page on. */
static void map(struct answer *answer, int fd, const struct step *step, int protection)
{
	off_t from = (off_t)(N0 / 4096 * 4096);
	struct stat st;
	size_t len;
	uint8_t *pages;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= from) {
		answer_result(answer, fd < 0 ? -1 : 0);
		return;
	}
	len = length_of((uint64_t)(st.st_size - from));
	len = N1 < len ? (size_t)N1 + 1 : len;
	pages = mmap(NULL, len, protection, MAP_SHARED, fd, from);
	answer_result(answer, pages == MAP_FAILED ? -1 : 0);
	if (pages == MAP_FAILED)
		return;
	if (protection & PROT_WRITE)
		memcpy(pages, pattern(N2, len), len);
	else
		answer_add(answer, "sum %" PRIx64 "\n", sum_of(pages, len, 1));
	munmap(pages, len);
}

OP(mapread)
{
	map(answer, F0, step, PROT_READ);
}

OP(mapwrite)
{
	map(answer, F0, step, PROT_READ | PROT_WRITE);
}

OP(readdir)
{
	(void)player;
	look_at_dir(open(P0, O_RDONLY | O_DIRECTORY | O_CLOEXEC), answer);
}

/* --- locks -------------------------------------------------------------------------------------------------------- */

OP(flock)
{
	static const int kinds[] = { LOCK_SH, LOCK_EX, LOCK_UN };

	RESULT(flock(F0, kinds[N0 % 3] | LOCK_NB));
}

OP(lock)
{
	static const int commands[] = { F_SETLK, F_OFD_SETLK, F_GETLK, F_OFD_GETLK };
	static const short kinds[] = { F_RDLCK, F_WRLCK, F_UNLCK };
	struct flock lock = { .l_type = kinds[N2 / 4 % 3], .l_start = (off_t)(N0 % 64), .l_len = (off_t)(N1 % 64) };
	int command = commands[N2 % 4];

	if ((command == F_GETLK || command == F_OFD_GETLK) && lock.l_type == F_UNLCK)
		lock.l_type = F_WRLCK;
	RESULT(fcntl(F0, command, &lock));
	if (answer->error == 0 && (command == F_GETLK || command == F_OFD_GETLK))
		answer_add(answer, "lock %d %jd %jd\n", lock.l_type, (intmax_t)lock.l_start, (intmax_t)lock.l_len);
}

/* --- names -------------------------------------------------------------------------------------------------------- */

OP(mkdir)
{
	RESULT(mkdir(P0, (mode_t)N0));
}

OP(rmdir)
{
	RESULT(rmdir(P0));
}

OP(unlink)
{
	RESULT(unlink(P0));
}

OP(rename)
{
	RESULT(rename(P0, P1));
}

/*
 * A whiteout that would replace a directory with names in it: ext4 puts it in the old one's place, finds that, and takes it
 * back, which changes times of the directory that it was in. So they change in both trees.
 */
static int whiteout_failed(const char *path)
{
	char parent[PATH_ROOM];
	char *slash;
	size_t len;

	snprintf(parent, sizeof(parent), "%s", path);
	for (len = strlen(parent); len > 1 && parent[len - 1] == '/'; len--)
		parent[len - 1] = '\0';
	slash = strrchr(parent, '/');
	if (slash != NULL)
		slash[slash == parent] = '\0';
	utimensat(AT_FDCWD, slash != NULL ? parent : ".", NULL, 0);
	errno = ENOTEMPTY;
	return -1;
}

OP(renameat2)
{
	static const unsigned int flags[] = { RENAME_NOREPLACE,
					      RENAME_EXCHANGE,
					      RENAME_EXCHANGE,
					      RENAME_NOREPLACE | RENAME_EXCHANGE,
					      RENAME_WHITEOUT,
					      RENAME_WHITEOUT | RENAME_NOREPLACE,
					      RENAME_WHITEOUT | RENAME_EXCHANGE };

	int err = renameat2(AT_FDCWD, P0, AT_FDCWD, P1, flags[N0 % 7]);

	RESULT(err < 0 && errno == ENOTEMPTY ? whiteout_failed(P0) : err);
}

OP(link)
{
	RESULT(linkat(AT_FDCWD, P0, AT_FDCWD, P1, N0 % 2 ? AT_SYMLINK_FOLLOW : 0));
}

OP(symlink)
{
	RESULT(symlink(P0, P1));
}

OP(readlink)
{
	ssize_t n = readlink(P0, (char *)bytes, 4096);

	RESULT(n);
	if (n > 0)
		answer_add(answer, "%.*s\n", (int)n, (const char *)bytes);
}

OP(mknod)
{
	static const mode_t types[] = { S_IFIFO, S_IFSOCK, S_IFREG, 0, S_IFCHR, S_IFBLK };
	mode_t type = types[N1 % 6];

	RESULT(mknod(P0, type | ((mode_t)N0 & 07777), makedev(1, 3)));
}

/* --- attributes --------------------------------------------------------------------------------------------------- */

OP(stat)
{
	struct stat st;

	RESULT(stat(P0, &st));
}

OP(access)
{
	RESULT(faccessat(AT_FDCWD, P0, (int)N0 % 8, AT_EACCESS));
}

OP(chmod)
{
	RESULT(chmod(P0, (mode_t)N0));
}

OP(fchmod)
{
	RESULT(fchmod(F0, (mode_t)N0));
}

OP(chown)
{
	RESULT(N2 % 2 ? chown(P0, (uid_t)N0, (gid_t)N1) : lchown(P0, (uid_t)N0, (gid_t)N1));
}

OP(fchown)
{
	RESULT(fchown(F0, (uid_t)N0, (gid_t)N1));
}

OP(umask)
{
	RESULT((int64_t)umask((mode_t)N0 & 0777));
}

/* Long ago, now, or left as it is. */
static struct timespec time_of(uint64_t number)
{
	switch (number % 4) {
	case 0:
		return (struct timespec){ 0, UTIME_NOW };
	case 1:
		return (struct timespec){ 0, UTIME_OMIT };
	default:
		return (struct timespec){ (time_t)(number % 900000000), (long)(number % 999999937) };
	}
}

OP(utimens)
{
	struct timespec times[2] = { time_of(N0), time_of(N1) };

	RESULT(utimensat(AT_FDCWD, P0, times, N2 % 2 ? AT_SYMLINK_NOFOLLOW : 0));
}

static const char *xattr_name(uint64_t number)
{
	static const char *const names[] = { "user.a",     "user.b", "user.long", "trusted.a",
					     "security.a", "user.",  "none.a" };

	return names[number % (sizeof(names) / sizeof(*names))];
}

OP(setxattr)
{
	static const int flags[] = { 0, 0, XATTR_CREATE, XATTR_REPLACE };
	size_t len = N1 % 1200;

	RESULT(setxattr(P0, xattr_name(N0), pattern(N2, len), len, flags[N2 % 4]));
}

/* A value, its length alone, or into too little room. */
OP(getxattr)
{
	static const size_t rooms[] = { 4096, 4096, 0, 1 };
	ssize_t n = getxattr(P0, xattr_name(N0), bytes, rooms[N1 % 4]);

	if (rooms[N1 % 4] == 0)
		RESULT(n);
	else
		got_bytes(answer, n);
}

OP(removexattr)
{
	RESULT(removexattr(P0, xattr_name(N0)));
}

const struct op ops[] = {
	{ "open", "fpOm", 120, op_open },
	{ "dup", "ff", 6, op_dup },
	{ "close", "f", 30, op_close },
	{ "read", "fl", 20, op_read },
	{ "pread", "fol", 30, op_pread },
	{ "write", "flr", 40, op_write },
	{ "pwrite", "folr", 60, op_pwrite },
	{ "pwritev", "folr", 15, op_pwritev },
	{ "lseek", "fow", 15, op_lseek },
	{ "ftruncate", "fo", 25, op_ftruncate },
	{ "truncate", "po", 15, op_truncate },
	{ "fallocate", "folr", 20, op_fallocate },
	{ "copy", "ffoor", 15, op_copy },
	{ "fsync", "fr", 8, op_fsync },
	{ "mapread", "fol", 15, op_mapread },
	{ "mapwrite", "folr", 20, op_mapwrite },
	{ "readdir", "d", 20, op_readdir },
	{ "flock", "fr", 10, op_flock },
	{ "lock", "foor", 25, op_lock },
	{ "mkdir", "nm", 30, op_mkdir },
	{ "rmdir", "d", 15, op_rmdir },
	{ "unlink", "p", 25, op_unlink },
	{ "rename", "pn", 40, op_rename },
	{ "renameat2", "ppr", 20, op_renameat2 },
	{ "link", "pnr", 25, op_link },
	{ "symlink", "pn", 15, op_symlink },
	{ "readlink", "p", 6, op_readlink },
	{ "mknod", "nmr", 15, op_mknod },
	{ "stat", "p", 10, op_stat },
	{ "access", "pr", 10, op_access },
	{ "chmod", "pm", 25, op_chmod },
	{ "fchmod", "fm", 8, op_fchmod },
	{ "chown", "puur", 20, op_chown },
	{ "fchown", "fuu", 6, op_fchown },
	{ "umask", "m", 4, op_umask },
	{ "utimens", "pttr", 20, op_utimens },
	{ "setxattr", "prrr", 20, op_setxattr },
	{ "getxattr", "prr", 10, op_getxattr },
	{ "removexattr", "pr", 8, op_removexattr },
	{ "tree", "", 0, look_at_tree },    /* every so often, whatever is drawn */
	{ "names", "", 0, look_for_names }, /* of the model, for drawing */
};
const unsigned int ops_count = sizeof(ops) / sizeof(*ops);

unsigned int op_find(const char *name)
{
	unsigned int op = 0;

	while (op < ops_count && strcmp(ops[op].name, name) != 0)
		op++;
	return op;
}
