/*
 * An inode: the row of table inode, and the same as a struct.
 *
 *     key: ino (big-endian)     value: version of the row, fields, layout, symlink target
 *
 *   - A struct inode is a copy but for the symlink's target, which the view lends (until that row's next change).
 *   - The layout of a directory is the default for what is made in it; its ost_indices are never fixed.
 *   - A row that cannot be read ends the process: it is the MDT's own state.
 */
#ifndef STRAKE_MDS_INODE_H
#define STRAKE_MDS_INODE_H

#include "common/layout.h"
#include "mds/view.h"

#include <sys/stat.h>

#define INODE_ROOT       1
#define INODE_LINKS_MAX  (UINT32_C(1) << 31)
#define INODE_TARGET_MAX 4095

enum inode_flag {
	INODE_SIZE_UNSURE = 1 << 0, /* a session that wrote it was lost: only the OSTs know */
	INODE_LINKABLE = 1 << 1,    /* an orphan that has had no name yet (TMPFILE), and may get one */
	INODE_ACL_ACCESS = 1 << 4,  /* it has an access ACL, besides its mode bits (xattr.h) */
	INODE_ACL_DEFAULT = 1 << 5, /* a directory: it has a default ACL */
	INODE_IMMUTABLE = 1 << 8,   /* these are chattr(1)'s: nothing may change */
	INODE_APPEND = 1 << 9,      /* only content may come, behind what is there; in a directory: names */
	INODE_NODUMP = 1 << 10,
	INODE_NOATIME = 1 << 11,
};

/* Those that people set; on the wire they begin at bit 0. */
#define INODE_USER_SHIFT 8
#define INODE_USER_FLAGS (INODE_IMMUTABLE | INODE_APPEND | INODE_NODUMP | INODE_NOATIME)

struct inode {
	uint64_t ino, gen;
	uint32_t mode, nlink, uid, gid;
	uint64_t size, blocks; /* blocks of 512 bytes */
	uint64_t rdev;
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	int64_t mtime_set_ns;  /* when somebody last set mtime; 0: data has been written since, or never set */
	uint64_t version;      /* index of the record that changed it last */
	uint64_t data_version; /* ... that changed its content last, or may have; of what has none: that made it */
	uint64_t name_version; /* ... that changed its names last */
	uint32_t flags;        /* enum inode_flag */
	uint64_t parent;       /* of a directory; the root's is itself */
	uint64_t entries;      /* in a directory */
	uint32_t xattr_count, xattr_bytes; /* names with their NULs, for the bound of listxattr(2) */
	uint64_t cut, cut_start, cut_end;  /* the latest cut of this gen; number 0: none yet */
	uint64_t cut_index;                /* of the record that made it; 0: none yet */
	struct layout layout;
	struct bytes target; /* of a symlink; borrowed */
};

static inline bool inode_is_dir(const struct inode *inode)
{
	return S_ISDIR(inode->mode);
}

static inline bool inode_is_file(const struct inode *inode)
{
	return S_ISREG(inode->mode);
}

/* A regular file with chunks on OSTs, perhaps. */
static inline bool inode_has_objects(const struct inode *inode)
{
	return S_ISREG(inode->mode) && inode->layout.ost_count > 0;
}

/* -ESTALE: there is none. */
int inode_load(struct view *view, uint64_t ino, struct inode *ret_inode);
void inode_store(struct view *view, const struct inode *inode);
void inode_erase(struct view *view, uint64_t ino);

/* Decode one row, for those who walk the table. */
void inode_decode(uint64_t ino, struct bytes row, struct inode *ret_inode);

#endif
