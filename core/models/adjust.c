/* models/adjust.c - see adjust.h. */
#include "models/adjust.h"
#include "graph/graph.h"
#include "models/models.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 20
#define NEAR 0.01

/* ---- the widths of a network ------------------------------------------------------------------------------------ */

/* The convolution whose channels node x has, one for one; NULL: there is none, or it is one of several. */
static const struct node *source(const struct wasd_graph *g, wasd_node x)
{
	const struct node *n = &g->nodes[x];
	while (n->n_in == 1 && (n->layer->channels == LAYER_CHANNELS_SAME || n->layer->channels == LAYER_CHANNELS_SCALED))
		n = &g->nodes[n->inputs[0]];
	return n->layer == &layer_conv && n->groups == 1 ? n : NULL;
}

/* The place in "layers" of the layer of that name, which it may have by default (models/own.c). */
static int place(const cJSON *layers, const char *name)
{
	const cJSON *one;
	const char *given, *type;
	char own[80];
	int i = 0;
	cJSON_ArrayForEach(one, layers) {
		wasd_json_str(one, "type", &type);
		snprintf(own, sizeof own, "%.30s%d", type, i);
		if (!strcmp(wasd_json_str(one, "name", &given) ? given : own, name))
			return i;
		i++;
	}
	return -1;
}

static enum wasd_status add_width(struct adjust_net *a, const struct wasd_graph *g, wasd_node drop,
                                  struct wasd_err *err)
{
	const cJSON *layers = wasd_json_get(a->model, "layers");
	const struct node *conv = source(g, drop);
	int at = conv ? place(layers, conv->name) : -1;
	if (at < 0 || !cJSON_IsNumber(wasd_json_get(cJSON_GetArrayItem(layers, at), "out")))
		return wasd_fail_at(err, WASD_EINVAL, "/model/layers",
		                    "a dropchannel must follow one convolution of a given width, without groups");
	if (conv->shape.c < ADJUST_LEAST)
		return wasd_fail_at(err, WASD_EINVAL, "/model/layers", "%s: a width to adjust must be at least %d", conv->name,
		                    ADJUST_LEAST);
	for (int i = 0; i < a->n; i++)
		if (a->width[i].layer == at)
			return wasd_fail_at(err, WASD_EINVAL, "/model/layers", "%s: two dropchannel follow it", conv->name);
	a->channels[a->n] = conv->shape.c;
	a->width[a->n++] = (struct adjust_width){at, drop};
	return WASD_OK;
}

enum wasd_status adjust_find(const cJSON *model, const struct wasd_graph *g, struct adjust_net *out,
                             struct wasd_err *err)
{
	struct adjust_net a = {.model = model, .in = wasd_graph_input_shape(g), .classes = wasd_graph_classes(g)};
	size_t room = (size_t)g->n_nodes;
	if (!wasd_json_get(model, "layers"))
		return wasd_fail_at(err, WASD_EINVAL, "/adjust", "needs a network given by its layers");
	a.width = wasd_calloc(room, sizeof *a.width);
	a.channels = wasd_calloc(room, sizeof *a.channels);
	enum wasd_status s = a.width && a.channels ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "adjust");
	for (wasd_node i = 0; !s && i < g->n_nodes; i++)
		if (g->nodes[i].layer == &layer_dropchannel)
			s = add_width(&a, g, i, err);
	if (!s && !a.n)
		s = wasd_fail_at(err, WASD_EINVAL, "/adjust", "needs a dropchannel behind each width that may change");
	if (s)
		adjust_net_done(&a);
	else
		*out = a;
	return s;
}

void adjust_net_done(struct adjust_net *a)
{
	wasd_free(a->width);
	wasd_free(a->channels);
	*a = (struct adjust_net){0};
}

cJSON *adjust_model(const struct adjust_net *a, const int *channels)
{
	cJSON *j = cJSON_Duplicate(a->model, true), *layers = cJSON_GetObjectItemCaseSensitive(j, "layers");
	for (int i = 0; layers && i < a->n; i++) {
		cJSON *layer = cJSON_GetArrayItem(layers, a->width[i].layer);
		cJSON_SetNumberValue(cJSON_GetObjectItemCaseSensitive(layer, "out"), channels[i]);
	}
	return j;
}

enum wasd_status adjust_macs(const struct adjust_net *a, const int *channels, uint64_t *macs, struct wasd_err *err)
{
	struct wasd_graph *g = NULL;
	cJSON *model = adjust_model(a, channels);
	enum wasd_status s = model ? own_build(model, a->in, a->classes, &g, err) : wasd_fail(err, WASD_ENOMEM, "adjust");
	if (!s)
		*macs = wasd_graph_macs(g, NULL);
	wasd_graph_destroy(g);
	cJSON_Delete(model);
	return s;
}

enum wasd_status adjust_costs(const struct adjust_net *a, double *m, struct wasd_err *err)
{
	uint64_t before, after;
	enum wasd_status s = adjust_macs(a, a->channels, &before, err);
	for (int i = 0; !s && i < a->n; i++) {
		a->channels[i]++;
		s = adjust_macs(a, a->channels, &after, err);
		a->channels[i]--;
		if (!s)
			m[i] = (double)a->channels[i] * (double)(after - before);
	}
	return s;
}

/* ---- the rules -------------------------------------------------------------------------------------------------- */

bool adjust_rates(double base, const double *m, int n, double *rates)
{
	double sum = 0;
	bool all = true;
	for (int i = 0; i < n; i++)
		sum += m[i];
	for (int i = 0; i < n; i++) {
		rates[i] = base * (sum / n) / m[i];
		all &= rates[i] <= ADJUST_RATE_MAX;
		rates[i] = fmin(rates[i], ADJUST_RATE_MAX);
	}
	return all;
}

int adjust_count(double update, double decay, int i)
{
	return (int)fmax(rint(update - i * decay), 0);
}

static int by_fur(const void *a, const void *b, void *ctx)
{
	int x = *(const int *)a, y = *(const int *)b;
	const double *fur = ctx;
	return fur[x] != fur[y] ? (fur[x] > fur[y] ? -1 : 1) : x - y;
}

/* As by_fur, from the lowest. */
static int by_fur_up(const void *a, const void *b, void *ctx)
{
	int x = *(const int *)a, y = *(const int *)b;
	const double *fur = ctx;
	return fur[x] != fur[y] ? (fur[x] < fur[y] ? -1 : 1) : x - y;
}

enum wasd_status adjust_step(const double *fur, int n, int k, double step, double decay, const int *first,
                             int *channels, struct wasd_err *err)
{
	int *order = wasd_calloc((size_t)n, sizeof *order);
	if (!order)
		return wasd_fail(err, WASD_ENOMEM, "adjust");
	k = k < n ? k : n;
	for (int down = 0; down < 2; down++) {
		for (int i = 0; i < n; i++)
			order[i] = i;
		qsort_r(order, (size_t)n, sizeof *order, down ? by_fur_up : by_fur, (void *)fur);
		for (int rank = 0; rank < k; rank++) {
			int l = order[rank];
			double by = fmax(step - decay * rank, 0) * first[l];
			double c = rint(channels[l] + (down ? -by : by));
			channels[l] = (int)(down ? fmax(c, ADJUST_LEAST) : c);
		}
	}
	wasd_free(order);
	return WASD_OK;
}

/* scaled: n, all widths times the factor. */
static enum wasd_status scale(const struct adjust_net *a, double factor, const int *channels, int *scaled,
                              uint64_t target, double *error, struct wasd_err *err)
{
	uint64_t macs;
	for (int i = 0; i < a->n; i++)
		scaled[i] = (int)fmax(rint(channels[i] * factor), ADJUST_LEAST);
	enum wasd_status s = adjust_macs(a, scaled, &macs, err);
	if (!s)
		*error = ((double)macs - (double)target) / (double)macs;
	return s;
}

enum wasd_status adjust_rescale(const struct adjust_net *a, uint64_t target, int *channels, struct wasd_err *err)
{
	int *scaled = wasd_calloc((size_t)a->n, sizeof *scaled);
	double error;
	if (!scaled)
		return wasd_fail(err, WASD_ENOMEM, "adjust");
	enum wasd_status s = scale(a, 1, channels, scaled, target, &error, err);
	double near = 1, far = s ? 0 : fmax(1 - error, 0);
	for (int k = 0; !s && fabs(error) > NEAR && k < ROUNDS; k++) {
		double factor = (near + far) / 2;
		s = scale(a, factor, channels, scaled, target, &error, err);
		/* Too many multiply-adds still: go further down, or less far up. */
		if ((error > 0) == (factor > 1))
			far = factor;
		else
			near = factor;
	}
	if (!s)
		memcpy(channels, scaled, (size_t)a->n * sizeof *channels);
	wasd_free(scaled);
	return s;
}
