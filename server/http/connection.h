/* server/http/connection.h - the HTTP front: connections, limits, deadlines. The only user of libmicrohttpd is
 * connection.c. */
#ifndef SERVER_HTTP_CONNECTION_H
#define SERVER_HTTP_CONNECTION_H

#include "http/exchange.h"

struct http;

struct http_config {
	const char *listen;  /* "127.0.0.1:8080", "[::1]:0", ":8080"; port 0 = any free one */
	bool insecure;       /* an address that other machines reach is no mistake */
	const char *staging; /* existing directory for uploads */
	int io_threads, worker_threads, queue;
	int max_connections;              /* above 90 % of it new clients get 503 */
	int max_per_ip, max_per_loopback; /* 0 = no own limit */
	int max_streams, heartbeat_ms;
	int header_ms; /* from the first byte of a request to the end of its headers */
	int idle_ms;   /* a connection without a request */
	int grace_ms;  /* bodies and replies: after this the average must be at least min_rate */
	int min_rate;  /* bytes a second */
	struct exchange_limits lim;
};
void http_config_default(struct http_config *c);

/* Starts listening. app.ctx and hub must outlive http_stop. */
enum wasd_status http_start(const struct http_config *cfg, const struct exchange_app *app, struct hub *hub,
                            struct http **out, struct wasd_err *err);
const char *http_address(const struct http *h); /* "127.0.0.1:43211" */
int http_connections(struct http *h);
/* No new connection is accepted, requests that come are answered 503, event streams and waits end, running handlers get
 * until grace_ms, then what is left is answered 503. Then everything is closed and freed. The hub is stopped by this.
 * NULL is fine. */
void http_stop(struct http *h, int grace_ms);

#endif
