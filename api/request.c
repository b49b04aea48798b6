/* api/request.c - reading what the client sent. */
#include "internal.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *api_query(const struct api_request *r, const char *name)
{
	for (size_t i = 0; i < r->n_query; i++)
		if (!strcmp(r->query[i].name, name))
			return r->query[i].value;
	return NULL;
}

const char *api_header(const struct api_request *r, const char *name)
{
	for (size_t i = 0; i < r->n_headers; i++)
		if (!strcmp(r->headers[i].name, name))
			return r->headers[i].value;
	return NULL;
}

/* ---- path ---- */

#define PARAM_MAX 127

bool api_path_match(const char *pat, const char *path, const char *name, const char **at, size_t *len)
{
	while (*pat) {
		if (*pat == '{') {
			const char *end = strchr(pat, '}');
			size_t n = 0;
			/* Ids and names contain no colon, so a colon begins a verb. A model, a version or a mode may have
			 * a colon in its name and has no verbs. */
			bool colon = !strncmp(pat, "{m}", 3) || !strncmp(pat, "{v}", 3);
			while (path[n] && path[n] != '/' && (colon || path[n] != ':'))
				n++;
			if (n == 0 || n > PARAM_MAX)
				return false;
			if (name && !strncmp(pat + 1, name, (size_t)(end - pat - 1)) && !name[end - pat - 1])
				*at = path, *len = n;
			pat = end + 1;
			path += n;
		} else if (*pat == ':' && *path == '/') {
			pat++, path++;
		} else if (*pat++ != *path++) {
			return false;
		}
	}
	return *path == 0 || (*path == '/' && path[1] == 0);
}

bool api_path_param(const struct api_route *rt, const char *path, const char *name, char out[128])
{
	const char *at = NULL;
	size_t len = 0;
	if (!api_path_match(rt->pattern, path, name, &at, &len) || !at)
		return false;
	memcpy(out, at, len);
	out[len] = 0;
	return true;
}

void api_param(const struct api_request *q, const char *name, char out[128])
{
	if (!q->route || !api_path_param(q->route, q->path, name, out))
		out[0] = 0;
}

/* ---- query parameters ---- */

static bool all_digits(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return n > 0;
}

bool api_query_int(const struct api_request *q, struct api_response *r, const char *name, int64_t min, int64_t max,
                   int64_t *out)
{
	const char *s = api_query(q, name);
	if (!s)
		return true;
	size_t sign = *s == '-' && min < 0;
	long long v = 0;
	bool ok = strlen(s) <= 18 && all_digits(s + sign, strlen(s + sign));
	if (ok)
		v = strtoll(s, NULL, 10);
	if (ok && v >= min && v <= max) {
		*out = v;
		return true;
	}
	api_send_problem(q, r, "bad_parameter", name,
	                 "query parameter %s must be a whole number from %lld to %lld, not \"%.60s\"", name, (long long)min,
	                 (long long)max, s);
	return false;
}

bool api_query_bool(const struct api_request *q, struct api_response *r, const char *name, bool *out)
{
	const char *s = api_query(q, name);
	if (!s)
		return true;
	bool yes = !strcmp(s, "true") || !strcmp(s, "1"), no = !strcmp(s, "false") || !strcmp(s, "0");
	if (yes || no) {
		*out = yes;
		return true;
	}
	api_send_problem(q, r, "bad_parameter", name, "query parameter %s must be true or false, not \"%.60s\"", name, s);
	return false;
}

bool api_query_choice(const struct api_request *q, struct api_response *r, const char *name, const char *const *choices,
                      const char **out)
{
	const char *s = api_query(q, name);
	if (!s)
		return true;
	char list[256] = "";
	for (size_t i = 0; choices[i]; i++) {
		if (!strcmp(choices[i], s)) {
			*out = choices[i];
			return true;
		}
		size_t n = strlen(list);
		snprintf(list + n, sizeof list - n, "%s%s", i ? (choices[i + 1] ? ", " : " or ") : "", choices[i]);
	}
	api_send_problem(q, r, "bad_parameter", name, "query parameter %s must be %s, not \"%.60s\"", name, list, s);
	return false;
}

#define WAIT_MAX_US (120 * 1000000LL)

/* A whole number with a unit; seconds without one. False: it is none. */
static bool parse_span(const char *s, int64_t *us)
{
	static const struct {
		const char *name;
		int64_t us;
	} units[] = {{"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000}, {"", 1000000}};
	size_t n = strspn(s, "0123456789");
	for (size_t i = 0; n > 0 && n <= 6 && i < API_LEN(units); i++)
		if (!strcmp(s + n, units[i].name)) {
			*us = strtoll(s, NULL, 10) * units[i].us;
			return true;
		}
	return false;
}

bool api_query_span(const struct api_request *q, struct api_response *r, const char *name, int64_t most_s, int64_t *s)
{
	const char *text = api_query(q, name);
	int64_t us;
	if (!text)
		return true;
	if (parse_span(text, &us) && us >= 1000000 && us <= most_s * 1000000) {
		*s = us / 1000000;
		return true;
	}
	api_send_problem(q, r, "bad_parameter", name,
	                 "query parameter %s must be a time such as 30s or 5m, from 1s to %llds, not \"%.60s\"", name,
	                 (long long)most_s, text);
	return false;
}

bool api_query_wait(const struct api_request *q, struct api_response *r, int64_t *wait_us)
{
	const char *s = api_query(q, "wait");
	*wait_us = 0;
	if (!s || (parse_span(s, wait_us) && *wait_us <= WAIT_MAX_US))
		return true;
	*wait_us = 0;
	api_send_problem(q, r, "bad_parameter", "wait",
	                 "query parameter wait must be a time such as 30s or 500ms, at most 120s, not \"%.60s\"", s);
	return false;
}

bool api_query_time(const struct api_request *q, struct api_response *r, const char *name, int64_t *unix_ms)
{
	const char *s = api_query(q, name);
	if (!s || wasd_rfc3339_parse(s, unix_ms))
		return true;
	api_send_problem(q, r, "bad_parameter", name,
	                 "query parameter %s must be a time such as 2026-01-31T12:00:00Z, not \"%.60s\"", name, s);
	return false;
}

bool api_query_page(const struct api_request *q, struct api_response *r, struct storage_page *page)
{
	static const char *const orders[] = {"-created_at", "created_at", NULL};
	int64_t limit = 50;
	const char *sort = orders[0];
	if (!api_query_int(q, r, "limit", 1, 500, &limit) || !api_query_choice(q, r, "sort", orders, &sort))
		return false;
	*page = (struct storage_page){.cursor = api_query(q, "cursor"), .limit = (int)limit, .oldest_first = *sort != '-'};
	return true;
}

bool api_page_ok(const struct api_request *q, struct api_response *r, enum wasd_status st, const struct wasd_err *err)
{
	if (st == WASD_EINVAL)
		api_send_problem(q, r, "bad_parameter", "cursor", "query parameter cursor does not come from this list");
	else if (st)
		api_send_error(q, r, err);
	return !st;
}

/* ---- headers ---- */

void api_media_type(const struct api_request *q, char out[80])
{
	const char *s = api_header(q, "content-type");
	size_t n = 0;
	if (s)
		s += strspn(s, " \t");
	for (; s && s[n] && !strchr("; \t", s[n]) && n < 79; n++)
		out[n] = (char)tolower((unsigned char)s[n]);
	out[n] = 0;
}

bool api_accepts(const struct api_request *q, const char *type)
{
	const char *s = api_header(q, "accept");
	size_t n = strlen(type);
	for (; s && *s; s += strcspn(s, ","), s += *s == ',') {
		s += strspn(s, " \t");
		if (!strncasecmp(s, type, n) && (s[n] == 0 || strchr(",; \t", s[n])))
			return true;
	}
	return false;
}

/* The length of the suffix that server/http/exchange.c gives the entity tag of a compressed representation; 0: none. */
static size_t coding_suffix(const char *tag, size_t n)
{
	static const char *const suffixes[] = {"-gzip", "-deflate", "-zstd"};
	for (size_t i = 0; i < API_LEN(suffixes); i++) {
		size_t len = strlen(suffixes[i]);
		if (n > len && !memcmp(tag + n - len, suffixes[i], len))
			return len;
	}
	return 0;
}

bool api_etag_listed(const char *list, const char *etag, bool revision)
{
	size_t want = revision ? strcspn(etag, ".") : strlen(etag);
	if (revision && !etag[want])
		want = strlen(etag);
	for (const char *s = list; *s; s += strcspn(s, ","), s += *s == ',') {
		s += strspn(s, " \t");
		if (*s == '*')
			return true;
		bool weak = !strncmp(s, "W/", 2);
		if (weak && revision)
			continue; /* If-Match compares strongly (RFC 9110, 13.1.1) */
		if (weak)
			s += 2;
		if (*s != '"')
			continue;
		size_t n = strcspn(s + 1, "\"");
		if (!s[1 + n])
			return false;
		size_t got = n + 2, suffix = coding_suffix(s + 1, n);
		if (suffix && want == got - suffix && !memcmp(s, etag, want - 1))
			return true; /* the same content, compressed */
		if (revision && memchr(s, '.', got))
			got = (size_t)((const char *)memchr(s, '.', got) - s);
		if (got == want && !memcmp(s, etag, want))
			return true;
		s += n + 2;
	}
	return false;
}

/* ---- body ---- */

/* curl's -d sends application/x-www-form-urlencoded by default; a body that looks like JSON is accepted as JSON. */
static bool json_type(const char *type, const struct api_request *q)
{
	size_t n = strlen(type);
	if (!n || !strcmp(type, "application/json") ||
	    (n > 5 && !strcmp(type + n - 5, "+json") && !strncmp(type, "application/", 12)))
		return true;
	size_t i = 0;
	while (i < q->body_len && strchr(" \t\r\n", q->body[i]))
		i++;
	return !strcmp(type, "application/x-www-form-urlencoded") && i < q->body_len &&
	       (q->body[i] == '{' || q->body[i] == '[');
}

cJSON *api_body_json(const struct api_request *q, struct api_response *r, struct wasd_json_limits lim, bool optional)
{
	char type[80];
	cJSON *j = NULL;
	struct wasd_err err = {0};
	api_media_type(q, type);
	if (!q->body_len) {
		if (!optional)
			api_send_problem(q, r, "body_required", NULL, "%s %s needs a JSON body", q->method, q->path);
		else if (!(j = cJSON_CreateObject()))
			api_send_no_memory(r);
		return j;
	}
	if (!json_type(type, q)) {
		api_send_problem(q, r, "unsupported_media_type", NULL, "Content-Type %s: this route takes application/json",
		                 type);
		api_set_header(r, "Accept", "application/json");
		return NULL;
	}
	if (wasd_json_parse(q->body, q->body_len, lim, &j, &err)) {
		if (err.status == WASD_ENOMEM)
			api_send_error(q, r, &err);
		else
			api_send_problem(q, r, err.status == WASD_ETOOBIG && q->body_len > lim.bytes ? "too_large" : "bad_json",
			                 err.pointer, "%s", err.msg);
		return NULL;
	}
	if (!cJSON_IsObject(j)) {
		api_send_problem(q, r, "invalid_field", "", "the body must be a JSON object");
		cJSON_Delete(j);
		return NULL;
	}
	return j;
}
