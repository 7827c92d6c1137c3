/*
 * Listening sockets. Each accepts all that wait; when the process has no descriptors left it pauses for
 * LISTENER_PAUSE_MS, so that it does not spin.
 */
#include "common/address.h"
#include "common/container_of.h"
#include "common/transport_tcp_internal.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTENER_PAUSE_MS 200

struct tcp_listener {
	struct transport_tcp *tcp;
	struct tcp_listener *next;
	const struct transport_listener_events *events;
	void *owner;
	struct loop_watch watch;
	struct loop_timer timer; /* set while it pauses */
};

/* While `incoming` runs. */
struct tcp_incoming {
	struct transport_incoming base; /* first */
	int fd;                         /* -1: accepted */
};

static void listener_pause(struct tcp_listener *listener, int err)
{
	struct loop *loop = listener->tcp->loop;

	loop_timer_set(loop, &listener->timer, loop_now_ns(loop) + LISTENER_PAUSE_MS * NSEC_PER_MSEC);
	if (loop_watch_change(&listener->watch, 0) == 0)
		listener->events->paused(listener->owner, err);
}

static void listener_goes_on(struct loop_timer *timer)
{
	struct tcp_listener *listener = container_of(timer, struct tcp_listener, timer);

	if (loop_watch_change(&listener->watch, EPOLLIN) < 0)
		listener_pause(listener, -ENOMEM);
}

static void name_format(const struct sockaddr_storage *address, socklen_t len, char out[ADDRESS_SIZE])
{
	char host[NI_MAXHOST], port[NI_MAXSERV];
	unsigned long number;

	if (getnameinfo((const struct sockaddr *)address, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
		snprintf(out, ADDRESS_SIZE, "?");
		return;
	}
	number = strtoul(port, NULL, 10);
	host[255] = 0;
	address_join(host, (uint16_t)number, out);
}

int tcp_accept(struct transport_incoming *base, const struct transport_events *events, void *owner,
	       struct transport_conn **ret_conn)
{
	struct tcp_incoming *incoming = (struct tcp_incoming *)base;
	int fd = incoming->fd;

	assert(fd >= 0);
	incoming->fd = -1;
	return tcp_conn_new(tcp_of(base->transport), fd, false, events, owner, ret_conn);
}

static void somebody_came(struct tcp_listener *listener, int fd, const struct sockaddr_storage *address, socklen_t len)
{
	struct tcp_incoming incoming = { .base.transport = &listener->tcp->base, .fd = fd };
	char name[ADDRESS_SIZE];

	name_format(address, len, name);
	listener->events->incoming(listener->owner, &incoming.base, name);
	if (incoming.fd >= 0)
		close(incoming.fd);
}

static void listener_ready(struct loop_watch *watch, uint32_t events)
{
	struct tcp_listener *listener = container_of(watch, struct tcp_listener, watch);
	struct sockaddr_storage address;

	(void)events;
	for (;;) {
		socklen_t len = sizeof(address);
		int fd = accept4(watch->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			somebody_came(listener, fd, &address, len);
			continue;
		}
		switch (errno) {
		case EAGAIN:
			return;
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			listener_pause(listener, -errno);
			return;
		default: /* an error of the one connection, which is gone: accept(2) */
			continue;
		}
	}
}

static int listen_on(const struct addrinfo *info, int *ret_fd, uint16_t *ret_port)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	const int one = 1, zero = 0;
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	transport_tcp_unpaced(fd);
	/* A restarted server takes its port at once; "::" takes IPv4 too. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    (info->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) < 0) ||
	    bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	*ret_port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&address)->sin6_port
							: ((struct sockaddr_in *)(void *)&address)->sin_port);
	*ret_fd = fd;
	return 0;
}

/* At the first of the host's addresses that can be had. */
static int listen_at(const char *host, uint16_t port, int *ret_fd, uint16_t *ret_port)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *list = NULL;
	char service[8];
	int err = -EADDRNOTAVAIL;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &list) != 0)
		return -ENOENT;
	for (const struct addrinfo *info = list; info != NULL && err < 0; info = info->ai_next)
		err = listen_on(info, ret_fd, ret_port);
	freeaddrinfo(list);
	return err;
}

static int listen_anywhere(uint16_t port, int *ret_fd, uint16_t *ret_port)
{
	int err = listen_at("::", port, ret_fd, ret_port);

	if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL) /* a machine without IPv6 */
		err = listen_at("0.0.0.0", port, ret_fd, ret_port);
	return err;
}

int tcp_listen(struct transport *base, const char *address, const struct transport_listener_events *events, void *owner,
	       uint16_t *ret_port)
{
	struct transport_tcp *tcp = tcp_of(base);
	struct tcp_listener *listener;
	char host[256];
	uint16_t port;
	int fd = -1, err;

	err = address_split(address, host, &port);
	if (err < 0)
		return err;
	if (host[0] == 0 || strcmp(host, "*") == 0)
		err = listen_anywhere(port, &fd, &port);
	else
		err = listen_at(host, port, &fd, &port);
	if (err < 0)
		return err;

	listener = calloc(1, sizeof(*listener));
	if (listener == NULL) {
		close(fd);
		return -ENOMEM;
	}
	listener->tcp = tcp;
	listener->events = events;
	listener->owner = owner;
	listener->watch = (struct loop_watch){ .fd = fd, .ready = listener_ready };
	listener->timer.expired = listener_goes_on;
	err = loop_watch_add(tcp->loop, &listener->watch, EPOLLIN);
	if (err < 0) {
		close(fd);
		free(listener);
		return err;
	}
	listener->next = tcp->listeners;
	tcp->listeners = listener;
	*ret_port = port;
	return 0;
}

void tcp_listeners_free(struct transport_tcp *tcp)
{
	while (tcp->listeners != NULL) {
		struct tcp_listener *listener = tcp->listeners;

		tcp->listeners = listener->next;
		loop_watch_remove(&listener->watch);
		loop_timer_cancel(&listener->timer);
		close(listener->watch.fd);
		free(listener);
	}
}
