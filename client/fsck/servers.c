#include "client/fsck/servers.h"

#include "common/fiber.h"
#include "common/mgs_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAP_MS     10000
#define ATTEMPT_MS 30000 /* a folder of an OST may have many files */
#define RETRY_MS   100

struct server {
	struct server *next;
	enum role role;
	uint32_t index;
	struct peer *peer;
	bool answered; /* the last call */
};

struct servers {
	struct loop *loop;
	const struct key *key;
	struct uuid own_uuid;
	unsigned int patience_ms;
	struct mgs_client *mgs;
	struct server *list;
};

int servers_open(struct loop *loop, const struct address_list *mgs, const struct key *key, unsigned int patience_ms,
		 struct servers **ret_servers, char *error, size_t error_size)
{
	struct servers *servers = calloc(1, sizeof(*servers));
	int err;

	if (!servers) {
		snprintf(error, error_size, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	servers->loop = loop;
	servers->key = key;
	servers->patience_ms = patience_ms;
	uuid_make(&servers->own_uuid);
	err = mgs_client_new(loop,
			     &(struct mgs_client_config){
				     .mgs = *mgs,
				     .key = key,
				     .own_role = ROLE_CLIENT,
				     .own_uuid = servers->own_uuid,
			     },
			     &servers->mgs);
	if (err == 0)
		err = mgs_client_wait(servers->mgs, MAP_MS);
	if (err < 0) {
		const char *why = servers->mgs ? mgs_client_last_error(servers->mgs) : "";

		snprintf(error, error_size, "no cluster map from the MGS (%s%s): %s", mgs->text[0],
			 mgs->count > 1 ? " and others" : "", why[0] != '\0' ? why : strerror(-err));
		servers_close(servers);
		return err;
	}
	*ret_servers = servers;
	return 0;
}

struct servers *servers_close(struct servers *servers)
{
	if (!servers)
		return NULL;
	while (servers->list) {
		struct server *server = servers->list;

		servers->list = server->next;
		peer_free(server->peer);
		free(server);
	}
	mgs_client_free(servers->mgs);
	free(servers);
	return NULL;
}

const Strake__ClusterMap *servers_map(const struct servers *servers)
{
	return mgs_client_map(servers->mgs);
}

bool servers_have(const struct servers *servers, enum role role, uint32_t index)
{
	return cluster_map_find(servers_map(servers), role, index) != NULL;
}

static struct server *find(const struct servers *servers, enum role role, uint32_t index)
{
	struct server *server = servers->list;

	while (server && (server->role != role || server->index != index))
		server = server->next;
	return server;
}

static int add(struct servers *servers, const Strake__Target *target, enum role role, struct server **ret_server)
{
	const Strake__ClusterMap *map = servers_map(servers);
	struct server *server = calloc(1, sizeof(*server));
	struct peer_config config = {
		.role = role,
		.own_role = ROLE_CLIENT,
		.own_uuid = servers->own_uuid,
		.key = servers->key,
		.addresses = (const char *const *)target->address,
		.address_count = target->n_address,
	};
	int err = -ENOMEM;

	if (server)
		err = uuid_from_bytes(map->fs_uuid.data, map->fs_uuid.len, &config.fs);
	if (err == 0)
		err = uuid_from_bytes(target->uuid.data, target->uuid.len, &config.target);
	if (err == 0)
		err = peer_new(servers->loop, &config, &server->peer);
	if (err < 0) {
		free(server);
		return err;
	}
	server->role = role;
	server->index = target->index;
	server->next = servers->list;
	servers->list = server;
	*ret_server = server;
	return 0;
}

/* A target's server, at the addresses that the map has now. */
static int get(struct servers *servers, enum role role, uint32_t index, struct server **ret_server)
{
	const Strake__Target *target = cluster_map_find(servers_map(servers), role, index);
	struct server *server = find(servers, role, index);

	if (!target || target->n_address == 0)
		return -ENXIO;
	if (!server)
		return add(servers, target, role, ret_server);
	*ret_server = server;
	return peer_set_addresses(server->peer, (const char *const *)target->address, target->n_address);
}

/* It may be otherwise when asked again: silence, a broken connection, or a server that has no room just now. */
static bool may_pass(const struct call *call, int err)
{
	if (call->answered)
		return err == -EAGAIN || err == -ENOMEM;
	return err == -ETIMEDOUT || err == -ECONNRESET;
}

/* A connection must stand within what is left of patience; an answer on it may take its time. */
static unsigned int attempt_ms(const struct server *server, uint64_t until_ns)
{
	uint64_t now_ns = clock_ns();

	if (peer_is_connected(server->peer))
		return ATTEMPT_MS;
	return until_ns > now_ns ? (unsigned int)((until_ns - now_ns) / NSEC_PER_MSEC) + 1 : 1;
}

int servers_call(struct servers *servers, enum role role, uint32_t index, struct call *call)
{
	uint64_t until_ns = clock_ns() + servers->patience_ms * NSEC_PER_MSEC;
	struct server *server;
	int err;

	for (;;) {
		err = get(servers, role, index, &server);
		if (err < 0)
			return err;
		call->attempt_ms = attempt_ms(server, until_ns);
		err = peer_call(server->peer, call);
		server->answered = call->answered;
		if (err == 0 || !may_pass(call, err) || clock_ns() + RETRY_MS * NSEC_PER_MSEC >= until_ns)
			return err;
		call_release(call);
		fiber_sleep_ms(RETRY_MS);
	}
}

const char *servers_reason(const struct servers *servers, enum role role, uint32_t index, int err)
{
	const struct server *server = find(servers, role, index);
	const char *why;

	if (err == -ENXIO)
		return "it is not in the cluster map";
	if (err == -EBADMSG)
		return "its answers make no sense";
	if (err == -EOPNOTSUPP)
		return "it is of a version that cannot be checked";
	if (!server || server->answered)
		return strerror(-err);
	why = peer_last_error(server->peer);
	if (why[0] != '\0')
		return why;
	return err == -ECONNRESET ? "the connection breaks" : "it does not answer";
}
