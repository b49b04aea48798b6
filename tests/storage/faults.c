/* Replaces the file system under SQLite with one that can fail and one that can lose power.
 *
 * Failures: the nth write or sync gives EIO or "disk full", once or from then on, for every n until a scenario
 * succeeds. Power: writes count as safe only once their file was synced. After a cut, a random selection of 512-byte
 * sectors of the unsynced writes survives; the result is opened as a store, which must contain everything
 * acknowledged before the cut. */
#include "util.h"
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

/* ---- the file system ---- */

enum kind { WRITE, SYNC };
static atomic_int fail_kind = -1; /* the kind of call to fail, -1 none */
static atomic_int fail_in;        /* calls before the failure */
static atomic_bool fail_for_ever;
static atomic_int fail_code; /* SQLITE_IOERR_WRITE ..., SQLITE_FULL */
static atomic_int failures;

struct pending {
	sqlite3_int64 at;
	int n;
	char *data;
	struct pending *next;
}; /* n -1: truncate to `at` */
struct image {
	char name[32];
	char *safe;
	sqlite3_int64 len, cap;
	struct pending *first, **last;
};
static pthread_mutex_t images_lock = PTHREAD_MUTEX_INITIALIZER;
static struct image images[4];
static int n_images;
static bool recording;

struct shim {
	sqlite3_file base;
	struct image *image;
	sqlite3_file *real;
};

static sqlite3_file *real_of(sqlite3_file *f)
{
	return ((struct shim *)f)->real;
}

static bool must_fail(enum kind k)
{
	if (atomic_load(&fail_kind) != (int)k)
		return false;
	int left = atomic_fetch_sub(&fail_in, 1);
	if (left > 1 || (left < 1 && !atomic_load(&fail_for_ever)))
		return false;
	atomic_fetch_add(&failures, 1);
	return true;
}

static void apply(struct image *im, const struct pending *p)
{
	sqlite3_int64 end = p->n < 0 ? p->at : p->at + p->n;
	if (end > im->len || p->n < 0) {
		if (end > im->cap)
			im->safe = realloc(im->safe, (size_t)(im->cap = 2 * end));
		if (end > im->len)
			memset(im->safe + im->len, 0, (size_t)(end - im->len));
		im->len = end;
	}
	if (p->n > 0)
		memcpy(im->safe + p->at, p->data, (size_t)p->n);
}

static void note(sqlite3_file *f, sqlite3_int64 at, const void *data, int n)
{
	struct image *im = ((struct shim *)f)->image;
	if (!im)
		return;
	pthread_mutex_lock(&images_lock);
	if (recording) {
		struct pending *p = malloc(sizeof *p);
		*p = (struct pending){at, n, n > 0 ? malloc((size_t)n) : NULL, NULL};
		if (n > 0)
			memcpy(p->data, data, (size_t)n);
		*im->last = p;
		im->last = &p->next;
	}
	pthread_mutex_unlock(&images_lock);
}

static void drop_pending(struct image *im)
{
	for (struct pending *p = im->first, *next; p; p = next) {
		next = p->next;
		free(p->data);
		free(p);
	}
	im->first = NULL;
	im->last = &im->first;
}

static int s_close(sqlite3_file *f)
{
	return real_of(f)->pMethods->xClose(real_of(f));
}
static int s_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	return real_of(f)->pMethods->xRead(real_of(f), p, n, at);
}

static int s_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	if (must_fail(WRITE))
		return atomic_load(&fail_code) == SQLITE_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
	int rc = real_of(f)->pMethods->xWrite(real_of(f), p, n, at);
	if (rc == SQLITE_OK)
		note(f, at, p, n);
	return rc;
}

static int s_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	int rc = real_of(f)->pMethods->xTruncate(real_of(f), n);
	if (rc == SQLITE_OK)
		note(f, n, NULL, -1);
	return rc;
}

static int s_sync(sqlite3_file *f, int flags)
{
	if (must_fail(SYNC))
		return SQLITE_IOERR_FSYNC;
	(void)flags; /* a real sync would only take time here */
	struct image *im = ((struct shim *)f)->image;
	if (!im)
		return SQLITE_OK;
	pthread_mutex_lock(&images_lock);
	for (struct pending *p = im->first; p; p = p->next)
		apply(im, p);
	drop_pending(im);
	pthread_mutex_unlock(&images_lock);
	return SQLITE_OK;
}

static int s_size(sqlite3_file *f, sqlite3_int64 *n)
{
	return real_of(f)->pMethods->xFileSize(real_of(f), n);
}
static int s_lock(sqlite3_file *f, int l)
{
	return real_of(f)->pMethods->xLock(real_of(f), l);
}
static int s_unlock(sqlite3_file *f, int l)
{
	return real_of(f)->pMethods->xUnlock(real_of(f), l);
}
static int s_reserved(sqlite3_file *f, int *r)
{
	return real_of(f)->pMethods->xCheckReservedLock(real_of(f), r);
}
static int s_control(sqlite3_file *f, int op, void *a)
{
	return real_of(f)->pMethods->xFileControl(real_of(f), op, a);
}
static int s_sector(sqlite3_file *f)
{
	return real_of(f)->pMethods->xSectorSize(real_of(f));
}
/* No promises: neither atomic sectors nor power-safe overwrite, so that SQLite relies on neither. */
static int s_device(sqlite3_file *f)
{
	(void)f;
	return 0;
}
static int s_shm_map(sqlite3_file *f, int a, int b, int c, void volatile **p)
{
	return real_of(f)->pMethods->xShmMap(real_of(f), a, b, c, p);
}
static int s_shm_lock(sqlite3_file *f, int a, int b, int c)
{
	return real_of(f)->pMethods->xShmLock(real_of(f), a, b, c);
}
static void s_shm_barrier(sqlite3_file *f)
{
	real_of(f)->pMethods->xShmBarrier(real_of(f));
}
static int s_shm_unmap(sqlite3_file *f, int d)
{
	return real_of(f)->pMethods->xShmUnmap(real_of(f), d);
}

static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = s_close,
	.xRead = s_read,
	.xWrite = s_write,
	.xTruncate = s_truncate,
	.xSync = s_sync,
	.xFileSize = s_size,
	.xLock = s_lock,
	.xUnlock = s_unlock,
	.xCheckReservedLock = s_reserved,
	.xFileControl = s_control,
	.xSectorSize = s_sector,
	.xDeviceCharacteristics = s_device,
	.xShmMap = s_shm_map,
	.xShmLock = s_shm_lock,
	.xShmBarrier = s_shm_barrier,
	.xShmUnmap = s_shm_unmap,
};

static sqlite3_vfs *unix_vfs, shim_vfs;

static int s_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	(void)v;
	struct shim *s = (struct shim *)f;
	*s = (struct shim){.real = (sqlite3_file *)(s + 1)};
	int rc = unix_vfs->xOpen(unix_vfs, name, s->real, flags, out);
	if (rc != SQLITE_OK && !s->real->pMethods)
		return rc;
	s->base.pMethods = &methods;
	const char *slash = name ? strrchr(name, '/') : NULL;
	for (int i = 0; slash && i < n_images; i++)
		if (!strcmp(images[i].name, slash + 1))
			s->image = &images[i];
	return rc;
}

static void install(void)
{
	unix_vfs = sqlite3_vfs_find(NULL);
	shim_vfs = *unix_vfs;
	shim_vfs.zName = "shim";
	shim_vfs.szOsFile = (int)sizeof(struct shim) + unix_vfs->szOsFile;
	shim_vfs.xOpen = s_open;
	sqlite3_vfs_register(&shim_vfs, 1);
	static const char *const names[] = {"wasd.db", "wasd.db-wal", "ckpt.db", "ckpt.db-wal"};
	for (int i = 0; i < 4; i++) {
		snprintf(images[i].name, sizeof images[i].name, "%s", names[i]);
		images[i].last = &images[i].first;
	}
	n_images = 4;
}

/* ---- every I/O call fails in turn ---- */

#ifdef WASD_SANITIZED
enum { CUTS = 10, STRIDE = 7 };
#else
enum { CUTS = 50, STRIDE = 1 };
#endif

static void copy_file(const char *from, const char *to)
{
	char *data = NULL;
	size_t n = 0;
	if (wasd_file_read(from, 256 << 20, &data, &n, &err) || wasd_file_write_atomic(to, data, n, &err))
		abort();
	wasd_free(data);
}

static char template[64], tjob[40];

/* A closed store with a running job; each trial works on a copy. */
static void make_template(void)
{
	struct storage *s = fresh_store();
	add_job(s, "f", tjob);
	start_job(s, tjob);
	storage_close(s);
	snprintf(template, sizeof template, "%s", dir);
	dir[0] = 0;
}

static void from_template(void)
{
	static const char *const files[] = {"wasd.db", "ckpt.db", "daemon.lock"};
	fresh_dir();
	for (int i = 0; i < 3; i++) {
		char from[200];
		snprintf(from, sizeof from, "%s/%s", template, files[i]);
		copy_file(from, in_dir(files[i]));
	}
}

struct acks {
	char job[40];
	bool epoch, ckpt, moved, found;
	char ckpt_id[32], profile[40];
};

/* A profile of that checkpoint, from the request to the result. */
static enum wasd_status search(struct storage *s, struct acks *a)
{
	struct storage_profile p = {0};
	struct storage_profile_in in = {.checkpoint = a->ckpt_id,
	                                .name = "fast",
	                                .desire = "macs",
	                                .request = "{}",
	                                .dataset = "glyphs",
	                                .dataset_version = 1,
	                                .actor = "me"};
	char sha[WASD_SHA256_HEX];
	wasd_sha256_of("overlay", 7, sha);
	enum wasd_status st = storage_profile_begin(s, &in, &p, NULL, &err);
	if (!st)
		snprintf(a->profile, sizeof a->profile, "%s", p.id);
	storage_profile_done(&p);
	if (!st)
		st = storage_profile_searching(s, a->profile, &err);
	if (!st)
		st = storage_profile_ready(s, a->profile, "{}", NULL, "overlay", 7, sha, &err);
	a->found = !st;
	return st;
}

/* Submit, epoch, checkpoint, profile, move: records what is acknowledged; every refusal has a status that a client
 * can receive. */
static enum wasd_status scenario(struct storage *s, struct acks *a)
{
	struct storage_job j = {0};
	struct storage_job_in in = job_in("scenario");
	struct storage_metric m = {"train_loss", 1};
	enum wasd_status st[5];
	memset(a, 0, sizeof *a);
	st[0] = storage_job_create(s, &in, &j, NULL, &err);
	if (!st[0])
		snprintf(a->job, sizeof a->job, "%s", j.id);
	storage_job_done(&j);
	st[1] = storage_epoch(s, tjob, 1, 7, 7, 0, &m, 1, NULL, &err);
	a->epoch = !st[1];
	st[2] = store_ckpt(s, tjob, 1, 8, 0.5, 60000, 3, a->ckpt_id);
	a->ckpt = !st[2];
	st[3] = a->ckpt ? search(s, a) : st[2];
	st[4] = move(s, tjob, "pausing");
	a->moved = !st[4];
	enum wasd_status first = WASD_OK;
	for (int i = 0; i < 5; i++) {
		CHECK_MSG(st[i] == WASD_OK || st[i] == WASD_EIO || st[i] == WASD_EFULL, "%s: %s", wasd_status_name(st[i]),
		          err.msg);
		if (first == WASD_EIO && !st[i] && storage_failed(s))
			CHECK_MSG(false, "step %d was acknowledged after an I/O error", i);
		if (!first)
			first = st[i];
	}
	return first;
}

static void verify(const struct acks *a)
{
	struct storage *s = open_store();
	OK(storage_check(s, true, &err));
	if (a->job[0])
		job_is(s, a->job, "queued");
	if (a->epoch) {
		struct storage_point_list p = {0};
		OK(storage_metric_series(s, tjob, "train_loss", 7, &p, &err));
		CHECK(p.n >= 1 && p.items[0].epoch == 7);
		storage_point_list_done(&p);
	}
	if (a->ckpt) {
		int fd = -1;
		OK(storage_ckpt_memfd(s, a->ckpt_id, &fd, NULL, NULL, &err));
		close(fd);
	}
	if (a->profile[0]) {
		struct storage_profile p = {0};
		OK(storage_profile_get(s, a->ckpt_id, "fast", &p, &err));
		CHECK(!a->found || !strcmp(p.state, "ready"));
		char *data = NULL;
		size_t n = 0;
		if (!strcmp(p.state, "ready"))
			OK(storage_profile_overlay(s, p.id, &data, &n, &err));
		wasd_free(data);
		storage_profile_done(&p);
	}
	if (a->moved)
		job_is(s, tjob, "pausing");
	/* In every case, each listed checkpoint verifies. */
	struct storage_ckpt_list l = {0};
	OK(storage_ckpt_list(s, tjob, &l, &err));
	for (size_t i = 0; i < l.n; i++) {
		int fd = -1;
		OK(storage_ckpt_memfd(s, l.items[i].id, &fd, NULL, NULL, &err));
		close(fd);
	}
	storage_ckpt_list_done(&l);
	storage_close(s);
}

static void fail_all(enum kind kind, int code, bool for_ever)
{
	int trials = 0, refused = 0;
	for (int nth = 1; nth < 2000; nth += STRIDE) {
		struct acks a;
		from_template();
		struct storage *s = open_store();
		atomic_store(&failures, 0);
		atomic_store(&fail_code, code);
		atomic_store(&fail_for_ever, for_ever);
		atomic_store(&fail_in, nth);
		atomic_store(&fail_kind, (int)kind);
		enum wasd_status st = scenario(s, &a);
		const bool hit = atomic_load(&failures) > 0, failed = storage_failed(s);
		if (code == SQLITE_FULL)
			CHECK_MSG(!failed, "no space is not a broken disk: %s", err.msg);
		else if (st)
			CHECK_MSG(failed, "%s, and the store goes on", wasd_status_name(st));
		if (for_ever)
			storage_close(s), atomic_store(&fail_kind, -1);
		else
			atomic_store(&fail_kind, -1), storage_close(s);
		verify(&a);
		trials++;
		refused += st != WASD_OK;
		if (!hit) {
			CHECK_INT(st, WASD_OK);
			break;
		}
	}
	printf("# %s: %d trials, %d refused something\n", kind == WRITE ? "write" : "sync", trials, refused);
	CHECK_MSG(trials > 1 && trials < 2000 && refused > 0, "%d trials, %d refusals", trials, refused);
}

static void test_io_errors(void)
{
	make_template();
	for (int ever = 0; ever < 2; ever++) {
		fail_all(WRITE, SQLITE_IOERR, ever);
		fail_all(WRITE, SQLITE_FULL, ever);
		fail_all(SYNC, SQLITE_IOERR, ever);
	}
	wasd_remove_tree(template, NULL);
	wasd_remove_tree(dir, NULL);
	dir[0] = 0;
}

/* ---- power cuts ---- */

enum { MAX_ACKS = 200000 };
static struct {
	char kind;
	char id[40];
	int64_t n;
} acked[MAX_ACKS];
static int n_acked;
static pthread_mutex_t acked_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t acked_more = PTHREAD_COND_INITIALIZER;
static atomic_bool stop;

static void ack(char kind, const char *id, int64_t n)
{
	pthread_mutex_lock(&acked_lock);
	if (n_acked < MAX_ACKS) {
		acked[n_acked].kind = kind;
		acked[n_acked].n = n;
		snprintf(acked[n_acked++].id, sizeof acked[0].id, "%s", id);
	}
	pthread_cond_signal(&acked_more);
	pthread_mutex_unlock(&acked_lock);
}

static void *submit(void *arg)
{
	struct wasd_err e;
	while (!atomic_load(&stop)) {
		struct storage_job j = {0};
		struct storage_job_in in = job_in("p");
		if (storage_job_create(arg, &in, &j, NULL, &e))
			abort();
		ack('j', j.id, 0);
		storage_job_done(&j);
	}
	return NULL;
}

static void *train(void *arg)
{
	struct wasd_err e;
	for (int64_t n = 0; !atomic_load(&stop); n++) {
		struct storage_metric m = {"acknowledged", (double)n};
		if (storage_epoch(arg, tjob, 1, n, n, 0, &m, 1, NULL, &e))
			abort();
		ack('m', tjob, n);
		char id[32];
		if (n % 10)
			continue;
		if (store_ckpt(arg, tjob, 1, n, 0.5, n % 100 ? 50000 : 1100000, (unsigned)n, id))
			abort();
		ack('c', id, n);
	}
	return NULL;
}

static unsigned rnd_state = 7;
static unsigned rnd(void)
{
	rnd_state ^= rnd_state << 13, rnd_state ^= rnd_state >> 17, rnd_state ^= rnd_state << 5;
	return rnd_state;
}

/* Writes a possible state of the disk after a power cut: the safe image plus any of the other sectors. */
static void write_remains(void)
{
	for (int i = 0; i < n_images; i++) {
		struct image copy = images[i], *im = &images[i];
		copy.safe = malloc((size_t)(copy.cap = im->len + 65536));
		if (im->len)
			memcpy(copy.safe, im->safe, (size_t)im->len);
		const unsigned keep = rnd() % 4; /* nothing, some, most, everything */
		for (struct pending *p = im->first; p; p = p->next)
			for (sqlite3_int64 at = 0; at < p->n || (p->n < 0 && at == 0); at += 512) {
				if (rnd() % 3 >= keep)
					continue;
				struct pending sector = {p->at + at,
				                         p->n < 0        ? -1 :
				                         p->n - at < 512 ? (int)(p->n - at) :
				                                           512,
				                         p->data ? p->data + at : NULL, NULL};
				apply(&copy, &sector);
			}
		if (wasd_file_write_atomic(in_dir(im->name), copy.safe, (size_t)copy.len, &err))
			abort();
		free(copy.safe);
	}
}

static void name_cut(const char *running, int cut)
{
	snprintf(dir, sizeof dir, "%.40s-cut-%d", running, cut);
}

static void test_power_cuts(void)
{
	make_template();
	from_template();
	wasd_remove_tree(template, NULL);
	struct storage *s = NULL;
	OK(storage_open(dir, &(struct storage_opts){.ballast_bytes = 4096, .low_water_bytes = 1, .event_rows = 1000}, &s,
	                &err));
	/* From here on only synced writes are safe; the current content is safe too. */
	pthread_mutex_lock(&images_lock);
	for (int i = 0; i < n_images; i++) {
		char *data = NULL;
		size_t n = 0;
		images[i].len = 0;
		if (!wasd_file_read(in_dir(images[i].name), 256 << 20, &data, &n, NULL)) {
			images[i].safe = realloc(images[i].safe, (size_t)(images[i].cap = (sqlite3_int64)n + 1));
			memcpy(images[i].safe, data, n);
			images[i].len = (sqlite3_int64)n;
			wasd_free(data);
		}
	}
	recording = true;
	pthread_mutex_unlock(&images_lock);

	pthread_t t[3];
	pthread_create(&t[0], NULL, submit, s);
	pthread_create(&t[1], NULL, submit, s);
	pthread_create(&t[2], NULL, train, s);
	char running[64];
	int acks_at[CUTS];
	snprintf(running, sizeof running, "%s", dir);
	for (int cut = 0; cut < CUTS; cut++) {
		name_cut(running, cut);
		OK(wasd_mkdirs(dir, &err));
		pthread_mutex_lock(&acked_lock);
		const int want = n_acked + 20 + (int)(rnd() % 60);
		while (n_acked < want)
			pthread_cond_wait(&acked_more, &acked_lock);
		acks_at[cut] = n_acked; /* all of these were acknowledged to a client before the cut */
		pthread_mutex_unlock(&acked_lock);
		pthread_mutex_lock(&images_lock);
		write_remains();
		pthread_mutex_unlock(&images_lock);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	pthread_mutex_lock(&images_lock);
	recording = false;
	for (int i = 0; i < n_images; i++)
		drop_pending(&images[i]);
	pthread_mutex_unlock(&images_lock);
	storage_close(s);
	wasd_remove_tree(running, NULL);

	int lost = 0, refusals = 0;
	for (int cut = 0; cut < CUTS; cut++) {
		name_cut(running, cut);
		if (storage_open(dir, &(struct storage_opts){.ballast_bytes = 4096, .low_water_bytes = 1}, &s, &err)) {
			if (!refusals++)
				printf("# cut %d: %s\n", cut, err.msg);
			wasd_remove_tree(dir, NULL);
			continue;
		}
		OK(storage_check(s, true, &err));
		struct storage_point_list p = {0};
		OK(storage_metric_series(s, tjob, "acknowledged", 0, &p, &err));
		for (int i = 0; i < acks_at[cut]; i++) {
			struct storage_job j = {0};
			if (acked[i].kind == 'j') {
				lost += storage_job_get(s, acked[i].id, &j, NULL) != WASD_OK;
				storage_job_done(&j);
			} else if (acked[i].kind == 'm') {
				lost += acked[i].n >= (int64_t)p.n || p.items[acked[i].n].value != (double)acked[i].n;
			}
		}
		storage_point_list_done(&p);
		struct storage_ckpt k = {0};
		int64_t newest = -1;
		for (int i = 0; i < acks_at[cut]; i++)
			if (acked[i].kind == 'c')
				newest = acked[i].n;
		if (newest >= 0) {
			int fd = -1;
			OK(storage_ckpt_pick(s, tjob, "latest", &k, &err));
			CHECK_MSG(k.epoch >= newest, "cut %d: checkpoint of epoch %lld was acknowledged", cut, (long long)newest);
			OK(storage_ckpt_memfd(s, k.id, &fd, NULL, NULL, &err));
			close(fd);
			storage_ckpt_done(&k);
		}
		storage_close(s);
		wasd_remove_tree(dir, NULL);
	}
	CHECK_MSG(lost == 0 && refusals == 0, "%d acknowledged writes lost, %d stores unusable", lost, refusals);
	CHECK(acks_at[CUTS - 1] >= 20 * CUTS);
	for (int i = 0; i < n_images; i++)
		free(images[i].safe);
	dir[0] = 0;
}

int main(void)
{
	install();
	TEST_RUN(test_io_errors);
	TEST_RUN(test_power_cuts);
	TEST_END();
}
