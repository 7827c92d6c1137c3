#include "common/rdma/preface.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define FLAG_APART    1
#define FLAG_PLACE    2
#define FLAG_VOIDABLE 4
#define PIECE_SIZE    16

static void put_piece(const struct remote_piece *piece, uint8_t *out)
{
	uint64_t address = htole64(piece->address);
	uint32_t key = htole32(piece->key), size = htole32(piece->size);

	memcpy(out, &address, sizeof(address));
	memcpy(out + 8, &key, sizeof(key));
	memcpy(out + 12, &size, sizeof(size));
}

static struct remote_piece get_piece(const uint8_t *in)
{
	uint64_t address;
	uint32_t key, size;

	memcpy(&address, in, sizeof(address));
	memcpy(&key, in + 8, sizeof(key));
	memcpy(&size, in + 12, sizeof(size));
	return (struct remote_piece){ le64toh(address), le32toh(key), le32toh(size) };
}

size_t preface_encode(const struct preface *preface, uint8_t out[PREFACE_SIZE_MAX])
{
	size_t size = PREFACE_SIZE_MIN;

	memset(out, 0, PREFACE_SIZE_MIN);
	out[0] = (uint8_t)((preface->apart ? FLAG_APART : 0) | (preface->place.size > 0 ? FLAG_PLACE : 0) |
			   (preface->voidable ? FLAG_VOIDABLE : 0));
	out[1] = (uint8_t)preface->piece_count;
	for (unsigned int i = 0; i < preface->piece_count; i++, size += PIECE_SIZE)
		put_piece(&preface->pieces[i], out + size);
	if (preface->place.size > 0) {
		put_piece(&preface->place, out + size);
		size += PIECE_SIZE;
	}
	return size;
}

uint32_t preface_void_key(const struct preface *preface)
{
	return preface->place.size > 0 ? preface->place.key : preface->pieces[0].key;
}

int preface_decode(const uint8_t *data, size_t size, struct preface *ret_preface, size_t *ret_size)
{
	struct preface preface = { 0 };
	size_t at = PREFACE_SIZE_MIN;

	*ret_size = PREFACE_SIZE_MIN;
	if (size < PREFACE_SIZE_MIN)
		return 0;
	if ((data[0] & ~(FLAG_APART | FLAG_PLACE | FLAG_VOIDABLE)) != 0 || data[1] > PREFACE_PIECES)
		return -EPROTO;
	preface.apart = data[0] & FLAG_APART;
	preface.voidable = data[0] & FLAG_VOIDABLE;
	preface.piece_count = data[1];
	*ret_size += PIECE_SIZE * (preface.piece_count + (data[0] & FLAG_PLACE ? 1 : 0));
	if (size < *ret_size)
		return 0;
	for (unsigned int i = 0; i < preface.piece_count; i++, at += PIECE_SIZE) {
		preface.pieces[i] = get_piece(data + at);
		if (preface.pieces[i].size == 0)
			return -EPROTO;
	}
	if (data[0] & FLAG_PLACE)
		preface.place = get_piece(data + at);
	if (preface.voidable && preface.piece_count == 0 && preface.place.size == 0)
		return -EPROTO;
	*ret_preface = preface;
	return 0;
}
