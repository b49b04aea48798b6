/* tests/core/quant_make.c - an int8 network from calibration images: types, ranges, weights in one part and in two, and
 * what is refused. */
#include "tiny.h"

#include "graph/graph.h"
#include "infer/fold.h"
#include "quant/make.h"
#include "quant/model.h"
#include "wasd/model.h"

enum { N = 16, IMAGES = 48 };
static struct wasd_dataset *data;
static real x[N * 3 * 16 * 16];

/* A RepVGG block, a max-pool, two branches of a concat, a residual, an average pool, a hidden linear layer. */
static const char net[] =
	"{\"layers\":[{\"type\":\"conv\",\"name\":\"in\",\"out\":8,\"bias\":false},{\"type\":\"batchnorm\"},{\"type\":\"relu\",\"name\":\"r\"},"
	"{\"type\":\"conv\",\"name\":\"c3\",\"bias\":false},{\"type\":\"batchnorm\",\"name\":\"b3\"},"
	"{\"type\":\"conv\",\"name\":\"c1\",\"kernel\":1,\"from\":\"r\",\"bias\":false},{\"type\":\"batchnorm\",\"name\":\"b1\"},"
	"{\"type\":\"batchnorm\",\"name\":\"b0\",\"from\":\"r\"},{\"type\":\"add\",\"name\":\"s\",\"from\":[\"b3\",\"b1\"]},"
	"{\"type\":\"add\",\"from\":[\"s\",\"b0\"]},{\"type\":\"relu\"},{\"type\":\"maxpool\",\"name\":\"p\",\"kernel\":2},"
	"{\"type\":\"conv\",\"name\":\"left\"},{\"type\":\"relu\",\"name\":\"l\"},{\"type\":\"conv\",\"name\":\"right\",\"from\":\"p\"},"
	"{\"type\":\"concat\",\"name\":\"both\",\"from\":[\"l\",\"right\"]},{\"type\":\"conv\",\"name\":\"last\"},{\"type\":\"add\",\"from\":[\"last\",\"both\"]},"
	"{\"type\":\"relu\"},{\"type\":\"avgpool\",\"kernel\":4},{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"hidden\",\"out\":24},{\"type\":\"relu\"},"
	"{\"type\":\"linear\",\"name\":\"fc\",\"out\":\"classes\"}]}";

struct made {
	struct wasd_graph *g;
	struct wasd_model *m;
	struct folded f;
	struct wasd_quant *q;
};

static bool go_on(void *ctx, int done, int of)
{
	int *left = ctx;
	CHECK(done >= 0 && done < of);
	return !left || (*left)--;
}

static enum wasd_status quantise(struct made *k, struct quant_how how, int *left, struct wasd_err *err)
{
	struct wasd_loader *l = NULL;
	CHECK(!wasd_loader_create(&(struct wasd_loader_opts){.data = data, .split = WASD_TRAIN, .batch = N}, &l, err));
	struct quant_images im = {.loader = l, .batches = IMAGES / N, .batch = N, .go_on = go_on, .ctx = left};
	quant_made_destroy(k->q);
	k->q = NULL;
	enum wasd_status s = quant_make(k->f.model, k->f.summed, &im, &how, &k->q, err);
	wasd_loader_destroy(l);
	return s;
}

static real *param(struct made *k, struct wasd_model *m, const char *name)
{
	(void)k;
	const struct wasd_graph *g = wasd_model_graph(m);
	int i = wasd_graph_param_find(g, name);
	CHECK_MSG(i >= 0, "no parameter %s", name);
	return wasd_model_master(m) + wasd_graph_param_info(g, i).offset;
}

/* The identity branch is eight times as large as the others. */
static void build(struct made *k)
{
	struct wasd_err err = {0};
	cJSON *model = cJSON_Parse(net);
	CHECK_MSG(!wasd_network_build(model, (struct wasd_shape){3, 16, 16}, 10, &k->g, &err), "%s", err.msg);
	cJSON_Delete(model);
	CHECK(!wasd_model_create(k->g, 4, &k->m, &err));
	for (int c = 0; c < 8; c++)
		param(k, k->m, "b0.weight")[c] = 8;
	CHECK(!fold_network(k->m, NULL, WASD_STATS_AOM, &k->f, &err));
}

static void done(struct made *k)
{
	quant_made_destroy(k->q);
	folded_done(&k->f);
	wasd_model_destroy(k->m);
	wasd_graph_destroy(k->g);
	*k = (struct made){0};
}

/* Of the folded network; the last of that operation if there is no name. */
static int node_of(const struct made *k, const char *op, const char *name)
{
	int found = -1;
	for (int i = 0; i < k->f.graph->n_nodes; i++)
		if (!strcmp(k->f.graph->nodes[i].layer->op, op) && (!*name || !strcmp(k->f.graph->nodes[i].name, name)))
			found = i;
	CHECK_MSG(found >= 0, "no %s %s", op, name);
	return found;
}

static void types_and_ranges(void)
{
	struct made k = {0};
	struct wasd_err err = {0};
	build(&k);
	CHECK_MSG(!quantise(&k, (struct quant_how){0}, NULL, &err), "%s", err.msg);
	const struct wasd_quant_tensor *t = k.q->tensor;
	CHECK(t[0].type == WASD_QUANT_S8 && t[0].scale == 1.0f / 127);
	const struct node *nodes = k.f.graph->nodes;
	int pool = node_of(&k, "maxpool", ""), concat = node_of(&k, "concat", ""), avg = node_of(&k, "avgpool", ""),
		fc = node_of(&k, "linear", "fc"), hidden = node_of(&k, "linear", "hidden"),
		r = nodes[node_of(&k, "conv", "c3")].inputs[0];
	CHECK(t[r].type == WASD_QUANT_U8 && t[avg].type == WASD_QUANT_U8);
	CHECK(t[pool].type == WASD_QUANT_U8 && t[pool].scale == t[nodes[pool].inputs[0]].scale);
	CHECK(t[concat].type == WASD_QUANT_S8); /* one of its inputs is */
	CHECK(t[nodes[concat].inputs[0]].type == WASD_QUANT_U8 && t[nodes[concat].inputs[1]].type == WASD_QUANT_S8);
	CHECK(t[nodes[concat].inputs[1]].scale == t[concat].scale);
	CHECK(t[fc].type == WASD_QUANT_F32 && !k.q->conv[fc].on && k.q->conv[hidden].on);
	for (int i = 0; i < k.q->nodes; i++)
		CHECK_INT(k.q->conv[i].on, nodes[i].layer == &layer_conv || i == hidden);

	struct wasd_exec *e = NULL; /* the largest value of the first map, found in another way */
	double top = 0;
	CHECK(!wasd_exec_create(k.f.model, &(struct wasd_exec_opts){.batch = 1, .keep_all = true}, &e, &err));
	for (int n = 0; n < IMAGES; n++) {
		real image[3 * 256], map[8 * 256];
		wasd_normalise(&wasd_pixels_half, (struct wasd_shape){3, 16, 16},
		               wasd_dataset_image(data, WASD_TRAIN, (size_t)n), image);
		CHECK(
			!wasd_exec_forward(e, image, &(struct wasd_pass){.n = 1, .bn = WASD_BN_SET, .set = WASD_STATS_AOM}, &err) &&
			!wasd_exec_activation(e, r, map, &err));
		for (int i = 0; i < 8 * 256; i++)
			top = fmax(top, (double)map[i]);
	}
	CHECK_NEAR((double)t[r].scale * 255, top, 1e-5 * top);
	wasd_exec_destroy(e);
	done(&k);
}

/* Mean square error of the logits beside the float ones, as a share of those. */
static double logits_off(struct made *k)
{
	struct wasd_exec *e = NULL;
	real got[N * 10];
	double off = 0, all = 0;
	struct wasd_err err = {0};
	CHECK(!wasd_exec_create(k->f.model, &(struct wasd_exec_opts){.batch = N}, &e, &err) &&
	      !wasd_exec_forward(e, x, &(struct wasd_pass){.n = N, .bn = WASD_BN_SET, .set = WASD_STATS_AOM}, &err));
	CHECK_MSG(!quant_model_run(k->f.model, k->q, x, N, got, &err), "%s", err.msg);
	for (int i = 0; i < N * 10; i++) {
		off += pow((double)got[i] - (double)wasd_exec_logits(e)[i], 2);
		all += pow((double)wasd_exec_logits(e)[i], 2);
	}
	wasd_exec_destroy(e);
	return sqrt(off / all);
}

static double weights_off(const struct made *k, int node)
{
	const struct node *n = &k->f.graph->nodes[node];
	const struct wasd_quant_conv *c = &k->q->conv[node];
	const real *w = wasd_model_weights(k->f.model, n->weight);
	double off = 0;
	for (int o = 0; o < n->out; o++)
		for (int i = 0; i < n->in.c * 9; i++) {
			double got = c->w[o * n->in.c * 9 + i] * (double)c->scale[o];
			if (c->coarse && i % 9 == 4)
				got += c->coarse[o * n->in.c + i / 9] * (double)c->coarse_scale[o];
			double e = got - (double)w[o * n->in.c * 9 + i];
			CHECK(fabs(e) <= (double)c->scale[o] * 0.5001);
			off += e * e;
		}
	return off;
}

static void in_two_parts(void)
{
	struct made k = {0};
	struct wasd_err err = {0};
	build(&k);
	int sum = node_of(&k, "conv", "c3");
	CHECK(k.f.summed[sum]);
	CHECK_MSG(!quantise(&k, (struct quant_how){0}, NULL, &err), "%s", err.msg);
	double plain = weights_off(&k, sum), plain_logits = logits_off(&k);
	CHECK_MSG(!quantise(&k, (struct quant_how){.split = true}, NULL, &err), "%s", err.msg);
	double split = weights_off(&k, sum), split_logits = logits_off(&k);
	for (int i = 0; i < k.q->nodes; i++)
		CHECK_INT(k.q->conv[i].coarse != NULL, i == sum);
	CHECK_MSG(split < plain / 20, "error %g, in one part %g", split, plain);
	CHECK_MSG(split_logits < plain_logits && plain_logits < 0.1, "logits %g off, in one part %g", split_logits,
	          plain_logits);
	printf("# weights: squared error %.2g in two parts, %.2g in one; logits %.2g and %.2g off\n", split, plain,
	       split_logits, plain_logits);
	done(&k);
}

static void clipped_ranges(void)
{
	struct made k = {0}, all = {0};
	struct wasd_err err = {0};
	build(&k);
	build(&all);
	CHECK(!quantise(&all, (struct quant_how){0}, NULL, &err));
	for (int rule = QUANT_KL; rule <= QUANT_KL_CLIP; rule++) {
		int smaller = 0;
		CHECK_MSG(!quantise(&k, (struct quant_how){.ranges = (enum quant_ranges)rule}, NULL, &err), "%s", err.msg);
		for (int i = 0; i < k.q->nodes; i++) {
			CHECK(k.q->tensor[i].type == all.q->tensor[i].type && k.q->tensor[i].scale <= all.q->tensor[i].scale);
			smaller += k.q->tensor[i].scale < all.q->tensor[i].scale;
		}
		CHECK(smaller > 2 && k.q->tensor[0].scale == all.q->tensor[0].scale);
		CHECK_MSG(logits_off(&k) < 0.03, "logits %g off", logits_off(&k));
	}
	done(&k);
	done(&all);
}

static void refusals(void)
{
	struct made k = {0};
	struct wasd_err err = {0};
	int left = 2;
	build(&k);
	CHECK_INT(quantise(&k, (struct quant_how){0}, &left, &err), WASD_ECANCELLED);
	CHECK(!k.q);
	param(&k, k.f.model, "right.weight")[5] = NAN;
	CHECK_INT(quantise(&k, (struct quant_how){0}, NULL, &err), WASD_ENUMERIC);
	CHECK_MSG(strstr(err.msg, "right"), "%s", err.msg);
	done(&k);
}

int main(void)
{
	char path[96];
	wasd_threads_init(2, NULL);
	tiny_begin();
	data = tiny_glyphs("quant", IMAGES, N, 16, path);
	for (size_t i = 0; i < N; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(data), wasd_dataset_image(data, WASD_TEST, i),
		               x + i * 768);
	TEST_RUN(types_and_ranges);
	TEST_RUN(in_two_parts);
	TEST_RUN(clipped_ranges);
	TEST_RUN(refusals);
	wasd_dataset_close(data);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
