/* client.c - requests to a running daemon, the options that commands share, and the commands that list its objects. */
#include "client/client.h"
#include "client/commands.h"

#include "address.h"
#include "wasd/base.h"
#include "wasd/json.h"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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

int client_dial(const char *url, char where[CLIENT_WHERE])
{
	char host[ADDRESS_HOST], port[ADDRESS_PORT];
	return dial(url, host, port, where);
}

int client_send(const char *url, const struct client_call *call, char where[CLIENT_WHERE])
{
	char host[ADDRESS_HOST], port[ADDRESS_PORT];
	int fd = dial(url, host, port, where);
	if (fd < 0) {
		if (!call->quiet)
			fprintf(stderr,
			        *where ? "wasd: cannot connect to %s; is the daemon running?\n" : "wasd: %s is not an address\n",
			        *where ? where : url);
		return -1;
	}
	char request[1000], more[160] = "";
	if (call->type)
		snprintf(more, sizeof more, "Content-Type: %s\r\nContent-Length: %zu\r\n", call->type, call->len);
	int n = snprintf(request, sizeof request, "%s HTTP/1.0\r\nHost: %s:%s\r\n%s%s\r\n", call->head,
	                 strchr(host, ':') ? "localhost" : host, port, call->headers ? call->headers : "", more);
	signal(SIGPIPE, SIG_IGN); /* a daemon that refuses a body early has answered: read that */
	if (n >= (int)sizeof request || wasd_write_full(fd, request, (size_t)n, NULL) != WASD_OK ||
	    (call->body && wasd_write_full(fd, call->body, call->len, NULL) != WASD_OK && errno != EPIPE &&
	     errno != ECONNRESET)) {
		if (!call->quiet)
			fprintf(stderr, "wasd: cannot send the request to %s\n", where);
		close(fd);
		return -1;
	}
	return fd;
}

int client_ask(const char *url, const char *head, const char *body, char where[CLIENT_WHERE])
{
	const struct client_call call = {.head = head,
	                                 .type = body ? "application/json" : NULL,
	                                 .body = body,
	                                 .len = body ? strlen(body) : 0};
	return client_send(url, &call, where);
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

static void say(const char *command, const char *about, const char *pointer, const char *detail)
{
	fprintf(stderr, "wasd %s: %s%s%s", command, about ? about : "", about ? ": " : "", detail);
	if (*pointer && !strstr(detail, pointer))
		fprintf(stderr, " (at %s)", pointer);
	fputc('\n', stderr);
}

/* Prints a problem document: its detail, or each of its errors if there are several. */
static bool say_problem(const char *command, const char *about, const cJSON *problem)
{
	const cJSON *errors = wasd_json_get(problem, "errors"), *e = errors ? errors->child : NULL;
	const char *detail = "", *pointer = "", *one;
	wasd_json_str(problem, "detail", &detail);
	wasd_json_str(e, "pointer", &pointer);
	if (!e || !e->next) {
		if (*detail)
			say(command, about, pointer, detail);
		return *detail != 0;
	}
	for (; e; e = e->next)
		if (wasd_json_str(e, "detail", &one)) {
			pointer = "";
			wasd_json_str(e, "pointer", &pointer);
			say(command, about, pointer, one);
		}
	return true;
}

cJSON *client_receive(int fd, int *status)
{
	cJSON *o = NULL;
	char *text = read_all(fd), *at = text && !strncmp(text, "HTTP/1.", 7) ? strstr(text, "\r\n\r\n") : NULL;
	close(fd);
	*status = at ? atoi(text + 9) : 0;
	if (at && !at[4] && *status / 100 == 2)
		o = cJSON_CreateNull();
	else if (at)
		wasd_json_parse(at + 4, strlen(at + 4), (struct wasd_json_limits){16 << 20, 32, 600000}, &o, NULL);
	if (!o)
		*status = 0;
	wasd_free(text);
	return o;
}

cJSON *client_accept(const char *command, const char *about, const char *where, int fd)
{
	int status;
	cJSON *o = client_receive(fd, &status);
	if (status / 100 == 2)
		return o;
	if (!o)
		fprintf(stderr, "wasd %s: %s did not answer\n", command, where);
	else if (!say_problem(command, about, o))
		fprintf(stderr, "wasd %s: %s answered with HTTP status %d\n", command, where, status);
	cJSON_Delete(o);
	return NULL;
}

cJSON *client_upload(const char *command, const char *about, const char *url, const char *head, const char *type,
                     const void *body, size_t len)
{
	char where[CLIENT_WHERE];
	const struct client_call call = {.head = head, .type = type, .body = body, .len = len};
	int fd = client_send(url, &call, where);
	return fd < 0 ? NULL : client_accept(command, about, where, fd);
}

cJSON *client_json(const char *command, const char *url, const char *head, const char *request)
{
	return client_upload(command, NULL, url, head, request ? "application/json" : NULL, request,
	                     request ? strlen(request) : 0);
}

bool client_word_ok(const char *s)
{
	size_t n = strlen(s);
	return n && n <= 100 && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-") == n;
}

static void print_status(const cJSON *o)
{
	double free_bytes = 0, busy = 0, total = 0, up = 0;
	const cJSON *disk = wasd_json_get(o, "disk"), *w = wasd_json_get(o, "workers");
	wasd_json_num(disk, "free_bytes", &free_bytes);
	wasd_json_num(w, "busy", &busy);
	wasd_json_num(w, "total", &total);
	wasd_json_num(o, "uptime_s", &up);
	printf("wasd %s, up %.0f s, %.0f of %.0f workers busy, %.1f GiB free, data in %s\n", client_text(o, "version"), up,
	       busy, total, free_bytes / (1 << 30), client_text(o, "data_dir"));
	if (*client_text(disk, "message"))
		printf("%s: %s\n", client_text(disk, "reason"), client_text(disk, "message"));
}

static void print_deployments(const cJSON *o)
{
	const cJSON *d;
	printf("%-24s %-9s %-20s %4s %7s  %s\n", "NAME", "STATE", "MODE", "GEN", "VERSION", "CHECKPOINT");
	cJSON_ArrayForEach(d, wasd_json_get(o, "items")) {
		char generation[CLIENT_NUMBER], version[CLIENT_NUMBER];
		printf("%-24s %-9s %-20s %4s %7s  %s\n", client_text(d, "name"), client_text(d, "state"),
		       client_text(d, "mode"), client_number(d, "generation", 1, 0, generation),
		       client_number(d, "version", 1, 0, version), client_text(d, "checkpoint"));
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
	const char *named = given ? given : getenv("WASD_URL");
	return named && *named ? wasd_strdup(named) : default_url();
}

int client_start(const struct client_command *c, int argc, char **argv, bool (*check)(void *options), void *options)
{
	int rc = client_parse(c, argc, argv, options);
	if (rc >= 0 || check(options))
		return rc;
	fputc('\n', stderr);
	client_help(stderr, c);
	return CLIENT_USAGE;
}

/* ---- status, deployments ---- */

struct options {
	const char *url;
	bool json;
};

static int show(const struct client_command *c, int argc, char **argv, const char *head, void (*print)(const cJSON *o))
{
	struct options o = {0};
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	cJSON *answer = url ? client_json(c->name, url, head, NULL) : NULL;
	rc = !answer ? CLIENT_FAILED : o.json ? client_print_json(answer) : CLIENT_OK;
	if (answer && !o.json)
		print(answer);
	cJSON_Delete(answer);
	wasd_free(url);
	return rc;
}

static int run_status(int argc, char **argv)
{
	return show(&client_command_status, argc, argv, "GET /v1/system", print_status);
}

static int run_deployments(int argc, char **argv)
{
	return show(&client_command_deployments, argc, argv, "GET /v1/deployments?limit=100", print_deployments);
}

static const struct client_row plain_rows[] = {
	{"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json), "as the daemon answers", NULL},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_status = {
	.name = "status",
	.arguments = "",
	.summary = "show the state of a daemon",
	.text = "Shows the version of a running daemon, its workers, its disk and its data directory.",
	.rows = plain_rows,
	.example = "wasd status",
	.run = run_status,
};
const struct client_command client_command_deployments = {
	.name = "deployments",
	.arguments = "",
	.summary = "list deployments",
	.text = "Lists the deployments of a running daemon, newest first.",
	.rows = plain_rows,
	.example = "wasd deployments",
	.run = run_deployments,
};
