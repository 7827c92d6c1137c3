/*
 * Memory that is registered once, with a device when the first connection there moves bulk in or out of it, until the
 * transport's end. It may be read and written by the device for us, and by nobody from afar: so its key needs no guarding, and
 * nothing is to be fenced when a call is over. When a connection's queue pair is gone nothing of it reaches this memory.
 */
#include "common/rdma/rdma_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct kept_region {
	struct kept_region *next;
	const struct rdma_device *device;
	struct ibv_mr *region;
};

struct rdma_kept {
	uint8_t *memory;
	size_t size;
	struct kept_region *regions;
};

/* How many of them begin no later than there. */
static size_t count_until(const struct transport_rdma *rdma, const void *memory)
{
	size_t low = 0, high = rdma->kept_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if ((uintptr_t)rdma->kept[middle].memory <= (uintptr_t)memory)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int rdma_transport_keep(struct transport *base, void *memory, size_t size)
{
	struct transport_rdma *rdma = rdma_of(base);
	size_t at = count_until(rdma, memory);

	if (rdma->kept_count == rdma->kept_room) {
		size_t room = rdma->kept_room > 0 ? 2 * rdma->kept_room : 16;
		struct rdma_kept *kept = realloc(rdma->kept, room * sizeof(*kept));

		if (kept == NULL)
			return -ENOMEM;
		rdma->kept = kept;
		rdma->kept_room = room;
	}
	memmove(&rdma->kept[at + 1], &rdma->kept[at], (rdma->kept_count - at) * sizeof(*rdma->kept));
	rdma->kept[at] = (struct rdma_kept){ .memory = memory, .size = size };
	rdma->kept_count++;
	return 0;
}

static struct rdma_kept *kept_of(const struct transport_rdma *rdma, const void *memory, size_t size)
{
	size_t count = count_until(rdma, memory);
	struct rdma_kept *kept = count > 0 ? &rdma->kept[count - 1] : NULL;
	uintptr_t offset = kept != NULL ? (uintptr_t)memory - (uintptr_t)kept->memory : 0;

	return kept != NULL && offset <= kept->size && size <= kept->size - offset ? kept : NULL;
}

static struct ibv_mr *region_add(struct rdma_kept *kept, const struct rdma_device *device)
{
	struct kept_region *added = malloc(sizeof(*added));

	if (added == NULL)
		return NULL;
	*added = (struct kept_region){ kept->regions, device, NULL };
	added->region = ibv_reg_mr(device->pd, kept->memory, kept->size, IBV_ACCESS_LOCAL_WRITE);
	if (added->region == NULL) {
		free(added);
		return NULL;
	}
	kept->regions = added;
	return added->region;
}

struct ibv_mr *rdma_kept_region(struct rdma_conn *conn, const void *memory, size_t size)
{
	struct rdma_kept *kept = kept_of(conn->rdma, memory, size);
	struct rdma_device *device;

	if (kept == NULL || rdma_device_get(conn->rdma, conn->id->verbs, &device) < 0)
		return NULL;
	for (const struct kept_region *at = kept->regions; at != NULL; at = at->next)
		if (at->device == device)
			return at->region;
	return region_add(kept, device);
}

bool rdma_region_is_kept(const struct transport_rdma *rdma, const struct ibv_mr *region)
{
	const struct rdma_kept *kept = kept_of(rdma, region->addr, region->length);
	const struct kept_region *at = kept != NULL ? kept->regions : NULL;

	while (at != NULL && at->region != region)
		at = at->next;
	return at != NULL;
}

void rdma_kept_free(struct transport_rdma *rdma)
{
	for (size_t i = 0; i < rdma->kept_count; i++) {
		while (rdma->kept[i].regions != NULL) {
			struct kept_region *region = rdma->kept[i].regions;

			rdma->kept[i].regions = region->next;
			ibv_dereg_mr(region->region);
			free(region);
		}
	}
	free(rdma->kept);
	rdma->kept = NULL;
	rdma->kept_count = rdma->kept_room = 0;
}
