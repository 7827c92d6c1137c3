/* From an embedded member (a timer, a watch) to its owner. */
#ifndef STRAKE_COMMON_CONTAINER_OF_H
#define STRAKE_COMMON_CONTAINER_OF_H

#include <stddef.h>

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
