/* deployments.c - deployments: the checkpoint and mode they serve, and every change of these.
 *
 * States: created -> loading -> warming -> ready -> draining -> unloaded; loading, warming -> failed. A deployment
 * whose process died goes back from ready to loading; failed and unloaded ones may be loaded again; at start all
 * that were loaded become created. `generation` counts the changes that a client can notice: of mode or checkpoint.
 * Its update, audit row and event row share one transaction, so the stream, the history and the row always agree. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

/* clang-format off */
#define DEPLOYMENT_COLS(T, I, D, X) \
	T(X, id) T(X, name) T(X, source) T(X, job) T(X, checkpoint) T(X, mode) I(X, generation) I(X, version) \
	T(X, state) T(X, message) T(X, options) T(X, mode_by) I(X, mode_since) I(X, created_at) I(X, updated_at) \
	T(X, wanted) T(X, update_info) T(X, previous) I(X, deleted)
/* clang-format on */
ROW_TYPE(deployment_type, storage_deployment, DEPLOYMENT_COLS);

static const struct {
	const char *from;
	const char *to[6];
} moves[] = {
	{"created", {"loading", "failed", "unloaded"}},
	{"loading", {"warming", "ready", "failed", "draining", "unloaded"}},
	{"warming", {"ready", "failed", "loading", "draining", "unloaded"}},
	{"ready", {"loading", "failed", "draining", "unloaded"}},
	{"draining", {"unloaded", "failed"}},
	{"unloaded", {"loading"}},
	{"failed", {"loading", "unloaded"}},
};

static bool move_ok(const char *from, const char *to)
{
	for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
		for (int k = 0; !strcmp(moves[i].from, from) && k < 6 && moves[i].to[k]; k++)
			if (!strcmp(moves[i].to[k], to))
				return true;
	return false;
}

void storage_deployment_done(struct storage_deployment *d)
{
	row_done(&deployment_type, d);
}

void storage_deployment_list_done(struct storage_deployment_list *l)
{
	rows_done(&deployment_type, l->items, l->n);
	wasd_free(l->next_cursor);
	*l = (struct storage_deployment_list){0};
}

enum wasd_status deployment_row(struct conn *c, const char *name, struct storage_deployment *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(DEPLOYMENT_COLS, "deployments WHERE name=?1"), &st, err, "t", name);
	return row_one(c, q, st, &deployment_type, out, "deployment", name, err);
}

enum wasd_status storage_deployment_get(struct storage *s, const char *name, struct storage_deployment *out,
                                        struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = deployment_row(c, name, out, err);
	read_end(s, c);
	return st;
}

enum wasd_status storage_deployment_list(struct storage *s, const char *state, struct storage_page page,
                                         struct storage_deployment_list *out, struct wasd_err *err)
{
	enum wasd_status st = page_check(&page, "dep_", err);
	if (st)
		return st;
	struct storage_deployment_list l = {0};
	struct conn *c = read_begin(s);
	sqlite3_stmt *q = q_begin(
		c,
		page.oldest_first ?
			SELECT(DEPLOYMENT_COLS,
	               "deployments WHERE (?1 IS NULL OR state=?1) AND id>coalesce(?2,'') ORDER BY id LIMIT ?3") :
			SELECT(DEPLOYMENT_COLS,
	               "deployments WHERE (?1 IS NULL OR state=?1) AND id<coalesce(?2,'~') ORDER BY id DESC LIMIT ?3"),
		&st, err, "tti", state, page.cursor, (int64_t)page.limit + 1);
	st = row_page(c, q, st, &deployment_type, page.limit, (void **)&l.items, &l.n, &l.next_cursor, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

cJSON *deployment_view(const struct storage_deployment *d, const char *message, const char *previous,
                       const char *reason, const char *audit_id)
{
	return make_object("sssiis"
	                   "oooo",
	                   "name", d->name, "state", d->state, "mode", d->mode, "generation", d->generation, "version",
	                   d->version, "checkpoint", d->checkpoint, "message", message, "previous", previous, "reason",
	                   reason, "audit_id", audit_id);
}

static char *view_text(const struct storage_deployment *d, bool options)
{
	cJSON *o = d ? deployment_view(d, NULL, NULL, NULL, NULL) : NULL, *all;
	if (o && options && wasd_json_parse(d->options, strlen(d->options), WASD_JSON_REQUEST, &all, NULL) == WASD_OK)
		cJSON_AddItemToObject(o, "options", all);
	char *text = wasd_json_print(o);
	cJSON_Delete(o);
	return text;
}

/* Adds the audit row of a change from *before (NULL: created) to *after (NULL: deleted). */
enum wasd_status deployment_audit(struct storage *s, const char *name, const char *action, const char *actor,
                                  const char *reason, const struct storage_deployment *before,
                                  const struct storage_deployment *after, char *id, struct wasd_err *err)
{
	bool options = !strcmp(action, "deployment.options");
	char object[100], *b = view_text(before, options), *a = view_text(after, options);
	snprintf(object, sizeof object, "deployment/%s", name);
	enum wasd_status st = (before && !b) || (after && !a) ?
	                          wasd_fail(err, WASD_ENOMEM, "no memory") :
	                          audit_put(s, &(struct audit_in){actor, action, object, b, a, reason}, id, err);
	wasd_free(a);
	wasd_free(b);
	return st;
}

/* ---- create ---- */

struct create_args {
	const struct storage_deployment_in *in;
	struct storage_deployment *out;
};

enum wasd_status ckpt_usable(struct storage *s, const char *id, struct storage_ckpt *k, struct wasd_err *err)
{
	enum wasd_status st = storage_ckpt_get(s, id, k, err);
	if (st || !k->corrupt)
		return st;
	storage_ckpt_done(k);
	return wasd_fail(err, WASD_ECORRUPT, "checkpoint %s is corrupt", id);
}

static enum wasd_status create_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct create_args *a = ctx;
	const struct storage_deployment_in *in = a->in;
	struct conn *c = tx_conn(s);
	struct storage_ckpt k = {0};
	char id[32];
	int64_t now = wasd_now_ms();
	enum wasd_status st = deployment_row(c, in->name, a->out, NULL);
	if (st == WASD_OK) {
		storage_deployment_done(a->out);
		return wasd_fail_at(err, WASD_EEXIST, "/name", "a deployment %s exists", in->name);
	}
	if ((st = mode_check(c, in->checkpoint, in->mode, err)) || (st = ckpt_usable(s, in->checkpoint, &k, err)))
		return st;
	wasd_ulid("dep_", id);
	st = q_run(
		c,
		"INSERT INTO deployments(id,name,source,job,checkpoint,mode,generation,version,state,options,mode_by,mode_since,created_at,updated_at)"
		" VALUES(?1,?2,?3,?4,?5,?6,1,1,'created',?7,?8,?9,?9,?9)",
		err,
		"ttttttt"
		"ti",
		id, in->name, in->source, k.job, in->checkpoint, in->mode, in->options ? in->options : "{}", in->actor, now);
	storage_ckpt_done(&k);
	if (!st)
		st = deployment_row(c, in->name, a->out, err);
	if (!st)
		st = event_put(s, "deployments", "deployment.state", in->name, deployment_view(a->out, NULL, NULL, NULL, NULL),
		               err);
	if (!st)
		st = deployment_audit(s, in->name, "deployment.create", in->actor, in->reason, NULL, a->out, NULL, err);
	return st;
}

enum wasd_status storage_deployment_create(struct storage *s, const struct storage_deployment_in *in,
                                           struct storage_deployment *out, struct wasd_err *err)
{
	if (!wasd_name_ok(in->name))
		return wasd_fail_at(err, WASD_EINVAL, "/name", "%s is not a name for a deployment", in->name);
	struct storage_deployment row = {0};
	struct create_args a = {in, &row};
	enum wasd_status st = write_op(s, create_tx, &a, err);
	if (st)
		storage_deployment_done(&row);
	else
		*out = row;
	return st;
}

/* ---- state ---- */

struct state_args {
	const char *name, *state, *message;
};

static enum wasd_status state_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct state_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_deployment d = {0};
	enum wasd_status st = deployment_row(c, a->name, &d, err);
	if (st)
		return st;
	if (strcmp(d.state, a->state) && !move_ok(d.state, a->state))
		st = wasd_fail_at(err, WASD_ESTATE, d.state, "deployment %s cannot go from %s to %s", a->name, d.state,
		                  a->state);
	if (!st)
		st = q_run(c, "UPDATE deployments SET state=?2, message=?3, updated_at=?4 WHERE name=?1", err, "ttti", a->name,
		           a->state, a->message, wasd_now_ms());
	storage_deployment_done(&d);
	if (st || (st = deployment_row(c, a->name, &d, err)))
		return st;
	st = event_put(s, "deployments", "deployment.state", a->name, deployment_view(&d, d.message, NULL, NULL, NULL),
	               err);
	storage_deployment_done(&d);
	return st;
}

enum wasd_status storage_deployment_state(struct storage *s, const char *name, const char *state, const char *message,
                                          struct wasd_err *err)
{
	struct state_args a = {name, state, message};
	return write_op(s, state_tx, &a, err);
}

/* ---- mode ---- */

struct mode_args {
	const struct storage_mode_in *in;
	struct storage_mode_out out;
};

static enum wasd_status mode_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct mode_args *a = ctx;
	const struct storage_mode_in *in = a->in;
	struct conn *c = tx_conn(s);
	struct storage_deployment before = {0}, after = {0};
	int64_t now = wasd_now_ms();
	enum wasd_status st = deployment_row(c, in->name, &before, err);
	if (st)
		return st;
	a->out = (struct storage_mode_out){.generation = before.generation, .since = before.mode_since};
	snprintf(a->out.previous, sizeof a->out.previous, "%s", before.mode);
	if (in->expected_generation && in->expected_generation != before.generation) {
		st = wasd_fail_at(err, WASD_ESTATE, "generation", "deployment %s is at generation %lld, not %lld", in->name,
		                  (long long)before.generation, (long long)in->expected_generation);
		goto out;
	}
	if (strcmp(before.state, "ready")) {
		st = wasd_fail_at(err, WASD_ESTATE, before.state, "deployment %s is %s, not ready", in->name, before.state);
		goto out;
	}
	if (!strcmp(before.mode, in->mode) || (st = mode_check(c, before.checkpoint, in->mode, err)))
		goto out;
	st = q_run(
		c,
		"UPDATE deployments SET mode=?2, generation=generation+1, mode_by=?3, mode_since=?4, updated_at=?4 WHERE name=?1",
		err, "ttti", in->name, in->mode, in->actor, now);
	if (!st)
		st = deployment_row(c, in->name, &after, err);
	if (!st)
		st = deployment_audit(s, in->name, "deployment.mode", in->actor, in->reason, &before, &after, a->out.audit_id,
		                      err);
	if (st)
		goto out;
	a->out.generation = after.generation;
	a->out.since = now;
	a->out.changed = true;
	st = event_put(s, "deployments", "deployment.mode", in->name,
	               deployment_view(&after, NULL, before.mode, in->reason, a->out.audit_id), err);
out:
	storage_deployment_done(&before);
	storage_deployment_done(&after);
	return st;
}

enum wasd_status storage_deployment_mode(struct storage *s, const struct storage_mode_in *in,
                                         struct storage_mode_out *out, struct wasd_err *err)
{
	struct mode_args a = {.in = in};
	enum wasd_status st = write_op(s, mode_tx, &a, err);
	if (!st || st == WASD_ESTATE)
		*out = a.out;
	return st;
}

/* ---- options ---- */

/* The options with the members of patch. NULL: no memory, or one of the texts is not an object. */
static char *with_members(const char *options, const char *patch)
{
	cJSON *all = NULL, *set = NULL;
	bool ok = !wasd_json_parse(options, strlen(options), WASD_JSON_REQUEST, &all, NULL) &&
	          !wasd_json_parse(patch, strlen(patch), WASD_JSON_REQUEST, &set, NULL) && cJSON_IsObject(all) &&
	          cJSON_IsObject(set);
	for (cJSON *m = ok ? set->child : NULL, *next; m && ok; m = next) {
		next = m->next;
		cJSON_DeleteItemFromObjectCaseSensitive(all, m->string);
		if (!cJSON_IsNull(m))
			ok = cJSON_AddItemToObject(all, m->string, cJSON_DetachItemViaPointer(set, m));
	}
	char *text = ok ? wasd_json_print(all) : NULL;
	cJSON_Delete(all);
	cJSON_Delete(set);
	return text;
}

static enum wasd_status options_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct storage_options_in *in = ctx;
	struct conn *c = tx_conn(s);
	struct storage_deployment before = {0}, after = {0};
	enum wasd_status st = deployment_row(c, in->name, &before, err);
	if (st)
		return st;
	char *text = with_members(before.options, in->options);
	st = text ? q_run(c, "UPDATE deployments SET options=?2, updated_at=?3 WHERE name=?1", err, "tti", in->name, text,
	                  wasd_now_ms()) :
	            wasd_fail(err, WASD_ENOMEM, "no memory for the options of a deployment");
	wasd_free(text);
	if (!st)
		st = deployment_row(c, in->name, &after, err);
	if (!st)
		st = deployment_audit(s, in->name, "deployment.options", in->actor, in->reason, &before, &after, NULL, err);
	if (!st)
		st = event_put(s, "deployments", "deployment.state", in->name,
		               deployment_view(&after, after.message, NULL, NULL, NULL), err);
	storage_deployment_done(&before);
	storage_deployment_done(&after);
	return st;
}

enum wasd_status storage_deployment_options(struct storage *s, const struct storage_options_in *in,
                                            struct wasd_err *err)
{
	return write_op(s, options_tx, (void *)(uintptr_t)in, err);
}
