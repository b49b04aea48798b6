/* api/api.h - the REST contract as plain functions: they take a parsed request and fill a response. No sockets and
 * no SQL here.
 *
 * server/http/connection.c owns the connection: framing checks, limits, percent-decoding, request ids, staging of
 * uploads to disk, compression, keep-alive. Once the headers are complete it looks up the route (api_route_find),
 * reads the body as the route declares, and calls api_handle on a worker thread, where a handler may block on a
 * commit or on an engine's answer. Handlers reach the rest of the daemon only through struct api_ctx, whose members
 * tests replace with fakes. */
#ifndef API_API_H
#define API_API_H

#include "wasd/base.h"
#include "wasd/json.h"
#include "wasd/mode.h"

struct storage; /* storage/storage.h */

/* ---- request ------------------------------------------------------------------------------- */

struct api_pair {
	const char *name, *value;
}; /* header names in lower case; query values as percent-decoded UTF-8 */

struct api_upload {
	const char *path;
	uint64_t bytes;
	char sha256[WASD_SHA256_HEX];
	const char *name; /* the client's file name or "" */
};

struct api_request {
	const char *method;            /* "GET"...; HEAD arrives as GET, and http/connection.c drops the body */
	const char *path;              /* decoded, normalised: starts with '/', no "//", no dot segments */
	const struct api_route *route; /* the matched route; api_handle sets it for its handler */
	const struct api_pair *query;
	size_t n_query;
	const struct api_pair *headers;
	size_t n_headers;
	const char *body;
	size_t body_len; /* routes with API_BODY_JSON / API_BODY_BULK */
	const struct api_upload *uploads;
	size_t n_uploads;        /* API_BODY_UPLOAD: staged, synced files; http/connection.c deletes them unless taken */
	bool *uploads_taken;     /* set to true when the daemon keeps the staged files (ingest then deletes them) */
	const char *request_id;  /* "req_" ULID */
	const char *traceparent; /* "" when absent or malformed */
	const char *actor;       /* the caller, for audit rows: "anonymous@ADDR" until tokens exist */
	int64_t deadline_us;     /* monotonic; a handler that cannot answer in time answers 504 */
	int waited;              /* how often the handler has returned API_AGAIN */
	int64_t first_us;        /* monotonic time of the first run */
};
const char *api_query(const struct api_request *r, const char *name); /* NULL when absent; the first of repeated keys */
const char *api_header(const struct api_request *r, const char *name); /* name in lower case */

/* ---- response -------------------------------------------------------------------------------- */

/* A body read piece by piece on the connection's thread: read copies up to max bytes from offset off. It may block
 * only on a local read. Returns the number of bytes, 0 at the end, -1 on failure (the connection is cut, so the
 * client sees a short body). */
struct api_source {
	int64_t (*read)(void *ctx, uint64_t off, void *buf, size_t max);
	void (*done)(void *ctx);
	void *ctx;
	uint64_t size;
};

/* Selects lines of a log. */
struct api_log_filter {
	char level[8]; /* this level and above; "" = all */
	char contains[256];
	int64_t attempt; /* 0 = all */
};

struct api_response {
	int status;               /* 0 while unset */
	const char *content_type; /* static string */
	struct wasd_buf body;
	struct api_source
		source; /* replaces body when source.read is set; http/connection.c serves ranges from it (206/416) */
	struct {
		const char *name;
		char value[512];
	} headers[16];
	int n_headers;
	bool always_whole; /* the ETag identifies a version for If-Match, not this body: never answer 304 */
	bool etag_auto;    /* compute an ETag from the body when none is set (api_handle does so for GET 200) */
	/* Streaming events: http/connection.c keeps the connection open and sends what the hub publishes for this filter
	 * (SSE). */
	struct {
		bool on;
		char topics[64];
		char object[64];
		int64_t after_seq; /* -1: only new events */
	} events;
	struct {
		bool on;
		char job[64];
		int64_t after;
		struct api_log_filter filter;
	} follow_log;        /* logs?follow=1: text lines as they arrive */
	struct api_ask *ask; /* API_ASK */
	char problem[160];   /* "code: detail" of the problem that was sent, for the log; "": none */
	/* API_AGAIN: run the handler again at the next event of `topic`/`object` or at the deadline. */
	struct {
		char object[64];
		int64_t until_us;
	} again;
};
/* API_ASK: send the question r->ask; its finish builds the response. */
enum api_result { API_DONE, API_AGAIN, API_ASK };
struct api_ask;
void api_response_init(struct api_response *r);
void api_response_done(struct api_response *r);
void api_set_header(struct api_response *r, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Takes ownership of j (also on failure). Content-Type application/json. */
void api_send_json(struct api_response *r, int status, cJSON *j);
/* problem+json (RFC 9457); on /v2 the same members plus "error", as application/json. code: a row of api/errors.c;
 * pointer: the member at fault, NULL or "" for none. */
void api_send_problem(const struct api_request *q, struct api_response *r, const char *code, const char *pointer,
                      const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Maps a wasd_status to an HTTP status and code (the only such table); passes on err's message and pointer. */
void api_send_error(const struct api_request *q, struct api_response *r, const struct wasd_err *err);

/* ---- routes ------------------------------------------------------------------------------------ */

enum api_body {
	API_BODY_NONE /* a body that is not empty is refused (413/400) */,
	API_BODY_JSON /* <= 256 KiB */,
	API_BODY_BULK /* <= 16 MiB, any type; the handler waits for nothing: with a small body it runs on the
	                 connection's thread */
	,
	API_BODY_UPLOAD /* streamed to disk: raw body, or multipart file parts */
};

struct api_ctx;
struct api_route {
	const char *method, *pattern; /* "/v1/jobs/{id}/metrics"; ":verb" suffixes also match "/verb" */
	enum api_body body;
	enum api_result (*handle)(struct api_ctx *c, const struct api_request *q, struct api_response *r);
	const char *summary; /* one line, for /docs/api */
	const char *query;   /* its query parameters, space-separated; "label.*" is a prefix; NULL = none; others get 400 */
};
extern const struct api_route api_routes[]; /* api/routes.c; ends with a row whose method is NULL */
/* Finds the route. When there is none, returns NULL and fills allow: "GET, PUT" when the path exists with other
 * methods (405), "" when it does not (404). HEAD finds GET. */
const struct api_route *api_route_find(const char *method, const char *path, char allow[64]);
/* Copies a path parameter of the matched route to out (at most 128 bytes incl. NUL). False: the pattern has no such
 * parameter. */
bool api_path_param(const struct api_route *rt, const char *path, const char *name, char out[128]);

/* Answers a request without a route: 405 with Allow, or 404 when allow is "". */
void api_send_unrouted(const struct api_request *q, struct api_response *r, const char *allow);

/* Runs the route's handler and the checks shared by all routes: before it query names, empty body, cross-origin
 * writes and If-Match; after it ETag and If-None-Match (304), for which it clears etag_auto, so http/connection.c
 * adds none. */
enum api_result api_handle(struct api_ctx *c, const struct api_route *rt, const struct api_request *q,
                           struct api_response *r);

/* ---- services of the daemon for handlers ------------------ */

struct api_call { /* one question to an engine process; the answer goes into the same struct */
	cJSON *json;  /* the request, taken; NULL afterwards */
	const void *bin;
	size_t bin_len;   /* borrowed; sent inline or as a memfd, depending on its size */
	const char *who;  /* the deployment that asks, borrowed; NULL: none */
	size_t reply_max; /* limit for the bytes of a reply memfd; 0: no memfd allowed */
	cJSON *reply;
	char *reply_bin;
	size_t reply_bin_len; /* owned by the caller, freed by api_call_done */
};
void api_call_done(struct api_call *c);

/* How an inference request has ended: the outcomes of wasd_infer_requests_total. */
#define API_ANSWERED "ok"
#define API_INVALID "invalid"     /* the request's own fault */
#define API_REJECTED "rejected"   /* the queue was full */
#define API_CANCELLED "cancelled" /* the client had gone */
#define API_LATE "deadline"
#define API_FAILED "failed" /* the engine's or the daemon's fault */

enum { API_PRIORITIES = 4, API_PRIORITY_DEFAULT = 2 };

/* A handler's question to the infer process, or for a measurement (API_ASK): the exchange sends it and calls finish
 * with the answer in call. */
struct api_ctx;
struct api_request;
struct api_response;
struct api_ask {
	struct api_call call;      /* json is kept until the answer arrives; bin belongs to the handler until finish */
	const char *bundle, *mode; /* borrowed; the json repeats them */
	int64_t images;            /* images in this request */
	/* Options of the deployment. The latest request's count for all that wait. */
	int64_t max_batch, max_queue_delay_us, queue_max; /* as in struct api_live */
	bool alone;   /* the answer cannot be joined with others or split: computed alone */
	int priority; /* 1: first, to API_PRIORITIES: only while nothing else waits; 0: API_PRIORITY_DEFAULT */
	int64_t deadline_us;
	enum wasd_status status; /* status and message of the answer; WASD_EBUSY also when it came too late */
	struct wasd_err err;
	const char *outcome; /* API_REJECTED, API_CANCELLED or API_LATE; NULL: see status */
	/* A cascade: mode is the cheap one, the answer must be logits. Images whose two likeliest classes are closer than
	 * threshold are computed again in AOM; macs is then the mean, and the reply has "repeated": [indices]. */
	bool cascade;
	double threshold;
	bool governed; /* the traffic policy chose the mode */
	bool timing;   /* a measurement for api_estimates, not a request to the infer process */
	/* Of an answered request: time from its arrival to its batch; what the process reports, summed over the batches of
	 * a large request; its multiply-adds divided by its images; number of images in the (largest) batch that contained
	 * it; images that the network computed for it (more than images where pictures were cropped several times). */
	int64_t queue_us, decode_us, process_queue_us, compute_us, macs, computed_with, computed;
	int64_t retry_s; /* refused because the queue is full: seconds until there is room, by measurement */
	/* Called once, on a worker thread, even if the client has gone. Frees what the handler kept. */
	void (*finish)(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct api_ask *ask);
	/* private */
	void (*done)(void *ctx);
	void *ctx;
	int64_t came_us;
	void (*over)(struct api_ask *ask); /* called in place of done when the request has ended; NULL: done */
	void *owner;                       /* of over */
	bool uncounted;                    /* not in the statistics of requests: the shadow of one */
};

/* A file to send: the receiver closes fd. */
struct api_file {
	int fd;
	int64_t bytes;
	char sha256[WASD_SHA256_HEX];
};

struct api_live {
	char mode[WASD_MODE_LEN]; /* as it was set: a mode of the bundle, "auto" or "cascade" */
	int64_t generation;
	char bundle[64];
	int64_t version;
	int64_t max_batch; /* the largest number of images in a batch of several requests; 0: each request alone */
	int64_t max_queue_delay_us, queue_max, default_timeout_us; /* its options; 0: none */
	bool ready;
	bool suspended;
	int64_t retry_s; /* not ready and suspended: seconds until the next load attempt, 0: soon */
	/* What answers a request that names no mode. */
	struct api_pick {
		char mode[WASD_MODE_LEN]; /* a mode of the bundle; with cascade: the cheap one */
		bool cascade;             /* images whose two likeliest classes are closer than threshold are repeated in AOM */
		double threshold;         /* least difference of the two probabilities that needs no repetition */
	} pick;
};

/* What is known of a loaded bundle: {"bundle","arch","input","classes","max_batch","modes":{...}...}. Never changes;
 * requests share it. */
struct api_facts {
	_Atomic int refs;
	cJSON *json;
};
struct api_facts *api_facts_create(cJSON *json); /* takes json; one reference; NULL: json is NULL, or no memory */
void api_facts_unref(struct api_facts *f);       /* NULL is fine */

/* Services of the daemon. The file of server/ that does the work fills each member (tests use fakes): self is its
 * object, opaque to the API. */
struct sched;
struct profiles;
struct ingest;
struct convert;
struct serving;
struct describer;
struct wasd_daemon;
struct metrics;
struct reports;
struct estimates;
struct wasd_machine;
struct storage_job;
struct storage_deployment;
struct storage_traffic_in;

/* Changes of a job on request, besides cancelling it. */
enum api_job_change {
	API_JOB_PAUSE,  /* training: its checkpoint is stored at once, and it waits as paused; not begun: it is held */
	API_JOB_HOLD,   /* a job that has not begun, or waits for another attempt */
	API_JOB_RESUME, /* paused, held -> queued */
	API_JOB_RETRY,  /* failed, cancelled -> queued, for another attempt */
};
struct storage_request;

/* Training jobs. Called after the rows are committed. */
struct api_jobs {
	struct sched *self;
	void (*queued)(struct sched *self, const char *job); /* this job may have become runnable; NULL: any may */
	enum wasd_status (*cancel)(struct sched *self, const char *job, bool kill, const char *reason, const char *actor,
	                           struct wasd_err *err);
	/* WASD_ESTATE: not possible in the job's state. What already holds gives WASD_OK. */
	enum wasd_status (*change)(struct sched *self, const char *job, enum api_job_change what,
	                           const struct storage_request *r, struct wasd_err *err);
	/* Progress, attempt, queue position, img/s and ETA of a running or queued job, or NULL. */
	cJSON *(*live)(struct sched *self, const char *job);
	/* How a job with this spec would run if it were submitted now: {"threads","running","queue":{as in live}}; running:
	 * the jobs that train. NULL: no memory, or the database failed. */
	cJSON *(*would)(struct sched *self, const cJSON *spec);
};

/* What jobs that are not submitted yet would take. */
struct api_estimates {
	struct estimates *self;
	/* wasd_train_estimate of the spec on a dataset (a path below the data directory); the caller owns *out. */
	enum wasd_status (*sizes)(struct estimates *self, const cJSON *spec, const char *dataset, int64_t threads,
	                          cJSON **out, struct wasd_err *err);
	/* As in api_serving: measures a few steps, for about two seconds, or knows the answer. ask->call.json: {"spec",
	 * "dataset","threads","memory_mb" (its limit, 0: none),"beside" (jobs that train)}; the reply: {"batch","steps",
	 * "step_s","image_s"} (wasd_train_measure). */
	void (*ask)(struct estimates *self, struct api_ask *ask, void (*done)(void *ctx), void *ctx);
	void (*forget)(struct estimates *self, const void *ctx);
};

/* Profile searches. */
struct api_profiles {
	struct profiles *self;
	void (*queued)(struct profiles *self, const char *id);
	/* The rows of a profile are deleted: stops its search and stops serving it. */
	void (*gone)(struct profiles *self, const char *checkpoint, const char *id);
	/* The progress of a search; false when it is not running. */
	bool (*progress)(struct profiles *self, const char *id, int64_t *done, int64_t *of, double *eta_s);
	/* As api_jobs.live, for a trained job that waits for its profiles: {"progress"}; NULL: the job is not in that
	 * phase. */
	cJSON *(*live)(struct profiles *self, const char *job);
};

/* What a checkpoint's modes get right and wrong (wasd/profile.h). */
struct api_reports {
	struct reports *self;
	/* *text (wasd_free): the report on this checkpoint of the job, JSON, on the images that its run held out or on the
	 * test images. WASD_EBUSY: it is being computed, *done of *of batches so far; an event of the job tells the end.
	 * Another status: why there is none. */
	enum wasd_status (*get)(struct reports *self, const struct storage_job *job, const char *checkpoint, bool test,
	                        char **text, int64_t *done, int64_t *of, struct wasd_err *err);
};

/* Work on checkpoints that takes a while: merges (wasd/merge.h) and archives (wasd/archive.h). A record is
 * {"id","state":"queued"|"running"|"ready"|"failed","checkpoints","request","created_at","created_by"}, with "progress"
 * {"done","of"} while it runs, "finished_at" at its end, then what came of it, or "message" and "pointer". Times are
 * numbers. An event of the record's id tells the end.
 *
 * A merge that measures has also "dataset" {"name","version"}; a ready one "checkpoint", "metrics" and "merge"
 * (wasd/merge.h). A ready archive has "files", "bytes" and "sha256". */
struct api_records {
	void *self;
	/* Takes record: what the request gives of it. An archive has 1 to WASD_ARCHIVE_MAX "checkpoints". */
	enum wasd_status (*begin)(void *self, cJSON *record, char id[40], struct wasd_err *err);
	enum wasd_status (*get)(void *self, const char *id, cJSON **record, struct wasd_err *err);
	cJSON *(*list)(void *self); /* an array, newest first; NULL: no memory */
	/* The file of an archive. WASD_ESTATE: it is not ready. NULL: it has none. */
	enum wasd_status (*open)(void *self, const char *id, struct api_file *out, struct wasd_err *err);
	/* Ends one that runs, and removes it. A checkpoint that a merge has made stays. */
	enum wasd_status (*forget)(void *self, const char *id, struct wasd_err *err);
};

/* Webhooks: the daemon sends events by itself. */
struct webhooks;
struct storage_webhook;
struct api_webhook_test {
	bool delivered;
	int64_t status, ms; /* status 0: no answer */
	char error[256];
};
struct api_webhooks {
	struct webhooks *self;
	void (*changed)(struct webhooks *self); /* a hook was added or changed */
	/* Sends a test event and waits for the answer. */
	enum wasd_status (*test)(struct webhooks *self, const struct storage_webhook *h, const char *actor,
	                         struct api_webhook_test *out, struct wasd_err *err);
};

/* Datasets: the version row exists in state scanning. The daemon takes the staged files and moves the row to ready
 * or invalid. */
struct api_data {
	struct ingest *self;
	/* options (borrowed): the members that the query set, e.g. {"size":32}; passed to the engine unchanged
	 * (wasd/protocol.h). */
	enum wasd_status (*ingest)(struct ingest *self, const char *dataset, int version, const struct api_upload *files,
	                           size_t n, const cJSON *options, struct wasd_err *err);
	enum wasd_status (*synthesize)(struct ingest *self, const char *dataset, int version, const char *kind,
	                               int64_t train, int64_t test, int64_t seed, struct wasd_err *err);
	enum wasd_status (*preview)(struct ingest *self, const char *path, const char *split, int64_t index,
	                            struct api_call *call, struct wasd_err *err);
	/* Rows are deleted: removes their files (newline-separated, relative to the data directory). */
	void (*gone)(struct ingest *self, const char *paths);
};

/* Files addressed by their digest, kept for a day. */
struct api_blobs {
	const char *self; /* the data directory */
	/* *existed: the blob was already stored; otherwise the staged file is taken. */
	enum wasd_status (*put)(const char *self, const struct api_upload *file, bool *existed, struct wasd_err *err);
	enum wasd_status (*open)(const char *self, const char *sha256, struct api_file *out,
	                         struct wasd_err *err); /* WASD_ENOTFOUND */
};

/* Converts checkpoints to and from files of other formats, and reads them. The functions wait until deadline_us. */
struct api_files {
	struct convert *self;
	/* A checkpoint as a file ("safetensors", "onnx"), converted now or recently. WASD_ENOTFOUND: the checkpoint has
	 * no such mode; WASD_ESTATE: the mode's statistics were never measured. */
	enum wasd_status (*export_ckpt)(struct convert *self, const char *checkpoint, const char *format, const char *mode,
	                                int64_t deadline_us, struct api_file *out, struct wasd_err *err);
	/* Stores a blob as a checkpoint without a job; importing the same blob again gives the same id. how:
	 * {"model","classes","input"} (each optional) and "to_serve". dry: stores nothing, id is "". WASD_ENOTFOUND: no
	 * such blob; WASD_EINVAL, WASD_ECORRUPT...: refused, and the pointer names the field ("/model"), tensor or
	 * metadata key. */
	enum wasd_status (*import_blob)(struct convert *self, const char *sha256, const cJSON *how, bool dry,
	                                int64_t deadline_us, char id[32], struct wasd_err *err);
	/* What the weights of a checkpoint are: wasd_checkpoint_layers of wasd/convert.h, or, given {"layer","output",
	 * "outputs","input","inputs"}, wasd_checkpoint_kernels with its statuses. The caller owns *out. */
	enum wasd_status (*inspect)(struct convert *self, const char *checkpoint, const cJSON *kernels, int64_t deadline_us,
	                            cJSON **out, struct wasd_err *err);
};

/* Deployments. */
struct api_serving {
	struct serving *self;
	/* The row was created or its source changed: loads the bundles it needs. */
	enum wasd_status (*changed)(struct serving *self, const char *name, struct wasd_err *err);
	/* The options of the row were changed: applies them to all later requests. */
	enum wasd_status (*tuned)(struct serving *self, const char *name, struct wasd_err *err);
	/* Returns when every switch and swap that has been committed is live. */
	void (*settle)(struct serving *self);
	/* The row is draining: no new request begins. *in_flight: those that are still to be answered; after the last one
	 * storage_deployment_drained is called. */
	enum wasd_status (*gone)(struct serving *self, const char *name, int64_t *in_flight, struct wasd_err *err);
	/* A snapshot for one request, atomic with respect to switches: every request admitted after switch_mode returned
	 * sees the new mode. */
	bool (*live)(struct serving *self, const char *name, struct api_live *out);
	/* The same for an inference request: its turn of a split is taken, or the mode of the value of its sticky header.
	 */
	bool (*admit)(struct serving *self, const char *name, const struct api_request *q, struct api_live *out);
	/* Commits the traffic policy (storage_deployment_traffic), then follows it. The caller frees *out. */
	enum wasd_status (*traffic)(struct serving *self, const struct storage_traffic_in *in,
	                            struct storage_deployment *out, struct wasd_err *err);
	/* What the policy does now: {"mode","auto":{...}|null,"cascade":{...}|null}; NULL: not live, or no memory. */
	cJSON *(*traffic_now)(struct serving *self, const char *name);
	/* Of the loaded bundle, or NULL. The caller drops the reference. */
	struct api_facts *(*facts)(struct serving *self, const char *name);
	/* The same as a copy, and the deployment's conditions. */
	cJSON *(*info)(struct serving *self, const char *name);
	/* Commits the switch (generation+1, audit, event) and then swaps. expect < 0: unconditional. WASD_ESTATE when
	 * expect is stale, WASD_EBUSY when the bundle of that mode is not loaded. *swap_us = from the commit until it is
	 * live, *in_flight_old = requests that still use the old mode. */
	enum wasd_status (*switch_mode)(struct serving *self, const char *name, const char *mode, int64_t expect,
	                                const char *actor, const char *reason, struct api_live *now,
	                                struct api_live *before, int64_t *swap_us, int64_t *in_flight_old,
	                                char audit_id[64], struct wasd_err *err);
	/* Sends a question to the infer process without waiting: done(ctx) is called once, on any thread, when the
	 * answer is in ask. forget: the client with that ctx has gone; done is called soon unless it already was. */
	void (*ask)(struct serving *self, struct api_ask *ask, void (*done)(void *ctx), void *ctx);
	void (*forget)(struct serving *self, const void *ctx);
	/* Counters of a deployment in Triton's form, plus "requests", "failed", "in_flight", "waiting" (in the queue);
	 * NULL: no memory. */
	cJSON *(*stats)(struct serving *self, const char *name);
	/* What was answered in at least the last `seconds`, by mode (window_json), and the shadow's agreement: {"window",
	 * "shadow"}; NULL: not live, or no memory. */
	cJSON *(*window)(struct serving *self, const char *name, int64_t seconds);
	/* An image on which the shadow differed. *type: its Content-Type; pixels as float32 have the type
	 * application/octet-stream. False: it is gone. */
	bool (*example)(struct serving *self, const char *name, int64_t id, struct wasd_buf *out, const char **type);
	/* Keeps the bundle of that snapshot loaded until end. False: it is being unloaded; another snapshot is needed. */
	bool (*begin)(struct serving *self, const char *name, const struct api_live *live);
	void (*end)(struct serving *self, const char *name, const struct api_live *live, bool ok);
	/* {"up","restarts","restart_in_s":N|null,"suspended":[names],"not_loaded":[names],...}; not_loaded: deployments
	 * that have answered before and cannot now, because the process is restarting. NULL: no memory. */
	cJSON *(*health)(struct serving *self);
};

/* The engine's tables, and its analysis of networks. */
struct api_engine {
	struct describer *self;
	const cJSON *(*capabilities)(struct describer *self); /* the engine's tables; borrowed, immutable */
	/* Describes a network (wasd_network_describe of wasd/model.h) given {"model","was","input","classes"}; the
	 * caller owns *out. WASD_EINVAL and WASD_ETOOBIG: the network's fault, with the pointer into the job spec. Given
	 * {"spec","dataset","profiles"} or {"spec","input","classes","profiles"}, where dataset is a path below the data
	 * directory, checks a job: {"warnings":[{"code","message"}]}, or the error with which that job would fail at its
	 * start. */
	enum wasd_status (*describe)(struct describer *self, const cJSON *request, cJSON **out, struct wasd_err *err);
};

/* The daemon itself. */
struct api_system {
	struct wasd_daemon *self;
	cJSON *(*report)(struct wasd_daemon *self); /* workers, uptime, disk, versions, addresses */
	bool (*ready)(struct wasd_daemon *self);
	void (*machine)(struct wasd_daemon *self, struct wasd_machine *out); /* wasd/machine.h, read now */
};

/* The request for a profile or another mode, as JSON text: from an item of a job spec's "profiles" or "modes" or from a
 * request in that form. NULL: no memory. */
char *api_profile_request(const cJSON *item);
/* The mode that a canonical request asks for, and its kind; both as of profiles if the capabilities lack its desire. */
const char *api_mode_asked(const cJSON *caps, const cJSON *request, char mode[WASD_MODE_LEN]);

struct api_ctx {
	struct storage *db;
	struct api_jobs jobs;
	struct api_profiles profiles;
	struct api_reports reports;
	struct api_records merges, archives;
	struct api_estimates estimates;
	struct api_data data;
	struct api_blobs blobs;
	struct api_files files;
	struct api_serving serving;
	struct api_engine engine;
	struct api_system system;
	struct api_webhooks webhooks;
	struct metrics *metrics; /* metrics.h */
	bool triton_aliases;     /* /metrics also shows them under Triton's names */
};

#endif
