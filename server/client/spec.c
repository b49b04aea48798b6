/* spec.c - `wasd spec`: the members of a job spec, from the table that the daemon checks specs by. Needs no daemon. */
#include "client/client.h"
#include "client/commands.h"

#include "wasd/spec.h"

#include <stdio.h>
#include <string.h>

/* Whether path is that of the member `want`, with or without its first slash, or below it. */
static bool is_below(const char *path, const char *want)
{
	size_t n = strlen(want);
	path += *want != '/';
	return !n || (!strncmp(path, want, n) && (!path[n] || path[n] == '/'));
}

static void print_member(const char *path)
{
	char range[WASD_FIELD_RANGE];
	const struct wasd_field *f = wasd_spec_at(path);
	wasd_field_range(f, range);
	printf("%s\n    %s%s%s%s\n    %s\n", path, range, f->required ? "; required" : "", f->def ? "; default " : "",
	       f->def ? f->def : "", f->summary);
}

/* Takes the members that are not wanted out of the list. */
static void keep_below(cJSON *list, const char *want)
{
	for (cJSON *j = list ? list->child : NULL, *next; j; j = next) {
		const char *path = "";
		next = j->next;
		wasd_json_str(j, "path", &path);
		if (!is_below(path, want))
			cJSON_Delete(cJSON_DetachItemViaPointer(list, j));
	}
}

static int print(cJSON *list, bool json)
{
	const cJSON *j;
	const char *path;
	if (!json)
		cJSON_ArrayForEach(j, list)
			if (wasd_json_str(j, "path", &path))
				print_member(path);
	char *text = json ? wasd_json_print(list) : NULL;
	if (text)
		puts(text);
	wasd_free(text);
	return json && !text;
}

struct options {
	const char *member;
	bool json;
};

static int run_spec(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_parse(&client_command_spec, argc, argv, &o);
	if (rc >= 0)
		return rc;
	cJSON *list = wasd_spec_to_json();
	keep_below(list, o.member ? o.member : "");
	int status = list ? 0 : 1;
	if (list && !list->child) {
		fprintf(stderr, "wasd spec: a job spec has no member %s; wasd spec lists all\n", o.member);
		status = 2;
	} else if (list) {
		status = print(list, o.json);
	}
	cJSON_Delete(list);
	return status;
}

static const struct client_row spec_rows[] = {
	{"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json), "as GET /v1/capabilities has it", NULL},
	{0},
};
const struct client_command client_command_spec = {
	.name = "spec",
	.arguments = "[MEMBER]",
	.summary = "list the members of a job spec; needs no daemon",
	.text =
		"Lists the members of a job spec (the body of POST /v1/jobs) with defaults and values; N stands for the items of a list. MEMBER: only this member and those below it, train or /was/probability. Options of networks, optimizers and the like are in GET /v1/capabilities.",
	.words_at = offsetof(struct options, member),
	.max_words = 1,
	.words_plain = true,
	.statuses = "0 printed, 2 no such member or wrong usage",
	.example = "wasd spec train",
	.run = run_spec,
	.rows = spec_rows,
};
