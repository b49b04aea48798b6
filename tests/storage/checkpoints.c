/* Checkpoints: bytes, retention, references, ranges, and detection of damage. */
#include "util.h"
#include <fcntl.h>
#include <sqlite3.h>

static void test_store_and_read(void)
{
	static const size_t sizes[] = {0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20, (17 << 20) + 12345};
	struct storage *s = fresh_store();
	char id[40], ck[32], again[32];
	add_job(s, "c", id);
	int64_t a = start_job(s, id);
	for (int i = 0; i < 8; i++) {
		size_t n = sizes[i], got = 0;
		char *want = make_payload(n, (unsigned)i), *buf = malloc(n + 10), sha[WASD_SHA256_HEX];
		OK(store_ckpt(s, id, a, i, 0.1 * i, n, (unsigned)i, ck));
		OK(store_ckpt(s, id, a, i, 0.1 * i, n, (unsigned)i, again)); /* sent again: the same id */
		CHECK_STR(ck, again);
		struct storage_ckpt k = {0};
		OK(storage_ckpt_get(s, ck, &k, &err));
		CHECK(k.bytes == (int64_t)n && k.epoch == i && k.step == 100 * i && !k.corrupt && !k.pinned && k.has_score);
		CHECK_STR(k.info, "{\"draw\":[0]}");
		CHECK(strstr(k.metrics, "val_acc_aom") != NULL);
		wasd_sha256_of(want, n, sha);
		CHECK_STR(k.sha256, sha);
		storage_ckpt_done(&k);
		struct storage_ckpt_reader *r = NULL;
		OK(storage_ckpt_open(s, ck, &r, &err));
		CHECK_INT(storage_ckpt_size(r), n);
		OK(storage_ckpt_read(r, 0, buf, n + 10, &got, &err)); /* the whole checkpoint */
		CHECK(got == n && !memcmp(buf, want, n));
		OK(storage_ckpt_read(r, (int64_t)n, buf, 10, &got, &err));
		CHECK_INT(got, 0);
		FAILS(storage_ckpt_read(r, -1, buf, 10, &got, &err), WASD_EINVAL);
		for (size_t at = 0, step = n / 7 + 1; at < n; at += step) { /* ranges across chunk boundaries */
			size_t len = at % 2 ? step : (1 << 20) + 3, expect = at + len > n ? n - at : len;
			OK(storage_ckpt_read(r, (int64_t)at, buf, len < n + 10 ? len : n + 10, &got, &err));
			if (got < expect)
				expect = got;
			CHECK(got > 0 && !memcmp(buf, want + at, expect));
		}
		storage_ckpt_close(r);
		int fd = -1;
		int64_t bytes = -1;
		const void *p = NULL;
		OK(storage_ckpt_memfd(s, ck, &fd, &bytes, sha, &err));
		CHECK_INT(bytes, n);
		OK(wasd_memfd_map(fd, n, &p, &err));
		CHECK(!memcmp(p, want, n));
		wasd_memfd_unmap(p, n);
		close(fd);
		free(want);
		free(buf);
	}
	struct storage_ckpt_reader *r;
	FAILS(storage_ckpt_open(s, "ckpt_none", &r, &err), WASD_ENOTFOUND);
	/* The announced hash is checked before anything is written. */
	struct storage_ckpt_in in = {.job = id,
	                             .attempt = a,
	                             .epoch = 50,
	                             .data = "abc",
	                             .bytes = 3,
	                             .sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ae"};
	FAILS(storage_ckpt_store(s, &in, ck, &err), WASD_ECORRUPT);
	in.job = "job_none";
	in.sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	FAILS(storage_ckpt_store(s, &in, ck, &err), WASD_ENOTFOUND);
	end_store(s);
}

static int count(struct storage *s, const char *job)
{
	struct storage_ckpt_list l = {0};
	OK(storage_ckpt_list(s, job, &l, &err));
	int n = (int)l.n;
	storage_ckpt_list_done(&l);
	return n;
}

static bool has(struct storage *s, const char *id)
{
	struct storage_ckpt k;
	if (storage_ckpt_get(s, id, &k, &err))
		return false;
	storage_ckpt_done(&k);
	return true;
}

static void picked(struct storage *s, const char *job, const char *which, const char *want)
{
	struct storage_ckpt k = {0};
	OK(storage_ckpt_pick(s, job, which, &k, &err));
	CHECK_STR(k.id, want);
	storage_ckpt_done(&k);
}

static void test_retention(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[8][32];
	add_job(s, "r", id);
	struct storage_ckpt k;
	FAILS(storage_ckpt_pick(s, id, "latest", &k, &err), WASD_ENOTFOUND);
	FAILS(storage_ckpt_pick(s, id, "newest", &k, &err), WASD_EINVAL);
	int64_t a = start_job(s, id);
	static const double acc[] = {0.3, 0.8, 0.5, 0.8, 0.4, NAN, 0.6};
	for (int e = 0; e < 7; e++) {
		OK(store_ckpt(s, id, a, e, acc[e], 2000, (unsigned)e, ck[e]));
	}
	/* keep best 1, latest 1; while the job runs the two newest stay. Epochs 1 and 3 both reached 0.8: the earlier is
	 * the best. */
	CHECK_INT(count(s, id), 3);
	CHECK(has(s, ck[1]) && has(s, ck[5]) && has(s, ck[6]));
	picked(s, id, "best", ck[1]);
	picked(s, id, "latest", ck[6]);
	FAILS(storage_ckpt_delete(s, ck[6], "me", &err), WASD_ESTATE); /* the job resumes from it */
	CHECK_STR(err.pointer, id);
	OK(storage_ckpt_pin(s, ck[5], true, "t", &err));
	FAILS(storage_ckpt_delete(s, ck[5], "me", &err), WASD_ESTATE);
	FAILS(storage_ckpt_pin(s, "ckpt_none", true, "t", &err), WASD_ENOTFOUND);
	OK(move(s, id, "completed"));
	CHECK_INT(count(s, id), 3); /* best, pinned, latest */
	OK(storage_ckpt_pin(s, ck[5], false, "t", &err));
	OK(storage_ckpt_delete(s, ck[5], "me", &err));
	OK(storage_ckpt_delete(s, ck[6], "me", &err)); /* finished: the job does not resume */
	picked(s, id, "latest", ck[1]);
	FAILS(storage_ckpt_delete(s, ck[5], "me", &err), WASD_ENOTFOUND);
	end_store(s);
}

/* What a run trained before it began again is not its best. */
static void test_rehearsal(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[3][32];
	static const struct storage_metric high = {"val_acc_aom", 0.9};
	struct storage_ckpt_in in = {.attempt = 1,
	                             .epoch = 0,
	                             .data = "abc",
	                             .bytes = 3,
	                             .metrics = &high,
	                             .n_metrics = 1,
	                             .info = "{\"rehearsal\":true}",
	                             .sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"};
	add_job(s, "h", id);
	in.job = id;
	in.attempt = start_job(s, id);
	OK(storage_ckpt_store(s, &in, ck[0], &err));
	picked(s, id, "best", ck[0]); /* the only one */
	OK(store_ckpt(s, id, in.attempt, 1, 0.5, 2000, 1, ck[1]));
	OK(store_ckpt(s, id, in.attempt, 2, 0.4, 2000, 2, ck[2]));
	picked(s, id, "best", ck[1]);
	end_store(s);
}

static bool needed(void *ctx, const char *ckpt, char by[64])
{
	snprintf(by, 64, "merge m");
	return !strcmp(ckpt, ctx);
}

static void test_needed_outside(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[5][32];
	add_job(s, "r", id);
	int64_t a = start_job(s, id);
	for (int e = 0; e < 5; e++) {
		OK(store_ckpt(s, id, a, e, 0.1 * (5 - e), 2000, (unsigned)e, ck[e]));
		if (e == 1)
			storage_hold(s, &(struct storage_holder){.checkpoint = needed, .ctx = ck[1]});
	}
	CHECK(has(s, ck[0]) && has(s, ck[1]) && !has(s, ck[2]) && has(s, ck[3]) && has(s, ck[4]));
	FAILS(storage_ckpt_delete(s, ck[1], "me", &err), WASD_ESTATE);
	CHECK_STR(err.pointer, "merge m");
	OK(move(s, id, "completed"));
	FAILS(storage_job_delete(s, id, "me", &err), WASD_ESTATE);
	CHECK(has(s, ck[0]) && has(s, ck[1]) && has(s, ck[4])); /* nothing of it is gone */
	storage_unhold(s, ck[1]);
	OK(storage_job_delete(s, id, "me", &err));
	CHECK(!has(s, ck[1]));
	end_store(s);
}

static void test_retention_minimum(void)
{
	struct storage *s = fresh_store();
	struct storage_job_in in = job_in("least");
	struct storage_job j = {0};
	char ck[4][32];
	add_dataset(s, "glyphs");
	in.keep_best = in.keep_latest = 0;
	in.keep_max = false;
	OK(storage_job_create(s, &in, &j, NULL, &err));
	int64_t a = start_job(s, j.id);
	for (int e = 0; e < 4; e++)
		OK(store_ckpt(s, j.id, a, e, 1 + e, 2000, (unsigned)e, ck[e]));
	CHECK_INT(count(s, j.id), 2);
	picked(s, j.id, "best", ck[2]); /* smaller is better here */
	OK(move(s, j.id, "cancelling"));
	OK(move(s, j.id, "cancelled"));
	CHECK_INT(count(s, j.id), 1); /* a cancelled job keeps its checkpoint whatever the policy */
	storage_job_done(&j);
	end_store(s);
}

static void test_init_reference(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[32];
	add_job(s, "first", id);
	int64_t a = start_job(s, id);
	OK(store_ckpt(s, id, a, 0, 0.5, 2000, 1, ck));
	OK(move(s, id, "completed"));
	struct storage_job_in in = job_in("second");
	struct storage_job j = {0};
	in.init_checkpoint = "ckpt_none";
	FAILS(storage_job_create(s, &in, &j, NULL, &err), WASD_ENOTFOUND);
	in.init_checkpoint = ck;
	OK(storage_job_create(s, &in, &j, NULL, &err));
	FAILS(storage_ckpt_delete(s, ck, "me", &err), WASD_ESTATE);
	FAILS(storage_job_delete(s, id, "me", &err), WASD_ESTATE);
	CHECK_STR(err.pointer, j.id);
	OK(move(s, j.id, "cancelled"));
	OK(storage_ckpt_delete(s, ck, "me", &err));
	storage_job_done(&j);
	end_store(s);
}

/* ---- damage ---- */

/* Runs SQL on a database from outside, while the store is closed. */
static void sql_on(const char *file, const char *sql)
{
	sqlite3 *db = NULL;
	char *msg = NULL;
	CHECK(sqlite3_open(in_dir(file), &db) == SQLITE_OK);
	CHECK_MSG(sqlite3_exec(db, sql, NULL, NULL, &msg) == SQLITE_OK, "%s: %s", sql, msg ? msg : "");
	sqlite3_free(msg);
	sqlite3_close(db);
}

static void test_damage(void)
{
	static const struct {
		const char *sql;
		const char *why;
		int64_t range_ok;
	} rows[] = {
		{"UPDATE chunks SET data=zeroblob(length(data)) WHERE n=1", "a chunk of zeroes", 0},
		{"UPDATE chunks SET data=CAST(substr(data,1,500000)||x'00'||substr(data,500002) AS BLOB) WHERE n=2",
	     "one byte of a chunk", 0},
		{"UPDATE chunks SET data=substr(data,1,length(data)-1) WHERE n=2", "a chunk cut short", 0},
		{"DELETE FROM chunks WHERE n=1", "a chunk is missing", 0},
		{"UPDATE chunks SET n=n+100 WHERE n=1", "a chunk under another number", 0},
		{"UPDATE chunks SET sha256='00' WHERE n=0", "the digest of a chunk", -1},
		{"UPDATE payloads SET sha256='00'", "the digest of the whole", 0},
		{"UPDATE payloads SET bytes=bytes-1", "the length", 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct storage *s = fresh_store();
		char id[40], older[32], newer[32], *buf = malloc(4 << 20);
		add_job(s, "dmg", id);
		int64_t a = start_job(s, id);
		OK(store_ckpt(s, id, a, 0, 0.1, 5000, 1, older));
		OK(store_ckpt(s, id, a, 1, 0.9, (3 << 20) - 100, 2, newer));
		storage_close(s);
		char sql[300];
		snprintf(sql, sizeof sql, "%s%s", rows[i].sql,
		         strstr(rows[i].sql, "UPDATE payloads") ? " WHERE num=2" : " AND payload=2");
		sql_on("ckpt.db", sql);
		s = open_store();
		struct storage_ckpt_reader *r = NULL;
		size_t got = 0;
		OK(storage_ckpt_open(s, newer, &r, &err));
		if (rows[i].range_ok == 0)
			OK(storage_ckpt_read(r, 10, buf, 100, &got, &err)); /* the first chunk is intact */
		storage_ckpt_close(r);
		OK(storage_ckpt_open(s, newer, &r, &err));
		enum wasd_status st = storage_ckpt_read(r, 0, buf, 4 << 20, &got, &err);
		CHECK_MSG(st == WASD_ECORRUPT, "%s: %s", rows[i].why, wasd_status_name(st));
		CHECK_MSG(strstr(err.msg, newer) != NULL, "%s", err.msg);
		storage_ckpt_close(r);
		struct storage_ckpt k = {0};
		OK(storage_ckpt_get(s, newer, &k, &err));
		CHECK_INT(k.corrupt, 1);
		storage_ckpt_done(&k);
		picked(s, id, "latest", older); /* falls back to the older one */
		picked(s, id, "best", older);
		int fd;
		FAILS(storage_ckpt_memfd(s, newer, &fd, NULL, NULL, &err), WASD_ECORRUPT);
		struct storage_deployment d;
		FAILS(storage_deployment_create(s,
		                                &(struct storage_deployment_in){.name = "x",
		                                                                .source = "{}",
		                                                                .checkpoint = newer,
		                                                                .mode = "aom"},
		                                &d, &err),
		      WASD_ECORRUPT);
		free(buf);
		end_store(s);
	}
}

/* recover() finds the damage before a worker would resume from it. */
static void test_damage_at_start(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[2][32], *resume = NULL;
	int64_t n;
	add_job(s, "dmg", id);
	int64_t a = start_job(s, id);
	OK(store_ckpt(s, id, a, 0, 0.1, 5000, 1, ck[0]));
	OK(store_ckpt(s, id, a, 1, 0.9, 5000, 2, ck[1]));
	storage_close(s);
	sql_on("ckpt.db", "UPDATE chunks SET data=zeroblob(length(data)) WHERE payload=2");
	s = open_store();
	struct storage_recovered_list l = {0};
	OK(storage_recover(s, &l, &err));
	CHECK_INT(l.n, 1);
	CHECK_STR(l.items[0].job, id);
	CHECK_STR(l.items[0].from, "running");
	CHECK_STR(l.items[0].to, "queued");
	storage_recovered_list_done(&l);
	OK(storage_attempt_start(s, id, &n, &resume, &err));
	CHECK_STR(resume, ck[0]);
	CHECK_INT(n, 2);
	wasd_free(resume);
	struct storage_attempt_list at = {0};
	OK(storage_attempt_list(s, id, &at, &err));
	CHECK(at.n == 2 && !strcmp(at.items[0].outcome, "interrupted") && at.items[0].ended_at &&
	      at.items[1].outcome == NULL && !strcmp(at.items[1].resume_from, ck[0]));
	storage_attempt_list_done(&at);
	end_store(s);
}

static void test_orphans(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[32];
	add_job(s, "o", id);
	int64_t a = start_job(s, id);
	OK(store_ckpt(s, id, a, 0, 0.1, 5000, 1, ck));
	storage_close(s);
	/* A crash between bytes and row, and one in the middle of the bytes. */
	sql_on(
		"ckpt.db",
		"INSERT INTO payloads(id,bytes,sha256,complete) VALUES('ckpt_lost',5,'x',1),('ckpt_half',5,'x',0); INSERT INTO chunks VALUES(2,0,'x',x'00'),(3,0,'x',x'00')");
	s = open_store();
	struct storage_ckpt_reader *r = NULL;
	FAILS(storage_ckpt_open(s, "ckpt_lost", &r, &err), WASD_ENOTFOUND);
	OK(storage_ckpt_open(s, ck, &r, &err));
	storage_ckpt_close(r);
	storage_close(s);
	sqlite3 *db;
	sqlite3_stmt *q;
	CHECK(sqlite3_open(in_dir("ckpt.db"), &db) == SQLITE_OK);
	CHECK(sqlite3_prepare_v2(db, "SELECT (SELECT count(*) FROM payloads), (SELECT count(*) FROM chunks)", -1, &q,
	                         NULL) == SQLITE_OK);
	CHECK(sqlite3_step(q) == SQLITE_ROW);
	CHECK_INT(sqlite3_column_int(q, 0), 1);
	CHECK_INT(sqlite3_column_int(q, 1), 1);
	sqlite3_finalize(q);
	sqlite3_close(db);
	/* A row whose bytes are missing is marked, not trusted. */
	sql_on("ckpt.db", "PRAGMA foreign_keys=ON; DELETE FROM payloads");
	s = open_store();
	struct storage_ckpt k = {0};
	OK(storage_ckpt_get(s, ck, &k, &err));
	CHECK_INT(k.corrupt, 1);
	storage_ckpt_done(&k);
	end_store(s);
}

/* Deletion returns the space: payloads go with their rows, and the file does not grow without bound. */
static void test_space_comes_back(void)
{
	struct storage *s = fresh_store();
	char id[40], ck[32];
	add_job(s, "sp", id);
	int64_t a = start_job(s, id);
	for (int e = 0; e < 40; e++)
		OK(store_ckpt(s, id, a, e, 0.9 - 0.01 * e, 2 << 20, (unsigned)e, ck)); /* keeps three of them */
	OK(move(s, id, "completed"));
	OK(storage_job_delete(s, id, "me", &err));
	storage_close(s);
	struct stat st;
	CHECK(!stat(in_dir("ckpt.db"), &st));
	CHECK_MSG(st.st_size < 20 << 20, "%lld", (long long)st.st_size);
	end_store(open_store());
}

/* While the store is open, too: once many pages are unused, ckpt.db becomes shorter without a request to collect them.
 */
static void test_file_becomes_shorter(void)
{
	enum { COUNT = 12, EACH = 8 << 20 };
	struct storage *s = fresh_store();
	struct storage_job_in in = job_in("big");
	struct storage_job j = {0};
	struct storage_gc seen;
	struct stat before, after;
	char ck[32];
	add_dataset(s, "glyphs");
	in.keep_latest = COUNT;
	OK(storage_job_create(s, &in, &j, NULL, &err));
	int64_t a = start_job(s, j.id);
	for (int e = 0; e < COUNT; e++)
		OK(store_ckpt(s, j.id, a, e, 0.5, EACH, (unsigned)e, ck));
	OK(move(s, j.id, "completed"));
	OK(storage_gc(s, true, 0, "me", &seen, &err)); /* changes nothing, but waits for what the thread of payloads does */
	CHECK(!stat(in_dir("ckpt.db"), &before) && before.st_size > (COUNT - 2) * EACH);
	OK(storage_job_delete(s, j.id, "me", &err));
	OK(storage_gc(s, true, 0, "me", &seen, &err));
	CHECK(!stat(in_dir("ckpt.db"), &after));
	CHECK_MSG(after.st_size < before.st_size - (64 << 20), "%lld of %lld bytes", (long long)after.st_size,
	          (long long)before.st_size);
	storage_job_done(&j);
	end_store(s);
}

int main(void)
{
	TEST_RUN(test_store_and_read);
	TEST_RUN(test_retention);
	TEST_RUN(test_rehearsal);
	TEST_RUN(test_needed_outside);
	TEST_RUN(test_retention_minimum);
	TEST_RUN(test_init_reference);
	TEST_RUN(test_damage);
	TEST_RUN(test_damage_at_start);
	TEST_RUN(test_orphans);
	TEST_RUN(test_space_comes_back);
	TEST_RUN(test_file_becomes_shorter);
	TEST_END();
}
