/* A folder for one test, below $TMPDIR or /tmp. */
#ifndef STRAKE_TESTS_TEMP_DIR_H
#define STRAKE_TESTS_TEMP_DIR_H

#include <check.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static inline int temp_dir_remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
	(void)stat;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void temp_dir_make(char out[PATH_MAX])
{
	const char *base = getenv("TMPDIR");

	snprintf(out, PATH_MAX, "%s/strake-test-XXXXXX", base ? base : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(out));
}

/* With all that is in it. */
static inline void temp_dir_remove(const char *path)
{
	ck_assert_int_eq(nftw(path, temp_dir_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

#endif
