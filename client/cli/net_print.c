#include "client/cli/net_print.h"
#include "common/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* --- devices ------------------------------------------------------------------------------------------------------ */

void net_devices_begin(struct net_devices_print *print, bool as_json)
{
	*print = (struct net_devices_print){ .as_json = as_json };
	if (!as_json)
		return;
	json_begin(&print->json, stdout);
	json_object_begin(&print->json, NULL);
	json_array_begin(&print->json, "devices");
}

/* 0: null */
static void json_known(struct json *json, const char *key, uint64_t value)
{
	if (value != 0)
		json_unsigned(json, key, value);
	else
		json_null(json, key);
}

static void json_port(struct json *json, const struct rdma_port *port)
{
	json_object_begin(json, NULL);
	json_string(json, "name", port->device);
	json_unsigned(json, "port", port->port);
	json_string(json, "state", port->state);
	json_string(json, "link_layer", port->link);
	json_string(json, "protocol", port->protocol);
	json_known(json, "rate_mbit_per_s", port->rate_mbps);
	json_known(json, "mtu", port->mtu);
	json_array_begin(json, "addresses");
	for (size_t i = 0; i < port->address_count; i++) {
		json_object_begin(json, NULL);
		json_string(json, "address", port->addresses[i].host);
		json_string(json, "interface", port->addresses[i].interface);
		json_object_end(json);
	}
	json_array_end(json);
	json_object_end(json);
}

void net_devices_port(void *arg, const struct rdma_port *port)
{
	struct net_devices_print *print = arg;

	print->ports++;
	if (print->as_json) {
		json_port(&print->json, port);
		return;
	}
	printf("%s port %u: %s, %s over %s, ", port->device, port->port, port->state, port->protocol, port->link);
	if (port->rate_mbps != 0)
		printf("%g Gbit/s, ", (double)port->rate_mbps / 1000);
	if (port->mtu != 0)
		printf("MTU %u, ", port->mtu);
	if (!port->asked)
		printf("addresses not known");
	else if (port->address_count == 0)
		printf("no IP address: not used until its network interface has one");
	for (size_t i = 0; i < port->address_count; i++)
		printf("%s%s (%s)", i > 0 ? ", " : "", port->addresses[i].host, port->addresses[i].interface);
	putchar('\n');
}

int net_devices_end(struct net_devices_print *print, int err)
{
	const char *reason = err < 0 ? fabrics_rdma_reason(err) : NULL;

	if (print->as_json) {
		json_array_end(&print->json);
		json_string(&print->json, "reason", reason);
		json_object_end(&print->json);
		return json_end(&print->json);
	}
	if (reason != NULL)
		printf("No RDMA here: %s\n", reason);
	return fflush(stdout) == 0 ? 0 : -EIO;
}

/* --- a test ------------------------------------------------------------------------------------------------------- */

static const char *const fabric_names[] = { [FABRIC_TCP] = "tcp", [FABRIC_RDMA] = "rdma" };
static const char *const fabric_titles[] = { [FABRIC_TCP] = "TCP", [FABRIC_RDMA] = "RDMA" };

static const char *rate_text(double rate, char out[16])
{
	return units_format_size((uint64_t)rate, out);
}

static double in_us(uint64_t ns)
{
	return (double)ns / 1000;
}

static void print_transport(const struct net_transport_result *transport)
{
	const struct net_latency *latency = &transport->latency;
	char to[16], from[16];

	if (transport->err < 0) {
		printf("    └─ %s: %s\n", fabric_titles[transport->fabric], transport->error);
		return;
	}
	printf("    └─ %s, %s\n", fabric_titles[transport->fabric], transport->address);
	printf("        a small call   %.1f us at least, %.1f us median, %.1f us for 99 %% (of %" PRIu64 ")\n",
	       in_us(latency->min_ns), in_us(latency->median_ns), in_us(latency->p99_ns), latency->calls);
	printf("        to the server  %s/s\n", rate_text(transport->to_server, to));
	printf("        from it        %s/s\n", rate_text(transport->from_server, from));
	if (transport->lost > 0)
		printf("        %u calls were lost with their connection, and asked again\n", transport->lost);
}

static void json_transport(struct json *json, const struct net_transport_result *transport)
{
	const struct net_latency *latency = &transport->latency;

	json_object_begin(json, NULL);
	json_string(json, "transport", fabric_names[transport->fabric]);
	json_string(json, "address", transport->address[0] != '\0' ? transport->address : NULL);
	json_bool(json, "measured", transport->err == 0);
	if (transport->err == 0) {
		json_object_begin(json, "latency_us");
		json_real(json, "min", in_us(latency->min_ns));
		json_real(json, "median", in_us(latency->median_ns));
		json_real(json, "p99", in_us(latency->p99_ns));
		json_unsigned(json, "calls", latency->calls);
		json_object_end(json);
		json_unsigned(json, "to_server_bytes_per_s", (uint64_t)transport->to_server);
		json_unsigned(json, "from_server_bytes_per_s", (uint64_t)transport->from_server);
		json_unsigned(json, "lost_calls", transport->lost);
	} else {
		json_string(json, "reason", transport->error);
	}
	json_object_end(json);
}

static int json_test(const struct net_test_result *result)
{
	char uuid[UUID_STRING_SIZE];
	struct json json;

	json_begin(&json, stdout);
	json_object_begin(&json, NULL);
	json_string(&json, "address", result->address);
	json_string(&json, "role", role_name(result->role));
	json_string(&json, "fs_uuid", uuid_format(&result->fs, uuid));
	json_string(&json, "target_uuid", uuid_is_zero(&result->target) ? NULL : uuid_format(&result->target, uuid));
	json_array_begin(&json, "transports");
	for (enum fabric i = 0; i < FABRIC_COUNT; i++)
		if (result->transports[i].wanted)
			json_transport(&json, &result->transports[i]);
	json_array_end(&json);
	json_bool(&json, "passed", net_test_passed(result));
	json_object_end(&json);
	return json_end(&json);
}

int net_test_print(const struct net_test_result *result, bool as_json)
{
	char uuid[UUID_STRING_SIZE];

	if (as_json)
		return json_test(result);
	printf("%s: %s of filesystem %s\n", result->address, role_name(result->role), uuid_format(&result->fs, uuid));
	for (enum fabric i = 0; i < FABRIC_COUNT; i++)
		if (result->transports[i].wanted)
			print_transport(&result->transports[i]);
	return fflush(stdout) == 0 ? 0 : -EIO;
}
