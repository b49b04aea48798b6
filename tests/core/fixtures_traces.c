/* tests/core/fixtures_traces.c - SGD steps with recorded transforms: loss and gradient norm at every step, and after
 * the last step the weights, statistics, alphas and the logits of plain weights.
 *
 * Double: 1e-7 of the tensor's largest entry; values that are zero by exact cancellation get 1e-9 of the largest entry
 * of their table. Float: losses as in the fixtures' README (1e-4; vgg16 5e-4 up to step 5, 0.02 later; relative to
 * max(1, loss)). The README gives no other float bounds: gradient norms get 5 % (its bound for norms); weights,
 * statistics, alphas and final logits get 1e-3 of the largest entry plus 20 times the recorded deviation of a float32
 * PyTorch run, whose ReLU flips differ from ours. */
#include "fixture_net.h"
#include "wasd/optim.h"

#ifdef WASD_DOUBLE
enum { IS_DOUBLE = 1 };
#define REL 1e-7
#define DEV 0
#else
enum { IS_DOUBLE = 0 };
#define REL 1e-3
#define DEV 20
#endif

static double loss_bound(const char *net, int step)
{
	if (IS_DOUBLE)
		return REL;
	if (strncmp(net, "vgg16", 5))
		return 1e-4;
	return step <= 5 ? 5e-4 : 0.02;
}

static void check_final(struct group *g, struct net *n, const real *x)
{
	struct sum_table t;
	const cJSON *names = wasd_json_get(n->f->json, "params"), *it;
	int i = 0;
	if (!table_find(g, n->f, "weight", n->params, &t))
		return;
	double G = table_max(&t, n->params);
	cJSON_ArrayForEach(it, names) {
		struct wasd_param_info p = wasd_graph_param_info(n->g, n->param_row[i]);
		table_row(g, &t, i, wasd_model_master(n->m) + p.offset, p.count, REL,
		          DEV * table_stat(&t, i, 5) + (IS_DOUBLE ? 1e-9 * G : 0), "weights", p.name);
		i++;
	}
	net_check_buffers(g, n, "buf", REL, DEV);

	const struct wasd_st_tensor *alpha = fixture_find(n->f, "final_alpha"),
								*logits = fixture_find(n->f, "final_aom_eval_logits"),
								*dev = fixture_find(n->f, "final_aom_eval_dev32");
	size_t k = 0;
	cJSON_ArrayForEach(it, wasd_json_get(n->f->json, "augmented")) {
		int p = wasd_graph_param_find(n->g, json_str(it, "alpha_tensor"));
		if (p < 0 || !alpha || k >= alpha->count) {
			group_fail(g, "final_alpha of %s", json_str(it, "layer"));
			break;
		}
		group_near(g,
		           wasd_model_master(n->m)[wasd_graph_param_info(n->g, p).offset + (size_t)json_num(it, "alpha_index")],
		           st_value(alpha, k), 1, REL, 0, "alpha of", json_str(it, "layer"));
		k++;
	}

	struct wasd_err err = {0};
	struct wasd_pass pass = {.n = n->batch, .bn = WASD_BN_SET, .set = WASD_STATS_TRAIN};
	if (!logits || !dev || wasd_exec_forward(n->e, x, &pass, &err)) {
		group_fail(g, "final logits: %s", err.msg[0] ? err.msg : "missing in the fixture");
		return;
	}
	const real *z = wasd_exec_logits(n->e);
	for (size_t c = 0; c < logits->count; c++)
		group_near(g, z[c], st_value(logits, c), st_max(logits), REL, DEV * st_value(dev, 0), "logits of",
		           "the last step");
}

static void run_steps(struct group *g, struct net *n, const struct fixture *images)
{
	const struct fixture *f = n->f;
	const struct wasd_st_tensor *x = fixture_find(images, "x"), *y = fixture_find(images, "y"),
								*loss = fixture_find(f, "loss"), *norm = fixture_find(f, "grad_norm");
	int steps = (int)json_num(f->json, "steps"), hits;
	size_t pixels = (size_t)n->batch * 3 * 32 * 32;
	double lr = json_num(f->json, "lr");
	if (!x || !y || !loss || !norm || loss->count < (size_t)steps || norm->count < (size_t)steps ||
	    x->count < pixels * (size_t)steps) {
		group_fail(g, "images, loss or grad_norm of %d steps are missing", steps);
		return;
	}
	struct wasd_optim *optim = NULL;
	struct wasd_err err = {0};
	char spec[160];
	snprintf(spec, sizeof spec, "{\"type\":\"sgd\",\"lr\":%.17g,\"momentum\":%.17g,\"weight_decay\":%.17g}", lr,
	         json_num(f->json, "momentum"), json_num(f->json, "weight_decay"));
	cJSON *j = cJSON_Parse(spec);
	enum wasd_status s = wasd_optim_create(j, wasd_graph_param_count(n->g), &optim, &err);
	cJSON_Delete(j);
	real *batch = wasd_malloc(pixels * sizeof *batch);
	int32_t *labels = wasd_malloc((size_t)n->batch * sizeof *labels);
	const cJSON *draws = wasd_json_get(f->json, "transforms"), *list = draws ? draws->child : NULL;
	net_fill(g, n);
	for (int i = 0; i < steps && s == WASD_OK; i++, list = list ? list->next : NULL) {
		struct wasd_draw d;
		char at[24];
		double l = NAN;
		snprintf(at, sizeof at, "step %d", i);
		if (!net_draw(g, n, list, &d))
			break;
		struct wasd_pass pass = {.n = n->batch,
		                         .recipe = d.n ? &d.recipe : NULL,
		                         .bn = WASD_BN_BATCH,
		                         .set = WASD_STATS_TRAIN,
		                         .update = true};
		batch_of(x, y, (size_t)i, n->batch, batch, labels);
		wasd_model_grad_zero(n->m);
		s = wasd_exec_forward(n->e, batch, &pass, &err);
		if (s == WASD_OK)
			s = wasd_exec_loss(n->e, labels, 0, &l, &hits, &err);
		if (s == WASD_OK)
			s = wasd_exec_backward(n->e, &err);
		wasd_draw_done(&d);
		if (s != WASD_OK)
			break;
		double want = st_value(loss, (size_t)i), size = st_value(norm, (size_t)i);
		group_near(g, l, want, IS_DOUBLE ? fabs(want) : fmax(1, fabs(want)), loss_bound(json_str(f->json, "name"), i),
		           0, "loss of", at);
		group_near(g, sums_of(wasd_model_grad(n->m), wasd_graph_param_count(n->g)).norm, size, size,
		           IS_DOUBLE ? REL : 0.05, 0, "gradient norm of", at);
		wasd_optim_step(optim, wasd_model_master(n->m), wasd_model_grad(n->m), lr);
	}
	if (s != WASD_OK) {
		group_fail(g, "%s: %s", wasd_status_name(s), err.msg);
	} else {
		batch_of(x, y, 0, n->batch, batch, labels);
		check_final(g, n, batch);
	}
	wasd_optim_destroy(optim);
	wasd_free(batch);
	wasd_free(labels);
}

static void run_trace(const struct fixture *f, const struct fixture *images, const char *backend)
{
	struct group g = group_begin("%s on %s (%s)", f->name, backend, FLAVOUR);
	struct net n;
	bool known;
	if (net_open(&g, f, backend, false, &n, &known)) {
		run_steps(&g, &n, images);
		net_done(&n);
	}
	if (known)
		group_end(&g);
	else
		printf("skip %s (%s): the model table has no network \"%s\"\n", f->name, FLAVOUR, json_str(f->json, "name"));
}

static void run_file(const char *dir, const char *name)
{
	struct fixture f, images;
	if (!fixture_open(dir, name, &f))
		return;
	char batches[80];
	const char *file = json_str(f.json, "images"), *suffix = strstr(file, ".safetensors");
	snprintf(batches, sizeof batches, "%.*s", suffix ? (int)(suffix - file) : 0, file);
	if (fixture_open(dir, batches, &images)) {
		run_trace(&f, &images, "openblas");
		if (fast_backend_runs()) {
			run_trace(&f, &images, "onednn");
			run_trace(&f, &images, "onednn-strict");
		}
		if (IS_DOUBLE && !strcmp(json_str(f.json, "name"), "lenet"))
			run_trace(&f, &images, "ref");
		fixture_close(&images);
	}
	fixture_close(&f);
}

static void run_dir(const char *dir)
{
	fixture_each_file(dir, "trace_", run_file);
}

int main(void)
{
	fixture_each_dir("traces", run_dir);
	TEST_END();
}
