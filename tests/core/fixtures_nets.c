/* tests/core/fixtures_nets.c - one forward and backward pass of every known network in every mode against the golden
 * numbers: logits, loss, activations, running statistics and every gradient's checksums.
 *
 * Double: 1e-7 of the tensor's largest entry. A gradient that is zero by exact cancellation (a bias before batch norm;
 * alpha) is rounding noise of its neighbours: 1e-11 of the largest gradient entry G is added. Float: the bounds of the
 * fixtures' README (a ReLU or max pool may decide differently within rounding): logits 1e-4 max|logit|, loss 5e-5,
 * gradient samples 0.1 max|g| + 1e-5 G and all but 2 % of the rows 0.02 max|g| + 1e-5 G, L2 norms 5 % on rows with norm
 * > 1e-3 G. Activations and statistics come before any backward pass and keep the bound of the logits. */
#include "fixture_net.h"

#ifdef WASD_DOUBLE
enum { IS_DOUBLE = 1 };
#define REL 1e-7
#define GRAD_ABS 1e-11
#else
enum { IS_DOUBLE = 0 };
#define REL 1e-4
#define GRAD_ABS 1e-5
#endif

/* ---- activations -------------------------------------------------------------------------------------------- */

static wasd_node node_of(const struct wasd_graph *g, const char *name)
{
	for (wasd_node i = 0; i < wasd_graph_nodes(g); i++)
		if (!strcmp(wasd_graph_node_info(g, i).name, name))
			return i;
	return -1;
}

static void check_activations(struct group *g, struct net *n, const cJSON *c)
{
	struct sum_table t;
	char prefix[96];
	const cJSON *list = wasd_json_get(c, "activations"), *a;
	int rows = cJSON_GetArraySize(list), row = 0;
	snprintf(prefix, sizeof prefix, "%s.act", json_str(c, "id"));
	if (!table_find(g, n->f, prefix, rows, &t))
		return;
	cJSON_ArrayForEach(a, list) {
		const char *name = json_str(a, "name"), *at = json_str(a, "at");
		struct wasd_err err = {0};
		wasd_node node = node_of(n->g, name);
		size_t count = json_count(wasd_json_get(a, "shape"));
		if (node >= 0 && !strcmp(at, "bn_in"))
			node = wasd_graph_node_info(n->g, node).inputs[0];
		if (node < 0 || wasd_shape_count(wasd_graph_node_info(n->g, node).shape) * (size_t)n->batch != count) {
			group_fail(g, "activation %s %s: no such node, or another shape", name, at);
		} else {
			real *v = wasd_malloc(count * sizeof *v);
			if (wasd_exec_activation(n->e, node, v, &err))
				group_fail(g, "activation %s: %s", name, err.msg);
			else
				table_row(g, &t, row, v, count, REL, 0, at, name);
			wasd_free(v);
		}
		row++;
	}
}

/* ---- gradients ------------------------------------------------------------------------------------------------ */

/* Float: checks one row by the README's rules; increments *far if it misses the narrow bound. */
static void float_row(struct group *g, const struct sum_table *t, int row, double G, const real *v, size_t n,
                      const char *name, int *far)
{
	double max = table_stat(t, row, 2), norm = table_stat(t, row, 1);
	bool narrow = true;
	for (size_t c = 0; c < t->cols; c++) {
		double at = st_value(t->index, (size_t)row * t->cols + c);
		if (at < 0)
			continue;
		double want = st_value(t->samples, (size_t)row * t->cols + c), got = v[(size_t)at];
		group_near(g, got, want, max, 0.1, GRAD_ABS * G, "gradient", name);
		narrow = narrow && fabs(got - want) <= 0.02 * max + GRAD_ABS * G;
	}
	*far += !narrow;
	if (norm > 1e-3 * G)
		group_near(g, sums_of(v, n).norm, norm, norm, 0.05, 0, "gradient norm", name);
}

static void check_gradients(struct group *g, struct net *n, const cJSON *c)
{
	struct sum_table t;
	char prefix[96];
	const char *id = json_str(c, "id");
	const cJSON *names = wasd_json_get(n->f->json, "params"), *it;
	snprintf(prefix, sizeof prefix, "%s.grad", id);
	if (!table_find(g, n->f, prefix, n->params, &t))
		return;
	double G = table_max(&t, n->params);
	int far = 0, i = 0;
	cJSON_ArrayForEach(it, names) {
		struct wasd_param_info p = wasd_graph_param_info(n->g, n->param_row[i]);
		const real *v = wasd_model_grad(n->m) + p.offset;
		if (IS_DOUBLE)
			table_row(g, &t, i, v, p.count, REL, GRAD_ABS * G, "gradient", p.name);
		else
			float_row(g, &t, i, G, v, p.count, p.name, &far);
		const struct wasd_st_tensor *whole = fixture_find(n->f, "%s.grad.%s", id, p.name);
		double max = table_stat(&t, i, 2);
		/* Stored in float32: round ours in the same way, so that the comparison does not compare roundings. */
		for (size_t k = 0; whole && k < whole->count && whole->count == p.count; k++)
			group_near(g, (double)(float)v[k], st_value(whole, k), max, IS_DOUBLE ? REL : 0.1, GRAD_ABS * G,
			           "whole gradient", p.name);
		i++;
	}
	if (far > 0.02 * n->params)
		group_fail(g, "%d of %d rows are farther than 0.02 max|g| + 1e-5 G", far, n->params);

	const struct wasd_st_tensor *alpha = fixture_find(n->f, "%s.grad_alpha", id);
	const cJSON *aug = wasd_json_get(n->f->json, "augmented");
	size_t k = 0;
	cJSON_ArrayForEach(it, aug) {
		int p = wasd_graph_param_find(n->g, json_str(it, "alpha_tensor"));
		if (p < 0 || !alpha || k >= alpha->count) {
			group_fail(g, "grad_alpha of %s", json_str(it, "layer"));
			break;
		}
		double got = wasd_model_grad(n->m)[wasd_graph_param_info(n->g, p).offset + (size_t)json_num(it, "alpha_index")],
			   want = st_value(alpha, k++);
		group_near(g, got, want, fabs(want), IS_DOUBLE ? REL : 0.1, GRAD_ABS * G, "alpha gradient",
		           json_str(it, "layer"));
	}
}

/* ---- one case --------------------------------------------------------------------------------------------------- */

/* The operators parsed from the draw's JSON equal those stored in the fixture. */
static void check_matrices(struct group *g, const struct net *n, const char *id, const struct wasd_draw *d)
{
	for (int i = 0; i < d->n; i++) {
		const char *layer = wasd_graph_aug_info(n->g, d->layer[i].aug).layer;
		const struct wasd_st_tensor *t = fixture_find(n->f, "%s.T.%s", id, layer);
		for (size_t k = 0; t && k < t->count; k++)
			group_near(g, d->layer[i].t.T[k], st_value(t, k), 1, 1e-12, 0, "T of", layer);
	}
}

static void check_case(struct net *n, const cJSON *c, const char *backend, const real *x, const int32_t *y)
{
	const char *id = json_str(c, "id");
	struct group g = group_begin("net_%s %s on %s (%s)", n->f->name + 4, id, backend, FLAVOUR);
	struct wasd_err err = {0};
	struct wasd_draw d;
	bool batch_bn = !strcmp(json_str(c, "bn"), "batch");
	bool backward = cJSON_IsTrue(wasd_json_get(c, "backward"));
	net_fill(&g, n);
	if (!net_draw(&g, n, wasd_json_get(c, "transforms"), &d))
		goto out;
	check_matrices(&g, n, id, &d);
	if (d.n != (strcmp(json_str(c, "mode"), "SW") ? 0 : cJSON_GetArraySize(wasd_json_get(n->f->json, "augmented"))))
		group_fail(&g, "%d transforms", d.n);

	struct wasd_pass pass = {.n = n->batch,
	                         .recipe = d.n ? &d.recipe : NULL,
	                         .bn = batch_bn ? WASD_BN_BATCH : WASD_BN_SET,
	                         .set = WASD_STATS_TRAIN,
	                         .update = batch_bn};
	double loss;
	int hits;
	wasd_model_grad_zero(n->m);
	if (wasd_exec_forward(n->e, x, &pass, &err)) {
		group_fail(&g, "forward: %s", err.msg);
		goto out;
	}
	const struct wasd_st_tensor *logits = fixture_find(n->f, "%s.logits", id),
								*want_loss = fixture_find(n->f, "%s.loss", id);
	if (!logits || !want_loss || logits->count != (size_t)(n->batch * n->classes)) {
		group_fail(&g, "%s.logits or .loss is missing", id);
		goto out;
	}
	const real *z = wasd_exec_logits(n->e);
	double max = st_max(logits);
	for (size_t i = 0; i < logits->count; i++)
		group_near(&g, z[i], st_value(logits, i), max, REL, 0, "logits of", id);
	check_activations(&g, n, c);
	if (batch_bn) {
		char prefix[96];
		snprintf(prefix, sizeof prefix, "%s.buf", id);
		net_check_buffers(&g, n, prefix, REL, 0);
	}
	if (wasd_exec_loss(n->e, y, 0, &loss, &hits, &err)) {
		group_fail(&g, "loss: %s", err.msg);
		goto out;
	}
	group_near(&g, loss, st_value(want_loss, 0), IS_DOUBLE ? fabs(st_value(want_loss, 0)) : 1, IS_DOUBLE ? REL : 5e-5,
	           0, "loss of", id);
	if (backward) {
		if (wasd_exec_backward(n->e, &err))
			group_fail(&g, "backward: %s", err.msg);
		else
			check_gradients(&g, n, c);
	}
out:
	group_end(&g);
	wasd_draw_done(&d);
}

/* ---- one file ---------------------------------------------------------------------------------------------- */

/* only: run just this case (NULL: all). */
static void run_net(const struct fixture *f, const char *backend, const char *only)
{
	struct group g = group_begin("%s on %s (%s): graph", f->name, backend, FLAVOUR);
	struct net n;
	bool known;
	const struct wasd_st_tensor *x = fixture_find(f, "x"), *y = fixture_find(f, "y");
	if (!x || !y) {
		group_fail(&g, "x or y is missing");
		group_end(&g);
		return;
	}
	if (!net_open(&g, f, backend, true, &n, &known)) {
		if (known)
			group_end(&g);
		else
			printf("skip %s (%s): the model table has no network \"%s\"\n", f->name, FLAVOUR,
			       json_str(f->json, "name"));
		return;
	}
	real *images = wasd_malloc(x->count * sizeof *images);
	int32_t *labels = wasd_malloc(y->count * sizeof *labels);
	batch_of(x, y, 0, n.batch, images, labels);
	group_end(&g);
	const cJSON *c;
	cJSON_ArrayForEach(c, wasd_json_get(f->json, "cases"))
		if (!only || !strcmp(json_str(c, "id"), only))
			check_case(&n, c, backend, images, labels);
	wasd_free(images);
	wasd_free(labels);
	net_done(&n);
}

static void run_file(const char *dir, const char *name)
{
	struct fixture f;
	if (!fixture_open(dir, name, &f))
		return;
	run_net(&f, "openblas", NULL);
	if (fast_backend_runs()) {
		run_net(&f, "onednn", NULL);
		run_net(&f, "onednn-strict", NULL);
	}
	/* The plain loops are slow: LeNet completely, and only the case with every operator of one deep network. */
	if (IS_DOUBLE && !strcmp(json_str(f.json, "name"), "lenet"))
		run_net(&f, "ref", NULL);
	if (IS_DOUBLE && !strcmp(json_str(f.json, "name"), "resnet18"))
		run_net(&f, "ref", "sw3_train");
	fixture_close(&f);
}

static void run_dir(const char *dir)
{
	fixture_each_file(dir, "net_", run_file);
}

int main(void)
{
	fixture_each_dir("networks", run_dir);
	TEST_END();
}
