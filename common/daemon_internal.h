/* What daemon.c and daemon_options.c share; nobody else includes it. */
#ifndef STRAKE_COMMON_DAEMON_INTERNAL_H
#define STRAKE_COMMON_DAEMON_INTERNAL_H

/*
 * One line "WORD TEXT\n" to whoever started us with STRAKE_READY_FD=N; then the descriptor is closed and the variable
 * gone, so that the next call does nothing, and no child inherits them.
 */
void daemon_tell_starter(const char *word, const char *text);

#endif
