/*
 * The request and the reply of every operation in ops.def, as a body is read from a frame: within the bound of
 * arena_unpack(); and the bodies of the MDT's own records. Two bytes choose the operation and which of both. What was read
 * can be written. (Not always read again: protobuf-c takes a field number 0 in two bytes and refuses it in one.)
 */
#include "common/arena.h"
#include "common/frame.h"
#include "common/ops.h"
#include "proto/mdt_record.pb-c.h"
#include "tests/fuzz/fuzz.h"

#include <stdalign.h>
#include <stddef.h>

static const uint16_t numbers[] = {
#define OP(name, number, role, request, reply, flags) number,
#include "proto/ops.def"
#undef OP
};
#define OPS (sizeof(numbers) / sizeof(*numbers))

static const ProtobufCMessageDescriptor *const records[] = {
	&strake__format_record__descriptor, &strake__reserve_record__descriptor, &strake__evict_record__descriptor,
	&strake__unsure_record__descriptor, &strake__writers_record__descriptor, &strake__release_record__descriptor,
	&strake__ack_record__descriptor,
};
#define RECORDS (sizeof(records) / sizeof(*records))

static const ProtobufCMessageDescriptor *message_type(const uint8_t selector[2])
{
	size_t type = selector[0] % (OPS + RECORDS);
	const struct op *op;

	if (type >= OPS)
		return records[type - OPS];
	op = op_find(numbers[type]);
	assert(op != NULL);
	return selector[1] & 1 ? op->reply : op->request;
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	static alignas(max_align_t) uint8_t first[1024]; /* as the service has it */
	const ProtobufCMessageDescriptor *type;
	ProtobufCMessage *message;
	uint8_t *body, *packed;
	struct arena arena;
	size_t packed_size;

	if (size < 2 || size - 2 > FRAME_BODY_MAX)
		return;
	type = message_type(data);
	size -= 2;
	body = fuzz_copy(data + 2, size);
	message = arena_unpack(&arena, first, sizeof(first), type, body, size);
	free(body); /* nothing of the message lies there */
	if (message != NULL) {
		assert(message->descriptor == type && protobuf_c_message_check(message));
		packed_size = protobuf_c_message_get_packed_size(message);
		packed = malloc(packed_size + 1);
		assert(packed != NULL && protobuf_c_message_pack(message, packed) == packed_size);
		free(packed);
	}
	arena_release(&arena);
}

static size_t varint(uint8_t *out, uint64_t value)
{
	size_t size = 0;

	for (; value >= 0x80; value >>= 7)
		out[size++] = (uint8_t)(value | 0x80);
	out[size++] = (uint8_t)value;
	return size;
}

static size_t field_make(uint8_t *out, size_t room, const ProtobufCFieldDescriptor *field);

/* A message with each of its fields once, as bytes; those that do not fit are left out. */
static size_t message_make(uint8_t *out, size_t room, const ProtobufCMessageDescriptor *type)
{
	size_t size = 0;

	for (unsigned int i = 0; i < type->n_fields; i++)
		size += field_make(out + size, room - size, &type->fields[i]);
	return size;
}

static size_t field_make(uint8_t *out, size_t room, const ProtobufCFieldDescriptor *field)
{
	uint8_t value[2048];
	size_t value_size, size;
	uint64_t wire;

	switch (field->type) {
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		wire = 1, value_size = 8;
		memset(value, 1, value_size);
		break;
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		wire = 5, value_size = 4;
		memset(value, 1, value_size);
		break;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
		wire = 2, value_size = 16;
		memset(value, 'a', value_size);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		wire = 2, value_size = message_make(value, sizeof(value), field->descriptor);
		break;
	default:
		wire = 0, value_size = 1;
		value[0] = 1;
	}
	if (room < value_size + 20)
		return 0;
	size = varint(out, (uint64_t)field->id << 3 | wire);
	if (wire == 2)
		size += varint(out + size, value_size);
	memcpy(out + size, value, value_size);
	return size + value_size;
}

static void fuzz_seeds(void)
{
	uint8_t body[2048];

	for (uint8_t type = 0; type < OPS + RECORDS; type++) {
		for (uint8_t reply = 0; reply < (type < OPS ? 2 : 1); reply++) {
			const uint8_t selector[2] = { type, reply };

			fuzz_seed(selector, 2, body, message_make(body, sizeof(body), message_type(selector)));
		}
	}
}
