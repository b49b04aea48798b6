/* Webhooks: what is stored of them, and how long events wait for them. tests/e2e/test_webhooks.py sends them. */
#include "util.h"
#include <sqlite3.h>
#include <string.h>

static struct storage_webhook make_hook(struct storage *s)
{
	struct storage_webhook w = {0};
	struct storage_webhook_in in = {.url = "http://127.0.0.1:9/",
	                                .events = "[\"system\"]",
	                                .secret = "12345678",
	                                .actor = "me",
	                                .active = 1};
	OK(storage_webhook_create(s, &in, &w, &err));
	return w;
}

static void add_events(struct storage *s, int n)
{
	for (int i = 0; i < n; i++)
		OK(storage_event_add(s, "system", "system.test", "x", "{}", NULL, &err));
}

/* The sequence numbers of the oldest and the newest event. */
static void bounds(struct storage *s, int64_t *first, int64_t *last)
{
	struct storage_event_list l = {0};
	OK(storage_event_read(s, 0, NULL, NULL, 10000, &l, &err));
	*first = l.n ? l.items[0].seq : 0;
	*last = l.n ? l.items[l.n - 1].seq : 0;
	storage_event_list_done(&l);
}

/* util.h opens the store with room for 200 events. */
static void test_events_wait(void)
{
	struct storage *s = fresh_store();
	int64_t first, last;
	add_events(s, 250);
	bounds(s, &first, &last);
	CHECK_INT(last - first + 1, 200);
	struct storage_webhook w = make_hook(s);
	CHECK_INT(w.cursor, last);
	add_events(s, 150);
	bounds(s, &first, &last);
	CHECK_INT(first, last - 199); /* it has not got 150 */
	add_events(s, 150);
	bounds(s, &first, &last);
	CHECK_INT(first, w.cursor + 1); /* 300, more than others may keep */
	add_events(s, 150);
	bounds(s, &first, &last);
	CHECK_INT(last - first + 1, 400);
	struct storage_delivered d = {.webhook = w.id,
	                              .type = "lost",
	                              .state = "lost",
	                              .error = "50 events",
	                              .lost = 50,
	                              .seq = first - 1,
	                              .advance = true};
	OK(storage_webhook_delivered(s, &d, &err));
	struct storage_webhook_in off = {.active = 0, .actor = "me"};
	struct storage_webhook now = {0};
	OK(storage_webhook_update(s, w.id, &off, &now, &err));
	CHECK_INT(now.lost, 50);
	CHECK_INT(now.cursor, first - 1);
	CHECK_STR(now.secret, "12345678");
	add_events(s, 1);
	bounds(s, &first, &last);
	CHECK_INT(last - first + 1, 200); /* nothing waits for an inactive one */
	storage_webhook_done(&now);
	storage_webhook_done(&w);
	end_store(s);
}

/* The most steps of SQLite that the removal of old events took since this was 0. */
static int removal_steps;

static int on_profile(unsigned type, void *ctx, void *stmt, void *ns)
{
	(void)type, (void)ctx, (void)ns;
	const char *sql = sqlite3_sql(stmt);
	int n = sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_VM_STEP, 1);
	if (sql && !strncmp(sql, "DELETE FROM events", 18) && n > removal_steps)
		removal_steps = n;
	return 0;
}

static int watch(sqlite3 *db, char **msg, const struct sqlite3_api_routines *api)
{
	(void)msg, (void)api;
	return sqlite3_trace_v2(db, SQLITE_TRACE_PROFILE, on_profile, NULL);
}

/* An event costs the same whether or not a hook lags. */
static void test_lag_costs_nothing(void)
{
	sqlite3_auto_extension((void (*)(void))watch);
	struct storage *s = fresh_store();
	sqlite3_reset_auto_extension();
	struct storage_webhook w = make_hook(s);
	add_events(s, 190);
	CHECK(removal_steps > 0);
	int usual = removal_steps;
	removal_steps = 0;
	add_events(s, 190); /* 180 events stay only for the hook */
	CHECK_MSG(removal_steps <= usual + 10, "%d steps, usually %d", removal_steps, usual);
	storage_webhook_done(&w);
	end_store(s);
}

/* A request that began before an update of its hook says nothing about the hook as it is now. */
static void test_update_during_request(void)
{
	struct storage *s = fresh_store();
	struct storage_webhook w = make_hook(s), now = {0};
	struct storage_webhook_in in = {.url = "http://127.0.0.1:9/new", .active = -1, .actor = "me"};
	struct storage_delivered d = {.webhook = w.id,
	                              .type = "system.test",
	                              .state = "failed",
	                              .error = "no",
	                              .seq = w.cursor + 1,
	                              .attempt = 1,
	                              .tries = 1,
	                              .next_at = 1000,
	                              .updated_at = w.updated_at};
	add_events(s, 1);
	OK(storage_webhook_update(s, w.id, &in, &now, &err)); /* perhaps in the millisecond in which it was created */
	CHECK(now.updated_at > w.updated_at);
	storage_webhook_done(&now);
	OK(storage_webhook_delivered(s, &d, &err));
	d.state = "delivered";
	d.error = NULL;
	d.advance = true;
	OK(storage_webhook_delivered(s, &d, &err));
	OK(storage_webhook_get(s, w.id, &now, &err));
	CHECK(!now.tries && !now.next_at && !now.error);
	CHECK_INT(now.cursor, w.cursor);
	d.updated_at = now.updated_at;
	storage_webhook_done(&now);
	OK(storage_webhook_delivered(s, &d, &err));
	OK(storage_webhook_get(s, w.id, &now, &err));
	CHECK_INT(now.cursor, d.seq);
	storage_webhook_done(&now);
	struct storage_delivery_list l = {0};
	OK(storage_delivery_list(s, w.id, (struct storage_page){.limit = 5}, &l, &err));
	CHECK_INT((int64_t)l.n, 3);
	storage_delivery_list_done(&l);
	OK(storage_webhook_delete(s, w.id, "me", &err));
	OK(storage_webhook_delivered(s, &d, &err));
	storage_webhook_done(&w);
	end_store(s);
}

/* Audit rows tell what was changed, but no secret and no path. */
static void test_audit(void)
{
	struct storage *s = fresh_store();
	struct storage_webhook w = make_hook(s), now = {0};
	const struct storage_webhook_in in[] = {{.secret = "other secret", .active = -1, .actor = "me"},
	                                        {.url = "http://127.0.0.1:9/token?key=7", .active = -1, .actor = "me"}};
	for (int i = 0; i < 2; i++) {
		OK(storage_webhook_update(s, w.id, &in[i], &now, &err));
		storage_webhook_done(&now);
	}
	OK(storage_webhook_delete(s, w.id, "me", &err));
	storage_webhook_done(&w);
	struct storage_audit_list l = {0};
	OK(storage_audit_list(s, NULL, NULL, 0, (struct storage_page){.limit = 10, .oldest_first = true}, &l, &err));
	CHECK_INT((int64_t)l.n, 4);
	if (l.n == 4) {
		const struct storage_audit *secret = &l.items[1], *url = &l.items[2], *end = &l.items[3];
		CHECK(!strstr(secret->before, "secret_changed") && strstr(secret->after, "\"secret_changed\":true"));
		CHECK(!strstr(secret->after, "other secret"));
		CHECK(!strstr(url->after, "secret_changed") && strcmp(url->before, url->after));
		CHECK(strstr(url->after, "\"http://127.0.0.1:9\"") && !strstr(url->after, "token") &&
		      !strstr(url->after, "key"));
		CHECK_STR(end->before, url->after);
	}
	storage_audit_list_done(&l);
	end_store(s);
}

static void test_history(void)
{
	struct storage *s = fresh_store();
	struct storage_webhook w = make_hook(s);
	struct storage_delivery_list l = {0};
	for (int i = 1; i <= 105; i++) {
		struct storage_delivered d = {.webhook = w.id,
		                              .type = "system.test",
		                              .state = "failed",
		                              .error = "no",
		                              .seq = 9,
		                              .attempt = i,
		                              .tries = i,
		                              .next_at = 1000 + i};
		OK(storage_webhook_delivered(s, &d, &err));
	}
	OK(storage_delivery_list(s, w.id, (struct storage_page){.limit = 500}, &l, &err));
	CHECK_INT((int64_t)l.n, 100);
	CHECK_INT(l.items[0].attempt, 105);
	storage_delivery_list_done(&l);
	int64_t cursor = w.cursor;
	storage_webhook_done(&w);
	struct storage_webhook_list all = {0};
	OK(storage_webhook_list(s, &all, &err));
	CHECK(all.n == 1 && all.items[0].tries == 105 && all.items[0].next_at == 1105 && all.items[0].cursor == cursor);
	OK(storage_webhook_delete(s, all.items[0].id, "me", &err));
	OK(storage_delivery_list(s, all.items[0].id, (struct storage_page){.limit = 5}, &l, &err));
	CHECK(!l.n);
	FAILS(storage_webhook_delete(s, all.items[0].id, "me", &err), WASD_ENOTFOUND);
	storage_delivery_list_done(&l);
	storage_webhook_list_done(&all);
	for (int i = 0; i < STORAGE_WEBHOOKS_MAX; i++) {
		w = make_hook(s);
		storage_webhook_done(&w);
	}
	struct storage_webhook_in in = {.url = "http://x/", .events = "[]", .secret = "12345678", .active = 1};
	FAILS(storage_webhook_create(s, &in, &w, &err), WASD_ESTATE);
	end_store(s);
}

/* Tests count as deliveries, and of them as many are kept. */
static void test_history_of_tests(void)
{
	struct storage *s = fresh_store();
	struct storage_webhook w = make_hook(s);
	struct storage_delivery_list l = {0};
	for (int i = 1; i <= 105; i++) {
		struct storage_delivered d =
			{.webhook = w.id, .type = "webhook.test", .state = "delivered", .status = 200, .attempt = 1, .ms = i};
		OK(storage_webhook_tested(s, &d, "me", &err));
	}
	OK(storage_delivery_list(s, w.id, (struct storage_page){.limit = 500}, &l, &err));
	CHECK_INT((int64_t)l.n, 100);
	CHECK(!l.items[0].seq && l.items[0].attempt == 1 && l.items[0].ms == 105 && l.items[l.n - 1].ms == 6);
	storage_delivery_list_done(&l);
	storage_webhook_done(&w);
	end_store(s);
}

int main(void)
{
	TEST_RUN(test_events_wait);
	TEST_RUN(test_lag_costs_nothing);
	TEST_RUN(test_update_during_request);
	TEST_RUN(test_audit);
	TEST_RUN(test_history);
	TEST_RUN(test_history_of_tests);
	TEST_END();
}
