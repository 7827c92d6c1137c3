#include "client/cli/map_print.h"
#include "common/address.h"
#include "common/units.h"
#include "common/uuid.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *target_state_text(Strake__TargetState state)
{
	switch (state) {
	case STRAKE__TARGET_STATE__TARGET_UP:
		return "up";
	case STRAKE__TARGET_STATE__TARGET_DOWN:
		return "down";
	case STRAKE__TARGET_STATE__TARGET_FULL:
		return "full";
	case STRAKE__TARGET_STATE__TARGET_DEGRADED:
		return "degraded";
	default:
		return "?"; /* a newer MGS's */
	}
}

static uint64_t used(uint64_t total, uint64_t free)
{
	return free < total ? total - free : 0;
}

const char *target_usage_text(const Strake__Target *target, char out[48])
{
	char used_text[16], total_text[16];

	snprintf(out, 48, "%10s / %s", units_format_size(used(target->bytes_total, target->bytes_free), used_text),
		 units_format_size(target->bytes_total, total_text));
	return out;
}

const char *rdma_text(const char *shown, char *const *addresses, size_t count)
{
	if (strstr(shown, ADDRESS_RDMA) == NULL)
		for (size_t i = 0; i < count; i++)
			if (address_is_rdma(addresses[i]))
				return " + rdma";
	return "";
}

const char *connections_text(bool told, uint32_t tcp, uint32_t rdma, char out[64])
{
	out[0] = '\0';
	if (told)
		snprintf(out, 64, ", %" PRIu32 " connection%s by TCP, %" PRIu32 " by RDMA", tcp, tcp == 1 ? "" : "s",
			 rdma);
	return out;
}

void connections_json(struct json *json, bool told, uint32_t tcp, uint32_t rdma)
{
	if (!told)
		return;
	json_object_begin(json, "connections");
	json_unsigned(json, "tcp", tcp);
	json_unsigned(json, "rdma", rdma);
	json_object_end(json);
}

void target_json(struct json *json, const Strake__Target *target)
{
	char text[UUID_STRING_SIZE];
	struct uuid uuid;

	json_string(json, "state", target_state_text(target->state));
	if (uuid_from_bytes(target->uuid.data, target->uuid.len, &uuid) == 0)
		json_string(json, "uuid", uuid_format(&uuid, text));
	json_unsigned(json, "bytes_total", target->bytes_total);
	json_unsigned(json, "bytes_free", target->bytes_free);
	json_unsigned(json, "objects_total", target->objects_total);
	json_unsigned(json, "objects_free", target->objects_free);
	if (target->role == STRAKE__TARGET_ROLE__TARGET_MDT)
		json_unsigned(json, "log_index", target->log_index);
	connections_json(json, target->has_connections_tcp, target->connections_tcp, target->connections_rdma);
}
