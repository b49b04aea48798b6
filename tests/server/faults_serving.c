/* Serving with an inference process that dies, hangs or sends wrong answers. */
#include "faults.h"

#include <pthread.h>

static void deploy_ckpt(const char *name, const char *ckpt)
{
	struct wasd_err err = {0};
	struct storage_deployment_in di =
		{.name = name, .source = "{}", .checkpoint = ckpt, .mode = "aom", .options = "{}", .actor = "t"};
	struct storage_deployment d = {0};
	CHECK_MSG(storage_deployment_create(db, &di, &d, &err) == WASD_OK, "%s", err.msg);
	storage_deployment_done(&d);
	CHECK_INT(serve_changed(serving, name, &err), WASD_OK);
}

static void deploy(const char *name, const char *word)
{
	char ckpt[32];
	make_ckpt(word, ckpt);
	deploy_ckpt(name, ckpt);
}

static bool wait_deployment(const char *name, const char *state, int ms)
{
	int64_t until = wasd_mono_us() + ms * 1000ll * PATIENCE;
	for (;;) {
		struct storage_deployment d = {0};
		struct api_live live = {0};
		storage_deployment_get(db, name, &d, NULL);
		bool ok = d.state && !strcmp(d.state, state) &&
		          (strcmp(state, "ready") || (serve_live(serving, name, &live) && live.ready));
		bool late = wasd_mono_us() > until;
		CHECK_MSG(ok || !late, "%s is %s: %s", name, d.state, d.message);
		storage_deployment_done(&d);
		if (ok || late)
			return ok;
		poll(NULL, 0, 5);
	}
}

/* A request whose answer a thread waits for. */
struct wish {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool over;
};

static void wish_over(void *ctx)
{
	struct wish *w = ctx;
	pthread_mutex_lock(&w->lock);
	w->over = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* Asks through the queue and waits for the answer, which no thread of the daemon does. Takes ownership of
 * call->json. */
static enum wasd_status ask(const struct api_live *live, struct api_call *call, int64_t deadline_us,
                            struct wasd_err *err)
{
	struct wish w = {.over = false};
	struct api_ask a = {.call = *call,
	                    .bundle = live->bundle,
	                    .mode = live->mode,
	                    .images = 1,
	                    .deadline_us = deadline_us};
	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.changed, NULL);
	serve_ask(serving, &a, wish_over, &w);
	pthread_mutex_lock(&w.lock);
	while (!w.over)
		pthread_cond_wait(&w.changed, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.changed);
	pthread_mutex_destroy(&w.lock);
	*call = a.call;
	if (err && a.status)
		*err = a.err;
	return a.status;
}

static enum wasd_status classify(const char *name, int k, size_t bytes, int ms, struct wasd_err *err, cJSON **reply)
{
	struct api_live live = {0};
	if (!serve_live(serving, name, &live))
		return WASD_ENOTFOUND;
	cJSON *m = cJSON_CreateObject();
	cJSON_AddStringToObject(m, "type", "classify");
	cJSON_AddStringToObject(m, "bundle", live.bundle);
	cJSON_AddStringToObject(m, "mode", live.mode);
	cJSON_AddNumberToObject(m, "k", k);
	cJSON_AddItemToObject(m, "sizes", cJSON_CreateIntArray((int[]){(int)bytes}, 1));
	char *bin = calloc(1, bytes + 1);
	struct api_call call = {.json = m, .bin = bin, .bin_len = bytes, .who = name};
	serve_begin(serving, name, &live);
	enum wasd_status s = ask(&live, &call, wasd_mono_us() + ms * 1000ll, err);
	serve_end(serving, name, &live, s == WASD_OK);
	free(bin);
	if (reply) {
		*reply = call.reply;
		call.reply = NULL;
	}
	api_call_done(&call);
	return s;
}

/* Asks for an answer of `bytes` in a memory file; a correct answer has at most `most` bytes. */
static enum wasd_status ask_bulk(const char *name, size_t bytes, size_t most, enum bulk kind, int64_t deadline_us,
                                 struct api_call *call, struct wasd_err *err)
{
	struct api_live live = {0};
	serve_live(serving, name, &live);
	cJSON *m = wasd_message("logits", "bundle:s mode:s sizes:j k:i answer_bytes:i", live.bundle, live.mode,
	                        cJSON_CreateIntArray((int[]){1}, 1), (int64_t)kind, (int64_t)bytes);
	*call = (struct api_call){.json = m, .reply_max = most};
	serve_begin(serving, name, &live);
	enum wasd_status s = ask(&live, call, deadline_us, err);
	serve_end(serving, name, &live, s == WASD_OK);
	return s;
}

static int restarts(void)
{
	cJSON *o = serve_status(serving);
	int64_t n = -1;
	wasd_json_i64(o, "restarts", &n);
	cJSON_Delete(o);
	return (int)n;
}

/* Answers larger than a frame come in a memory file. A correct one is accepted; a wrong one ends the process. */
static void large_answers(void)
{
	static const struct {
		enum bulk kind;
		size_t bytes, most;
		const char *why;
	} wrong[] = {
		{BULK_GOOD, 1 << 21, 0, "nothing of that kind was asked for"},
		{BULK_TOO_BIG, 1 << 21, 1 << 21, "more than was asked for"},
		{BULK_UNSEALED, 1 << 21, 1 << 21, "not sealed"},
		{BULK_SHORT, 1 << 21, 1 << 21, "shorter than said"},
		{BULK_NO_BYTES, 1 << 21, 1 << 21, "its size is not said"},
		{BULK_AND_BIN, 1 << 21, 1 << 21, "bytes in two places"},
	};
	static const size_t sizes[] = {256 * 1025 * 4, 1 << 20, 4, 64 << 20};
	struct wasd_err err = {0};
	struct api_call call;
	start(1);
	deploy("d", "fine");
	if (!wait_deployment("d", "ready", 4000))
		return stop();
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		CHECK_MSG(ask_bulk("d", sizes[i], sizes[i], BULK_GOOD, wasd_mono_us() + PATIENCE_MS * 1000ll, &call, &err) ==
		              WASD_OK,
		          "%zu bytes: %s", sizes[i], err.msg);
		CHECK_INT(call.reply_bin_len, sizes[i]);
		bool same = call.reply_bin_len == sizes[i];
		for (size_t k = 0; same && k < sizes[i] / 4; k++)
			same = ((const float *)(const void *)call.reply_bin)[k] == (float)k;
		CHECK_MSG(same, "%zu bytes: other values", sizes[i]);
		api_call_done(&call);
	}
	/* An answer that no request waits for is dropped. */
	CHECK_INT(ask_bulk("d", 1 << 21, 1 << 21, BULK_TO_NOBODY, wasd_mono_us() + 300000, &call, &err), WASD_EBUSY);
	api_call_done(&call);
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
	CHECK_INT(restarts(), 0);
	stop();
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		start(1);
		deploy("d", "fine");
		CHECK(wait_deployment("d", "ready", 4000));
		CHECK_MSG(ask_bulk("d", wrong[i].bytes, wrong[i].most, wrong[i].kind, wasd_mono_us() + PATIENCE_MS * 1000ll,
		                   &call, &err) == WASD_EBUSY,
		          "%s", wrong[i].why);
		CHECK_MSG(!call.reply_bin, "%s", wrong[i].why);
		api_call_done(&call);
		CHECK(wait_deployment("d", "ready", 4000));
		CHECK_INT(restarts(), 1);
		CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
		stop();
	}
}

static bool is_suspended(const char *name)
{
	struct api_live live = {0};
	return serve_live(serving, name, &live) && live.suspended && !live.ready && live.retry_s >= 1;
}

/* The number of audit rows with this action on the deployment; reason (may be NULL) must be in all of them. */
static int audited(const char *name, const char *action, const char *reason)
{
	struct storage_audit_list l = {0};
	char object[100];
	int n = 0;
	snprintf(object, sizeof object, "deployment/%s", name);
	storage_audit_list(db, object, NULL, 0, (struct storage_page){.limit = 100}, &l, NULL);
	for (size_t i = 0; i < l.n; i++)
		if (!strcmp(l.items[i].action, action)) {
			CHECK_MSG(!reason || (l.items[i].reason && strstr(l.items[i].reason, reason)), "%s: %s", action,
			          l.items[i].reason);
			n++;
		}
	storage_audit_list_done(&l);
	return n;
}

/* A deployment whose requests kill the process repeatedly is suspended, while the other is served. It resumes
 * after its time, or on request. */
static void the_one_that_kills(void)
{
	struct wasd_err err = {0};
	struct storage_deployment row = {0};
	start(1);
	deploy("good", "fine");
	deploy("bad", "fine");
	CHECK(wait_deployment("good", "ready", 4000) && wait_deployment("bad", "ready", 4000));
	for (int i = 0; i < 3; i++) {
		CHECK(!is_suspended("bad"));
		CHECK_INT(classify("bad", 66, 10, PATIENCE_MS, &err, NULL), WASD_EBUSY);
		CHECK(wait_deployment("good", "ready", 4000));
		if (i < 2)
			CHECK(wait_deployment("bad", "ready", 4000));
	}
	CHECK(is_suspended("bad"));
	CHECK_INT(classify("good", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
	storage_deployment_get(db, "bad", &row, NULL);
	CHECK_STR(row.state, "ready");
	CHECK_MSG(row.message && strstr(row.message, "Suspended") && strstr(row.message, "signal 9") &&
	              strstr(row.message, "in 600 s") && strstr(row.message, "POST /v1/deployments/bad:reload"),
	          "%s", row.message);
	storage_deployment_done(&row);
	CHECK_INT(audited("bad", "deployment.suspend", "died repeatedly"), 1);
	CHECK_INT(audited("good", "deployment.suspend", NULL), 0);
	cJSON *o = serve_status(serving), *info = serve_info(serving, "bad");
	CHECK(cJSON_GetArraySize(wasd_json_get(o, "suspended")) == 1 &&
	      !strcmp(wasd_json_get(o, "suspended")->child->valuestring, "bad"));
	CHECK(cJSON_IsNull(wasd_json_get(o, "restart_in_s")));
	const cJSON *condition = cJSON_GetArrayItem(wasd_json_get(info, "conditions"), 0);
	const char *type = "", *at = "";
	CHECK(wasd_json_str(condition, "type", &type) && !strcmp(type, "Suspended") &&
	      wasd_json_str(condition, "retry_at", &at) && strlen(at) > 18);
	cJSON_Delete(o);
	cJSON_Delete(info);
	/* A restart does not load the suspended deployment; a request for it does. */
	kill_engine("infer");
	CHECK(wait_deployment("good", "ready", 4000));
	CHECK(is_suspended("bad"));
	CHECK_INT(serve_changed(serving, "bad", &err), WASD_OK);
	CHECK(wait_deployment("bad", "ready", 4000));
	CHECK_INT(classify("bad", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
	stop();
	/* The suspension ends without a request, here at once. After that a single death suspends again. */
	aside_ms = 1;
	start(1);
	deploy("good", "fine");
	deploy("bad", "fine");
	CHECK(wait_deployment("good", "ready", 4000) && wait_deployment("bad", "ready", 4000));
	for (int i = 0; i < 4; i++) {
		CHECK_INT(classify("bad", 66, 10, PATIENCE_MS, &err, NULL), WASD_EBUSY);
		CHECK(wait_deployment("bad", "ready", 10000));
		CHECK_INT(audited("bad", "deployment.suspend", NULL), i < 2 ? 0 : i - 1);
		CHECK_INT(audited("bad", "deployment.resume", NULL), i < 2 ? 0 : i - 1);
	}
	CHECK_INT(classify("good", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
	aside_ms = 600000;
	stop();
}

/* Kills the inference process while no request is pending, and waits until death number n is recorded. */
static void kill_idle(int n)
{
	int64_t until = wasd_mono_us() + 5000000ll * PATIENCE, questions = 1;
	for (; questions && wasd_mono_us() < until; poll(NULL, 0, 2)) {
		cJSON *o = serve_status(serving);
		wasd_json_i64(o, "calls", &questions);
		cJSON_Delete(o);
	}
	kill_engine("infer");
	while (restarts() < n && wasd_mono_us() < until)
		poll(NULL, 0, 2);
	CHECK_INT(restarts(), n);
}

/* Deaths of an idle process suspend no deployment; the process restarts after increasing delays, which a request skips.
 */
static void deaths_of_nobody(void)
{
	static const int64_t most[] = {0, 0, 0, 0, PATIENCE_MS / 1000, PATIENCE_MS / 500};
	struct wasd_err err = {0};
	backoff_ms = PATIENCE_MS; /* the test sees each delay before it is over */
	start(1);
	deploy("d", "fine");
	CHECK(wait_deployment("d", "ready", 4000));
	for (int i = 1; i <= 5; i++) {
		int64_t wait = 0;
		kill_idle(i);
		cJSON *o = serve_status(serving);
		wasd_json_i64(o, "restart_in_s", &wait);
		CHECK_MSG(wait <= most[i] && wait >= most[i] * 3 / 4, "death %d: %lld s", i, (long long)wait);
		cJSON_Delete(o);
		if (wait)
			CHECK_INT(serve_changed(serving, "d", &err), WASD_OK);
		o = serve_status(serving);
		CHECK(cJSON_IsNull(wasd_json_get(o, "restart_in_s")));
		cJSON_Delete(o);
		CHECK(wait_deployment("d", "ready", 4000));
		CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
	}
	CHECK_INT(audited("d", "deployment.suspend", NULL), 0);
	stop();
	backoff_ms = 100; /* and nobody skips it */
	start(1);
	deploy("d", "fine");
	CHECK(wait_deployment("d", "ready", 4000));
	for (int i = 1; i <= 5; i++) {
		kill_idle(i);
		CHECK(wait_deployment("d", "ready", 4000));
	}
	stop();
	backoff_ms = 300;
}

static void serving_faults(void)
{
	struct wasd_err err = {0};
	cJSON *reply;
	const char *mode, *code;
	start(1);
	deploy("d", "fine");
	if (!wait_deployment("d", "ready", 4000))
		return stop();
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, &reply), WASD_OK);
	CHECK(wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "aom"));
	cJSON_Delete(reply);
	/* An answer above a megabyte comes in a memory file. */
	bool bulk = false;
	CHECK_INT(classify("d", 1, 3 << 20, PATIENCE_MS, &err, &reply), WASD_OK);
	CHECK(wasd_json_bool(reply, "bulk", &bulk) && bulk);
	cJSON_Delete(reply);
	CHECK_INT(classify("d", 68, 10, PATIENCE_MS, &err, &reply), WASD_EINVAL);
	CHECK_STR(err.pointer, "/images/0");
	CHECK(wasd_json_str(reply, "code", &code) && !strcmp(code, "bad_image"));
	cJSON_Delete(reply);
	/* No answer, and an answer to no request. */
	CHECK_INT(classify("d", 69, 10, 300, &err, NULL), WASD_EBUSY);
	CHECK_MSG(strstr(err.msg, "before the deadline") != NULL, "%s", err.msg);
	CHECK_INT(classify("d", 70, 10, 300, &err, NULL), WASD_EBUSY);
	CHECK_MSG(strstr(err.msg, "before the deadline") != NULL, "%s", err.msg);
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
	/* Requests after a switch are answered in the new mode. */
	struct api_live now, before;
	int64_t swap_us, old;
	char audit[64];
	CHECK_INT(serve_mode(serving, "d", "dom", -1, "t", "r", &now, &before, &swap_us, &old, audit, &err), WASD_OK);
	CHECK_INT(now.generation, before.generation + 1);
	CHECK_STR(before.mode, "aom");
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, &reply), WASD_OK);
	CHECK(wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "dom"));
	cJSON_Delete(reply);
	CHECK_INT(serve_mode(serving, "d", "aom", before.generation, "t", "r", &now, &before, &swap_us, &old, audit, &err),
	          WASD_ESTATE);
	CHECK_INT(serve_mode(serving, "d", "xom", -1, "t", "r", &now, &before, &swap_us, &old, audit, &err), WASD_EBUSY);
	/* The process dies during a request: that request fails with WASD_EBUSY then, not at its deadline, and the
	 * deployment is ready again in the mode of its row. */
	for (int k = 66; k <= 67; k++) {
		CHECK_INT(classify("d", k, 10, PATIENCE_MS, &err, NULL), WASD_EBUSY);
		CHECK_MSG(!strstr(err.msg, "before the deadline"), "%s", err.msg);
		CHECK(wait_deployment("d", "ready", 3000));
		CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, &reply), WASD_OK);
		CHECK(reply && wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "dom"));
		cJSON_Delete(reply);
	}
	/* The third crash within the window exceeds the limit. */
	CHECK_INT(classify("d", 66, 10, PATIENCE_MS, &err, NULL), WASD_EBUSY);
	CHECK(is_suspended("d"));
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, NULL), WASD_EBUSY);
	/* A new request loads the deployment again. */
	CHECK_INT(serve_changed(serving, "d", &err), WASD_OK);
	CHECK(wait_deployment("d", "ready", 3000));
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
	/* One checkpoint cannot be loaded and another one kills the process: the former does not affect the first
	 * deployment. */
	deploy("refused", "refuse");
	CHECK(wait_deployment("refused", "failed", 3000));
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
	CHECK_INT(serve_gone(serving, "d", &(int64_t){0}, &err), WASD_OK);
	CHECK_INT(serve_gone(serving, "refused", &(int64_t){0}, &err), WASD_OK);
	CHECK_INT(classify("d", 1, 10, 500, &err, NULL), WASD_ENOTFOUND);
	stop();
}

static void mode_becomes(const char *deployment, const char *mode, bool there)
{
	int64_t until = wasd_mono_us() + 4000000ll * PATIENCE;
	for (;;) {
		cJSON *info = serve_info(serving, deployment);
		bool is = wasd_json_get(wasd_json_get(info, "modes"), mode) != NULL;
		cJSON_Delete(info);
		bool late = wasd_mono_us() > until;
		CHECK_MSG(is == there || !late, "%s is %s", mode, is ? "still there" : "not there");
		if (is == there || late)
			return;
		poll(NULL, 0, 5);
	}
}

static void serving_profiles(void)
{
	char ckpt[32], audit[64];
	struct wasd_err err = {0};
	struct api_live now, before;
	int64_t swap_us, old;
	cJSON *reply;
	const char *mode;
	start(1);
	make_ckpt("fine", ckpt);
	ask_for(ckpt, "fast");
	ask_for(ckpt, "unserved");
	profile_becomes(ckpt, "fast", "ready");
	profile_becomes(ckpt, "unserved", "ready");
	/* The deployment loads with its ready profiles, except those that cannot be loaded. */
	deploy_ckpt("d", ckpt);
	CHECK(wait_deployment("d", "ready", 4000));
	mode_becomes("d", "dom:fast", true);
	mode_becomes("d", "dom:unserved", false);
	/* A profile that becomes ready during serving can be switched to. */
	ask_for(ckpt, "live");
	mode_becomes("d", "dom:live", true);
	CHECK_INT(serve_mode(serving, "d", "dom:none", -1, "t", "r", &now, &before, &swap_us, &old, audit, &err),
	          WASD_EBUSY);
	CHECK_MSG(serve_mode(serving, "d", "dom:live", -1, "t", "r", &now, &before, &swap_us, &old, audit, &err) == WASD_OK,
	          "%s", err.msg);
	CHECK_STR(now.mode, "dom:live");
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, &reply), WASD_OK);
	CHECK(wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "dom:live"));
	cJSON_Delete(reply);
	/* After a crash all profiles are loaded again, and the mode is restored. */
	CHECK_INT(classify("d", 66, 10, PATIENCE_MS, &err, NULL), WASD_EBUSY);
	CHECK(wait_deployment("d", "ready", 2000));
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, &reply), WASD_OK);
	CHECK(wasd_json_str(reply, "mode", &mode) && !strcmp(mode, "dom:live"));
	cJSON_Delete(reply);
	mode_becomes("d", "dom:fast", true);
	/* The profile in use cannot be deleted; another one is deleted at once. */
	CHECK_INT(storage_profile_delete(db, ckpt, "live", "t", &err), WASD_ESTATE);
	CHECK_INT(storage_profile_delete(db, ckpt, "fast", "t", &err), WASD_OK);
	serve_profiles_changed(serving, ckpt);
	mode_becomes("d", "dom:fast", false);
	mode_becomes("d", "dom:live", true);
	/* The same name can be used for a new profile. */
	ask_for(ckpt, "fast");
	mode_becomes("d", "dom:fast", true);
	serve_profiles_changed(serving, "ckpt_none");
	CHECK_INT(serve_gone(serving, "d", &(int64_t){0}, &err), WASD_OK);
	stop();
}

/* Has it served that version, or does it have an update with that error? */
static bool wait_update(const char *name, int64_t version, const char *error)
{
	int64_t until = wasd_mono_us() + 20000000ll * PATIENCE;
	for (;;) {
		struct storage_deployment d = {0};
		struct api_live live = {0};
		storage_deployment_get(db, name, &d, NULL);
		serve_live(serving, name, &live);
		bool ok = d.version == version && live.version == version && live.ready && !strcmp(d.state, "ready") &&
		          (error ? d.update_info && strstr(d.update_info, error) : !d.wanted);
		bool late = wasd_mono_us() > until;
		CHECK_MSG(ok || !late, "%s is %s at version %lld: %s", name, d.state, (long long)d.version, d.update_info);
		storage_deployment_done(&d);
		if (ok || late)
			return ok;
		poll(NULL, 0, 5);
	}
}

static void want(const char *name, const char *word, char ckpt[32])
{
	struct wasd_err err = {0};
	make_ckpt(word, ckpt);
	struct storage_source_in in = {.name = name, .checkpoint = ckpt, .actor = "t"};
	CHECK_INT(storage_deployment_source(db, &in, NULL, &err), WASD_OK);
	CHECK_INT(serve_changed(serving, name, &err), WASD_OK);
}

/* A question to that very bundle. */
static enum wasd_status ask_bundle(const struct api_live *live)
{
	struct wasd_err err = {0};
	struct api_call call = {.json = wasd_message("classify", "bundle:s mode:s k:i sizes:j", live->bundle, "aom",
	                                             (int64_t)1, cJSON_CreateIntArray((int[]){1}, 1)),
	                        .bin = "x",
	                        .bin_len = 1};
	enum wasd_status s = ask(live, &call, wasd_mono_us() + PATIENCE_MS * 1000ll, &err);
	api_call_done(&call);
	return s;
}

/* Requests that hold the old bundle are answered by it after the swap; the last of them unloads it. */
static void update(void)
{
	struct wasd_err err = {0};
	struct api_live old = {0}, now = {0};
	char ckpt[32];
	int64_t in_flight = 0;
	start(1);
	deploy("d", "fine");
	if (!wait_deployment("d", "ready", 4000))
		return stop();
	CHECK(serve_live(serving, "d", &old) && serve_begin(serving, "d", &old) && serve_begin(serving, "d", &old));
	want("d", "fine, too", ckpt);
	wait_update("d", 2, NULL);
	CHECK(serve_live(serving, "d", &now) && now.version == 2 && now.generation == 2 && !strcmp(now.bundle, ckpt));
	CHECK_INT(ask_bundle(&old), WASD_OK);
	serve_end(serving, "d", &old, true);
	CHECK_INT(ask_bundle(&old), WASD_OK);
	serve_end(serving, "d", &old, true);
	int64_t until = wasd_mono_us() + 20000000ll * PATIENCE;
	while (ask_bundle(&old) == WASD_OK && wasd_mono_us() < until)
		poll(NULL, 0, 5);
	CHECK(!serve_begin(serving, "d", &old));
	CHECK_INT(ask_bundle(&now), WASD_OK);
	/* A checkpoint that is refused, and one that kills the process: the old one is still served. */
	want("d", "refuse", ckpt);
	wait_update("d", 2, "no network in it");
	CHECK_INT(ask_bundle(&now), WASD_OK);
	want("d", "crash", ckpt);
	wait_update("d", 2, "died each time");
	CHECK_INT(ask_bundle(&now), WASD_OK);
	CHECK_INT(audited("d", "deployment.update_failed", NULL), 2);
	CHECK_INT(audited("d", "deployment.suspend", NULL), 0);
	want("d", "fine again", ckpt);
	wait_update("d", 3, NULL);
	/* Deleted while a request is in flight: it is gone after the answer. */
	CHECK(serve_live(serving, "d", &now) && serve_begin(serving, "d", &now));
	CHECK_INT(storage_deployment_drain(db, "d", true, "t", &err), WASD_OK);
	CHECK_INT(serve_gone(serving, "d", &in_flight, &err), WASD_OK);
	CHECK_INT(in_flight, 1);
	CHECK(!serve_live(serving, "d", &old) && !serve_begin(serving, "d", &now));
	CHECK_INT(ask_bundle(&now), WASD_OK);
	struct storage_deployment row = {0};
	CHECK_INT(storage_deployment_get(db, "d", &row, &err), WASD_OK);
	CHECK_STR(row.state, "draining");
	storage_deployment_done(&row);
	serve_end(serving, "d", &now, true);
	until = wasd_mono_us() + 20000000ll * PATIENCE;
	enum wasd_status s;
	while ((s = storage_deployment_get(db, "d", &row, &err)) == WASD_OK && wasd_mono_us() < until) {
		storage_deployment_done(&row);
		poll(NULL, 0, 5);
	}
	CHECK_INT(s, WASD_ENOTFOUND);
	stop();
}

static void bundle_that_crashes(void)
{
	struct wasd_err err;
	start(1);
	deploy("d", "fine");
	CHECK(wait_deployment("d", "ready", 4000));
	deploy("c", "crash");
	CHECK(wait_deployment("c", "failed", 5000));
	CHECK(is_suspended("c"));
	CHECK(wait_deployment("d", "ready", 4000));
	CHECK_INT(classify("d", 1, 10, PATIENCE_MS, &err, NULL), WASD_OK);
	stop();
}

static void hung_call_does_not_outlive_the_stop(void)
{
	struct wasd_err err;
	start(1);
	deploy("d", "fine");
	if (wait_deployment("d", "ready", 4000))
		CHECK_INT(classify("d", 69, 10, 50, &err, NULL), WASD_EBUSY);
	stop();
}

int main(int argc, char **argv)
{
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	TEST_RUN(serving_profiles);
	TEST_RUN(serving_faults);
	TEST_RUN(the_one_that_kills);
	TEST_RUN(deaths_of_nobody);
	TEST_RUN(large_answers);
	TEST_RUN(bundle_that_crashes);
	TEST_RUN(update);
	TEST_RUN(hung_call_does_not_outlive_the_stop);
	TEST_END();
}
