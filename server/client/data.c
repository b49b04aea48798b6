/* data.c - `wasd data add|ls|show|rm`: data sets. */
#include "client/client.h"
#include "client/commands.h"
#include "client/parcel.h"
#include "client/remote.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <string.h>
#include <unistd.h>

struct options {
	struct client_list words, set;
	const char *synthetic, *train, *test, *seed, *url;
	bool wait, json;
};

/* ---- printing ---- */

static void images(const cJSON *d, char out[80])
{
	char train[CLIENT_NUMBER], val[CLIENT_NUMBER], test[CLIENT_NUMBER];
	double n = 0;
	wasd_json_num(d, "val", &n);
	snprintf(out, 80, "%.20s train, %s%s%.20s test", client_number(d, "train", 1, 0, train),
	         n > 0 ? client_number(d, "val", 1, 0, val) : "", n > 0 ? " validation, " : "",
	         client_number(d, "test", 1, 0, test));
}

/* "3x32x32": channels, height, width. */
static void shape(const cJSON *d, char out[60])
{
	const cJSON *n;
	size_t at = 0;
	out[0] = 0;
	cJSON_ArrayForEach(n, wasd_json_get(d, "shape"))
		if (cJSON_IsNumber(n) && at < 40)
			at += (size_t)snprintf(out + at, 60 - at, "%s%.0f", at ? "x" : "", n->valuedouble);
	if (!at)
		snprintf(out, 60, "-");
}

static void print_set(const cJSON *d)
{
	char text[80], number[CLIENT_NUMBER];
	const cJSON *c, *classes = wasd_json_get(d, "classes");
	printf("%s, version %s, is %s\n", client_text(d, "name"), client_number(d, "version", 1, 0, number),
	       client_text(d, "state"));
	if (cJSON_IsString(wasd_json_get(d, "message"))) {
		printf("  message  ");
		client_say(client_text(d, "message"));
		putchar('\n');
	}
	if (!cJSON_IsArray(classes))
		return;
	images(d, text);
	printf("  images   %s\n", text);
	shape(d, text);
	printf("  shape    %s\n  classes  %d: ", text, cJSON_GetArraySize(classes));
	cJSON_ArrayForEach(c, classes) {
		client_say(cJSON_IsString(c) ? c->valuestring : "?");
		printf("%s", c->next ? ", " : "\n");
	}
	printf("  format   %s, %s bytes\n  digest   %s\n", client_text(d, "format"),
	       client_number(d, "bytes", 1, 0, number), client_text(d, "digest"));
}

/* Prints the set, or why it cannot be used. Frees d; NULL: a message was printed. */
static int report(const struct client_command *c, cJSON *d, bool json)
{
	int rc = d ? CLIENT_OK : CLIENT_FAILED;
	if (d && !strcmp(client_text(d, "state"), "invalid")) {
		fprintf(stderr, "wasd %s: %s cannot be used: %s\n", c->name, client_text(d, "name"), client_text(d, "message"));
		rc = CLIENT_FAILED;
	}
	if (d && json)
		client_print_json(d);
	else if (d && rc == CLIENT_OK)
		print_set(d);
	cJSON_Delete(d);
	return rc;
}

/* ---- add ---- */

/* Frees d. */
static cJSON *wait_scanned(const struct client_command *c, const char *given, const char *name, cJSON *d)
{
	char head[200];
	snprintf(head, sizeof head, "GET /v1/datasets/%.80s?wait=%ds", name, CLIENT_PATIENCE_S - 10);
	while (d && !strcmp(client_text(d, "state"), "scanning")) {
		cJSON_Delete(d);
		d = client_patient(c->name, given, head);
	}
	return d;
}

static cJSON *add_synthetic(const struct client_command *c, const struct options *o, const char *url)
{
	cJSON *in = cJSON_CreateObject(), *s, *v;
	cJSON_AddStringToObject(in, "name", o->words.items[0]);
	s = cJSON_AddObjectToObject(in, "synthetic");
	cJSON_AddStringToObject(s, "kind", o->synthetic);
	const char *const values[][2] = {{"train", o->train}, {"test", o->test}, {"seed", o->seed}};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		if (values[i][1] && wasd_json_parse(values[i][1], strlen(values[i][1]), WASD_JSON_REQUEST, &v, NULL) == WASD_OK)
			cJSON_AddItemToObject(s, values[i][0], v);
		else if (values[i][1])
			cJSON_AddStringToObject(s, values[i][0], values[i][1]); /* the daemon says what is wrong */
	char *body = wasd_json_print(in);
	cJSON *d = body ? client_json(c->name, url, "POST /v1/datasets", body) : NULL;
	cJSON_Delete(in);
	wasd_free(body);
	return d;
}

/* "?size=64&fit=crop" of --set; false after a message. */
static bool query_of(const struct client_command *c, const struct options *o, struct wasd_buf *head)
{
	for (size_t i = 0; i < o->set.n; i++) {
		const char *eq = strchr(o->set.items[i], '=');
		char *key = eq ? wasd_strndup(o->set.items[i], (size_t)(eq - o->set.items[i])) : NULL;
		if (!key) {
			client_misused(c, "--set %s is not KEY=VALUE", o->set.items[i]);
			return false;
		}
		wasd_buf_puts(head, i ? "&" : "?");
		client_escape(head, key);
		wasd_buf_puts(head, "=");
		client_escape(head, eq + 1);
		wasd_free(key);
	}
	return true;
}

static cJSON *add_files(const struct client_command *c, const struct options *o, const char *url)
{
	struct parcel p;
	struct wasd_err err = {0};
	struct wasd_buf head = {0};
	char where[CLIENT_WHERE];
	const char *name = o->words.items[0];
	cJSON *d = NULL;
	enum wasd_status s = parcel_pack(&p, o->words.items + 1, o->words.n - 1, name, &err);
	if (s == WASD_OK) {
		wasd_buf_printf(&head, p.kind == PARCEL_PARTS ? "POST /v1/datasets" : "PUT /v1/datasets/%s", name);
		struct client_call call = {.type = parcel_type(&p), .len = (size_t)p.bytes};
		int fd = -1;
		if (query_of(c, o, &head) && (call.head = wasd_buf_cstr(&head)))
			fd = client_send(url, &call, where);
		if (fd >= 0) {
			s = parcel_send(&p, fd, isatty(STDERR_FILENO), &err);
			if (s == WASD_OK || s == WASD_EBUSY)
				d = client_accept(c->name, NULL, where, fd);
			else
				close(fd);
		}
	}
	if (s != WASD_OK && s != WASD_EBUSY)
		fprintf(stderr, "wasd %s: %s\n", c->name, err.msg);
	wasd_buf_done(&head);
	parcel_done(&p);
	return d;
}

static int run_add(int argc, char **argv)
{
	const struct client_command *c = &client_command_data_add;
	struct options o = {0};
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.words.n || !client_word_ok(o.words.items[0]))
		return client_misused(c, o.words.n ? "%s is not a valid name" : "give a name",
		                      o.words.n ? o.words.items[0] : "");
	if ((o.words.n > 1) == (o.synthetic != NULL))
		return client_misused(c, "give files, or --synthetic");
	if (!o.synthetic && (o.train || o.test || o.seed))
		return client_misused(c, "--train, --test and --seed belong to --synthetic");
	if (o.synthetic && o.set.n)
		return client_misused(c, "--set belongs to files");
	char *url = client_url(o.url);
	cJSON *d = !url ? NULL : o.synthetic ? add_synthetic(c, &o, url) : add_files(c, &o, url);
	if (o.wait)
		d = wait_scanned(c, o.url, o.words.items[0], d);
	wasd_free(url);
	return report(c, d, o.json);
}

static const struct client_row add_rows[] = {
	{"--synthetic", 0, "KIND", CLIENT_VALUE, offsetof(struct options, synthetic), "make images instead: glyphs",
     "glyphs"},
	{"--train", 0, "N", CLIENT_VALUE, offsetof(struct options, train), "synthetic training images (default: 10000)",
     NULL},
	{"--test", 0, "N", CLIENT_VALUE, offsetof(struct options, test), "synthetic test images (default: 2000)", NULL},
	{"--seed", 0, "N", CLIENT_VALUE, offsetof(struct options, seed), "seed of synthetic images (default: 1)", NULL},
	{"--set", 's', "KEY=VALUE", CLIENT_LIST, offsetof(struct options, set),
     "an option of the upload: size=64, fit=squeeze|crop|crops, background=ffffff, orientation=keep, on_bad=skip, test_fraction=0.2, "
     "split_seed=7, names=cp1252",
     "size= fit= background= orientation= on_bad= test_fraction= split_seed= names="},
	{"--wait", 0, NULL, CLIENT_FLAG, offsetof(struct options, wait), "wait until it has been read", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_data_add = {
	.name = "data add",
	.arguments = "NAME [FILE...]",
	.summary = "add a data set, or a version of one",
	.text =
		"Registers a data set. FILE is an archive, a folder (of a folder per class, say), or the files of one set such as "
		"four IDX files. New bytes under a known name make a new version.",
	.rows = add_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 64,
	.offers = "@files",
	.statuses = "0 registered (with --wait: ready), 1 refused or unreadable, 2 wrong usage",
	.example = "wasd data add digits --synthetic glyphs --train 6000 --test 500 --wait\n"
			   "wasd data add photos photos/ --set size=64 --wait",
	.run = run_add,
};

/* ---- ls, show, rm ---- */

static int run_ls(int argc, char **argv)
{
	const struct client_command *c = &client_command_data_ls;
	struct options o = {0};
	const cJSON *d;
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	cJSON *all = url ? client_all(c->name, url, "/v1/datasets", "", 0) : NULL;
	if (all && o.json) {
		client_print_items(all);
	} else if (all) {
		printf("%-24s %7s %-9s %8s %8s %7s  %s\n", "NAME", "VERSION", "STATE", "TRAIN", "TEST", "CLASSES", "SHAPE");
		cJSON_ArrayForEach(d, all) {
			char version[CLIENT_NUMBER], train[CLIENT_NUMBER], test[CLIENT_NUMBER], size[60];
			shape(d, size);
			client_cell(client_text(d, "name"), 24);
			printf("%7s %-9s %8s %8s %7d  %s\n", client_number(d, "version", 1, 0, version), client_text(d, "state"),
			       client_number(d, "train", 1, 0, train), client_number(d, "test", 1, 0, test),
			       cJSON_GetArraySize(wasd_json_get(d, "classes")), size);
		}
		cJSON_Delete(all);
	}
	wasd_free(url);
	return all ? CLIENT_OK : CLIENT_FAILED;
}

static const struct client_row plain_rows[] = {CLIENT_ROW_JSON(struct options), CLIENT_ROW_URL(struct options), {0}};
const struct client_command client_command_data_ls = {
	.name = "data ls",
	.arguments = "",
	.summary = "list data sets",
	.text = "Lists the data sets, the latest version of each.",
	.rows = plain_rows,
	.example = "wasd data ls",
	.run = run_ls,
};

static int run_show(int argc, char **argv)
{
	const struct client_command *c = &client_command_data_show;
	struct options o = {0};
	char head[160];
	int rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.words.n || !client_word_ok(o.words.items[0]))
		return client_misused(c, "give the name of a data set");
	char *url = client_url(o.url);
	snprintf(head, sizeof head, "GET /v1/datasets/%.100s", o.words.items[0]);
	cJSON *d = url ? client_json(c->name, url, head, NULL) : NULL;
	if (d && o.json)
		client_print_json(d);
	else if (d)
		print_set(d);
	cJSON_Delete(d);
	wasd_free(url);
	return d ? CLIENT_OK : CLIENT_FAILED;
}

const struct client_command client_command_data_show = {
	.name = "data show",
	.arguments = "NAME",
	.summary = "show a data set",
	.text = "Shows the latest version of a data set: images, shape, classes, digest.",
	.rows = plain_rows,
	.words_at = offsetof(struct options, words),
	.max_words = 1,
	.offers = "@datasets",
	.example = "wasd data show digits",
	.run = run_show,
};
