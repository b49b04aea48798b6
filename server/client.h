/* server/client.h - `wasd status` and `wasd jobs`: what a running daemon says, as text. */
#ifndef SERVER_CLIENT_H
#define SERVER_CLIENT_H

int client_run(const char *command, int argc, char **argv);     /* the process's exit status */

#endif
