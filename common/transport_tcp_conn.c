#include "common/container_of.h"
#include "common/transport_tcp_internal.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define FINISH_MS       2000
#define STALL_FULL_PART 6 /* see struct transport_limits */

/* --- its end ------------------------------------------------------------------------------------------------------ */

void tcp_conn_hold(struct tcp_conn *conn)
{
	conn->refs++;
}

void tcp_conn_drop(struct tcp_conn *conn)
{
	assert(conn->refs > 0);
	if (--conn->refs == 0) {
		assert(conn->dead);
		free(conn);
	}
}

void tcp_conn_end(struct tcp_conn *conn)
{
	struct transport_tcp *tcp = conn->tcp;

	if (conn->dead)
		return;
	conn->dead = true;
	conn->events = NULL;

	loop_watch_remove(&conn->watch);
	loop_timer_cancel(&conn->timer);
	close(conn->watch.fd);
	if (conn->previous != NULL)
		conn->previous->next = conn->next;
	else
		tcp->all = conn->next;
	if (conn->next != NULL)
		conn->next->previous = conn->previous;

	free(conn->stash);
	conn->stash = NULL;
	conn->bulk = NULL;
	transport_queue_clear(&conn->queue);
	tcp_conn_drop(conn);
}

void tcp_conn_fail(struct tcp_conn *conn, int err, const char *text)
{
	const struct transport_events *events = conn->events;
	void *owner = conn->owner;

	if (conn->dead)
		return;
	tcp_conn_end(conn);
	if (events != NULL)
		events->closed(owner, err, text);
}

/* --- deadlines ---------------------------------------------------------------------------------------------------- */

/* When the next deadline passes; UINT64_MAX: there is none. ret_text says what has happened then. */
static uint64_t conn_due(const struct tcp_conn *conn, const char **ret_text)
{
	const struct transport_limits *limits = &conn->tcp->limits;
	uint64_t due = UINT64_MAX;

	if (conn->opening_until_ns != 0) {
		due = conn->opening_until_ns;
		*ret_text = conn->connecting ? "no connection in time" : "no complete greeting in time";
	}
	if (conn->partial_since_ns != 0 && limits->frame_ms != 0 &&
	    conn->partial_since_ns + limits->frame_ms * NSEC_PER_MSEC < due) {
		due = conn->partial_since_ns + limits->frame_ms * NSEC_PER_MSEC;
		*ret_text = "silent in the middle of a message";
	}
	if (conn->blocked && limits->stall_ms != 0) {
		bool full = limits->queue_max != 0 && conn->queue.bytes > limits->queue_max;
		uint64_t stall_ns = limits->stall_ms * NSEC_PER_MSEC / (full ? STALL_FULL_PART : 1);

		if (conn->progress_ns + stall_ns < due) {
			due = conn->progress_ns + stall_ns;
			*ret_text = "does not read what is sent to it";
		}
	}
	return due;
}

/* Deadlines move with every message, the timer seldom: when it goes off too early it is set anew. */
void tcp_conn_arm(struct tcp_conn *conn)
{
	const char *text = NULL;
	uint64_t due = conn_due(conn, &text);

	if (due != UINT64_MAX && (conn->timer.loop == NULL || conn->timer.at_ns > due))
		loop_timer_set(conn->tcp->loop, &conn->timer, due);
}

static void conn_timer(struct loop_timer *timer)
{
	struct tcp_conn *conn = container_of(timer, struct tcp_conn, timer);
	const char *text = NULL;

	tcp_conn_hold(conn);
	/* Perhaps it was this thread that did not come round: what has arrived in time counts. */
	if (conn->partial_since_ns != 0 && conn_due(conn, &text) <= loop_now_ns(conn->tcp->loop))
		tcp_receive(conn);
	if (!conn->dead && conn_due(conn, &text) <= loop_now_ns(conn->tcp->loop))
		tcp_conn_fail(conn, -ETIMEDOUT, text);
	if (!conn->dead)
		tcp_conn_arm(conn);
	tcp_conn_watch(conn);
	tcp_conn_drop(conn);
}

/* It has memory for what it does not send. */
static bool is_silent(const struct tcp_conn *conn, uint64_t idle_ns)
{
	return conn->bulk != NULL && conn->bulk_left > 0 && !conn->paused && !conn->choked &&
	       loop_now_ns(conn->tcp->loop) - conn->received_ns >= idle_ns;
}

/* It has memory with what it does not take. */
static bool is_deaf(const struct tcp_conn *conn, uint64_t idle_ns)
{
	return conn->blocked && loop_now_ns(conn->tcp->loop) - conn->progress_ns >= DEAF_TIMES * idle_ns &&
	       transport_queue_has_bulk(&conn->queue);
}

static struct tcp_conn *find_idle(const struct transport_tcp *tcp, uint64_t idle_ns)
{
	struct tcp_conn *conn = tcp->all;

	while (conn != NULL && !is_silent(conn, idle_ns) && !is_deaf(conn, idle_ns))
		conn = conn->next;
	return conn;
}

/* What comes up may end any connection: it is begun anew after each. */
void tcp_reclaim(struct transport *base, unsigned int idle_ms)
{
	struct transport_tcp *tcp = tcp_of(base);
	const uint64_t idle_ns = idle_ms * NSEC_PER_MSEC;
	struct tcp_conn *conn;

	while ((conn = find_idle(tcp, idle_ns)) != NULL) {
		tcp_conn_hold(conn);
		/* Perhaps it was this thread that did not come round. */
		if (is_silent(conn, idle_ns))
			tcp_receive(conn);
		if (!conn->dead && is_deaf(conn, idle_ns))
			tcp_flush(conn);
		if (!conn->dead && is_silent(conn, idle_ns))
			tcp_conn_fail(conn, -ETIMEDOUT,
				      "silent in the middle of a message, and others wait for its memory");
		else if (!conn->dead && is_deaf(conn, idle_ns))
			tcp_conn_fail(conn, -ETIMEDOUT,
				      "does not read what is sent to it, and others wait for its memory");
		tcp_conn_watch(conn);
		tcp_conn_drop(conn);
	}
}

/* --- what the loop tells it --------------------------------------------------------------------------------------- */

void tcp_conn_watch(struct tcp_conn *conn)
{
	uint32_t events = 0;

	if (conn->dead)
		return;
	if (conn->connecting || conn->blocked)
		events |= EPOLLOUT;
	if (!conn->connecting && !conn->paused && !conn->choked)
		events |= EPOLLIN;
	if (events != conn->watched) {
		conn->watched = events;
		if (loop_watch_change(&conn->watch, events) < 0)
			tcp_conn_fail(conn, -ENOMEM, "out of memory");
	}
}

static void conn_connected(struct tcp_conn *conn)
{
	int err = 0;
	socklen_t size = sizeof(err);

	if (getsockopt(conn->watch.fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0)
		err = errno;
	if (err != 0) {
		tcp_conn_fail(conn, -err, strerror(err));
		return;
	}
	conn->connecting = false;
	tcp_flush(conn);
}

static void conn_ready(struct loop_watch *watch, uint32_t events)
{
	struct tcp_conn *conn = container_of(watch, struct tcp_conn, watch);

	tcp_conn_hold(conn);
	if (conn->connecting) {
		conn_connected(conn);
	} else {
		if (events & EPOLLOUT)
			tcp_flush(conn);
		if (!conn->dead && (events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
			if (!conn->paused && !conn->choked)
				tcp_receive(conn);
			else if (events & (EPOLLERR | EPOLLHUP))
				tcp_conn_fail(conn, -ECONNRESET, "closed by the other end");
		}
	}
	tcp_conn_watch(conn);
	tcp_conn_drop(conn);
}

/* --- the owner's calls -------------------------------------------------------------------------------------------- */

static void tcp_begin(struct transport_conn *base, const struct transport_events *events, void *owner)
{
	struct tcp_conn *conn = tcp_conn_of(base);

	assert(!conn->framed);
	conn->framed = true;
	conn->opening_until_ns = 0;
	conn->events = events;
	conn->owner = owner;
}

static void tcp_resume(struct transport_conn *base)
{
	struct tcp_conn *conn = tcp_conn_of(base);

	if (!conn->dead && conn->paused)
		tcp_resume_later(conn);
}

static int tcp_forget(struct transport_conn *base, const void *arg, const void *bulk_in)
{
	struct tcp_conn *conn = tcp_conn_of(base);
	int err = arg != NULL ? transport_queue_forget(&conn->queue, arg) : 0;

	if (err == 0 && conn->bulk_left > 0 && bulk_in != NULL && conn->bulk_base == bulk_in)
		conn->bulk = NULL;
	return err;
}

static size_t tcp_queued(const struct transport_conn *base)
{
	return ((const struct tcp_conn *)base)->queue.bytes;
}

static int tcp_local_host(const struct transport_conn *base, char *ret_host, size_t size)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);

	if (getsockname(((const struct tcp_conn *)base)->watch.fd, (struct sockaddr *)&address, &len) < 0)
		return -errno;
	if (getnameinfo((struct sockaddr *)&address, len, ret_host, (socklen_t)size, NULL, 0, NI_NUMERICHOST) != 0)
		return -EINVAL;
	return 0;
}

static void tcp_finish(struct transport_conn *base)
{
	struct tcp_conn *conn = tcp_conn_of(base);

	if (conn->dead)
		return;
	conn->events = NULL;
	conn->finishing = true;
	conn->paused = conn->choked = false;
	conn->bulk = NULL;
	conn->need = 0;
	conn->partial_since_ns = 0;
	conn->opening_until_ns = loop_now_ns(conn->tcp->loop) + FINISH_MS * NSEC_PER_MSEC;
	tcp_conn_arm(conn);
	tcp_send_later(conn);
}

static void tcp_close(struct transport_conn *base)
{
	tcp_conn_end(tcp_conn_of(base));
}

static const struct transport_conn_ops conn_ops = {
	.send_bytes = tcp_send_bytes,
	.begin = tcp_begin,
	.send = tcp_send,
	.resume = tcp_resume,
	.forget = tcp_forget,
	.queued = tcp_queued,
	.local_host = tcp_local_host,
	.finish = tcp_finish,
	.close = tcp_close,
	.abandon = tcp_close,
};

/* --- its beginning ------------------------------------------------------------------------------------------------ */

/* Small messages leave at once; a machine that has vanished is noticed by the kernel, which counts in seconds. */
static void socket_tune(int fd, const struct transport_limits *limits)
{
	const int keepalive_ms = (int)transport_keepalive_ms(limits), unacknowledged_ms = 2 * keepalive_ms;
	const int idle_s = keepalive_ms >= 1000 ? keepalive_ms / 1000 : 1, interval_s = (idle_s + 2) / 3;
	const int one = 1, count = 3;

	/* None of these can fail on a TCP socket, and the connection works without. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof(unacknowledged_ms));
}

void transport_tcp_unpaced(int fd)
{
	static const char cubic[] = "cubic";
	char now[16] = "";
	socklen_t size = sizeof(now) - 1;

	/* Not allowed to choose: it works, only slower. */
	if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, now, &size) == 0 && strncmp(now, "bbr", 3) == 0)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cubic, sizeof(cubic) - 1);
}

int tcp_conn_new(struct transport_tcp *tcp, int fd, bool connecting, const struct transport_events *events, void *owner,
		 struct transport_conn **ret_conn)
{
	struct tcp_conn *conn = calloc(1, sizeof(*conn));
	int err;

	if (conn == NULL) {
		close(fd);
		return -ENOMEM;
	}
	socket_tune(fd, &tcp->limits);
	*conn = (struct tcp_conn){
		.base.ops = &conn_ops,
		.tcp = tcp,
		.events = events,
		.owner = owner,
		.refs = 1,
		.watch = { .fd = fd, .ready = conn_ready },
		.timer.expired = conn_timer,
		.connecting = connecting,
		.watched = connecting ? EPOLLOUT : EPOLLIN,
		.queue.pool = &tcp->items,
	};
	if (tcp->limits.opening_ms != 0)
		conn->opening_until_ns = loop_now_ns(tcp->loop) + tcp->limits.opening_ms * NSEC_PER_MSEC;
	err = loop_watch_add(tcp->loop, &conn->watch, conn->watched);
	if (err < 0) {
		close(fd);
		free(conn);
		return err;
	}

	conn->next = tcp->all;
	if (tcp->all != NULL)
		tcp->all->previous = conn;
	tcp->all = conn;
	tcp_conn_arm(conn);
	*ret_conn = &conn->base;
	return 0;
}
