/* What `ls` and `stat` call the types of files. */
#ifndef STRAKE_CLIENT_CLI_FILE_TYPE_H
#define STRAKE_CLIENT_CLI_FILE_TYPE_H

#include <sys/stat.h>

/* "dir", "file", "link", "fifo", "sock", "char", "block", or "?" */
static inline const char *file_type_short(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "dir";
	case S_IFREG:
		return "file";
	case S_IFLNK:
		return "link";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "sock";
	case S_IFCHR:
		return "char";
	case S_IFBLK:
		return "block";
	default:
		return "?";
	}
}

#endif
