/* server/notify.h - systemd's readiness protocol: one datagram to NOTIFY_SOCKET. Does nothing if the variable is not
 * set. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include <stdint.h>

void notify_service(const char *state); /* "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=..." */
int64_t notify_watchdog_us(void);       /* longest interval between WATCHDOG=1 messages; 0 = no watchdog */

#endif
