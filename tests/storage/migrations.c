/* Files of those schemas of which tests/fixtures has no whole data directory. tests/fixtures/schema/N.sql and
 * N-ckpt.sql are dumps of a wasd.db and a ckpt.db that the storage library of the last commit with schema N wrote: a
 * finished job with two checkpoints, a failed job, a running job with a checkpoint, and the deployment "live"; as far
 * as the schema has them also an import, a profile, a warning, points along the steps and a model. */
#include "util.h"
#include "schema.h"
#include <math.h>

static const int versions[] = {1, 2, 3, 4, 5, 6, 10};

static void load(const char *file, int version, const char *tail)
{
	char from[80], *sql = NULL, *why = NULL;
	sqlite3 *db = NULL;
	snprintf(from, sizeof from, "tests/fixtures/schema/%d%s.sql", version, tail);
	OK(wasd_file_read(from, 1 << 20, &sql, NULL, &err));
	CHECK(sqlite3_open(in_dir(file), &db) == SQLITE_OK);
	CHECK_MSG(sql && sqlite3_exec(db, sql, NULL, NULL, &why) == SQLITE_OK, "%s: %s", from, why ? why : "");
	sqlite3_free(why);
	sqlite3_close(db);
	wasd_free(sql);
}

/* ---- every row ---- */

/* Text of the first column of every row, joined by a separator; sqlite3_free. */
static char *joined(sqlite3 *db, const char *separator, const char *sql)
{
	sqlite3_stmt *q = NULL;
	char *all = sqlite3_mprintf("");
	CHECK_MSG(sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
	while (sqlite3_step(q) == SQLITE_ROW)
		all = sqlite3_mprintf("%z%s%s", all, *all ? separator : "", (const char *)sqlite3_column_text(q, 0));
	sqlite3_finalize(q);
	return all;
}

static void gives(sqlite3 *db, const char *sql, const char *want)
{
	char *got = joined(db, ",", sql);
	CHECK_MSG(!strcmp(got, want), "%s: \"%s\", not \"%s\"", sql, got, want);
	sqlite3_free(got);
}

/* The rows of an old table are in the new one, in all its columns except those left out, and there are no others. */
static void same_rows(sqlite3 *db, const char *old, const char *new, const char *leave)
{
	char *sql = sqlite3_mprintf("SELECT '\"'||name||'\"' FROM pragma_table_info(%Q, 'old') WHERE name<>%Q", old, leave);
	char *columns = joined(db, ",", sql);
	CHECK(*columns);
	sqlite3_free(sql);
	sql = sqlite3_mprintf("SELECT count(*) FROM (SELECT %s FROM old.%s EXCEPT SELECT %s FROM main.%s)", columns, old,
	                      columns, new);
	gives(db, sql, "0");
	sqlite3_free(sql);
	sql = sqlite3_mprintf("SELECT (SELECT count(*) FROM main.%s)-(SELECT count(*) FROM old.%s)", new, old);
	gives(db, sql, "0");
	sqlite3_free(sql);
	sqlite3_free(columns);
}

static const char kept_tables[] =
	"SELECT name FROM old.sqlite_schema WHERE type='table' AND name NOT IN ('profiles','sqlite_sequence')";

static void every_row(int version)
{
	sqlite3 *db = NULL;
	CHECK(sqlite3_open(in_dir("wasd.db"), &db) == SQLITE_OK);
	char *attach = sqlite3_mprintf("ATTACH %Q AS old", in_dir("old.db"));
	CHECK(sqlite3_exec(db, attach, NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_free(attach);
	sqlite3_stmt *q = NULL;
	CHECK(sqlite3_prepare_v2(db, kept_tables, -1, &q, NULL) == SQLITE_OK);
	int n = 0;
	for (; sqlite3_step(q) == SQLITE_ROW; n++) {
		const char *t = (const char *)sqlite3_column_text(q, 0);
		same_rows(db, t, t, version < 2 && !strcmp(t, "jobs") ? "spec" : "");
	}
	sqlite3_finalize(q);
	CHECK(n >= 11);
	if (version >= 4 && version < 8) {
		same_rows(db, "profiles", "modes", "overlay");
		gives(db, "SELECT count(*) FROM main.modes m JOIN old.profiles p USING(id) WHERE m.file IS p.overlay", "1");
	}
	/* A job from before validation splits holds nothing out, and nothing else of its spec changes. */
	if (version < 2)
		gives(
			db,
			"SELECT DISTINCT json_remove(n.spec,'$.data')=json(o.spec) AND json_extract(n.spec,'$.data.val_fraction')=0"
			" FROM main.jobs n JOIN old.jobs o USING(id)",
			"1");
	gives(db, "SELECT seq-(SELECT seq FROM old.sqlite_sequence) FROM main.sqlite_sequence", "0");
	char want[16];
	snprintf(want, sizeof want, "%d", schema_main.n_steps);
	gives(db, "PRAGMA user_version", want);
	gives(db, "PRAGMA integrity_check", "ok");
	gives(db, "PRAGMA foreign_key_check", "");
	sqlite3_close(db);
}

/* ---- what the functions read ---- */

static void job_named(struct storage *s, const char *name, struct storage_job *j)
{
	struct storage_job_list l = {0};
	OK(storage_job_list(s, &(struct storage_job_filter){.name = name}, (struct storage_page){0}, &l, &err));
	CHECK_INT(l.n, 1);
	OK(storage_job_get(s, l.n ? l.items[0].id : "", j, &err));
	storage_job_list_done(&l);
}

static void checkpoints(struct storage *s, const char *job)
{
	struct storage_ckpt_list l = {0};
	struct storage_ckpt best = {0};
	OK(storage_ckpt_list(s, job, &l, &err));
	CHECK(l.n == 2 && l.items[0].epoch == 2 && l.items[0].bytes == 400 && l.items[1].score == 0.875);
	for (size_t i = 0; i < l.n; i++) {
		int fd = -1;
		CHECK(!l.items[i].corrupt && l.items[i].has_score);
		OK(storage_ckpt_memfd(s, l.items[i].id, &fd, NULL, NULL, &err)); /* its bytes have their digest */
		close(fd);
	}
	storage_ckpt_list_done(&l);
	OK(storage_ckpt_pick(s, job, "best", &best, &err));
	CHECK_INT(best.epoch, 1);
	storage_ckpt_done(&best);
}

static void metrics(struct storage *s, const char *job, int version)
{
	struct storage_point_list p = {0};
	OK(storage_metric_series(s, job, "train_loss,val_loss_dom", 0, &p, &err));
	CHECK(p.n == 4 && p.items[0].value == 2.5 && p.items[1].value == 0.5 && p.items[2].step == 200);
	CHECK(p.n == 4 && isnan(p.items[3].value));
	storage_point_list_done(&p);
	OK(storage_metric_series(s, job, "train_loss_step", 0, &p, &err));
	CHECK(p.n == (version >= 7) && (!p.n || p.items[0].value == 2.25));
	storage_point_list_done(&p);
	struct storage_warning_list w = {0};
	OK(storage_warning_list(s, job, &w, &err));
	CHECK(w.n == (version >= 5) && (!w.n || !strcmp(w.items[0].code, "loss_stands_still")));
	storage_warning_list_done(&w);
}

static void texts(struct storage *s, const char *job)
{
	struct storage_log_list l = {0};
	struct storage_event_list e = {0};
	struct storage_audit_list a = {0};
	OK(storage_log_read(s, job, &(struct storage_log_query){.level = "warn"}, &l, &err));
	CHECK(l.n == 1 && !strcmp(l.items[0].text, "slow \xc3\xa9"));
	storage_log_list_done(&l);
	OK(storage_event_read(s, 0, NULL, NULL, 0, &e, &err));
	CHECK(e.first_seq == 1 && (int64_t)e.n == e.last_seq && !strcmp(e.items[0].type, "dataset.state"));
	storage_event_list_done(&e);
	OK(storage_audit_list(s, "deployment/live", NULL, 0, (struct storage_page){0}, &a, &err));
	CHECK(a.n == 2 && !strcmp(a.items[0].action, "deployment.mode") && !strcmp(a.items[0].reason, "to be kept"));
	storage_audit_list_done(&a);
}

static void served(struct storage *s, const char *job, int version)
{
	struct storage_deployment d = {0};
	struct storage_profile p = {0};
	OK(storage_deployment_get(s, "live", &d, &err));
	CHECK_STR(d.mode, version >= 4 ? "dom:fast" : "dom");
	CHECK_STR(d.job, job);
	CHECK(d.generation == 2 && d.version == 1 && !d.wanted && !d.deleted);
	if (version >= 4) {
		char *data = NULL;
		size_t n = 0;
		OK(storage_profile_get(s, d.checkpoint, "fast", &p, &err));
		CHECK_STR(p.mode, "dom:fast");
		CHECK_STR(p.info, "{\"macs\":70}");
		OK(storage_profile_overlay(s, p.id, &data, &n, &err));
		CHECK(n == 7 && !memcmp(data, "overlay", 7));
		wasd_free(data);
		storage_profile_done(&p);
	}
	if (version >= 9) {
		int64_t v = 0;
		struct storage_version m = {0};
		OK(storage_alias_get(s, "digits", "production", &v, &err));
		OK(storage_version_get(s, "digits", v, &m, &err));
		CHECK_STR(m.checkpoint, d.checkpoint);
		storage_version_done(&m);
	}
	storage_deployment_done(&d);
	struct storage_ckpt_list l = {0};
	OK(storage_ckpt_list(s, NULL, &l, &err));
	CHECK_INT(l.n, version >= 3);
	storage_ckpt_list_done(&l);
}

static void typed_reads(struct storage *s, int version)
{
	struct storage_job j = {0};
	struct storage_dataset d = {0};
	struct storage_attempt_list a = {0};
	job_named(s, "finished", &j);
	CHECK_STR(j.state, "completed");
	CHECK_STR(j.labels, "{\"kept\":\"yes\"}");
	CHECK(j.keep_best == 1 && j.keep_max == 1 && !j.deadline && !j.max_wall_s && !j.until && !j.sweep &&
	      !j.on_complete);
	checkpoints(s, j.id);
	metrics(s, j.id, version);
	texts(s, j.id);
	served(s, j.id, version);
	storage_job_done(&j);
	job_named(s, "broken", &j);
	CHECK_STR(j.message, "signal 9 (Killed)");
	CHECK_INT(j.max_wall_s, 3600); /* from its spec */
	OK(storage_attempt_list(s, j.id, &a, &err));
	CHECK(a.n == 1 && a.items[0].signal == 9 && !strcmp(a.items[0].outcome, "failed"));
	storage_attempt_list_done(&a);
	storage_job_done(&j);
	OK(storage_dataset_get(s, "glyphs", 0, &d, &err));
	CHECK(d.version == 1 && d.bytes == 1052752 && !strcmp(d.digest, "d1ge57"));
	storage_dataset_done(&d);
}

/* The job that was running goes on from its checkpoint, and the same request still gives the same job. */
static void goes_on(struct storage *s)
{
	struct storage_job j = {0}, same = {0};
	struct storage_job_in in = job_in("interrupted");
	char *resume = NULL;
	int64_t n = 0;
	bool existing = false;
	job_named(s, "interrupted", &j);
	CHECK_STR(j.state, "queued");
	in.idempotency_key = "interrupted";
	in.request_digest = "rd";
	OK(storage_job_create(s, &in, &same, &existing, &err));
	CHECK(existing && !strcmp(same.id, j.id));
	storage_job_done(&same);
	OK(storage_attempt_start(s, j.id, &n, &resume, &err));
	CHECK(n == 2 && resume);
	wasd_free(resume);
	storage_job_done(&j);
}

static void opens(int version)
{
	const int before = check_failed_;
	fresh_dir();
	load("old.db", version, "");
	load("wasd.db", version, "");
	load("ckpt.db", version, "-ckpt");
	storage_close(open_store());
	every_row(version);
	struct storage *s = open_store();
	typed_reads(s, version);
	storage_close(s);
	every_row(version); /* the second start changed nothing */
	s = open_store();
	OK(storage_recover(s, NULL, &err));
	goes_on(s);
	end_store(s);
	if (check_failed_ > before)
		printf("# ^ schema %d\n", version);
}

static void test_every_schema(void)
{
	if (access("tests/fixtures/schema/1.sql", R_OK))
		TEST_SKIP("tests/fixtures/schema is not below the working directory");
	for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
		opens(versions[i]);
}

int main(void)
{
	TEST_RUN(test_every_schema);
	TEST_END();
}
