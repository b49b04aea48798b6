/* server/daemon.h - `wasd serve`: starts, connects and stops all parts of the daemon. */
#ifndef SERVER_DAEMON_H
#define SERVER_DAEMON_H

#include "config.h"

/* Runs until SIGTERM or SIGINT and returns the process's exit status. No other code may block or handle signals. */
int daemon_run(struct config *cfg);

#endif
