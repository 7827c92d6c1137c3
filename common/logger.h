/*
 * What a program says to its operator: one line per event, on stderr, with the journal's priority prefix when stderr is
 * the journal, else with time and name. Library code never logs; the layer that owns the decision does, once.
 * Thread-safe.
 */
#ifndef STRAKE_COMMON_LOGGER_H
#define STRAKE_COMMON_LOGGER_H

enum logger_level { LOGGER_ERROR = 3, LOGGER_WARNING = 4, LOGGER_INFO = 6, LOGGER_DEBUG = 7 };

void logger_init(const char *program, enum logger_level level);
/* "error", "warning", "info", "debug"; -EINVAL. */
int logger_level_parse(const char *text, enum logger_level *ret_level);

void logger_say(enum logger_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   logger_say(LOGGER_ERROR, __VA_ARGS__)
#define log_warning(...) logger_say(LOGGER_WARNING, __VA_ARGS__)
#define log_info(...)    logger_say(LOGGER_INFO, __VA_ARGS__)
#define log_debug(...)   logger_say(LOGGER_DEBUG, __VA_ARGS__)

/* A last word, then abort(): the process's own state is damaged or can no longer be stored. */
_Noreturn void logger_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
