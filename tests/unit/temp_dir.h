/* A folder for one test, below $TMPDIR or /tmp. */
#ifndef STRAKE_TESTS_TEMP_DIR_H
#define STRAKE_TESTS_TEMP_DIR_H

#include <check.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
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

/*
 * A tmpfs of so many bytes ("12m") over it, in a mount namespace of this process, so that it goes however that ends. False
 * where we may not mount.
 */
static inline bool temp_dir_limit(const char *path, const char *size)
{
	char options[32];

	snprintf(options, sizeof(options), "size=%s", size);
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", path, "tmpfs", 0, options) == 0;
}

/* With all that is in it. */
static inline void temp_dir_remove(const char *path)
{
	ck_assert_int_eq(nftw(path, temp_dir_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

#endif
