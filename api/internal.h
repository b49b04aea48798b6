/* api/internal.h - shared by the handlers: reading a request, checking fields, building a response. */
#ifndef API_INTERNAL_H
#define API_INTERNAL_H

#include "api.h"
#include "storage.h"
#include "wasd/pixel.h"
#include "wasd/spec.h"

#define API_LEN(a) (sizeof(a) / sizeof *(a))

/* ---- errors.c ---- */

bool api_on_v2(const struct api_request *q); /* the Open Inference Protocol has its own form of a problem */

/* One kind of answer that is not a success: code is its stable name, explanation its text at /docs/errors. */
struct api_error_row {
	const char *code;
	int status;
	const char *title, *explanation;
};
extern const struct api_error_row api_errors[]; /* ends with a row whose code is NULL */
const struct api_error_row *api_error_find(const char *code);

/* All faults of one body, each {"pointer","detail","code"}; the answer has the code of the first. */
#define API_FAULTS_MAX 100
struct api_faults {
	cJSON *list;
	int n;
	bool no_memory;
};
void api_fault(struct api_faults *f, const char *code, const char *pointer, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void api_faults_done(struct api_faults *f);
/* Answers with the faults and empties the list. */
void api_send_faults(const struct api_request *q, struct api_response *r, struct api_faults *f);
/* Adds a member to the problem already in r ("from" and "to" of a refused transition). */
void api_problem_member(struct api_response *r, const char *name, const char *value);

/* ---- request.c ---- */

/* Matches path against pattern. If `name` is given, sets *at and *len to the value of that parameter. */
bool api_path_match(const char *pat, const char *path, const char *name, const char **at, size_t *len);
/* A parameter of q's matched route; "" when the route has no such parameter. */
void api_param(const struct api_request *q, const char *name, char out[128]);
/* Query parameters. False: the answer (400 naming the parameter) is in r. An absent parameter leaves *out unchanged. */
bool api_query_int(const struct api_request *q, struct api_response *r, const char *name, int64_t min, int64_t max,
                   int64_t *out);
bool api_query_bool(const struct api_request *q, struct api_response *r, const char *name, bool *out);
bool api_query_choice(const struct api_request *q, struct api_response *r, const char *name, const char *const *choices,
                      const char **out);
bool api_query_wait(const struct api_request *q, struct api_response *r,
                    int64_t *wait_us); /* "30s", "500ms", "1m"; at most 120 s */
bool api_query_time(const struct api_request *q, struct api_response *r, const char *name, int64_t *unix_ms);
/* A time of 1s to most_s in whole seconds, as "30s" or "5m"; *s stays as it is without the parameter. */
bool api_query_span(const struct api_request *q, struct api_response *r, const char *name, int64_t most_s, int64_t *s);
bool api_query_page(const struct api_request *q, struct api_response *r, struct storage_page *page);
/* Handles the status of reading that page. False: the answer is in r; WASD_EINVAL means a bad cursor. */
bool api_page_ok(const struct api_request *q, struct api_response *r, enum wasd_status st, const struct wasd_err *err);

/* The media type of the body in lower case without parameters, "" when the header is absent. */
void api_media_type(const struct api_request *q, char out[80]);
bool api_accepts(const struct api_request *q, const char *type); /* named in Accept literally; wildcards do not count */
/* Parses the body as one JSON value; if `optional`, an absent body gives an empty object. NULL: the answer is in r. */
cJSON *api_body_json(const struct api_request *q, struct api_response *r, struct wasd_json_limits lim, bool optional);
/* Does a list of entity tags (If-Match, If-None-Match) contain the current one? `revision`: compares tags only up to
 * their first dot. */
bool api_etag_listed(const char *list, const char *etag, bool revision);

/* ---- response.c ---- */

void api_send_no_memory(struct api_response *r); /* 503 without allocating */
const char *api_response_header(const struct api_response *r, const char *name);
/* {"items":[...],"next_cursor":...} with the Link header. Takes items. */
void api_send_list(const struct api_request *q, struct api_response *r, cJSON *items, const char *next_cursor);
/* Sends an open file with its ETag; http/connection.c handles ranges. Takes fd. False: no memory. */
bool api_send_file(struct api_response *r, const struct api_file *file);
/* Schedules another run of the handler at the next event of `object`, at the latest wait_us after the first run.
 * False: that time has passed. */
bool api_again(const struct api_request *q, struct api_response *r, const char *object, int64_t wait_us);

/* ---- JSON helpers (response.c). A failed allocation marks the container, and api_send_json then answers 503. */

void api_poison(cJSON *container);
bool api_poisoned(const cJSON *j);                           /* j or any member of it; true for NULL */
cJSON *api_add_take(cJSON *obj, const char *name, cJSON *v); /* always takes v; NULL = out of memory */
/* Replaces the member of that name with v, or appends v. Takes v; NULL = out of memory. */
void api_put(cJSON *obj, const char *name, cJSON *v);
/* Moves the members of `from` into `to`, replacing those of the same name. Takes from. */
void api_merge_take(cJSON *to, cJSON *from);
void api_push(cJSON *array, cJSON *v);                              /* the same for arrays */
cJSON *api_add_raw(cJSON *obj, const char *name, const char *json); /* JSON text, NULL = null */
cJSON *api_add_str(cJSON *obj, const char *name, const char *s);    /* NULL = null */
cJSON *api_add_int(cJSON *obj, const char *name, int64_t v);
cJSON *api_add_num(cJSON *obj, const char *name, double v);               /* NaN, Inf = null */
cJSON *api_add_maybe(cJSON *obj, const char *name, bool known, double v); /* null when unknown */
cJSON *api_add_time(cJSON *obj, const char *name, int64_t unix_ms);       /* 0 = null */
cJSON *api_parse_trusted(const char *json); /* JSON text that we stored; NULL when it does not parse */

/* ---- source.c ---- */

/* Resolves the canonical source of a deployment to a checkpoint that has the mode. False: the answer is in r. */
bool api_source_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *source,
                     const char *mode, struct storage_ckpt *out);
/* The same for a source that is not the member "source" of the body: at is its JSON pointer. */
bool api_source_find_at(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *source,
                        const char *at, const char *mode, struct storage_ckpt *out);

/* ---- fields.c: bodies as tables of struct wasd_field ---- */

struct field_ctx {
	struct api_faults *faults;
	const cJSON *caps;
	const cJSON *root;
};
/* Canonical form of a member that has several notations or needs more checks than its row gives. Never returns NULL
 * without a fault: an absent v gives the default. */
typedef cJSON *field_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v);
/* forms.c: all forms, by the name that rows use; ends with a row whose name is NULL. */
struct field_form {
	const char *name;
	field_canon *canon;
};
extern const struct field_form field_forms[];
field_canon api_images_canon, api_labels_patch_canon, api_header_name_canon, api_live_mode_canon, api_mode_canon,
	api_source_canon, api_split_canon, api_synthetic_canon, api_wished_mode_canon;

/* Canonical form of an object: every member checked, every default written out, members in the table's order. NULL
 * after a fault (all of them are in c->faults) or without memory. in NULL = {}. */
cJSON *fields_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *fields, const cJSON *in);
/* Canonical form of the request's body; if `optional`, an absent body counts as {}. NULL: the answer is in r. */
cJSON *api_body_fields(const struct api_request *q, struct api_response *r, const struct wasd_field *fields,
                       const cJSON *caps, bool optional);
/* Checks one member by the type of its row, ignoring its form. */
field_canon field_value;
/* {"type": NAME, options...}: options from the row NAME of the capabilities table f->table, plus the members f->sub. */
field_canon field_typed;
/* Adds to out the options of a capabilities row (OPTION of wasd/model.h) and the members `common`. `key` is the
 * member that names the row. */
bool options_canon(struct field_ctx *c, const char *pointer, const char *key, const cJSON *options,
                   const struct wasd_field *common, const cJSON *in, cJSON *out);
/* base + "/" + escaped key */
static inline void fields_pointer(char out[256], const char *base, const char *key)
{
	wasd_json_pointer(out, 256, base, key);
}
/* Formats a client's value for messages, cut to a readable length: "3", "\"abc\"", "an array". */
void fields_show(char out[80], const cJSON *v);
/* The row of that name in a capabilities table; NULL: no such row. */
const cJSON *caps_row(const cJSON *caps, const char *table, const char *name);
/* Row names of a table as `a, b or c`. */
void caps_names(const cJSON *caps, const char *table, char out[256]);

/* ---- spec.c ---- */

field_canon spec_name_canon, spec_labels_canon, spec_model_canon, spec_arch_canon, spec_was_canon, spec_weights_canon,
	spec_transforms_canon, spec_layers_canon, spec_draw_canon, spec_probability_canon, spec_odds_canon,
	spec_precision_canon, spec_augment_canon, spec_goal_canon, spec_modes_canon, spec_limit_canon, spec_normalize_canon,
	spec_class_weights_canon, spec_classes_canon, spec_init_canon, spec_after_canon;
field_canon spec_deadline_canon;
/* on_complete.c */
field_canon spec_on_complete_canon, spec_conditions_canon;
/* What is to follow a job's completion, with its outcome; null: nothing. */
cJSON *api_on_complete_json(const cJSON *asked, const struct storage_job *job);
/* Is the deadline in a canonical body still to come? False: the answer is in r. */
bool api_deadline_ok(const struct api_request *q, struct api_response *r, int64_t deadline_ms);
/* Checks a job spec against the tables and returns its canonical form. `dataset` remains as the client wrote it. */
cJSON *spec_canon(const cJSON *in, const cJSON *caps, struct api_faults *faults);
/* A fault at the pointer if the spec's runs do not measure goal.metric. */
void spec_check_metric(const cJSON *spec, const char *pointer, const cJSON *goal, struct api_faults *faults);
/* The name of the job's network; "" when the spec has none. */
const char *spec_network(const cJSON *spec);
/* The object that configures WAS ("was" or its entry in "weights") and its JSON pointer; NULL: the job does not use
 * WAS. */
cJSON *spec_was(const cJSON *spec, char at[32]);
/* Checks the rules that need the dataset; info: its JSON (shape, classes). */
void spec_check_dataset(const cJSON *spec, const cJSON *caps, const cJSON *info, struct api_faults *faults);

/* ---- job_submit.c ---- */

/* The complete spec of a job, with every default and the version of its dataset, after all checks that a submission
 * makes. The caller owns it and *warnings: [{"code","message"}]. dry: an imported checkpoint is not stored. NULL: the
 * answer is in r. */
cJSON *api_spec_ready(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *body,
                      bool dry, cJSON **warnings);
/* False: the header Idempotency-Key has a bad form, and the answer is in r. */
bool api_idempotency_ok(const struct api_request *q, struct api_response *r);

/* ---- networks.c ---- */

/* Lets the engine check whether a job's network, batches and profiles fit the data set at this path. The caller owns
 * *warnings: [{"code","message"}], known before the job starts. False: the answer is in r. */
bool api_job_check(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *spec,
                   const char *dataset, cJSON **warnings);
/* estimate.c: answers a dry run with the spec and "estimate"; takes spec and warnings (of api_job_check, or NULL).
 * bench: with the times of its steps, which may be API_ASK. */
enum api_result api_job_estimate(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *spec,
                                 cJSON *warnings, bool bench);
/* The same check for one profile of a checkpoint, from its job's spec (NULL: it has no job) and its own info (both
 * JSON); true when they do not suffice for a check. */
bool api_profile_check(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *spec,
                       const char *ckpt_info, const cJSON *profile);

/* ---- multipart.c ---- */

struct multipart_part {
	const char *name, *filename, *type;
	const char *data;
	size_t len;
}; /* strings in the parser's copy; "" when absent */
#define MULTIPART_PARTS 256
struct multipart {
	struct multipart_part *part;
	size_t n;
	char *strings;
};
/* Parses a whole body in memory. The data of a part points into body. WASD_EINVAL names the part. */
enum wasd_status multipart_parse(const char *content_type, const char *body, size_t len, struct multipart *out,
                                 struct wasd_err *err);
void multipart_done(struct multipart *m);

/* ---- base64.c ---- */

/* Decodes either alphabet of RFC 4648; skips blanks and line ends, padding is optional. Appends the bytes to out. */
bool base64_decode(const char *s, size_t len, struct wasd_buf *out);
/* The same, also for a URI "data:image/png;base64,...". */
bool base64_or_uri(const char *s, size_t len, struct wasd_buf *out);

/* ---- inference.c: shared by classify and /v2 infer ---- */

struct inference {
	char name[64];
	struct api_live live;
	char mode[WASD_MODE_LEN];     /* of this request, as the answer says it: the override, or the deployment's choice */
	char computes[WASD_MODE_LEN]; /* the bundle's mode that computes it; of a cascade, the cheap one */
	bool cascade;                 /* the answer must be logits; the reply then says which images were repeated */
	bool governed;                /* the request names no mode */
	const char *asked;            /* where the request names the mode */
	struct api_facts *facts;      /* held until api_inference_end */
	const cJSON *info;            /* facts->json; NULL: none */
	int64_t input[3];
	int64_t classes;
	int64_t max_batch;
	struct wasd_pixels pixels; /* how UINT8 become numbers */
	const char (*parts)[64];
	size_t n_parts;        /* the names of a form's image parts, for messages; 0 = not a form */
	const char *images_at; /* JSON pointer of the images in the request; NULL: "/images/N" each */
	int64_t deadline_us;   /* of this request; the client may ask for an earlier one than the daemon's */
	const struct api_serving
		*counted;            /* its in-flight count includes this request until api_inference_end; NULL: not counted */
	bool answered;           /* the infer process answered */
	struct metrics *metrics; /* counts this request; NULL: it is not counted */
	int64_t begun_us;
	struct api_ask ask; /* the question to the process */
};
struct mode_asked {
	const char *value, *where;
};
#define API_MODES_ASKED 16
/* Collects the modes that headers and query of a request ask for, repeats included. Returns their number, at most
 * room. */
size_t api_modes_asked(const struct api_request *q, struct mode_asked *out, size_t room);
/* The deadline of a request whose client waits that long; never later than the daemon's own. */
int64_t api_inference_deadline(const struct api_request *q, int64_t timeout_us);
/* Finds the deployment of a request and resolves its mode from up to n requested modes (value NULL = no request).
 * False: the answer is in r. */
bool api_inference_look(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                        const struct mode_asked *asked, size_t n, struct inference *s);
/* The same for an inference request; keeps its bundle loaded until api_inference_end. */
bool api_inference_begin(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                         const struct mode_asked *asked, size_t n, struct inference *s);
/* Adds bundle and mode to s->ask.call and has the question asked. finish is called with &s->ask, which is a member
 * of the handler's own state. API_DONE: no memory, and finish is not called. */
enum api_result api_inference_ask(struct api_response *r, struct inference *s,
                                  void (*finish)(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                                 struct api_ask *ask));
/* In finish: is there an answer? False: the error response is in r. */
bool api_inference_answered(const struct api_request *q, struct api_response *r, struct inference *s);
/* Where an answered request's time went, in microseconds: reading the payload, waiting (in the daemon and in the
 * process), computing its batch. */
struct inference_times {
	int64_t decode, queue, compute;
};
struct inference_times api_inference_times(const struct inference *s);
void api_inference_headers(struct api_response *r, const struct inference *s);
void api_inference_end(struct inference *s); /* also frees the question and its answer */
void api_softmax(const float *logits, int64_t n, float *p);
/* The classes of a deployment in the order of one row of numbers after the other; made once per request. */
struct ranking {
	const char **label; /* class names, borrowed from the deployment's info */
	int32_t *order;     /* class indices after ranking_sort: numbers descending, ties by ascending index */
	int64_t classes;
};
bool ranking_init(struct ranking *g, const struct inference *s); /* false: no memory; ranking_done in any case */
void ranking_sort(struct ranking *g, const float *x);
void ranking_done(struct ranking *g);

/* ---- find.c: resolves what a request names. False: the answer is in r. ---- */

/* The row named by the path; the caller frees it. */
bool api_job_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct storage_job *out);
bool api_ckpt_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct storage_ckpt *out);
bool api_profile_find(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                      struct storage_profile *out);
bool api_deployment_find(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                         struct storage_deployment *out);
/* version 0: the latest */
bool api_dataset_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, int64_t version,
                      struct storage_dataset *out);
/* A data set that can be used for training or evaluation; version 0: the latest. Faults are at /dataset. */
bool api_dataset_ready(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                       int64_t version, struct storage_dataset *out);
/* The checkpoint that the member `at` names; it is not corrupt. */
bool api_ckpt_named(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *at,
                    const char *id, struct storage_ckpt *out);
/* The data set that the member "dataset" of a request names, else that of the checkpoint's job; it must fit the
 * checkpoint. Faults are at /dataset. */
bool api_dataset_of(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                    const struct storage_ckpt *k, const cJSON *in, struct storage_dataset *out);
/* A data set in a body: a name, or {"name","version"}. */
field_canon api_dataset_canon;
/* Has the checkpoint a mode that is not derived? DOM needs training with WAS, or a draw in an imported file; slim needs
 * dead channels. api_mode_lacking: why a checkpoint has no such mode, for messages. */
bool api_ckpt_has(const struct storage_ckpt *k, const char *mode);
const char *api_mode_lacking(const char *mode);
/* Is the mode's profile, if the mode names one, ready? If not, answers with that code and pointer. */
bool api_mode_there(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *checkpoint,
                    const char *mode, const char *code, const char *pointer);
cJSON *api_ckpt_json(const struct storage_ckpt *k);
/* Sends the list of a job's checkpoints; job NULL: the imported ones. */
enum api_result api_send_checkpoints(struct api_ctx *c, const char *job, const struct api_request *q,
                                     struct api_response *r);

/* ---- deployment_object.c ---- */

/* The members of a deployment that are kept in the options of its row (server/serving/options.h reads them). */
#define API_DEPLOYMENT_OPTIONS \
	{"required", WASD_BOOL, .def = "true"}, \
		{"batching", WASD_OBJECT, .def = "null", .null_ok = true, .sub = wasd_deployment_batching}, \
		{"queue", WASD_OBJECT, .def = "null", .null_ok = true, .sub = wasd_deployment_queue}, \
	{ \
		"limits", WASD_OBJECT, .def = "null", .null_ok = true, .sub = wasd_deployment_limits \
	}
extern const struct wasd_field api_deployment_options[];
/* Those members of a canonical body as JSON text. NULL: no memory. */
char *api_deployment_options_text(const cJSON *in);
/* Adds every option of the deployment, with its default where the row has none. */
void api_deployment_options_show(cJSON *j, const struct storage_deployment *d);
cJSON *api_deployment_json(struct api_ctx *c, const struct storage_deployment *d);
/* Is another checkpoint to be served, which has not failed? */
bool api_update_pending(const struct storage_deployment *d);
/* {"aom":{"acc","acc_images","macs","bytes"},"dom":...,"dom:fast":...}; info: the loaded bundle's facts. */
cJSON *api_deployment_modes(struct api_ctx *c, const struct storage_deployment *d, const cJSON *info);

/* ---- shims.c ---- */

/* KServe v1's GET /v1/models/NAME, for a deployment: is it ready? False: there is no deployment of that name, and r is
 * unchanged. */
bool api_kserve_ready(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name);

/* ---- jobs.c ---- */

/* Sends the job object, or the members in the query's "fields", with its ETag. */
void api_send_job(struct api_ctx *c, const struct api_request *q, struct api_response *r, int status,
                  const struct storage_job *s);
/* Replaces in a job's spec what has changed since its submission, except the deadline. A failed allocation poisons it.
 */
void api_job_as_now(cJSON *spec, const struct storage_job *s);

/* ---- job_data.c ---- */

enum api_axis { API_BY_STEP, API_BY_EPOCH, API_BY_TIME };
double api_axis_place(enum api_axis axis, const struct storage_point *p); /* a time in milliseconds */
/* The query's x. False: the answer is in r. */
bool api_query_axis(const struct api_request *q, struct api_response *r, enum api_axis *out);
const char *api_metric_unit(const char *name); /* "fraction", "nats", "images/s", ...; "" without one */
bool api_is_topic(const char *name, size_t n); /* of events */

/* ---- sweeps.c ---- */

/* The whole sweep, with its ETag. */
void api_send_sweep(struct api_ctx *c, const struct api_request *q, struct api_response *r, int status,
                    const struct storage_sweep *w);

/* ---- queues.c ---- */

/* Is there a queue of that name? False: the answer, which points at /queue, is in r. */
bool api_queue_there(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name);

/* ---- records.c: work on checkpoints that the daemon keeps a record of ---- */

struct record_kind {
	const char *name, *path;         /* of the audit's objects and actions; of the routes */
	const struct wasd_field *fields; /* the members of "request" */
	const char *const *later;        /* members that are null until they are known; ends at NULL */
	/* Adds what there is besides the record itself. */
	void (*link)(const cJSON *record, cJSON *links);
};
/* What the daemon is given: the checkpoints, and the members of kind->fields as "request". Takes ids. */
cJSON *api_record_make(const struct record_kind *k, const struct api_request *q, const cJSON *in, cJSON *ids);
/* 202 with the record. Takes record. */
void api_record_begin(const struct record_kind *k, const struct api_records *w, struct api_ctx *c,
                      const struct api_request *q, struct api_response *r, cJSON *record);
enum api_result api_record_list(const struct record_kind *k, const struct api_records *w, const struct api_request *q,
                                struct api_response *r);
enum api_result api_record_get(const struct record_kind *k, const struct api_records *w, const struct api_request *q,
                               struct api_response *r);
enum api_result api_record_delete(const struct record_kind *k, const struct api_records *w, struct api_ctx *c,
                                  const struct api_request *q, struct api_response *r);

/* ---- handlers, one line per route in routes.c ---- */

typedef enum api_result api_handler(struct api_ctx *c, const struct api_request *q, struct api_response *r);
api_handler api_jobs_create, api_jobs_list, api_jobs_get, api_jobs_patch, api_jobs_delete, api_jobs_cancel,
	api_jobs_pause, api_jobs_hold, api_jobs_resume, api_jobs_retry, api_jobs_clone, api_jobs_transitions,
	api_jobs_checkpoints, api_jobs_batch, api_queues_list, api_queues_patch, api_queues_delete, api_sweeps_create,
	api_sweeps_list, api_sweeps_get, api_sweeps_pause, api_sweeps_resume, api_sweeps_cancel, api_sweeps_delete;
api_handler api_webhooks_list, api_webhooks_get, api_webhooks_create, api_webhooks_patch, api_webhooks_delete,
	api_webhooks_test, api_webhooks_deliveries;
api_handler api_jobs_metrics, api_jobs_logs, api_jobs_events, api_events_stream;
api_handler api_datasets_put, api_datasets_post, api_datasets_list, api_datasets_get, api_datasets_versions,
	api_datasets_version, api_datasets_preview, api_datasets_delete;
api_handler api_checkpoints_get, api_checkpoints_patch, api_checkpoints_delete, api_checkpoints_file,
	api_checkpoints_layers, api_checkpoints_layer, api_checkpoints_list, api_checkpoints_import, api_merges_create,
	api_merges_list, api_merges_get, api_merges_delete, api_archives_create, api_archives_list, api_archives_get,
	api_archives_file, api_archives_delete;
api_handler api_modes_create, api_modes_list, api_modes_get, api_modes_delete, api_modes_measure,
	api_modes_measure_stop;
api_handler api_profiles_create, api_profiles_list, api_profiles_get, api_profiles_delete;
api_handler api_blobs_put, api_blobs_get;
api_handler api_deployments_stats, api_deployments_create, api_deployments_list, api_deployments_get,
	api_deployments_delete, api_deployments_patch, api_deployments_reload, api_deployments_rollback, api_mode_get,
	api_mode_put, api_mode_rollback, api_deployments_classify;
api_handler api_traffic_get, api_traffic_put, api_traffic_example, api_cascade_tune;
api_handler api_models_create, api_models_list, api_models_get, api_models_patch, api_models_delete,
	api_versions_create, api_versions_list, api_versions_get, api_versions_delete, api_aliases_get, api_aliases_put,
	api_aliases_delete, api_aliases_history;
api_handler api_v2_server, api_v2_live, api_v2_ready, api_v2_models, api_v2_model, api_v2_model_ready, api_v2_config,
	api_v2_infer, api_v2_stats, api_v2_model_stats, api_v2_index, api_v2_not_offered;
api_handler api_metrics_query, api_jobs_report;
api_handler api_mlflow_experiments, api_mlflow_experiment, api_mlflow_runs, api_mlflow_run, api_mlflow_history;
api_handler api_backup_start, api_backup_get, api_storage_get, api_storage_gc;
api_handler api_v2_load, api_v2_unload;
api_handler api_kserve_predict, api_torchserve_predict, api_torchserve_ping;
api_handler api_audit_list, api_system_get, api_capabilities_get, api_networks_get, api_healthz, api_metrics_text;

/* ---- traffic.c ---- */

/* Adds the policy as it is stored; null without one. */
void api_add_traffic(cJSON *j, const struct storage_deployment *d);
/* May the deployment be switched to that mode, given its policy? For auto and cascade their cheap mode must exist.
 * False: the answer is in r. */
bool api_mode_fits_traffic(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                           const struct storage_deployment *d, const char *mode);

/* ---- profiles.c ---- */

/* Adds "progress" of a mode that is being made: {"done","of","eta_s"}. */
void api_add_progress(struct api_ctx *c, cJSON *j, const struct storage_profile *p);
/* Queues the making of a mode from a canonical request; mode: its whole name. kind NULL: the measuring of the
 * checkpoint's own modes. r->status: 202, or 200 for one that was asked for before. False: the answer is in r. */
bool api_mode_begin(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                    const struct storage_ckpt *k, const cJSON *in, const char *kind, const char *mode,
                    struct storage_profile *out);
/* Deletes it, or answers why not. */
void api_mode_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                     const struct storage_profile *p);

/* ---- modes.c ---- */

/* The items of the list of a checkpoint's modes; NULL: the answer is in r. */
cJSON *api_mode_items(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                      const struct storage_ckpt *k);

/* ---- mode_request.c ---- */

/* The canonical request for a mode, which is at the pointer `at`: the body of a request for one mode of a checkpoint,
 * or (with a root) an item of a job's list. NULL after a fault. */
cJSON *api_mode_request_canon(struct field_ctx *c, const char *at, const cJSON *body);
field_canon api_made_modes_canon; /* the member "modes" of a job spec */

/* ---- wish.c ---- */

/* A wish in place of a mode's name. NULL after a fault. */
cJSON *api_wish_canon(struct field_ctx *c, const char *pointer, const cJSON *v);
/* The mode of the checkpoint that a canonical wish chooses. False: the answer is in r. */
bool api_wish_choose(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *checkpoint,
                     const cJSON *wish, char out[WASD_MODE_LEN]);

/* ---- profile_request.c ---- */

/* Whether "desire" of the body is one of profiles'. */
bool api_profile_asked(const cJSON *body);

/* The member "profiles" of a job spec. */
field_canon api_profiles_canon, api_profile_name_canon;
/* The body of a request for one profile of a checkpoint, or (with a root) an item of a job's list. NULL after a fault.
 */
cJSON *api_profile_canon(struct field_ctx *c, const char *at, const cJSON *v);

/* ---- imports.c ---- */

bool api_digest_ok(const char *s); /* a SHA-256 in lower-case hex digits */
/* The members "blob", "model", "classes" and "input" of a request; only blob is required. */
extern const struct wasd_field api_import_fields[];
field_canon api_blob_canon;
struct api_import {
	const char *at;           /* JSON pointer of the fields: "", "/source", "/init_from" */
	const char *data_pointer; /* the origin of classes, input and, at its own place, the model ("/dataset"); NULL: the
	                             fields themselves */
	const char *blob;
	const cJSON *model, *classes, *input; /* NULL: take it from the file's metadata */
	bool to_serve, dry;
};
struct api_import api_import_read(const cJSON *fields, const char *at); /* borrows from fields */
/* Makes a checkpoint from a blob, or finds the one made before; dry: only checks, id is "". False: the answer is in
 * r. */
bool api_import(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct api_import *in,
                char id[32]);

#endif
