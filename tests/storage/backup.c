/* Backups made while others write: each restores to a store that is whole and holds what was acknowledged before it
 * began. WASD_BACKUPS=50 makes 50 of them. */
#include "util.h"
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

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

int main(void)
{
	TEST_RUN(under_load);
	TEST_RUN(refusals);
	TEST_RUN(damaged_backups);
	TEST_END();
}
