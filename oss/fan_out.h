/*
 * Do many things of the same kind at once: fn(arg, i) for all i in [0, count), in at most `width` fibers (the caller's is
 * one of them). Goes through all of them whatever fails; returns the first error. In a fiber.
 */
#ifndef STRAKE_OSS_FAN_OUT_H
#define STRAKE_OSS_FAN_OUT_H

#include "common/fiber.h"

#include <stddef.h>

int fan_out(struct loop *loop, size_t count, unsigned int width, int (*fn)(void *arg, size_t i), void *arg);

#endif
