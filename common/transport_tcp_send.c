#include "common/transport_tcp_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <sys/socket.h>

#define SEND_IOV 256 /* pieces of one sendmsg() */

/* One system call: as many pieces as fit, or the pipe that is next. Bytes sent or -errno; ret_asked: of so many. */
static ssize_t send_once(struct tcp_conn *conn, size_t *ret_asked)
{
	struct iovec iov[SEND_IOV];
	struct msghdr message = { .msg_iov = iov };
	const struct transport_item *item = conn->queue.first;
	int count;
	bool more;
	ssize_t sent;

	conn->tcp->stats.sends++;
	*ret_asked = transport_queue_gather(&conn->queue, iov, SEND_IOV, &count, &more);
	if (*ret_asked > 0) {
		message.msg_iovlen = (size_t)count;
		sent = sendmsg(conn->watch.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
		return sent < 0 ? -errno : sent;
	}
	*ret_asked = item->pipe_left;
	sent = splice(item->pipe, NULL, conn->watch.fd, NULL, item->pipe_left,
		      SPLICE_F_NONBLOCK | (item->next != NULL ? SPLICE_F_MORE : 0));
	return sent < 0 ? -errno : sent;
}

/* One system call and what follows from it. Returns whether to go on. */
static bool flush_some(struct tcp_conn *conn)
{
	size_t asked;
	ssize_t sent = send_once(conn, &asked);

	if (sent == -EINTR)
		return true;
	if (sent == 0) { /* sendmsg() has no such answer */
		tcp_conn_fail(conn, -EIO, "there is less to send than was promised");
		return false;
	}
	if (sent < 0 && sent != -EAGAIN) {
		tcp_conn_fail(conn, (int)sent, strerror((int)-sent));
		return false;
	}

	if (sent > 0) {
		conn->tcp->stats.bytes_out += (uint64_t)sent;
		conn->progress_ns = loop_now_ns(conn->tcp->loop);
		transport_queue_sent(&conn->queue, (size_t)sent);
	}
	if (sent == (ssize_t)asked)
		return true;
	if (sent == -EAGAIN && !conn->blocked)
		conn->progress_ns = loop_now_ns(conn->tcp->loop);
	conn->blocked = true;
	return false;
}

/* All is sent. */
static void flushed(struct tcp_conn *conn)
{
	conn->blocked = false;
	transport_queue_trim(&conn->queue);
	if (conn->finishing && !conn->shut) {
		conn->shut = true;
		shutdown(conn->watch.fd, SHUT_WR);
	}
}

void tcp_flush(struct tcp_conn *conn)
{
	bool was_blocked = conn->blocked;

	if (conn->dead || conn->connecting)
		return;
	tcp_conn_hold(conn);
	while (conn->queue.first != NULL && flush_some(conn))
		;
	if (!conn->dead && conn->queue.first == NULL)
		flushed(conn);
	if (!conn->dead && conn->blocked && !was_blocked)
		tcp_conn_arm(conn);
	if (!conn->dead && conn->choked && conn->queue.bytes <= conn->tcp->limits.queue_max / 2)
		tcp_resume_later(conn);
	tcp_conn_watch(conn);
	tcp_conn_drop(conn);
}

/* What an addition to the queue has led to. */
static int added(struct tcp_conn *conn, int err)
{
	if (err == 0)
		tcp_send_later(conn);
	return err;
}

int tcp_send_bytes(struct transport_conn *base, const void *data, size_t size)
{
	struct tcp_conn *conn = tcp_conn_of(base);

	if (conn->dead || conn->finishing)
		return -ECONNRESET;
	return added(conn, transport_queue_add_bytes(&conn->queue, data, size));
}

int tcp_send(struct transport_conn *base, const struct transport_message *message)
{
	struct tcp_conn *conn = tcp_conn_of(base);

	if (conn->dead || conn->finishing)
		return -ECONNRESET;
	return added(conn, transport_queue_add(&conn->queue, NULL, 0, message, false));
}
