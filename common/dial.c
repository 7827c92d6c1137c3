#include "common/dial.h"

#include "common/address.h"
#include "common/container_of.h"
#include "common/resolve.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* What is expected next, in this order. */
enum dial_state { DIAL_NAME, DIAL_WELCOME, DIAL_ACCEPT };

struct dial {
	struct loop *loop;
	struct transport *transport;
	char address[ADDRESS_SIZE];
	uint8_t hello[OPENING_HELLO_SIZE];
	const struct key *key;
	void (*finished)(void *owner, const struct dial_result *result);
	void *owner;

	enum dial_state state;
	struct resolve *resolve;
	struct loop_timer timer; /* begins, and goes on with the host's next address: never from within a call */
	struct resolved resolved;
	unsigned int next; /* of them */
	struct transport_conn *conn;
	struct dial_result result;
};

static void dial_finish(struct dial *dial, int err, const char *text)
{
	struct dial_result result = dial->result;
	void (*finished)(void *owner, const struct dial_result *result) = dial->finished;
	void *owner = dial->owner;

	result.err = err;
	if (err < 0)
		snprintf(result.text, sizeof(result.text), "%s: %s", dial->address, text);
	else
		result.conn = dial->conn;
	if (err < 0 && dial->conn != NULL)
		transport_close(dial->conn);
	loop_timer_cancel(&dial->timer);
	free(dial);
	finished(owner, &result);
}

/* --- the opening -------------------------------------------------------------------------------------------------- */

static size_t dial_welcome(struct dial *dial, const uint8_t *data, size_t size)
{
	char text[OPENING_TEXT_SIZE] = "";
	uint8_t proof[OPENING_PROOF_SIZE];
	int err;

	if (size < OPENING_WELCOME_SIZE)
		return 0;
	err = opening_prove(dial->key, dial->hello, data, &dial->result.welcome, proof, text);
	if (err == 0) {
		dial->state = DIAL_ACCEPT;
		err = transport_send_bytes(dial->conn, proof, sizeof(proof));
		if (err < 0)
			snprintf(text, sizeof(text), "%s", strerror(-err));
	}
	if (err < 0)
		dial_finish(dial, err, text);
	return OPENING_WELCOME_SIZE;
}

static size_t dial_accept(struct dial *dial, const uint8_t *data, size_t size)
{
	char text[OPENING_TEXT_SIZE] = "";
	int err;

	if (size < OPENING_ACCEPT_SIZE)
		return 0;
	err = opening_accepted(data, &dial->result.credits, text);
	dial_finish(dial, err, text);
	return OPENING_ACCEPT_SIZE;
}

static size_t dial_bytes(void *owner, const uint8_t *data, size_t size)
{
	struct dial *dial = owner;

	return dial->state == DIAL_WELCOME ? dial_welcome(dial, data, size) : dial_accept(dial, data, size);
}

static void dial_closed(void *owner, int err, const char *text)
{
	struct dial *dial = owner;

	dial->conn = NULL;
	if (dial->state == DIAL_WELCOME && dial->next < dial->resolved.count)
		loop_timer_set(dial->loop, &dial->timer, loop_now_ns(dial->loop));
	else
		dial_finish(dial, err, text);
}

static const struct transport_events dial_events = { .bytes = dial_bytes, .closed = dial_closed };

/* --- the connection ----------------------------------------------------------------------------------------------- */

static void dial_connect(struct dial *dial)
{
	int err = -ENOENT;

	while (dial->next < dial->resolved.count) {
		unsigned int i = dial->next++;

		err = transport_connect(dial->transport, (const struct sockaddr *)&dial->resolved.address[i],
					dial->resolved.len[i], &dial_events, dial, &dial->conn);
		if (err == 0)
			break;
	}
	if (err == 0)
		err = transport_send_bytes(dial->conn, dial->hello, sizeof(dial->hello));
	if (err < 0)
		dial_finish(dial, err, strerror(-err));
}

static void dial_resolved(void *owner, int err, const char *text, const struct resolved *resolved)
{
	struct dial *dial = owner;

	dial->resolve = NULL;
	if (err < 0) {
		dial_finish(dial, err, text);
		return;
	}
	dial->resolved = *resolved;
	dial->state = DIAL_WELCOME;
	dial_connect(dial);
}

static void dial_timer(struct loop_timer *timer)
{
	struct dial *dial = container_of(timer, struct dial, timer);
	char host[256];
	uint16_t port;
	int err;

	if (dial->state == DIAL_WELCOME) {
		dial_connect(dial);
		return;
	}
	if (address_split(dial->address, host, &port) < 0) {
		dial_finish(dial, -EINVAL, "not an address");
		return;
	}
	if (resolve_numeric(host, port, &dial->resolved) == 0) {
		dial->state = DIAL_WELCOME;
		dial_connect(dial);
		return;
	}
	err = resolve_start(dial->loop, host, port, dial_resolved, dial, &dial->resolve);
	if (err < 0)
		dial_finish(dial, err, strerror(-err));
}

int dial_start(struct loop *loop, struct transport *transport, const char *address, const struct opening_hello *hello,
	       const struct key *key, void (*finished)(void *owner, const struct dial_result *result), void *owner,
	       struct dial **ret_dial)
{
	struct dial *dial = calloc(1, sizeof(*dial));
	struct opening_hello wants = *hello;

	if (dial == NULL)
		return -ENOMEM;
	if (getrandom(wants.nonce, sizeof(wants.nonce), 0) != (ssize_t)sizeof(wants.nonce)) {
		free(dial);
		return -EIO;
	}
	dial->loop = loop;
	dial->transport = transport;
	snprintf(dial->address, sizeof(dial->address), "%s", address);
	opening_hello_encode(&wants, dial->hello);
	dial->key = key;
	dial->finished = finished;
	dial->owner = owner;
	dial->timer.expired = dial_timer;
	loop_timer_set(loop, &dial->timer, loop_now_ns(loop));
	*ret_dial = dial;
	return 0;
}

struct dial *dial_cancel(struct dial *dial)
{
	if (dial == NULL)
		return NULL;
	loop_timer_cancel(&dial->timer);
	resolve_cancel(dial->resolve);
	if (dial->conn != NULL)
		transport_abandon(dial->conn);
	free(dial);
	return NULL;
}
