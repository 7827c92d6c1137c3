#include "common/siphash.h"
#include "tests/unit/unit.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <string.h>

#define SIZE_MAX_TESTED 600 /* beyond 255, where the length in the last word wraps */

static void make_key(uint8_t key[SIPHASH_KEY_SIZE])
{
	for (uint8_t i = 0; i < SIPHASH_KEY_SIZE; i++)
		key[i] = i;
}

/* The paper's appendix A: key 00..0f, message 00..0e. And the first of the authors' list of vectors. */
START_TEST(vectors)
{
	static const struct {
		size_t size;
		uint64_t hash;
	} rows[] = {
		{ 15, UINT64_C(0xa129ca6149be45e5) }, { 0, UINT64_C(0x726fdb47dd0e0e31) },
		{ 1, UINT64_C(0x74f839c593dc67fd) },  { 2, UINT64_C(0x0d6c8009d9a94f5a) },
		{ 3, UINT64_C(0x85676696d7fb7e2d) },  { 8, UINT64_C(0x93f5f5799a932462) },
	};
	uint8_t key[SIPHASH_KEY_SIZE], message[16];

	make_key(key);
	for (uint8_t i = 0; i < sizeof(message); i++)
		message[i] = i;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_uint_eq(siphash(key, message, rows[i].size), rows[i].hash);
	ck_assert_uint_eq(siphash(key, NULL, 0), rows[1].hash);
}
END_TEST

static uint64_t reference(EVP_MAC *algorithm, const uint8_t *key, const uint8_t *data, size_t size)
{
	EVP_MAC_CTX *context = EVP_MAC_CTX_new(algorithm);
	size_t wanted = 8, length = 0;
	OSSL_PARAM params[] = { OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &wanted), OSSL_PARAM_construct_end() };
	uint64_t hash = 0;
	uint8_t out[8];

	ck_assert_int_eq(EVP_MAC_init(context, key, SIPHASH_KEY_SIZE, params), 1);
	ck_assert_int_eq(EVP_MAC_update(context, data, size), 1);
	ck_assert_int_eq(EVP_MAC_final(context, out, &length, sizeof(out)), 1);
	ck_assert_uint_eq(length, sizeof(out));
	for (unsigned int i = 0; i < 8; i++)
		hash |= (uint64_t)out[i] << (8 * i);
	EVP_MAC_CTX_free(context);
	return hash;
}

/* OpenSSL has one too; and the data may lie at any address. */
START_TEST(same_as_openssl)
{
	EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
	uint8_t key[SIPHASH_KEY_SIZE], message[SIZE_MAX_TESTED + 1];

	ck_assert_ptr_nonnull(algorithm);
	make_key(key);
	key[3] = 0xee;
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (uint8_t)(i * 131 + 7);
	for (size_t size = 0; size <= SIZE_MAX_TESTED; size++)
		ck_assert_uint_eq(siphash(key, message + size % 2, size),
				  reference(algorithm, key, message + size % 2, size));
	EVP_MAC_free(algorithm);
}
END_TEST

UNIT_MAIN("siphash", vectors, same_as_openssl)
