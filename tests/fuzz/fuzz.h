/*
 * A fuzz target (libFuzzer, clang): fuzz_one() looks at one input, and ends the process by an assertion or a sanitizer
 * if what it calls does not keep its word; fuzz_seeds() makes the first inputs. Included once, by each target.
 *
 *     TARGET --seeds=DIR      write the seeds and exit
 *     TARGET [OPTION]... DIR  run; -help=1 shows the options
 */
#ifndef STRAKE_TESTS_FUZZ_H
#define STRAKE_TESTS_FUZZ_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fuzz_one(const uint8_t *data, size_t size);
static void fuzz_seeds(void);

static const char *fuzz_seed_dir;
static unsigned int fuzz_seed_count;

/* One seed: a selector (what the target takes from the front of an input), then the bytes that a decoder gets. */
static inline void fuzz_seed(const void *selector, size_t selector_size, const void *data, size_t size)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/seed-%u", fuzz_seed_dir, fuzz_seed_count++);
	file = fopen(path, "we");
	assert(file != NULL);
	assert(fwrite(selector, 1, selector_size, file) == selector_size);
	assert(size == 0 || fwrite(data, 1, size, file) == size);
	assert(fclose(file) == 0);
}

/* A decoder's input on its own: reading past its end is seen, and it may be changed. */
static inline void *fuzz_copy(const void *data, size_t size)
{
	void *copy = malloc(size > 0 ? size : 1);

	assert(copy != NULL);
	if (size > 0)
		memcpy(copy, data, size);
	return copy;
}

/* The same, as a string. */
static inline char *fuzz_text(const void *data, size_t size)
{
	char *text = malloc(size + 1);

	assert(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = 0;
	return text;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char option[] = "--seeds=";

	if (*argc == 2 && strncmp((*argv)[1], option, sizeof(option) - 1) == 0) {
		fuzz_seed_dir = (*argv)[1] + sizeof(option) - 1;
		fuzz_seeds();
		exit(EXIT_SUCCESS);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_one(data, size);
	return 0;
}

#endif
