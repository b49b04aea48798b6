/* Deadlines and time limits of jobs: which jobs are overdue, what becomes of them, what a restart changes, and what can
 * be changed while a job lives. */
#include "util.h"
#include <sqlite3.h>

static const struct storage_request me = {.actor = "me"};

static void change(struct storage *s, const char *id, struct storage_job_patch p)
{
	struct storage_job j = {0};
	p.priority = -1;
	OK(storage_job_update(s, id, &p, "me", &j, &err));
	storage_job_done(&j);
}

static void set_deadline(struct storage *s, const char *id, int64_t at)
{
	change(s, id, (struct storage_job_patch){.set_deadline = true, .deadline = at});
}

static bool overdue(struct storage *s, const char *id)
{
	struct storage_names l = {0};
	bool found = false;
	OK(storage_job_overdue(s, &l, &err));
	for (size_t i = 0; i < l.n; i++)
		found |= !strcmp(l.items[i], id);
	storage_names_done(&l);
	return found;
}

static void expired(struct storage *s, const char *id, const char *message)
{
	struct storage_job j = {0};
	CHECK(overdue(s, id));
	OK(storage_job_expire(s, id, &err));
	OK(storage_job_get(s, id, &j, &err));
	CHECK_STR(j.state, "failed");
	CHECK_STR(j.reason, "deadline_exceeded");
	CHECK_STR(j.message, message);
	storage_job_done(&j);
	CHECK(!overdue(s, id));
	FAILS(storage_job_expire(s, id, &err), WASD_ESTATE);
}

/* A deadline ends a job without a worker in any state, and one with a worker is left to those who can tell it. */
static void deadlines(void)
{
	static const char *const way[][5] = {{0},
	                                     {"held"},
	                                     {"starting", "running", "retry_wait"},
	                                     {"starting", "running", "pausing", "paused"}};
	static const char *const active[][4] = {{"starting"},
	                                        {"starting", "running"},
	                                        {"starting", "running", "pausing"},
	                                        {"starting", "running", "preempting"},
	                                        {"starting", "running", "cancelling"}};
	struct storage *s = fresh_store();
	char id[40], next[40];
	for (size_t w = 0; w < sizeof way / sizeof *way; w++) {
		add_job(s, "d", id);
		for (int k = 0; k < 5 && way[w][k]; k++)
			OK(move(s, id, way[w][k]));
		set_deadline(s, id, wasd_now_ms() + 3600000);
		CHECK(!overdue(s, id));
		FAILS(storage_job_expire(s, id, &err), WASD_ESTATE);
		set_deadline(s, id, 1);
		expired(s, id, STORAGE_DEADLINE_OVER);
	}
	for (size_t w = 0; w < sizeof active / sizeof *active; w++) {
		add_job(s, "d", id);
		for (int k = 0; k < 4 && active[w][k]; k++)
			OK(move(s, id, active[w][k]));
		set_deadline(s, id, 1);
		CHECK(overdue(s, id));
		FAILS(storage_job_expire(s, id, &err), WASD_ESTATE);
	}
	/* Jobs that wait for it are cancelled with it. */
	add_job(s, "d", id);
	struct storage_job_in in = job_in("after");
	struct storage_job j = {0};
	in.after = (const char *const[]){id};
	in.n_after = 1;
	OK(storage_job_create(s, &in, &j, NULL, &err));
	snprintf(next, sizeof next, "%s", j.id);
	storage_job_done(&j);
	set_deadline(s, id, 1);
	expired(s, id, STORAGE_DEADLINE_OVER);
	job_is(s, next, "cancelled");
	/* It cannot be tried again before it has another deadline, or none. */
	FAILS(storage_job_retry(s, id, &me, &err), WASD_ESTATE);
	CHECK_MSG(strstr(err.msg, "deadline") != NULL, "%s", err.msg);
	set_deadline(s, id, 0);
	OK(storage_job_retry(s, id, &me, &err));
	job_is(s, id, "queued");
	end_store(s);
}

/* The deadline passes while no daemon runs, and while a trained job waits for its profiles. */
static void after_a_restart(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[32];
	add_job(s, "d", id);
	int64_t attempt = start_job(s, id);
	set_deadline(s, id, 1);
	storage_close(s);
	s = open_store();
	OK(storage_recover(s, NULL, &err));
	job_is(s, id, "queued");
	expired(s, id, STORAGE_DEADLINE_OVER);

	struct storage_wanted want = {"light", "macs", "{\"name\":\"light\"}", NULL};
	struct storage_exit x = {.outcome = "completed", .profiles = &want, .n_profiles = 1};
	struct storage_profile p = {0};
	add_job(s, "p", id);
	attempt = start_job(s, id);
	OK(store_ckpt(s, id, attempt, 1, 0.5, 100, 1, ck));
	OK(storage_attempt_end(s, id, attempt, &x, &(struct storage_move){.to = "completed", .reason = "done"}, &err));
	job_is(s, id, "running");
	set_deadline(s, id, 1);
	expired(s, id, STORAGE_DEADLINE_OVER);
	OK(storage_profile_get(s, ck, "light", &p, &err));
	CHECK_STR(p.state, "failed");
	storage_profile_done(&p);
	job_is(s, id, "failed");
	end_store(s);
}

static void sql(struct storage **s, const char *text)
{
	sqlite3 *db;
	storage_close(*s);
	CHECK(sqlite3_open(in_dir("wasd.db"), &db) == SQLITE_OK && sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
	*s = open_store();
}

/* max_wall_s counts over the attempts; a retry on request begins anew, a crash of the daemon does not count as work. */
static void running_time(void)
{
	struct storage *s = fresh_store();
	char id[40];
	int64_t ran = 0;
	add_job(s, "w", id);
	for (int i = 0; i < 2; i++)
		OK(storage_attempt_end(s, id, start_job(s, id), &(struct storage_exit){.outcome = "preempted"},
		                       &(struct storage_move){.to = "queued"}, &err));
	sql(&s, "UPDATE attempts SET started_at=1000*number, ended_at=1000*number+20000");
	OK(storage_job_ran(s, id, &ran, &err));
	CHECK_INT(ran, 40000);
	CHECK(!overdue(s, id)); /* without a limit */
	change(s, id, (struct storage_job_patch){.set_max_wall_s = true, .max_wall_s = 41});
	CHECK(!overdue(s, id));
	change(s, id, (struct storage_job_patch){.set_max_wall_s = true, .max_wall_s = 40});
	OK(storage_job_hold(s, id, &me, &err));
	CHECK(!overdue(s, id)); /* only when it is to run again */
	OK(storage_job_release(s, id, &me, &err));
	expired(s, id, STORAGE_WALL_OVER);
	OK(storage_job_retry(s, id, &me, &err));
	OK(storage_job_ran(s, id, &ran, &err));
	CHECK_INT(ran, 0);
	CHECK(!overdue(s, id));
	/* The daemon dies: the attempt ended about when the job was last heard of, not when the next daemon began. */
	start_job(s, id);
	sql(&s, "UPDATE attempts SET started_at=1000 WHERE number=3; UPDATE jobs SET updated_at=6000");
	OK(storage_recover(s, NULL, &err));
	OK(storage_job_ran(s, id, &ran, &err));
	CHECK_INT(ran, 5000);
	end_store(s);
}

/* What is kept may change, and with the metric the order of the checkpoints. */
static void keep(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[4][32];
	struct storage_ckpt k = {0};
	struct storage_ckpt_list l = {0};
	struct storage_job j = {0};
	add_job(s, "k", id);
	int64_t attempt = start_job(s, id);
	change(s, id, (struct storage_job_patch){.set_keep = true, .keep = {2, 3, "val_acc_aom", true}});
	for (int e = 1; e <= 3; e++) /* the accuracy falls, and so does train_loss */
		OK(store_ckpt(s, id, attempt, e, 0.9 - 0.1 * e, 100, (unsigned)e, ck[e - 1]));
	OK(storage_ckpt_pick(s, id, "best", &k, &err));
	CHECK_STR(k.id, ck[0]);
	storage_ckpt_done(&k);
	change(s, id, (struct storage_job_patch){.set_keep = true, .keep = {1, 1, "train_loss", false}});
	OK(storage_ckpt_pick(s, id, "best", &k, &err));
	CHECK_STR(k.id, ck[2]);
	storage_ckpt_done(&k);
	OK(storage_ckpt_list(s, id, &l, &err));
	CHECK_INT(l.n, 3); /* nothing goes before the next checkpoint */
	storage_ckpt_list_done(&l);
	OK(store_ckpt(s, id, attempt, 4, 0.1, 100, 4, ck[3]));
	OK(storage_ckpt_list(s, id, &l, &err));
	CHECK_INT(l.n, 2); /* a running job keeps the two newest */
	storage_ckpt_list_done(&l);
	OK(move(s, id, "failed"));
	FAILS(storage_job_update(s, id,
	                         &(struct storage_job_patch){.priority = -1,
	                                                     .set_keep = true,
	                                                     .keep = {1, 1, "train_loss", false}},
	                         "me", &j, &err),
	      WASD_ESTATE);
	FAILS(storage_job_update(s, id, &(struct storage_job_patch){.priority = -1, .set_max_wall_s = true}, "me", &j,
	                         &err),
	      WASD_ESTATE);
	end_store(s);
}

int main(void)
{
	TEST_RUN(deadlines);
	TEST_RUN(after_a_restart);
	TEST_RUN(running_time);
	TEST_RUN(keep);
	TEST_END();
}
