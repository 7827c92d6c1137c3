/* How full the disk is and how the target does: looked at now and then, off the loop; told to the MGS at each heartbeat. */
#include "common/fiber.h"
#include "oss/operations.h"

#include <errno.h>
#include <sys/statvfs.h>

#define TICK_MS 2000

struct look {
	int fd;
	struct statvfs vfs;
};

static int look_run(void *arg)
{
	struct look *look = arg;

	return fstatvfs(look->fd, &look->vfs) < 0 ? -errno : 0;
}

/* Of what others than root may use; an empty filesystem without a number of files is never full of them. */
static bool is_over(uint64_t total, uint64_t left, unsigned int percent)
{
	return total > 0 && (total - (left < total ? left : total)) >= total / 100 * percent;
}

void ost_capacity_refresh(struct ost *ost)
{
	struct look look = { .fd = ost->objects_dir };
	struct mgs_capacity *capacity = &ost->capacity;
	uint64_t usable;
	int err;

	err = fiber_self() ? helper_run(ost->helper, look_run, &look) : look_run(&look);
	if (err < 0) {
		ost_io_error(ost, err);
		return;
	}
	capacity->bytes_total = look.vfs.f_blocks * look.vfs.f_frsize;
	capacity->bytes_free = look.vfs.f_bavail * look.vfs.f_frsize;
	capacity->objects_total = look.vfs.f_files;
	capacity->objects_free = look.vfs.f_favail;
	usable = (look.vfs.f_blocks - look.vfs.f_bfree + look.vfs.f_bavail) * look.vfs.f_frsize;
	capacity->state = STRAKE__TARGET_STATE__TARGET_UP;
	if (is_over(usable, capacity->bytes_free, ost->config.full_percent) ||
	    is_over(capacity->objects_total, capacity->objects_free, ost->config.full_percent))
		capacity->state = STRAKE__TARGET_STATE__TARGET_FULL;
}

void ost_capacity(void *owner, struct mgs_capacity *ret_capacity)
{
	const struct ost *ost = owner;

	*ret_capacity = ost->capacity;
	service_connections(ost->service, ret_capacity->connections);
	if (ost->io_errors > 0 || index_is_broken(ost->index))
		ret_capacity->state = STRAKE__TARGET_STATE__TARGET_DEGRADED;
}

void ost_tick(void *arg)
{
	struct ost *ost = arg;

	while (!ost->stopping) {
		(void)fiber_wait_until(&ost->tick, NULL, clock_ns() + TICK_MS * NSEC_PER_MSEC);
		if (ost->stopping)
			break;
		ost_capacity_refresh(ost);
		ost_sweep_tombstones(ost);
		data_pool_poke(ost->buffers);
	}
	ost->ticking = false;
	fiber_wake_all(&ost->idle);
}
