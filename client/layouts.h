/*
 * Layouts, each kept once: about as many as there are OSTs, where files are millions. So attributes that are remembered
 * or passed on carry a pointer instead of room for 256 indices.
 *
 * What was kept stays as long as the process. Any thread.
 */
#ifndef STRAKE_CLIENT_LAYOUTS_H
#define STRAKE_CLIENT_LAYOUTS_H

#include "common/layout.h"

extern const struct layout layout_none; /* of what has none: all zeros */

/* The one that is the same as this. NULL: no memory. */
const struct layout *layout_keep(const struct layout *layout);

#endif
