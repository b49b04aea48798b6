/* compare.c - `wasd compare`: what differs between the specs of jobs, and their results beside each other. */
#include "client/client.h"
#include "client/commands.h"
#include "client/remote.h"

#include "wasd/base.h"
#include "wasd/json.h"
#include "wasd/spec.h"

#include <string.h>

enum { JOBS_MAX = 12, CELL_MAX = 40 };

struct options {
	struct client_list jobs;
	const char *url;
	bool all, json;
};

/* ---- specs as pointers ---- */

/* Whether one of the specs has a plain value above `pointer`: "was": false instead of an object. */
static bool is_below_value(cJSON *const *specs, int n, const char *pointer)
{
	char above[400];
	snprintf(above, sizeof above, "%s", pointer);
	for (char *slash; (slash = strrchr(above, '/')) && slash > above;) {
		*slash = 0;
		for (int k = 0; k < n; k++)
			if (cJSON_GetObjectItemCaseSensitive(specs[k], above))
				return true;
	}
	return false;
}

/* What the spec has at this pointer: a value, or, put together again, the object that another spec has no members of.
 */
static cJSON *value_at(const cJSON *spec, const cJSON *job, const char *pointer)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(spec, pointer);
	if (!v && !strchr(pointer + 1, '/'))
		v = wasd_json_get(job, pointer + 1);
	return v ? cJSON_Duplicate(v, true) : cJSON_CreateNull();
}

/* The members of all specs in the order of the first that has them; with `all` false only those that differ. */
static cJSON *rows_of(cJSON *const *specs, cJSON *const *jobs, int n, bool all)
{
	cJSON *rows = cJSON_CreateObject();
	const cJSON *m;
	for (int i = 0; i < n; i++)
		cJSON_ArrayForEach(m, specs[i]) {
			if (cJSON_GetObjectItemCaseSensitive(rows, m->string) || is_below_value(specs, n, m->string))
				continue;
			bool same = true;
			cJSON *values = cJSON_CreateArray();
			for (int k = 0; k < n; k++) {
				cJSON *v = value_at(specs[k], jobs[k], m->string);
				same &= cJSON_Compare(v, m, true);
				cJSON_AddItemToArray(values, v);
			}
			if (same && !all)
				cJSON_Delete(values);
			else
				cJSON_AddItemToObject(rows, m->string, values);
		}
	return rows;
}

/* {"val_acc_aom": [0.9, 0.8], ...}: what the jobs have of these metrics. which: "best" or "last". */
static cJSON *metrics_of(cJSON *const *jobs, int n, const char *which)
{
	static const char *const names[] = {"train_loss",  "train_acc",    "val_loss_aom", "val_acc_aom",  "val_loss_dom",
	                                    "val_acc_dom", "test_acc_aom", "test_acc_dom", "images_per_s", "epoch_s"};
	bool best = !strcmp(which, "best");
	cJSON *out = cJSON_CreateObject(), *epochs = cJSON_AddArrayToObject(out, "epoch");
	for (int k = 0; k < n; k++) {
		double epoch;
		bool has = wasd_json_num(wasd_json_get(jobs[k], best ? "best" : "progress"), "epoch", &epoch);
		cJSON_AddItemToArray(epochs, has ? cJSON_CreateNumber(epoch) : cJSON_CreateNull());
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		cJSON *values = cJSON_CreateArray();
		bool any = false;
		for (int k = 0; k < n; k++) {
			double v;
			const cJSON *from = best ? wasd_json_get(wasd_json_get(jobs[k], "best"), "metrics") :
			                           wasd_json_get(jobs[k], "metrics_latest");
			bool has = wasd_json_num(from, names[i], &v);
			any |= has;
			cJSON_AddItemToArray(values, has ? cJSON_CreateNumber(v) : cJSON_CreateNull());
		}
		if (any)
			cJSON_AddItemToObject(out, names[i], values);
		else
			cJSON_Delete(values);
	}
	return out;
}

/* ---- the table ---- */

static void cell_text(const cJSON *v, bool number, char out[CELL_MAX])
{
	char *text = cJSON_IsString(v) ? wasd_strdup(v->valuestring) : v && !cJSON_IsNull(v) ? wasd_json_print(v) : NULL;
	if (number && cJSON_IsNumber(v))
		snprintf(out, CELL_MAX,
		         v->valuedouble == (double)(long long)v->valuedouble ? "%.0f" :
		         v->valuedouble < 100                                ? "%.4f" :
		                                                               "%.1f",
		         v->valuedouble);
	else
		wasd_line(out, CELL_MAX, "%s", text ? text : "-");
	wasd_free(text);
}

struct table {
	const cJSON *names; /* of the jobs */
	int label, width[JOBS_MAX];
};

static int characters(const char *s)
{
	int n = 0;
	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static void widen(struct table *t, const cJSON *rows, bool numbers)
{
	char text[CELL_MAX];
	const cJSON *row, *v;
	cJSON_ArrayForEach(row, rows) {
		int k = 0, n = characters(row->string);
		t->label = n > t->label ? n : t->label;
		cJSON_ArrayForEach(v, row) {
			cell_text(v, numbers, text);
			n = characters(text);
			t->width[k] = n > t->width[k] ? n : t->width[k];
			k++;
		}
	}
}

static void print_values(const struct table *t, const char *label, const cJSON *values, bool numbers)
{
	char text[CELL_MAX];
	const cJSON *v;
	int k = 0;
	client_cell(label, t->label);
	cJSON_ArrayForEach(v, values) {
		cell_text(v, numbers, text);
		printf(" ");
		if (v->next)
			client_cell(text, t->width[k++]);
		else
			client_say(text);
	}
	putchar('\n');
}

static void print_part(const struct table *t, const char *title, const cJSON *rows, bool numbers)
{
	const cJSON *row;
	printf("\n%s\n", title);
	cJSON_ArrayForEach(row, rows)
		print_values(t, row->string, row, numbers);
}

static void print_table(const cJSON *o, bool all)
{
	struct table t = {.names = wasd_json_get(o, "names"), .label = 12};
	const cJSON *members = wasd_json_get(o, all ? "spec" : "differs"), *best = wasd_json_get(o, "best"),
				*last = wasd_json_get(o, "last"), *name;
	int k = 0;
	cJSON_ArrayForEach(name, t.names)
		t.width[k++] = characters(name->valuestring);
	widen(&t, members, false);
	widen(&t, best, true);
	widen(&t, last, true);
	print_values(&t, "", t.names, false);
	print_values(&t, "state", wasd_json_get(o, "states"), false);
	print_part(&t, all ? "spec" : members->child ? "what differs" : "the specs are the same", members, false);
	print_part(&t, "best epoch", best, true);
	print_part(&t, "last epoch", last, true);
}

/* ---- the command ---- */

/* How the columns are called: by the jobs' names, or by their ids if two have the same name. */
static cJSON *names_of(cJSON *const *jobs, int n)
{
	bool distinct = true;
	for (int i = 0; i < n; i++)
		for (int k = 0; k < i; k++)
			distinct &= strcmp(client_text(jobs[i], "name"), client_text(jobs[k], "name")) != 0;
	cJSON *names = cJSON_CreateArray();
	for (int i = 0; i < n; i++)
		cJSON_AddItemToArray(names, cJSON_CreateString(client_text(jobs[i], distinct ? "name" : "id")));
	return names;
}

static cJSON *strings_of(cJSON *const *jobs, int n, const char *key)
{
	cJSON *out = cJSON_CreateArray();
	for (int i = 0; i < n; i++)
		cJSON_AddItemToArray(out, cJSON_CreateString(client_text(jobs[i], key)));
	return out;
}

static int compare(cJSON *const *jobs, int n, const struct options *o)
{
	cJSON *specs[JOBS_MAX], *out = cJSON_CreateObject();
	for (int i = 0; i < n; i++)
		specs[i] = client_flat_spec(jobs[i]);
	cJSON_AddItemToObject(out, "jobs", strings_of(jobs, n, "id"));
	cJSON_AddItemToObject(out, "names", names_of(jobs, n));
	cJSON_AddItemToObject(out, "states", strings_of(jobs, n, "state"));
	cJSON_AddItemToObject(out, o->all ? "spec" : "differs", rows_of(specs, jobs, n, o->all));
	cJSON_AddItemToObject(out, "best", metrics_of(jobs, n, "best"));
	cJSON_AddItemToObject(out, "last", metrics_of(jobs, n, "last"));
	for (int i = 0; i < n; i++)
		cJSON_Delete(specs[i]);
	if (o->json)
		client_print_json(out);
	else
		print_table(out, o->all);
	cJSON_Delete(out);
	return CLIENT_OK;
}

static int run_compare(int argc, char **argv)
{
	const struct client_command *c = &client_command_compare;
	struct options o = {0};
	cJSON *jobs[JOBS_MAX];
	int n = 0, rc = client_parse(c, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (o.jobs.n < 2)
		return client_misused(c, "give two or more jobs");
	char *url = client_url(o.url);
	for (size_t i = 0; url && i < o.jobs.n; i++) {
		char id[CLIENT_ID], head[120];
		if (!client_job_id(c->name, url, o.jobs.items[i], id))
			break;
		snprintf(head, sizeof head, "GET /v1/jobs/%s", id);
		cJSON *job = client_json(c->name, url, head, NULL);
		if (!job)
			break;
		jobs[n++] = job;
	}
	rc = n == (int)o.jobs.n ? compare(jobs, n, &o) : CLIENT_FAILED;
	for (int i = 0; i < n; i++)
		cJSON_Delete(jobs[i]);
	wasd_free(url);
	return rc;
}

static const struct client_row compare_rows[] = {
	{"--all", 0, NULL, CLIENT_FLAG, offsetof(struct options, all),
     "all members of the specs, not only those that differ", NULL},
	CLIENT_ROW_JSON(struct options),
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_compare = {
	.name = "compare",
	.arguments = "JOB JOB...",
	.summary = "compare the specs and results of jobs",
	.text =
		"Prints a column per job: the members of their specs that differ, the metrics of the best epoch, and those of the "
		"last epoch. " CLIENT_JOB_TEXT,
	.rows = compare_rows,
	.words_at = offsetof(struct options, jobs),
	.max_words = JOBS_MAX,
	.offers = "@jobs",
	.example = "wasd compare first second",
	.run = run_compare,
};
