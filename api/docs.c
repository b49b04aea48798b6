/* api/docs.c - /docs and /docs/errors: small pages made from the tables of routes and errors, so that they cannot fall behind. */
#include "internal.h"
#include <string.h>

static void put_escaped(struct wasd_buf *b, const char *s)
{
	for (; *s; s++) {
		if (*s == '<') wasd_buf_puts(b, "&lt;");
		else if (*s == '>') wasd_buf_puts(b, "&gt;");
		else if (*s == '&') wasd_buf_puts(b, "&amp;");
		else if (*s == '"') wasd_buf_puts(b, "&quot;");
		else wasd_buf_append(b, s, 1);
	}
}

static void cell(struct wasd_buf *b, const char *open, const char *text, const char *close)
{
	wasd_buf_puts(b, open);
	put_escaped(b, text);
	wasd_buf_puts(b, close);
}

static void begin(struct wasd_buf *b, const char *title)
{
	cell(b, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>", title, "</title></head>\n<body>\n");
	cell(b, "<h1>", title, "</h1>\n");
}

static enum api_result finish(struct api_response *r)
{
	wasd_buf_puts(&r->body, "</body></html>\n");
	r->status = 200;
	r->content_type = "text/html; charset=utf-8";
	if (r->body.failed) api_send_no_memory(r);
	return API_DONE;
}

static const char *body_name(enum api_body body)
{
	static const char *const names[] = {[API_BODY_NONE] = "", [API_BODY_JSON] = "JSON, at most 256 KiB", [API_BODY_BULK] = "at most 16 MiB", [API_BODY_UPLOAD] = "streamed to disk"};
	return names[body];
}

enum api_result api_docs_page(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_buf *b = &r->body;
	(void)c, (void)q;
	begin(b, "wasd: the interface");
	wasd_buf_puts(b, "<p>Bodies are JSON in UTF-8 unless said otherwise. What goes wrong is answered as a problem document; <a href=\"/docs/errors\">its codes</a>. "
	                 "Names, options and ranges of what can be trained: <a href=\"/v1/capabilities\">/v1/capabilities</a>. "
	                 "<code>POST /v1/jobs?dry_run=true</code> answers with a job's every default written out.</p>\n"
	                 "<table>\n<tr><th align=\"left\">Route<th align=\"left\">What it does<th align=\"left\">Query<th align=\"left\">Body</tr>\n");
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		cell(b, "<tr><td><code>", rt->method, " ");
		cell(b, "", rt->pattern, "</code>");
		cell(b, "<td>", rt->summary, "");
		cell(b, "<td><code>", rt->query ? rt->query : "", "</code>");
		cell(b, "<td>", body_name(rt->body), "</tr>\n");
	}
	wasd_buf_puts(b, "</table>\n");
	return finish(r);
}

enum api_result api_docs_errors(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	struct wasd_buf *b = &r->body;
	(void)c, (void)q;
	begin(b, "wasd: error codes");
	wasd_buf_puts(b, "<p>Every answer that is not a success is an <code>application/problem+json</code> document (RFC 9457) whose <code>code</code> is one of these. "
	                 "<code>errors</code> lists each culprit with its pointer. Under <code>/v2</code> the same document is sent as <code>application/json</code> with an <code>error</code> "
	                 "member, and 422 becomes 400.</p>\n<dl>\n");
	for (const struct api_error_row *e = api_errors; e->code; e++) {
		cell(b, "<dt id=\"", e->code, "\"><code>");
		cell(b, "", e->code, "</code> ");
		wasd_buf_printf(b, "(%d) ", e->status);
		cell(b, "", e->title, "</dt>\n");
		cell(b, "<dd>", e->explanation, "</dd>\n");
	}
	wasd_buf_puts(b, "</dl>\n");
	return finish(r);
}
