/* server/client/client.h - the commands that query a running daemon. */
#ifndef SERVER_CLIENT_CLIENT_H
#define SERVER_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The exit statuses of all commands. */
enum {
	CLIENT_OK = 0,
	CLIENT_FAILED = 1, /* the daemon refused, the work failed, or there is no daemon; stderr says which */
	CLIENT_USAGE = 2,  /* the arguments make no sense; nothing was sent */
};
/* Returns a blocking socket connected to url, or -1. where: "host:port", or "" if url is not an address. */
enum { CLIENT_WHERE = 224, CLIENT_PATIENCE_S = 60 };
int client_dial(const char *url, char where[CLIENT_WHERE]);
/* A request. head: "GET /path"; headers: further lines, each with its end, or NULL. A body is sent if type is set:
 * `len` bytes of Content-Type `type`; if body is NULL the caller writes them to the socket. quiet: no messages. */
struct client_call {
	const char *head, *headers, *type;
	const void *body;
	size_t len;
	bool quiet;
};
/* Sends it over a new connection and returns the socket to read the reply from, or -1. */
int client_send(const char *url, const struct client_call *call, char where[CLIENT_WHERE]);
/* Reads the whole reply and closes fd. Returns its JSON (null for an empty one) with the HTTP status; without a whole
 * answer NULL and status 0. client_accept: NULL after a message unless the status is 2xx. */
struct cJSON *client_receive(int fd, int *status);
struct cJSON *client_accept(const char *command, const char *about, const char *where, int fd);
/* Shared by the commands. Sends "HEAD HTTP/1.0" (head: "GET /path") over a new connection, with a JSON body unless body
 * is NULL, and returns the socket to read the reply from. where: "host:port" for messages. Returns -1 after printing
 * the reason to stderr. */
int client_ask(const char *url, const char *head, const char *body, char where[CLIENT_WHERE]);
/* Returns the JSON of the reply, or of an empty one JSON null; free it with cJSON_Delete. On failure prints the reason
 * to stderr after "wasd COMMAND: " and returns NULL. */
struct cJSON *client_json(const char *command, const char *url, const char *head, const char *body);
/* The same with `len` bytes of Content-Type `type` as the body. about: what the message is about besides the command (a
 * file), or NULL. */
struct cJSON *client_upload(const char *command, const char *about, const char *url, const char *head, const char *type,
                            const void *body, size_t len);
/* True for an id or a name that needs no escaping in a request line. */
bool client_word_ok(const char *s);
/* A copy of `given`. If that is NULL: of $WASD_URL, the address in ./var/wasd.addr or ./var/data/wasd.addr, or
 * 127.0.0.1:8080, the first that is there. Free it with wasd_free. NULL: no memory. */
char *client_url(const char *given);
/* ---- printing; text from a daemon is printed without control characters ---- */

/* The string member `key`, or "-". */
const char *client_text(const struct cJSON *o, const char *key);
/* Prints s; returns its number of characters. */
int client_say(const char *s);
/* s in a column of `width` characters (UTF-8 counts as such), and a space. A longer text moves what follows. */
void client_cell(const char *s, int width);
/* A number times `scale` with `decimals`; "-" if the member is null or missing. Returns out. */
enum { CLIENT_NUMBER = 32 };
const char *client_number(const struct cJSON *o, const char *key, double scale, int decimals, char out[CLIENT_NUMBER]);
/* One line of compact JSON on stdout. Returns the exit status. */
int client_print_json(const struct cJSON *o);
int client_print_items(struct cJSON *items); /* as {"items":[...]}; takes items */

#endif
