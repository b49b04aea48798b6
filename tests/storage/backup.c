/* Backups made while others write: each restores to a store that is whole and holds what was acknowledged before it
 * began. WASD_BACKUPS=50 makes 50 of them. */
#include "util.h"
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/wait.h>

static atomic_bool stop;
static atomic_llong acknowledged[2]; /* audit rows of each thread */
static char job[40];
static int64_t attempt;

struct writing {
	struct storage *s;
	int who;
};

/* Two transactions per round: an audit row that is counted, and log lines. */
static void *write_rows(void *arg)
{
	struct writing *w = arg;
	for (long long n = 1; !atomic_load(&stop); n++) {
		char actor[16], object[32];
		struct wasd_err e;
		snprintf(actor, sizeof actor, "writer%d", w->who);
		snprintf(object, sizeof object, "row/%lld", n);
		CHECK(!storage_audit_add(w->s, actor, "count", object, NULL, NULL, NULL, NULL, &e));
		atomic_store(&acknowledged[w->who], n);
		CHECK(!storage_log_add(w->s, job, attempt, &(struct storage_log_in){.level = "info", .text = object}, 1, &e));
	}
	return NULL;
}

/* Each new checkpoint removes an older one, row and bytes. */
static void *write_checkpoints(void *arg)
{
	struct storage *s = arg;
	for (int n = 1; !atomic_load(&stop); n++) {
		char id[32], sha[WASD_SHA256_HEX], *data = make_payload(3 << 20, (unsigned)n);
		struct wasd_err e = {0};
		wasd_sha256_of(data, 3 << 20, sha);
		struct storage_metric m = {"val_acc_aom", n * 1e-6};
		struct storage_ckpt_in in = {.job = job,
		                             .attempt = attempt,
		                             .epoch = n,
		                             .step = n,
		                             .data = data,
		                             .bytes = 3 << 20,
		                             .sha256 = sha,
		                             .metrics = &m,
		                             .n_metrics = 1};
		enum wasd_status st = storage_ckpt_store(s, &in, id, &e);
		CHECK_MSG(!st, "%s", e.msg);
		free(data);
	}
	return NULL;
}

static char *read_whole(struct storage *s, const char *ckpt, int64_t *bytes)
{
	struct storage_ckpt_reader *r = NULL;
	size_t got = 0;
	OK(storage_ckpt_open(s, ckpt, &r, &err));
	if (!r)
		return NULL;
	*bytes = storage_ckpt_size(r);
	char *data = malloc((size_t)*bytes + 1);
	OK(storage_ckpt_read(r, 0, data, (size_t)*bytes, &got, &err));
	CHECK_INT(got, *bytes);
	storage_ckpt_close(r);
	return data;
}

static int64_t one_int(const char *path, const char *sql)
{
	sqlite3 *db;
	sqlite3_stmt *q;
	int64_t v = -1;
	CHECK(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK);
	CHECK_MSG(sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(db));
	if (sqlite3_step(q) == SQLITE_ROW)
		v = sqlite3_column_int64(q, 0);
	sqlite3_finalize(q);
	sqlite3_close(db);
	return v;
}

/* Opens the restored store as the daemon does. */
static void check_restored(const char *at, const long long before[2])
{
	struct storage *s = NULL;
	struct storage_opts o = {.ballast_bytes = 1 << 16, .low_water_bytes = 1};
	struct storage_ckpt_list l = {0};
	enum wasd_status st = storage_open(at, &o, &s, &err);
	OK(st);
	if (st)
		return;
	OK(storage_check(s, true, &err));
	OK(storage_recover(s, NULL, &err));
	OK(storage_ckpt_list(s, job, &l, &err));
	CHECK(l.n >= 1);
	for (size_t i = 0; i < l.n; i++) {
		int64_t bytes = 0;
		char *data = read_whole(s, l.items[i].id, &bytes);
		char *want = make_payload(3 << 20, (unsigned)l.items[i].epoch);
		CHECK(!l.items[i].corrupt && bytes == 3 << 20 && data && !memcmp(data, want, (size_t)bytes));
		free(want);
		free(data);
	}
	storage_ckpt_list_done(&l);
	storage_close(s);
	for (int w = 0; w < 2; w++) {
		char path[300], sql[200];
		snprintf(path, sizeof path, "%s/wasd.db", at);
		snprintf(sql, sizeof sql, "SELECT count(*) FROM audit WHERE actor='writer%d'", w);
		const int64_t there = one_int(path, sql);
		CHECK_MSG(there >= before[w], "%lld rows of writer %d, %lld were acknowledged before", (long long)there, w,
		          before[w]);
		snprintf(
			sql, sizeof sql,
			"SELECT count(DISTINCT object)=max(CAST(substr(object,5) AS INTEGER)) FROM audit WHERE actor='writer%d'",
			w);
		CHECK_INT(one_int(path, sql), 1); /* no gap */
	}
}

static void dataset_file(const char *text)
{
	wasd_mkdirs(in_dir("datasets"), NULL);
	OK(wasd_file_write_atomic(in_dir("datasets/x"), text, strlen(text), &err));
}

static void under_load(void)
{
	const char *wanted = getenv("WASD_BACKUPS");
	const int backups = wanted ? atoi(wanted) : 4;
	fresh_dir();
	struct storage *s = NULL;
	struct storage_opts o = {.ballast_bytes = 1 << 16, .low_water_bytes = 1, .log_lines = 100000};
	OK(storage_open(dir, &o, &s, &err));
	dataset_file("pixels");
	add_job(s, "j", job);
	attempt = start_job(s, job);
	char first[32];
	OK(store_ckpt(s, job, attempt, 0, 0, 3 << 20, 0, first));
	pthread_t t[3];
	struct writing w[2] = {{s, 0}, {s, 1}};
	atomic_store(&stop, false);
	const int64_t t0 = wasd_mono_us();
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, write_rows, &w[i]);
	pthread_create(&t[2], NULL, write_checkpoints, s);
	for (int i = 0; i < backups; i++) {
		char to[120], at[120], *text = NULL;
		size_t len = 0;
		struct storage_backup b;
		struct storage_restored r;
		snprintf(to, sizeof to, "%s-backup%d", dir, i);
		snprintf(at, sizeof at, "%s-restored%d", dir, i);
		const long long from = atomic_load(&acknowledged[0]);
		while (atomic_load(&acknowledged[0]) < from + 50 && !storage_failed(s)) /* rows in every interval */
			usleep(100);
		const long long before[2] = {atomic_load(&acknowledged[0]), atomic_load(&acknowledged[1])};
		OK(storage_backup_start(s, to, "me", NULL, &err));
		OK(storage_backup_wait(s, &b, &err));
		CHECK_STR(b.state, "done");
		CHECK_STR(b.path, to);
		CHECK(b.files == 3 && b.checkpoints >= 1);
		OK(storage_restore(to, at, &r, &err));
		CHECK(r.files == 3 && r.bytes == b.bytes);
		check_restored(at, before);
		char file[140];
		snprintf(file, sizeof file, "%s/datasets/x", at);
		OK(wasd_file_read(file, 100, &text, &len, &err));
		CHECK_STR(text, "pixels");
		wasd_free(text);
		wasd_remove_tree(to, NULL);
		wasd_remove_tree(at, NULL);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	const double seconds = (double)(wasd_mono_us() - t0) / 1e6;
	printf("# %d backups beside %.0f transactions a second\n", backups,
	       2 * (double)(acknowledged[0] + acknowledged[1]) / seconds);
	end_store(s);
}

static struct storage *small_store(char ckpt[32])
{
	struct storage *s = fresh_store();
	dataset_file("pixels");
	add_job(s, "j", job);
	attempt = start_job(s, job);
	OK(store_ckpt(s, job, attempt, 1, 0.5, 100000, 1, ckpt));
	return s;
}

static void backup_to(struct storage *s, const char *to, enum wasd_status want)
{
	struct storage_backup b;
	struct stat sb;
	char partial[200];
	OK(storage_backup_start(s, to, "me", NULL, &err));
	FAILS(storage_backup_wait(s, &b, &err), want);
	snprintf(partial, sizeof partial, "%s.partial", to);
	CHECK(lstat(partial, &sb) != 0);
	CHECK_INT(lstat(to, &sb) == 0, want == WASD_OK);
}

static void refusals(void)
{
	char ckpt[32], to[120], inside[120], old[120];
	struct storage *s = small_store(ckpt);
	snprintf(to, sizeof to, "%s-backup", dir);
	snprintf(inside, sizeof inside, "%s/datasets/b", dir);
	snprintf(old, sizeof old, "%s/backups/one", dir);
	FAILS(storage_backup_start(s, "relative/path", "me", NULL, &err), WASD_EINVAL);
	CHECK_STR(err.pointer, "/path");
	FAILS(storage_backup_start(s, "/tmp/../etc/x", "me", NULL, &err), WASD_EINVAL);
	FAILS(storage_backup_start(s, inside, "me", NULL, &err), WASD_EINVAL);
	FAILS(storage_backup_start(s, dir, "me", NULL, &err), WASD_EEXIST);
	backup_to(s, old, WASD_OK);
	backup_to(s, to, WASD_OK);
	FAILS(storage_backup_start(s, to, "me", NULL, &err), WASD_EEXIST);
	CHECK_MSG(!storage_restore(to, old, NULL, &err) ? 0 : err.status == WASD_EEXIST, "%s", err.msg);
	struct storage_audit_list l;
	OK(storage_audit_list(s, "backup", "me", 0, (struct storage_page){.limit = 10}, &l, &err));
	CHECK(l.n == 2 && !strcmp(l.items[0].action, "backup") && strstr(l.items[0].after, "\"state\":\"done\""));
	storage_audit_list_done(&l);
	/* A dataset whose file is gone although its row is there. */
	unlink(in_dir("datasets/x"));
	snprintf(to, sizeof to, "%s-backup2", dir);
	backup_to(s, to, WASD_ENOTFOUND);
	CHECK_MSG(strstr(err.msg, "datasets/x is missing"), "%s", err.msg);
	snprintf(to, sizeof to, "%s-backup", dir);
	wasd_remove_tree(to, NULL);
	end_store(s);
}

/* Too little space: refused before anything is copied, and nothing is left. */
static void full_disk(void)
{
	char to[120];
	fresh_dir();
	struct storage *s = NULL;
	struct storage_opts o = {.ballast_bytes = 1 << 16, .low_water_bytes = UINT64_MAX / 4};
	OK(storage_open(dir, &o, &s, &err));
	snprintf(to, sizeof to, "%s-backup", dir);
	backup_to(s, to, WASD_EFULL);
	CHECK_MSG(strstr(err.msg, "MiB free, the backup needs"), "%s", err.msg);
	struct storage_backup b;
	CHECK(storage_backup_last(s, &b) && !strcmp(b.state, "failed") && b.status == WASD_EFULL);
	end_store(s);
}

static void flip(const char *path, off_t at)
{
	char b = 0;
	int fd = open(path, O_RDWR);
	CHECK(fd >= 0 && pread(fd, &b, 1, at) == 1);
	b ^= 0x10;
	CHECK(pwrite(fd, &b, 1, at) == 1);
	close(fd);
}

/* A backup with one changed byte, without a file, or without its manifest is refused, and nothing is left. */
static void damaged_backups(void)
{
	static const char *const files[] = {"wasd.db", "ckpt.db", "datasets/x"};
	char ckpt[32], to[120], at[120], path[200];
	struct stat sb;
	struct storage *s = small_store(ckpt);
	snprintf(to, sizeof to, "%s-backup", dir);
	snprintf(at, sizeof at, "%s-restored", dir);
	backup_to(s, to, WASD_OK);
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s", to, files[i]);
		flip(path, 3);
		FAILS(storage_restore(to, at, NULL, &err), WASD_ECORRUPT);
		CHECK_MSG(strstr(err.msg, files[i]), "%s", err.msg);
		CHECK(lstat(at, &sb) != 0);
		flip(path, 3);
	}
	OK(storage_restore(to, at, NULL, &err));
	wasd_remove_tree(at, NULL);
	unlink(path); /* datasets/x */
	FAILS(storage_restore(to, at, NULL, &err), WASD_ECORRUPT);
	snprintf(path, sizeof path, "%s/manifest.json", to);
	unlink(path);
	FAILS(storage_restore(to, at, NULL, &err), WASD_ENOTFOUND);
	CHECK(lstat(at, &sb) != 0);
	wasd_remove_tree(to, NULL);
	/* Damage of the store itself does not get into a backup unnoticed. */
	storage_close(s);
	sqlite3 *db;
	CHECK(sqlite3_open(in_dir("ckpt.db"), &db) == SQLITE_OK &&
	      sqlite3_exec(db, "UPDATE chunks SET data=zeroblob(length(data))", NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
	s = open_store();
	backup_to(s, to, WASD_ECORRUPT);
	CHECK_MSG(strstr(err.msg, ckpt) && strstr(err.msg, "digest"), "%s", err.msg);
	end_store(s);
}

/* ---- room ---- */

static int64_t used_bytes(void)
{
	static const char *const files[] = {"wasd.db", "wasd.db-wal", "ckpt.db", "ckpt.db-wal"};
	int64_t sum = 0;
	struct stat sb;
	for (int i = 0; i < 4; i++)
		sum += stat(in_dir(files[i]), &sb) ? 0 : (int64_t)sb.st_blocks * 512;
	return sum;
}

/* A payload without a row, as a crash between the two transactions leaves it. */
static void add_orphan(void)
{
	sqlite3 *db;
	CHECK(sqlite3_open(in_dir("ckpt.db"), &db) == SQLITE_OK);
	CHECK(
		sqlite3_exec(
			db,
			"INSERT INTO payloads(id,bytes,sha256,complete) VALUES('ckpt_orphan',2000000,'x',1);"
			"INSERT INTO chunks(payload,n,sha256,data) SELECT num,0,'x',zeroblob(2000000) FROM payloads WHERE id='ckpt_orphan'",
			NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(db);
}

static void write_text(const char *folder, const char *name, size_t n)
{
	char path[500], *text = calloc(1, n);
	wasd_mkdirs(in_dir(folder), NULL);
	snprintf(path, sizeof path, "%s/%s", in_dir(folder), name);
	OK(wasd_file_write_atomic(path, text, n, &err));
	free(text);
}

static void room(void)
{
	char ckpt[32], id[40];
	struct storage *s = small_store(ckpt);
	struct storage_usage u;
	struct storage_gc g, dry;
	add_job(s, "big", id);
	int64_t a = start_job(s, id);
	for (int i = 0; i < 3; i++)
		OK(store_ckpt(s, id, a, i, 0.1 * i, 8 << 20, (unsigned)i, ckpt));
	write_text("blobs", "0123", 5000);
	write_text("datasets/glyphs", "9.wds", 7000); /* of no version */
	OK(storage_log_add(s, job, attempt, &(struct storage_log_in){.level = "info", .text = "twelve bytes"}, 1, &err));
	OK(storage_usage(s, 1, &u, &err));
	CHECK(u.checkpoints.n == 3 && u.checkpoints.bytes == 100000 + 2 * (8 << 20)); /* the policy keeps two of three */
	CHECK(u.datasets.n == 1 && u.datasets.bytes == 1000 && u.blobs.n == 1 && u.blobs.bytes == 5000);
	CHECK(u.logs.n == 1 && u.logs.bytes == 12);
	CHECK(u.n_jobs == 1 && !strcmp(u.jobs[0].id, id) && u.jobs[0].checkpoints.n == 2);
	storage_usage_done(&u);
	/* Deleting the big job leaves unused pages; collecting them makes the files shorter on the disk. */
	OK(move(s, id, "completed"));
	OK(storage_job_delete(s, id, "me", &err));
	add_orphan();
	OK(storage_gc(s, true, 0, "me", &dry, &err));
	OK(storage_gc(s, true, 3600, "me", &g, &err));
	CHECK(dry.blobs.n == 1 && g.blobs.n == 0); /* a blob of this moment is still wanted */
	CHECK(dry.datasets.n == 1 && dry.datasets.bytes == 7000 && dry.payloads.n == 1 && dry.payloads.bytes == 2000000);
	CHECK(!access(in_dir("blobs/0123"), F_OK) && !access(in_dir("datasets/glyphs/9.wds"), F_OK));
	const int64_t before = used_bytes();
	OK(storage_gc(s, false, 0, "me", &g, &err));
	const int64_t shrunk = before - used_bytes();
	CHECK_MSG(shrunk > 16 << 20, "%lld bytes given back", (long long)shrunk);
	CHECK(g.blobs.n == 1 && g.datasets.bytes == 7000 && g.payloads.n == 1 && g.databases > 16 << 20);
	CHECK(access(in_dir("blobs/0123"), F_OK) && access(in_dir("datasets/glyphs/9.wds"), F_OK));
	CHECK(!access(in_dir("datasets/x"), F_OK));
	OK(storage_gc(s, true, 0, "me", &g, &err));
	CHECK_INT(g.bytes, 0);
	struct storage_ckpt kept = {0};
	OK(storage_ckpt_pick(s, job, "latest", &kept, &err));
	storage_ckpt_done(&kept);
	end_store(s);
}

/* ---- fsck ---- */

static char last[400];

static void remember(void *ctx, bool fault, const char *object, const char *detail)
{
	(void)ctx;
	snprintf(last, sizeof last, "%s %s: %s", fault ? "fault" : "leftover", object, detail);
}

static void fsck_finds(int64_t faults, int64_t leftovers, const char *what)
{
	struct storage_fsck f = {0};
	struct storage_fsck_hooks h = {.found = remember};
	last[0] = 0;
	OK(storage_fsck(dir, &h, &f, &err));
	CHECK_MSG(f.faults == faults && f.leftovers == leftovers && strstr(last, what), "%lld faults, %lld leftovers: %s",
	          (long long)f.faults, (long long)f.leftovers, last);
}

static void change(const char *file, const char *sql)
{
	sqlite3 *db;
	char *why = NULL;
	CHECK(sqlite3_open(in_dir(file), &db) == SQLITE_OK);
	CHECK_MSG(sqlite3_exec(db, sql, NULL, NULL, &why) == SQLITE_OK, "%s", why);
	sqlite3_close(db);
}

/* A daemon that has died without a commit since its start leaves an empty log, which is still there after a check. */
static void fsck_after_a_death(void)
{
	char ckpt[32];
	int status;
	struct storage_fsck f;
	struct storage_fsck_hooks h = {.found = remember};
	storage_close(small_store(ckpt));
	pid_t child = fork();
	if (!child) {
		open_store();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(access(in_dir("wasd.db-wal"), F_OK) == 0);
	OK(storage_fsck(dir, &h, &f, &err));
	CHECK(access(in_dir("wasd.db-wal"), F_OK) == 0);
	end_store(open_store());
}

static void fsck(void)
{
	char ckpt[32], digest[2][WASD_SHA256_HEX], *text;
	size_t n;
	struct storage *s = small_store(ckpt);
	struct storage_fsck f;
	struct storage_fsck_hooks h = {.found = remember};
	FAILS(storage_fsck(dir, &h, &f, &err), WASD_EBUSY);
	storage_close(s);
	change("wasd.db", "UPDATE datasets SET bytes=6");
	for (int i = 0; i < 2; i++) { /* reading changes nothing */
		OK(wasd_file_read(in_dir("wasd.db"), 1 << 24, &text, &n, &err));
		wasd_sha256_of(text, n, digest[i]);
		wasd_free(text);
		if (!i)
			fsck_finds(0, 0, "");
	}
	CHECK_STR(digest[0], digest[1]);
	OK(storage_fsck(dir, &h, &f, &err));
	CHECK(f.checkpoints == 1 && f.checkpoint_bytes == 100000 && f.datasets == 1 && f.dataset_bytes == 6);
	add_orphan();
	fsck_finds(0, 1, "checkpoint/ckpt_orphan");
	change("ckpt.db", "DELETE FROM chunks WHERE payload=(SELECT num FROM payloads WHERE id='ckpt_orphan')");
	change("ckpt.db", "DELETE FROM payloads WHERE id='ckpt_orphan'");
	write_text("datasets/glyphs", "9.wds", 10);
	fsck_finds(0, 1, "datasets/glyphs/9.wds");
	unlink(in_dir("datasets/glyphs/9.wds"));
	change("wasd.db", "UPDATE datasets SET bytes=7");
	fsck_finds(1, 0, "dataset/glyphs/1: its file has 6 bytes");
	unlink(in_dir("datasets/x"));
	fsck_finds(1, 0, "is missing");
	dataset_file("pixels");
	change("wasd.db", "UPDATE datasets SET bytes=6");
	change("wasd.db", "INSERT INTO warnings(job,code,epoch,message,at) VALUES('job_none','x',1,'',0)");
	fsck_finds(1, 0, "wasd.db: row");
	change("wasd.db", "DELETE FROM warnings");
	change("ckpt.db", "UPDATE chunks SET data=zeroblob(length(data))");
	fsck_finds(1, 0, "does not match its digest");
	change("ckpt.db", "DELETE FROM chunks");
	fsck_finds(1, 0, "is missing or has another size");
	change("ckpt.db", "DELETE FROM payloads");
	fsck_finds(1, 0, "its bytes are missing");
	change("wasd.db", "UPDATE checkpoints SET corrupt=1");
	fsck_finds(1, 0, "found damaged earlier");
	wasd_remove_tree(dir, NULL);
}

int main(void)
{
	TEST_RUN(under_load);
	TEST_RUN(refusals);
	TEST_RUN(full_disk);
	TEST_RUN(damaged_backups);
	TEST_RUN(room);
	TEST_RUN(fsck);
	TEST_RUN(fsck_after_a_death);
	TEST_END();
}
