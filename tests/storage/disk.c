/* Room on the disk: what is done with the ballast, the quota and the jobs that were paused for lack of room. */
#include "internal.h"
#include "util.h"
#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>

/* ---- the ballast ---- */

static atomic_bool gate_open;

static enum wasd_status wait_at_gate(struct storage *s, void *ctx, struct wasd_err *e)
{
	(void)s, (void)ctx, (void)e;
	while (!atomic_load(&gate_open))
		poll(NULL, 0, 1);
	return WASD_OK;
}

static enum wasd_status needs_ballast(struct storage *s, void *ctx, struct wasd_err *e)
{
	(void)ctx;
	return access(s->ballast_path, F_OK) ? WASD_OK : wasd_fail_at(e, WASD_EFULL, "test", "no room");
}

static void *urgent(void *s)
{
	struct wasd_err e = {0};
	return (void *)(intptr_t)urgent_op(s, needs_ballast, NULL, &e);
}

/* Urgent writes of one batch: the ballast is released once, for all of them. */
static void ballast_for_all(void)
{
	enum { N = 4 };
	struct storage *s = fresh_store();
	struct storage_health h;
	pthread_t threads[N];
	void *status;
	CHECK(!access(s->ballast_path, F_OK));
	storage_tx_async(s, wait_at_gate, NULL, NULL);
	do
		storage_health(s, &h);
	while (h.queued_writes);
	for (int i = 0; i < N; i++)
		CHECK(!pthread_create(&threads[i], NULL, urgent, s));
	do
		storage_health(s, &h);
	while (h.queued_writes < N);
	atomic_store(&gate_open, true);
	for (int i = 0; i < N; i++) {
		pthread_join(threads[i], &status);
		CHECK_INT((intptr_t)status, WASD_OK);
	}
	end_store(s);
}

/* ---- jobs that pause for lack of room ---- */

static void for_room(struct storage *s, const char *id, const char *to, const char *reason)
{
	OK(storage_job_move(s, id, &(struct storage_move){.to = to, .reason = reason}, &err));
}

/* A hold makes a pause for lack of room the user's, but only when the process has ended. */
static void held_while_pausing(void)
{
	static const struct storage_request me = {.actor = "me"};
	struct storage *s = fresh_store();
	struct storage_job j = {0};
	char id[40];
	add_job(s, "a", id);
	start_job(s, id);
	for_room(s, id, "pausing", STORAGE_DISK_LOW);
	FAILS(storage_job_hold(s, id, &me, &err), WASD_ESTATE);
	job_is(s, id, "pausing");
	for_room(s, id, "paused", STORAGE_DISK_LOW);
	OK(storage_job_hold(s, id, &me, &err));
	OK(storage_job_get(s, id, &j, &err));
	CHECK_STR(j.state, "paused");
	CHECK_STR(j.reason, "user");
	storage_job_done(&j);
	end_store(s);
}

/* Those that a user has paused do not hide them. */
static void without_room(void)
{
	enum { OTHERS = 600 };
	static const char *const reasons[] = {STORAGE_QUOTA_FULL, STORAGE_DISK_LOW};
	struct storage *s = fresh_store();
	struct storage_names l = {0};
	char id[40], paused[2][40];
	for (int i = 0; i < OTHERS + 2; i++) {
		const bool last = i >= OTHERS;
		add_job(s, "a", id);
		for_room(s, id, "starting", NULL);
		for_room(s, id, "pausing", last ? reasons[i - OTHERS] : "user");
		for_room(s, id, "paused", last ? reasons[i - OTHERS] : "user");
		if (last)
			snprintf(paused[i - OTHERS], sizeof paused[0], "%s", id);
	}
	add_job(s, "a", id);
	for_room(s, id, "starting", NULL);
	for_room(s, id, "pausing", STORAGE_DISK_LOW);
	OK(storage_job_without_room(s, &l, &err));
	CHECK_INT(l.n, 2);
	for (size_t i = 0; i < l.n && i < 2; i++)
		CHECK_STR(l.items[i], paused[i]);
	storage_names_done(&l);
	end_store(s);
}

/* ---- the quota ---- */

static void sql(const char *text)
{
	sqlite3 *db;
	CHECK(!sqlite3_open(in_dir("wasd.db"), &db) && !sqlite3_exec(db, text, NULL, NULL, NULL));
	sqlite3_close(db);
}

/* When it cannot be told what is used, the last answer remains. */
static void quota_unknown(void)
{
	const struct storage_opts o = {.ballast_bytes = 4096, .low_water_bytes = 1, .quota_bytes = 1};
	struct storage *s;
	struct storage_disk d;
	fresh_dir();
	OK(storage_open(dir, &o, &s, &err));
	storage_disk(s, &d);
	CHECK(d.low && d.used > 1);
	const uint64_t used = d.used;
	sql("ALTER TABLE modes RENAME TO gone");
	CHECK(quota_used(s, &d.used, &err) != WASD_OK);
	storage_disk(s, &d);
	CHECK(d.low && d.used == used);
	sql("ALTER TABLE gone RENAME TO modes");
	storage_disk(s, &d);
	CHECK(d.low && d.used > 1);
	end_store(s);
}

int main(void)
{
	TEST_RUN(ballast_for_all);
	TEST_RUN(held_while_pausing);
	TEST_RUN(without_room);
	TEST_RUN(quota_unknown);
	TEST_END();
}
