#include "client/cli/place.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define DEPTH_MAX (PATH_MAX / 2)

struct walk {
	const struct place_names *names;
	bool follow;
	uint64_t dirs[DEPTH_MAX]; /* from the root down to where we are */
	size_t depth;             /* of them, beyond the root */
	unsigned int links;
	char rest[2 * PATH_MAX]; /* what remains of the path */
	struct place *place;
};

/* The path ends with the directory where we are. */
static int walk_end_here(struct walk *walk)
{
	uint64_t ino = walk->dirs[walk->depth];
	struct place *place = walk->place;

	place->parent = walk->dirs[walk->depth > 0 ? walk->depth - 1 : 0];
	place->name[0] = '\0';
	place->name_len = 0;
	place->exists = true;
	place->slash = true; /* . and .. are directories without saying so */
	return walk->names->getattr(walk->names->arg, ino, &place->attr);
}

/* A symbolic link: its target comes before what remains. */
static int walk_follow(struct walk *walk, uint64_t link, const char *after)
{
	char target[2 * PATH_MAX];
	size_t len, after_len = strlen(after);
	int err;

	if (++walk->links > PLACE_LINKS_MAX)
		return -ELOOP;
	err = walk->names->readlink(walk->names->arg, link, target, PATH_MAX, &len);
	if (err)
		return err;
	if (len == 0)
		return -ENOENT;
	if (len + after_len >= sizeof(walk->rest))
		return -ENAMETOOLONG;
	if (target[0] == '/')
		walk->depth = 0;
	memmove(walk->rest + len, after, after_len + 1);
	memcpy(walk->rest, target, len);
	return 0;
}

/* One name. *ret_end: it was the last. */
static int walk_name(struct walk *walk, size_t len, bool *ret_end)
{
	const char *after = walk->rest + len;
	struct place *place = walk->place;
	bool last = after[strspn(after, "/")] == '\0', slash = *after == '/';
	uint64_t parent = walk->dirs[walk->depth];
	int err;

	if (len > PLACE_NAME_MAX)
		return -ENAMETOOLONG;
	err = walk->names->lookup(walk->names->arg, parent, walk->rest, len, &place->attr);
	if (err < 0 && !(err == -ENOENT && last))
		return err;
	place->exists = err == 0;
	if (place->exists && S_ISLNK(place->attr.mode) && (!last || slash || walk->follow))
		return walk_follow(walk, place->attr.ino, after);

	if (last) {
		place->parent = parent;
		memcpy(place->name, walk->rest, len);
		place->name[len] = '\0';
		place->name_len = len;
		place->slash = slash;
		*ret_end = true;
		return place->exists && slash && !S_ISDIR(place->attr.mode) ? -ENOTDIR : 0;
	}
	if (!S_ISDIR(place->attr.mode))
		return -ENOTDIR;
	if (walk->depth + 1 == DEPTH_MAX)
		return -ENAMETOOLONG;
	walk->dirs[++walk->depth] = place->attr.ino;
	memmove(walk->rest, after, strlen(after) + 1);
	return 0;
}

int place_find(const struct place_names *names, const char *path, bool follow, struct place *ret_place)
{
	struct place place;
	struct walk walk = { .names = names, .follow = follow, .place = &place };
	bool end = false;
	int err = 0;

	if (path[0] != '/')
		return -EINVAL;
	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	memset(&place, 0, sizeof(place));
	walk.dirs[0] = names->root;
	memcpy(walk.rest, path, strlen(path) + 1);
	while (err == 0 && !end) {
		size_t slashes = strspn(walk.rest, "/"), len;

		memmove(walk.rest, walk.rest + slashes, strlen(walk.rest + slashes) + 1);
		len = strcspn(walk.rest, "/");
		if (len == 0) {
			err = walk_end_here(&walk);
			end = true;
		} else if (path_base_is_special(walk.rest, len)) {
			if (len == 2 && walk.depth > 0)
				walk.depth--;
			memmove(walk.rest, walk.rest + len, strlen(walk.rest + len) + 1);
		} else {
			err = walk_name(&walk, len, &end);
		}
	}
	if (err)
		return err;
	*ret_place = place;
	return 0;
}

const char *path_base(const char *path, size_t *ret_len)
{
	size_t end = strlen(path), start;

	while (end > 0 && path[end - 1] == '/')
		end--;
	start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	*ret_len = end - start;
	return path + start;
}

bool path_base_is_special(const char *base, size_t len)
{
	return len == 0 || (len == 1 && base[0] == '.') || (len == 2 && base[0] == '.' && base[1] == '.');
}
