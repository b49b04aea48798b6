/* api/response.c - builds responses; small helpers to build JSON. */
#include "internal.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void api_response_init(struct api_response *r)
{
	*r = (struct api_response){.etag_auto = true};
	r->events.after_seq = -1;
}

void api_response_done(struct api_response *r)
{
	wasd_buf_done(&r->body);
	if (r->source.done)
		r->source.done(r->source.ctx);
	r->source = (struct api_source){0};
}

/* Drops a value that does not fit or would break the header line. */
void api_set_header(struct api_response *r, const char *name, const char *fmt, ...)
{
	char value[sizeof r->headers[0].value];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(value, sizeof value, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof value || strpbrk(value, "\r\n"))
		return;
	int i = 0;
	while (i < r->n_headers && strcmp(r->headers[i].name, name))
		i++;
	if (i == (int)API_LEN(r->headers))
		return;
	r->headers[i].name = name;
	memcpy(r->headers[i].value, value, (size_t)n + 1);
	if (i == r->n_headers)
		r->n_headers++;
}

const char *api_response_header(const struct api_response *r, const char *name)
{
	for (int i = 0; i < r->n_headers; i++)
		if (!strcmp(r->headers[i].name, name))
			return r->headers[i].value;
	return NULL;
}

void api_send_no_memory(struct api_response *r)
{
	r->status = 503;
	r->content_type = "application/problem+json";
	r->body.len = 0;
	r->n_headers = 0;
	api_set_header(r, "Retry-After", "1");
}

void api_send_json(struct api_response *r, int status, cJSON *j)
{
	char *text = api_poisoned(j) ? NULL : wasd_json_print(j);
	cJSON_Delete(j);
	r->body.len = 0;
	if (!text || !wasd_buf_puts(&r->body, text)) {
		wasd_free(text);
		api_send_no_memory(r);
		return;
	}
	wasd_free(text);
	r->status = status;
	r->content_type = "application/json";
}

/* ---- sending a file ---- */

static int64_t file_read(void *ctx, uint64_t off, void *buf, size_t max)
{
	const struct api_file *f = ctx;
	return pread(f->fd, buf, max, (off_t)off);
}

static void file_done(void *ctx)
{
	struct api_file *f = ctx;
	close(f->fd);
	wasd_free(f);
}

bool api_send_file(struct api_response *r, const struct api_file *file)
{
	struct api_file *f = wasd_malloc(sizeof *f);
	if (!f) {
		close(file->fd);
		return false;
	}
	*f = *file;
	r->status = 200;
	r->content_type = "application/octet-stream";
	r->source = (struct api_source){.read = file_read, .done = file_done, .ctx = f, .size = (uint64_t)f->bytes};
	api_set_header(r, "ETag", "\"%s\"", f->sha256);
	return true;
}

/* ---- facts ---- */

struct api_facts *api_facts_create(cJSON *json)
{
	struct api_facts *f = json ? wasd_calloc(1, sizeof *f) : NULL;
	if (!f) {
		cJSON_Delete(json);
		return NULL;
	}
	atomic_init(&f->refs, 1);
	f->json = json;
	return f;
}

void api_facts_unref(struct api_facts *f)
{
	if (!f || atomic_fetch_sub(&f->refs, 1) > 1)
		return;
	cJSON_Delete(f->json);
	wasd_free(f);
}

/* ---- lists ---- */

/* Percent-encodes everything but unreserved characters (RFC 3986). */
static void put_encoded(struct wasd_buf *b, const char *s)
{
	for (; *s; s++) {
		if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr("-._~", *s))
			wasd_buf_append(b, s, 1);
		else
			wasd_buf_printf(b, "%%%02X", (unsigned char)*s);
	}
}

void api_send_list(const struct api_request *q, struct api_response *r, cJSON *items, const char *next_cursor)
{
	cJSON *j = cJSON_CreateObject();
	if (!j || !items) {
		cJSON_Delete(j);
		cJSON_Delete(items);
		api_send_no_memory(r);
		return;
	}
	if (!api_add_take(j, "items", items) || !api_add_str(j, "next_cursor", next_cursor)) {
		cJSON_Delete(j);
		api_send_no_memory(r);
		return;
	}
	api_send_json(r, 200, j);
	if (!next_cursor)
		return;
	struct wasd_buf link = {0};
	wasd_buf_printf(&link, "<%s?", q->path);
	for (size_t i = 0; i < q->n_query; i++) {
		if (!strcmp(q->query[i].name, "cursor"))
			continue;
		put_encoded(&link, q->query[i].name);
		wasd_buf_puts(&link, "=");
		put_encoded(&link, q->query[i].value);
		wasd_buf_puts(&link, "&");
	}
	wasd_buf_puts(&link, "cursor=");
	put_encoded(&link, next_cursor);
	wasd_buf_puts(&link, ">; rel=\"next\"");
	if (wasd_buf_cstr(&link))
		api_set_header(r, "Link", "%s", link.data);
	wasd_buf_done(&link);
}

bool api_again(const struct api_request *q, struct api_response *r, const char *object, int64_t wait_us)
{
	/* The connection holds a request for two minutes; the answer must start a little earlier. */
	const int64_t most = 119 * 1000000LL;
	int64_t until = q->first_us + (wait_us < most ? wait_us : most);
	if (wait_us <= 0 || wasd_mono_us() >= until)
		return false;
	snprintf(r->again.object, sizeof r->again.object, "%s", object);
	r->again.until_us = until;
	return true;
}

/* ---- JSON ---- */

/* Invalidates a container to which something could not be added for lack of memory; api_send_json detects it and
 * answers 503 instead of sending an incomplete object. */
void api_poison(cJSON *container)
{
	if (container)
		container->type = cJSON_Invalid;
}

bool api_poisoned(const cJSON *j)
{
	if (!j || (j->type & 0xff) == cJSON_Invalid)
		return true;
	for (const cJSON *c = j->child; c; c = c->next)
		if (api_poisoned(c))
			return true;
	return false;
}

cJSON *api_add_take(cJSON *obj, const char *name, cJSON *v)
{
	if (obj && v && cJSON_AddItemToObject(obj, name, v))
		return v;
	cJSON_Delete(v);
	api_poison(obj);
	return NULL;
}

void api_put(cJSON *obj, const char *name, cJSON *v)
{
	cJSON *old = v ? cJSON_GetObjectItemCaseSensitive(obj, name) : NULL;
	if (!old) {
		api_add_take(obj, name, v);
		return;
	}
	cJSON_free(v->string);
	v->string = old->string; /* hand over the name: nothing can fail */
	old->string = NULL;
	cJSON_ReplaceItemViaPointer(obj, old, v);
}

void api_merge_take(cJSON *to, cJSON *from)
{
	while (from && from->child) {
		cJSON *m = cJSON_DetachItemViaPointer(from, from->child);
		api_put(to, m->string, m);
	}
	cJSON_Delete(from);
}

void api_push(cJSON *array, cJSON *v)
{
	if (array && v && cJSON_AddItemToArray(array, v))
		return;
	cJSON_Delete(v);
	api_poison(array);
}

cJSON *api_add_str(cJSON *obj, const char *name, const char *s)
{
	return api_add_take(obj, name, s ? cJSON_CreateString(s) : cJSON_CreateNull());
}

cJSON *api_add_int(cJSON *obj, const char *name, int64_t v)
{
	return api_add_num(obj, name, (double)v);
}

cJSON *api_add_num(cJSON *obj, const char *name, double v)
{
	return api_add_maybe(obj, name, true, v);
}

cJSON *api_add_maybe(cJSON *obj, const char *name, bool known, double v)
{
	return api_add_take(obj, name, known && isfinite(v) ? cJSON_CreateNumber(v) : cJSON_CreateNull());
}

cJSON *api_add_time(cJSON *obj, const char *name, int64_t unix_ms)
{
	char t[WASD_RFC3339_LEN];
	if (unix_ms)
		wasd_rfc3339(unix_ms, t);
	return api_add_str(obj, name, unix_ms ? t : NULL);
}

cJSON *api_add_raw(cJSON *obj, const char *name, const char *json)
{
	return api_add_take(obj, name, json ? api_parse_trusted(json) : cJSON_CreateNull());
}

cJSON *api_parse_trusted(const char *json)
{
	return json ? cJSON_Parse(json) : NULL;
}

void api_call_done(struct api_call *c)
{
	cJSON_Delete(c->json);
	cJSON_Delete(c->reply);
	wasd_free(c->reply_bin);
	*c = (struct api_call){0};
}
