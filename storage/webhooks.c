/* webhooks.c - where events are sent to, how far each hook has come, and its last deliveries.
 *
 * The cursor of a hook is the sequence number of the last event that was delivered to it, or passed over because the
 * hook does not ask for it. It moves in the transaction that records the delivery, so that after a crash an event is
 * sent again rather than lost. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

enum { HISTORY = 100 };

/* clang-format off */
#define HOOK_COLS(T, I, D, X) \
	T(X, id) T(X, url) T(X, events) T(X, secret) I(X, active) I(X, cursor) I(X, tries) I(X, next_at) I(X, lost) T(X, error) T(X, created_by) \
	I(X, created_at) I(X, updated_at)
#define DELIVERY_COLS(T, I, D, X) \
	T(X, id) T(X, webhook) I(X, seq) T(X, type) I(X, attempt) T(X, state) I(X, status) T(X, error) I(X, ms) I(X, at)
/* clang-format on */
ROW_TYPE(hook_type, storage_webhook, HOOK_COLS);
ROW_TYPE(delivery_type, storage_delivery, DELIVERY_COLS);

void storage_webhook_done(struct storage_webhook *w)
{
	row_done(&hook_type, w);
}

void storage_webhook_list_done(struct storage_webhook_list *l)
{
	rows_done(&hook_type, l->items, l->n);
	*l = (struct storage_webhook_list){0};
}

void storage_delivery_list_done(struct storage_delivery_list *l)
{
	rows_done(&delivery_type, l->items, l->n);
	wasd_free(l->next_cursor);
	*l = (struct storage_delivery_list){0};
}

static enum wasd_status hook_get(struct conn *c, const char *id, struct storage_webhook *out, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(HOOK_COLS, "webhooks WHERE id=?1"), &st, err, "t", id);
	return row_one(c, q, st, &hook_type, out, "webhook", id, err);
}

enum wasd_status storage_webhook_get(struct storage *s, const char *id, struct storage_webhook *out,
                                     struct wasd_err *err)
{
	struct conn *c = read_begin(s);
	enum wasd_status st = hook_get(c, id, out, err);
	read_end(s, c);
	return st;
}

enum wasd_status storage_webhook_list(struct storage *s, struct storage_webhook_list *out, struct wasd_err *err)
{
	struct storage_webhook_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	sqlite3_stmt *q = q_begin(c, SELECT(HOOK_COLS, "webhooks ORDER BY id"), &st, err, "");
	st = row_all(c, q, st, &hook_type, (void **)&l.items, &l.n, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}

/* The members in audit rows; not the secret, and of the URL's path, which may hold a token, only a hash. */
static cJSON *view(const struct storage_webhook *w)
{
	char origin[2048], hash[WASD_SHA256_HEX];
	const char *host = strstr(w->url, "://"), *path;
	cJSON *events = NULL;
	host = host ? host + 3 : w->url;
	path = host + strcspn(host, "/?");
	snprintf(origin, sizeof origin, "%.*s", (int)(path - w->url), w->url);
	wasd_sha256_of(path, strlen(path), hash);
	wasd_json_parse(w->events, strlen(w->events), WASD_JSON_REQUEST, &events, NULL);
	return make_object("ssji", "url", origin, "path_sha256", hash, "events", events, "active", w->active);
}

static enum wasd_status audit(struct storage *s, const char *id, const char *action, const char *actor,
                              const struct storage_webhook *before, const struct storage_webhook *after,
                              struct wasd_err *err)
{
	char object[60];
	sqlite3_snprintf(sizeof object, object, "webhook/%s", id);
	struct audit_in in = {.actor = actor, .action = action, .object = object};
	if (after) {
		cJSON *now = view(after);
		if (before && strcmp(before->secret, after->secret))
			cJSON_AddTrueToObject(now, "secret_changed");
		return audit_change(s, in, !before, before ? view(before) : NULL, now, err);
	}
	char *text = NULL;
	cJSON *j = view(before);
	in.before = text = wasd_json_print(j);
	enum wasd_status st = text ? audit_put(s, &in, NULL, err) : wasd_fail(err, WASD_ENOMEM, "no memory");
	cJSON_Delete(j);
	wasd_free(text);
	return st;
}

/* ---- changes ---- */

struct put_args {
	const char *id;
	const struct storage_webhook_in *in;
	struct storage_webhook *out;
	char made[32];
};

static enum wasd_status create_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct put_args *a = ctx;
	struct conn *c = tx_conn(s);
	int64_t n = 0;
	enum wasd_status st = conn_int(c, "SELECT count(*) FROM webhooks", &n, err);
	if (!st && n >= STORAGE_WEBHOOKS_MAX)
		st = wasd_fail_at(err, WASD_ESTATE, "webhooks", "there are %d webhooks, which is the limit: delete one",
		                  STORAGE_WEBHOOKS_MAX);
	wasd_ulid("hook_", a->made);
	if (!st)
		st = q_run(c,
		           "INSERT INTO webhooks(id,url,events,secret,active,cursor,created_by,created_at,updated_at)"
		           " VALUES(?1,?2,?3,?4,?5,coalesce((SELECT seq FROM sqlite_sequence WHERE name='events'),0),?6,?7,?7)",
		           err, "ttttiti", a->made, a->in->url, a->in->events, a->in->secret, a->in->active, a->in->actor,
		           wasd_now_ms());
	if (!st)
		st = hook_get(c, a->made, a->out, err);
	return st ? st : audit(s, a->made, "webhook.create", a->in->actor, NULL, a->out, err);
}

static enum wasd_status update_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct put_args *a = ctx;
	struct storage_webhook before = {0};
	enum wasd_status st = hook_get(tx_conn(s), a->id, &before, err);
	if (!st)
		st = q_run(tx_conn(s),
		           "UPDATE webhooks SET url=coalesce(?2,url), events=coalesce(?3,events), secret=coalesce(?4,secret),"
		           " active=CASE WHEN ?5>=0 THEN ?5 ELSE active END, tries=0, next_at=0, error=NULL,"
		           " updated_at=max(?6,updated_at+1) WHERE id=?1",
		           err, "ttttii", a->id, a->in->url, a->in->events, a->in->secret, a->in->active, wasd_now_ms());
	if (!st)
		st = hook_get(tx_conn(s), a->id, a->out, err);
	if (!st)
		st = audit(s, a->id, "webhook.update", a->in->actor, &before, a->out, err);
	storage_webhook_done(&before);
	return st;
}

static enum wasd_status put(struct storage *s, storage_tx_fn *fn, const char *id, const struct storage_webhook_in *in,
                            struct storage_webhook *out, struct wasd_err *err)
{
	struct storage_webhook row = {0};
	struct put_args a = {.id = id, .in = in, .out = &row};
	enum wasd_status st = write_op(s, fn, &a, err);
	if (st)
		storage_webhook_done(&row); /* filled if the COMMIT failed */
	else
		*out = row;
	return st;
}

enum wasd_status storage_webhook_create(struct storage *s, const struct storage_webhook_in *in,
                                        struct storage_webhook *out, struct wasd_err *err)
{
	return put(s, create_tx, NULL, in, out, err);
}

enum wasd_status storage_webhook_update(struct storage *s, const char *id, const struct storage_webhook_in *in,
                                        struct storage_webhook *out, struct wasd_err *err)
{
	return put(s, update_tx, id, in, out, err);
}

struct delete_args {
	const char *id, *actor;
};

static enum wasd_status delete_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct delete_args *a = ctx;
	struct storage_webhook before = {0};
	enum wasd_status st = hook_get(tx_conn(s), a->id, &before, err);
	if (!st)
		st = q_run(tx_conn(s), "DELETE FROM webhooks WHERE id=?1", err, "t", a->id);
	if (!st)
		st = audit(s, a->id, "webhook.delete", a->actor, &before, NULL, err);
	storage_webhook_done(&before);
	return st;
}

enum wasd_status storage_webhook_delete(struct storage *s, const char *id, const char *actor, struct wasd_err *err)
{
	struct delete_args a = {id, actor};
	return delete_op(s, delete_tx, &a, err);
}

/* ---- deliveries ---- */

/* Adds the row and removes those beyond HISTORY. */
static enum wasd_status put_delivery(struct conn *c, const struct storage_delivered *d, struct wasd_err *err)
{
	char id[32];
	wasd_ulid("whd_", id);
	enum wasd_status st =
		q_run(c,
	          "INSERT INTO deliveries(id,webhook,seq,type,attempt,state,status,error,ms,at)"
	          " SELECT ?1,?2,?3,?4,?5,?6,?7,?8,?9,?10 FROM webhooks WHERE id=?2", /* it may be deleted */
	          err, "ttititztii", id, d->webhook, d->seq, d->type, d->attempt, d->state, d->status, d->error, d->ms,
	          wasd_now_ms());
	if (!st)
		st = q_run(c,
		           "DELETE FROM deliveries WHERE webhook=?1 AND id<=(SELECT id FROM deliveries WHERE webhook=?1"
		           " ORDER BY id DESC LIMIT 1 OFFSET ?2)",
		           err, "ti", d->webhook, (int64_t)HISTORY);
	return st;
}

static enum wasd_status moved_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct storage_delivered *d = ctx;
	struct conn *c = tx_conn(s);
	enum wasd_status st = q_run(
		c,
		"UPDATE webhooks SET cursor=CASE WHEN ?2 THEN max(cursor,?3) ELSE cursor END, tries=?4, next_at=?5, error=?6,"
		" lost=lost+?7 WHERE id=?1 AND (?8=0 OR updated_at=?8)",
		err, "tiiiitii", d->webhook, (int64_t)d->advance, d->seq, d->tries, d->next_at, d->error, d->lost,
		d->updated_at);
	if (st || !d->state)
		return st; /* only the cursor moves */
	return put_delivery(c, d, err);
}

enum wasd_status storage_webhook_delivered(struct storage *s, const struct storage_delivered *d, struct wasd_err *err)
{
	return write_op(s, moved_tx, (void *)(uintptr_t)d, err);
}

struct tested_args {
	const struct storage_delivered *d;
	const char *actor;
};

static enum wasd_status tested_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	const struct tested_args *a = ctx;
	char object[60];
	sqlite3_snprintf(sizeof object, object, "webhook/%s", a->d->webhook);
	enum wasd_status st = put_delivery(tx_conn(s), a->d, err);
	struct audit_in in = {.actor = a->actor, .action = "webhook.test", .object = object};
	return st ? st : audit_put(s, &in, NULL, err);
}

enum wasd_status storage_webhook_tested(struct storage *s, const struct storage_delivered *d, const char *actor,
                                        struct wasd_err *err)
{
	struct tested_args a = {d, actor};
	return write_op(s, tested_tx, &a, err);
}

enum wasd_status storage_delivery_list(struct storage *s, const char *webhook, struct storage_page page,
                                       struct storage_delivery_list *out, struct wasd_err *err)
{
	enum wasd_status st = page_check(&page, "whd_", err);
	if (st)
		return st;
	struct storage_delivery_list l = {0};
	struct conn *c = read_begin(s);
	sqlite3_stmt *q =
		q_begin(c,
	            page.oldest_first ?
	                SELECT(DELIVERY_COLS, "deliveries WHERE webhook=?1 AND id>coalesce(?2,'') ORDER BY id LIMIT ?3") :
	                SELECT(DELIVERY_COLS,
	                       "deliveries WHERE webhook=?1 AND id<coalesce(?2,'~') ORDER BY id DESC LIMIT ?3"),
	            &st, err, "tti", webhook, page.cursor, (int64_t)page.limit + 1);
	st = row_page(c, q, st, &delivery_type, page.limit, (void **)&l.items, &l.n, &l.next_cursor, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}
