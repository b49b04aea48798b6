/* server/client/client.h - the small commands that ask a running daemon. */
#ifndef SERVER_CLIENT_CLIENT_H
#define SERVER_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* `wasd status` and `wasd jobs`; argv are the words after the command. Returns the exit status. */
int client_run(const char *command, int argc, char **argv);
/* `wasd export CHECKPOINT`: streams one file to disk. */
int client_export(int argc, char **argv);
/* `wasd profiles CHECKPOINT`: lists its profiles, or asks for another. */
int client_profiles(int argc, char **argv);

/* What they share. Sends "HEAD HTTP/1.0" (head: "GET /path") over a fresh connection, with a JSON body unless it is
 * NULL, and returns the socket to read the answer from; where: "host:port" for messages. -1: the reason is on stderr.
 */
enum { CLIENT_WHERE = 224, CLIENT_PATIENCE_S = 60 };
int client_ask(const char *url, const char *head, const char *body, char where[CLIENT_WHERE]);
/* The JSON that it answers with, for cJSON_Delete. NULL: what the daemon or the connection has against it is on stderr,
 * after "wasd COMMAND: ". */
struct cJSON *client_json(const char *command, const char *url, const char *head, const char *body);
/* An id or a name that can stand in a request line as it is. */
bool client_word_ok(const char *s);
/* Reads "--name VALUE" into *value, "--name" alone into *flag, and one word without dashes into *word. False: a message
 * is on stderr. */
struct client_option {
	const char *name;
	const char **value;
	bool *flag;
};
bool client_options(const char *command, int argc, char **argv, const struct client_option *known, size_t n,
                    const char **word);
/* How a command begins: --help prints its usage; else `read` takes the words into *options, and when it returns false,
 * after a message on stderr, the usage follows there. -1: go on; else the exit status. */
int client_begin(int argc, char **argv, void (*usage)(FILE *f), bool (*read)(int argc, char **argv, void *options),
                 void *options);
/* A copy of `given`; for NULL the address in ./var/wasd.addr or ./var/data/wasd.addr, else 127.0.0.1:8080. For
 * wasd_free, NULL: no memory. */
char *client_url(const char *given);

#endif
