/* The cluster map as `strake status` and `strake cluster status` show it. */
#ifndef STRAKE_CLIENT_CLI_MAP_PRINT_H
#define STRAKE_CLIENT_CLI_MAP_PRINT_H

#include "common/json.h"
#include "proto/mgs.pb-c.h"

const char *target_state_text(Strake__TargetState state); /* "up", "down", "full", "degraded" */

/* "  1.2 GiB / 40.0 GiB" used and total; returns out. */
const char *target_usage_text(const Strake__Target *target, char out[48]);

/* " + rdma" behind the address (or addresses) shown, which is not RDMA's, where another one is; else "". */
const char *rdma_text(const char *shown, char *const *addresses, size_t count);

/* ", 3 connections by TCP, 1 by RDMA"; "" where the server does not say. Returns out. */
const char *connections_text(bool told, uint32_t tcp, uint32_t rdma, char out[64]);
/* The same as a member, of the object that is open. */
void connections_json(struct json *json, bool told, uint32_t tcp, uint32_t rdma);

/* The members of a target that both verbs have: state, uuid, capacities, connections. The object is open. */
void target_json(struct json *json, const Strake__Target *target);

#endif
