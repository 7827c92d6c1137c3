#include "common/transport_frame.h"

#include "common/bulk.h"
#include "common/bulk_sums.h"

#include <errno.h>
#include <string.h>

int transport_frame_measure(const struct transport_message *message, size_t *ret_body_len, size_t *ret_bulk_len)
{
	size_t body_len = message->body != NULL ? protobuf_c_message_get_packed_size(message->body) : message->raw_len;
	size_t bulk_len = message->pipe_len + bulk_iov_size(message->bulk, message->bulk_count);

	if (body_len > FRAME_BODY_MAX || bulk_len > FRAME_BULK_MAX)
		return -EMSGSIZE;
	*ret_body_len = body_len;
	*ret_bulk_len = bulk_len;
	return 0;
}

void transport_frame_pack(const struct transport_message *message, size_t body_len, size_t bulk_len, uint8_t *out)
{
	struct frame_header header = message->header;
	uint8_t *body = out + FRAME_HEADER_SIZE;

	if (message->body != NULL)
		protobuf_c_message_pack(message->body, body);
	else if (body_len > 0)
		memcpy(body, message->raw, body_len);
	header.version = FRAME_VERSION;
	header.body_len = (uint32_t)body_len;
	header.bulk_len = (uint32_t)bulk_len;
	header.body_sum = crc32c(body, body_len);
	frame_encode(&header, out);
}

int transport_frame_parse(const uint8_t *data, size_t size, struct frame_header *ret_header, size_t *ret_need)
{
	int err;

	*ret_need = FRAME_HEADER_SIZE;
	if (size < FRAME_HEADER_SIZE)
		return 0;
	err = frame_decode(data, ret_header);
	if (err < 0)
		return err;
	*ret_need += ret_header->body_len;
	if (size < *ret_need)
		return 0;
	return crc32c(data + FRAME_HEADER_SIZE, ret_header->body_len) == ret_header->body_sum ? 0 : -EBADMSG;
}

const char *transport_frame_error(int err)
{
	switch (err) {
	case -EPROTONOSUPPORT:
		return "a message of another protocol version";
	case -EBADMSG:
		return "a damaged message";
	case -EMSGSIZE:
		return "a message longer than allowed";
	case -ENOMEM:
		return "out of memory";
	default:
		return "a message that breaks the protocol";
	}
}
