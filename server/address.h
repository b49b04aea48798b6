/* server/address.h - splits "host:port". */
#ifndef SERVER_ADDRESS_H
#define SERVER_ADDRESS_H

#include <stdbool.h>

enum { ADDRESS_HOST = 200, ADDRESS_PORT = 8 };

/* Splits "127.0.0.1:8080", "[::1]:0", ":8080" (host is then "") or "name:80". False if the port is missing or not a
 * number from 0 to 65535, or the host is too long. */
bool address_split(const char *spec, char host[ADDRESS_HOST], char port[ADDRESS_PORT]);

#endif
