/*
 * The opening's four messages, each from somebody who may have the key and lie. The first byte says which one comes, and
 * whether its mac is made right before.
 */
#include "common/opening.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>

#define WELCOME_MAC_AT (OPENING_WELCOME_SIZE - MAC_SIZE)

enum kind { KIND_HELLO, KIND_WELCOME, KIND_PROOF, KIND_ACCEPT, KINDS };
#define RIGHT_MAC 0x80

static const struct key cluster_key = { { 1 } }, admin_key = { { 2 } };

static struct opening_server server_of(bool admin)
{
	return (struct opening_server){
		.fs = { { 3 } },
		.target = { { 4 } },
		.role = ROLE_OST,
		.key = &cluster_key,
		.admin_key = admin ? &admin_key : NULL,
		.credits = 16,
	};
}

static void hello_make(uint8_t out[OPENING_HELLO_SIZE], bool admin)
{
	const struct opening_hello hello = {
		.own_role = ROLE_CLIENT,
		.role = ROLE_OST,
		.admin = admin,
		.own_uuid = { { 5 } },
		.fs = { { 3 } },
		.target = { { 4 } },
		.nonce = { 6 },
	};

	opening_hello_encode(&hello, out);
}

static void welcome_make(uint8_t hello[OPENING_HELLO_SIZE], uint8_t out[OPENING_WELCOME_SIZE])
{
	const struct opening_server server = server_of(true);
	const uint8_t nonce[OPENING_NONCE_SIZE] = { 7 };
	char text[OPENING_TEXT_SIZE] = "";
	struct opening_hello wants;

	hello_make(hello, false);
	assert(opening_welcome(&server, hello, nonce, &wants, out, text) == 0);
}

/* Words for a person, with every error and with nothing else. */
static void check_text(int err, const char text[OPENING_TEXT_SIZE])
{
	size_t length = strnlen(text, OPENING_TEXT_SIZE);

	assert(length < OPENING_TEXT_SIZE);
	assert(err <= 0 && (err < 0 || length == 0));
	for (size_t i = 0; i < length; i++)
		assert(text[i] >= ' ' && text[i] <= '~');
}

static void hello_one(const uint8_t hello[OPENING_HELLO_SIZE], bool admin)
{
	const struct opening_server server = server_of(admin);
	const uint8_t nonce[OPENING_NONCE_SIZE] = { 7 };
	uint8_t welcome[OPENING_WELCOME_SIZE], proof[OPENING_PROOF_SIZE], accept[OPENING_ACCEPT_SIZE];
	char text[OPENING_TEXT_SIZE] = "";
	struct opening_welcome is;
	struct opening_hello wants;
	uint16_t credits;
	int err = opening_welcome(&server, hello, nonce, &wants, welcome, text);

	check_text(err, text);
	assert(err == 0 || (err == -EPROTO || err == -ESTALE || err == -EKEYREJECTED));
	assert((err == 0) == (text[0] == 0));
	if (err < 0)
		return;
	assert(opening_hello_begins(hello, OPENING_HELLO_SIZE));
	/* Whom the server takes, takes the server. */
	err = opening_prove(wants.admin ? &admin_key : &cluster_key, hello, welcome, &is, proof, text);
	check_text(err, text);
	assert(err == 0);
	assert(opening_accept(&server, hello, welcome, proof, accept, text) == 0);
	assert(opening_accepted(accept, &credits, text) == 0 && credits == server.credits);
}

static void welcome_one(uint8_t welcome[OPENING_WELCOME_SIZE], bool right_mac)
{
	uint8_t hello[OPENING_HELLO_SIZE], right[OPENING_WELCOME_SIZE], proof[OPENING_PROOF_SIZE];
	char text[OPENING_TEXT_SIZE] = "";
	struct opening_welcome is;
	int err;

	welcome_make(hello, right);
	if (right_mac) {
		const struct key_part parts[] = {
			{ "strake server", strlen("strake server") },
			{ hello, sizeof(hello) },
			{ welcome, WELCOME_MAC_AT },
		};

		key_mac(&cluster_key, parts, sizeof(parts) / sizeof(*parts), welcome + WELCOME_MAC_AT);
	}
	err = opening_prove(&cluster_key, hello, welcome, &is, proof, text);
	check_text(err, text);
	if (err == 0)
		assert(is.role == ROLE_OST && is.fs.bytes[0] == 3);
}

static void proof_one(const uint8_t proof[OPENING_PROOF_SIZE])
{
	const struct opening_server server = server_of(true);
	uint8_t hello[OPENING_HELLO_SIZE], welcome[OPENING_WELCOME_SIZE], accept[OPENING_ACCEPT_SIZE];
	char text[OPENING_TEXT_SIZE] = "";
	int err;

	welcome_make(hello, welcome);
	err = opening_accept(&server, hello, welcome, proof, accept, text);
	check_text(err, text);
	assert(err == 0 || err == -EKEYREJECTED);
}

static void accept_one(const uint8_t accept[OPENING_ACCEPT_SIZE])
{
	char text[OPENING_TEXT_SIZE] = "";
	uint16_t credits = 0;
	int err = opening_accepted(accept, &credits, text);

	check_text(err, text);
	assert((err == 0) == (credits != 0));
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	static const size_t sizes[KINDS] = { OPENING_HELLO_SIZE, OPENING_WELCOME_SIZE, OPENING_PROOF_SIZE,
					     OPENING_ACCEPT_SIZE };
	uint8_t selector, *message;
	enum kind kind;

	if (size == 0)
		return;
	selector = *data++;
	size--;
	kind = selector % KINDS;
	message = fuzz_copy(data, size);
	opening_hello_begins(message, size);
	if (size == sizes[kind]) {
		if (kind == KIND_HELLO)
			hello_one(message, selector & RIGHT_MAC);
		else if (kind == KIND_WELCOME)
			welcome_one(message, selector & RIGHT_MAC);
		else if (kind == KIND_PROOF)
			proof_one(message);
		else
			accept_one(message);
	}
	free(message);
}

static void fuzz_seeds(void)
{
	const struct opening_server server = server_of(true);
	uint8_t hello[OPENING_HELLO_SIZE], welcome[OPENING_WELCOME_SIZE], proof[OPENING_PROOF_SIZE];
	uint8_t accept[OPENING_ACCEPT_SIZE], selector;
	char text[OPENING_TEXT_SIZE] = "";
	struct opening_welcome is;

	for (unsigned int i = 0; i < 2; i++) {
		uint8_t mac = i ? RIGHT_MAC : 0;

		hello_make(hello, i);
		selector = KIND_HELLO | mac;
		fuzz_seed(&selector, 1, hello, sizeof(hello));
		welcome_make(hello, welcome);
		selector = KIND_WELCOME | mac;
		fuzz_seed(&selector, 1, welcome, sizeof(welcome));
	}
	assert(opening_prove(&cluster_key, hello, welcome, &is, proof, text) == 0);
	selector = KIND_PROOF;
	fuzz_seed(&selector, 1, proof, sizeof(proof));
	assert(opening_accept(&server, hello, welcome, proof, accept, text) == 0);
	selector = KIND_ACCEPT;
	fuzz_seed(&selector, 1, accept, sizeof(accept));
	memset(proof, 0, sizeof(proof));
	assert(opening_accept(&server, hello, welcome, proof, accept, text) < 0);
	fuzz_seed(&selector, 1, accept, sizeof(accept));
}
