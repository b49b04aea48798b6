#include "mlflow_filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { TERMS_MAX = 16, WORD = 256 };
enum kind { METRIC, PARAM, TAG, ATTRIBUTE };

struct key {
	enum kind kind;
	char name[WORD];
};

struct term {
	struct key key;
	char op[3];
	bool number; /* compares numbers */
	double value;
	char text[WORD];
};

struct mlflow_filter {
	struct term terms[TERMS_MAX];
	size_t n;
};

struct mlflow_order {
	struct key key;
	bool descending;
};

/* ---- values of a run ---- */

static const cJSON *find(const struct key *k, const cJSON *run)
{
	static const char *const lists[] = {"metrics", "params", "tags"};
	const cJSON *info = wasd_json_get(run, "info"), *pair;
	if (k->kind == ATTRIBUTE)
		return wasd_json_get(info ? info : run, k->name);
	cJSON_ArrayForEach(pair, wasd_json_get(wasd_json_get(run, "data"), lists[k->kind])) {
		const char *name;
		if (wasd_json_str(pair, "key", &name) && !strcmp(name, k->name))
			return wasd_json_get(pair, "value");
	}
	return NULL;
}

static double number_of(const cJSON *v)
{
	return cJSON_IsNumber(v)                    ? v->valuedouble :
	       !cJSON_IsString(v)                   ? NAN :
	       !strcmp(v->valuestring, "Infinity")  ? INFINITY :
	       !strcmp(v->valuestring, "-Infinity") ? -INFINITY :
	                                              NAN;
}

static bool holds(const struct term *t, int order)
{
	switch (t->op[0]) {
	case '=':
		return order == 0;
	case '!':
		return order != 0;
	case '<':
		return order < 0 || (order == 0 && t->op[1]);
	default:
		return order > 0 || (order == 0 && t->op[1]);
	}
}

bool mlflow_filter_takes(const struct mlflow_filter *f, const cJSON *run)
{
	for (size_t i = 0; f && i < f->n; i++) {
		const struct term *t = &f->terms[i];
		const cJSON *v = find(&t->key, run);
		double x = number_of(v);
		if (!v || (t->number && isnan(x)) || (!t->number && !cJSON_IsString(v)))
			return false;
		if (!holds(t, t->number ? (x > t->value) - (x < t->value) : strcmp(v->valuestring, t->text)))
			return false;
	}
	return true;
}

/* ---- parsing ---- */

static enum wasd_status bad(const char *what, const char *at, struct wasd_err *err)
{
	return wasd_fail(
		err, WASD_EINVAL,
		"%s at \"%.60s\"; a filter is comparisons joined by AND: metrics.NAME > 0.5 and params.NAME = 'text'", what,
		at);
}

static const char *skip(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* A word, or one in backquotes or double quotes. */
static bool read_word(const char **p, char out[WORD], const char *ends)
{
	const char *s = skip(*p);
	const char quote = *s == '`' || *s == '"' || *s == '\'' ? *s : 0;
	const char stop[2] = {quote, 0};
	size_t n = quote ? strcspn(++s, stop) : strcspn(s, ends);
	if (n >= WORD || (quote && !s[n]) || (!quote && !n))
		return false;
	memcpy(out, s, n);
	out[n] = 0;
	*p = s + n + (quote != 0);
	return true;
}

/* metrics.NAME, params.NAME, tags.NAME, attributes.NAME or NAME, with MLflow's other spellings of the kinds. */
static bool read_key(const char **p, struct key *k)
{
	static const struct {
		const char *word;
		enum kind kind;
	} kinds[] = {{"metrics.", METRIC},       {"metric.", METRIC},       {"params.", PARAM},   {"parameters.", PARAM},
	             {"param.", PARAM},          {"parameter.", PARAM},     {"tags.", TAG},       {"tag.", TAG},
	             {"attributes.", ATTRIBUTE}, {"attribute.", ATTRIBUTE}, {"attr.", ATTRIBUTE}, {"run.", ATTRIBUTE}};
	const char *s = skip(*p);
	k->kind = ATTRIBUTE;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		size_t n = strlen(kinds[i].word);
		if (strncasecmp(s, kinds[i].word, n))
			continue;
		k->kind = kinds[i].kind;
		s += n;
		break;
	}
	if (!read_word(&s, k->name, " \t\r\n=!<>"))
		return false;
	if (k->kind == ATTRIBUTE && !strcasecmp(k->name, "created"))
		strcpy(k->name, "start_time");
	*p = s;
	return true;
}

static enum wasd_status read_term(const char **p, struct term *t, struct wasd_err *err)
{
	const char *s = *p;
	if (!read_key(&s, &t->key))
		return bad("no name", *p, err);
	s = skip(s);
	size_t n = strspn(s, "=!<>");
	if (n < 1 || n > 2 || (n == 2 && s[1] != '=') || (n == 1 && *s == '!') || (n == 2 && *s == '='))
		return bad("no operator = != < <= > >=", s, err);
	memcpy(t->op, s, n);
	s = skip(s + n);
	t->number = *s != '\'' && *s != '"';
	const char *at = s;
	if (!read_word(&s, t->text, " \t\r\n"))
		return bad("no value", at, err);
	char *end;
	t->value = strtod(t->text, &end);
	if (t->number && (*end || isnan(t->value)))
		return bad("text needs quotes", at, err);
	*p = s;
	return WASD_OK;
}

enum wasd_status mlflow_filter_parse(const char *text, struct mlflow_filter **out, struct wasd_err *err)
{
	const char *p = skip(text);
	*out = NULL;
	if (!*p)
		return WASD_OK;
	struct mlflow_filter *f = wasd_calloc(1, sizeof *f);
	if (!f)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	enum wasd_status st = WASD_OK;
	for (;;) {
		if (f->n == TERMS_MAX)
			st = bad("more than 16 comparisons", p, err);
		if (st || (st = read_term(&p, &f->terms[f->n], err)))
			break;
		f->n++;
		p = skip(p);
		if (!*p)
			break;
		if (strncasecmp(p, "and", 3) || !strchr(" \t\r\n", p[3])) {
			st = bad("no AND", p, err);
			break;
		}
		p = skip(p + 3);
	}
	if (st)
		wasd_free(f);
	else
		*out = f;
	return st;
}

void mlflow_filter_free(struct mlflow_filter *f)
{
	wasd_free(f);
}

/* ---- order ---- */

enum wasd_status mlflow_order_parse(const cJSON *list, struct mlflow_order **out, struct wasd_err *err)
{
	const cJSON *first = cJSON_GetArrayItem(list, 0);
	*out = NULL;
	if (!first)
		return WASD_OK;
	if (!cJSON_IsString(first))
		return wasd_fail(err, WASD_EINVAL, "order_by is a list of texts");
	struct mlflow_order *o = wasd_calloc(1, sizeof *o);
	const char *p = first->valuestring;
	if (!o)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	bool good = read_key(&p, &o->key);
	p = skip(p);
	o->descending = good && !strcasecmp(p, "desc");
	if (!good || (*p && !o->descending && strcasecmp(p, "asc"))) {
		wasd_free(o);
		return wasd_fail(err, WASD_EINVAL, "order_by \"%.60s\": want \"metrics.NAME DESC\"", first->valuestring);
	}
	*out = o;
	return WASD_OK;
}

void mlflow_order_free(struct mlflow_order *o)
{
	wasd_free(o);
}

/* < 0: a before b. */
static int compare(const struct mlflow_order *o, const cJSON *a, const cJSON *b)
{
	const cJSON *x = find(&o->key, a), *y = find(&o->key, b);
	const bool has_x = x && (o->key.kind != METRIC || !isnan(number_of(x))),
			   has_y = y && (o->key.kind != METRIC || !isnan(number_of(y)));
	if (!has_x || !has_y)
		return has_y - has_x;
	double u = number_of(x), v = number_of(y);
	int c = cJSON_IsString(x) && cJSON_IsString(y) && isnan(u) ? strcmp(x->valuestring, y->valuestring) :
	                                                             (u > v) - (u < v);
	return o->descending ? -c : c;
}

/* Merge sort, because qsort is not stable and takes no argument. */
static void sort(const struct mlflow_order *o, cJSON **r, cJSON **spare, size_t n)
{
	if (n < 2)
		return;
	const size_t half = n / 2;
	sort(o, r, spare, half);
	sort(o, r + half, spare, n - half);
	memcpy(spare, r, half * sizeof *r);
	for (size_t i = 0, j = half, k = 0; i < half; k++)
		r[k] = j < n && compare(o, r[j], spare[i]) < 0 ? r[j++] : spare[i++];
}

void mlflow_order_sort(const struct mlflow_order *o, cJSON **runs, size_t n)
{
	cJSON **spare = o && n ? wasd_calloc(n, sizeof *spare) : NULL;
	if (spare)
		sort(o, runs, spare, n);
	wasd_free(spare);
}
