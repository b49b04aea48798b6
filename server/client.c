#include "client.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* "http://host:port" or "host:port", cut at the first slash. */
static bool split_address(const char *url, char host[200], char port[16])
{
	if (!strncmp(url, "http://", 7))
		url += 7;
	char text[200];
	snprintf(text, sizeof text, "%.*s", (int)strcspn(url, "/\n"), url);
	char *colon = strrchr(text, ':'), *h = text;
	snprintf(port, 16, "%s", colon ? colon + 1 : "8080");
	if (colon)
		*colon = 0;
	if (*h == '[' && h[strlen(h) - 1] == ']') {
		h[strlen(h) - 1] = 0;
		h++;
	}
	snprintf(host, 200, "%s", h);
	return *host && *port;
}

int client_ask(const char *url, const char *head, char where[CLIENT_WHERE])
{
	char host[200], port[16];
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *ai = NULL;
	int fd = -1;
	if (!split_address(url, host, port) || getaddrinfo(host, port, &hints, &ai)) {
		fprintf(stderr, "wasd: %s is not an address\n", url);
		return -1;
	}
	snprintf(where, CLIENT_WHERE, "%s:%s", host, port);
	for (struct addrinfo *a = ai; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct timeval tv = { CLIENT_PATIENCE_S, 0 };
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen)) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(ai);
	if (fd < 0) {
		fprintf(stderr, "wasd: nothing answers at %s; is the daemon running?\n", where);
		return -1;
	}
	char request[600];
	int n = snprintf(request, sizeof request, "%s HTTP/1.0\r\nHost: %s:%s\r\n\r\n", head, strchr(host, ':') ? "localhost" : host, port);
	if (n >= (int)sizeof request || wasd_write_full(fd, request, (size_t)n, NULL) != WASD_OK) {
		fprintf(stderr, "wasd: %s does not take the request\n", where);
		close(fd);
		return -1;
	}
	return fd;
}

/* One GET over a fresh connection; the body, NULL with a message on stderr. */
static char *get(const char *url, const char *path)
{
	char head[400], where[CLIENT_WHERE];
	snprintf(head, sizeof head, "GET %s", path);
	int fd = client_ask(url, head, where);
	if (fd < 0)
		return NULL;
	struct wasd_buf b = { .max = 16 << 20 };
	char piece[8192];
	for (ssize_t r; (r = read(fd, piece, sizeof piece)) > 0;)
		wasd_buf_append(&b, piece, (size_t)r);
	close(fd);
	char *text = wasd_buf_cstr(&b), *body = text ? strstr(text, "\r\n\r\n") : NULL;
	if (!body || strncmp(text, "HTTP/1.", 7) || strncmp(text + 8, " 200", 4)) {
		fprintf(stderr, "wasd: %s%s answered %.*s\n", where, path, text ? (int)strcspn(text, "\r\n") : 0, text ? text : "");
		wasd_buf_done(&b);
		return NULL;
	}
	char *out = wasd_strdup(body + 4);
	wasd_buf_done(&b);
	return out;
}

static const char *text_of(const cJSON *o, const char *key)
{
	const char *s;
	return wasd_json_str(o, key, &s) ? s : "-";
}

static void print_status(const cJSON *o)
{
	double free_bytes = 0, busy = 0, total = 0, up = 0;
	const cJSON *disk = wasd_json_get(o, "disk"), *w = wasd_json_get(o, "workers");
	wasd_json_num(disk, "free_bytes", &free_bytes);
	wasd_json_num(w, "busy", &busy);
	wasd_json_num(w, "total", &total);
	wasd_json_num(o, "uptime_s", &up);
	printf("wasd %s, up %.0f s, %.0f of %.0f workers busy, %.1f GiB free, data in %s\n", text_of(o, "version"), up, busy, total, free_bytes / (1 << 30), text_of(o, "data_dir"));
}

static void print_jobs(const cJSON *o)
{
	const cJSON *items = wasd_json_get(o, "items");
	printf("%-31s %-11s %9s  %s\n", "ID", "STATE", "EPOCH", "NAME");
	for (const cJSON *j = items ? items->child : NULL; j; j = j->next) {
		const cJSON *p = wasd_json_get(j, "progress");
		double epoch = 0, epochs = 0;
		char at[32] = "-";
		if (p && wasd_json_num(p, "epoch", &epoch) && wasd_json_num(p, "epochs", &epochs))
			snprintf(at, sizeof at, "%.0f/%.0f", epoch, epochs);
		printf("%-31s %-11s %9s  %s\n", text_of(j, "id"), text_of(j, "state"), at, text_of(j, "name"));
	}
}

char *client_default_url(void)
{
	char *url = NULL;
	size_t len;
	return wasd_file_read("var/wasd.addr", 200, &url, &len, NULL) == WASD_OK ? url : wasd_strdup("127.0.0.1:8080");
}

int client_run(const char *command, int argc, char **argv)
{
	if (argc && (argc != 2 || strcmp(argv[0], "--url"))) {
		fprintf(stderr, "usage: wasd %s [--url URL]\n", command);
		return 2;
	}
	char *url = argc ? wasd_strdup(argv[1]) : client_default_url();
	bool jobs = !strcmp(command, "jobs");
	char *body = url ? get(url, jobs ? "/v1/jobs?limit=100" : "/v1/system") : NULL;
	cJSON *o = NULL;
	struct wasd_err err;
	int rc = 1;
	if (body && wasd_json_parse(body, strlen(body), (struct wasd_json_limits){16 << 20, 32, 600000}, &o, &err) == WASD_OK) {
		(jobs ? print_jobs : print_status)(o);
		rc = 0;
	} else if (body) {
		fprintf(stderr, "wasd: the answer is not what was expected: %s\n", err.msg);
	}
	cJSON_Delete(o);
	wasd_free(body);
	wasd_free(url);
	return rc;
}
