#include "oss/operations.h"

#include <assert.h>
#include <errno.h>

static uint64_t lease_now(const struct ost *ost)
{
	return ost->config.clock_ns();
}

bool ost_slot_begin(struct ost *ost, struct request *request, struct ost_slot *ret_slot)
{
	const struct frame_header *header = &request->header;
	const struct slot_reply *stored;
	enum slot_verdict verdict;
	void *replaced;
	int err = session_table_check(&ost->sessions, header->session, lease_now(ost));

	if (err == 0)
		err = slot_begin(ost->slots, header->session, header->slot, header->seq, request, &verdict, &stored,
				 &replaced);
	if (err < 0) {
		service_reply_error(request, err);
		return false;
	}
	switch (verdict) {
	case SLOT_RESENT:
		service_reply(request,
			      &(struct reply){ .err = stored->err, .raw = stored->body, .raw_len = stored->len });
		return false;
	case SLOT_RUNNING:
		service_reply_error(replaced, -ECANCELED);
		return false;
	case SLOT_NEW:
		break;
	}
	*ret_slot = (struct ost_slot){ .session = header->session, .slot = header->slot, .seq = header->seq };

	return true;
}

void ost_slot_finish(struct ost *ost, const struct ost_slot *slot, int err, const ProtobufCMessage *body)
{
	uint8_t packed[SLOT_REPLY_MAX];
	struct request *request;
	size_t len = 0;

	if (err == 0 && body) {
		len = protobuf_c_message_get_packed_size(body);
		assert(len <= sizeof(packed));
		protobuf_c_message_pack(body, packed);
	}
	request = slot_finish(ost->slots, slot->session, slot->slot, slot->seq, err, packed, len);
	if (request)
		service_reply(request, &(struct reply){ .err = err, .raw = packed, .raw_len = len });
}

int ost_change_begin(struct ost *ost, struct running_write *running)
{
	int err = session_table_check(&ost->sessions, running->session, lease_now(ost));

	if (err < 0)
		return err;
	running->prev = NULL;
	running->next = ost->writes;
	if (ost->writes)
		ost->writes->prev = running;
	ost->writes = running;

	return 0;
}

void ost_change_end(struct ost *ost, struct running_write *running)
{
	if (running->prev)
		running->prev->next = running->next;
	else
		ost->writes = running->next;
	if (running->next)
		running->next->prev = running->prev;
	fiber_wake_all(&ost->write_done);
}
