#include "client/fuse/earlier.h"

#include "client/mount_registry.h"
#include "common/fiber.h"
#include "common/logger.h"

#include <mntent.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS   20
#define NOTICE_MS 1000  /* a daemon whom the kernel has let go mostly says so in less */
#define STILL_MS  12000 /* nothing moved for longer than an attempt takes, or a server to be started again */

/* Is it in the tree, as its daemon sees that? */
static bool is_mounted(const struct mount_entry *entry)
{
	char path[64], text[16384];
	struct mntent mount;
	bool found = false;
	FILE *mounts;

	snprintf(path, sizeof(path), "/proc/%d/mounts", (int)entry->daemon.pid);
	mounts = setmntent(path, "re");
	if (mounts == NULL)
		return false;
	while (!found && getmntent_r(mounts, &mount, text, sizeof(text)) != NULL)
		found = strcmp(mount.mnt_dir, entry->mountpoint) == 0 && strcmp(mount.mnt_fsname, entry->source) == 0;
	endmntent(mounts);
	return found;
}

/* Wait for one of them: true when it has ended, or will serve on for some who use it yet. */
static bool wait_for(const struct mount_entry *earlier)
{
	uint64_t began_ns = clock_ns(), moved_ns = began_ns, bytes = 0;
	struct mount_entry entry;
	unsigned int files = 0;
	bool leaving = false, seen, held; /* seen: whether the kernel holds it can be told */

	while (mount_registry_find_by_daemon(&earlier->daemon, &entry) == 0) {
		if (entry.leaving != leaving || entry.bytes != bytes || entry.files != files)
			moved_ns = clock_ns();
		leaving = entry.leaving;
		bytes = entry.bytes;
		files = entry.files;
		seen = entry.device_id != 0;
		held = mount_entry_is_held(&entry);
		mount_entry_release(&entry);
		if (!leaving && (held || (!seen && clock_ns() - began_ns > NOTICE_MS * NSEC_PER_MSEC)))
			return true;
		if (clock_ns() - moved_ns > STILL_MS * NSEC_PER_MSEC)
			return leaving && bytes == 0 && files == 0; /* it only ends its connections */
		fiber_sleep_ms(LOOK_MS);
	}
	return true;
}

void earlier_mounts_wait(const struct address_list *mgs)
{
	struct mount_entry *entries;
	size_t count;

	if (mount_registry_list(&entries, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		const struct mount_entry *entry = &entries[i];

		if (!mount_entry_is_of(entry, mgs) || (!entry->leaving && is_mounted(entry)))
			continue;
		if (!wait_for(entry))
			log_warning("what was written through %s is not all on the servers yet: its daemon (pid %d) "
				    "goes on trying",
				    entry->mountpoint, (int)entry->daemon.pid);
	}
	mount_registry_list_free(entries, count);
}
