/* Webhooks: how often the thread reads an event. tests/e2e/test_webhooks.py sends events. */
#include "webhooks.h"

#include "../storage/util.h"

#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

static _Atomic int rows;    /* of events that were read */
static sem_t reads, listed; /* listed: once for each of lists */
static _Atomic int lists;   /* of the hooks that were read */

static int on_trace(unsigned type, void *ctx, void *stmt, void *ns)
{
	(void)ctx, (void)ns;
	const char *sql = sqlite3_sql(stmt);
	if (sql && type == SQLITE_TRACE_PROFILE && strstr(sql, "FROM webhooks ORDER BY id")) {
		atomic_fetch_add(&lists, 1);
		sem_post(&listed);
	}
	if (!sql || !strstr(sql, "FROM events WHERE seq>"))
		return 0;
	if (type == SQLITE_TRACE_ROW)
		atomic_fetch_add(&rows, 1);
	else
		sem_post(&reads);
	return 0;
}

static int watch(sqlite3 *db, char **msg, const struct sqlite3_api_routines *api)
{
	(void)msg, (void)api;
	return sqlite3_trace_v2(db, SQLITE_TRACE_ROW | SQLITE_TRACE_PROFILE, on_trace, NULL);
}

static bool await(sem_t *what)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 120;
	return sem_timedwait(what, &until) == 0;
}

static bool await_read(void)
{
	return await(&reads);
}

/* active: whether it gets events. */
static void add_hook(struct storage *s, int active, struct storage_webhook *h)
{
	struct storage_webhook_in in = {.url = "http://127.0.0.1:9/",
	                                .events = "[\"job.state\"]",
	                                .secret = "12345678",
	                                .actor = "me",
	                                .active = active};
	OK(storage_webhook_create(s, &in, h, &err));
}

/* A store whose reads are watched, with one webhook. */
static struct storage *store_with_hook(int active, struct storage_webhook *h)
{
	sem_init(&reads, 0, 0);
	sem_init(&listed, 0, 0);
	sqlite3_auto_extension((void (*)(void))watch);
	struct storage *s = fresh_store();
	add_hook(s, active, h);
	return s;
}

static void unwanted_events_are_read_once(void)
{
	enum { EVENTS = 450 };
	struct webhooks *w = NULL;
	struct storage_webhook h = {0};
	struct storage *s = store_with_hook(1, &h);
	const struct webhooks_config cfg = {.db = s, .timeout_ms = 1000, .retry_ms = 1000};
	OK(webhooks_create(&cfg, &w, &err));
	bool all = await_read();
	for (int i = 0; i < EVENTS && all; i++) {
		OK(storage_event_add(s, "system", "system.test", "x", "{}", NULL, &err));
		webhooks_event(w);
		all = await_read();
	}
	while (all && atomic_load(&rows) < EVENTS)
		all = await_read();
	CHECK(all);
	webhooks_destroy(w);
	CHECK_MSG(rows <= EVENTS, "%d rows for %d events", (int)rows, (int)EVENTS);
	struct storage_webhook now = {0};
	OK(storage_webhook_get(s, h.id, &now, &err));
	CHECK(now.cursor >= h.cursor + 200 && !now.lost);
	storage_webhook_done(&now);
	storage_webhook_done(&h);
	end_store(s);
	sqlite3_reset_auto_extension();
}

static void pause_ms(int ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000l}, NULL);
}

/* No event wakes the thread while no hook is active; one that becomes active gets the events that follow. However slow
 * the machine is, the hooks are listed at most three times (at first; for the events before the thread had seen that no
 * hook is active; for one that was being told just then), and once in each minute without a wake. */
static void events_without_a_hook(void)
{
	struct webhooks *w = NULL;
	struct storage_webhook h = {0};
	struct storage *s = store_with_hook(0, &h);
	atomic_store(&lists, 0);
	const int64_t began = wasd_mono_us();
	const struct webhooks_config cfg = {.db = s, .timeout_ms = 1000, .retry_ms = 1000};
	OK(webhooks_create(&cfg, &w, &err));
	CHECK(await(&listed));
	for (int i = 0; i < 20; i++) {
		OK(storage_event_add(s, "system", "system.test", "x", "{}", NULL, &err));
		webhooks_event(w);
		pause_ms(5); /* time to list them, were it woken */
	}
	const int got = atomic_load(&lists), most = 3 + (int)((wasd_mono_us() - began) / 60000000);
	CHECK_MSG(got <= most, "the hooks were listed %d times, at most %d are right", got, most);
	storage_webhook_done(&h);
	add_hook(s, 1, &h);
	webhooks_poke(w);
	CHECK(await_read());
	OK(storage_event_add(s, "system", "system.test", "x", "{}", NULL, &err));
	webhooks_event(w);
	CHECK(await_read());
	webhooks_destroy(w);
	storage_webhook_done(&h);
	end_store(s);
	sqlite3_reset_auto_extension();
}

int main(void)
{
	TEST_RUN(unwanted_events_are_read_once);
	TEST_RUN(events_without_a_hook);
	TEST_END();
}
