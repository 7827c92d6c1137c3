/*
 * A transport's device: where it is told of its connections' completions. An id of its own stands for it at the connection
 * manager: it hears when the device goes, and keeps its context open. librdmacm closes one whose device has gone as soon as no id
 * is left of it and another device has come (ucma_put_device() and sync_devices_list() of its cma.c), whoever else uses it. So that id
 * is the last of all that goes.
 */
#include "common/container_of.h"
#include "common/rdma/rdma_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LOOK_EVERY 8 /* wakes, for more than one event */

void rdma_device_put(struct rdma_device *device)
{
	if (--device->refs > 0)
		return;
	loop_watch_remove(&device->watch);
	if (device->channel != NULL)
		ibv_destroy_comp_channel(device->channel);
	if (device->domain != NULL)
		rdma_domain_put(device->domain);
	if (device->id != NULL)
		rdma_destroy_id(device->id);
	free(device);
}

/* --- its end ------------------------------------------------------------------------------------------------------ */

static struct rdma_conn *find_on(const struct rdma_device *device)
{
	struct rdma_conn *conn = device->rdma->all;

	while (conn != NULL && conn->device != device)
		conn = conn->next;
	return conn;
}

/* It is taken out, reset, or fails: nothing more will come of it. If it comes back it is another one, with another context. */
static void device_gone(struct rdma_device *device)
{
	struct rdma_device **at = &device->rdma->devices;
	struct rdma_conn *conn;

	while (*at != NULL && *at != device)
		at = &(*at)->next;
	if (*at == NULL) /* that was known */
		return;
	*at = device->next;
	loop_watch_remove(&device->watch);
	while ((conn = find_on(device)) != NULL)
		rdma_conn_fail(conn, -ENODEV, "the device is gone");
	rdma_device_put(device);
}

static void device_told(struct rdma_hears *hears, const struct rdma_told *told)
{
	if (told->type == RDMA_CM_EVENT_DEVICE_REMOVAL)
		device_gone(container_of(hears, struct rdma_device, hears));
}

/* --- completions -------------------------------------------------------------------------------------------------- */

/*
 * Each look for another event is a system call, and where one connection is busy there is none. So it is looked for only where there
 * was one last time, and now and then. What is left is told of again at once.
 *
 * A connection may end in here, but not without somebody who holds it: an event of its queues comes before they go.
 */
static void device_ready(struct loop_watch *watch, uint32_t events)
{
	struct rdma_device *device = container_of(watch, struct rdma_device, watch);
	bool all = device->crowded || ++device->wakes % LOOK_EVERY == 0;
	unsigned int taken = 0;
	struct ibv_cq *cq;
	void *context;

	while ((all || taken == 0) && ibv_get_cq_event(device->channel, &cq, &context) == 0) {
		struct rdma_conn *conn = context;

		taken++;
		ibv_ack_cq_events(cq, 1);
		if (conn->state == CONN_DEAD) /* it is leaving */
			continue;
		rdma_conn_hold(conn);
		if (cq == conn->receive_cq)
			rdma_receive(conn);
		else if (conn->state == CONN_OPEN)
			rdma_flush(conn);
		rdma_conn_drop(conn);
	}
	device->crowded = taken > 1;
	if (taken == 0 && (events & (EPOLLERR | EPOLLHUP)) != 0) /* and will be for ever */
		device_gone(device);
}

/* --- its beginning ------------------------------------------------------------------------------------------------ */

/* At that address, which a connection has. */
static int stand_for(struct rdma_device *device, struct ibv_context *context, const struct sockaddr *address)
{
	struct sockaddr_storage at = { 0 };

	memcpy(&at, address, address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	if (at.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&at)->sin6_port = 0;
	else
		((struct sockaddr_in *)&at)->sin_port = 0;
	if (rdma_create_id(device->rdma->channel, &device->id, &device->hears, RDMA_PS_TCP) < 0 ||
	    rdma_bind_addr(device->id, (struct sockaddr *)&at) < 0)
		return -errno;
	return device->id->verbs == context ? 0 : -ENODEV;
}

static int device_begin(struct rdma_device *device, struct rdma_cm_id *id)
{
	int err = stand_for(device, id->verbs, rdma_get_local_addr(id));

	if (err == 0)
		err = rdma_domain_get(id->verbs, &device->domain);
	if (err < 0)
		return err;
	device->channel = ibv_create_comp_channel(id->verbs);
	if (device->channel == NULL)
		return errno != 0 ? -errno : -ENOMEM;
	device->watch.fd = device->channel->fd;
	err = rdma_nonblocking(device->channel->fd);
	return err < 0 ? err : loop_watch_add(device->rdma->loop, &device->watch, EPOLLIN);
}

/* Loops and processes take turns: all on one interrupt would be served by one CPU. */
static int next_vector(const struct ibv_context *context)
{
	static _Atomic unsigned int count;
	const unsigned int n = (unsigned int)getpid() + atomic_fetch_add(&count, 1);

	return context->num_comp_vectors > 0 ? (int)(n % (unsigned int)context->num_comp_vectors) : 0;
}

int rdma_device_get(struct transport_rdma *rdma, struct rdma_cm_id *id, struct rdma_device **ret_device)
{
	struct rdma_device *device = rdma->devices;
	int err;

	while (device != NULL && device->domain->context != id->verbs)
		device = device->next;
	if (device == NULL) {
		device = malloc(sizeof(*device));
		if (device == NULL)
			return -ENOMEM;
		*device = (struct rdma_device){
			.rdma = rdma,
			.refs = 1,
			.hears.told = device_told,
			.watch = { .fd = -1, .ready = device_ready },
		};
		err = device_begin(device, id);
		if (err < 0) {
			rdma_device_put(device);
			return err;
		}
		device->voids = device->domain->voids;
		device->vector = next_vector(id->verbs);
		device->next = rdma->devices;
		rdma->devices = device;
	}
	device->refs++;
	*ret_device = device;
	return 0;
}

void rdma_devices_free(struct transport_rdma *rdma)
{
	while (rdma->devices != NULL) {
		struct rdma_device *device = rdma->devices;

		rdma->devices = device->next;
		rdma_device_put(device);
	}
}

int rdma_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}
