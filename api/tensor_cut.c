/* api/tensor_cut.c - finds the "data" arrays of a request's inputs in its text without validating the rest:
 * malformed text stays in, for the JSON parser to refuse. */
#include "tensor.h"
#include <string.h>

struct cut {
	const char *p, *end; /* the text still to read */
	const char *copied;  /* the text before this is already in head */
	struct wasd_buf *head;
	struct tensor_texts *out;
	const char *member; /* tensor_cut_member */
};

static void blanks(struct cut *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
		c->p++;
}

static bool take(struct cut *c, char what)
{
	blanks(c);
	if (c->p == c->end || *c->p != what)
		return false;
	c->p++;
	return true;
}

/* Skips a string; its opening quote is next. */
static bool skip_string(struct cut *c)
{
	if (!take(c, '"'))
		return false;
	for (; c->p < c->end && *c->p != '"'; c->p++)
		if (*c->p == '\\' && ++c->p == c->end)
			return false;
	return take(c, '"');
}

/* Skips a value of any kind, up to the comma or bracket after it. */
static bool skip_value(struct cut *c)
{
	int depth = 0;
	blanks(c);
	const char *begin = c->p;
	while (c->p < c->end) {
		char ch = *c->p;
		if (ch == '"') {
			if (!skip_string(c))
				return false;
			continue;
		}
		if (!depth && (ch == ',' || ch == ']' || ch == '}'))
			break;
		depth += ch == '[' || ch == '{';
		depth -= ch == ']' || ch == '}';
		c->p++;
		if (!depth && (ch == ']' || ch == '}'))
			break;
	}
	return !depth && c->p > begin;
}

/* Calls each for every member of the next object, with the member's key; each must skip the value. */
static bool members(struct cut *c, bool (*each)(struct cut *c, const char *key, size_t len, int i), int i)
{
	if (!take(c, '{'))
		return false;
	if (take(c, '}'))
		return true;
	do {
		blanks(c);
		const char *key = c->p + 1;
		if (!skip_string(c))
			return false;
		size_t len = (size_t)(c->p - 1 - key);
		if (!take(c, ':') || !each(c, key, len, i))
			return false;
	} while (take(c, ','));
	return take(c, '}');
}

static bool is(const char *key, size_t len, const char *name)
{
	return len == strlen(name) && !memcmp(key, name, len);
}

/* The array from begin to here belongs to input i. */
static void cut_out(struct cut *c, const char *begin, int i)
{
	c->out->begin[i] = begin;
	c->out->len[i] = (size_t)(c->p - begin);
	wasd_buf_append(c->head, c->copied, (size_t)(begin - c->copied));
	wasd_buf_puts(c->head, "[]");
	c->copied = c->p;
}

static bool input_member(struct cut *c, const char *key, size_t len, int i)
{
	blanks(c);
	const char *begin = c->p;
	if (!skip_value(c))
		return false;
	if (is(key, len, "data") && *begin == '[' && i < TENSOR_INPUTS && !c->out->begin[i])
		cut_out(c, begin, i);
	return true;
}

static bool request_member(struct cut *c, const char *key, size_t len, int i)
{
	(void)i;
	blanks(c);
	if (!is(key, len, "inputs") || c->p == c->end || *c->p != '[')
		return skip_value(c);
	take(c, '[');
	if (take(c, ']'))
		return true;
	int n = 0;
	do {
		blanks(c);
		bool object = c->p < c->end && *c->p == '{';
		if (!(object ? members(c, input_member, n) : skip_value(c)))
			return false;
		n++;
	} while (take(c, ','));
	return take(c, ']');
}

bool tensor_cut(const char *json, size_t len, struct wasd_buf *head, struct tensor_texts *out)
{
	struct cut c = {.p = json, .end = json + len, .copied = json, .head = head, .out = out};
	*out = (struct tensor_texts){0};
	members(&c, request_member, 0); /* stops at the first text that is not JSON */
	wasd_buf_append(head, c.copied, (size_t)(c.end - c.copied));
	return !head->failed;
}

/* The first byte behind the bracket, without blanks; 0: none. */
static char first_inside(const char *begin, const char *end)
{
	for (begin++; begin < end; begin++)
		if (!strchr(" \t\n\r", *begin))
			return *begin;
	return 0;
}

static bool own_member(struct cut *c, const char *key, size_t len, int i)
{
	(void)i;
	blanks(c);
	const char *begin = c->p;
	if (!skip_value(c))
		return false;
	if (is(key, len, c->member) && *begin == '[' && !c->out->begin[0] && !strchr("{\"]", first_inside(begin, c->p)))
		cut_out(c, begin, 0);
	return true;
}

bool tensor_cut_member(const char *json, size_t len, const char *member, struct wasd_buf *head,
                       struct tensor_texts *out)
{
	struct cut c = {.p = json, .end = json + len, .copied = json, .head = head, .out = out, .member = member};
	*out = (struct tensor_texts){0};
	members(&c, own_member, 0);
	wasd_buf_append(head, c.copied, (size_t)(c.end - c.copied));
	return !head->failed;
}

int tensor_text_depth(const char *text, size_t len)
{
	int depth = 0;
	for (size_t i = 0; i < len && strchr("[ \t\n\r", text[i]); i++)
		depth += text[i] == '[';
	return depth;
}

int64_t tensor_text_count(const char *text, size_t len)
{
	int64_t n = 0;
	int depth = 0;
	bool any = false;
	for (size_t i = 0; i < len; i++) {
		if (strchr(" \t\n\r", text[i]))
			continue;
		depth -= text[i] == ']';
		n += depth == 1 && text[i] == ',';
		any |= depth == 1;
		depth += text[i] == '[';
	}
	return n + any;
}
