/* base/json.c - a strict scanner in front of cJSON, an exact printer behind it, and typed look-ups.
 *
 * The scanner walks the text once with an explicit stack (depth is bounded by the limits, never by the C stack) and
 * rejects what cJSON would let through. The keys of the open objects form one array used as a stack. When an object
 * closes, its keys are sorted and neighbours compared, so n keys cost n log n and no choice of keys makes it slower. */
#include "wasd/json.h"
#include "wasd/foreign.h"
#include "base/json_text.h"
#include "base/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((constructor)) static void count_cjson_memory(void)
{
	cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = wasd_malloc, .free_fn = wasd_free});
}

/* ---- strings inside the text ---- */

struct span {
	const char *p;
	size_t n;
}; /* raw text between the quotes */

static unsigned hex4(const char *s)
{
	unsigned v = 0;
	for (int i = 0; i < 4; i++) {
		unsigned c = (unsigned char)s[i];
		v = v << 4 | (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
	}
	return v;
}

/* Decodes the next character of a checked string. Returns the number of UTF-8 bytes written to out, 0 at the end. */
static size_t next_char(struct span *s, char out[4])
{
	if (s->n == 0)
		return 0;
	if (s->p[0] != '\\') {
		size_t k = utf8_step((const unsigned char *)s->p, s->n);
		memcpy(out, s->p, k);
		s->p += k, s->n -= k;
		return k;
	}
	char c = s->p[1];
	if (c != 'u') {
		static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
		out[0] = to[strchr(from, c) - from];
		s->p += 2, s->n -= 2;
		return 1;
	}
	unsigned v = hex4(s->p + 2);
	size_t used = 6;
	if (v >= 0xd800 && v <= 0xdbff) {
		v = 0x10000 + ((v - 0xd800) << 10) + (hex4(s->p + 8) - 0xdc00);
		used = 12;
	}
	s->p += used, s->n -= used;
	if (v < 0x80)
		return out[0] = (char)v, 1;
	size_t k = v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
	for (size_t i = k; i-- > 1; v >>= 6)
		out[i] = (char)(0x80 | (v & 0x3f));
	out[0] = (char)((k == 2 ? 0xc0 : k == 3 ? 0xe0 : 0xf0) | v);
	return k;
}

/* Orders keys by their decoded bytes: "a" and "\u0061" are the same key. */
static int key_cmp(const void *va, const void *vb)
{
	struct span a = *(const struct span *)va, b = *(const struct span *)vb;
	if (!memchr(a.p, '\\', a.n) && !memchr(b.p, '\\', b.n)) {
		int d = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
		return d ? d : (a.n > b.n) - (a.n < b.n);
	}
	for (;;) {
		char ca[4] = {0}, cb[4] = {0};
		size_t ka = next_char(&a, ca), kb = next_char(&b, cb);
		if (!ka || !kb)
			return (ka > 0) - (kb > 0);
		int d = memcmp(ca, cb, 4);
		if (d)
			return d;
	}
}

/* ---- the scan ---- */

struct level {
	bool object;
	size_t index, first_key;
	struct span key;
};

struct scan {
	const char *text;
	size_t len, at;
	struct wasd_json_limits lim;
	struct level *stack;
	unsigned depth;
	unsigned nodes;
	struct span *keys;
	size_t n_keys, cap_keys;
	struct wasd_err *err;
};

/* Appends the JSON pointer (RFC 6901) of the scanner's position. */
static void put_pointer(const struct scan *s, struct wasd_buf *b)
{
	for (unsigned i = 0; i < s->depth; i++) {
		const struct level *l = &s->stack[i];
		if (!l->object) {
			wasd_buf_printf(b, "/%zu", l->index);
			continue;
		}
		if (!l->key.p)
			continue;
		wasd_buf_puts(b, "/");
		struct span k = l->key;
		char c[4];
		for (size_t n; (n = next_char(&k, c));) {
			if (c[0] == '~')
				wasd_buf_puts(b, "~0");
			else if (c[0] == '/')
				wasd_buf_puts(b, "~1");
			else
				wasd_buf_append(b, c, n);
		}
	}
}

static enum wasd_status scan_fail(const struct scan *s, enum wasd_status st, size_t at, const char *what)
{
	if (!s->err)
		return st;
	struct wasd_buf b = {.max = 4096};
	put_pointer(s, &b);
	const char *ptr = wasd_buf_cstr(&b);
	wasd_fail_at(s->err, st, ptr ? ptr : "", "%s at byte %zu", what, at);
	wasd_buf_done(&b);
	return st;
}

/* Whether a typographic quote, as inserted by word processors and chat programs, is here: U+2018 to U+201F, and the
 * angled ones. */
static bool curly_quote(const struct scan *s)
{
	const unsigned char *p = (const unsigned char *)s->text + s->at;
	size_t left = s->len - s->at;
	return (left >= 3 && p[0] == 0xe2 && p[1] == 0x80 && p[2] >= 0x98 && p[2] <= 0x9f) ||
	       (left >= 2 && p[0] == 0xc2 && (p[1] == 0xab || p[1] == 0xbb));
}

/* Describes what stands in place of a quote, or returns `otherwise`. */
static const char *not_quoted(const struct scan *s, const char *otherwise)
{
	if (s->at >= s->len)
		return otherwise;
	if (curly_quote(s))
		return "a curly quote where a straight one (\") belongs";
	return s->text[s->at] == '\'' ? "a single quote where a double one (\") belongs" : otherwise;
}

static void skip_space(struct scan *s)
{
	while (s->at < s->len && memchr(" \t\n\r", s->text[s->at], 4))
		s->at++;
}

static bool is_hex4(const char *p, size_t n)
{
	if (n < 4)
		return false;
	for (int i = 0; i < 4; i++)
		if (!((p[i] >= '0' && p[i] <= '9') || ((p[i] | 32) >= 'a' && (p[i] | 32) <= 'f')))
			return false;
	return true;
}

/* Starts at the opening quote; leaves `at` behind the closing quote. */
static enum wasd_status scan_string(struct scan *s, struct span *out)
{
	const size_t start = s->at++;
	while (s->at < s->len) {
		const char *p = s->text + s->at;
		size_t left = s->len - s->at;
		unsigned char c = (unsigned char)*p;
		if (c == '"') {
			*out = (struct span){s->text + start + 1, s->at - start - 1};
			s->at++;
			return WASD_OK;
		}
		if (c < 0x20)
			return scan_fail(s, WASD_EINVAL, s->at, "control character inside a string");
		if (c != '\\') {
			size_t k = utf8_step((const unsigned char *)p, left);
			if (!k)
				return scan_fail(s, WASD_EINVAL, s->at, "invalid UTF-8");
			s->at += k;
			continue;
		}
		if (left < 2)
			break;
		if (p[1] != 'u') {
			if (!memchr("\"\\/bfnrt", p[1], 8))
				return scan_fail(s, WASD_EINVAL, s->at, "unknown escape in a string");
			s->at += 2;
			continue;
		}
		if (!is_hex4(p + 2, left - 2))
			return scan_fail(s, WASD_EINVAL, s->at, "\\u is not followed by four hexadecimal digits");
		unsigned v = hex4(p + 2);
		if (v == 0)
			return scan_fail(s, WASD_EINVAL, s->at, "\\u0000 inside a string");
		if (v < 0xd800 || v > 0xdfff) {
			s->at += 6;
			continue;
		}
		bool pair = v < 0xdc00 && left >= 12 && p[6] == '\\' && p[7] == 'u' && is_hex4(p + 8, 4);
		unsigned w = pair ? hex4(p + 8) : 0;
		if (w < 0xdc00 || w > 0xdfff)
			return scan_fail(s, WASD_EINVAL, s->at, "lone surrogate in a string");
		s->at += 12;
	}
	return scan_fail(s, WASD_EINVAL, start, "string without a closing quote");
}

static size_t digits(struct scan *s)
{
	size_t from = s->at;
	while (s->at < s->len && s->text[s->at] >= '0' && s->text[s->at] <= '9')
		s->at++;
	return s->at - from;
}

static bool accept(struct scan *s, const char *any)
{
	if (s->at >= s->len || !s->text[s->at] || !strchr(any, s->text[s->at]))
		return false;
	s->at++;
	return true;
}

static enum wasd_status scan_number(struct scan *s)
{
	const size_t start = s->at;
	accept(s, "-");
	bool zero = s->at < s->len && s->text[s->at] == '0';
	size_t whole = digits(s);
	bool good = whole > 0 && !(zero && whole > 1);
	if (good && accept(s, "."))
		good = digits(s) > 0;
	if (good && accept(s, "eE")) {
		accept(s, "+-");
		good = digits(s) > 0;
	}
	if (!good)
		return scan_fail(s, WASD_EINVAL, start, "not a JSON number");
	char copy[64]; /* cJSON silently truncates a number to 63 characters */
	if (s->at - start >= sizeof copy)
		return scan_fail(s, WASD_EINVAL, start, "number of more than 63 characters");
	memcpy(copy, s->text + start, s->at - start);
	copy[s->at - start] = 0;
	if (!isfinite(strtod(copy, NULL)))
		return scan_fail(s, WASD_EINVAL, start, "number too large for a double");
	return WASD_OK;
}

static enum wasd_status scan_word(struct scan *s)
{
	static const char *const words[] = {"true", "false", "null"};
	for (int i = 0; i < 3; i++) {
		size_t n = strlen(words[i]);
		if (s->len - s->at >= n && !memcmp(s->text + s->at, words[i], n)) {
			s->at += n;
			return WASD_OK;
		}
	}
	return scan_fail(s, WASD_EINVAL, s->at, not_quoted(s, "not a JSON value"));
}

static enum wasd_status push_level(struct scan *s, bool object)
{
	if (s->depth >= s->lim.depth) {
		char what[64];
		snprintf(what, sizeof what, "nested deeper than %u levels", s->lim.depth);
		return scan_fail(s, WASD_ETOOBIG, s->at, what);
	}
	s->stack[s->depth++] = (struct level){.object = object, .first_key = s->n_keys};
	s->at++;
	return WASD_OK;
}

static enum wasd_status scan_key(struct scan *s)
{
	struct level *top = &s->stack[s->depth - 1];
	top->key = (struct span){0};
	if (s->at >= s->len || s->text[s->at] != '"') {
		bool bare = s->at < s->len && ((s->text[s->at] | 32) >= 'a' && (s->text[s->at] | 32) <= 'z');
		return scan_fail(
			s, WASD_EINVAL, s->at,
			not_quoted(
				s,
				bare ?
					"a member name without quotes (the Windows command line removes them: send a file, curl -d @body.json)" :
					"expected a member name in quotes"));
	}
	enum wasd_status st = scan_string(s, &top->key);
	if (st)
		return st;
	if (s->n_keys == s->cap_keys) {
		size_t cap = s->cap_keys ? 2 * s->cap_keys : 32;
		struct span *k = wasd_realloc(s->keys, cap * sizeof *k);
		if (!k)
			return scan_fail(s, WASD_ENOMEM, s->at, "no memory");
		s->keys = k;
		s->cap_keys = cap;
	}
	s->keys[s->n_keys++] = top->key;
	skip_space(s);
	if (!accept(s, ":"))
		return scan_fail(s, WASD_EINVAL, s->at, "expected ':' after a member name");
	skip_space(s);
	return WASD_OK;
}

static enum wasd_status pop_level(struct scan *s)
{
	struct level *top = &s->stack[s->depth - 1];
	if (top->object &&
	    s->n_keys > top->first_key) { /* an empty object needs no check; it may not even have a key array */
		struct span *k = s->keys + top->first_key;
		size_t n = s->n_keys - top->first_key;
		if (n > 1)
			qsort(k, n, sizeof *k, key_cmp);
		for (size_t i = 1; i < n; i++) {
			if (key_cmp(&k[i - 1], &k[i]))
				continue;
			top->key = k[i].p > k[i - 1].p ? k[i] : k[i - 1];
			return scan_fail(s, WASD_EINVAL, (size_t)(top->key.p - s->text) - 1, "duplicate member name");
		}
		s->n_keys = top->first_key;
	}
	s->depth--;
	s->at++;
	return WASD_OK;
}

/* Scans one scalar, or the opening of a container; *opened says which. */
static enum wasd_status scan_value(struct scan *s, bool *opened)
{
	*opened = false;
	if (s->at >= s->len)
		return scan_fail(s, WASD_EINVAL, s->at, "the text ends where a value should be");
	if (++s->nodes > s->lim.nodes) {
		char what[64];
		snprintf(what, sizeof what, "more than %u values", s->lim.nodes);
		return scan_fail(s, WASD_ETOOBIG, s->at, what);
	}
	char c = s->text[s->at];
	struct span str;
	if (c == '{' || c == '[') {
		*opened = true;
		return push_level(s, c == '{');
	}
	if (c == '"')
		return scan_string(s, &str);
	if (c == '-' || (c >= '0' && c <= '9'))
		return scan_number(s);
	return scan_word(s);
}

static enum wasd_status scan_text(struct scan *s)
{
	enum wasd_status st;
	bool opened;
	skip_space(s);
	if ((st = scan_value(s, &opened)))
		return st;
	while (s->depth) {
		struct level *top = &s->stack[s->depth - 1];
		char close = top->object ? '}' : ']';
		skip_space(s);
		bool at_close = s->at < s->len && s->text[s->at] == close;
		if (!opened && !at_close) {
			if (!accept(s, ","))
				return scan_fail(s, WASD_EINVAL, s->at, top->object ? "expected ',' or '}'" : "expected ',' or ']'");
			top->index++;
			skip_space(s);
		}
		if (at_close) {
			if ((st = pop_level(s)))
				return st;
			opened = false;
			continue;
		}
		if (top->object && (st = scan_key(s)))
			return st;
		if ((st = scan_value(s, &opened)))
			return st;
	}
	skip_space(s);
	return s->at == s->len ? WASD_OK : scan_fail(s, WASD_EINVAL, s->at, "extra bytes after the end of the value");
}

enum wasd_status wasd_json_parse(const char *text, size_t len, struct wasd_json_limits lim, cJSON **out,
                                 struct wasd_err *err)
{
	if (len > lim.bytes)
		return wasd_fail(err, WASD_ETOOBIG, "JSON text of %zu bytes; the limit is %zu", len, lim.bytes);
	struct scan s = {.text = text, .len = len, .lim = lim, .err = err};
	s.stack = wasd_calloc(lim.depth ? lim.depth : 1, sizeof *s.stack);
	enum wasd_status st = s.stack ? scan_text(&s) : wasd_fail(err, WASD_ENOMEM, "no memory for JSON");
	wasd_free(s.stack);
	wasd_free(s.keys);
	char text_of[WASD_FOREIGN_TEXT];
	if (st == WASD_EINVAL && wasd_foreign(WASD_READS_JSON, text, len, text_of))
		return wasd_fail(err, st, "%s", text_of);
	if (st)
		return st;
	cJSON *v = cJSON_ParseWithLength(text, len);
	if (!v)
		return wasd_fail(err, WASD_ENOMEM, "no memory for JSON of %zu bytes", len);
	*out = v;
	return WASD_OK;
}

/* ---- printing ---- */

bool json_put_string(struct wasd_buf *b, const char *s)
{
	wasd_buf_append(b, "\"", 1);
	size_t n = strlen(s), plain = 0;
	for (size_t i = 0; i < n;) {
		unsigned char c = (unsigned char)s[i];
		size_t k = utf8_step((const unsigned char *)s + i, n - i);
		if (k && c >= 0x20 && c != '"' && c != '\\') {
			i += k;
			continue;
		}
		wasd_buf_append(b, s + plain, i - plain);
		const char *esc = c == '"'  ? "\\\"" :
		                  c == '\\' ? "\\\\" :
		                  c == '\n' ? "\\n" :
		                  c == '\r' ? "\\r" :
		                  c == '\t' ? "\\t" :
		                  !k        ? "\\ufffd" :
		                              NULL;
		if (esc)
			wasd_buf_puts(b, esc);
		else
			wasd_buf_printf(b, "\\u%04x", c);
		plain = ++i;
	}
	wasd_buf_append(b, s + plain, n - plain);
	return wasd_buf_append(b, "\"", 1);
}

static void put_number(struct wasd_buf *b, double v)
{
	char t[32];
	if (!isfinite(v)) {
		wasd_buf_puts(b, "null");
		return;
	}
	if (v == floor(v) && fabs(v) <= 9007199254740992.0) {
		snprintf(t, sizeof t, signbit(v) && v == 0 ? "-0" : "%.0f", v);
	} else {
		for (int digits = 15; digits <= 17; digits++) {
			snprintf(t, sizeof t, "%.*g", digits, v);
			if (strtod(t, NULL) == v)
				break;
		}
	}
	wasd_buf_puts(b, t);
}

static void put_value(struct wasd_buf *b, const cJSON *v, int depth)
{
	if (depth > CJSON_NESTING_LIMIT) {
		b->failed = true;
		return;
	}
	switch (v->type & 0xff) {
	case cJSON_True:
		wasd_buf_puts(b, "true");
		break;
	case cJSON_False:
		wasd_buf_puts(b, "false");
		break;
	case cJSON_Number:
		put_number(b, v->valuedouble);
		break;
	case cJSON_String:
		json_put_string(b, v->valuestring ? v->valuestring : "");
		break;
	case cJSON_Raw:
		wasd_buf_puts(b, v->valuestring ? v->valuestring : "null");
		break;
	case cJSON_Array:
	case cJSON_Object: {
		bool object = (v->type & 0xff) == cJSON_Object;
		wasd_buf_puts(b, object ? "{" : "[");
		for (const cJSON *c = v->child; c && !b->failed; c = c->next) {
			if (c != v->child)
				wasd_buf_puts(b, ",");
			if (object) {
				json_put_string(b, c->string ? c->string : "");
				wasd_buf_puts(b, ":");
			}
			put_value(b, c, depth + 1);
		}
		wasd_buf_puts(b, object ? "}" : "]");
		break;
	}
	default:
		wasd_buf_puts(b, "null");
	}
}

char *wasd_json_print(const cJSON *v)
{
	struct wasd_buf b = {0};
	if (!v)
		return NULL;
	put_value(&b, v, 0);
	char *text = wasd_buf_cstr(&b);
	if (!text)
		wasd_buf_done(&b);
	return text;
}

/* ---- look-ups ---- */

const cJSON *wasd_json_get(const cJSON *obj, const char *key)
{
	return cJSON_IsObject(obj) ? cJSON_GetObjectItemCaseSensitive(obj, key) : NULL;
}

bool wasd_json_str(const cJSON *obj, const char *key, const char **out)
{
	const cJSON *v = wasd_json_get(obj, key);
	if (!cJSON_IsString(v) || !v->valuestring)
		return false;
	*out = v->valuestring;
	return true;
}

bool wasd_json_num(const cJSON *obj, const char *key, double *out)
{
	const cJSON *v = wasd_json_get(obj, key);
	if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
		return false;
	*out = v->valuedouble;
	return true;
}

bool wasd_json_i64(const cJSON *obj, const char *key, int64_t *out)
{
	double d;
	if (!wasd_json_num(obj, key, &d) || d != floor(d) || fabs(d) > 9007199254740992.0)
		return false;
	*out = (int64_t)d;
	return true;
}

bool wasd_json_bool(const cJSON *obj, const char *key, bool *out)
{
	const cJSON *v = wasd_json_get(obj, key);
	if (!cJSON_IsBool(v))
		return false;
	*out = cJSON_IsTrue(v);
	return true;
}

static const struct {
	const char *name;
	double value;
} nonfinite[] = {{"nan", NAN}, {"inf", INFINITY}, {"-inf", -INFINITY}};

bool wasd_json_put(cJSON *obj, const char *key, cJSON *v)
{
	cJSON_DeleteItemFromObjectCaseSensitive(obj, key);
	if (v && cJSON_AddItemToObject(obj, key, v))
		return true;
	cJSON_Delete(v);
	return false;
}

bool wasd_json_push(cJSON *list, cJSON *v)
{
	if (v && cJSON_AddItemToArray(list, v))
		return true;
	cJSON_Delete(v);
	return false;
}

bool wasd_json_add_real(cJSON *obj, const char *key, double v)
{
	if (isfinite(v))
		return cJSON_AddNumberToObject(obj, key, v) != NULL;
	const char *name = isnan(v) ? nonfinite[0].name : v > 0 ? nonfinite[1].name : nonfinite[2].name;
	char *flag = wasd_asprintf("%s_nonfinite", key);
	bool ok = flag && cJSON_AddNullToObject(obj, key) && cJSON_AddStringToObject(obj, flag, name);
	wasd_free(flag);
	return ok;
}

bool wasd_json_real(const cJSON *obj, const char *key, double *out)
{
	if (wasd_json_num(obj, key, out))
		return true;
	const char *name = NULL;
	char *flag = cJSON_IsNull(wasd_json_get(obj, key)) ? wasd_asprintf("%s_nonfinite", key) : NULL;
	bool has = flag && wasd_json_str(obj, flag, &name);
	wasd_free(flag);
	for (int i = 0; has && i < 3; i++)
		if (!strcmp(name, nonfinite[i].name))
			return *out = nonfinite[i].value, true;
	return false;
}

void wasd_json_pointer(char *out, size_t size, const char *at, const char *name)
{
	size_t n = (size_t)snprintf(out, size, "%s/", at);
	for (; *name && n + 2 < size; name++) {
		if (*name == '~' || *name == '/') {
			out[n++] = '~';
			out[n++] = *name == '~' ? '0' : '1';
		} else {
			out[n++] = *name;
		}
	}
	if (n < size)
		out[n] = 0;
}
