#include "common/service_internal.h"

#include "common/logger.h"
#include "common/transport_tcp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS_MAX_DEFAULT 16384
/* Nobody fills the disk by being refused: so many lines at once, then one more after so long, some MiB a day in all. */
#define LOG_LINES_AT_ONCE 100
#define LOG_LINE_NS       (6 * NSEC_PER_SEC)

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

/* --- its life ----------------------------------------------------------------------------------------------------- */

int service_new(struct loop *loop, const struct service_config *config, struct service **ret_service)
{
	const struct transport_limits limits = {
		.opening_ms = OPENING_DEADLINE_MS,
		.frame_ms = config->frame_deadline_ms != 0 ? config->frame_deadline_ms : SERVICE_FRAME_DEADLINE_MS,
		.stall_ms = config->stall_ms != 0 ? config->stall_ms : SERVICE_STALL_MS,
		.queue_max = SERVICE_QUEUE_MAX,
	};
	struct service *service = calloc(1, sizeof(*service));
	int err;

	if (service == NULL)
		return -ENOMEM;
	service->loop = loop;
	service->hoard_timer.expired = service_hoard_check;
	service->config = *config;
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
	err = transport_tcp_new(loop, &limits, &service->transport);
	if (err < 0) {
		free(service);
		return err;
	}
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
	service->transport = transport_free(service->transport);
	service_destroy_if_over(service);
	return NULL;
}

void service_destroy_if_over(struct service *service)
{
	if (service->transport == NULL && service->conn_count == 0)
		free(service);
}

static void service_paused(void *owner, int err)
{
	service_warn(owner, "cannot accept connections for a while: %s", strerror(-err));
}

static const struct transport_listener_events listener_events = {
	.incoming = service_incoming,
	.paused = service_paused,
};

int service_listen(struct service *service, const char *address, uint16_t *ret_port)
{
	return transport_listen(service->transport, address, &listener_events, service, ret_port);
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

void service_stats(const struct service *service, struct service_stats *ret_stats)
{
	struct transport_stats stats;

	transport_stats(service->transport, &stats);
	*ret_stats = service->stats;
	ret_stats->bytes_in = stats.bytes_in;
	ret_stats->bytes_out = stats.bytes_out;
	ret_stats->sends = stats.sends;
	ret_stats->receives = stats.receives;
}
