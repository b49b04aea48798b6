/* server/feed.h - reads events and log lines from storage for the event hub. */
#ifndef SERVER_FEED_H
#define SERVER_FEED_H

#include "http/events.h"

struct storage;

/* Borrows db. */
struct hub_source feed_of(struct storage *db);

#endif
