#include "client/attr.h"

#include "client/layouts.h"

#include <errno.h>
#include <string.h>

#define NS_PER_S INT64_C(1000000000)

static int layout_from_wire(const Strake__Layout *wire, const struct layout **ret_layout)
{
	struct layout layout;

	memset(&layout, 0, sizeof(layout));
	layout.stripe_size = wire->stripe_size;
	layout.stripe_count = wire->stripe_count;
	if (wire->n_ost_indices > LAYOUT_STRIPES_MAX)
		return -EPROTO;
	for (size_t i = 0; i < wire->n_ost_indices; i++) {
		if (wire->ost_indices[i] > UINT16_MAX)
			return -EPROTO;
		layout.ost_indices[i] = (uint16_t)wire->ost_indices[i];
	}
	layout.ost_count = (uint32_t)wire->n_ost_indices;
	if (layout_check(&layout) < 0)
		return -EPROTO;
	*ret_layout = layout_keep(&layout);
	return *ret_layout != NULL ? 0 : -ENOMEM;
}

int attr_from_wire(const Strake__Attr *wire, struct attr *ret_attr)
{
	struct attr attr;
	int err;

	memset(&attr, 0, sizeof(attr));
	attr.ino = wire->ino;
	attr.gen = wire->gen;
	attr.mode = wire->mode;
	attr.nlink = wire->nlink;
	attr.uid = wire->uid;
	attr.gid = wire->gid;
	attr.size = wire->size;
	attr.blocks = wire->blocks;
	attr.rdev = wire->rdev;
	attr.atime_ns = wire->atime_ns;
	attr.mtime_ns = wire->mtime_ns;
	attr.ctime_ns = wire->ctime_ns;
	attr.btime_ns = wire->btime_ns;
	attr.version = wire->version;
	attr.data_version = wire->has_data_version ? wire->data_version : 0;
	attr.name_version = wire->has_name_version ? wire->name_version : 0;
	attr.no_xattrs = wire->has_xattr_count && wire->xattr_count == 0;
	for (unsigned int kind = 0; kind < 2; kind++)
		attr.no_acl[kind] = attr.no_xattrs || (wire->has_acls && !(wire->acls & 1u << kind));
	attr.flags = (uint8_t)(wire->has_flags ? wire->flags : 0);
	attr.size_unsure = wire->has_size_unsure && wire->size_unsure;
	attr.unfenced = wire->has_unfenced && wire->unfenced;
	if (wire->cut != NULL) {
		attr.cut = wire->cut->number;
		attr.cut_start = wire->cut->start;
		attr.cut_end = wire->cut->end;
	}
	if (wire->ino == 0 || wire->size > LAYOUT_FILE_SIZE_MAX)
		return -EPROTO;
	attr.layout = &layout_none;
	err = wire->layout != NULL ? layout_from_wire(wire->layout, &attr.layout) : 0;
	if (err == 0)
		*ret_attr = attr;
	return err;
}

bool attr_same_content(const struct attr *a, const struct attr *b)
{
	return a->gen == b->gen && a->cut == b->cut && a->size == b->size && a->mtime_ns == b->mtime_ns &&
	       a->data_version == b->data_version;
}

static struct timespec time_of(int64_t ns)
{
	int64_t seconds = ns / NS_PER_S, rest = ns % NS_PER_S;

	if (rest < 0) {
		seconds--;
		rest += NS_PER_S;
	}
	return (struct timespec){ .tv_sec = seconds, .tv_nsec = rest };
}

int64_t attr_time_ns(int64_t seconds, int64_t nanoseconds)
{
	const int64_t last = INT64_MAX / NS_PER_S;

	if (seconds >= last || seconds <= -last)
		return (seconds < 0 ? -last : last) * NS_PER_S;
	return seconds * NS_PER_S + nanoseconds;
}

void attr_to_stat(const struct attr *attr, struct stat *ret_stat)
{
	uint64_t blksize = 4096;

	if (S_ISREG(attr->mode))
		blksize = attr->layout->stripe_size != 0 && attr->layout->stripe_size < ATTR_BLKSIZE_MAX
				  ? attr->layout->stripe_size
				  : ATTR_BLKSIZE_MAX;
	memset(ret_stat, 0, sizeof(*ret_stat));
	ret_stat->st_ino = attr->ino;
	ret_stat->st_mode = attr->mode;
	ret_stat->st_nlink = attr->nlink;
	ret_stat->st_uid = attr->uid;
	ret_stat->st_gid = attr->gid;
	ret_stat->st_rdev = attr->rdev;
	ret_stat->st_size = (off_t)attr->size;
	ret_stat->st_blocks = (blkcnt_t)attr->blocks;
	ret_stat->st_blksize = (blksize_t)blksize;
	ret_stat->st_atim = time_of(attr->atime_ns);
	ret_stat->st_mtim = time_of(attr->mtime_ns);
	ret_stat->st_ctim = time_of(attr->ctime_ns);
}
