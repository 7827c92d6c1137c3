/*
 * Where this machine keeps what is true until it goes down: which mounts there are, where the keys of local clusters
 * lie. /run/strake for root; $XDG_RUNTIME_DIR/strake, or /tmp/strake-UID, for others; STRAKE_RUN_DIR instead of all of
 * these.
 */
#ifndef STRAKE_CLIENT_RUN_DIR_H
#define STRAKE_CLIENT_RUN_DIR_H

#include <stddef.h>

/* The folder `sub` in it, made where it is missing. -EPERM: somebody else's folder is in its place; errors of mkdir(2).
 */
int run_dir(const char *sub, char *ret_path, size_t size);

/* A file in its place at once and whole, or not at all. */
int run_dir_write(const char *path, const char *text);
int run_dir_link(const char *path, const char *target);

#endif
