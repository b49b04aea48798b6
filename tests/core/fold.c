/* tests/core/fold.c - networks folded for serving: the golden numbers of a RepVGG block, sums of parallel branches of
 * every kind, also under random draws, and what must stay as it is. */
#include "check.h"
#include "golden.h"
#include "graph/graph.h"
#include "infer/fold.h"
#include "wasd/model.h"
#include "wasd/weights.h"
#include "weights/strategy.h"

enum { N = 3, SIDE = 6, CLASSES = 4 };
static cJSON *golden;

static struct wasd_graph *network(const char *layers, struct wasd_shape in)
{
	char text[4000];
	size_t n = (size_t)snprintf(text, sizeof text,
	                            "{'layers':[%s,{'type':'globalpool'},{'type':'flatten'},"
	                            "{'type':'linear','name':'fc','out':'classes'}]}",
	                            layers);
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	CHECK(n < sizeof text);
	for (char *c = text; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	cJSON *model = cJSON_Parse(text);
	CHECK_MSG(!wasd_network_build(model, in, CLASSES, &g, &err), "%s: %s", text, err.msg);
	cJSON_Delete(model);
	return g;
}

/* Scales, shifts and statistics that nothing else has. */
static struct wasd_model *valued(struct wasd_graph *g, uint64_t seed)
{
	struct wasd_model *m = NULL;
	struct wasd_rng r;
	CHECK(!wasd_model_create(g, seed, &m, NULL));
	wasd_rng_init(&r, seed, "values", 0, 0);
	for (int i = 0; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		for (int c = 0; n->stats >= 0 && c < n->shape.c; c++) {
			struct wasd_stats_info s = wasd_graph_stats_info(g, n->stats);
			wasd_model_master(
				m)[wasd_graph_param_info(g, n->weight).offset + (size_t)c] = (real)wasd_rng_between(&r, -1, 2);
			wasd_model_master(m)[wasd_graph_param_info(g, n->bias).offset + (size_t)c] = (real)wasd_rng_between(&r, -1,
			                                                                                                    1);
			wasd_model_stats(m, WASD_STATS_DOM)[s.mean_offset + (size_t)c] = (real)wasd_rng_between(&r, -1, 1);
			wasd_model_stats(m, WASD_STATS_DOM)[s.var_offset + (size_t)c] = (real)wasd_rng_between(&r, 0.2, 2);
		}
	}
	return m;
}

static int count(const struct wasd_graph *g, const struct layer *l)
{
	int n = 0;
	for (int i = 0; i < g->n_nodes; i++)
		n += g->nodes[i].layer == l;
	return n;
}

static void logits_of(struct wasd_model *m, const struct wasd_recipe *r, enum wasd_stats_set set, const real *x,
                      real *out)
{
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	struct wasd_exec_opts o = {.batch = N, .precision = WASD_PRECISION_FP32_STRICT};
	CHECK_MSG(!wasd_exec_create(m, &o, &e, &err) &&
	              !wasd_exec_forward(e, x, &(struct wasd_pass){.n = N, .recipe = r, .bn = WASD_BN_SET, .set = set},
	                                 &err),
	          "%s", err.msg);
	memcpy(out, wasd_exec_logits(e), sizeof *out * N * (size_t)wasd_exec_classes(e));
	wasd_exec_destroy(e);
}

/* Folded equals unfolded, with no more multiply-adds. *out: the folded network. */
static void check_fold(const char *what, struct wasd_model *m, const struct wasd_recipe *r, struct folded *out)
{
	const struct wasd_graph *g = wasd_model_graph(m);
	struct wasd_err err = {0};
	size_t pixels = wasd_shape_count(wasd_graph_input_shape(g));
	real x[N * 3 * 32 * 32], want[N * 16], got[N * 16];
	struct wasd_rng rng;
	double worst = 0, top = 1e-3;
	wasd_rng_init(&rng, 5, "x", 0, 0);
	for (size_t i = 0; i < N * pixels; i++)
		x[i] = (real)wasd_rng_between(&rng, -1, 1);
	CHECK_MSG(!fold_network(m, r, WASD_STATS_DOM, out, &err), "%s: %s", what, err.msg);
	logits_of(m, r, WASD_STATS_DOM, x, want);
	logits_of(out->model, NULL, WASD_STATS_AOM, x, got);
	for (int i = 0; i < N * wasd_graph_classes(g); i++) {
		worst = fmax(worst, fabs((double)want[i] - (double)got[i]));
		top = fmax(top, fabs((double)want[i]));
	}
	CHECK_MSG(worst <= (sizeof(real) == 8 ? 1e-12 : 1e-5) * top, "%s: %g of %g", what, worst, top);
	CHECK_MSG(wasd_graph_macs(out->graph, NULL) <= wasd_graph_macs(g, r), "%s: more multiply-adds", what);
}

/* ---- without taps -------------------------------------------------------------------------------------------- */

static bool no_shape(const struct wasd_recipe *r, int index, struct weight_shape *out)
{
	(void)r;
	(void)index;
	*out = (struct weight_shape){.live = {0, 0, 0, 0}};
	return true;
}

static void no_weights(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *s)
{
	(void)r;
	(void)k;
	(void)at;
	(void)s;
}

static const struct weight_strategy no_taps = {.name = "no taps", .shape = no_shape, .forward = no_weights};

/* A sum of two branches that no tap of is alive has only a bias left. */
static void sums_without_taps(void)
{
	struct folded f = {0};
	struct wasd_graph *g = network("{'type':'conv','name':'a','out':8,'augment':true},{'type':'conv','name':'b',"
	                               "'from':'input','out':8,'augment':true},{'type':'add','from':['a','b']}",
	                               (struct wasd_shape){3, SIDE, SIDE});
	struct wasd_model *m = valued(g, 3);
	struct wasd_recipe r = {&no_taps};
	check_fold("no taps", m, &r, &f);
	CHECK_INT(count(f.graph, &layer_add), 0);
	folded_done(&f);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

/* ---- golden ------------------------------------------------------------------------------------------------- */

static void set_bn(struct wasd_model *m, const char *name, double k)
{
	const struct wasd_graph *g = wasd_model_graph(m);
	for (int i = 0; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		if (n->stats < 0 || strcmp(n->name, name))
			continue;
		real *gamma = wasd_model_master(m) + wasd_graph_param_info(g, n->weight).offset,
			 *beta = wasd_model_master(m) + wasd_graph_param_info(g, n->bias).offset,
			 *stats = wasd_model_stats(m, WASD_STATS_DOM) + wasd_graph_stats_info(g, n->stats).mean_offset;
		memcpy(gamma, (real[]){(real)(1 + k), (real)(2 - k)}, 2 * sizeof(real));
		memcpy(beta, (real[]){(real)(k / 2), (real)-0.25}, 2 * sizeof(real));
		memcpy(stats, (real[]){(real)0.25, (real)(-k / 2), (real)(1 + k), 4}, 4 * sizeof(real));
	}
}

static real *values(struct wasd_model *m, const char *param)
{
	const struct wasd_graph *g = wasd_model_graph(m);
	int i = wasd_graph_param_find(g, param);
	CHECK_MSG(i >= 0, "no parameter %s", param);
	return wasd_model_master(m) + wasd_graph_param_info(g, i).offset;
}

static void reparam(void)
{
	const cJSON *want = wasd_json_get(golden, "reparam");
	if (!want)
		TEST_SKIP("no golden numbers (part2.json)");
	struct wasd_graph *g = network("{'type':'conv','name':'in','kernel':1,'out':2},"
	                               "{'type':'conv','name':'c3','bias':false},{'type':'batchnorm','name':'b3'},"
	                               "{'type':'conv','name':'c1','from':'in','kernel':1,'bias':false},"
	                               "{'type':'batchnorm','name':'b1'},{'type':'batchnorm','name':'b0','from':'in'},"
	                               "{'type':'add','from':['b3','b1']},{'type':'add','name':'y','from':['add6','b0']}",
	                               (struct wasd_shape){1, 4, 4});
	struct wasd_model *m = valued(g, 1);
	struct folded f = {0};
	real *w3 = values(m, "c3.weight"), *w1 = values(m, "c1.weight");
	for (int o = 0; o < 2; o++)
		for (int i = 0; i < 2; i++) {
			w1[o * 2 + i] = (real)((2 * o - 3 * i + 1) / 2.0);
			for (int t = 0; t < 9; t++)
				w3[(o * 2 + i) * 9 + t] = (real)(((4 * o + 3 * i + 2 * (t / 3) + t % 3) % 5 - 2) / 4.0);
		}
	set_bn(m, "b3", 0);
	set_bn(m, "b1", 0.5);
	set_bn(m, "b0", 1);
	check_fold("reparam", m, NULL, &f);
	CHECK_INT(count(f.graph, &layer_conv), 2);
	CHECK(count(f.graph, &layer_add) == 0 && count(f.graph, &layer_batchnorm) == 0);
	for (int i = 0; i < 36; i++)
		CHECK_NEAR((double)values(f.model, "c3.weight")[i],
		           cJSON_GetArrayItem(wasd_json_get(want, "W"), i)->valuedouble, 5e-7);
	for (int o = 0; o < 2; o++)
		CHECK_NEAR((double)values(f.model, "c3.bias")[o],
		           cJSON_GetArrayItem(wasd_json_get(want, "bias"), o)->valuedouble, 5e-7);
	for (int i = 0; i < f.graph->n_nodes; i++)
		CHECK_INT(f.summed[i], !strcmp(f.graph->nodes[i].name, "c3"));
	folded_done(&f);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

/* ---- what is one convolution and what is not ----------------------------------------------------------------- */

#define STEM "{'type':'conv','name':'x','out':8},{'type':'relu','name':'r'},"
#define CONV(name, more) "{'type':'conv','name':'" name "','from':'r'" more "},"
#define BN(name) "{'type':'batchnorm','name':'" name "'},"
#define IDENTITY "{'type':'batchnorm','name':'i','from':'r'},"
#define ADD(name, a, b) "{'type':'add','name':'" name "','from':['" a "','" b "']}"

enum { PAIRS = 8 * 8 * SIDE * SIDE }; /* multiply-adds of one tap of a convolution of r */
static const struct {
	const char *what, *layers;
	int convs, adds, bns; /* of the folded network */
	uint64_t saved;
} nets[] = {
	{"three branches",
     STEM CONV("a", "") BN("an") CONV("b", ",'kernel':1") BN("bn") IDENTITY ADD("s", "an", "bn") "," ADD("y", "s", "i"),
     2, 0, 0, PAIRS},
	{"the identity first",
     STEM CONV("a", "") BN("an") CONV("b", ",'kernel':1") BN("bn") IDENTITY ADD("s", "an", "bn") "," ADD("y", "i", "s"),
     2, 0, 0, PAIRS},
	{"without normalisation or bias",
     STEM CONV("a", ",'bias':false") CONV("b", ",'kernel':1,'bias':false") ADD("y", "a", "b"), 2, 0, 0, PAIRS},
	{"kernels of 5 and 3", STEM CONV("a", ",'kernel':5") CONV("b", "") BN("bn") ADD("y", "a", "bn"), 2, 0, 0,
     9 * PAIRS},
	{"an even kernel, with stride 2",
     STEM CONV("a", ",'kernel':2,'padding':0,'stride':2") CONV("b", ",'kernel':1,'stride':2") ADD("y", "a", "b"), 2, 0,
     0, PAIRS / 4},
	{"stride 2", STEM CONV("a", ",'stride':2") BN("an") CONV("b", ",'kernel':1,'stride':2") ADD("y", "an", "b"), 2, 0,
     0, PAIRS / 4},
	{"depthwise",
     STEM CONV("a", ",'depthwise':true") BN("an") CONV("b", ",'kernel':1,'depthwise':true")
         IDENTITY ADD("s", "an", "b") "," ADD("y", "s", "i"),
     2, 0, 0, PAIRS / 8},
	{"two groups", STEM CONV("a", ",'groups':2") BN("an") IDENTITY ADD("y", "an", "i"), 2, 0, 0, 0},
	{"groups that differ", STEM CONV("a", ",'groups':2") BN("an") CONV("b", ",'kernel':1") ADD("y", "an", "b"), 3, 1, 0,
     0},
	{"a residual stays an addition",
     STEM CONV("a", "") BN("an") CONV("b", ",'kernel':1") BN("bn") ADD("s", "an", "bn") "," ADD("y", "s", "r"), 2, 1, 0,
     PAIRS},
	{"two sources", STEM CONV("a", "") BN("an") "{'type':'conv','name':'b','from':'x','kernel':1}," ADD("y", "an", "b"),
     3, 1, 0, 0},
	{"a branch with another reader",
     STEM CONV("a", "") BN("an") CONV("b", ",'kernel':1") BN("bn") ADD("s", "an", "bn") "," ADD("y", "s", "bn"), 3, 2,
     0, 0},
	{"two normalisations, no convolution", STEM "{'type':'batchnorm','name':'j'}," IDENTITY ADD("y", "i", "j"), 1, 1, 2,
     0},
};
enum { NETS = sizeof nets / sizeof *nets };

static void sums(void)
{
	for (size_t i = 0; i < NETS; i++) {
		struct wasd_graph *g = network(nets[i].layers, (struct wasd_shape){3, SIDE, SIDE});
		struct wasd_model *m = valued(g, 10 + i);
		struct folded f = {0};
		check_fold(nets[i].what, m, NULL, &f);
		CHECK_MSG(count(f.graph, &layer_conv) == nets[i].convs, "%s: %d convolutions", nets[i].what,
		          count(f.graph, &layer_conv));
		CHECK_MSG(count(f.graph, &layer_add) == nets[i].adds, "%s: %d additions", nets[i].what,
		          count(f.graph, &layer_add));
		CHECK_MSG(count(f.graph, &layer_batchnorm) == nets[i].bns, "%s: %d normalisations", nets[i].what,
		          count(f.graph, &layer_batchnorm));
		uint64_t saved = wasd_graph_macs(g, NULL) - wasd_graph_macs(f.graph, NULL);
		CHECK_MSG(saved == nets[i].saved, "%s: %llu multiply-adds less", nets[i].what, (unsigned long long)saved);
		folded_done(&f);
		wasd_model_destroy(m);
		wasd_graph_destroy(g);
	}
}

/* ---- under draws --------------------------------------------------------------------------------------------- */

/* Draws of all laws for every convolution with k > 1 that is not depthwise. A drawn branch meets the others only where
 * the taps of both stay together. */
static void under_draws(void)
{
	cJSON *laws = cJSON_Parse("{\"transforms\":[{\"type\":\"translate\",\"x\":0.7,\"y\":0.7},{\"type\":\"scale\"},"
	                          "{\"type\":\"rotate\"}],\"layers\":\"all\"}");
	int folded = 0, apart = 0;
	for (size_t i = 0; i < 6; i++) {
		struct wasd_graph *g = network(nets[i].layers, (struct wasd_shape){3, SIDE, SIDE});
		struct wasd_model *m = valued(g, 10 + i);
		struct wasd_was *w = NULL;
		struct wasd_draw d = {0};
		struct wasd_rng r;
		struct wasd_err err = {0};
		CHECK_MSG(!wasd_was_create(g, laws, "false", &w, &err), "%s", err.msg);
		wasd_rng_init(&r, i, "draws", 0, 0);
		for (int k = 0; k < 25; k++) {
			struct folded f = {0};
			CHECK(!wasd_was_draw(w, &r, &d, &err));
			check_fold(nets[i].what, m, &d.recipe, &f);
			folded += count(f.graph, &layer_add) == 0;
			apart += count(f.graph, &layer_add) > 0;
			folded_done(&f);
		}
		wasd_draw_done(&d);
		wasd_was_destroy(w);
		wasd_model_destroy(m);
		wasd_graph_destroy(g);
	}
	CHECK_MSG(folded > 20 && apart > 20, "%d folded, %d not", folded, apart);
	cJSON_Delete(laws);
}

/* ---- RepVGG -------------------------------------------------------------------------------------------------- */

static void repvgg(void)
{
	cJSON *model = cJSON_Parse("{\"arch\":\"repvgg\",\"width\":25}");
	struct wasd_graph *g = NULL;
	struct folded f = {0};
	CHECK(!wasd_network_build(model, (struct wasd_shape){3, 32, 32}, 10, &g, NULL));
	struct wasd_model *m = valued(g, 3);
	check_fold("repvgg", m, NULL, &f);
	CHECK(count(f.graph, &layer_conv) == 22 && count(f.graph, &layer_add) == 0 &&
	      count(f.graph, &layer_batchnorm) == 0);
	CHECK_INT(wasd_graph_macs(g, NULL), 52922880);
	CHECK_INT(wasd_graph_macs(f.graph, NULL), 47630848);
	folded_done(&f);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	cJSON_Delete(model);
}

/* Every allocation fails once. */
static void without_memory(void)
{
	struct wasd_graph *g = network(nets[0].layers, (struct wasd_shape){3, SIDE, SIDE});
	struct wasd_model *m = valued(g, 1);
	struct folded f = {0};
	uint64_t n = 0;
	while (!f.model && ++n < 500) {
		wasd_mem_fail_at(n);
		enum wasd_status s = fold_network(m, NULL, WASD_STATS_DOM, &f, NULL);
		wasd_mem_fail_at(0);
		CHECK_MSG(s == WASD_ENOMEM || (!s && f.model), "allocation %llu: %s", (unsigned long long)n,
		          wasd_status_name(s));
		CHECK(!s || (!f.graph && !f.model && !f.summed));
	}
	CHECK(f.model && n > 20);
	folded_done(&f);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
}

int main(void)
{
	wasd_threads_init(2, NULL);
	golden = golden_part2();
	TEST_RUN(sums_without_taps);
	TEST_RUN(reparam);
	TEST_RUN(sums);
	TEST_RUN(under_draws);
	TEST_RUN(repvgg);
	TEST_RUN(without_memory);
	cJSON_Delete(golden);
	wasd_threads_done();
	TEST_END();
}
