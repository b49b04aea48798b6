/* api/multipart.c - a strict, bounded parser of multipart/form-data (RFC 7578) for bodies in memory.
 *
 *     --B CRLF  header lines CRLF  CRLF  data  CRLF --B CRLF ... CRLF --B-- [CRLF]
 *
 * One pass, no recursion; the data of a part is a slice of the body. A part must have Content-Disposition: form-data
 * with a name. Limits: boundary 1 to 70 bytes, 8 header lines and 4 KiB of headers per part, 256 parts. */
#include "internal.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BOUNDARY_MAX 70
#define HEADER_LINES_MAX 8
#define HEADERS_MAX 4096

/* Extracts parameter `name` from a header value such as `form-data; name="a"; filename="b.png"`. Quoted strings may
 * contain backslash-escaped quotes. False: absent or malformed. */
static bool parameter(const char *s, size_t len, const char *name, struct wasd_buf *out)
{
	size_t i = 0, want = strlen(name);
	while (i < len && s[i] != ';')
		i++;
	while (i < len) {
		i++;
		while (i < len && (s[i] == ' ' || s[i] == '\t'))
			i++;
		size_t key = i;
		while (i < len && s[i] != '=' && s[i] != ';')
			i++;
		bool ours = i - key == want && !strncasecmp(s + key, name, want);
		if (i >= len || s[i] != '=')
			continue;
		i++;
		if (i < len && s[i] == '"') {
			for (i++; i < len && s[i] != '"'; i++) {
				if (s[i] == '\\' && i + 1 < len && (s[i + 1] == '"' || s[i + 1] == '\\'))
					i++;
				if (ours)
					wasd_buf_append(out, s + i, 1);
			}
			if (i >= len)
				return false;
			i++;
		} else {
			for (; i < len && s[i] != ';' && s[i] != ' '; i++)
				if (ours)
					wasd_buf_append(out, s + i, 1);
		}
		if (ours)
			return !out->failed;
		while (i < len && s[i] != ';')
			i++;
	}
	return false;
}

struct parser {
	const char *body;
	size_t len, at;
	char mark[BOUNDARY_MAX + 3];
	size_t mark_len;
	struct wasd_err *err;
};

/* Offsets into the string buffer, which moves as it grows; SIZE_MAX = absent. */
struct strings {
	size_t name, filename, type;
};

static bool put_string(struct wasd_buf *b, const char *s, size_t n, size_t *at)
{
	*at = b->len;
	return wasd_buf_append(b, s, n) && wasd_buf_append(b, "", 1);
}

static enum wasd_status part_headers(struct parser *p, size_t index, struct wasd_buf *strings, struct strings *out)
{
	size_t begin = p->at, lines = 0;
	*out = (struct strings){SIZE_MAX, SIZE_MAX, SIZE_MAX};
	for (;;) {
		const char *line = p->body + p->at, *end = memmem(line, p->len - p->at, "\r\n", 2);
		if (!end || (size_t)(end - p->body) - begin > HEADERS_MAX || ++lines > HEADER_LINES_MAX + 1)
			return wasd_fail(p->err, WASD_EINVAL, "part %zu: its headers do not end within %d bytes and %d lines",
			                 index, HEADERS_MAX, HEADER_LINES_MAX);
		size_t n = (size_t)(end - line);
		p->at += n + 2;
		if (n == 0)
			break;
		const char *colon = memchr(line, ':', n);
		if (!colon || colon == line || !wasd_utf8_ok(line, n))
			return wasd_fail(p->err, WASD_EINVAL, "part %zu: a header line without a colon, or not UTF-8", index);
		size_t key = (size_t)(colon - line), skip = key + 1;
		while (skip < n && (line[skip] == ' ' || line[skip] == '\t'))
			skip++;
		const char *value = line + skip;
		size_t value_len = n - skip;
		if (key == 19 && !strncasecmp(line, "content-disposition", 19)) {
			struct wasd_buf name = {0}, file = {0};
			bool form = value_len >= 9 && !strncasecmp(value, "form-data", 9), ok = true;
			if (form && parameter(value, value_len, "name", &name))
				ok = put_string(strings, name.data ? name.data : "", name.len, &out->name);
			if (form && parameter(value, value_len, "filename", &file))
				ok &= put_string(strings, file.data ? file.data : "", file.len, &out->filename);
			wasd_buf_done(&name);
			wasd_buf_done(&file);
			if (!ok)
				return wasd_fail(p->err, WASD_ENOMEM, "no memory for a multipart body");
		} else if (key == 12 && !strncasecmp(line, "content-type", 12)) {
			if (!put_string(strings, value, value_len, &out->type))
				return wasd_fail(p->err, WASD_ENOMEM, "no memory for a multipart body");
		} else if (key == 25 && !strncasecmp(line, "content-transfer-encoding", 25)) {
			return wasd_fail(p->err, WASD_EINVAL, "part %zu: Content-Transfer-Encoding is not allowed in form-data",
			                 index);
		}
	}
	if (out->name == SIZE_MAX)
		return wasd_fail(p->err, WASD_EINVAL, "part %zu: no Content-Disposition: form-data with a name", index);
	return WASD_OK;
}

/* Called after a delimiter: sets *closing at the final "--", else skips the line end. */
static enum wasd_status after_mark(struct parser *p, size_t index, bool *closing)
{
	const char *s = p->body + p->at;
	size_t left = p->len - p->at;
	*closing = left >= 2 && s[0] == '-' && s[1] == '-';
	if (*closing) {
		if (left == 2 || (left == 4 && !memcmp(s + 2, "\r\n", 2)))
			return WASD_OK;
		return wasd_fail(p->err, WASD_EINVAL, "%zu bytes after the closing boundary", left - 2);
	}
	if (left < 2 || memcmp(s, "\r\n", 2))
		return wasd_fail(p->err, WASD_EINVAL, "the boundary in front of part %zu is not followed by a line end", index);
	p->at += 2;
	return WASD_OK;
}

static enum wasd_status read_boundary(struct parser *p, const char *content_type)
{
	struct wasd_buf b = {0};
	enum wasd_status st = WASD_OK;
	if (!parameter(content_type, strlen(content_type), "boundary", &b) || b.len < 1 || b.len > BOUNDARY_MAX)
		st = wasd_fail(p->err, WASD_EINVAL, "Content-Type has no boundary of 1 to %d bytes", BOUNDARY_MAX);
	for (size_t i = 0; !st && i < b.len; i++)
		if (!isalnum((unsigned char)b.data[i]) && !memchr("'()+_,-./:=? ", b.data[i], 13))
			st = wasd_fail(p->err, WASD_EINVAL, "the boundary has a byte that RFC 2046 does not allow");
	if (!st)
		p->mark_len = (size_t)snprintf(p->mark, sizeof p->mark, "--%.*s", (int)b.len, b.data);
	wasd_buf_done(&b);
	return st;
}

enum wasd_status multipart_parse(const char *content_type, const char *body, size_t len, struct multipart *out,
                                 struct wasd_err *err)
{
	struct parser p = {.body = body, .len = len, .err = err};
	struct strings where[MULTIPART_PARTS];
	struct wasd_buf strings = {0};
	struct multipart m = {.part = wasd_calloc(MULTIPART_PARTS, sizeof *m.part)};
	bool closing = false;
	enum wasd_status st = m.part ? read_boundary(&p, content_type) :
	                               wasd_fail(err, WASD_ENOMEM, "no memory for a multipart body");
	if (!st && (len < p.mark_len || memcmp(body, p.mark, p.mark_len)))
		st = wasd_fail(err, WASD_EINVAL, "the body does not begin with the boundary %.70s", p.mark);
	p.at = p.mark_len;
	while (!st && !(st = after_mark(&p, m.n, &closing)) && !closing) {
		char stop[BOUNDARY_MAX + 5];
		if (m.n == MULTIPART_PARTS)
			st = wasd_fail(err, WASD_ETOOBIG, "more than %d parts", MULTIPART_PARTS);
		if (st || (st = part_headers(&p, m.n, &strings, &where[m.n])))
			break;
		size_t n = (size_t)snprintf(stop, sizeof stop, "\r\n%s", p.mark);
		const char *end = memmem(body + p.at, len - p.at, stop, n);
		if (!end) {
			st = wasd_fail(err, WASD_EINVAL, "part %zu: no boundary after its data", m.n);
			break;
		}
		m.part[m.n] = (struct multipart_part){.data = body + p.at, .len = (size_t)(end - body) - p.at};
		p.at = (size_t)(end - body) + n;
		m.n++;
	}
	m.strings = strings.data;
	if (st) {
		multipart_done(&m);
		return st;
	}
	for (size_t i = 0; i < m.n; i++) {
		m.part[i].name = m.strings + where[i].name;
		m.part[i].filename = where[i].filename == SIZE_MAX ? "" : m.strings + where[i].filename;
		m.part[i].type = where[i].type == SIZE_MAX ? "" : m.strings + where[i].type;
	}
	*out = m;
	return WASD_OK;
}

void multipart_done(struct multipart *m)
{
	wasd_free(m->part);
	wasd_free(m->strings);
	*m = (struct multipart){0};
}
