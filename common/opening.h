/*
 * The opening: what both ends of a connection say before the first frame, so that each knows the other has the key and
 * is the one it wants.
 *
 *     client                                    server
 *     HELLO: versions, roles, wants, nonce  ->
 *                                           <-  WELCOME: who it is, nonce, mac("strake server", HELLO, WELCOME)
 *     PROOF: mac("strake client", HELLO, WELCOME)  ->
 *                                           <-  ACCEPT: credits
 *
 *   - Messages have a fixed size, whatever the version: an old and a new program always understand why they part.
 *   - WELCOME and ACCEPT carry a status; with one other than 0 they carry the reason in words, and the connection ends.
 *     A refusing WELCOME has a mac too: nobody without the key can make a client believe that its target has gone.
 *   - Both nonces go into both macs, so nothing can be replayed; the labels differ, so nothing can be reflected.
 *   - Pure: bytes in, decision out. The nonces are the caller's (getrandom).
 */
#ifndef STRAKE_COMMON_OPENING_H
#define STRAKE_COMMON_OPENING_H

#include "common/key.h"
#include "common/ops.h"
#include "common/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPENING_DEADLINE_MS 5000 /* for all of it, on both sides */

#define OPENING_MAGIC        "STKO"
#define OPENING_VERSION_MIN  1
#define OPENING_VERSION_MAX  1
#define OPENING_NONCE_SIZE   32
#define OPENING_TEXT_SIZE    128 /* with the NUL */
#define OPENING_HELLO_SIZE   96
#define OPENING_WELCOME_SIZE 240
#define OPENING_PROOF_SIZE   MAC_SIZE
#define OPENING_ACCEPT_SIZE  140

/* Offsets: magic 0, versions 4 and 6 (u16), own role 8, role 9, key kind 10, zero 11, line 12 (u32), uuids 16, 32, 48,
 * nonce 64.
 */
struct opening_hello {
	uint16_t version_min, version_max;
	enum role own_role;
	enum role role; /* who must answer; ROLE_ANY: whoever does */
	bool admin;     /* proven is the admin key instead of the cluster's */
	struct uuid own_uuid;
	/*
	 * Which of the client's lines this is, that follow one after the other: by its first request a connection takes the place
	 * of those of the same client and line that were open before it, of which nothing is executed any more. 0: of none.
	 */
	uint32_t line;
	struct uuid fs, target; /* who must answer; zero: whoever does */
	uint8_t nonce[OPENING_NONCE_SIZE];
};

/* Offsets: magic 0, version 4 (u16), role 6, zero 7, status 8, zero 12, fs 16, target 32, nonce 48, text 80, mac 208.
 */
struct opening_welcome {
	uint16_t version;
	enum role role;
	struct uuid fs, target;
};

/* What a server needs to know to decide. admin_key may be NULL: nobody is an admin here. */
struct opening_server {
	struct uuid fs, target; /* target zero: not checked */
	enum role role;
	const struct key *key, *admin_key;
	uint16_t credits;
};

/* --- client ----------------------------------------------------------------------------------------------------- */

/* version_min = version_max = 0: this program's. */
void opening_hello_encode(const struct opening_hello *hello, uint8_t out[OPENING_HELLO_SIZE]);

/*
 * Judge the server's WELCOME and make our PROOF. Otherwise say why not in ret_text:
 * -EKEYREJECTED  its mac is wrong: it does not have our key
 * -ESTALE        another filesystem, target or role
 * -EPROTO        no WELCOME at all, or no version in common
 * or whatever else the server refuses with.
 */
int opening_prove(const struct key *key, const uint8_t hello[OPENING_HELLO_SIZE],
		  const uint8_t welcome[OPENING_WELCOME_SIZE], struct opening_welcome *ret_welcome,
		  uint8_t ret_proof[OPENING_PROOF_SIZE], char ret_text[OPENING_TEXT_SIZE]);

/* 0, or what the server refuses with, and why, in ret_text. -EPROTO: not an ACCEPT. */
int opening_accepted(const uint8_t accept[OPENING_ACCEPT_SIZE], uint16_t *ret_credits,
		     char ret_text[OPENING_TEXT_SIZE]);

/* --- server ----------------------------------------------------------------------------------------------------- */

/* Can these bytes, as many as have come, be a HELLO's beginning? Asked before waiting for the rest. */
bool opening_hello_begins(const uint8_t *data, size_t size);

/*
 * Judge a HELLO and make the WELCOME to send, whatever the judgement; with an error the connection ends after it.
 * ret_text: why, as the client reads it. -EPROTO, -ESTALE as above; -EKEYREJECTED: there is no admin key here.
 */
int opening_welcome(const struct opening_server *self, const uint8_t hello[OPENING_HELLO_SIZE],
		    const uint8_t nonce[OPENING_NONCE_SIZE], struct opening_hello *ret_hello,
		    uint8_t ret_welcome[OPENING_WELCOME_SIZE], char ret_text[OPENING_TEXT_SIZE]);

/* Judge the PROOF that answers hello and welcome, and make the ACCEPT to send. -EKEYREJECTED: send it, then end. */
int opening_accept(const struct opening_server *self, const uint8_t hello[OPENING_HELLO_SIZE],
		   const uint8_t welcome[OPENING_WELCOME_SIZE], const uint8_t proof[OPENING_PROOF_SIZE],
		   uint8_t ret_accept[OPENING_ACCEPT_SIZE], char ret_text[OPENING_TEXT_SIZE]);

#endif
