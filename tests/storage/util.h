/* Shared by the storage tests: a store in a temporary directory, and short ways to create datasets, jobs and
 * checkpoints. */
#ifndef TESTS_STORAGE_UTIL_H
#define TESTS_STORAGE_UTIL_H

#include "check.h"
#include "storage.h"
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static char dir[64];
static struct wasd_err err;

#define OK(call) \
	do { \
		enum wasd_status s_ = (call); \
		CHECK_MSG(s_ == WASD_OK, "%s: %s", wasd_status_name(s_), err.msg); \
	} while (0)
#define FAILS(call, want) \
	do { \
		enum wasd_status s_ = (call); \
		CHECK_MSG(s_ == (want), "%s: %s", wasd_status_name(s_), s_ ? err.msg : ""); \
	} while (0)

__attribute__((unused)) static const char *in_dir(const char *name)
{
	static char p[4][400];
	static int k;
	k = (k + 1) % 4;
	snprintf(p[k], sizeof p[k], "%s/%s", dir, name);
	return p[k];
}

__attribute__((unused)) static void fresh_dir(void)
{
	if (dir[0])
		wasd_remove_tree(dir, NULL);
	/* None of these tests cuts the power, so a memory file system is sufficient and faster. */
	struct statvfs v;
	bool roomy = !access("/dev/shm", W_OK) && !statvfs("/dev/shm", &v) &&
	             (uint64_t)v.f_bavail * v.f_frsize > (512u << 20);
	if (roomy)
		snprintf(dir, sizeof dir, "/dev/shm/wasd-storage-XXXXXX");
	else
		check_temp(dir, sizeof dir, "wasd-storage");
	if (!mkdtemp(dir))
		abort();
}

__attribute__((unused)) static struct storage *open_store(void)
{
	struct storage *s = NULL;
	struct storage_opts o = {.ballast_bytes = 1 << 16, .low_water_bytes = 1, .log_lines = 50, .event_rows = 200};
	enum wasd_status st = storage_open(dir, &o, &s, &err);
	if (st) {
		printf("# open: %s\n", err.msg);
		abort();
	}
	return s;
}

__attribute__((unused)) static struct storage *fresh_store(void)
{
	fresh_dir();
	return open_store();
}

__attribute__((unused)) static void end_store(struct storage *s)
{
	OK(storage_check(s, true, &err));
	storage_close(s);
	wasd_remove_tree(dir, NULL);
	dir[0] = 0;
}

__attribute__((unused)) static void add_dataset(struct storage *s, const char *name)
{
	struct storage_dataset d = {0};
	bool existing;
	OK(storage_dataset_begin(s, name, "glyphs", "source-1", "t", &d, &existing, &err));
	if (!existing)
		OK(storage_dataset_ready(s, d.id, "glyphs", "digest-1", "datasets/x", "{\"classes\":10}", 1000, &err));
	storage_dataset_done(&d);
}

__attribute__((unused)) static struct storage_job_in job_in(const char *name)
{
	return (struct storage_job_in){.name = name,
	                               .queue = "default",
	                               .spec = "{}",
	                               .spec_digest = "sd",
	                               .priority = 50,
	                               .dataset = "glyphs",
	                               .created_by = "me",
	                               .keep_best = 1,
	                               .keep_latest = 1,
	                               .keep_metric = "val_acc_aom",
	                               .keep_max = true};
}

/* id: 40 bytes. */
__attribute__((unused)) static void add_job(struct storage *s, const char *name, char *id)
{
	struct storage_job j = {0};
	struct storage_job_in in = job_in(name);
	add_dataset(s, "glyphs");
	OK(storage_job_create(s, &in, &j, NULL, &err));
	snprintf(id, 40, "%s", j.id ? j.id : "");
	storage_job_done(&j);
}

__attribute__((unused)) static int64_t start_job(struct storage *s, const char *id)
{
	int64_t n = 0;
	char *resume = NULL;
	OK(storage_attempt_start(s, id, &n, &resume, &err));
	wasd_free(resume);
	OK(storage_attempt_running(s, id, n, 1234, "{\"build\":1}", &err));
	return n;
}

__attribute__((unused)) static void job_is(struct storage *s, const char *id, const char *state)
{
	struct storage_job j = {0};
	OK(storage_job_get(s, id, &j, &err));
	CHECK_STR(j.state, state);
	storage_job_done(&j);
}

__attribute__((unused)) static enum wasd_status move(struct storage *s, const char *id, const char *to)
{
	return storage_job_move(s, id, &(struct storage_move){.to = to, .reason = "test"}, &err);
}

/* A payload generated from a seed. */
__attribute__((unused)) static char *make_payload(size_t n, unsigned seed)
{
	char *p = malloc(n ? n : 1);
	unsigned x = seed * 2654435761u + 1;
	for (size_t i = 0; i < n; i++) {
		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		p[i] = (char)x;
	}
	return p;
}

__attribute__((unused)) static enum wasd_status store_ckpt_of(struct storage *s, const char *job, int64_t attempt,
                                                              int64_t epoch, double acc, size_t bytes, unsigned seed,
                                                              const char *info, char id[32])
{
	char sha[WASD_SHA256_HEX], *data = make_payload(bytes, seed);
	wasd_sha256_of(data, bytes, sha);
	struct storage_metric m[2] = {{"val_acc_aom", acc}, {"train_loss", 1.0 / (double)(epoch + 1)}};
	struct storage_ckpt_in in = {.job = job,
	                             .attempt = attempt,
	                             .epoch = epoch,
	                             .step = epoch * 100,
	                             .data = data,
	                             .bytes = bytes,
	                             .sha256 = sha,
	                             .reason = "epoch",
	                             .info = info,
	                             .metrics = m,
	                             .n_metrics = 2,
	                             .progress = "{\"epoch\":1}"};
	enum wasd_status st = storage_ckpt_store(s, &in, id, &err);
	free(data);
	return st;
}

__attribute__((unused)) static enum wasd_status store_ckpt(struct storage *s, const char *job, int64_t attempt,
                                                           int64_t epoch, double acc, size_t bytes, unsigned seed,
                                                           char id[32])
{
	return store_ckpt_of(s, job, attempt, epoch, acc, bytes, seed, "{\"draw\":[0]}", id);
}

/* As the daemon does when no request is in flight. */
__attribute__((unused)) static enum wasd_status delete_deployment(struct storage *s, const char *name,
                                                                  const char *actor, struct wasd_err *e)
{
	enum wasd_status st = storage_deployment_drain(s, name, true, actor, e);
	return st ? st : storage_deployment_drained(s, name, e);
}

#endif
