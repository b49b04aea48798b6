/* Survival and refusal: kill -9, two daemons, foreign and newer files, missing files, migrations, threads, no
 * memory, no space. The kill test starts this program again as a child ("durability child DIR FD"). */
#include "util.h"
#include "schema.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>

static const char *self;
extern char **environ;

/* ---- kill -9 in the middle of acknowledged writes ---- */

enum { WRITERS = 3 };
struct ack {
	char kind;
	char id[39];
	int64_t number;
}; /* written to the pipe only after the call has returned */
struct child {
	struct storage *s;
	int fd;
	char job[40];
	int64_t attempt;
};

static void acknowledge(int fd, char kind, const char *id, int64_t number)
{
	struct ack a = {.kind = kind, .number = number};
	snprintf(a.id, sizeof a.id, "%.38s", id);
	if (write(fd, &a, sizeof a) != sizeof a)
		_exit(3);
}

static void *submit_for_ever(void *arg)
{
	struct child *c = arg;
	for (;;) {
		struct storage_job j = {0};
		struct storage_job_in in = job_in("k");
		if (storage_job_create(c->s, &in, &j, NULL, &err))
			_exit(4);
		acknowledge(c->fd, 'j', j.id, 0);
		storage_job_done(&j);
	}
	return NULL;
}

static void *train_for_ever(void *arg)
{
	struct child *c = arg;
	for (int64_t e = 0;; e++) {
		struct storage_metric m = {"acknowledged", (double)e};
		if (storage_epoch(c->s, c->job, c->attempt, e, e, 0, &m, 1, NULL, NULL))
			_exit(5);
		acknowledge(c->fd, 'm', c->job, e);
		if (e % 20)
			continue;
		char id[32];
		if (store_ckpt(c->s, c->job, c->attempt, e, 0.5, 2500000, (unsigned)e, id))
			_exit(6);
		acknowledge(c->fd, 'c', id, e);
	}
	return NULL;
}

static int child_main(const char *where, int fd)
{
	struct child c = {.fd = fd};
	snprintf(dir, sizeof dir, "%s", where);
	if (storage_open(dir, &(struct storage_opts){.ballast_bytes = 1 << 16, .low_water_bytes = 1, .event_rows = 100000},
	                 &c.s, &err))
		return 7;
	if (storage_recover(c.s, NULL, &err))
		return 8;
	add_job(c.s, "trains", c.job);
	c.attempt = start_job(c.s, c.job);
	pthread_t t;
	for (int i = 0; i < WRITERS - 1; i++)
		pthread_create(&t, NULL, submit_for_ever, &c);
	train_for_ever(&c);
	return 0;
}

static pid_t start_child(int *from)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC))
		abort();
	char fd[16];
	snprintf(fd, sizeof fd, "%d", 9);
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, p[1], 9);
	char *argv[] = {(char *)(uintptr_t)self, (char[]){"child"}, dir, fd, NULL};
	pid_t pid;
	if (posix_spawn(&pid, self, &fa, NULL, argv, environ))
		abort();
	posix_spawn_file_actions_destroy(&fa);
	close(p[1]);
	*from = p[0];
	return pid;
}

static void check_ack(struct storage *s, const struct ack *a)
{
	if (a->kind == 'j') {
		struct storage_job j = {0};
		enum wasd_status st = storage_job_get(s, a->id, &j, &err);
		CHECK_MSG(st == WASD_OK, "job %s was acknowledged and is lost", a->id);
		storage_job_done(&j);
	} else if (a->kind == 'm') {
		struct storage_point_list p = {0};
		OK(storage_metric_series(s, a->id, "acknowledged", a->number, &p, &err));
		CHECK_MSG(p.n > 0 && p.items[0].step == a->number && p.items[0].value == (double)a->number,
		          "epoch %lld was acknowledged and is lost", (long long)a->number);
		storage_point_list_done(&p);
	}
}

static void test_kill(void)
{
	fresh_dir();
	int acks_in_all = 0;
	const int trials = 20;
	unsigned seed = 1;
	for (int trial = 0; trial < trials; trial++) {
		int from, n = 0, cap = 100000, last_ckpt = -1;
		struct ack *acks = malloc(sizeof *acks * (size_t)cap);
		pid_t pid = start_child(&from);
		/* The kill comes after a number of acknowledgements, not after a time: a trial without writes proves
		 * nothing. */
		seed = seed * 1103515245 + 12345;
		int stop_at = 50 + (int)(seed >> 16) % 250;
		while (n < cap && read(from, &acks[n], sizeof *acks) == sizeof *acks) {
			if (acks[n].kind == 'c')
				last_ckpt = n;
			if (++n == stop_at)
				kill(pid, SIGKILL); /* the data still in the pipe was acknowledged too */
		}
		close(from);
		int status = 0;
		waitpid(pid, &status, 0);
		CHECK_MSG(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child ended by itself: %x", status);
		CHECK_MSG(n >= stop_at, "%d acknowledgements", n);
		acks_in_all += n;

		struct storage *s = open_store();
		OK(storage_check(s, true, &err));
		for (int i = 0; i < n; i++)
			check_ack(s, &acks[i]);
		if (last_ckpt >=
		    0) { /* the newest listed checkpoint verifies and is not older than the last acknowledged one */
			struct storage_ckpt k = {0};
			struct storage_ckpt acked = {0};
			OK(storage_ckpt_get(s, acks[last_ckpt].id, &acked, &err));
			OK(storage_ckpt_pick(s, acked.job, "latest", &k, &err));
			CHECK(k.epoch >= acked.epoch);
			int fd = -1;
			OK(storage_ckpt_memfd(s, k.id, &fd, NULL, NULL, &err));
			close(fd);
			storage_ckpt_done(&k);
			storage_ckpt_done(&acked);
		}
		storage_close(s);
		free(acks);
	}
	CHECK(acks_in_all >= trials * 50);
	end_store(open_store());
}

/* ---- one directory, one process ---- */

static void test_second_process(void)
{
	fresh_dir();
	int from;
	struct ack a;
	pid_t pid = start_child(&from);
	CHECK(read(from, &a, sizeof a) == sizeof a); /* the child has opened the store */
	struct storage *s = NULL;
	FAILS(storage_open(dir, NULL, &s, &err), WASD_EBUSY);
	char number[20];
	snprintf(number, sizeof number, "%d", (int)pid);
	CHECK_MSG(strstr(err.msg, number) != NULL && strstr(err.msg, dir) != NULL, "%s", err.msg);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(from);
	s = open_store(); /* a stale lock is harmless */
	struct storage *again = NULL;
	FAILS(storage_open(dir, NULL, &again, &err), WASD_EBUSY); /* also within one process */
	end_store(s);
}

/* ---- files that must not be opened ---- */

static void digest_of(const char *file, char hex[WASD_SHA256_HEX])
{
	char *data = NULL;
	size_t n = 0;
	OK(wasd_file_read(in_dir(file), 64 << 20, &data, &n, &err));
	wasd_sha256_of(data, n, hex);
	wasd_free(data);
}

static void sql_on(const char *path, const char *sql)
{
	sqlite3 *db = NULL;
	char *msg = NULL;
	CHECK(sqlite3_open(path, &db) == SQLITE_OK);
	CHECK_MSG(sqlite3_exec(db, sql, NULL, NULL, &msg) == SQLITE_OK, "%s: %s", sql, msg ? msg : "");
	sqlite3_free(msg);
	sqlite3_close(db);
}

static void closed_store(void)
{
	struct storage *s = fresh_store();
	char id[40];
	add_job(s, "kept", id);
	storage_close(s);
}

static void refused(enum wasd_status want, const char *in_message)
{
	struct storage *s = NULL;
	char before[WASD_SHA256_HEX], after[WASD_SHA256_HEX];
	bool there = access(in_dir("wasd.db"), F_OK) == 0;
	if (there)
		digest_of("wasd.db", before);
	FAILS(storage_open(dir, NULL, &s, &err), want);
	CHECK_MSG(strstr(err.msg, in_message) != NULL, "%s", err.msg);
	CHECK(s == NULL);
	CHECK_MSG((access(in_dir("wasd.db"), F_OK) == 0) == there, "a database appeared");
	if (!there)
		return;
	digest_of("wasd.db", after);
	CHECK_STR(after, before);
}

static void test_refusals(void)
{
	closed_store();
	sql_on(in_dir("wasd.db"), "PRAGMA user_version=999");
	refused(WASD_EUNSUPPORTED, "newer");
	closed_store();
	sql_on(in_dir("wasd.db"), "PRAGMA application_id=77");
	refused(WASD_ECORRUPT, "application_id 77");
	closed_store();
	sql_on(in_dir("ckpt.db"), "PRAGMA user_version=999");
	refused(WASD_EUNSUPPORTED, "ckpt.db");
	closed_store();
	CHECK(!rename(in_dir("ckpt.db"), in_dir("x")) && !rename(in_dir("wasd.db"), in_dir("ckpt.db")) &&
	      !rename(in_dir("x"), in_dir("wasd.db")));
	refused(WASD_ECORRUPT, "application_id"); /* swapped */
	closed_store();
	unlink(in_dir("wasd.db"));
	refused(WASD_ECORRUPT, "missing"); /* never create an empty file beside the remaining ones */
	fresh_dir();
	OK(wasd_file_write_atomic(
		in_dir("wasd.db"),
		"this is not a database, it is long enough to have a header of one hundred bytes, but it has none at all.......",
		110, &err));
	refused(WASD_ECORRUPT, "not an SQLite database");
	OK(wasd_file_write_atomic(in_dir("wasd.db"), "", 0, &err));
	refused(WASD_ECORRUPT, "not an SQLite database");
	/* A version that is newer only in the log. */
	closed_store();
	sqlite3 *db = NULL;
	char before[WASD_SHA256_HEX], after[WASD_SHA256_HEX];
	struct storage *s = NULL;
	CHECK(sqlite3_open(in_dir("wasd.db"), &db) == SQLITE_OK);
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	CHECK(sqlite3_exec(db, "PRAGMA user_version=999", NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
	digest_of("wasd.db", before);
	FAILS(storage_open(dir, NULL, &s, &err), WASD_EUNSUPPORTED);
	digest_of("wasd.db", after);
	CHECK_STR(after, before);
	/* The log of a run that did not close was removed. */
	fresh_dir();
	int from;
	struct ack a;
	pid_t pid = start_child(&from);
	CHECK(read(from, &a, sizeof a) == sizeof a);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(from);
	unlink(in_dir("wasd.db-wal"));
	refused(WASD_ECORRUPT, "wasd.db-wal is missing");
	unlink(in_dir("daemon.lock")); /* the remedy that the message gives */
	if (!storage_open(dir, NULL, &s, &err))
		storage_close(s);
	/* Checkpoints are listed, but their file is missing. */
	s = fresh_store();
	char id[40], ck[32];
	add_job(s, "c", id);
	int64_t n = start_job(s, id);
	OK(store_ckpt(s, id, n, 0, 0.5, 100, 1, ck));
	storage_close(s);
	unlink(in_dir("ckpt.db"));
	refused(WASD_ECORRUPT, "checkpoints are listed");
	wasd_remove_tree(dir, NULL);
	dir[0] = 0;
}

static void test_damaged_pages(void)
{
	closed_store();
	struct stat st;
	CHECK(!stat(in_dir("wasd.db"), &st));
	int fd = open(in_dir("wasd.db"), O_RDWR | O_CLOEXEC);
	char junk[4096];
	memset(junk, 0xa5, sizeof junk);
	int opened = 0, refusals = 0;
	for (off_t at = 4096; at < st.st_size; at += 4096) { /* every page but the first, one at a time */
		char keep[4096];
		CHECK(pread(fd, keep, sizeof keep, at) == sizeof keep);
		CHECK(pwrite(fd, junk, sizeof junk, at) == sizeof junk);
		struct storage *s = NULL;
		enum wasd_status r = storage_open(dir, &(struct storage_opts){.ballast_bytes = 4096, .low_water_bytes = 1}, &s,
		                                  &err);
		if (r)
			refusals++;
		else
			opened++, storage_close(s);
		CHECK(pwrite(fd, keep, sizeof keep, at) == sizeof keep);
	}
	close(fd);
	CHECK_MSG(refusals > 20 && opened == 0, "%d refused, %d opened", refusals, opened);
	end_store(open_store());
}

/* ---- migrations ---- */

static void spec_is(struct storage *s, const char *id, const char *want)
{
	struct storage_job j;
	OK(storage_job_get(s, id, &j, &err));
	CHECK_STR(j.spec, want);
	storage_job_done(&j);
}

static void test_migrations(void)
{
	struct storage *s = NULL;
	/* From a file of ours without any table. */
	fresh_dir();
	sql_on(in_dir("wasd.db"), "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA application_id=0x57415344; VACUUM");
	s = open_store();
	char id[40];
	add_job(s, "migrated", id);
	job_is(s, id, "queued");
	end_store(s);
	/* A job from before validation splits holds nothing out; a job that gives its split keeps it. */
	fresh_dir();
	s = open_store();
	char asks[40];
	add_job(s, "old", id);
	add_job(s, "asks", asks);
	storage_close(s);
	sql_on(
		in_dir("wasd.db"),
		"UPDATE jobs SET spec='{\"dataset\":{\"name\":\"d\"}}' WHERE name='old'; UPDATE jobs SET spec='{\"data\":{\"val_fraction\":0.2}}'"
		" WHERE name='asks'; DROP TABLE warnings; DROP TABLE step_metrics; DROP TABLE job_samples; DROP TABLE deliveries; DROP TABLE webhooks; DROP TABLE job_profiles; DROP TABLE modes; DROP TABLE alias_moves; DROP TABLE model_aliases; DROP TABLE model_versions; DROP TABLE models; DROP TABLE queues; DROP TABLE job_after;"
		" DROP TABLE deployment_loads; DROP INDEX jobs_by_deadline; ALTER TABLE jobs DROP COLUMN max_wall_s; ALTER TABLE jobs DROP COLUMN wall_from;"
		" ALTER TABLE jobs DROP COLUMN trained; ALTER TABLE jobs DROP COLUMN cloned_from; ALTER TABLE jobs DROP COLUMN deadline; ALTER TABLE jobs DROP COLUMN on_complete; DROP TABLE sweep_results; DROP TABLE sweep_trials; DROP TABLE sweeps; DROP INDEX jobs_by_sweep; ALTER TABLE jobs DROP COLUMN sweep; ALTER TABLE jobs DROP COLUMN trial; ALTER TABLE jobs DROP COLUMN until; PRAGMA user_version=1");
	s = open_store();
	spec_is(s, id, "{\"dataset\":{\"name\":\"d\"},\"data\":{\"val_fraction\":0}}");
	spec_is(s, asks, "{\"data\":{\"val_fraction\":0.2}}");
	end_store(s);
	/* A failed step rolls back all steps and the version. */
	fresh_dir();
	static const char *const steps[] = {"CREATE TABLE a(x) STRICT", "CREATE TABLE b(x INTEGER) STRICT",
	                                    "CREATE TABLE c(x INTEGER) STRICT; CREATE TABLE b(y)"};
	static const char *const good[] = {"CREATE TABLE a(x INTEGER) STRICT",
	                                   "CREATE TABLE b(x INTEGER) STRICT; INSERT INTO b VALUES(7)",
	                                   "ALTER TABLE a ADD COLUMN y TEXT"};
	struct schema sc = {"test.db", 0x1234, 4096, good, 2};
	struct conn c = {0};
	OK(schema_create(&sc, in_dir("test.db"), &err));
	sc.steps = steps;
	sc.n_steps = 3;
	OK(conn_open(&c, in_dir("test.db"), "test.db", false, &err));
	FAILS(schema_migrate(&sc, &c, &err), WASD_EINTERNAL);
	int64_t v = -1;
	OK(conn_int(&c, "PRAGMA user_version", &v, &err));
	CHECK_INT(v, 2);
	OK(conn_int(&c, "SELECT count(*) FROM sqlite_schema", &v, &err));
	CHECK_INT(v, 2);
	sc.steps = good;
	OK(schema_migrate(&sc, &c, &err));
	OK(conn_int(&c, "PRAGMA user_version", &v, &err));
	CHECK_INT(v, 3);
	OK(conn_int(&c, "SELECT x FROM b", &v, &err));
	CHECK_INT(v, 7);
	conn_close(&c);
	wasd_remove_tree(dir, NULL);
	dir[0] = 0;
}

/* Migrates a file of the first form with a job, its checkpoint and a deployment: all are kept, references included. */
static void test_jobless_checkpoints_come(void)
{
	fresh_dir();
	struct schema old = schema_main;
	struct storage_deployment d = {0};
	struct storage_ckpt k = {0};
	char user[32];
	old.n_steps = 1;
	OK(schema_create(&old, in_dir("wasd.db"), &err));
	OK(schema_create(&schema_ckpt, in_dir("ckpt.db"), &err));
	sql_on(
		in_dir("wasd.db"),
		"INSERT INTO datasets(id,name,version,state,source_digest,created_at,updated_at) VALUES('ds_1','glyphs',1,'ready','s',1,1);"
		"INSERT INTO jobs(id,name,state,priority,queue,spec,spec_digest,labels,note,dataset,dataset_version,keep_best,keep_latest,keep_max,created_at,updated_at)"
		" VALUES('job_1','j','completed',50,'default','{}','d','{}','','glyphs',1,1,1,1,1,1);"
		"INSERT INTO checkpoints(id,job,attempt,epoch,step,metrics,score,bytes,sha256,reason,pinned,created_at) VALUES('ckpt_1','job_1',1,2,3,'{}',0.5,7,'x','epoch',1,9);"
		"INSERT INTO deployments VALUES('dep_1','live','{}','job_1','ckpt_1','dom',4,2,'failed','m','{}','me',5,6,7)");
	struct storage *s = open_store();
	OK(storage_ckpt_get(s, "ckpt_1", &k, &err));
	CHECK(k.epoch == 2 && k.step == 3 && k.pinned && k.has_score && k.score == 0.5 && k.created_at == 9 &&
	      k.corrupt); /* its bytes never existed */
	CHECK_STR(k.job, "job_1");
	storage_ckpt_done(&k);
	OK(storage_deployment_get(s, "live", &d, &err));
	CHECK(d.generation == 4 && d.version == 2 && d.mode_since == 5);
	CHECK_STR(d.checkpoint, "ckpt_1");
	storage_deployment_done(&d);
	FAILS(storage_job_delete(s, "job_1", "me", &err), WASD_ESTATE); /* a deployment references it */
	OK(delete_deployment(s, "live", "me", &err));
	/* An import: exempt from retention, found again by its bytes, deleted when nothing uses it. */
	char *data = make_payload(3000, 5), sha[WASD_SHA256_HEX], id[32], again[32];
	wasd_sha256_of(data, 3000, sha);
	struct storage_ckpt_in in = {.data = data,
	                             .bytes = 3000,
	                             .sha256 = sha,
	                             .reason = "import",
	                             .info = "{\"arch\":\"lenet\"}"};
	OK(storage_ckpt_store(s, &in, id, &err));
	OK(storage_ckpt_store(s, &in, again, &err));
	CHECK_STR(id, again);
	struct storage_ckpt_list l = {0};
	OK(storage_ckpt_list(s, NULL, &l, &err));
	CHECK(l.n == 1 && !strcmp(l.items[0].id, id) && !l.items[0].job && !l.items[0].corrupt);
	storage_ckpt_list_done(&l);
	struct storage_deployment_in di = {.name = "imported",
	                                   .source = "{}",
	                                   .checkpoint = id,
	                                   .mode = "aom",
	                                   .actor = "me"};
	OK(storage_deployment_create(s, &di, &d, &err));
	CHECK(!d.job);
	storage_deployment_done(&d);
	FAILS(storage_ckpt_delete(s, id, "me", &err), WASD_ESTATE);
	snprintf(user, sizeof user, "%.31s", err.pointer);
	CHECK_STR(user, "imported");
	storage_close(s);
	s = open_store(); /* a restart does not collect it */
	OK(delete_deployment(s, "imported", "me", &err));
	OK(storage_ckpt_delete(s, id, "me", &err));
	FAILS(storage_ckpt_get(s, id, &k, &err), WASD_ENOTFOUND);
	free(data);
	end_store(s);
}

static void test_pragmas(void)
{
	struct storage *s = fresh_store();
	struct conn c = {0};
	int64_t v = -1;
	OK(conn_open(&c, in_dir("wasd.db"), "wasd.db", false, &err));
	static const struct {
		const char *sql;
		int64_t want;
	} rows[] = {
		{"PRAGMA synchronous", 2},
		{"PRAGMA foreign_keys", 1},
		{"PRAGMA secure_delete", 0},
		{"PRAGMA auto_vacuum", 2},
		{"PRAGMA trusted_schema", 0},
		{"PRAGMA cell_size_check", 1},
		{"PRAGMA application_id", 0x57415344},
		{"PRAGMA user_version", 12},
		{"PRAGMA busy_timeout", 5000},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		OK(conn_int(&c, rows[i].sql, &v, &err));
		CHECK_MSG(v == rows[i].want, "%s is %lld", rows[i].sql, (long long)v);
	}
	/* History cannot be rewritten, not even over the store's own connection. */
	OK(storage_audit_add(s, "me", "test", "x", NULL, NULL, NULL, NULL, &err));
	CHECK(conn_exec(&c, "UPDATE audit SET actor='other'", &err) != WASD_OK);
	CHECK(conn_exec(&c, "DELETE FROM audit", &err) != WASD_OK);
	conn_close(&c);
	end_store(s);
	/* A file created without incremental vacuum lacks a property that the store relies on. */
	fresh_dir();
	sql_on(in_dir("wasd.db"), "PRAGMA application_id=0x57415344; VACUUM");
	struct storage *t = NULL;
	FAILS(storage_open(dir, NULL, &t, &err), WASD_EUNSUPPORTED);
	CHECK_MSG(strstr(err.msg, "auto_vacuum") != NULL, "%s", err.msg);
	wasd_remove_tree(dir, NULL);
	dir[0] = 0;
}

static void test_replaced_while_open(void)
{
	struct storage *s = fresh_store();
	char id[40];
	add_job(s, "r", id);
	CHECK(!rename(in_dir("wasd.db"), in_dir("moved.db")));
	FAILS(move(s, id, "held"), WASD_EIO);
	CHECK(storage_failed(s));
	CHECK(!rename(in_dir("moved.db"), in_dir("wasd.db")));
	FAILS(move(s, id, "held"), WASD_EIO); /* refused until a restart */
	struct storage_health h;
	storage_health(s, &h);
	CHECK(h.failed && strstr(h.message, "removed or replaced"));
	job_is(s, id, "queued"); /* reads still work */
	storage_close(s);
	s = open_store();
	OK(move(s, id, "held"));
	end_store(s);
}

/* Another program runs sqlite3 on the live file: writes are refused after five seconds, reads continue, and nothing
 * is damaged. */
static void test_foreign_lock(void)
{
	struct storage *s = fresh_store();
	char id[40];
	add_job(s, "f", id);
	sqlite3 *db = NULL;
	CHECK(sqlite3_open(in_dir("wasd.db"), &db) == SQLITE_OK);
	CHECK(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK);
	int64_t t0 = wasd_mono_us();
	FAILS(move(s, id, "held"), WASD_EBUSY);
	CHECK_MSG(wasd_mono_us() - t0 > 4000000 && wasd_mono_us() - t0 < 60000000, "%lld us",
	          (long long)(wasd_mono_us() - t0));
	job_is(s, id, "queued");
	CHECK(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK);
	OK(move(s, id, "held"));
	CHECK(!storage_failed(s));
	end_store(s);
	sqlite3_close(db);
}

static void test_recover(void)
{
	static const struct {
		const char *way[4], *after, *outcome;
	} rows[] = {
		{{NULL}, "queued", NULL},
		{{"held"}, "held", NULL},
		{{"starting"}, "queued", "interrupted"},
		{{"starting", "running"}, "queued", "interrupted"},
		{{"starting", "running", "pausing"}, "paused", "interrupted"},
		{{"starting", "running", "preempting"}, "queued", "interrupted"},
		{{"starting", "running", "cancelling"}, "cancelled", "interrupted"},
		{{"starting", "running", "retry_wait"}, "retry_wait", "interrupted"},
	};
	struct storage *s = fresh_store();
	char ids[8][40];
	for (int i = 0; i < 8; i++) {
		add_job(s, "rec", ids[i]);
		for (int k = 0; k < 4 && rows[i].way[k]; k++) {
			if (!strcmp(rows[i].way[k], "starting")) {
				int64_t n;
				OK(storage_attempt_start(s, ids[i], &n, NULL, &err));
			} else {
				OK(move(s, ids[i], rows[i].way[k]));
			}
		}
	}
	struct storage_dataset d = {0};
	OK(storage_dataset_begin(s, "half", NULL, "src", "t", &d, NULL, &err));
	storage_close(s);
	s = open_store();
	struct storage_recovered_list l = {0};
	OK(storage_recover(s, &l, &err));
	CHECK_INT(l.n, 5);
	storage_recovered_list_done(&l);
	for (int i = 0; i < 8; i++) {
		job_is(s, ids[i], rows[i].after);
		struct storage_attempt_list a = {0};
		OK(storage_attempt_list(s, ids[i], &a, &err));
		if (rows[i].outcome && a.n == 1)
			CHECK_STR(a.items[0].outcome, rows[i].outcome);
		else
			CHECK(a.n == 0 && !rows[i].outcome);
		storage_attempt_list_done(&a);
	}
	struct storage_dataset e = {0};
	OK(storage_dataset_get(s, "half", 1, &e, &err));
	CHECK_STR(e.state, "invalid");
	storage_dataset_done(&d);
	storage_dataset_done(&e);
	OK(storage_recover(s, &l, &err)); /* nothing left to do */
	CHECK_INT(l.n, 0);
	storage_recovered_list_done(&l);
	end_store(s);
}

/* ---- threads ---- */

enum { THREADS = 6, EACH = 60 };
struct worker {
	struct storage *s;
	int number;
};

static void *hammer(void *arg)
{
	struct worker *w = arg;
	struct wasd_err e;
	for (int i = 0; i < EACH; i++) {
		struct storage_job j = {0};
		struct storage_job_in in = job_in("threaded");
		struct storage_job_list l = {0};
		struct storage_event_list ev = {0};
		if (storage_job_create(w->s, &in, &j, NULL, &e))
			abort();
		if (storage_job_move(w->s, j.id, &(struct storage_move){.to = "held"}, &e))
			abort();
		if (storage_job_list(w->s, NULL, (struct storage_page){.limit = 20}, &l, &e))
			abort();
		if (storage_event_read(w->s, 0, NULL, j.id, 0, &ev, &e))
			abort();
		if (ev.n != 2)
			abort(); /* it must read its own writes */
		storage_event_list_done(&ev);
		storage_job_list_done(&l);
		storage_job_done(&j);
	}
	return NULL;
}

static void test_threads(void)
{
	struct storage *s = NULL;
	fresh_dir();
	OK(storage_open(dir, &(struct storage_opts){.ballast_bytes = 4096, .low_water_bytes = 1, .readers = 2}, &s, &err));
	char id[40], ck[32];
	add_job(s, "trains", id);
	int64_t a = start_job(s, id);
	pthread_t t[THREADS];
	struct worker w[THREADS];
	for (int i = 0; i < THREADS; i++)
		w[i] = (struct worker){s, i}, pthread_create(&t[i], NULL, hammer, &w[i]);
	for (int e = 0; e < 10; e++)
		OK(store_ckpt(s, id, a, e, 0.1 * e, 1500000, (unsigned)e, ck));
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	struct storage_count n[STORAGE_JOB_STATES];
	OK(storage_job_counts(s, n, &err));
	CHECK_INT(n[1].n, THREADS * EACH); /* held */
	struct storage_health h;
	storage_health(s, &h);
	CHECK_MSG(h.commits < THREADS * EACH * 2, "%llu commits for %d writes: none was shared",
	          (unsigned long long)h.commits, THREADS * EACH * 2);
	end_store(s);
}

/* ---- no memory, no space ---- */

static void test_no_memory(void)
{
	struct storage *s = fresh_store();
	char id[40];
	add_job(s, "n", id);
	int64_t a = start_job(s, id);
	bool all = false;
	for (uint64_t nth = 1; nth < 400 && !all; nth++) {
		struct storage_job_list l = {0};
		struct storage_job j = {0};
		char ck[32];
		struct storage_metric m = {"train_loss", 1};
		struct storage_job_in in = job_in("oom");
		all = true;
		wasd_mem_fail_at(nth);
		enum wasd_status st = storage_job_create(s, &in, &j, NULL, &err);
		wasd_mem_fail_at(0);
		CHECK(st == WASD_OK || st == WASD_ENOMEM);
		all &= !st;
		if (!st) {
			OK(move(s, j.id, "cancelled"));
			OK(storage_job_delete(s, j.id, "me", &err));
		}
		storage_job_done(&j);
		wasd_mem_fail_at(nth);
		st = storage_epoch(s, id, a, (int64_t)nth, 0, 0, &m, 1, NULL, &err);
		wasd_mem_fail_at(0);
		CHECK(st == WASD_OK || st == WASD_ENOMEM);
		all &= !st;
		wasd_mem_fail_at(nth);
		st = storage_job_list(s, NULL, (struct storage_page){0}, &l, &err);
		wasd_mem_fail_at(0);
		CHECK(st == WASD_OK || st == WASD_ENOMEM);
		all &= !st;
		storage_job_list_done(&l);
		wasd_mem_fail_at(nth);
		st = store_ckpt(s, id, a, (int64_t)nth, 0.5, 1000, (unsigned)nth, ck);
		wasd_mem_fail_at(0);
		CHECK_MSG(st == WASD_OK || st == WASD_ENOMEM, "%s", err.msg);
		all &= !st;
	}
	CHECK(all);
	struct storage_job_list l = {0};
	OK(storage_job_list(s, NULL, (struct storage_page){0}, &l, &err));
	CHECK_INT(l.n, 1); /* no partial job remains */
	storage_job_list_done(&l);
	end_store(s);
	/* The same for opening: no leaks, and the directory stays usable. */
	closed_store();
	for (uint64_t nth = 1;; nth++) {
		struct wasd_mem_stats before = wasd_mem_stats();
		struct storage *t = NULL;
		wasd_mem_fail_at(nth);
		enum wasd_status st = storage_open(dir, NULL, &t, &err);
		wasd_mem_fail_at(0);
		CHECK(st == WASD_OK || st == WASD_ENOMEM);
		storage_close(t);
		struct wasd_mem_stats after = wasd_mem_stats();
		CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
		if (st == WASD_OK)
			break;
	}
	end_store(open_store());
}

static void test_low_water(void)
{
	fresh_dir();
	struct storage *s = NULL;
	OK(storage_open(dir, &(struct storage_opts){.ballast_bytes = 4096, .low_water_bytes = 1}, &s, &err));
	char id[40], ck[32];
	add_job(s, "w", id);
	storage_close(s);
	OK(storage_open(dir, &(struct storage_opts){.ballast_bytes = 4096, .low_water_bytes = UINT64_MAX / 2}, &s, &err));
	struct storage_job j;
	struct storage_job_in in = job_in("late");
	struct storage_dataset d;
	FAILS(storage_space(s, 0, &err), WASD_EFULL);
	FAILS(storage_job_create(s, &in, &j, NULL, &err), WASD_EFULL);
	FAILS(storage_dataset_begin(s, "late", NULL, "src", "t", &d, NULL, &err), WASD_EFULL);
	int64_t a = start_job(s, id); /* an existing job can store the checkpoint with which it pauses */
	OK(store_ckpt(s, id, a, 0, 0.5, 100, 1, ck));
	struct storage_health h;
	struct storage_disk room;
	storage_health(s, &h);
	storage_disk(s, &room);
	CHECK(room.low && !h.failed);
	end_store(s);
}

/* Fills a file system of 4 MiB to the last byte; the ballast makes deletes possible, after which writes work again. */
static void test_disk_full(void)
{
	fresh_dir();
	if (mount("wasd-test", dir, "tmpfs", 0, "size=6m"))
		TEST_SKIP("mounting a tmpfs is not allowed here");
	struct storage *s = NULL;
	struct storage_opts o = {.ballast_bytes = 1 << 20, .low_water_bytes = 1, .log_lines = 1000000};
	OK(storage_open(dir, &o, &s, &err));
	char id[40], other[40], text[4000];
	add_job(s, "full", id);
	add_job(s, "other", other);
	OK(move(s, other, "cancelled"));
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = 0;
	enum wasd_status st = WASD_OK;
	int lines = 0;
	while (!st && lines < 5000) {
		struct storage_log_in in = {0, "info", text};
		st = storage_log_add(s, id, 1, &in, 1, &err);
		lines += !st;
	}
	CHECK_MSG(st == WASD_EFULL, "%s after %d lines", wasd_status_name(st), lines);
	CHECK(!storage_failed(s)); /* a full disk is not an I/O error */
	struct storage_log_list l = {0};
	OK(storage_log_read(s, id, &(struct storage_log_query){.limit = 10000}, &l, &err));
	CHECK_MSG((int)l.n == lines, "%zu lines of %d acknowledged", l.n, lines);
	storage_log_list_done(&l);
	OK(storage_job_delete(s, other, "me", &err));
	OK(move(s, id, "cancelled"));
	OK(storage_job_delete(s, id, "me", &err));
	add_job(s, "again", id);
	OK(storage_check(s, true, &err));
	storage_close(s);
	umount(dir);
	wasd_remove_tree(dir, NULL);
	dir[0] = 0;
}

int main(int argc, char **argv)
{
	self = argv[0];
	if (argc == 4 && !strcmp(argv[1], "child"))
		return child_main(argv[2], atoi(argv[3]));
	TEST_RUN(test_kill);
	TEST_RUN(test_second_process);
	TEST_RUN(test_refusals);
	TEST_RUN(test_damaged_pages);
	TEST_RUN(test_migrations);
	TEST_RUN(test_jobless_checkpoints_come);
	TEST_RUN(test_pragmas);
	TEST_RUN(test_replaced_while_open);
	TEST_RUN(test_foreign_lock);
	TEST_RUN(test_recover);
	TEST_RUN(test_threads);
	TEST_RUN(test_no_memory);
	TEST_RUN(test_low_water);
	TEST_RUN(test_disk_full);
	TEST_END();
}
