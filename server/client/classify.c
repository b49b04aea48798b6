/* classify.c - `wasd classify`: the classes of image files, in one mode or in several beside each other. */
#include "client/client.h"
#include "client/commands.h"

#include "wasd/base.h"
#include "wasd/json.h"
#include "wasd/mode.h"

#include <stdio.h>
#include <string.h>

enum { MODES_MAX = 8, FILES_MAX = 1000, FILE_BYTES = 16 << 20, FILE_WIDTH = 28, CLASS_WIDTH = 16 };

struct options {
	const char *words[1 + FILES_MAX + 1]; /* NAME, FILE..., NULL */
	const char *k, *mode, *url;
	bool json, asked; /* asked: --compare was there */
	char compare[MODES_MAX][WASD_MODE_LEN];
	int compared; /* 0: only one mode answers */
};

/* What is told after the last file. */
struct totals {
	int images, agree;
	double macs[MODES_MAX];
};

/* ---- arguments ---- */

/* Reads "aom,dom:fast": two or more names of modes. */
static bool read_modes(struct options *o, const char *list)
{
	int n = 0;
	for (const char *at = list;; at++) {
		size_t len = strcspn(at, ",");
		if (n == MODES_MAX || len >= WASD_MODE_LEN)
			return false;
		snprintf(o->compare[n], WASD_MODE_LEN, "%.*s", (int)len, at);
		if (!wasd_mode_ok(o->compare[n++]))
			return false;
		at += len;
		if (!*at)
			break;
	}
	o->compared = n > 1 ? n : 0;
	return n > 1;
}

/* Takes --compare, and the list of modes after it if that is one, out of argv. Returns the new argc. */
static int take_compare(struct options *o, int argc, char **argv)
{
	int kept = 0;
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--compare")) {
			argv[kept++] = argv[i];
		} else if (i + 1 < argc && read_modes(o, argv[i + 1])) {
			i++;
		} else {
			read_modes(o, WASD_MODE_AOM ",dom");
		}
	}
	return kept;
}

static bool check_options(void *options)
{
	struct options *o = options;
	const char *fault = NULL;
	if (!o->words[0] || !client_word_ok(o->words[0]))
		fault = o->words[0] ? "the first argument is not the name of a deployment" : "give the name of a deployment";
	else if (!o->words[1])
		fault = "give at least one file";
	else if (o->mode && o->compared)
		fault = "give --mode or --compare, not both";
	else if ((o->mode && !client_word_ok(o->mode)) || (o->k && !client_word_ok(o->k)))
		fault = "-k must be a number, --mode the name of a mode";
	if (fault)
		fprintf(stderr, "wasd classify: %s\n", fault);
	return !fault;
}

/* ---- asking ---- */

/* The answers of all modes to one file; NULL after a message if one of them failed. */
static cJSON *ask(const struct options *o, const char *url, const char *file)
{
	char head[400], *data = NULL;
	size_t len = 0;
	struct wasd_err err = {0};
	const char *k = o->k ? o->k : o->words[2] ? "1" : "5";
	if (wasd_file_read(file, FILE_BYTES, &data, &len, &err) != WASD_OK) {
		fprintf(stderr, "wasd classify: %s\n", err.msg);
		return NULL;
	}
	cJSON *answers = cJSON_CreateArray();
	for (int i = 0; answers && (i < o->compared || i == 0); i++) {
		const char *mode = o->compared ? o->compare[i] : o->mode;
		snprintf(head, sizeof head, "POST /v1/deployments/%.100s/classify?k=%.100s%s%s", o->words[0], k,
		         mode ? "&mode=" : "", mode ? mode : "");
		cJSON *one = client_upload("classify", file, url, head, "application/octet-stream", data, len);
		if (!one || !cJSON_AddItemToArray(answers, one)) {
			cJSON_Delete(answers);
			answers = NULL;
		}
	}
	wasd_free(data);
	return answers;
}

/* ---- the table ---- */

/* Rank `n` of an answer's classes, or NULL. */
static const cJSON *ranked(const cJSON *answer, int n)
{
	const cJSON *results = wasd_json_get(answer, "results");
	return cJSON_GetArrayItem(wasd_json_get(results ? results->child : NULL, "top"), n);
}

static bool agree(const cJSON *answers)
{
	int64_t first = -1, index = -1;
	const cJSON *a;
	wasd_json_i64(ranked(answers->child, 0), "index", &first);
	cJSON_ArrayForEach(a, answers)
		if (!wasd_json_i64(ranked(a, 0), "index", &index) || index != first)
			return false;
	return true;
}

static void print_head(const struct options *o)
{
	client_cell("FILE", FILE_WIDTH);
	for (int i = 0; i < o->compared; i++)
		client_cell(o->compare[i], CLASS_WIDTH + 7);
	puts(o->compared ? "" : "CLASS            PROBABILITY  MODE");
}

static void print_file(const struct options *o, const char *file, const cJSON *answers)
{
	char p[CLIENT_NUMBER];
	for (int n = 0; ranked(answers->child, n); n++) {
		const cJSON *a;
		client_cell(n ? "" : file, FILE_WIDTH);
		cJSON_ArrayForEach(a, answers) {
			client_cell(client_text(ranked(a, n), "label"), CLASS_WIDTH);
			printf("%*s ", o->compared ? 6 : 11, client_number(ranked(a, n), "p", 1, 4, p));
		}
		if (!o->compared)
			printf(" %s", client_text(answers->child, "mode"));
		puts(!n && o->compared && !agree(answers) ? " differ" : "");
	}
}

/* The version and generation are those of the last answer. */
static void print_totals(const struct options *o, const struct totals *t, const cJSON *last)
{
	char version[CLIENT_NUMBER], generation[CLIENT_NUMBER];
	printf("%s, version %s, generation %s; multiply-adds per image:", o->words[0],
	       client_number(last, "version", 1, 0, version), client_number(last, "generation", 1, 0, generation));
	for (int i = 0; i < o->compared || i == 0; i++) {
		printf("%s%s%s %.0f", i ? "," : "", o->compared ? " " : "", o->compared ? o->compare[i] : "",
		       t->macs[i] / t->images);
		if (i && t->macs[0] > 0)
			printf(" (%.1f %%)", 100 * t->macs[i] / t->macs[0]);
	}
	puts("");
	if (o->compared)
		printf("the modes agree on %d of %d images (%.1f %%)\n", t->agree, t->images, 100.0 * t->agree / t->images);
}

static void count(struct totals *t, const cJSON *answers)
{
	double macs;
	int i = 0;
	t->images++;
	t->agree += agree(answers);
	for (const cJSON *a = answers->child; a && i < MODES_MAX; a = a->next, i++)
		t->macs[i] += wasd_json_num(a, "macs", &macs) ? macs : 0;
}

/* ---- the command ---- */

/* Takes items. */
static int print_all(const struct options *o, cJSON *items, const struct totals *t)
{
	cJSON *all = cJSON_CreateObject();
	int rc = CLIENT_FAILED;
	if (!cJSON_AddItemToObject(all, "items", items))
		cJSON_Delete(items);
	else if (cJSON_AddNumberToObject(all, "images", t->images) &&
	         (!o->compared || cJSON_AddNumberToObject(all, "agree", t->agree)))
		rc = client_print_json(all);
	cJSON_Delete(all);
	return rc;
}

/* Keeps the answers with their file's name; takes them. */
static bool keep(cJSON *items, const char *file, cJSON *answers)
{
	cJSON *one = cJSON_CreateObject();
	if (!cJSON_AddItemToObject(one, "answers", answers)) {
		cJSON_Delete(answers);
	} else if (cJSON_AddStringToObject(one, "file", file) && cJSON_AddItemToArray(items, one)) {
		return true;
	}
	cJSON_Delete(one);
	return false;
}

/* Takes items. */
static int run(const struct options *o, const char *url, cJSON *items)
{
	struct totals t = {0};
	const cJSON *last = NULL;
	int rc = CLIENT_OK;
	for (const char *const *file = o->words + 1; *file; file++) {
		cJSON *answers = ask(o, url, *file);
		if (answers && keep(items, *file, answers)) {
			if (!o->json && !t.images)
				print_head(o);
			if (!o->json)
				print_file(o, *file, answers);
			count(&t, answers);
			last = answers->child;
		} else {
			rc = CLIENT_FAILED;
		}
	}
	if (!o->json && t.images)
		print_totals(o, &t, last);
	if (o->json)
		return print_all(o, items, &t) || rc ? CLIENT_FAILED : CLIENT_OK;
	cJSON_Delete(items);
	return rc;
}

static int run_classify(int argc, char **argv)
{
	static struct options o;
	argc = take_compare(&o, argc, argv);
	int rc = client_start(&client_command_classify, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	cJSON *items = url ? cJSON_CreateArray() : NULL;
	rc = items ? run(&o, url, items) : CLIENT_FAILED;
	wasd_free(url);
	return rc;
}

static const struct client_row classify_rows[] = {
	{"-k", 0, "N", CLIENT_VALUE, offsetof(struct options, k),
     "the N likeliest classes (default: 5 of one file, 1 of each of several)", NULL},
	{"--mode", 0, "MODE", CLIENT_VALUE, offsetof(struct options, mode),
     "mode to ask: aom, dom, slim or FAMILY:NAME (default: the deployment's)", "aom dom slim"},
	/* take_compare() reads it before the others, since its value may be left out. */
	{"--compare", 0, "[MODES]", CLIENT_FLAG, offsetof(struct options, asked),
     "ask several modes (default: aom,dom) and count how often they agree", "aom,dom"},
	{"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json),
     "print {\"items\":[{\"file\",\"answers\":[...]}],\"images\",\"agree\"}", NULL},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_classify = {
	.name = "classify",
	.arguments = "NAME FILE...",
	.summary = "classify images in one mode, or compare modes",
	.text = "Sends PNG and JPEG files to a deployment and prints their classes.",
	.words_at = offsetof(struct options, words),
	.max_words = 1 + FILES_MAX,
	.words_plain = true,
	.offers = "@deployments @files",
	.statuses = "0 all files classified, 1 a file was refused, 2 wrong usage",
	.example = "wasd classify reader cat.png dog.jpg --compare aom,dom:light",
	.run = run_classify,
	.rows = classify_rows,
};
