/* server/client/edit.h - changes of a job spec from the command line: --set train.epochs=3. */
#ifndef SERVER_CLIENT_EDIT_H
#define SERVER_CLIENT_EDIT_H

#include "client/command.h"

struct cJSON;

#define CLIENT_SET_TEXT \
	"set a member of the spec: train.epochs=3 or /train/epochs=3; VALUE is JSON, or else a string; objects on the way " \
	"are made; a number names an item of a list, - a new one"

/* Applies "KEY=VALUE" to *spec. Returns false after a message to stderr. */
bool client_set(const struct client_command *c, struct cJSON *spec, const char *assignment);
/* Reads a JSON object from a file, or from standard input for "-". NULL after a message. */
struct cJSON *client_read_spec(const struct client_command *c, const char *path);

#endif
