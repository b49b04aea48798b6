/* remote.c - jobs by id, beginning of an id or name; lists of all pages; requests that outlive a restart; streams. */
#include "client/remote.h"
#include "client/client.h"

#include "wasd/json.h"
#include "wasd/spec.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int client_outcome(const char *state)
{
	return !strcmp(state, "completed") ? CLIENT_OK : !strcmp(state, "cancelled") ? CLIENT_CANCELLED : CLIENT_FAILED;
}

bool client_ended(const char *state)
{
	return !strcmp(state, "completed") || !strcmp(state, "cancelled") || !strcmp(state, "failed");
}

/* ---- lists and names ---- */

void client_escape(struct wasd_buf *out, const char *word)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	for (const char *p = word; *p; p++)
		if (strchr(plain, *p))
			wasd_buf_append(out, p, 1);
		else
			wasd_buf_printf(out, "%%%02X", (unsigned char)*p);
}

cJSON *client_all(const char *command, const char *url, const char *path, const char *query, int max)
{
	cJSON *all = cJSON_CreateArray();
	char cursor[300] = "";
	do {
		struct wasd_buf head = {0};
		int have = cJSON_GetArraySize(all), limit = max && max - have < 200 ? max - have : 200;
		wasd_buf_printf(&head, "GET %s?limit=%d%s%s%s%s", path, limit, *query ? "&" : "", query,
		                *cursor ? "&cursor=" : "", cursor);
		cJSON *page = wasd_buf_cstr(&head) ? client_json(command, url, head.data, NULL) : NULL;
		cJSON *items = cJSON_DetachItemFromObjectCaseSensitive(page, "items");
		const char *next = "";
		wasd_buf_done(&head);
		if (!page || !all || !cJSON_IsArray(items)) {
			cJSON_Delete(page);
			cJSON_Delete(items);
			cJSON_Delete(all);
			return NULL;
		}
		while (items->child)
			cJSON_AddItemToArray(all, cJSON_DetachItemViaPointer(items, items->child));
		wasd_json_str(page, "next_cursor", &next);
		snprintf(cursor, sizeof cursor, "%s", next);
		cJSON_Delete(items);
		cJSON_Delete(page);
	} while (*cursor && (!max || cJSON_GetArraySize(all) < max));
	return all;
}

static bool full_id(const char *word)
{
	return !strncmp(word, "job_", 4) && strlen(word) == 4 + WASD_ULID_LEN && client_word_ok(word);
}

/* The newest job of that name. 1: found, 0: there is none, -1: failed after a message. */
static int by_name(const char *command, const char *url, const char *name, char id[CLIENT_ID])
{
	struct wasd_buf query = {0};
	wasd_buf_puts(&query, "fields=id&name=");
	client_escape(&query, name);
	cJSON *found = wasd_buf_cstr(&query) ? client_all(command, url, "/v1/jobs", query.data, 1) : NULL;
	int n = found ? cJSON_GetArraySize(found) : -1;
	if (n > 0)
		snprintf(id, CLIENT_ID, "%s", client_text(found->child, "id"));
	wasd_buf_done(&query);
	cJSON_Delete(found);
	return n;
}

/* The number of jobs whose id begins so; -1: failed after a message. */
static int by_beginning(const char *command, const char *url, const char *word, char id[CLIENT_ID])
{
	const char *digits = !strncmp(word, "job_", 4) ? word + 4 : word;
	size_t n = strlen(digits);
	int matches = 0;
	if (n < 4 || n > WASD_ULID_LEN || strspn(digits, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != n)
		return 0;
	cJSON *all = client_all(command, url, "/v1/jobs", "fields=id", 0);
	const cJSON *j;
	cJSON_ArrayForEach(j, all) {
		const char *have = client_text(j, "id");
		if (!strncmp(have, "job_", 4) && !strncmp(have + 4, digits, n) && !matches++)
			snprintf(id, CLIENT_ID, "%s", have);
	}
	cJSON_Delete(all);
	return all ? matches : -1;
}

bool client_job_id(const char *command, const char *url, const char *word, char id[CLIENT_ID])
{
	if (full_id(word)) {
		snprintf(id, CLIENT_ID, "%s", word);
		return true;
	}
	int n = *word && strlen(word) < 200 ? by_name(command, url, word, id) : 0;
	if (!n)
		n = by_beginning(command, url, word, id);
	if (!n)
		fprintf(stderr, "wasd %s: no job has the id or the name %.200s; wasd jobs lists them\n", command, word);
	else if (n > 1)
		fprintf(stderr, "wasd %s: the ids of %d jobs begin with %s; give more of it\n", command, n, word);
	return n == 1;
}

/* ---- specs as pointers ---- */

/* Adds `at` and everything below v to flat: {"/train/epochs": 3, ...}. An empty object or list is a value. */
static void flatten(cJSON *flat, const char *at, const cJSON *v)
{
	char below[400];
	const cJSON *m;
	int i = 0;
	if ((!cJSON_IsObject(v) && !cJSON_IsArray(v)) || !v->child) {
		cJSON_AddItemToObject(flat, at, cJSON_Duplicate(v, true));
		return;
	}
	cJSON_ArrayForEach(m, v) {
		char number[16];
		snprintf(number, sizeof number, "%d", i++);
		wasd_json_pointer(below, sizeof below, at, cJSON_IsArray(v) ? number : m->string);
		flatten(flat, below, m);
	}
}

cJSON *client_flat_spec(const cJSON *job)
{
	char path[80];
	const cJSON *m;
	cJSON *flat = cJSON_CreateObject();
	cJSON_ArrayForEach(m, job) {
		snprintf(path, sizeof path, "/%.60s", m->string);
		if (strlen(m->string) <= 60 && wasd_spec_at(path))
			flatten(flat, path, m);
	}
	return flat;
}

/* ---- a daemon that restarts ---- */

static void pause_ms(int ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

cJSON *client_patient(const char *command, const char *given, const char *head)
{
	const struct client_call call = {.head = head, .quiet = true};
	for (int64_t end = wasd_mono_us() + CLIENT_RESTART_S * 1000000LL; wasd_mono_us() < end; pause_ms(200)) {
		char where[CLIENT_WHERE], *url = client_url(given);
		int status = 0, fd = url ? client_send(url, &call, where) : -1;
		cJSON *o = fd < 0 ? NULL : client_receive(fd, &status);
		wasd_free(url);
		if (status / 100 == 2)
			return o;
		cJSON_Delete(o);
		if (status && status != 503)
			break; /* client_json prints the reason */
	}
	char *url = client_url(given);
	cJSON *o = url ? client_json(command, url, head, NULL) : NULL;
	wasd_free(url);
	return o;
}

/* ---- lines ---- */

enum { LINE_MAX = 8 << 20 };

int client_lines_open(struct client_lines *l, const char *url, const char *head, const char *headers)
{
	char where[CLIENT_WHERE], *line;
	const struct client_call call = {.head = head, .headers = headers, .quiet = true};
	*l = (struct client_lines){.fd = client_send(url, &call, where), .in.max = LINE_MAX};
	l->over = l->fd < 0;
	for (bool first = true; !l->over && (line = client_lines_next(l, CLIENT_PATIENCE_S * 1000)); first = false) {
		if (first && strncmp(line, "HTTP/1.", 7))
			break;
		if (first)
			l->status = atoi(line + 9);
		if (!*line)
			return l->status;
	}
	l->status = 0;
	l->over = true;
	return 0;
}

char *client_lines_next(struct client_lines *l, int wait_ms)
{
	char piece[16384], *line, *end;
	for (;;) {
		line = l->in.data + l->taken;
		end = l->in.len > l->taken ? memchr(line, '\n', l->in.len - l->taken) : NULL;
		if (end) {
			l->taken = (size_t)(end + 1 - l->in.data);
			*end = 0;
			if (end > line && end[-1] == '\r')
				end[-1] = 0;
			return line;
		}
		if (l->taken) {
			memmove(l->in.data, l->in.data + l->taken, l->in.len - l->taken);
			l->in.len -= l->taken;
			l->taken = 0;
		}
		if (l->over || poll(&(struct pollfd){l->fd, POLLIN, 0}, 1, wait_ms) <= 0)
			return NULL;
		ssize_t r = read(l->fd, piece, sizeof piece);
		if (r <= 0 || !wasd_buf_append(&l->in, piece, (size_t)r))
			l->over = true;
	}
}

void client_lines_close(struct client_lines *l)
{
	if (l->fd >= 0)
		close(l->fd);
	wasd_buf_done(&l->in);
	*l = (struct client_lines){.fd = -1, .over = true};
}

bool client_event_next(struct client_lines *l, struct client_event *e, int wait_ms)
{
	char *line;
	if (e->whole)
		client_event_done(e);
	while ((line = client_lines_next(l, wait_ms))) {
		if (!strncmp(line, "id: ", 4))
			e->coming = strtoll(line + 4, NULL, 10);
		else if (!strncmp(line, "event: ", 7))
			snprintf(e->type, sizeof e->type, "%s", line + 7);
		else if (!strncmp(line, "data: ", 6) && !e->data)
			wasd_json_parse(line + 6, strlen(line + 6), (struct wasd_json_limits){LINE_MAX, 32, 600000}, &e->data,
			                NULL);
		else if (!*line && e->data) {
			e->id = e->coming;
			e->whole = true;
			return true;
		}
	}
	return false;
}

void client_event_done(struct client_event *e)
{
	cJSON_Delete(e->data);
	*e = (struct client_event){.id = e->id};
}
