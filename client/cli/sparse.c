#include "client/cli/sparse.h"

#include <errno.h>
#include <unistd.h>

bool sparse_is_likely(const struct stat *st)
{
	return S_ISREG(st->st_mode) && (uint64_t)st->st_blocks < ((uint64_t)st->st_size + 511) / 512;
}

/* lseek(2) without SEEK_DATA: everything up to the end is data. */
static int sparse_all(int fd, uint64_t from, uint64_t *ret_start, uint64_t *ret_end)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (from >= (uint64_t)st.st_size)
		return -ENXIO;
	*ret_start = from;
	*ret_end = (uint64_t)st.st_size;
	return 0;
}

int sparse_next(int fd, uint64_t from, uint64_t *ret_start, uint64_t *ret_end)
{
	off_t start = lseek(fd, (off_t)from, SEEK_DATA), end;

	if (start < 0)
		return errno == EINVAL ? sparse_all(fd, from, ret_start, ret_end) : -errno;
	end = lseek(fd, start, SEEK_HOLE);
	if (end < 0)
		return -errno;
	*ret_start = (uint64_t)start;
	*ret_end = (uint64_t)end;
	return 0;
}
