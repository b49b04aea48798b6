/* What follows the completion of a job: registered and deployed in the transaction that completes it, or skipped, or
 * refused without a trace but the reason. */
#include "util.h"

static char job[40], ck[32];

/* A running job with one checkpoint of accuracy 0.75 that asks for this. */
static int64_t begin(struct storage *s, const char *asked)
{
	char spec[600];
	struct storage_job j = {0};
	struct storage_job_in in = job_in("o");
	add_dataset(s, "glyphs");
	snprintf(spec, sizeof spec, "{\"on_complete\":%s}", asked);
	in.spec = spec;
	OK(storage_job_create(s, &in, &j, NULL, &err));
	snprintf(job, sizeof job, "%s", j.id ? j.id : "");
	storage_job_done(&j);
	int64_t attempt = start_job(s, job);
	OK(store_ckpt(s, job, attempt, 1, 0.75, 3000, 1, ck));
	return attempt;
}

static enum wasd_status complete(struct storage *s, int64_t attempt)
{
	return storage_attempt_end(s, job, attempt, &(struct storage_exit){.outcome = "completed"},
	                           &(struct storage_move){.to = "completed", .reason = "done"}, &err);
}

/* The outcome contains these texts, and there is one event and one audit row of it. */
static void outcome(struct storage *s, const char *state, const char *more)
{
	struct storage_job j = {0};
	struct storage_event_list l = {0};
	struct storage_audit_list a = {0};
	char want[60], object[60];
	int events = 0, rows = 0;
	OK(storage_job_get(s, job, &j, &err));
	CHECK_STR(j.state, "completed");
	snprintf(want, sizeof want, "\"state\":\"%s\"", state);
	CHECK_MSG(j.on_complete && strstr(j.on_complete, want) && strstr(j.on_complete, more), "%s, not %s %s",
	          j.on_complete, state, more);
	storage_job_done(&j);
	OK(storage_event_read(s, 0, "jobs", job, 0, &l, &err));
	for (size_t i = 0; i < l.n; i++)
		events += !strcmp(l.items[i].type, "job.on_complete");
	CHECK_INT(events, 1);
	storage_event_list_done(&l);
	snprintf(object, sizeof object, "job/%s", job);
	OK(storage_audit_list(s, object, NULL, 0, (struct storage_page){0}, &a, &err));
	for (size_t i = 0; i < a.n; i++)
		rows += !strcmp(a.items[i].action, "job.on_complete");
	CHECK_INT(rows, 1);
	storage_audit_list_done(&a);
}

static void loads_are(struct storage *s, const char *name)
{
	struct storage_names l = {0};
	CHECK(storage_loads_waiting(s) == (name != NULL));
	OK(storage_loads_take(s, &l, &err));
	CHECK(name ? l.n == 1 && !strcmp(l.items[0], name) : !l.n);
	storage_names_done(&l);
	CHECK(!storage_loads_waiting(s));
}

#define ALL \
	"{\"if\":[{\"metric\":\"val_acc_aom\",\"op\":\">=\",\"value\":0.7}],\"checkpoint\":\"best\",\"register\":{\"model\":\"digits\"," \
	"\"alias\":\"champion\"},\"deploy\":{\"name\":\"live\",\"mode\":\"dom\",\"batching\":{\"max_batch\":8}}}"

static void all_of_it(void)
{
	struct storage *s = fresh_store();
	struct storage_version v = {0};
	struct storage_deployment d = {0};
	int64_t version = 0;
	OK(complete(s, begin(s, ALL)));
	outcome(s, "done", "\"version\":1,\"deployment\":\"live\"");
	OK(storage_alias_get(s, "digits", "champion", &version, &err));
	CHECK_INT(version, 1);
	OK(storage_version_get(s, "digits", 1, &v, &err));
	CHECK_STR(v.checkpoint, ck);
	CHECK_MSG(strstr(v.lineage, job) && strstr(v.lineage, "\"epoch\":1"), "%s", v.lineage);
	storage_version_done(&v);
	OK(storage_deployment_get(s, "live", &d, &err));
	CHECK(!strcmp(d.checkpoint, ck) && !strcmp(d.mode, "dom") && !strcmp(d.state, "created"));
	CHECK_STR(d.source, "{\"model\":\"digits\",\"alias\":\"champion\"}");
	CHECK_STR(d.options, "{\"batching\":{\"max_batch\":8}}");
	storage_deployment_done(&d);
	loads_are(s, "live");
	/* The next job: another version, and the deployment is to go on with its checkpoint. */
	OK(complete(s, begin(s, ALL)));
	outcome(s, "done", "\"version\":2");
	OK(storage_deployment_get(s, "live", &d, &err));
	CHECK_STR(d.wanted, ck);
	storage_deployment_done(&d);
	loads_are(s, "live");
	end_store(s);
}

static void conditions(void)
{
	static const struct {
		const char *op;
		double value;
		bool holds;
	} rows[] = {{">=", 0.75, true}, {">", 0.75, false}, {"<=", 0.75, true}, {"<", 0.75, false},
	            {"<", 0.8, true},   {">", 0.7, true},   {">=", 0.8, false}, {"<=", 0.7, false}};
	struct storage *s = fresh_store();
	struct storage_model m = {0};
	char asked[300], why[80];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		snprintf(
			asked, sizeof asked,
			"{\"if\":[{\"metric\":\"train_loss\",\"op\":\"<\",\"value\":9},{\"metric\":\"val_acc_aom\",\"op\":\"%s\","
			"\"value\":%g}],\"register\":{\"model\":\"m%zu\"}}",
			rows[i].op, rows[i].value, i);
		OK(complete(s, begin(s, asked)));
		snprintf(why, sizeof why, "val_acc_aom is 0.75 at epoch 1, not %s %g", rows[i].op, rows[i].value);
		outcome(s, rows[i].holds ? "done" : "skipped", rows[i].holds ? "\"version\":1" : why);
		snprintf(why, sizeof why, "m%zu", i);
		CHECK_INT(storage_model_get(s, why, &m, NULL), rows[i].holds ? WASD_OK : WASD_ENOTFOUND);
		storage_model_done(&m);
	}
	OK(complete(
		s,
		begin(s, "{\"if\":[{\"metric\":\"test_acc_aom\",\"op\":\">\",\"value\":0}],\"register\":{\"model\":\"m\"}}")));
	outcome(s, "skipped", "test_acc_aom was not measured");
	loads_are(s, NULL);
	end_store(s);
}

/* The deployment cannot change: the job is completed all the same, and the version does not stay. */
static void refusals(void)
{
	struct storage *s = fresh_store();
	struct storage_model m = {0};
	struct storage_deployment d = {0};
	int64_t attempt = begin(s, ALL);
	struct storage_deployment_in in = {.name = "live", .source = "{}", .checkpoint = ck, .mode = "aom", .actor = "me"};
	OK(storage_deployment_create(s, &in, &d, &err));
	storage_deployment_done(&d);
	OK(storage_deployment_drain(s, "live", true, "me", &err));
	OK(complete(s, attempt));
	outcome(s, "failed", "deployment live is being deleted");
	FAILS(storage_model_get(s, "digits", &m, &err), WASD_ENOTFOUND);
	loads_are(s, NULL);
	end_store(s);
	/* A mode that the checkpoint does not have. */
	s = fresh_store();
	OK(complete(s, begin(s, "{\"register\":{\"model\":\"digits\"},\"deploy\":{\"name\":\"live\",\"mode\":\"slim\"}}")));
	outcome(s, "failed", "has no mode slim: its network has no dead channels");
	FAILS(storage_model_get(s, "digits", &m, &err), WASD_ENOTFOUND);
	FAILS(storage_deployment_get(s, "live", &d, &err), WASD_ENOTFOUND);
	loads_are(s, NULL);
	end_store(s);
	/* A job that fails is followed by nothing. */
	s = fresh_store();
	attempt = begin(s, ALL);
	OK(storage_attempt_end(s, job, attempt, &(struct storage_exit){.outcome = "failed"},
	                       &(struct storage_move){.to = "failed"}, &err));
	struct storage_job j = {0};
	OK(storage_job_get(s, job, &j, &err));
	CHECK(!j.on_complete);
	storage_job_done(&j);
	FAILS(storage_model_get(s, "digits", &m, &err), WASD_ENOTFOUND);
	end_store(s);
}

/* With profiles the job completes when the last is settled, and only then is it followed. */
static void after_profiles(void)
{
	struct storage *s = fresh_store();
	struct storage_job j = {0};
	struct storage_profile p = {0};
	struct storage_wanted want = {"light", "macs", "{\"name\":\"light\"}", NULL};
	struct storage_exit x = {.outcome = "completed", .profiles = &want, .n_profiles = 1};
	int64_t attempt = begin(s, ALL);
	OK(storage_attempt_end(s, job, attempt, &x, &(struct storage_move){.to = "completed", .reason = "done"}, &err));
	OK(storage_job_get(s, job, &j, &err));
	CHECK(!strcmp(j.state, "running") && !j.on_complete);
	storage_job_done(&j);
	OK(storage_profile_get(s, ck, "light", &p, &err));
	OK(storage_profile_fail(s, p.id, "no draw", &err));
	storage_profile_done(&p);
	outcome(s, "done", "\"version\":1");
	end_store(s);
}

int main(void)
{
	TEST_RUN(all_of_it);
	TEST_RUN(conditions);
	TEST_RUN(refusals);
	TEST_RUN(after_profiles);
	TEST_END();
}
