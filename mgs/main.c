/* strake-mgs: options, data directory, loop. */
#include "common/daemon.h"
#include "common/logger.h"
#include "mgs/mgs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
	struct address_list listen;
	char *data_dir;
	char *cluster_name; /* NULL: whatever the data directory says */
};

#define FIELD(name) offsetof(struct options, name)

static const struct daemon_option option_table[] = {
	{ "listen", 'l', "ADDR[,ADDR...]", "where to listen (0.0.0.0:9400)", daemon_set_mgs, FIELD(listen) },
	{ "data-dir", 'd', "DIR", "the data directory, made by `strake format mgs`", daemon_set_text, FIELD(data_dir) },
	{ "cluster-name", 'c', "NAME", "refuse a data directory of another filesystem", daemon_set_text,
	  FIELD(cluster_name) },
};

/* The keys are made by format next to the identity; an MGS without an admin key has no admins. */
static void read_keys(const char *dir, struct key *ret_key, struct key *ret_admin, bool *ret_has_admin)
{
	char path[4096];
	int err;

	snprintf(path, sizeof(path), "%s/cluster.key", dir);
	err = key_read(path, ret_key);
	if (err)
		daemon_fail("%s: %s", path,
			    err == -EPERM ? "others than its owner may read it; chmod 600 it" : strerror(-err));
	snprintf(path, sizeof(path), "%s/admin.key", dir);
	err = key_read(path, ret_admin);
	if (err && err != -ENOENT)
		daemon_fail("%s: %s", path,
			    err == -EPERM ? "others than its owner may read it; chmod 600 it" : strerror(-err));
	*ret_has_admin = err == 0;
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	struct identity identity;
	struct key key, admin;
	struct loop *loop;
	struct mgs *mgs;
	char error[512], address[ADDRESS_SIZE];
	bool has_admin;
	int lock, err;

	(void)address_list_parse("0.0.0.0", ADDRESS_PORT_DEFAULT, &options.listen);
	daemon_options(argc, argv, "strake-mgs", "mgs", option_table, sizeof(option_table) / sizeof(*option_table),
		       &options, NULL);
	if (!options.data_dir)
		daemon_refuse("strake-mgs", "--data-dir is missing; `strake format mgs -d DIR` makes one");
	if (identity_open(options.data_dir, ROLE_MGS, &identity, &lock, error, sizeof(error)))
		daemon_fail("%s", error);
	if (options.cluster_name && strcmp(options.cluster_name, identity.fs_name) != 0)
		daemon_fail("%s belongs to the filesystem \"%s\", not to \"%s\"", options.data_dir, identity.fs_name,
			    options.cluster_name);
	read_keys(options.data_dir, &key, &admin, &has_admin);

	err = loop_new(&loop);
	if (err == 0)
		err = daemon_signals(loop);
	if (err)
		daemon_fail("%s", strerror(-err));
	if (mgs_new(loop,
		    &(struct mgs_config){ .data_dir = options.data_dir,
					  .identity = &identity,
					  .key = &key,
					  .admin_key = has_admin ? &admin : NULL,
					  .listen = &options.listen },
		    &mgs, address, error, sizeof(error)))
		daemon_fail("%s", error);

	log_info("serving filesystem \"%s\" on %s", identity.fs_name, address);
	daemon_ready(address);
	err = loop_run(loop);
	mgs_free(mgs);
	loop_free(loop);
	close(lock);
	free(options.data_dir);
	free(options.cluster_name);
	if (err)
		log_error("the loop ended: %s", strerror(-err));
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
