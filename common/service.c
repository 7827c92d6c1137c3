#include "common/service_internal.h"

#include "common/container_of.h"
#include "common/logger.h"
#include "common/resolve.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS_MAX_DEFAULT 16384
/* Nobody fills the disk by being refused: so many lines at once, then one more after so long, some MiB a day in all. */
#define LOG_LINES_AT_ONCE 100
#define LOG_LINE_NS       (6 * NSEC_PER_SEC)
#define PORT_TRIES        10

/* --- what is said of others --------------------------------------------------------------------------------------- */

static bool log_line_is_free(struct service_log_limit *limit, uint64_t now_ns)
{
	uint64_t back = (now_ns - limit->since_ns) / LOG_LINE_NS;

	if (back >= limit->lines)
		*limit = (struct service_log_limit){ .since_ns = now_ns, .dropped = limit->dropped };
	else
		*limit = (struct service_log_limit){ limit->since_ns + back * LOG_LINE_NS,
						     limit->lines - (unsigned int)back, limit->dropped };
	return limit->lines < LOG_LINES_AT_ONCE;
}

void service_warn(struct service *service, const char *format, ...)
{
	struct service_log_limit *limit = &service->log_limit;
	char line[512];
	va_list args;

	if (!log_line_is_free(limit, loop_now_ns(service->loop))) {
		limit->dropped++;
		return;
	}
	limit->lines++;
	if (limit->dropped > 0)
		log_warning("%u lines like the last ones not shown", limit->dropped);
	limit->dropped = 0;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_warning("%s", line);
}

static void listen_again(struct loop_timer *timer);

/* --- its life ----------------------------------------------------------------------------------------------------- */

int service_new(struct loop *loop, const struct service_config *config, struct service **ret_service)
{
	const struct transport_limits limits = {
		.opening_ms = OPENING_DEADLINE_MS,
		.frame_ms = config->frame_deadline_ms != 0 ? config->frame_deadline_ms : SERVICE_FRAME_DEADLINE_MS,
		.stall_ms = config->stall_ms != 0 ? config->stall_ms : SERVICE_STALL_MS,
		.queue_max = SERVICE_QUEUE_MAX,
		.unbegun_max = config->unproved_max != 0 ? config->unproved_max : SERVICE_UNPROVED_MAX,
	};
	struct service *service = calloc(1, sizeof(*service));

	if (service == NULL)
		return -ENOMEM;
	service->loop = loop;
	service->hoard_timer.expired = service_hoard_check;
	service->listen_timer.expired = listen_again;
	service->config = *config;
	if (config->again_ms == 0)
		service->config.again_ms = SERVICE_AGAIN_MS;
	if (config->connections_max == 0)
		service->config.connections_max = CONNECTIONS_MAX_DEFAULT;
	service->opening = (struct opening_server){
		.fs = config->fs,
		.target = config->target,
		.role = config->role,
		.key = config->key,
		.admin_key = config->admin_key,
		.credits = config->credits != 0 ? config->credits : SERVICE_CREDITS_DEFAULT,
	};
	fabrics_init(&service->fabrics, loop, &limits);
	*ret_service = service;
	return 0;
}

struct service *service_free(struct service *service)
{
	if (service == NULL)
		return NULL;
	while (service->conns != NULL)
		service_conn_close(service->conns);
	service_spare_free(service);
	loop_timer_cancel(&service->hoard_timer);
	loop_timer_cancel(&service->listen_timer);
	fabrics_release(&service->fabrics);
	service->freed = true;
	service_destroy_if_over(service);
	return NULL;
}

void service_destroy_if_over(struct service *service)
{
	if (!service->freed || service->conn_count > 0)
		return;
	service_net_free(service);
	free(service);
}

/* --- listening ---------------------------------------------------------------------------------------------------- */

static void service_paused(void *owner, int err)
{
	service_warn(owner, "cannot accept connections for a while: %s", strerror(-err));
}

static const struct transport_listener_events listener_events = {
	.incoming = service_incoming,
	.refused = service_refused,
	.paused = service_paused,
};

/* address without rdma://. */
static int listen_by(struct service *service, enum fabric fabric, const char *address, uint16_t *ret_port)
{
	struct service_listens *listens = &service->listens[fabric];
	struct service_listen *listen = &listens->at[listens->count];
	struct transport *transport;
	int err;

	if (listens->count == ADDRESS_LIST_MAX)
		return -ENOSPC;
	err = address_split(address, listen->host, &listen->port);
	if (err == 0)
		err = fabrics_get(&service->fabrics, fabric, &transport);
	if (err == 0)
		err = transport_listen(transport, address, &listener_events, service, ret_port);
	if (err < 0)
		return err;
	listen->port = *ret_port;
	listen->waits = false;
	listens->count++;
	return 0;
}

/* By RDMA, that is: at that host, or at a wildcard. */
static bool is_listened_on(const struct service *service, const char *host)
{
	const struct service_listens *listens = &service->listens[FABRIC_RDMA];

	for (size_t i = 0; i < listens->count; i++)
		if (strcmp(listens->at[i].host, host) == 0 || address_host_is_wildcard(listens->at[i].host))
			return true;
	return false;
}

/* An address without a device is nothing to warn of: others may have one. */
static void say_not_beside(const struct service *service, const char *address, int err)
{
	if (service->fabrics.missing != 0)
		fabrics_say_missing(&service->fabrics, LOGGER_DEBUG);
	else if (err == -ENODEV)
		log_info("%s is not listened on by RDMA: no RDMA device has that address", address);
	else
		log_warning("%s is not listened on by RDMA: %s", address, fabrics_rdma_reason(err));
}

/*
 * By RDMA, too, where TCP is listened on; but where it is already a port of it has been named, and no other one is opened. iWARP's
 * ports are those of TCP, so there the same one is taken: then any, which the RDMA stack draws without regard to TCP's.
 */
static int listen_beside(struct service *service, const struct service_listen *tcp)
{
	char wanted[ADDRESS_SIZE];
	uint16_t port = tcp->port;
	int err = -EADDRINUSE;

	if (is_listened_on(service, tcp->host))
		return 0;
	for (int i = 0; i < PORT_TRIES && err == -EADDRINUSE; i++) {
		address_join(tcp->host, i == 0 ? tcp->port : 0, wanted);
		err = listen_by(service, FABRIC_RDMA, wanted, &port);
	}
	if (err == 0) {
		address_join(tcp->host, tcp->port, wanted);
		log_info("%s is listened on by RDMA, too, on port %u", wanted, port);
	}
	return err;
}

/* At boot drivers may come later than we do. A name, though, is not looked up again: that may take long. */
static int listen_beside_or_wait(struct service *service, struct service_listen *tcp)
{
	int err = listen_beside(service, tcp);

	tcp->waits = (err == -ENODEV || err == -EUNATCH) &&
		     (address_host_is_wildcard(tcp->host) ||
		      resolve_numeric(tcp->host, tcp->port, &(struct resolved){ .count = 0 }) == 0);
	if (tcp->waits && service->listen_timer.loop == NULL)
		loop_timer_set(service->loop, &service->listen_timer,
			       loop_now_ns(service->loop) + service->config.again_ms * NSEC_PER_MSEC);
	return err;
}

/* What is still not there has been said; anything else is, and is the end of it. */
static void listen_again(struct loop_timer *timer)
{
	struct service *service = container_of(timer, struct service, listen_timer);
	struct service_listens *tcp = &service->listens[FABRIC_TCP];

	for (size_t i = 0; i < tcp->count; i++) {
		struct service_listen *listen = &tcp->at[i];
		char address[ADDRESS_SIZE];
		int err = listen->waits ? listen_beside_or_wait(service, listen) : 0;

		address_join(listen->host, listen->port, address);
		if (err < 0 && !listen->waits)
			say_not_beside(service, address, err);
	}
}

int service_listen(struct service *service, const char *address, uint16_t *ret_port)
{
	struct service_listens *tcp = &service->listens[FABRIC_TCP];
	enum fabric fabric;
	int err = fabrics_of(&service->fabrics, address, &fabric);

	if (err == 0)
		err = listen_by(service, fabric, address_plain(address), ret_port);
	if (err == 0 && fabric == FABRIC_TCP && service->fabrics.choice == FABRICS_AUTO) {
		int beside = listen_beside_or_wait(service, &tcp->at[tcp->count - 1]);

		if (beside < 0)
			say_not_beside(service, address, beside);
	}
	return err;
}

void service_listen_explain(const char *address, int err, char *error, size_t error_size)
{
	/* That no device has the address and that there is none at all is one errno. */
	const char *reason = address_is_rdma(address) && err != -ENODEV ? fabrics_rdma_reason(err) : strerror(-err);
	const char *advice = "";

	if (err == -EADDRINUSE)
		advice = "; to see by which program: ss -ltnp; to take another port: --listen";
	if (err == -EADDRNOTAVAIL)
		advice = "; it is no address of this machine's, see --listen";
	snprintf(error, error_size, "cannot listen on %s: %s%s", address, reason, advice);
}

/* Behind a wildcard are all of this machine's addresses; by RDMA only those are served that have a device. */
static bool is_served(const struct service *service, enum fabric fabric, const struct service_listen *listen,
		      const char *address)
{
	char host[256];

	return fabric == FABRIC_TCP || !address_host_is_wildcard(listen->host) ||
	       (address_split(address, host, &(uint16_t){ 0 }) == 0 &&
		transport_serves(service->fabrics.transport[fabric], host));
}

static int reachable_by(const struct service *service, enum fabric fabric, const char *preferred,
			struct address_list *ret_list)
{
	const struct service_listens *listens = &service->listens[fabric];
	struct address_list one;
	int err = 0;

	ret_list->count = 0;
	for (size_t i = 0; i < listens->count && err == 0; i++) {
		const struct service_listen *listen = &listens->at[i];

		err = address_reachable(listen->host, listen->port, preferred, &one);
		for (size_t k = 0; err == 0 && k < one.count; k++) {
			if (!is_served(service, fabric, listen, one.text[k]))
				continue;
			if (fabric == FABRIC_RDMA)
				address_to_rdma(one.text[k], one.text[k]);
			address_list_add(ret_list, one.text[k]);
		}
	}
	return err;
}

/* TCP's come first, as it is always there; where both are many, each gives way. */
int service_reachable(const struct service *service, const char *preferred, struct address_list *ret_list)
{
	struct address_list list, rdma;
	size_t room;
	int err = reachable_by(service, FABRIC_RDMA, preferred, &rdma);

	if (err == 0)
		err = reachable_by(service, FABRIC_TCP, preferred, &list);
	if (err < 0)
		return err;
	room = ADDRESS_LIST_MAX - (rdma.count < ADDRESS_LIST_MAX / 2 ? rdma.count : ADDRESS_LIST_MAX / 2);
	if (list.count > room)
		list.count = room;
	for (size_t i = 0; i < rdma.count; i++)
		address_list_add(&list, rdma.text[i]);
	if (list.count == 0)
		return -EADDRNOTAVAIL;
	*ret_list = list;
	return 0;
}

void service_hold(struct service *service, bool held)
{
	service->held = held;
}

/* --- the owner's other calls -------------------------------------------------------------------------------------- */

const char *service_conn_name(const struct service_conn *conn)
{
	return conn->name;
}

enum role service_conn_role(const struct service_conn *conn)
{
	return conn->hello.own_role;
}

enum fabric service_conn_fabric(const struct service_conn *conn)
{
	return conn->fabric;
}

const struct uuid *service_conn_uuid(const struct service_conn *conn)
{
	return &conn->hello.own_uuid;
}

void service_conn_set_data(struct service_conn *conn, void *data)
{
	conn->data = data;
}

void *service_conn_data(const struct service_conn *conn)
{
	return conn->data;
}

void service_each_conn(struct service *service, void (*fn)(struct service_conn *conn, void *arg), void *arg)
{
	struct service_conn *next;

	for (struct service_conn *conn = service->conns; conn != NULL; conn = next) {
		next = conn->next;
		if (conn->opening == NULL)
			fn(conn, arg);
	}
}

void service_connections(const struct service *service, uint32_t ret_counts[FABRIC_COUNT])
{
	memcpy(ret_counts, service->connections, sizeof(service->connections));
}

void service_stats(const struct service *service, struct service_stats *ret_stats)
{
	*ret_stats = service->stats;
	for (enum fabric i = 0; i < FABRIC_COUNT; i++) {
		struct transport_stats stats;

		fabrics_stats(&service->fabrics, i, &stats);
		ret_stats->bytes_in += stats.bytes_in;
		ret_stats->bytes_out += stats.bytes_out;
		ret_stats->sends += stats.sends;
		ret_stats->receives += stats.receives;
	}
}
