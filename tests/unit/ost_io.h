/* What tests of an OST's reading and writing share on top of ost_fixture.h: an object, bytes, and disk operations that fail. */
#ifndef STRAKE_TESTS_OST_IO_H
#define STRAKE_TESTS_OST_IO_H

#include "tests/unit/ost_fixture.h"

#include <sys/syscall.h>

#define MIB (1024u * 1024)

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* of Linux 6.5; the same everywhere */
#endif

static const struct where a = { .ino = 100, .gen = 1 };

static inline uint8_t *pattern(size_t length, unsigned int seed)
{
	uint8_t *data = malloc(length);

	assert(data);
	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)(rand_r(&seed) >> 8);

	return data;
}

static enum disk_op failing_op;
static int failing_err, failing_times;

static inline int fault(void *arg, enum disk_op op)
{
	(void)arg;
	if (op != failing_op || failing_times == 0)
		return 0;
	failing_times--;

	return failing_err;
}

static inline void set_fault(enum disk_op op, int err, int times)
{
	failing_op = op;
	failing_err = err;
	failing_times = times;
	disk_set_fault(ost->disk, fault, NULL);
}

static unsigned int syncs;

static inline int count_syncs(void *arg, enum disk_op op)
{
	(void)arg;
	syncs += op == DISK_SYNC;

	return 0;
}

#endif
