/* tests/api/harness.h - handlers without a socket: real storage in a temporary directory, a fake daemon, and
 * one-line requests. */
#ifndef TESTS_API_HARNESS_H
#define TESTS_API_HARNESS_H

#include "check.h"
#include "../../api/internal.h"
#include "../../api/metrics.h"
#include "wasd/machine.h"
#include <stdarg.h>
#include <unistd.h>

/* Core's tables as far as the tests need them: two kinds of networks, options, a pair, an integer, exclusive bounds. */
static const char *const test_caps =
	"{\"archs\":["
	"{\"name\":\"lenet\",\"summary\":\"LeNet\",\"min_side\":28,\"sides\":[28,32],\"options\":[{\"name\":\"published\",\"summary\":\"ReLU on the logits\",\"type\":\"boolean\",\"default\":false}],"
	" \"variants\":[{\"model\":{\"published\":true},\"params\":62006,\"macs\":651720,\"augmented\":0,\"was\":false},{\"model\":{\"published\":false},\"params\":62006,\"macs\":651720,\"augmented\":0,\"was\":false}]},"
	"{\"name\":\"vgg16\",\"summary\":\"VGG-16\",\"min_side\":32,\"options\":[{\"name\":\"head\",\"summary\":\"width\",\"default\":512,\"choices\":[512,4096]}],"
	" \"variants\":[{\"model\":{\"head\":512},\"params\":15300817,\"macs\":313800000,\"augmented\":9,\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3}]}},"
	"               {\"model\":{\"head\":4096},\"params\":34016465,\"macs\":332500000,\"augmented\":9,\"was\":{\"transforms\":[{\"type\":\"resized_crop\"}]}}]},"
	"{\"name\":\"resnet18\",\"summary\":\"ResNet-18\",\"min_side\":16,\"options\":[],"
	" \"variants\":[{\"model\":{},\"params\":12550250,\"macs\":605800000,\"augmented\":16,"
	"  \"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1},{\"type\":\"resized_crop\",\"scale\":[0.8,1],\"ratio\":[0.75,1.3333],\"weight\":1}]}}]}],"
	"\"transforms\":["
	"{\"type\":\"translate\",\"op\":\"translate\",\"options\":[{\"name\":\"x\",\"n\":1,\"default\":0.3,\"min\":0,\"max\":1},{\"name\":\"y\",\"n\":1,\"default\":0.3,\"min\":0,\"max\":1}]},"
	"{\"type\":\"resized_crop\",\"op\":\"crop_resize\",\"options\":[{\"name\":\"scale\",\"n\":2,\"default\":[0.8,1],\"min\":0.01,\"max\":1},{\"name\":\"ratio\",\"n\":2,\"default\":[0.75,1.3333],\"min\":0.05,\"max\":20}]}],"
	"\"strategies\":["
	"{\"type\":\"was\",\"summary\":\"augmentation\",\"options\":[]},"
	"{\"type\":\"sparse\",\"summary\":\"zeros\",\"options\":[{\"name\":\"share\",\"type\":\"number\",\"default\":0.5,\"min\":0,\"max\":1}]},"
	"{\"type\":\"thin\",\"summary\":\"a mask\",\"prunes\":true,\"options\":[{\"name\":\"begin\",\"type\":\"number\",\"min\":0,\"max\":9},"
	"{\"name\":\"scope\",\"type\":\"string\",\"default\":\"layer\",\"choices\":[\"layer\",\"global\"]},"
	"{\"name\":\"layers\",\"type\":\"string\",\"default\":\"all\",\"min\":1,\"max\":20}]}],"
	"\"optimizers\":["
	"{\"name\":\"sgd\",\"options\":[{\"name\":\"lr\",\"type\":\"number\",\"default\":0.01,\"min\":0,\"max\":1000,\"above_min\":true},"
	" {\"name\":\"momentum\",\"type\":\"number\",\"default\":0.9,\"min\":0,\"max\":1,\"below_max\":true},{\"name\":\"nesterov\",\"type\":\"boolean\",\"default\":false},"
	" {\"name\":\"weight_decay\",\"type\":\"number\",\"default\":0,\"min\":0,\"max\":1}]},"
	"{\"name\":\"adamw\",\"options\":[{\"name\":\"lr\",\"type\":\"number\",\"default\":0.001,\"min\":0,\"max\":1000,\"above_min\":true}]}],"
	"\"schedules\":[{\"name\":\"constant\",\"options\":[]},{\"name\":\"step\",\"options\":[{\"name\":\"every\",\"type\":\"integer\",\"default\":30,\"min\":1,\"max\":100000}]}],"
	"\"augment\":[{\"name\":\"flip\",\"options\":[]},{\"name\":\"crop\",\"options\":[{\"name\":\"pad\",\"type\":\"integer\",\"default\":4,\"min\":1,\"max\":64}]}],"
	"\"precisions\":[\"fp32\",\"fp32-strict\"],\"backends\":[\"openblas\"],\"formats\":[\"cifar10\"],\"synthetic\":[\"glyphs\"]}";

/* ---- the fake daemon ---- */

static struct {
	char dir[64];
	struct storage *db;
	cJSON *caps;
	int queued, lives, ingests, synths, removed, in_flight, exports, searches;
	char removed_paths[256], last_name[64], profile_gone[80], changed[72]; /* changed: the last deployment to load */
	size_t ingest_files;
	char ingest_options[256];
	int64_t unanswered; /* requests in flight when a deployment is to go */
	bool no_times;      /* the measurement fails */
	bool little_memory;
	enum wasd_status no_sizes;   /* the answer of the estimates, unless it is WASD_OK */
	enum wasd_status no_report;  /* the answer of the reports, unless it is WASD_OK */
	enum wasd_status no_merge;   /* the same of a new merge */
	cJSON *merge;                /* the record of the last one */
	enum wasd_status no_archive; /* the same of a new archive */
	cJSON *archive;
	int forgotten; /* merges and archives */
	bool not_ready, engine_down, ingest_refuses, no_mode;
	const char *serving_health; /* the daemon's report on its serving; NULL: no problem */
	char question[4096];        /* the last question to the infer process */
	size_t question_bin;
	char question_data[256]; /* its first bytes */
	int priority;            /* of its request */
	int64_t waits_us;        /* from its arrival to its deadline */
	struct api_ctx ctx;
} t;

static void fake_queued(struct sched *self, const char *job)
{
	(void)self, (void)job;
	t.queued++;
}

static enum wasd_status fake_cancel(struct sched *self, const char *job, bool kill, const char *reason,
                                    const char *actor, struct wasd_err *err)
{
	struct storage_job j;
	(void)self;
	if (storage_job_get(t.db, job, &j, err))
		return err->status;
	bool running = storage_job_active(j.state);
	storage_job_done(&j);
	(void)kill;
	return storage_job_move(t.db, job,
	                        &(struct storage_move){.to = running ? "cancelling" : "cancelled",
	                                               .reason = "user",
	                                               .message = reason,
	                                               .action = "cancel",
	                                               .actor = actor},
	                        err);
}

/* A job that is active pauses for ever. */
static enum wasd_status fake_change(struct sched *self, const char *job, enum api_job_change what,
                                    const struct storage_request *r, struct wasd_err *err)
{
	struct storage_job j;
	(void)self;
	if (storage_job_get(t.db, job, &j, err))
		return err->status;
	bool running = storage_job_active(j.state);
	storage_job_done(&j);
	if (what == API_JOB_RETRY)
		return storage_job_retry(t.db, job, r, err);
	if (what == API_JOB_RESUME)
		return storage_job_release(t.db, job, r, err);
	if (what == API_JOB_PAUSE && running)
		return storage_job_move(t.db, job,
		                        &(struct storage_move){.to = "pausing", .action = "pause", .actor = r->actor}, err);
	return storage_job_hold(t.db, job, r, err);
}

static cJSON *fake_live(struct sched *self, const char *job)
{
	struct storage_job j;
	cJSON *o = NULL;
	(void)self;
	t.lives++;
	if (storage_job_get(t.db, job, &j, NULL))
		return NULL;
	if (!strcmp(j.state, "running"))
		o = cJSON_Parse("{\"progress\":{\"epoch\":1,\"epochs\":10,\"img_per_s\":123.5,\"eta_s\":60}}");
	storage_job_done(&j);
	return o;
}

__attribute__((unused)) static const char *test_info =
	"{\"shape\":[3,32,32],\"classes\":[\"zero\",\"one\",\"two\"],\"train\":100,\"test\":20,\"mean\":[0.5,0.5,0.5],\"std\":[0.2,0.2,0.2]}";

static enum wasd_status fake_report(struct reports *self, const struct storage_job *job, const char *checkpoint,
                                    bool test, char **text, int64_t *done, int64_t *of, struct wasd_err *err)
{
	(void)self, (void)job, (void)checkpoint;
	*done = 1;
	*of = 2;
	if (t.no_report)
		return wasd_fail(err, t.no_report, "no report");
	*text = wasd_strdup(
		test ? "{\"images\":20,\"modes\":{\"aom\":{\"accuracy\":0.25}}}" :
			   "{\"images\":10,\"modes\":{\"aom\":{\"accuracy\":0.5,\"confusion\":[[3,1,0],[0,2,2],[1,1,0]]}}}");
	return *text ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
}

/* There is one merge, "merge_1"; a new one is it, too. */
static enum wasd_status fake_merge_begin(void *self, cJSON *record, char id[40], struct wasd_err *err)
{
	(void)self;
	cJSON_Delete(t.merge);
	t.merge = record;
	if (t.no_merge)
		return wasd_fail(err, t.no_merge, "16 merges wait");
	snprintf(id, 40, "merge_1");
	return WASD_OK;
}

static enum wasd_status fake_merge_get(void *self, const char *id, cJSON **record, struct wasd_err *err)
{
	(void)self;
	if (strcmp(id, "merge_1"))
		return wasd_fail(err, WASD_ENOTFOUND, "no merge %s", id);
	*record = t.merge ? cJSON_Duplicate(t.merge, true) : cJSON_CreateObject();
	cJSON_AddStringToObject(*record, "id", id);
	cJSON_AddStringToObject(*record, "state", t.merge ? "queued" : "ready");
	cJSON_AddNumberToObject(*record, "created_at", 1000);
	if (!t.merge)
		cJSON_AddStringToObject(*record, "checkpoint", "ckpt_1");
	return WASD_OK;
}

static cJSON *fake_merge_list(void *self)
{
	cJSON *all = cJSON_CreateArray(), *one = NULL;
	if (!fake_merge_get(self, "merge_1", &one, NULL))
		cJSON_AddItemToArray(all, one);
	return all;
}

static enum wasd_status fake_merge_forget(void *self, const char *id, struct wasd_err *err)
{
	(void)self;
	if (strcmp(id, "merge_1"))
		return wasd_fail(err, WASD_ENOTFOUND, "no merge %s", id);
	t.forgotten++;
	return WASD_OK;
}

/* There is one archive, "archive_1"; a new one is it, too. */
static enum wasd_status fake_archive_begin(void *self, cJSON *record, char id[40], struct wasd_err *err)
{
	(void)self;
	cJSON_Delete(t.archive);
	t.archive = record;
	if (t.no_archive)
		return wasd_fail(err, t.no_archive, "16 archives wait");
	snprintf(id, 40, "archive_1");
	return WASD_OK;
}

static enum wasd_status fake_archive_get(void *self, const char *id, cJSON **record, struct wasd_err *err)
{
	(void)self;
	if (strcmp(id, "archive_1"))
		return wasd_fail(err, WASD_ENOTFOUND, "no archive %s", id);
	*record = t.archive ? cJSON_Duplicate(t.archive, true) : cJSON_CreateObject();
	cJSON_AddStringToObject(*record, "id", id);
	cJSON_AddStringToObject(*record, "state", t.archive ? "queued" : "ready");
	cJSON_AddNumberToObject(*record, "created_at", 1000);
	return WASD_OK;
}

static cJSON *fake_archive_list(void *self)
{
	cJSON *all = cJSON_CreateArray(), *one = NULL;
	if (!fake_archive_get(self, "archive_1", &one, NULL))
		cJSON_AddItemToArray(all, one);
	return all;
}

static enum wasd_status fake_archive_open(void *self, const char *id, struct api_file *out, struct wasd_err *err)
{
	(void)self;
	if (strcmp(id, "archive_1"))
		return wasd_fail(err, WASD_ENOTFOUND, "no archive %s", id);
	if (t.archive)
		return wasd_fail(err, WASD_ESTATE, "archive %s is not ready", id);
	*out = (struct api_file){.bytes = 3};
	wasd_sha256_of("tar", 3, out->sha256);
	return wasd_memfd_sealed("tar", "tar", 3, &out->fd, err);
}

static enum wasd_status fake_archive_forget(void *self, const char *id, struct wasd_err *err)
{
	(void)self;
	if (strcmp(id, "archive_1"))
		return wasd_fail(err, WASD_ENOTFOUND, "no archive %s", id);
	t.forgotten++;
	return WASD_OK;
}

static void fake_hook_changed(struct webhooks *self)
{
	(void)self;
}

static enum wasd_status fake_hook_test(struct webhooks *self, const struct storage_webhook *h, const char *actor,
                                       struct api_webhook_test *out, struct wasd_err *err)
{
	(void)self, (void)h, (void)actor, (void)err;
	*out = (struct api_webhook_test){.delivered = true, .status = 200, .ms = 3};
	return WASD_OK;
}

static enum wasd_status fake_ingest(struct ingest *self, const char *dataset, int version,
                                    const struct api_upload *files, size_t n, const cJSON *options,
                                    struct wasd_err *err)
{
	(void)self, (void)version;
	char *text = wasd_json_print(options);
	snprintf(t.ingest_options, sizeof t.ingest_options, "%s", text ? text : "");
	wasd_free(text);
	if (t.ingest_refuses)
		return wasd_fail(err, WASD_EBUSY, "too many uploads are being read");
	t.ingests++;
	t.ingest_files = n;
	snprintf(t.last_name, sizeof t.last_name, "%s", dataset);
	for (size_t i = 0; i < n; i++)
		CHECK_MSG(access(files[i].path, R_OK) == 0, "file %zu is not there: %s", i, files[i].path);
	return WASD_OK;
}

static enum wasd_status fake_synthesize(struct ingest *self, const char *dataset, int version, const char *kind,
                                        int64_t train, int64_t test, int64_t seed, struct wasd_err *err)
{
	(void)self, (void)version, (void)err;
	t.synths++;
	snprintf(t.last_name, sizeof t.last_name, "%s %s %lld %lld %lld", dataset, kind, (long long)train, (long long)test,
	         (long long)seed);
	return WASD_OK;
}

static void reply(struct api_call *call, const char *json, const void *bin, size_t n)
{
	call->reply = cJSON_Parse(json);
	call->reply_bin = n ? wasd_malloc(n) : NULL;
	if (n)
		memcpy(call->reply_bin, bin, n);
	call->reply_bin_len = n;
}

static enum wasd_status fake_preview(struct ingest *self, const char *path, const char *split, int64_t index,
                                     struct api_call *call, struct wasd_err *err)
{
	(void)self, (void)path, (void)split, (void)index, (void)err;
	reply(call, "{\"type\":\"preview\",\"label\":2,\"class\":\"two\"}", "\x89PNG\r\n\x1a\nxx", 10);
	return WASD_OK;
}

static void fake_gone(struct ingest *self, const char *paths)
{
	(void)self;
	t.removed++;
	snprintf(t.removed_paths, sizeof t.removed_paths, "%s", paths);
}

/* "CHECKPOINT as FORMAT of MODE". A checkpoint whose job was trained without WAS has no dom. */
static enum wasd_status fake_export(struct convert *self, const char *checkpoint, const char *format, const char *mode,
                                    int64_t deadline_us, struct api_file *out, struct wasd_err *err)
{
	char text[200];
	(void)self, (void)deadline_us;
	if (t.engine_down)
		return wasd_fail(err, WASD_EBUSY, "the conversion's process ended");
	if (t.no_mode && !strcmp(mode, "dom"))
		return wasd_fail(err, WASD_ENOTFOUND, "this checkpoint has no DOM mode: it was trained without WAS");
	snprintf(text, sizeof text, "%s as %s of %s", checkpoint, format, mode);
	*out = (struct api_file){.bytes = (int64_t)strlen(text)};
	wasd_sha256_of(text, strlen(text), out->sha256);
	t.exports++;
	return wasd_memfd_sealed("test", text, strlen(text), &out->fd, err);
}

/* A network with the layer conv1 of 4 kernels. */
static enum wasd_status fake_inspect(struct convert *self, const char *checkpoint, const cJSON *kernels,
                                     int64_t deadline_us, cJSON **out, struct wasd_err *err)
{
	const char *layer = "";
	int64_t output = 0;
	(void)self, (void)checkpoint, (void)deadline_us;
	if (t.engine_down)
		return wasd_fail(err, WASD_EBUSY, "the conversion's process ended");
	if (kernels && wasd_json_str(kernels, "layer", &layer) && strcmp(layer, "conv1"))
		return wasd_fail_at(err, WASD_ENOTFOUND, "/layer", "no layer %s", layer);
	if (wasd_json_i64(kernels, "output", &output) && output > 3)
		return wasd_fail_at(err, WASD_EINVAL, "/output", "layer conv1 has outputs 0 to 3");
	*out = kernels ? cJSON_Duplicate(kernels, true) : cJSON_Parse("{\"alive\":4}");
	return WASD_OK;
}

static void fake_profile_queued(struct profiles *self, const char *id)
{
	(void)self, (void)id;
	t.searches++;
}
static void fake_profile_gone(struct profiles *self, const char *checkpoint, const char *id)
{
	(void)self, (void)checkpoint;
	snprintf(t.profile_gone, sizeof t.profile_gone, "%s", id);
}

static bool fake_profile_progress(struct profiles *self, const char *id, int64_t *done, int64_t *of, double *eta_s)
{
	(void)self, (void)id;
	*done = 3;
	*of = 40;
	*eta_s = 12;
	return true;
}

static cJSON *fake_profile_live(struct profiles *self, const char *job)
{
	(void)self, (void)job;
	return NULL;
}

/* The only blob is ffff...; its content is a string that import takes for its bytes. It lacks a tensor of a model
 * {"arch":"resnet18"}. */
static const char *const test_blob = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

static enum wasd_status fake_blob_put(const char *self, const struct api_upload *file, bool *existed,
                                      struct wasd_err *err)
{
	(void)self, (void)err;
	*existed = !strcmp(file->sha256, test_blob);
	return WASD_OK;
}

static enum wasd_status fake_blob_open(const char *self, const char *sha256, struct api_file *out, struct wasd_err *err)
{
	(void)self;
	if (strcmp(sha256, test_blob))
		return wasd_fail(err, WASD_ENOTFOUND, "no blob");
	*out = (struct api_file){.bytes = 5};
	snprintf(out->sha256, sizeof out->sha256, "%s", sha256);
	return wasd_memfd_sealed("test", "bytes", 5, &out->fd, err);
}

static enum wasd_status fake_import(struct convert *self, const char *sha256, const cJSON *how, bool dry,
                                    int64_t deadline_us, char id[32], struct wasd_err *err)
{
	const char *arch = "";
	char sha[WASD_SHA256_HEX];
	(void)self, (void)deadline_us;
	id[0] = 0;
	if (strcmp(sha256, test_blob))
		return wasd_fail(err, WASD_ENOTFOUND, "no blob");
	if (!wasd_json_get(how, "model"))
		return wasd_fail_at(err, WASD_EINVAL, "/model", "/model: not in the file's metadata; give it with the request");
	if (!wasd_json_get(how, "input"))
		return wasd_fail_at(err, WASD_EINVAL, "/input", "/input: not in the file's metadata; give it with the request");
	wasd_json_str(wasd_json_get(how, "model"), "arch", &arch);
	if (!strcmp(arch, "resnet18"))
		return wasd_fail_at(err, WASD_EINVAL, "conv.weight", "conv.weight: missing from the file");
	if (dry)
		return WASD_OK;
	wasd_sha256_of("bytes", 5, sha);
	struct storage_ckpt_in in = {.data = "bytes",
	                             .bytes = 5,
	                             .sha256 = sha,
	                             .reason = "import",
	                             .info = "{\"arch\":\"lenet\",\"was\":false}",
	                             .metrics_json = "{}"};
	return storage_ckpt_store(t.db, &in, id, err);
}

/* Loads what the row wants: at once, unless t.not_ready. */
static enum wasd_status fake_deployment_changed(struct serving *self, const char *name, struct wasd_err *err)
{
	static const char *const way[] = {"loading", "warming", "ready"};
	struct storage_deployment d, now;
	(void)self;
	snprintf(t.changed, sizeof t.changed, "%s", name);
	for (size_t i = 0; i < 3 && !t.not_ready; i++)
		if (storage_deployment_state(t.db, name, way[i], NULL, err))
			return err->status;
	if (t.not_ready || storage_deployment_get(t.db, name, &d, NULL))
		return WASD_OK;
	enum wasd_status st = d.wanted ? storage_deployment_swap(t.db, name, d.wanted, &now, err) : WASD_OK;
	if (d.wanted && !st)
		storage_deployment_done(&now);
	storage_deployment_done(&d);
	return st;
}

static enum wasd_status fake_deployment_tuned(struct serving *self, const char *name, struct wasd_err *err)
{
	(void)self, (void)err;
	snprintf(t.last_name, sizeof t.last_name, "%s", name);
	return WASD_OK;
}

static void fake_deployment_settle(struct serving *self)
{
	(void)self;
}

static enum wasd_status fake_deployment_gone(struct serving *self, const char *name, int64_t *in_flight,
                                             struct wasd_err *err)
{
	(void)self, (void)name, (void)err;
	*in_flight = t.unanswered;
	return WASD_OK;
}

static bool fake_deployment_live(struct serving *self, const char *name, struct api_live *out)
{
	struct storage_deployment d;
	(void)self;
	if (storage_deployment_get(t.db, name, &d, NULL))
		return false;
	*out = (struct api_live){.generation = d.generation,
	                         .version = d.version,
	                         .ready = !strcmp(d.state, "ready") && strncmp(name, "aside", 5),
	                         .suspended = !strncmp(name, "aside", 5),
	                         .retry_s = 17};
	snprintf(out->mode, sizeof out->mode, "%s", d.mode);
	snprintf(out->pick.mode, sizeof out->pick.mode, "%s", wasd_mode_chooses(d.mode) ? "aom" : d.mode);
	snprintf(out->bundle, sizeof out->bundle, "%.63s", d.checkpoint);
	storage_deployment_done(&d);
	return true;
}

/* A deployment named plain... was trained without WAS. Images of 1x2x2, three classes. Ready profiles are loaded,
 * except "unloaded". */
static cJSON *fake_info(struct serving *self, const char *name)
{
	struct storage_deployment d;
	struct storage_profile_list l = {0};
	char mode[WASD_MODE_LEN];
	(void)self;
	cJSON *j = cJSON_Parse(
		!strncmp(name, "plain", 5) ?
			"{\"arch\":\"lenet\",\"input\":[1,2,2],\"classes\":[\"zero\",\"one\",\"two\"],\"max_batch\":4,\"modes\":{\"aom\":{\"macs\":100,\"bytes\":8}}}" :
			"{\"arch\":\"lenet\",\"input\":[1,2,2],\"classes\":[\"zero\",\"one\",\"two\"],\"max_batch\":4,\"modes\":{\"aom\":{\"macs\":100,\"bytes\":8},\"dom\":{\"macs\":70,\"bytes\":8}}}");
	if (storage_deployment_get(t.db, name, &d, NULL))
		return j;
	storage_profile_list(t.db, d.checkpoint, "ready", &l, NULL);
	for (size_t i = 0; i < l.n; i++) {
		snprintf(mode, sizeof mode, "dom:%s", l.items[i].name);
		if (strcmp(l.items[i].name, "unloaded"))
			cJSON_AddItemToObject(cJSON_GetObjectItemCaseSensitive(j, "modes"), mode,
			                      cJSON_Parse("{\"macs\":40,\"bytes\":8}"));
	}
	storage_profile_list_done(&l);
	storage_deployment_done(&d);
	return j;
}

static struct api_facts *fake_facts(struct serving *self, const char *name)
{
	return api_facts_create(fake_info(self, name));
}

static enum wasd_status fake_switch(struct serving *self, const char *name, const char *mode, int64_t expect,
                                    const char *actor, const char *reason, struct api_live *now,
                                    struct api_live *before, int64_t *swap_us, int64_t *in_flight_old,
                                    char audit_id[64], struct wasd_err *err)
{
	struct storage_mode_in in = {name, mode, actor, reason, expect < 0 ? 0 : expect};
	struct storage_mode_out out = {0};
	(void)self;
	if (!strncmp(name, "plain", 5) && !strcmp(mode, "dom"))
		return wasd_fail(err, WASD_EBUSY, "there is no dom bundle");
	if (!strcmp(mode, "dom:unloaded"))
		return wasd_fail(err, WASD_EBUSY, "%s has no %s bundle loaded", name, mode);
	if (storage_deployment_mode(t.db, &in, &out, err))
		return err->status;
	*now = (struct api_live){.generation = out.generation, .ready = true};
	snprintf(now->mode, sizeof now->mode, "%s", mode);
	*before = *now;
	snprintf(before->mode, sizeof before->mode, "%s", out.previous);
	snprintf(audit_id, 64, "%s", out.audit_id);
	*swap_us = 7;
	*in_flight_old = 0;
	return WASD_OK;
}

/* Logits of image i: (i, 2i+1, 0.5), one row per image. An encoded image whose second byte is 'B' is broken. */
static enum wasd_status fake_infer(struct api_call *call, struct wasd_err *err)
{
	const char *type = "", *mode = "";
	int64_t n = 0;
	float rows[3 * 256];
	char *text = wasd_json_print(call->json);
	snprintf(t.question, sizeof t.question, "%s", text);
	wasd_free(text);
	t.question_bin = call->bin_len;
	memcpy(t.question_data, call->bin, call->bin_len < sizeof t.question_data ? call->bin_len : sizeof t.question_data);
	if (t.engine_down)
		return wasd_fail(err, WASD_EBUSY, "the infer process is being started again");
	wasd_json_str(call->json, "type", &type);
	wasd_json_str(call->json, "mode", &mode);
	const cJSON *sizes = wasd_json_get(call->json, "sizes");
	if (sizes)
		n = cJSON_GetArraySize(sizes);
	else
		wasd_json_i64(call->json, "n", &n);
	if (sizes && call->bin_len > 8 && ((const char *)call->bin)[8] == 'B')
		return wasd_fail_at(err, WASD_ECORRUPT, "/images/0", "PNG: the data end in the middle of a row");
	for (int64_t i = 0; i < n; i++)
		rows[3 * i] = (float)i, rows[3 * i + 1] = (float)(2 * i + 1), rows[3 * i + 2] = 0.5f;
	char head[256];
	snprintf(
		head, sizeof head,
		"{\"type\":\"inferred\",\"n\":%lld,\"classes\":3,\"macs\":%d,\"timing_us\":{\"decode\":1,\"queue\":2,\"compute\":3}}",
		(long long)n, !strcmp(mode, "dom") ? 70 : 100);
	if (strcmp(type, "classify")) {
		reply(call, head, rows, (size_t)n * 3 * sizeof(float));
		return WASD_OK;
	}
	reply(call, head, NULL, 0);
	cJSON *results = cJSON_AddArrayToObject(call->reply, "results");
	for (int64_t i = 0; i < n; i++)
		cJSON_AddItemToArray(results, cJSON_Parse("{\"top\":[{\"index\":1,\"label\":\"one\",\"p\":0.75}]}"));
	return WASD_OK;
}

static cJSON *fake_stats(struct serving *self, const char *name)
{
	(void)self, (void)name;
	return cJSON_Parse("{\"last_inference\":7,\"inference_count\":3,\"execution_count\":2}");
}

static cJSON *fake_window(struct serving *self, const char *name, int64_t seconds)
{
	(void)self, (void)name;
	char text[80];
	snprintf(text, sizeof text, "{\"window\":{\"seconds\":%lld,\"modes\":{}},\"shadow\":null}", (long long)seconds);
	return cJSON_Parse(text);
}

static bool fake_example(struct serving *self, const char *name, int64_t id, struct wasd_buf *out, const char **type)
{
	(void)self, (void)name;
	*type = "image/png";
	return id == 1 && wasd_buf_append(out, "\x89PNG", 4);
}

static bool fake_begin(struct serving *self, const char *name, const struct api_live *live)
{
	(void)self, (void)name, (void)live;
	t.in_flight++;
	return true;
}
static void fake_end(struct serving *self, const char *name, const struct api_live *live, bool ok)
{
	(void)self, (void)name, (void)live, (void)ok;
	t.in_flight--;
}
static cJSON *fake_would(struct sched *self, const cJSON *spec)
{
	(void)self, (void)spec;
	return cJSON_Parse(
		"{\"threads\":2,\"running\":1,\"queue\":{\"name\":\"default\",\"position\":3,\"reason\":\"workers_busy\",\"message\":\"1 of 1 workers are busy\",\"eta_s\":60}}");
}

static enum wasd_status fake_sizes(struct estimates *self, const cJSON *spec, const char *dataset, int64_t threads,
                                   cJSON **out, struct wasd_err *err)
{
	(void)self, (void)spec, (void)dataset;
	CHECK_INT(threads, 2);
	if (t.no_sizes)
		return wasd_fail_at(err, t.no_sizes, "/train/batch", "no sizes");
	*out = cJSON_Parse(
		"{\"params\":1000,\"macs\":{\"aom\":2000,\"dom\":1500},\"memory\":{\"parameters\":4000,\"program\":10000000},"
		"\"images\":{\"train\":90,\"val\":10,\"test\":20,\"evaluated\":300,\"epoch\":90},\"checkpoint_bytes\":8000,\"epochs\":10,\"steps\":9}");
	return *out ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
}

static void fake_machine(struct wasd_daemon *self, struct wasd_machine *out)
{
	(void)self;
	*out = (struct wasd_machine){.affinity = 4,
	                             .processors = 4,
	                             .memory = 64 << 20,
	                             .available = t.little_memory ? 1 << 20 : 32 << 20};
}

/* Times of a step; the question is kept in t.question. */
static enum wasd_status fake_times(struct api_call *call, struct wasd_err *err)
{
	char *text = wasd_json_print(call->json);
	snprintf(t.question, sizeof t.question, "%s", text);
	wasd_free(text);
	if (t.no_times)
		return wasd_fail(err, WASD_EBUSY, "8 other measurements are waiting");
	call->reply = cJSON_Parse("{\"batch\":10,\"steps\":7,\"step_s\":0.5,\"image_s\":0.01}");
	return WASD_OK;
}

static cJSON *fake_system(struct wasd_daemon *self)
{
	(void)self;
	return cJSON_Parse("{\"workers\":[]}");
}
static const cJSON *fake_caps(struct describer *self)
{
	(void)self;
	return t.caps;
}

/* Refuses a convolution "nowhere", a layer of type "nonsense" and a draw below a tenth; accepts everything else,
 * with a warning for a job with a limit. */
static enum wasd_status fake_describe(struct describer *self, const cJSON *request, cJSON **out, struct wasd_err *err)
{
	const cJSON *one;
	const char *type;
	char *text = wasd_json_print(request);
	int i = 0;
	(void)self;
	snprintf(t.question, sizeof t.question, "%s", text ? text : "");
	wasd_free(text);
	if (t.engine_down)
		return wasd_fail(err, WASD_EINTERNAL, "the engine does not start");
	char at[40], was[32] = "/was";
	double budget;
	const cJSON *spec = wasd_json_get(request, "spec") ? wasd_json_get(request, "spec") : request;
	const cJSON *layers = wasd_json_get(spec_was(spec, was), "layers");
	if (cJSON_IsString(layers) && !strcmp(layers->valuestring, "nowhere.*"))
		return wasd_fail_at(err, WASD_EINVAL, strcat(was, "/layers"), "not a convolution, nor a pattern");
	cJSON_ArrayForEach(one, layers)
		if (!strcmp(one->valuestring, "nowhere"))
			return wasd_fail_at(err, WASD_EINVAL, strcat(was, "/layers/0"),
			                    "\"nowhere\" is not a convolution of this network");
	cJSON_ArrayForEach(one, wasd_json_get(request, "profiles")) {
		snprintf(at, sizeof at, "/profiles/%d/budget", i++);
		if (wasd_json_num(one, "budget", &budget) && budget < 0.1)
			return wasd_fail_at(err, WASD_ENOTFOUND, at, "below the cheapest draw");
	}
	i = 0;
	cJSON_ArrayForEach(one, wasd_json_get(wasd_json_get(spec, "model"), "layers")) {
		snprintf(at, sizeof at, "/model/layers/%d/type", i++);
		if (wasd_json_str(one, "type", &type) && !strcmp(type, "nonsense"))
			return wasd_fail_at(err, WASD_EINVAL, at, "unknown layer \"nonsense\"");
	}
	int64_t head = 512;
	if (wasd_json_i64(wasd_json_get(spec, "model"), "head", &head) && head != 512 && head != 4096)
		return wasd_fail_at(err, WASD_EINVAL, "/model/head", "must be one of 512, 4096");
	bool limited = wasd_json_get(wasd_json_get(spec, "data"), "limit");
	if (spec != request)
		*out = cJSON_Parse(
			!limited ? "{\"warnings\":[]}" :
					   "{\"warnings\":[{\"code\":\"few_validation_images\",\"message\":\"3 images are held out\"}]}");
	else
		*out = cJSON_Parse("{\"arch\":\"x\",\"layers\":[{\"op\":\"input\"}]}");
	return *out ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
}

static bool fake_admit(struct serving *self, const char *name, const struct api_request *q, struct api_live *out)
{
	(void)q;
	return fake_deployment_live(self, name, out);
}

static enum wasd_status fake_traffic(struct serving *self, const struct storage_traffic_in *in,
                                     struct storage_deployment *out, struct wasd_err *err)
{
	(void)self;
	return storage_deployment_traffic(t.db, in, out, err);
}

static cJSON *fake_traffic_now(struct serving *self, const char *name)
{
	(void)self;
	(void)name;
	return cJSON_Parse("{\"mode\":\"aom\"}");
}

static bool fake_ready(struct wasd_daemon *self)
{
	(void)self;
	return !t.not_ready;
}
static cJSON *fake_serving_health(struct serving *self)
{
	(void)self;
	return cJSON_Parse(t.serving_health ? t.serving_health : "{\"up\":true,\"suspended\":[]}");
}

__attribute__((unused)) static void setup(void)
{
	struct wasd_err err = {0};
	memset(&t, 0, sizeof t);
	check_temp(t.dir, sizeof t.dir, "wasd-api");
	if (!mkdtemp(t.dir) ||
	    storage_open(t.dir, &(struct storage_opts){.ballast_bytes = 4096, .low_water_bytes = 1}, &t.db, &err)) {
		printf("# cannot open storage: %s\n", err.msg);
		exit(1);
	}
	t.caps = cJSON_Parse(test_caps);
	t.ctx = (struct api_ctx){
		.db = t.db,
		.metrics = metrics_create(),
		.jobs = {.queued = fake_queued,
	             .cancel = fake_cancel,
	             .change = fake_change,
	             .live = fake_live,
	             .would = fake_would},
		.estimates = {.sizes = fake_sizes},
		.profiles = {.queued = fake_profile_queued,
	                 .gone = fake_profile_gone,
	                 .progress = fake_profile_progress,
	                 .live = fake_profile_live},
		.data = {.ingest = fake_ingest, .synthesize = fake_synthesize, .preview = fake_preview, .gone = fake_gone},
		.blobs = {.put = fake_blob_put, .open = fake_blob_open},
		.reports = {.get = fake_report},
		.merges = {.begin = fake_merge_begin,
	               .get = fake_merge_get,
	               .list = fake_merge_list,
	               .forget = fake_merge_forget},
		.archives = {.begin = fake_archive_begin,
	                 .get = fake_archive_get,
	                 .list = fake_archive_list,
	                 .open = fake_archive_open,
	                 .forget = fake_archive_forget},
		.files = {.export_ckpt = fake_export, .import_blob = fake_import, .inspect = fake_inspect},
		.serving = {.changed = fake_deployment_changed,
	                .tuned = fake_deployment_tuned,
	                .settle = fake_deployment_settle,
	                .gone = fake_deployment_gone,
	                .live = fake_deployment_live,
	                .admit = fake_admit,
	                .traffic = fake_traffic,
	                .traffic_now = fake_traffic_now,
	                .facts = fake_facts,
	                .info = fake_info,
	                .switch_mode = fake_switch,
	                .stats = fake_stats,
	                .window = fake_window,
	                .example = fake_example,
	                .begin = fake_begin,
	                .end = fake_end,
	                .health = fake_serving_health},
		.engine = {.capabilities = fake_caps, .describe = fake_describe},
		.system = {.report = fake_system, .ready = fake_ready, .machine = fake_machine},
		.webhooks = {.changed = fake_hook_changed, .test = fake_hook_test},
	};
}

__attribute__((unused)) static void teardown(void)
{
	CHECK_INT(t.in_flight, 0);
	storage_close(t.db);
	metrics_destroy(t.ctx.metrics);
	cJSON_Delete(t.caps);
	cJSON_Delete(t.merge);
	cJSON_Delete(t.archive);
	wasd_remove_tree(t.dir, NULL);
}

/* ---- requests ---- */

struct answer {
	enum api_result result;
	struct api_response r;
	cJSON *json;
	bool taken;
};

__attribute__((unused)) static void answer_done(struct answer *a)
{
	cJSON_Delete(a->json);
	api_response_done(&a->r);
	*a = (struct answer){0};
}

static void decode(char *s)
{
	char *out = s;
	for (; *s; s++) {
		unsigned v;
		if (*s == '%' && sscanf(s + 1, "%2x", &v) == 1)
			*out++ = (char)v, s += 2;
		else
			*out++ = *s;
	}
	*out = 0;
}

/* Options of a request besides method, URL and body. */
struct extra {
	const char *headers[12]; /* name, value, ..., NULL */
	const struct api_upload *uploads;
	size_t n_uploads;
	int waited;
	bool late;
	int64_t waited_us;
};

/* url may have a query string. */
static struct answer send_with(const char *method, const char *url, const void *body, size_t len, struct extra x)
{
	struct answer a = {0};
	struct api_pair query[16], headers[16];
	char text[2048], allow[64], *next;
	bool taken = false;
	int64_t now = wasd_mono_us();
	struct api_request q = {.method = method,
	                        .body = body,
	                        .body_len = len,
	                        .query = query,
	                        .headers = headers,
	                        .request_id = "req_test",
	                        .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	                        .actor = "tester",
	                        .uploads = x.uploads,
	                        .n_uploads = x.n_uploads,
	                        .uploads_taken = &taken,
	                        .waited = x.waited,
	                        .first_us = now - x.waited_us,
	                        .deadline_us = now + (x.late ? 0 : 30000000)};
	snprintf(text, sizeof text, "%s", url);
	next = strchr(text, '?');
	if (next)
		*next++ = 0;
	decode(text);
	q.path = text;
	while (next && *next) {
		char *pair = next, *eq;
		next = strchr(pair, '&');
		if (next)
			*next++ = 0;
		eq = strchr(pair, '=');
		if (eq)
			*eq++ = 0;
		decode(pair);
		if (eq)
			decode(eq);
		query[q.n_query++] = (struct api_pair){pair, eq ? eq : ""};
	}
	for (size_t i = 0; i + 1 < 12 && x.headers[i]; i += 2)
		headers[q.n_headers++] = (struct api_pair){x.headers[i], x.headers[i + 1]};
	api_response_init(&a.r);
	const struct api_route *rt = api_route_find(method, q.path, allow);
	if (!rt)
		api_send_unrouted(&q, &a.r, allow);
	else
		a.result = api_handle(&t.ctx, rt, &q, &a.r);
	if (a.result == API_ASK) { /* as the exchange does */
		struct api_ask *ask = a.r.ask;
		t.priority = ask->priority;
		t.waits_us = ask->deadline_us - q.first_us;
		ask->computed_with = ask->images;
		ask->status = ask->timing ? fake_times(&ask->call, &ask->err) : fake_infer(&ask->call, &ask->err);
		ask->decode_us = 1, ask->process_queue_us = 2, ask->compute_us = 3;
		wasd_json_i64(ask->call.reply, "macs", &ask->macs);
		ask->finish(&t.ctx, &q, &a.r, ask);
		a.result = API_DONE;
	}
	a.taken = taken;
	wasd_buf_cstr(&a.r.body); /* terminates the body so that tests can print it */
	if (a.r.body.len && a.r.content_type && strstr(a.r.content_type, "json") && !strstr(a.r.content_type, "ndjson")) {
		struct wasd_err err = {0};
		CHECK_MSG(!wasd_json_parse(a.r.body.data, a.r.body.len, WASD_JSON_BULK, &a.json, &err),
		          "%s %s: the answer is not strict JSON: %s", method, url, err.msg);
	}
	return a;
}

__attribute__((unused)) static struct answer send(const char *method, const char *url, const char *body)
{
	return send_with(method, url, body, body ? strlen(body) : 0,
	                 (struct extra){.headers = {body ? "content-type" : NULL, "application/json", NULL}});
}

__attribute__((unused)) static const char *str(const struct answer *a, const char *name)
{
	const char *s = "(absent)";
	wasd_json_str(a->json, name, &s);
	return s;
}

__attribute__((unused)) static int64_t num(const struct answer *a, const char *name)
{
	int64_t v = -999;
	wasd_json_i64(a->json, name, &v);
	return v;
}

/* A member by its path: "items/0/name". */
__attribute__((unused)) static const cJSON *at(const cJSON *j, const char *path)
{
	char copy[128], *save = NULL;
	snprintf(copy, sizeof copy, "%s", path);
	for (char *p = strtok_r(copy, "/", &save); p && j; p = strtok_r(NULL, "/", &save))
		j = cJSON_IsArray(j) ? cJSON_GetArrayItem(j, atoi(p)) : wasd_json_get(j, p);
	return j;
}

__attribute__((unused)) static const char *at_str(const struct answer *a, const char *path)
{
	const cJSON *v = at(a->json, path);
	return cJSON_IsString(v) ? v->valuestring : "(no string)";
}

__attribute__((unused)) static double at_num(const struct answer *a, const char *path)
{
	const cJSON *v = at(a->json, path);
	return cJSON_IsNumber(v) ? v->valuedouble : -999;
}

/* Sends the request, checks the status, discards the answer. */
__attribute__((unused)) static void expect(int status, const char *method, const char *url, const char *body)
{
	struct answer a = send(method, url, body);
	CHECK_MSG(a.r.status == status, "%s %s: status %d, want %d: %.300s", method, url, a.r.status, status,
	          a.r.body.len ? a.r.body.data : "");
	answer_done(&a);
}

/* ---- objects for requests ---- */

/* Creates a dataset that is ready. */
__attribute__((unused)) static void make_dataset(const char *name, const char *info)
{
	struct storage_dataset d;
	struct wasd_err err = {0};
	char source[80], path[100];
	bool existing;
	snprintf(source, sizeof source, "source-of-%s", name);
	snprintf(path, sizeof path, "data/%s.wds", name);
	CHECK_MSG(!storage_dataset_begin(t.db, name, NULL, source, "t", &d, &existing, &err), "%s", err.msg);
	CHECK_MSG(!storage_dataset_ready(t.db, d.id, "cifar10", "digest", path, info, 1000, &err), "%s", err.msg);
	storage_dataset_done(&d);
}

/* Submits {"dataset":"data","model":{"arch":ARCH}} and returns the id. */
__attribute__((unused)) static void make_job(const char *arch, char id[64])
{
	char body[200];
	snprintf(body, sizeof body, "{\"dataset\":\"data\",\"model\":{\"arch\":\"%s\"},\"train\":{\"epochs\":2}}", arch);
	struct answer a = send("POST", "/v1/jobs", body);
	CHECK_MSG(a.r.status == 201, "status %d: %s", a.r.status, a.r.body.len ? a.r.body.data : "");
	snprintf(id, 64, "%s", str(&a, "id"));
	answer_done(&a);
}

/* Runs a job: metrics of two epochs, a checkpoint after each, and, with `end`, to completion. Writes the last
 * checkpoint's id to ckpt. */
__attribute__((unused)) static void run_job(const char *id, bool end, char ckpt[32])
{
	struct wasd_err err = {0};
	int64_t attempt;
	char *resume, sha[WASD_SHA256_HEX];
	CHECK_MSG(!storage_attempt_start(t.db, id, &attempt, &resume, &err), "%s", err.msg);
	wasd_free(resume);
	CHECK_MSG(!storage_attempt_running(t.db, id, attempt, 1234, "{\"isa\":\"avx2\"}", &err), "%s", err.msg);
	for (int e = 1; e <= 2; e++) {
		struct storage_metric m[] = {{"train_loss", e == 2 ? NAN : 1.5},
		                             {"val_acc_aom", 0.25 * e},
		                             {"val_acc_dom", 0.125 * e},
		                             {"images_per_s", 100}};
		char data[128];
		snprintf(data, sizeof data, "checkpoint of epoch %d of %s", e, id);
		CHECK_MSG(!storage_epoch(t.db, id, attempt, e, 10 * e, 1700000000000 + e, m, 4, "{\"epoch\":1,\"epochs\":2}",
		                         &err),
		          "%s", err.msg);
		wasd_sha256_of(data, strlen(data), sha);
		struct storage_ckpt_in in =
			{.job = id,
		     .attempt = attempt,
		     .epoch = e,
		     .step = 10 * e,
		     .data = data,
		     .bytes = strlen(data),
		     .sha256 = sha,
		     .reason = "epoch",
		     .info = "{\"arch\":\"resnet18\",\"was\":{},\"input\":[3,32,32],\"classes\":[\"zero\",\"one\",\"two\"]}",
		     .metrics = m,
		     .n_metrics = 4};
		CHECK_MSG(!storage_ckpt_store(t.db, &in, ckpt, &err), "%s", err.msg);
	}
	if (!end)
		return;
	struct storage_exit x = {.outcome = "completed"};
	CHECK_MSG(!storage_attempt_end(t.db, id, attempt, &x, &(struct storage_move){.to = "completed", .reason = "done"},
	                               &err),
	          "%s", err.msg);
}

#endif
