#include "common/fsck_rules.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

const char *fsck_kind_word(enum fsck_kind kind)
{
	static const char *const words[FSCK_KINDS] = {
#define FSCK(name, word) [FSCK_##name] = word,
#include "common/fsck_kinds.def"
#undef FSCK
	};

	return words[kind];
}

void fsck_found(const struct fsck_report *report, struct fsck_finding about, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(about.text, sizeof(about.text), format, args);
	va_end(args);
	report->found(report->arg, &about);
}

static struct fsck_finding about_inode(enum fsck_kind kind, const struct fsck_inode *inode)
{
	return (struct fsck_finding){ .kind = kind, .ino = inode->ino, .ost = -1 };
}

void fsck_inode_init(struct fsck_inode *inode, uint64_t ino)
{
	memset(inode, 0, offsetof(struct fsck_inode, layout));
	inode->ino = ino;
	inode->layout.stripe_size = 0;
	inode->layout.stripe_count = inode->layout.ost_count = 0;
	inode->cut_awaited.count = 0;
}

static bool is_dir(const struct fsck_inode *inode)
{
	return inode->exists && S_ISDIR(inode->mode);
}

static bool has_ost(const struct fsck_osts *osts, int ost)
{
	for (uint32_t i = 0; i < osts->count; i++) {
		if (osts->index[i] == ost)
			return true;
	}
	return false;
}

static bool lies_on(const struct layout *layout, int ost)
{
	for (uint32_t i = 0; i < layout->ost_count; i++) {
		if (layout->ost_indices[i] == ost)
			return true;
	}
	return false;
}

/* --- the inode alone ---------------------------------------------------------------------------------------------- */

static void check_orphan(const struct fsck_inode *inode, const struct fsck_report *report)
{
	struct fsck_finding about = about_inode(FSCK_ORPHAN, inode);

	if (inode->orphan && !inode->exists) {
		fsck_found(report, about, "orphan %" PRIu64 " does not exist", inode->ino);
		return;
	}
	if (inode->exists && inode->orphan != (inode->nlink == 0))
		fsck_found(report, about, "inode %" PRIu64 " has %" PRIu32 " links and is %s orphan", inode->ino,
			   inode->nlink, inode->orphan ? "an" : "no");
	if (inode->exists && inode->linkable && (inode->nlink > 0 || !S_ISREG(inode->mode)))
		fsck_found(report, about, "inode %" PRIu64 " is to get its first name, but is no file without one",
			   inode->ino);
	if (inode->orphan && inode->holders == inode->holders_unknown)
		fsck_found(report, about, "orphan %" PRIu64 " is held by no session that exists", inode->ino);
	else if (inode->holders_unknown > 0)
		fsck_found(report, about, "orphan %" PRIu64 " is held by %" PRIu32 " sessions that do not exist",
			   inode->ino, inode->holders_unknown);
}

static void check_layout(const struct fsck_inode *inode, const struct fsck_report *report)
{
	struct fsck_finding about = about_inode(FSCK_LAYOUT, inode);
	const struct layout *layout = &inode->layout;

	if (!S_ISREG(inode->mode) && layout->ost_count > 0)
		fsck_found(report, about, "inode %" PRIu64 " is no file and lies on OSTs", inode->ino);
	if (!S_ISREG(inode->mode) && !S_ISDIR(inode->mode))
		return;
	if (layout_check(layout) < 0)
		fsck_found(report, about,
			   "inode %" PRIu64 " has an impossible layout: stripes of %" PRIu64 " bytes, %" PRIu32
			   " of them, %" PRIu32 " OSTs",
			   inode->ino, layout->stripe_size, layout->stripe_count, layout->ost_count);
	else if (layout->ost_count > 0 && layout->ost_count != layout->stripe_count)
		fsck_found(report, about, "inode %" PRIu64 " has %" PRIu32 " stripes on %" PRIu32 " OSTs", inode->ino,
			   layout->stripe_count, layout->ost_count);
}

static void check_pending(const struct fsck_inode *inode, const struct fsck_report *report)
{
	bool has_objects = inode->exists && S_ISREG(inode->mode) && inode->layout.ost_count > 0;

	if (inode->cut_pending &&
	    (!has_objects || inode->gen != inode->pending_gen || inode->cut != inode->pending_number))
		fsck_found(report, about_inode(FSCK_CUT, inode),
			   "a pending cut of inode %" PRIu64 " that is not its latest", inode->ino);
	for (uint32_t i = 0; i < inode->destroy_count; i++) {
		struct fsck_finding about = about_inode(FSCK_DESTROY, inode);

		about.gen = inode->destroys[i].gen;
		if (inode->exists && inode->gen == about.gen)
			fsck_found(report, about,
				   "the content (%" PRIu64 ", %" PRIu64 ") lives and is in the destroy queue",
				   inode->ino, about.gen);
		if (inode->destroys[i].awaited.count == 0)
			fsck_found(report, about,
				   "the content (%" PRIu64 ", %" PRIu64
				   ") is in the destroy queue and waits for no OST",
				   inode->ino, about.gen);
	}
}

void fsck_check_inode(const struct fsck_inode *inode, const struct fsck_report *report)
{
	check_orphan(inode, report);
	check_pending(inode, report);
	if (inode->xattrs_differ)
		fsck_found(report, about_inode(FSCK_XATTRS, inode),
			   inode->exists ? "inode %" PRIu64 " has other xattrs than it counts"
					 : "there are xattrs of inode %" PRIu64 ", which does not exist",
			   inode->ino);
	if (!inode->exists)
		return;
	check_layout(inode, report);
	if (inode->never_given)
		fsck_found(report, about_inode(FSCK_NUMBER, inode),
			   "inode %" PRIu64 " has a number that was never given out", inode->ino);
	if (inode->way_is_lost)
		fsck_found(report, about_inode(FSCK_UNREACHABLE, inode),
			   "the way up from directory %" PRIu64 " does not lead to the root", inode->ino);
}

/* --- names -------------------------------------------------------------------------------------------------------- */

/* " (as "NAME")", or nothing. */
static const char *as_name(const struct fsck_links *links, char out[300])
{
	out[0] = '\0';
	if (links->name)
		snprintf(out, 300, " (as \"%s\")", links->name);
	return out;
}

static void check_no_inode(const struct fsck_inode *inode, const struct fsck_links *links,
			   const struct fsck_report *report)
{
	char name[300];

	if (links->count > 0)
		fsck_found(report, about_inode(FSCK_NO_INODE, inode),
			   "directory %" PRIu64 " names inode %" PRIu64 "%s, which does not exist", links->parent,
			   inode->ino, as_name(links, name));
}

static void check_dir_names(const struct fsck_inode *inode, const struct fsck_links *links,
			    const struct fsck_report *report)
{
	char name[300];

	if (inode->ino == FSCK_ROOT)
		return;
	if (links->count > 1)
		fsck_found(report, about_inode(FSCK_SEVERAL_NAMES, inode),
			   "directory %" PRIu64 " has %" PRIu64 " names", inode->ino, links->count);
	else if (links->count == 1 && inode->parent != links->parent)
		fsck_found(report, about_inode(FSCK_PARENT, inode),
			   "directory %" PRIu64 "%s says its parent is %" PRIu64 ", but it is in %" PRIu64, inode->ino,
			   as_name(links, name), inode->parent, links->parent);
}

static void check_link_count(const struct fsck_inode *inode, const struct fsck_links *links,
			     const struct fsck_report *report)
{
	uint64_t names = inode->ino == FSCK_ROOT ? 1 : links->count;
	bool right = is_dir(inode) ? (inode->nlink > 0) == (names > 0) : inode->nlink == names;
	char name[300];

	if (right)
		return;
	if (names == 0)
		fsck_found(report, about_inode(FSCK_NO_ENTRY, inode),
			   "inode %" PRIu64 " says %" PRIu32 " links, but no directory names it", inode->ino,
			   inode->nlink);
	else
		fsck_found(report, about_inode(FSCK_LINKS, inode),
			   "inode %" PRIu64 "%s says %" PRIu32 " links, but there are %" PRIu64, inode->ino,
			   as_name(links, name), inode->nlink, names);
}

void fsck_check_links(const struct fsck_inode *inode, const struct fsck_links *links, const struct fsck_report *report)
{
	char name[300];

	if (links->misplaced > 0)
		fsck_found(report, about_inode(FSCK_HASH, inode),
			   "an entry for inode %" PRIu64 "%s in directory %" PRIu64 " stands under the wrong hash",
			   inode->ino, as_name(links, name), links->parent);
	if (!inode->exists) {
		check_no_inode(inode, links, report);
		return;
	}
	if ((links->types & ~(UINT32_C(1) << ((inode->mode & S_IFMT) >> 12))) != 0)
		fsck_found(report, about_inode(FSCK_TYPE, inode),
			   "directory %" PRIu64 " has the wrong type for inode %" PRIu64 "%s", links->parent,
			   inode->ino, as_name(links, name));
	check_link_count(inode, links, report);
	if (is_dir(inode))
		check_dir_names(inode, links, report);
}

void fsck_check_entries(const struct fsck_inode *inode, const struct fsck_entries *entries,
			const struct fsck_report *report)
{
	if (!is_dir(inode)) {
		if (entries->count > 0)
			fsck_found(report, about_inode(FSCK_NO_DIRECTORY, inode),
				   inode->exists ? "%" PRIu64 " entries in inode %" PRIu64 ", which is no directory"
						 : "%" PRIu64 " entries in directory %" PRIu64 ", which does not exist",
				   entries->count, inode->ino);
		return;
	}
	if (inode->entries != entries->count)
		fsck_found(report, about_inode(FSCK_ENTRIES, inode),
			   "directory %" PRIu64 " says %" PRIu64 " entries, but there are %" PRIu64, inode->ino,
			   inode->entries, entries->count);
	if (inode->nlink > 0 && inode->nlink != 2 + entries->subdirs)
		fsck_found(report, about_inode(FSCK_LINKS, inode),
			   "directory %" PRIu64 " says %" PRIu32 " links, but has %" PRIu64 " directories in it",
			   inode->ino, inode->nlink, entries->subdirs);
}

/* --- objects ------------------------------------------------------------------------------------------------------ */

/* It is on its way out there; or, with so many rows that not all are known, may be. */
static bool is_doomed(const struct fsck_inode *inode, uint64_t gen, int ost)
{
	uint64_t last = 0;

	for (uint32_t i = 0; i < inode->destroy_count; i++) {
		last = inode->destroys[i].gen;
		if (last == gen)
			return has_ost(&inode->destroys[i].awaited, ost);
	}
	return inode->destroys_cut_off && gen > last;
}

static bool is_live(const struct fsck_inode *inode, uint64_t gen)
{
	return inode->exists && S_ISREG(inode->mode) && inode->gen == gen;
}

static bool awaits_cut(const struct fsck_inode *inode, int ost)
{
	return inode->cut_pending && has_ost(&inode->cut_awaited, ost);
}

static void check_extent(const struct fsck_inode *inode, const struct fsck_object *object, struct fsck_finding about,
			 const struct fsck_report *report)
{
	uint64_t stripe_size = inode->layout.stripe_size;
	unsigned __int128 end = (unsigned __int128)object->seq * stripe_size + object->size;

	if (object->size > stripe_size) {
		about.kind = FSCK_TOO_LONG;
		fsck_found(report, about,
			   "object (%" PRIu64 ", %" PRIu64 ", %" PRIu64 ") on OST %d has %" PRIu64
			   " bytes, and a stripe %" PRIu64,
			   object->ino, object->gen, object->seq, object->ost, object->size, stripe_size);
	} else if (object->size > 0 && !inode->size_unsure && !awaits_cut(inode, object->ost) && end > inode->size) {
		about.kind = FSCK_BEYOND;
		fsck_found(report, about,
			   "object (%" PRIu64 ", %" PRIu64 ", %" PRIu64 ") on OST %d has %" PRIu64
			   " bytes, and reaches beyond the file's size of %" PRIu64,
			   object->ino, object->gen, object->seq, object->ost, object->size, inode->size);
	}
}

/* It is none, and its OST has not come to it yet. */
static bool may_be_void(const struct fsck_inode *inode, const struct fsck_object *object)
{
	return object->gen >= object->void_end && object->gen < inode->void_end;
}

void fsck_check_object(const struct fsck_inode *inode, const struct fsck_object *object,
		       const struct fsck_report *report)
{
	const struct layout *layout = &inode->layout;
	struct fsck_finding about = { .ino = object->ino, .gen = object->gen, .seq = object->seq, .ost = object->ost };

	if (is_doomed(inode, object->gen, object->ost))
		return;
	if (!is_live(inode, object->gen)) {
		if (may_be_void(inode, object))
			return;
		about.kind = FSCK_LEAKED;
		fsck_found(report, about,
			   "object (%" PRIu64 ", %" PRIu64 ", %" PRIu64 ") on OST %d belongs to no file: %s",
			   object->ino, object->gen, object->seq, object->ost,
			   inode->exists ? "the inode has another content" : "there is no such inode");
		return;
	}
	if (object->lost) {
		about.kind = FSCK_LOST;
		fsck_found(report, about,
			   "object (%" PRIu64 ", %" PRIu64 ", %" PRIu64 ") on OST %d is lost: its file is missing",
			   object->ino, object->gen, object->seq, object->ost);
		return;
	}
	if (layout->ost_count == 0 || layout->ost_indices[object->seq % layout->ost_count] != object->ost) {
		about.kind = FSCK_MISPLACED;
		fsck_found(report, about,
			   "object (%" PRIu64 ", %" PRIu64 ", %" PRIu64
			   ") is on OST %d, where the file's layout does not have it",
			   object->ino, object->gen, object->seq, object->ost);
		return;
	}
	check_extent(inode, object, about, report);
}

void fsck_check_content(const struct fsck_inode *inode, const struct fsck_content *content,
			const struct fsck_report *report)
{
	struct fsck_finding about = { .ino = content->ino, .gen = content->gen, .ost = content->ost };

	if (!is_live(inode, content->gen) || !lies_on(&inode->layout, content->ost))
		return;
	if (content->destroyed) {
		about.kind = FSCK_DESTROYED;
		fsck_found(report, about, "the content (%" PRIu64 ", %" PRIu64 ") lives, and OST %d has destroyed it",
			   content->ino, content->gen, content->ost);
	} else if (content->cut > inode->cut || (content->cut < inode->cut && !awaits_cut(inode, content->ost))) {
		about.kind = FSCK_CUT;
		fsck_found(report, about,
			   "the content (%" PRIu64 ", %" PRIu64 ") was cut %" PRIu64 " times, and on OST %d %" PRIu64,
			   content->ino, content->gen, inode->cut, content->ost, content->cut);
	}
}

/* --- OSTs --------------------------------------------------------------------------------------------------------- */

void fsck_check_osts(const struct fsck_inode *inode, bool (*is_there)(void *arg, uint32_t ost), void *arg,
		     const struct fsck_report *report)
{
	for (uint32_t i = 0; inode->exists && i < inode->layout.ost_count; i++) {
		if (!is_there(arg, inode->layout.ost_indices[i]))
			fsck_found(report, about_inode(FSCK_LAYOUT, inode),
				   "inode %" PRIu64 " lies on OST %" PRIu16 ", which does not exist", inode->ino,
				   inode->layout.ost_indices[i]);
	}
	for (uint32_t i = 0; i < inode->destroy_count; i++) {
		const struct fsck_osts *awaited = &inode->destroys[i].awaited;

		for (uint32_t k = 0; k < awaited->count; k++) {
			struct fsck_finding about = about_inode(FSCK_DESTROY, inode);

			about.gen = inode->destroys[i].gen;
			if (!is_there(arg, awaited->index[k]))
				fsck_found(report, about,
					   "the destroy queue waits for OST %" PRIu16
					   ", which does not exist, to destroy (%" PRIu64 ", %" PRIu64 ")",
					   awaited->index[k], inode->ino, about.gen);
		}
	}
}

/* --- comparing ---------------------------------------------------------------------------------------------------- */

static bool osts_equal(const struct fsck_osts *a, const struct fsck_osts *b)
{
	return a->count == b->count && memcmp(a->index, b->index, a->count * sizeof(*a->index)) == 0;
}

/* A version stands for all that is in the inode's row. */
static bool rows_equal(const struct fsck_inode *a, const struct fsck_inode *b)
{
	return a->exists == b->exists && a->gen == b->gen && a->version == b->version && a->size == b->size &&
	       a->cut == b->cut && a->size_unsure == b->size_unsure && a->orphan == b->orphan;
}

bool fsck_inode_equal(const struct fsck_inode *a, const struct fsck_inode *b)
{
	if (a->ino != b->ino || !rows_equal(a, b))
		return false;
	if (a->cut_pending != b->cut_pending || !osts_equal(&a->cut_awaited, &b->cut_awaited))
		return false;
	if (a->destroy_count != b->destroy_count || a->destroys_cut_off != b->destroys_cut_off)
		return false;
	for (uint32_t i = 0; i < a->destroy_count; i++) {
		if (a->destroys[i].gen != b->destroys[i].gen ||
		    !osts_equal(&a->destroys[i].awaited, &b->destroys[i].awaited))
			return false;
	}
	return true;
}
