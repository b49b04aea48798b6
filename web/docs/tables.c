/* tables.c - the Markdown of a page of the reference, with what it takes from the program's own tables: `tables PAGE
 * <PAGE.md`. Runs when the reference is built, so that the page cannot fall behind.
 *
 *     @{/train/epochs}   two cells of a row: the default and the values of that member of the job spec
 *     @{/labels/NAME:}    its summary
 *     @{metrics}          the rows of the metrics of a run
 *     @{scraped}          the rows of the metrics of the daemon; @{scraped:triton}: those with Triton's names
 *
 * The pages errors and api get their list at the end. Fails at a name that no table has.
 */
#include "internal.h"
#include "metrics.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Text as it is: whatever Markdown reads as markup is escaped. */
static void put_text(const char *s)
{
	for (; *s; s++) {
		if (ispunct((unsigned char)*s))
			putchar('\\');
		putchar(*s);
	}
}

static void errors(void)
{
	for (const struct api_error_row *e = api_errors; e->code; e++) {
		printf("\n### %s\n\n%d · ", e->code, e->status);
		put_text(e->title);
		printf(". ");
		put_text(e->explanation);
		printf("\n");
	}
}

static const char *body_of(enum api_body body)
{
	static const char *const names[] = {[API_BODY_NONE] = "none",
	                                    [API_BODY_JSON] = "JSON, at most 256 KiB",
	                                    [API_BODY_BULK] = "at most 16 MiB",
	                                    [API_BODY_UPLOAD] = "streamed to disk"};
	return names[body];
}

static void routes(void)
{
	printf("\n| Route | What it does | Query parameters | Body |\n| --- | --- | --- | --- |\n");
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		printf("| `%s %s` | ", rt->method, rt->pattern);
		put_text(rt->summary);
		printf(rt->query ? " | `%s` | " : " | | ", rt->query);
		put_text(body_of(rt->body));
		printf(" |\n");
	}
}

/* ---- the job spec ------------------------------------------------------------------------------------------------ */

/* In a cell a bar would end it. */
static void put_cell(const char *s)
{
	for (; *s; s++)
		printf(*s == '|' ? "\\|" : "%c", *s);
}

static void put_member(const struct wasd_field *f)
{
	char range[WASD_FIELD_RANGE];
	if (f->required)
		printf("required");
	else if (f->def)
		printf("`%s`", f->def);
	printf(" | ");
	wasd_field_range(f, range);
	put_cell(range);
}

static void metrics(void)
{
	static const char *const per[] = {[WASD_EACH_EPOCH] = "epoch", [WASD_EACH_STEP] = "step", [WASD_SAMPLED] = "time"};
	const struct wasd_metric_kind *m;
	for (int i = 0; (m = wasd_metric_at(i)); i++) {
		printf("%s| `%s` | %s | ", i ? "\n" : "", m->name, per[m->when]);
		put_text(m->summary);
		printf(" | %s | %s |", m->less ? "min" : "max", m->goal ? "yes" : "");
	}
}

static void scraped(bool triton)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};
	bool first = true;
	for (const struct metric_row *row = metric_rows; row < metric_rows + METRICS; row++) {
		if (row->triton != triton)
			continue;
		printf("%s| `%s` | %s | ", first ? "" : "\n", row->name, types[row->type]);
		for (int i = 0; i < METRIC_LABELS_MAX && row->labels[i]; i++)
			printf("%s`%s`", i ? ", " : "", row->labels[i]);
		printf(" | ");
		put_text(row->help);
		printf(" |");
		first = false;
	}
}

static bool put_named(const char *name)
{
	bool known = true;
	char path[96];
	snprintf(path, sizeof path, "%.*s", (int)strcspn(name, ":"), name);
	const struct wasd_field *f = *name == '/' ? wasd_spec_at(path) : NULL;
	if (f && strchr(name, ':'))
		put_text(f->summary);
	else if (f)
		put_member(f);
	else if (!strcmp(name, "metrics"))
		metrics();
	else if (!strcmp(name, "scraped") || !strcmp(name, "scraped:triton"))
		scraped(strchr(name, ':') != NULL);
	else
		known = fprintf(stderr, "tables: no table has @{%s}\n", name) < 0;
	return known;
}

/* One line of the page. */
static bool put_line(char *line)
{
	bool ok = true;
	for (char *open, *end; (open = strstr(line, "@{")) && (end = strchr(open, '}')); line = end + 1) {
		*open = *end = 0;
		fputs(line, stdout);
		ok = put_named(open + 2) && ok;
	}
	fputs(line, stdout);
	return ok;
}

int main(int argc, char **argv)
{
	const char *page = argc == 2 ? argv[1] : "";
	char *line = NULL;
	size_t room = 0;
	bool ok = true;
	while (getline(&line, &room, stdin) > 0)
		ok = put_line(line) && ok;
	free(line);
	if (!strcmp(page, "errors"))
		errors();
	else if (!strcmp(page, "api"))
		routes();
	return fflush(stdout) || !ok;
}
