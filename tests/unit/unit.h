/* The main() of a unit test program: UNIT_MAIN(name, test, test, ...) with tests made by START_TEST. */
#ifndef STRAKE_TESTS_UNIT_H
#define STRAKE_TESTS_UNIT_H

#include <check.h>
#include <stdlib.h>

#define UNIT_TIMEOUT_S 120

#define UNIT_MAIN(name, ...)                                                \
	int main(void)                                                      \
	{                                                                   \
		const TTest *const tests[] = { __VA_ARGS__ };               \
		Suite *suite = suite_create(name);                          \
		TCase *tcase = tcase_create(name);                          \
		SRunner *runner;                                            \
		int failed;                                                 \
                                                                            \
		tcase_set_timeout(tcase, UNIT_TIMEOUT_S);                   \
		for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++) \
			tcase_add_test(tcase, tests[i]);                    \
		suite_add_tcase(suite, tcase);                              \
		runner = srunner_create(suite);                             \
		srunner_run_all(runner, CK_ENV);                            \
		failed = srunner_ntests_failed(runner);                     \
		srunner_free(runner);                                       \
		return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;           \
	}

#endif
