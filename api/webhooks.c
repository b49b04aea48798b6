/* api/webhooks.c - URLs that get the events of the daemon; server/webhooks.c sends them. */
#include "internal.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { URL_MAX = 2000, EVENTS_MAX = 50, SECRET_MIN = 8, SECRET_MAX = 200 };

static bool find_hook(struct api_ctx *c, const struct api_request *q, struct api_response *r,
                      struct storage_webhook *out)
{
	char id[128];
	struct wasd_err err = {0};
	api_param(q, "hook", id);
	enum wasd_status st = storage_webhook_get(c->db, id, out, &err);
	if (st == WASD_ENOTFOUND)
		api_send_problem(q, r, "not_found", NULL, "no webhook %.60s", id);
	else if (st)
		api_send_error(q, r, &err);
	return !st;
}

/* secret: shown once, if the daemon has made it; else NULL. */
static cJSON *hook_json(const struct storage_webhook *w, const char *secret)
{
	char url[100];
	cJSON *j = cJSON_CreateObject(), *links = cJSON_CreateObject();
	api_add_str(j, "id", w->id);
	api_add_str(j, "url", w->url);
	api_add_raw(j, "events", w->events);
	if (secret)
		api_add_str(j, "secret", secret);
	api_add_take(j, "active", cJSON_CreateBool(w->active != 0));
	api_add_str(j, "state", !w->active ? "inactive" : w->tries ? "failing" : "ok");
	api_add_str(j, "error", w->error);
	api_add_int(j, "failures", w->tries);
	api_add_time(j, "next_attempt_at", w->active ? w->next_at : 0);
	api_add_int(j, "last_event", w->cursor);
	api_add_int(j, "lost_events", w->lost);
	api_add_str(j, "created_by", w->created_by);
	api_add_time(j, "created_at", w->created_at);
	api_add_time(j, "updated_at", w->updated_at);
	snprintf(url, sizeof url, "/v1/webhooks/%s", w->id);
	api_add_str(links, "self", url);
	snprintf(url, sizeof url, "/v1/webhooks/%s/deliveries", w->id);
	api_add_str(links, "deliveries", url);
	api_add_take(j, "links", links);
	return j;
}

/* ---- checks ---- */

/* http or https, a host, and no user name, password, fragment, blank or control character. */
static const char *url_fault(const char *url)
{
	size_t scheme = !strncmp(url, "http://", 7) ? 7 : !strncmp(url, "https://", 8) ? 8 : 0;
	if (!scheme)
		return "must begin with http:// or https://";
	size_t host = strcspn(url + scheme, "/?#");
	if (!host || url[scheme] == ':')
		return "has no host";
	if (memchr(url + scheme, '@', host))
		return "must not hold a user name or password";
	for (const char *p = url; *p; p++)
		if (*p == '#' || *p == ' ' || !isgraph((unsigned char)*p))
			return "must not hold a fragment, blanks, or characters other than ASCII";
	return NULL;
}

/* "*", a topic, or a type such as "job.state". */
static bool event_ok(const char *s)
{
	const char letters[] = "abcdefghijklmnopqrstuvwxyz_";
	if (!strcmp(s, "*") || api_is_topic(s, strlen(s)))
		return true;
	size_t n = strspn(s, letters), m = s[n] == '.' ? strspn(s + n + 1, letters) : 0;
	return n && m && !s[n + 1 + m] && strlen(s) < 60;
}

/* False: the answer is in r. */
static bool check(const struct api_request *q, struct api_response *r, const cJSON *in)
{
	struct api_faults faults = {0};
	const char *url, *why;
	const cJSON *item, *events = wasd_json_get(in, "events");
	char at[40];
	int i = 0;
	if (wasd_json_str(in, "url", &url) && (why = url_fault(url)))
		api_fault(&faults, "invalid_field", "/url", "/url %s", why);
	cJSON_ArrayForEach(item, events) {
		snprintf(at, sizeof at, "/events/%d", i++);
		if (!cJSON_IsString(item) || !event_ok(item->valuestring))
			api_fault(&faults, "invalid_field", at,
			          "%s must be an event type such as \"job.state\", a topic such as \"jobs\", or \"*\"", at);
	}
	if (faults.n) {
		api_send_faults(q, r, &faults);
		return false;
	}
	api_faults_done(&faults);
	return true;
}

static void read_in(const struct api_request *q, const cJSON *body, char **events, struct storage_webhook_in *in)
{
	const cJSON *list = wasd_json_get(body, "events"), *active = wasd_json_get(body, "active");
	*in = (struct storage_webhook_in){.actor = q->actor, .active = active ? cJSON_IsTrue(active) : -1};
	wasd_json_str(body, "url", &in->url);
	wasd_json_str(body, "secret", &in->secret);
	in->events = *events = list ? wasd_json_print(list) : NULL;
}

/* ---- routes ---- */

enum api_result api_webhooks_list(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_webhook_list l = {0};
	struct wasd_err err = {0};
	if (storage_webhook_list(c->db, &l, &err)) {
		api_send_error(q, r, &err);
		return API_DONE;
	}
	cJSON *items = cJSON_CreateArray();
	for (size_t i = 0; i < l.n; i++)
		api_push(items, hook_json(&l.items[i], NULL));
	storage_webhook_list_done(&l);
	api_send_list(q, r, items, NULL);
	return API_DONE;
}

enum api_result api_webhooks_get(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_webhook w = {0};
	if (find_hook(c, q, r, &w))
		api_send_json(r, 200, hook_json(&w, NULL));
	storage_webhook_done(&w);
	return API_DONE;
}

static const struct wasd_field create_fields[] = {
	{"url", WASD_STR, NULL, .max = URL_MAX, .required = true},
	{"events", WASD_LIST, NULL, .min = 1, .max = EVENTS_MAX, .required = true, .items = "event types or topics"},
	{"secret", WASD_STR, "null", .min = SECRET_MIN, .max = SECRET_MAX, .null_ok = true},
	{"active", WASD_BOOL, "true", .min = 0},
	{0},
};

static void made_secret(char out[49])
{
	unsigned char raw[24];
	wasd_random_bytes(raw, sizeof raw);
	wasd_hex(raw, sizeof raw, out);
}

enum api_result api_webhooks_create(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_webhook w = {0};
	struct storage_webhook_in in;
	struct wasd_err err = {0};
	char *events = NULL, made[49] = "";
	cJSON *body = api_body_fields(q, r, create_fields, NULL, false);
	if (!body || !check(q, r, body)) {
		cJSON_Delete(body);
		return API_DONE;
	}
	read_in(q, body, &events, &in);
	if (!in.secret) {
		made_secret(made);
		in.secret = made;
	}
	enum wasd_status st = events ? storage_webhook_create(c->db, &in, &w, &err) :
	                               wasd_fail(&err, WASD_ENOMEM, "no memory");
	if (st == WASD_ESTATE)
		api_send_problem(q, r, "conflict", NULL, "%s", err.msg);
	else if (st)
		api_send_error(q, r, &err);
	else {
		api_set_header(r, "Location", "/v1/webhooks/%s", w.id);
		api_send_json(r, 201, hook_json(&w, *made ? made : NULL));
		c->webhooks.changed(c->webhooks.self);
	}
	storage_webhook_done(&w);
	wasd_free(events);
	cJSON_Delete(body);
	return API_DONE;
}

static const struct wasd_field patch_fields[] = {
	{"url", WASD_STR, .max = URL_MAX},
	{"events", WASD_LIST, .min = 1, .max = EVENTS_MAX, .items = "event types or topics"},
	{"secret", WASD_STR, .min = SECRET_MIN, .max = SECRET_MAX},
	{"active", WASD_BOOL, .min = 0},
	{0},
};

enum api_result api_webhooks_patch(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_webhook w = {0}, now = {0};
	struct storage_webhook_in in;
	struct wasd_err err = {0};
	char *events = NULL;
	cJSON *body = NULL;
	if (find_hook(c, q, r, &w) && (body = api_body_fields(q, r, patch_fields, NULL, false)) && check(q, r, body)) {
		read_in(q, body, &events, &in);
		if (storage_webhook_update(c->db, w.id, &in, &now, &err)) {
			api_send_error(q, r, &err);
		} else {
			api_send_json(r, 200, hook_json(&now, NULL));
			c->webhooks.changed(c->webhooks.self);
		}
	}
	storage_webhook_done(&w);
	storage_webhook_done(&now);
	wasd_free(events);
	cJSON_Delete(body);
	return API_DONE;
}

enum api_result api_webhooks_delete(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_webhook w = {0};
	struct wasd_err err = {0};
	if (find_hook(c, q, r, &w)) {
		if (storage_webhook_delete(c->db, w.id, q->actor, &err))
			api_send_error(q, r, &err);
		else
			r->status = 204;
	}
	storage_webhook_done(&w);
	return API_DONE;
}

enum api_result api_webhooks_test(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_webhook w = {0};
	struct api_webhook_test t = {0};
	struct wasd_err err = {0};
	if (find_hook(c, q, r, &w)) {
		if (c->webhooks.test(c->webhooks.self, &w, q->actor, &t, &err)) {
			api_send_error(q, r, &err);
		} else {
			cJSON *j = cJSON_CreateObject();
			api_add_take(j, "delivered", cJSON_CreateBool(t.delivered));
			api_add_maybe(j, "status", t.status != 0, (double)t.status);
			api_add_str(j, "error", *t.error ? t.error : NULL);
			api_add_int(j, "ms", t.ms);
			api_send_json(r, 200, j);
		}
	}
	storage_webhook_done(&w);
	return API_DONE;
}

enum api_result api_webhooks_deliveries(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct storage_webhook w = {0};
	struct storage_delivery_list l = {0};
	struct storage_page page;
	struct wasd_err err = {0};
	if (!api_query_page(q, r, &page) || !find_hook(c, q, r, &w)) {
		storage_webhook_done(&w);
		return API_DONE;
	}
	enum wasd_status st = storage_delivery_list(c->db, w.id, page, &l, &err);
	if (api_page_ok(q, r, st, &err)) {
		cJSON *items = cJSON_CreateArray();
		for (size_t i = 0; i < l.n; i++) {
			const struct storage_delivery *d = &l.items[i];
			cJSON *j = cJSON_CreateObject();
			api_add_str(j, "id", d->id);
			api_add_maybe(j, "event", d->seq != 0, (double)d->seq);
			api_add_str(j, "type", d->type);
			api_add_int(j, "attempt", d->attempt);
			api_add_str(j, "state", d->state);
			api_add_maybe(j, "status", d->status != 0, (double)d->status);
			api_add_str(j, "error", d->error);
			api_add_int(j, "ms", d->ms);
			api_add_time(j, "at", d->at);
			api_push(items, j);
		}
		api_send_list(q, r, items, l.next_cursor);
	}
	storage_delivery_list_done(&l);
	storage_webhook_done(&w);
	return API_DONE;
}
