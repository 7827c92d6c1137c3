/*
 * Who connects, and what else the connection manager has to tell. Events are copied and acknowledged at once: to destroy
 * what has one outstanding would wait for it.
 */
#include "common/address.h"
#include "common/container_of.h"
#include "common/rdma/rdma_internal.h"
#include "common/transport_rdma.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKLOG  1024
#define ROUTE_MS 2000
#define RETRIES  7                  /* of what is not acknowledged; the most there are */
#define BEGIN_MS 1000               /* for so long nobody loses his place who has come and has not begun */
#define AGAIN_NS (2 * NSEC_PER_SEC) /* where there is no device to listen on */

struct rdma_listener {
	struct rdma_hears hears;
	struct transport_rdma *rdma;
	struct rdma_listener *next;
	const struct transport_listener_events *events;
	void *owner;
	struct rdma_cm_id *id;           /* NULL: its device is gone */
	struct sockaddr_storage address; /* where it has listened, then */
	struct loop_timer again;
};

/* While `incoming` runs. */
struct rdma_incoming {
	struct transport_incoming base; /* first */
	struct rdma_cm_id *id;          /* NULL: accepted */
	struct greeting greeting;
};

static void greeted(struct rdma_conn *conn, const struct greeting *greeting)
{
	conn->credits = credits_begin(greeting->receives);
	conn->segment_max = greeting->segment_size < SEGMENT_SIZE ? greeting->segment_size : SEGMENT_SIZE;
	conn->peer_voids = greeting->voids;
}

/* No receive is ever missing (credits.h): what is refused for want of one is not sent again, but ends the connection. */
struct rdma_conn_param rdma_connection_param(const struct rdma_conn *conn, uint8_t greeting[GREETING_SIZE])
{
	const struct greeting own = {
		.receives = CREDITS_OURS,
		.segment_size = SEGMENT_SIZE,
		.voids = conn->device->voids,
	};

	greeting_encode(&own, greeting);
	return (struct rdma_conn_param){
		.private_data = greeting,
		.private_data_len = GREETING_SIZE,
		.responder_resources = conn->device->domain->reads,
		.initiator_depth = conn->device->domain->reads,
		.retry_count = RETRIES,
		.rnr_retry_count = 0,
	};
}

/* --- who comes ---------------------------------------------------------------------------------------------------- */

static void name_format(struct rdma_cm_id *id, char out[ADDRESS_SIZE])
{
	const struct sockaddr *address = rdma_get_peer_addr(id);
	socklen_t len = address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getnameinfo(address, len, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
		snprintf(out, ADDRESS_SIZE, "?");
		return;
	}
	host[255] = 0;
	address_join(host, (uint16_t)strtoul(port, NULL, 10), out);
}

/* The one that was accepted first of those that have not begun; NULL. Also one that its owner has let go, and that lingers. */
static struct rdma_conn *find_slowest(const struct transport_rdma *rdma)
{
	struct rdma_conn *slowest = NULL;

	for (struct rdma_conn *conn = rdma->all; conn != NULL; conn = conn->next) {
		if (conn->unbegun)
			slowest = conn;
	}
	return slowest;
}

/* One more may come who has proved nothing yet: what he costs is pinned. */
static bool is_room_for_one(struct transport_rdma *rdma)
{
	struct rdma_conn *slowest;

	if (rdma->limits.unbegun_max == 0 || rdma->unbegun < rdma->limits.unbegun_max)
		return true;
	slowest = find_slowest(rdma);
	if (slowest == NULL || loop_now_ns(rdma->loop) - slowest->accepted_ns < BEGIN_MS * NSEC_PER_MSEC)
		return false;
	rdma_conn_fail(slowest, -ETIMEDOUT, "no complete greeting in time, and others wait for its place");
	return true;
}

int rdma_transport_accept(struct transport_incoming *base, const struct transport_events *events, void *owner,
			  struct transport_conn **ret_conn)
{
	struct rdma_incoming *incoming = (struct rdma_incoming *)base;
	struct rdma_cm_id *id = incoming->id;
	uint8_t greeting[GREETING_SIZE];
	struct rdma_conn_param param;
	struct rdma_conn *conn;
	int err;

	assert(id != NULL);
	if (!is_room_for_one(rdma_of(base->transport)))
		return -EBUSY;
	incoming->id = NULL;
	err = rdma_conn_new(rdma_of(base->transport), id, events, owner, &conn);
	if (err < 0)
		return err;
	rdma_conn_accepted(conn);
	greeted(conn, &incoming->greeting);
	err = rdma_conn_set_up(conn);
	if (err == 0) {
		param = rdma_connection_param(conn, greeting);
		/* What was asked for, as far as the device can: the other end's can perhaps less than ours. */
		param.responder_resources = RDMA_MAX_RESP_RES;
		param.initiator_depth = RDMA_MAX_INIT_DEPTH;
		err = rdma_accept(id, &param) < 0 ? -errno : 0;
	}
	if (err < 0) {
		rdma_conn_end(conn);
		return err;
	}
	conn->state = CONN_CONNECTING;
	*ret_conn = &conn->base;
	return 0;
}

static const char *greeting_text(int err)
{
	return err == -EPROTONOSUPPORT ? "it speaks another version of our protocol over this fabric"
				       : "it does not speak our protocol over this fabric";
}

static void somebody_came(struct rdma_listener *listener, const struct rdma_told *told)
{
	struct rdma_incoming incoming = {
		.base.transport = &listener->rdma->base,
		.id = told->id,
		.greeting = told->greeting,
	};
	char name[ADDRESS_SIZE];

	name_format(told->id, name);
	if (told->greeting_err == 0)
		listener->events->incoming(listener->owner, &incoming.base, name);
	else if (listener->events->refused != NULL)
		listener->events->refused(listener->owner, name, greeting_text(told->greeting_err));
	if (incoming.id != NULL) {
		rdma_reject(incoming.id, NULL, 0);
		rdma_destroy_id(incoming.id);
	}
}

/* --- what becomes of a connection --------------------------------------------------------------------------------- */

static void resolved(struct rdma_conn *conn)
{
	if (rdma_resolve_route(conn->id, ROUTE_MS) < 0)
		rdma_conn_fail(conn, -errno, "no route by this fabric");
}

static void routed(struct rdma_conn *conn)
{
	int err = rdma_conn_set_up(conn);

	if (err == 0)
		err = rdma_connect_begin(conn);
	if (err < 0)
		rdma_conn_fail(conn, err, err == -ENOBUFS ? TRANSPORT_RDMA_NOT_PINNED : strerror(-err));
	else
		conn->state = CONN_CONNECTING;
}

static void established(struct rdma_conn *conn, const struct rdma_told *told)
{
	if (conn->credits.peer_receives == 0) { /* we have connected */
		if (told->greeting_err < 0) {
			rdma_conn_fail(conn, told->greeting_err, greeting_text(told->greeting_err));
			return;
		}
		greeted(conn, &told->greeting);
	}
	if (conn->flushed)
		rdma_conn_fail(conn, -ECONNRESET, "closed by the other end");
	rdma_conn_opened(conn);
}

/*
 * The other end has left. On InfiniBand and RoCE one that was connected to, and leaves before the connection manager's third
 * step has reached it, says so by rejecting what stands here already.
 */
static void gone(struct rdma_conn *conn)
{
	if (conn->receive_cq != NULL)
		rdma_receive(conn); /* what came before */
	rdma_conn_lost(conn);
}

void rdma_conn_told(struct rdma_hears *hears, const struct rdma_told *told)
{
	struct rdma_conn *conn = container_of(hears, struct rdma_conn, hears);

	if (conn->state == CONN_DEAD) /* it is leaving */
		return;
	rdma_conn_hold(conn);
	switch (told->type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		resolved(conn);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		routed(conn);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		established(conn, told);
		break;
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
		rdma_conn_fail(conn, -EHOSTUNREACH, "no way to it by this fabric");
		break;
	case RDMA_CM_EVENT_REJECTED:
		if (conn->state == CONN_OPEN)
			gone(conn);
		else
			rdma_conn_fail(conn, -ECONNREFUSED, strerror(ECONNREFUSED));
		break;
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
		rdma_conn_fail(conn, -EHOSTUNREACH, strerror(EHOSTUNREACH));
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		gone(conn);
		break;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		rdma_conn_fail(conn, -ENODEV, "the device is gone");
		break;
	default: /* of no consequence here */
		break;
	}
	rdma_conn_drop(conn);
}

void rdma_cm_ready(struct loop_watch *watch, uint32_t events)
{
	struct transport_rdma *rdma = container_of(watch, struct transport_rdma, watch);
	struct rdma_cm_event *event;

	(void)events;
	while (rdma_get_cm_event(rdma->channel, &event) == 0) {
		const struct rdma_conn_param *param = &event->param.conn;
		struct rdma_told told = { .type = event->event, .greeting_err = -EPROTO };
		struct rdma_hears *hears = event->id->context;

		if (told.type == RDMA_CM_EVENT_CONNECT_REQUEST) {
			hears = event->listen_id->context;
			told.id = event->id;
		}
		if (told.type == RDMA_CM_EVENT_CONNECT_REQUEST || told.type == RDMA_CM_EVENT_ESTABLISHED)
			told.greeting_err =
				greeting_decode(param->private_data, param->private_data_len, &told.greeting);
		rdma_ack_cm_event(event);
		hears->told(hears, &told);
	}
}

/* --- listening ---------------------------------------------------------------------------------------------------- */

static int listen_on(struct rdma_listener *listener, struct sockaddr *address)
{
	struct rdma_cm_id *id;
	int err = 0, only = 1;

	if (rdma_create_id(listener->rdma->channel, &id, &listener->hears, RDMA_PS_TCP) < 0)
		return -errno;
	(void)rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &only, sizeof(only));
	if (rdma_bind_addr(id, address) < 0 || rdma_listen(id, BACKLOG) < 0)
		err = -errno;
	if (err < 0)
		rdma_destroy_id(id);
	else
		listener->id = id;
	return err;
}

static void listen_again(struct loop_timer *timer)
{
	struct rdma_listener *listener = container_of(timer, struct rdma_listener, again);

	if (listen_on(listener, (struct sockaddr *)&listener->address) < 0)
		loop_timer_set(listener->rdma->loop, timer, loop_now_ns(listener->rdma->loop) + AGAIN_NS);
}

/* The device of its address is gone (a wildcard has none). Until there is one again, it is looked for. */
static void listener_told(struct rdma_hears *hears, const struct rdma_told *told)
{
	struct rdma_listener *listener = container_of(hears, struct rdma_listener, hears);
	const struct sockaddr *address;

	if (told->type == RDMA_CM_EVENT_CONNECT_REQUEST)
		somebody_came(listener, told);
	if (told->type != RDMA_CM_EVENT_DEVICE_REMOVAL)
		return;
	address = rdma_get_local_addr(listener->id);
	memcpy(&listener->address, address,
	       address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	rdma_destroy_id(listener->id);
	listener->id = NULL;
	loop_timer_set(listener->rdma->loop, &listener->again, loop_now_ns(listener->rdma->loop) + AGAIN_NS);
	listener->events->paused(listener->owner, -ENODEV);
}

/* At the first of the host's addresses that can be had. */
static int listen_at(struct rdma_listener *listener, const char *host, uint16_t port)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *list = NULL;
	char service[8];
	int err = -EADDRNOTAVAIL;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &list) != 0)
		return -ENOENT;
	for (const struct addrinfo *info = list; info != NULL && err < 0; info = info->ai_next)
		err = listen_on(listener, info->ai_addr);
	freeaddrinfo(list);
	return err;
}

static int listener_new(struct transport_rdma *rdma, const char *host, uint16_t port,
			const struct transport_listener_events *events, void *owner, uint16_t *ret_port)
{
	struct rdma_listener *listener = calloc(1, sizeof(*listener));
	int err;

	if (listener == NULL)
		return -ENOMEM;
	*listener = (struct rdma_listener){
		.hears.told = listener_told,
		.rdma = rdma,
		.events = events,
		.owner = owner,
		.again.expired = listen_again,
	};
	err = listen_at(listener, host, port);
	if (err < 0) {
		free(listener);
		return err;
	}
	listener->next = rdma->listeners;
	rdma->listeners = listener;
	*ret_port = ntohs(rdma_get_src_port(listener->id));
	return 0;
}

/*
 * Of a wildcard IPv4 and IPv6 are listened for each by itself: iWARP's devices hear nobody of the one by the other. Some have no
 * IPv6, nor do some machines.
 */
int rdma_transport_listen(struct transport *base, const char *address, const struct transport_listener_events *events,
			  void *owner, uint16_t *ret_port)
{
	struct transport_rdma *rdma = rdma_of(base);
	uint16_t port, same;
	char host[256];
	bool any;
	int err = address_split(address, host, &port);

	if (err < 0)
		return err;
	any = address_host_is_wildcard(host);
	err = listener_new(rdma, any ? "0.0.0.0" : host, port, events, owner, ret_port);
	if (err == 0 && any)
		(void)listener_new(rdma, "::", *ret_port, events, owner, &same);
	return err;
}

bool rdma_transport_serves(struct transport *base, const char *host)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	struct addrinfo *info;
	struct rdma_cm_id *id;
	bool serves = false;

	if (getaddrinfo(host, NULL, &hints, &info) != 0)
		return false;
	if (rdma_create_id(rdma_of(base)->channel, &id, NULL, RDMA_PS_TCP) == 0) {
		serves = rdma_bind_addr(id, info->ai_addr) == 0 && id->verbs != NULL;
		rdma_destroy_id(id);
	}
	freeaddrinfo(info);
	return serves;
}

void rdma_listeners_free(struct transport_rdma *rdma)
{
	while (rdma->listeners != NULL) {
		struct rdma_listener *listener = rdma->listeners;

		rdma->listeners = listener->next;
		loop_timer_cancel(&listener->again);
		if (listener->id != NULL)
			rdma_destroy_id(listener->id);
		free(listener);
	}
}
