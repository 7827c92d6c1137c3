#include "mds/state.h"

#include "common/logger.h"
#include "mds/pack.h"

#define META_VERSION  2
#define META_ROW_SIZE (1 + 7 * 8 + HASH_KEY_SIZE)

/* Table meta also belongs to view.c ("applied"), so the key says whose this is. */
static const struct bytes meta_key = { "mdt", 3 };

void state_load(struct state *ret_state, struct view *view)
{
	struct meta meta;
	struct unpack row;
	struct bytes value;
	uint8_t version;

	*ret_state = (struct state){ .view = view };
	if (view_get(view, TABLE_META, meta_key, &value) < 0)
		return;

	row = unpack_begin(value);
	version = unpack_u8(&row);
	if (version > META_VERSION)
		logger_die("the MDT's state is of version %u, and this program knows versions up to %u: "
			   "run the newer one that wrote it",
			   version, META_VERSION);
	meta.time_ns = unpack_s64(&row);
	meta.reserved = unpack_u64(&row);
	meta.newest_session = unpack_u64(&row);
	meta.session_index = unpack_u64(&row);
	meta.inodes = unpack_u64(&row);
	meta.orphans = unpack_u64(&row);
	unpack_into(&row, meta.hash_key, sizeof(meta.hash_key));
	/* Version 1 had no number of the last one given: any may have been. */
	meta.given = version == 1 ? meta.reserved - 1 : unpack_u64(&row);
	if (version == 0 || !unpack_is_done(&row))
		logger_die("the MDT's state is damaged: its meta row (version %u, %zu bytes)", version, value.size);
	ret_state->meta = meta;
	ret_state->formatted = true;
}

void state_store_meta(struct state *state)
{
	const struct meta *meta = &state->meta;
	uint8_t out[META_ROW_SIZE];
	struct pack row = { out, out + sizeof(out) };

	pack_u8(&row, META_VERSION);
	pack_s64(&row, meta->time_ns);
	pack_u64(&row, meta->reserved);
	pack_u64(&row, meta->newest_session);
	pack_u64(&row, meta->session_index);
	pack_u64(&row, meta->inodes);
	pack_u64(&row, meta->orphans);
	pack_bytes(&row, meta->hash_key, sizeof(meta->hash_key));
	pack_u64(&row, meta->given);
	view_put(state->view, TABLE_META, meta_key, (struct bytes){ out, sizeof(out) });
}
