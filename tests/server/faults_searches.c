/* Searches for profiles that fail, are ended, or continue after a restart. */
#include "faults.h"

static void searches(void)
{
	static const struct {
		const char *name, *state, *in_message;
	} cases[] = {
		{"fine", "ready", NULL},
		{"refused", "failed", "/draw/3: no such transform"},
		{"told", "failed", "/budget: too small"},
		{"nowhere", "failed", "not a number"},
		{"dies", "failed", "signal 11"},
		{"quits", "failed", "ended early"},
		{"panics", "failed", "panic: out of cheese"},
		{"garbage", "failed", "broke the protocol"},
		{"backwards", "failed", "progress of 4 of 3"},
		{"surprise", "failed", "unknown message surprise"},
		{"unsealed", "failed", "broke the protocol"},
		{"short", "failed", "broke the protocol"},
		{"nofile", "failed", "memory file"},
		{"toobig", "failed", "mode dom:toobig would have 25165825 bytes, the limit is 25165824"},
		{"wrongsha", "failed", "SHA-256"},
		{"noinfo", "failed", "the mode has no valid info"},
		{"measured", "failed", "measured in answer to make"},
		{STORAGE_MEASURING, "failed", "made in answer to measure"},
		{"twice", "failed", "made after its end"},
	};
	char ckpt[32], path[128];
	start(1);
	make_ckpt("fine", ckpt);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		ask_for(ckpt, cases[i].name);
		struct storage_profile p = wait_profile(ckpt, cases[i].name, "ready,failed");
		CHECK_MSG(!strcmp(p.state, cases[i].state), "%s is %s: %s", cases[i].name, p.state, p.message);
		CHECK_MSG(!cases[i].in_message || (p.message && strstr(p.message, cases[i].in_message)), "%s: %s",
		          cases[i].name, p.message);
		CHECK_INT(p.info != NULL, !strcmp(cases[i].state, "ready"));
		storage_profile_done(&p);
	}
	/* A search without its dataset fails. */
	snprintf(path, sizeof path, "%s/d.wds", dir);
	unlink(path);
	ask_for(ckpt, "blind");
	struct storage_profile p = wait_profile(ckpt, "blind", "failed");
	CHECK_MSG(p.message && strstr(p.message, "d.wds is missing"), "%s", p.message);
	storage_profile_done(&p);
	stop();
}

static void a_search_that_is_silent(void)
{
	char ckpt[32];
	heartbeat_ms = 1000;
	start(1);
	make_ckpt("fine", ckpt);
	ask_for(ckpt, "silent");
	struct storage_profile p = wait_profile(ckpt, "silent", "failed");
	CHECK_MSG(p.message && strstr(p.message, "no heartbeat"), "%s", p.message);
	storage_profile_done(&p);
	stop();
	heartbeat_ms = PATIENCE_MS;
}

static void wait_progress(const char *id)
{
	int64_t done = 0, of = 0, until = wasd_mono_us() + 5000000ll * PATIENCE;
	double eta_s;
	while (!(profiles_progress(profiles, id, &done, &of, &eta_s) && done == 1 && of == 3) && wasd_mono_us() < until)
		poll(NULL, 0, 5);
	CHECK(done == 1 && of == 3);
}

static void searches_that_are_ended(void)
{
	char ckpt[32];
	struct storage_recovered_list l = {0};
	struct wasd_err err = {0};
	int64_t n;
	double x;
	start(1);
	make_ckpt("fine", ckpt);
	/* Deleting a profile ends its search, and the next one starts. */
	ask_for(ckpt, "slow");
	ask_for(ckpt, "fine");
	struct storage_profile p = wait_profile(ckpt, "slow", "searching");
	wait_progress(p.id);
	profile_becomes(ckpt, "fine", "queued");
	CHECK_INT(storage_profile_delete(db, ckpt, "slow", "t", &err), WASD_OK);
	profiles_gone(profiles, ckpt, p.id);
	storage_profile_done(&p);
	profile_becomes(ckpt, "fine", "ready");
	CHECK(!profiles_progress(profiles, "none", &n, &n, &x));
	/* When the daemon stops, the row stays, and the next start repeats the search. */
	ask_for(ckpt, "slow");
	p = wait_profile(ckpt, "slow", "searching");
	wait_progress(p.id);
	profiles_stop(profiles);
	for (int i = 0; i < 400 * PATIENCE && profiles_progress(profiles, p.id, &n, &n, &x); i++)
		poll(NULL, 0, 10);
	storage_profile_done(&p);
	profile_becomes(ckpt, "slow", "searching");
	CHECK_INT(storage_recover(db, &l, &err), WASD_OK);
	storage_recovered_list_done(&l);
	profile_becomes(ckpt, "slow", "queued");
	stop();
}

static bool log_says(const char *id, const char *text)
{
	struct storage_log_list l = {0};
	struct storage_log_query q = {.level = "info"};
	bool said = false;
	storage_log_read(db, id, &q, &l, NULL);
	for (size_t i = 0; i < l.n; i++)
		said |= strstr(l.items[i].text, text) != NULL;
	storage_log_list_done(&l);
	return said;
}

static void best_of(const char *id, char ckpt[32])
{
	struct storage_ckpt c = {0};
	CHECK_INT(storage_ckpt_pick(db, id, "best", &c, NULL), WASD_OK);
	snprintf(ckpt, 32, "%s", c.id ? c.id : "");
	storage_ckpt_done(&c);
}

static void is_searching(const char *id, const char *name, char ckpt[32])
{
	struct storage_profile p = {0};
	for (int i = 0; i < 800 * PATIENCE && storage_profile_of_job(db, id, &p, NULL, NULL) != WASD_OK; i++)
		poll(NULL, 0, 10);
	snprintf(ckpt, 32, "%s", p.checkpoint ? p.checkpoint : "");
	storage_profile_done(&p);
	p = wait_profile(ckpt, name, "searching");
	wait_progress(p.id);
	storage_profile_done(&p);
}

#define PROFILE(name) "{\"name\":\"" name "\",\"desire\":\"macs\",\"budget\":0.7}"

static void profiles_of_jobs(void)
{
	char id[48], next[48], ckpt[32];
	struct wasd_err err = {0};
	start(1);
	/* The job is completed when all its profiles are settled; its message and its log name the one that failed. */
	submit_with("good", 0, "", ",\"profiles\":[" PROFILE("fine") "," PROFILE("refused") "]", id);
	struct storage_job j = wait_state(id, "completed,failed", 8000);
	CHECK_STR(j.state, "completed");
	CHECK_STR(j.message, "profile refused: /draw/3: no such transform");
	storage_job_done(&j);
	best_of(id, ckpt);
	profile_becomes(ckpt, "fine", "ready");
	profile_becomes(ckpt, "refused", "failed");
	CHECK(log_says(id, "searching 2 profiles") && log_says(id, "profile fine is ready") &&
	      log_says(id, "profile refused: /draw/3: no such transform"));
	/* A job whose training fails has no profiles. */
	submit_with("exit7", 0, "", ",\"profiles\":[" PROFILE("fine") "]", id);
	j = wait_state(id, "failed", 8000);
	storage_job_done(&j);
	CHECK(!log_says(id, "searching"));
	/* Wherever the process is killed, the profiles are requested exactly once, after the end of training. */
	submit_with("late", 3, "", ",\"profiles\":[" PROFILE("fine") "]", id);
	j = wait_state(id, "completed,failed", 8000);
	CHECK(!strcmp(j.state, "completed") && !j.message && j.attempt == 3);
	storage_job_done(&j);
	best_of(id, ckpt);
	profile_becomes(ckpt, "fine", "ready");
	/* A killed search fails, and the job reports it. */
	submit_with("good", 0, "", ",\"profiles\":[" PROFILE("slow") "," PROFILE("fine") "]", id);
	is_searching(id, "slow", ckpt);
	kill_engine("profile");
	j = wait_state(id, "completed", 8000);
	CHECK_MSG(j.message && strstr(j.message, "profile slow: the search ended early: signal 9"), "%s", j.message);
	storage_job_done(&j);
	profile_becomes(ckpt, "fine", "ready");
	/* A search occupies a worker; the next job runs after it. */
	submit_with("good", 0, "", ",\"profiles\":[" PROFILE("slow") "]", id);
	is_searching(id, "slow", ckpt);
	submit("good", 0, "", next);
	CHECK(sched_idle(jobs));
	j = wait_state(next, "queued", 1000);
	storage_job_done(&j);
	/* Cancelling a job during the search for its profiles also cancels the searches. */
	CHECK_INT(sched_cancel(jobs, id, false, "", "t", &err), WASD_OK);
	j = wait_state(id, "cancelled", 1000);
	CHECK_STR(j.reason, "user");
	storage_job_done(&j);
	struct storage_profile p = wait_profile(ckpt, "slow", "failed");
	CHECK_STR(p.message, "its job was cancelled");
	storage_profile_done(&p);
	CHECK_INT(sched_cancel(jobs, id, false, "", "t", &err), WASD_ESTATE);
	j = wait_state(next, "completed", 8000);
	storage_job_done(&j);
	ask_for(ckpt, "fine"); /* requires that the cancelled search has ended, since it would otherwise wait forever */
	profile_becomes(ckpt, "fine", "ready");
	stop();
}

/* The daemon ends, cleanly or not, while a job waits only for its profiles: the job keeps its state and is
 * completed when the profiles are settled. */
static void profiles_of_jobs_across_starts(void)
{
	char id[48], ckpt[32], path[64];
	struct storage_recovered_list l = {0};
	struct wasd_err err = {0};
	fault_file(path, getpid());
	start(1);
	submit_with("good", 0, "", ",\"profiles\":[" PROFILE("slow") "," PROFILE("fine") "]", id);
	is_searching(id, "slow", ckpt);
	sched_drain(jobs);
	CHECK(sched_idle(jobs));
	profiles_stop(profiles);
	struct storage_job j = wait_state(id, "running", 1000);
	CHECK_STR(j.trained, "done");
	storage_job_done(&j);
	int64_t n;
	double x;
	struct storage_profile p = wait_profile(ckpt, "slow", "searching");
	for (int i = 0; i < 400 * PATIENCE && profiles_progress(profiles, p.id, &n, &n, &x); i++)
		poll(NULL, 0, 10);
	storage_profile_done(&p);
	CHECK_INT(storage_recover(db, &l, &err), WASD_OK);
	CHECK_INT(l.n, 0);
	storage_recovered_list_done(&l);
	j = wait_state(id, "running", 1000);
	storage_job_done(&j);
	profile_becomes(ckpt, "slow", "queued");
	profile_becomes(ckpt, "fine", "queued");
	stop_parts();
	/* The next start of the daemon. */
	fclose(fopen(path, "w"));
	start_parts(1);
	j = wait_state(id, "completed", 8000);
	CHECK(!j.message && j.attempt == 1);
	storage_job_done(&j);
	profile_becomes(ckpt, "slow", "ready");
	profile_becomes(ckpt, "fine", "ready");
	unlink(path);
	stop();
}

int main(int argc, char **argv)
{
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	TEST_RUN(searches);
	TEST_RUN(a_search_that_is_silent);
	TEST_RUN(searches_that_are_ended);
	TEST_RUN(profiles_of_jobs);
	TEST_RUN(profiles_of_jobs_across_starts);
	TEST_END();
}
