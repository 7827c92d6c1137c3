/*
 * Seeds of tests whose order of things is drawn: the number behind a test's name, and SEED=N from outside, which is added to it.
 * What a run that failed was told from outside is printed, so that it can be done again.
 */
#ifndef STRAKE_TESTS_SEEDS_H
#define STRAKE_TESTS_SEEDS_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline uint64_t seed_of(int number)
{
	const char *more = getenv("SEED");

	return (uint64_t)number + (more != NULL ? (uint64_t)strtoull(more, NULL, 10) : 0);
}

/* Tests have failed; what is added to their numbers, and on what device they ran. */
static inline void seeds_tell(void)
{
	static const char *const names[] = { "SEED", "TEST_RDMA", "TEST_RDMA_WIRE" };
	const char *before = "with ";

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (getenv(names[i]) == NULL)
			continue;
		fprintf(stderr, "%s%s=%s", before, names[i], getenv(names[i]));
		before = " ";
	}
	if (before[1] == 0)
		fprintf(stderr, "\n");
}

/* All of a program's tests: what its main() returns. */
static inline int seeds_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	if (failed > 0)
		seeds_tell();
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
