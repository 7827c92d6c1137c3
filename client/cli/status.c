/* strake status: the cluster map, as the MGS has it now. */
#include "client/cli/cli.h"
#include "client/cli/map_fetch.h"
#include "client/cli/map_print.h"
#include "client/key_find.h"
#include "common/uuid.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(void)
{
	puts("Usage: strake [-m ADDR[,ADDR...]] status [--json]\n"
	     "\n"
	     "The servers of a filesystem, their state and how full they are. Exit status 0 when all are up, 1 when "
	     "one\n"
	     "is not, or the MGS does not answer within 4 s. \"+ rdma\": it listens by RDMA, too.");
}

static const char *first_address(const Strake__Target *target)
{
	return target->n_address > 0 ? target->address[0] : "?";
}

static size_t count_role(const Strake__ClusterMap *map, Strake__TargetRole role)
{
	size_t count = 0;

	for (size_t i = 0; i < map->n_target; i++)
		count += map->target[i]->role == role;
	return count;
}

/* --- as text ---------------------------------------------------------------------------------------------------- */

static void print_target(const Strake__Target *target)
{
	bool is_mdt = target->role == STRAKE__TARGET_ROLE__TARGET_MDT;
	bool is_up = target->state != STRAKE__TARGET_STATE__TARGET_DOWN;
	char usage[48], connections[64];

	cli_say("    └─ %s-%u: %s%s (%s) %s, %s%s", is_mdt ? "MDT" : "OST", target->index, first_address(target),
		rdma_text(first_address(target), target->address, target->n_address), target_usage_text(target, usage),
		target_state_text(target->state), target->hostname ? target->hostname : "?",
		connections_text(is_up && target->has_connections_tcp, target->connections_tcp,
				 target->connections_rdma, connections));
}

static void print_role(const Strake__ClusterMap *map, Strake__TargetRole role)
{
	for (size_t i = 0; i < map->n_target; i++)
		if (map->target[i]->role == role)
			print_target(map->target[i]);
}

static void print_map(const Strake__MapReply *reply, const struct address_list *mgs)
{
	const Strake__ClusterMap *map = reply->map;
	char list[CLI_MGS_SIZE], connections[64], uuid[UUID_STRING_SIZE];
	struct uuid fs;

	uuid_from_bytes(map->fs_uuid.data, map->fs_uuid.len, &fs);
	printf("Filesystem: %s (%s), epoch %llu\n", map->fs_name, uuid_format(&fs, uuid),
	       (unsigned long long)map->epoch);
	cli_join_addresses(mgs, list);
	cli_say("  MGS: %s%s, %s%s", list, rdma_text(list, reply->rdma_address, reply->n_rdma_address),
		reply->hostname ? reply->hostname : "?",
		connections_text(reply->has_connections_tcp, reply->connections_tcp, reply->connections_rdma,
				 connections));
	printf("  MDS servers: %zu\n", count_role(map, STRAKE__TARGET_ROLE__TARGET_MDT));
	print_role(map, STRAKE__TARGET_ROLE__TARGET_MDT);
	printf("  OST targets: %zu\n", count_role(map, STRAKE__TARGET_ROLE__TARGET_OST));
	print_role(map, STRAKE__TARGET_ROLE__TARGET_OST);
}

/* --- as JSON ---------------------------------------------------------------------------------------------------- */

static void json_target(struct json *json, const Strake__Target *target)
{
	json_object_begin(json, NULL);
	json_string(json, "address", first_address(target));
	json_array_begin(json, "addresses");
	for (size_t i = 0; i < target->n_address; i++)
		json_string(json, NULL, target->address[i]);
	json_array_end(json);
	json_unsigned(json, target->role == STRAKE__TARGET_ROLE__TARGET_OST ? "ost_index" : "index", target->index);
	json_string(json, "hostname", target->hostname);
	json_unsigned(json, "pid", target->pid);
	target_json(json, target);
	json_object_end(json);
}

static void json_role(struct json *json, const char *name, const Strake__ClusterMap *map, Strake__TargetRole role)
{
	json_array_begin(json, name);
	for (size_t i = 0; i < map->n_target; i++)
		if (map->target[i]->role == role)
			json_target(json, map->target[i]);
	json_array_end(json);
}

static int json_map(const Strake__MapReply *reply, const struct address_list *mgs)
{
	const Strake__ClusterMap *map = reply->map;
	struct json json;
	char text[CLI_MGS_SIZE], uuid[UUID_STRING_SIZE];
	struct uuid fs;

	uuid_from_bytes(map->fs_uuid.data, map->fs_uuid.len, &fs);
	json_begin(&json, stdout);
	json_object_begin(&json, NULL);
	json_string(&json, "fs_name", map->fs_name);
	json_string(&json, "fs_uuid", uuid_format(&fs, uuid));
	json_unsigned(&json, "epoch", map->epoch);
	json_array_begin(&json, "mgs");
	json_object_begin(&json, NULL);
	json_string(&json, "address", cli_join_addresses(mgs, text));
	json_array_begin(&json, "rdma_addresses");
	for (size_t i = 0; i < reply->n_rdma_address; i++)
		json_string(&json, NULL, reply->rdma_address[i]);
	json_array_end(&json);
	json_string(&json, "hostname", reply->hostname);
	json_unsigned(&json, "pid", reply->pid);
	json_string(&json, "state", "up");
	connections_json(&json, reply->has_connections_tcp, reply->connections_tcp, reply->connections_rdma);
	json_object_end(&json);
	json_array_end(&json);
	json_role(&json, "mds", map, STRAKE__TARGET_ROLE__TARGET_MDT);
	json_role(&json, "oss", map, STRAKE__TARGET_ROLE__TARGET_OST);
	json_object_end(&json);
	return json_end(&json);
}

/* --- the verb --------------------------------------------------------------------------------------------------- */

static int status_show(const struct cli_globals *globals, bool json)
{
	Strake__MapReply *reply;
	char error[512];
	struct key key;
	int err, status = CLI_OK;

	if (key_find(globals->key, &globals->mgs, &key, error, sizeof(error)) < 0)
		return cli_fail("%s", error);
	err = map_fetch(&globals->mgs, &key, MAP_FETCH_TIMEOUT_MS, NULL, NULL, &reply, error, sizeof(error));
	if (err < 0)
		return cli_fail("%s%s", error, map_fetch_advice(err));
	if (json && json_map(reply, &globals->mgs) < 0)
		status = cli_fail("cannot write: %s", strerror(EIO));
	if (!json)
		print_map(reply, &globals->mgs);
	for (size_t i = 0; i < reply->map->n_target; i++)
		if (reply->map->target[i]->state == STRAKE__TARGET_STATE__TARGET_DOWN)
			status = CLI_FAILED;
	strake__map_reply__free_unpacked(reply, NULL);
	return status;
}

int cli_status(int argc, char **argv, const struct cli_globals *globals)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool json = false;
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (letter) {
		case 'j':
			json = true;
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return cli_bad_option("status", letter, argv);
		}
	}
	if (optind < argc)
		return cli_misuse("status", "\"%s\" is one word too many", argv[optind]);
	return status_show(globals, json);
}
