/* base/protocol.c - the message table (wasd/protocol.h), and the check of frames against it. */
#include "wasd/protocol.h"
#include "wasd/tensor.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const role_names[WASD_ROLES + 1] = {
	[WASD_ROLE_TRAIN] = "train",     [WASD_ROLE_INFER] = "infer",     [WASD_ROLE_INGEST] = "ingest",
	[WASD_ROLE_CONVERT] = "convert", [WASD_ROLE_PROFILE] = "profile", [WASD_ROLE_CHECK] = "check",
};

const char *wasd_role_name(enum wasd_role r)
{
	return role_names[r];
}

bool wasd_role_from_name(const char *name, enum wasd_role *out)
{
	for (int i = 0; i < WASD_ROLES; i++)
		if (!strcmp(name, role_names[i])) {
			*out = (enum wasd_role)i;
			return true;
		}
	return false;
}

/* ---- the table ---- */

enum {
	TRAIN = 1 << WASD_ROLE_TRAIN,
	INFER = 1 << WASD_ROLE_INFER,
	INGEST = 1 << WASD_ROLE_INGEST,
	CONVERT = 1 << WASD_ROLE_CONVERT,
	PROFILE = 1 << WASD_ROLE_PROFILE,
	CHECK = 1 << WASD_ROLE_CHECK,
	ALL = TRAIN | INFER | INGEST | CONVERT | PROFILE | CHECK,
};
#define INTEGER_MAX 9007199254740991.0
/* clang-format off */
#define STRING(n) {.name = n, .type = WASD_MEMBER_STRING}
#define NAME(n) {.name = n, .type = WASD_MEMBER_STRING, .min = 1, .max = 255}
#define CHOICE(n, list) {.name = n, .type = WASD_MEMBER_STRING, .choices = list}
#define INTEGER(n, lo, hi) {.name = n, .type = WASD_MEMBER_INTEGER, .min = lo, .max = hi}
#define COUNT(n) INTEGER(n, 0, INTEGER_MAX)
#define NUMBER(n) {.name = n, .type = WASD_MEMBER_NUMBER, .min = -INFINITY, .max = INFINITY}
#define BOOLEAN(n) {.name = n, .type = WASD_MEMBER_BOOLEAN}
#define OBJECT(n) {.name = n, .type = WASD_MEMBER_OBJECT}
#define ARRAY(n, lo, hi) {.name = n, .type = WASD_MEMBER_ARRAY, .min = lo, .max = hi}
#define ANY(n) {.name = n, .type = WASD_MEMBER_ANY}
#define OPTIONAL(t, n, ...) {.name = n, .type = WASD_MEMBER_##t, .optional = true, .null_ok = true, __VA_ARGS__}
/* clang-format on */
#define FRAME(n) INTEGER(n, 1, UINT32_MAX)
#define RE FRAME("re")
#define BYTES INTEGER("bytes", 1, INTEGER_MAX)
/* clang-format off */
#define SHA256 {.name = "sha256", .type = WASD_MEMBER_STRING, .min = 64, .max = 64}
/* clang-format on */
#define THREADS INTEGER("threads", 0, WASD_THREADS_MAX)

static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const train_phases[] = {WASD_TRAIN_PHASES, NULL};
static const char *const train_ends[] = {"done", "early_stopped", "cancelled", "paused", NULL};
static const char *const train_failures[] = {"error", "nan_loss", "bad_data", "oom", NULL};
static const char *const checkpoint_reasons[] = {"epoch", "cancel", "final", NULL};
static const char *const splits[] = {"train", "test", "val", NULL};

static const struct wasd_message rows[] = {
	/* ---- every engine process. stderr is a pipe to the daemon, used only for crashes; the end of the stream ends
     * the process at once ---- */
	{"hello", ALL, WASD_ENGINE,
     .members = {CHOICE("role", role_names), INTEGER("pid", 1, INT32_MAX), NAME("version"), NAME("build"),
                 OBJECT("fingerprint")}},
	{"heartbeat", ALL, WASD_ENGINE, .answer = NULL},
	{"log", ALL, WASD_ENGINE, .members = {CHOICE("level", levels), STRING("text")}},
	/* The answer to a question that failed. code: the API's error code, if the status is not specific enough. */
	{"error", INFER | INGEST | CONVERT | CHECK, WASD_ENGINE,
     .members = {RE, NAME("status"), STRING("message"), OPTIONAL(STRING, "code"), OPTIONAL(STRING, "pointer")}},
	{"cancel", TRAIN | INGEST | PROFILE | CHECK, WASD_DAEMON, .answer = NULL},

	/* ---- wasd-engine train: one attempt of a job. The file: a checkpoint to resume from (with "resume") or to
     * initialise the weights from. until: the attempt pauses at the end of this epoch ("done" with reason paused) ----
     */
	{"start", TRAIN, WASD_DAEMON, .payload = WASD_PAYLOAD_FILE_OR_NONE,
     .members = {NAME("job"), INTEGER("attempt", 1, INTEGER_MAX), OBJECT("spec"), STRING("dataset"), THREADS,
                 OPTIONAL(INTEGER, "nice", .min = -20, .max = 19),
                 OPTIONAL(INTEGER, "until", .min = 1, .max = INT32_MAX),
                 OPTIONAL(INTEGER, "bytes", .min = 1, .max = INTEGER_MAX),
                 OPTIONAL(STRING, "sha256", .min = 64, .max = 64), OPTIONAL(OBJECT, "resume"),
                 OPTIONAL(BOOLEAN, "cgroup")}},
	/* The metrics or the checkpoint of frame seq are durable. The engine continues meanwhile, with at most one of
     * each unacknowledged. */
	{"ack", TRAIN, WASD_DAEMON, .members = {FRAME("seq")}},
	{"started", TRAIN, WASD_ENGINE,
     .members = {COUNT("params"), COUNT("macs"), COUNT("epochs"), COUNT("steps_per_epoch"), COUNT("epoch"),
                 OPTIONAL(INTEGER, "threads", .min = 1, .max = WASD_THREADS_MAX), ARRAY("classes", 0, 0), ANY("was")}},
	/* At most four per second, and whenever the phase changes; also before "started". Members left out keep their
     * value. step of steps: training batches of the epoch. */
	{"progress", TRAIN, WASD_ENGINE,
     .members = {CHOICE("phase", train_phases), OPTIONAL(INTEGER, "phase_done", .max = INTEGER_MAX),
                 OPTIONAL(INTEGER, "phase_total", .max = INTEGER_MAX), OPTIONAL(INTEGER, "epoch", .max = INTEGER_MAX),
                 OPTIONAL(INTEGER, "epochs", .max = INTEGER_MAX), OPTIONAL(INTEGER, "step", .max = INTEGER_MAX),
                 OPTIONAL(INTEGER, "steps", .max = INTEGER_MAX),
                 OPTIONAL(NUMBER, "img_per_s", .min = -INFINITY, .max = INFINITY),
                 OPTIONAL(NUMBER, "eta_s", .min = -INFINITY, .max = INFINITY),
                 OPTIONAL(NUMBER, "loss", .min = -INFINITY, .max = INFINITY)}},
	/* points: [[step of the job, epoch, mean loss of the batches since the previous point, learning rate of the step,
     * images a second since the previous point], ...] in order. The first message comes at once, then about one per
     * second; always before the metrics and checkpoints that follow. */
	{"losses", TRAIN, WASD_ENGINE, .members = {ARRAY("points", 1, WASD_LOSSES_MAX)}},
	/* The numbers of one epoch, sent before its checkpoint. null: NaN or infinite, "nonfinite" says which. (job, epoch,
     * name) is the key: sending them again changes nothing. images: those that this process has trained in it. */
	{"metrics", TRAIN, WASD_ENGINE,
     .members = {COUNT("epoch"), COUNT("step"), OBJECT("values"), OPTIONAL(OBJECT, "nonfinite"),
                 OPTIONAL(INTEGER, "images", .max = INTEGER_MAX)}},
	/* Warnings of the run (wasd/train.h); a condition that persists is reported every epoch. */
	{"warning", TRAIN, WASD_ENGINE, .members = {NAME("code"), COUNT("epoch"), STRING("message")}},
	{"checkpoint", TRAIN, WASD_ENGINE, .payload = WASD_PAYLOAD_FILE,
     .members = {COUNT("epoch"), COUNT("step"), BYTES, SHA256, CHOICE("reason", checkpoint_reasons), OBJECT("metrics"),
                 OBJECT("info")}},
	{"done", TRAIN, WASD_ENGINE, .members = {CHOICE("reason", train_ends), COUNT("epoch")}},
	{"failed", TRAIN, WASD_ENGINE,
     .members = {CHOICE("reason", train_failures), NAME("status"), STRING("message"), OPTIONAL(STRING, "pointer")}},

	/* ---- wasd-engine infer: the bundles of all deployments. A request names its bundle and mode, so a switch is just
     * a pointer swap in the daemon ---- */
	{"load",
     INFER,
     WASD_DAEMON,
     "loaded",
     WASD_PAYLOAD_FILE,
     {NAME("bundle"), BYTES, SHA256, OPTIONAL(INTEGER, "threads", .max = WASD_THREADS_MAX)}},
	{"loaded", INFER, WASD_ENGINE,
     .members = {RE, NAME("bundle"), NAME("arch"), ARRAY("input", 3, 3), OPTIONAL(STRING, "fit"),
                 OPTIONAL(STRING, "background"), OPTIONAL(STRING, "orientation"), OPTIONAL(OBJECT, "normalize"),
                 ARRAY("classes", 1, 0), INTEGER("max_batch", 1, 65536), OBJECT("modes")}},
	{"unload", INFER, WASD_DAEMON, "unloaded", .members = {NAME("bundle")}},
	{"unloaded", INFER, WASD_ENGINE, .members = {RE}},
	/* The file: the checkpoint, then the file of a mode that was made of it. The bundle then has the mode, replacing an
     * earlier one of that name. */
	{"profile",
     INFER,
     WASD_DAEMON,
     "profiled",
     WASD_PAYLOAD_FILE,
     {NAME("bundle"), NAME("mode"), BYTES, SHA256, INTEGER("profile_bytes", 1, INTEGER_MAX),
      OPTIONAL(INTEGER, "threads", .max = WASD_THREADS_MAX)}},
	{"profiled", INFER, WASD_ENGINE, .members = {RE, NAME("bundle"), NAME("mode"), COUNT("macs"), COUNT("bytes")}},
	{"unprofile", INFER, WASD_DAEMON, "unprofiled", .members = {NAME("bundle"), NAME("mode")}},
	{"unprofiled", INFER, WASD_ENGINE, .members = {RE}},
	/* Encoded images, stored back to back; sizes: the bytes of each. If one cannot be decoded, the answer is the
     * error bad_image at "/images/I", without results for the others. crops: for each image, how many crops of it were
     * computed, if the bundle's fit is "crops" and any has several; its result is of their mean logits. macs: of one
     * pass of one image. */
	{"classify",
     INFER,
     WASD_DAEMON,
     "classified",
     WASD_PAYLOAD_BULK,
     {NAME("bundle"), NAME("mode"), OPTIONAL(INTEGER, "k", .max = INTEGER_MAX), ARRAY("sizes", 1, 0)}},
	{"classified", INFER, WASD_ENGINE,
     .members = {RE, ARRAY("results", 0, 0), COUNT("macs"), OBJECT("timing_us"), OPTIONAL(ARRAY, "crops", .min = 1)}},
	/* n*c*h*w float32 LE, NCHW, normalised -> n*classes float32 logits. */
	{"infer",
     INFER,
     WASD_DAEMON,
     "inferred",
     WASD_PAYLOAD_BULK,
     {NAME("bundle"), NAME("mode"), INTEGER("n", 1, INTEGER_MAX)}},
	{"logits", INFER, WASD_DAEMON, "inferred", WASD_PAYLOAD_BULK, {NAME("bundle"), NAME("mode"), ARRAY("sizes", 1, 0)}},
	{"inferred", INFER, WASD_ENGINE, .payload = WASD_PAYLOAD_BULK,
     .members = {RE, COUNT("n"), COUNT("classes"), COUNT("macs"), OBJECT("timing_us"),
                 OPTIONAL(ARRAY, "crops", .min = 1)}},

	/* ---- wasd-engine ingest: one upload, or previews of datasets ---- */
	/* options, all optional: "size":N, "on_bad":"skip", "test_fraction":X, "split_seed":N, "names":"CP437", "fit",
     * "background", "orientation" */
	{"ingest", INGEST, WASD_DAEMON,
     .members = {NAME("name"), STRING("out"), OBJECT("options"), ARRAY("files", 1, 64), OBJECT("limits")}},
	{"synthetic", INGEST, WASD_DAEMON,
     .members = {NAME("kind"), COUNT("train"), COUNT("test"), COUNT("seed"), STRING("out")}},
	{"progress", INGEST, WASD_ENGINE, .members = {COUNT("images"), COUNT("bytes")}},
	{"done", INGEST, WASD_ENGINE,
     .members = {RE, NAME("format"), ARRAY("shape", 3, 3), ARRAY("classes", 1, 0), COUNT("train"), COUNT("test"),
                 OPTIONAL(INTEGER, "val", .max = INTEGER_MAX), NAME("digest"), COUNT("bytes"), ARRAY("mean", 1, 3),
                 ARRAY("std", 1, 3), OPTIONAL(STRING, "fit"), OPTIONAL(STRING, "background"),
                 OPTIONAL(STRING, "orientation"), OPTIONAL(ARRAY, "remarks", .max = 32),
                 OPTIONAL(ARRAY, "skipped", .max = 100)}},
	/* pointer: the file, or the archive's entry. errors: the first bad files; count: the number of all bad files. */
	{"failed", INGEST, WASD_ENGINE,
     .members = {RE, NAME("status"), STRING("message"), OPTIONAL(STRING, "pointer"),
                 OPTIONAL(ARRAY, "errors", .max = 100), OPTIONAL(INTEGER, "count", .max = INTEGER_MAX)}},
	{"preview", INGEST, WASD_DAEMON, "previewed", .members = {STRING("path"), CHOICE("split", splits), COUNT("index")}},
	{"previewed", INGEST, WASD_ENGINE, .payload = WASD_PAYLOAD_BULK, .members = {RE, COUNT("label"), STRING("class")}},

	/* ---- wasd-engine convert: exports checkpoints to the formats of other programs, and imports those. The
     * complete result is written to "out"; an error leaves no file there ---- */
	{"export",
     CONVERT,
     WASD_DAEMON,
     "exported",
     WASD_PAYLOAD_FILE,
     {NAME("format"), NAME("mode"), BYTES, SHA256, STRING("out"),
      OPTIONAL(INTEGER, "profile_bytes", .min = 1, .max = INTEGER_MAX)}},
	{"exported", CONVERT, WASD_ENGINE, .members = {RE, BYTES, SHA256}},
	{"import", CONVERT, WASD_DAEMON, "imported",
     .members = {STRING("file"), STRING("out"), BOOLEAN("to_serve"), OPTIONAL(OBJECT, "model"),
                 OPTIONAL(ARRAY, "classes"), OPTIONAL(ARRAY, "input")}},
	{"imported", CONVERT, WASD_ENGINE, .members = {RE, BYTES, SHA256, OBJECT("info")}},
	/* What the weights of a checkpoint are (wasd_checkpoint_layers); with kernels, an object with the members of struct
     * wasd_kernels, those of a layer (wasd_checkpoint_kernels). */
	{"inspect", CONVERT, WASD_DAEMON, "inspected", WASD_PAYLOAD_FILE, {BYTES, SHA256, OPTIONAL(OBJECT, "kernels")}},
	{"inspected", CONVERT, WASD_ENGINE, .members = {RE, OBJECT("found")}},

	/* ---- wasd-engine profile: the making of one mode (wasd/making.h). The file: the checkpoint (bytes and sha256
     * cover it), then the file of the base mode if that was made too. own: measure the checkpoint's own modes as well.
     * ---- */
	{"make", PROFILE, WASD_DAEMON, .payload = WASD_PAYLOAD_FILE,
     .members = {OPTIONAL(STRING, "name"), BYTES, SHA256, OPTIONAL(INTEGER, "profile_bytes", .max = INTEGER_MAX),
                 STRING("dataset"), THREADS, OPTIONAL(INTEGER, "nice", .min = -20, .max = 19), OPTIONAL(BOOLEAN, "own"),
                 OBJECT("request")}},
	{"progress", PROFILE, WASD_ENGINE, .members = {COUNT("done"), COUNT("of")}},
	{"made", PROFILE, WASD_ENGINE, .payload = WASD_PAYLOAD_FILE, .members = {BYTES, SHA256, OBJECT("info")}},
	/* The figures of the checkpoint's own modes (wasd_modes_measure). */
	{"measure", PROFILE, WASD_DAEMON, .payload = WASD_PAYLOAD_FILE,
     .members = {OPTIONAL(STRING, "name"), BYTES, SHA256, STRING("dataset"), THREADS,
                 OPTIONAL(INTEGER, "nice", .min = -20, .max = 19)}},
	{"measured", PROFILE, WASD_ENGINE, .members = {OBJECT("own")}},
	/* The threshold of a cascade (wasd_cascade_tune). The file: the checkpoint, then the overlay of the cheap mode if
     * it is a profile. */
	{"tune", PROFILE, WASD_DAEMON, .payload = WASD_PAYLOAD_FILE,
     .members = {NAME("mode"),
                 BYTES,
                 SHA256,
                 OPTIONAL(INTEGER, "profile_bytes", .max = INTEGER_MAX),
                 STRING("dataset"),
                 THREADS,
                 OPTIONAL(INTEGER, "nice", .min = -20, .max = 19),
                 {.name = "keep", .type = WASD_MEMBER_NUMBER, .min = 0, .max = 1}}},
	{"tuned", PROFILE, WASD_ENGINE, .members = {OBJECT("info")}},
	/* What each mode gets right and wrong (wasd_report_make), on the images held out or the test images. The file: the
     * checkpoint (bytes and sha256 cover it), then the files of other modes; modes: [{"mode","bytes"},...]. */
	{"report", PROFILE, WASD_DAEMON, .payload = WASD_PAYLOAD_FILE,
     .members = {BYTES, SHA256, OPTIONAL(INTEGER, "profile_bytes", .max = INTEGER_MAX), STRING("dataset"), THREADS,
                 OPTIONAL(INTEGER, "nice", .min = -20, .max = 19), ARRAY("modes", 0, WASD_REPORT_MODES_MAX),
                 BOOLEAN("test")}},
	{"reported", PROFILE, WASD_ENGINE, .members = {OBJECT("info")}},
	/* A mix of checkpoints (wasd/merge.h). The file: the checkpoints, one after the other (bytes and sha256 are the
     * first's, profile_bytes the others' together); checkpoints: [{"checkpoint","bytes"},...]. dataset "": none. */
	{"merge", PROFILE, WASD_DAEMON, .payload = WASD_PAYLOAD_FILE,
     .members = {BYTES, SHA256, INTEGER("profile_bytes", 1, INTEGER_MAX), STRING("dataset"), THREADS,
                 OPTIONAL(INTEGER, "nice", .min = -20, .max = 19), ARRAY("checkpoints", 2, WASD_MERGE_MAX),
                 OBJECT("request")}},
	{"merged", PROFILE, WASD_ENGINE, .payload = WASD_PAYLOAD_FILE,
     .members = {BYTES, SHA256, OBJECT("info"), OBJECT("metrics")}},
	/* An archive of checkpoints (wasd/archive.h), written to "out". The engine asks for one after the other, by their
     * index below n; bytes: about the size of the archive, 0: not known yet. Each is given in a file. */
	{"archive", PROFILE, WASD_DAEMON,
     .members = {INTEGER("n", 1, WASD_ARCHIVE_MAX), STRING("out"), THREADS,
                 OPTIONAL(INTEGER, "nice", .min = -20, .max = 19), OBJECT("request")}},
	{"need", PROFILE, WASD_ENGINE, .members = {INTEGER("index", 0, WASD_ARCHIVE_MAX - 1), COUNT("bytes")}},
	{"given", PROFILE, WASD_DAEMON, .payload = WASD_PAYLOAD_FILE,
     .members = {BYTES, SHA256, NAME("checkpoint"), OPTIONAL(STRING, "job"), OBJECT("metrics")}},
	{"archived", PROFILE, WASD_ENGINE, .members = {COUNT("files"), BYTES, SHA256}},
	/* pointer: the faulty member of the request. */
	{"failed", PROFILE, WASD_ENGINE, .members = {NAME("status"), STRING("message"), OPTIONAL(STRING, "pointer")}},

	/* ---- wasd-engine check: what networks are, whether jobs could begin, and what they would take ---- */
	/* The tables of core: GET /v1/capabilities. */
	{"list", CHECK, WASD_DAEMON, .answer = "listed"},
	{"listed", CHECK, WASD_ENGINE, .members = {RE, OBJECT("tables")}},
	/* was absent or null: the network's own default. */
	{"describe", CHECK, WASD_DAEMON, "described",
     .members = {OBJECT("model"), OPTIONAL(ANY, "was"), ARRAY("input", 3, 3), INTEGER("classes", 0, 1 << 20)}},
	{"described", CHECK, WASD_ENGINE, .members = {RE, OBJECT("network")}},
	/* dataset: a prepared file below the folder data. Without it only the profiles are checked, for images of the
     * given input and number of classes. The pointer of an error in a profile is "/profiles/N/...". */
	{"check", CHECK, WASD_DAEMON, "checked",
     .members = {OPTIONAL(OBJECT, "spec"), STRING("data"), OPTIONAL(STRING, "dataset"), OPTIONAL(ARRAY, "profiles"),
                 OPTIONAL(ARRAY, "modes"), OPTIONAL(ARRAY, "input", .min = 3, .max = 3),
                 OPTIONAL(INTEGER, "classes", .max = INTEGER_MAX)}},
	{"checked", CHECK, WASD_ENGINE, .members = {RE, ARRAY("warnings", 0, 0)}},
	/* What such a job would take (wasd_train_estimate). */
	{"estimate", CHECK, WASD_DAEMON, "estimated",
     .members = {OBJECT("spec"), STRING("data"), STRING("dataset"), THREADS}},
	{"estimated", CHECK, WASD_ENGINE, .members = {RE, OBJECT("sizes")}},
	/* How long its steps take (wasd_train_measure), in a process of its own. memory_mb: the most private memory that it
     * may take; 0: no limit; cgroup: a control group limits it already. */
	{"measure", CHECK, WASD_DAEMON, "measured",
     .members = {OBJECT("spec"), STRING("data"), STRING("dataset"), THREADS, INTEGER("nice", -20, 19),
                 COUNT("memory_mb"), INTEGER("budget_ms", 1, 60000), OPTIONAL(BOOLEAN, "cgroup")}},
	{"measured", CHECK, WASD_ENGINE,
     .members = {RE, INTEGER("batch", 1, 1 << 20), COUNT("steps"), NUMBER("step_s"), NUMBER("image_s")}},
};

#define ROWS (int)(sizeof rows / sizeof *rows)

const struct wasd_message *wasd_message_at(int i)
{
	if (i < ROWS)
		return i >= 0 ? &rows[i] : NULL;
	for (int k = 0; wasd_message_more && wasd_message_more[k]; k++)
		if (k == i - ROWS)
			return wasd_message_more[k];
	return NULL;
}

const struct wasd_message *wasd_message_find(enum wasd_role role, enum wasd_side from, const char *type)
{
	const struct wasd_message *r;
	for (int i = 0; (r = wasd_message_at(i)); i++)
		if (r->from == from && (r->roles & 1u << role) && !strcmp(r->type, type))
			return r;
	return NULL;
}

/* ---- checking ---- */

static enum wasd_status bad(struct wasd_err *err, const struct wasd_message *row, const struct wasd_member *m,
                            const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static enum wasd_status bad(struct wasd_err *err, const struct wasd_message *row, const struct wasd_member *m,
                            const char *fmt, ...)
{
	char want[160], pointer[64];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(want, sizeof want, fmt, ap);
	va_end(ap);
	snprintf(pointer, sizeof pointer, "/%s", m->name);
	return wasd_fail_at(err, WASD_ECORRUPT, pointer, "message %s: \"%s\" must be %s", row->type, m->name, want);
}

static enum wasd_status check_string(const struct wasd_message *row, const struct wasd_member *m, const cJSON *v,
                                     struct wasd_err *err)
{
	char list[160] = "";
	double n = cJSON_IsString(v) ? (double)strlen(v->valuestring) : -1;
	if (!m->choices && n >= m->min && (m->max == 0 || n <= m->max))
		return WASD_OK;
	if (!m->choices && m->max > 0)
		return bad(err, row, m, "a string of %.0f to %.0f bytes", m->min, m->max);
	if (!m->choices)
		return bad(err, row, m, "a string");
	for (int i = 0; m->choices[i]; i++) {
		if (n >= 0 && !strcmp(v->valuestring, m->choices[i]))
			return WASD_OK;
		size_t at = strlen(list);
		snprintf(list + at, sizeof list - at, "%s%s", i ? (m->choices[i + 1] ? ", " : " or ") : "", m->choices[i]);
	}
	return bad(err, row, m, "%s", list);
}

static enum wasd_status check_number(const struct wasd_message *row, const struct wasd_member *m, const cJSON *v,
                                     struct wasd_err *err)
{
	double x = cJSON_IsNumber(v) ? v->valuedouble : NAN;
	bool whole = m->type == WASD_MEMBER_INTEGER;
	if (isfinite(x) && x >= m->min && x <= m->max && (!whole || (x == floor(x) && fabs(x) <= INTEGER_MAX)))
		return WASD_OK;
	return bad(err, row, m, whole ? "a whole number from %.0f to %.0f" : "a finite number", m->min, m->max);
}

static enum wasd_status check_array(const struct wasd_message *row, const struct wasd_member *m, const cJSON *v,
                                    struct wasd_err *err)
{
	double n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : -1;
	if (n >= m->min && n >= 0 && (m->max == 0 || n <= m->max))
		return WASD_OK;
	return m->max > 0 ? bad(err, row, m, "an array of %.0f to %.0f items", m->min, m->max) :
	                    bad(err, row, m, "an array of at least %.0f items", m->min);
}

static enum wasd_status check_member(const struct wasd_message *row, const struct wasd_member *m, const cJSON *v,
                                     struct wasd_err *err)
{
	if (!v)
		return m->optional ? WASD_OK : bad(err, row, m, "there");
	if (cJSON_IsNull(v) && m->null_ok)
		return WASD_OK;
	switch (m->type) {
	case WASD_MEMBER_STRING:
		return check_string(row, m, v, err);
	case WASD_MEMBER_INTEGER:
	case WASD_MEMBER_NUMBER:
		return check_number(row, m, v, err);
	case WASD_MEMBER_BOOLEAN:
		return cJSON_IsBool(v) ? WASD_OK : bad(err, row, m, "true or false");
	case WASD_MEMBER_OBJECT:
		return cJSON_IsObject(v) ? WASD_OK : bad(err, row, m, "an object");
	case WASD_MEMBER_ARRAY:
		return check_array(row, m, v, err);
	case WASD_MEMBER_ANY:
		return WASD_OK;
	}
	return WASD_OK;
}

static enum wasd_status check_payload(const struct wasd_message *row, const cJSON *json, size_t inline_bytes, bool file,
                                      struct wasd_err *err)
{
	int64_t bytes;
	bool may_inline = row->payload == WASD_PAYLOAD_BULK, may_file = row->payload != WASD_PAYLOAD_NONE;
	if (inline_bytes && (!may_inline || file))
		return wasd_fail(err, WASD_ECORRUPT, "message %s: %zu bytes after its JSON", row->type, inline_bytes);
	if (file && !may_file)
		return wasd_fail(err, WASD_ECORRUPT, "message %s: unexpected descriptor", row->type);
	if (!file && row->payload == WASD_PAYLOAD_FILE)
		return wasd_fail(err, WASD_ECORRUPT, "message %s: its memory file is missing", row->type);
	if (file && (!wasd_json_i64(json, "bytes", &bytes) || bytes < 1))
		return wasd_fail_at(err, WASD_ECORRUPT, "/bytes", "message %s: \"bytes\" must be the size of its memory file",
		                    row->type);
	return WASD_OK;
}

enum wasd_status wasd_message_check(const struct wasd_message *row, const cJSON *json, size_t inline_bytes, bool file,
                                    struct wasd_err *err)
{
	for (const struct wasd_member *m = row->members; m < row->members + WASD_MESSAGE_MEMBERS && m->name; m++) {
		enum wasd_status s = check_member(row, m, wasd_json_get(json, m->name), err);
		if (s)
			return s;
	}
	return check_payload(row, json, inline_bytes, file, err);
}

/* ---- building ---- */

/* Adds one member of kind `kind`; consumes its argument from ap even if ok is false. */
static bool add(cJSON *m, const char *name, char kind, bool may_lack, va_list ap, bool ok)
{
	switch (kind) {
	case 's': {
		const char *s = va_arg(ap, const char *);
		return ok && ((!s && may_lack) || cJSON_AddStringToObject(m, name, s));
	}
	case 'i': {
		int64_t v = va_arg(ap, int64_t);
		return ok && cJSON_AddNumberToObject(m, name, (double)v);
	}
	case 'd': {
		double v = va_arg(ap, double);
		return ok && (isfinite(v) ? cJSON_AddNumberToObject(m, name, v) : cJSON_AddNullToObject(m, name));
	}
	case 'b': {
		int v = va_arg(ap, int);
		return ok && cJSON_AddBoolToObject(m, name, v != 0);
	}
	default: {
		cJSON *j = va_arg(ap, cJSON *);
		if (!j)
			return ok && may_lack;
		if (ok && cJSON_AddItemToObject(m, name, j))
			return true;
		cJSON_Delete(j);
		return false;
	}
	}
}

cJSON *wasd_message(const char *type, const char *members, ...)
{
	cJSON *m = cJSON_CreateObject();
	bool ok = m && (!type || cJSON_AddStringToObject(m, "type", type));
	va_list ap;
	va_start(ap, members);
	for (const char *p = members; *p;) {
		char name[32];
		size_t n = strcspn(p, ":");
		snprintf(name, sizeof name, "%.*s", (int)n, p);
		bool may_lack = p[n + 1] == '?';
		p += n + 1 + may_lack;
		ok = add(m, name, *p++, may_lack, ap, ok);
		p += *p == ' ';
	}
	va_end(ap);
	if (ok)
		return m;
	cJSON_Delete(m);
	return NULL;
}

/* ---- payloads ---- */

enum wasd_status wasd_frame_payload(const struct wasd_frame *m, struct wasd_payload *out, struct wasd_err *err)
{
	int64_t bytes = 0, more = 0;
	*out = (struct wasd_payload){m->bin, m->bin_len, NULL};
	if (m->fd < 0)
		return WASD_OK;
	wasd_json_i64(m->json, "profile_bytes", &more);
	if (!wasd_json_i64(m->json, "bytes", &bytes) || bytes < 1 || more < 0)
		return wasd_fail_at(err, WASD_ECORRUPT, "/bytes", "message %s: the size of its memory file is missing",
		                    m->type);
	enum wasd_status s = wasd_memfd_map(m->fd, (size_t)bytes + (size_t)more, &out->map, err);
	if (s)
		return s;
	out->data = out->map;
	out->len = (size_t)bytes + (size_t)more;
	return WASD_OK;
}

void wasd_payload_done(struct wasd_payload *p)
{
	if (p->map)
		wasd_memfd_unmap(p->map, p->len);
	*p = (struct wasd_payload){0};
}
