/* server/client/record.h - what `wasd merge` and `wasd archive` share: ids of checkpoints as arguments, and work that
 * is followed to its end. */
#ifndef SERVER_CLIENT_RECORD_H
#define SERVER_CLIENT_RECORD_H

#include "client/command.h"

struct cJSON;

/* Whether these can be sent as ids, and are `least` or more. False: a message said what they are ("a checkpoint"), or
 * what to give. */
bool client_ids_ok(const char *command, const struct client_list *ids, size_t least, const char *what,
                   const char *give);

struct client_record_kind {
	const char *command, *path; /* "merge", "/v1/merges" */
	const char *units;          /* of its progress */
	int wait_s;                 /* of one request */
	bool (*stop)(void);         /* asked between requests; NULL: never */
};
/* Takes m, the record of what was begun. Shows its progress in place if stderr is a terminal. NULL: it cannot be
 * followed to its end, as a message said, or it was stopped. */
struct cJSON *client_record_follow(const struct client_record_kind *k, const char *url, struct cJSON *m);
bool client_record_ready(const struct cJSON *m);

#endif
