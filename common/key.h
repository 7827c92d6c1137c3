/*
 * Keys: 32 random bytes, kept in a file of mode 0600 as 64 hex digits and a newline. The cluster key is proven by all
 * sides of every connection (opening.h); the admin key opens the admin's verbs.
 */
#ifndef STRAKE_COMMON_KEY_H
#define STRAKE_COMMON_KEY_H

#include <stddef.h>
#include <stdint.h>

#define KEY_SIZE 32
#define MAC_SIZE 32

struct key {
	uint8_t bytes[KEY_SIZE];
};

void key_make(struct key *ret_key);

/* Write to a new file (0600), synced with its folder. -EEXIST and others of open(2). */
int key_write(const char *path, const struct key *key);

/* -EINVAL: not 64 hex digits; -EPERM: others than the owner may read it; or errors of open(2). */
int key_read(const char *path, struct key *ret_key);

/* The file's bytes as such: 64 hex digits, and a newline or not. Pure. -EINVAL. */
int key_parse(const char *text, size_t size, struct key *ret_key);

/* HMAC-SHA256 (RFC 2104) over the concatenation of the parts. */
struct key_part {
	const void *data;
	size_t size;
};
void key_mac(const struct key *key, const struct key_part *parts, size_t count, uint8_t ret_mac[MAC_SIZE]);

#endif
