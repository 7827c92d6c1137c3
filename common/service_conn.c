#include "common/service_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* What was said until now. */
struct service_opening {
	bool welcomed;
	uint8_t hello[OPENING_HELLO_SIZE];
	uint8_t welcome[OPENING_WELCOME_SIZE];
};

/* --- lines -------------------------------------------------------------------------------------------------------- */

static struct service_conn **line_bucket(const struct service_conn *conn)
{
	return &conn->service->lines[conn->hello.line % SERVICE_LINES];
}

/* Of its line, and opened before it. */
static struct service_conn *line_earlier(const struct service_conn *conn)
{
	struct service_conn *other = conn->line_next;

	while (other != NULL &&
	       (other->hello.line != conn->hello.line || !uuid_equal(&other->hello.own_uuid, &conn->hello.own_uuid)))
		other = other->line_next;
	return other;
}

/* The one opened last comes first. */
static void line_add(struct service_conn *conn)
{
	if (conn->hello.line == 0)
		return;
	conn->line_next = *line_bucket(conn);
	*line_bucket(conn) = conn;
}

static void line_remove(const struct service_conn *conn)
{
	struct service_conn **at = line_bucket(conn);

	while (*at != NULL && *at != conn)
		at = &(*at)->line_next;
	if (*at != NULL)
		*at = conn->line_next;
}

/* --- its end ------------------------------------------------------------------------------------------------------ */

void service_conn_destroy_if_over(struct service_conn *conn)
{
	struct service *service = conn->service;

	if (conn->transport != NULL || conn->running > 0)
		return;
	free(conn);
	service->conn_count--;
	service_destroy_if_over(service);
}

/* The transport has ended or is about to. */
static void conn_gone(struct service_conn *conn)
{
	struct service *service = conn->service;
	bool opened = conn->opening == NULL;

	conn->transport = NULL;
	free(conn->opening);
	conn->opening = NULL;
	if (conn->previous != NULL)
		conn->previous->next = conn->next;
	else
		service->conns = conn->next;
	if (conn->next != NULL)
		conn->next->previous = conn->previous;
	if (opened)
		line_remove(conn);
	service->stats.connections--;
	service->connections[conn->fabric]--;

	conn->running++; /* the owner may answer requests in its callback */
	service_request_abandon(conn);
	if (opened && service->config.closed != NULL)
		service->config.closed(service->config.owner, conn);
	conn->running--;
	service_conn_destroy_if_over(conn);
}

void service_conn_closed(void *owner, int err, const char *text)
{
	struct service_conn *conn = owner;

	/* To go away is everybody's right. */
	if (err != -ECONNRESET && err != -EPIPE)
		service_warn(conn->service, "%s: cut off: %s", conn->name, text);
	conn_gone(conn);
}

void service_conn_close(struct service_conn *conn)
{
	if (conn->transport == NULL)
		return;
	transport_close(conn->transport);
	conn_gone(conn);
}

/*
 * What a client asks again by a new connection may lie unread in an earlier one, or be on its way there, as its first request,
 * too: executed late it could undo what has come after.
 */
void service_conn_asks(struct service_conn *conn)
{
	struct service_conn *earlier;

	conn->has_asked = true;
	while (conn->hello.line != 0 && (earlier = line_earlier(conn)) != NULL) {
		transport_abandon(earlier->transport);
		conn_gone(earlier);
	}
}

/* --- the opening -------------------------------------------------------------------------------------------------- */

/* Have the last words read, and part. */
static void conn_refuse(struct service_conn *conn, const char *text)
{
	conn->service->stats.refused++;
	service_warn(conn->service, "%s: refused: %s", conn->name, text);
	transport_finish(conn->transport);
	conn_gone(conn);
}

static void conn_welcome(struct service_conn *conn, const uint8_t *hello)
{
	struct service_opening *opening = conn->opening;
	char text[OPENING_TEXT_SIZE] = "";
	uint8_t nonce[OPENING_NONCE_SIZE];
	int err;

	if (getrandom(nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce)) {
		conn_refuse(conn, "no random numbers");
		return;
	}
	memcpy(opening->hello, hello, OPENING_HELLO_SIZE);
	err = opening_welcome(&conn->service->opening, hello, nonce, &conn->hello, opening->welcome, text);
	opening->welcomed = true;
	if (transport_send_bytes(conn->transport, opening->welcome, OPENING_WELCOME_SIZE) < 0 && err == 0)
		snprintf(text, sizeof(text), "out of memory");
	if (text[0] != 0)
		conn_refuse(conn, text);
}

static void conn_accept(struct service_conn *conn, const uint8_t *proof)
{
	uint8_t accept[OPENING_ACCEPT_SIZE];
	char text[OPENING_TEXT_SIZE] = "";
	int err = opening_accept(&conn->service->opening, conn->opening->hello, conn->opening->welcome, proof, accept,
				 text);

	if (transport_send_bytes(conn->transport, accept, sizeof(accept)) < 0 && err == 0)
		snprintf(text, sizeof(text), "out of memory");
	if (text[0] != 0) {
		conn_refuse(conn, text);
		return;
	}
	free(conn->opening);
	conn->opening = NULL;
	line_add(conn);
	snprintf(conn->name + strlen(conn->name), sizeof(conn->name) - strlen(conn->name), " (%s)",
		 role_name(conn->hello.own_role));
	transport_begin(conn->transport, &service_frames, conn);
}

static size_t conn_bytes(void *owner, const uint8_t *data, size_t size)
{
	struct service_conn *conn = owner;

	if (conn->opening->welcomed) {
		if (size < OPENING_PROOF_SIZE)
			return 0;
		conn_accept(conn, data);
		return OPENING_PROOF_SIZE;
	}
	if (!opening_hello_begins(data, size)) {
		service_warn(conn->service, "%s: refused: it does not speak our protocol", conn->name);
		conn->service->stats.refused++;
		service_conn_close(conn);
		return size;
	}
	if (size < OPENING_HELLO_SIZE)
		return 0;
	conn_welcome(conn, data);
	return OPENING_HELLO_SIZE;
}

static const struct transport_events opening_events = { .bytes = conn_bytes, .closed = service_conn_closed };

/* --- its beginning ------------------------------------------------------------------------------------------------ */

void service_refused(void *owner, const char *name, const char *text)
{
	struct service *service = owner;

	service->stats.refused++;
	service_warn(service, "client %s: refused: %s", name, text);
}

void service_incoming(void *owner, struct transport_incoming *incoming, const char *name)
{
	struct service *service = owner;
	struct service_conn *conn;
	int err;

	if (service->held)
		return;
	if (service->conn_count >= service->config.connections_max) {
		service_warn(service, "client %s: refused: there are %zu connections already", name,
			     service->conn_count);
		service->stats.refused++;
		return;
	}
	conn = calloc(1, sizeof(*conn));
	if (conn == NULL) {
		service_refused(service, name, strerror(ENOMEM));
		return;
	}
	conn->service = service;
	conn->fabric = incoming->transport == service->fabrics.transport[FABRIC_RDMA] ? FABRIC_RDMA : FABRIC_TCP;
	snprintf(conn->name, sizeof(conn->name), "client %s", name);
	conn->opening = calloc(1, sizeof(*conn->opening));
	err = conn->opening == NULL ? -ENOMEM : transport_accept(incoming, &opening_events, conn, &conn->transport);
	if (err == -EBUSY)
		service_refused(service, name, "too many are in their opening");
	else if (err < 0)
		service_refused(service, name, conn->fabric == FABRIC_RDMA ? fabrics_rdma_reason(err) : strerror(-err));
	if (err < 0) {
		free(conn->opening);
		free(conn);
		return;
	}
	conn->next = service->conns;
	if (service->conns != NULL)
		service->conns->previous = conn;
	service->conns = conn;
	service->conn_count++;
	service->stats.connections++;
	service->connections[conn->fabric]++;
}
