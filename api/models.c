/* api/models.c - the registry: models, their versions, and aliases. A deployment whose source is {"model","alias"}
 * follows the alias. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the path names ---- */

static bool find_model(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                       struct storage_model *out)
{
	char name[128];
	struct wasd_err err = {0};
	api_param(q, "model", name);
	enum wasd_status st = storage_model_get(c->db, name, out, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no model %s", name);
	else if (st)
		api_send_error(q, r, &err);
	return !st;
}

static bool find_version(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                         struct storage_version *out)
{
	char name[128], text[128];
	struct wasd_err err = {0};
	api_param(q, "model", name);
	api_param(q, "n", text);
	bool digits = *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 16;
	enum wasd_status st = digits ? storage_version_get(c->db, name, strtoll(text, NULL, 10), out, &err) :
	                               WASD_ENOTFOUND;
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no version %.40s of a model %s", text, name);
	else if (st)
		api_send_error(q, r, &err);
	return !st;
}

static bool find_alias(struct api_ctx *c, const struct api_request *q, struct api_response *r, char name[128],
                       char alias[128], int64_t *version)
{
	struct wasd_err err = {0};
	api_param(q, "model", name);
	api_param(q, "a", alias);
	enum wasd_status st = storage_alias_get(c->db, name, alias, version, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no alias %s of a model %s", alias, name);
	else if (st)
		api_send_error(q, r, &err);
	return !st;
}

/* ---- the objects ---- */

static cJSON *version_json(const struct storage_version *v, const struct storage_alias_list *aliases)
{
	char url[200];
	cJSON *j = cJSON_CreateObject(), *links = cJSON_CreateObject(), *names = cJSON_CreateArray();
	api_add_str(j, "id", v->id);
	api_add_str(j, "model", v->model);
	api_add_int(j, "version", v->version);
	api_add_str(j, "checkpoint", v->checkpoint);
	for (size_t i = 0; i < aliases->n; i++)
		if (aliases->items[i].version == v->version)
			api_push(names, cJSON_CreateString(aliases->items[i].alias));
	api_add_take(j, "aliases", names);
	api_add_raw(j, "lineage", v->lineage);
	api_add_str(j, "note", v->note);
	api_add_str(j, "created_by", v->created_by);
	api_add_time(j, "created_at", v->created_at);
	snprintf(url, sizeof url, "/v1/models/%s/versions/%lld", v->model, (long long)v->version);
	api_add_str(links, "self", url);
	snprintf(url, sizeof url, "/v1/models/%s", v->model);
	api_add_str(links, "model", url);
	snprintf(url, sizeof url, "/v1/checkpoints/%s", v->checkpoint);
	api_add_str(links, "checkpoint", url);
	api_add_take(j, "links", links);
	return j;
}

static cJSON *versions_json(const struct storage_version_list *l, const struct storage_alias_list *aliases)
{
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l->n; i++)
		api_push(items, version_json(&l->items[i], aliases));
	return items;
}

static cJSON *model_json(const struct storage_model *m, const struct storage_alias_list *aliases)
{
	char url[160];
	cJSON *j = cJSON_CreateObject(), *links = cJSON_CreateObject(), *named = cJSON_CreateObject();
	api_add_str(j, "id", m->id);
	api_add_str(j, "name", m->name);
	api_add_str(j, "note", m->note);
	api_add_take(j, "latest_version", m->latest ? cJSON_CreateNumber((double)m->latest) : cJSON_CreateNull());
	for (size_t i = 0; i < aliases->n; i++)
		api_add_int(named, aliases->items[i].alias, aliases->items[i].version);
	api_add_take(j, "aliases", named);
	api_add_str(j, "created_by", m->created_by);
	api_add_time(j, "created_at", m->created_at);
	api_add_time(j, "updated_at", m->updated_at);
	snprintf(url, sizeof url, "/v1/models/%s", m->name);
	api_add_str(links, "self", url);
	snprintf(url, sizeof url, "/v1/models/%s/versions", m->name);
	api_add_str(links, "versions", url);
	api_add_take(j, "links", links);
	return j;
}

static void send_model(struct api_ctx *c, const struct api_request *q, struct api_response *r, int status,
                       const char *name)
{
	struct storage_model m = {0};
	struct storage_alias_list aliases = {0};
	struct wasd_err err = {0};
	enum wasd_status st = storage_model_get(c->db, name, &m, &err);
	if (!st)
		st = storage_alias_list(c->db, name, &aliases, &err);
	if (st)
		api_send_error(q, r, &err);
	else
		api_send_json(r, status, model_json(&m, &aliases));
	storage_alias_list_done(&aliases);
	storage_model_done(&m);
}

static void send_version(struct api_ctx *c, const struct api_request *q, struct api_response *r, int status,
                         const struct storage_version *v)
{
	struct storage_alias_list aliases = {0};
	struct wasd_err err = {0};
	if (storage_alias_list(c->db, v->model, &aliases, &err))
		api_send_error(q, r, &err);
	else
		api_send_json(r, status, version_json(v, &aliases));
	storage_alias_list_done(&aliases);
}

/* ---- models ---- */

static const struct wasd_field create_fields[] = {
	{"name", WASD_NAME, .required = true},
	{"note", WASD_STR, "\"\"", .min = 0, .max = 2000},
	{0},
};
static const struct wasd_field patch_fields[] = {{"note", WASD_STR, .required = true, .min = 0, .max = 2000}, {0}};

enum api_result api_models_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	const char *name = "", *note = "";
	struct wasd_err err = {0};
	cJSON *in = api_body_fields(q, r, create_fields, NULL, false);
	if (!in)
		return API_DONE;
	wasd_json_str(in, "name", &name);
	wasd_json_str(in, "note", &note);
	if (storage_model_create(c->db, name, note, q->actor, &err)) {
		api_send_error(q, r, &err);
	} else {
		send_model(c, q, r, 201, name);
		api_set_header(r, "Location", "/v1/models/%s", name);
	}
	cJSON_Delete(in);
	return API_DONE;
}

enum api_result api_models_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_page page;
	struct storage_model_list l = {0};
	struct wasd_err err = {0};
	if (!api_query_page(q, r, &page))
		return API_DONE;
	enum wasd_status st = storage_model_list(c->db, page, &l, &err);
	if (!api_page_ok(q, r, st, &err))
		return API_DONE;
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n && !st; i++) {
		struct storage_alias_list aliases = {0};
		st = storage_alias_list(c->db, l.items[i].name, &aliases, &err);
		if (!st)
			api_push(items, model_json(&l.items[i], &aliases));
		storage_alias_list_done(&aliases);
	}
	if (st) {
		cJSON_Delete(items);
		api_send_error(q, r, &err);
	} else {
		api_send_list(q, r, items, l.next_cursor);
	}
	storage_model_list_done(&l);
	return API_DONE;
}

enum api_result api_models_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_model m;
	struct wasd_err err = {0};
	char name[128];
	api_param(q, "model", name);
	enum wasd_status st = storage_model_get(c->db, name, &m, &err);
	if (!st) {
		send_model(c, q, r, 200, m.name);
		storage_model_done(&m);
	} else if (st != WASD_ENOTFOUND) {
		api_send_error(q, r, &err);
	} else if (!api_kserve_ready(c, q, r, name)) {
		api_send_problem(q, r, "not_found", NULL, "no model %s", name);
	}
	return API_DONE;
}

enum api_result api_models_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_model m;
	const char *note = "";
	struct wasd_err err = {0};
	cJSON *in = api_body_fields(q, r, patch_fields, NULL, false);
	if (in && find_model(c, q, r, &m)) {
		wasd_json_str(in, "note", &note);
		if (storage_model_note(c->db, m.name, note, q->actor, &err))
			api_send_error(q, r, &err);
		else
			send_model(c, q, r, 200, m.name);
		storage_model_done(&m);
	}
	cJSON_Delete(in);
	return API_DONE;
}

/* Answers a deletion. */
static void send_deleted(const struct api_request *q, struct api_response *r, enum wasd_status st,
                         const struct wasd_err *err)
{
	if (st == WASD_ESTATE)
		api_send_problem(q, r, "referenced", NULL, "%s", err->msg);
	else if (st)
		api_send_error(q, r, err);
	else
		r->status = 204;
}

enum api_result api_models_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_model m;
	struct wasd_err err = {0};
	if (find_model(c, q, r, &m)) {
		send_deleted(q, r, storage_model_delete(c->db, m.name, q->actor, &err), &err);
		storage_model_done(&m);
	}
	return API_DONE;
}

/* ---- versions ---- */

/* Takes "note" and "alias" out of the body; the rest is the source. NULL: the answer is in r. */
static cJSON *version_source(const struct api_request *q, struct api_response *r, cJSON *body, cJSON **about)
{
	static const struct wasd_field fields[] = {
		{"note", WASD_STR, "\"\"", .min = 0, .max = 2000},
		{"alias", WASD_NAME, NULL, .required = false},
		{0},
	};
	struct api_faults faults = {0};
	struct field_ctx fc = {.faults = &faults};
	cJSON *rest = cJSON_CreateObject();
	for (const struct wasd_field *f = fields; f->name && rest; f++) {
		cJSON *v = cJSON_DetachItemFromObjectCaseSensitive(body, f->name);
		if (v)
			api_add_take(rest, f->name, v);
	}
	*about = fields_canon(&fc, "", fields, rest);
	cJSON *source = *about ? api_source_canon(&fc, "", NULL, body) : NULL;
	cJSON_Delete(rest);
	if (source && wasd_json_get(source, "model") && !wasd_json_get(source, "blob")) {
		api_fault(&faults, "invalid_field", "/model",
		          "/model: a version is made from a checkpoint, a job or a blob; for another name set an alias");
		cJSON_Delete(source);
		source = NULL;
	}
	if (!source)
		api_send_faults(q, r, &faults);
	return source;
}

/* Tells the deployments that an alias has moved. */
static enum wasd_status follow(struct api_ctx *c, const struct storage_names *moved, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	for (size_t i = 0; i < moved->n; i++) {
		enum wasd_status one = c->serving.changed(c->serving.self, moved->items[i], st ? NULL : err);
		st = st ? st : one;
	}
	return st;
}

static bool set_alias(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                      const struct storage_alias_in *in, struct storage_names *moved)
{
	struct wasd_err err = {0};
	enum wasd_status st = storage_alias_set(c->db, in, moved, &err);
	if (st == WASD_EBUSY)
		api_send_problem(q, r, "conflict", "alias", "%s", err.msg);
	else if (st == WASD_ESTATE)
		api_send_problem(q, r, "stale", NULL, "%s", err.msg);
	else if (st || (st = follow(c, moved, &err)))
		api_send_error(q, r, &err);
	return !st;
}

static void add_version(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *model,
                        const struct storage_ckpt *k, const cJSON *about)
{
	const char *note = "", *alias = NULL;
	struct storage_version v = {0};
	struct storage_names moved = {0};
	struct wasd_err err = {0};
	int64_t n = 0;
	wasd_json_str(about, "note", &note);
	wasd_json_str(about, "alias", &alias);
	struct storage_version_in in = {.model = model, .checkpoint = k->id, .note = note, .actor = q->actor};
	enum wasd_status st = storage_version_add(c->db, &in, &n, &err);
	if (!st)
		st = storage_version_get(c->db, model, n, &v, &err);
	struct storage_alias_in to = {.model = model, .alias = alias, .version = n, .expected = -1, .actor = q->actor};
	if (st) {
		api_send_error(q, r, &err);
	} else if (!alias || set_alias(c, q, r, &to, &moved)) {
		send_version(c, q, r, 201, &v);
		api_set_header(r, "Location", "/v1/models/%s/versions/%lld", model, (long long)n);
	}
	storage_names_done(&moved);
	storage_version_done(&v);
}

enum api_result api_versions_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_model m;
	struct storage_ckpt k;
	cJSON *about = NULL, *source = NULL, *body = api_body_json(q, r, WASD_JSON_REQUEST, false);
	if (body && find_model(c, q, r, &m)) {
		source = version_source(q, r, body, &about);
		if (source && api_source_find_at(c, q, r, source, "", WASD_MODE_AOM, &k)) {
			add_version(c, q, r, m.name, &k, about);
			storage_ckpt_done(&k);
		}
		storage_model_done(&m);
	}
	cJSON_Delete(source);
	cJSON_Delete(about);
	cJSON_Delete(body);
	return API_DONE;
}

enum api_result api_versions_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_page page;
	struct storage_model m;
	struct storage_version_list l = {0};
	struct storage_alias_list aliases = {0};
	struct wasd_err err = {0};
	if (!api_query_page(q, r, &page) || !find_model(c, q, r, &m))
		return API_DONE;
	enum wasd_status st = storage_alias_list(c->db, m.name, &aliases, &err);
	if (!st)
		st = storage_version_list(c->db, m.name, page, &l, &err);
	if (api_page_ok(q, r, st, &err))
		api_send_list(q, r, versions_json(&l, &aliases), l.next_cursor);
	storage_version_list_done(&l);
	storage_alias_list_done(&aliases);
	storage_model_done(&m);
	return API_DONE;
}

enum api_result api_versions_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_version v;
	if (find_version(c, q, r, &v)) {
		send_version(c, q, r, 200, &v);
		storage_version_done(&v);
	}
	return API_DONE;
}

enum api_result api_versions_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_version v;
	struct wasd_err err = {0};
	if (find_version(c, q, r, &v)) {
		send_deleted(q, r, storage_version_delete(c->db, v.model, v.version, q->actor, &err), &err);
		storage_version_done(&v);
	}
	return API_DONE;
}

/* ---- aliases ---- */

static void send_alias(struct api_response *r, int status, const char *model, const char *alias, int64_t version,
                       const struct storage_names *moved)
{
	cJSON *j = cJSON_CreateObject(), *names = moved ? cJSON_CreateArray() : NULL;
	api_add_str(j, "model", model);
	api_add_str(j, "alias", alias);
	api_add_int(j, "version", version);
	for (size_t i = 0; moved && i < moved->n; i++)
		api_push(names, cJSON_CreateString(moved->items[i]));
	if (moved)
		api_add_take(j, "deployments_moved", names);
	api_send_json(r, status, j);
	api_set_header(r, "ETag", "\"v%lld\"", (long long)version);
}

enum api_result api_aliases_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char name[128], alias[128];
	int64_t version;
	if (find_alias(c, q, r, name, alias, &version))
		send_alias(r, 200, name, alias, version, NULL);
	return API_DONE;
}

static const struct wasd_field alias_fields[] = {
	{"version", WASD_INT, .required = true, .min = 1, .max = 1e15},
	{"reason", WASD_STR, "\"\"", .min = 0, .max = 500},
	{0},
};

/* If-Match was compared with the alias before (routes.c); `expected` makes sure that nobody has moved it since. */
enum api_result api_aliases_put(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char alias[128];
	struct storage_model m;
	struct storage_version v = {0};
	struct storage_names moved = {0};
	struct wasd_err err = {0};
	struct storage_alias_in to = {.alias = alias, .expected = -1, .actor = q->actor};
	api_param(q, "a", alias);
	cJSON *in = api_body_fields(q, r, alias_fields, NULL, false);
	if (!in || !find_model(c, q, r, &m)) {
		cJSON_Delete(in);
		return API_DONE;
	}
	to.model = m.name;
	wasd_json_i64(in, "version", &to.version);
	wasd_json_str(in, "reason", &to.reason);
	int64_t before = 0;
	bool is_new = storage_alias_get(c->db, m.name, alias, &before, NULL) != WASD_OK;
	if (api_header(q, "if-match"))
		to.expected = before;
	enum wasd_status st = storage_version_get(c->db, m.name, to.version, &v, &err);
	if (!wasd_name_ok(alias))
		api_send_problem(
			q, r, "bad_parameter", "a",
			"\"%.80s\" is not a name for an alias: 1 to 63 of a-z 0-9 . _ - beginning with a letter or digit", alias);
	else if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "invalid_field", "/version", "/version: model %s has no version %lld", m.name,
		                 (long long)to.version);
	else if (st)
		api_send_error(q, r, &err);
	else if (set_alias(c, q, r, &to, &moved))
		send_alias(r, is_new ? 201 : 200, m.name, alias, to.version, &moved);
	storage_names_done(&moved);
	storage_version_done(&v);
	storage_model_done(&m);
	cJSON_Delete(in);
	return API_DONE;
}

enum api_result api_aliases_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char name[128], alias[128];
	int64_t version;
	struct wasd_err err = {0};
	if (find_alias(c, q, r, name, alias, &version))
		send_deleted(q, r, storage_alias_delete(c->db, name, alias, q->actor, &err), &err);
	return API_DONE;
}

static cJSON *number_or_null(int64_t v)
{
	return v ? cJSON_CreateNumber((double)v) : cJSON_CreateNull();
}

enum api_result api_aliases_history(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	char name[128], alias[128];
	struct storage_page page;
	struct storage_alias_move_list l = {0};
	struct wasd_err err = {0};
	api_param(q, "model", name);
	api_param(q, "a", alias);
	if (!api_query_page(q, r, &page) ||
	    !api_page_ok(q, r, storage_alias_history(c->db, name, alias, page, &l, &err), &err))
		return API_DONE;
	if (!l.n && !page.cursor) {
		api_send_problem(q, r, "not_found", NULL, "there never was an alias %s of a model %s", alias, name);
		return API_DONE;
	}
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++) {
		cJSON *one = cJSON_CreateObject();
		api_add_take(one, "version", number_or_null(l.items[i].version));
		api_add_take(one, "previous", number_or_null(l.items[i].previous));
		api_add_str(one, "actor", l.items[i].actor);
		api_add_str(one, "reason", l.items[i].reason);
		api_add_time(one, "at", l.items[i].at);
		api_push(items, one);
	}
	api_send_list(q, r, items, l.next_cursor);
	storage_alias_move_list_done(&l);
	return API_DONE;
}
