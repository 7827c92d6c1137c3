#include "common/opening.h"

#include "common/status.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	HELLO_VERSION_MIN = 4,
	HELLO_VERSION_MAX = 6,
	HELLO_OWN_ROLE = 8,
	HELLO_ROLE = 9,
	HELLO_KEY_KIND = 10,
	HELLO_LINE = 12,
	HELLO_OWN_UUID = 16,
	HELLO_FS = 32,
	HELLO_TARGET = 48,
	HELLO_NONCE = 64,

	WELCOME_VERSION = 4,
	WELCOME_ROLE = 6,
	WELCOME_STATUS = 8,
	WELCOME_FS = 16,
	WELCOME_TARGET = 32,
	WELCOME_NONCE = 48,
	WELCOME_TEXT = 80,
	WELCOME_MAC = 208,

	ACCEPT_STATUS = 4,
	ACCEPT_CREDITS = 8,
	ACCEPT_TEXT = 12,
};

_Static_assert(HELLO_NONCE + OPENING_NONCE_SIZE == OPENING_HELLO_SIZE, "HELLO has no gap");
_Static_assert(WELCOME_NONCE + OPENING_NONCE_SIZE == WELCOME_TEXT, "WELCOME has no gap");
_Static_assert(WELCOME_TEXT + OPENING_TEXT_SIZE == WELCOME_MAC, "WELCOME has no gap");
_Static_assert(WELCOME_MAC + MAC_SIZE == OPENING_WELCOME_SIZE, "WELCOME has no gap");
_Static_assert(ACCEPT_TEXT + OPENING_TEXT_SIZE == OPENING_ACCEPT_SIZE, "ACCEPT has no gap");

enum key_kind { KEY_CLUSTER = 1, KEY_ADMIN = 2 };

static void put_u16(uint8_t *out, unsigned int value)
{
	out[0] = (uint8_t)value;
	out[1] = (uint8_t)(value >> 8);
}

static unsigned int get_u16(const uint8_t *in)
{
	return in[0] | (unsigned int)in[1] << 8;
}

static void put_u32(uint8_t *out, uint32_t value)
{
	put_u16(out, value & 0xffff);
	put_u16(out + 2, value >> 16);
}

static uint32_t get_u32(const uint8_t *in)
{
	return get_u16(in) | (uint32_t)get_u16(in + 2) << 16;
}

static bool role_exists(unsigned int role)
{
	return role <= ROLE_ADMIN;
}

static bool magic_is_ours(const uint8_t *in)
{
	return memcmp(in, OPENING_MAGIC, 4) == 0;
}

/* Words from the other end are for a terminal: nothing but printable characters, and an end. */
static void text_get(const uint8_t *in, char ret_text[OPENING_TEXT_SIZE])
{
	size_t i;

	for (i = 0; i < OPENING_TEXT_SIZE - 1 && in[i] != 0; i++)
		ret_text[i] = isprint(in[i]) ? (char)in[i] : '?';
	ret_text[i] = 0;
}

/* The mac's label keeps one side's from being taken for the other's. */
static void mac_make(const struct key *key, const char *label, const uint8_t *hello, const uint8_t *welcome,
		     size_t welcome_size, uint8_t ret_mac[MAC_SIZE])
{
	const struct key_part parts[] = {
		{ label, strlen(label) },
		{ hello, OPENING_HELLO_SIZE },
		{ welcome, welcome_size },
	};

	key_mac(key, parts, sizeof(parts) / sizeof(*parts), ret_mac);
}

static void mac_server(const struct key *key, const uint8_t *hello, const uint8_t *welcome, uint8_t ret_mac[MAC_SIZE])
{
	mac_make(key, "strake server", hello, welcome, WELCOME_MAC, ret_mac);
}

static void mac_client(const struct key *key, const uint8_t *hello, const uint8_t *welcome, uint8_t ret_mac[MAC_SIZE])
{
	mac_make(key, "strake client", hello, welcome, OPENING_WELCOME_SIZE, ret_mac);
}

/* In a time that does not tell where they differ. */
static bool mac_equal(const uint8_t *a, const uint8_t *b)
{
	unsigned int difference = 0;

	for (size_t i = 0; i < MAC_SIZE; i++)
		difference |= (unsigned int)(a[i] ^ b[i]);
	return difference == 0;
}

/* --- client ----------------------------------------------------------------------------------------------------- */

void opening_hello_encode(const struct opening_hello *hello, uint8_t out[OPENING_HELLO_SIZE])
{
	bool ours = hello->version_max == 0;

	memset(out, 0, OPENING_HELLO_SIZE);
	memcpy(out, OPENING_MAGIC, 4);
	put_u16(out + HELLO_VERSION_MIN, ours ? OPENING_VERSION_MIN : hello->version_min);
	put_u16(out + HELLO_VERSION_MAX, ours ? OPENING_VERSION_MAX : hello->version_max);
	out[HELLO_OWN_ROLE] = (uint8_t)hello->own_role;
	out[HELLO_ROLE] = (uint8_t)hello->role;
	out[HELLO_KEY_KIND] = hello->admin ? KEY_ADMIN : KEY_CLUSTER;
	put_u32(out + HELLO_LINE, hello->line);
	memcpy(out + HELLO_OWN_UUID, hello->own_uuid.bytes, UUID_SIZE);
	memcpy(out + HELLO_FS, hello->fs.bytes, UUID_SIZE);
	memcpy(out + HELLO_TARGET, hello->target.bytes, UUID_SIZE);
	memcpy(out + HELLO_NONCE, hello->nonce, OPENING_NONCE_SIZE);
}

static void hello_get(const uint8_t *in, struct opening_hello *ret_hello)
{
	*ret_hello = (struct opening_hello){
		.version_min = (uint16_t)get_u16(in + HELLO_VERSION_MIN),
		.version_max = (uint16_t)get_u16(in + HELLO_VERSION_MAX),
		.own_role = in[HELLO_OWN_ROLE],
		.role = in[HELLO_ROLE],
		.admin = in[HELLO_KEY_KIND] == KEY_ADMIN,
		.line = get_u32(in + HELLO_LINE),
	};
	memcpy(ret_hello->own_uuid.bytes, in + HELLO_OWN_UUID, UUID_SIZE);
	memcpy(ret_hello->fs.bytes, in + HELLO_FS, UUID_SIZE);
	memcpy(ret_hello->target.bytes, in + HELLO_TARGET, UUID_SIZE);
	memcpy(ret_hello->nonce, in + HELLO_NONCE, OPENING_NONCE_SIZE);
}

/* Is who answers the one that was asked for? Role ANY and zero UUIDs ask for nobody in particular. */
static int identity_check(const struct opening_hello *wanted, enum role role, const struct uuid *fs,
			  const struct uuid *target, char ret_text[OPENING_TEXT_SIZE])
{
	char is[UUID_STRING_SIZE], want[UUID_STRING_SIZE];

	if (wanted->role != ROLE_ANY && wanted->role != role) {
		snprintf(ret_text, OPENING_TEXT_SIZE, "this is an %s, not an %s", role_name(role),
			 role_name(wanted->role));
		return -ESTALE;
	}
	if (!uuid_is_zero(&wanted->fs) && !uuid_equal(&wanted->fs, fs)) {
		snprintf(ret_text, OPENING_TEXT_SIZE, "this is filesystem %s, not %s", uuid_format(fs, is),
			 uuid_format(&wanted->fs, want));
		return -ESTALE;
	}
	if (!uuid_is_zero(&wanted->target) && !uuid_is_zero(target) && !uuid_equal(&wanted->target, target)) {
		snprintf(ret_text, OPENING_TEXT_SIZE, "this is target %s, not %s", uuid_format(target, is),
			 uuid_format(&wanted->target, want));
		return -ESTALE;
	}
	return 0;
}

int opening_prove(const struct key *key, const uint8_t hello[OPENING_HELLO_SIZE],
		  const uint8_t welcome[OPENING_WELCOME_SIZE], struct opening_welcome *ret_welcome,
		  uint8_t ret_proof[OPENING_PROOF_SIZE], char ret_text[OPENING_TEXT_SIZE])
{
	struct opening_hello wanted;
	struct opening_welcome is = { 0 };
	uint8_t mac[MAC_SIZE];
	int err, status;

	if (!magic_is_ours(welcome)) {
		snprintf(ret_text, OPENING_TEXT_SIZE, "what answers is no strake server");
		return -EPROTO;
	}

	status = status_to_errno(get_u32(welcome + WELCOME_STATUS));
	mac_server(key, hello, welcome, mac);
	if (!mac_equal(mac, welcome + WELCOME_MAC)) {
		/* Its words are not proven, but may help whoever holds the wrong kind of key. */
		if (status == -EKEYREJECTED)
			text_get(welcome + WELCOME_TEXT, ret_text);
		else
			snprintf(ret_text, OPENING_TEXT_SIZE, "wrong key: the server's is another");
		return -EKEYREJECTED;
	}
	if (status < 0) {
		text_get(welcome + WELCOME_TEXT, ret_text);
		return status;
	}

	/* The server has judged itself by our HELLO; a bug there must not make us write to another's target. */
	hello_get(hello, &wanted);
	is.version = (uint16_t)get_u16(welcome + WELCOME_VERSION);
	is.role = welcome[WELCOME_ROLE];
	memcpy(is.fs.bytes, welcome + WELCOME_FS, UUID_SIZE);
	memcpy(is.target.bytes, welcome + WELCOME_TARGET, UUID_SIZE);
	if (is.version < wanted.version_min || is.version > wanted.version_max || !role_exists(is.role)) {
		snprintf(ret_text, OPENING_TEXT_SIZE, "the server answers with version %u, which nobody asked for",
			 is.version);
		return -EPROTO;
	}
	err = identity_check(&wanted, is.role, &is.fs, &is.target, ret_text);
	if (err < 0)
		return err;

	mac_client(key, hello, welcome, ret_proof);
	*ret_welcome = is;
	return 0;
}

int opening_accepted(const uint8_t accept[OPENING_ACCEPT_SIZE], uint16_t *ret_credits, char ret_text[OPENING_TEXT_SIZE])
{
	unsigned int credits = get_u16(accept + ACCEPT_CREDITS);
	int status = status_to_errno(get_u32(accept + ACCEPT_STATUS));

	if (!magic_is_ours(accept)) {
		snprintf(ret_text, OPENING_TEXT_SIZE, "what answers is no strake server");
		return -EPROTO;
	}
	if (status < 0) {
		text_get(accept + ACCEPT_TEXT, ret_text);
		return status;
	}
	if (credits == 0) {
		snprintf(ret_text, OPENING_TEXT_SIZE, "the server takes no requests");
		return -EPROTO;
	}

	*ret_credits = (uint16_t)credits;
	return 0;
}

/* --- server ----------------------------------------------------------------------------------------------------- */

bool opening_hello_begins(const uint8_t *data, size_t size)
{
	return memcmp(data, OPENING_MAGIC, size < 4 ? size : 4) == 0;
}

/* What is wrong with a HELLO, apart from the key. */
static int hello_judge(const struct opening_server *self, const uint8_t *bytes, const struct opening_hello *hello,
		       char ret_text[OPENING_TEXT_SIZE])
{
	unsigned int kind = bytes[HELLO_KEY_KIND];

	if (!magic_is_ours(bytes) || !role_exists(hello->own_role) || !role_exists(hello->role) ||
	    (kind != KEY_CLUSTER && kind != KEY_ADMIN) || hello->version_min > hello->version_max) {
		snprintf(ret_text, OPENING_TEXT_SIZE, "malformed greeting");
		return -EPROTO;
	}
	if (hello->version_max < OPENING_VERSION_MIN || hello->version_min > OPENING_VERSION_MAX) {
		snprintf(ret_text, OPENING_TEXT_SIZE,
			 "no protocol version in common: the server speaks %u to %u, the client %u to %u",
			 OPENING_VERSION_MIN, OPENING_VERSION_MAX, hello->version_min, hello->version_max);
		return -EPROTO;
	}
	if (hello->admin && self->admin_key == NULL) {
		snprintf(ret_text, OPENING_TEXT_SIZE, "this server takes no admin key; use the cluster key");
		return -EKEYREJECTED;
	}
	return identity_check(hello, self->role, &self->fs, &self->target, ret_text);
}

int opening_welcome(const struct opening_server *self, const uint8_t hello[OPENING_HELLO_SIZE],
		    const uint8_t nonce[OPENING_NONCE_SIZE], struct opening_hello *ret_hello,
		    uint8_t ret_welcome[OPENING_WELCOME_SIZE], char ret_text[OPENING_TEXT_SIZE])
{
	char text[OPENING_TEXT_SIZE] = "";
	struct opening_hello wanted;
	unsigned int version;
	int err;

	hello_get(hello, &wanted);
	err = hello_judge(self, hello, &wanted, text);
	version = wanted.version_max < OPENING_VERSION_MAX ? wanted.version_max : OPENING_VERSION_MAX;

	memset(ret_welcome, 0, OPENING_WELCOME_SIZE);
	memcpy(ret_welcome, OPENING_MAGIC, 4);
	put_u16(ret_welcome + WELCOME_VERSION, version);
	ret_welcome[WELCOME_ROLE] = (uint8_t)self->role;
	put_u32(ret_welcome + WELCOME_STATUS, status_from_errno(err));
	memcpy(ret_welcome + WELCOME_FS, self->fs.bytes, UUID_SIZE);
	memcpy(ret_welcome + WELCOME_TARGET, self->target.bytes, UUID_SIZE);
	memcpy(ret_welcome + WELCOME_NONCE, nonce, OPENING_NONCE_SIZE);
	memcpy(ret_welcome + WELCOME_TEXT, text, OPENING_TEXT_SIZE);
	mac_server(wanted.admin && self->admin_key != NULL ? self->admin_key : self->key, hello, ret_welcome,
		   ret_welcome + WELCOME_MAC);

	if (err < 0) {
		memcpy(ret_text, text, OPENING_TEXT_SIZE);
		return err;
	}
	*ret_hello = wanted;
	return 0;
}

int opening_accept(const struct opening_server *self, const uint8_t hello[OPENING_HELLO_SIZE],
		   const uint8_t welcome[OPENING_WELCOME_SIZE], const uint8_t proof[OPENING_PROOF_SIZE],
		   uint8_t ret_accept[OPENING_ACCEPT_SIZE], char ret_text[OPENING_TEXT_SIZE])
{
	bool admin = hello[HELLO_KEY_KIND] == KEY_ADMIN;
	uint8_t mac[MAC_SIZE];
	int err = 0;

	assert(!admin || self->admin_key != NULL);
	memset(ret_accept, 0, OPENING_ACCEPT_SIZE);
	memcpy(ret_accept, OPENING_MAGIC, 4);
	put_u16(ret_accept + ACCEPT_CREDITS, self->credits);

	mac_client(admin ? self->admin_key : self->key, hello, welcome, mac);
	if (!mac_equal(mac, proof)) {
		err = -EKEYREJECTED;
		snprintf(ret_text, OPENING_TEXT_SIZE, "wrong key: the client's %s key is not the server's",
			 admin ? "admin" : "cluster");
		snprintf((char *)ret_accept + ACCEPT_TEXT, OPENING_TEXT_SIZE, "%s", ret_text);
	}
	put_u32(ret_accept + ACCEPT_STATUS, status_from_errno(err));
	return err;
}
