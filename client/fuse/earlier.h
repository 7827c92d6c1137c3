/*
 * Mounts of the same filesystem that this machine has unmounted, and whose daemons still write out what they hold: a new
 * mount must not show files as they were before. umount(8) with our helper waits for that; umount(2), and whoever did
 * not want to wait, leave it to the next mount.
 */
#ifndef STRAKE_CLIENT_FUSE_EARLIER_H
#define STRAKE_CLIENT_FUSE_EARLIER_H

#include "common/address.h"

/* In a fiber. Waits while they get on with it, and warns of those that do not. */
void earlier_mounts_wait(const struct address_list *mgs);

#endif
