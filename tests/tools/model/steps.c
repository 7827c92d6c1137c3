/* Steps: drawn, written and read. */
#include "tests/tools/model/model.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY 70 /* things in the tree; above it more is removed than made */

uint64_t random_below(struct random *rng, uint64_t below)
{
	rng->state ^= rng->state << 13;
	rng->state ^= rng->state >> 7;
	rng->state ^= rng->state << 17;
	return (rng->state >> 11) % below;
}

static bool one_in(struct random *rng, uint64_t n)
{
	return random_below(rng, n) == 0;
}

/* --- names ------------------------------------------------------------------------------------------------------- */

void names_take(struct names *names, const char *text)
{
	unsigned int lines = 0;
	char *line, *rest;

	names_free(names);
	names->text = strdup(text);
	for (const char *c = text; *c != '\0'; c++)
		lines += *c == '\n';
	names->all = calloc(lines + 1, sizeof(*names->all));
	names->dirs = calloc(lines + 1, sizeof(*names->dirs));
	if (names->text == NULL || names->all == NULL || names->dirs == NULL)
		abort();
	for (line = strtok_r(names->text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
		if (strlen(line) > PATH_ROOM - 300)
			continue;
		names->all[names->count++] = line + 2;
		if (line[0] == 'd')
			names->dirs[names->dir_count++] = line + 2;
	}
}

void names_free(struct names *names)
{
	free(names->all);
	free(names->dirs);
	free(names->text);
	*names = (struct names){ 0 };
}

static const char *draw_existing(struct random *rng, char *const *list, unsigned int count)
{
	return count == 0 ? "/" : list[random_below(rng, count)];
}

static void draw_new(struct random *rng, const struct names *names, char *path)
{
	const char *dir = draw_existing(rng, names->dirs, names->dir_count);
	unsigned int name = (unsigned int)random_below(rng, 13);

	if (strcmp(dir, "/") == 0)
		dir = "";
	if (one_in(rng, 60)) /* as long as a name may be */
		snprintf(path, PATH_ROOM, "%s/%0255d", dir, 7);
	else
		snprintf(path, PATH_ROOM, "%s/%c", dir, (int)('a' + name));
}

/* What programs seldom say and kernels must understand all the same. */
static void draw_odd(struct random *rng, const struct names *names, char *path)
{
	static const char *const formats[] = {
		"%s/",     "%s/.",   "%s/..", "%s/../b", "%s//a",     "%s/a/b",
		"%s/./a/", "/../%s", "%.0s",  "%.0sa",   "%s/%0256d", ".%s",
	};
	const char *base = draw_existing(rng, names->all, names->count);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(path, PATH_ROOM, formats[random_below(rng, sizeof(formats) / sizeof(*formats))], base, 7);
#pragma GCC diagnostic pop
}

static void draw_path(struct random *rng, const struct names *names, char kind, char *path)
{
	uint64_t fate = random_below(rng, 100);

	if (fate < 6)
		draw_odd(rng, names, path);
	else if (kind == 'n' ? fate < 90 : fate < 12)
		draw_new(rng, names, path);
	else if (kind == 'd' && fate < 90)
		snprintf(path, PATH_ROOM, "%s", draw_existing(rng, names->dirs, names->dir_count));
	else
		snprintf(path, PATH_ROOM, "%s", draw_existing(rng, names->all, names->count));
}

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static uint64_t draw_flags(struct random *rng)
{
	static const int extra[] = { O_CREAT,     O_CREAT,    O_CREAT | O_EXCL, O_TRUNC,          O_APPEND,
				     O_DIRECTORY, O_NOFOLLOW, O_SYNC,           O_CREAT | O_TRUNC };
	int flags = (int)random_below(rng, 4) % 3; /* reading most often */

	for (unsigned int i = 0; i < 2; i++)
		if (one_in(rng, 2))
			flags |= extra[random_below(rng, sizeof(extra) / sizeof(*extra))];
	if ((flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY))
		flags &= ~O_CREAT; /* refused since Linux 6.4, before that the filesystem's business */
	return (uint64_t)flags;
}

static uint64_t draw_mode(struct random *rng)
{
	static const unsigned int common[] = { 0644, 0755, 0777, 0600, 0666, 0700, 01777, 02775, 04755, 06777 };

	return one_in(rng, 4) ? random_below(rng, 010000) : common[random_below(rng, sizeof(common) / sizeof(*common))];
}

static uint64_t draw_size(struct random *rng)
{
	static const uint64_t around[] = { 0, 512, 4096, 8192, 65536, 1 << 20, 4 << 20 };

	switch (random_below(rng, 8)) {
	case 0:
		return random_below(rng, 5 << 20);
	case 1:
	case 2:
		return around[random_below(rng, sizeof(around) / sizeof(*around))] + random_below(rng, 3);
	case 3:
		return random_below(rng, 200000);
	default:
		return random_below(rng, 12000);
	}
}

static uint64_t draw_number(struct random *rng, char kind)
{
	static const uint64_t ids[] = { 0, 1001, 1002, 2000, 1001, 1002, 2000, UINT32_MAX };

	switch (kind) {
	case 'O':
		return draw_flags(rng);
	case 'm':
		return draw_mode(rng);
	case 'o':
		return draw_size(rng);
	case 'l':
		return one_in(rng, 6) ? random_below(rng, 600000) : random_below(rng, 10000);
	case 'w':
		return random_below(rng, 3);
	case 'u':
		return ids[random_below(rng, sizeof(ids) / sizeof(*ids))];
	default:
		return random_below(rng, 1000000007);
	}
}

/* --- steps ------------------------------------------------------------------------------------------------------- */

static unsigned int draw_op(struct random *rng, const struct names *names)
{
	uint64_t total = 0, at;
	unsigned int op;

	if (names->count > MANY && one_in(rng, 3))
		return op_find(one_in(rng, 3) ? "rmdir" : "unlink");
	for (op = 0; op < ops_count; op++)
		total += ops[op].weight;
	at = random_below(rng, total);
	for (op = 0; at >= ops[op].weight; op++)
		at -= ops[op].weight;
	return op;
}

void step_draw(struct random *rng, const struct names *names, struct step *ret_step)
{
	unsigned int paths = 0, fds = 0, numbers = 0;

	memset(ret_step, 0, sizeof(*ret_step));
	ret_step->op = draw_op(rng, names);
	ret_step->actor = (unsigned int)random_below(rng, ACTORS);
	ret_step->look = one_in(rng, 2);
	for (const char *kind = ops[ret_step->op].operands; *kind != '\0'; kind++) {
		if (strchr("pdn", *kind) != NULL)
			draw_path(rng, names, *kind, ret_step->path[paths++]);
		else if (*kind == 'f')
			ret_step->fd[fds++] = (unsigned int)random_below(rng, FILES);
		else
			ret_step->n[numbers++] = draw_number(rng, *kind);
	}
}

/* "ACTOR[+] OP OPERAND...": a path in quotes, an open file as #N, flags, modes in octal. */
void step_print(const struct step *step, char *line, size_t size)
{
	unsigned int paths = 0, fds = 0, numbers = 0;
	size_t len = (size_t)snprintf(line, size, "%u%s %s", step->actor, step->look ? "+" : "", ops[step->op].name);

	for (const char *kind = ops[step->op].operands; *kind != '\0' && len < size; kind++) {
		if (strchr("pdn", *kind) != NULL)
			len += (size_t)snprintf(line + len, size - len, " \"%s\"", step->path[paths++]);
		else if (*kind == 'f')
			len += (size_t)snprintf(line + len, size - len, " #%u", step->fd[fds++]);
		else if (strchr("Om", *kind) != NULL)
			len += (size_t)snprintf(line + len, size - len, " 0%" PRIo64, step->n[numbers++]);
		else
			len += (size_t)snprintf(line + len, size - len, " %" PRIu64, step->n[numbers++]);
	}
}

bool step_parse(const char *line, struct step *ret_step)
{
	unsigned int paths = 0, fds = 0, numbers = 0;
	char look[2] = "", name[32];
	int at = 0, len;

	memset(ret_step, 0, sizeof(*ret_step));
	if (sscanf(line, "%u%1[+]%n", &ret_step->actor, look, &at) < 2 &&
	    sscanf(line, "%u%n", &ret_step->actor, &at) < 1)
		return false;
	if (sscanf(line + at, " %31s%n", name, &len) < 1 || ret_step->actor >= ACTORS)
		return false;
	at += len;
	ret_step->look = look[0] == '+';
	ret_step->op = op_find(name);
	if (ret_step->op == ops_count)
		return false;
	for (const char *kind = ops[ret_step->op].operands; *kind != '\0'; kind++, at += len) {
		len = 0;
		if (strchr("pdn", *kind) != NULL) {
			char *path = ret_step->path[paths++];

			if (strncmp(line + at, " \"\"", 3) == 0)
				len = 3;
			else if (sscanf(line + at, " \"%639[^\"]\"%n", path, &len) < 1)
				return false;
		} else if (*kind == 'f') {
			if (sscanf(line + at, " #%u%n", &ret_step->fd[fds], &len) < 1 || ret_step->fd[fds++] >= FILES)
				return false;
		} else if (sscanf(line + at, " %" SCNi64 "%n", (int64_t *)&ret_step->n[numbers++], &len) < 1) {
			return false;
		}
	}
	return true;
}
