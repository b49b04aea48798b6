/* command.c - reads the arguments of a command by its descriptor, and prints its help. */
#include "client/command.h"
#include "client/client.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 110 };

/* ---- finding a command ---- */

const struct client_command *client_command_find(int argc, char **argv, int *words)
{
	for (const struct client_command *const *c = client_commands; *c; c++) {
		const char *name = (*c)->name, *second = strchr(name, ' ');
		size_t n = second ? (size_t)(second - name) : strlen(name);
		if (argc < 1 + (second != NULL) || strlen(argv[0]) != n || strncmp(argv[0], name, n))
			continue;
		if (second && strcmp(argv[1], second + 1))
			continue;
		*words = 1 + (second != NULL);
		return *c;
	}
	return NULL;
}

bool client_command_group(const char *name)
{
	size_t n = strlen(name);
	for (const struct client_command *const *c = client_commands; *c; c++)
		if (!strncmp((*c)->name, name, n) && (*c)->name[n] == ' ')
			return true;
	return false;
}

/* ---- reading arguments ---- */

static const struct client_row *row_of(const struct client_command *c, const char *arg, size_t n)
{
	for (const struct client_row *r = c->rows; r && r->name; r++)
		if ((strlen(r->name) == n && !strncmp(arg, r->name, n)) || (r->brief && n == 2 && arg[1] == r->brief))
			return r;
	return NULL;
}

static bool list_add(struct client_list *l, const char *item)
{
	if (l->n < CLIENT_LIST_MAX)
		l->items[l->n++] = item;
	return l->n < CLIENT_LIST_MAX;
}

/* Reads argv[i], and its value. Returns how many arguments that were; 0 after a message. */
static int read_option(const struct client_command *c, int argc, char **argv, int i, char *options)
{
	const char *eq = argv[i][1] == '-' ? strchr(argv[i], '=') : NULL;
	const struct client_row *r = row_of(c, argv[i], eq ? (size_t)(eq - argv[i]) : strlen(argv[i]));
	const char *value = eq ? eq + 1 : r && r->kind != CLIENT_FLAG && i + 1 < argc ? argv[i + 1] : NULL;
	if (!r || (r->kind == CLIENT_FLAG && eq)) {
		client_misused(c, r ? "%s takes no value" : "unexpected argument %s", argv[i]);
		return 0;
	}
	if (r->kind == CLIENT_FLAG) {
		*(bool *)(options + r->at) = true;
		return 1;
	}
	if (!value) {
		client_misused(c, "%s needs a value", argv[i]);
		return 0;
	}
	if (r->kind == CLIENT_VALUE)
		*(const char **)(options + r->at) = value;
	else if (!list_add((struct client_list *)(options + r->at), value)) {
		client_misused(c, "%s stands there too often", r->name);
		return 0;
	}
	return eq ? 1 : 2;
}

int client_parse(const struct client_command *c, int argc, char **argv, void *options)
{
	char *at = options;
	struct client_list *words = c->max_words && !c->words_plain ? (struct client_list *)(at + c->words_at) : NULL;
	const char **plain_words = c->words_plain ? (const char **)(at + c->words_at) : NULL;
	size_t have = 0;
	bool plain = false; /* after "--" */
	for (int i = 0; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			client_help(stdout, c);
			return CLIENT_OK;
		}
	for (int i = 0, n; i < argc; i += n) {
		n = 1;
		if (!plain && !strcmp(argv[i], "--")) {
			plain = true;
		} else if (!plain && argv[i][0] == '-' && argv[i][1]) {
			n = read_option(c, argc, argv, i, at);
			if (!n)
				return CLIENT_USAGE;
		} else if (have == c->max_words || (words && !list_add(words, argv[i]))) {
			return client_misused(c, "unexpected argument %s", argv[i]);
		} else {
			if (plain_words)
				plain_words[have] = argv[i];
			have++;
		}
	}
	return -1;
}

int client_misused(const struct client_command *c, const char *fmt, ...)
{
	va_list ap;
	fprintf(stderr, "wasd %s: ", c->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\n\n", stderr);
	client_help(stderr, c);
	return CLIENT_USAGE;
}

/* ---- help ---- */

void client_wrap(FILE *f, const char *text, int at, int indent, int columns)
{
	bool first = true; /* in its line */
	for (const char *p = text; *p;) {
		int n = (int)strcspn(p, " \n");
		if (!first && n) {
			bool fits = at + 1 + n <= columns;
			fprintf(f, "%s%*s", fits ? " " : "\n", fits ? 0 : indent, "");
			at = fits ? at + 1 : indent;
		}
		fprintf(f, "%.*s", n, p);
		at += n;
		p += n;
		first = *p == '\n';
		if (first && p[1])
			at = fprintf(f, "\n%*s", p[1] == '\n' ? 0 : indent, "") - 1;
		p += *p != 0;
	}
	fputc('\n', f);
}

const char *client_statuses(const struct client_command *c)
{
	return c->statuses ? c->statuses : "0 done, 1 refused or no daemon, 2 wrong usage";
}

static void option_name(char out[80], const struct client_row *r)
{
	char brief[8] = "";
	if (r->brief)
		snprintf(brief, sizeof brief, "-%c, ", r->brief);
	snprintf(out, 80, "%s%s%s%s", brief, r->name, r->value ? " " : "", r->value ? r->value : "");
}

static void print_usage(FILE *f, const struct client_command *c)
{
	char part[120];
	int at = fprintf(f, "usage: wasd %s%s%s", c->name, *c->arguments ? " " : "", c->arguments), indent = 12;
	for (const struct client_row *r = c->rows; r && r->name; r++) {
		int n = snprintf(part, sizeof part, "[%s%s%s]%s", r->name, r->value ? " " : "", r->value ? r->value : "",
		                 r->kind == CLIENT_LIST ? "..." : "");
		if (at + 1 + n > COLUMNS)
			at = fprintf(f, "\n%*s%s", indent, "", part) - 1;
		else
			at += fprintf(f, " %s", part);
	}
	fputc('\n', f);
}

void client_help(FILE *f, const struct client_command *c)
{
	char name[80];
	int width = 0;
	print_usage(f, c);
	fputc('\n', f);
	client_wrap(f, c->text, 0, 0, COLUMNS);
	for (const struct client_row *r = c->rows; r && r->name; r++) {
		option_name(name, r);
		if ((int)strlen(name) > width)
			width = (int)strlen(name);
	}
	for (const struct client_row *r = c->rows; r && r->name; r++) {
		option_name(name, r);
		fprintf(f, "  %-*s  ", width, name);
		client_wrap(f, r->text, width + 4, width + 4, COLUMNS);
	}
	fprintf(f, "Exit status: ");
	client_wrap(f, client_statuses(c), 13, 13, COLUMNS);
	if (c->example)
		fputc('\n', f);
	for (const char *p = c->example; p && *p; p += strcspn(p, "\n"), p += *p == '\n')
		fprintf(f, "  %.*s\n", (int)strcspn(p, "\n"), p);
}
