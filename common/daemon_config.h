/*
 * Configuration files: INI, with the sections [mgs] [mds] [oss] [client]; a line is KEY = VALUE. Each program reads its
 * own section, but a section that does not exist is an error wherever it stands.
 */
#ifndef STRAKE_COMMON_DAEMON_CONFIG_H
#define STRAKE_COMMON_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct daemon_config {
	const char *path; /* for messages */
	const char *section;
	/*
	 * A key of the section. 0, or -errno with a sentence in error (empty: the error's own words);
	 * DAEMON_CONFIG_UNKNOWN: there is no such key.
	 */
	int (*key)(void *owner, const char *name, const char *value, char *error, size_t error_size);
	void *owner;
};

#define DAEMON_CONFIG_UNKNOWN 1

bool daemon_config_section_exists(const char *name);

/*
 * Hand all keys of the section over, up to the first fault. -EINVAL, -EIO, -ENOMEM, or what `key` said, with a sentence
 * in error ("FILE:3: ...").
 */
int daemon_config_read(FILE *file, const struct daemon_config *config, char *error, size_t error_size);

#endif
