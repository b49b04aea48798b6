/* api/datasets.c - datasets: upload, synthesise, list, preview, delete.
 *
 * The digest of its bytes (and of everything else that shapes the result) identifies an upload: the same upload
 * again gives the existing version, any other a new version. The row begins in "scanning"; the daemon's ingest
 * process moves it to ready or invalid. */
#include "internal.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the object ---- */

static cJSON *dataset_json(const struct storage_dataset *d)
{
	cJSON *j = cJSON_CreateObject(), *info = api_parse_trusted(d->info), *error = api_parse_trusted(d->error),
		  *links = cJSON_CreateObject();
	const char *message = NULL;
	char url[160];
	api_add_str(j, "id", d->id);
	api_add_str(j, "name", d->name);
	api_add_int(j, "version", d->version);
	api_add_str(j, "state", d->state);
	api_add_str(j, "format", d->format);
	api_add_str(j, "digest", d->digest);
	api_add_str(j, "source_digest", d->source_digest);
	api_add_int(j, "bytes", d->bytes);
	if (d->info && !info)
		api_poison(j);
	/* The engine's facts about the data (shape, classes, train, test, mean, std, remarks, skipped) and the options
	 * of the upload. */
	for (cJSON *m = info ? info->child : NULL, *next; m; m = next) {
		next = m->next;
		if (!wasd_json_get(j, m->string))
			api_add_take(j, m->string, cJSON_DetachItemViaPointer(info, m));
	}
	wasd_json_str(error, "message", &message);
	api_add_str(j, "message", message);
	api_add_take(j, "error", d->error ? error : cJSON_CreateNull());
	api_add_time(j, "created_at", d->created_at);
	api_add_time(j, "updated_at", d->updated_at);
	snprintf(url, sizeof url, "/v1/datasets/%s/versions/%lld", d->name, (long long)d->version);
	api_add_str(links, "self", url);
	snprintf(url, sizeof url, "/v1/datasets/%s/preview?version=%lld", d->name, (long long)d->version);
	api_add_str(links, "preview", url);
	api_add_take(j, "links", links);
	cJSON_Delete(info);
	return j;
}

static void send_dataset(struct api_response *r, int status, const struct storage_dataset *d)
{
	api_send_json(r, status, dataset_json(d));
	if (status != 200)
		api_set_header(r, "Location", "/v1/datasets/%s/versions/%lld", d->name, (long long)d->version);
}

/* Sends every listed file at fault. False: the scan listed none. */
static bool send_errors(const struct api_request *q, struct api_response *r, const cJSON *error)
{
	struct api_faults faults = {0};
	const cJSON *e;
	int64_t count = 0;
	cJSON_ArrayForEach(e, wasd_json_get(error, "errors")) {
		const char *file = "", *detail = "";
		wasd_json_str(e, "file", &file);
		wasd_json_str(e, "detail", &detail);
		api_fault(&faults, "bad_dataset", file, "%.150s: %s", file, detail);
	}
	if (!faults.n)
		return false;
	if (wasd_json_i64(error, "count", &count) && count > faults.n && count < INT32_MAX)
		faults.n = (int)count;
	api_send_faults(q, r, &faults);
	return true;
}

/* A failed scan, as the answer to the upload that caused it. */
static void send_refused(const struct api_request *q, struct api_response *r, const struct storage_dataset *d)
{
	cJSON *e = api_parse_trusted(d->error);
	const char *message = "the data could not be read", *file = NULL;
	if (send_errors(q, r, e)) {
		cJSON_Delete(e);
		return;
	}
	wasd_json_str(e, "message", &message);
	wasd_json_str(e, "file", &file);
	if (file && *file && !strstr(message, file))
		api_send_problem(q, r, "bad_dataset", file, "%.150s: %s", file, message);
	else
		api_send_problem(q, r, "bad_dataset", file, "%s", message);
	cJSON_Delete(e);
}

/* ---- registering ---- */

/* The version of `name` made from these bytes, whatever its state. */
static enum wasd_status find_source(struct api_ctx *c, const char *name, const char *digest,
                                    struct storage_dataset *out, struct wasd_err *err)
{
	struct storage_dataset_list l;
	enum wasd_status st = storage_dataset_list(c->db, name, NULL, (struct storage_page){.limit = 200}, &l, err);
	if (st)
		return st;
	st = wasd_fail(err, WASD_ENOTFOUND, "dataset %s was deleted while it was being scanned", name);
	for (size_t i = 0; st && i < l.n; i++) {
		if (strcmp(l.items[i].source_digest ? l.items[i].source_digest : "", digest))
			continue;
		*out = l.items[i];
		l.items[i] = (struct storage_dataset){0};
		st = WASD_OK;
	}
	storage_dataset_list_done(&l);
	return st;
}

static void mark_invalid(struct api_ctx *c, const struct storage_dataset *d, const struct wasd_err *err)
{
	cJSON *e = cJSON_CreateObject();
	api_add_str(e, "code", wasd_status_name(err->status));
	api_add_str(e, "message", err->msg);
	api_add_str(e, "file", err->pointer);
	char *text = e ? wasd_json_print(e) : NULL;
	storage_dataset_invalid(c->db, d->id, text ? text : "{}", NULL);
	wasd_free(text);
	cJSON_Delete(e);
}

/* The files of a multipart body; each is written to its own file beside the staged body. */
struct parts {
	struct api_upload *files;
	size_t n;
	char *paths;
	const struct multipart_part **part;
};
#define PART_PATH 512

static enum wasd_status write_part(const struct multipart_part *p, const char *path, struct wasd_err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (fd < 0)
		return wasd_fail_errno(err, errno, "%s", path);
	enum wasd_status st = wasd_write_full(fd, p->data, p->len, err);
	if (!st && fdatasync(fd))
		st = wasd_fail_errno(err, errno, "%s", path);
	close(fd);
	return st;
}

static void remove_parts(const struct parts *ps, size_t n)
{
	for (size_t i = 0; i < n; i++)
		unlink(ps->files[i].path);
}

static enum wasd_status write_parts(const struct parts *ps, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	for (size_t i = 0; i < ps->n && !st; i++)
		if ((st = write_part(ps->part[i], ps->files[i].path, err)))
			remove_parts(ps, i + 1);
	return st;
}

/* The source of a version: bytes or a recipe. */
struct source {
	const char *name;
	char digest[WASD_SHA256_HEX];
	const struct api_upload *files;
	size_t n;
	cJSON *options;
	const char *kind;
	int64_t train, test, seed;
	const struct parts *parts;
	bool taken;
};

static enum wasd_status start(struct api_ctx *c, struct source *s, const struct storage_dataset *d,
                              struct wasd_err *err)
{
	enum wasd_status st = s->parts ? write_parts(s->parts, err) : WASD_OK;
	if (st)
		return st;
	st = s->kind ?
	         c->data.synthesize(c->data.self, d->name, (int)d->version, s->kind, s->train, s->test, s->seed, err) :
	         c->data.ingest(c->data.self, d->name, (int)d->version, s->files, s->n, s->options, err);
	s->taken = !st && !s->kind;
	if (st && s->parts)
		remove_parts(s->parts, s->parts->n);
	return st;
}

/* Registers s, or finds it; waits as the query asks. first: the handler's first run. */
static enum api_result take_source(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                   struct source *s, int64_t wait)
{
	struct storage_dataset d;
	struct wasd_err err = {0};
	bool existing = true;
	enum wasd_status st = q->waited ?
	                          find_source(c, s->name, s->digest, &d, &err) :
	                          storage_dataset_begin(c->db, s->name, NULL, s->digest, q->actor, &d, &existing, &err);
	if (st) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	if (!existing && (st = start(c, s, &d, &err))) {
		mark_invalid(c, &d, &err);
		api_send_error(q, r, &err);
		storage_dataset_done(&d);
		return API_DONE;
	}
	enum api_result res = API_DONE;
	if (!strcmp(d.state, "ready"))
		send_dataset(r, q->waited ? 201 : 200, &d);
	else if (strcmp(d.state, "scanning"))
		send_refused(q, r, &d);
	else if (api_again(q, r, d.name, wait))
		res = API_AGAIN;
	else
		send_dataset(r, 202, &d);
	storage_dataset_done(&d);
	return res;
}

static bool name_ok(const struct api_request *q, struct api_response *r, const char *name, const char *pointer)
{
	if (wasd_name_ok(name))
		return true;
	api_send_problem(q, r, "invalid_field", pointer,
	                 "\"%.80s\" is not a name for a dataset: 1 to 63 of a-z 0-9 . _ - beginning with a letter or digit",
	                 name);
	return false;
}

struct upload_option {
	const char *name;
	/* Adds the parameter's value to j unless it is the default. False: refused, the answer is in r. */
	bool (*read)(const struct api_request *q, struct api_response *r, const struct upload_option *o, cJSON *j);
	int64_t min, max;
	const char *const *choices; /* the first is the default */
};

/* Query parameters that shape the result. A value other than the default becomes a member of `options`
 * (wasd/protocol.h). */
static const char *const on_bad[] = {"refuse", "skip", NULL};
static const char *const encodings[] = {"cp437", "gbk",   "gb18030", "big5",   "shift_jis", "euc-kr",
                                        "cp850", "cp866", "cp1250",  "cp1251", "cp1252",    NULL};
static const char *const fits[] = {"squeeze", "crop", "crops", NULL}, *const orientations[] = {"upright", "keep", NULL};
static bool read_count(const struct api_request *q, struct api_response *r, const struct upload_option *o, cJSON *j)
{
	int64_t v = 0;
	if (!api_query_int(q, r, o->name, o->min, o->max, &v))
		return false;
	if (api_query(q, o->name))
		api_add_int(j, o->name, v);
	return true;
}
static bool read_share(const struct api_request *q, struct api_response *r, const struct upload_option *o, cJSON *j)
{
	const char *s = api_query(q, o->name);
	char *end;
	if (!s)
		return true;
	double v = strtod(s, &end);
	if (*end || end == s || !strchr("0123456789.", *s) || !(v >= 0.01 && v <= 0.9)) {
		api_send_problem(q, r, "bad_parameter", o->name,
		                 "query parameter %s must be a number from 0.01 to 0.9, not \"%.60s\"", o->name, s);
		return false;
	}
	api_add_num(j, o->name, v);
	return true;
}
static bool read_choice(const struct api_request *q, struct api_response *r, const struct upload_option *o, cJSON *j)
{
	const char *v = o->choices[0];
	if (!api_query_choice(q, r, o->name, o->choices, &v))
		return false;
	if (strcmp(v, o->choices[0]))
		api_add_str(j, o->name, v);
	return true;
}
/* Six hexadecimal digits, stored in lower case. */
static bool read_colour(const struct api_request *q, struct api_response *r, const struct upload_option *o, cJSON *j)
{
	const char *v = api_query(q, o->name);
	char low[7] = "";
	if (!v)
		return true;
	if (strlen(v) != 6 || strspn(v, "0123456789abcdefABCDEF") != 6) {
		api_send_problem(q, r, "bad_parameter", o->name,
		                 "query parameter %s must be a colour of six hexadecimal digits such as ffffff, not \"%.40s\"",
		                 o->name, v);
		return false;
	}
	for (int i = 0; i < 6; i++)
		low[i] = (char)tolower((unsigned char)v[i]);
	if (strcmp(low, "ffffff"))
		api_add_str(j, o->name, low);
	return true;
}
static const struct upload_option upload_options[] = {
	{"size", read_count, .min = 8, .max = 512},
	{"fit", read_choice, .choices = fits},
	{"background", .read = read_colour},
	{"orientation", read_choice, .choices = orientations},
	{"on_bad", read_choice, .choices = on_bad},
	{"test_fraction", .read = read_share},
	{"split_seed", read_count, .min = 0, .max = 9007199254740991},
	{"names", read_choice, .choices = encodings},
};

/* Reads the options and the wait. True: the caller owns *options. */
static bool query_upload(const struct api_request *q, struct api_response *r, cJSON **options, int64_t *wait)
{
	cJSON *j = cJSON_CreateObject();
	bool ok = api_query_wait(q, r, wait);
	for (size_t i = 0; ok && i < API_LEN(upload_options); i++) {
		const struct upload_option *o = &upload_options[i];
		ok = o->read(q, r, o, j);
	}
	if (ok && api_poisoned(j)) {
		api_send_no_memory(r);
		ok = false;
	}
	if (ok)
		*options = j;
	else
		cJSON_Delete(j);
	return ok;
}

/* Writes the options as the digest covers them. No options: the text from the time when size was the only option, so
 * that old uploads are found. A size now gives a different text, because formerly not every format honoured it. */
static void digest_options(struct wasd_buf *b, const cJSON *options)
{
	if (!cJSON_GetArraySize(options)) {
		wasd_buf_puts(b, "size 0\n");
		return;
	}
	char *text = wasd_json_print(options);
	wasd_buf_printf(b, "options %s\n", text ? text : "");
	b->failed |= !text;
	wasd_free(text);
}

/* The digest covers all that shapes the result: the bytes, the names (the four IDX files differ by name) and the
 * options. */
static bool source_digest(struct source *s)
{
	if (s->n == 1 && !cJSON_GetArraySize(s->options)) {
		memcpy(s->digest, s->files[0].sha256, WASD_SHA256_HEX);
		return true;
	}
	struct wasd_buf b = {0};
	for (size_t i = 0; i < s->n; i++)
		wasd_buf_printf(&b, "%s %s\n", s->files[i].sha256, s->n > 1 && s->files[i].name ? s->files[i].name : "");
	digest_options(&b, s->options);
	bool ok = !b.failed;
	if (ok)
		wasd_sha256_of(b.data, b.len, s->digest);
	wasd_buf_done(&b);
	return ok;
}

static enum api_result put_archive(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                   cJSON *options, int64_t wait)
{
	char name[128], type[80];
	struct source s = {.name = name, .files = q->uploads, .n = q->n_uploads, .options = options};
	api_param(q, "name", name);
	api_media_type(q, type);
	if (!name_ok(q, r, name, "name"))
		return API_DONE;
	if (!strncmp(type, "multipart/", 10)) {
		api_send_problem(
			q, r, "unsupported_media_type", NULL,
			"PUT takes the archive itself as the body (curl -T FILE); send multipart/form-data by POST /v1/datasets");
		return API_DONE;
	}
	if (q->n_uploads != 1 || !q->uploads[0].bytes) {
		api_send_problem(q, r, "body_required", NULL, "PUT %s needs an archive as its body", q->path);
		return API_DONE;
	}
	enum api_result res = API_DONE;
	if (source_digest(&s))
		res = take_source(c, q, r, &s, wait);
	else
		api_send_no_memory(r);
	if (s.taken)
		*q->uploads_taken = true;
	return res;
}

enum api_result api_datasets_put(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	int64_t wait;
	cJSON *options;
	if (!query_upload(q, r, &options, &wait))
		return API_DONE;
	enum api_result res = put_archive(c, q, r, options, wait);
	cJSON_Delete(options);
	return res;
}

/* ---- POST: a recipe ---- */

cJSON *api_synthetic_canon(struct field_ctx *c, const char *pointer, const struct wasd_field *f, const cJSON *v)
{
	char names[256], shown[80];
	if (cJSON_IsString(v) && caps_row(c->caps, f->table, v->valuestring))
		return cJSON_CreateString(v->valuestring);
	caps_names(c->caps, f->table, names);
	fields_show(shown, v);
	api_fault(c->faults, "invalid_field", pointer, "%s must be %s, not %s", pointer, names, shown);
	return NULL;
}

static const struct wasd_field synthetic_fields[] = {
	{"kind", WASD_STR, .required = true, .table = "synthetic", .form = "synthetic"},
	{"train", WASD_INT, "10000", .min = 1, .max = 1000000},
	{"test", WASD_INT, "2000", .min = 1, .max = 1000000},
	{"seed", WASD_INT, "1", .min = 0, .max = (double)WASD_JSON_INT_MAX},
	{0},
};
static const struct wasd_field post_fields[] = {
	{"name", WASD_NAME, .required = true},
	{"synthetic", WASD_OBJECT, .required = true, .sub = synthetic_fields},
	{"blobs", WASD_REFUSED, .summary = "blobs are not offered; send the files as multipart/form-data"},
	{0},
};

static enum api_result post_recipe(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                   const char *text, size_t len, int64_t wait)
{
	struct api_request json = *q;
	enum api_result res = API_DONE;
	struct source s = {0};
	json.body = text;
	json.body_len = len;
	cJSON *in = api_body_fields(&json, r, post_fields, c->engine.capabilities(c->engine.self), false);
	if (!in)
		return API_DONE;
	const cJSON *recipe = wasd_json_get(in, "synthetic");
	wasd_json_str(in, "name", &s.name);
	wasd_json_str(recipe, "kind", &s.kind);
	wasd_json_i64(recipe, "train", &s.train);
	wasd_json_i64(recipe, "test", &s.test);
	wasd_json_i64(recipe, "seed", &s.seed);
	char *canon = wasd_json_print(recipe);
	if (canon) {
		wasd_sha256_of(canon, strlen(canon), s.digest);
		res = take_source(c, q, r, &s, wait);
	} else {
		api_send_no_memory(r);
	}
	wasd_free(canon);
	cJSON_Delete(in);
	return res;
}

/* ---- POST: multipart ---- */

static void parts_done(struct parts *ps)
{
	wasd_free(ps->files);
	wasd_free(ps->paths);
	wasd_free(ps->part);
}

/* Sorts the "file" parts by client file name, so that the order of sending does not matter. */
static void sort_parts(struct parts *ps)
{
	for (size_t i = 1; i < ps->n; i++)
		for (size_t k = i; k > 0 && strcmp(ps->files[k].name, ps->files[k - 1].name) < 0; k--) {
			struct api_upload u = ps->files[k];
			const struct multipart_part *p = ps->part[k];
			ps->files[k] = ps->files[k - 1], ps->part[k] = ps->part[k - 1];
			ps->files[k - 1] = u, ps->part[k - 1] = p;
		}
}

/* Sorts the parts by kind; name gets the value of the "name" part. Writes nothing yet. Answers any fault. */
static bool split(const struct api_request *q, struct api_response *r, const struct multipart *m, struct parts *out,
                  char name[128])
{
	size_t n = m->n ? m->n : 1;
	*out = (struct parts){.files = wasd_calloc(n, sizeof *out->files),
	                      .paths = wasd_calloc(n, PART_PATH),
	                      .part = wasd_calloc(n, sizeof *out->part)};
	name[0] = 0;
	if (!out->files || !out->paths || !out->part) {
		api_send_no_memory(r);
		return false;
	}
	for (size_t i = 0; i < m->n; i++) {
		const struct multipart_part *p = &m->part[i];
		if (!strcmp(p->name, "name") && !*p->filename) {
			snprintf(name, 128, "%.*s", p->len > 127 ? 127 : (int)p->len, p->data);
			continue;
		}
		if (strcmp(p->name, "file") && !*p->filename) {
			api_send_problem(
				q, r, "invalid_field", p->name,
				"part \"%.60s\" is not known; the parts are \"name\" and one or more files, options are query parameters",
				p->name);
			return false;
		}
		char *path = out->paths + out->n * PART_PATH;
		snprintf(path, PART_PATH, "%s.part%zu", q->uploads[0].path, out->n);
		out->files[out->n] = (struct api_upload){.path = path, .bytes = p->len, .name = p->filename};
		wasd_sha256_of(p->data, p->len, out->files[out->n].sha256);
		out->part[out->n++] = p;
	}
	sort_parts(out);
	if (!out->n)
		api_send_problem(q, r, "invalid_field", "file", "the multipart body has no part \"file\"");
	return out->n && name_ok(q, r, name, "name");
}

static enum api_result post_parts(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                                  const char *data, size_t len, cJSON *options, int64_t wait)
{
	char name[128];
	struct multipart m = {0};
	struct parts ps = {0};
	struct wasd_err err = {0};
	enum api_result res = API_DONE;
	if (multipart_parse(api_header(q, "content-type"), data, len, &m, &err)) {
		if (err.status == WASD_EINVAL || err.status == WASD_ETOOBIG)
			api_send_problem(q, r, "bad_multipart", NULL, "%s", err.msg);
		else
			api_send_error(q, r, &err);
		return API_DONE;
	}
	if (split(q, r, &m, &ps, name)) {
		struct source s = {.name = name, .files = ps.files, .n = ps.n, .options = options, .parts = &ps};
		if (source_digest(&s))
			res = take_source(c, q, r, &s, wait);
		else
			api_send_no_memory(r);
	}
	parts_done(&ps);
	multipart_done(&m);
	return res;
}

static enum api_result post(struct api_ctx *c, const struct api_request *q, struct api_response *r, cJSON *options,
                            int64_t wait)
{
	char type[80];
	enum api_result res = API_DONE;
	if (q->n_uploads != 1 || !q->uploads[0].bytes) {
		api_send_problem(q, r, "body_required", NULL, "POST %s needs a body: multipart/form-data or JSON", q->path);
		return API_DONE;
	}
	const struct api_upload *up = &q->uploads[0];
	api_media_type(q, type);
	bool multi = !strcmp(type, "multipart/form-data");
	if (!multi && up->bytes > WASD_JSON_REQUEST.bytes) {
		api_send_problem(
			q, r, "unsupported_media_type", NULL,
			"Content-Type %s: POST takes multipart/form-data or JSON; an archive itself goes to PUT /v1/datasets/NAME",
			*type ? type : "(none)");
		return API_DONE;
	}
	const cJSON *option = multi ? NULL : options->child;
	if (option) {
		api_send_problem(q, r, "bad_parameter", option->string,
		                 "query parameter %s is about uploaded files; a synthetic set has its own size and colours",
		                 option->string);
		return API_DONE;
	}
	int fd = open(up->path, O_RDONLY | O_CLOEXEC);
	void *data = fd < 0 ? MAP_FAILED : mmap(NULL, up->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED) {
		struct wasd_err err;
		wasd_fail_errno(&err, errno, "the staged upload");
		api_send_error(q, r, &err);
	} else {
		res = multi ? post_parts(c, q, r, data, up->bytes, options, wait) : post_recipe(c, q, r, data, up->bytes, wait);
		munmap(data, up->bytes);
	}
	if (fd >= 0)
		close(fd);
	return res;
}

enum api_result api_datasets_post(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	int64_t wait;
	cJSON *options;
	if (!query_upload(q, r, &options, &wait))
		return API_DONE;
	enum api_result res = post(c, q, r, options, wait);
	cJSON_Delete(options);
	return res;
}

/* ---- looking ---- */

static bool path_version(const struct api_request *q, struct api_response *r, int64_t *version)
{
	char v[128];
	api_param(q, "v", v);
	size_t n = strlen(v);
	*version = n && n <= 9 && strspn(v, "0123456789") == n ? atoll(v) : 0;
	if (n && !*version)
		api_send_problem(q, r, "not_found", NULL, "\"%.40s\" is not the number of a version", v);
	return !n || *version;
}

static enum api_result get_one(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_dataset d;
	int64_t wait, version;
	if (!api_query_wait(q, r, &wait) || !path_version(q, r, &version) || !api_dataset_find(c, q, r, version, &d))
		return API_DONE;
	bool again = !strcmp(d.state, "scanning") && api_again(q, r, d.name, wait);
	if (!again)
		send_dataset(r, 200, &d);
	storage_dataset_done(&d);
	return again ? API_AGAIN : API_DONE;
}

enum api_result api_datasets_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return get_one(c, q, r);
}
enum api_result api_datasets_version(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return get_one(c, q, r);
}

static enum api_result list(struct api_ctx *c, const struct api_request *q, struct api_response *r, const char *name)
{
	static const char *const states[] = {"scanning", "ready", "invalid", NULL};
	struct storage_page page;
	struct storage_dataset_list l;
	struct wasd_err err = {0};
	const char *state = NULL;
	if (!api_query_page(q, r, &page) || !api_query_choice(q, r, "state", states, &state))
		return API_DONE;
	enum wasd_status st = storage_dataset_list(c->db, name, state, page, &l, &err);
	if (!api_page_ok(q, r, st, &err))
		return API_DONE;
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++) {
		cJSON *j = dataset_json(&l.items[i]);
		api_push(items, j);
	}
	api_send_list(q, r, items, l.next_cursor);
	storage_dataset_list_done(&l);
	return API_DONE;
}

enum api_result api_datasets_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	return list(c, q, r, NULL);
}

enum api_result api_datasets_versions(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_dataset d;
	if (!api_dataset_find(c, q, r, 0, &d))
		return API_DONE;
	list(c, q, r, d.name);
	storage_dataset_done(&d);
	return API_DONE;
}

/* ---- one image ---- */

static void send_preview(const struct api_request *q, struct api_response *r, const struct storage_dataset *d,
                         const char *split_name, int64_t i, struct api_call *call)
{
	int64_t label = 0;
	const char *class_name = "";
	wasd_json_i64(call->reply, "label", &label);
	wasd_json_str(call->reply, "class", &class_name);
	if (!call->reply_bin_len) {
		api_send_problem(q, r, "internal", NULL, "the engine sent no image for %s %s %lld", d->name, split_name,
		                 (long long)i);
	} else if (wasd_buf_append(&r->body, call->reply_bin, call->reply_bin_len)) {
		r->status = 200;
		r->content_type = "image/png";
		api_set_header(r, "X-Label", "%lld", (long long)label);
		api_set_header(r, "X-Class", "%s", class_name);
	} else {
		api_send_no_memory(r);
	}
}

enum api_result api_datasets_preview(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	static const char *const splits[] = {"train", "test", "val", NULL};
	struct storage_dataset d;
	struct wasd_err err = {0};
	const char *which = splits[0];
	int64_t i = 0, version = 0, count = 0;
	if (!api_query_int(q, r, "i", 0, 1LL << 40, &i) || !api_query_choice(q, r, "split", splits, &which) ||
	    !api_query_int(q, r, "version", 1, 1000000000, &version) || !api_dataset_find(c, q, r, version, &d))
		return API_DONE;
	cJSON *info = api_parse_trusted(d.info);
	wasd_json_i64(info, which, &count);
	if (strcmp(d.state, "ready")) {
		api_send_problem(q, r, "dataset_not_ready", NULL, "dataset %s version %lld is %s", d.name, (long long)d.version,
		                 d.state);
	} else if (i >= count) {
		api_send_problem(q, r, "bad_parameter", "i",
		                 "query parameter i: dataset %s has %lld %s images, numbered from 0", d.name, (long long)count,
		                 which);
	} else {
		struct api_call call = {0};
		if (c->data.preview(c->data.self, d.path, which, i, &call, &err))
			api_send_error(q, r, &err);
		else
			send_preview(q, r, &d, which, i, &call);
		api_call_done(&call);
	}
	cJSON_Delete(info);
	storage_dataset_done(&d);
	return API_DONE;
}

/* ---- deleting ---- */

enum api_result api_datasets_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_dataset d;
	struct wasd_err err = {0};
	char *paths = NULL;
	int64_t version;
	if (!path_version(q, r, &version) || !api_dataset_find(c, q, r, version, &d))
		return API_DONE;
	enum wasd_status st = storage_dataset_delete(c->db, d.name, version, q->actor, &paths, &err);
	if (st == WASD_ESTATE) {
		api_send_problem(q, r, "in_use", NULL, "dataset %s: %s", d.name, err.msg);
	} else if (st) {
		api_send_error(q, r, &err);
	} else {
		if (paths && *paths)
			c->data.gone(c->data.self, paths);
		r->status = 204;
	}
	wasd_free(paths);
	storage_dataset_done(&d);
	return API_DONE;
}
