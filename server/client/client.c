#include "client/client.h"

#include "address.h"
#include "wasd/base.h"
#include "wasd/json.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Splits "http://host:port" or "host:port", up to the first slash; the default port is 8080. */
static bool split_address(const char *url, char host[ADDRESS_HOST], char port[ADDRESS_PORT])
{
	char text[ADDRESS_HOST + 40];
	if (!strncmp(url, "http://", 7))
		url += 7;
	snprintf(text, sizeof text - 8, "%.*s", (int)strcspn(url, "/\n"), url);
	const char *bracket = strrchr(text, ']');
	if (!strchr(bracket ? bracket : text, ':'))
		strcat(text, ":8080");
	return address_split(text, host, port) && *host && strcmp(port, "0");
}

/* Returns a socket connected to url, or -1. where: "host:port", or "" if url is not an address. */
static int dial(const char *url, char host[ADDRESS_HOST], char port[ADDRESS_PORT], char where[CLIENT_WHERE])
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *ai = NULL;
	int fd = -1;
	*where = 0;
	if (!split_address(url, host, port) || getaddrinfo(host, port, &hints, &ai))
		return -1;
	snprintf(where, CLIENT_WHERE, "%s:%s", host, port);
	for (struct addrinfo *a = ai; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct timeval tv = {CLIENT_PATIENCE_S, 0};
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen)) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(ai);
	return fd;
}

int client_ask(const char *url, const char *head, const char *body, char where[CLIENT_WHERE])
{
	char host[ADDRESS_HOST], port[ADDRESS_PORT];
	int fd = dial(url, host, port, where);
	if (fd < 0) {
		fprintf(stderr,
		        *where ? "wasd: cannot connect to %s; is the daemon running?\n" : "wasd: %s is not an address\n",
		        *where ? where : url);
		return -1;
	}
	char request[700], more[80] = "";
	if (body)
		snprintf(more, sizeof more, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
	int n = snprintf(request, sizeof request, "%s HTTP/1.0\r\nHost: %s:%s\r\n%s\r\n", head,
	                 strchr(host, ':') ? "localhost" : host, port, more);
	if (n >= (int)sizeof request || wasd_write_full(fd, request, (size_t)n, NULL) != WASD_OK ||
	    (body && wasd_write_full(fd, body, strlen(body), NULL) != WASD_OK)) {
		fprintf(stderr, "wasd: cannot send the request to %s\n", where);
		close(fd);
		return -1;
	}
	return fd;
}

/* Reads until the peer closes. */
static char *read_all(int fd)
{
	struct wasd_buf b = {.max = 16 << 20};
	char piece[8192];
	for (ssize_t r; (r = read(fd, piece, sizeof piece)) > 0;)
		wasd_buf_append(&b, piece, (size_t)r);
	char *text = wasd_buf_cstr(&b), *own = text ? wasd_strdup(text) : NULL;
	wasd_buf_done(&b);
	return own;
}

cJSON *client_json(const char *command, const char *url, const char *head, const char *request)
{
	char where[CLIENT_WHERE];
	const char *detail = "";
	cJSON *o = NULL;
	int fd = client_ask(url, head, request, where);
	if (fd < 0)
		return NULL;
	char *text = read_all(fd), *body = text && !strncmp(text, "HTTP/1.", 7) ? strstr(text, "\r\n\r\n") : NULL;
	close(fd);
	if (body)
		wasd_json_parse(body + 4, strlen(body + 4), (struct wasd_json_limits){16 << 20, 32, 600000}, &o, NULL);
	bool good = o && text[8] == ' ' && text[9] == '2';
	if (!good) {
		wasd_json_str(o, "detail", &detail);
		if (*detail)
			fprintf(stderr, "wasd %s: %s\n", command, detail);
		else
			fprintf(stderr, "wasd %s: %s answered %.*s\n", command, where, text ? (int)strcspn(text, "\r\n") : 7,
			        text ? text : "nothing");
		cJSON_Delete(o);
	}
	wasd_free(text);
	return good ? o : NULL;
}

bool client_word_ok(const char *s)
{
	size_t n = strlen(s);
	return n && n <= 100 && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-") == n;
}

bool client_options(const char *command, int argc, char **argv, const struct client_option *known, size_t n,
                    const char **word)
{
	for (int i = 0; i < argc; i++) {
		size_t k = 0;
		while (k < n && strcmp(argv[i], known[k].name))
			k++;
		if (k < n && known[k].flag) {
			*known[k].flag = true;
		} else if (k < n && i + 1 < argc) {
			*known[k].value = argv[++i];
		} else if (k == n && argv[i][0] != '-' && !*word) {
			*word = argv[i];
		} else {
			fprintf(stderr, k < n ? "wasd %s: %s needs a value\n" : "wasd %s: unexpected argument %s\n", command,
			        argv[i]);
			return false;
		}
	}
	return true;
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
	printf("wasd %s, up %.0f s, %.0f of %.0f workers busy, %.1f GiB free, data in %s\n", text_of(o, "version"), up,
	       busy, total, free_bytes / (1 << 30), text_of(o, "data_dir"));
}

/* "evaluating, 12 of 40, 35 s left"; "" for a job that is not running. */
static void describe_phase(const cJSON *progress, char *out, size_t size)
{
	const char *phase = "";
	double done, total, eta_s;
	wasd_json_str(progress, "phase", &phase);
	int n = snprintf(out, size, "%.100s", phase);
	if (*phase && wasd_json_num(progress, "phase_done", &done) && wasd_json_num(progress, "phase_total", &total))
		n += snprintf(out + n, size - (size_t)n, ", %.0f of %.0f", done, total);
	if (*phase && wasd_json_num(progress, "eta_s", &eta_s) && eta_s >= 0)
		snprintf(out + n, size - (size_t)n, ", %.0f s left", eta_s);
}

static void print_jobs(const cJSON *o)
{
	const cJSON *items = wasd_json_get(o, "items");
	printf("%-31s %-11s %9s  %-20s %s\n", "ID", "STATE", "EPOCH", "NAME", "PHASE");
	for (const cJSON *j = items ? items->child : NULL; j; j = j->next) {
		const cJSON *p = wasd_json_get(j, "progress");
		double epoch = 0, epochs = 0;
		char at[32] = "-", now[160];
		if (p && wasd_json_num(p, "epoch", &epoch) && wasd_json_num(p, "epochs", &epochs))
			snprintf(at, sizeof at, "%.0f/%.0f", epoch, epochs);
		describe_phase(p, now, sizeof now);
		printf("%-31s %-11s %9s  %-20s %s\n", text_of(j, "id"), text_of(j, "state"), at, text_of(j, "name"), now);
	}
}

/* Address files of a plain `wasd serve` and of the quickstart. Takes the first address that accepts a connection,
 * because a killed daemon leaves its file behind. */
static char *default_url(void)
{
	static const char *const files[] = {"var/wasd.addr", "var/data/wasd.addr"};
	char host[ADDRESS_HOST], port[ADDRESS_PORT], where[CLIENT_WHERE], *url = NULL, *first = NULL;
	size_t len;
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		if (wasd_file_read(files[i], 200, &url, &len, NULL) != WASD_OK)
			continue;
		int fd = dial(url, host, port, where);
		if (fd >= 0) {
			close(fd);
			wasd_free(first);
			return url;
		}
		if (first)
			wasd_free(url);
		else
			first = url;
	}
	return first ? first : wasd_strdup("127.0.0.1:8080");
}

char *client_url(const char *given)
{
	return given ? wasd_strdup(given) : default_url();
}

int client_begin(int argc, char **argv, void (*usage)(FILE *f), bool (*read)(int argc, char **argv, void *options),
                 void *options)
{
	if (argc && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))) {
		usage(stdout);
		return 0;
	}
	if (read(argc, argv, options))
		return -1;
	usage(stderr);
	return 2;
}

int client_run(const char *command, int argc, char **argv)
{
	if (argc && (argc != 2 || strcmp(argv[0], "--url"))) {
		fprintf(stderr, "usage: wasd %s [--url URL]\n", command);
		return 2;
	}
	char *url = client_url(argc ? argv[1] : NULL);
	bool jobs = !strcmp(command, "jobs");
	cJSON *o = url ? client_json(command, url, jobs ? "GET /v1/jobs?limit=100" : "GET /v1/system", NULL) : NULL;
	if (o)
		(jobs ? print_jobs : print_status)(o);
	int rc = o ? 0 : 1;
	cJSON_Delete(o);
	wasd_free(url);
	return rc;
}
