/* Groups of channels (wasd/channels.h): what is in one group, what is fixed, and that networks of every kind compute
 * the same when the members of every group change places. */
#include "check.h"
#include "wasd/channels.h"
#include "wasd/json.h"
#include "wasd/model.h"

/* Layer i of a list is node i + 1. */
static const char residual[] =
	"{'layers':[{'type':'conv','name':'a','out':6},{'type':'batchnorm'},{'type':'relu','name':'ar'},"
	"{'type':'conv','name':'b','out':4},{'type':'batchnorm','name':'bbn'},{'type':'conv','name':'c','out':6},"
	"{'type':'add','from':['c','ar'],'name':'sum'},{'type':'concat','from':['sum','bbn']},"
	"{'type':'conv','name':'d','out':5,'kernel':1},{'type':'flatten'},"
	"{'type':'linear','name':'fc','out':'classes'}]}";
/* A concatenation added to one layer of its length: the layer's channels are of two groups. */
static const char parts[] = "{'layers':[{'type':'conv','name':'a','out':2},{'type':'conv','name':'b','out':3},"
							"{'type':'concat','name':'ab','from':['a','b']},{'type':'conv','name':'c','out':5},"
							"{'type':'add','from':['ab','c']},{'type':'globalpool'},{'type':'flatten'},"
							"{'type':'linear','name':'fc','out':'classes'}]}";
static const char grouped[] = "{'layers':[{'type':'conv','name':'a','out':6},{'type':'relu6'},"
							  "{'type':'conv','name':'dw','depthwise':true},{'type':'batchnorm'},"
							  "{'type':'conv','name':'g','out':6},{'type':'conv','name':'gg','out':6,'groups':2},"
							  "{'type':'conv','name':'h','out':6},{'type':'maxpool','kernel':2},{'type':'flatten'},"
							  "{'type':'linear','name':'l','out':12},{'type':'relu'},"
							  "{'type':'linear','name':'fc','out':'classes'}]}";
static const char pixels[] = "{'layers':[{'type':'flatten'},{'type':'linear','name':'l','out':9},{'type':'relu'},"
							 "{'type':'linear','name':'fc','out':'classes'}]}";

static struct wasd_graph *network(const char *model)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	char *text = wasd_strdup(model);
	for (char *c = text; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	cJSON *j = cJSON_Parse(text);
	int side = strstr(model, "arch") ? 32 : 8;
	CHECK_MSG(!wasd_network_build(j, (struct wasd_shape){3, side, side}, 5, &g, &err), "%s: %s", model, err.msg);
	cJSON_Delete(j);
	wasd_free(text);
	return g;
}

static struct wasd_channels *channels_of(const struct wasd_graph *g)
{
	struct wasd_channels *c = NULL;
	CHECK(!wasd_channels_create(g, &c, NULL));
	return c;
}

static wasd_node node(const struct wasd_graph *g, const char *name)
{
	for (wasd_node n = 0; n < wasd_graph_nodes(g); n++)
		if (!strcmp(wasd_graph_node_info(g, n).name, name))
			return n;
	CHECK_MSG(false, "%s", name);
	return 0;
}

static int group_of(const struct wasd_channels *c, wasd_node n, int channel)
{
	return wasd_channels_at(c, n, channel).group;
}

/* Channels `first` and up of node n are all members of one group, in their order, `each` channels a member. */
static void is_part(const struct wasd_channels *c, wasd_node n, int first, int count, int each, int group)
{
	CHECK_INT(wasd_channels_size(c, group), count);
	for (int i = 0; i < count * each; i++) {
		struct wasd_channel at = wasd_channels_at(c, n, first + i);
		CHECK_MSG(at.group == group && at.member == i / each, "node %d, channel %d", n, first + i);
	}
}

static void residual_groups(void)
{
	struct wasd_graph *g = network(residual);
	struct wasd_channels *c = channels_of(g);
	int stem = group_of(c, node(g, "a"), 0), inner = group_of(c, node(g, "b"), 0), d = group_of(c, node(g, "d"), 0);
	CHECK_INT(wasd_channels_groups(c), 5); /* with the images and the classes */
	CHECK(stem != inner && inner != d);
	for (wasd_node n = 1; n <= 3; n++)
		is_part(c, n, 0, 6, 1, stem);
	is_part(c, node(g, "c"), 0, 6, 1, stem);
	is_part(c, 7, 0, 6, 1, stem);
	is_part(c, 8, 0, 6, 1, stem);
	is_part(c, 8, 6, 4, 1, inner);
	is_part(c, 10, 0, 5, 64, d);
	CHECK(wasd_channels_fixed(c, group_of(c, 0, 0)) && wasd_channels_fixed(c, group_of(c, node(g, "fc"), 4)));
	CHECK(!wasd_channels_fixed(c, stem) && !wasd_channels_fixed(c, inner) && !wasd_channels_fixed(c, d));
	wasd_channels_destroy(c);
	wasd_graph_destroy(g);
}

static void part_groups(void)
{
	struct wasd_graph *g = network(parts);
	struct wasd_channels *c = channels_of(g);
	int a = group_of(c, node(g, "a"), 0), b = group_of(c, node(g, "b"), 0);
	CHECK(a != b);
	is_part(c, node(g, "c"), 0, 2, 1, a);
	is_part(c, node(g, "c"), 2, 3, 1, b);
	wasd_channels_destroy(c);
	wasd_graph_destroy(g);
}

static void fixed_groups(void)
{
	struct wasd_graph *g = network(grouped);
	struct wasd_channels *c = channels_of(g);
	is_part(c, node(g, "dw"), 0, 6, 1, group_of(c, node(g, "a"), 0));
	CHECK(!wasd_channels_fixed(c, group_of(c, node(g, "dw"), 0)));
	CHECK(wasd_channels_fixed(c, group_of(c, node(g, "g"), 0)) &&
	      wasd_channels_fixed(c, group_of(c, node(g, "gg"), 0)));
	CHECK(!wasd_channels_fixed(c, group_of(c, node(g, "h"), 0)));
	wasd_channels_destroy(c);
	wasd_graph_destroy(g);
	g = network(pixels);
	c = channels_of(g);
	CHECK(wasd_channels_fixed(c, group_of(c, 1, 0)) && wasd_channels_fixed(c, group_of(c, 1, 191)));
	CHECK(!wasd_channels_fixed(c, group_of(c, node(g, "l"), 0)));
	wasd_channels_destroy(c);
	wasd_graph_destroy(g);
}

/* ---- members change places ------------------------------------------------------------------------------------ */

struct places {
	const struct wasd_graph *g;
	const struct wasd_channels *c;
	int **member; /* per group: which member comes to place i */
};

/* source[i]: the channel of node n that comes to place i. */
static int *sources(const struct places *p, wasd_node n)
{
	int count = wasd_graph_node_info(p->g, n).shape.c, *source = wasd_calloc((size_t)count, sizeof *source);
	bool *taken = wasd_calloc((size_t)count, 1);
	for (int i = 0; i < count; i++) {
		struct wasd_channel at = wasd_channels_at(p->c, n, i);
		int from = 0;
		for (; from < count; from++) {
			struct wasd_channel a = wasd_channels_at(p->c, n, from);
			if (!taken[from] && a.group == at.group && a.member == p->member[at.group][at.member])
				break;
		}
		CHECK(from < count);
		taken[from] = true;
		source[i] = from;
	}
	wasd_free(taken);
	return source;
}

/* Values of `row` columns of `taps` each; columns NULL: they stay. */
static void move(real *v, size_t count, int row, const int *rows, const int *columns)
{
	real *old = wasd_calloc(count, sizeof *old);
	memcpy(old, v, count * sizeof *old);
	for (size_t i = 0; i < count; i++) {
		size_t o = i / (size_t)row, k = i % (size_t)row;
		v[i] = old[(size_t)rows[o] * (size_t)row + (columns ? (size_t)columns[k] : k)];
	}
	wasd_free(old);
}

/* For a row of weights: where each of its values comes from. */
static int *row_sources(const int *channels, int n, int taps)
{
	int *k = wasd_calloc((size_t)n * (size_t)taps, sizeof *k);
	for (int i = 0; i < n * taps; i++)
		k[i] = channels[i / taps] * taps + i % taps;
	return k;
}

static void move_node(const struct places *p, wasd_node n, real *w, real *stats)
{
	struct wasd_node_info i = wasd_graph_node_info(p->g, n);
	if (i.weight < 0)
		return;
	struct wasd_param_info info = wasd_graph_param_info(p->g, i.weight);
	int *out = sources(p, n), *in = sources(p, i.inputs[0]), *columns = NULL,
		row = (int)(info.count / (size_t)i.shape.c);
	int ins = wasd_graph_node_info(p->g, i.inputs[0]).shape.c;
	if (info.ndims > 1 && i.groups < 2)
		columns = row_sources(in, ins, row / ins);
	move(w + info.offset, info.count, row, out, columns);
	if (i.bias >= 0)
		move(w + wasd_graph_param_info(p->g, i.bias).offset, (size_t)i.shape.c, 1, out, NULL);
	for (int k = 0; k < wasd_graph_stats(p->g); k++) {
		struct wasd_stats_info s = wasd_graph_stats_info(p->g, k);
		if (strcmp(s.name, i.name))
			continue;
		move(stats + s.mean_offset, (size_t)s.channels, 1, out, NULL);
		move(stats + s.var_offset, (size_t)s.channels, 1, out, NULL);
	}
	wasd_free(out);
	wasd_free(in);
	wasd_free(columns);
}

/* A random order of the members of every group that is not fixed. */
static struct places shuffled(const struct wasd_graph *g, const struct wasd_channels *c)
{
	struct places p = {g, c, wasd_calloc((size_t)wasd_channels_groups(c), sizeof *p.member)};
	struct wasd_rng r;
	wasd_rng_init(&r, 3, "places", 0, 0);
	for (int k = 0; k < wasd_channels_groups(c); k++) {
		size_t n = (size_t)wasd_channels_size(c, k);
		uint32_t *order = wasd_calloc(n, sizeof *order);
		p.member[k] = wasd_calloc(n, sizeof **p.member);
		for (size_t i = 0; i < n; i++)
			order[i] = (uint32_t)i;
		if (!wasd_channels_fixed(c, k))
			wasd_rng_shuffle(&r, order, n);
		for (size_t i = 0; i < n; i++)
			p.member[k][i] = (int)order[i];
		wasd_free(order);
	}
	return p;
}

static void set_values(struct wasd_graph *g, real *w, real *stats, real *x)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 5, "values", 0, 0);
	for (size_t i = 0; i < wasd_shape_count(wasd_graph_input_shape(g)); i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		for (size_t k = 0; p.ndims == 1 && k < p.count; k++)
			w[p.offset + k] += (real)wasd_rng_between(&r, -0.3, 0.3);
	}
	for (size_t i = 0; i < wasd_graph_stats_count(g); i++)
		stats[i] += (real)wasd_rng_between(&r, 0, 0.3);
}

static void logits_stay(const char *model)
{
	struct wasd_graph *g = network(model);
	struct wasd_channels *c = channels_of(g);
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_exec_opts o = {.batch = 1, .precision = WASD_PRECISION_FP32_STRICT, .unmeasured = true};
	struct wasd_pass pass = {.n = 1, .bn = WASD_BN_SET, .set = WASD_STATS_AOM};
	real *x = wasd_calloc(wasd_shape_count(wasd_graph_input_shape(g)), sizeof *x), before[5];
	CHECK(!wasd_model_create(g, 1, &m, NULL) && !wasd_exec_create(m, &o, &e, NULL));
	real *stats = wasd_model_stats(m, WASD_STATS_AOM);
	set_values(g, wasd_model_master(m), stats, x);
	CHECK(!wasd_exec_forward(e, x, &pass, NULL));
	memcpy(before, wasd_exec_logits(e), sizeof before);
	struct places p = shuffled(g, c);
	real first = wasd_model_master(m)[0];
	for (wasd_node n = 1; n < wasd_graph_nodes(g); n++)
		move_node(&p, n, wasd_model_master(m), stats);
	CHECK(wasd_model_master(m)[0] != first);
	CHECK(!wasd_exec_forward(e, x, &pass, NULL));
	for (int i = 0; i < 5; i++)
		CHECK_MSG(fabs((double)(before[i] - wasd_exec_logits(e)[i])) <= 1e-4 * (1 + fabs((double)before[i])),
		          "%s: logit %d: %g, %g", model, i, (double)before[i], (double)wasd_exec_logits(e)[i]);
	for (int k = 0; k < wasd_channels_groups(c); k++)
		wasd_free(p.member[k]);
	wasd_free(p.member);
	wasd_free(x);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_channels_destroy(c);
	wasd_graph_destroy(g);
}

static void any_network(void)
{
	static const char *const networks[] = {residual,
	                                       parts,
	                                       grouped,
	                                       pixels,
	                                       "{'arch':'resnet18'}",
	                                       "{'arch':'mobilenetv2'}",
	                                       "{'arch':'lenet'}",
	                                       "{'arch':'googlenet'}"};
	for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
		logits_stay(networks[i]);
}

/* A stage of a ResNet is one group, and its blocks have one each. */
static void resnet_groups(void)
{
	struct wasd_graph *g = network("{'arch':'resnet18'}");
	struct wasd_channels *c = channels_of(g);
	int free_groups = 0;
	for (int k = 0; k < wasd_channels_groups(c); k++)
		free_groups += !wasd_channels_fixed(c, k);
	CHECK_INT(free_groups, 4 + 8);
	wasd_channels_destroy(c);
	wasd_graph_destroy(g);
}

static void memory(void)
{
	struct wasd_graph *g = network(residual);
	struct wasd_channels *c = NULL;
	enum wasd_status s = WASD_ENOMEM;
	for (uint64_t nth = 1; s; nth++) {
		wasd_mem_fail_at(nth);
		s = wasd_channels_create(g, &c, NULL);
		wasd_mem_fail_at(0);
		CHECK(!s || (s == WASD_ENOMEM && !c));
	}
	wasd_channels_destroy(c);
	wasd_graph_destroy(g);
}

int main(void)
{
	CHECK(!wasd_threads_init(1, NULL));
	TEST_RUN(residual_groups);
	TEST_RUN(part_groups);
	TEST_RUN(fixed_groups);
	TEST_RUN(resnet_groups);
	TEST_RUN(any_network);
	TEST_RUN(memory);
	TEST_END();
}
