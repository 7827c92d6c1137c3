#include "mds/names.h"

#include "common/logger.h"

#include <errno.h>
#include <inttypes.h>

int names_dir(struct state *state, const Strake__Cred *cred, uint64_t ino, struct inode *ret_dir)
{
	int err = inode_load(state->view, ino, ret_dir);

	if (err < 0)
		return err;
	if (!inode_is_dir(ret_dir))
		return -ENOTDIR;
	return access_check(state->view, cred, ret_dir, X_OK);
}

int names_find(struct state *state, uint64_t parent, struct bytes name, struct inode *ret_inode)
{
	struct dirent_row row;

	if (dirent_get(state, parent, name, &row) < 0)
		return -ENOENT;
	if (inode_load(state->view, row.ino, ret_inode) < 0)
		logger_die("the MDT's state is damaged: directory %" PRIx64 " names inode %" PRIx64
			   ", which does not exist",
			   parent, row.ino);
	return 0;
}
