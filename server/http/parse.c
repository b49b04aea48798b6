#include "http/parse.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- arena -------------------------------------------------------------------------------------- */

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	max_align_t data[];
};

void *arena_alloc(struct arena *a, size_t n)
{
	n = (n + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
	struct arena_block *b = a->blocks;
	if (!b || b->size - b->used < n) {
		size_t size = n > 4000 ? n : 4000;
		b = wasd_malloc(sizeof *b + size);
		if (!b)
			return NULL;
		*b = (struct arena_block){.next = a->blocks, .size = size};
		a->blocks = b;
	}
	void *p = (char *)b->data + b->used;
	b->used += n;
	return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	char *p = arena_alloc(a, n + 1);
	if (p) {
		memcpy(p, s, n);
		p[n] = 0;
	}
	return p;
}

void arena_done(struct arena *a)
{
	for (struct arena_block *b = a->blocks, *next; b; b = next) {
		next = b->next;
		wasd_free(b);
	}
	a->blocks = NULL;
}

/* ---- URI ------------------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decodes n bytes into out (room for n+1). in_path: keeps '+' and refuses an encoded slash. */
static bool percent_decode(const char *s, size_t n, bool in_path, char *out, const char **why)
{
	size_t k = 0;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c == '%') {
			int hi = i + 2 < n ? hex_digit(s[i + 1]) : -1, lo = i + 2 < n ? hex_digit(s[i + 2]) : -1;
			if (hi < 0 || lo < 0) {
				*why = "a percent sign is not followed by two hexadecimal digits";
				return false;
			}
			c = (unsigned char)(hi << 4 | lo);
			i += 2;
			if (in_path && c == '/') {
				*why = "the path has an encoded slash";
				return false;
			}
		} else if (c == '+' && !in_path) {
			c = ' ';
		}
		if (c < ' ' || c == 127) {
			*why = c ? "the URI has a control character" : "the URI has a NUL";
			return false;
		}
		out[k++] = (char)c;
	}
	out[k] = 0;
	if (!wasd_utf8_ok(out, k)) {
		*why = "the URI is not UTF-8";
		return false;
	}
	return true;
}

static bool path_segments_ok(const char *path, const char **why)
{
	if (*path != '/') {
		*why = "the path does not begin with a slash";
		return false;
	}
	for (const char *s = path; *s;) {
		size_t n = strcspn(++s, "/");
		if (!n && s[0] == '/') {
			*why = "the path has an empty segment";
			return false;
		}
		if ((n == 1 && s[0] == '.') || (n >= 2 && !strncmp(s, "..", 2) && (n == 2 || s[2] == ';'))) {
			*why = "the path has a dot segment";
			return false;
		}
		if (memchr(s, '\\', n)) {
			*why = "the path has a backslash";
			return false;
		}
		s += n;
	}
	return true;
}

bool uri_parse(struct arena *a, const char *raw, char **path, struct api_pair **query, size_t *n_query,
               const char **why)
{
	*why = "";
	if (strchr(raw, ' ')) {
		*why = "the URI has a space";
		return false;
	}
	if (!strncasecmp(raw, "http://", 7) || !strncasecmp(raw, "https://", 8)) {
		raw = strstr(raw, "://") + 3;
		raw += strcspn(raw, "/?#");
		if (*raw != '/')
			raw = "/";
	}
	size_t n = strcspn(raw, "?#");
	char *p = arena_alloc(a, n + 1);
	if (!p)
		return false;
	if (!percent_decode(raw, n, true, p, why) || !path_segments_ok(p, why))
		return false;
	*path = p;
	*query = NULL;
	*n_query = 0;
	if (raw[n] != '?')
		return true;
	const char *q = raw + n + 1;
	size_t left = strcspn(q, "#"), count = 1;
	for (size_t i = 0; i < left; i++)
		count += q[i] == '&';
	if (count > QUERY_PAIRS_MAX) {
		*why = "the URI has more than 64 query parameters";
		return false;
	}
	struct api_pair *pairs = arena_alloc(a, count * sizeof *pairs);
	if (!pairs)
		return false;
	size_t k = 0;
	for (const char *end = q + left; q < end;) {
		size_t m = 0;
		while (q + m < end && q[m] != '&')
			m++;
		size_t eq = 0;
		while (eq < m && q[eq] != '=')
			eq++;
		size_t vlen = eq < m ? m - eq - 1 : 0;
		char *name = arena_alloc(a, eq + 1), *value = arena_alloc(a, vlen + 1);
		if (!name || !value)
			return false;
		if (!percent_decode(q, eq, false, name, why) || !percent_decode(q + m - vlen, vlen, false, value, why))
			return false;
		if (m)
			pairs[k++] = (struct api_pair){name, value};
		q += m + 1;
	}
	*query = pairs;
	*n_query = k;
	return true;
}

/* ---- framing --------------------------------------------------------------------------------------- */

static bool is_token(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s))
			return false;
	return true;
}

static bool value_ok(const char *s)
{
	for (; *s; s++)
		if (((unsigned char)*s < ' ' && *s != '\t') || *s == 127)
			return false;
	return true;
}

static bool host_ok(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("-._~:[]%", *s))
			return false;
	return true;
}

int framing_check(const char *version, const struct api_pair *headers, size_t n, struct framing *out, const char **why)
{
	int n_length = 0, n_te = 0, n_host = 0;
	const char *te = NULL, *length = NULL;
	*out = (struct framing){0};
	for (size_t i = 0; i < n; i++) {
		const char *name = headers[i].name, *value = headers[i].value;
		if (!is_token(name))
			return *why = "a header name has a character that is not allowed", 400;
		if (!value_ok(value))
			return *why = "a header value has a control character", 400;
		if (!strcasecmp(name, "content-length"))
			n_length++, length = value;
		else if (!strcasecmp(name, "transfer-encoding"))
			n_te++, te = value;
		else if (!strcasecmp(name, "host")) {
			n_host++;
			if (!host_ok(value))
				return *why = "Host is not a host name", 400;
		} else if (!strcasecmp(name, "expect")) {
			if (strcasecmp(value, "100-continue"))
				return *why = "Expect supports only 100-continue", 400;
			out->keep_reading = true;
		}
	}
	if (n_length > 1)
		return *why = "more than one Content-Length", 400;
	if (n_te > 1)
		return *why = "more than one Transfer-Encoding", 400;
	if (n_length && n_te)
		return *why = "both Content-Length and Transfer-Encoding", 400;
	if (n_te && strcasecmp(te, "chunked"))
		return *why = "Transfer-Encoding supports only chunked", 501;
	if (n_te && strcmp(version, "HTTP/1.1"))
		return *why = "Transfer-Encoding needs HTTP/1.1", 400;
	if (n_length) {
		if (!*length)
			return *why = "Content-Length is empty", 400;
		for (const char *p = length; *p; p++) {
			if (!isdigit((unsigned char)*p))
				return *why = "Content-Length is not a number", 400;
			if (__builtin_mul_overflow(out->length, (uint64_t)10, &out->length) ||
			    __builtin_add_overflow(out->length, (uint64_t)(*p - '0'), &out->length))
				return *why = "Content-Length does not fit in 64 bits", 413;
		}
		out->has_length = true;
	}
	if (n_host > 1)
		return *why = "more than one Host header", 400;
	if (!n_host && !strcmp(version, "HTTP/1.1"))
		return *why = "the Host header is missing", 400;
	out->chunked = n_te == 1;
	return 0;
}

/* ---- header values ------------------------------------------------------------------------------------- */

bool etag_in_list(const char *list, const char *etag)
{
	for (const char *p = list; p && *p;) {
		p += strspn(p, " \t,");
		if (*p == '*')
			return true;
		if (!strncmp(p, "W/", 2))
			p += 2;
		size_t n = *p == '"' ? strcspn(p + 1, "\"") + 2 : strcspn(p, ", \t");
		if (n == strlen(etag) && !strncmp(p, etag, n))
			return true;
		n = strnlen(p, n);
		if (!n)
			return false;
		p += n;
	}
	return false;
}

static bool digits(const char **p, uint64_t *v)
{
	const char *s = *p;
	for (*v = 0; isdigit((unsigned char)**p); ++*p)
		if (__builtin_mul_overflow(*v, (uint64_t)10, v) || __builtin_add_overflow(*v, (uint64_t)(**p - '0'), v))
			*v = UINT64_MAX / 16; /* larger than any file, and further digits keep it so */
	return *p > s;
}

int range_parse(const char *value, uint64_t size, uint64_t *first, uint64_t *last)
{
	if (strncasecmp(value, "bytes=", 6))
		return 0;
	const char *p = value + 6;
	uint64_t a, b;
	p += strspn(p, " \t");
	if (*p == '-') {
		p++;
		if (!digits(&p, &a) || *p)
			return 0;
		if (!a || !size)
			return 416;
		*first = a < size ? size - a : 0;
		*last = size - 1;
		return 206;
	}
	if (!digits(&p, &a) || *p++ != '-')
		return 0;
	if (!*p)
		b = UINT64_MAX;
	else if (!digits(&p, &b) || *p || b < a)
		return 0; /* several ranges or invalid: sending the whole file is a valid reply */
	if (a >= size)
		return 416;
	*first = a;
	*last = b < size - 1 ? b : size - 1;
	return 206;
}

bool traceparent_ok(const char *s)
{
	if (strlen(s) != 55 || strncmp(s, "00-", 3) || s[35] != '-' || s[52] != '-')
		return false;
	for (int i = 3; i < 55; i++)
		if (i != 35 && i != 52 && !(isdigit((unsigned char)s[i]) || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	return strspn(s + 3, "0") != 32 && strspn(s + 36, "0") != 16;
}

const char *content_type_of(const char *name)
{
	static const char *const types[][2] = {
		{".html", "text/html; charset=utf-8"},
		{".css", "text/css; charset=utf-8"},
		{".js", "text/javascript; charset=utf-8"},
		{".mjs", "text/javascript; charset=utf-8"},
		{".svg", "image/svg+xml"},
		{".png", "image/png"},
		{".json", "application/json"},
	};
	const char *dot = strrchr(name, '.');
	for (size_t i = 0; dot && i < sizeof types / sizeof types[0]; i++)
		if (!strcmp(dot, types[i][0]))
			return types[i][1];
	return "application/octet-stream";
}
