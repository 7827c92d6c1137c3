/*
 * model: does the same, step by step, on a mount and in a directory of a local filesystem, the model, and compares what comes
 * of it: results, errors, bytes, attributes, listings, in the end whole trees.
 *
 *     model [-s SEED] [-n STEPS] [-r CASE] [-k] MOUNT_DIR MODEL_DIR
 *
 * Steps are drawn from the seed: calls of three actors (root and two users) on a small tree of names and a few open files each.
 * Where the two differ the case is made smaller, by leaving out steps and trying again in new directories, and printed; -r
 * does the steps of such a case (a file of them) instead of drawing any. Exits 0 when there was no difference, 1 when there
 * was; 2 when it could not be tried. -k leaves the directories of a difference as they are. Needs root.
 *
 * Times cannot be the same; compared is which of them have changed between two looks, and those that were set by hand.
 */
#include "tests/tools/model/model.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TREE_EVERY  1000 /* steps */
#define NAMES_EVERY 12
#define SHRINK_S    60
#define LOOKS_MAX   4096 /* a power of two */
#define TOLD_MAX    200  /* steps of a case: its last ones */
#define LINE_ROOM   2048

/* What was seen last of a path or an open file, in both trees. */
struct looked {
	char key[PATH_ROOM];
	struct seen seen[TREES];
};

struct model {
	const char *dirs[TREES];
	unsigned int tries; /* directories made so far */
	bool keep;
	char roots[TREES][4096];
	struct players players;
	struct looked looks[LOOKS_MAX];
	char difference[1 << 16]; /* what it was, as text; empty: none */
};

/* --- new directories ------------------------------------------------------------------------------------------------ */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static void model_begin(struct model *model)
{
	const char *roots[TREES];

	for (unsigned int tree = 0; tree < TREES; tree++) {
		snprintf(model->roots[tree], sizeof(model->roots[tree]), "%s/%d.%u", model->dirs[tree], getpid(),
			 model->tries);
		if (mkdir(model->roots[tree], 0777) < 0 || chmod(model->roots[tree], 0777) < 0) {
			fprintf(stderr, "model: %s: %s\n", model->roots[tree], strerror(errno));
			exit(2);
		}
		roots[tree] = model->roots[tree];
	}
	model->tries++;
	memset(model->looks, 0, sizeof(model->looks));
	model->difference[0] = '\0';
	players_start(&model->players, roots);
}

static void model_end(struct model *model)
{
	players_stop(&model->players);
	for (unsigned int tree = 0; tree < TREES && !(model->keep && model->difference[0] != '\0'); tree++)
		nftw(model->roots[tree], remove_one, 64, FTW_DEPTH | FTW_PHYS);
}

/* --- comparing ------------------------------------------------------------------------------------------------------ */

/* The first line that differs, of both. */
static void tell_texts(struct model *model, const char *what, const char *mount, const char *local)
{
	const char *ends[TREES];

	while (*mount != '\0' || *local != '\0') {
		ends[TREE_MOUNT] = strchrnul(mount, '\n');
		ends[TREE_MODEL] = strchrnul(local, '\n');
		if (ends[TREE_MOUNT] - mount != ends[TREE_MODEL] - local ||
		    memcmp(mount, local, (size_t)(ends[TREE_MOUNT] - mount)) != 0)
			break;
		mount = ends[TREE_MOUNT] + (*ends[TREE_MOUNT] != '\0');
		local = ends[TREE_MODEL] + (*ends[TREE_MODEL] != '\0');
	}
	snprintf(model->difference, sizeof(model->difference), "%s\n  mount: %.*s\n  model: %.*s", what,
		 (int)(strchrnul(mount, '\n') - mount), mount, (int)(strchrnul(local, '\n') - local), local);
}

/* What each filesystem may decide for itself. */
static bool may_differ(const struct step *step, const struct answer *mount, const struct answer *local)
{
	static const struct {
		const char *op;
		int mount, local;
		const char *why;
	} table[] = {
		{ "setxattr", 0, ENOSPC, "ext4 has room for few in a block" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		if (strcmp(ops[step->op].name, table[i].op) == 0 && mount->error == table[i].mount &&
		    local->error == table[i].local)
			return true;
	return false;
}

static struct looked *looked_find(struct model *model, const char *key)
{
	uint64_t at = sum_of(key, strlen(key), 1);

	for (unsigned int i = 0; i < LOOKS_MAX; i++, at++) {
		struct looked *looked = &model->looks[at % LOOKS_MAX];

		if (looked->key[0] == '\0')
			snprintf(looked->key, sizeof(looked->key), "%s", key);
		if (strcmp(looked->key, key) == 0)
			return looked;
	}
	return NULL;
}

/* Of one that is the same in both trees as at the last look, the same times must have changed. */
static void compare_times(struct model *model, const char *key, const struct seen *mount, const struct seen *local)
{
	struct looked *looked = looked_find(model, key);
	const struct seen now[TREES] = { *mount, *local };
	bool same = true, mtime[TREES], ctime[TREES];

	if (looked == NULL)
		return;
	for (unsigned int tree = 0; tree < TREES; tree++) {
		const struct seen *last = &looked->seen[tree];

		same = same && last->exists && now[tree].exists && last->ino == now[tree].ino;
		mtime[tree] = last->mtime_ns != now[tree].mtime_ns;
		ctime[tree] = last->ctime_ns != now[tree].ctime_ns;
		looked->seen[tree] = now[tree];
	}
	if (!same || (mtime[TREE_MOUNT] == mtime[TREE_MODEL] && ctime[TREE_MOUNT] == ctime[TREE_MODEL]))
		return;
	snprintf(model->difference, sizeof(model->difference),
		 "times of %s\n  mount: mtime %s, ctime %s\n  model: mtime %s, ctime %s", key,
		 mtime[TREE_MOUNT] ? "changed" : "stayed", ctime[TREE_MOUNT] ? "changed" : "stayed",
		 mtime[TREE_MODEL] ? "changed" : "stayed", ctime[TREE_MODEL] ? "changed" : "stayed");
}

static void compare_all_times(struct model *model, const struct step *step, const struct answer *mount,
			      const struct answer *local)
{
	char keys[SEEN][PATH_ROOM + 16];

	for (unsigned int i = 0; i < 2; i++) {
		snprintf(keys[i * 2], sizeof(keys[0]), "%s", step->path[i]);
		snprintf(keys[i * 2 + 1], sizeof(keys[0]), "%s/..", step->path[i]);
		snprintf(keys[4 + i], sizeof(keys[0]), "#%u of actor %u", step->fd[i], step->actor);
	}
	for (unsigned int i = 0; i < SEEN && model->difference[0] == '\0'; i++)
		if (mount->seen[i].exists || local->seen[i].exists)
			compare_times(model, keys[i], &mount->seen[i], &local->seen[i]);
}

/* The step's own answers, or those of a look at what it names. False: nobody answered. */
static bool do_and_compare(struct model *model, const struct step *step, bool looking)
{
	unsigned int actor = step->actor;
	struct step what = *step;
	struct answer *mount, *local;
	char title[64];

	what.looking = looking;
	if (!players_do(&model->players, actor, TREE_MODEL, &what, &local) ||
	    !players_do(&model->players, actor, TREE_MOUNT, &what, &mount)) {
		snprintf(model->difference, sizeof(model->difference), "no answer within half a minute");
		return false;
	}
	if (!looking && may_differ(step, mount, local))
		return false;
	if (mount->error != local->error || mount->value != local->value) {
		snprintf(model->difference, sizeof(model->difference),
			 "result\n  mount: %" PRId64 " %s\n  model: %" PRId64 " %s", mount->value,
			 mount->error == 0 ? "" : strerror(mount->error), local->value,
			 local->error == 0 ? "" : strerror(local->error));
	} else if (strcmp(mount->text, local->text) != 0) {
		snprintf(title, sizeof(title), "%s", looking ? "what is seen after it" : "what it tells");
		tell_texts(model, title, mount->text, local->text);
	} else if (looking) {
		compare_all_times(model, step, mount, local);
	}
	return model->difference[0] == '\0';
}

/* True: no difference. */
static bool model_step(struct model *model, const struct step *step)
{
	do_and_compare(model, step, false);
	if (step->look && model->difference[0] == '\0')
		do_and_compare(model, step, true);
	return model->difference[0] == '\0';
}

/* --- cases ---------------------------------------------------------------------------------------------------------- */

/* All steps in new directories: how many were done when they differed, or 0. A tree that differs in the end counts. */
static unsigned int model_case(struct model *model, const struct step *steps, unsigned int count)
{
	struct step tree = { .op = op_find("tree") };
	unsigned int done = 0;
	bool same = true;

	model_begin(model);
	while (same && done < count)
		same = model_step(model, &steps[done++]);
	if (same)
		same = model_step(model, &tree);
	model_end(model);
	return same ? 0 : done;
}

/* Is it that difference again: the same sort, after the same sort of step? */
static bool is_that(const struct model *model, const char *difference, const struct step *last, unsigned int op)
{
	return last->op == op && strncmp(model->difference, difference, strcspn(difference, " \n")) == 0;
}

/* Leaves out what is not needed for a difference: halves, quarters, ... single steps, again and again. */
static unsigned int shrink(struct model *model, struct step *steps, unsigned int count, const char *difference)
{
	unsigned int op = steps[count - 1].op;
	struct step *fewer = calloc(count, sizeof(*fewer));
	time_t end = time(NULL) + SHRINK_S;
	bool smaller = true;

	if (fewer == NULL)
		return count;
	for (unsigned int size = count / 2; size > 0 && time(NULL) < end; size = smaller && size == 1 ? 1 : size / 2) {
		smaller = false;
		for (unsigned int from = 0; from < count && time(NULL) < end;) {
			unsigned int len = from + size < count ? size : count - from, left = count - len, fails;

			memcpy(fewer, steps, from * sizeof(*steps));
			memcpy(fewer + from, steps + from + len, (count - from - len) * sizeof(*steps));
			fails = left == 0 ? 0 : model_case(model, fewer, left);
			if (fails > 0 && is_that(model, difference, &fewer[fails - 1], op)) {
				memcpy(steps, fewer, fails * sizeof(*steps));
				count = fails;
				smaller = true;
			} else {
				from += size;
			}
		}
	}
	free(fewer);
	return count;
}

static void report(struct model *model, struct step *steps, unsigned int count)
{
	char line[LINE_ROOM];
	unsigned int before = count;
	char first[sizeof(model->difference)];

	snprintf(first, sizeof(first), "%s", model->difference);
	if (model->keep)
		fprintf(stderr, "model: kept: %s %s\n", model->roots[TREE_MOUNT], model->roots[TREE_MODEL]);
	model->keep = false;
	count = shrink(model, steps, count, first);
	model_case(model, steps, count); /* once more, for what it says */
	fprintf(stderr, "model: %s\nmodel: after these steps, of %u:\n",
		model->difference[0] != '\0' ? model->difference : first, before);
	for (unsigned int i = count > TOLD_MAX ? count - TOLD_MAX : 0; i < count; i++) {
		step_print(&steps[i], line, sizeof(line));
		fprintf(stderr, "%s\n", line);
	}
}

static void take_names(struct model *model, struct names *names)
{
	struct step step = { .op = op_find("names") };
	struct answer *answer;

	if (players_do(&model->players, 0, TREE_MODEL, &step, &answer))
		names_take(names, answer->text);
}

/* Draws steps; where the trees differ, reports it. */
static int run_drawn(struct model *model, uint64_t seed, unsigned int count)
{
	struct random rng = { .state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1 };
	struct step *steps = calloc(count + 1, sizeof(*steps));
	struct names names = { 0 };
	unsigned int done = 0;
	bool same = true;

	if (steps == NULL)
		return 2;
	model_begin(model);
	while (same && done < count) {
		if (done % NAMES_EVERY == 0)
			take_names(model, &names);
		if (done % TREE_EVERY == TREE_EVERY - 1 || done == count - 1)
			steps[done].op = op_find("tree");
		else
			step_draw(&rng, &names, &steps[done]);
		same = model_step(model, &steps[done++]);
	}
	model_end(model);
	names_free(&names);
	if (!same) {
		fprintf(stderr, "model: seed %" PRIu64 ", step %u: %s\n", seed, done, model->difference);
		report(model, steps, done);
	}
	free(steps);
	return same ? 0 : 1;
}

static int run_case(struct model *model, const char *path)
{
	FILE *file = fopen(path, "r");
	struct step *steps = NULL;
	unsigned int count = 0, fails;
	char line[LINE_ROOM];

	if (file == NULL) {
		fprintf(stderr, "model: %s: %s\n", path, strerror(errno));
		return 2;
	}
	while (fgets(line, sizeof(line), file) != NULL) {
		if (line[0] == '\n' || line[0] == '#')
			continue;
		steps = realloc(steps, (count + 1) * sizeof(*steps));
		if (steps == NULL || !step_parse(line, &steps[count++])) {
			fprintf(stderr, "model: %s: not a step: %s", path, line);
			return 2;
		}
	}
	fclose(file);
	fails = model_case(model, steps, count);
	if (fails > 0) {
		step_print(&steps[fails - 1], line, sizeof(line));
		fprintf(stderr, "model: step %u: %s\n  after: %s\n", fails, model->difference, line);
	}
	free(steps);
	return fails > 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	static struct model model;
	uint64_t seed = 1;
	unsigned int steps = 5000;
	const char *path = NULL;
	int opt;

	while ((opt = getopt(argc, argv, "s:n:r:k")) != -1) {
		switch (opt) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			steps = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'r':
			path = optarg;
			break;
		case 'k':
			model.keep = true;
			break;
		default:
			return 2;
		}
	}
	if (argc - optind != 2 || steps == 0) {
		fprintf(stderr, "usage: model [-s SEED] [-n STEPS] [-r CASE] [-k] MOUNT_DIR MODEL_DIR\n");
		return 2;
	}
	model.dirs[TREE_MOUNT] = argv[optind];
	model.dirs[TREE_MODEL] = argv[optind + 1];
	umask(0);
	return path != NULL ? run_case(&model, path) : run_drawn(&model, seed, steps);
}
