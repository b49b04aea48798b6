/* server/process/launch.h - starts an engine process that inherits only one stream from the daemon: a minimal
 * environment, no other descriptors, its own session. */
#ifndef SERVER_PROCESS_LAUNCH_H
#define SERVER_PROCESS_LAUNCH_H

#include "wasd/base.h"

#include <sys/types.h>

/* argv[0] is the path. stream: what becomes descriptor 3. errors: stderr. stdin and stdout are /dev/null. The engine
 * asks to be killed when the spawning *thread* ends, so only long-lived threads may call this. */
enum wasd_status launch_engine(char *const argv[], int stream, int errors, pid_t *pid, struct wasd_err *err);

#endif
