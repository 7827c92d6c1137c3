/*
 * Memory that the device knows. What lasts (common/lasting.h) is registered once, in a domain when the first connection there
 * moves bulk in or out of it: it may be read and written by the device for us, and by nobody from afar but through windows. So its
 * key needs no guarding, and nothing is to be fenced when a call is over that has shown nothing. When a connection's queue pair
 * is gone nothing of it reaches this memory.
 *
 * It stays pinned. A process that has not CAP_IPC_LOCK may pin RLIMIT_MEMLOCK in all, and its connections cannot do without their
 * segments: half of that is left to them and to what is registered for calls.
 */
#include "common/container_of.h"
#include "common/lasting.h"
#include "common/rdma/rdma_internal.h"

#include <linux/capability.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REMOTE (IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

struct region_mark {
	struct lasting_mark mark;
	struct ibv_mr *mr;
};

static size_t pinned; /* of all domains; marks come and go one at a time (common/lasting.c) */

static bool may_lock_any(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	return syscall(SYS_capget, &header, data) == 0 &&
	       (data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK)) != 0;
}

static bool may_pin(size_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return true;
	return (pinned <= limit.rlim_cur / 2 && size <= limit.rlim_cur / 2 - pinned) || may_lock_any();
}

static void mark_free(struct lasting_mark *mark)
{
	struct region_mark *region = container_of(mark, struct region_mark, mark);

	pinned -= region->mr->length;
	ibv_dereg_mr(region->mr);
	free(region);
}

static struct lasting_mark *mark_make(const void *owner, void *piece, size_t piece_size)
{
	const struct rdma_domain *domain = owner;
	const unsigned int bind = domain->windows ? IBV_ACCESS_MW_BIND : 0;
	struct region_mark *region = may_pin(piece_size) ? malloc(sizeof(*region)) : NULL;

	if (region == NULL)
		return NULL;
	*region = (struct region_mark){ .mark.free = mark_free };
	region->mr = ibv_reg_mr(domain->pd, piece, piece_size, IBV_ACCESS_LOCAL_WRITE | bind);
	if (region->mr == NULL) {
		free(region);
		return NULL;
	}
	pinned += piece_size;
	return &region->mark;
}

static struct ibv_mr *lasting_region(const struct rdma_domain *domain, const void *memory, size_t size)
{
	struct lasting_mark *mark = lasting_mark(domain, memory, size, mark_make);

	return mark != NULL ? container_of(mark, struct region_mark, mark)->mr : NULL;
}

struct rdma_region rdma_region_new(const struct rdma_conn *conn, void *memory, size_t size, unsigned int access)
{
	struct ibv_mr *mr = (access & REMOTE) == 0 ? lasting_region(conn->device->domain, memory, size) : NULL;

	if (mr != NULL)
		return (struct rdma_region){ .mr = mr, .lasts = true };
	return (struct rdma_region){ .mr = ibv_reg_mr(conn->device->domain->pd, memory, size, access) };
}

void rdma_region_free(struct rdma_region *region)
{
	if (region->mr != NULL && !region->lasts)
		ibv_dereg_mr(region->mr);
	*region = (struct rdma_region){ 0 };
}
