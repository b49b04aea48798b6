/* server/http/connection.h - the HTTP server: connections, limits, deadlines. Only connection.c uses libmicrohttpd. */
#ifndef SERVER_HTTP_CONNECTION_H
#define SERVER_HTTP_CONNECTION_H

#include "http/exchange.h"

struct http;

struct http_config {
	const char *listen;  /* "127.0.0.1:8080", "[::1]:0", ":8080"; port 0 = any free port */
	bool insecure;       /* allow an address that other machines can reach */
	const char *staging; /* existing directory for uploads */
	int io_threads, worker_threads, queue;
	int max_connections;              /* above 90 % of this number new clients get 503 */
	int max_per_ip, max_per_loopback; /* 0 = no limit per address */
	int max_streams, heartbeat_ms;
	int header_ms; /* limit from the first byte of a request to the end of its headers */
	int idle_ms;   /* limit for a connection without a request */
	int grace_ms;  /* after this time the average rate of a body or reply must be at least min_rate */
	int min_rate;  /* bytes a second */
	struct exchange_limits lim;
};
void http_config_default(struct http_config *c);

/* Starts listening. app.ctx and hub must outlive http_stop. */
enum wasd_status http_start(const struct http_config *cfg, const struct exchange_app *app, struct hub *hub,
                            struct http **out, struct wasd_err *err);
const char *http_address(const struct http *h); /* "127.0.0.1:43211" */
int http_connections(struct http *h);
/* Accepts no more connections, answers new requests with 503, and ends event streams and waits. Running handlers have
 * grace_ms to finish; requests still open after that get 503. Then closes and frees everything. Also stops the hub.
 * NULL is fine. */
void http_stop(struct http *h, int grace_ms);

#endif
