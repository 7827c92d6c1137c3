/*
 * strake cluster start: configuration, data directories, the MGS, the other servers, the map, the mount; whatever of it
 * is there already is left alone. What fails stops it where it is, and the next start goes on from there.
 */
#include "client/cli/cli.h"
#include "client/cli/cluster.h"
#include "client/cli/data_dir.h"
#include "client/cli/map_fetch.h"
#include "client/cli/mountinfo.h"
#include "client/cli/spawn.h"
#include "client/key_find.h"
#include "common/fd_io.h"
#include "common/mgs_client.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MS 60000 /* for a daemon to come up: what cannot says so before, and a log may be long, a machine busy */
#define MAP_MS   20000 /* for all of them to be in the map after that */
#define PORT_MS  5000  /* for a port to be given back by a server that was killed */
#define END_MS   10000 /* for what was killed to end */
#define ARGS_MAX 16

#define PORT_TRY_MS 20

/* --- the folder and its configuration --------------------------------------------------------------------------- */

/* A cluster begins in an empty folder. */
static int check_empty(const char *dir)
{
	struct dirent *dirent;
	DIR *folder = opendir(dir);
	int status = 0;

	if (!folder)
		return cli_fail("%s: %s", dir, strerror(errno));
	while (status == 0 && (dirent = readdir(folder)) != NULL)
		if (strcmp(dirent->d_name, ".") != 0 && strcmp(dirent->d_name, "..") != 0 &&
		    strcmp(dirent->d_name, "lost+found") != 0)
			status = cli_fail("%s has no cluster in it, but \"%s\"; name an empty or a new directory", dir,
					  dirent->d_name);
	closedir(folder);
	return status;
}

static int apply_options(struct cluster_config *config, const struct cluster_start_options *options, bool is_new)
{
	if (!is_new && options->name && strcmp(options->name, config->name) != 0)
		return cli_fail("this is the cluster \"%s\", not \"%s\"", config->name, options->name);
	if (!is_new && options->listen && strcmp(options->listen, config->listen) != 0)
		return cli_fail("this cluster listens on %s; to move it, stop it and change cluster.conf",
				config->listen);
	if (!is_new && options->ost_count > 0 && options->ost_count < config->ost_count)
		return cli_fail("this cluster has %u OSTs; it can get more, not fewer", config->ost_count);
	if (is_new) {
		const char *name = options->name ? options->name : "strake";
		const char *listen = options->listen ? options->listen : "127.0.0.1";

		snprintf(config->name, sizeof(config->name), "%s", name);
		snprintf(config->listen, sizeof(config->listen), "%s", listen);
		if (strcmp(config->name, name) != 0 || strcmp(config->listen, listen) != 0)
			return cli_fail("the name or the host is too long");
		config->ost_count = CLUSTER_OSTS_DEFAULT;
	}
	if (options->ost_count > 0)
		config->ost_count = options->ost_count;
	if (options->durability)
		snprintf(config->durability, sizeof(config->durability), "%s", options->durability);
	if (options->transport)
		snprintf(config->transport, sizeof(config->transport), "%s", options->transport);
	return 0;
}

static void say_what_waits(const char *option, const char *now, const char *before, const char *usual)
{
	if (now[0] != '\0' && strcmp(now, before[0] != '\0' ? before : usual) != 0)
		fprintf(stderr, "strake: what runs goes on as it was started: --%s %s is for the next start\n", option,
			now);
}

/* What runs is left as it is, so a setting that is another one now is not its own yet. */
static void compare_with_what_runs(const struct cluster *cluster, const struct cluster_config *before)
{
	const struct cluster_config *now = &cluster->config;
	bool any_runs = false, mdt_runs = false;

	for (size_t i = 0; i < cluster->member_count; i++) {
		const struct cluster_member *member = &cluster->members[i];

		any_runs |= member->running;
		mdt_runs |= member->running && member->role == ROLE_MDT;
	}
	if (mdt_runs)
		say_what_waits("durability", now->durability, before->durability, "normal");
	if (any_runs)
		say_what_waits("transport", now->transport, before->transport, "auto");
}

static int configure(struct cluster *cluster, const struct cluster_start_options *options)
{
	struct cluster_config before;
	char error[PATH_MAX + 256];
	int err = cluster_config_read(cluster->dir, &cluster->config, error, sizeof(error)), status;

	if (err && err != -ENOENT)
		return cli_fail("%s", error);
	if (err == -ENOENT) {
		cluster->config = (struct cluster_config){ 0 };
		status = check_empty(cluster->dir);
		if (status)
			return status;
	}
	before = cluster->config;
	status = apply_options(&cluster->config, options, err == -ENOENT);
	if (status)
		return status;
	if (cluster_config_choose_ports(&cluster->config, error, sizeof(error)) < 0)
		return cli_fail("%s", error);
	if (memcmp(&before, &cluster->config, sizeof(before)) != 0 &&
	    cluster_config_write(cluster->dir, &cluster->config, error, sizeof(error)) < 0)
		return cli_fail("%s", error);
	cluster_find_members(cluster);
	compare_with_what_runs(cluster, &before);
	return 0;
}

/* --- data directories ------------------------------------------------------------------------------------------- */

static bool member_has_identity(const struct cluster *cluster, const struct cluster_member *member)
{
	char path[PATH_MAX];

	cluster_member_path(cluster, member, "", "/identity", path);
	return access(path, F_OK) == 0;
}

static int make_member(const struct cluster *cluster, const struct cluster_member *member, const struct uuid *fs,
		       const struct key *key)
{
	char path[PATH_MAX], error[PATH_MAX + 256];
	struct data_dir dir = { .path = path,
				.role = member->role,
				.index = member->index,
				.fs = *fs,
				.fs_name = cluster->config.name,
				.key = key };
	struct identity identity;

	cluster_member_path(cluster, member, "", "", path);
	return data_dir_make(&dir, &identity, error, sizeof(error)) < 0 ? cli_fail("%s", error) : 0;
}

/* A new MGS under servers that belong to an old one would refuse them all, and hide what has happened. */
static int check_mgs_lost(const struct cluster *cluster)
{
	for (size_t i = 1; i < cluster->member_count; i++)
		if (member_has_identity(cluster, &cluster->members[i]))
			return cli_fail("%s/mgs has no identity, though %s has one: the MGS's data directory was lost; "
					"bring it back, or begin anew in another directory",
					cluster->dir, cluster->members[i].name);
	return 0;
}

/* Each data directory that is missing; and what it takes to speak with the MGS. */
static int make_data_dirs(const struct cluster *cluster, struct uuid *ret_fs, struct key *ret_key)
{
	const struct cluster_member *mgs = &cluster->members[0];
	char path[PATH_MAX], error[PATH_MAX + 256];
	struct identity identity;
	int err, status = 0;

	if (!member_has_identity(cluster, mgs)) {
		status = check_mgs_lost(cluster);
		if (status == 0)
			status = make_member(cluster, mgs, &(struct uuid){ 0 }, NULL);
		if (status)
			return status;
	}
	cluster_member_path(cluster, mgs, "", "", path);
	if (identity_read(path, &identity, error, sizeof(error)) < 0)
		return cli_fail("%s", error);
	cluster_member_path(cluster, mgs, "", "/cluster.key", path);
	err = key_read(path, ret_key);
	if (err)
		return cli_fail("%s: %s", path, strerror(-err));
	*ret_fs = identity.fs;

	for (size_t i = 1; i < cluster->member_count && status == 0; i++)
		if (!member_has_identity(cluster, &cluster->members[i]))
			status = make_member(cluster, &cluster->members[i], ret_fs, ret_key);
	return status;
}

static int make_sub_folders(const struct cluster *cluster)
{
	static const char *const names[] = { "log", "run" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char path[PATH_MAX + 8];

		snprintf(path, sizeof(path), "%s/%s", cluster->dir, names[i]);
		if (mkdir(path, 0777) < 0 && errno != EEXIST)
			return cli_fail("%s: %s", path, strerror(errno));
	}
	return 0;
}

/* --- daemons ---------------------------------------------------------------------------------------------------- */

struct launch {
	struct spawn spawn;
	const struct cluster *cluster;
	struct cluster_member *member;
	char path[PATH_MAX], log[PATH_MAX], data_dir[PATH_MAX];
	char listen[ADDRESS_SIZE], durability[64];
	const char *argv[ARGS_MAX];
};

static int launch_enter(void *arg)
{
	struct launch *launch = arg;

	return cluster_member_enter(launch->cluster, launch->member);
}

static void launch_words(struct launch *launch, const struct cluster_start_options *options)
{
	const struct cluster_config *config = &launch->cluster->config;
	size_t count = 0;

	launch->argv[count++] = launch->member->program;
	launch->argv[count++] = "--data-dir";
	launch->argv[count++] = launch->data_dir;
	launch->argv[count++] = "--listen";
	launch->argv[count++] = launch->listen;
	if (launch->member->role != ROLE_MGS) {
		launch->argv[count++] = "--mgs";
		launch->argv[count++] = launch->cluster->mgs.text[0];
	}
	if (config->transport[0] != '\0') {
		launch->argv[count++] = "--transport";
		launch->argv[count++] = config->transport;
	}
	if (launch->member->role == ROLE_MDT && config->durability[0] != '\0') {
		snprintf(launch->durability, sizeof(launch->durability), "--durability=%s", config->durability);
		launch->argv[count++] = launch->durability;
	}
	if (launch->member->role == ROLE_MDT && options->go_on_from) {
		launch->argv[count++] = "--go-on-from";
		launch->argv[count++] = options->go_on_from;
	}
	if (options->log_level) {
		launch->argv[count++] = "--log-level";
		launch->argv[count++] = options->log_level;
	}
	launch->argv[count] = NULL;
	assert(count < ARGS_MAX);
}

/* The threads and the ring of a server that was killed may outlive what /proc shows of it, and hold its port as long. */
static int wait_for_port(const char *host, uint16_t port)
{
	int err = cluster_port_probe(host, port);

	for (int waited = 0; err == -EADDRINUSE && waited < PORT_MS; waited += PORT_TRY_MS) {
		usleep(PORT_TRY_MS * 1000);
		err = cluster_port_probe(host, port);
	}
	return err;
}

static int launch_start(struct launch *launch, const struct cluster *cluster, struct cluster_member *member,
			const struct cluster_start_options *options)
{
	int err = wait_for_port(cluster->config.listen, member->port);

	if (err == -EADDRINUSE)
		return cli_fail(
			"%s cannot start: its port %u is taken by another process (ss -ltnp tells by which); stop "
			"that, or give %s another port in %s/cluster.conf",
			member->name, member->port, member->name, cluster->dir);
	if (err)
		return cli_fail("%s cannot listen on %s: %s", member->name, cluster->config.listen, strerror(-err));
	if (cli_find_program(member->program, launch->path) < 0)
		return cli_fail("%s is neither beside this program nor in PATH", member->program);

	launch->cluster = cluster;
	launch->member = member;
	cluster_member_path(cluster, member, "", "", launch->data_dir);
	cluster_member_path(cluster, member, "log/", ".log", launch->log);
	address_join(cluster->config.listen, member->port, launch->listen);
	launch_words(launch, options);
	launch->spawn.path = launch->path;
	launch->spawn.argv = launch->argv;
	launch->spawn.log = launch->log;
	launch->spawn.enter = launch_enter;
	launch->spawn.enter_arg = launch;
	err = spawn_start(&launch->spawn);
	return err ? cli_fail("%s: %s", launch->log, strerror(-err)) : 0;
}

/* A daemon's last words, when it had no time for better ones. "" when there are none. */
static const char *last_line(const char *log, char out[SPAWN_LINE_SIZE])
{
	char line[SPAWN_LINE_SIZE];
	FILE *file = fopen(log, "re");

	out[0] = '\0';
	if (!file)
		return out;
	if (fseek(file, -(long)sizeof(line), SEEK_END) < 0)
		rewind(file);
	while (fgets(line, sizeof(line), file))
		if (line[strspn(line, " \n")] != '\0')
			snprintf(out, SPAWN_LINE_SIZE, "%.*s", (int)strcspn(line, "\n"), line);
	fclose(file);
	return out;
}

static int launch_report(const struct launch *launch)
{
	const struct spawn *spawn = &launch->spawn;
	const char *name = launch->member->name;
	char line[SPAWN_LINE_SIZE];

	switch (spawn->verdict) {
	case SPAWN_READY:
		return 0;
	case SPAWN_FAILED:
		return cli_fail("%s does not start: %s", name, spawn->line);
	case SPAWN_ENDED:
		return cli_fail("%s has ended while it started: %s (see %s)", name, last_line(launch->log, line),
				launch->log);
	case SPAWN_WAITING:
		return cli_fail("%s (pid %d) is not ready after %d s and goes on starting (see %s)", name,
				(int)spawn->pid, READY_MS / 1000, launch->log);
	}
	return 0;
}

/* A process that was killed just now, until it holds nothing any more. */
static int wait_for_end(const struct process *process, const char *name)
{
	cli_fail("%s (pid %d) was killed and is just ending; waiting for that", name, (int)process->pid);
	return process_wait(process, END_MS) == 0 ? 0 : cli_fail("%s (pid %d) does not end", name, (int)process->pid);
}

static int wait_for_killed(struct cluster *cluster)
{
	int status = 0;

	for (size_t i = 0; i < cluster->member_count; i++) {
		const struct cluster_member *member = &cluster->members[i];

		if (member->running && process_is_doomed(&member->process))
			status |= wait_for_end(&member->process, member->name);
	}
	cluster_find_members(cluster);
	return status;
}

/* Start those of members[first..end) that do not run, all at once, and wait for them. */
static int start_members(struct cluster *cluster, size_t first, size_t end, const struct cluster_start_options *options)
{
	struct launch *launches = calloc(end - first, sizeof(*launches));
	struct spawn *spawns = calloc(end - first, sizeof(*spawns));
	size_t count = 0;
	int status = launches && spawns ? 0 : cli_fail("%s", strerror(ENOMEM));

	for (size_t i = first; i < end && status == 0; i++) {
		if (cluster->members[i].running)
			continue;
		status = launch_start(&launches[count], cluster, &cluster->members[i], options);
		if (status == 0) {
			spawns[count] = launches[count].spawn;
			count++;
		}
	}
	if (count > 0)
		spawn_wait(spawns, count, READY_MS);
	for (size_t i = 0; i < count; i++) {
		launches[i].spawn = spawns[i];
		status |= launch_report(&launches[i]);
	}
	free(launches);
	free(spawns);
	cluster_find_members(cluster);
	return status;
}

/* --- the map ---------------------------------------------------------------------------------------------------- */

/* Up, and as the process that we see: not as what the MGS remembers of an earlier one. */
static bool member_is_usable(const struct cluster_member *member, const Strake__ClusterMap *map)
{
	const Strake__Target *target = cluster_map_find(map, member->role, member->index);

	return target && target->state != STRAKE__TARGET_STATE__TARGET_DOWN &&
	       target->pid == (uint32_t)member->process.pid;
}

/* Also "enough" when one has ended: it will not come any more. */
static bool map_is_enough(void *arg, const Strake__MapReply *reply)
{
	const struct cluster *cluster = arg;

	for (size_t i = 0; i < cluster->member_count; i++)
		if (!process_is_alive(&cluster->members[i].process))
			return true;
	for (size_t i = 1; i < cluster->member_count; i++)
		if (!member_is_usable(&cluster->members[i], reply->map))
			return false;
	return true;
}

/* How many have ended; each is told. */
static unsigned int report_ended(const struct cluster *cluster)
{
	unsigned int count = 0;

	for (size_t i = 0; i < cluster->member_count; i++) {
		const struct cluster_member *member = &cluster->members[i];
		char log[PATH_MAX], line[SPAWN_LINE_SIZE];

		if (process_is_alive(&member->process))
			continue;
		cluster_member_path(cluster, member, "log/", ".log", log);
		cli_fail("%s (pid %d) has ended: %s (see %s)", member->name, (int)member->process.pid,
			 last_line(log, line), log);
		count++;
	}
	return count;
}

static int report_unusable(const struct cluster *cluster, const Strake__ClusterMap *map)
{
	int status = 0;

	for (size_t i = 1; i < cluster->member_count; i++) {
		const struct cluster_member *member = &cluster->members[i];
		char log[PATH_MAX];

		cluster_member_path(cluster, member, "log/", ".log", log);
		if (process_is_alive(&member->process) && !member_is_usable(member, map))
			status = cli_fail("%s (pid %d) runs, but has not registered with the MGS (see %s)",
					  member->name, (int)member->process.pid, log);
	}
	return status;
}

static int wait_for_map(struct cluster *cluster, const struct key *key, unsigned int *ret_ended)
{
	Strake__MapReply *reply = NULL;
	char error[512];
	int status, err = map_fetch(&cluster->mgs, key, MAP_MS, map_is_enough, cluster, &reply, error, sizeof(error));

	*ret_ended = report_ended(cluster);
	if (err && err != -EAGAIN)
		return cli_fail("%s", error);
	status = *ret_ended > 0 ? CLI_FAILED : report_unusable(cluster, reply->map);
	strake__map_reply__free_unpacked(reply, NULL);
	return status;
}

static int start_servers(struct cluster *cluster, const struct key *key, const struct cluster_start_options *options)
{
	unsigned int ended = 0;
	int status = start_members(cluster, 1, cluster->member_count, options);

	if (status == 0)
		status = wait_for_map(cluster, key, &ended);
	if (ended == 0)
		return status;
	/* They ran when we looked, and were perhaps about to end. Once more; then it is their own fault. */
	cli_fail("starting again what has ended");
	status = start_members(cluster, 0, 1, options);
	if (status == 0)
		status = start_members(cluster, 1, cluster->member_count, options);
	return status == 0 ? wait_for_map(cluster, key, &ended) : status;
}

/* --- the mount -------------------------------------------------------------------------------------------------- */

static int run_mount(const struct cluster *cluster, const char *mountpoint, const char *key_path,
		     const struct cluster_start_options *options)
{
	char path[PATH_MAX], source[ADDRESS_SIZE + 2], log[PATH_MAX + 32];
	const char *argv[] = { "mount.strake", source, mountpoint, "-o", log, NULL, NULL, NULL };
	pid_t pid;
	int status;

	if (cli_find_program("mount.strake", path) < 0)
		return cli_fail("mount.strake is neither beside this program nor in PATH");
	snprintf(source, sizeof(source), "%s:/", cluster->mgs.text[0]);
	snprintf(log, sizeof(log), "log=%s/log/mount.log", cluster->dir);
	if (options->mount_options) {
		argv[5] = "-o";
		argv[6] = options->mount_options;
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		setenv("STRAKE_KEY", key_path, 1);
		cli_exec(path, argv);
		_exit(127);
	}
	if (pid < 0)
		return cli_fail("%s", strerror(errno));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return cli_fail("%s", strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return cli_fail("the cluster is up, but not mounted on %s", mountpoint);
	return 0;
}

static int start_mount(const struct cluster *cluster, const char *key_path, const struct cluster_start_options *options)
{
	struct cluster_mount *mounts;
	char path[PATH_MAX];
	size_t count;
	int err = mount_path(options->mount, path);
	bool is_there = false;

	if (err)
		return cli_fail("%s: %s", options->mount, strerror(-err));
	err = cluster_mounts(cluster, &mounts, &count);
	if (err)
		return cli_fail("cannot see what is mounted: %s", strerror(-err));
	for (size_t i = 0; i < count; i++) {
		/* Its daemon may also go on for another mount namespace only, or write out what it holds. */
		if (strcmp(mounts[i].path, path) != 0 || !cluster_mount_is_seen(&mounts[i], 0))
			continue;
		if (process_is_doomed(&mounts[i].daemon) && wait_for_end(&mounts[i].daemon, path) == 0)
			mounts[i].daemon.pid = 0;
		is_there |= mounts[i].daemon.pid != 0;
		/* Its daemon was killed: what it left in the tree answers nobody any more. */
		if (mounts[i].daemon.pid == 0 && umount2(path, MNT_DETACH) < 0)
			cli_fail("%s: the remains of a dead mount: %s", path, strerror(errno));
	}
	free(mounts);
	if (is_there)
		return 0;
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return cli_fail("%s: %s", path, strerror(errno));
	return run_mount(cluster, path, key_path, options);
}

/* --- the verb --------------------------------------------------------------------------------------------------- */

static void print_summary(const struct cluster *cluster, const struct cluster_start_options *options)
{
	printf("Cluster \"%s\" in %s is up: MGS %s, 1 MDT, %u OST%s\n", cluster->config.name, cluster->dir,
	       cluster->mgs.text[0], cluster->config.ost_count, cluster->config.ost_count == 1 ? "" : "s");
	if (options->mount)
		printf("    └─ mounted on %s\n", options->mount);
	printf("  mount:  strake -m %s mount MNT\n", cluster->mgs.text[0]);
	printf("  stop:   strake cluster stop %s\n", cluster->dir);
}

static int start_all(struct cluster *cluster, const struct cluster_start_options *options)
{
	char key_path[PATH_MAX];
	struct key key;
	struct uuid fs;
	int err, status = configure(cluster, options);

	if (status == 0)
		status = make_sub_folders(cluster);
	if (status == 0)
		status = make_data_dirs(cluster, &fs, &key);
	if (status == 0)
		status = wait_for_killed(cluster);
	if (status == 0)
		status = start_members(cluster, 0, 1, options);
	if (status)
		return status;

	cluster_member_path(cluster, &cluster->members[0], "", "/cluster.key", key_path);
	err = key_find_record(&cluster->mgs, key_path);
	if (err)
		cli_fail("the key of this cluster will not be found by itself, use --key %s: %s", key_path,
			 strerror(-err));
	status = start_servers(cluster, &key, options);
	explicit_bzero(&key, sizeof(key));
	if (status == 0 && options->mount)
		status = start_mount(cluster, key_path, options);
	return status;
}

int cluster_start(const char *dir, const struct cluster_start_options *options)
{
	struct cluster *cluster = calloc(1, sizeof(*cluster));
	char error[PATH_MAX + 256];
	int status, err;

	if (!cluster)
		return cli_fail("%s", strerror(ENOMEM));
	cluster->lock = -1;
	err = fd_make_folders(dir);
	if (err)
		status = cli_fail("%s: %s", dir, strerror(-err));
	else if (cluster_lock(cluster, dir, error, sizeof(error)) < 0)
		status = cli_fail("%s", error);
	else
		status = start_all(cluster, options);
	if (status == 0)
		print_summary(cluster, options);
	cluster_release(cluster);
	free(cluster);
	return status;
}
