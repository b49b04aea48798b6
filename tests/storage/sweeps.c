/* Sweeps: which trials go on (a pure function, checked by hand and in random orders), and the rows that a step makes of
 * results, whatever happens in between. */
#include "util.h"
#include "internal.h"
#include "sweep_plan.h"
#include <stdint.h>

/* ---- which trials go on ---- */

enum { TRIALS = 9, RUNGS = 3 };
static const struct sweep_rules rules = {TRIALS, RUNGS, 3, true};

static void verdicts_are(const struct sweep_result *r, const char *want)
{
	struct sweep_verdict v[TRIALS];
	char got[TRIALS + 1] = "";
	OK(sweep_decide(&rules, r, v, &err));
	for (int i = 0; i < TRIALS; i++)
		got[i] = (char)(v[i].pruned ? 'a' + (int)v[i].rung : '0' + (int)v[i].rung);
	CHECK_STR(got, want);
}

/* Digits: the rung to reach; letters: the same, and pruned there. */
static void test_plan(void)
{
	static const double rung0[TRIALS] = {.1, .5, .3, .6, .2, .4, .9, .8, .7};
	struct sweep_result r[TRIALS * RUNGS] = {0};
	verdicts_are(r, "000000000");
	for (int i = 1; i < TRIALS; i++) /* all but the first: nothing can be read */
		r[i * RUNGS] = (struct sweep_result){true, true, rung0[i]};
	verdicts_are(r, "000000000");
	r[0] = (struct sweep_result){true, true, rung0[0]};
	/* Of the first three the second is best; of six the fourth and the second; of seven the seventh and the fourth; of
	 * eight the seventh and the eighth; of nine these and the ninth. */
	verdicts_are(r, "a1a1aa111");
	/* Promoted in the order 2, 4, 7, 8, 9. Of the first three of that order 7 is best, of five 9. */
	r[1 * RUNGS + 1] = (struct sweep_result){true, true, .55};
	r[3 * RUNGS + 1] = (struct sweep_result){true, true, .65};
	r[8 * RUNGS + 1] = (struct sweep_result){true, true, .99}; /* is not read before 7 and 8 */
	verdicts_are(r, "aba1aa111"); /* at most 5 can be here, of which one goes on: not the second, which 4 outdoes */
	r[6 * RUNGS + 1] = (struct sweep_result){true, true, .95};
	verdicts_are(r, "ababaa211");
	r[7 * RUNGS + 1] = (struct sweep_result){true, true, .6};
	verdicts_are(r, "ababaa2b2");
}

static void test_plan_failures(void)
{
	struct sweep_result r[TRIALS * RUNGS] = {0};
	for (int i = 0; i < TRIALS; i++)
		r[i * RUNGS] = (struct sweep_result){.known = true};
	verdicts_are(r, "aaaaaaaaa"); /* nobody has a value: nobody goes on */
	r[4 * RUNGS] = (struct sweep_result){true, true, .2};
	verdicts_are(r, "aaaa1aaaa");
	for (int i = 0; i < TRIALS; i++) /* equal values: the lower number */
		r[i * RUNGS] = (struct sweep_result){true, true, .5};
	verdicts_are(r, "111aaaaaa");
	struct sweep_rules one = {TRIALS, 1, 3, true};
	struct sweep_verdict v[TRIALS];
	OK(sweep_decide(&one, r, v, &err));
	for (int i = 0; i < TRIALS; i++)
		CHECK(v[i].rung == 0 && !v[i].pruned); /* grid and random search: a single rung, which ends them */
	struct sweep_result a = {true, true, 1}, b = {true, true, 2}, none = {.known = true};
	CHECK(sweep_better(false, &a, 2, &b, 1) && sweep_better(true, &b, 2, &a, 1) &&
	      sweep_better(false, &a, 2, &none, 1));
	CHECK(sweep_better(true, &a, 1, &a, 2) && !sweep_better(true, &a, 2, &a, 1) &&
	      sweep_better(true, &none, 1, &none, 2));
}

static uint64_t state = 1;
static unsigned below(unsigned n)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(state >> 33) % n;
}

/* Results that arrive in any order give the same verdicts in the end, and each verdict stands once it is given. */
static void test_plan_order(void)
{
	enum { MOST = 40 };
	for (int round = 0; round < 300; round++) {
		struct sweep_rules r = {1 + below(MOST), 1 + below(4), 2 + (int64_t)below(3), below(2)};
		static struct sweep_result truth[MOST * 4], known[MOST * 4];
		struct sweep_verdict v[MOST], last[MOST], end[2][MOST];
		for (size_t i = 0; i < r.trials * r.rungs; i++)
			truth[i] = (struct sweep_result){true, below(10) > 0, below(20) / 20.0};
		for (int way = 0; way < 2; way++) {
			memset(known, 0, sizeof known);
			memset(last, 0, sizeof last);
			for (;;) {
				size_t due[MOST], n = 0;
				OK(sweep_decide(&r, known, v, &err));
				for (size_t i = 0; i < r.trials; i++) {
					CHECK(v[i].rung >= last[i].rung && v[i].pruned >= last[i].pruned);
					CHECK(!last[i].pruned || v[i].rung == last[i].rung);
					if (!known[i * r.rungs + v[i].rung].known)
						due[n++] = i;
				}
				memcpy(last, v, sizeof v);
				if (!n)
					break;
				size_t i = due[below((unsigned)n)];
				known[i * r.rungs + v[i].rung] = truth[i * r.rungs + v[i].rung];
			}
			memcpy(end[way], v, r.trials * sizeof *v);
			for (size_t i = 0; i < r.trials; i++) /* nobody waits for ever */
				CHECK(v[i].pruned || v[i].rung + 1 == r.rungs);
		}
		for (size_t i = 0; i < r.trials; i++)
			CHECK(end[0][i].rung == end[1][i].rung && end[0][i].pruned == end[1][i].pruned);
	}
}

/* ---- rows ---- */

#define SPEC \
	"{\"name\":\"t\",\"labels\":{\"a\":\"b\"},\"note\":\"\",\"dataset\":{\"name\":\"glyphs\",\"version\":1},\"queue\":\"default\"," \
	"\"priority\":50,\"checkpoint\":{\"keep\":{\"best\":1,\"latest\":1,\"metric\":\"val_acc_aom\",\"mode\":\"max\"}}}"

static struct storage_sweep_in sweep_in(size_t n, int64_t concurrency)
{
	static struct storage_trial_in trials[20];
	for (size_t i = 0; i < n; i++)
		trials[i] = (struct storage_trial_in){"{\"/train/seed\":1}", SPEC};
	return (struct storage_sweep_in){.name = "s",
	                                 .template = "{}",
	                                 .space = "{}",
	                                 .search = "{}",
	                                 .rungs = "[1,2]",
	                                 .metric = "val_acc_aom",
	                                 .created_by = "me",
	                                 .divisor = 2,
	                                 .concurrency = concurrency,
	                                 .goal_max = true,
	                                 .trials = trials,
	                                 .n_trials = n};
}

static struct storage_sweep begin(struct storage *s, struct storage_sweep_in in)
{
	struct storage_sweep w = {0};
	bool existing = true;
	add_dataset(s, "glyphs");
	OK(storage_sweep_create(s, &in, &w, &existing, &err));
	CHECK(!existing);
	return w;
}

/* Runs steps until the rows rest; returns the number of orders of the last one that gave some. */
static size_t steps(struct storage *s, char job[40])
{
	size_t n = 0;
	for (int i = 0; i < 5; i++) {
		struct storage_sweep_orders o = {0};
		OK(storage_sweeps_step(s, &o, &err));
		if (o.n) {
			n = o.n;
			snprintf(job, 40, "%s", o.items[0].job);
		}
		wasd_free(o.items);
	}
	return n;
}

static void sweep_is(struct storage *s, const char *id, const char *want)
{
	struct storage_sweep w = {0};
	OK(storage_sweep_get(s, id, &w, &err));
	CHECK_STR(w.state, want);
	storage_sweep_done(&w);
}

/* "state" of each trial by number, one letter each; "-": no job. */
static void trials_are(struct storage *s, const struct storage_sweep *w, const char *want)
{
	struct storage_trial_list l = {0};
	char got[40] = "";
	OK(storage_trial_list(s, w, &l, &err));
	for (size_t i = 0; i < l.n; i++) {
		const struct storage_trial *t = &l.items[i];
		char c = !strcmp(t->state, "waiting") ? '-' : *t->state;
		got[t->number - 1] = t->reason && !strcmp(t->reason, "pruned") ? 'x' : c;
	}
	CHECK_STR(got, want);
	storage_trial_list_done(&l);
}

static void job_of(struct storage *s, const struct storage_sweep *w, int64_t number, char id[40])
{
	struct storage_trial_list l = {0};
	OK(storage_trial_list(s, w, &l, &err));
	id[0] = 0;
	for (size_t i = 0; i < l.n; i++)
		if (l.items[i].number == number && l.items[i].job)
			snprintf(id, 40, "%s", l.items[i].job);
	storage_trial_list_done(&l);
}

/* The trial's job runs to the epoch, where it pauses or, at 2, completes. */
static void train_with(struct storage *s, const struct storage_sweep *w, int64_t number, int64_t epoch,
                       struct storage_metric m)
{
	char id[40];
	struct storage_job j = {0};
	job_of(s, w, number, id);
	int64_t n = start_job(s, id);
	OK(storage_job_get(s, id, &j, &err));
	CHECK_INT(j.until, epoch == 2 ? 0 : epoch);
	CHECK_STR(j.sweep, w->id);
	CHECK_INT(j.trial, number);
	storage_job_done(&j);
	OK(storage_epoch(s, id, n, epoch, epoch * 10, 0, &m, 1, NULL, &err));
	struct storage_exit x = {.outcome = epoch == 2 ? "completed" : "paused", .exit_reason = "exit code 0"};
	struct storage_move to = {.to = epoch == 2 ? "completed" : "paused", .reason = epoch == 2 ? "done" : "rung"};
	OK(storage_attempt_end(s, id, n, &x, &to, &err));
}

static void train(struct storage *s, const struct storage_sweep *w, int64_t number, int64_t epoch, double value)
{
	train_with(s, w, number, epoch, (struct storage_metric){"val_acc_aom", value});
}

static void test_halving(void)
{
	struct storage *s = fresh_store();
	char id[40], none[40];
	struct storage_sweep w = begin(s, sweep_in(4, 2));
	trials_are(s, &w, "----");
	CHECK_INT(steps(s, none), 0);
	trials_are(s, &w, "qq--");
	train(s, &w, 2, 1, .5);
	steps(s, none);
	trials_are(s, &w, "qpq-"); /* the second cannot be judged before the first */
	storage_close(s);
	s = open_store(); /* a restart at any moment */
	OK(storage_recover(s, NULL, &err));
	train(s, &w, 1, 1, .4);
	steps(s, none);
	trials_are(s, &w, "pqq-"); /* promoted before the next one begins */
	train(s, &w, 3, 1, .3);
	steps(s, none);
	trials_are(s, &w, "pqxq"); /* the third is not among the best two of four */
	job_of(s, &w, 3, id);
	FAILS(storage_job_delete(s, id, "me", &err), WASD_ESTATE); /* it has ended, but its sweep has not */
	CHECK_STR(err.pointer, w.id);
	train(s, &w, 4, 1, .6);
	steps(s, none);
	trials_are(s, &w, "xqxq");
	train(s, &w, 2, 2, .7);
	train(s, &w, 4, 2, .65);
	steps(s, none);
	trials_are(s, &w, "xcxc");
	sweep_is(s, w.id, "completed");
	struct storage_trial_list l = {0};
	OK(storage_trial_list(s, &w, &l, &err));
	CHECK(l.n == 4 && l.items[0].number == 2 && l.items[1].number == 4 && l.items[2].number == 1 &&
	      l.items[3].number == 3);
	CHECK(l.items[0].has_value && l.items[0].value == .7 && l.items[0].epoch == 2 && l.n_results == 6);
	storage_trial_list_done(&l);
	struct storage_job_filter of = {.sweep = w.id};
	struct storage_job_list jobs = {0};
	OK(storage_job_list(s, &of, (struct storage_page){0}, &jobs, &err));
	CHECK_INT(jobs.n, 4);
	storage_job_list_done(&jobs);
	/* The results stay when a job goes. */
	job_of(s, &w, 2, id);
	OK(storage_job_delete(s, id, "me", &err));
	OK(storage_trial_list(s, &w, &l, &err));
	CHECK(l.items[0].number == 2 && l.items[0].value == .7);
	CHECK_STR(l.items[0].state, "completed");
	storage_trial_list_done(&l);
	job_of(s, &w, 1, id);
	OK(storage_sweep_delete(s, w.id, false, "me", &err));
	FAILS(storage_sweep_delete(s, w.id, false, "me", &err), WASD_ENOTFOUND);
	struct storage_job j = {0};
	OK(storage_job_get(s, id, &j, &err));
	CHECK(!j.sweep && !j.trial);
	storage_job_done(&j);
	storage_sweep_done(&w);
	end_store(s);
}

static void test_requests(void)
{
	struct storage *s = fresh_store();
	char id[40], ordered[40] = "";
	struct storage_request r = {.actor = "me"};
	struct storage_sweep w = begin(s, sweep_in(4, 2));
	steps(s, ordered);
	job_of(s, &w, 1, id);
	int64_t n = start_job(s, id);
	OK(storage_sweep_ask(s, w.id, STORAGE_SWEEP_PAUSE, &r, &err));
	CHECK_INT(steps(s, ordered), 1); /* one has a worker, one is held */
	CHECK_STR(ordered, id);
	trials_are(s, &w, "rh--");
	sweep_is(s, w.id, "pausing");
	OK(storage_job_move(s, id, &(struct storage_move){.to = "pausing", .reason = "sweep"}, &err));
	storage_close(s);
	s = open_store();
	OK(storage_recover(s, NULL, &err)); /* pausing -> paused, still for the sweep */
	steps(s, ordered);
	trials_are(s, &w, "ph--");
	sweep_is(s, w.id, "paused");
	OK(storage_sweep_ask(s, w.id, STORAGE_SWEEP_RESUME, &r, &err));
	steps(s, ordered);
	trials_are(s, &w, "qq--");
	sweep_is(s, w.id, "running");
	job_of(s, &w, 2, id);
	OK(storage_job_hold(s, id, &r, &err)); /* someone holds one: another takes its place */
	steps(s, ordered);
	trials_are(s, &w, "qhq-");
	FAILS(storage_sweep_delete(s, w.id, false, "me", &err), WASD_ESTATE);
	OK(storage_sweep_ask(s, w.id, STORAGE_SWEEP_CANCEL, &r, &err));
	steps(s, ordered);
	trials_are(s, &w, "cccc");
	sweep_is(s, w.id, "cancelled");
	FAILS(storage_sweep_ask(s, w.id, STORAGE_SWEEP_RESUME, &r, &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "cancelled");
	OK(storage_sweep_ask(s, w.id, STORAGE_SWEEP_CANCEL, &r, &err));
	(void)n;
	OK(storage_sweep_delete(s, w.id, true, "me", &err));
	struct storage_job_list jobs = {0};
	OK(storage_job_list(s, NULL, (struct storage_page){0}, &jobs, &err));
	CHECK_INT(jobs.n, 0);
	storage_job_list_done(&jobs);
	storage_sweep_done(&w);
	end_store(s);
}

/* What would go on by itself does not while its sweep is paused. */
static void test_pause_holds(void)
{
	static const struct storage_move pausing = {.to = "pausing", .reason = STORAGE_DISK_LOW},
									 paused = {.to = "paused", .reason = STORAGE_QUOTA_FULL};
	struct storage *s = fresh_store();
	char id[40], other[40], ordered[40] = "", spec[400];
	struct storage_request r = {.actor = "me"};
	add_job(s, "other", other);
	snprintf(spec, sizeof spec, "%.*s,\"after\":[\"%s\"]}", (int)strlen(SPEC) - 1, SPEC, other);
	struct storage_sweep_in in = sweep_in(3, 3);
	struct storage_trial_in trials[3] = {{"{}", SPEC}, {"{}", SPEC}, {"{}", spec}};
	in.trials = trials;
	struct storage_sweep w = begin(s, in);
	steps(s, ordered);
	trials_are(s, &w, "qqh");
	for (int i = 1; i <= 2; i++) {
		job_of(s, &w, i, id);
		start_job(s, id);
		OK(storage_job_move(s, id, &pausing, &err));
	}
	OK(storage_job_move(s, id, &paused, &err));
	OK(storage_sweep_ask(s, w.id, STORAGE_SWEEP_PAUSE, &r, &err));
	CHECK_INT(steps(s, ordered), 1);
	job_of(s, &w, 1, id);
	CHECK_STR(ordered, id);
	sweep_is(s, w.id, "pausing");
	OK(storage_job_move(s, id, &(struct storage_move){.to = "paused", .reason = STORAGE_DISK_LOW}, &err));
	steps(s, ordered);
	sweep_is(s, w.id, "paused");
	start_job(s, other);
	OK(move(s, other, "completed")); /* the third waits for nothing any more */
	trials_are(s, &w, "pph");
	for (int i = 1; i <= 3; i++) {
		struct storage_job j = {0};
		job_of(s, &w, i, id);
		OK(storage_job_get(s, id, &j, &err));
		CHECK_STR(j.reason, "sweep"); /* room does not resume it */
		storage_job_done(&j);
	}
	OK(storage_sweep_ask(s, w.id, STORAGE_SWEEP_RESUME, &r, &err));
	steps(s, ordered);
	trials_are(s, &w, "qqq");
	storage_sweep_done(&w);
	end_store(s);
}

static void sql(const char *text)
{
	sqlite3 *db;
	CHECK(sqlite3_open(in_dir("wasd.db"), &db) == SQLITE_OK && sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
}

/* A step that fails orders nothing. */
static void test_rolled_back(void)
{
	struct storage *s = fresh_store();
	char id[40], ordered[40] = "";
	struct storage_sweep_orders o = {0};
	struct storage_sweep w = begin(s, sweep_in(2, 2));
	steps(s, ordered);
	job_of(s, &w, 1, id);
	start_job(s, id);
	sql("CREATE TRIGGER t BEFORE INSERT ON transitions WHEN new.\"to\"='held' BEGIN SELECT RAISE(ABORT, 'no'); END");
	OK(storage_sweep_ask(s, w.id, STORAGE_SWEEP_PAUSE, &(struct storage_request){.actor = "me"}, &err));
	CHECK(storage_sweeps_step(s, &o, &err) != WASD_OK);
	CHECK_INT(o.n, 0);
	wasd_free(o.items);
	trials_are(s, &w, "rq");
	sql("DROP TRIGGER t");
	CHECK_INT(steps(s, ordered), 1);
	CHECK_STR(ordered, id);
	trials_are(s, &w, "rh");
	storage_sweep_done(&w);
	end_store(s);
}

/* Does a step of the sweeps write anything, if only an empty transaction? */
static bool steps_write(struct storage *s)
{
	struct storage_health before, after;
	struct storage_sweep_orders o = {0};
	storage_health(s, &before);
	OK(storage_sweeps_step(s, &o, &err));
	storage_health(s, &after);
	wasd_free(o.items);
	return after.commits != before.commits;
}

/* Other jobs, and trials that wait for room, cost nothing. */
static void test_idle(void)
{
	struct storage *s = fresh_store();
	char none[40], other[40], id[40];
	struct storage_sweep w = begin(s, sweep_in(2, 1));
	add_job(s, "other", other);
	steps(s, none);
	CHECK(!steps_write(s));
	start_job(s, other);
	OK(move(s, other, "completed"));
	CHECK(!steps_write(s));
	s->opts.low_water_bytes = UINT64_MAX / 2;
	job_of(s, &w, 1, id);
	OK(move(s, id, "failed"));
	CHECK(steps_write(s));
	trials_are(s, &w, "f-");
	CHECK(!steps_write(s));
	s->opts.low_water_bytes = 1;
	steps(s, none);
	trials_are(s, &w, "fq");
	storage_sweep_done(&w);
	end_store(s);
}

/* A trial that reaches its rung without a value has a result, and does not start over. */
static void test_no_value(void)
{
	struct storage *s = fresh_store();
	char none[40];
	struct storage_sweep w = begin(s, sweep_in(3, 2));
	struct storage_trial_list l = {0};
	steps(s, none);
	train_with(s, &w, 1, 1, (struct storage_metric){"train_loss", 2});
	steps(s, none);
	trials_are(s, &w, "xqq");
	OK(storage_trial_list(s, &w, &l, &err));
	CHECK(l.n_results == 1 && l.results[0].trial == 1 && !l.results[0].has_value);
	storage_trial_list_done(&l);
	train(s, &w, 2, 1, .5);
	steps(s, none);
	trials_are(s, &w, "xqq"); /* promoted */
	storage_sweep_done(&w);
	end_store(s);
}

/* A trial that cannot begin, and one that fails, are without a result; the others go on. */
static void test_failures(void)
{
	struct storage *s = fresh_store();
	char id[40], none[40];
	struct storage_sweep_in in = sweep_in(2, 1);
	in.idempotency_key = "k";
	in.request_digest = "d";
	struct storage_sweep w = begin(s, in), again = {0};
	bool existing = false;
	OK(storage_sweep_create(s, &in, &again, &existing, &err));
	CHECK(existing);
	CHECK_STR(again.id, w.id);
	storage_sweep_done(&again);
	in.request_digest = "other";
	FAILS(storage_sweep_create(s, &in, &again, &existing, &err), WASD_EEXIST);
	in.request_digest = NULL;
	FAILS(storage_sweep_create(s, &in, &again, &existing, &err), WASD_EEXIST);
	CHECK_STR(err.msg, "idempotency key k was used for another request");
	steps(s, none);
	job_of(s, &w, 1, id);
	OK(move(s, id, "failed"));
	FAILS(storage_job_retry(s, id, &(struct storage_request){.actor = "me"}, &err), WASD_ESTATE);
	OK(storage_dataset_delete(s, "glyphs", 0, "me", NULL, &err)); /* no unfinished job uses it */
	steps(s, none);
	trials_are(s, &w, "ff");
	sweep_is(s, w.id, "failed");
	OK(storage_job_retry(s, id, &(struct storage_request){.actor = "me"}, &err)); /* now it is an ordinary job */
	storage_sweep_done(&w);
	end_store(s);
}

/* A queue that is gone when a trial is to begin. */
static void test_no_queue(void)
{
	static const struct storage_trial_in trial =
		{"{}", "{\"name\":\"t\",\"labels\":{},\"dataset\":{\"name\":\"glyphs\",\"version\":1},\"queue\":\"gone\"}"};
	struct storage *s = fresh_store();
	char none[40];
	struct storage_sweep_in in = sweep_in(1, 1);
	in.trials = &trial;
	struct storage_sweep w = begin(s, in);
	struct storage_trial_list l = {0};
	steps(s, none);
	sweep_is(s, w.id, "failed");
	OK(storage_trial_list(s, &w, &l, &err));
	CHECK(l.n == 1 && !l.items[0].job && l.items[0].message && strstr(l.items[0].message, "gone"));
	storage_trial_list_done(&l);
	storage_sweep_done(&w);
	end_store(s);
}

/* ---- chains ---- */

#define CHAIN_SPEC \
	"{\"name\":\"t\",\"labels\":{\"a\":\"b\"},\"note\":\"\",\"dataset\":{\"name\":\"glyphs\",\"version\":1},\"queue\":\"default\"," \
	"\"priority\":50,\"model\":{\"w\":8},\"adjust\":{\"iteration\":1}}"

/* A chain of two trials, the first of which has ended with a checkpoint that says `next`. */
static struct storage_sweep chain(struct storage *s, const char *next)
{
	static const struct storage_trial_in trials[] = {{"{}", CHAIN_SPEC}, {"null", CHAIN_SPEC}};
	struct storage_sweep_in in = sweep_in(2, 1);
	struct storage_exit x = {.outcome = "completed", .exit_reason = "exit code 0"};
	struct storage_move to = {.to = "completed", .reason = "done"};
	char id[40], none[40], ckpt[32], *info = wasd_asprintf("{\"adjusted\":{\"next\":%s}}", next);
	in.rungs = "[2]";
	in.trials = trials;
	struct storage_sweep w = begin(s, in);
	steps(s, none);
	job_of(s, &w, 1, id);
	int64_t n = start_job(s, id);
	OK(store_ckpt_of(s, id, n, 2, .5, 100, 1, info, ckpt));
	OK(storage_attempt_end(s, id, n, &x, &to, &err));
	wasd_free(info);
	return w;
}

static void test_chain(void)
{
	struct storage *s = fresh_store();
	char id[40], none[40];
	struct storage_sweep w = chain(
		s,
		"{\"values\":{\"channels\":[4]},\"spec\":{\"model\":{\"w\":4},\"adjust\":null,\"labels\":null,\"after\":[1],"
		"\"init_from\":{\"checkpoint\":\"c\"},\"on_complete\":{\"deploy\":{\"name\":\"live\"}},\"queue\":\"other\",\"priority\":99}}");
	steps(s, none);
	trials_are(s, &w, "cq");
	job_of(s, &w, 2, id);
	struct storage_job j = {0};
	OK(storage_job_get(s, id, &j, &err));
	CHECK_STR(j.spec,
	          "{\"name\":\"t\",\"labels\":{\"a\":\"b\"},\"note\":\"\",\"dataset\":{\"name\":\"glyphs\",\"version\":1},"
	          "\"queue\":\"default\",\"priority\":50,\"model\":{\"w\":4}}");
	storage_job_done(&j);
	struct storage_trial_list l = {0};
	OK(storage_trial_list(s, &w, &l, &err));
	for (size_t i = 0; i < l.n; i++)
		CHECK_STR(l.items[i].point, l.items[i].number == 2 ? "{\"channels\":[4]}" : "{}");
	storage_trial_list_done(&l);
	storage_sweep_done(&w);
	end_store(s);
}

/* Whatever else a training process says of the next network is nothing found: the chain ends, and so does the sweep. */
static void test_chain_of_bad_words(void)
{
	static const char *const words[] = {
		"null",
		"5",
		"[]",
		"\"x\"",
		"{}",
		"{\"values\":null,\"spec\":{}}",
		"{\"spec\":{\"model\":{},\"adjust\":null}}",
		"{\"values\":null,\"spec\":{\"model\":{},\"adjust\":null}}",
		"{\"values\":[1],\"spec\":{\"model\":{},\"adjust\":null}}",
		"{\"values\":{}}",
		"{\"values\":{},\"spec\":null}",
		"{\"values\":{},\"spec\":{\"labels\":null}}",
		"{\"values\":{},\"spec\":{\"model\":null,\"adjust\":null}}",
		"{\"values\":{},\"spec\":{\"model\":{}}}",
		"{\"values\":{},\"spec\":{\"model\":{},\"adjust\":1}}",
	};
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		struct storage *s = fresh_store();
		char none[40];
		struct storage_sweep w = chain(s, words[i]);
		struct storage_trial_list l = {0};
		printf("# %s\n", words[i]);
		steps(s, none);
		trials_are(s, &w, "cf");
		sweep_is(s, w.id, "completed");
		OK(storage_trial_list(s, &w, &l, &err));
		for (size_t k = 0; k < l.n; k++)
			CHECK(l.items[k].number != 2 || !strcmp(l.items[k].message, "the trial before it found nothing"));
		storage_trial_list_done(&l);
		storage_sweep_done(&w);
		end_store(s);
	}
}

int main(void)
{
	TEST_RUN(test_plan);
	TEST_RUN(test_plan_failures);
	TEST_RUN(test_plan_order);
	TEST_RUN(test_halving);
	TEST_RUN(test_requests);
	TEST_RUN(test_pause_holds);
	TEST_RUN(test_rolled_back);
	TEST_RUN(test_idle);
	TEST_RUN(test_no_value);
	TEST_RUN(test_failures);
	TEST_RUN(test_no_queue);
	TEST_RUN(test_chain);
	TEST_RUN(test_chain_of_bad_words);
	TEST_END();
}
