#include "common/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>

#define ARENA_BLOCK_SIZE 2048
#define UNFOLD           64   /* an unpacked body is at most so many times its bytes, */
#define UNFOLD_ANY       8192 /* and these */

struct arena_block {
	struct arena_block *next;
	alignas(max_align_t) uint8_t data[];
};

static void *allocator_alloc(void *data, size_t size)
{
	return arena_alloc(data, size);
}

static void allocator_free(void *data, void *pointer)
{
	(void)data;
	(void)pointer;
}

void arena_init(struct arena *arena, void *first, size_t first_size, size_t max)
{
	assert((uintptr_t)first % alignof(max_align_t) == 0);
	*arena = (struct arena){
		.allocator = { .alloc = allocator_alloc, .free = allocator_free, .allocator_data = arena },
		.next = first,
		.end = first == NULL ? NULL : (uint8_t *)first + first_size,
		.left = max,
	};
}

void arena_release(struct arena *arena)
{
	while (arena->blocks != NULL) {
		struct arena_block *block = arena->blocks;

		arena->blocks = block->next;
		free(block);
	}
	arena->next = NULL;
	arena->end = NULL;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	const size_t align = alignof(max_align_t);
	void *piece;

	if (size > arena->left)
		return NULL;
	size = (size + align - 1) & ~(align - 1);

	if (size > (size_t)(arena->end - arena->next)) {
		size_t room = size > ARENA_BLOCK_SIZE ? size : ARENA_BLOCK_SIZE;
		struct arena_block *block = malloc(sizeof(*block) + room);

		if (block == NULL)
			return NULL;
		block->next = arena->blocks;
		arena->blocks = block;
		/* A piece of a block's size gets its own, and the rest of the old one goes on being used. */
		if (size >= ARENA_BLOCK_SIZE) {
			arena->left -= size < arena->left ? size : arena->left;
			return block->data;
		}
		arena->next = block->data;
		arena->end = block->data + room;
	}

	piece = arena->next;
	arena->next += size;
	arena->left -= size < arena->left ? size : arena->left;
	return piece;
}

ProtobufCMessage *arena_unpack(struct arena *arena, void *first, size_t first_size,
			       const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size)
{
	ProtobufCMessage *message;

	arena_init(arena, first, first_size, UNFOLD * size + UNFOLD_ANY);
	message = protobuf_c_message_unpack(type, &arena->allocator, size, data);
	if (message == NULL)
		arena_release(arena);
	return message;
}
