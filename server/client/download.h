/* server/client/download.h - the body of a reply as a file. */
#ifndef SERVER_CLIENT_DOWNLOAD_H
#define SERVER_CLIENT_DOWNLOAD_H

/* head: "GET /path". The file gets its name when it is complete. Prints its name and size, or to stderr why there is
 * none. Returns the exit status. */
int client_download(const char *command, const char *url, const char *head, const char *path);

#endif
