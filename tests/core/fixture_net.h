/* tests/core/fixture_net.h - a network of the golden fixtures as graph, model and exec, with the tables of checksums.
 */
#ifndef TESTS_FIXTURE_NET_H
#define TESTS_FIXTURE_NET_H

#include "backends.h"
#include "fixture.h"
#include "wasd/graph.h"
#include "wasd/model.h"
#include "wasd/weights.h"

/* Fixture names that are not rows of the model table, with their row and "model" object. */
static const struct {
	const char *fixture, *arch, *options;
} net_alias[] = {
	{"vgg16_4096", "vgg16", "{\"head\":4096}"},
};

struct net {
	const struct fixture *f;
	struct wasd_graph *g;
	struct wasd_model *m;
	struct wasd_exec *e;
	int batch, classes;
	int *param_row, params; /* graph parameter of each row of params[] */
	size_t *buffer_at;
	int buffers; /* offset in a statistics set, and length, of each row of buffers[] */
	size_t *buffer_len;
};

static void net_done(struct net *n)
{
	wasd_exec_destroy(n->e);
	wasd_model_destroy(n->m);
	wasd_graph_destroy(n->g);
	wasd_free(n->param_row);
	wasd_free(n->buffer_at);
	wasd_free(n->buffer_len);
	*n = (struct net){0};
}

static bool net_stats_find(const struct wasd_graph *g, const char *name, size_t *at, size_t *len)
{
	for (int i = 0; i < wasd_graph_stats(g); i++) {
		struct wasd_stats_info s = wasd_graph_stats_info(g, i);
		size_t n = strlen(s.name);
		if (strncmp(name, s.name, n))
			continue;
		bool mean = !strcmp(name + n, ".running_mean");
		if (!mean && strcmp(name + n, ".running_var"))
			continue;
		*at = mean ? s.mean_offset : s.var_offset;
		*len = (size_t)s.channels;
		return true;
	}
	return false;
}

static size_t json_count(const cJSON *shape)
{
	size_t n = 1;
	const cJSON *d;
	cJSON_ArrayForEach(d, shape)
		n *= (size_t)d->valuedouble;
	return n;
}

/* Builds the graph that fixture f describes and an exec for it on `backend`. Returns false with g failed or, if the
 * network is not in the model table, with g untouched and *known false. */
/* A backend name as used by the tests: "onednn-strict" is onednn without Winograd and our minimal filtering, as in
 * precision fp32-strict. The algorithms that "onednn" chooses by measurement may round more: F(4x4,3x3) has matrices
 * with entries up to 4. It gets four times the tolerance. */
#define WIDER 4

static struct wasd_exec_opts backend_options(const char *backend)
{
	struct wasd_exec_opts o = {.backend = backend};
	group_wider = !strcmp(backend, "onednn") ? WIDER : 1;
	if (!strcmp(backend, "onednn-strict")) {
		o.backend = "onednn";
		o.precision = WASD_PRECISION_FP32_STRICT;
	}
	return o;
}

static bool net_open(struct group *g, const struct fixture *f, const char *backend, bool keep_all, struct net *n,
                     bool *known)
{
	struct wasd_err err = {0};
	const char *arch = json_str(f->json, "name");
	cJSON *options = NULL;
	for (size_t i = 0; i < sizeof net_alias / sizeof *net_alias; i++)
		if (!strcmp(arch, net_alias[i].fixture)) {
			arch = net_alias[i].arch;
			options = cJSON_Parse(net_alias[i].options);
		}
	*n = (struct net){.f = f,
	                  .batch = (int)json_num(f->json, "batch"),
	                  .classes = (int)json_num(f->json, "num_classes")};
	*known = wasd_arch_find(arch);
	if (!*known) {
		cJSON_Delete(options);
		return false;
	}
	enum wasd_status s = wasd_arch_build(arch, (struct wasd_shape){3, 32, 32}, n->classes, options, &n->g, &err);
	cJSON_Delete(options);
	if (s == WASD_OK)
		s = wasd_model_create(n->g, 1, &n->m, &err);
	struct wasd_exec_opts o = backend_options(backend);
	o.batch = n->batch;
	o.training = true;
	o.keep_all = keep_all;
	if (s == WASD_OK)
		s = wasd_exec_create(n->m, &o, &n->e, &err);
	if (s != WASD_OK) {
		group_fail(g, "%s: %s", wasd_status_name(s), err.msg);
		net_done(n);
		return false;
	}

	/* Every learnable tensor and statistic of the fixture is one of ours, and vice versa. */
	const cJSON *params = wasd_json_get(f->json, "params"), *buffers = wasd_json_get(f->json, "buffers"), *it;
	n->params = cJSON_GetArraySize(params);
	n->buffers = cJSON_GetArraySize(buffers);
	n->param_row = wasd_calloc((size_t)n->params + 1, sizeof *n->param_row);
	n->buffer_at = wasd_calloc((size_t)n->buffers + 1, sizeof *n->buffer_at);
	n->buffer_len = wasd_calloc((size_t)n->buffers + 1, sizeof *n->buffer_len);
	int i = 0;
	cJSON_ArrayForEach(it, params)
		if ((n->param_row[i++] = wasd_graph_param_find(n->g, it->valuestring)) < 0)
			group_fail(g, "the graph has no parameter %s", it->valuestring);
	if (n->params != wasd_graph_params(n->g))
		group_fail(g, "%d parameters, the fixture has %d", wasd_graph_params(n->g), n->params);
	i = 0;
	cJSON_ArrayForEach(it, buffers) {
		if (!net_stats_find(n->g, it->valuestring, &n->buffer_at[i], &n->buffer_len[i]))
			group_fail(g, "the graph has no statistic %s", it->valuestring);
		i++;
	}
	if (n->buffers != 2 * wasd_graph_stats(n->g))
		group_fail(g, "%d statistics, the fixture has %d", 2 * wasd_graph_stats(n->g), n->buffers);
	const cJSON *count = wasd_json_get(f->json, "param_count");
	if (count && count->valuedouble != (double)wasd_graph_param_count(n->g))
		group_fail(g, "%zu learnable scalars, the fixture has %.0f", wasd_graph_param_count(n->g), count->valuedouble);
	if (g->bad)
		net_done(n);
	return !g->bad;
}

/* Generates every tensor of the fixture into the model (statistics into the training set). */
static void net_fill(struct group *g, struct net *n)
{
	int64_t seed = (int64_t)json_num(n->f->json, "seed");
	const cJSON *t;
	cJSON_ArrayForEach(t, wasd_json_get(n->f->json, "tensors")) {
		const char *name = json_str(t, "name");
		size_t count = json_count(wasd_json_get(t, "shape")), at = 0, len = 0;
		real *block = wasd_model_master(n->m);
		if (!strcmp(json_str(t, "role"), "buffer")) {
			block = wasd_model_stats(n->m, WASD_STATS_TRAIN);
			if (!net_stats_find(n->g, name, &at, &len))
				len = 0;
		} else {
			int i = wasd_graph_param_find(n->g, name);
			if (i >= 0) {
				at = wasd_graph_param_info(n->g, i).offset;
				len = wasd_graph_param_info(n->g, i).count;
			}
		}
		if (len != count)
			group_fail(g, "%s: %zu elements, the fixture has %zu", name, len, count);
		else
			tensor_fill(g, t, seed, count, block + at);
	}
}

/* Reads the draw from a list of the fixture; an empty or absent list means plain weights. False after a failure of
 * g. */
static bool net_draw(struct group *g, const struct net *n, const cJSON *list, struct wasd_draw *d)
{
	struct wasd_err err = {0};
	*d = (struct wasd_draw){0};
	if (!list || !list->child)
		return true;
	if (wasd_draw_from_json(list, n->g, d, &err)) {
		group_fail(g, "transforms%s: %s", err.pointer, err.msg);
		return false;
	}
	return true;
}

/* ---- checksums ------------------------------------------------------------------------------------------ */

struct sums {
	double sum, norm, max;
};

static struct sums sums_of(const real *v, size_t n)
{
	struct sums s = {0};
	for (size_t i = 0; i < n; i++) {
		s.sum += v[i];
		s.norm += (double)v[i] * v[i];
		s.max = fmax(s.max, fabs((double)v[i]));
	}
	s.norm = sqrt(s.norm);
	return s;
}

/* The three tables <prefix>_stats, _samples, _index; false after a failure of g. */
struct sum_table {
	const struct wasd_st_tensor *stats, *samples, *index;
	size_t cols;
};

static bool table_find(struct group *g, const struct fixture *f, const char *prefix, int rows, struct sum_table *t)
{
	t->stats = fixture_find(f, "%s_stats", prefix);
	t->samples = fixture_find(f, "%s_samples", prefix);
	t->index = fixture_find(f, "%s_index", prefix);
	if (!t->stats || !t->samples || !t->index || t->stats->count != (size_t)rows * 6 ||
	    t->samples->count != t->index->count || (rows && t->samples->count % (size_t)rows)) {
		group_fail(g, "%s_stats/_samples/_index are missing or do not have %d rows", prefix, rows);
		return false;
	}
	t->cols = rows ? t->samples->count / (size_t)rows : 0;
	return true;
}

static double table_stat(const struct sum_table *t, int row, int col)
{
	return st_value(t->stats, (size_t)row * 6 + (size_t)col);
}

/* Largest max |v| over all rows (G of the README). */
static double table_max(const struct sum_table *t, int rows)
{
	double m = 0;
	for (int r = 0; r < rows; r++)
		m = fmax(m, table_stat(t, r, 2));
	return m;
}

/* Compares row `row` with the n values v: samples and max within rel*max|v| + abs, sum and L2 norm within rel*norm +
 * abs*sqrt(n). */
static void table_row(struct group *g, const struct sum_table *t, int row, const real *v, size_t n, double rel,
                      double abs_tol, const char *what, const char *name)
{
	struct sums s = sums_of(v, n);
	double max = table_stat(t, row, 2), norm = table_stat(t, row, 1), wide = abs_tol * sqrt((double)n);
	for (size_t c = 0; c < t->cols; c++) {
		double at = st_value(t->index, (size_t)row * t->cols + c);
		if (at < 0)
			continue;
		if (at >= (double)n) {
			group_fail(g, "%s %s: sample %g of %zu values", what, name, at, n);
			continue;
		}
		group_near(g, v[(size_t)at], st_value(t->samples, (size_t)row * t->cols + c), max, rel, abs_tol, what, name);
	}
	group_near(g, s.max, max, max, rel, abs_tol, what, name);
	group_near(g, s.norm, norm, norm, rel, wide, what, name);
	group_near(g, s.sum, table_stat(t, row, 0), norm, rel * sqrt((double)n), wide * sqrt((double)n), what, name);
}

static const char *list_name(const cJSON *list, int i)
{
	const cJSON *it = cJSON_GetArrayItem(list, i);
	return cJSON_IsString(it) ? it->valuestring : "?";
}

/* Compares the running statistics of the training set with <prefix>_*. */
static void net_check_buffers(struct group *g, struct net *n, const char *prefix, double rel, double dev_times)
{
	struct sum_table t;
	const cJSON *names = wasd_json_get(n->f->json, "buffers");
	if (!n->buffers || !table_find(g, n->f, prefix, n->buffers, &t))
		return;
	const real *stats = wasd_model_stats(n->m, WASD_STATS_TRAIN);
	for (int i = 0; i < n->buffers; i++)
		table_row(g, &t, i, stats + n->buffer_at[i], n->buffer_len[i], rel, dev_times * table_stat(&t, i, 5),
		          "statistic", list_name(names, i));
}

/* Takes images and labels of one batch from tensors x and y, at batch number `at` of the leading dimension if there are
 * several. */
static void batch_of(const struct wasd_st_tensor *x, const struct wasd_st_tensor *y, size_t at, int batch, real *images,
                     int32_t *labels)
{
	size_t n = (size_t)batch * 3 * 32 * 32;
	for (size_t i = 0; i < n; i++)
		images[i] = (real)st_value(x, at * n + i);
	for (int i = 0; i < batch; i++)
		labels[i] = (int32_t)st_value(y, at * (size_t)batch + (size_t)i);
}

#endif
