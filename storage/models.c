/* models.c - the registry: named models, their numbered versions (each one checkpoint), and aliases that name a
 * version. A move of an alias moves the deployments that follow it, in the same transaction. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* clang-format off */
#define MODEL_COLS(T, I, D, X) \
	T(X, id) T(X, name) T(X, note) I(X, latest) T(X, created_by) I(X, created_at) I(X, updated_at)
#define VERSION_COLS(T, I, D, X) \
	T(X, id) T(X, model) I(X, version) T(X, checkpoint) T(X, lineage) T(X, note) T(X, created_by) I(X, created_at)
#define MOVE_COLS(T, I, D, X) T(X, id) T(X, alias) I(X, version) I(X, previous) T(X, actor) T(X, reason) I(X, at)
/* clang-format on */
ROW_TYPE(model_type, storage_model, MODEL_COLS);
ROW_TYPE(version_type, storage_version, VERSION_COLS);
ROW_TYPE(move_type, storage_alias_move, MOVE_COLS);

void storage_model_done(struct storage_model *m)
{
	row_done(&model_type, m);
}

void storage_model_list_done(struct storage_model_list *l)
{
	rows_done(&model_type, l->items, l->n);
	wasd_free(l->next_cursor);
	*l = (struct storage_model_list){0};
}

void storage_version_done(struct storage_version *v)
{
	row_done(&version_type, v);
}

void storage_version_list_done(struct storage_version_list *l)
{
	rows_done(&version_type, l->items, l->n);
	wasd_free(l->next_cursor);
	*l = (struct storage_version_list){0};
}

void storage_alias_list_done(struct storage_alias_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		wasd_free(l->items[i].alias);
	wasd_free(l->items);
	*l = (struct storage_alias_list){0};
}

void storage_alias_move_list_done(struct storage_alias_move_list *l)
{
	rows_done(&move_type, l->items, l->n);
	wasd_free(l->next_cursor);
	*l = (struct storage_alias_move_list){0};
}

/* ---- reads ---- */

enum wasd_status storage_model_get(struct storage *s, const char *name, struct storage_model *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(MODEL_COLS, "models WHERE name=?1 AND NOT deleted"), &st, err, "t", name);
	st = row_one(c, q, st, &model_type, out, "model", name, err);
	read_end(s, c);
	return st;
}

enum wasd_status storage_model_list(struct storage *s, struct storage_page page, struct storage_model_list *out,
                                    struct wasd_err *err)
{
	enum wasd_status st = page_check(&page, "mdl_", err);
	if (st)
		return st;
	struct storage_model_list l = {0};
	struct conn *c = read_begin(s);
	sqlite3_stmt *q =
		q_begin(c,
	            page.oldest_first ?
	                SELECT(MODEL_COLS, "models WHERE NOT deleted AND id>coalesce(?1,'') ORDER BY id LIMIT ?2") :
	                SELECT(MODEL_COLS, "models WHERE NOT deleted AND id<coalesce(?1,'~') ORDER BY id DESC LIMIT ?2"),
	            &st, err, "ti", page.cursor, (int64_t)page.limit + 1);
	st = row_page(c, q, st, &model_type, page.limit, (void **)&l.items, &l.n, &l.next_cursor, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

static enum wasd_status version_get(struct conn *c, const char *model, int64_t version, struct storage_version *out,
                                    struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	char name[100];
	snprintf(name, sizeof name, "%.63s %lld", model, (long long)version);
	sqlite3_stmt *q = q_begin(c, SELECT(VERSION_COLS, "model_versions WHERE model=?1 AND version=?2"), &st, err, "ti",
	                          model, version);
	return row_one(c, q, st, &version_type, out, "version", name, err);
}

enum wasd_status storage_version_get(struct storage *s, const char *model, int64_t version, struct storage_version *out,
                                     struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = version_get(c, model, version, out, err);
	read_end(s, c);
	return st;
}

enum wasd_status storage_version_list(struct storage *s, const char *model, struct storage_page page,
                                      struct storage_version_list *out, struct wasd_err *err)
{
	enum wasd_status st = page_check(&page, "ver_", err);
	if (st)
		return st;
	struct storage_version_list l = {0};
	struct conn *c = read_begin(s);
	sqlite3_stmt *q =
		q_begin(c,
	            page.oldest_first ?
	                SELECT(VERSION_COLS, "model_versions WHERE model=?1 AND id>coalesce(?2,'') ORDER BY id LIMIT ?3") :
	                SELECT(VERSION_COLS,
	                       "model_versions WHERE model=?1 AND id<coalesce(?2,'~') ORDER BY id DESC LIMIT ?3"),
	            &st, err, "tti", model, page.cursor, (int64_t)page.limit + 1);
	st = row_page(c, q, st, &version_type, page.limit, (void **)&l.items, &l.n, &l.next_cursor, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

enum wasd_status storage_alias_list(struct storage *s, const char *model, struct storage_alias_list *out,
                                    struct wasd_err *err)
{
	struct storage_alias_list l = {0};
	enum wasd_status st = WASD_OK;
	struct conn *c = read_begin(s);
	sqlite3_stmt *q = q_begin(c, "SELECT alias,version FROM model_aliases WHERE model=?1 ORDER BY alias", &st, err, "t",
	                          model);
	while (q_row(c, q, &st, err)) {
		struct storage_alias *one = array_push((void **)&l.items, &l.n, sizeof *one);
		if (!one || !(one->alias = wasd_strdup(q_text(q, 0)))) {
			st = wasd_fail(err, WASD_ENOMEM, "no memory");
			break;
		}
		one->version = sqlite3_column_int64(q, 1);
	}
	q_end(c, q);
	read_end(s, c);
	if (st)
		storage_alias_list_done(&l);
	else
		*out = l;
	return st;
}

static enum wasd_status alias_get(struct conn *c, const char *model, const char *alias, int64_t *version,
                                  struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	*version = 0;
	sqlite3_stmt *q = q_begin(c, "SELECT version FROM model_aliases WHERE model=?1 AND alias=?2", &st, err, "tt", model,
	                          alias);
	if (q_row(c, q, &st, err))
		*version = sqlite3_column_int64(q, 0);
	q_end(c, q);
	return st ? st : *version ? WASD_OK : wasd_fail(err, WASD_ENOTFOUND, "model %s has no alias %s", model, alias);
}

enum wasd_status storage_alias_get(struct storage *s, const char *model, const char *alias, int64_t *version,
                                   struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = alias_get(c, model, alias, version, err);
	read_end(s, c);
	return st;
}

enum wasd_status storage_alias_history(struct storage *s, const char *model, const char *alias,
                                       struct storage_page page, struct storage_alias_move_list *out,
                                       struct wasd_err *err)
{
	enum wasd_status st = page_check(&page, "mov_", err);
	if (st)
		return st;
	struct storage_alias_move_list l = {0};
	struct conn *c = read_begin(s);
	sqlite3_stmt *q =
		q_begin(c,
	            page.oldest_first ?
	                SELECT(MOVE_COLS,
	                       "alias_moves WHERE model=?1 AND alias=?2 AND id>coalesce(?3,'') ORDER BY id LIMIT ?4") :
	                SELECT(MOVE_COLS,
	                       "alias_moves WHERE model=?1 AND alias=?2 AND id<coalesce(?3,'~') ORDER BY id DESC LIMIT ?4"),
	            &st, err, "ttti", model, alias, page.cursor, (int64_t)page.limit + 1);
	st = row_page(c, q, st, &move_type, page.limit, (void **)&l.items, &l.n, &l.next_cursor, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

enum wasd_status ckpt_version(struct conn *c, const char *ckpt, char version[100], struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	version[0] = 0;
	sqlite3_stmt *q = q_begin(c, "SELECT model,version FROM model_versions WHERE checkpoint=?1 LIMIT 1", &st, err, "t",
	                          ckpt);
	if (q_row(c, q, &st, err))
		snprintf(version, 100, "%.63s version %lld", q_text(q, 0), (long long)sqlite3_column_int64(q, 1));
	q_end(c, q);
	return st;
}

/* ---- writes ---- */

/* Stores the event and the audit row of a change of a model. data: members beside the model's name; taken. */
static enum wasd_status tell(struct storage *s, const char *model, const char *action, const char *actor,
                             const char *reason, cJSON *data, struct wasd_err *err)
{
	char object[100];
	snprintf(object, sizeof object, "model/%.63s", model);
	enum wasd_status st =
		audit_change(s, (struct audit_in){.actor = actor, .action = action, .object = object, .reason = reason}, true,
	                 NULL, cJSON_Duplicate(data, 1), err);
	if (st) {
		cJSON_Delete(data);
		return st;
	}
	return event_put(s, "models", action, model, data, err);
}

struct model_args {
	const char *name, *note, *actor;
};

static enum wasd_status create_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct model_args *a = ctx;
	struct storage_model m = {0};
	char id[32];
	if (storage_model_get(s, a->name, &m, NULL) == WASD_OK) {
		storage_model_done(&m);
		return wasd_fail_at(err, WASD_EEXIST, "/name", "a model %s exists", a->name);
	}
	wasd_ulid("mdl_", id);
	/* The row of a deleted model stays, so that its version numbers are never given again. */
	enum wasd_status st = q_run(
		tx_conn(s),
		"INSERT INTO models(id,name,note,latest,deleted,created_by,created_at,updated_at) VALUES(?1,?2,?3,0,0,?4,?5,?5)"
		" ON CONFLICT(name) DO UPDATE SET id=?1, note=?3, deleted=0, created_by=?4, created_at=?5, updated_at=?5",
		err, "tttti", id, a->name, a->note ? a->note : "", a->actor, wasd_now_ms());
	return st ? st : tell(s, a->name, "model.create", a->actor, NULL, make_object("s", "name", a->name), err);
}

enum wasd_status storage_model_create(struct storage *s, const char *name, const char *note, const char *actor,
                                      struct wasd_err *err)
{
	struct model_args a = {name, note, actor};
	if (!wasd_name_ok(name))
		return wasd_fail_at(err, WASD_EINVAL, "/name", "%s is not a name for a model", name);
	return write_op(s, create_tx, &a, err);
}

static enum wasd_status note_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct model_args *a = ctx;
	struct conn *c = tx_conn(s);
	enum wasd_status st = q_run(c, "UPDATE models SET note=?2, updated_at=?3 WHERE name=?1 AND NOT deleted", err, "tti",
	                            a->name, a->note, wasd_now_ms());
	if (!st && !sqlite3_changes(c->db))
		st = wasd_fail(err, WASD_ENOTFOUND, "no model %s", a->name);
	return st ? st :
	            tell(s, a->name, "model.update", a->actor, NULL, make_object("ss", "name", a->name, "note", a->note),
	                 err);
}

enum wasd_status storage_model_note(struct storage *s, const char *name, const char *note, const char *actor,
                                    struct wasd_err *err)
{
	struct model_args a = {name, note, actor};
	return write_op(s, note_tx, &a, err);
}

/* Finds a deployment whose source names the model; and the version or the alias, unless 0 or NULL. "": none. */
static enum wasd_status source_user(struct conn *c, const char *model, int64_t version, const char *alias,
                                    char user[72], struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	user[0] = 0;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT name FROM (SELECT name,source FROM deployments UNION ALL SELECT name," ACTIVE_SOURCE
		" FROM deployments)"
		" WHERE json_extract(source,'$.model')=?1"
		" AND (?2 IS NULL OR json_extract(source,'$.version')=?2) AND (?3 IS NULL OR json_extract(source,'$.alias')=?3) LIMIT 1",
		&st, err, "tzt", model, version, alias);
	if (q_row(c, q, &st, err))
		snprintf(user, 72, "%s", q_text(q, 0));
	q_end(c, q);
	return st;
}

static enum wasd_status delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct model_args *a = ctx;
	struct conn *c = tx_conn(s);
	char user[72];
	enum wasd_status st = source_user(c, a->name, 0, NULL, user, err);
	if (st)
		return st;
	if (*user)
		return wasd_fail_at(err, WASD_ESTATE, user, "model %s is the source of deployment %s", a->name, user);
	st = q_run(c, "UPDATE models SET deleted=1, updated_at=?2 WHERE name=?1 AND NOT deleted", err, "ti", a->name,
	           wasd_now_ms());
	if (!st && !sqlite3_changes(c->db))
		st = wasd_fail(err, WASD_ENOTFOUND, "no model %s", a->name);
	if (!st)
		st = q_run(c, "DELETE FROM model_aliases WHERE model=?1", err, "t", a->name);
	if (!st)
		st = q_run(c, "DELETE FROM model_versions WHERE model=?1", err, "t", a->name);
	return st ? st : tell(s, a->name, "model.delete", a->actor, NULL, make_object("s", "name", a->name), err);
}

enum wasd_status storage_model_delete(struct storage *s, const char *name, const char *actor, struct wasd_err *err)
{
	struct model_args a = {name, NULL, actor};
	return delete_op(s, delete_tx, &a, err);
}

struct version_args {
	const struct storage_version_in *in;
	int64_t version;
};

static cJSON *parsed(const char *text)
{
	cJSON *j = NULL;
	if (text)
		wasd_json_parse(text, strlen(text), WASD_JSON_BULK, &j, NULL);
	return j;
}

/* Where the checkpoint comes from, kept with the version: its job may be deleted later. NULL: no memory. */
static char *lineage_of(struct storage *s, const struct storage_ckpt *k)
{
	struct storage_job job = {0};
	const char *arch = NULL;
	cJSON *info = parsed(k->info), *metrics = parsed(k->metrics);
	bool trained = k->job && !storage_job_get(s, k->job, &job, NULL);
	wasd_json_str(info, "arch", &arch);
	cJSON *data = trained ? make_object("sis", "name", job.dataset, "version", job.dataset_version, "digest",
	                                    job.dataset_digest) :
	                        cJSON_CreateNull();
	cJSON *o = make_object("ssijsssjs", "sha256", k->sha256, "arch", arch, "epoch", k->epoch, "metrics",
	                       metrics ? metrics : cJSON_CreateObject(), "job", job.id, "job_name", job.name, "spec_digest",
	                       job.spec_digest, "dataset", data, "init_from", job.init_checkpoint);
	char *text = o ? wasd_json_print(o) : NULL;
	cJSON_Delete(o);
	cJSON_Delete(info);
	storage_job_done(&job);
	return text;
}

static enum wasd_status version_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct version_args *a = ctx;
	const struct storage_version_in *in = a->in;
	struct conn *c = tx_conn(s);
	struct storage_model m = {0};
	struct storage_ckpt k = {0};
	char id[32];
	int64_t now = wasd_now_ms();
	wasd_ulid("ver_", id);
	enum wasd_status st = storage_model_get(s, in->model, &m, err);
	a->version = m.latest + 1;
	storage_model_done(&m);
	if (!st)
		st = storage_ckpt_get(s, in->checkpoint, &k, err);
	if (!st && k.corrupt)
		st = wasd_fail(err, WASD_ECORRUPT, "checkpoint %s is corrupt", in->checkpoint);
	char *lineage = st ? NULL : lineage_of(s, &k);
	if (!st && !lineage)
		st = wasd_fail(err, WASD_ENOMEM, "no memory");
	if (!st)
		st = q_run(c, "UPDATE models SET latest=?2, updated_at=?3 WHERE name=?1", err, "tii", in->model, a->version,
		           now);
	if (!st)
		st = q_run(
			c,
			"INSERT INTO model_versions(id,model,version,checkpoint,lineage,note,created_by,created_at) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
			err,
			"ttittt"
			"ti",
			id, in->model, a->version, in->checkpoint, lineage, in->note ? in->note : "", in->actor, now);
	wasd_free(lineage);
	storage_ckpt_done(&k);
	return st ? st :
	            tell(s, in->model, "model.version", in->actor, NULL,
	                 make_object("sis", "name", in->model, "version", a->version, "checkpoint", in->checkpoint), err);
}

enum wasd_status storage_version_add(struct storage *s, const struct storage_version_in *in, int64_t *version,
                                     struct wasd_err *err)
{
	struct version_args a = {.in = in};
	enum wasd_status st = write_op(s, version_tx, &a, err);
	if (!st)
		*version = a.version;
	return st;
}

struct alias_args {
	const char *model, *alias, *actor, *reason;
	int64_t version, expected;
	struct storage_names *moved;
};

static enum wasd_status version_delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct alias_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_version v = {0};
	char user[72] = "";
	enum wasd_status st = version_get(c, a->model, a->version, &v, err);
	storage_version_done(&v);
	if (st)
		return st;
	sqlite3_stmt *q = q_begin(c, "SELECT alias FROM model_aliases WHERE model=?1 AND version=?2 LIMIT 1", &st, err,
	                          "ti", a->model, a->version);
	if (q_row(c, q, &st, err))
		st = wasd_fail_at(err, WASD_ESTATE, "alias", "version %lld of model %s has the alias %s", (long long)a->version,
		                  a->model, q_text(q, 0));
	q_end(c, q);
	if (!st)
		st = source_user(c, a->model, a->version, NULL, user, err);
	if (!st && *user)
		st = wasd_fail_at(err, WASD_ESTATE, user, "version %lld of model %s is the source of deployment %s",
		                  (long long)a->version, a->model, user);
	if (!st)
		st = q_run(c, "DELETE FROM model_versions WHERE model=?1 AND version=?2", err, "ti", a->model, a->version);
	return st ? st :
	            tell(s, a->model, "model.version_delete", a->actor, NULL,
	                 make_object("si", "name", a->model, "version", a->version), err);
}

enum wasd_status storage_version_delete(struct storage *s, const char *model, int64_t version, const char *actor,
                                        struct wasd_err *err)
{
	struct alias_args a = {.model = model, .version = version, .actor = actor};
	return delete_op(s, version_delete_tx, &a, err);
}

/* Collects the deployments that follow the alias and do not serve, or are not to serve next, its checkpoint. */
static enum wasd_status followers(struct conn *c, const struct alias_args *a, const char *checkpoint,
                                  struct storage_names *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	storage_names_done(out); /* the transaction may run twice */
	sqlite3_stmt *q = q_begin(c,
	                          "SELECT name FROM deployments WHERE json_extract(" ACTIVE_SOURCE
	                          ",'$.model')=?1 AND json_extract(" ACTIVE_SOURCE
	                          ",'$.alias')=?2 AND coalesce(wanted,checkpoint)<>?3 AND NOT deleted ORDER BY id",
	                          &st, err, "ttt", a->model, a->alias, checkpoint);
	return q_names(c, q, st, out, err);
}

static enum wasd_status put_move(struct storage *s, const struct alias_args *a, int64_t previous, struct wasd_err *err)
{
	char id[32];
	wasd_ulid("mov_", id);
	enum wasd_status st = q_run(
		tx_conn(s),
		"INSERT INTO alias_moves(id,model,alias,version,previous,actor,reason,at) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)", err,
		"tttzz"
		"tti",
		id, a->model, a->alias, a->version, previous, a->actor, a->reason, wasd_now_ms());
	return st ? st :
	            tell(s, a->model, a->version ? "model.alias" : "model.alias_delete", a->actor, a->reason,
	                 make_object("ssii", "name", a->model, "alias", a->alias, "version", a->version, "previous",
	                             previous),
	                 err);
}

static enum wasd_status alias_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct alias_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_version v = {0};
	int64_t previous = 0;
	enum wasd_status st = version_get(c, a->model, a->version, &v, err);
	if (!st && (st = alias_get(c, a->model, a->alias, &previous, err)) == WASD_ENOTFOUND)
		st = WASD_OK;
	if (!st && a->expected >= 0 && a->expected != previous)
		st = wasd_fail_at(err, WASD_ESTATE, "version", "alias %s of model %s names version %lld, not %lld", a->alias,
		                  a->model, (long long)previous, (long long)a->expected);
	if (!st && previous == a->version) {
		storage_version_done(&v);
		return WASD_OK;
	}
	if (!st)
		st = q_run(
			c,
			"INSERT INTO model_aliases(model,alias,version) VALUES(?1,?2,?3) ON CONFLICT(model,alias) DO UPDATE SET version=?3",
			err, "tti", a->model, a->alias, a->version);
	if (!st)
		st = put_move(s, a, previous, err);
	if (!st)
		st = followers(c, a, v.checkpoint, a->moved, err);
	for (size_t i = 0; i < a->moved->n && !st; i++) {
		struct wasd_err why = {0};
		struct storage_source_in in = {.name = a->moved->items[i],
		                               .checkpoint = v.checkpoint,
		                               .actor = a->actor,
		                               .reason = a->reason};
		st = storage_deployment_source(s, &in, NULL, &why);
		if (st)
			wasd_fail_at(err, st, why.pointer, "deployment %s follows the alias: %s", a->moved->items[i], why.msg);
	}
	storage_version_done(&v);
	return st;
}

enum wasd_status storage_alias_set(struct storage *s, const struct storage_alias_in *in, struct storage_names *moved,
                                   struct wasd_err *err)
{
	struct alias_args a = {.model = in->model,
	                       .alias = in->alias,
	                       .actor = in->actor,
	                       .reason = in->reason,
	                       .version = in->version,
	                       .expected = in->expected,
	                       .moved = moved};
	if (!wasd_name_ok(in->alias))
		return wasd_fail_at(err, WASD_EINVAL, "alias", "%s is not a name for an alias", in->alias);
	enum wasd_status st = write_op(s, alias_tx, &a, err);
	if (st)
		storage_names_done(moved);
	return st;
}

static enum wasd_status alias_delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct alias_args *a = ctx;
	struct conn *c = tx_conn(s);
	int64_t previous = 0;
	char user[72] = "";
	enum wasd_status st = alias_get(c, a->model, a->alias, &previous, err);
	if (!st)
		st = source_user(c, a->model, 0, a->alias, user, err);
	if (!st && *user)
		st = wasd_fail_at(err, WASD_ESTATE, user, "alias %s of model %s is the source of deployment %s", a->alias,
		                  a->model, user);
	if (!st)
		st = q_run(c, "DELETE FROM model_aliases WHERE model=?1 AND alias=?2", err, "tt", a->model, a->alias);
	return st ? st : put_move(s, a, previous, err);
}

enum wasd_status storage_alias_delete(struct storage *s, const char *model, const char *alias, const char *actor,
                                      struct wasd_err *err)
{
	struct alias_args a = {.model = model, .alias = alias, .actor = actor};
	return delete_op(s, alias_delete_tx, &a, err);
}
