/* server/message.h - messages to an engine, whole or not at all: a member that was lost for want of memory would be a broken promise. */
#ifndef SERVER_MESSAGE_H
#define SERVER_MESSAGE_H

#include "wasd/json.h"

/* {"type":type, ...}. members: "name:kind" separated by blanks, each with one argument after it: s = const char *, i = int64_t,
 * j = cJSON *, taken also on failure (NULL counts as lost memory). NULL when out of memory. */
cJSON *message(const char *type, const char *members, ...);

#endif
