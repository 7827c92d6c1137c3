#include "mds/admit.h"

#include "mds/locks.h"
#include "mds/names.h"
#include "mds/xattr.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

int64_t admit_time(const struct state *state, uint64_t clock_ns)
{
	int64_t now_ns = (int64_t)clock_ns;

	return now_ns > state->meta.time_ns ? now_ns : state->meta.time_ns + 1;
}

bool admit_is_unsure(const struct admission *admission, uint64_t session, uint64_t ino)
{
	return leases_others_unreclaimed(admission->leases, session) ||
	       opens_others_write(admission->opens, session, ino);
}

/* One record in the making. */
struct admit {
	const struct admission *with;
	struct state *state;
	uint64_t session;
	struct record *record;
	struct record_space *space;
};

/* --- facts ----------------------------------------------------------------------------------------------------- */

static void note_unsure(struct admit *admit, uint64_t ino, enum record_fact fact)
{
	if (admit_is_unsure(admit->with, admit->session, ino))
		admit->record->facts |= (uint16_t)fact;
}

/* The inode that the reply will be about, and whether the asker has it open for writing. */
static void note_inode(struct admit *admit, uint64_t ino)
{
	note_unsure(admit, ino, FACT_ATTR_UNSURE);
	if (admit->session && (opens_modes(admit->with->opens, admit->session, ino) & OPEN_WRITE))
		admit->record->facts |= FACT_OPEN_WRITE;
}

static void note_space(struct admit *admit)
{
	if (admit->with->disk_free < ADMIT_RESERVE || admit->with->space_low)
		admit->record->facts |= FACT_NO_SPACE;
}

static int take_number(struct admit *admit)
{
	return numbers_take(admit->with->numbers, &admit->record->number);
}

static void choose_osts(struct admit *admit, uint32_t wished)
{
	uint32_t count = 0;
	int err = layout_choose(admit->with->chooser, wished, admit->space->osts, &count);

	if (err == -ENOSPC)
		admit->record->facts |= FACT_OSTS_FULL;
	admit->record->osts = admit->space->osts;
	admit->record->ost_count = count;
}

static void add_holder(void *arg, uint64_t session)
{
	struct admit *admit = arg;

	assert(admit->record->holder_count < RECORD_HOLDERS_MAX);
	admit->space->holders[admit->record->holder_count++] = session;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

/* Who has it open, or may have because it has not told us yet. */
static void note_holders(struct admit *admit, uint64_t ino)
{
	const struct leases *leases = admit->with->leases;
	const struct lease *lease;

	opens_each_holder(admit->with->opens, ino, add_holder, admit);
	if (leases_others_unreclaimed(leases, 0)) {
		for (size_t i = 0; i < leases_count(leases); i++) {
			lease = leases_at(leases, i);
			if (!lease->reclaimed && !opens_modes(admit->with->opens, lease->session, ino))
				add_holder(admit, lease->session);
		}
	}
	qsort(admit->space->holders, admit->record->holder_count, sizeof(uint64_t), compare_numbers);
	admit->record->holders = admit->space->holders;
}

static void note_name(struct admit *admit, uint64_t parent, struct bytes name)
{
	struct dirent_row row;

	if (dirent_get(admit->state, parent, name, &row) == 0)
		note_unsure(admit, row.ino, FACT_ATTR_UNSURE);
}

/* --- form ------------------------------------------------------------------------------------------------------ */

static bool is_dots(ProtobufCBinaryData name)
{
	return (name.len == 1 && name.data[0] == '.') || (name.len == 2 && name.data[0] == '.' && name.data[1] == '.');
}

/* dots: what the kernel says of "." and "..". */
static int form_name(ProtobufCBinaryData name, int dots)
{
	if (name.len == 0)
		return -EINVAL;
	if (name.len > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	if (memchr(name.data, '/', name.len) || memchr(name.data, '\0', name.len))
		return -EINVAL;
	return is_dots(name) ? dots : 0;
}

static int form_layout(const Strake__Layout *wish)
{
	struct layout layout;

	if (!wish)
		return 0;
	layout.stripe_size = wish->stripe_size;
	layout.stripe_count = wish->stripe_count;
	layout.ost_count = 0;
	return wish->n_ost_indices > 0 ? -EINVAL : layout_check(&layout);
}

static int form_xattr_name(const char *name)
{
	size_t len = strlen(name);

	return len == 0 || len > XATTR_NAME_LEN_MAX ? -ERANGE : 0;
}

#define FORM(name)  static int name(const ProtobufCMessage *message)
#define FACTS(name) static int name(struct admit *admit, const ProtobufCMessage *message)

/* --- operation by operation ------------------------------------------------------------------------------------ */

FORM(lookup_form)
{
	const Strake__LookupRequest *request = (const void *)message;

	return form_name(request->name, 0);
}

FORM(create_form)
{
	const Strake__CreateRequest *request = (const void *)message;
	int err = form_name(request->name, -EEXIST);

	if (err < 0)
		return err;
	return request->open_modes & ~(OPEN_READ | OPEN_WRITE) ? -EINVAL : form_layout(request->layout);
}

FORM(symlink_form)
{
	const Strake__CreateRequest *request = (const void *)message;

	if (!request->has_target || request->target.len == 0)
		return -ENOENT;
	if (request->target.len > INODE_TARGET_MAX)
		return -ENAMETOOLONG;
	if (memchr(request->target.data, '\0', request->target.len))
		return -EINVAL;
	return create_form(message);
}

/* The OSTs of a new file: as many as it or its directory wishes. */
static void choose_osts_for(struct admit *admit, const Strake__CreateRequest *request)
{
	struct inode dir;

	if (request->layout)
		choose_osts(admit, request->layout->stripe_count);
	else if (inode_load(admit->state->view, request->parent, &dir) == 0)
		choose_osts(admit, dir.layout.stripe_count);
}

FACTS(create_facts)
{
	const Strake__CreateRequest *request = (const void *)message;
	int err = take_number(admit);

	if (err < 0)
		return err;
	note_space(admit);
	if (admit->record->op != OP_CREATE)
		return 0;
	note_name(admit, request->parent, name_of(request->name));
	choose_osts_for(admit, request);
	return 0;
}

FORM(tmpfile_form)
{
	const Strake__CreateRequest *request = (const void *)message;

	if (request->name.len > 0 || request->open_modes == 0 || (request->open_modes & ~(OPEN_READ | OPEN_WRITE)))
		return -EINVAL;
	return form_layout(request->layout);
}

FACTS(tmpfile_facts)
{
	int err = take_number(admit);

	if (err < 0)
		return err;
	note_space(admit);
	choose_osts_for(admit, (const void *)message);
	add_holder(admit, admit->session);
	admit->record->holders = admit->space->holders;
	return 0;
}

FORM(link_form)
{
	const Strake__LinkRequest *request = (const void *)message;

	return form_name(request->name, -EEXIST);
}

FACTS(link_facts)
{
	const Strake__LinkRequest *request = (const void *)message;

	note_inode(admit, request->ino);
	note_space(admit);
	return 0;
}

FORM(unlink_form)
{
	const Strake__UnlinkRequest *request = (const void *)message;

	return form_name(request->name, -EISDIR);
}

FORM(rmdir_form)
{
	const Strake__UnlinkRequest *request = (const void *)message;

	return form_name(request->name, request->name.len == 1 ? -EINVAL : -ENOTEMPTY);
}

FACTS(unlink_facts)
{
	const Strake__UnlinkRequest *request = (const void *)message;
	struct dirent_row row;

	if (dirent_get(admit->state, request->parent, name_of(request->name), &row) < 0)
		return 0;
	note_inode(admit, row.ino);
	note_holders(admit, row.ino);
	return 0;
}

FORM(rename_form)
{
	const Strake__RenameRequest *request = (const void *)message;
	const unsigned int one_way = RENAME_NOREPLACE | RENAME_WHITEOUT;
	int err;

	if (request->flags & ~(one_way | RENAME_EXCHANGE))
		return -EINVAL;
	if ((request->flags & RENAME_EXCHANGE) && (request->flags & one_way))
		return -EINVAL;
	err = form_name(request->name, -EBUSY);
	return err < 0 ? err : form_name(request->new_name, -EBUSY);
}

FACTS(rename_facts)
{
	const Strake__RenameRequest *request = (const void *)message;
	struct dirent_row row;
	int err;

	if (request->flags & RENAME_WHITEOUT) {
		err = take_number(admit);
		if (err < 0)
			return err;
		note_space(admit);
	}
	note_name(admit, request->parent, name_of(request->name));
	if (dirent_get(admit->state, request->new_parent, name_of(request->new_name), &row) == 0) {
		note_unsure(admit, row.ino, FACT_REPLACED_UNSURE);
		note_holders(admit, row.ino);
	}
	return 0;
}

FORM(setattr_form)
{
	const Strake__SetattrRequest *request = (const void *)message;

	if (request->has_ctime_ns)
		return -EOPNOTSUPP;
	if (request->has_flags) {
		if (request->has_mode || request->has_uid || request->has_gid || request->has_size ||
		    request->has_atime_ns || request->has_mtime_ns || request->atime_now || request->mtime_now)
			return -EINVAL;
		return request->flags & ~(uint32_t)(INODE_USER_FLAGS >> INODE_USER_SHIFT) ? -EOPNOTSUPP : 0;
	}
	if ((request->has_atime_ns && request->atime_now) || (request->has_mtime_ns && request->mtime_now))
		return -EINVAL;
	return 0;
}

FACTS(setattr_facts)
{
	const Strake__SetattrRequest *request = (const void *)message;

	note_inode(admit, request->ino);
	return request->has_size && request->size == 0 ? take_number(admit) : 0;
}

FORM(setxattr_form)
{
	const Strake__SetxattrRequest *request = (const void *)message;
	const unsigned int known = XATTR_CREATE | XATTR_REPLACE;

	if (request->flags & ~known)
		return -EINVAL;
	if (request->value.len > XATTR_VALUE_LEN_MAX)
		return -E2BIG;
	return form_xattr_name(request->name);
}

FACTS(setxattr_facts)
{
	const Strake__SetxattrRequest *request = (const void *)message;

	note_inode(admit, request->ino);
	note_space(admit);
	return 0;
}

FORM(removexattr_form)
{
	const Strake__RemovexattrRequest *request = (const void *)message;

	return form_xattr_name(request->name);
}

FACTS(removexattr_facts)
{
	const Strake__RemovexattrRequest *request = (const void *)message;

	note_inode(admit, request->ino);
	return 0;
}

FORM(getxattr_form)
{
	const Strake__GetxattrRequest *request = (const void *)message;

	return form_xattr_name(request->name);
}

FACTS(size_facts)
{
	const Strake__SizeRequest *request = (const void *)message;

	note_inode(admit, request->ino);
	return 0;
}

FORM(atimes_form)
{
	const Strake__AtimesRequest *request = (const void *)message;

	return request->n_ino != request->n_seen_ns || request->n_ino != request->n_atime_ns ||
			       request->n_ino > ADMIT_ATIMES_MAX
		       ? -EINVAL
		       : 0;
}

FORM(punch_form)
{
	const Strake__PunchRequest *request = (const void *)message;

	return request->start < request->end ? 0 : -EINVAL;
}

FACTS(punch_facts)
{
	const Strake__PunchRequest *request = (const void *)message;

	note_inode(admit, request->ino);
	return 0;
}

FORM(layout_form)
{
	const Strake__LayoutRequest *request = (const void *)message;

	if (request->like && (request->set || request->like == request->ino))
		return -EINVAL;
	return form_layout(request->set);
}

/* Do all OSTs of that file take new ones? */
static bool takes_more(const struct admit *admit, uint64_t ino)
{
	struct inode inode;

	if (inode_load(admit->state->view, ino, &inode) < 0 || !inode_is_file(&inode))
		return false;
	for (uint32_t i = 0; i < inode.layout.ost_count; i++) {
		if (!layout_chooser_may(admit->with->chooser, inode.layout.ost_indices[i]))
			return false;
	}
	return true;
}

FACTS(layout_facts)
{
	const Strake__LayoutRequest *request = (const void *)message;
	struct inode inode;

	note_inode(admit, request->ino);
	if (inode_load(admit->state->view, request->ino, &inode) < 0 || !inode_is_file(&inode))
		return 0;
	if (request->like) {
		if (!takes_more(admit, request->like))
			admit->record->facts |= FACT_OSTS_FULL;
		return take_number(admit);
	}
	if (!request->set && inode.layout.ost_count > 0)
		return 0;
	choose_osts(admit, request->set ? request->set->stripe_count : inode.layout.stripe_count);
	return request->set ? take_number(admit) : 0;
}

FORM(session_open_form)
{
	const Strake__SessionOpenRequest *request = (const void *)message;

	return request->client_uuid.len == UUID_SIZE ? 0 : -EINVAL;
}

FACTS(session_open_facts)
{
	(void)message;
	return take_number(admit);
}

FORM(open_form)
{
	const Strake__OpenRequest *request = (const void *)message;

	return request->modes == 0 || (request->modes & ~(OPEN_READ | OPEN_WRITE)) ? -EINVAL : 0;
}

FORM(close_form)
{
	const Strake__CloseRequest *request = (const void *)message;

	return request->n_ino == request->n_modes ? 0 : -EINVAL;
}

static bool lock_is_sound(const Strake__Lock *lock)
{
	return lock->kind >= LOCK_POSIX && lock->kind <= LOCK_APPEND && lock->type <= LOCK_EXCLUSIVE &&
	       lock->start <= lock->end;
}

FORM(reclaim_form)
{
	const Strake__ReclaimRequest *request = (const void *)message;

	if (request->n_ino != request->n_modes)
		return -EINVAL;
	for (size_t i = 0; i < request->n_modes; i++) {
		if (request->modes[i] == 0 || (request->modes[i] & ~(OPEN_READ | OPEN_WRITE)))
			return -EINVAL;
	}
	for (size_t i = 0; i < request->n_lock; i++) {
		if (!lock_is_sound(request->lock[i]->lock) || request->lock[i]->lock->type == LOCK_FREE)
			return -EINVAL;
	}
	return 0;
}

FORM(access_form)
{
	const Strake__AccessRequest *request = (const void *)message;

	return request->mask & ~(uint32_t)(R_OK | W_OK | X_OK) ? -EINVAL : 0;
}

FORM(lock_form)
{
	const Strake__LockRequest *request = (const void *)message;

	if (!lock_is_sound(request->lock) || request->drop > LOCK_DROP_HANDLE)
		return -EINVAL;
	if (request->drop && request->lock->type != LOCK_FREE)
		return -EINVAL;
	return request->wait && request->waiter == 0 ? -EINVAL : 0;
}

/* What is to check and to note; what is not in the table has neither. */
static const struct admit_row {
	uint16_t op;
	int (*form)(const ProtobufCMessage *message);
	int (*facts)(struct admit *admit, const ProtobufCMessage *message);
} admit_table[] = {
	{ OP_LOOKUP, lookup_form, NULL },
	{ OP_ACCESS, access_form, NULL },
	{ OP_GETXATTR, getxattr_form, NULL },
	{ OP_OPEN, open_form, NULL },
	{ OP_CLOSE, close_form, NULL },
	{ OP_LOCK, lock_form, NULL },
	{ OP_LOCK_TEST, lock_form, NULL },
	{ OP_RECLAIM, reclaim_form, NULL },
	{ OP_SESSION_OPEN, session_open_form, session_open_facts },
	{ OP_CREATE, create_form, create_facts },
	{ OP_MKDIR, create_form, create_facts },
	{ OP_MKNOD, create_form, create_facts },
	{ OP_SYMLINK, symlink_form, create_facts },
	{ OP_TMPFILE, tmpfile_form, tmpfile_facts },
	{ OP_LINK, link_form, link_facts },
	{ OP_UNLINK, unlink_form, unlink_facts },
	{ OP_RMDIR, rmdir_form, unlink_facts },
	{ OP_RENAME, rename_form, rename_facts },
	{ OP_SETATTR, setattr_form, setattr_facts },
	{ OP_SETXATTR, setxattr_form, setxattr_facts },
	{ OP_REMOVEXATTR, removexattr_form, removexattr_facts },
	{ OP_ATIMES, atimes_form, NULL },
	{ OP_SIZE, NULL, size_facts },
	{ OP_PUNCH, punch_form, punch_facts },
	{ OP_LAYOUT, layout_form, layout_facts },
};

static const struct admit_row *admit_find(uint16_t op)
{
	for (size_t i = 0; i < sizeof(admit_table) / sizeof(*admit_table); i++) {
		if (admit_table[i].op == op)
			return &admit_table[i];
	}
	return NULL;
}

int admit_form(uint16_t op, const ProtobufCMessage *message)
{
	const struct admit_row *row = admit_find(op);

	return row && row->form ? row->form(message) : 0;
}

uint64_t admit_adds_name_in(uint16_t op, const ProtobufCMessage *message)
{
	switch (op) {
	case OP_CREATE:
	case OP_MKDIR:
	case OP_MKNOD:
	case OP_SYMLINK:
		return ((const Strake__CreateRequest *)message)->parent;
	case OP_LINK:
		return ((const Strake__LinkRequest *)message)->parent;
	case OP_RENAME:
		return ((const Strake__RenameRequest *)message)->new_parent;
	default:
		return 0;
	}
}

int admit(const struct admission *admission, const struct asker *asker, uint16_t op, const ProtobufCMessage *message,
	  struct bytes body, uint64_t clock_ns, struct record_space *space, struct record *ret_record)
{
	const struct admit_row *row = admit_find(op);
	struct record record = {
		.op = op,
		.facts = (admission->root_squash ? FACT_SQUASH : 0) | (admission->unfenced ? FACT_UNFENCED : 0) |
			 (asker->alone ? FACT_ALONE : 0),
		.time_ns = admit_time(admission->state, clock_ns),
		.session = asker->session,
		.slot = asker->slot,
		.seq = asker->seq,
		.body = body,
	};
	struct admit admit = {
		.with = admission,
		.state = admission->state,
		.session = asker->session,
		.record = &record,
		.space = space,
	};
	int err = row && row->facts ? row->facts(&admit, message) : 0;

	if (err < 0)
		return err;
	*ret_record = record;
	return 0;
}
