/* Datasets, jobs, attempts, metrics, logs, events, deployments, audit: rows in, rows out, and the rules between
 * them. */
#include "util.h"
#include <stdint.h>

static void test_datasets(void)
{
	struct storage *s = fresh_store();
	struct storage_dataset a = {0}, b = {0}, c = {0};
	bool existing = true;
	OK(storage_dataset_begin(s, "cifar", NULL, "s1", "t", &a, &existing, &err));
	CHECK(!existing && a.version == 1);
	CHECK_STR(a.state, "scanning");
	FAILS(storage_dataset_begin(s, "Bad Name", NULL, "s1", "t", &b, &existing, &err), WASD_EINVAL);
	OK(storage_dataset_begin(s, "cifar", NULL, "s1", "t", &b, &existing, &err));
	CHECK(existing);
	CHECK_STR(b.id, a.id);
	storage_dataset_done(&b);
	OK(storage_dataset_ready(s, a.id, "cifar10", "d1", "datasets/a", "{}", 5, &err));
	FAILS(storage_dataset_ready(s, a.id, "cifar10", "d1", "datasets/a", "{}", 5, &err), WASD_ESTATE);
	FAILS(storage_dataset_ready(s, "ds_none", "x", "d", "p", "{}", 5, &err), WASD_ENOTFOUND);
	OK(storage_dataset_begin(s, "cifar", NULL, "s1", "t", &b, &existing, &err)); /* the same bytes: the same version */
	CHECK(existing && b.version == 1);
	CHECK_STR(b.state, "ready");
	CHECK_STR(b.path, "datasets/a");
	storage_dataset_done(&b);
	OK(storage_dataset_begin(s, "cifar", "cifar10", "s2", "t", &b, &existing, &err)); /* new bytes: a new version */
	CHECK(!existing && b.version == 2);
	OK(storage_dataset_get(s, "cifar", 0, &c, &err)); /* the latest that is ready */
	CHECK_INT(c.version, 1);
	storage_dataset_done(&c);
	OK(storage_dataset_invalid(s, b.id, "{\"code\":\"bad_archive\"}", &err));
	storage_dataset_done(&b);
	OK(storage_dataset_begin(s, "cifar", NULL, "s2", "t", &b, &existing, &err)); /* refused bytes may be tried again */
	CHECK(!existing && b.version == 3);
	OK(storage_dataset_get(s, "cifar", 2, &c, &err));
	CHECK_STR(c.state, "invalid");
	CHECK_STR(c.error, "{\"code\":\"bad_archive\"}");
	storage_dataset_done(&c);
	FAILS(storage_dataset_get(s, "none", 0, &c, &err), WASD_ENOTFOUND);
	FAILS(storage_dataset_delete(s, "cifar", 0, "me", NULL, &err),
	      WASD_ESTATE); /* a scan of version 3 is in progress */
	OK(storage_dataset_ready(s, b.id, "cifar10", "d3", "datasets/b", "{}", 6, &err));
	bool used = false;
	OK(storage_dataset_path_used(s, "datasets/b", &used, &err));
	CHECK(used);
	struct storage_dataset_list l = {0};
	OK(storage_dataset_list(s, NULL, NULL, (struct storage_page){0}, &l, &err));
	CHECK_INT(l.n, 1);
	CHECK_INT(l.items[0].version, 3);
	storage_dataset_list_done(&l);
	OK(storage_dataset_list(s, "cifar", NULL, (struct storage_page){.oldest_first = true}, &l, &err));
	CHECK_INT(l.n, 3);
	CHECK_INT(l.items[0].version, 1);
	storage_dataset_list_done(&l);
	char *paths = NULL;
	OK(storage_dataset_delete(s, "cifar", 0, "me", &paths, &err));
	CHECK_STR(paths, "datasets/a\ndatasets/b");
	wasd_free(paths);
	FAILS(storage_dataset_delete(s, "cifar", 0, "me", NULL, &err), WASD_ENOTFOUND);
	FAILS(storage_dataset_get(s, "cifar", 0, &c, &err), WASD_ENOTFOUND);
	OK(storage_dataset_get(s, "cifar", 1, &c, &err)); /* still there by number */
	CHECK_STR(c.state, "deleted");
	CHECK(c.path == NULL);
	storage_dataset_done(&c);
	storage_dataset_done(&b);
	OK(storage_dataset_begin(s, "cifar", NULL, "s1", "t", &b, &existing, &err));
	CHECK(!existing && b.version == 4); /* numbers are never reused */
	storage_dataset_done(&b);
	storage_dataset_done(&a);
	end_store(s);
}

static void test_dataset_in_use(void)
{
	struct storage *s = fresh_store();
	char id[40];
	add_job(s, "j", id);
	FAILS(storage_dataset_delete(s, "glyphs", 0, "me", NULL, &err), WASD_ESTATE);
	CHECK_STR(err.pointer, id);
	OK(move(s, id, "cancelled"));
	OK(storage_dataset_delete(s, "glyphs", 1, "me", NULL, &err));
	struct storage_job_in in = job_in("k");
	struct storage_job j;
	FAILS(storage_job_create(s, &in, &j, NULL, &err), WASD_ENOTFOUND);
	in.dataset_version = 1;
	FAILS(storage_job_create(s, &in, &j, NULL, &err), WASD_ENOTFOUND); /* deleted */

	/* A job may wait for a scan; it runs when the data is ready and fails when the data is invalid. */
	struct storage_dataset d = {0};
	struct storage_job_list l = {0};
	OK(storage_dataset_begin(s, "glyphs", NULL, "other", "t", &d, NULL, &err));
	in.dataset_version = 0;
	OK(storage_job_create(s, &in, &j, NULL, &err));
	CHECK(j.dataset_digest == NULL && j.dataset_version == 2);
	OK(storage_job_runnable(s, 10, &l, &err));
	CHECK_INT(l.n, 0);
	storage_job_list_done(&l);
	OK(storage_dataset_invalid(s, d.id, NULL, &err));
	job_is(s, j.id, "failed");
	storage_job_done(&j);
	storage_dataset_done(&d);
	end_store(s);
}

static void test_job_rows(void)
{
	struct storage *s = fresh_store();
	char id[40];
	add_dataset(s, "glyphs");
	struct storage_job_in in = job_in("x'; DROP TABLE jobs; --\n\033[31m");
	in.labels = "{\"team\":\"a\"}";
	in.note = "note \xc3\xa9";
	struct storage_job j = {0};
	OK(storage_job_create(s, &in, &j, NULL, &err));
	CHECK_STR(j.name, in.name);
	CHECK_STR(j.labels, in.labels);
	CHECK_STR(j.note, in.note);
	CHECK_STR(j.state, "queued");
	CHECK_STR(j.dataset_digest, "digest-1");
	CHECK(j.rev == 1 && j.attempt == 0 && j.finished_at == 0 && j.created_at > 0 && j.progress == NULL);
	CHECK(!strncmp(j.id, "job_", 4) && strlen(j.id) == 30);
	snprintf(id, sizeof id, "%s", j.id);
	storage_job_done(&j);
	storage_job_done(&j);
	int64_t a = start_job(s, id);
	CHECK_INT(a, 1);
	OK(storage_attempt_end(s, id, a, &(struct storage_exit){.outcome = "completed"},
	                       &(struct storage_move){.to = "completed", .reason = "done", .progress = "{\"epoch\":3}"},
	                       &err));
	OK(storage_job_get(s, id, &j, &err));
	CHECK_STR(j.reason, "done");
	CHECK_STR(j.progress, "{\"epoch\":3}");
	CHECK_STR(j.build, "{\"build\":1}");
	CHECK(j.started_at >= j.created_at && j.finished_at >= j.started_at && j.rev == 4);
	storage_job_done(&j);
	struct storage_transition_list t = {0};
	OK(storage_transition_list(s, id, &t, &err));
	static const char *const want[] = {"queued", "starting", "running", "completed"};
	CHECK_INT(t.n, 4);
	for (size_t i = 0; i < t.n && i < 4; i++) {
		CHECK_STR(t.items[i].to, want[i]);
		if (i)
			CHECK_STR(t.items[i].from, want[i - 1]);
		else
			CHECK(t.items[i].from == NULL);
	}
	storage_transition_list_done(&t);
	struct storage_attempt_list at = {0};
	OK(storage_attempt_list(s, id, &at, &err));
	CHECK_INT(at.n, 1);
	CHECK_INT(at.items[0].pid, 1234);
	CHECK_STR(at.items[0].outcome, "completed");
	storage_attempt_list_done(&at);
	FAILS(storage_job_get(s, "job_none", &j, &err), WASD_ENOTFOUND);
	end_store(s);
}

/* Tries every pair of states on a real row; the API's table decides which moves succeed. */
static void test_every_move(void)
{
	static const char *const legal[] = {
		"queued starting",      "queued held",           "queued cancelled",    "queued failed",
		"held queued",          "held cancelled",        "held held",           "starting pausing",
		"starting running",     "starting queued",       "starting retry_wait", "starting failed",
		"starting cancelling",  "starting cancelled",    "running completed",   "running pausing",
		"running preempting",   "running retry_wait",    "running failed",      "running cancelling",
		"running queued",       "pausing paused",        "pausing completed",   "pausing retry_wait",
		"pausing failed",       "pausing cancelling",    "pausing pausing",     "paused queued",
		"paused cancelled",     "paused completed",      "paused paused",       "preempting queued",
		"preempting completed", "preempting retry_wait", "preempting failed",   "preempting cancelling",
		"preempting pausing",   "retry_wait queued",     "retry_wait failed",   "retry_wait cancelled",
		"retry_wait held",      "cancelling cancelled",  "failed queued",       "cancelled queued",
		"held failed",          "paused failed",
	};
	static const char *const way[][4] = {
		{"queued"},
		{"held"},
		{"starting"},
		{"starting", "running"},
		{"starting", "running", "pausing"},
		{"starting", "running", "pausing", "paused"},
		{"starting", "running", "preempting"},
		{"starting", "running", "retry_wait"},
		{"starting", "running", "cancelling"},
		{"starting", "running", "completed"},
		{"failed"},
		{"cancelled"},
	};
	struct storage *s = fresh_store();
	int tried = 0, allowed = 0;
	for (size_t w = 0; w < 12; w++)
		for (const char *const *to = storage_job_states(); *to; to++) {
			char id[40], pair[60];
			const char *at = "queued";
			add_job(s, "m", id);
			for (int k = 0; k < 4 && way[w][k]; k++)
				if (strcmp(way[w][k], "queued"))
					OK(move(s, id, at = way[w][k]));
			snprintf(pair, sizeof pair, "%s %s", at, *to);
			bool want = false;
			for (size_t i = 0; i < sizeof legal / sizeof *legal; i++)
				want |= !strcmp(pair, legal[i]);
			enum wasd_status st = move(s, id, *to);
			CHECK_MSG(st == (want ? WASD_OK : WASD_ESTATE), "%s: %s", pair, wasd_status_name(st));
			if (!want)
				CHECK_STR(err.pointer, at);
			job_is(s, id, want ? *to : at);
			tried++;
			allowed += want;
		}
	CHECK_INT(tried, 144);
	CHECK_INT(allowed, (int)(sizeof legal / sizeof *legal));
	struct storage_count n[STORAGE_JOB_STATES];
	OK(storage_job_counts(s, n, &err));
	int64_t sum = 0;
	for (int i = 0; i < STORAGE_JOB_STATES; i++)
		sum += n[i].n;
	CHECK_INT(sum, 144);
	CHECK(storage_job_terminal("failed") && !storage_job_terminal("paused") && storage_job_active("cancelling") &&
	      !storage_job_active("queued"));
	CHECK(!storage_job_move_ok("nonsense", "queued"));
	end_store(s);
}

/* Adds a job that waits for others; "" if it is refused. */
static void add_after(struct storage *s, const char *const *after, size_t n, char *id)
{
	struct storage_job j = {0};
	struct storage_job_in in = job_in("after");
	in.after = after;
	in.n_after = n;
	storage_job_create(s, &in, &j, NULL, &err);
	snprintf(id, 40, "%s", j.id ? j.id : "");
	storage_job_done(&j);
}

static void complete(struct storage *s, const char *id)
{
	OK(storage_attempt_end(s, id, start_job(s, id), &(struct storage_exit){.outcome = "completed"},
	                       &(struct storage_move){.to = "completed"}, &err));
}

static void test_dependencies(void)
{
	struct storage *s = fresh_store();
	char a[40], b[40], both[40], chain[3][40], none[40];
	struct storage_job j = {0};
	struct storage_request me = {.actor = "me"};
	add_job(s, "a", a);
	add_job(s, "b", b);
	add_after(s, (const char *const[]){a, b}, 2, both);
	OK(storage_job_get(s, both, &j, &err));
	CHECK_STR(j.state, "held");
	CHECK_STR(j.reason, "dependency");
	CHECK_MSG(strstr(j.message, a) != NULL, "%s", j.message);
	storage_job_done(&j);
	complete(s, a);
	job_is(s, both, "held");
	FAILS(storage_job_release(s, both, &me, &err), WASD_ESTATE); /* a user did not hold it */
	OK(storage_job_hold(s, both, &me, &err));
	complete(s, b);
	job_is(s, both, "held"); /* now it waits only for its user */
	OK(storage_job_release(s, both, &me, &err));
	job_is(s, both, "queued");
	/* A failure cancels those that wait, and those that wait for them. */
	add_job(s, "fails", a);
	add_after(s, (const char *const[]){a}, 1, chain[0]);
	add_after(s, (const char *const[]){chain[0]}, 1, chain[1]);
	add_after(s, (const char *const[]){both, chain[1]}, 2, chain[2]);
	OK(move(s, a, "failed"));
	for (int i = 0; i < 3; i++) {
		OK(storage_job_get(s, chain[i], &j, &err));
		CHECK_STR(j.state, "cancelled");
		CHECK_STR(j.reason, "dependency");
		storage_job_done(&j);
	}
	add_after(s, (const char *const[]){a}, 1, none);
	CHECK_STR(none, "");
	CHECK_STR(err.pointer, "/after/0");
	/* Tried again, a job waits for those that may still complete. */
	OK(storage_job_retry(s, a, &me, &err));
	OK(storage_job_retry(s, chain[0], &me, &err));
	job_is(s, chain[0], "held");
	complete(s, a);
	job_is(s, chain[0], "queued");
	OK(storage_job_retry(s, chain[2], &me, &err));
	job_is(s, chain[2], "held"); /* both is queued; chain[1], cancelled, is forgotten */
	complete(s, both);
	job_is(s, chain[2], "queued");
	end_store(s);
}

static void test_move_guards(void)
{
	struct storage *s = fresh_store();
	char id[40];
	add_job(s, "g", id);
	int64_t a = start_job(s, id);
	FAILS(storage_job_move(s, id, &(struct storage_move){.to = "cancelling", .from = "queued"}, &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "running");
	FAILS(storage_job_move(s, id, &(struct storage_move){.to = "completed", .attempt = a + 1}, &err), WASD_ESTATE);
	FAILS(storage_job_move(s, "job_none", &(struct storage_move){.to = "queued"}, &err), WASD_ENOTFOUND);
	FAILS(storage_job_move(s, id, &(struct storage_move){.to = "flying"}, &err), WASD_ESTATE);
	/* A failed worker: its attempt is closed with the cause, and retries are counted until the next checkpoint. */
	struct storage_exit x = {.outcome = "failed",
	                         .exit_reason = "signal 9 (Killed)",
	                         .signal = 9,
	                         .log_tail = "last words"};
	FAILS(storage_attempt_end(s, id, a, &(struct storage_exit){.outcome = "vanished"},
	                          &(struct storage_move){.to = "queued"}, &err),
	      WASD_EINVAL);
	OK(storage_attempt_end(s, id, a, &x,
	                       &(struct storage_move){.to = "retry_wait", .reason = "worker_died", .retry_at = 12345},
	                       &err));
	FAILS(storage_attempt_end(s, id, a, &x, &(struct storage_move){.to = "queued"}, &err), WASD_ESTATE);
	struct storage_job j = {0};
	OK(storage_job_get(s, id, &j, &err));
	CHECK(j.retries == 1 && j.retry_at == 12345);
	storage_job_done(&j);
	struct storage_attempt_list at = {0};
	OK(storage_attempt_list(s, id, &at, &err));
	CHECK_STR(at.items[0].exit_reason, "signal 9 (Killed)");
	CHECK_INT(at.items[0].signal, 9);
	CHECK_STR(at.items[0].log_tail, "last words");
	storage_attempt_list_done(&at);
	OK(move(s, id, "queued"));
	CHECK_INT(start_job(s, id), 2);
	/* The first attempt's worker sends again: everything from it is refused. */
	struct storage_metric m = {"train_loss", 1};
	FAILS(storage_epoch(s, id, 1, 0, 10, 0, &m, 1, NULL, &err), WASD_ESTATE);
	char ck[32];
	FAILS(store_ckpt(s, id, 1, 0, 0.5, 1000, 1, ck), WASD_ESTATE);
	FAILS(storage_attempt_end(s, id, 1, &x, &(struct storage_move){.to = "failed"}, &err), WASD_ESTATE);
	OK(storage_epoch(s, id, 2, 0, 10, 0, &m, 1, NULL, &err));
	OK(store_ckpt(s, id, 2, 0, 0.5, 1000, 1, ck));
	OK(storage_job_get(s, id, &j, &err));
	CHECK_INT(j.retries, 0); /* a durable checkpoint restores the whole retry budget */
	storage_job_done(&j);
	end_store(s);
}

static void test_update(void)
{
	struct storage *s = fresh_store();
	char id[40];
	struct storage_job j = {0};
	add_job(s, "before", id);
	OK(storage_job_update(s, id, &(struct storage_job_patch){.name = "after", .labels = "{\"a\":1}", .priority = -1},
	                      "me", &j, &err));
	CHECK(!strcmp(j.name, "after") && !strcmp(j.labels, "{\"a\":1}") && j.priority == 50 && j.rev == 2 &&
	      !strcmp(j.note, ""));
	storage_job_done(&j);
	OK(storage_job_update(s, id, &(struct storage_job_patch){.note = "n", .priority = 70}, "me", &j, &err));
	CHECK(!strcmp(j.name, "after") && !strcmp(j.note, "n") && j.priority == 70);
	storage_job_done(&j);
	struct storage_audit_list l = {0};
	char object[60];
	snprintf(object, sizeof object, "job/%s", id);
	OK(storage_audit_list(s, object, "me", 0, (struct storage_page){0}, &l, &err));
	CHECK(l.n == 3 && strstr(l.items[0].before, "\"priority\":50") && strstr(l.items[0].after, "\"priority\":70"));
	storage_audit_list_done(&l);
	OK(move(s, id, "cancelled"));
	FAILS(storage_job_update(s, id, &(struct storage_job_patch){.priority = 1}, "me", &j, &err), WASD_ESTATE);
	OK(storage_job_update(s, id, &(struct storage_job_patch){.note = "later", .priority = -1}, "me", &j, &err));
	storage_job_done(&j);
	FAILS(storage_job_update(s, "job_none", &(struct storage_job_patch){.priority = 1}, "me", &j, &err),
	      WASD_ENOTFOUND);
	end_store(s);
}

static void test_idempotency(void)
{
	struct storage *s = fresh_store();
	add_dataset(s, "glyphs");
	struct storage_job_in in = job_in("i");
	in.idempotency_key = "key-1";
	in.request_digest = "digest-a";
	struct storage_job a = {0}, b = {0};
	bool existing = true;
	OK(storage_job_create(s, &in, &a, &existing, &err));
	CHECK(!existing);
	OK(storage_job_create(s, &in, &b, &existing, &err));
	CHECK(existing);
	CHECK_STR(a.id, b.id);
	storage_job_done(&b);
	in.request_digest = "digest-b";
	FAILS(storage_job_create(s, &in, &b, &existing, &err), WASD_EEXIST);
	in.created_by = "someone else"; /* keys are separate for each client */
	OK(storage_job_create(s, &in, &b, &existing, &err));
	CHECK(!existing && strcmp(a.id, b.id));
	storage_job_done(&a);
	storage_job_done(&b);
	struct storage_job_list l = {0};
	OK(storage_job_list(s, NULL, (struct storage_page){0}, &l, &err));
	CHECK_INT(l.n, 2);
	storage_job_list_done(&l);
	end_store(s);
}

static void test_lists(void)
{
	struct storage *s = fresh_store();
	char ids[25][40], last[40] = "";
	for (int i = 0; i < 25; i++) {
		char name[20];
		snprintf(name, sizeof name, "job-%d", i % 5);
		add_job(s, name, ids[i]);
	}
	OK(move(s, ids[3], "held"));
	OK(move(s, ids[4], "cancelled"));
	for (int oldest = 0; oldest < 2; oldest++) {
		char *cursor = NULL;
		int seen = 0, pages = 0;
		do {
			struct storage_job_list l = {0};
			OK(storage_job_list(s, NULL, (struct storage_page){.cursor = cursor, .limit = 10, .oldest_first = oldest},
			                    &l, &err));
			for (size_t i = 0; i < l.n; i++, seen++)
				CHECK_STR(l.items[i].id, ids[oldest ? seen : 24 - seen]);
			wasd_free(cursor);
			cursor = l.next_cursor;
			l.next_cursor = NULL;
			storage_job_list_done(&l);
			if (++pages == 1 && !oldest) { /* an insert between two pages shifts nothing */
				add_job(s, "new", last);
				OK(move(s, last, "cancelled"));
				OK(storage_job_delete(s, last, "me", &err));
			}
		} while (cursor);
		CHECK(seen == 25 && pages == 3);
	}
	static const struct {
		struct storage_job_filter f;
		int n;
	} rows[] = {
		{{.states = "held"}, 1},     {{.states = "held,cancelled"}, 2},
		{{.states = "queued"}, 23},  {{.states = "queue"}, 0},
		{{.name = "job-2"}, 5},      {{.states = "queued", .name = "job-3"}, 4},
		{{.dataset = "glyphs"}, 25}, {{.dataset = "x"}, 0},
		{{.queue = "default"}, 25},  {{.contains = "b-1"}, 5},
		{{.contains = "%"}, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct storage_job_list l = {0};
		OK(storage_job_list(s, &rows[i].f, (struct storage_page){0}, &l, &err));
		CHECK_MSG((int)l.n == rows[i].n, "row %zu: %zu", i, l.n);
		CHECK(l.next_cursor == NULL);
		storage_job_list_done(&l);
	}
	struct storage_job_list l;
	FAILS(storage_job_list(s, NULL, (struct storage_page){.cursor = "x' OR 1"}, &l, &err), WASD_EINVAL);
	FAILS(storage_job_list(s, NULL, (struct storage_page){.limit = 501}, &l, &err), WASD_EINVAL);
	FAILS(storage_job_list(s, NULL, (struct storage_page){.limit = -1}, &l, &err), WASD_EINVAL);
	/* Runnable jobs: priority first, then age. */
	struct storage_job_in in = job_in("urgent");
	struct storage_job j = {0};
	in.priority = 90;
	OK(storage_job_create(s, &in, &j, NULL, &err));
	OK(storage_job_runnable(s, 3, &l, &err));
	CHECK_INT(l.n, 3);
	CHECK_STR(l.items[0].id, j.id);
	CHECK_STR(l.items[1].id, ids[0]);
	storage_job_done(&j);
	storage_job_list_done(&l);
	end_store(s);
}

/* One row for each code, with its latest epoch; never more than the maximum; a stale attempt adds none; a restart
 * keeps the rows. */
static void test_warnings(void)
{
	struct storage *s = fresh_store();
	struct storage_warning_list l = {0};
	char id[40], code[32];
	add_job(s, "w", id);
	FAILS(storage_warning_put(s, id, 1, "loss_stands_still", 3, "it stands", &err), WASD_ESTATE);
	int64_t a = start_job(s, id);
	OK(storage_warning_put(s, id, a, "loss_stands_still", 3, "it stands", &err));
	OK(storage_warning_put(s, id, a, "alpha_near_zero", 2, "alpha of conv1", &err));
	OK(storage_warning_put(s, id, a, "loss_stands_still", 4, "it stands again", &err));
	FAILS(storage_warning_put(s, id, a + 1, "loss_stands_still", 9, "not this attempt", &err), WASD_ESTATE);
	for (int i = 0; i < 40; i++) {
		snprintf(code, sizeof code, "made_up_%d", i);
		OK(storage_warning_put(s, id, a, code, 5 + i, "?", &err));
	}
	OK(storage_warning_list(s, id, &l, &err));
	CHECK_INT(l.n, STORAGE_WARNINGS_MAX);
	CHECK_STR(l.items[0].code, "alpha_near_zero");
	CHECK_STR(l.items[1].code, "loss_stands_still");
	CHECK_STR(l.items[1].message, "it stands again");
	CHECK_INT(l.items[1].epoch, 4);
	storage_warning_list_done(&l);
	end_store(s);
}

static void test_metrics(void)
{
	struct storage *s = fresh_store();
	char id[40];
	add_job(s, "m", id);
	struct storage_metric m[3] = {{"train_loss", 2.5}, {"val_acc_aom", NAN}, {"val_loss_aom", INFINITY}};
	FAILS(storage_epoch(s, id, 0, 0, 0, 0, m, 3, NULL, &err), WASD_ESTATE); /* queued: no worker */
	int64_t a = start_job(s, id);
	struct storage_event_list e = {0};
	for (int epoch = 0; epoch < 3; epoch++) {
		m[0].value = 2.5 - epoch;
		if (epoch == 2)
			m[1].value = 0.75, m[2].value = -INFINITY;
		for (int again = 0; again < 2; again++)
			OK(storage_epoch(s, id, a, epoch, epoch * 10, 1000 + epoch, m, 3, "{\"epoch\":1}", &err));
	}
	OK(storage_event_read(s, 0, NULL, NULL, 0, &e, &err));
	int metric_events = 0;
	for (size_t i = 0; i < e.n; i++) {
		if (strcmp(e.items[i].type, "job.metric"))
			continue;
		if (metric_events++ == 0)
			CHECK(strstr(e.items[i].data, "\"val_acc_aom\":null,\"val_acc_aom_nonfinite\":\"nan\"") != NULL);
	}
	CHECK_INT(metric_events, 3); /* no event for a replay */
	storage_event_list_done(&e);
	struct storage_point_list p = {0};
	OK(storage_metric_series(s, id, NULL, 0, &p, &err));
	CHECK_INT(p.n, 9);
	CHECK(!strcmp(p.items[0].name, "train_loss") && p.items[0].value == 2.5 && p.items[2].value == 0.5 &&
	      p.items[2].step == 20 && p.items[2].ts == 1002);
	CHECK(isnan(p.items[3].value) && p.items[5].value == 0.75 && p.items[6].value == INFINITY &&
	      p.items[8].value == -INFINITY);
	storage_point_list_done(&p);
	OK(storage_metric_series(s, id, "train_loss,none", 10, &p, &err));
	CHECK_INT(p.n, 2);
	storage_point_list_done(&p);
	OK(storage_metric_latest(s, id, &p, &err));
	CHECK(p.n == 3 && p.items[0].epoch == 2 && p.items[0].value == 0.5 && p.items[1].value == 0.75);
	storage_point_list_done(&p);
	/* A later attempt trains an epoch again: its numbers replace the old ones. */
	OK(storage_attempt_end(s, id, a, &(struct storage_exit){.outcome = "failed"},
	                       &(struct storage_move){.to = "retry_wait"}, &err));
	OK(move(s, id, "queued"));
	a = start_job(s, id);
	m[0].value = 9;
	OK(storage_epoch(s, id, a, 2, 20, 5000, m, 1, NULL, &err));
	OK(storage_metric_series(s, id, "train_loss", 20, &p, &err));
	CHECK(p.n == 1 && p.items[0].value == 9 && p.items[0].ts == 5000);
	storage_point_list_done(&p);
	end_store(s);
}

static void curve_is(struct storage *s, const char *id, const char *name, const struct storage_step *want, size_t n)
{
	struct storage_point_list l = {0};
	OK(storage_metric_series(s, id, name, 0, &l, &err));
	CHECK_INT(l.n, n);
	for (size_t i = 0; i < l.n && i < n; i++) {
		double value = !strcmp(name, "lr_step") ? want[i].lr : want[i].loss;
		CHECK_MSG(l.items[i].step == want[i].step && l.items[i].epoch == want[i].epoch && l.items[i].value == value,
		          "%s, point %zu: step %lld is %g", name, i, (long long)l.items[i].step, l.items[i].value);
	}
	storage_point_list_done(&l);
}

/* The points that an engine sends for steps with the losses (and images a second) 1, 2, 3, ...: means, along the
 * stride. The learning rate is 1/step. */
static size_t make_points(struct storage_step *out, int64_t from, int64_t to)
{
	size_t n = 0;
	double sum = 0;
	int64_t k = 0, stride = 1;
	for (int64_t step = 1; step <= to; step++) {
		while (step > STORAGE_STEP_POINTS * stride)
			stride *= 2;
		sum += (double)step, k++;
		if (step % stride)
			continue;
		if (step >= from)
			out[n++] = (struct storage_step){step, 1 + step / 500, sum / (double)k, 1 / (double)step, sum / (double)k};
		sum = 0, k = 0;
	}
	return n;
}

static void test_curve(void)
{
	static struct storage_step p[4000], want[STORAGE_STEP_POINTS];
	struct storage *s = fresh_store();
	char id[40];
	add_job(s, "c", id);
	FAILS(storage_steps(s, id, 0 + 1, p, make_points(p, 1, 3), NULL, &err), WASD_ESTATE); /* no worker */
	int64_t a = start_job(s, id);
	OK(storage_steps(s, id, a, p, make_points(p, 1, 3), "{\"phase\":\"training\"}", &err));
	curve_is(s, id, "train_loss_step", p, 3);
	struct storage_event_list e = {0};
	OK(storage_event_read(s, 0, NULL, id, 0, &e, &err));
	CHECK(e.n >= 2 && !strcmp(e.items[e.n - 1].type, "job.progress") &&
	      strstr(e.items[e.n - 1].data, "\"progress\":{\"phase\":\"training\"}"));
	CHECK(e.n >= 2 && !strcmp(e.items[e.n - 2].type, "job.metric") &&
	      strstr(e.items[e.n - 2].data, "\"metrics\":{\"train_loss_step\":3},\"points\":[[1,1,"));
	storage_event_list_done(&e);
	/* A replay stores no event; points out of order or of another attempt are refused. */
	OK(storage_steps(s, id, a, p, 3, NULL, &err));
	OK(storage_steps(s, id, a, p, make_points(p, 2, 4), NULL, &err));
	make_points(p, 1, 4);
	curve_is(s, id, "train_loss_step", p, 4);
	struct storage_step back[] = {{9, 1, 1, 1, 1}, {8, 1, 1, 1, 1}};
	FAILS(storage_steps(s, id, a, back, 2, NULL, &err), WASD_EINVAL);
	FAILS(storage_steps(s, id, a + 1, p, 4, NULL, &err), WASD_ESTATE);
	/* Full: pairs are merged repeatedly; every value is the mean over the steps since the previous point. */
	static const struct {
		int64_t to, stride;
		size_t n;
	} rows[] = {{999, 1, 999}, {1000, 2, 500}, {1003, 2, 501}, {1999, 2, 999}, {2000, 4, 500}, {9000, 16, 562}};
	int64_t at = 5;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		size_t n = make_points(p, at, rows[i].to);
		for (size_t k = 0; k < n; k += 200)
			OK(storage_steps(s, id, a, p + k, n - k < 200 ? n - k : 200, NULL, &err));
		for (size_t k = 0; k < rows[i].n; k++) {
			int64_t step = ((int64_t)k + 1) * rows[i].stride;
			double mean = (double)step - (double)(rows[i].stride - 1) / 2;
			want[k] = (struct storage_step){step, 1 + step / 500, mean, 1 / (double)step, mean};
		}
		curve_is(s, id, "train_loss_step", want, rows[i].n);
		curve_is(s, id, "images_per_s_step", want, rows[i].n);
		curve_is(s, id, "lr_step", want, rows[i].n);
		at = rows[i].to + 1;
	}
	/* A number that is not known has no point; a curve that is behind the others catches up. */
	char other[40];
	add_job(s, "other", other);
	int64_t b = start_job(s, other);
	struct storage_step odd[] = {{1, 1, 3, 0.5, NAN}, {2, 1, 3, 0.25, 7}};
	OK(storage_steps(s, other, b, odd, 2, NULL, &err));
	curve_is(s, other, "lr_step", odd, 2);
	odd[1].loss = 7;
	curve_is(s, other, "images_per_s_step", odd + 1, 1);
	/* A worker that resumes from an older checkpoint repeats known points. */
	OK(storage_attempt_end(s, id, a, &(struct storage_exit){.outcome = "failed"},
	                       &(struct storage_move){.to = "retry_wait"}, &err));
	OK(move(s, id, "queued"));
	a = start_job(s, id);
	size_t n = make_points(p, 900, 1100);
	OK(storage_steps(s, id, a, p, n, NULL, &err));
	curve_is(s, id, "train_loss_step", want, 562);
	curve_is(s, id, "lr_step", want, 562);
	/* Listed beside the other metrics, and deleted with the job. */
	struct storage_point_list l = {0};
	OK(storage_epoch(s, id, a, 1, 10, 0, (struct storage_metric[]){{"train_loss", 1}, {"val_loss_aom", 1}}, 2, NULL,
	                 &err));
	OK(storage_metric_series(s, id, NULL, 8000, &l, &err));
	CHECK(l.n == 3 * 63 && !strcmp(l.items[0].name, "images_per_s_step") &&
	      !strcmp(l.items[188].name, "train_loss_step"));
	storage_point_list_done(&l);
	OK(storage_metric_latest(s, id, &l, &err));
	CHECK_INT(l.n, 2);
	storage_point_list_done(&l);
	end_store(s);
}

/* Puts a sample of each value: the first names the processor's share, the second the memory. */
static enum wasd_status put_sample(struct storage *s, const char *id, int64_t attempt, int64_t step, int64_t ts,
                                   double value)
{
	struct storage_metric m[] = {{"cpu_percent", value}, {"rss_bytes", 2 * value}};
	return storage_sample_put(
		s, id, attempt, &(struct storage_sample){.epoch = 1, .step = step, .ts = ts, .from_step = 3, .m = m, .n = 2},
		&err);
}

static void test_samples(void)
{
	struct storage *s = fresh_store();
	struct storage_point_list l = {0};
	char id[40];
	add_job(s, "s", id);
	FAILS(put_sample(s, id, 1, 1, 1000, 1), WASD_ESTATE); /* no worker */
	int64_t a = start_job(s, id);
	/* Full after 720: pairs become means, and later samples join in pairs, too. The mean of all stays what it was. */
	static const struct {
		int to;
		size_t n;
	} rows[] = {{719, 719},  {720, 360},  {721, 361},  {722, 361}, {723, 362},
	            {1438, 719}, {1439, 360}, {1440, 360}, {3000, 375}};
	int at = 0;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		for (; at < rows[i].to; at++)
			OK(put_sample(s, id, a, 10 + at, 1000 + at, at));
		OK(storage_metric_series(s, id, "cpu_percent", 0, &l, &err));
		CHECK_MSG(l.n == rows[i].n, "%zu points after %d samples", l.n, at);
		CHECK(l.items[l.n - 1].step == 9 + at && l.items[l.n - 1].ts == 999 + at);
		storage_point_list_done(&l);
	}
	OK(storage_metric_series(s, id, "cpu_percent", 0, &l, &err));
	CHECK(l.items[0].value == 3.5 && l.items[1].value == 11.5 && l.items[0].ts == 1007); /* eight samples each */
	storage_point_list_done(&l);
	/* The clock goes back; a value that is not a number is left out. */
	OK(put_sample(s, id, a, 5000, 7, 1));
	OK(put_sample(s, id, a, 5001, 8, NAN));
	OK(storage_metric_series(s, id, "rss_bytes", 5000, &l, &err));
	CHECK(l.n == 1 && l.items[0].ts == 4000 && l.items[0].value == 2);
	storage_point_list_done(&l);
	struct storage_event_list e = {0};
	OK(storage_event_read(s, 0, NULL, id, 0, &e, &err));
	CHECK(e.n && !strcmp(e.items[e.n - 1].type, "job.sample"));
	storage_event_list_done(&e);
	/* The next attempt goes on from step 3: what the earlier one used behind it is forgotten at its first sample. */
	OK(put_sample(s, id, a, 2, 5000, 40)); /* a sample of step 2, to be kept */
	OK(storage_attempt_end(s, id, a, &(struct storage_exit){.outcome = "failed"},
	                       &(struct storage_move){.to = "retry_wait"}, &err));
	OK(move(s, id, "queued"));
	a = start_job(s, id);
	OK(put_sample(s, id, a, 4, 6000, 8));
	OK(storage_metric_series(s, id, "cpu_percent", 0, &l, &err));
	CHECK_MSG(l.n == 2 && l.items[0].step == 2 && l.items[1].step == 4 && l.items[1].value == 8, "%zu points", l.n);
	storage_point_list_done(&l);
	FAILS(put_sample(s, id, a - 1, 5, 7000, 8), WASD_ESTATE);
	end_store(s);
}

static void test_logs(void)
{
	struct storage *s = fresh_store();
	char id[40];
	add_job(s, "l", id);
	struct storage_log_in in[3] = {{100, "info", "hello"}, {200, "warn", "careful"}, {300, "error", "broken"}};
	OK(storage_log_add(s, id, 1, in, 3, &err));
	OK(storage_log_add(s, id, 2, in, 3, &err));
	FAILS(storage_log_add(s, "job_none", 1, in, 3, &err), WASD_ENOTFOUND);
	static const struct {
		struct storage_log_query q;
		int n;
		int64_t first;
	} rows[] = {
		{{0}, 6, 1},
		{{.after_n = 4}, 2, 5},
		{{.attempt = 2}, 3, 4},
		{{.level = "warn"}, 4, 2},
		{{.level = "error"}, 2, 3},
		{{.since = 200}, 4, 2},
		{{.contains = "hell"}, 2, 1},
		{{.limit = 2}, 2, 1},
		{{.limit = 2, .tail = true}, 2, 5},
		{{.tail = true, .level = "error", .limit = 1}, 1, 6},
		{{.after_n = 6}, 0, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct storage_log_list l = {0};
		OK(storage_log_read(s, id, &rows[i].q, &l, &err));
		CHECK_MSG((int)l.n == rows[i].n && (!l.n || l.items[0].n == rows[i].first), "row %zu: %zu lines", i, l.n);
		CHECK(l.first_n == 1 && l.last_n == 6);
		storage_log_list_done(&l);
	}
	struct storage_log_list l = {0};
	FAILS(storage_log_read(s, id, &(struct storage_log_query){.level = "loud"}, &l, &err), WASD_EINVAL);
	for (int i = 0; i < 30; i++)
		OK(storage_log_add(s, id, 2, in, 3, &err)); /* beyond the cap of 50 */
	OK(storage_log_read(s, id, NULL, &l, &err));
	CHECK(l.n == 50 && l.first_n == 47 && l.last_n == 96 && l.items[0].n == 47);
	storage_log_list_done(&l);
	end_store(s);
}

static int64_t told;
static void listen_to(void *ctx, int64_t seq)
{
	*(int64_t *)ctx = seq;
}

static void test_events(void)
{
	struct storage *s = fresh_store();
	char id[40];
	struct storage_event_list l = {0};
	OK(storage_event_read(s, 0, NULL, NULL, 0, &l, &err));
	CHECK(l.n == 0 && l.first_seq == 1 && l.last_seq == 0);
	storage_event_list_done(&l);
	storage_on_events(s, listen_to, &told);
	add_job(s, "e", id);
	int64_t seq = 0;
	OK(storage_event_add(s, "system", "system", NULL, "{\"text\":\"hi\"}", &seq, &err));
	CHECK(seq == told && seq == 4); /* two of the dataset, one of the job, this one */
	OK(storage_event_read(s, 0, NULL, NULL, 0, &l, &err));
	CHECK(l.n == 4 && l.first_seq == 1 && l.last_seq == 4);
	for (size_t i = 0; i < l.n; i++)
		CHECK_INT(l.items[i].seq, i + 1);
	CHECK_STR(l.items[2].type, "job.created");
	CHECK_STR(l.items[2].object, id);
	storage_event_list_done(&l);
	OK(storage_event_read(s, 0, "jobs,system", NULL, 0, &l, &err));
	CHECK_INT(l.n, 2);
	storage_event_list_done(&l);
	OK(storage_event_read(s, 0, NULL, id, 0, &l, &err));
	CHECK_INT(l.n, 1);
	storage_event_list_done(&l);
	OK(storage_event_read(s, 0, NULL, NULL, 3, &l, &err));
	CHECK(l.n == 3 && l.last_seq == 3); /* where to continue */
	storage_event_list_done(&l);
	/* A refused move leaves no event and no gap. */
	FAILS(move(s, id, "completed"), WASD_ESTATE);
	OK(storage_event_add(s, "system", "system", "x", "{}", &seq, &err));
	CHECK_INT(seq, 5);
	for (int i = 0; i < 400; i++)
		OK(storage_event_add(s, "system", "system", "x", "{}", &seq, &err));
	OK(storage_event_read(s, 3, NULL, NULL, 1000, &l, &err));
	CHECK(l.n == 200 && l.first_seq == seq - 199 && l.last_seq == seq); /* pruned to the cap; after=3 means "reset" */
	storage_event_list_done(&l);
	storage_close(s);
	s = open_store();
	OK(storage_event_add(s, "system", "system", "x", "{}", &told, &err));
	CHECK_INT(told, seq + 1); /* numbers continue after a restart */
	end_store(s);
}

static void test_deployments(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[32], ck2[32];
	add_job(s, "d", id);
	int64_t a = start_job(s, id);
	OK(store_ckpt(s, id, a, 0, 0.5, 5000, 1, ck));
	OK(store_ckpt(s, id, a, 1, 0.6, 5000, 2, ck2));
	struct storage_deployment_in in =
		{.name = "main", .source = "{\"job\":\"x\"}", .checkpoint = ck, .mode = "aom", .options = "{}", .actor = "me"};
	struct storage_deployment d = {0};
	OK(storage_deployment_create(s, &in, &d, &err));
	CHECK(d.generation == 1 && d.version == 1 && !strcmp(d.state, "created") && !strcmp(d.job, id) &&
	      !strcmp(d.mode_by, "me"));
	storage_deployment_done(&d);
	FAILS(storage_deployment_create(s, &in, &d, &err), WASD_EEXIST);
	in.name = "other", in.checkpoint = "ckpt_none";
	FAILS(storage_deployment_create(s, &in, &d, &err), WASD_ENOTFOUND);
	in.checkpoint = ck, in.mode = "fast";
	FAILS(storage_deployment_create(s, &in, &d, &err), WASD_EINVAL);
	struct storage_mode_in m = {.name = "main", .mode = "dom", .actor = "me", .reason = "try"};
	struct storage_mode_out o;
	FAILS(storage_deployment_mode(s, &m, &o, &err), WASD_ESTATE); /* not ready */
	CHECK_STR(err.pointer, "created");
	FAILS(storage_deployment_state(s, "main", "draining", NULL, &err), WASD_ESTATE);
	OK(storage_deployment_state(s, "main", "loading", NULL, &err));
	OK(storage_deployment_state(s, "main", "warming", NULL, &err));
	OK(storage_deployment_state(s, "main", "ready", NULL, &err));
	OK(storage_deployment_state(s, "main", "ready", "all well", &err));
	OK(storage_deployment_mode(s, &m, &o, &err));
	CHECK(o.changed && o.generation == 2 && !strcmp(o.previous, "aom") && !strncmp(o.audit_id, "aud_", 4));
	OK(storage_deployment_mode(s, &m, &o, &err));
	CHECK(!o.changed && o.generation == 2); /* the same mode: no new generation */
	m.mode = "aom", m.expected_generation = 1;
	FAILS(storage_deployment_mode(s, &m, &o, &err), WASD_ESTATE);
	CHECK_INT(o.generation, 2);
	m.expected_generation = 2;
	OK(storage_deployment_mode(s, &m, &o, &err));
	CHECK(o.changed && o.generation == 3);
	struct storage_source_in src = {.name = "main", .source = "{\"v\":2}", .checkpoint = ck2, .actor = "me"};
	src.expected_generation = 2;
	FAILS(storage_deployment_source(s, &src, &d, &err), WASD_ESTATE);
	src.expected_generation = 0;
	OK(storage_deployment_source(s, &src, &d, &err));
	CHECK(d.generation == 3 && d.version == 1 && !strcmp(d.checkpoint, ck) && !strcmp(d.wanted, ck2));
	storage_deployment_done(&d);
	FAILS(storage_ckpt_delete(s, ck2, "me", &err), WASD_ESTATE); /* it is about to be served */
	CHECK_STR(err.pointer, "main");
	FAILS(storage_deployment_swap(s, "main", ck, &d, &err), WASD_ESTATE);
	FAILS(storage_deployment_swap(s, "deleted meanwhile", ck2, &d, &err), WASD_ENOTFOUND);
	OK(storage_deployment_swap(s, "main", ck2, &d, &err));
	CHECK(d.generation == 4 && d.version == 2 && !strcmp(d.checkpoint, ck2) && !strcmp(d.source, "{\"v\":2}") &&
	      !d.wanted && !strcmp(d.previous, ck));
	storage_deployment_done(&d);
	/* Row, audit and event agree. */
	struct storage_audit_list al = {0};
	OK(storage_audit_list(s, "deployment/main", NULL, 0, (struct storage_page){.oldest_first = true}, &al, &err));
	static const char *const actions[] = {"deployment.create", "deployment.mode", "deployment.mode",
	                                      "deployment.source", "deployment.swap"};
	CHECK_INT(al.n, 5);
	for (size_t i = 0; i < al.n && i < 5; i++)
		CHECK_STR(al.items[i].action, actions[i]);
	CHECK(strstr(al.items[1].before, "\"mode\":\"aom\"") && strstr(al.items[1].after, "\"mode\":\"dom\"") &&
	      strstr(al.items[1].after, "\"generation\":2"));
	CHECK_STR(al.items[1].reason, "try");
	storage_audit_list_done(&al);
	OK(storage_audit_list(s, NULL, "nobody", 0, (struct storage_page){0}, &al, &err));
	CHECK_INT(al.n, 0);
	storage_audit_list_done(&al);
	struct storage_event_list el = {0};
	OK(storage_event_read(s, 0, "deployments", "main", 0, &el, &err));
	int modes = 0;
	for (size_t i = 0; i < el.n; i++)
		modes += !strcmp(el.items[i].type, "deployment.mode");
	CHECK_INT(modes, 2);
	storage_event_list_done(&el);
	struct storage_deployment_list dl = {0};
	OK(storage_deployment_list(s, "ready", (struct storage_page){0}, &dl, &err));
	CHECK_INT(dl.n, 1);
	storage_deployment_list_done(&dl);
	/* A deployed checkpoint cannot be deleted; afterwards it can. */
	FAILS(storage_ckpt_delete(s, ck2, "me", &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "main");
	OK(move(s, id, "completed"));
	FAILS(storage_job_delete(s, id, "me", &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "main");
	OK(delete_deployment(s, "main", "me", &err));
	FAILS(storage_deployment_get(s, "main", &d, &err), WASD_ENOTFOUND);
	FAILS(delete_deployment(s, "main", "me", &err), WASD_ENOTFOUND);
	OK(storage_job_delete(s, id, "me", &err));
	end_store(s);
}

static void test_updates(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[4][32];
	struct storage_recovered_list recovered = {0};
	add_job(s, "d", id); /* keeps the best one and the two latest */
	int64_t a = start_job(s, id);
	OK(store_ckpt(s, id, a, 0, 0.5, 5000, 1, ck[0]));
	OK(store_ckpt(s, id, a, 1, 0.6, 5000, 2, ck[1]));
	struct storage_deployment_in in = {.name = "main",
	                                   .source = "{\"job\":\"J\",\"follow\":\"best\"}",
	                                   .checkpoint = ck[0],
	                                   .mode = "aom",
	                                   .options = "{}",
	                                   .actor = "me"};
	struct storage_deployment d = {0};
	OK(storage_deployment_create(s, &in, &d, &err));
	storage_deployment_done(&d);
	OK(storage_deployment_state(s, "main", "loading", NULL, &err));
	OK(storage_deployment_state(s, "main", "ready", NULL, &err));
	/* An update that fails changes nothing but says so, also after a restart of the daemon. */
	struct storage_source_in src = {.name = "main", .checkpoint = ck[1], .mode = "dom", .actor = "me", .reason = "new"};
	OK(storage_deployment_source(s, &src, NULL, &err));
	FAILS(storage_deployment_update_failed(s, "main", ck[0], "late", &err), WASD_ESTATE);
	OK(storage_deployment_update_failed(s, "main", ck[1], "not finite", &err));
	storage_close(s);
	s = open_store();
	OK(storage_recover(s, &recovered, &err));
	storage_recovered_list_done(&recovered);
	OK(storage_deployment_get(s, "main", &d, &err));
	CHECK(!strcmp(d.checkpoint, ck[0]) && !strcmp(d.wanted, ck[1]) && d.version == 1 && d.generation == 1 &&
	      strstr(d.update_info, "\"error\":\"not finite\"") && !strcmp(d.mode, "aom"));
	storage_deployment_done(&d);
	/* Its own source is still followed; a wish for what it serves ends the other one. */
	struct storage_names followers = {0};
	OK(storage_deployment_followers(s, "J", &followers, &err));
	CHECK(followers.n == 1 && !strcmp(followers.items[0], "main"));
	storage_names_done(&followers);
	OK(storage_deployment_source(s, &src, NULL, &err));
	OK(storage_deployment_swap(s, "main", ck[1], &d, &err));
	CHECK(!strcmp(d.mode, "dom") && d.version == 2 && d.generation == 2 && strstr(d.source, "follow"));
	storage_deployment_done(&d);
	src.mode = NULL, src.source = "{\"checkpoint\":\"x\"}";
	OK(storage_deployment_source(s, &src, &d, &err));
	CHECK(!d.wanted && d.version == 2 && !strcmp(d.source, src.source));
	storage_deployment_done(&d);
	OK(storage_deployment_followers(s, "J", &followers, &err));
	CHECK_INT(followers.n, 0);
	/* Retention keeps what it serves and what it can go back to; a client may delete the latter. */
	a = start_job(s, id);
	OK(store_ckpt(s, id, a, 2, 0.7, 5000, 3, ck[2]));
	OK(store_ckpt(s, id, a, 3, 0.8, 5000, 4, ck[3]));
	struct storage_ckpt k = {0};
	for (int i = 0; i < 2; i++) {
		OK(storage_ckpt_get(s, ck[i], &k, &err));
		storage_ckpt_done(&k);
	}
	OK(storage_ckpt_delete(s, ck[0], "me", &err));
	OK(storage_deployment_get(s, "main", &d, &err));
	CHECK(!d.previous && !strcmp(d.checkpoint, ck[1]));
	storage_deployment_done(&d);
	/* Unloaded, it takes another checkpoint at once. */
	OK(storage_deployment_state(s, "main", "loading", NULL, &err));
	OK(storage_deployment_state(s, "main", "ready", NULL, &err));
	OK(storage_deployment_drain(s, "main", false, "me", &err));
	OK(storage_deployment_drained(s, "main", &err));
	FAILS(storage_deployment_drain(s, "main", false, "me", &err), WASD_ESTATE);
	src.checkpoint = ck[3];
	OK(storage_deployment_source(s, &src, &d, &err));
	CHECK(!strcmp(d.state, "unloaded") && !strcmp(d.checkpoint, ck[3]) && d.version == 3 && !d.wanted);
	storage_deployment_done(&d);
	OK(storage_deployment_again(s, "main", "me", &err));
	OK(storage_deployment_get(s, "main", &d, &err));
	CHECK_STR(d.state, "created");
	storage_deployment_done(&d);
	/* The daemon ends while the last requests of a deleted deployment are answered. */
	OK(storage_deployment_drain(s, "main", true, "me", &err));
	FAILS(storage_deployment_source(s, &src, NULL, &err), WASD_ESTATE);
	FAILS(storage_deployment_drain(s, "main", true, "me", &err), WASD_ESTATE);
	storage_close(s);
	s = open_store();
	OK(storage_recover(s, &recovered, &err));
	storage_recovered_list_done(&recovered);
	FAILS(storage_deployment_get(s, "main", &d, &err), WASD_ENOTFOUND);
	end_store(s);
}

static void test_delete_job(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[32];
	add_job(s, "x", id);
	FAILS(storage_job_delete(s, id, "me", &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "queued");
	int64_t a = start_job(s, id);
	OK(store_ckpt(s, id, a, 0, 0.5, 5000, 1, ck));
	OK(storage_log_add(s, id, a, &(struct storage_log_in){0, "info", "x"}, 1, &err));
	OK(move(s, id, "failed"));
	OK(storage_job_delete(s, id, "me", &err));
	struct storage_job j;
	struct storage_ckpt k;
	struct storage_point_list p = {0};
	struct storage_log_list l = {0};
	struct storage_transition_list t = {0};
	struct storage_event_list e = {0};
	FAILS(storage_job_get(s, id, &j, &err), WASD_ENOTFOUND);
	FAILS(storage_ckpt_get(s, ck, &k, &err), WASD_ENOTFOUND);
	OK(storage_metric_series(s, id, NULL, 0, &p, &err));
	OK(storage_log_read(s, id, NULL, &l, &err));
	OK(storage_transition_list(s, id, &t, &err));
	CHECK(p.n == 0 && l.n == 0 && t.n == 0);
	OK(storage_event_read(s, 0, NULL, id, 0, &e, &err));
	CHECK(e.n > 4 && !strcmp(e.items[e.n - 1].type, "job.deleted")); /* events stay */
	storage_event_list_done(&e);
	FAILS(storage_job_delete(s, id, "me", &err), WASD_ENOTFOUND);
	end_store(s);
}

/* ---- transactions ---- */

struct both {
	char id[40];
	bool fail;
	enum wasd_status inner;
};

static enum wasd_status two_things(struct storage *s, void *ctx, struct wasd_err *e)
{
	struct both *b = ctx;
	struct storage_job j;
	enum wasd_status st = storage_job_move(s, b->id, &(struct storage_move){.to = "held"}, e);
	if (st)
		return st;
	st = storage_job_get(s, b->id, &j, e); /* sees its own writes */
	if (st || strcmp(j.state, "held"))
		return WASD_EINTERNAL;
	storage_job_done(&j);
	b->inner = storage_job_move(s, b->id, &(struct storage_move){.to = "running"},
	                            NULL); /* fails without affecting the others */
	if ((st = storage_event_add(s, "system", "both", "x", "{}", NULL, e)))
		return st;
	return b->fail ? wasd_fail(e, WASD_EBUSY, "changed my mind") : WASD_OK;
}

/* An inner transaction that fails after it wrote, inside an outer one that succeeds. */
static enum wasd_status inner_fails(struct storage *s, void *ctx, struct wasd_err *e)
{
	struct both *b = ctx;
	enum wasd_status st = storage_event_add(s, "system", "outer", "x", "{}", NULL, e);
	if (st)
		return st;
	b->fail = true;
	b->inner = storage_tx(s, two_things, b, NULL);
	return WASD_OK;
}

static void async_done(void *ctx, enum wasd_status st, const struct wasd_err *e)
{
	CHECK(e != NULL);
	*(enum wasd_status *)ctx = st;
}

static enum wasd_status nothing(struct storage *s, void *ctx, struct wasd_err *e)
{
	(void)s, (void)ctx, (void)e;
	return WASD_OK;
}

static enum wasd_status fail_async(struct storage *s, void *ctx, struct wasd_err *e)
{
	(void)s, (void)ctx;
	return wasd_fail(e, WASD_ENUMERIC, "no");
}

static struct storage *callback_store;
static enum wasd_status from_callback;

static void write_in_callback(void *ctx, enum wasd_status st, const struct wasd_err *e)
{
	(void)ctx, (void)st, (void)e;
	from_callback = storage_event_add(callback_store, "system", "x", "x", "{}", NULL, NULL);
}

static enum wasd_status store_in_tx(struct storage *s, void *ctx, struct wasd_err *e)
{
	char id[32];
	struct storage_ckpt_in in = {.job = ctx, .attempt = 1, .data = "", .sha256 = ""};
	return storage_ckpt_store(s, &in, id, e);
}

static void test_transactions(void)
{
	struct storage *s = fresh_store();
	struct both b = {.fail = true};
	add_job(s, "t", b.id);
	FAILS(storage_tx(s, two_things, &b, &err), WASD_EBUSY);
	CHECK_STR(err.msg, "changed my mind");
	job_is(s, b.id, "queued");
	struct storage_event_list e = {0};
	OK(storage_event_read(s, 0, "system", NULL, 0, &e, &err));
	CHECK_INT(e.n, 0);
	storage_event_list_done(&e);
	OK(storage_tx(s, inner_fails, &b, &err));
	CHECK_INT(b.inner, WASD_EBUSY);
	job_is(s, b.id, "queued"); /* the inner one's writes are rolled back */
	OK(storage_event_read(s, 0, "system", NULL, 0, &e, &err));
	CHECK(e.n == 1 && !strcmp(e.items[0].type, "outer"));
	storage_event_list_done(&e);
	b.fail = false;
	OK(storage_tx(s, two_things, &b, &err));
	CHECK_INT(b.inner, WASD_ESTATE);
	job_is(s, b.id, "held");
	enum wasd_status first = WASD_EINTERNAL, second = WASD_EINTERNAL;
	storage_tx_async(s, nothing, &first, async_done);
	storage_tx_async(s, fail_async, &second, async_done);
	storage_tx_async(s, nothing, NULL, NULL);
	OK(storage_tx(s, nothing, NULL, &err)); /* calls are run in order: the others have finished */
	CHECK_INT(first, WASD_OK);
	CHECK_INT(second, WASD_ENUMERIC);
	callback_store = s; /* refuses a write that would wait for itself */
	storage_tx_async(s, nothing, NULL, write_in_callback);
	OK(storage_tx(s, nothing, NULL, &err));
	CHECK_INT(from_callback, WASD_EINTERNAL);
	FAILS(storage_tx(s, store_in_tx, b.id, &err), WASD_EINTERNAL);
	struct storage_health h;
	struct storage_disk room;
	storage_health(s, &h);
	storage_disk(s, &room);
	CHECK(!h.failed && h.commits > 3 && h.commit_us > 0 && room.free > 0 && h.db_bytes > 0);
	end_store(s);
}

int main(void)
{
	TEST_RUN(test_datasets);
	TEST_RUN(test_dataset_in_use);
	TEST_RUN(test_job_rows);
	TEST_RUN(test_every_move);
	TEST_RUN(test_dependencies);
	TEST_RUN(test_move_guards);
	TEST_RUN(test_update);
	TEST_RUN(test_idempotency);
	TEST_RUN(test_lists);
	TEST_RUN(test_warnings);
	TEST_RUN(test_metrics);
	TEST_RUN(test_curve);
	TEST_RUN(test_samples);
	TEST_RUN(test_logs);
	TEST_RUN(test_events);
	TEST_RUN(test_deployments);
	TEST_RUN(test_updates);
	TEST_RUN(test_delete_job);
	TEST_RUN(test_transactions);
	TEST_END();
}
