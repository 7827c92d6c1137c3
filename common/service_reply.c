#include "common/service_internal.h"
#include "common/status.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static void reply_bulk_done(void *arg)
{
	struct bulk *bulk = arg;

	bulk->release(bulk);
}

/* Into the connection's queue; whatever happens, the reply's memory is given back once. */
static void reply_send(struct service_conn *conn, struct transport_message *message, const struct reply *reply)
{
	size_t bulk_len = reply->pipe_len + bulk_iov_size(reply->bulk, reply->bulk_count);
	int err = -ECONNRESET;

	if (bulk_len > 0) {
		message->bulk = reply->bulk;
		message->bulk_count = reply->bulk_count;
		message->pipe = reply->pipe;
		message->pipe_len = reply->pipe_len;
		message->done = reply->owner != NULL ? reply_bulk_done : NULL;
		message->arg = reply->owner;
	}

	if (conn->transport != NULL) {
		err = transport_send(conn->transport, message);
		if (err == -EMSGSIZE) { /* our own fault: repeated, the request would fail for ever */
			struct transport_message refusal = { .header = message->header };

			refusal.header.status = status_from_errno(-EOVERFLOW);
			service_warn(conn->service, "%s: an answer to %s is longer than allowed", conn->name,
				     op_name(message->header.opcode));
			err = transport_send(conn->transport, &refusal);
			bulk_len = 0;
		}
		if (err < 0) {
			service_warn(conn->service, "%s: cut off: an answer cannot be sent: %s", conn->name,
				     strerror(-err));
			service_conn_close(conn);
		} else {
			conn->service->stats.replies++;
		}
	}
	/* What the transport has not taken, or what had no bulk to go with. */
	if (reply->owner != NULL && (err < 0 || bulk_len == 0))
		reply->owner->release(reply->owner);
}

void service_reply(struct request *request, const struct reply *reply)
{
	struct transport_message message = {
		.header = {
			.kind = FRAME_REPLY,
			.opcode = request->header.opcode,
			.credits = request->conn->service->opening.credits,
			.status = status_from_errno(reply->err),
			.xid = request->header.xid,
			.session = request->header.session,
			.slot = request->header.slot,
			.seq = request->header.seq,
			.log_index = reply->log_index,
			.durable_index = reply->durable_index,
		},
		.body = reply->body,
		.raw = reply->raw,
		.raw_len = reply->raw_len,
	};

	reply_send(request->conn, &message, reply);
	service_request_over(request);
}

void service_reply_error(struct request *request, int err)
{
	service_reply(request, &(struct reply){ .err = err });
}

void service_push(struct service_conn *conn, uint16_t opcode, const ProtobufCMessage *message)
{
	const struct transport_message push = {
		.header = { .kind = FRAME_PUSH, .opcode = opcode },
		.body = message,
	};

	if (conn->transport == NULL || conn->opening != NULL)
		return;
	if (transport_queued(conn->transport) > SERVICE_QUEUE_MAX || transport_send(conn->transport, &push) < 0) {
		service_warn(conn->service, "%s: cut off: too much is waiting to be sent to it", conn->name);
		service_conn_close(conn);
	}
}
