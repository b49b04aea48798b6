/* man.c - `wasd man`: the manual pages, and `wasd help`: the list of commands or the help of one. Both are printed from
 * the table of commands. */
#include "client/client.h"
#include "client/commands.h"

#include "wasd/base.h"

#include <errno.h>
#include <string.h>

struct options {
	struct client_list words;
	const char *all;
};

/* ---- roff ---- */

/* Text with what roff would interpret escaped. An empty line begins a paragraph. */
static void roff(FILE *f, const char *text)
{
	bool first = true; /* in its line */
	for (const char *p = text; *p; p++) {
		if (first && (*p == '.' || *p == '\''))
			fputs("\\&", f);
		if (*p == '-')
			fputs("\\-", f);
		else if (*p == '\\')
			fputs("\\e", f);
		else if (*p == '\n' && p[1])
			fputs(p[1] == '\n' ? "\n.PP" : "\n.br\n", f);
		else if (*p != '\n')
			fputc(*p, f);
		else
			break;
		first = *p == '\n';
	}
	fputc('\n', f);
}

/* wasd-data-add */
static void page_name(const char *command, char out[80])
{
	snprintf(out, 80, "wasd%s%.60s", *command ? "-" : "", command);
	for (char *p = out; *p; p++)
		if (*p == ' ')
			*p = '-';
}

static void head(FILE *f, const char *page, const char *summary)
{
	char title[80];
	size_t i = 0;
	for (; page[i] && i < sizeof title - 1; i++)
		title[i] = page[i] >= 'a' && page[i] <= 'z' ? page[i] - 32 : page[i];
	title[i] = 0;
	fputs(".TH ", f);
	fprintf(f, "\"%s\" 1 \"\" \"wasd %s\" \"User Commands\"\n.SH NAME\n", title, WASD_VERSION);
	fprintf(f, "%s \\- ", page);
	roff(f, summary);
}

static void option(FILE *f, const struct client_row *r)
{
	fputs(".TP\n", f);
	if (r->brief)
		fprintf(f, "\\fB\\-%c\\fR, ", r->brief);
	fputs("\\fB", f);
	for (const char *p = r->name; *p; p++)
		fputs(*p == '-' ? "\\-" : (char[]){*p, 0}, f);
	fprintf(f, "\\fR%s%s%s%s\n", r->value ? " \\fI" : "", r->value ? r->value : "", r->value ? "\\fR" : "",
	        r->kind == CLIENT_LIST ? " (may be repeated)" : "");
	roff(f, r->text);
}

static void print_page(FILE *f, const struct client_command *c)
{
	char page[80];
	page_name(c->name, page);
	head(f, page, c->summary);
	fprintf(f, ".SH SYNOPSIS\n\\fBwasd %s\\fR ", c->name);
	if (*c->arguments) {
		fputs("\\fI", f);
		roff(f, c->arguments);
		fputs("\\fR", f);
	}
	fputs(c->rows ? "[\\fIoptions\\fR]\n" : "\n", f);
	fputs(".SH DESCRIPTION\n", f);
	roff(f, c->text);
	if (c->rows)
		fputs(".SH OPTIONS\n", f);
	for (const struct client_row *r = c->rows; r && r->name; r++)
		option(f, r);
	fputs(".SH EXIT STATUS\n", f);
	roff(f, client_statuses(c));
	if (c->example) {
		fputs(".SH EXAMPLES\n.nf\n", f);
		for (const char *p = c->example; *p; p += strcspn(p, "\n"), p += *p == '\n') {
			char line[300];
			snprintf(line, sizeof line, "%.*s", (int)strcspn(p, "\n"), p);
			roff(f, line);
		}
		fputs(".fi\n", f);
	}
	fputs(".SH SEE ALSO\n.BR wasd (1)\n", f);
}

static void print_overview(FILE *f)
{
	char page[80];
	head(f, "wasd", "train image classifiers with weight augmentation, and serve them");
	fputs(".SH SYNOPSIS\n\\fBwasd\\fR \\fICOMMAND\\fR [\\fIarguments\\fR]\n.SH DESCRIPTION\n", f);
	roff(
		f,
		"wasd serve is a daemon that trains image classifiers and serves them; the other commands use a running daemon, or "
		"the engine without one. The reference is at /docs of the daemon.");
	fputs(".SH COMMANDS\n", f);
	for (const struct client_command *const *c = client_commands; *c; c++) {
		page_name((*c)->name, page);
		fprintf(f, ".TP\n\\fBwasd %s\\fR (see ", (*c)->name);
		for (const char *p = page; *p; p++)
			fputs(*p == '-' ? "\\-" : (char[]){*p, 0}, f);
		fputs("(1))\n", f);
		roff(f, (*c)->summary);
	}
	fputs(".SH ENVIRONMENT\n.TP\n\\fBWASD_URL\\fR\n", f);
	roff(f, "address of the daemon, for commands without --url");
	fputs(".SH FILES\n.TP\n\\fI./var/wasd.addr\\fR, \\fI./var/data/wasd.addr\\fR\n", f);
	roff(f, "where a running daemon has written its address; looked up without --url and WASD_URL");
}

/* ---- the commands ---- */

static int write_all(const char *folder)
{
	struct wasd_err err;
	if (wasd_mkdirs(folder, &err) != WASD_OK) {
		fprintf(stderr, "wasd man: %s\n", err.msg);
		return CLIENT_FAILED;
	}
	const struct client_command *const *c = client_commands;
	for (bool overview = true;; overview = false) {
		char page[80];
		page_name(overview ? "" : (*c)->name, page);
		char *path = wasd_asprintf("%s/%s.1", folder, page);
		FILE *f = path ? fopen(path, "w") : NULL;
		if (f && overview)
			print_overview(f);
		else if (f)
			print_page(f, *c);
		bool ok = f && !fclose(f);
		if (!ok)
			fprintf(stderr, "wasd man: %s: %s\n", path ? path : folder, strerror(errno));
		wasd_free(path);
		if (!ok)
			return CLIENT_FAILED;
		if (!overview)
			c++;
		if (!*c)
			return CLIENT_OK;
	}
}

static const struct client_command *named(const struct client_command *self, const struct client_list *words)
{
	int used = 0;
	const struct client_command *c = client_command_find((int)words->n, (char **)(void *)words->items, &used);
	if (c && used == (int)words->n)
		return c;
	client_misused(self, "there is no command %s%s%s", words->items[0], words->n > 1 ? " " : "",
	               words->n > 1 ? words->items[1] : "");
	return NULL;
}

static int run_man(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_parse(&client_command_man, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (o.all)
		return o.words.n ? client_misused(&client_command_man, "give a command or --all, not both") : write_all(o.all);
	const struct client_command *c = o.words.n ? named(&client_command_man, &o.words) : NULL;
	if (o.words.n && !c)
		return CLIENT_USAGE;
	if (c)
		print_page(stdout, c);
	else
		print_overview(stdout);
	return CLIENT_OK;
}

static const struct client_row man_rows[] = {
	{"--all", 0, "FOLDER", CLIENT_VALUE, offsetof(struct options, all),
     "write every page into this folder, as wasd-COMMAND.1", "@files"},
	{0},
};
const struct client_command client_command_man = {
	.name = "man",
	.arguments = "[COMMAND]",
	.summary = "print a manual page as roff",
	.text = "Prints the manual page of a command, or of wasd, for man -l or mandoc. make install installs them.",
	.rows = man_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 2,
	.offers = "@commands",
	.statuses = "0 printed, 1 a file cannot be written, 2 wrong usage",
	.example = "wasd man submit | man -l -",
	.run = run_man,
};

void client_list_commands(FILE *f)
{
	int width = 0;
	for (const struct client_command *const *c = client_commands; *c; c++) {
		int n = (int)(strlen((*c)->name) + strlen((*c)->arguments));
		width = n > width ? n : width;
	}
	for (const struct client_command *const *c = client_commands; *c; c++)
		fprintf(f, "  wasd %s %-*s  %s\n", (*c)->name, width - (int)strlen((*c)->name), (*c)->arguments, (*c)->summary);
}

static int run_help(int argc, char **argv)
{
	struct options o = {0};
	int rc = client_parse(&client_command_help, argc, argv, &o);
	if (rc >= 0)
		return rc;
	const struct client_command *c = o.words.n ? named(&client_command_help, &o.words) : NULL;
	if (o.words.n && !c)
		return CLIENT_USAGE;
	if (c) {
		client_help(stdout, c);
		return CLIENT_OK;
	}
	fputs("usage: wasd COMMAND ...\n\n", stdout);
	client_list_commands(stdout);
	fputs("\nwasd COMMAND --help explains a command; wasd serve --help lists the settings of the daemon.\n", stdout);
	return CLIENT_OK;
}

const struct client_command client_command_help = {
	.name = "help",
	.arguments = "[COMMAND]",
	.summary = "list the commands, or explain one",
	.text = "Lists the commands; with COMMAND prints what COMMAND --help prints.",
	.words_at = offsetof(struct options, words),
	.max_words = 2,
	.offers = "@commands",
	.statuses = "0 printed, 2 wrong usage",
	.example = "wasd help submit",
	.run = run_help,
};
