/* A folder for a target that works with files, below $TMPDIR: who sets that (run.sh) removes it. */
#ifndef STRAKE_TESTS_FUZZ_WORK_DIR_H
#define STRAKE_TESTS_FUZZ_WORK_DIR_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static inline const char *work_dir(void)
{
	static char path[4096];
	const char *base = getenv("TMPDIR");

	if (path[0] == 0) {
		snprintf(path, sizeof(path), "%s/strake-fuzz-XXXXXX", base != NULL ? base : "/tmp");
		assert(mkdtemp(path) != NULL);
	}
	return path;
}

#endif
