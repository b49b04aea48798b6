/* server/client/client.h - the commands that query a running daemon. */
#ifndef SERVER_CLIENT_CLIENT_H
#define SERVER_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* `wasd status` and `wasd jobs`; argv holds the arguments after the command. Returns the exit status. */
int client_run(const char *command, int argc, char **argv);
/* `wasd export CHECKPOINT`: streams one file to disk. */
int client_export(int argc, char **argv);
/* `wasd profiles CHECKPOINT`: lists its profiles, or requests a search for another. */
int client_profiles(int argc, char **argv);
/* `wasd spec`: the members of a job spec. */
int client_spec(int argc, char **argv);

/* Shared by the commands. Sends "HEAD HTTP/1.0" (head: "GET /path") over a new connection, with a JSON body unless body
 * is NULL, and returns the socket to read the reply from. where: "host:port" for messages. Returns -1 after printing
 * the reason to stderr. */
enum { CLIENT_WHERE = 224, CLIENT_PATIENCE_S = 60 };
int client_ask(const char *url, const char *head, const char *body, char where[CLIENT_WHERE]);
/* Returns the JSON of the reply; free it with cJSON_Delete. On failure prints the reason to stderr after "wasd COMMAND:
 * " and returns NULL. */
struct cJSON *client_json(const char *command, const char *url, const char *head, const char *body);
/* True for an id or a name that needs no escaping in a request line. */
bool client_word_ok(const char *s);
/* Reads "--name VALUE" into *value, "--name" alone into *flag, and one argument without dashes into *word. Returns
 * false after printing a message to stderr. */
struct client_option {
	const char *name;
	const char **value;
	bool *flag;
};
bool client_options(const char *command, int argc, char **argv, const struct client_option *known, size_t n,
                    const char **word);
/* Common start of a command. --help prints the usage. Otherwise `read` parses the arguments into *options; if it
 * returns false, after a message on stderr, the usage is printed there too. Returns -1 to continue, else the exit
 * status. */
int client_begin(int argc, char **argv, void (*usage)(FILE *f), bool (*read)(int argc, char **argv, void *options),
                 void *options);
/* A copy of `given`. If that is NULL, the address in ./var/wasd.addr or ./var/data/wasd.addr, else 127.0.0.1:8080. Free
 * it with wasd_free. NULL: no memory. */
char *client_url(const char *given);

#endif
