#include "common/status.h"

#include <errno.h>

/*
 * Two switches made from one table: a number or an errno that stands in it twice does not compile. Where an errno has
 * two names (ENOTSUP is EOPNOTSUPP, EDEADLOCK is EDEADLK, EWOULDBLOCK is EAGAIN), the table has one and both travel.
 */

uint32_t status_from_errno(int err)
{
	switch (-(int64_t)err) {
	case 0:
		return 0;
#define STATUS(name, number) \
	case name:           \
		return number;
#include "proto/status.def"
#undef STATUS
	default:
		return status_from_errno(-EIO);
	}
}

int status_to_errno(uint32_t status)
{
	switch (status) {
	case 0:
		return 0;
#define STATUS(name, number) \
	case number:         \
		return -name;
#include "proto/status.def"
#undef STATUS
	default:
		return -EIO;
	}
}
