/* SuperWeights against the golden numbers of $WASD_SHARED/strategies/part2.json, and in runs: what their checkpoints
 * have, what becomes of them, and that a run that was cut goes on with the same bits. */
#include "golden.h"
#include "tiny.h"
#include "train/checkpoint.h"
#include "train/trainer.h"
#include "wasd/convert.h"
#include "wasd/model.h"
#include "weights/superweights.h"

static const cJSON *golden;

static double at(const cJSON *list, int i)
{
	const cJSON *v = cJSON_GetArrayItem(list, i);
	return v ? v->valuedouble : NAN;
}

static double number(const cJSON *j, const char *name)
{
	const cJSON *v = wasd_json_get(j, name);
	return v ? v->valuedouble : NAN;
}

/* ---- composition ------------------------------------------------------------------------------------------ */

static void golden_compose(void)
{
	const cJSON *j = wasd_json_get(golden, "compose");
	real t[18], c[3], w[6], dw[6], dt[18] = {0};
	double dc[3] = {0};
	for (int i = 0; i < 18; i++)
		t[i] = (real)((5 * (i / 6) + 3 * (i % 6)) % 7 - 3);
	for (int k = 0; k < 3; k++)
		c[k] = (real)at(wasd_json_get(j, "coeff"), k);
	for (int i = 0; i < 6; i++)
		dw[i] = (real)at(wasd_json_get(j, "dW"), i);
	sw_compose(6, 3, t, 6, c, w);
	sw_compose_back(6, 3, t, 6, c, dw, dt, dc);
	for (int i = 0; i < 6; i++)
		CHECK_NEAR((double)w[i], at(wasd_json_get(j, "W"), i), 0);
	for (int i = 0; i < 18; i++)
		CHECK_NEAR((double)dt[i], at(wasd_json_get(j, "dT"), i), 0);
	for (int k = 0; k < 3; k++)
		CHECK_NEAR(dc[k], at(wasd_json_get(j, "dcoeff"), k), 0);
}

/* Strip 0 is 2x2 with 1 to 4, strip 1 makes it 4x3 with 10 to 17. */
static void golden_strips(void)
{
	const cJSON *w = wasd_json_get(wasd_json_get(golden, "strips"), "W");
	struct sw_layer layer[2] = {{4, 3, 1, 1}, {2, 2, 1, 1}};
	struct sw_plan p;
	real t[12] = {1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17}, got[12] = {0};
	CHECK(sw_plan_init(&p, 2));
	sw_plan_banks(&p, layer);
	CHECK_INT(p.n_strips, 2);
	CHECK_INT(p.strips[0], 2);
	CHECK_INT(p.strips[1], 1);
	CHECK_INT(p.values, 12);
	for (int s = 0; s < p.n_strips; s++)
		for (int o = 0; o < p.strip[s].outs; o++) {
			struct sw_run r = sw_run_of(&p.strip[s], 3, o);
			memcpy(got + r.w, t + p.strip[s].at + r.t, r.n * sizeof *t);
		}
	for (int i = 0; i < 12; i++)
		CHECK_NEAR((double)got[i], at(w, i), 0);
	sw_plan_done(&p);
}

static void orthogonal(void)
{
	static const int sizes[][2] = {{5, 3}, {2, 3}, {3, 3}, {1, 1}, {1, 8}, {8, 1}, {17, 8}};
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "orthogonal", 0, 0);
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		int rows = sizes[s][0], cols = sizes[s][1], n = rows < cols ? rows : cols, len = rows < cols ? cols : rows;
		double m[17 * 8];
		sw_orthogonal(&r, rows, cols, m);
		for (int a = 0; a < n; a++)
			for (int b = 0; b < n; b++) {
				double dot = 0;
				for (int k = 0; k < len; k++)
					dot += rows <= cols ? m[a * cols + k] * m[b * cols + k] : m[k * cols + a] * m[k * cols + b];
				CHECK_NEAR(dot, a == b, 1e-12);
			}
	}
	const cJSON *j = wasd_json_get(golden, "orthogonal");
	CHECK(!golden ||
	      (cJSON_IsTrue(wasd_json_get(j, "5x3_PtP_is_I")) && cJSON_IsTrue(wasd_json_get(j, "2x3_QQt_is_I"))));
}

/* ---- which layers share ------------------------------------------------------------------------------------ */

static void golden_cosine(void)
{
	real a[12], b[8];
	struct sw_layer la = {4, 3, 1, 1}, lb = {2, 4, 1, 1};
	for (int i = 0; i < 12; i++)
		a[i] = (real)((7 * (i / 3) + 5 * (i % 3) + 3) % 9 - 4);
	for (int i = 0; i < 8; i++)
		b[i] = (real)((2 * (i / 4) + 3 * (i % 4) + 1) % 5 - 2);
	double want = number(wasd_json_get(golden, "cos"), "cos_of_crop_2x3");
	CHECK_NEAR(sw_cosine(&la, a, &lb, b), want, 1e-7);
	CHECK_NEAR(sw_cosine(&lb, b, &la, a), want, 1e-7);
	CHECK_NEAR(sw_cosine(&la, a, &la, a), 1, 1e-12);
	CHECK_NEAR(sw_cosine(&la, a, &la, (real[12]){0}), 0, 0);
}

static void golden_queue_of(const char *name)
{
	const cJSON *j = wasd_json_get(golden, name), *row, *want = wasd_json_get(j, "result");
	struct sw_pair pair[8];
	int cluster[4] = {0, 1, 2, 3};
	size_t n = 0;
	cJSON_ArrayForEach(row, wasd_json_get(j, "pairs"))
		pair[n++] = (struct sw_pair){at(row, 0), cJSON_GetArrayItem(row, 1)->valuestring[0] - 'a',
		                             cJSON_GetArrayItem(row, 2)->valuestring[0] - 'a'};
	sw_queue(pair, n, number(j, "threshold"), cluster);
	CHECK(n > 1);
	cJSON_ArrayForEach(row, want)
		CHECK_INT(cluster[row->string[0] - 'a'], row->valueint);
}

static void golden_queues(void)
{
	golden_queue_of("queue");
	golden_queue_of("queue2");
}

/* ---- banks -------------------------------------------------------------------------------------------------- */

enum { LAYERS = 32 };

static int layers_of(const cJSON *j, struct sw_layer layer[LAYERS])
{
	const cJSON *l;
	int n = 0;
	cJSON_ArrayForEach(l, wasd_json_get(j, "layers"))
		layer[n++] = (struct sw_layer){(int)at(l, 0), (int)at(l, 1), (int)at(l, 2), (int)at(l, 3)};
	return n;
}

static void check_banks(const struct sw_plan *p, const cJSON *banks)
{
	int strip = 0;
	CHECK_INT(p->n_strips, cJSON_GetArraySize(banks));
	for (int i = 0; i < p->n_strips; i++) {
		const struct sw_strip *s = &p->strip[i];
		char name[64];
		strip = i && p->strip[i - 1].cluster == s->cluster ? strip + 1 : 0;
		snprintf(name, sizeof name, "_param_group_%d_width_%d", s->cluster, strip);
		const cJSON *b = wasd_json_get(banks, name);
		CHECK_MSG(b, "no bank %s", name);
		CHECK_INT((size_t)s->templates * s->n, number(b, "params"));
		CHECK_INT(s->layers, number(b, "layers"));
		CHECK_INT(s->templates, at(wasd_json_get(b, "candidates"), 0));
		CHECK_INT(s->n, at(wasd_json_get(b, "layer_size"), 0));
	}
}

static void golden_banks(void)
{
	const cJSON *j, *groups;
	int nets = 0;
	cJSON_ArrayForEach(j, wasd_json_get(golden, "banks")) {
		struct sw_layer layer[LAYERS];
		struct sw_plan p;
		int n = layers_of(j, layer), i = 0;
		CHECK(sw_plan_init(&p, n));
		sw_bins(layer, n, 4, p.cluster);
		sw_nest(layer, n, p.cluster);
		sw_plan_banks(&p, layer);
		size_t all = 0;
		for (int k = 0; k < n; k++)
			all += sw_count(&layer[k]);
		CHECK_INT(all, number(j, "fully_parameterised"));
		sw_plan_fill(&p, (size_t)number(j, "max_params"), SW_TEMPLATES);
		CHECK_INT(p.values, number(j, "bank_params"));
		check_banks(&p, wasd_json_get(j, "banks"));
		cJSON_ArrayForEach(groups, wasd_json_get(j, "groups_of_layers")) {
			CHECK_INT(p.strips[i], cJSON_GetArraySize(groups));
			CHECK_INT(p.cluster[i], atoi(cJSON_GetArrayItem(groups, 0)->valuestring));
			CHECK_INT(p.strip[p.first[i]].cluster, p.cluster[i]);
			i++;
		}
		CHECK_INT(i, n);
		sw_plan_done(&p);
		nets++;
	}
	CHECK_INT(nets, 3);
}

/* Shapes of one cluster nest, and every layer's strips are its weights, each once. */
static void strips_cover_a_layer(void)
{
	static const struct sw_layer layer[] = {{8, 3, 3, 3},  {8, 8, 3, 3}, {16, 8, 1, 1}, {8, 16, 1, 1}, {16, 8, 3, 3},
	                                        {8, 16, 3, 3}, {9, 1, 3, 3}, {8, 8, 1, 1},  {16, 16, 3, 3}};
	enum { N = sizeof layer / sizeof *layer };
	struct sw_plan p;
	CHECK(sw_plan_init(&p, N));
	for (int bins = 1; bins <= 12; bins++) {
		sw_bins(layer, N, bins, p.cluster);
		sw_nest(layer, N, p.cluster);
		sw_plan_banks(&p, layer);
		CHECK(p.n_strips <= N);
		for (int l = 0; l < N; l++) {
			int seen[16 * 16 * 9] = {0};
			size_t n = 0;
			for (int s = p.first[l]; s < p.first[l] + p.strips[l]; s++)
				for (int o = 0; o < p.strip[s].outs; o++) {
					struct sw_run r = sw_run_of(&p.strip[s], layer[l].ins, o);
					CHECK(r.t + r.n <= p.strip[s].n && r.w + r.n <= sw_count(&layer[l]));
					for (size_t i = 0; i < r.n; i++)
						seen[r.w + i]++;
					n += r.n;
				}
			CHECK_INT(n, sw_count(&layer[l]));
			for (size_t i = 0; i < sw_count(&layer[l]); i++)
				CHECK(seen[i] == 1);
		}
	}
	sw_plan_done(&p);
}

/* Layers with like gradients share; under a smaller room the threshold falls until the banks fit. */
static void clusters_by_similarity(void)
{
	static const struct sw_layer layer[4] = {{2, 2, 1, 1}, {2, 2, 1, 1}, {3, 2, 1, 1}, {2, 2, 1, 1}};
	static const real g[4][6] = {{1, 2, 3, 4}, {2, 4, 6, 9}, {-1, 2, -3, 4, 5, 6}, {4, -3, 2, -1}};
	static const int bin[4] = {0};
	const real *grad[4] = {g[0], g[1], g[2], g[3]};
	struct sw_pair pair[12];
	struct sw_plan p;
	double threshold;
	size_t n = sw_pairs(layer, 4, bin, grad, pair);
	CHECK_INT(n, 12);
	for (size_t i = 1; i < n; i++)
		CHECK(pair[i - 1].similar >= pair[i].similar);
	CHECK(sw_plan_init(&p, 4));
	CHECK(sw_cluster(&p, layer, pair, n, 100, &threshold));
	CHECK_NEAR(threshold, 0.1, 1e-12);
	CHECK(p.cluster[0] == p.cluster[1] && p.cluster[3] != p.cluster[0]);
	CHECK(sw_cluster(&p, layer, pair, n, 6, &threshold) && threshold < 0 && p.values <= 6);
	CHECK(!sw_cluster(&p, layer, pair, n, 5, &threshold));
	sw_plan_done(&p);
}

/* ---- runs --------------------------------------------------------------------------------------------------- */

#define CONV(name, more) \
	"{\"type\":\"conv\",\"bias\":false,\"name\":\"" name "\"" more "},{\"type\":\"batchnorm\"},{\"type\":\"relu\"},"
#define NET \
	"\"model\":{\"name\":\"net\",\"layers\":[" CONV("a", ",\"out\":8") CONV("b", "") CONV("c", "") \
		CONV("d", ",\"out\":16,\"stride\":2") CONV("e", "") CONV("f", "") CONV("p", ",\"out\":16,\"kernel\":1") CONV( \
			"q", \
			",\"kernel\":1") "{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\",\"name\":\"fc\"}]}"
#define SPEC(strategy) \
	"{" NET ",\"weights\":[" strategy \
	"],\"train\":{\"epochs\":3,\"batch\":32,\"optimizer\":{\"type\":\"sgd\",\"lr\":0.05,\"momentum\":0.9," \
	"\"weight_decay\":0.001}}}"
#define SEARCH "{\"type\":\"superweights\",\"budget\":0.7,\"bins\":3,\"search_epochs\":1}"
static const char *const composed[] = {"a.weight", "b.weight", "c.weight", "d.weight",
                                       "e.weight", "f.weight", "p.weight", "q.weight"};
static struct wasd_dataset *data;
static struct tiny_run run; /* SPEC(SEARCH) */
static real *memory;        /* its parameters when it ended */

/* Goes to the end, and keeps the parameters. */
static real *go_and_keep(struct tiny_run *r, const char *spec)
{
	struct wasd_trainer *t = NULL;
	cJSON *j = cJSON_Parse(spec);
	struct wasd_train_hooks h = {.ctx = r, .should_stop = tiny_stop, .checkpoint = tiny_checkpoint};
	CHECK_MSG(!wasd_trainer_create(&(struct wasd_train_opts){.spec = j, .data = data}, &t, &r->err) &&
	              !wasd_trainer_run(t, &h, &r->end, &r->epoch, &r->err),
	          "%s", r->err.msg);
	tiny_digest(t, r->sha);
	struct wasd_model *m = wasd_trainer_model(t);
	size_t n = wasd_graph_param_count(wasd_model_graph(m));
	real *kept = wasd_calloc(n, sizeof *kept);
	memcpy(kept, wasd_model_master(m), n * sizeof *kept);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
	return kept;
}

/* The checkpoint has no composed weight and no optimizer state for one, and its readers get the bits in memory. */
static void file_is_compact(void)
{
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!checkpoint_open(run.file, run.len, &c, &err) && !checkpoint_graph(&c, &g, &err) &&
	              !checkpoint_check_names(&c, g, &err),
	          "%s", err.msg);
	CHECK_STR(wasd_st_meta(c.st, "format"), "wasd-checkpoint-3");
	CHECK_STR(wasd_st_meta(c.st, "composed"), "superweights");
	for (size_t i = 0; i < sizeof composed / sizeof *composed; i++) {
		char name[96];
		snprintf(name, sizeof name, "optim.momentum.%s", composed[i]);
		CHECK(!wasd_st_find(c.st, composed[i]) && !wasd_st_find(c.st, name));
	}
	CHECK(wasd_st_find(c.st, "fc.weight") && wasd_st_find(c.st, "weights.superweights.bank") &&
	      wasd_st_find(c.st, "weights.superweights.coeff") && wasd_st_find(c.st, "weights.superweights.cluster") &&
	      wasd_st_find(c.st, "weights.superweights.learned.momentum.bank"));
	size_t n = wasd_graph_param_count(g);
	real *loaded = wasd_calloc(n, sizeof *loaded);
	CHECK_MSG(!checkpoint_load_params(&c, g, "", loaded, &err), "%s", err.msg);
	CHECK(!memcmp(loaded, memory, n * sizeof *loaded));
	wasd_free(loaded);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
}

/* Values that inference needs: parameters, banks, coefficients and clusters. */
static size_t inference_values(const struct wasd_st *st)
{
	size_t n = 0;
	for (size_t i = 0; i < wasd_st_count(st); i++) {
		const struct wasd_st_tensor *t = wasd_st_at(st, i);
		bool bank = !strcmp(t->name, "weights.superweights.bank") || !strcmp(t->name, "weights.superweights.coeff") ||
		            !strcmp(t->name, "weights.superweights.cluster");
		n += bank || (strncmp(t->name, "weights.", 8) && strncmp(t->name, "optim.", 6) &&
		              strncmp(t->name, "state.", 6) && strncmp(t->name, "train.", 6) && !strstr(t->name, ".running_")) ?
		         t->count :
		         0;
	}
	return n;
}

static void file_keeps_the_budget(void)
{
	struct wasd_st *st = NULL;
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	CHECK(!wasd_st_open(run.file, run.len, &st, NULL) && !checkpoint_open(run.file, run.len, &c, NULL) &&
	      !checkpoint_graph(&c, &g, NULL));
	double share = (double)inference_values(st) / (double)wasd_graph_param_count(g);
	CHECK_MSG(share > 0.6 && share < 0.75, "%.3f of the parameters", share); /* so small a net has many coefficients */
	wasd_st_close(st);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
}

/* Of networks of the usual size: the banks fill the budget, and coefficients are few. */
static void budget_is_met(void)
{
	static const char *const nets[] = {"resnet18", "vgg16", "mobilenetv2"};
	static const double budgets[] = {1, 0.6, 0.4};
	for (size_t i = 0; i < sizeof nets / sizeof *nets; i++)
		for (size_t k = 0; k < sizeof budgets / sizeof *budgets; k++) {
			struct wasd_graph *g = NULL;
			struct weight_chain *chain = NULL;
			struct weight_learned l;
			struct wasd_err err = {0};
			char spec[160];
			snprintf(spec, sizeof spec, "[{\"type\":\"superweights\",\"budget\":%g,\"bins\":2}]", budgets[k]);
			cJSON *model = cJSON_CreateObject(), *list = cJSON_Parse(spec);
			cJSON_AddStringToObject(model, "arch", nets[i]);
			CHECK_MSG(!wasd_network_build(model, (struct wasd_shape){3, 32, 32}, 10, &g, &err) &&
			              !chain_create(g, &(struct chain_spec){.weights = list, .seed = 1}, &chain, &err),
			          "%s at %g: %s", nets[i], budgets[k], err.msg);
			size_t values = wasd_graph_param_count(g);
			double want = budgets[k] * (double)values;
			for (int p = 0; p < wasd_graph_params(g); p++)
				values -= chain && chain_compact(chain, p) ? wasd_graph_param_info(g, p).count : 0;
			for (int j = 0; chain && chain_learned(chain, j, &l); j++)
				values += weight_learned_elements(&l);
			CHECK_MSG(fabs((double)values / want - 1) < 0.02, "%s at %g: %.4f of the budget", nets[i], budgets[k],
			          (double)values / want);
			chain_destroy(chain);
			wasd_graph_destroy(g);
			cJSON_Delete(list);
			cJSON_Delete(model);
		}
}

static void resumes_anywhere(void)
{
	static const int stops[] = {1, 7, 8, 9, 15, 20};
	for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
		struct tiny_run cut = {.stop_at = stops[i]};
		tiny_go(&cut, SPEC(SEARCH), data);
		CHECK_MSG(!cut.status && cut.end == WASD_TRAIN_CANCELLED, "%s", cut.err.msg);
		cut.stop_at = 0;
		tiny_go(&cut, SPEC(SEARCH), data);
		CHECK_MSG(!cut.status, "%s", cut.err.msg);
		CHECK_MSG(!strcmp(cut.sha, run.sha), "stopped at %d: other bits", stops[i]);
		tiny_done(&cut);
	}
}

#define GOALS \
	"{" NET ",\"weights\":[{\"type\":\"superweights\",\"budget\":0.7,\"bins\":3,\"search_epochs\":4}],\"train\":{" \
	"\"epochs\":8,\"batch\":32,\"early_stop\":{\"patience\":2,\"metric\":\"train_loss\"},\"optimizer\":{\"type\":\"sgd\"," \
	"\"lr\":0.05,\"momentum\":0.9}},\"checkpoint\":{\"every\":1}}"

struct told {
	int rehearsals, last;
};

static enum wasd_status hear_checkpoint(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err)
{
	struct told *to = ctx;
	(void)err;
	if (!cJSON_IsTrue(wasd_json_get(c->info, "rehearsal")))
		return WASD_OK;
	to->rehearsals++;
	to->last = c->epoch;
	return WASD_OK;
}

/* What the pre-training reached neither ends the training after it nor is its best. */
static void goals_begin_again(void)
{
	struct told told = {0};
	struct wasd_trainer *t = NULL;
	struct wasd_err err = {0};
	enum wasd_train_end end;
	struct tiny_run whole = {0}, cut = {.until = 4};
	cJSON *j = cJSON_Parse(GOALS);
	struct wasd_train_hooks h = {.ctx = &told, .checkpoint = hear_checkpoint};
	CHECK_MSG(!wasd_trainer_create(&(struct wasd_train_opts){.spec = j, .data = data}, &t, &err) &&
	              !wasd_trainer_run(t, &h, &end, NULL, &err),
	          "%s", err.msg);
	CHECK_INT(told.rehearsals, 4);
	CHECK_INT(told.last, 4);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
	tiny_go(&whole, GOALS, data);
	CHECK_MSG(!whole.status && whole.value[6][0] > whole.value[4][0], "%s: %g after %g", whole.err.msg,
	          whole.value[6][0], whole.value[4][0]);
	CHECK_MSG(whole.epoch > 6, "it ended after %d epochs", whole.epoch);
	tiny_go(&cut, GOALS, data);
	cut.until = 0;
	tiny_go(&cut, GOALS, data);
	CHECK_INT(cut.epoch, whole.epoch);
	CHECK_STR(cut.sha, whole.sha);
	tiny_done(&whole);
	tiny_done(&cut);
}

/* Every layer with a bank of its own and one template: the run of the plain network. */
static void alone_is_plain(void)
{
	struct tiny_run plain = {0}, one = {0};
	tiny_go(&plain, SPEC(""), data);
	tiny_go(&one, SPEC("{\"type\":\"superweights\",\"budget\":1,\"bins\":1000,\"templates\":1,\"search_epochs\":0}"),
	        data);
	CHECK_MSG(!plain.status && !one.status, "%s %s", plain.err.msg, one.err.msg);
	CHECK_STR(one.sha, plain.sha);
	CHECK(strcmp(run.sha, plain.sha) != 0);
	tiny_done(&plain);
	tiny_done(&one);
}

static void answer(const void *file, size_t len, real *logits)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	real x[3 * 16 * 16];
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = (real)(0.01 * (double)(i % 37) - 0.2);
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(file, len, "aom"), &b, &err) &&
	              !wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err) &&
	              !wasd_predictor_run(p, x, 1, logits, &err),
	          "%s", err.msg);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
}

/* Served, exported, imported, described, and the start of another run. */
static void goes_out(void)
{
	struct wasd_err err = {0};
	void *file = NULL, *again = NULL, *onnx = NULL, *direct = NULL;
	size_t len, again_len, onnx_len, direct_len;
	cJSON *info = NULL, *layers = NULL;
	real served[10], imported[10];
	CHECK_MSG(!wasd_export_safetensors(run.file, run.len, &file, &len, &err), "%s", err.msg);
	CHECK_MSG(!wasd_export_onnx(TINY_MODE(run.file, run.len, "aom"), &onnx, &onnx_len, &err), "%s", err.msg);
	CHECK_MSG(!wasd_import(file, len, &(struct wasd_import){.to_serve = true}, &again, &again_len, &info, &err), "%s",
	          err.msg);
	cJSON_Delete(info);
	CHECK_MSG(!wasd_import(run.file, run.len, &(struct wasd_import){.to_serve = true}, &direct, &direct_len, &info,
	                       &err),
	          "%s", err.msg);
	CHECK_MSG(!wasd_checkpoint_layers(run.file, run.len, &layers, &err), "%s", err.msg);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(layers, "layers")), 9);
	answer(run.file, run.len, served);
	answer(again, again_len, imported);
	CHECK(!memcmp(served, imported, sizeof served));
	answer(direct, direct_len, imported);
	CHECK(!memcmp(served, imported, sizeof served));
	cJSON *j = cJSON_Parse(SPEC(""));
	struct wasd_trainer *t = NULL;
	CHECK_MSG(!wasd_trainer_create(&(struct wasd_train_opts){.spec = j,
	                                                         .data = data,
	                                                         .init = run.file,
	                                                         .init_len = run.len},
	                               &t, &err),
	          "%s", err.msg);
	struct wasd_model *m = wasd_trainer_model(t);
	CHECK(!memcmp(wasd_model_master(m), memory, wasd_graph_param_count(wasd_model_graph(m)) * sizeof *memory));
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
	cJSON_Delete(info);
	cJSON_Delete(layers);
	wasd_free(file);
	wasd_free(again);
	wasd_free(direct);
	wasd_free(onnx);
}

/* The file with one value of a tensor replaced. */
static void damaged_is_refused(const char *tensor, size_t at, real v, const char *part)
{
	char *bytes = wasd_malloc(run.len);
	struct wasd_st *st = NULL;
	struct wasd_bundle *b = NULL;
	struct wasd_err err = {0};
	memcpy(bytes, run.file, run.len);
	CHECK(!wasd_st_open(bytes, run.len, &st, NULL));
	const struct wasd_st_tensor *t = wasd_st_find(st, tensor);
	CHECK(t && at < t->count);
	memcpy(bytes + ((const char *)t->data - bytes) + at * sizeof v, &v, sizeof v);
	wasd_st_close(st);
	enum wasd_status s = wasd_bundle_create(TINY_MODE(bytes, run.len, "aom"), &b, &err);
	CHECK_MSG(s == WASD_ECORRUPT && strstr(err.msg, part), "%s: %s", tensor, err.msg);
	wasd_bundle_unref(b);
	wasd_free(bytes);
}

static void damage(void)
{
	damaged_is_refused("weights.superweights.cluster", 0, -1, "clusters");
	damaged_is_refused("weights.superweights.cluster", 2, 1000, "clusters");
	damaged_is_refused("weights.superweights.cluster", 2, (real)0.5, "clusters");
	damaged_is_refused("weights.superweights.phase", 0, 7, "clusters");
	damaged_is_refused("weights.superweights.bank", 3, (real)NAN, "bank");
	damaged_is_refused("weights.superweights.coeff", 0, (real)INFINITY, "coeff");
}

/* A reader's memory follows from what the file has, not from its spec. */
static void needs_the_bank(void)
{
	struct wasd_graph *g = NULL;
	struct checkpoint c = {0};
	struct weight_chain *chain = NULL;
	struct weight_learned l;
	struct wasd_err err = {0};
	cJSON *list = cJSON_Parse("[" SEARCH "]");
	CHECK(!checkpoint_open(run.file, run.len, &c, &err) && !checkpoint_graph(&c, &g, &err));
	for (int enough = 0; enough < 2; enough++) {
		struct chain_spec spec = {.weights = list, .stored = enough ? 100000 : 1000};
		CHECK(!chain_create(g, &spec, &chain, &err) && chain_learned(chain, 0, &l) && !l.values);
		CHECK_INT(chain_arrange(chain, &err), enough ? WASD_OK : WASD_ECORRUPT);
		CHECK(enough ? chain_learned(chain, 0, &l) && l.values : strstr(err.msg, "1000 values") != NULL);
		chain_destroy(chain);
	}
	wasd_graph_destroy(g);
	checkpoint_done(&c);
	cJSON_Delete(list);
}

static double workspace(const char *spec)
{
	cJSON *j = cJSON_Parse(spec), *out = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_train_estimate(&(struct wasd_train_opts){.spec = j, .data = data}, &out, &err), "%s", err.msg);
	double bytes = number(wasd_json_get(out, "memory"), "workspace");
	cJSON_Delete(out);
	cJSON_Delete(j);
	return bytes;
}

#define MAGNITUDE(retrain) SPEC("{\"type\":\"magnitude\",\"retrain\":\"" retrain "\",\"to_epoch\":1,\"end\":2}")

/* What strategies keep beside the run is in its estimate. */
static void memory_is_counted(void)
{
	struct wasd_graph *g = NULL;
	struct checkpoint c = {0};
	CHECK(!checkpoint_open(run.file, run.len, &c, NULL) && !checkpoint_graph(&c, &g, NULL));
	size_t all = wasd_graph_param_count(g), fc = 0;
	for (int i = 0; i < wasd_graph_params(g); i++)
		fc += wasd_graph_param_info(g, i).ndims == 4 ? 0 : wasd_graph_param_info(g, i).count;
	double more = workspace(SPEC(SEARCH)) -
	              workspace(SPEC("{\"type\":\"superweights\",\"budget\":0.7,\"bins\":3,\"search_epochs\":0}"));
	CHECK_NEAR(more, (double)((2 * all - fc) * sizeof(real)), 0);
	more = workspace(MAGNITUDE("weights")) - workspace(MAGNITUDE("lr"));
	CHECK_NEAR(more, (double)((2 * all + wasd_graph_stats_count(g)) * sizeof(real)), 0);
	more = workspace(SPEC("{\"type\":\"inrank\",\"compute\":\"composed\",\"stage\":1}")) - workspace(SPEC(""));
	CHECK_MSG(more > 144 * 16 * sizeof(double), "%g bytes", more);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
}

/* Zeros of a mask on other layers outlive the restart, which gives them no first values. */
static void zeros_stay(void)
{
	struct tiny_run half = {.until = 1};
	struct wasd_trainer *t = NULL;
	struct wasd_err err = {0};
	struct wasd_train_hooks none = {0};
	static const char spec[] = SPEC("{\"type\":\"magnitude\",\"layers\":\"fc\",\"sparsity\":0.5,\"begin\":0,\"end\":0},"
	                                "{\"type\":\"superweights\",\"budget\":0.7,\"bins\":3,\"search_epochs\":1}");
	cJSON *j = cJSON_Parse(spec);
	tiny_go(&half, spec, data);
	struct wasd_train_opts o = {.spec = j, .data = data, .resume = half.file, .resume_len = half.len};
	CHECK_MSG(!half.status && !wasd_trainer_create(&o, &t, &err), "%s%s", half.err.msg, err.msg);
	t->hooks = &none;
	struct wasd_param_info p = wasd_graph_param_info(t->graph, wasd_graph_param_find(t->graph, "fc.weight"));
	real *w = wasd_model_master(t->model) + p.offset, *was = wasd_calloc(p.count, sizeof *was);
	memcpy(was, w, p.count * sizeof *w);
	chain_event(t->weights, trainer_run_at(t, trainer_step(t)));
	size_t zeros = 0, same = 0;
	for (size_t i = 0; i < p.count; i++) {
		zeros += w[i] == 0 && was[i] == 0;
		same += w[i] == was[i];
	}
	CHECK_INT(zeros, p.count / 2);
	CHECK_INT(same, p.count / 2); /* the others begin again */
	wasd_free(was);
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
	tiny_done(&half);
}

static void refused(const char *spec, const char *pointer, const char *part)
{
	struct tiny_run r = {0};
	tiny_go(&r, spec, data);
	CHECK_MSG(r.status == WASD_EINVAL && !strcmp(r.err.pointer, pointer) && strstr(r.err.msg, part), "at \"%s\": %s",
	          r.err.pointer, r.err.msg);
	tiny_done(&r);
}

#define REWINDS \
	"{\"type\":\"magnitude\",\"layers\":\"fc\",\"sparsity\":0.5,\"retrain\":\"weights\",\"to_epoch\":1,\"end\":2}"

static void refusals(void)
{
	refused(SPEC(REWINDS "," SEARCH), "/weights/0/retrain", "superweights");
	refused(SPEC(SEARCH "," REWINDS), "/weights/1/retrain", "superweights");
	refused(SPEC("{\"type\":\"inrank\",\"compute\":\"composed\",\"layers\":\"d\",\"stage\":1},"
	             "{\"type\":\"superweights\",\"layers\":\"!d\",\"search_epochs\":1,\"bins\":1}"),
	        "/weights/1/search_epochs", "inrank");
	refused(SPEC("{\"type\":\"superweights\",\"budget\":0.05}"), "/weights/0/budget", "or more");
	refused(SPEC("{\"type\":\"superweights\",\"search_epochs\":3}"), "/weights/0/search_epochs", "3 epochs");
	refused(SPEC("{\"type\":\"superweights\",\"layers\":\"fc\"}"), "/weights/0/layers", "no layer");
}

int main(void)
{
	cJSON *all = golden_part2();
	golden = wasd_json_get(all, "sw");
	CHECK(!wasd_threads_init(1, NULL));
	TEST_RUN(orthogonal);
	TEST_RUN(strips_cover_a_layer);
	TEST_RUN(clusters_by_similarity);
	if (golden) {
		TEST_RUN(golden_compose);
		TEST_RUN(golden_strips);
		TEST_RUN(golden_cosine);
		TEST_RUN(golden_queues);
		TEST_RUN(golden_banks);
	} else {
		printf("skip golden numbers: ../shared/strategies/part2.json is absent\n");
	}
	char path[96];
	tiny_begin();
	data = tiny_glyphs("sw", 256, 64, 16, path);
	memory = go_and_keep(&run, SPEC(SEARCH));
	TEST_RUN(file_is_compact);
	TEST_RUN(file_keeps_the_budget);
	TEST_RUN(budget_is_met);
	TEST_RUN(resumes_anywhere);
	TEST_RUN(goals_begin_again);
	TEST_RUN(alone_is_plain);
	TEST_RUN(goes_out);
	TEST_RUN(damage);
	TEST_RUN(needs_the_bank);
	TEST_RUN(memory_is_counted);
	TEST_RUN(zeros_stay);
	TEST_RUN(refusals);
	wasd_free(memory);
	tiny_done(&run);
	wasd_dataset_close(data);
	tiny_end();
	cJSON_Delete(all);
	TEST_END();
}
