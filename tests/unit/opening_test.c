/* The opening: who is let in, who is told why not, and that nothing can be changed, replayed or turned round. */
#include "common/opening.h"

#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

/* Everything that was said, and what came of it. */
struct talk {
	struct opening_server server;
	struct opening_hello wants;
	const struct key *client_key;

	uint8_t nonce[OPENING_NONCE_SIZE];
	uint8_t hello[OPENING_HELLO_SIZE];
	uint8_t welcome[OPENING_WELCOME_SIZE];
	uint8_t proof[OPENING_PROOF_SIZE];
	uint8_t accept[OPENING_ACCEPT_SIZE];
	struct opening_hello heard;
	struct opening_welcome is;
	uint16_t credits;
	int welcomed, proven, let_in, accepted; /* results, in this order */
	char server_text[OPENING_TEXT_SIZE], client_text[OPENING_TEXT_SIZE];
};

static const struct key cluster = { { 1 } }, admin = { { 2 } }, foreign = { { 3 } };

static struct uuid uuid_of(uint8_t byte)
{
	struct uuid uuid;

	memset(&uuid, byte, sizeof(uuid));
	return uuid;
}

static struct talk talk_good(void)
{
	struct talk talk = {
		.server = { .fs = uuid_of(1),
			    .target = uuid_of(2),
			    .role = ROLE_OST,
			    .key = &cluster,
			    .admin_key = &admin,
			    .credits = 64 },
		.wants = { .own_role = ROLE_CLIENT,
			   .role = ROLE_OST,
			   .own_uuid = uuid_of(3),
			   .fs = uuid_of(1),
			   .target = uuid_of(2) },
		.client_key = &cluster,
	};

	memset(talk.wants.nonce, 0x11, sizeof(talk.wants.nonce));
	memset(talk.nonce, 0x22, sizeof(talk.nonce));
	return talk;
}

static void talk_welcome(struct talk *talk)
{
	talk->welcomed = opening_welcome(&talk->server, talk->hello, talk->nonce, &talk->heard, talk->welcome,
					 talk->server_text);
}

static void talk_prove(struct talk *talk)
{
	talk->proven =
		opening_prove(talk->client_key, talk->hello, talk->welcome, &talk->is, talk->proof, talk->client_text);
}

static void talk_accept(struct talk *talk)
{
	talk->let_in =
		opening_accept(&talk->server, talk->hello, talk->welcome, talk->proof, talk->accept, talk->server_text);
	talk->accepted = opening_accepted(talk->accept, &talk->credits, talk->client_text);
}

static void talk_all(struct talk *talk)
{
	opening_hello_encode(&talk->wants, talk->hello);
	talk_welcome(talk);
	talk_prove(talk);
	if (talk->welcomed == 0 && talk->proven == 0)
		talk_accept(talk);
}

START_TEST(the_right_client_is_let_in)
{
	struct talk talk = talk_good();

	talk_all(&talk);
	ck_assert_int_eq(talk.welcomed, 0);
	ck_assert_int_eq(talk.proven, 0);
	ck_assert_int_eq(talk.let_in, 0);
	ck_assert_int_eq(talk.accepted, 0);
	ck_assert_uint_eq(talk.credits, 64);
	ck_assert_int_eq(talk.heard.own_role, ROLE_CLIENT);
	ck_assert(!talk.heard.admin);
	ck_assert(uuid_equal(&talk.heard.own_uuid, &talk.wants.own_uuid));
	ck_assert_uint_eq(talk.is.version, OPENING_VERSION_MAX);
	ck_assert_int_eq(talk.is.role, ROLE_OST);
	ck_assert(uuid_equal(&talk.is.fs, &talk.server.fs));
	ck_assert(uuid_equal(&talk.is.target, &talk.server.target));

	/* Who wants nobody in particular takes whom he meets, and is told who that is. */
	talk.wants.role = ROLE_ANY;
	talk.wants.fs = talk.wants.target = (struct uuid){ 0 };
	talk.is = (struct opening_welcome){ 0 };
	talk_all(&talk);
	ck_assert_int_eq(talk.accepted, 0);
	ck_assert(uuid_equal(&talk.is.fs, &talk.server.fs));
	ck_assert(uuid_equal(&talk.is.target, &talk.server.target));

	/* The admin's key opens it too, and is told apart. */
	talk.wants.admin = true;
	talk.client_key = &admin;
	talk_all(&talk);
	ck_assert_int_eq(talk.accepted, 0);
	ck_assert(talk.heard.admin);
}
END_TEST

/* Who is refused, with what, and with which words in the client's hands. */
struct refusal {
	const char *name;
	void (*change)(struct talk *talk);
	int result;
	const char *words;
};

static void wrong_fs(struct talk *talk)
{
	talk->wants.fs = uuid_of(9);
}

static void wrong_target(struct talk *talk)
{
	talk->wants.target = uuid_of(9);
}

static void wrong_role(struct talk *talk)
{
	talk->wants.role = ROLE_MDT;
}

static void wrong_key(struct talk *talk)
{
	talk->client_key = &foreign;
}

static void wrong_key_and_fs(struct talk *talk)
{
	talk->client_key = &foreign;
	talk->wants.fs = uuid_of(9);
}

static void cluster_key_for_admin(struct talk *talk)
{
	talk->wants.admin = true;
}

static void admin_key_for_cluster(struct talk *talk)
{
	talk->client_key = &admin;
}

static void no_admin_here(struct talk *talk)
{
	talk->server.admin_key = NULL;
	talk->wants.admin = true;
	talk->client_key = &admin;
}

static void version_too_new(struct talk *talk)
{
	talk->wants.version_min = OPENING_VERSION_MAX + 1;
	talk->wants.version_max = OPENING_VERSION_MAX + 3;
}

static void versions_upside_down(struct talk *talk)
{
	talk->wants.version_min = 2;
	talk->wants.version_max = 1;
}

static const struct refusal refusals[] = {
	{ "filesystem", wrong_fs, -ESTALE,
	  "this is filesystem 01010101-0101-0101-0101-010101010101, not 09090909-0909-0909-0909-090909090909" },
	{ "target", wrong_target, -ESTALE, "not 09090909-" },
	{ "role", wrong_role, -ESTALE, "this is an ost, not an mdt" },
	{ "key", wrong_key, -EKEYREJECTED, "wrong key" },
	{ "key and filesystem", wrong_key_and_fs, -EKEYREJECTED, "wrong key" },
	{ "cluster key for admin", cluster_key_for_admin, -EKEYREJECTED, "wrong key" },
	{ "admin key for cluster", admin_key_for_cluster, -EKEYREJECTED, "wrong key" },
	{ "no admin", no_admin_here, -EKEYREJECTED, "takes no admin key" },
	{ "version", version_too_new, -EPROTO, "the server speaks 1 to 1, the client 2 to 4" },
	{ "versions", versions_upside_down, -EPROTO, "malformed" },
};

START_TEST(the_wrong_client_is_told_why)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		struct talk talk = talk_good();

		refusals[i].change(&talk);
		talk_all(&talk);
		ck_assert_msg(talk.proven == refusals[i].result, "%s: %d", refusals[i].name, talk.proven);
		ck_assert_msg(strstr(talk.client_text, refusals[i].words) != NULL, "%s: %s", refusals[i].name,
			      talk.client_text);
		/* The server refuses too: at once, or when it sees the proof that this client can make. */
		if (talk.welcomed == 0) {
			memset(talk.proof, 0, sizeof(talk.proof));
			talk_accept(&talk);
			ck_assert_int_eq(talk.let_in, -EKEYREJECTED);
			ck_assert_int_eq(talk.accepted, -EKEYREJECTED);
			ck_assert_ptr_nonnull(strstr(talk.client_text, "wrong key"));
		} else {
			ck_assert_str_ne(talk.server_text, "");
		}
	}
}
END_TEST

/* Somebody in between flips one bit: of any message, any bit is noticed by somebody. */
START_TEST(every_bit_counts)
{
	for (size_t bit = 0; bit < 8 * OPENING_HELLO_SIZE; bit++) {
		struct talk talk = talk_good();
		uint8_t sent[OPENING_HELLO_SIZE];

		opening_hello_encode(&talk.wants, sent);
		memcpy(talk.hello, sent, sizeof(sent));
		talk.hello[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (!opening_hello_begins(talk.hello, sizeof(talk.hello))) {
			ck_assert_uint_lt(bit, 32);
			continue;
		}
		talk_welcome(&talk);
		memcpy(talk.hello, sent, sizeof(sent)); /* the client knows what it has said */
		talk_prove(&talk);
		ck_assert_msg(talk.proven < 0, "bit %zu of HELLO", bit);
	}
	for (size_t bit = 0; bit < 8 * OPENING_WELCOME_SIZE; bit++) {
		struct talk talk = talk_good();

		opening_hello_encode(&talk.wants, talk.hello);
		talk_welcome(&talk);
		talk.welcome[bit / 8] ^= (uint8_t)(1 << bit % 8);
		talk_prove(&talk);
		ck_assert_msg(talk.proven == (bit < 32 ? -EPROTO : -EKEYREJECTED), "bit %zu of WELCOME", bit);
	}
	for (size_t bit = 0; bit < 8 * OPENING_PROOF_SIZE; bit++) {
		struct talk talk = talk_good();

		opening_hello_encode(&talk.wants, talk.hello);
		talk_welcome(&talk);
		talk_prove(&talk);
		talk.proof[bit / 8] ^= (uint8_t)(1 << bit % 8);
		talk_accept(&talk);
		ck_assert_int_eq(talk.let_in, -EKEYREJECTED);
	}
}
END_TEST

/* What was said once opens nothing a second time: the other side's nonce is a new one. */
START_TEST(nothing_can_be_replayed)
{
	struct talk old = talk_good(), now;

	talk_all(&old);
	ck_assert_int_eq(old.accepted, 0);

	now = old; /* the client's words, to the server */
	memset(now.nonce, 0x23, sizeof(now.nonce));
	talk_welcome(&now);
	ck_assert_int_eq(now.welcomed, 0);
	talk_accept(&now);
	ck_assert_int_eq(now.let_in, -EKEYREJECTED);

	now = old; /* the server's words, to the client */
	memset(now.wants.nonce, 0x12, sizeof(now.wants.nonce));
	opening_hello_encode(&now.wants, now.hello);
	talk_prove(&now);
	ck_assert_int_eq(now.proven, -EKEYREJECTED);
}
END_TEST

/* Without the key, with nothing but the server's own words: its mac is no proof, whatever nonces are chosen. */
START_TEST(nothing_can_be_reflected)
{
	struct talk talk = talk_good();

	memcpy(talk.wants.nonce, talk.nonce, sizeof(talk.nonce));
	opening_hello_encode(&talk.wants, talk.hello);
	talk_welcome(&talk);
	memcpy(talk.proof, talk.welcome + OPENING_WELCOME_SIZE - MAC_SIZE, MAC_SIZE);
	talk_accept(&talk);
	ck_assert_int_eq(talk.let_in, -EKEYREJECTED);

	/* Nor is a client's proof good as a server's mac. */
	talk_prove(&talk);
	ck_assert_int_eq(talk.proven, 0);
	memcpy(talk.welcome + OPENING_WELCOME_SIZE - MAC_SIZE, talk.proof, MAC_SIZE);
	talk_prove(&talk);
	ck_assert_int_eq(talk.proven, -EKEYREJECTED);
}
END_TEST

/* The macs as opening.h writes them down: programs of different age make the same ones. */
static void mac_by_the_book(const struct key *key, const char *label, const struct talk *talk, size_t welcome_size,
			    uint8_t ret_mac[MAC_SIZE])
{
	const struct key_part parts[] = {
		{ label, strlen(label) },
		{ talk->hello, OPENING_HELLO_SIZE },
		{ talk->welcome, welcome_size },
	};

	key_mac(key, parts, 3, ret_mac);
}

START_TEST(macs_are_those_of_the_header_file)
{
	struct talk talk = talk_good();
	uint8_t mac[MAC_SIZE];

	talk_all(&talk);
	ck_assert_int_eq(talk.accepted, 0);
	mac_by_the_book(&cluster, "strake server", &talk, OPENING_WELCOME_SIZE - MAC_SIZE, mac);
	ck_assert_mem_eq(talk.welcome + OPENING_WELCOME_SIZE - MAC_SIZE, mac, MAC_SIZE);
	mac_by_the_book(&cluster, "strake client", &talk, OPENING_WELCOME_SIZE, mac);
	ck_assert_mem_eq(talk.proof, mac, MAC_SIZE);
}
END_TEST

/* A server that has the key and does not heed the HELLO: the client looks for itself whom it has met. */
START_TEST(a_client_believes_its_own_eyes)
{
	static const struct {
		size_t offset; /* in WELCOME */
		int result;
	} lies[] = {
		{ 4, -EPROTO },  /* version */
		{ 6, -ESTALE },  /* role */
		{ 16, -ESTALE }, /* filesystem */
		{ 32, -ESTALE }, /* target */
	};

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		struct talk talk = talk_good();

		opening_hello_encode(&talk.wants, talk.hello);
		talk_welcome(&talk);
		talk.welcome[lies[i].offset]++;
		mac_by_the_book(&cluster, "strake server", &talk, OPENING_WELCOME_SIZE - MAC_SIZE,
				talk.welcome + OPENING_WELCOME_SIZE - MAC_SIZE);
		talk_prove(&talk);
		ck_assert_msg(talk.proven == lies[i].result, "lie %zu: %d", i, talk.proven);
		ck_assert_str_ne(talk.client_text, "");
	}
}
END_TEST

START_TEST(the_beginning_of_a_hello_is_enough_to_refuse)
{
	struct talk talk = talk_good();

	opening_hello_encode(&talk.wants, talk.hello);
	for (size_t size = 0; size <= sizeof(talk.hello); size++)
		ck_assert(opening_hello_begins(talk.hello, size));
	ck_assert(!opening_hello_begins((const uint8_t *)"G", 1));
	ck_assert(!opening_hello_begins((const uint8_t *)"STRK", 4));
	ck_assert(!opening_hello_begins((const uint8_t *)"STKQ", 4));
}
END_TEST

/* The server's words reach a terminal. */
START_TEST(words_are_made_harmless)
{
	char text[OPENING_TEXT_SIZE];
	struct talk talk = talk_good();
	uint16_t credits = 0;

	talk_all(&talk);
	talk.accept[4] = 116; /* ESTALE */
	memset(talk.accept + 12, 'x', OPENING_TEXT_SIZE);
	memcpy(talk.accept + 12, "\033[2Jab\n\xff", 8);
	ck_assert_int_eq(opening_accepted(talk.accept, &credits, text), -ESTALE);
	ck_assert_int_eq(strncmp(text, "?[2Jab??xx", 10), 0);
	ck_assert_uint_eq(strlen(text), OPENING_TEXT_SIZE - 1);

	talk_accept(&talk);
	talk.accept[0] ^= 1;
	ck_assert_int_eq(opening_accepted(talk.accept, &credits, text), -EPROTO);
	talk.accept[0] ^= 1;
	talk.accept[8] = 0; /* no credits */
	ck_assert_int_eq(opening_accepted(talk.accept, &credits, text), -EPROTO);
}
END_TEST

UNIT_MAIN("opening", the_right_client_is_let_in, the_wrong_client_is_told_why, every_bit_counts,
	  nothing_can_be_replayed, nothing_can_be_reflected, macs_are_those_of_the_header_file,
	  a_client_believes_its_own_eyes, the_beginning_of_a_hello_is_enough_to_refuse, words_are_made_harmless)
