/* server/client.h - the small commands that ask a running daemon. */
#ifndef SERVER_CLIENT_H
#define SERVER_CLIENT_H

/* `wasd status` and `wasd jobs`; argv are the words after the command. Returns the exit status. */
int client_run(const char *command, int argc, char **argv);
/* `wasd export CHECKPOINT`: streams one file to disk. */
int client_export(int argc, char **argv);

/* What they share. Sends "HEAD HTTP/1.0" (head: "GET /path") over a fresh connection and returns the socket to read the answer from; where:
 * "host:port" for messages. -1: the reason is on stderr. */
enum { CLIENT_WHERE = 224, CLIENT_PATIENCE_S = 60 };
int client_ask(const char *url, const char *head, char where[CLIENT_WHERE]);
char *client_default_url(void);                 /* of ./var/wasd.addr, else 127.0.0.1:8080; for wasd_free, NULL: no memory */

#endif
