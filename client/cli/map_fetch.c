#include "client/cli/map_fetch.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "common/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_AGAIN_MS 25

struct fetch {
	const struct address_list *mgs;
	const struct key *key;
	uint64_t deadline_ns;
	bool (*enough)(void *arg, const Strake__MapReply *reply);
	void *arg;
	struct loop *loop;
	Strake__MapReply *reply;
	int err;
	char *error;
	size_t error_size;
};

static bool map_is_sound(const Strake__ClusterMap *map)
{
	if (map->fs_uuid.len != UUID_SIZE)
		return false;
	for (size_t i = 0; i < map->n_target; i++)
		if (map->target[i]->uuid.len != UUID_SIZE)
			return false;
	return true;
}

/* protobuf-c has no copy, and the peer's own goes with the call: out and in again. */
static Strake__MapReply *reply_copy(const Strake__MapReply *reply)
{
	size_t size = strake__map_reply__get_packed_size(reply);
	uint8_t *packed = malloc(size);
	Strake__MapReply *copy;

	if (!packed)
		return NULL;
	strake__map_reply__pack(reply, packed);
	copy = strake__map_reply__unpack(NULL, size, packed);
	free(packed);
	return copy;
}

static int ask_once(struct peer *peer, unsigned int timeout_ms, Strake__MapReply **ret_reply)
{
	Strake__MapRequest request = STRAKE__MAP_REQUEST__INIT;
	struct call call = { .opcode = OP_MAP, .request = &request.base, .attempt_ms = timeout_ms };
	int err = peer_call(peer, &call);

	if (err == 0 && !map_is_sound(((const Strake__MapReply *)call.reply)->map))
		err = -EPROTO;
	if (err == 0) {
		*ret_reply = reply_copy((const Strake__MapReply *)call.reply);
		err = *ret_reply ? 0 : -ENOMEM;
	}
	call_release(&call);
	return err;
}

/* Refused for what we are: nothing will be different if we ask again. */
static bool is_final(int err)
{
	return err == -EKEYREJECTED || err == -ESTALE || err == -EPROTO;
}

static void fetch_ask(struct fetch *fetch, struct peer *peer)
{
	for (;;) {
		uint64_t now_ns = clock_ns();
		Strake__MapReply *reply = NULL;

		if (now_ns >= fetch->deadline_ns)
			return;
		fetch->err = ask_once(peer, (unsigned int)((fetch->deadline_ns - now_ns) / NSEC_PER_MSEC) + 1, &reply);
		if (fetch->err == 0) {
			if (fetch->reply)
				strake__map_reply__free_unpacked(fetch->reply, NULL);
			fetch->reply = reply;
			if (!fetch->enough || fetch->enough(fetch->arg, reply))
				return;
			fetch->err = -EAGAIN;
		} else if (is_final(fetch->err)) {
			return;
		}
		fiber_sleep_ms(ASK_AGAIN_MS);
	}
}

static void fetch_explain(const struct fetch *fetch, const struct peer *peer)
{
	const char *others = fetch->mgs->count > 1 ? ", and likewise by its other addresses" : "";
	const char *why = peer_last_error(peer); /* with the address */

	if (fetch->err == -EAGAIN)
		snprintf(fetch->error, fetch->error_size, "the servers are not all up");
	else if (why[0] != '\0')
		snprintf(fetch->error, fetch->error_size, "cannot ask the MGS: %s%s", why, others);
	else
		snprintf(fetch->error, fetch->error_size, "cannot ask the MGS: %s: %s%s", fetch->mgs->text[0],
			 strerror(-fetch->err), others);
}

const char *map_fetch_advice(int err)
{
	return is_final(err) ? "" : "; is it running, and is that where it is (-m, STRAKE_MGS)?";
}

static void fetch_run(void *arg)
{
	struct fetch *fetch = arg;
	const char *addresses[ADDRESS_LIST_MAX];
	struct peer_config config = {
		.role = ROLE_MGS,
		.own_role = ROLE_CLIENT,
		.key = fetch->key,
		.addresses = addresses,
		.address_count = fetch->mgs->count,
	};
	struct peer *peer;

	for (size_t i = 0; i < fetch->mgs->count; i++)
		addresses[i] = fetch->mgs->text[i];
	uuid_make(&config.own_uuid);
	fetch->err = peer_new(fetch->loop, &config, &peer);
	if (fetch->err) {
		snprintf(fetch->error, fetch->error_size, "%s", strerror(-fetch->err));
	} else {
		fetch->err = -ETIMEDOUT;
		fetch_ask(fetch, peer);
		if (fetch->err)
			fetch_explain(fetch, peer);
		peer_free(peer);
	}
	loop_stop(fetch->loop);
}

int map_fetch(const struct address_list *mgs, const struct key *key, unsigned int timeout_ms,
	      bool (*enough)(void *arg, const Strake__MapReply *reply), void *arg, Strake__MapReply **ret_reply,
	      char *error, size_t error_size)
{
	struct fetch fetch = {
		.mgs = mgs,
		.key = key,
		.deadline_ns = clock_ns() + timeout_ms * NSEC_PER_MSEC,
		.enough = enough,
		.arg = arg,
		.error = error,
		.error_size = error_size,
	};
	int err = loop_new(&fetch.loop);

	if (err == 0)
		err = fiber_start(fetch.loop, fetch_run, &fetch);
	if (err == 0)
		err = loop_run(fetch.loop);
	loop_free(fetch.loop);
	if (err) {
		snprintf(error, error_size, "%s", strerror(-err));
		fetch.err = err;
	}
	if (fetch.err && fetch.err != -EAGAIN && fetch.reply) {
		strake__map_reply__free_unpacked(fetch.reply, NULL);
		fetch.reply = NULL;
	}
	if (fetch.err == 0 || fetch.err == -EAGAIN)
		*ret_reply = fetch.reply;
	return fetch.err;
}
