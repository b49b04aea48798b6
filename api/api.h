/* api/api.h - the REST contract as plain functions: a parsed request in, a response out. No sockets, no SQL here.
 *
 * server/http/connection.c owns the connection: framing checks, limits, percent-decoding, request ids, staging of
 * uploads to disk, compression, keep-alive. It looks the route up when the headers are in (api_route_find), reads the
 * body as the route says, and calls api_handle on a worker thread, where a handler may block on a commit or on an
 * engine's answer. Handlers reach the daemon's moving parts only through those of struct api_ctx, which tests replace
 * by fakes.
 */
#ifndef API_API_H
#define API_API_H

#include "wasd/base.h"
#include "wasd/json.h"
#include "wasd/mode.h"

struct storage; /* storage/storage.h */

/* ---- request ------------------------------------------------------------------------------- */

struct api_pair {
	const char *name, *value;
}; /* header names lower-case; query values percent-decoded UTF-8 */

struct api_upload {
	const char *path;
	uint64_t bytes;
	char sha256[WASD_SHA256_HEX];
	const char *name; /* client's file name or "" */
};

struct api_request {
	const char *method;            /* "GET"... HEAD arrives as GET; http/connection.c drops the body */
	const char *path;              /* decoded, normalised: starts with '/', no "//", no dot segments */
	const struct api_route *route; /* the matched one; api_handle sets it for its handler */
	const struct api_pair *query;
	size_t n_query;
	const struct api_pair *headers;
	size_t n_headers;
	const char *body;
	size_t body_len; /* routes with API_BODY_JSON / API_BODY_BULK */
	const struct api_upload *uploads;
	size_t n_uploads; /* routes with API_BODY_UPLOAD: staged files, already synced; deleted by http/connection.c unless
	                     taken */
	bool *uploads_taken;     /* set to true when the daemon keeps the staged files (ingest deletes them) */
	const char *request_id;  /* "req_" ULID */
	const char *traceparent; /* "" when absent or malformed */
	const char *actor;       /* who asks, for the audit rows: "anonymous@ADDR" until tokens exist */
	int64_t deadline_us;     /* monotonic; a handler that cannot answer by then answers 504 */
	int waited;              /* how often the handler has asked to be run again (API_AGAIN) */
	int64_t first_us;        /* monotonic time of the first run */
};
const char *api_query(const struct api_request *r, const char *name);  /* NULL when absent; repeated keys: the first */
const char *api_header(const struct api_request *r, const char *name); /* name lower-case */

/* ---- response -------------------------------------------------------------------------------- */

/* A body produced piece by piece on the connection's thread: read up to max bytes at offset off. Must not block on
 * anything but a local read. Returns bytes, 0 at the end, -1 on failure (the connection is cut: the client sees a short
 * body). */
struct api_source {
	int64_t (*read)(void *ctx, uint64_t off, void *buf, size_t max);
	void (*done)(void *ctx);
	void *ctx;
	uint64_t size;
};

/* Which lines of a log. */
struct api_log_filter {
	char level[8]; /* this one and above; "" = all */
	char contains[256];
	int64_t attempt; /* 0 = all */
};

struct api_response {
	int status;               /* 0 while unset */
	const char *content_type; /* static string */
	struct wasd_buf body;
	struct api_source
		source; /* instead of body when source.read is set; ranges are served by http/connection.c from it (206/416) */
	struct {
		const char *name;
		char value[512];
	} headers[16];
	int n_headers;
	bool always_whole; /* the ETag set is a version for If-Match, not of this body: never a 304 */
	bool etag_auto;    /* a body-hash ETag is wanted when no other is set (api_handle does that for GET 200) */
	/* Streaming events: http/connection.c keeps the connection and sends what the hub publishes for this filter (SSE).
	 */
	struct {
		bool on;
		char topics[64];
		char object[64];
		int64_t after_seq; /* -1: only new ones */
	} events;
	struct {
		bool on;
		char job[64];
		int64_t after;
		struct api_log_filter filter;
	} follow_log;        /* logs?follow=1: text lines as they come */
	struct api_ask *ask; /* API_ASK */
	/* API_AGAIN: run the handler again when `topic`/`object` has a new event, or at the deadline. */
	struct {
		char object[64];
		int64_t until_us;
	} again;
};
/* API_ASK: r->ask is to be asked, and its finish makes the response. */
enum api_result { API_DONE, API_AGAIN, API_ASK };
struct api_ask;
void api_response_init(struct api_response *r);
void api_response_done(struct api_response *r);
void api_set_header(struct api_response *r, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Takes ownership of j (also on failure). Content-Type application/json. */
void api_send_json(struct api_response *r, int status, cJSON *j);
/* problem+json (RFC 9457), or on /v2 the same members plus "error" as application/json. code: a row of api/errors.c;
 * pointer NULL or "" = no culprit. */
void api_send_problem(const struct api_request *q, struct api_response *r, const char *code, const char *pointer,
                      const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* The one table from wasd_status to HTTP status and code; err's message and pointer travel. */
void api_send_error(const struct api_request *q, struct api_response *r, const struct wasd_err *err);

/* ---- routes ------------------------------------------------------------------------------------ */

enum api_body {
	API_BODY_NONE /* a body is refused when not empty (413/400) */,
	API_BODY_JSON /* <= 256 KiB */,
	API_BODY_BULK /* <= 16 MiB, any type */,
	API_BODY_UPLOAD /* streamed to disk: raw body, or multipart file parts */
};

struct api_ctx;
struct api_route {
	const char *method, *pattern; /* "/v1/jobs/{id}/metrics"; ":verb" suffixes also match "/verb" */
	enum api_body body;
	enum api_result (*handle)(struct api_ctx *c, const struct api_request *q, struct api_response *r);
	const char *summary; /* one line, for /docs/api */
	const char
		*query; /* names of its query parameters, space-separated; "label.*" is a prefix; NULL = none. Others are 400 */
};
extern const struct api_route api_routes[]; /* api/routes.c; ends with a NULL method */
/* The route, or NULL with *allow filled ("GET, PUT") when the path is known with other methods (405), "" when unknown
 * (404). HEAD finds GET. */
const struct api_route *api_route_find(const char *method, const char *path, char allow[64]);
/* A path parameter of the matched route, copied to out (at most 128 bytes incl. NUL); false if the pattern has none of
 * that name. */
bool api_path_param(const struct api_route *rt, const char *path, const char *name, char out[128]);

/* What to answer when there is no route: 405 with Allow, or 404 when allow is "". */
void api_send_unrouted(const struct api_request *q, struct api_response *r, const char *allow);

/* Runs the route's handler between the checks that every route shares: query names, empty body, cross-origin writes,
 * If-Match, and afterwards ETag and If-None-Match (304), for which etag_auto is cleared: http/connection.c has nothing
 * to add. */
enum api_result api_handle(struct api_ctx *c, const struct api_route *rt, const struct api_request *q,
                           struct api_response *r);

/* ---- what the daemon lends the handlers ------------------ */

struct api_call { /* one question to an engine process; answer in the same struct */
	cJSON *json;  /* request, taken; NULL afterwards */
	const void *bin;
	size_t bin_len;   /* borrowed; sent inline or as a memfd by size */
	const char *who;  /* the deployment it is for; borrowed; NULL: none */
	size_t reply_max; /* the most bytes that may come back as a memfd; 0: none */
	cJSON *reply;
	char *reply_bin;
	size_t reply_bin_len; /* the caller's, freed by api_call_done */
};
void api_call_done(struct api_call *c);

/* A handler's question to the infer process (API_ASK): the exchange asks, and calls finish with the answer in call. */
struct api_ctx;
struct api_request;
struct api_response;
struct api_ask {
	struct api_call call;      /* json is kept until the answer is there; bin is the handler's until finish */
	const char *bundle, *mode; /* borrowed; the json has them too */
	int64_t images;            /* of this request */
	int64_t most_images; /* of a tensor: it may be computed with others, at most so many images at once; 0: alone */
	int64_t deadline_us;
	enum wasd_status status; /* the answer's, and its message; WASD_EBUSY also when it did not come in time */
	struct wasd_err err;
	int64_t queue_us, computed_with; /* how long it waited; the images of the batch that it was part of */
	/* On a worker thread, once, also when there is nobody left to answer. Frees what the handler kept. */
	void (*finish)(struct api_ctx *c, const struct api_request *q, struct api_response *r, struct api_ask *ask);
	/* private */
	struct api_ask *next;
	void (*done)(void *ctx);
	void *ctx;
	int64_t came_us;
	bool alone;
};

/* A file to hand out: the receiver closes fd. */
struct api_file {
	int fd;
	int64_t bytes;
	char sha256[WASD_SHA256_HEX];
};

struct api_live {
	char mode[WASD_MODE_LEN];
	int64_t generation;
	char bundle[64];
	int64_t version;
	int64_t batch; /* the most images that requests are computed together with; 0: each alone */
	bool ready;
	bool suspended;
	int64_t retry_s; /* not ready: set aside; seconds until it is tried again, 0: soon */
};

/* What the daemon lends the handlers, part by part. A part is filled by the file of server/ that does the work (tests
 * have a fake of their own): self is its object, of which the API knows the name only. */
struct sched;
struct profiles;
struct ingest;
struct convert;
struct serving;
struct describer;
struct wasd_daemon;

/* Training jobs. Called after the rows are committed. */
struct api_jobs {
	struct sched *self;
	void (*queued)(struct sched *self); /* something may be runnable */
	enum wasd_status (*cancel)(struct sched *self, const char *job, bool kill, const char *reason,
	                           struct wasd_err *err);
	/* progress, attempt, queue position, img/s, ETA of a running or queued job; NULL */
	cJSON *(*live)(struct sched *self, const char *job);
};

/* The searches of profiles. */
struct api_profiles {
	struct profiles *self;
	void (*queued)(struct profiles *self);
	/* The rows of one are gone: its search ends, it is served no more. */
	void (*gone)(struct profiles *self, const char *checkpoint, const char *id);
	/* How far a search is, false when it does not run. */
	bool (*progress)(struct profiles *self, const char *id, int64_t *done, int64_t *of, double *eta_s);
	/* As api_jobs.live, of a job that runs only for its profiles: {"progress"}; NULL: it does not. */
	cJSON *(*live)(struct profiles *self, const char *job);
};

/* Datasets: the version row exists in state scanning. The daemon takes the staged files and moves the row to ready or
 * invalid. */
struct api_data {
	struct ingest *self;
	/* options (borrowed): the members that the query gave, {"size":32}; the same for the engine (wasd/protocol.h). */
	enum wasd_status (*ingest)(struct ingest *self, const char *dataset, int version, const struct api_upload *files,
	                           size_t n, const cJSON *options, struct wasd_err *err);
	enum wasd_status (*synthesize)(struct ingest *self, const char *dataset, int version, const char *kind,
	                               int64_t train, int64_t test, int64_t seed, struct wasd_err *err);
	enum wasd_status (*preview)(struct ingest *self, const char *path, const char *split, int64_t index,
	                            struct api_call *call, struct wasd_err *err);
	/* Rows are deleted: removes the files (newline-separated, relative to the data directory). */
	void (*gone)(struct ingest *self, const char *paths);
};

/* Files by their digest, kept for a day. */
struct api_blobs {
	const char *self; /* the data directory */
	/* *existed when it was there already, else the staged file is taken. */
	enum wasd_status (*put)(const char *self, const struct api_upload *file, bool *existed, struct wasd_err *err);
	enum wasd_status (*open)(const char *self, const char *sha256, struct api_file *out,
	                         struct wasd_err *err); /* WASD_ENOTFOUND */
};

/* Checkpoints as files of another format and back. Both wait until deadline_us. */
struct api_files {
	struct convert *self;
	/* A checkpoint as a file ("safetensors", "onnx"), made now or not long ago. WASD_ENOTFOUND: it has no such mode;
	 * WASD_ESTATE: the mode's statistics were never measured. */
	enum wasd_status (*export_ckpt)(struct convert *self, const char *checkpoint, const char *format, const char *mode,
	                                int64_t deadline_us, struct api_file *out, struct wasd_err *err);
	/* A blob as a stored checkpoint without a job; the same again gives the same id. how: {"model","classes","input"}
	 * (each may be absent) and "to_serve". dry: nothing is stored and id is "". WASD_ENOTFOUND: no such blob;
	 * WASD_EINVAL, WASD_ECORRUPT...: refused, the pointer names the field ("/model"), tensor or metadata key. */
	enum wasd_status (*import_blob)(struct convert *self, const char *sha256, const cJSON *how, bool dry,
	                                int64_t deadline_us, char id[32], struct wasd_err *err);
};

/* Deployments. */
struct api_serving {
	struct serving *self;
	/* The row was created or its source changed; loads what it needs. */
	enum wasd_status (*changed)(struct serving *self, const char *name, struct wasd_err *err);
	enum wasd_status (*gone)(struct serving *self, const char *name, struct wasd_err *err);
	/* Snapshot for one request, atomic against switches: everything admitted after switch_mode returned sees the new
	 * mode. */
	bool (*live)(struct serving *self, const char *name, struct api_live *out);
	/* {"arch","input","classes","max_batch","modes":{...},"state","condition"...} from the loaded bundle; NULL */
	cJSON *(*info)(struct serving *self, const char *name);
	/* Commits (generation+1, audit, event) and then swaps. expect < 0: unconditional. WASD_ESTATE when expect is stale,
	 * WASD_EBUSY when that mode's bundle is not there. *swap_us = time of the swap, *in_flight_old = requests still on
	 * the old one. */
	enum wasd_status (*switch_mode)(struct serving *self, const char *name, const char *mode, int64_t expect,
	                                const char *actor, const char *reason, struct api_live *now,
	                                struct api_live *before, int64_t *swap_us, int64_t *in_flight_old,
	                                char audit_id[64], struct wasd_err *err);
	/* Asks the infer process without waiting: done(ctx) is called once, on any thread, when ask has its answer. forget:
	 * whoever asked with that ctx has gone; done is called soon if it was not. */
	void (*ask)(struct serving *self, struct api_ask *ask, void (*done)(void *ctx), void *ctx);
	void (*forget)(struct serving *self, const void *ctx);
	/* What was done for a deployment, as Triton tells it, with "requests", "failed", "in_flight"; NULL: no memory. */
	cJSON *(*stats)(struct serving *self, const char *name);
	void (*begin)(struct serving *self, const char *name, int64_t generation); /* in-flight count per generation */
	void (*end)(struct serving *self, const char *name, int64_t generation, bool ok);
	/* {"up","restarts","restart_in_s":N|null,"suspended":[names],"not_loaded":[names],...}; not_loaded: has answered
	 * and cannot now, because the process is being restarted. NULL: no memory */
	cJSON *(*health)(struct serving *self);
};

/* What the engine's tables and networks are. */
struct api_engine {
	struct describer *self;
	const cJSON *(*capabilities)(struct describer *self); /* the tables, borrowed, immutable */
	/* What a network is (wasd_network_describe of wasd/model.h) from {"model","was","input","classes"}; *out is the
	 * caller's. WASD_EINVAL and WASD_ETOOBIG: what is wrong with it, with the pointer into the job spec. From
	 * {"spec","dataset","profiles"} or {"spec","input","classes","profiles"}, dataset being a path below the data
	 * directory: {"warnings":[{"code","message"}]}, or what that job would be refused for at its start. */
	enum wasd_status (*describe)(struct describer *self, const cJSON *request, cJSON **out, struct wasd_err *err);
};

/* The daemon itself. */
struct api_system {
	struct wasd_daemon *self;
	cJSON *(*report)(struct wasd_daemon *self); /* workers, uptime, disk, versions, addresses */
	bool (*ready)(struct wasd_daemon *self);
};

/* What the search of a profile is asked, as JSON text: of an item of a job spec's "profiles", or of a request in that
 * form. NULL: no memory. */
char *api_profile_request(const cJSON *item);

struct api_ctx {
	struct storage *db;
	struct api_jobs jobs;
	struct api_profiles profiles;
	struct api_data data;
	struct api_blobs blobs;
	struct api_files files;
	struct api_serving serving;
	struct api_engine engine;
	struct api_system system;
};

#endif
