/*
 * NET_TEST: answered here, for every server. What it may cost: two pieces of FRAME_BULK_MAX for the whole service, made when
 * they are first wanted, and ANSWERS_MAX answers at a time that wait to be sent; a connection's credits bound the rest, as
 * with any request. It touches nothing that belongs to the service's owner.
 */
#include "common/container_of.h"
#include "common/lasting.h"
#include "common/service_internal.h"
#include "proto/common.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#define ANSWERS_MAX 32

/* Requests overwrite each other's bulk: nobody looks at it. */
static void sink_released(struct bulk *bulk)
{
	(void)bulk;
}

static void source_released(struct bulk *bulk)
{
	container_of(bulk, struct service_net, source)->answers--;
}

/* Its pages are written to once: those of nothing but zeros would all be one, and faster than any data. */
static struct bulk *bulk_get(struct bulk *bulk, void (*release)(struct bulk *bulk))
{
	uint8_t *data = bulk->data != NULL ? NULL : malloc(FRAME_BULK_MAX);

	if (bulk->data == NULL && data == NULL)
		return NULL;
	if (data != NULL) {
		for (size_t i = 0; i < FRAME_BULK_MAX; i++)
			data[i] = (uint8_t)(i * 7);
		*bulk = (struct bulk){ data, FRAME_BULK_MAX, release };
		lasting_add(data, FRAME_BULK_MAX);
	}
	return bulk;
}

struct bulk *service_net_sink(struct service *service)
{
	return bulk_get(&service->net.sink, sink_released);
}

static void bulk_free(const struct bulk *bulk)
{
	lasting_remove(bulk->data);
	free(bulk->data);
}

void service_net_free(struct service *service)
{
	bulk_free(&service->net.sink);
	bulk_free(&service->net.source);
}

static void answer_addresses(struct request *request)
{
	struct address_list list;
	char *texts[ADDRESS_LIST_MAX];
	Strake__NetTestReply body = STRAKE__NET_TEST_REPLY__INIT;
	int err = service_reachable(request->conn->service, NULL, &list);

	for (size_t i = 0; err == 0 && i < list.count; i++)
		texts[body.n_address++] = list.text[i];
	body.address = texts;
	service_reply(request, &(struct reply){ .err = err, .body = &body.base });
}

static void answer_bulk(struct request *request, size_t size)
{
	struct service *service = request->conn->service;
	struct service_net *net = &service->net;
	struct reply reply = { .bulk_count = 1 };

	if (size > FRAME_BULK_MAX || net->answers == ANSWERS_MAX) {
		service_reply_error(request, size > FRAME_BULK_MAX ? -EINVAL : -EBUSY);
		return;
	}
	reply.owner = bulk_get(&net->source, source_released);
	if (reply.owner == NULL) {
		service_reply_error(request, -ENOMEM);
		return;
	}
	net->answers++;
	reply.bulk[0] = (struct iovec){ net->source.data, size };
	service_reply(request, &reply);
}

void service_net_test(struct request *request)
{
	const Strake__NetTestRequest *asked = (const Strake__NetTestRequest *)request->body;

	if (asked->addresses)
		answer_addresses(request);
	else if (asked->answer_size > 0)
		answer_bulk(request, asked->answer_size);
	else
		service_reply_error(request, 0);
}
