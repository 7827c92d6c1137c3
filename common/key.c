#include "common/key.h"

#include "common/fd_io.h"
#include "common/hex.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_SIZE (2 * KEY_SIZE + 1) /* in the file: the digits and a newline */

void key_make(struct key *ret_key)
{
	/* Up to 256 bytes come whole once the pool is ready (getrandom(2)); only the wait for that is interrupted. */
	while (getrandom(ret_key->bytes, KEY_SIZE, 0) != KEY_SIZE)
		assert(errno == EINTR);
}

int key_write(const char *path, const struct key *key)
{
	char text[TEXT_SIZE];
	int err;

	*hex_format(key->bytes, KEY_SIZE, text) = '\n';
	err = fd_make_file(path, text, sizeof(text), 0600);
	explicit_bzero(text, sizeof(text));
	return err;
}

int key_parse(const char *text, size_t size, struct key *ret_key)
{
	struct key key;
	int err;

	if (size == TEXT_SIZE && text[TEXT_SIZE - 1] == '\n')
		size--;
	if (size != TEXT_SIZE - 1)
		return -EINVAL;
	err = hex_parse(text, key.bytes, KEY_SIZE);
	if (err == 0)
		*ret_key = key;
	explicit_bzero(&key, sizeof(key));
	return err;
}

static int key_read_from(int fd, struct key *ret_key)
{
	char text[TEXT_SIZE + 1]; /* one more, to see that there is none */
	struct stat stat;
	ssize_t got;
	int err;

	if (fstat(fd, &stat) < 0)
		return -errno;
	if (!S_ISREG(stat.st_mode))
		return -EINVAL;
	if (stat.st_mode & (S_IRWXG | S_IRWXO))
		return -EPERM;
	got = fd_read_all(fd, text, sizeof(text));
	err = got < 0 ? (int)got : key_parse(text, (size_t)got, ret_key);
	explicit_bzero(text, sizeof(text));
	return err;
}

int key_read(const char *path, struct key *ret_key)
{
	int err, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not hold us up */

	if (fd < 0)
		return -errno;
	err = key_read_from(fd, ret_key);
	close(fd);
	return err;
}

/* OpenSSL fails here only without memory or without SHA-256; a process that cannot prove anything has no way on. */
void key_mac(const struct key *key, const struct key_part *parts, size_t count, uint8_t ret_mac[MAC_SIZE])
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *context = algorithm ? EVP_MAC_CTX_new(algorithm) : NULL;
	size_t length = 0;
	int done;

	assert(context);
	done = EVP_MAC_init(context, key->bytes, KEY_SIZE, params);
	for (size_t i = 0; i < count && done; i++)
		done = parts[i].size == 0 || EVP_MAC_update(context, parts[i].data, parts[i].size);
	done = done && EVP_MAC_final(context, ret_mac, &length, MAC_SIZE);
	assert(done && length == MAC_SIZE);
	EVP_MAC_CTX_free(context);
	EVP_MAC_free(algorithm);
}
