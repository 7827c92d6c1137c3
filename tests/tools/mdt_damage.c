/*
 * mdt_damage: spoils the state of an MDS that is stopped, as no operation would, for tests of those who look for it.
 *
 *     mdt_damage DIR WHAT [ARGUMENT...]      (run without arguments for the list)
 *
 * DIR is the data directory; the log must have been checkpointed (a clean stop does).
 */
#include "tests/tools/mdt_damage.h"

#include "mds/view.h"

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 0);

	if (text[0] == '\0' || *end != '\0') {
		fprintf(stderr, "mdt_damage: \"%s\" is no number\n", text);
		exit(2);
	}
	return value;
}

static uint32_t type(const char *text)
{
	return strcmp(text, "dir") == 0 ? S_IFDIR : strcmp(text, "link") == 0 ? S_IFLNK : S_IFREG;
}

#define DAMAGE(name) static void name(struct state *state, char **args)

DAMAGE(nlink)
{
	damage_nlink(state, number(args[0]), (uint32_t)number(args[1]));
}
DAMAGE(size)
{
	damage_size(state, number(args[0]), number(args[1]));
}
DAMAGE(entries)
{
	damage_entries(state, number(args[0]), number(args[1]));
}
DAMAGE(parent)
{
	damage_parent(state, number(args[0]), number(args[1]));
}
DAMAGE(gen)
{
	damage_gen(state, number(args[0]), number(args[1]));
}
DAMAGE(cut_number)
{
	damage_cut_number(state, number(args[0]), number(args[1]));
}
DAMAGE(layout)
{
	damage_layout(state, number(args[0]), (uint16_t)number(args[1]));
}
DAMAGE(erase)
{
	damage_erase(state, number(args[0]));
}
DAMAGE(add_entry)
{
	damage_add_entry(state, number(args[0]), args[1], number(args[2]), type(args[3]));
}
DAMAGE(delete_entry)
{
	damage_delete_entry(state, number(args[0]), args[1]);
}
DAMAGE(misplace_entry)
{
	damage_misplace_entry(state, number(args[0]), args[1]);
}
DAMAGE(orphan)
{
	damage_orphan(state, number(args[0]), number(args[1]));
}
DAMAGE(destroy)
{
	damage_destroy(state, number(args[0]), number(args[1]), (uint16_t)number(args[2]), false);
}
DAMAGE(destroy_now)
{
	damage_destroy(state, number(args[0]), number(args[1]), (uint16_t)number(args[2]), true);
}
DAMAGE(cut)
{
	damage_cut(state, number(args[0]), number(args[1]), number(args[2]), (uint16_t)number(args[3]));
}
DAMAGE(xattr)
{
	damage_xattr(state, number(args[0]), args[1]);
}
DAMAGE(ring)
{
	damage_ring(state, number(args[0]), args[1], args[2]);
}
DAMAGE(inode_count)
{
	state->meta.inodes = number(args[0]);
	state_store_meta(state);
}

static const struct damage {
	const char *name;
	int arguments;
	const char *help;
	void (*apply)(struct state *state, char **args);
} damages[] = {
	{ "nlink", 2, "INO N", nlink },
	{ "size", 2, "INO N", size },
	{ "entries", 2, "INO N", entries },
	{ "parent", 2, "INO PARENT", parent },
	{ "gen", 2, "INO GEN", gen },
	{ "cut-number", 2, "INO N", cut_number },
	{ "layout", 2, "INO OST-OF-THE-FIRST-STRIPE", layout },
	{ "erase", 1, "INO", erase },
	{ "add-entry", 4, "PARENT NAME INO file|dir|link", add_entry },
	{ "delete-entry", 2, "PARENT NAME", delete_entry },
	{ "misplace-entry", 2, "PARENT NAME", misplace_entry },
	{ "orphan", 2, "INO SESSION", orphan },
	{ "destroy", 3, "INO GEN OST", destroy },
	{ "destroy-now", 3, "INO GEN OST", destroy_now },
	{ "cut", 4, "INO GEN NUMBER OST", cut },
	{ "xattr", 2, "INO NAME", xattr },
	{ "ring", 3, "PARENT NAME NAME", ring },
	{ "inode-count", 1, "N", inode_count },
};

static int usage(void)
{
	fprintf(stderr, "mdt_damage DIR WHAT [ARGUMENT...]\n");
	for (size_t i = 0; i < sizeof(damages) / sizeof(*damages); i++)
		fprintf(stderr, "  %s %s\n", damages[i].name, damages[i].help);
	return 2;
}

int main(int argc, char **argv)
{
	const struct damage *damage = NULL;
	struct state state;
	struct view *view;
	uint64_t applied;
	char error[256];

	for (size_t i = 0; argc >= 3 && i < sizeof(damages) / sizeof(*damages); i++) {
		if (strcmp(damages[i].name, argv[2]) == 0 && damages[i].arguments == argc - 3)
			damage = &damages[i];
	}
	if (!damage)
		return usage();
	if (view_open(argv[1], &view, &applied, error, sizeof(error)) < 0) {
		fprintf(stderr, "mdt_damage: %s\n", error);
		return 1;
	}
	state_load(&state, view);
	damage->apply(&state, argv + 3);
	view_freeze(view, applied);
	if (view_write_frozen(view) < 0) {
		fprintf(stderr, "mdt_damage: the disk is full\n");
		return 1;
	}
	view_thaw(view);
	view_release(view);
	view_close(view);
	return 0;
}
