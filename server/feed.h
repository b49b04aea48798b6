/* server/feed.h - the events and the log lines that storage keeps, as the event streams read them. */
#ifndef SERVER_FEED_H
#define SERVER_FEED_H

#include "http/events.h"

struct storage;

/* Borrows db. */
struct hub_source feed_of(struct storage *db);

#endif
