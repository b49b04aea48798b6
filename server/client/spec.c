/* spec.c - `wasd spec`: the members of a job spec, from the table that the daemon checks specs by. Needs no daemon. */
#include "client/client.h"

#include "wasd/spec.h"

#include <stdio.h>
#include <string.h>

static void usage(FILE *f)
{
	fprintf(
		f,
		"usage: wasd spec [MEMBER] [--json]\n"
		"\n"
		"Lists the members of a job spec (the body of POST /v1/jobs) with defaults and values; N stands for the items of\n"
		"a list. Options of networks, optimizers and the like are in GET /v1/capabilities.\n"
		"  MEMBER  only this member and those below it: train, or /was/probability\n"
		"  --json  as GET /v1/capabilities has it\n");
}

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

int client_spec(int argc, char **argv)
{
	const char *member = NULL;
	bool json = false, help = false;
	const struct client_option known[] = {{"--json", NULL, &json}, {"--help", NULL, &help}, {"-h", NULL, &help}};
	if (!client_options("spec", argc, argv, known, sizeof known / sizeof *known, &member, 1))
		return 2;
	if (help) {
		usage(stdout);
		return 0;
	}
	cJSON *list = wasd_spec_to_json();
	keep_below(list, member ? member : "");
	int status = list ? 0 : 1;
	if (list && !list->child) {
		fprintf(stderr, "wasd spec: a job spec has no member %s; wasd spec lists all\n", member);
		status = 2;
	} else if (list) {
		status = print(list, json);
	}
	cJSON_Delete(list);
	return status;
}
