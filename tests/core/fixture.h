/* tests/core/fixture.h - golden fixtures (format: the README of the full set): files, regenerated tensors, and groups
 * of comparisons that print one line each. Included by the fixtures_*.c programs. */
#ifndef TESTS_FIXTURE_H
#define TESTS_FIXTURE_H

#include <stdarg.h>
#include <dirent.h>
#include <unistd.h>

#include "check.h"
#include "wasd/json.h"
#include "wasd/safetensors.h"
#include "wasd/tensor.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* no program uses all of these functions */

#ifdef WASD_DOUBLE
#define FLAVOUR "double"
#else
#define FLAVOUR "float"
#endif

#define FIXTURE_MAX_BYTES ((size_t)1 << 30)
static const struct wasd_json_limits fixture_json = {(size_t)64 << 20, 32, 20000000};

/* ---- groups of comparisons ------------------------------------------------------------------------ */

struct group {
	char name[160];
	long checks, bad;
	double worst;
	char what[128];
};

static struct group group_begin(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static struct group group_begin(const char *fmt, ...)
{
	struct group g = {0};
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(g.name, sizeof g.name, fmt, ap);
	va_end(ap);
	return g;
}

static void group_fail(struct group *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void group_fail(struct group *g, const char *fmt, ...)
{
	if (g->bad++ >= 8)
		return;
	va_list ap;
	va_start(ap, fmt);
	printf("# %s: ", g->name);
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
}

/* 1, or more while testing an algorithm that rounds more than plain sums of products. */
static double group_wider = 1;

/* |got - want| <= group_wider * (rel*scale + abs). The worst error is kept as a part of scale + abs/rel, so that it
 * compares with rel. */
static void group_near(struct group *g, double got, double want, double scale, double rel, double abs_tol,
                       const char *what, const char *item)
{
	double err = fabs(got - want), tol = group_wider * (rel * scale + abs_tol),
		   part = tol > 0 ? err / tol * rel :
	              err > 0 ? INFINITY :
	                        0;
	g->checks++;
	if (part > g->worst || !(part == part)) {
		g->worst = part;
		snprintf(g->what, sizeof g->what, "%s %s", what, item);
	}
	if (!(err <= tol))
		group_fail(g, "%s %s: %.17g, want %.17g, error %.3g, tolerance %.3g", what, item, got, want, err, tol);
}

/* Prints the group's line; counts as one test. */
static void group_end(const struct group *g)
{
	if (g->bad) {
		printf("not ok %s: %ld of %ld checks failed, worst %.2g at %s\n", g->name, g->bad, g->checks, g->worst,
		       g->what);
		check_total_failed_++;
	} else {
		printf("ok %s: %ld checks, worst error %.1e%s%s\n", g->name, g->checks, g->worst, g->what[0] ? " at " : "",
		       g->what);
	}
	fflush(stdout);
}

/* ---- files -------------------------------------------------------------------------------------------- */

struct fixture {
	char name[96];
	char *text, *bytes;
	cJSON *json;
	struct wasd_st *st;
};

static bool fixture_exists(const char *dir, const char *name)
{
	char path[1024];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return access(path, R_OK) == 0;
}

static void fixture_close(struct fixture *f)
{
	wasd_st_close(f->st);
	cJSON_Delete(f->json);
	wasd_free(f->text);
	wasd_free(f->bytes);
	*f = (struct fixture){0};
}

/* Opens name.json (if it exists) and name.safetensors. False after a "not ok" line. */
static bool fixture_open(const char *dir, const char *name, struct fixture *f)
{
	char path[1024];
	size_t len;
	struct wasd_err err = {0};
	*f = (struct fixture){0};
	snprintf(f->name, sizeof f->name, "%s", name);
	snprintf(path, sizeof path, "%s/%s.json", dir, name);
	if (!access(path, R_OK) && (wasd_file_read(path, FIXTURE_MAX_BYTES, &f->text, &len, &err) ||
	                            wasd_json_parse(f->text, len, fixture_json, &f->json, &err)))
		goto fail;
	snprintf(path, sizeof path, "%s/%s.safetensors", dir, name);
	if (wasd_file_read(path, FIXTURE_MAX_BYTES, &f->bytes, &len, &err) || wasd_st_open(f->bytes, len, &f->st, &err))
		goto fail;
	return true;
fail:
	printf("not ok %s: %s: %s\n", name, path, err.msg);
	check_total_failed_++;
	fixture_close(f);
	return false;
}

/* Element i of a tensor as a double. */
static double st_value(const struct wasd_st_tensor *t, size_t i)
{
	switch (t->dtype) {
	case WASD_F32: {
		float v;
		memcpy(&v, (const char *)t->data + i * 4, 4);
		return v;
	}
	case WASD_F64: {
		double v;
		memcpy(&v, (const char *)t->data + i * 8, 8);
		return v;
	}
	case WASD_I64: {
		int64_t v;
		memcpy(&v, (const char *)t->data + i * 8, 8);
		return (double)v;
	}
	default:
		return NAN;
	}
}

static const struct wasd_st_tensor *fixture_find(const struct fixture *f, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static const struct wasd_st_tensor *fixture_find(const struct fixture *f, const char *fmt, ...)
{
	char name[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(name, sizeof name, fmt, ap);
	va_end(ap);
	return wasd_st_find(f->st, name);
}

static double st_max(const struct wasd_st_tensor *t)
{
	double m = 0;
	for (size_t i = 0; i < t->count; i++)
		m = fmax(m, fabs(st_value(t, i)));
	return m;
}

/* Copies a tensor into a fresh block of reals (wasd_free). */
static real *st_reals(const struct wasd_st_tensor *t)
{
	real *v = wasd_alloc_aligned(t->count + 1, sizeof *v);
	for (size_t i = 0; v && i < t->count; i++)
		v[i] = (real)st_value(t, i);
	return v;
}

static const char *json_str(const cJSON *o, const char *key)
{
	const char *s = "";
	return wasd_json_str(o, key, &s) ? s : "";
}

static double json_num(const cJSON *o, const char *key)
{
	double v = NAN;
	return wasd_json_num(o, key, &v) ? v : NAN;
}

/* ---- regenerated tensors ----------------------------------------------------------------------------------- */

/* The README's generator: one product with an exact factor, rounded once to float, so the result does not depend on
 * contraction. */
static float tensor_element(uint64_t *s, const char *kind, double bound)
{
	uint64_t z = *s += 0x9E3779B97F4A7C15u;
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	z ^= z >> 31;
	double n = (double)((int64_t)(z >> 40) - (1 << 23));
	if (!strcmp(kind, "sym"))
		return (float)(n * (bound * 0x1p-23));
	if (!strcmp(kind, "near1"))
		return (float)(bound * (1 + n * 0x1p-25));
	if (!strcmp(kind, "pos"))
		return (float)(1 + n * 0x1p-24);
	if (!strcmp(kind, "unit"))
		return (float)((n + 0x1p23) * 0x1p-24);
	return NAN;
}

/* Fills out[count] with tensor t (an object of tensors[]) and checks it against `first` and `sum`. */
static void tensor_fill(struct group *g, const cJSON *t, int64_t seed, size_t count, real *out)
{
	char text[256];
	const char *name = json_str(t, "name"), *kind = json_str(t, "kind");
	double bound = json_num(t, "bound"), sum = 0, size = 0;
	snprintf(text, sizeof text, "%lld:%s", (long long)seed, name);
	uint64_t s = 0xCBF29CE484222325u;
	for (const char *p = text; *p; p++)
		s = (s ^ (unsigned char)*p) * 0x100000001B3u;
	const cJSON *first = wasd_json_get(t, "first") ? wasd_json_get(t, "first")->child : NULL;
	for (size_t i = 0; i < count; i++) {
		float v = tensor_element(&s, kind, bound);
		out[i] = v;
		sum += v;
		size += fabs((double)v);
		if (first) {
			group_near(g, v, first->valuedouble, 0, 0, 1e-15, "first of", name);
			first = first->next;
		}
	}
	group_near(g, sum, json_num(t, "sum"), size, 1e-12, 1e-12, "sum of", name);
}

/* Calls fn(dir, name) for every name.json of dir that begins with prefix, in alphabetical order, without the suffix. */
static void fixture_each_file(const char *dir, const char *prefix, void (*fn)(const char *dir, const char *name))
{
	struct dirent **list;
	int n = scandir(dir, &list, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char name[80];
		size_t len = strlen(list[i]->d_name);
		if (len > 5 && len < sizeof name && !strcmp(list[i]->d_name + len - 5, ".json") &&
		    !strncmp(list[i]->d_name, prefix, strlen(prefix))) {
			snprintf(name, sizeof name, "%.*s", (int)(len - 5), list[i]->d_name);
			fn(dir, name);
		}
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

/* ---- location of the fixtures -------------------------------------------------------------------------------- */

/* Runs fn on the part kept in the tree and on the directory in WASD_FIXTURES. */
static void fixture_each_dir(const char *what, void (*fn)(const char *dir))
{
	static const char tree[] = "tests/fixtures";
	const char *full = getenv("WASD_FIXTURES");
	if (fixture_exists(tree, "manifest.json")) {
		printf("# %s: %s\n", tree, FLAVOUR);
		fn(tree);
	} else {
		printf("skip %s (%s): no directory %s below the working directory\n", what, FLAVOUR, tree);
	}
	if (full && fixture_exists(full, ".")) {
		printf("# %s: %s\n", full, FLAVOUR);
		fn(full);
	} else {
		printf("skip %s (%s): WASD_FIXTURES names no directory of fixtures\n", what, FLAVOUR);
	}
}

#endif
