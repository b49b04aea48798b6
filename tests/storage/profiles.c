/* Profiles: requested, searched, stored, served, deleted; and after a restart, without memory, with a damaged file. */
#include "util.h"
#include "internal.h"
#include "schema.h"
#include <fcntl.h>
#include <sqlite3.h>

static char job[40], ck[32];

/* A running job with one checkpoint of 3000 bytes. */
static struct storage *store_with_ckpt(void)
{
	struct storage *s = fresh_store();
	add_job(s, "p", job);
	OK(store_ckpt(s, job, start_job(s, job), 1, 0.5, 3000, 1, ck));
	return s;
}

static struct storage_profile_in asked(const char *name)
{
	return (struct storage_profile_in){.checkpoint = ck,
	                                   .name = name,
	                                   .desire = "macs",
	                                   .request = "{\"desire\":\"macs\",\"budget\":0.7}",
	                                   .dataset = "glyphs",
	                                   .dataset_version = 1,
	                                   .actor = "me"};
}

static enum wasd_status make_ready(struct storage *s, const char *id, const char *overlay)
{
	char sha[WASD_SHA256_HEX];
	wasd_sha256_of(overlay, strlen(overlay), sha);
	return storage_profile_ready(s, id, "{\"macs\":70}", NULL, overlay, strlen(overlay), sha, &err);
}

/* Its data set stays until it is made, or the modes are measured. */
static void test_dataset_stays(void)
{
	static const char *const names[] = {"light", STORAGE_MEASURING};
	for (int i = 0; i < 2; i++) {
		struct storage *s = store_with_ckpt();
		struct storage_profile p = {0};
		struct storage_profile_in in = asked(names[i]);
		OK(move(s, job, "completed"));
		OK(storage_profile_begin(s, &in, &p, NULL, &err));
		FAILS(storage_dataset_delete(s, "glyphs", 0, "me", NULL, &err), WASD_ESTATE);
		CHECK_STR(err.pointer, ck);
		CHECK_MSG(strstr(err.msg, i ? "are measured on it" : "mode dom:light"), "%s", err.msg);
		FAILS(storage_dataset_delete(s, "glyphs", 1, "me", NULL, &err), WASD_ESTATE);
		OK(storage_profile_searching(s, p.id, &err));
		FAILS(storage_dataset_delete(s, "glyphs", 1, "me", NULL, &err), WASD_ESTATE);
		OK(storage_profile_fail(s, p.id, "no luck", &err));
		OK(storage_dataset_delete(s, "glyphs", 1, "me", NULL, &err));
		storage_profile_done(&p);
		end_store(s);
	}
}

/* What the checkpoint's info has below that path, or "". */
static void info_of(struct storage *s, const char *path, char out[100])
{
	struct storage_ckpt k = {0};
	cJSON *info = NULL;
	const cJSON *at;
	out[0] = 0;
	OK(storage_ckpt_get(s, ck, &k, &err));
	CHECK(!wasd_json_parse(k.info, strlen(k.info), WASD_JSON_BULK, &info, NULL));
	at = wasd_json_get(wasd_json_get(info, "measured"), path);
	char *text = at ? wasd_json_print(at) : NULL;
	snprintf(out, 100, "%s", text ? text : "");
	wasd_free(text);
	cJSON_Delete(info);
	storage_ckpt_done(&k);
}

/* Requests, searches and completes a profile; id gets its id. */
static void add_profile(struct storage *s, const char *name, const char *overlay, char id[40])
{
	struct storage_profile p = {0};
	struct storage_profile_in in = asked(name);
	OK(storage_profile_begin(s, &in, &p, NULL, &err));
	snprintf(id, 40, "%s", p.id ? p.id : "");
	storage_profile_done(&p);
	OK(storage_profile_searching(s, id, &err));
	OK(make_ready(s, id, overlay));
}

static void profile_is(struct storage *s, const char *name, const char *state, const char *message)
{
	struct storage_profile p = {0};
	OK(storage_profile_get(s, ck, name, &p, &err));
	CHECK_STR(p.state, state);
	if (message)
		CHECK_STR(p.message, message);
	else
		CHECK(!p.message);
	CHECK((p.finished_at != 0) == (!strcmp(state, "ready") || !strcmp(state, "failed")));
	storage_profile_done(&p);
}

/* A mode of another kind has a family of its own, so that a profile may have the same name; the figures of the own
 * modes come with the first making, and by a measuring, which leaves no row. */
static void test_kinds_and_measuring(void)
{
	struct storage *s = store_with_ckpt();
	struct storage_profile p = {0}, own = {0};
	struct storage_profile_list l = {0};
	char id[40], sha[WASD_SHA256_HEX], text[100];
	bool existing = true;
	struct storage_profile_in in = asked("int8:fast");
	in.kind = "int8";
	add_profile(s, "fast", "overlay", id);
	OK(storage_profile_begin(s, &in, &p, &existing, &err));
	CHECK(!existing && strcmp(p.id, id));
	CHECK_STR(p.mode, "int8:fast");
	CHECK_STR(p.kind, "int8");
	CHECK_STR(p.name, "fast");
	in.name = "int8:aom";
	FAILS(storage_profile_begin(s, &in, NULL, NULL, &err), WASD_EINVAL);
	OK(storage_profile_searching(s, p.id, &err));
	wasd_sha256_of("bytes", 5, sha);
	OK(storage_profile_ready(s, p.id, "{\"macs\":50}", "{\"aom\":{\"macs\":100}}", "bytes", 5, sha, &err));
	info_of(s, "aom", text);
	CHECK_STR(text, "{\"macs\":100}");
	in = asked(STORAGE_MEASURING);
	in.desire = "measure";
	in.request = "{\"desire\":\"measure\"}";
	OK(storage_profile_begin(s, &in, &own, &existing, &err));
	OK(storage_profile_list(s, ck, NULL, &l, &err));
	CHECK(l.n == 2); /* it is no mode */
	storage_profile_list_done(&l);
	OK(storage_profile_searching(s, own.id, &err));
	OK(storage_modes_measured(s, own.id, "{\"aom\":{\"macs\":101},\"dom\":{\"macs\":70}}", &err));
	info_of(s, "dom", text);
	CHECK_STR(text, "{\"macs\":70}");
	info_of(s, "at", text);
	CHECK(strtod(text, NULL) > 1e12);
	FAILS(storage_profile_get(s, ck, STORAGE_MEASURING, &own, &err), WASD_ENOTFOUND);
	FAILS(storage_modes_measured(s, own.id, "{}", &err), WASD_ENOTFOUND);
	storage_profile_done(&own);
	storage_profile_done(&p);
	end_store(s);
}

static void test_life(void)
{
	struct storage *s = store_with_ckpt();
	struct storage_profile p = {0}, again = {0};
	struct storage_profile_in in = asked("fast");
	bool existing = true;
	FAILS(storage_profile_next(s, &p, &err), WASD_ENOTFOUND);
	OK(storage_profile_begin(s, &in, &p, &existing, &err));
	CHECK(!existing && !strncmp(p.id, "prof_", 5) && !p.info && !p.bytes);
	CHECK_STR(p.state, "queued");
	CHECK_STR(p.created_by, "me");
	/* An equal request gives the same profile, any other is refused. */
	OK(storage_profile_begin(s, &in, &again, &existing, &err));
	CHECK(existing && !strcmp(again.id, p.id));
	storage_profile_done(&again);
	in.request = "{\"desire\":\"macs\",\"budget\":0.6}";
	FAILS(storage_profile_begin(s, &in, &again, &existing, &err), WASD_EEXIST);
	CHECK_STR(err.pointer, "/name");
	in = asked("fast");
	in.dataset_version = 7;
	FAILS(storage_profile_begin(s, &in, NULL, NULL, &err), WASD_EEXIST);
	/* Moves out of order are refused. */
	FAILS(make_ready(s, p.id, "too early"), WASD_ESTATE);
	CHECK_STR(err.pointer, "queued");
	OK(storage_profile_next(s, &again, &err));
	CHECK_STR(again.id, p.id);
	storage_profile_done(&again);
	OK(storage_profile_searching(s, p.id, &err));
	FAILS(storage_profile_searching(s, p.id, &err), WASD_ESTATE);
	FAILS(storage_profile_next(s, &again, &err), WASD_ENOTFOUND);
	/* An overlay must match its announced hash and must not be too large. */
	FAILS(storage_profile_ready(s, p.id, "{}", NULL, "bytes", 5, "00", &err), WASD_ECORRUPT);
	FAILS(storage_profile_ready(s, p.id, "{}", NULL, "bytes", 0, "00", &err), WASD_ETOOBIG);
	FAILS(storage_profile_ready(s, p.id, "{}", NULL, "bytes", STORAGE_OVERLAY_MAX + 1, "00", &err), WASD_ETOOBIG);
	char *data = NULL;
	size_t n = 0;
	FAILS(storage_profile_overlay(s, p.id, &data, &n, &err), WASD_ENOTFOUND);
	/* Room is asked for before the bytes are read: here they are not there. */
	s->opts.quota_bytes = 8 << 20;
	FAILS(storage_profile_ready(s, p.id, "{}", NULL, NULL, 8 << 20, "00", &err), WASD_EFULL);
	OK(make_ready(s, p.id, "overlay"));
	s->opts.quota_bytes = 0;
	FAILS(storage_profile_fail(s, p.id, "too late", &err), WASD_ESTATE);
	profile_is(s, "fast", "ready", NULL);
	OK(storage_profile_overlay(s, p.id, &data, &n, &err));
	CHECK(n == 7 && !memcmp(data, "overlay", 7));
	wasd_free(data);
	/* A failure keeps its reason, and another try under the same name may have another request. */
	in = asked("slow");
	OK(storage_profile_begin(s, &in, NULL, &existing, &err));
	OK(storage_profile_get(s, ck, "slow", &again, &err));
	OK(storage_profile_fail(s, again.id, "no dataset", &err));
	profile_is(s, "slow", "failed", "no dataset");
	storage_profile_done(&again);
	in.request = "{\"desire\":\"macs\",\"budget\":0.5}";
	OK(storage_profile_begin(s, &in, &again, &existing, &err));
	CHECK(!existing && !strcmp(again.request, in.request));
	profile_is(s, "slow", "queued", NULL);
	struct storage_profile_list l = {0};
	OK(storage_profile_list(s, ck, NULL, &l, &err));
	CHECK(l.n == 2 && !strcmp(l.items[0].name, "slow") && !strcmp(l.items[1].name, "fast"));
	storage_profile_list_done(&l);
	OK(storage_profile_list(s, ck, "ready", &l, &err));
	CHECK(l.n == 1 && !strcmp(l.items[0].name, "fast") && !strcmp(l.items[0].info, "{\"macs\":70}") &&
	      l.items[0].bytes == 7);
	storage_profile_list_done(&l);
	/* Every step has stored an event. */
	struct storage_event_list e = {0};
	int told = 0;
	OK(storage_event_read(s, 0, "checkpoints", ck, 0, &e, &err));
	for (size_t i = 0; i < e.n; i++)
		told += !strcmp(e.items[i].type, "checkpoint.profile") && strstr(e.items[i].data, job);
	CHECK_INT(told, 6);
	storage_event_list_done(&e);
	/* Invalid requests. */
	static const char *const bad[] = {"aom", "dom", "", "A", "dom:dom", "dom:", "aom:x"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		in = asked(bad[i]);
		FAILS(storage_profile_begin(s, &in, NULL, NULL, &err), WASD_EINVAL);
	}
	in = asked("x");
	in.checkpoint = "ckpt_none";
	FAILS(storage_profile_begin(s, &in, NULL, NULL, &err), WASD_ENOTFOUND);
	FAILS(storage_profile_get(s, ck, "none", &p, NULL), WASD_ENOTFOUND);
	FAILS(storage_profile_delete(s, ck, "none", "me", &err), WASD_ENOTFOUND);
	FAILS(storage_profile_fail(s, "prof_none", "x", &err), WASD_ENOTFOUND);
	/* The number of profiles is limited. */
	char name[16];
	for (int i = 2; i < STORAGE_PROFILES_MAX; i++) {
		snprintf(name, sizeof name, "n%d", i);
		in = asked(name);
		OK(storage_profile_begin(s, &in, NULL, NULL, &err));
	}
	in = asked("last");
	FAILS(storage_profile_begin(s, &in, NULL, NULL, &err), WASD_ESTATE);
	OK(storage_profile_delete(s, ck, "n2", "me", &err));
	OK(storage_profile_begin(s, &in, NULL, NULL, &err));
	storage_profile_done(&again);
	storage_profile_done(&p);
	end_store(s);
}

/* The bytes for the engine: the checkpoint, then the overlay, sealed. */
static void test_memfd(void)
{
	struct storage *s = store_with_ckpt();
	char id[40], sha[WASD_SHA256_HEX], *want = make_payload(3000, 1), got[3100];
	int64_t bytes, overlay;
	int fd = -1;
	add_profile(s, "fast", "an overlay", id);
	OK(storage_profile_memfd(s, id, &fd, &bytes, sha, &overlay, &err));
	CHECK(bytes == 3000 && overlay == 10);
	CHECK(pread(fd, got, sizeof got, 0) == 3010 && !memcmp(got, want, 3000) && !memcmp(got + 3000, "an overlay", 10));
	CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
	close(fd);
	free(want);
	/* A damaged overlay is refused. */
	storage_close(s);
	sqlite3 *db = NULL;
	CHECK(sqlite3_open(in_dir("wasd.db"), &db) == SQLITE_OK);
	CHECK(sqlite3_exec(db, "UPDATE modes SET file=zeroblob(length(file))", NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
	s = open_store();
	FAILS(storage_profile_memfd(s, id, &fd, &bytes, sha, &overlay, &err), WASD_ECORRUPT);
	FAILS(storage_profile_memfd(s, "prof_none", &fd, &bytes, sha, &overlay, &err), WASD_ENOTFOUND);
	end_store(s);
}

static void test_deployments(void)
{
	struct storage *s = store_with_ckpt();
	char id[40], other[32];
	struct storage_deployment d = {0};
	struct storage_deployment_in in = {.name = "live",
	                                   .source = "{}",
	                                   .checkpoint = ck,
	                                   .mode = "dom:fast",
	                                   .actor = "me"};
	struct storage_mode_in m = {.name = "live", .mode = "dom:slow", .actor = "me"};
	struct storage_mode_out out = {0};
	struct storage_profile_in slow = asked("slow");
	FAILS(storage_deployment_create(s, &in, &d, &err), WASD_EBUSY);
	CHECK_STR(err.pointer, "/mode");
	add_profile(s, "fast", "overlay", id);
	OK(storage_deployment_create(s, &in, &d, &err));
	CHECK_STR(d.mode, "dom:fast");
	storage_deployment_done(&d);
	FAILS(storage_profile_delete(s, ck, "fast", "me", &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "live");
	/* Only a ready profile can be switched to. */
	OK(storage_deployment_state(s, "live", "loading", NULL, &err));
	OK(storage_deployment_state(s, "live", "ready", NULL, &err));
	OK(storage_profile_begin(s, &slow, NULL, NULL, &err));
	FAILS(storage_deployment_mode(s, &m, &out, &err), WASD_EBUSY);
	m.mode = "dom:slow:er";
	FAILS(storage_deployment_mode(s, &m, &out, &err), WASD_EINVAL);
	/* Nor can the deployment move to a checkpoint without that profile. */
	OK(store_ckpt(s, job, 1, 2, 0.6, 100, 2, other));
	struct storage_source_in src = {.name = "live", .checkpoint = other, .actor = "me"};
	FAILS(storage_deployment_source(s, &src, NULL, &err), WASD_EBUSY);
	m.mode = "dom";
	OK(storage_deployment_mode(s, &m, &out, &err));
	CHECK_STR(out.previous, "dom:fast");
	OK(storage_deployment_source(s, &src, NULL, &err));
	struct storage_deployment now = {0};
	OK(storage_deployment_swap(s, "live", other, &now, &err));
	storage_deployment_done(&now);
	OK(storage_profile_delete(s, ck, "fast", "me", &err));
	OK(storage_profile_delete(s, ck, "slow", "me", &err));
	FAILS(storage_profile_get(s, ck, "fast", &(struct storage_profile){0}, NULL), WASD_ENOTFOUND);
	end_store(s);
}

/* Retention spares a checkpoint with profiles; deleting the checkpoint deletes its profiles. */
static void test_retention(void)
{
	struct storage *s = store_with_ckpt();
	struct storage_profile_in in = asked("fast");
	struct storage_ckpt k = {0};
	char newer[32], id[40];
	add_profile(s, "fast", "overlay", id);
	in.name = "slow";
	OK(storage_profile_begin(s, &in, NULL, NULL, &err));
	for (int e = 2; e < 6; e++)
		OK(store_ckpt(s, job, 1, e, 0.5 + 0.05 * e, 100, (unsigned)e, newer));
	OK(storage_ckpt_get(s, ck, &k, &err));
	storage_ckpt_done(&k);
	OK(move(s, job, "completed"));
	OK(storage_ckpt_get(s, ck, &k, &err));
	storage_ckpt_done(&k);
	OK(storage_ckpt_delete(s, ck, "me", &err));
	FAILS(storage_profile_get(s, NULL, id, &(struct storage_profile){0}, NULL), WASD_ENOTFOUND);
	FAILS(storage_profile_next(s, &(struct storage_profile){0}, NULL), WASD_ENOTFOUND);
	FAILS(make_ready(s, id, "late"), WASD_ENOTFOUND);
	end_store(s);
}

static void test_restart(void)
{
	struct storage *s = store_with_ckpt();
	struct storage_profile p = {0};
	struct storage_profile_in in = asked("cut");
	char id[40];
	add_profile(s, "fast", "overlay", id);
	OK(storage_profile_begin(s, &in, &p, NULL, &err));
	OK(storage_profile_searching(s, p.id, &err));
	storage_close(s);
	s = open_store();
	OK(storage_recover(s, NULL, &err));
	profile_is(s, "cut", "queued", NULL);
	profile_is(s, "fast", "ready", NULL);
	OK(storage_profile_searching(s, p.id, &err));
	storage_profile_done(&p);
	end_store(s);
}

/* ---- the profiles of a job ---- */

static enum wasd_status train_ends(struct storage *s, const struct storage_wanted *w, size_t n)
{
	return storage_attempt_end(s, job, 1,
	                           &(struct storage_exit){.outcome = "completed", .profiles = w, .n_profiles = n},
	                           &(struct storage_move){.to = "completed", .reason = "done", .progress = "{\"epoch\":1}"},
	                           &err);
}

static const struct storage_wanted wanted[] = {{"light", "macs", "{\"budget\":0.7}", NULL},
                                               {"least", "macs", "{\"budget\":0.5}", NULL}};

/* message: a part of the job's message; NULL: it has none. */
static void job_ended(struct storage *s, const char *state, const char *message)
{
	struct storage_job j = {0};
	OK(storage_job_get(s, job, &j, &err));
	CHECK_STR(j.state, state);
	CHECK_MSG(message ? j.message && strstr(j.message, message) : !j.message, "%s", j.message);
	CHECK((j.finished_at != 0) == storage_job_terminal(state));
	if (!strcmp(state, "completed"))
		CHECK_STR(j.reason, "done");
	storage_job_done(&j);
}

static struct storage *killed(struct storage *s)
{
	struct storage_recovered_list l = {0};
	storage_close(s);
	s = open_store();
	OK(storage_recover(s, &l, &err));
	CHECK_INT(l.n, 0); /* nothing was truncated */
	storage_recovered_list_done(&l);
	return s;
}

/* The daemon's writes to the rows, one after the other; a kill between any two only restarts a search. */
static void test_job_killed(void)
{
	enum { STEPS = 6 };
	for (int kill_after = 0; kill_after <= STEPS; kill_after++) {
		struct storage *s = store_with_ckpt();
		struct storage_profile p = {0};
		OK(train_ends(s, wanted, 2));
		for (int step = 1; step <= STEPS; step++) {
			if (kill_after == step - 1)
				s = killed(s);
			job_is(s, job, "running");
			storage_profile_done(&p);
			enum wasd_status next = storage_profile_of_job(s, job, &p, NULL, &err);
			CHECK_INT(next, WASD_OK);
			if (next)
				break;
			if (!strcmp(p.state, "queued"))
				OK(storage_profile_searching(s, p.id, &err));
			if (step % 3 == 0 && !strcmp(p.name, "light"))
				OK(make_ready(s, p.id, "overlay"));
			else if (step % 3 == 0)
				OK(storage_profile_fail(s, p.id, "the budget is too small", &err));
		}
		job_ended(s, "completed", "profile least: the budget is too small");
		if (kill_after == STEPS)
			s = killed(s);
		job_ended(s, "completed", "profile least: the budget is too small");
		profile_is(s, "light", "ready", NULL);
		FAILS(storage_profile_of_job(s, job, &p, NULL, &err), WASD_ENOTFOUND);
		storage_profile_done(&p);
		end_store(s);
	}
}

static void find_one(struct storage *s, const char *name, bool ready)
{
	struct storage_profile p = {0};
	OK(storage_profile_get(s, ck, name, &p, &err));
	OK(storage_profile_searching(s, p.id, &err));
	if (ready)
		OK(make_ready(s, p.id, name));
	else
		OK(storage_profile_fail(s, p.id, "no draw fits", &err));
	storage_profile_done(&p);
}

static void test_job_settled(void)
{
	/* All ready: no message. */
	struct storage *s = store_with_ckpt();
	struct storage_job j = {0};
	int64_t n = 0;
	OK(train_ends(s, wanted, 2));
	OK(storage_job_get(s, job, &j, &err));
	CHECK_STR(j.trained, "done");
	CHECK_STR(j.progress, "{\"epoch\":1}");
	storage_job_done(&j);
	OK(storage_job_searching(s, &n, &err));
	CHECK_INT(n, 1);
	FAILS(storage_epoch(s, job, 2, 2, 2, 0, NULL, 0, NULL, &err), WASD_ESTATE);
	find_one(s, "light", true);
	job_is(s, job, "running");
	find_one(s, "least", true);
	job_ended(s, "completed", NULL);
	OK(storage_job_searching(s, &n, &err));
	CHECK_INT(n, 0);
	struct storage_log_list l = {0};
	OK(storage_log_read(s, job, NULL, &l, &err));
	CHECK(l.n == 4 && strstr(l.items[0].text, "searching 2 profiles of checkpoint ckpt_") &&
	      !strcmp(l.items[1].text, "profile light is ready"));
	storage_log_list_done(&l);
	end_store(s);
	/* Modes are named with their family; one that is made of another comes after it, also when that is queued again. */
	static const struct storage_wanted based[] = {{"dom:light", "macs", "{\"budget\":0.7}", "draw"},
	                                              {"int8:light", "int8", "{\"base\":\"dom:light\"}", "int8"}};
	struct storage_profile p = {0};
	s = store_with_ckpt();
	OK(train_ends(s, based, 2));
	for (int again = 0; again < 2; again++) {
		OK(storage_profile_next(s, &p, &err));
		CHECK_STR(p.mode, "dom:light");
		if (!again)
			OK(storage_profile_searching(s, p.id, &err));
		storage_profile_done(&p);
		if (again)
			break;
		FAILS(storage_profile_next(s, &p, &err), WASD_ENOTFOUND);
		OK(storage_recover(s, NULL, &err));
	}
	find_one(s, "dom:light", true);
	OK(storage_profile_next(s, &p, &err));
	CHECK_STR(p.mode, "int8:light");
	CHECK_STR(p.kind, "int8");
	storage_profile_done(&p);
	OK(storage_profile_delete(s, ck, "int8:light", "me", &err));
	job_ended(s, "completed", "mode int8:light: was deleted");
	end_store(s);
	/* A deleted profile, and one whose name belongs to another request, which is searched anyway. */
	s = store_with_ckpt();
	struct storage_profile_in other = asked("least");
	OK(storage_profile_begin(s, &other, NULL, NULL, &err));
	OK(train_ends(s, wanted, 2));
	job_is(s, job, "running");
	OK(storage_profile_delete(s, ck, "light", "me", &err));
	job_ended(s, "completed", "profile light: was deleted; profile least: checkpoint");
	profile_is(s, "least", "queued", NULL);
	end_store(s);
	/* Its checkpoint is deleted: there is nothing left to wait for. */
	s = store_with_ckpt();
	char newer[32];
	OK(store_ckpt(s, job, 1, 2, 0.4, 100, 2, newer));
	OK(train_ends(s, wanted, 1));
	OK(storage_ckpt_delete(s, ck, "me", &err));
	job_ended(s, "completed", "profile light: was deleted");
	end_store(s);
	/* Without a checkpoint no search is possible, and the message says so. */
	s = fresh_store();
	add_job(s, "p", job);
	start_job(s, job);
	OK(train_ends(s, wanted, 2));
	job_ended(s, "completed", "profile light: the job has no checkpoint; profile least");
	end_store(s);
}

static void test_job_cancelled(void)
{
	struct storage *s = store_with_ckpt();
	struct storage_profile p = {0};
	FAILS(storage_job_cancel(s, job, "user", NULL, "t", &err), WASD_ESTATE); /* it has a worker, which must be told */
	OK(train_ends(s, wanted, 2));
	find_one(s, "light", true);
	OK(storage_profile_of_job(s, job, &p, NULL, &err));
	CHECK_STR(p.name, "least");
	OK(storage_profile_searching(s, p.id, &err));
	OK(storage_job_cancel(s, job, "user", "enough", "t", &err));
	job_ended(s, "cancelled", "enough");
	profile_is(s, "light", "ready", NULL);
	profile_is(s, "least", "failed", "its job was cancelled");
	FAILS(make_ready(s, p.id, "late"), WASD_ESTATE);
	FAILS(storage_job_cancel(s, job, "user", NULL, "t", &err), WASD_ESTATE);
	storage_profile_done(&p);
	s = killed(s);
	job_ended(s, "cancelled", "enough");
	/* Restarted from scratch: earlier requests do not count. */
	OK(move(s, job, "queued"));
	struct storage_job j = {0};
	OK(storage_job_get(s, job, &j, &err));
	CHECK(!j.trained);
	storage_job_done(&j);
	end_store(s);
}

/* Whichever allocation fails, either all rows exist or none. */
static void test_job_no_memory(void)
{
	bool all = false;
	for (uint64_t nth = 1; nth < 400 && !all; nth++) {
		struct storage *s = store_with_ckpt();
		struct storage_profile_list l = {0};
		wasd_mem_fail_at(nth);
		enum wasd_status st = train_ends(s, wanted, 2);
		wasd_mem_fail_at(0);
		all = !st;
		CHECK(!st || st == WASD_ENOMEM);
		OK(storage_profile_list(s, ck, NULL, &l, &err));
		CHECK_INT(l.n, st ? 0 : 2);
		storage_profile_list_done(&l);
		if (st)
			OK(train_ends(s, wanted, 2));
		find_one(s, "light", true);
		find_one(s, "least", true);
		job_ended(s, "completed", NULL);
		end_store(s);
	}
	CHECK(all);
}

/* Migrates a file of the third form: its deployment is kept and can use a profile's mode. */
static void test_third_form(void)
{
	fresh_dir();
	struct schema old = schema_main;
	struct storage_deployment d = {0};
	old.n_steps = 3;
	OK(schema_create(&old, in_dir("wasd.db"), &err));
	OK(schema_create(&schema_ckpt, in_dir("ckpt.db"), &err));
	struct conn c = {0};
	OK(conn_open(&c, in_dir("wasd.db"), "wasd.db", false, &err));
	OK(conn_exec(
		&c,
		"INSERT INTO datasets(id,name,version,state,source_digest,created_at,updated_at) VALUES('ds_1','glyphs',1,'ready','s',1,1);"
		"INSERT INTO checkpoints(id,attempt,epoch,step,metrics,bytes,sha256,reason,created_at) VALUES('ckpt_1',1,2,3,'{}',7,'x','import',9);"
		"INSERT INTO deployments VALUES('dep_1','live','{}',NULL,'ckpt_1','dom',4,2,'ready','m','{}','me',5,6,7)",
		&err));
	conn_close(&c);
	struct storage *s = open_store();
	OK(storage_deployment_get(s, "live", &d, &err));
	CHECK(d.generation == 4 && d.version == 2 && d.mode_since == 5 && d.updated_at == 7);
	CHECK_STR(d.mode, "dom");
	storage_deployment_done(&d);
	/* The functions check the form of a mode; a row accepts any. */
	static const char *const wrong[] = {"dom:", "eco", "aom:fast"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct storage_deployment_in in =
			{.name = "other", .source = "{}", .checkpoint = "ckpt_1", .mode = wrong[i], .options = "{}", .actor = "me"};
		FAILS(storage_deployment_create(s, &in, &d, &err), WASD_EINVAL);
		FAILS(storage_deployment_mode(s, &(struct storage_mode_in){.name = "live", .mode = wrong[i], .actor = "me"},
		                              &(struct storage_mode_out){0}, &err),
		      WASD_EINVAL);
	}
	storage_close(s);
	OK(conn_open(&c, in_dir("wasd.db"), "wasd.db", false, &err));
	OK(conn_exec(&c, "UPDATE deployments SET mode='dom:fast'", &err));
	CHECK(conn_exec(&c, "UPDATE deployments SET checkpoint='ckpt_2'", &err) != WASD_OK);
	CHECK(
		conn_exec(
			&c,
			"INSERT INTO modes(id,checkpoint,mode,kind,state,desire,request,dataset,dataset_version,created_at,updated_at)"
			" VALUES('prof_1','ckpt_1','dom:x','draw','ready','macs','{}','glyphs',1,1,1)",
			&err) != WASD_OK); /* ready without a result */
	conn_close(&c);
	end_store(open_store());
}

/* Migrates a file of the seventh form: its profiles become modes, with all their references. */
static void test_seventh_form(void)
{
	fresh_dir();
	struct schema old = schema_main;
	struct storage_profile p = {0};
	struct storage_deployment d = {0};
	struct conn c = {0};
	char sha[WASD_SHA256_HEX], *data = NULL;
	size_t n = 0;
	int64_t waiting = 0;
	wasd_sha256_of("overlay", 7, sha);
	old.n_steps = 7;
	OK(schema_create(&old, in_dir("wasd.db"), &err));
	OK(schema_create(&schema_ckpt, in_dir("ckpt.db"), &err));
	OK(conn_open(&c, in_dir("wasd.db"), "wasd.db", false, &err));
	OK(conn_exec(
		&c,
		"INSERT INTO datasets(id,name,version,state,source_digest,created_at,updated_at) VALUES('ds_1','glyphs',1,'ready','s',1,1);"
		"INSERT INTO jobs(id,name,state,priority,queue,spec,spec_digest,labels,note,dataset,dataset_version,keep_best,keep_latest,keep_max,created_at,updated_at,trained)"
		" VALUES('job_1','j','running',50,'default','{}','x','{}','','glyphs',1,1,1,1,1,1,'done');"
		"INSERT INTO checkpoints(id,job,attempt,epoch,step,metrics,bytes,sha256,reason,created_at) VALUES('ckpt_1','job_1',1,2,3,'{}',7,'x','final',9);"
		"INSERT INTO deployments VALUES('dep_1','live','{}','job_1','ckpt_1','dom:fast',4,2,'ready','m','{}','me',5,6,7);"
		"INSERT INTO profiles(id,checkpoint,name,state,desire,request,dataset,dataset_version,created_at,updated_at)"
		" VALUES('prof_2','ckpt_1','least','queued','macs','{\"budget\":0.5}','glyphs',1,11,12);"
		"INSERT INTO job_profiles VALUES('job_1','least','prof_2',NULL),('job_1','gone',NULL,'was refused');",
		&err));
	char *sql = wasd_asprintf(
		"INSERT INTO profiles VALUES('prof_1','ckpt_1','fast','ready','draw','{}','glyphs',1,'{\"macs\":70}',CAST('overlay' AS BLOB),7,'%s',NULL,'me',8,9,10)",
		sha);
	OK(conn_exec(&c, sql, &err));
	wasd_free(sql);
	conn_close(&c);
	struct storage *s = open_store();
	OK(storage_profile_get(s, "ckpt_1", "fast", &p, &err));
	CHECK_STR(p.id, "prof_1");
	CHECK_STR(p.name, "fast");
	CHECK_STR(p.mode, "dom:fast");
	CHECK_STR(p.kind, "draw");
	CHECK_STR(p.info, "{\"macs\":70}");
	CHECK_STR(p.created_by, "me");
	CHECK(p.created_at == 8 && p.updated_at == 9 && p.finished_at == 10);
	storage_profile_done(&p);
	OK(storage_profile_get(s, "ckpt_1", "dom:fast", &p, &err));
	storage_profile_done(&p);
	FAILS(storage_profile_get(s, "ckpt_1", "int8:fast", &p, &err), WASD_ENOTFOUND); /* belongs to another family */
	OK(storage_profile_overlay(s, "prof_1", &data, &n, &err));
	CHECK(n == 7 && !memcmp(data, "overlay", 7));
	wasd_free(data);
	OK(storage_deployment_get(s, "live", &d, &err));
	CHECK_STR(d.mode, "dom:fast");
	CHECK(d.generation == 4 && d.mode_since == 5);
	storage_deployment_done(&d);
	FAILS(storage_profile_delete(s, "ckpt_1", "fast", "me", &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "live");
	/* The job still waits for the other profile, and its message will name the refused one. */
	OK(storage_profile_of_job(s, "job_1", &p, &waiting, &err));
	CHECK_STR(p.mode, "dom:least");
	CHECK_INT(waiting, 1);
	storage_profile_done(&p);
	OK(storage_profile_delete(s, "ckpt_1", "least", "me", &err));
	storage_close(s);
	OK(conn_open(&c, in_dir("wasd.db"), "wasd.db", false, &err));
	OK(conn_int(&c, "SELECT count(*) FROM job_profiles WHERE profile IS NULL", &waiting, &err));
	CHECK_INT(waiting, 2); /* ON DELETE SET NULL was migrated */
	OK(conn_int(&c, "SELECT count(*) FROM sqlite_schema WHERE name='profiles'", &waiting, &err));
	CHECK_INT(waiting, 0);
	conn_close(&c);
	end_store(open_store());
}

static void test_no_memory(void)
{
	struct storage *s = store_with_ckpt();
	bool all = false;
	for (uint64_t nth = 1; nth < 400 && !all; nth++) {
		struct storage_profile p = {0};
		struct storage_profile_in in = asked("oom");
		struct storage_profile_list l = {0};
		char *data = NULL;
		size_t n = 0;
		enum wasd_status st[6];
		wasd_mem_fail_at(nth);
		st[0] = storage_profile_begin(s, &in, &p, NULL, &err);
		wasd_mem_fail_at(0);
		if (st[0])
			OK(storage_profile_begin(s, &in, &p, NULL, &err));
		wasd_mem_fail_at(nth);
		st[1] = storage_profile_searching(s, p.id, &err);
		wasd_mem_fail_at(0);
		if (st[1])
			OK(storage_profile_searching(s, p.id, &err));
		wasd_mem_fail_at(nth);
		st[2] = make_ready(s, p.id, "overlay");
		wasd_mem_fail_at(0);
		if (st[2])
			OK(make_ready(s, p.id, "overlay"));
		wasd_mem_fail_at(nth);
		st[3] = storage_profile_overlay(s, p.id, &data, &n, &err);
		wasd_mem_fail_at(nth);
		st[4] = storage_profile_list(s, ck, NULL, &l, &err);
		wasd_mem_fail_at(nth);
		st[5] = storage_profile_delete(s, ck, "oom", "me", &err);
		wasd_mem_fail_at(0);
		if (st[5])
			OK(storage_profile_delete(s, ck, "oom", "me", &err));
		all = true;
		for (int i = 0; i < 6; i++) {
			CHECK_MSG(st[i] == WASD_OK || st[i] == WASD_ENOMEM, "call %d: %s", i, wasd_status_name(st[i]));
			all &= !st[i];
		}
		wasd_free(data);
		storage_profile_list_done(&l);
		storage_profile_done(&p);
	}
	CHECK(all);
	end_store(s);
}

int main(void)
{
	TEST_RUN(test_life);
	TEST_RUN(test_dataset_stays);
	TEST_RUN(test_kinds_and_measuring);
	TEST_RUN(test_memfd);
	TEST_RUN(test_deployments);
	TEST_RUN(test_retention);
	TEST_RUN(test_restart);
	TEST_RUN(test_job_killed);
	TEST_RUN(test_job_settled);
	TEST_RUN(test_job_cancelled);
	TEST_RUN(test_job_no_memory);
	TEST_RUN(test_third_form);
	TEST_RUN(test_seventh_form);
	TEST_RUN(test_no_memory);
	TEST_END();
}
