/* audit.c - who changed what. Triggers in the schema refuse update and delete. */
#include "internal.h"

/* clang-format off */
#define AUDIT_COLS(T, I, D, X) \
	T(X, id) T(X, actor) T(X, action) T(X, object) T(X, before) T(X, after) T(X, reason) I(X, at)
/* clang-format on */
ROW_TYPE(audit_type, storage_audit, AUDIT_COLS);

void storage_audit_done(struct storage_audit *a)
{
	row_done(&audit_type, a);
}

void storage_audit_list_done(struct storage_audit_list *l)
{
	rows_done(&audit_type, l->items, l->n);
	wasd_free(l->next_cursor);
	*l = (struct storage_audit_list){0};
}

enum wasd_status audit_put(struct storage *s, const struct audit_in *in, char *id, struct wasd_err *err)
{
	char own[32];
	if (!id)
		id = own;
	wasd_ulid("aud_", id);
	return q_run(tx_conn(s),
	             "INSERT INTO audit(id,at,actor,action,object,before,after,reason) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
	             err, "titttttt", id, wasd_now_ms(), in->actor ? in->actor : "anonymous", in->action, in->object,
	             in->before, in->after, in->reason);
}

enum wasd_status audit_change(struct storage *s, struct audit_in in, bool is_new, cJSON *before, cJSON *after,
                              struct wasd_err *err)
{
	char *b = wasd_json_print(before), *a = wasd_json_print(after);
	in.before = b;
	in.after = a;
	enum wasd_status st = a && (b || is_new) ? audit_put(s, &in, NULL, err) : wasd_fail(err, WASD_ENOMEM, "no memory");
	wasd_free(a);
	wasd_free(b);
	cJSON_Delete(after);
	cJSON_Delete(before);
	return st;
}

struct add_args {
	struct audit_in in;
	char *id;
};

static enum wasd_status add_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct add_args *a = ctx;
	return audit_put(s, &a->in, a->id, err);
}

enum wasd_status storage_audit_add(struct storage *s, const char *actor, const char *action, const char *object,
                                   const char *before, const char *after, const char *reason, char *id,
                                   struct wasd_err *err)
{
	char own[32];
	struct add_args a = {{actor, action, object, before, after, reason}, id ? id : own};
	return write_op(s, add_tx, &a, err);
}

enum wasd_status storage_audit_list(struct storage *s, const char *object, const char *actor, int64_t since,
                                    struct storage_page page, struct storage_audit_list *out, struct wasd_err *err)
{
	enum wasd_status st = page_check(&page, "aud_", err);
	if (st)
		return st;
	struct storage_audit_list l = {0};
	struct conn *c = read_begin(s);
	sqlite3_stmt *q = q_begin(
		c,
		page.oldest_first ?
			SELECT(
				AUDIT_COLS,
				"audit WHERE (?1 IS NULL OR object=?1) AND (?2 IS NULL OR actor=?2) AND at>=?3 AND id>coalesce(?4,'') ORDER BY id LIMIT ?5") :
			SELECT(
				AUDIT_COLS,
				"audit WHERE (?1 IS NULL OR object=?1) AND (?2 IS NULL OR actor=?2) AND at>=?3 AND id<coalesce(?4,'~') ORDER BY id DESC LIMIT ?5"),
		&st, err, "ttiti", object, actor, since, page.cursor, (int64_t)page.limit + 1);
	st = row_page(c, q, st, &audit_type, page.limit, (void **)&l.items, &l.n, &l.next_cursor, err);
	read_end(s, c);
	if (!st)
		*out = l;
	return st;
}
