/*
 * Random operations on the MDT and on a model of a filesystem in a few arrays: every result, and the whole tree now and
 * then, must be the same. The log they leave, applied again, gives the same state, byte by byte; cut off at any record it
 * gives one in which the invariants hold.
 */
#include "mdt_driver.h"
#include "unit.h"

#include <sys/xattr.h>

#define NODES      256
#define NAMES      5
#define OPERATIONS 6000

static const char *const name_texts[NAMES] = { "a", "b", "c", "dd", "e-long-enough-to-be-a-name" };

/* --- the model ----------------------------------------------------------------------------------------------------- */

struct node {
	uint64_t ino; /* 0: free */
	uint32_t type;
	uint32_t nlink;
	uint64_t size;
	int parent;           /* of a directory */
	int entry[NAMES];     /* of a directory: node, -1: none */
	bool pending;         /* a cut is not acknowledged */
	unsigned int holders; /* bits: sessions that have it open */
	bool xattr;
	bool linkable; /* made without a name, and may get one */
};

struct model {
	struct driver *driver;
	struct node nodes[NODES]; /* 0 is the root */
	uint64_t sessions[2];
	unsigned int seed;
	unsigned int done[16];
};

static unsigned int dice(struct model *model, unsigned int sides)
{
	return (unsigned int)rand_r(&model->seed) % sides;
}

static int node_new(struct model *model, uint64_t ino, uint32_t type)
{
	for (int i = 1; i < NODES; i++) {
		struct node *node = &model->nodes[i];

		if (node->ino != 0)
			continue;
		*node = (struct node){ .ino = ino, .type = type, .nlink = type == S_IFDIR ? 2 : 1 };
		for (int name = 0; name < NAMES; name++)
			node->entry[name] = -1;
		return i;
	}
	return -1;
}

static bool is_dir(const struct model *model, int node)
{
	return model->nodes[node].type == S_IFDIR;
}

static int any(struct model *model, bool dir)
{
	for (int tries = 0; tries < 1000; tries++) {
		int i = (int)dice(model, NODES);

		if (model->nodes[i].ino != 0 && model->nodes[i].nlink > 0 && (!dir || is_dir(model, i)))
			return i;
	}
	return 0;
}

static int count_nodes(const struct model *model)
{
	int count = 0;

	for (int i = 0; i < NODES; i++)
		count += model->nodes[i].ino != 0;
	return count;
}

static bool is_empty(const struct model *model, int dir)
{
	for (int name = 0; name < NAMES; name++) {
		if (model->nodes[dir].entry[name] >= 0)
			return false;
	}
	return true;
}

static bool is_above(const struct model *model, int node, int dir)
{
	for (; dir != 0; dir = model->nodes[dir].parent) {
		if (dir == node)
			return true;
	}
	return node == 0;
}

static void node_gone(struct model *model, int node)
{
	if (model->nodes[node].nlink == 0 && model->nodes[node].holders == 0)
		model->nodes[node].ino = 0;
}

static void drop_link(struct model *model, int node)
{
	if (is_dir(model, node)) {
		model->nodes[model->nodes[node].parent].nlink--;
		model->nodes[node].nlink = 0;
	} else {
		model->nodes[node].nlink--;
	}
	node_gone(model, node);
}

/* --- operations: on both ------------------------------------------------------------------------------------------- */

static void make_one(struct model *model)
{
	static const uint16_t ops[] = { OP_CREATE, OP_MKDIR, OP_SYMLINK, OP_MKNOD };
	static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO };
	int parent = any(model, true), name = (int)dice(model, NAMES), kind = (int)dice(model, 8) % 5, node;
	uint64_t ino = 0;
	int err;

	if (kind > 3)
		kind = 0;
	if (count_nodes(model) >= NODES - 1)
		return;
	err = driver_make(model->driver, ops[kind], model->nodes[parent].ino, name_texts[name],
			  types[kind] == S_IFIFO ? S_IFIFO | 0644 : 0755, &ino);
	if (model->nodes[parent].entry[name] >= 0) {
		ck_assert_int_eq(err, -EEXIST);
		return;
	}
	ck_assert_int_eq(err, 0);
	node = node_new(model, ino, types[kind]);
	model->nodes[parent].entry[name] = node;
	model->nodes[node].parent = parent;
	if (types[kind] == S_IFLNK)
		model->nodes[node].size = strlen("target");
	if (types[kind] == S_IFDIR)
		model->nodes[parent].nlink++;
}

static void make_nameless(struct model *model)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	bool exclusive = dice(model, 4) == 0;
	int node;

	if (count_nodes(model) >= NODES - 1)
		return;
	request.cred = &model->driver->cred;
	request.parent = model->nodes[any(model, true)].ino;
	request.name = driver_name("");
	request.mode = S_IFREG | 0600;
	request.has_exclusive = request.exclusive = exclusive;
	request.has_open_modes = 1;
	request.open_modes = OPEN_READ;
	ck_assert_int_eq(driver_change(model->driver, OP_TMPFILE, &request.base), 0);
	node = node_new(model, driver_entry(model->driver)->attr->ino, S_IFREG);
	model->nodes[node].nlink = 0;
	model->nodes[node].linkable = !exclusive;
	model->nodes[node].holders = 1u << (model->driver->session == model->sessions[1]);
}

/* What has no name gets one only if it has never had one, and only from who has it open. */
static void link_nameless(struct model *model)
{
	int node = (int)dice(model, NODES), parent = any(model, true), name = (int)dice(model, NAMES), err;
	struct node *at = &model->nodes[node];
	unsigned int who = model->driver->session == model->sessions[1];

	while (node < NODES && (at->ino == 0 || at->nlink > 0 || at->type != S_IFREG))
		at = &model->nodes[++node];
	if (node == NODES)
		return;
	err = driver_link(model->driver, at->ino, model->nodes[parent].ino, name_texts[name]);
	if (model->nodes[parent].entry[name] >= 0) {
		ck_assert_int_eq(err, -EEXIST);
	} else if (!at->linkable || !(at->holders & (1u << who))) {
		ck_assert_int_eq(err, -ENOENT);
	} else {
		ck_assert_int_eq(err, 0);
		model->nodes[parent].entry[name] = node;
		at->nlink = 1;
		at->linkable = false;
	}
}

static void link_one(struct model *model)
{
	int node = any(model, false), parent = any(model, true), name = (int)dice(model, NAMES);
	int err = driver_link(model->driver, model->nodes[node].ino, model->nodes[parent].ino, name_texts[name]);

	if (model->nodes[parent].entry[name] >= 0) {
		ck_assert_int_eq(err, -EEXIST);
	} else if (is_dir(model, node)) {
		ck_assert_int_eq(err, -EPERM);
	} else {
		ck_assert_int_eq(err, 0);
		model->nodes[parent].entry[name] = node;
		model->nodes[node].nlink++;
	}
}

static void remove_one(struct model *model)
{
	int parent = any(model, true), name = (int)dice(model, NAMES), node = model->nodes[parent].entry[name];
	bool rmdir = dice(model, 2);
	int err = driver_remove_name(model->driver, rmdir ? OP_RMDIR : OP_UNLINK, model->nodes[parent].ino,
				     name_texts[name]);

	if (node < 0) {
		ck_assert_int_eq(err, -ENOENT);
	} else if (rmdir && !is_dir(model, node)) {
		ck_assert_int_eq(err, -ENOTDIR);
	} else if (!rmdir && is_dir(model, node)) {
		ck_assert_int_eq(err, -EISDIR);
	} else if (rmdir && !is_empty(model, node)) {
		ck_assert_int_eq(err, -ENOTEMPTY);
	} else {
		ck_assert_int_eq(err, 0);
		model->nodes[parent].entry[name] = -1;
		drop_link(model, node);
	}
}

static int rename_expected(const struct model *model, int from_dir, int source, int to_dir, int target,
			   unsigned int flags)
{
	if (source < 0)
		return -ENOENT;
	if (target >= 0 && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (target < 0 && (flags & RENAME_EXCHANGE))
		return -ENOENT;
	if (is_dir(model, source) && is_above(model, source, to_dir))
		return -EINVAL;
	if (target >= 0 && is_dir(model, target) && is_above(model, target, from_dir))
		return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if (source == target)
		return 1;
	if (target < 0 || (flags & RENAME_EXCHANGE))
		return 0;
	if (is_dir(model, source) && !is_dir(model, target))
		return -ENOTDIR;
	if (!is_dir(model, source) && is_dir(model, target))
		return -EISDIR;
	return is_dir(model, target) && !is_empty(model, target) ? -ENOTEMPTY : 0;
}

static void set_parent(struct model *model, int node, int dir)
{
	if (!is_dir(model, node))
		return;
	model->nodes[model->nodes[node].parent].nlink--;
	model->nodes[node].parent = dir;
	model->nodes[dir].nlink++;
}

/* What a rename has left under the old name. */
static int whiteout_of(struct model *model, int dir, int name)
{
	uint64_t ino = 0;

	ck_assert_int_eq(driver_lookup(model->driver, model->nodes[dir].ino, name_texts[name], &ino), 0);
	return node_new(model, ino, S_IFCHR);
}

static void rename_one(struct model *model)
{
	static const unsigned int choices[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT };
	unsigned int flags = choices[dice(model, count_nodes(model) < NODES - 1 ? 6 : 5)];
	int from_dir = any(model, true), from = (int)dice(model, NAMES), to_dir = any(model, true),
	    to = (int)dice(model, NAMES);
	int source = model->nodes[from_dir].entry[from], target = model->nodes[to_dir].entry[to];
	int expected = rename_expected(model, from_dir, source, to_dir, target, flags);
	int err = driver_rename(model->driver, model->nodes[from_dir].ino, name_texts[from], model->nodes[to_dir].ino,
				name_texts[to], flags);

	ck_assert_int_eq(err, expected > 0 ? 0 : expected);
	if (expected != 0)
		return;
	if (flags & RENAME_EXCHANGE) {
		model->nodes[from_dir].entry[from] = target;
		model->nodes[to_dir].entry[to] = source;
		set_parent(model, target, from_dir);
		set_parent(model, source, to_dir);
		return;
	}
	model->nodes[from_dir].entry[from] = flags & RENAME_WHITEOUT ? whiteout_of(model, from_dir, from) : -1;
	if (target >= 0)
		drop_link(model, target);
	model->nodes[to_dir].entry[to] = source;
	set_parent(model, source, to_dir);
}

static void truncate_one(struct model *model)
{
	int node = any(model, false);
	struct node *at = &model->nodes[node];
	uint64_t size = dice(model, 3) ? dice(model, 100000) : 0;
	int err = driver_truncate(model->driver, at->ino, size);

	if (at->type == S_IFDIR) {
		ck_assert_int_eq(err, -EISDIR);
	} else if (at->type != S_IFREG) {
		ck_assert_int_eq(err, -EINVAL);
	} else if (at->pending && size != 0 && size != at->size) {
		ck_assert_int_eq(err, -EAGAIN);
	} else {
		ck_assert_int_eq(err, 0);
		/* Other sessions' open files make the MDT unsure: then also the size as it was is a cut. */
		if (err == 0)
			at->pending = driver_inode(model->driver, at->ino).cut > 0 &&
				      cut_is_pending(model->driver->state.view, at->ino);
		at->size = size;
	}
}

static void report_one(struct model *model)
{
	int node = any(model, false);
	struct node *at = &model->nodes[node];
	struct inode inode = driver_inode(model->driver, at->ino);
	uint64_t end = dice(model, 100000);
	bool stale = dice(model, 4) == 0;
	int err;

	if (stale)
		inode.cut += 7;
	err = driver_size(model->driver, &inode, end, dice(model, 2));
	if (at->type != S_IFREG) {
		ck_assert_int_eq(err, -EINVAL);
	} else if (stale) {
		ck_assert_int_eq(err, -ESTALE);
	} else {
		ck_assert_int_eq(err, 0);
		if (end > at->size)
			at->size = end;
	}
}

static void xattr_one(struct model *model)
{
	int node = any(model, false);
	struct node *at = &model->nodes[node];
	bool may = at->type == S_IFREG || at->type == S_IFDIR;
	int err;

	if (dice(model, 2)) {
		err = driver_setxattr(model->driver, at->ino, "user.one", "value", 0);
		ck_assert_int_eq(err, may ? 0 : -EPERM);
		at->xattr = may;
	} else {
		err = driver_removexattr(model->driver, at->ino, "user.one");
		ck_assert_int_eq(err, !may ? -EPERM : at->xattr ? 0 : -ENODATA);
		at->xattr = false;
	}
}

/* An ACL that names somebody, or says no more than mode bits, or none: of what is made below, the state's check tells. */
static void acl_one(struct model *model)
{
	static const uint8_t named[] = { 2, 0,  0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  6,
					 0, 77, 0,   0,   0,   4,   0,  5, 0,   255, 255, 255, 255, 16, 0,
					 7, 0,  255, 255, 255, 255, 32, 0, 1,   0,   255, 255, 255, 255 };
	static const uint8_t plain[] = { 2, 0, 0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 4,   0,
					 5, 0, 255, 255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255 };
	static const uint8_t *const values[] = { named, plain, plain };
	static const size_t sizes[] = { sizeof(named), sizeof(plain), 4 };
	static char access_name[] = "system.posix_acl_access", default_name[] = "system.posix_acl_default";
	Strake__SetxattrRequest request = STRAKE__SETXATTR_REQUEST__INIT;
	struct node *at = &model->nodes[any(model, false)];
	unsigned int which = dice(model, 3);
	bool defaults = dice(model, 2);
	uint32_t flag = defaults ? INODE_ACL_DEFAULT : INODE_ACL_ACCESS;
	int err;

	request.cred = &model->driver->cred;
	request.ino = at->ino;
	request.name = defaults ? default_name : access_name;
	request.value = (ProtobufCBinaryData){ .data = (uint8_t *)(uintptr_t)values[which], .len = sizes[which] };
	request.has_kill_sgid = 1;
	err = driver_change(model->driver, OP_SETXATTR, &request.base);
	if (at->type == S_IFLNK) {
		ck_assert_int_eq(err, -EOPNOTSUPP);
	} else if (defaults && at->type != S_IFDIR) {
		ck_assert_int_eq(err, which == 2 ? 0 : -EACCES);
	} else {
		ck_assert_int_eq(err, 0);
		ck_assert_int_eq((driver_inode(model->driver, at->ino).flags & flag) != 0,
				 which == 0 || (which == 1 && defaults));
	}
}

static void open_one(struct model *model)
{
	int node = any(model, false);
	unsigned int who = dice(model, 2);

	opens_add(model->driver->opens, model->sessions[who], model->nodes[node].ino, OPEN_READ);
	model->nodes[node].holders |= 1u << who;
}

static void close_one(struct model *model)
{
	for (int node = (int)dice(model, NODES); node < NODES; node++) {
		struct node *at = &model->nodes[node];
		unsigned int who = dice(model, 2);

		if (at->ino == 0 || !(at->holders & (1u << who)))
			continue;
		ck_assert(opens_remove(model->driver->opens, model->sessions[who], at->ino, OPEN_READ));
		if (orphan_is_held_by(model->driver->state.view, at->ino, model->sessions[who]))
			driver_release(model->driver, model->sessions[who], at->ino);
		at->holders &= ~(1u << who);
		node_gone(model, node);
		return;
	}
}

static void acknowledge(struct model *model)
{
	driver_acknowledge_all(model->driver);
	for (int i = 0; i < NODES; i++)
		model->nodes[i].pending = false;
}

static void operate(struct model *model)
{
	unsigned int what = dice(model, 100);

	model->driver->session = model->sessions[dice(model, 2)];
	if (what < 27)
		make_one(model);
	else if (what < 30)
		make_nameless(model);
	else if (what < 33)
		link_nameless(model);
	else if (what < 38)
		link_one(model);
	else if (what < 56)
		remove_one(model);
	else if (what < 74)
		rename_one(model);
	else if (what < 80)
		truncate_one(model);
	else if (what < 86)
		report_one(model);
	else if (what < 88)
		xattr_one(model);
	else if (what < 90)
		acl_one(model);
	else if (what < 94)
		open_one(model);
	else if (what < 98)
		close_one(model);
	else
		acknowledge(model);
}

/* --- comparing ----------------------------------------------------------------------------------------------------- */

static void compare_dir(struct model *model, int dir)
{
	Strake__ReaddirRequest request = STRAKE__READDIR_REQUEST__INIT;
	const Strake__ReaddirReply *reply = &model->driver->answer.as.readdir;
	int count = 0;

	request.cred = &model->driver->cred;
	request.ino = model->nodes[dir].ino;
	request.max_bytes = 65536;
	request.has_attrs = request.attrs = 1;
	ck_assert_int_eq(driver_query(model->driver, OP_READDIR, &request.base), 0);
	ck_assert(reply->end);
	if (dir != 0)
		ck_assert_uint_eq(reply->parent, model->nodes[model->nodes[dir].parent].ino);
	for (int name = 0; name < NAMES; name++)
		count += model->nodes[dir].entry[name] >= 0;
	ck_assert_uint_eq(reply->n_entry, (size_t)count);
	for (size_t i = 0; i < reply->n_entry; i++) {
		const Strake__Dirent *entry = reply->entry[i];
		const struct node *node = NULL;

		for (int name = 0; name < NAMES; name++) {
			if (strlen(name_texts[name]) == entry->name.len &&
			    memcmp(name_texts[name], entry->name.data, entry->name.len) == 0 &&
			    model->nodes[dir].entry[name] >= 0)
				node = &model->nodes[model->nodes[dir].entry[name]];
		}
		ck_assert_ptr_nonnull(node);
		ck_assert_uint_eq(entry->ino, node->ino);
		ck_assert_uint_eq(entry->type, node->type);
		ck_assert_uint_eq(entry->attr->nlink, node->nlink);
		if (node->type != S_IFDIR)
			ck_assert_uint_eq(entry->attr->size, node->size);
	}
}

static void compare_all(struct model *model)
{
	struct inode inode;

	for (int i = 0; i < NODES; i++) {
		if (model->nodes[i].ino == 0)
			continue;
		inode = driver_inode(model->driver, model->nodes[i].ino);
		ck_assert_uint_eq(inode.nlink, model->nodes[i].nlink);
		ck_assert_uint_eq(inode.mode & S_IFMT, model->nodes[i].type);
		if (is_dir(model, i) && model->nodes[i].nlink > 0)
			compare_dir(model, i);
	}
	ck_assert_uint_eq(model->driver->state.meta.inodes, (uint64_t)count_nodes(model));
	driver_check(model->driver);
}

/* --- tests --------------------------------------------------------------------------------------------------------- */

static void model_run(struct model *model, unsigned int seed, unsigned int operations, unsigned int checkpoint_every)
{
	printf("seed %u\n", seed);
	fflush(stdout);
	*model = (struct model){ .driver = driver_new(), .seed = seed };
	model->sessions[0] = model->driver->session;
	model->sessions[1] = driver_open_session(model->driver);
	model->driver->checkpoint_every = checkpoint_every;
	driver_set_osts(model->driver, seed % 2 ? 3 : 0);
	model->nodes[0] = (struct node){ .ino = DRIVER_ROOT, .type = S_IFDIR, .nlink = 2 };
	for (int name = 0; name < NAMES; name++)
		model->nodes[0].entry[name] = -1;
	for (unsigned int i = 0; i < operations; i++) {
		operate(model);
		if (i % 500 == 0)
			compare_all(model);
	}
	compare_all(model);
}

START_TEST(model_agrees)
{
	struct model model;

	for (unsigned int seed = 1; seed <= 4; seed++) {
		model_run(&model, seed, OPERATIONS, seed % 2 ? 700 : 0);
		driver_free(model.driver);
	}
}
END_TEST

START_TEST(replay_gives_the_same)
{
	struct model model;
	struct driver *copy;

	model_run(&model, 11, OPERATIONS, 0);
	for (unsigned int every = 0; every <= 1200; every += 600) {
		copy = driver_replay(model.driver, model.driver->index, every);
		driver_compare(model.driver, copy);
		driver_check(copy);
		driver_free(copy);
	}
	driver_free(model.driver);
}
END_TEST

START_TEST(any_part_of_the_log_is_sound)
{
	struct model model;
	struct driver *copy = driver_empty();

	model_run(&model, 21, 1500, 0);
	for (uint64_t i = 0; i < model.driver->index; i++) {
		driver_apply(copy, (struct bytes){ model.driver->log[i].data, model.driver->log[i].size }, NULL);
		driver_check(copy);
	}
	driver_compare(model.driver, copy);
	driver_free(copy);
	driver_free(model.driver);
}
END_TEST

UNIT_MAIN("mdt_model", model_agrees, replay_gives_the_same, any_part_of_the_log_is_sound)
