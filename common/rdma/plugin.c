#include "common/container_of.h"
#include "common/rdma/rdma_internal.h"
#include "common/transport_rdma.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- whose turn it is --------------------------------------------------------------------------------------------- */

void rdma_send_later(struct rdma_conn *conn)
{
	struct transport_rdma *rdma = conn->rdma;

	if (conn->dirty || conn->state != CONN_OPEN || !conn->may_begin)
		return;
	conn->dirty = true;
	rdma_conn_hold(conn);
	conn->dirty_next = rdma->dirty;
	rdma->dirty = conn;
	if (!rdma->hooked) {
		rdma->hooked = true;
		loop_hook_add(rdma->loop, LOOP_STAGE_SEND, &rdma->hook);
	}
}

static void send_hook(struct loop_hook *hook)
{
	struct transport_rdma *rdma = container_of(hook, struct transport_rdma, hook);

	rdma->hooked = false;
	loop_hook_remove(rdma->loop, LOOP_STAGE_SEND, hook);
	while (rdma->dirty != NULL) {
		struct rdma_conn *conn = rdma->dirty;

		rdma->dirty = conn->dirty_next;
		conn->dirty = false;
		rdma_flush(conn);
		rdma_conn_drop(conn);
	}
}

void rdma_resume_later(struct rdma_conn *conn)
{
	struct transport_rdma *rdma = conn->rdma;

	if (conn->resumed)
		return;
	conn->resumed = true;
	rdma_conn_hold(conn);
	conn->resumed_next = NULL;
	if (rdma->resumed_last != NULL)
		rdma->resumed_last->resumed_next = conn;
	else
		rdma->resumed_first = conn;
	rdma->resumed_last = conn;
	loop_timer_set(rdma->loop, &rdma->resume_timer, loop_now_ns(rdma->loop));
}

static void resume_timer(struct loop_timer *timer)
{
	struct transport_rdma *rdma = container_of(timer, struct transport_rdma, resume_timer);
	struct rdma_conn *resumed = rdma->resumed_first;

	/* Those who are told "not now" again, and want to be resumed again, get into a new list. */
	rdma->resumed_first = rdma->resumed_last = NULL;
	while (resumed != NULL) {
		struct rdma_conn *conn = resumed;

		resumed = conn->resumed_next;
		conn->resumed = false;
		if (conn->goes_on) {
			conn->paused = conn->choked = conn->goes_on = false;
			conn->received_ns = loop_now_ns(rdma->loop); /* what it waited with could not come meanwhile */
		}
		rdma_receive_kept(conn);
		rdma_conn_drop(conn);
	}
}

/* --- the transport ------------------------------------------------------------------------------------------------ */

static void rdma_transport_stats(const struct transport *base, struct transport_stats *ret_stats)
{
	*ret_stats = ((const struct transport_rdma *)base)->stats;
}

static void transport_destroy(struct transport_rdma *rdma)
{
	loop_watch_remove(&rdma->watch);
	loop_watch_remove(&rdma->connects);
	if (rdma->connects.fd >= 0)
		close(rdma->connects.fd);
	if (rdma->channel != NULL)
		rdma_destroy_event_channel(rdma->channel);
	free(rdma);
}

static void rdma_transport_free(struct transport *base)
{
	struct transport_rdma *rdma = rdma_of(base);

	rdma_listeners_free(rdma);
	while (rdma->all != NULL)
		rdma_conn_end(rdma->all);
	rdma_leave_all(rdma);
	loop_timer_cancel(&rdma->resume_timer);
	if (rdma->hooked)
		loop_hook_remove(rdma->loop, LOOP_STAGE_SEND, &rdma->hook);
	while (rdma->dirty != NULL) {
		struct rdma_conn *conn = rdma->dirty;

		rdma->dirty = conn->dirty_next;
		rdma_conn_drop(conn);
	}
	while (rdma->resumed_first != NULL) {
		struct rdma_conn *conn = rdma->resumed_first;

		rdma->resumed_first = conn->resumed_next;
		rdma_conn_drop(conn);
	}
	rdma_devices_free(rdma);
	transport_item_pool_release(&rdma->items);
	transport_destroy(rdma);
}

static const struct transport_ops rdma_ops = {
	.listen = rdma_transport_listen,
	.accept = rdma_transport_accept,
	.connect = rdma_transport_connect,
	.serves = rdma_transport_serves,
	.stats = rdma_transport_stats,
	.reclaim = rdma_transport_reclaim,
	.free = rdma_transport_free,
};

/* Of those that connect reliably: not EFA, nor usNIC. */
static bool any_device(void)
{
	int count = 0;
	struct ibv_device **list = ibv_get_device_list(&count);
	bool any = false;

	for (int i = 0; list != NULL && i < count; i++)
		any |= list[i]->transport_type == IBV_TRANSPORT_IB || list[i]->transport_type == IBV_TRANSPORT_IWARP;
	if (list != NULL)
		ibv_free_device_list(list);
	return any;
}

__attribute__((visibility("default"))) int strake_transport_rdma_new(struct loop *loop,
								     const struct transport_limits *limits,
								     struct transport **ret_transport)
{
	struct transport_rdma *rdma;
	int err;

	if (!any_device())
		return -ENODEV;
	rdma = calloc(1, sizeof(*rdma));
	if (rdma == NULL)
		return -ENOMEM;
	rdma->base.ops = &rdma_ops;
	rdma->loop = loop;
	rdma->limits = *limits;
	rdma->hook.run = send_hook;
	rdma->resume_timer.expired = resume_timer;
	rdma->channel = rdma_create_event_channel();
	err = rdma->channel == NULL ? channel_error() : rdma_nonblocking(rdma->channel->fd);
	rdma->connects =
		(struct loop_watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = rdma_connects_ready };
	if (err == 0 && rdma->connects.fd < 0)
		err = -errno;
	if (err == 0)
		err = loop_watch_add(loop, &rdma->connects, EPOLLIN);
	if (err == 0) {
		rdma->watch = (struct loop_watch){ .fd = rdma->channel->fd, .ready = rdma_cm_ready };
		err = loop_watch_add(loop, &rdma->watch, EPOLLIN);
	}
	if (err < 0) {
		transport_destroy(rdma);
		return err;
	}
	*ret_transport = &rdma->base;
	return 0;
}
