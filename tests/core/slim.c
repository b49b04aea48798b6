/* tests/core/slim.c - surgery on networks with dead channels: the same logits from every kind of network, evaluated and
 * on statistics of the batch; multiply-adds by the formula; blocks and single elements where they belong; ResNet-18 of
 * half the inner widths; what is refused. */
#include "check.h"

#include "wasd/alive.h"
#include "graph/graph.h"
#include "wasd/slim.h"
#include "wasd/model.h"

#define DOUBLE (sizeof(real) == 8)
/* Of the largest logit: narrower kernels add in another order. Statistics of two images amplify that, most on 1x1 maps.
 */
#define TOLERANCE (DOUBLE ? 1e-12 : 1e-5)
#define TOLERANCE_BATCH 1e-6
enum { IMAGES = 2 };

/* ---- a network with dead channels -----------------------------------------------------------------------------------
 */

struct net {
	struct wasd_graph *g;
	struct wasd_model *m;
	struct wasd_alive *alive;
	const uint8_t **sets;
	struct wasd_slim *slim;
	struct wasd_model *small;
};

static void net_done(struct net *n)
{
	wasd_model_destroy(n->small);
	wasd_slim_destroy(n->slim);
	wasd_free(n->sets);
	wasd_alive_destroy(n->alive);
	wasd_model_destroy(n->m);
	wasd_graph_destroy(n->g);
	*n = (struct net){0};
}

/* Statistics and the numbers of BatchNorm as a trained network has them. */
static void randomise(struct net *n)
{
	struct wasd_rng r;
	real *master = wasd_model_master(n->m);
	wasd_rng_init(&r, 11, "slim", 0, 0);
	for (wasd_node i = 0; i < n->g->n_nodes; i++) {
		const struct node *nd = &n->g->nodes[i];
		if (nd->stats < 0)
			continue;
		for (int c = 0; c < nd->shape.c; c++) {
			master[n->g->params[nd->weight].offset + (size_t)c] = (real)wasd_rng_between(&r, 0.5, 1.5);
			master[n->g->params[nd->bias].offset + (size_t)c] = (real)wasd_rng_between(&r, -0.3, 0.3);
			for (int set = 0; set < WASD_STATS_SETS; set++) {
				real *stats = wasd_model_stats(n->m, set) + n->g->stats[nd->stats].offset;
				stats[c] = (real)wasd_rng_between(&r, -0.2, 0.2);
				stats[nd->shape.c + c] = (real)wasd_rng_between(&r, 0.3, 2);
			}
		}
	}
}

static void clear(struct net *n, int param, int row)
{
	if (param < 0)
		return;
	const struct param *p = &n->g->params[param];
	size_t length = p->count / (size_t)p->dims[0];
	memset(wasd_model_master(n->m) + p->offset + (size_t)row * length, 0, length * sizeof(real));
}

/* Zeroes all that writes the channels of dead units: filters, biases, scales and shifts. */
static void kill_units(struct net *n, const bool *dead)
{
	for (wasd_node i = 1; i < n->g->n_nodes; i++) {
		const struct node *nd = &n->g->nodes[i];
		for (int c = 0; c < nd->shape.c; c++)
			if (nd->weight >= 0 && dead[wasd_alive_unit(n->alive, i)[c]]) {
				clear(n, nd->weight, c);
				clear(n, nd->bias, c);
			}
	}
}

static void cut(struct net *n)
{
	struct wasd_err err = {0};
	wasd_alive_update(n->alive, wasd_model_master(n->m), wasd_model_stats(n->m, WASD_STATS_AOM));
	n->sets = wasd_calloc((size_t)n->g->n_nodes, sizeof *n->sets);
	for (wasd_node i = 0; i < n->g->n_nodes; i++)
		n->sets[i] = wasd_alive_of(n->alive, i);
	CHECK_MSG(!wasd_slim_create(n->g, n->sets, "net-slim", &n->slim, &err), "%s", err.msg);
	if (!n->slim)
		return;
	CHECK_MSG(!wasd_slim_carry(n->slim, n->m, &n->small, &err), "%s", err.msg);
}

/* A net of graph g, whose units that may go are dead with probability p. */
static struct net make(struct wasd_graph *g, double p)
{
	struct net n = {.g = g};
	struct wasd_err err = {0};
	struct wasd_rng r;
	CHECK(!wasd_model_create(g, 3, &n.m, &err));
	CHECK(!wasd_alive_create(g, NULL, NULL, &n.alive, &err));
	randomise(&n);
	wasd_rng_init(&r, 4, "dead", 0, 0);
	int units = wasd_alive_units(n.alive);
	bool *dead = wasd_calloc((size_t)units, sizeof *dead);
	for (int u = g->nodes[0].shape.c; u < units; u++)
		dead[u] = !wasd_alive_fixed(n.alive, u) && wasd_rng_uniform(&r) < p;
	kill_units(&n, dead);
	wasd_free(dead);
	cut(&n);
	return n;
}

static void logits(struct wasd_model *m, enum wasd_bn bn, const real *x, real *out)
{
	const struct wasd_graph *g = wasd_model_graph(m);
	struct wasd_exec *e = NULL;
	struct wasd_err err = {0};
	struct wasd_exec_opts o = {.batch = IMAGES, .training = bn == WASD_BN_BATCH, .unmeasured = true};
	CHECK_MSG(!wasd_exec_create(m, &o, &e, &err), "%s", err.msg);
	struct wasd_pass pass = {.n = IMAGES, .bn = bn, .set = WASD_STATS_AOM};
	CHECK_MSG(!wasd_exec_forward(e, x, &pass, &err), "%s", err.msg);
	memcpy(out, wasd_exec_logits(e), (size_t)(IMAGES * wasd_graph_classes(g)) * sizeof *out);
	wasd_exec_destroy(e);
}

/* Both networks give the same logits with the statistics of the set. */
static void same_logits(const char *name, const struct net *n, enum wasd_bn bn)
{
	size_t count = (size_t)(IMAGES * wasd_graph_classes(n->g)),
		   pixels = IMAGES * wasd_shape_count(wasd_graph_input_shape(n->g));
	real *x = wasd_calloc(pixels, sizeof *x), *a = wasd_calloc(count, sizeof *a), *b = wasd_calloc(count, sizeof *b);
	struct wasd_rng r;
	double largest = 0, worst = 0;
	wasd_rng_init(&r, 9, "x", 0, 0);
	for (size_t i = 0; i < pixels; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	logits(n->m, bn, x, a);
	logits(n->small, bn, x, b);
	for (size_t i = 0; i < count; i++) {
		largest = fmax(largest, fabs((double)a[i]));
		worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
	}
	double tolerance = bn == WASD_BN_SET ? TOLERANCE : TOLERANCE_BATCH;
	CHECK_MSG(largest > 0 && worst <= tolerance * largest, "%s, %s: logits of up to %g differ by %g", name,
	          bn == WASD_BN_SET ? "stored statistics" : "statistics of the batch", largest, worst);
	wasd_free(x);
	wasd_free(a);
	wasd_free(b);
}

/* macs' = macs * kept_in/in * kept_out/out, one factor for a depthwise convolution. */
static void macs_by_formula(const char *name, const struct net *n)
{
	for (wasd_node i = 1; i < n->g->n_nodes; i++) {
		struct wasd_node_info whole = wasd_graph_node_info(n->g, i),
							  small = wasd_graph_node_info(wasd_slim_graph(n->slim), i);
		int out, in;
		wasd_slim_channels(n->slim, i, &out);
		wasd_slim_channels(n->slim, whole.inputs[0], &in);
		uint64_t want = whole.macs * (uint64_t)out / (uint64_t)whole.shape.c;
		if (whole.groups < 2)
			want = want * (uint64_t)in / (uint64_t)n->g->nodes[i].in.c;
		CHECK_MSG(!whole.macs || small.macs == want, "%s, %s", name, whole.name);
		CHECK_STR(small.op, whole.op);
		CHECK_MSG(small.shape.c == out, "%s, node %d", name, i);
	}
	CHECK_INT(wasd_graph_macs(wasd_slim_graph(n->slim), NULL), wasd_alive_macs(n->alive));
}

/* Every parameter comes from that of the same name, or an alpha from its element of a vector. */
static void places(const char *name, const struct net *n)
{
	const struct wasd_graph *g = wasd_slim_graph(n->slim);
	size_t most = wasd_graph_param_count(n->g);
	real *whole = wasd_calloc(most, sizeof *whole), *small = wasd_calloc(wasd_graph_param_count(g), sizeof *small);
	for (size_t i = 0; i < most; i++)
		whole[i] = (real)(i % 9973);
	wasd_slim_copy_params(n->slim, whole, small);
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		struct wasd_slim_part part = wasd_slim_param(n->slim, i);
		size_t len = strlen(p.name);
		bool alpha = len > 6 && !strcmp(p.name + len - 6, ".alpha");
		const char *from = part.from < 0 ? "" : wasd_graph_param_info(n->g, part.from).name;
		CHECK_MSG(alpha || !strcmp(from, p.name), "%s: %s comes from %s", name, p.name, from);
		CHECK_INT((size_t)part.rows * (size_t)part.columns * part.taps, p.count);
		size_t offset = wasd_graph_param_info(n->g, part.from).offset, before = 0, here;
		for (size_t k = 0; k < p.count; k++, before = here) {
			here = offset + wasd_slim_element(&part, k);
			CHECK(here < offset + wasd_graph_param_info(n->g, part.from).count && (!k || here > before));
			CHECK(small[p.offset + k] == (real)(here % 9973));
		}
	}
	wasd_free(whole);
	wasd_free(small);
}

static void all_of(const char *name, struct wasd_graph *g, double p)
{
	struct net n = make(g, p);
	if (n.slim) {
		CHECK_MSG(wasd_slim_removed(n.slim) > 0, "%s", name);
		CHECK_STR(wasd_network_name(wasd_slim_model(n.slim)), "net-slim");
		same_logits(name, &n, WASD_BN_SET);
		if (DOUBLE)
			same_logits(name, &n, WASD_BN_BATCH);
		macs_by_formula(name, &n);
		places(name, &n);
	}
	net_done(&n);
}

static void published(void)
{
	const struct wasd_arch *a;
	struct wasd_err err = {0};
	for (int i = 0; (a = wasd_arch_at(i)); i++) {
		struct wasd_graph *g = NULL;
		int side = a->sides[0] ? a->sides[0] : a->min_side;
		CHECK_MSG(!wasd_arch_build(a->name, (struct wasd_shape){3, side, side}, 10, NULL, &g, &err), "%s", err.msg);
		all_of(a->name, g, 0.3);
	}
}

/* ---- networks of layers ---------------------------------------------------------------------------------------------
 */

static struct wasd_graph *own(const char *layers, struct wasd_shape in, int classes)
{
	char *text = wasd_asprintf("{\"layers\":[%s]}", layers);
	cJSON *j = NULL;
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_json_parse(text, strlen(text), WASD_JSON_REQUEST, &j, NULL), "%s", text);
	CHECK_MSG(!wasd_network_build(j, in, classes, &g, &err), "%s", err.msg);
	cJSON_Delete(j);
	wasd_free(text);
	return g;
}

static const struct wasd_shape small_image = {3, 8, 8};
#define END "{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"fc\",\"out\":\"classes\"}"

static const struct {
	const char *why, *layers;
} mixed[] = {
	{"flatten of maps: a channel is 16 inputs of a linear layer",
     "{\"type\":\"conv\",\"name\":\"a\",\"out\":12},{\"type\":\"relu\"},{\"type\":\"avgpool\",\"kernel\":2},{\"type\":\"flatten\"},"
     "{\"type\":\"linear\",\"name\":\"b\",\"out\":20,\"bias\":false},{\"type\":\"relu6\"},{\"type\":\"dropout\"},"
     "{\"type\":\"linear\",\"name\":\"fc\",\"out\":\"classes\"},{\"type\":\"relu\"}"},
	{"concat of cut and uncut parts, also of the images, read by a depthwise convolution",
     "{\"type\":\"conv\",\"name\":\"a\",\"out\":9,\"kernel\":1},{\"type\":\"conv\",\"name\":\"b\",\"out\":5,\"from\":\"input\"},"
     "{\"type\":\"concat\",\"name\":\"c\",\"from\":[\"a\",\"input\",\"b\"]},{\"type\":\"conv\",\"name\":\"d\",\"depthwise\":true,\"stride\":2},"
     "{\"type\":\"batchnorm\"},{\"type\":\"relu\"}," END},
	{"names that layers without parameters would get are taken",
     "{\"type\":\"conv\",\"name\":\"relu2\",\"out\":8},{\"type\":\"relu\",\"name\":\"x\"},{\"type\":\"conv\",\"name\":\"add4\",\"out\":8},"
     "{\"type\":\"add\",\"from\":[\"x\",\"add4\"]},{\"type\":\"relu\",\"name\":\"y\"}," END},
	{"a grouped convolution between cut layers keeps all it touches",
     "{\"type\":\"conv\",\"name\":\"a\",\"out\":8},{\"type\":\"conv\",\"name\":\"b\",\"out\":8},{\"type\":\"conv\",\"name\":\"g\",\"out\":8,\"groups\":2},"
     "{\"type\":\"conv\",\"name\":\"c\",\"out\":8,\"augment\":true},{\"type\":\"globalpool\"}," END},
};

static void layers(void)
{
	for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++)
		all_of(mixed[i].why, own(mixed[i].layers, small_image, 10), 0.4);
}

/* Without dead channels, the same network; with all that may go dead, one channel of each layer stays. */
static void extremes(void)
{
	struct net n = make(own(mixed[0].layers, small_image, 10), 0);
	CHECK_INT(wasd_slim_removed(n.slim), 0);
	CHECK_INT(wasd_graph_param_count(wasd_slim_graph(n.slim)), wasd_graph_param_count(n.g));
	CHECK(!memcmp(wasd_model_master(n.small), wasd_model_master(n.m), wasd_graph_param_count(n.g) * sizeof(real)));
	net_done(&n);
	n = make(own(mixed[0].layers, small_image, 10), 1);
	CHECK_INT(wasd_graph_param_info(wasd_slim_graph(n.slim), 0).dims[0], 1);
	same_logits("all dead", &n, WASD_BN_SET);
	net_done(&n);
}

/* ---- figures that are known ---- */

/* strategies part1.json, f_network_adjustment: ResNet-18 with all inner widths halved. */
static void halved_resnet18(void)
{
	struct net n = {0};
	struct wasd_err err = {0};
	CHECK(!wasd_arch_build("resnet18", (struct wasd_shape){3, 32, 32}, 10, NULL, &n.g, &err));
	CHECK(!wasd_model_create(n.g, 3, &n.m, &err) && !wasd_alive_create(n.g, NULL, NULL, &n.alive, &err));
	randomise(&n);
	bool *dead = wasd_calloc((size_t)wasd_alive_units(n.alive), sizeof *dead);
	for (wasd_node i = 1; i < n.g->n_nodes; i++) {
		const struct node *nd = &n.g->nodes[i];
		for (int c = 0; strstr(nd->name, ".conv1") && c < nd->shape.c / 2; c++)
			dead[wasd_alive_unit(n.alive, i)[2 * c]] = true;
	}
	kill_units(&n, dead);
	wasd_free(dead);
	cut(&n);
	CHECK_INT(wasd_graph_macs(n.g, NULL), 605754368);
	CHECK_INT(wasd_graph_macs(wasd_slim_graph(n.slim), NULL), 332076032);
	CHECK_INT(wasd_graph_augs(wasd_slim_graph(n.slim)), wasd_graph_augs(n.g));
	int kept;
	const int *at = wasd_slim_channels(n.slim, n.g->augs[1].conv, &kept);
	CHECK_STR(n.g->nodes[n.g->augs[1].conv].name, "layer1.0.conv1");
	CHECK(kept == 32 && at[0] == 1 && at[31] == 63);
	net_done(&n);
}

/* d_induced_feature_selection, dead_unit_fixpoint: unit 4 gives nothing, nobody reads unit 0 and then feature 3. */
static void fixpoint(void)
{
	static const real w1[5][6] = {{-15, 0, 0, 6, 13, 0},
	                              {-4, 0, 0, 0, -7, 0},
	                              {7, 0, 0, 0, 4, 0},
	                              {-13, 0, 0, 0, 15, 0}};
	static const real w2[3][5] = {{0, -1, 4, -4, 1}, {0, -2, 3, -5, 1}, {0, -3, 2, -6, -1}};
	static const real want[IMAGES][3] = {{-554, -706, -858}, {196, 147, 98}};
	real x[IMAGES * 6], out[IMAGES * 3];
	uint8_t used[6];
	struct net n = {
		.g = own("{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":5,\"bias\":false},{\"type\":\"relu\"},"
	             "{\"type\":\"linear\",\"out\":\"classes\",\"bias\":false}",
	             (struct wasd_shape){1, 2, 3}, 3)};
	struct wasd_err err = {0};
	for (int i = 0; i < IMAGES * 6; i++)
		x[i] = (real)(11 * i % 17 - 8);
	CHECK(!wasd_model_create(n.g, 3, &n.m, &err) && !wasd_alive_create(n.g, NULL, NULL, &n.alive, &err));
	memcpy(wasd_model_master(n.m), w1, sizeof w1);
	memcpy(wasd_model_master(n.m) + n.g->params[1].offset, w2, sizeof w2);
	cut(&n);
	int kept;
	const int *units = wasd_slim_channels(n.slim, 2, &kept);
	CHECK(kept == 3 && units[0] == 1 && units[2] == 3);
	wasd_slim_input(n.g, n.sets, used);
	CHECK(!memcmp(used, (const uint8_t[]){1, 0, 0, 0, 1, 0}, sizeof used));
	logits(n.small, WASD_BN_SET, x, out);
	for (int i = 0; i < IMAGES * 3; i++)
		CHECK_NEAR(out[i], want[i / 3][i % 3], 0);
	net_done(&n);
}

/* ---- refusals
 * ---------------------------------------------------------------------------------------------------------- */

static void refused(struct wasd_graph *g, const char *node, int c, enum wasd_status status, const char *says)
{
	struct wasd_err err = {0};
	struct wasd_slim *s = NULL;
	uint8_t **sets = wasd_calloc((size_t)g->n_nodes, sizeof *sets);
	for (wasd_node i = 0; i < g->n_nodes; i++) {
		sets[i] = wasd_calloc((size_t)g->nodes[i].shape.c, 1);
		memset(sets[i], 1, (size_t)g->nodes[i].shape.c);
		if (!strcmp(g->nodes[i].name, node) || (!*g->nodes[i].name && !strcmp(g->nodes[i].layer->op, node)))
			sets[i][c] = 0;
	}
	CHECK_INT(wasd_slim_create(g, (const uint8_t *const *)sets, "net-slim", &s, &err), status);
	CHECK_MSG(!s && strstr(err.msg, says) == err.msg, "%s", err.msg);
	for (wasd_node i = 0; i < g->n_nodes; i++)
		wasd_free(sets[i]);
	wasd_free(sets);
	wasd_graph_destroy(g);
}

static const char whole_net[] =
	"{\"type\":\"conv\",\"name\":\"a\",\"out\":8},{\"type\":\"batchnorm\",\"name\":\"bn\"},{\"type\":\"relu\",\"name\":\"r\"},"
	"{\"type\":\"conv\",\"name\":\"g\",\"groups\":2},{\"type\":\"conv\",\"name\":\"b\",\"kernel\":1},"
	"{\"type\":\"add\",\"name\":\"s\",\"from\":[\"b\",\"r\"]},{\"type\":\"concat\",\"from\":[\"s\",\"input\"]},{\"type\":\"globalpool\"}," END;

static void refusals(void)
{
	static const struct {
		const char *node, *says;
	} rows[] = {
		{"a", "bn: other channels are alive in its output than in an input"},
		{"bn", "bn: other channels"},
		{"g", "g: its channels cannot be removed"},
		{"b", "add: other channels"},
		{"add", "add: other channels"},
		{"concat", "concat: other channels are alive in its output than in its inputs"},
		{"input", "concat: other channels"},
		{"fc", "fc: a class cannot be removed"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		refused(own(whole_net, small_image, 10), rows[i].node, 2, WASD_EINVAL, rows[i].says);
	/* What a bundle has, but no job's list. */
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	CHECK(!wasd_graph_create(small_image, &g, &err));
	wasd_node x = wasd_graph_conv_rect(g, wasd_graph_input(g), "a", 4, 3, 2, 1, 1, 0, 8, 8, 1, true);
	x = wasd_graph_linear(g, wasd_graph_flatten(g, x), "fc", 10, true);
	CHECK(!wasd_graph_finish(g, x, &err));
	refused(g, "none", 0, WASD_EUNSUPPORTED, "a: a layer of a job's own list cannot be like it");
	CHECK(!wasd_graph_create(small_image, &g, &err));
	x = wasd_graph_boxsum(g, wasd_graph_input(g), 2, 2, 1, 0, 0, 8, 8);
	x = wasd_graph_linear(g, wasd_graph_flatten(g, x), "fc", 10, true);
	CHECK(!wasd_graph_finish(g, x, &err));
	refused(g, "none", 0, WASD_EUNSUPPORTED, "boxsum: layers of this type");
}

static void names(void)
{
	char out[WASD_SLIM_NAME];
	struct wasd_graph *g = own(mixed[0].layers, small_image, 10);
	struct wasd_err err = {0};
	struct wasd_slim *s = NULL;
	wasd_slim_name("resnet18", out);
	CHECK_STR(out, "resnet18-slim");
	wasd_slim_name("resnet18-slim", out);
	CHECK_STR(out, "resnet18-slim");
	wasd_slim_name("012345678901234567890123456789012345678901234567890123456789012", out);
	CHECK_STR(out, "0123456789012345678901234567890123456789012345678901234567-slim");
	struct net n = make(g, 0.2);
	CHECK(!wasd_slim_of(g, wasd_model_master(n.m), wasd_model_stats(n.m, WASD_STATS_AOM), "again", &s, &err));
	CHECK(wasd_slim_removed(s) == wasd_slim_removed(n.slim) &&
	      cJSON_Compare(wasd_json_get(wasd_slim_model(s), "layers"), wasd_json_get(wasd_slim_model(n.slim), "layers"),
	                    true));
	wasd_slim_destroy(s);
	s = NULL;
	CHECK_INT(wasd_slim_create(g, n.sets, "resnet18", &s, &err), WASD_EINVAL);
	CHECK(!s && strstr(err.msg, "published"));
	net_done(&n);
}

/* Every allocation may fail: no leak, no half-made network. */
static void memory(void)
{
	struct net n = make(own(mixed[1].layers, small_image, 10), 0.3);
	struct wasd_err err = {0};
	struct wasd_slim *s = NULL;
	uint64_t nth = 1;
	struct wasd_mem_stats before = wasd_mem_stats();
	for (;; nth++) {
		wasd_mem_fail_at(nth);
		enum wasd_status st = wasd_slim_create(n.g, n.sets, "net-slim", &s, &err);
		wasd_mem_fail_at(0);
		if (!st)
			break;
		CHECK_INT(st, WASD_ENOMEM);
	}
	wasd_slim_destroy(s);
	struct wasd_mem_stats after = wasd_mem_stats();
	CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
	CHECK(nth > 30);
	net_done(&n);
}

int main(void)
{
	CHECK(!wasd_threads_init(1, NULL));
	TEST_RUN(layers);
	TEST_RUN(published);
	CHECK(!wasd_threads_init(2, NULL));
	TEST_RUN(layers);
	TEST_RUN(extremes);
	TEST_RUN(halved_resnet18);
	TEST_RUN(fixpoint);
	TEST_RUN(refusals);
	TEST_RUN(names);
	TEST_RUN(memory);
	TEST_END();
}
