/* Of the whole project: the programs, the packages. Wire and disk have numbers of their own. */
#ifndef STRAKE_COMMON_VERSION_H
#define STRAKE_COMMON_VERSION_H

#define STRAKE_VERSION "0.1.0"

#endif
