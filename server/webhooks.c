/* webhooks.c - one thread sends events to webhooks, one at a time per hook and in order, all hooks at the same time.
 *
 * For each hook: its cursor (storage/webhooks.c) -> the next event that it asks for -> POST -> 2xx: the cursor moves;
 * anything else: again after a wait that doubles. Nothing is kept here that a crash could lose: an event is sent again
 * unless its success has been committed. */
#include "webhooks.h"

#include "log.h"

#include <curl/curl.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
	EVENTS_AT_ONCE = 200,
	ANSWER_MAX = 64 << 10,
	RETRY_MAX_MS = 15 * 60 * 1000,
	AGAIN_MS = 5000, /* after storage has refused a row */
	IDLE_MS = 60000,
};

/* One POST. */
struct post {
	struct post *next;
	CURL *easy;
	struct curl_slist *headers;
	struct wasd_buf body;
	char hook[40], type[64];
	int64_t seq, tries, began_us;
	int64_t updated_at; /* of the hook */
	size_t got;
	char error[CURL_ERROR_SIZE];
};

/* How far a hook's events have been read without one that it asks for. Its cursor in the database follows once in
 * EVENTS_AT_ONCE events. */
struct seen {
	char hook[40];
	int64_t updated_at, seq;
};

struct webhooks {
	struct webhooks_config cfg;
	CURLM *multi;
	pthread_t thread;
	bool running;
	_Atomic bool stopping;
	_Atomic bool testing; /* a thread of the API waits for a receiver */
	_Atomic bool any;     /* there may be an active hook: only then do events wake the thread */
	/* used only by the thread */
	struct post *posts;
	struct seen seen[STORAGE_WEBHOOKS_MAX]; /* in the order of the list of hooks */
	int64_t not_before_us;
};

/* ---- a request ---- */

static void post_free(struct post *p)
{
	if (!p)
		return;
	curl_easy_cleanup(p->easy);
	curl_slist_free_all(p->headers);
	wasd_buf_done(&p->body);
	wasd_free(p);
}

/* The answer does not matter beyond its status; a long one is cut off. */
static size_t on_answer(char *data, size_t size, size_t n, void *ctx)
{
	struct post *p = ctx;
	(void)data, (void)size;
	p->got += n;
	return p->got > ANSWER_MAX ? 0 : n;
}

static bool header(struct post *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool header(struct post *p, const char *fmt, ...)
{
	char line[300];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(line, sizeof line, fmt, ap);
	va_end(ap);
	struct curl_slist *more = curl_slist_append(p->headers, line);
	if (more)
		p->headers = more;
	return more != NULL;
}

/* Signs "TIMESTAMP.BODY" with the hook's secret, so that an old request cannot be sent again as a new one. */
static bool sign(struct post *p, const char *secret)
{
	struct wasd_buf text = {0};
	unsigned char mac[32];
	char hex[2 * sizeof mac + 1];
	const long long now = (long long)(wasd_now_ms() / 1000);
	wasd_buf_printf(&text, "%lld.%s", now, wasd_buf_cstr(&p->body));
	if (text.failed || gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, strlen(secret), text.data, text.len, mac) < 0) {
		wasd_buf_done(&text);
		return false;
	}
	wasd_hex(mac, sizeof mac, hex);
	bool ok = header(p, "X-Wasd-Timestamp: %lld", now) && header(p, "X-Wasd-Signature-256: sha256=%s", hex);
	wasd_buf_done(&text);
	return ok;
}

static bool set_options(struct post *p, const char *url, int timeout_ms)
{
	CURL *e = p->easy;
	return !curl_easy_setopt(e, CURLOPT_URL, url) && !curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") &&
	       !curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) && !curl_easy_setopt(e, CURLOPT_PROXY, "") &&
	       !curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) && !curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)timeout_ms) &&
	       !curl_easy_setopt(e, CURLOPT_HTTPHEADER, p->headers) &&
	       !curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)p->body.len) &&
	       !curl_easy_setopt(e, CURLOPT_POSTFIELDS, wasd_buf_cstr(&p->body)) &&
	       !curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_answer) && !curl_easy_setopt(e, CURLOPT_WRITEDATA, p) &&
	       !curl_easy_setopt(e, CURLOPT_ERRORBUFFER, p->error) && !curl_easy_setopt(e, CURLOPT_PRIVATE, p);
}

static bool fill(struct post *p, const struct storage_event *e)
{
	char when[WASD_RFC3339_LEN];
	cJSON *j = cJSON_CreateObject(), *data = NULL;
	wasd_rfc3339(e->ts, when);
	if (e->data)
		wasd_json_parse(e->data, strlen(e->data), WASD_JSON_BULK, &data, NULL);
	cJSON_AddNumberToObject(j, "id", (double)e->seq);
	cJSON_AddStringToObject(j, "type", e->type);
	cJSON_AddStringToObject(j, "topic", e->topic);
	cJSON_AddStringToObject(j, "object", e->object ? e->object : "");
	cJSON_AddStringToObject(j, "at", when);
	cJSON_AddItemToObject(j, "data", data ? data : cJSON_CreateObject());
	char *text = wasd_json_print(j);
	bool ok = text && wasd_buf_puts(&p->body, text);
	wasd_free(text);
	cJSON_Delete(j);
	return ok;
}

/* NULL: no memory. */
static struct post *post_create(const struct webhooks *w, const struct storage_webhook *h,
                                const struct storage_event *e)
{
	struct post *p = wasd_calloc(1, sizeof *p);
	if (!p)
		return NULL;
	snprintf(p->hook, sizeof p->hook, "%s", h->id);
	snprintf(p->type, sizeof p->type, "%s", e->type);
	p->seq = e->seq;
	p->tries = h->tries;
	p->updated_at = h->updated_at;
	p->began_us = wasd_mono_us();
	p->easy = curl_easy_init();
	/* The same event has the same delivery id in every attempt. */
	if (p->easy && fill(p, e) && header(p, "Content-Type: application/json") && header(p, "Expect:") &&
	    header(p, "User-Agent: wasd/%s", WASD_VERSION) && header(p, "X-Wasd-Event: %s", e->type) &&
	    header(p, "X-Wasd-Delivery: %s-%lld", h->id, (long long)e->seq) && sign(p, h->secret) &&
	    set_options(p, h->url, w->cfg.timeout_ms))
		return p;
	post_free(p);
	return NULL;
}

/* What came of it, as a row without the members that move the hook. */
static struct storage_delivered result(struct post *p, CURLcode code)
{
	long status = 0;
	curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
	bool ok = code == CURLE_OK && status >= 200 && status < 300;
	if (ok)
		*p->error = 0;
	else if (code == CURLE_OK && status >= 300 && status < 400)
		snprintf(p->error, sizeof p->error, "it answered %ld, and redirects are not followed", status);
	else if (code == CURLE_OK)
		snprintf(p->error, sizeof p->error, "it answered %ld", status);
	else if (p->got > ANSWER_MAX)
		snprintf(p->error, sizeof p->error, "its answer is longer than %d KiB", ANSWER_MAX >> 10);
	else if (!*p->error)
		snprintf(p->error, sizeof p->error, "%s", curl_easy_strerror(code));
	return (struct storage_delivered){.webhook = p->hook,
	                                  .type = p->type,
	                                  .error = ok ? NULL : p->error,
	                                  .state = ok ? "delivered" : "failed",
	                                  .seq = p->seq,
	                                  .attempt = p->tries + 1,
	                                  .updated_at = p->updated_at,
	                                  .status = status,
	                                  .ms = (wasd_mono_us() - p->began_us) / 1000};
}

/* ---- the thread ---- */

static bool record(struct webhooks *w, const struct storage_delivered *d)
{
	struct wasd_err err = {0};
	if (storage_webhook_delivered(w->cfg.db, d, &err) == WASD_OK)
		return true;
	log_line(LOG_WARN, "cannot record a webhook's delivery", "webhook=%s why=%s", d->webhook, LOG_Q(err.msg));
	w->not_before_us = wasd_mono_us() + AGAIN_MS * 1000ll;
	return false;
}

static void unlink_post(struct webhooks *w, struct post *p)
{
	struct post **at = &w->posts;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	curl_multi_remove_handle(w->multi, p->easy);
}

static void finish(struct webhooks *w, struct post *p, CURLcode code)
{
	struct storage_delivered d = result(p, code);
	d.advance = !d.error;
	if (d.error) {
		int64_t wait = w->cfg.retry_ms;
		for (int64_t i = 0; i < p->tries && wait < RETRY_MAX_MS; i++)
			wait *= 2;
		d.tries = p->tries + 1;
		d.next_at = wasd_now_ms() + (wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
		if (!p->tries)
			log_line(LOG_WARN, "webhook failed", "webhook=%s event=%lld why=%s", p->hook, (long long)p->seq,
			         LOG_Q(d.error));
	} else if (p->tries) {
		log_line(LOG_INFO, "webhook works again", "webhook=%s event=%lld", p->hook, (long long)p->seq);
	}
	record(w, &d);
	unlink_post(w, p);
	post_free(p);
}

static bool wanted(const cJSON *list, const struct storage_event *e)
{
	const cJSON *item;
	cJSON_ArrayForEach(item, list) {
		const char *s = cJSON_IsString(item) ? item->valuestring : "";
		if (!strcmp(s, "*") || !strcmp(s, e->type) || !strcmp(s, e->topic))
			return true;
	}
	return false;
}

static bool busy(const struct webhooks *w, const char *id)
{
	for (const struct post *p = w->posts; p; p = p->next)
		if (!strcmp(p->hook, id))
			return true;
	return false;
}

/* The hook's entry; an update, or a place that was another hook's, begins anew at the cursor. */
static struct seen *seen_by(struct webhooks *w, size_t place, const struct storage_webhook *h)
{
	struct seen *s = &w->seen[place % STORAGE_WEBHOOKS_MAX];
	if (strcmp(s->hook, h->id) != 0 || s->updated_at != h->updated_at) {
		snprintf(s->hook, sizeof s->hook, "%s", h->id);
		s->updated_at = h->updated_at;
		s->seq = h->cursor;
	}
	if (s->seq < h->cursor)
		s->seq = h->cursor;
	return s;
}

/* The n events before `first` were removed before the hook could get them. */
static bool pass_lost(struct webhooks *w, struct storage_webhook *h, int64_t first, int64_t n)
{
	char why[120];
	snprintf(why, sizeof why, "%lld events were removed before they could be delivered", (long long)n);
	struct storage_delivered d =
		{.webhook = h->id, .type = "lost", .error = why, .state = "lost", .seq = first - 1, .advance = true, .lost = n};
	log_line(LOG_ERROR, "webhook lost events", "webhook=%s events=%lld", h->id, (long long)n);
	h->cursor = first - 1;
	return record(w, &d);
}

static void send_event(struct webhooks *w, const struct storage_webhook *h, const struct storage_event *e)
{
	struct post *p = post_create(w, h, e);
	if (!p || curl_multi_add_handle(w->multi, p->easy) != CURLM_OK) {
		post_free(p);
		w->not_before_us = wasd_mono_us() + AGAIN_MS * 1000ll;
		return;
	}
	p->next = w->posts;
	w->posts = p;
}

/* Sends the next event that the hook asks for, or goes on when a page has none. False: it has come to the last event,
 * or cannot go on now. */
static bool step(struct webhooks *w, struct storage_webhook *h, struct seen *seen, const cJSON *list)
{
	struct storage_event_list l = {0};
	if (storage_event_read(w->cfg.db, seen->seq, NULL, NULL, EVENTS_AT_ONCE, &l, NULL) != WASD_OK)
		return false;
	bool more = l.n == EVENTS_AT_ONCE;
	if (l.first_seq > seen->seq + 1 && !pass_lost(w, h, l.first_seq, l.first_seq - 1 - seen->seq))
		more = false;
	const struct storage_event *found = NULL;
	for (size_t i = 0; i < l.n && !found; i++)
		if (wanted(list, &l.items[i]))
			found = &l.items[i];
	if (found) {
		send_event(w, h, found);
		more = false;
	} else if ((seen->seq = l.last_seq) >= h->cursor + EVENTS_AT_ONCE) {
		struct storage_delivered d = {.webhook = h->id,
		                              .seq = l.last_seq,
		                              .advance = true,
		                              .updated_at = h->updated_at};
		more = record(w, &d) && more;
		h->cursor = l.last_seq;
	}
	storage_event_list_done(&l);
	return more;
}

/* Starts what is due; milliseconds until there is more to do. */
static int64_t begin(struct webhooks *w)
{
	struct storage_webhook_list l = {0};
	int64_t wait = IDLE_MS, now = wasd_now_ms(), held = w->not_before_us - wasd_mono_us();
	if (held > 0)
		return held / 1000 + 1;
	if (storage_webhook_list(w->cfg.db, &l, NULL) != WASD_OK)
		return AGAIN_MS;
	/* Before events are read, so that one that is not read wakes the thread. */
	bool any = false;
	for (size_t i = 0; i < l.n; i++)
		any = any || l.items[i].active;
	atomic_store(&w->any, any);
	for (size_t i = 0; i < l.n; i++) {
		struct storage_webhook *h = &l.items[i];
		cJSON *list = NULL;
		if (!h->active || busy(w, h->id))
			continue;
		if (h->next_at > now) {
			wait = h->next_at - now < wait ? h->next_at - now : wait;
			continue;
		}
		if (wasd_json_parse(h->events, strlen(h->events), WASD_JSON_REQUEST, &list, NULL) == WASD_OK)
			while (step(w, h, seen_by(w, i, h), list) && !atomic_load(&w->stopping))
				;
		cJSON_Delete(list);
	}
	storage_webhook_list_done(&l);
	held = w->not_before_us - wasd_mono_us();
	return held > 0 && held / 1000 < wait ? held / 1000 + 1 : wait;
}

static void *webhooks_main(void *arg)
{
	struct webhooks *w = arg;
	while (!atomic_load(&w->stopping)) {
		int running, left;
		int64_t wait = begin(w);
		curl_multi_perform(w->multi, &running);
		bool ended = false;
		for (CURLMsg *m; (m = curl_multi_info_read(w->multi, &left));) {
			struct post *p = NULL;
			CURLcode code = m->data.result;
			curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&p);
			finish(w, p, code);
			ended = true;
		}
		if (!ended)
			curl_multi_poll(w->multi, NULL, 0, (int)wait, NULL);
	}
	return NULL;
}

/* ---- other threads ---- */

void webhooks_event(struct webhooks *w)
{
	if (w && atomic_load(&w->any))
		curl_multi_wakeup(w->multi);
}

/* The list that the thread may be reading can be older than the change: it reads it again. */
void webhooks_poke(struct webhooks *w)
{
	if (!w)
		return;
	atomic_store(&w->any, true);
	curl_multi_wakeup(w->multi);
}

enum wasd_status webhooks_create(const struct webhooks_config *cfg, struct webhooks **out, struct wasd_err *err)
{
	struct webhooks *w = wasd_calloc(1, sizeof *w);
	if (!w)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the webhooks");
	w->cfg = *cfg;
	atomic_init(&w->any, true);
	int rc = curl_global_init(CURL_GLOBAL_DEFAULT) || !(w->multi = curl_multi_init()) ?
	             ENOMEM :
	             pthread_create(&w->thread, NULL, webhooks_main, w);
	if (rc) {
		webhooks_destroy(w);
		return wasd_fail_errno(err, rc, "the thread of the webhooks");
	}
	w->running = true;
	*out = w;
	return WASD_OK;
}

void webhooks_stop(struct webhooks *w)
{
	if (!w || !w->running)
		return;
	atomic_store(&w->stopping, true);
	curl_multi_wakeup(w->multi);
	pthread_join(w->thread, NULL);
	w->running = false;
}

void webhooks_destroy(struct webhooks *w)
{
	if (!w)
		return;
	webhooks_stop(w);
	while (w->posts) {
		struct post *p = w->posts;
		unlink_post(w, p);
		post_free(p);
	}
	curl_multi_cleanup(w->multi);
	wasd_free(w);
}

/* ---- for the API ---- */

static enum wasd_status test_now(struct webhooks *w, const struct storage_webhook *h, const char *actor,
                                 struct api_webhook_test *out, struct wasd_err *err)
{
	struct storage_webhook once = *h;
	once.tries = 0;
	struct storage_event e = {.type = (char *)"webhook.test",
	                          .topic = (char *)"system",
	                          .object = h->id,
	                          .data = (char *)"{}",
	                          .ts = wasd_now_ms()};
	struct post *p = post_create(w, &once, &e);
	if (!p)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the request");
	struct storage_delivered d = result(p, curl_easy_perform(p->easy));
	enum wasd_status s = storage_webhook_tested(w->cfg.db, &d, actor, err);
	out->delivered = !d.error;
	out->status = d.status;
	out->ms = d.ms;
	snprintf(out->error, sizeof out->error, "%s", d.error ? d.error : "");
	post_free(p);
	return s;
}

/* One at a time, so that receivers that do not answer hold one thread of the API, not all. */
static enum wasd_status test(struct webhooks *w, const struct storage_webhook *h, const char *actor,
                             struct api_webhook_test *out, struct wasd_err *err)
{
	if (atomic_exchange(&w->testing, true))
		return wasd_fail(err, WASD_EBUSY, "another test of a webhook is running: try again when it has ended");
	enum wasd_status s = test_now(w, h, actor, out, err);
	atomic_store(&w->testing, false);
	return s;
}

struct api_webhooks webhooks_api(struct webhooks *w)
{
	return (struct api_webhooks){.self = w, .changed = webhooks_poke, .test = test};
}
