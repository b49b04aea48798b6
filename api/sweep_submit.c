/* api/sweep_submit.c - POST /v1/sweeps: the search, and the specs of all its trials, each checked as a submitted job
 * is. An error in a spec is reported where it comes from: in /space or in /template. */
#include "sweep_space.h"
#include <stdio.h>
#include <string.h>

static const char *const methods[] = {"grid", "random", "asha", "channels", NULL};
static const char *const goals[] = {"max", "min", NULL};

static const struct wasd_field *metric_row(void)
{
	return wasd_spec_at("/checkpoint/keep/metric");
}

static const char *metric_at(int i)
{
	return wasd_field_choice(metric_row(), i);
}

static const struct wasd_field search_fields[] = {
	{"method", WASD_CHOICE, .required = true, .choices = methods},
	{"max_trials", WASD_INT, .min = 1, .max = SWEEP_TRIALS},
	{"iterations", WASD_INT, .min = 1, .max = 100},
	{"divisor", WASD_INT, .min = 2, .max = 100},
	{"min_epochs", WASD_INT, .min = 1, .max = 100000},
	{"max_epochs", WASD_INT, .min = 1, .max = 100000},
	{"concurrency", WASD_INT, "4", .min = 1, .max = 64},
	{"metric", WASD_CHOICE, "\"val_acc_aom\"", .choice_at = metric_at},
	{"goal", WASD_CHOICE, NULL, .choices = goals},
	{"seed", WASD_INT, "1", .max = (double)WASD_JSON_INT_MAX},
	{0},
};
static const struct wasd_field sweep_fields[] = {
	{"name", WASD_STR, .min = 1, .max = 180},
	{"template", WASD_ANY, .required = true},
	{"space", WASD_ANY, .def = NULL},
	{"search", WASD_OBJECT, .required = true, .sub = search_fields},
	{0},
};

/* A sweep while it is being checked. */
struct draft {
	struct api_ctx *c;
	const struct api_request *q;
	struct api_response *r;
	bool dry, asha, chain; /* chain: each trial is made of what the one before it finds */
	cJSON *body;           /* canonical, borrowed members of the request */
	cJSON *search;         /* in body */
	struct sweep_space space;
	cJSON *points;
	int64_t min_epochs, max_epochs, divisor; /* max_epochs 0: as each spec says */
	int64_t iterations;                      /* of a chain */
	int64_t rungs[40];
	int n_rungs;
	char name[200];
	struct storage_trial_in *trials;
	size_t n;
};

static void draft_done(struct draft *d)
{
	for (size_t i = 0; i < d->n; i++) {
		wasd_free((char *)d->trials[i].point);
		wasd_free((char *)d->trials[i].spec);
	}
	wasd_free(d->trials);
	cJSON_Delete(d->points);
	cJSON_Delete(d->body);
}

/* ---- the search ---- */

/* What only halving has. */
static void check_halving(const struct draft *d, struct api_faults *faults)
{
	static const char *const own[] = {"divisor", "min_epochs"};
	char at[60];
	for (size_t i = 0; i < API_LEN(own) && !d->asha; i++) {
		snprintf(at, sizeof at, "/search/%s", own[i]);
		if (wasd_json_get(d->search, own[i]))
			api_fault(faults, "invalid_field", at, "%s goes with method asha only", at);
	}
	for (size_t i = 0; i < d->space.n && (d->asha || d->max_epochs); i++) {
		char pointer[256];
		sweep_space_pointer(pointer, d->space.dims[i].pointer);
		if (!strcmp(d->space.dims[i].pointer, "/train/epochs"))
			api_fault(faults, "invalid_field", pointer, "%s: %s", pointer,
			          d->max_epochs ? "/search/max_epochs sets the epochs of every trial" :
			                          "asha needs the same number of epochs for every trial");
	}
}

/* What a search of widths has in place of a space. */
static void check_chain(struct draft *d, struct api_faults *faults)
{
	static const char *const others[] = {"/space", "/search/max_trials"};
	const cJSON *given[] = {wasd_json_get(d->body, "space"), wasd_json_get(d->search, "max_trials")};
	for (size_t i = 0; i < API_LEN(others) && d->chain; i++)
		if (given[i])
			api_fault(faults, "invalid_field", others[i], "%s: method channels makes its own trials", others[i]);
	if (d->chain && !wasd_json_get(wasd_json_get(wasd_json_get(d->body, "template"), "model"), "layers"))
		api_fault(faults, "invalid_field", "/template/model",
		          "/template/model: method channels needs a network of layers");
	if (!d->chain && wasd_json_get(d->search, "iterations"))
		api_fault(faults, "invalid_field", "/search/iterations", "/search/iterations goes with method channels only");
}

/* The template's network first; the others are what each trial finds for the next. */
static cJSON *chain_points(struct draft *d)
{
	cJSON *list = cJSON_CreateArray();
	if (!wasd_json_i64(d->search, "iterations", &d->iterations))
		api_add_int(d->search, "iterations", d->iterations = 10);
	api_add_take(d->body, "space", cJSON_CreateObject());
	api_push(list, cJSON_CreateObject());
	for (int64_t i = 0; i < d->iterations; i++)
		api_push(list, cJSON_CreateNull());
	return list;
}

static void read_search(struct draft *d, struct api_faults *faults)
{
	const char *method = "", *metric = "";
	int64_t most = 0, seed = 1;
	d->search = cJSON_GetObjectItemCaseSensitive(d->body, "search");
	wasd_json_str(d->search, "method", &method);
	wasd_json_str(d->search, "metric", &metric);
	bool grid = !strcmp(method, "grid");
	d->asha = !strcmp(method, "asha");
	d->chain = !strcmp(method, "channels");
	d->divisor = 3;
	d->min_epochs = 1;
	wasd_json_i64(d->search, "divisor", &d->divisor);
	wasd_json_i64(d->search, "min_epochs", &d->min_epochs);
	wasd_json_i64(d->search, "max_epochs", &d->max_epochs);
	wasd_json_i64(d->search, "seed", &seed);
	check_chain(d, faults);
	if (!d->chain && !wasd_json_i64(d->search, "max_trials", &most))
		api_add_int(d->search, "max_trials", most = grid ? SWEEP_TRIALS : 16);
	if (!wasd_json_get(d->search, "goal"))
		api_add_str(d->search, "goal", wasd_metric_find(metric)->less ? "min" : "max");
	if (!cJSON_IsObject(wasd_json_get(d->body, "template")))
		api_fault(faults, "invalid_field", "/template", "/template must be a job spec, an object");
	if (!d->chain && !sweep_space_read(wasd_json_get(d->body, "space"), grid, &d->space, faults))
		return;
	check_halving(d, faults);
	if (!faults->n)
		d->points = d->chain ? chain_points(d) :
		            grid     ? sweep_points_grid(&d->space, most, faults) :
		                       sweep_points_random(&d->space, most, seed, faults);
	if (!faults->n && api_poisoned(d->points))
		faults->no_memory = true;
}

/* ---- the specs ---- */

/* Of a pointer into a trial's spec, the place in the body that it comes from. */
static void origin(const struct draft *d, const char *pointer, char out[300])
{
	char base[256];
	for (size_t i = 0; i < d->space.n; i++) {
		const char *own = d->space.dims[i].pointer;
		size_t a = strlen(own), b = strlen(pointer), n = a < b ? a : b;
		if (n < 2 || strncmp(own, pointer, n) || (own[n] && own[n] != '/') || (pointer[n] && pointer[n] != '/'))
			continue;
		sweep_space_pointer(base, own);
		snprintf(out, 300, "%s", base);
		return;
	}
	snprintf(out, 300, "/template%s", pointer);
}

static void set_text(cJSON *obj, const char *name, const char *text)
{
	cJSON *v = cJSON_CreateString(text);
	if (!v || !cJSON_ReplaceItemInObjectCaseSensitive(obj, name, v))
		cJSON_Delete(v);
}

/* Answers with a trial's problem, its pointers moved to where the values come from. */
static void relocate(const struct draft *d, const struct api_response *from, size_t i)
{
	cJSON *j = NULL, *one;
	const char *s;
	char at[300], text[700];
	if (wasd_json_parse(from->body.data, from->body.len, WASD_JSON_REQUEST, &j, NULL)) {
		api_send_no_memory(d->r);
		return;
	}
	cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(j, "errors")) {
		if (!wasd_json_str(one, "pointer", &s) || *s != '/')
			continue;
		origin(d, s, at);
		set_text(one, "pointer", at);
	}
	if (wasd_json_str(j, "detail", &s)) {
		snprintf(text, sizeof text, "trial %zu: %s", i + 1, s);
		set_text(j, "detail", text);
	}
	api_send_json(d->r, from->status, j);
	d->r->content_type = from->content_type;
	wasd_line(d->r->problem, sizeof d->r->problem, "%s", from->problem);
}

/* The body that a client would submit for this trial; NULL: a fault, or no memory. */
static cJSON *trial_body(const struct draft *d, const cJSON *point, size_t i, struct api_faults *faults)
{
	char name[240];
	cJSON *body = cJSON_Duplicate(wasd_json_get(d->body, "template"), 1), *fixed = cJSON_CreateObject();
	if (d->max_epochs)
		api_add_int(fixed, "/train/epochs", d->max_epochs);
	if (d->chain)
		api_add_int(fixed, "/adjust/iterations", d->iterations);
	bool ok = body && fixed && sweep_point_apply(body, fixed, faults) && sweep_point_apply(body, point, faults);
	if (ok && *d->name) {
		snprintf(name, sizeof name, "%s-%zu", d->name, i + 1);
		cJSON_DeleteItemFromObjectCaseSensitive(body, "name");
		ok = api_add_str(body, "name", name);
	}
	cJSON_Delete(fixed);
	if (ok)
		return body;
	if (!faults->n)
		faults->no_memory = true;
	cJSON_Delete(body);
	return NULL;
}

/* The rules between a spec and the search. */
static void check_spec(struct draft *d, const cJSON *spec, struct api_faults *faults)
{
	double epochs = wasd_spec_number(spec, "/train/epochs");
	spec_check_metric(spec, "/search/metric", d->search, faults);
	if (!d->asha) {
		if (epochs > (double)d->max_epochs)
			d->max_epochs = (int64_t)epochs; /* the value counts at the end of each */
		return;
	}
	d->max_epochs = (int64_t)epochs;
	if (d->min_epochs > d->max_epochs)
		api_fault(faults, "invalid_field", "/search/min_epochs", "/search/min_epochs: a trial has only %lld epochs",
		          (long long)d->max_epochs);
}

enum { SPECS_MAX = 32 << 20 };

/* Checks and prints one trial's spec; false: the answer is in r. */
static bool add_trial(struct draft *d, const cJSON *point, size_t i, size_t *bytes)
{
	struct api_faults faults = {0};
	struct api_response own;
	cJSON *warnings = NULL, *body = trial_body(d, point, i, &faults), *spec = NULL;
	bool fixed = d->max_epochs && !d->asha && wasd_json_get(d->search, "max_epochs");
	int64_t before = d->max_epochs;
	api_response_init(&own);
	if (body && !(spec = api_spec_ready(d->c, d->q, &own, body, d->dry, &warnings)))
		relocate(d, &own, i);
	api_response_done(&own);
	cJSON_Delete(body);
	cJSON_Delete(warnings);
	if (spec) {
		check_spec(d, spec, &faults);
		if (fixed)
			d->max_epochs = before;
		struct storage_trial_in *t = &d->trials[d->n++];
		t->point = wasd_json_print(point);
		t->spec = api_poisoned(spec) ? NULL : wasd_json_print(spec);
		if (!t->point || !t->spec)
			faults.no_memory = true;
		*bytes += t->spec ? strlen(t->spec) : 0;
		if (*bytes > SPECS_MAX)
			api_fault(&faults, "invalid_field", "/search/max_trials",
			          "/search/max_trials: the specs of the trials have more than %d MiB together", SPECS_MAX >> 20);
		if (!*d->name)
			snprintf(d->name, sizeof d->name, "%.180s", wasd_json_get(spec, "name")->valuestring);
	}
	bool ok = spec && !faults.n && !faults.no_memory;
	if (faults.n || faults.no_memory)
		api_send_faults(d->q, d->r, &faults);
	cJSON_Delete(spec);
	return ok;
}

/* The default name is that of the template's job. False: the answer is in r. */
static bool find_name(struct draft *d, const char *given)
{
	const char *name = given;
	if (!name)
		wasd_json_str(wasd_json_get(d->body, "template"), "name", &name);
	snprintf(d->name, sizeof d->name, "%.180s", name ? name : "");
	if (*d->name)
		return true;
	size_t bytes = 0;
	bool ok = add_trial(d, d->points->child, 0, &bytes); /* only for its name; it is made again with its number */
	for (; d->n; d->n--) {
		wasd_free((char *)d->trials[d->n - 1].point);
		wasd_free((char *)d->trials[d->n - 1].spec);
	}
	return ok;
}

static bool add_trials(struct draft *d, const char *name)
{
	size_t bytes = 0, i = 0;
	const cJSON *point;
	d->trials = wasd_calloc((size_t)cJSON_GetArraySize(d->points), sizeof *d->trials);
	if (!d->trials) {
		api_send_no_memory(d->r);
		return false;
	}
	if (!find_name(d, name))
		return false;
	cJSON_ArrayForEach(point, d->points)
		if (!add_trial(d, point, i++, &bytes))
			return false;
	return true;
}

/* The epochs at which a trial's value counts. */
static void find_rungs(struct draft *d)
{
	for (int64_t e = d->min_epochs; d->asha && e < d->max_epochs && d->n_rungs < 39; e *= d->divisor)
		d->rungs[d->n_rungs++] = e;
	d->rungs[d->n_rungs++] = d->max_epochs;
	if (!d->asha)
		return;
	cJSON_DeleteItemFromObjectCaseSensitive(d->search, "divisor");
	cJSON_DeleteItemFromObjectCaseSensitive(d->search, "min_epochs");
	cJSON_DeleteItemFromObjectCaseSensitive(d->search, "max_epochs");
	api_add_int(d->search, "divisor", d->divisor);
	api_add_int(d->search, "min_epochs", d->min_epochs);
	api_add_int(d->search, "max_epochs", d->max_epochs);
}

/* ---- the answer ---- */

static void send_dry(struct draft *d, const char *rungs)
{
	cJSON *j = cJSON_CreateObject(), *trials = cJSON_CreateArray();
	static const char *const members[] = {"template", "space", "search"};
	api_add_str(j, "name", d->name);
	for (size_t i = 0; i < API_LEN(members); i++)
		api_add_take(j, members[i], cJSON_Duplicate(wasd_json_get(d->body, members[i]), 1));
	api_add_raw(j, "rungs", rungs);
	for (size_t i = 0; i < d->n; i++) {
		cJSON *t = cJSON_CreateObject();
		api_add_int(t, "trial", (int64_t)i + 1);
		api_add_raw(t, "values", d->trials[i].point);
		api_push(trials, t);
	}
	api_add_take(j, "trials", trials);
	api_send_json(d->r, 200, j);
}

static void store(struct draft *d, const char *template, const char *space, const char *search, const char *rungs)
{
	char digest[WASD_SHA256_HEX];
	const char *goal = "";
	struct storage_sweep row = {0};
	struct wasd_err err = {0};
	bool existing = false;
	wasd_sha256_of(d->q->body, d->q->body_len, digest);
	struct storage_sweep_in in = {.name = d->name,
	                              .template = template,
	                              .space = space,
	                              .search = search,
	                              .rungs = rungs,
	                              .created_by = d->q->actor,
	                              .divisor = d->divisor,
	                              .trials = d->trials,
	                              .n_trials = d->n,
	                              .idempotency_key = api_header(d->q, "idempotency-key"),
	                              .request_digest = digest};
	wasd_json_str(d->search, "metric", &in.metric);
	wasd_json_str(d->search, "goal", &goal);
	wasd_json_i64(d->search, "concurrency", &in.concurrency);
	in.goal_max = !strcmp(goal, "max");
	enum wasd_status st = storage_sweep_create(d->c->db, &in, &row, &existing, &err);
	if (st == WASD_EEXIST) {
		api_send_problem(d->q, d->r, "idempotency_conflict", "Idempotency-Key",
		                 "Idempotency-Key %.100s came with another body before", in.idempotency_key);
	} else if (st) {
		api_send_error(d->q, d->r, &err);
	} else {
		if (!existing)
			d->c->jobs.queued(d->c->jobs.self, NULL);
		api_send_sweep(d->c, d->q, d->r, 201, &row);
		api_set_header(d->r, "Location", "/v1/sweeps/%s", row.id);
		if (existing)
			api_set_header(d->r, "Idempotency-Replayed", "true");
	}
	storage_sweep_done(&row);
}

static void answer(struct draft *d)
{
	cJSON *list = cJSON_CreateArray();
	find_rungs(d);
	for (int i = 0; i < d->n_rungs; i++)
		api_push(list, cJSON_CreateNumber((double)d->rungs[i]));
	char *template = wasd_json_print(wasd_json_get(d->body, "template")),
		 *space = wasd_json_print(wasd_json_get(d->body, "space")),
		 *search = api_poisoned(d->search) ? NULL : wasd_json_print(d->search),
		 *rungs = api_poisoned(list) ? NULL : wasd_json_print(list);
	if (!template || !space || !search || !rungs)
		api_send_no_memory(d->r);
	else if (d->dry)
		send_dry(d, rungs);
	else
		store(d, template, space, search, rungs);
	wasd_free(template);
	wasd_free(space);
	wasd_free(search);
	wasd_free(rungs);
	cJSON_Delete(list);
}

enum api_result api_sweeps_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct draft d = {.c = c, .q = q, .r = r};
	struct api_faults faults = {0};
	const char *name = NULL;
	if (!api_query_bool(q, r, "dry_run", &d.dry) || !api_idempotency_ok(q, r) ||
	    !(d.body = api_body_fields(q, r, sweep_fields, NULL, false)))
		return API_DONE;
	wasd_json_str(d.body, "name", &name);
	read_search(&d, &faults);
	if (faults.n || faults.no_memory)
		api_send_faults(q, r, &faults);
	else if (add_trials(&d, name))
		answer(&d);
	draft_done(&d);
	return API_DONE;
}
