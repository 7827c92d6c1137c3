#include "mds/acl.h"

#include "mds/access.h"
#include "mds/pack.h"

#include <errno.h>

/* As on the disk of any Linux. */
enum acl_tag { TAG_USER_OBJ = 1, TAG_USER = 2, TAG_GROUP_OBJ = 4, TAG_GROUP = 8, TAG_MASK = 16, TAG_OTHER = 32 };

#define ACL_VERSION 2
#define ACL_PERM    (R_OK | W_OK | X_OK)
#define ACL_NO_ID   UINT32_MAX

static const char *const names[] = {
	[ACL_ACCESS] = "system.posix_acl_access",
	[ACL_DEFAULT] = "system.posix_acl_default",
};

bool acl_kind_of(const char *name, enum acl_kind *ret_kind)
{
	for (enum acl_kind kind = ACL_ACCESS; kind <= ACL_DEFAULT; kind++) {
		if (strcmp(name, names[kind]) == 0) {
			*ret_kind = kind;
			return true;
		}
	}
	return false;
}

const char *acl_name(enum acl_kind kind)
{
	return names[kind];
}

/* --- as bytes ------------------------------------------------------------------------------------------------------ */

static bool is_named(const struct acl_entry *entry)
{
	return entry->tag == TAG_USER || entry->tag == TAG_GROUP;
}

/* The order of the tags, each of those that nobody names once, and a mask where it must be. */
static bool is_in_order(const struct acl *acl)
{
	unsigned int seen = 0;
	uint16_t last = 0;

	for (size_t i = 0; i < acl->count; i++) {
		const struct acl_entry *entry = &acl->entries[i];

		if (entry->tag < last || (entry->tag == last && !is_named(entry)))
			return false;
		if (is_named(entry) && entry->id == ACL_NO_ID)
			return false;
		last = entry->tag;
		seen |= entry->tag;
	}
	if ((seen & (TAG_USER | TAG_GROUP)) && !(seen & TAG_MASK))
		return false;
	return (seen & (TAG_USER_OBJ | TAG_GROUP_OBJ | TAG_OTHER)) == (TAG_USER_OBJ | TAG_GROUP_OBJ | TAG_OTHER);
}

static bool is_tag(uint16_t tag)
{
	return tag != 0 && tag <= TAG_OTHER && (tag & (tag - 1)) == 0;
}

int acl_decode(struct bytes value, struct acl *ret_acl)
{
	struct unpack unpack = unpack_begin(value);
	uint32_t version = unpack_u32(&unpack);
	struct acl *acl = ret_acl;

	if (unpack.bad)
		return -EINVAL;
	if (version != ACL_VERSION)
		return -EOPNOTSUPP;
	if (value.size > ACL_SIZE_MAX)
		return -E2BIG;
	for (acl->count = 0; !unpack_is_done(&unpack); acl->count++) {
		struct acl_entry *entry = &acl->entries[acl->count];

		if (value.size % 8 != 4)
			return -EINVAL;
		entry->tag = unpack_u16(&unpack);
		entry->perm = unpack_u16(&unpack);
		entry->id = unpack_u32(&unpack);
		if (!is_tag(entry->tag) || (entry->perm & ~ACL_PERM))
			return -EINVAL;
		if (!is_named(entry))
			entry->id = ACL_NO_ID;
	}
	return acl->count == 0 || is_in_order(acl) ? 0 : -EINVAL;
}

struct bytes acl_encode(const struct acl *acl, void *out)
{
	struct pack pack = { out, (uint8_t *)out + ACL_SIZE_MAX };

	pack_u32(&pack, ACL_VERSION);
	for (size_t i = 0; i < acl->count; i++) {
		pack_u16(&pack, acl->entries[i].tag);
		pack_u16(&pack, acl->entries[i].perm);
		pack_u32(&pack, acl->entries[i].id);
	}
	return (struct bytes){ out, (size_t)(pack.at - (uint8_t *)out) };
}

/* --- and mode bits ------------------------------------------------------------------------------------------------- */

bool acl_is_extended(const struct acl *acl)
{
	for (size_t i = 0; i < acl->count; i++) {
		if (is_named(&acl->entries[i]) || acl->entries[i].tag == TAG_MASK)
			return true;
	}
	return false;
}

/* Where in the mode bits this entry's rights stand; -1: nowhere. */
static int shift_of(const struct acl *acl, const struct acl_entry *entry)
{
	switch (entry->tag) {
	case TAG_USER_OBJ:
		return 6;
	case TAG_MASK:
		return 3;
	case TAG_GROUP_OBJ:
		return acl_is_extended(acl) ? -1 : 3; /* with a mask, the mask's */
	case TAG_OTHER:
		return 0;
	default:
		return -1;
	}
}

uint32_t acl_mode(const struct acl *acl, uint32_t mode)
{
	mode &= ~(uint32_t)0777;
	for (size_t i = 0; i < acl->count; i++) {
		int shift = shift_of(acl, &acl->entries[i]);

		if (shift >= 0)
			mode |= (uint32_t)acl->entries[i].perm << shift;
	}
	return mode;
}

void acl_chmod(struct acl *acl, uint32_t mode)
{
	for (size_t i = 0; i < acl->count; i++) {
		int shift = shift_of(acl, &acl->entries[i]);

		if (shift >= 0)
			acl->entries[i].perm = (uint16_t)(mode >> shift & ACL_PERM);
	}
}

void acl_inherit(struct acl *acl, uint32_t *mode)
{
	uint32_t given = *mode;

	*mode &= acl_mode(acl, ~(uint32_t)0);
	for (size_t i = 0; i < acl->count; i++) {
		int shift = shift_of(acl, &acl->entries[i]);

		if (shift >= 0)
			acl->entries[i].perm &= (uint16_t)(given >> shift);
	}
}

/* --- and permissions ----------------------------------------------------------------------------------------------- */

static uint16_t mask_of(const struct acl *acl)
{
	for (size_t i = 0; i < acl->count; i++) {
		if (acl->entries[i].tag == TAG_MASK)
			return acl->entries[i].perm;
	}
	return ACL_PERM;
}

static int allow(unsigned int perm, int mask)
{
	return ((unsigned int)mask & ~perm & ACL_PERM) ? -EACCES : 0;
}

int acl_check(const struct acl *acl, const Strake__Cred *cred, uint32_t uid, uint32_t gid, int mask)
{
	bool in_some_group = false;

	/* The first entry that speaks of the asker decides; of groups, the first that has all that is asked. */
	for (size_t i = 0; i < acl->count; i++) {
		const struct acl_entry *entry = &acl->entries[i];

		switch (entry->tag) {
		case TAG_USER_OBJ:
			if (cred->uid == uid)
				return allow(entry->perm, mask);
			break;
		case TAG_USER:
			if (cred->uid == entry->id)
				return allow(entry->perm & mask_of(acl), mask);
			break;
		case TAG_GROUP_OBJ:
		case TAG_GROUP:
			if (!access_in_group(cred, entry->tag == TAG_GROUP ? entry->id : gid))
				break;
			in_some_group = true;
			if (allow(entry->perm, mask) == 0)
				return allow(entry->perm & mask_of(acl), mask);
			break;
		case TAG_OTHER:
			return in_some_group ? -EACCES : allow(entry->perm, mask);
		default:
			break;
		}
	}
	return -EACCES;
}
