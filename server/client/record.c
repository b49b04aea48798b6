/* record.c - see record.h. */
#include "client/record.h"

#include "client/client.h"
#include "client/remote.h"

#include "wasd/json.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool client_ids_ok(const char *command, const struct client_list *ids, size_t least, const char *what, const char *give)
{
	for (size_t i = 0; i < ids->n; i++)
		if (!client_word_ok(ids->items[i])) {
			fprintf(stderr, "wasd %s: \"%s\" is not the id of %s\n", command, ids->items[i], what);
			return false;
		}
	if (ids->n < least)
		fprintf(stderr, "wasd %s: give %s\n", command, give);
	return ids->n >= least;
}

static void show(const struct client_record_kind *k, const cJSON *m)
{
	char done[CLIENT_NUMBER], of[CLIENT_NUMBER];
	const cJSON *p = wasd_json_get(m, "progress");
	fprintf(stderr, "\r\033[K%s", client_text(m, "state"));
	if (p)
		fprintf(stderr, " %s of %s %s", client_number(p, "done", 1, 0, done), client_number(p, "of", 1, 0, of),
		        k->units);
}

bool client_record_ready(const cJSON *m)
{
	return !strcmp(client_text(m, "state"), "ready");
}

static bool is_over(const cJSON *m)
{
	return client_record_ready(m) || !strcmp(client_text(m, "state"), "failed");
}

cJSON *client_record_follow(const struct client_record_kind *k, const char *url, cJSON *m)
{
	char line[200];
	const bool shows = isatty(STDERR_FILENO);
	if (!m)
		return NULL;
	snprintf(line, sizeof line, "GET %s/%.80s?wait=%ds", k->path, client_text(m, "id"), k->wait_s);
	while (m && !is_over(m) && !(k->stop && k->stop())) {
		if (shows)
			show(k, m);
		cJSON_Delete(m);
		m = client_json(k->command, url, line, NULL);
	}
	if (shows)
		fprintf(stderr, "\r\033[K");
	if (m && is_over(m))
		return m;
	cJSON_Delete(m);
	return NULL;
}
