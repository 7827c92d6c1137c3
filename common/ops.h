/* The table of operations (proto/ops.def) as code: numbers, names, messages. */
#ifndef STRAKE_COMMON_OPS_H
#define STRAKE_COMMON_OPS_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

enum op_number {
#define OP(name, number, role, request, reply, flags) OP_##name = number,
#include "proto/ops.def"
#undef OP
};

enum role { ROLE_ANY, ROLE_MGS, ROLE_MDT, ROLE_OST, ROLE_CLIENT, ROLE_ADMIN };

enum op_flags {
	OP_SLOT = 1 << 0,
	OP_PUSH = 1 << 1,
	OP_MDT = 1 << 2,
	OP_VOLATILE = 1 << 3,
};

struct op {
	const char *name;
	uint16_t number;
	enum role role;
	unsigned int flags;
	const ProtobufCMessageDescriptor *request, *reply;
};

/* The row of an opcode, or NULL for one that does not exist. */
const struct op *op_find(uint16_t number);
const char *op_name(uint16_t number);  /* "CREATE"; "?" for one that does not exist */
const char *role_name(enum role role); /* "mgs", "mdt", "ost", "client", "admin" */

#endif
