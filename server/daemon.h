/* server/daemon.h - `wasd serve`: all parts put together, from the lock on the data directory to the last byte written.
 */
#ifndef SERVER_DAEMON_H
#define SERVER_DAEMON_H

#include "config.h"

/* Runs until SIGTERM or SIGINT; the process's exit status. Signals must not be blocked or handled by anybody else. */
int daemon_run(struct config *cfg);

#endif
