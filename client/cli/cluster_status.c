/* strake cluster status: what of a cluster on this machine runs, and what its MGS says of it. */
#include "client/cli/cli.h"
#include "client/cli/cluster.h"
#include "client/cli/map_fetch.h"
#include "client/cli/map_print.h"
#include "common/json.h"
#include "common/key.h"
#include "common/mgs_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAP_MS 2000

struct view {
	const struct cluster *cluster;
	Strake__MapReply *reply; /* NULL: the MGS does not answer, or was not asked: */
	int key_err;             /* the cluster key could not be read */
	struct cluster_mount *mounts;
	size_t mount_count;
	bool is_up; /* all of it */
};

/* What the MGS says of a member; NULL: nothing. */
static const Strake__Target *view_target(const struct view *view, const struct cluster_member *member)
{
	if (!view->reply || member->role == ROLE_MGS)
		return NULL;
	return cluster_map_find(view->reply->map, member->role, member->index);
}

static const char *member_state(const struct view *view, const struct cluster_member *member)
{
	const Strake__Target *target = view_target(view, member);

	if (!member->running)
		return "not running";
	if (member->role == ROLE_MGS && view->key_err)
		return view->key_err == -EACCES ? "running, but you may not read its key"
						: "running, but without its key";
	if (member->role == ROLE_MGS)
		return view->reply ? "up" : "no answer";
	if (!view->reply)
		return "running, but the MGS cannot be asked";
	return target ? target_state_text(target->state) : "not registered";
}

static void look(struct view *view)
{
	const struct cluster *cluster = view->cluster;
	char path[PATH_MAX], error[512];
	struct key key;

	cluster_member_path(cluster, &cluster->members[0], "", "/cluster.key", path);
	if (cluster->members[0].running)
		view->key_err = key_read(path, &key);
	if (cluster->members[0].running && view->key_err == 0) {
		if (map_fetch(&cluster->mgs, &key, MAP_MS, NULL, NULL, &view->reply, error, sizeof(error)) < 0)
			view->reply = NULL;
		explicit_bzero(&key, sizeof(key));
	}
	view->is_up = true;
	for (size_t i = 0; i < cluster->member_count; i++) {
		const char *state = member_state(view, &cluster->members[i]);

		view->is_up &= strcmp(state, "up") == 0 || strcmp(state, "full") == 0 || strcmp(state, "degraded") == 0;
	}
	for (size_t i = 0; i < view->mount_count; i++)
		view->is_up &= view->mounts[i].daemon.pid != 0;
}

/* --- as text ---------------------------------------------------------------------------------------------------- */

static void print_member(const struct view *view, const struct cluster_member *member, const char *label)
{
	const Strake__Target *target = view_target(view, member);
	char address[ADDRESS_SIZE], usage[48], pid[32] = "";

	cluster_member_address(view->cluster, member, address);
	if (member->running)
		snprintf(pid, sizeof(pid), ", pid %d", (int)member->process.pid);
	printf("    └─ %s: %s", label, address);
	if (target && member->running)
		printf(" (%s)", target_usage_text(target, usage));
	printf(" %s%s\n", member_state(view, member), pid);
}

static void print_view(const struct view *view)
{
	const struct cluster *cluster = view->cluster;

	printf("Cluster \"%s\" in %s: %s\n", cluster->config.name, cluster->dir, view->is_up ? "up" : "NOT up");
	puts("  MGS servers: 1");
	print_member(view, &cluster->members[0], "MGS");
	puts("  MDS servers: 1");
	print_member(view, &cluster->members[1], "MDT-0");
	printf("  OST targets: %u\n", cluster->config.ost_count);
	for (size_t i = 2; i < cluster->member_count; i++) {
		char label[16];

		snprintf(label, sizeof(label), "OST-%u", cluster->members[i].index);
		print_member(view, &cluster->members[i], label);
	}
	printf("  Mounts: %zu\n", view->mount_count);
	for (size_t i = 0; i < view->mount_count; i++) {
		const struct cluster_mount *mount = &view->mounts[i];

		if (mount->daemon.pid != 0)
			cli_say("    └─ %s: %s, pid %d", mount->path, mount->source, (int)mount->daemon.pid);
		else
			cli_say("    └─ %s: %s, DEAD (strake umount removes it)", mount->path, mount->source);
	}
}

/* --- as JSON ---------------------------------------------------------------------------------------------------- */

static void json_member(struct json *json, const struct view *view, const struct cluster_member *member)
{
	const Strake__Target *target = view_target(view, member);
	char text[PATH_MAX > ADDRESS_SIZE ? PATH_MAX : ADDRESS_SIZE];

	json_object_begin(json, NULL);
	cluster_member_address(view->cluster, member, text);
	json_string(json, "address", text);
	json_bool(json, "running", member->running);
	if (member->running)
		json_unsigned(json, "pid", (uint64_t)member->process.pid);
	else
		json_null(json, "pid");
	if (member->role == ROLE_MDT)
		json_unsigned(json, "index", member->index);
	if (member->role == ROLE_OST)
		json_unsigned(json, "ost_index", member->index);
	cluster_member_path(view->cluster, member, "", "", text);
	json_string(json, "dir", text);
	cluster_member_path(view->cluster, member, "log/", ".log", text);
	json_string(json, "log", text);
	if (target && member->running)
		target_json(json, target);
	else
		json_string(json, "state", member_state(view, member));
	json_object_end(json);
}

static void json_members(struct json *json, const struct view *view, const char *name, enum role role)
{
	json_array_begin(json, name);
	for (size_t i = 0; i < view->cluster->member_count; i++)
		if (view->cluster->members[i].role == role)
			json_member(json, view, &view->cluster->members[i]);
	json_array_end(json);
}

static void json_mounts(struct json *json, const struct view *view)
{
	json_array_begin(json, "mounts");
	for (size_t i = 0; i < view->mount_count; i++) {
		const struct cluster_mount *mount = &view->mounts[i];

		json_object_begin(json, NULL);
		json_string(json, "path", mount->path);
		if (mount->daemon.pid != 0)
			json_unsigned(json, "pid", (uint64_t)mount->daemon.pid);
		else
			json_null(json, "pid");
		json_bool(json, "running", mount->daemon.pid != 0);
		json_string(json, "source", mount->source);
		json_object_end(json);
	}
	json_array_end(json);
}

static int json_view(const struct view *view)
{
	const struct cluster *cluster = view->cluster;
	struct json json;
	char path[PATH_MAX];

	json_begin(&json, stdout);
	json_object_begin(&json, NULL);
	json_string(&json, "name", cluster->config.name);
	json_string(&json, "dir", cluster->dir);
	json_bool(&json, "up", view->is_up);
	cluster_member_path(cluster, &cluster->members[0], "", "/cluster.key", path);
	json_string(&json, "key", path);
	json_members(&json, view, "mgs", ROLE_MGS);
	json_members(&json, view, "mds", ROLE_MDT);
	json_members(&json, view, "oss", ROLE_OST);
	json_mounts(&json, view);
	json_object_end(&json);
	return json_end(&json);
}

/* --- the verb --------------------------------------------------------------------------------------------------- */

static int show(const struct cluster *cluster, bool json)
{
	struct view view = { .cluster = cluster };
	int err = cluster_mounts(cluster, &view.mounts, &view.mount_count);

	if (err)
		return cli_fail("cannot see what is mounted: %s", strerror(-err));
	look(&view);
	if (!json)
		print_view(&view);
	else if (json_view(&view) < 0)
		view.is_up = !cli_fail("cannot write: %s", strerror(EIO));
	if (view.reply)
		strake__map_reply__free_unpacked(view.reply, NULL);
	free(view.mounts);
	return view.is_up ? CLI_OK : CLI_FAILED;
}

int cluster_status(const char *dir, bool json)
{
	struct cluster *cluster = calloc(1, sizeof(*cluster));
	char error[PATH_MAX + 256];
	int status;

	if (!cluster)
		return cli_fail("%s", strerror(ENOMEM));
	cluster->lock = -1;
	if (cluster_load(cluster, dir, error, sizeof(error)) < 0)
		status = cli_fail("%s", error);
	else
		status = show(cluster, json);
	free(cluster);
	return status;
}
