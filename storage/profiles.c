/* profiles.c - modes made of a checkpoint: requested, made by an engine process, stored with the data for serving
 * them. A profile is one of the kind "draw".
 *
 * States: queued -> searching -> ready | failed; failed -> queued when it is requested again; a search interrupted
 * by a restart is queued again. The result (the overlay and its info) exists exactly when the state is ready, and
 * never changes. */
#include "internal.h"
#include <string.h>

/* clang-format off */
#define PROFILE_COLS(T, I, D, X) \
	T(X, id) T(X, checkpoint) T(X, mode) T(X, kind) T(X, name) T(X, state) T(X, desire) T(X, request) T(X, dataset) \
	I(X, dataset_version) T(X, info) I(X, bytes) T(X, sha256) T(X, message) T(X, created_by) I(X, created_at) \
	I(X, updated_at) I(X, finished_at)
/* clang-format on */
ROW_TYPE(profile_type, storage_profile, PROFILE_COLS);

void storage_profile_done(struct storage_profile *p)
{
	row_done(&profile_type, p);
}

void storage_profile_list_done(struct storage_profile_list *l)
{
	rows_done(&profile_type, l->items, l->n);
	*l = (struct storage_profile_list){0};
}

/* ---- modes ---- */

/* A mode with a smaller network is there if the checkpoint's facts count its multiply-adds. */
static enum wasd_status smaller_check(struct conn *c, const char *ckpt, const char *mode, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT CASE WHEN json_valid(info) THEN json_extract(info,'$.macs.\"'||?2||'\"') END IS NULL FROM checkpoints"
		" WHERE id=?1",
		&st, err, "tt", ckpt, mode);
	bool lacks = q_row(c, q, &st, err) && sqlite3_column_int(q, 0);
	q_end(c, q);
	return st || !lacks ? st :
	                      wasd_fail_at(err, WASD_EINVAL, "/mode", "checkpoint %s has no mode %s: %s", ckpt, mode,
	                                   strcmp(mode, WASD_MODE_SLIM) ? "no network of this width was trained with it" :
	                                                                  "its network has no dead channels");
}

enum wasd_status mode_check(struct conn *c, const char *ckpt, const char *mode, struct wasd_err *err)
{
	const char *name = wasd_mode_member(mode);
	if (wasd_mode_chooses(mode))
		return WASD_OK; /* it answers with AOM where its cheap mode is not there */
	if (!wasd_mode_ok(mode))
		return wasd_fail_at(err, WASD_EINVAL, "/mode", "mode %s is not aom, dom, slim or FAMILY:NAME", mode);
	if (wasd_mode_smaller(mode))
		return smaller_check(c, ckpt, mode, err);
	if (!name)
		return WASD_OK;
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, "SELECT 1 FROM modes WHERE checkpoint=?1 AND mode=?2 AND state='ready'", &st, err,
	                          "tt", ckpt, mode);
	bool there = q_row(c, q, &st, err);
	q_end(c, q);
	return st || there ?
	           st :
	           wasd_fail_at(err, WASD_EBUSY, "/mode", "checkpoint %s has no mode %s that is ready", ckpt, mode);
}

/* ---- reading ---- */

/* A request names a profile by its mode, with or without the family. */
static void mode_of(const char *name, char out[WASD_MODE_LEN])
{
	if (wasd_mode_member(name))
		sqlite3_snprintf(WASD_MODE_LEN, out, "%s", name);
	else
		wasd_mode_join(WASD_FAMILY_DRAW, name, out);
}

static enum wasd_status get(struct conn *c, const char *ckpt, const char *name, struct storage_profile *out,
                            struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	char mode[WASD_MODE_LEN];
	mode_of(name, mode);
	sqlite3_stmt *q = ckpt ? q_begin(c, SELECT(PROFILE_COLS, "modes WHERE checkpoint=?1 AND (mode=?2 OR id=?3)"), &st,
	                                 err, "ttt", ckpt, mode, name) :
	                         q_begin(c, SELECT(PROFILE_COLS, "modes WHERE id=?1"), &st, err, "t", name);
	return row_one(c, q, st, &profile_type, out, "profile", name, err);
}

enum wasd_status storage_profile_get(struct storage *s, const char *checkpoint, const char *name,
                                     struct storage_profile *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = get(c, checkpoint, name, out, err);
	read_end(s, c);
	return st;
}

enum wasd_status storage_profile_list(struct storage *s, const char *checkpoint, const char *state,
                                      struct storage_profile_list *out, struct wasd_err *err)
{
	struct storage_profile_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q =
		q_begin(c,
	            SELECT(PROFILE_COLS,
	                   "modes WHERE checkpoint=?1 AND (?2 IS NULL OR state=?2) AND mode<>'" STORAGE_MEASURING
	                   "' ORDER BY id DESC"),
	            &st, err, "tt", checkpoint, state);
	st = row_all(c, q, st, &profile_type, (void **)&l.items, &l.n, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

enum wasd_status storage_profile_next(struct storage *s, struct storage_profile *out, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(
		c,
		SELECT(
			PROFILE_COLS,
			"modes WHERE state='queued' AND NOT EXISTS(SELECT 1 FROM modes b WHERE b.checkpoint=modes.checkpoint"
			" AND b.id<>modes.id AND b.mode=json_extract(modes.request,'$.base') AND b.state IN ('queued','searching'))"
			" ORDER BY updated_at, id LIMIT 1"),
		&st, err, "");
	st = row_one(c, q, st, &profile_type, out, "profile", "that waits", err);
	read_end(s, c);
	return st;
}

enum wasd_status storage_profile_of_job(struct storage *s, const char *job, struct storage_profile *out,
                                        int64_t *waiting, struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	int64_t n = 0;
	sqlite3_stmt *count = q_begin(
		c,
		"SELECT count(*) FROM job_profiles w JOIN modes p ON p.id=w.profile WHERE w.job=?1 AND p.state IN ('queued','searching')",
		&st, err, "t", job);
	if (q_row(c, count, &st, err))
		n = sqlite3_column_int64(count, 0);
	q_end(c, count);
	sqlite3_stmt *q = q_begin(
		c,
		SELECT(PROFILE_COLS,
	           "modes WHERE id IN (SELECT profile FROM job_profiles WHERE job=?1) AND state IN ('queued','searching')"
	           " ORDER BY state='searching' DESC, updated_at, id LIMIT 1"),
		&st, err, "t", job);
	st = row_one(c, q, st, &profile_type, out, "profile to search of job", job, err);
	read_end(s, c);
	if (!st && waiting)
		*waiting = n;
	return st;
}

enum wasd_status storage_profile_overlay(struct storage *s, const char *id, char **data, size_t *bytes,
                                         struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	char hex[WASD_SHA256_HEX], *copy = NULL;
	size_t n = 0;
	bool whole = false;
	sqlite3_stmt *q = q_begin(c, "SELECT file,sha256 FROM modes WHERE id=?1 AND state='ready'", &st, err, "t", id);
	bool there = q_row(c, q, &st, err);
	if (there) {
		const void *blob = sqlite3_column_blob(q, 0);
		n = blob ? (size_t)sqlite3_column_bytes(q, 0) : 0;
		wasd_sha256_of(n ? blob : "", n, hex);
		whole = n && q_text(q, 1) && !strcmp(hex, q_text(q, 1));
		copy = whole ? wasd_malloc(n) : NULL;
		if (copy)
			memcpy(copy, blob, n);
	}
	q_end(c, q);
	read_end(s, c);
	if (st)
		return st;
	if (!there)
		return wasd_fail(err, WASD_ENOTFOUND, "no mode %s that is ready", id);
	if (!whole)
		return wasd_fail(err, WASD_ECORRUPT, "mode %s: SHA-256 does not match", id);
	if (!copy)
		return wasd_fail(err, WASD_ENOMEM, "no memory for mode %s", id);
	*data = copy;
	*bytes = n;
	return WASD_OK;
}

enum wasd_status storage_profile_memfd(struct storage *s, const char *id, int *fd, int64_t *bytes,
                                       char sha256[WASD_SHA256_HEX], int64_t *overlay_bytes, struct wasd_err *err)
{
	struct storage_profile p = {0};
	char *overlay = NULL;
	size_t n = 0;
	enum wasd_status st = storage_profile_get(s, NULL, id, &p, err);
	if (!st)
		st = storage_profile_overlay(s, id, &overlay, &n, err);
	if (!st)
		st = ckpt_memfd_with(s, p.checkpoint, overlay, n, fd, bytes, sha256, err);
	if (!st)
		*overlay_bytes = (int64_t)n;
	wasd_free(overlay);
	storage_profile_done(&p);
	return st;
}

/* ---- changes ---- */

static enum wasd_status put_event(struct storage *s, const struct storage_profile *p, const char *state,
                                  struct wasd_err *err)
{
	struct storage_ckpt k = {0};
	enum wasd_status st = storage_ckpt_get(s, p->checkpoint, &k, err);
	if (st)
		return st;
	st = event_put(s, "checkpoints", "checkpoint.profile", p->checkpoint,
	               make_object("sssosso", "checkpoint", p->checkpoint, "profile", p->id, "name", p->name, "job", k.job,
	                           "state", state, "desire", p->desire, "message", p->message),
	               err);
	storage_ckpt_done(&k);
	return st;
}

struct begin_args {
	const struct storage_profile_in *in;
	struct storage_profile *out;
	bool existing;
};

static enum wasd_status check_begin(struct storage *s, const struct storage_profile_in *in, struct wasd_err *err)
{
	struct storage_ckpt k = {0};
	int64_t n = 0;
	enum wasd_status st = storage_ckpt_get(s, in->checkpoint, &k, err);
	if (st)
		return st;
	if (k.corrupt)
		st = wasd_fail(err, WASD_ECORRUPT, "checkpoint %s is corrupt", in->checkpoint);
	storage_ckpt_done(&k);
	if (st)
		return st;
	struct conn *c = tx_conn(s);
	sqlite3_stmt *q = q_begin(c, "SELECT count(*) FROM modes WHERE checkpoint=?1 AND mode<>'" STORAGE_MEASURING "'",
	                          &st, err, "t", in->checkpoint);
	if (q_row(c, q, &st, err))
		n = sqlite3_column_int64(q, 0);
	q_end(c, q);
	if (!st && n >= STORAGE_PROFILES_MAX && strcmp(in->name, STORAGE_MEASURING))
		st = wasd_fail(err, WASD_ESTATE, "%lld modes were made of checkpoint %s, which is the most; delete one of them",
		               (long long)n, in->checkpoint);
	return st ? st : storage_space(s, 0, err);
}

/* Handles a repeated request: a failed profile starts again; for any other the request must equal the earlier one. */
static enum wasd_status begin_again(struct storage *s, struct begin_args *a, struct wasd_err *err)
{
	const struct storage_profile_in *in = a->in;
	const struct storage_profile *have = a->out;
	bool same = !strcmp(have->request, in->request) && !strcmp(have->dataset, in->dataset) &&
	            have->dataset_version == in->dataset_version;
	a->existing = strcmp(have->state, "failed") != 0;
	if (a->existing)
		return same ?
		           WASD_OK :
		           wasd_fail_at(err, WASD_EEXIST, "/name", "checkpoint %s has a mode %s that was asked for as %.200s",
		                        in->checkpoint, have->mode, have->request);
	return q_run(
		tx_conn(s),
		"UPDATE modes SET state='queued', kind=?8, desire=?2, request=?3, dataset=?4, dataset_version=?5, created_by=?6, message=NULL, finished_at=NULL, updated_at=?7 WHERE id=?1",
		err, "ttttitit", have->id, in->desire, in->request, in->dataset, in->dataset_version, in->actor, wasd_now_ms(),
		in->kind ? in->kind : "draw");
}

static enum wasd_status begin_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct begin_args *a = ctx;
	const struct storage_profile_in *in = a->in;
	struct conn *c = tx_conn(s);
	enum wasd_status st = get(c, in->checkpoint, in->name, a->out, NULL);
	if (st == WASD_OK) {
		st = begin_again(s, a, err);
	} else if (st == WASD_ENOTFOUND) {
		char id[32], mode[WASD_MODE_LEN];
		if ((st = check_begin(s, in, err)))
			return st;
		wasd_ulid("prof_", id);
		mode_of(in->name, mode);
		st = q_run(
			c,
			"INSERT INTO modes(id,checkpoint,mode,kind,state,desire,request,dataset,dataset_version,created_by,created_at,updated_at)"
			" VALUES(?1,?2,?3,?4,'queued',?5,?6,?7,?8,?9,?10,?10)",
			err, "tttttttiti", id, in->checkpoint, mode, in->kind ? in->kind : "draw", in->desire, in->request,
			in->dataset, in->dataset_version, in->actor, wasd_now_ms());
	} else {
		return wasd_fail(err, st, "mode %s cannot be read", in->name);
	}
	if (st || a->existing)
		return st;
	storage_profile_done(a->out);
	st = get(c, in->checkpoint, in->name, a->out, err);
	if (!st)
		st = put_event(s, a->out, "queued", err);
	if (st)
		return st;
	char object[80];
	sqlite3_snprintf(sizeof object, object, "profile/%s", a->out->id);
	return audit_put(s,
	                 &(struct audit_in){.actor = in->actor,
	                                    .action = "profile.create",
	                                    .object = object,
	                                    .after = in->request},
	                 NULL, err);
}

enum wasd_status storage_profile_begin(struct storage *s, const struct storage_profile_in *in,
                                       struct storage_profile *out, bool *existing, struct wasd_err *err)
{
	if (wasd_mode_member(in->name) ? !wasd_mode_ok(in->name) : !wasd_mode_member_ok(in->name))
		return wasd_fail_at(err, WASD_EINVAL, "/name", "%s is not a name for a profile", in->name);
	struct storage_profile row = {0};
	struct begin_args a = {in, &row, false};
	enum wasd_status st = write_op(s, begin_tx, &a, err);
	if (!st && existing)
		*existing = a.existing;
	if (st || !out)
		storage_profile_done(&row);
	else
		*out = row;
	return st;
}

struct state_args {
	const char *id, *from, *state, *info, *own, *message, *sha256;
	const void *overlay;
	size_t bytes;
};

static enum wasd_status keep_measured(struct conn *c, const char *ckpt, const char *own, struct wasd_err *err)
{
	return q_run(c,
	             "UPDATE checkpoints SET info=json_set(info,'$.measured',json_set(json(?2),'$.at',?3))"
	             " WHERE id=?1 AND json_valid(info)",
	             err, "tti", ckpt, own, wasd_now_ms());
}

/* from: the required state; NULL: searching or queued. */
static enum wasd_status state_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct state_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_profile p = {0};
	int64_t now = wasd_now_ms();
	enum wasd_status st = get(c, NULL, a->id, &p, err);
	if (st)
		return st;
	bool fits = a->from ? !strcmp(p.state, a->from) : !strcmp(p.state, "queued") || !strcmp(p.state, "searching");
	if (!fits)
		st = wasd_fail_at(err, WASD_ESTATE, p.state, "mode %s is %s and cannot become %s", p.mode, p.state, a->state);
	else if (a->overlay)
		st = q_run(
			c,
			"UPDATE modes SET state=?2, info=?3, file=?4, bytes=?5, sha256=?6, updated_at=?7, finished_at=?7 WHERE id=?1",
			err, "tttbiti", a->id, a->state, a->info, a->overlay, a->bytes, (int64_t)a->bytes, a->sha256, now);
	else
		st = q_run(c, "UPDATE modes SET state=?2, message=?3, updated_at=?4, finished_at=?5 WHERE id=?1", err, "tttiz",
		           a->id, a->state, a->message, now, a->message ? now : INT64_C(0));
	if (!st && a->own)
		st = keep_measured(c, p.checkpoint, a->own, err);
	storage_profile_done(&p);
	if (st || (st = get(c, NULL, a->id, &p, err)))
		return st;
	st = put_event(s, &p, p.state, err);
	if (!st)
		st = jobs_profile_settled(s, &p, err);
	storage_profile_done(&p);
	return st;
}

enum wasd_status storage_profile_searching(struct storage *s, const char *id, struct wasd_err *err)
{
	struct state_args a = {.id = id, .from = "queued", .state = "searching"};
	return write_op(s, state_tx, &a, err);
}

enum wasd_status storage_profile_ready(struct storage *s, const char *id, const char *info, const char *own,
                                       const void *overlay, size_t bytes, const char *sha256, struct wasd_err *err)
{
	char hex[WASD_SHA256_HEX];
	if (!bytes || bytes > STORAGE_OVERLAY_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "profile %s: an overlay of %zu bytes, the most is %d", id, bytes,
		                 STORAGE_OVERLAY_MAX);
	enum wasd_status st = storage_space(s, 2 * bytes, err); /* it goes through the log */
	if (st)
		return st;
	wasd_sha256_of(overlay, bytes, hex);
	if (strcmp(hex, sha256))
		return wasd_fail(err, WASD_ECORRUPT, "profile %s: its overlay has SHA-256 %.16s..., announced was %.16s...", id,
		                 hex, sha256);
	struct state_args a = {.id = id,
	                       .from = "searching",
	                       .state = "ready",
	                       .info = info,
	                       .own = own,
	                       .sha256 = sha256,
	                       .overlay = overlay,
	                       .bytes = bytes};
	return write_op(s, state_tx, &a, err);
}

static enum wasd_status measured_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct state_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_profile p = {0};
	enum wasd_status st = get(c, NULL, a->id, &p, err);
	if (!st)
		st = keep_measured(c, p.checkpoint, a->own, err);
	if (!st)
		st = put_event(s, &p, "measured", err);
	if (!st)
		st = q_run(c, "DELETE FROM modes WHERE id=?1", err, "t", a->id);
	storage_profile_done(&p);
	return st;
}

enum wasd_status storage_modes_measured(struct storage *s, const char *id, const char *own, struct wasd_err *err)
{
	return write_op(s, measured_tx, &(struct state_args){.id = id, .own = own}, err);
}

enum wasd_status storage_profile_fail(struct storage *s, const char *id, const char *message, struct wasd_err *err)
{
	struct state_args a = {.id = id, .state = "failed", .message = message};
	return write_op(s, state_tx, &a, err);
}

/* In the start transaction: queues every interrupted search again. */
enum wasd_status profiles_requeue(struct storage *s, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = WASD_OK;
	for (;;) {
		char id[40] = "";
		sqlite3_stmt *q = q_begin(c, "SELECT id FROM modes WHERE state='searching' LIMIT 1", &st, err, "");
		if (q_row(c, q, &st, err))
			sqlite3_snprintf(sizeof id, id, "%s", q_text(q, 0));
		q_end(c, q);
		struct state_args a = {.id = id, .from = "searching", .state = "queued"};
		if (st || !id[0] || (st = state_tx(s, &a, err)))
			return st;
	}
}

/* ---- deletion ---- */

struct delete_args {
	const char *checkpoint, *name, *actor;
};

static enum wasd_status refuse_used(struct conn *c, const struct storage_profile *p, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q =
		q_begin(c,
	            "SELECT name, mode=?2 FROM deployments WHERE checkpoint=?1"
	            " AND (mode=?2 OR instr(coalesce(json_extract(options,'$.traffic'),''), '\"'||?2||'\"')>0) LIMIT 1",
	            &st, err, "tt", p->checkpoint, p->mode);
	if (q_row(c, q, &st, err))
		st = wasd_fail_at(err, WASD_ESTATE, q_text(q, 0), "mode %s is referenced by deployment %s, whose %s %s",
		                  p->mode, q_text(q, 0), sqlite3_column_int(q, 1) ? "mode is" : "traffic policy names",
		                  p->mode);
	q_end(c, q);
	return st;
}

static enum wasd_status delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct delete_args *a = ctx;
	struct conn *c = tx_conn(s);
	struct storage_profile p = {0};
	char object[80];
	enum wasd_status st = get(c, a->checkpoint, a->name, &p, err);
	if (st)
		return st;
	st = refuse_used(c, &p, err);
	if (!st)
		st = put_event(s, &p, "deleted", err);
	if (!st)
		st = q_run(c, "DELETE FROM modes WHERE id=?1", err, "t", p.id);
	sqlite3_snprintf(sizeof object, object, "profile/%s", p.id);
	if (!st)
		st = audit_put(s,
		               &(struct audit_in){.actor = a->actor,
		                                  .action = "profile.delete",
		                                  .object = object,
		                                  .before = p.request},
		               NULL, err);
	storage_profile_done(&p);
	return st ? st : jobs_settle(s, err);
}

enum wasd_status storage_profile_delete(struct storage *s, const char *checkpoint, const char *name, const char *actor,
                                        struct wasd_err *err)
{
	struct delete_args a = {checkpoint, name, actor};
	return delete_op(s, delete_tx, &a, err);
}
