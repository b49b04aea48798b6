/* server/notify.h - systemd's readiness protocol: one datagram to NOTIFY_SOCKET. Without it, nothing happens. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include <stdint.h>

void notify_service(const char *state); /* "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=..." */
int64_t notify_watchdog_us(void);       /* how often WATCHDOG=1 is expected at least; 0 = not */

#endif
