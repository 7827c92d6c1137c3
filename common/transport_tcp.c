#include "common/container_of.h"
#include "common/transport_tcp_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* --- whose turn it is --------------------------------------------------------------------------------------------- */

void tcp_send_later(struct tcp_conn *conn)
{
	struct transport_tcp *tcp = conn->tcp;

	if (conn->dirty || conn->blocked || conn->connecting)
		return;
	conn->dirty = true;
	tcp_conn_hold(conn);
	conn->dirty_next = tcp->dirty;
	tcp->dirty = conn;
	if (!tcp->hooked) {
		tcp->hooked = true;
		loop_hook_add(tcp->loop, LOOP_STAGE_SEND, &tcp->hook);
	}
}

static void send_hook(struct loop_hook *hook)
{
	struct transport_tcp *tcp = container_of(hook, struct transport_tcp, hook);

	tcp->hooked = false;
	loop_hook_remove(tcp->loop, LOOP_STAGE_SEND, hook);
	while (tcp->dirty != NULL) {
		struct tcp_conn *conn = tcp->dirty;

		tcp->dirty = conn->dirty_next;
		conn->dirty = false;
		tcp_flush(conn);
		tcp_conn_drop(conn);
	}
}

void tcp_resume_later(struct tcp_conn *conn)
{
	struct transport_tcp *tcp = conn->tcp;

	if (conn->resumed)
		return;
	conn->resumed = true;
	tcp_conn_hold(conn);
	conn->resumed_next = NULL;
	if (tcp->resumed_last != NULL)
		tcp->resumed_last->resumed_next = conn;
	else
		tcp->resumed_first = conn;
	tcp->resumed_last = conn;
	loop_timer_set(tcp->loop, &tcp->resume_timer, loop_now_ns(tcp->loop));
}

static void resume_timer(struct loop_timer *timer)
{
	struct transport_tcp *tcp = container_of(timer, struct transport_tcp, resume_timer);
	struct tcp_conn *resumed = tcp->resumed_first;

	/* Those who are told "not now" again, and want to be resumed again, get into a new list. */
	tcp->resumed_first = tcp->resumed_last = NULL;
	while (resumed != NULL) {
		struct tcp_conn *conn = resumed;

		resumed = conn->resumed_next;
		conn->resumed = false;
		conn->paused = conn->choked = false;
		if (!conn->dead) {
			tcp_receive_kept(conn);
			tcp_conn_watch(conn);
		}
		tcp_conn_drop(conn);
	}
}

/* --- the transport ------------------------------------------------------------------------------------------------ */

static int tcp_connect(struct transport *base, const struct sockaddr *address, socklen_t address_len,
		       const struct transport_events *events, void *owner, struct transport_conn **ret_conn)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	transport_tcp_unpaced(fd);
	if (connect(fd, address, address_len) < 0 && errno != EINPROGRESS) {
		int err = -errno;

		close(fd);
		return err;
	}
	return tcp_conn_new(tcp_of(base), fd, true, events, owner, ret_conn);
}

static void tcp_stats(const struct transport *base, struct transport_stats *ret_stats)
{
	*ret_stats = ((const struct transport_tcp *)base)->stats;
}

static void tcp_free(struct transport *base)
{
	struct transport_tcp *tcp = tcp_of(base);

	tcp_listeners_free(tcp);
	while (tcp->all != NULL)
		tcp_conn_end(tcp->all);
	loop_timer_cancel(&tcp->resume_timer);
	if (tcp->hooked)
		loop_hook_remove(tcp->loop, LOOP_STAGE_SEND, &tcp->hook);
	while (tcp->dirty != NULL) {
		struct tcp_conn *conn = tcp->dirty;

		tcp->dirty = conn->dirty_next;
		tcp_conn_drop(conn);
	}
	while (tcp->resumed_first != NULL) {
		struct tcp_conn *conn = tcp->resumed_first;

		tcp->resumed_first = conn->resumed_next;
		tcp_conn_drop(conn);
	}
	transport_item_pool_release(&tcp->items);
	free(tcp);
}

static bool tcp_serves(struct transport *base, const char *host)
{
	(void)base, (void)host;
	return true;
}

static const struct transport_ops tcp_ops = {
	.listen = tcp_listen,
	.accept = tcp_accept,
	.connect = tcp_connect,
	.serves = tcp_serves,
	.stats = tcp_stats,
	.reclaim = tcp_reclaim,
	.free = tcp_free,
};

int transport_tcp_new(struct loop *loop, const struct transport_limits *limits, struct transport **ret_transport)
{
	struct transport_tcp *tcp = calloc(1, sizeof(*tcp));

	if (tcp == NULL)
		return -ENOMEM;
	tcp->base.ops = &tcp_ops;
	tcp->loop = loop;
	tcp->limits = *limits;
	tcp->hook.run = send_hook;
	tcp->resume_timer.expired = resume_timer;
	*ret_transport = &tcp->base;
	return 0;
}
