/* api/internal.h - what the handlers share: reading a request, checking fields, building a response. */
#ifndef API_INTERNAL_H
#define API_INTERNAL_H

#include "api.h"
#include "storage.h"
#include "wasd/spec.h"

#define API_LEN(a) (sizeof(a) / sizeof *(a))

/* ---- errors.c ---- */

bool api_on_v2(const struct api_request *q); /* the Open Inference Protocol has its own form of a problem */

/* One kind of answer that is not a success: code is the stable name, explanation is what /docs/errors says about it. */
struct api_error_row {
	const char *code;
	int status;
	const char *title, *explanation;
};
extern const struct api_error_row api_errors[]; /* ends at a NULL code */
const struct api_error_row *api_error_find(const char *code);

/* Every fault of one body, each {"pointer","detail","code"}; the answer's code is that of the first. */
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
/* Adds a member to the problem that was just sent ("from" and "to" of a refused transition). */
void api_problem_member(struct api_response *r, const char *name, const char *value);

/* ---- request.c ---- */

/* Walks pattern and path together. With `name`, the value of that parameter is left in *at and *len. */
bool api_path_match(const char *pat, const char *path, const char *name, const char **at, size_t *len);
/* A parameter of the route that q matched; "" when that has none of the name. */
void api_param(const struct api_request *q, const char *name, char out[128]);
/* Query parameters. False: the answer (400 naming the parameter) is in r. Absent parameters leave *out alone. */
bool api_query_int(const struct api_request *q, struct api_response *r, const char *name, int64_t min, int64_t max,
                   int64_t *out);
bool api_query_bool(const struct api_request *q, struct api_response *r, const char *name, bool *out);
bool api_query_choice(const struct api_request *q, struct api_response *r, const char *name, const char *const *choices,
                      const char **out);
bool api_query_wait(const struct api_request *q, struct api_response *r,
                    int64_t *wait_us); /* "30s", "500ms", "1m"; at most 120 s */
bool api_query_time(const struct api_request *q, struct api_response *r, const char *name, int64_t *unix_ms);
bool api_query_page(const struct api_request *q, struct api_response *r, struct storage_page *page);
/* The status of reading that page. False: the answer is in r; WASD_EINVAL is the cursor's fault. */
bool api_page_ok(const struct api_request *q, struct api_response *r, enum wasd_status st, const struct wasd_err *err);

/* The media type of the body in lower case without parameters, "" when the header is absent. */
void api_media_type(const struct api_request *q, char out[80]);
bool api_accepts(const struct api_request *q, const char *type); /* named in Accept itself, not through a wildcard */
/* Parses the body as one JSON value; an absent body gives an empty object when `optional`. NULL: the answer is in r. */
cJSON *api_body_json(const struct api_request *q, struct api_response *r, struct wasd_json_limits lim, bool optional);
bool api_parse_time(const char *s, int64_t *unix_ms); /* RFC 3339, strict */
/* A list of entity tags (If-Match, If-None-Match) against the current one. `revision`: tags are compared up to their
 * first dot. */
bool api_etag_listed(const char *list, const char *etag, bool revision);

/* ---- response.c ---- */

void api_send_no_memory(struct api_response *r); /* 503 without a single allocation */
const char *api_response_header(const struct api_response *r, const char *name);
/* {"items":[...],"next_cursor":...} with the Link header. Takes items. */
void api_send_list(const struct api_request *q, struct api_response *r, cJSON *items, const char *next_cursor);
/* Hands out an open file with its ETag; ranges are http/connection.c's. Takes fd. False: no memory. */
bool api_send_file(struct api_response *r, const struct api_file *file);
/* Runs the handler again at a new event of `object`, at the latest after wait_us from the first run. False: that time
 * is over. */
bool api_again(const struct api_request *q, struct api_response *r, const char *object, int64_t wait_us);

/* ---- JSON helpers (response.c).
 * A failure for want of memory marks the container, and api_send_json then answers 503.  */

void api_poison(cJSON *container);
bool api_poisoned(const cJSON *j); /* j or anything in it; true for NULL */
cJSON *api_add_take(cJSON *obj, const char *name,
                    cJSON *v);         /* v taken in any case; NULL = there was no memory for it */
void api_push(cJSON *array, cJSON *v); /* the same for arrays */
cJSON *api_add_raw(cJSON *obj, const char *name, const char *json); /* JSON text, NULL = null */
cJSON *api_add_str(cJSON *obj, const char *name, const char *s);    /* NULL = null */
cJSON *api_add_int(cJSON *obj, const char *name, int64_t v);
cJSON *api_add_num(cJSON *obj, const char *name, double v);               /* NaN, Inf = null */
cJSON *api_add_maybe(cJSON *obj, const char *name, bool known, double v); /* null when not known */
cJSON *api_add_time(cJSON *obj, const char *name, int64_t unix_ms);       /* 0 = null */
cJSON *api_parse_trusted(const char *json); /* our own stored text; NULL when it is none */

/* ---- fields.c: bodies as tables of struct wasd_field ---- */

struct field_ctx {
	struct api_faults *faults;
	const cJSON *caps;
	const cJSON *root;
};
/* A member that can be written in several ways, or that is checked beyond its row: the canonical form of v (never NULL:
 * the default where the member is left out), or NULL after a fault. */
typedef cJSON *field_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v);
/* forms.c: all of them, by the name that rows give; ends at a NULL name. */
struct field_form {
	const char *name;
	field_canon *canon;
};
extern const struct field_form field_forms[];
field_canon api_images_canon, api_labels_patch_canon, api_mode_canon, api_source_canon, api_synthetic_canon;

/* The canonical form of an object: every member checked, every default written out, members in the table's order. NULL
 * when there was a fault (all are in c->faults) or no memory. in NULL = {}. */
cJSON *fields_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *fields, const cJSON *in);
/* The canonical form of the request's body, an absent one being {} when `optional`. NULL: the answer is in r. */
cJSON *api_body_fields(const struct api_request *q, struct api_response *r, const struct wasd_field *fields,
                       const cJSON *caps, bool optional);
/* One member by the type of its row, without its form. */
field_canon field_value;
/* {"type": NAME, options...} by the row NAME of the capabilities table f->table, and with the members f->sub. */
field_canon field_typed;
/* The options of a row of capabilities (OPTION of wasd/model.h) and the members `common`, into out. `key` is the member
 * that named the row. */
bool options_canon(struct field_ctx *c, const char *pointer, const char *key, const cJSON *options,
                   const struct wasd_field *common, const cJSON *in, cJSON *out);
/* base + "/" + escaped key */
static inline void fields_pointer(char out[256], const char *base, const char *key)
{
	wasd_json_pointer(out, 256, base, key);
}
/* "3", "\"abc\"", "an array", for messages: what the client sent, cut to a readable length. */
void fields_show(char out[80], const cJSON *v);
/* `"a", "b" or "c"`, with `last` before the last. */
void fields_choices(char out[256], const struct wasd_field *f, const char *last);
/* The row of that name in a table of capabilities; NULL: there is none. */
const cJSON *caps_row(const cJSON *caps, const char *table, const char *name);
/* Names of a table as `a, b or c`. */
void caps_names(const cJSON *caps, const char *table, char out[256]);

/* ---- spec.c ---- */

field_canon spec_name_canon, spec_labels_canon, spec_model_canon, spec_arch_canon, spec_was_canon, spec_weights_canon,
	spec_transforms_canon, spec_layers_canon, spec_draw_canon, spec_probability_canon, spec_odds_canon,
	spec_precision_canon, spec_augment_canon, spec_goal_canon, spec_modes_canon, spec_limit_canon, spec_init_canon,
	spec_queue_canon;
/* Checks a job spec against the tables and gives its canonical form. `dataset` still has the form the client gave. */
cJSON *spec_canon(const cJSON *in, const cJSON *caps, struct api_faults *faults);
/* What the job's network is called; "" when the spec names none. */
const char *spec_network(const cJSON *spec);
/* The object that says how WAS is applied, "was" or its entry of "weights", and its JSON pointer; NULL: it is not. */
cJSON *spec_was(const cJSON *spec, char at[32]);
/* Rules that need the dataset: its info JSON (shape, classes). */
void spec_check_dataset(const cJSON *spec, const cJSON *caps, const cJSON *info, struct api_faults *faults);

/* ---- networks.c ---- */

/* What only the engine can say of a job: whether its network, its batches and its profiles fit the data set, whose path
 * this is. *warnings is the caller's: [{"code","message"}] of what is known before it begins. False: the answer is in
 * r. */
bool api_job_check(struct api_ctx *c, const struct api_request *q, struct api_response *r, const cJSON *spec,
                   const char *dataset, cJSON **warnings);
/* The same of one profile of a checkpoint, from its job's spec and its own info, both JSON; true where that does not
 * say enough. */
bool api_profile_check(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *spec,
                       const char *ckpt_info, const cJSON *profile);

/* ---- multipart.c ---- */

struct multipart_part {
	const char *name, *filename, *type;
	const char *data;
	size_t len;
}; /* strings inside the parser's copy; "" when absent */
#define MULTIPART_PARTS 256
struct multipart {
	struct multipart_part *part;
	size_t n;
	char *strings;
};
/* Parses a whole body in memory. part data points into body. WASD_EINVAL names the part. */
enum wasd_status multipart_parse(const char *content_type, const char *body, size_t len, struct multipart *out,
                                 struct wasd_err *err);
void multipart_done(struct multipart *m);

/* ---- base64.c ---- */

/* Either alphabet of RFC 4648; blanks and line ends are skipped, padding may be left out. Appends the bytes to out. */
bool base64_decode(const char *s, size_t len, struct wasd_buf *out);
/* The same, or a URI "data:image/png;base64,...". */
bool base64_or_uri(const char *s, size_t len, struct wasd_buf *out);

/* ---- inference.c: what classify and /v2 infer share ---- */

struct inference {
	char name[64];
	struct api_live live;
	char mode[WASD_MODE_LEN]; /* of this request: the deployment's or the override */
	const char *asked;        /* what named it */
	cJSON *info;
	int64_t input[3];
	int64_t classes;
	int64_t max_batch;
	const char (*parts)[64];
	size_t n_parts;        /* what the images' parts of a form are called, for messages; 0 = not of a form */
	const char *images_at; /* the pointer of the pictures in the request; NULL: "/images/N" each */
	int64_t deadline_us;   /* of this request; the client may want it earlier than the daemon */
	const struct api_serving
		*counted;       /* this request is among the deployment's, until api_inference_end; NULL: it is not */
	bool answered;      /* by the infer process */
	struct api_ask ask; /* the question to the process */
};
struct mode_asked {
	const char *value, *where;
};
#define API_MODES_ASKED 16
/* The modes that headers and query of a request ask for, each time they do. Returns their number, at most room. */
size_t api_modes_asked(const struct api_request *q, struct mode_asked *out, size_t room);
/* Finds the deployment of a request and settles its mode from up to n explicit wishes (NULL = none). False: the answer
 * is in r. */
bool api_inference_look(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                        const struct mode_asked *asked, size_t n, struct inference *s);
/* The same for an inference request, which keeps its bundle loaded until api_inference_end. */
bool api_inference_begin(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                         const struct mode_asked *asked, size_t n, struct inference *s);
/* Has the question in s->ask.call asked on behalf of s, to which bundle and mode are added. finish is called with
 * &s->ask, which is a member of what the handler keeps until then. API_DONE: no memory, and finish is not called. */
enum api_result api_inference_ask(struct api_response *r, struct inference *s,
                                  void (*finish)(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                                 struct api_ask *ask));
/* In finish: is there an answer? False: the fault is answered. */
bool api_inference_answered(const struct api_request *q, struct api_response *r, struct inference *s);
void api_inference_headers(struct api_response *r, const struct inference *s);
void api_inference_end(struct inference *s); /* also frees the question and its answer */
void api_softmax(const float *logits, int64_t n, float *p);

/* ---- find.c: what a request names. False: the answer is in r. ---- */

/* The row of the path; the caller frees it. */
bool api_job_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct storage_job *out);
bool api_ckpt_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct storage_ckpt *out);
bool api_profile_find(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                      struct storage_profile *out);
bool api_deployment_find(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                         struct storage_deployment *out);
/* version 0: the latest */
bool api_dataset_find(struct api_ctx *c, const struct api_request *q, struct api_response *r, int64_t version,
                      struct storage_dataset *out);
/* A data set that can be trained or judged on; version 0: the latest. Faults are at /dataset. */
bool api_dataset_ready(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name,
                       int64_t version, struct storage_dataset *out);
/* A data set in a body: a name, or {"name","version"}. */
field_canon api_dataset_canon;
/* Trained without WAS, or imported without a draw: there is AOM and nothing else. */
bool api_ckpt_plain(const struct storage_ckpt *k);
/* Is the mode's profile, if it names one, ready? A mode that is at fault is answered by that code and pointer. */
bool api_mode_there(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *checkpoint,
                    const char *mode, const char *code, const char *pointer);
cJSON *api_ckpt_json(const struct storage_ckpt *k);
/* Answers with the checkpoints of a job as a list; job NULL: with the imported ones. */
enum api_result api_send_checkpoints(struct api_ctx *c, const char *job, const struct api_request *q,
                                     struct api_response *r);

/* ---- handlers, one line per route in routes.c ---- */

typedef enum api_result api_handler(struct api_ctx *c, const struct api_request *q, struct api_response *r);
api_handler api_jobs_create, api_jobs_list, api_jobs_get, api_jobs_patch, api_jobs_delete, api_jobs_cancel,
	api_jobs_transitions, api_jobs_checkpoints;
api_handler api_jobs_metrics, api_jobs_logs, api_jobs_events, api_events_stream;
api_handler api_datasets_put, api_datasets_post, api_datasets_list, api_datasets_get, api_datasets_versions,
	api_datasets_version, api_datasets_preview, api_datasets_delete;
api_handler api_checkpoints_get, api_checkpoints_patch, api_checkpoints_delete, api_checkpoints_file,
	api_checkpoints_list, api_checkpoints_import;
api_handler api_modes_list, api_profiles_create, api_profiles_list, api_profiles_get, api_profiles_delete;
api_handler api_blobs_put, api_blobs_get;
api_handler api_deployments_stats, api_deployments_create, api_deployments_list, api_deployments_get,
	api_deployments_delete, api_deployments_reload, api_mode_get, api_mode_put, api_mode_rollback,
	api_deployments_classify;
api_handler api_v2_server, api_v2_live, api_v2_ready, api_v2_models, api_v2_model, api_v2_model_ready, api_v2_config,
	api_v2_infer, api_v2_stats, api_v2_model_stats, api_v2_index, api_v2_not_offered;
api_handler api_audit_list, api_system_get, api_capabilities_get, api_networks_get, api_healthz, api_metrics_text;

/* ---- profile_request.c ---- */

/* The member "profiles" of a job spec. */
field_canon api_profiles_canon, api_profile_name_canon;
/* The body that asks for one profile of a checkpoint. NULL after a fault. */
cJSON *api_profile_canon(struct field_ctx *c, const cJSON *v);

/* ---- imports.c ---- */

bool api_digest_ok(const char *s); /* a SHA-256 in small hex digits */
/* The members "blob", "model", "classes" and "input" of a request; only blob is required. */
extern const struct wasd_field api_import_fields[];
field_canon api_blob_canon;
struct api_import {
	const char *at;           /* where the fields are: "", "/source", "/init_from" */
	const char *data_pointer; /* what gave classes and input and, at its own place, the model ("/dataset"); NULL: the
	                             fields themselves */
	const char *blob;
	const cJSON *model, *classes, *input; /* NULL: the file's metadata */
	bool to_serve, dry;
};
struct api_import api_import_read(const cJSON *fields, const char *at); /* borrows from fields */
/* Makes a checkpoint of a blob, or finds the one that was made before; dry: only checks, id is "". False: the answer is
 * in r. */
bool api_import(struct api_ctx *c, const struct api_request *q, struct api_response *r, const struct api_import *in,
                char id[32]);

#endif
