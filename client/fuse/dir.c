/* Directories: listed from the MDT each time, by stable cookies; nothing is kept per handle. */
#include "client/fuse/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct listing {
	struct fuse_request *request;
	uint8_t *out;
	size_t size, used;
	bool plus;
	size_t refs_count; /* of the entries in out that carry a lookup's reference */
};

void fuse_opendir(struct fuse_request *request)
{
	uint64_t ino = request_ino(request, request->header.nodeid);
	struct fuse_open_out out = { 0 };

	fs_opendir(request_fs(request), ino);
	if (fuse_answer(request, &out, sizeof(out)) < 0)
		fs_releasedir(request_fs(request), ino);
}

void fuse_releasedir(struct fuse_request *request)
{
	fs_releasedir(request_fs(request), request_ino(request, request->header.nodeid));
	fuse_answer_error(request, 0);
}

void fuse_fsyncdir(struct fuse_request *request)
{
	fuse_answer_error(request, fs_fsync_ino(request_fs(request), &request->ctx,
						request_ino(request, request->header.nodeid)));
}

/* One entry into the buffer; false when it does not fit. */
static bool listing_add(void *arg, const struct dir_entry *entry)
{
	struct listing *listing = arg;
	size_t head = listing->plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	size_t size = FUSE_DIRENT_ALIGN(head + entry->name_len);
	struct fuse_dirent dirent = {
		.ino = entry->ino,
		.off = entry->cookie,
		.namelen = (uint32_t)entry->name_len,
		.type = entry->type >> 12,
	};
	uint8_t *at = listing->out + listing->used;

	if (listing->used + size > listing->size)
		return false;
	memset(at, 0, size);
	if (listing->plus) {
		struct fuse_entry_out out = { 0 };

		/* "." and ".." come without: node id 0 means "not looked up". */
		if (entry->attr != NULL) {
			fuse_fill_entry(listing->request, entry->attr, &out);
			listing->refs_count++;
		}
		memcpy(at, &out, sizeof(out));
		at += sizeof(out);
	}
	memcpy(at, &dirent, sizeof(dirent));
	memcpy(at + FUSE_NAME_OFFSET, entry->name, entry->name_len);
	listing->used += size;
	return true;
}

/* The kernel did not take the answer: nor the references in it. */
static void listing_forget(const struct listing *listing)
{
	for (size_t at = 0; at < listing->used;) {
		struct fuse_direntplus entry;

		memcpy(&entry, listing->out + at, FUSE_NAME_OFFSET_DIRENTPLUS);
		if (entry.entry_out.nodeid != 0)
			fs_forget(request_fs(listing->request), entry.entry_out.nodeid, 1);
		at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + entry.dirent.namelen);
	}
}

static void fuse_list(struct fuse_request *request, bool plus)
{
	const struct fuse_read_in *in = fuse_args(request, sizeof(*in));
	struct listing listing = { .request = request, .plus = plus };
	int err;

	if (in == NULL)
		return;
	listing.size = in->size < FUSE_WRITE_SIZE ? in->size : FUSE_WRITE_SIZE;
	listing.out = malloc(listing.size);
	if (listing.out == NULL) {
		fuse_answer_error(request, -ENOMEM);
		return;
	}
	err = fs_readdir(request_fs(request), &request->ctx, request_ino(request, request->header.nodeid), in->offset,
			 plus, listing_add, &listing);
	if (err < 0 && listing.used == 0)
		fuse_answer_error(request, err);
	else if (fuse_answer(request, listing.out, listing.used) < 0 && plus)
		listing_forget(&listing);
	free(listing.out);
}

void fuse_readdir(struct fuse_request *request)
{
	fuse_list(request, false);
}

void fuse_readdirplus(struct fuse_request *request)
{
	fuse_list(request, true);
}
