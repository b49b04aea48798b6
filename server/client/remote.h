/* server/client/remote.h - what the commands on jobs share: finding a job by what the user types, lists of all pages,
 * requests that are repeated while the daemon restarts, and streams read line by line. */
#ifndef SERVER_CLIENT_REMOTE_H
#define SERVER_CLIENT_REMOTE_H

#include "wasd/base.h"

#include <stdbool.h>
#include <stdint.h>

struct cJSON;

enum { CLIENT_ID = 64, CLIENT_RESTART_S = 60 };
/* Text for the help of commands that take a job. */
#define CLIENT_JOB_TEXT \
	"JOB is an id, the unique beginning of an id (with or without job_), or a name: the newest job of that name."

/* Exit statuses of commands that tell how a job ended, besides those of client.h. */
enum { CLIENT_CANCELLED = 3, CLIENT_TIMEOUT = 4 };
/* By the state of a job that has ended. */
int client_outcome(const char *state);
bool client_ended(const char *state);

/* Finds the job that `word` means. Returns false after a message to stderr. */
bool client_job_id(const char *command, const char *url, const char *word, char id[CLIENT_ID]);
/* Appends word to out as a part of a query or path; anything but letters, digits and "-._~" is escaped. */
void client_escape(struct wasd_buf *out, const char *word);
/* The items of all pages of "/v1/jobs" with `query` ("state=queued&fields=id", or ""), at most `max` (0: all). NULL
 * after a message. Free it with cJSON_Delete. */
struct cJSON *client_all(const char *command, const char *url, const char *path, const char *query, int max);

/* The spec of a job object as {"/train/epochs": 3, ...}; an empty object or list is a value. */
struct cJSON *client_flat_spec(const struct cJSON *job);

/* Like client_json, but while there is no whole answer it asks again, for up to CLIENT_RESTART_S seconds: a daemon that
 * restarts. given: the value of --url; it is looked up again each time. */
struct cJSON *client_patient(const char *command, const char *given, const char *head);

/* A response that is read line by line while it comes. */
struct client_lines {
	int fd;
	int status; /* of HTTP; 0: no answer */
	bool over;  /* the other side has closed */
	struct wasd_buf in;
	size_t taken;
};
/* Returns l->status. headers: as in struct client_call. */
int client_lines_open(struct client_lines *l, const char *url, const char *head, const char *headers);
/* The next line without its end, until the next call. NULL: none came within wait_ms, or l->over. */
char *client_lines_next(struct client_lines *l, int wait_ms);
void client_lines_close(struct client_lines *l);

/* Server-sent events. Zero-initialise it; client_event_done frees it. */
struct client_event {
	int64_t id; /* of the last whole event, for Last-Event-ID; stays over a reconnection */
	char type[40];
	struct cJSON *data;
	/* private */
	bool whole;
	int64_t coming;
};
/* True: *e is the next event. False: none came within wait_ms, or l->over. */
bool client_event_next(struct client_lines *l, struct client_event *e, int wait_ms);
/* Drops what came of an unfinished event; e->id stays. */
void client_event_done(struct client_event *e);

#endif
