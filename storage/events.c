/* events.c - the numbered stream of events behind SSE and history. An event is written in the transaction of the
 * change that it reports. */
#include "internal.h"
#include <string.h>

/* clang-format off */
#define EVENT_COLS(T, I, D, X) \
	I(X, seq) T(X, topic) T(X, type) T(X, object) T(X, data) I(X, ts)
/* clang-format on */
ROW_TYPE(event_type, storage_event, EVENT_COLS);

void storage_event_done(struct storage_event *e)
{
	row_done(&event_type, e);
}

void storage_event_list_done(struct storage_event_list *l)
{
	rows_done(&event_type, l->items, l->n);
	*l = (struct storage_event_list){0};
}

static bool add_member(cJSON *o, char kind, const char *key, va_list *ap)
{
	const char *text;
	cJSON *child;
	switch (kind) {
	case 's':
	case 'o':
		text = va_arg(*ap, const char *);
		return text ? cJSON_AddStringToObject(o, key, text) != NULL : kind == 'o' || cJSON_AddNullToObject(o, key);
	case 'i':
		return cJSON_AddNumberToObject(o, key, (double)va_arg(*ap, int64_t)) != NULL;
	case 'd':
		return wasd_json_add_real(o, key, va_arg(*ap, double));
	default:
		child = va_arg(*ap, cJSON *);
		if (child && cJSON_AddItemToObject(o, key, child))
			return true;
		cJSON_Delete(child);
		return false;
	}
}

cJSON *make_object(const char *kinds, ...)
{
	cJSON *o = cJSON_CreateObject();
	bool ok = o != NULL;
	va_list ap;
	va_start(ap, kinds);
	for (; *kinds; kinds++) { /* go on to the end after a failure too: children passed in must be freed */
		const char *key = va_arg(ap, const char *);
		ok &= add_member(o, *kinds, key, &ap);
	}
	va_end(ap);
	if (ok)
		return o;
	cJSON_Delete(o);
	return NULL;
}

static enum wasd_status put_text(struct storage *s, const char *topic, const char *type, const char *object,
                                 const char *data, struct wasd_err *err)
{
	struct conn *c = tx_conn(s);
	enum wasd_status st = q_run(c, "INSERT INTO events(topic,type,object,data,ts) VALUES(?1,?2,?3,?4,?5)", err, "tttti",
	                            topic, type, object, data, wasd_now_ms());
	if (st)
		return st;
	int64_t seq = sqlite3_last_insert_rowid(c->db);
	s->writer.last_event = seq;
	/* Events that a webhook has not got yet stay twice as long; see server/webhooks.c for those lost after that. */
	return q_run(
		c, "DELETE FROM events WHERE seq<=max(?2,min(?1,coalesce((SELECT min(cursor) FROM webhooks WHERE active),?1)))",
		err, "ii", seq - s->opts.event_rows, seq - 2 * s->opts.event_rows);
}

enum wasd_status event_put(struct storage *s, const char *topic, const char *type, const char *object, cJSON *data,
                           struct wasd_err *err)
{
	char *text = wasd_json_print(data);
	cJSON_Delete(data);
	if (!text)
		return wasd_fail(err, WASD_ENOMEM, "no memory for an event");
	enum wasd_status st = put_text(s, topic, type, object, text, err);
	wasd_free(text);
	return st;
}

struct add_args {
	const char *topic, *type, *object, *data;
	int64_t seq;
};

static enum wasd_status add_tx(struct storage *s, void *ctx, struct wasd_err *err)
{
	struct add_args *a = ctx;
	enum wasd_status st = put_text(s, a->topic, a->type, a->object, a->data, err);
	a->seq = s->writer.last_event;
	return st;
}

enum wasd_status storage_event_add(struct storage *s, const char *topic, const char *type, const char *object,
                                   const char *data, int64_t *seq, struct wasd_err *err)
{
	struct add_args a = {topic, type, object ? object : "", data, 0};
	enum wasd_status st = write_op(s, add_tx, &a, err);
	if (!st && seq)
		*seq = a.seq;
	return st;
}

void storage_on_events(struct storage *s, storage_event_fn *fn, void *ctx)
{
	s->on_events_ctx = ctx;
	s->on_events = fn;
}

enum wasd_status storage_event_read(struct storage *s, int64_t after, const char *topics, const char *object, int limit,
                                    struct storage_event_list *out, struct wasd_err *err)
{
	if (limit == 0)
		limit = 500;
	if (limit < 0 || limit > 10000)
		return wasd_fail_at(err, WASD_EINVAL, "/limit", "limit is %d, 1 to 10,000 is possible", limit);
	struct storage_event_list l = {0};
	struct conn *c = read_begin(s);
	enum wasd_status st = WASD_OK;
	/* Read the bounds first: events committed between the two statements are then read again by the next call, never
	 * skipped. */
	sqlite3_stmt *q = q_begin(
		c,
		"SELECT coalesce((SELECT min(seq) FROM events),0), coalesce((SELECT seq FROM sqlite_sequence WHERE name='events'),0)",
		&st, err, "");
	if (q_row(c, q, &st, err)) {
		l.first_seq = sqlite3_column_int64(q, 0);
		l.last_seq = sqlite3_column_int64(q, 1);
		if (!l.first_seq)
			l.first_seq = l.last_seq + 1;
	}
	q_end(c, q);
	q = q_begin(
		c,
		SELECT(
			EVENT_COLS,
			"events WHERE seq>?1 AND seq<=?2 AND (?3 IS NULL OR instr(','||?3||',',','||topic||',')) AND (?4 IS NULL OR object=?4) ORDER BY seq LIMIT ?5"),
		&st, err, "iitti", after, l.last_seq, topics, object, (int64_t)limit);
	st = row_all(c, q, st, &event_type, (void **)&l.items, &l.n, err);
	read_end(s, c);
	if (st)
		return st;
	/* A full page may be incomplete: the next call continues after its last event. */
	if (l.n == (size_t)limit)
		l.last_seq = l.items[l.n - 1].seq;
	*out = l;
	return WASD_OK;
}
