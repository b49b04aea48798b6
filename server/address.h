/* server/address.h - "host:port" as people write it. */
#ifndef SERVER_ADDRESS_H
#define SERVER_ADDRESS_H

#include <stdbool.h>

enum { ADDRESS_HOST = 200, ADDRESS_PORT = 8 };

/* "127.0.0.1:8080", "[::1]:0", ":8080" (host is then ""), "name:80". False: no port, one that is not a number from 0 to
 * 65535, or too long a host. */
bool address_split(const char *spec, char host[ADDRESS_HOST], char port[ADDRESS_PORT]);

#endif
