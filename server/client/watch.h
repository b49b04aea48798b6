/* server/client/watch.h - following a job until it ends. */
#ifndef SERVER_CLIENT_WATCH_H
#define SERVER_CLIENT_WATCH_H

#include <stdbool.h>

#define CLIENT_OUTCOME_TEXT "0 completed, 1 failed or refused, 2 wrong usage, 3 cancelled"

/* Shows a job while it trains, until it ends: on a terminal a few lines that are drawn again, else a line per epoch;
 * with json every event as a line. given: the value of --url. Returns the exit status: the job's outcome. */
int client_follow(const char *command, const char *given, const char *job, bool json);
/* Waits for the end without showing anything; then prints a line, or the job. end_us: give up at that time
 * (wasd_mono_us; 0: never) with CLIENT_TIMEOUT. */
int client_await(const char *command, const char *given, const char *job, bool json, long long end_us);

#endif
