/* server/client/estimate.h - the answer of a dry run as a table. */
#ifndef SERVER_CLIENT_ESTIMATE_H
#define SERVER_CLIENT_ESTIMATE_H

struct cJSON;

int client_print_estimate(const struct cJSON *answer); /* the exit status */

#endif
