#include "client/mount_registry.h"
#include "client/run_dir.h"
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void make_dir(void)
{
	strcpy(dir, "/tmp/strake-registry-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(setenv("STRAKE_RUN_DIR", dir, 1), 0);
}

static void remove_dir(void)
{
	ck_assert_int_eq(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* A process that enters a mount, says so, and stays until it is killed. */
static pid_t start_daemon(const char *mountpoint, const char *source)
{
	int fds[2];
	char said;
	pid_t pid;

	ck_assert_int_eq(pipe(fds), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (mount_registry_add(mountpoint, source, 0, 42) == 0 && write(fds[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	ck_assert_int_eq(read(fds[0], &said, 1), 1);
	close(fds[0]);
	close(fds[1]);
	return pid;
}

static void kill_daemon(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(empty_at_first)
{
	struct mount_entry *entries, entry;
	size_t count;

	make_dir();
	ck_assert_int_eq(mount_registry_list(&entries, &count), 0);
	ck_assert_uint_eq(count, 0);
	mount_registry_list_free(entries, count);
	ck_assert_int_eq(mount_registry_find_by_path("/mnt", &entry), -ENOENT);
	remove_dir();
}
END_TEST

START_TEST(adds_finds_removes)
{
	static const char odd[] = "/mnt/with blank\\and\nline and = sign\t";
	struct mount_entry entry;

	make_dir();
	ck_assert_int_eq(mount_registry_add(odd, "[::1]:9400,h:1:/sub dir", 0, 42), 0);
	ck_assert_int_eq(mount_registry_find_by_path(odd, &entry), 0);
	ck_assert_int_eq(entry.daemon.pid, getpid());
	ck_assert(process_is_alive(&entry.daemon));
	ck_assert_str_eq(entry.mountpoint, odd);
	ck_assert_str_eq(entry.source, "[::1]:9400,h:1:/sub dir");
	ck_assert_uint_eq(entry.major, 0);
	ck_assert_uint_eq(entry.minor, 42);
	mount_entry_release(&entry);
	ck_assert_int_eq(mount_registry_find_mounted(odd, "[::1]:9400,h:1:/sub dir", 0, 43, &entry), -ENOENT);
	ck_assert_int_eq(mount_registry_find_mounted(odd, "[::1]:9400,h:1:/", 0, 42, &entry), -ENOENT);
	ck_assert_int_eq(mount_registry_find_mounted("/mnt", "[::1]:9400,h:1:/sub dir", 0, 42, &entry), -ENOENT);
	ck_assert_int_eq(mount_registry_find_mounted(odd, "[::1]:9400,h:1:/sub dir", 0, 42, &entry), 0);
	mount_entry_release(&entry);
	ck_assert_int_eq(mount_registry_leaving(1, 1, 0), 0);
	ck_assert_int_eq(mount_registry_find_mounted(odd, "[::1]:9400,h:1:/sub dir", 0, 42, &entry), -ENOENT);
	mount_registry_remove();
	ck_assert_int_eq(mount_registry_find_by_path(odd, &entry), -ENOENT);
	remove_dir();
}
END_TEST

START_TEST(of_which_filesystem)
{
	static struct {
		char source[32];
		bool is;
	} rows[] = {
		{ "h:/", true },    { "a,h:9400:/x", true },    { "rdma://h:/", true }, { "rdma://a:1,h:/x:/", true },
		{ "h:1:/", false }, { "rdma://a:/h:/", false },
	};
	struct address_list mgs;

	ck_assert_int_eq(address_list_parse("h", ADDRESS_PORT_DEFAULT, &mgs), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct mount_entry entry = { .source = rows[i].source };

		ck_assert_msg(mount_entry_is_of(&entry, &mgs) == rows[i].is, "%s", rows[i].source);
	}
}
END_TEST

START_TEST(what_the_kernel_has_is_held)
{
	unsigned int major = UINT_MAX, minor = UINT_MAX;
	DIR *known = opendir("/sys/class/bdi");
	struct mount_entry entry;
	struct dirent *dirent;
	int found = 0;

	while (known && found != 2 && (dirent = readdir(known)) != NULL)
		found = sscanf(dirent->d_name, "%u:%u", &major, &minor);
	if (known)
		closedir(known);
	make_dir();
	ck_assert_int_eq(mount_registry_add("/mnt", "h:/", major, minor), 0);
	ck_assert_int_eq(mount_registry_find_by_path("/mnt", &entry), 0);
	ck_assert_int_eq(mount_entry_is_held(&entry), found == 2); /* a machine may have none */
	entry.device_id++;
	ck_assert(!mount_entry_is_held(&entry)); /* another's, by the same number */
	mount_entry_release(&entry);
	remove_dir();
}
END_TEST

START_TEST(dead_entries_vanish)
{
	struct mount_entry *entries, entry;
	char path[PATH_MAX];
	size_t count;
	pid_t one, two;

	make_dir();
	one = start_daemon("/mnt/1", "h:/");
	two = start_daemon("/mnt/2", "h:/");
	ck_assert_int_eq(mount_registry_list(&entries, &count), 0);
	ck_assert_uint_eq(count, 2);
	mount_registry_list_free(entries, count);

	kill_daemon(one);
	ck_assert_int_eq(mount_registry_list(&entries, &count), 0);
	ck_assert_uint_eq(count, 1);
	ck_assert_int_eq(entries[0].daemon.pid, two);
	mount_registry_list_free(entries, count);
	ck_assert_int_eq(mount_registry_dir(path, sizeof(path)), 0);
	snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%d", (int)one);
	ck_assert_int_eq(access(path, F_OK), -1);
	kill_daemon(two);
	ck_assert_int_eq(mount_registry_find_by_path("/mnt/2", &entry), -ENOENT);
	remove_dir();
}
END_TEST

START_TEST(a_zombie_is_dead)
{
	struct process process;
	siginfo_t info;
	pid_t pid;

	make_dir();
	pid = start_daemon("/mnt/1", "h:/");
	ck_assert_int_eq(process_identify(pid, &process), 0);
	ck_assert(process_is_alive(&process));
	ck_assert_int_eq(process_wait(&process, 0), -ETIMEDOUT);
	ck_assert_int_eq(process_signal(&process, SIGKILL), 0);
	ck_assert_int_eq(process_wait(&process, 10000), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	ck_assert(!process_is_alive(&process));
	ck_assert_int_eq(process_signal(&process, 0), -ESRCH);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	remove_dir();
}
END_TEST

/* Its pid again, but not its start time: another process. */
START_TEST(a_recycled_pid_is_another)
{
	struct mount_entry entry;
	struct process self;
	char path[PATH_MAX], text[256];

	make_dir();
	ck_assert_int_eq(process_identify(getpid(), &self), 0);
	self.starttime++;
	ck_assert(!process_is_alive(&self));
	ck_assert_int_eq(process_signal(&self, 0), -ESRCH);
	ck_assert_int_eq(process_wait(&self, 0), 0);

	ck_assert_int_eq(mount_registry_dir(path, sizeof(path)), 0);
	snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%d", (int)getpid());
	snprintf(text, sizeof(text), "pid = %d\nstarttime = %llu\nmountpoint = /m\nsource = h:/\nmgs = h\n",
		 (int)getpid(), (unsigned long long)self.starttime);
	ck_assert_int_eq(run_dir_write(path, text), 0);
	ck_assert_int_eq(mount_registry_find_by_path("/m", &entry), -ENOENT);
	ck_assert_int_eq(access(path, F_OK), -1);
	remove_dir();
}
END_TEST

START_TEST(what_is_no_entry_is_left_alone)
{
	struct mount_entry *entries;
	char folder[PATH_MAX], path[PATH_MAX];
	size_t count;

	make_dir();
	ck_assert_int_eq(mount_registry_dir(folder, sizeof(folder)), 0);
	snprintf(path, sizeof(path), "%.*s/77", 200, folder);
	ck_assert_int_eq(run_dir_write(path, "nonsense\npid = x\n"), 0);
	snprintf(path, sizeof(path), "%.*s/README", 200, folder);
	ck_assert_int_eq(run_dir_write(path, "pid = 1\n"), 0);
	ck_assert_int_eq(mount_registry_list(&entries, &count), 0);
	ck_assert_uint_eq(count, 0);
	mount_registry_list_free(entries, count);
	ck_assert_int_eq(access(path, F_OK), 0);
	remove_dir();
}
END_TEST

START_TEST(a_folder_others_may_write_is_refused)
{
	char path[PATH_MAX];

	make_dir();
	ck_assert_int_eq(chmod(dir, 0777), 0);
	ck_assert_int_eq(mount_registry_dir(path, sizeof(path)), -EPERM);
	remove_dir();
}
END_TEST

UNIT_MAIN("mount_registry", empty_at_first, adds_finds_removes, of_which_filesystem, what_the_kernel_has_is_held,
	  dead_entries_vanish, a_zombie_is_dead, a_recycled_pid_is_another, what_is_no_entry_is_left_alone,
	  a_folder_others_may_write_is_refused)
