/*
 * Where a mount daemon in the background says what it has to say: the file of log=, else the journal, else
 * /var/log/strake-mount.log (others than root: mounts/mount.log in run_dir()), which all mounts of the machine share.
 */
#ifndef STRAKE_CLIENT_FUSE_DAEMON_LOG_H
#define STRAKE_CLIENT_FUSE_DAEMON_LOG_H

#include <stddef.h>

/* Before the process leaves its folder. path: of log=, or NULL. An error comes with a sentence. */
int daemon_log_open(const char *path, int *ret_fd, char *error, size_t error_size);
/* From here on what is logged goes there. Closes fd. */
void daemon_log_take_over(int fd);

#endif
