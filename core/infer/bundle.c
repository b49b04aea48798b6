/* infer/bundle.c - compiles one mode of a network for serving.
 *
 * AOM uses the weights as they are, with the statistics measured under them. DOM uses the weights that the
 * recorded recipe forms, W = alpha T(PW), with the statistics measured under those. Either is folded (fold.h). A mode
 * may replace the network first (modes/slim.c: without its dead channels). A mode with parts is the bundles of other
 * modes of the checkpoint and what chooses among them (modes/dynamic.c); it has no network of its own. */
#include "infer/bundle.h"
#include "graph/graph.h"
#include "infer/fold.h"
#include "quant/make.h"
#include "train/checkpoint.h"
#include "train/mode_file.h"
#include "wasd/pixel.h"
#include "wasd/weights.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct wasd_bundle {
	atomic_uint refs;
	char mode[WASD_MODE_LEN];
	const struct mode_kind *kind;
	cJSON *recipe;
	char *arch; /* this, the class names and the members above are empty for a model compiled from memory */
	cJSON *class_names;
	struct wasd_prepare prepare;
	struct wasd_pixels pixels;
	struct folded net;
	struct wasd_quant *quant; /* NULL: float */
	struct wasd_bundle *part[MODE_PARTS_MAX];
	int parts;                  /* 0: it has a network, net */
	struct mode_router *router; /* with parts */
	uint64_t macs;
};

/* The bundle whose network all images go through. */
static const struct wasd_bundle *first(const struct wasd_bundle *b)
{
	return b->parts ? b->part[0] : b;
}

void wasd_normalise(const struct wasd_pixels *p, struct wasd_shape s, const uint8_t *px, real *x)
{
	size_t plane = (size_t)s.h * (size_t)s.w;
	real value[256];
	for (int c = 0; c < s.c; c++) {
		wasd_pixels_table(p, c, value);
		for (size_t i = 0; i < plane; i++)
			*x++ = value[*px++];
	}
}

enum wasd_status bundle_compile(struct wasd_model *m, const struct wasd_recipe *r, enum wasd_stats_set set,
                                struct wasd_bundle **out, struct wasd_err *err)
{
	struct wasd_bundle *b = wasd_calloc(1, sizeof *b);
	if (!b)
		return wasd_fail(err, WASD_ENOMEM, "bundle");
	atomic_init(&b->refs, 1);
	b->pixels = wasd_pixels_half;
	enum wasd_status s = fold_network(m, r, set, &b->net, err);
	if (s) {
		wasd_bundle_unref(b);
		return s;
	}
	b->macs = wasd_graph_macs(b->net.graph, NULL);
	*out = b;
	return WASD_OK;
}

/* ---- from a checkpoint ---------------------------------------------------------------------------------------- */

/* The files that are open while a bundle is made. */
struct source {
	struct checkpoint ckpt;
	struct mode_file file; /* zeroed if the mode is in the checkpoint's list */
	struct mode mode;
	struct wasd_graph *graph;
	struct wasd_model *model;
	struct wasd_recipe *recipe;
};

static void source_done(struct source *s)
{
	if (s->recipe)
		s->mode.kind->close(s->recipe);
	wasd_model_destroy(s->model);
	wasd_graph_destroy(s->graph);
	mode_file_done(&s->file);
	checkpoint_done(&s->ckpt);
}

static enum wasd_status find_mode(struct source *s, const struct wasd_mode_source *from, struct wasd_err *err)
{
	enum wasd_status st = checkpoint_open(from->file, from->len, &s->ckpt, err);
	if (st)
		return st;
	if (!from->mode_file) {
		st = checkpoint_mode(&s->ckpt, from->name, &s->mode, err);
	} else if (!(st = mode_file_open(from->mode_file, from->mode_len, s->ckpt.arch, &s->file, err))) {
		s->mode = s->file.mode;
		snprintf(s->mode.name, sizeof s->mode.name, "%s", from->name);
	}
	return st || s->mode.measured ?
	           st :
	           wasd_fail(err, WASD_ESTATE,
	                     "this checkpoint was written before the statistics of %s were first measured", s->mode.name);
}

static enum wasd_status load_stats(struct source *s, real *stats, struct wasd_err *err)
{
	bool present;
	if (s->file.st)
		return mode_file_load_stats(&s->file, s->ckpt.arch, s->graph, stats, err);
	enum wasd_status st = checkpoint_load_stats(&s->ckpt, s->graph, s->mode.statistics, stats, &present, err);
	return st || present ? st :
	                       wasd_fail_at(err, WASD_ECORRUPT, "",
	                                    "checkpoint: BatchNorm statistics of mode %s are missing", s->mode.name);
}

static enum wasd_status reshape(struct source *s, struct wasd_err *err)
{
	struct wasd_model *m = NULL;
	enum wasd_status st = s->mode.kind->reshape(&s->mode, s->model, &m, err);
	if (st || !m)
		return st;
	wasd_model_destroy(s->model);
	s->model = m;
	return WASD_OK;
}

static enum wasd_status load_model(struct source *s, struct wasd_err *err)
{
	enum wasd_status st = checkpoint_graph(&s->ckpt, &s->graph, err);
	if (!st)
		st = checkpoint_check_names(&s->ckpt, s->graph, err);
	if (!st)
		st = wasd_model_create(s->graph, 0, &s->model, err);
	if (!st)
		st = checkpoint_load_params(&s->ckpt, s->graph, "", wasd_model_master(s->model), err);
	if (!st)
		st = load_stats(s, wasd_model_stats(s->model, WASD_STATS_AOM), err);
	if (!st)
		st = s->mode.kind->open(&s->mode, s->graph, &s->recipe, err);
	if (!st && s->mode.kind->reshape)
		st = reshape(s, err);
	return st;
}

/* An int8 mode: what its folded network computes with. */
static enum wasd_status quantise(const struct source *s, struct wasd_bundle *b, struct wasd_err *err)
{
	struct wasd_quant *q = NULL;
	struct wasd_err e = {0};
	enum wasd_status st = s->mode.kind->quant(&s->mode, b->net.graph, &q, err);
	if (!st && (st = bundle_quantise(b, q, &e)))
		st = wasd_fail(err, st == WASD_EINVAL ? WASD_ECORRUPT : st, "mode %s: %s", s->mode.name, e.msg);
	quant_made_destroy(q);
	return st;
}

/* A mode with a network. */
static enum wasd_status compile(struct source *src, struct wasd_bundle **b, struct wasd_err *err)
{
	enum wasd_status s = load_model(src, err);
	if (!s)
		s = bundle_compile(src->model, src->recipe, WASD_STATS_AOM, b, err);
	return s || !src->mode.kind->quant ? s : quantise(src, *b, err);
}

/* ---- a mode with parts ---- */

static enum wasd_status open_part(const struct source *s, const struct wasd_mode_source *from, const char *name,
                                  struct wasd_bundle **out, struct wasd_err *err)
{
	struct mode mode;
	enum wasd_status st = checkpoint_mode(&s->ckpt, name, &mode, err);
	if (!st && mode.kind->parts)
		return wasd_fail_at(err, WASD_ECORRUPT, "/widths", "mode %s has parts itself", name);
	struct wasd_bundle *have = st || !from->have ? NULL : from->have(from->ctx, name);
	if (!have)
		return st ? st :
		            wasd_bundle_create(&(struct wasd_mode_source){.file = from->file, .len = from->len, .name = name},
		                               out, err);
	*out = wasd_bundle_ref(have);
	return WASD_OK;
}

/* The statistics in its file are not used, but a file with other tensors is refused as any is. */
static enum wasd_status check_file(struct source *s, struct wasd_err *err)
{
	enum wasd_status st = checkpoint_graph(&s->ckpt, &s->graph, err);
	real *stats = st ? NULL : wasd_calloc(wasd_graph_stats_count(s->graph) + 1, sizeof *stats);
	if (!st)
		st = stats ? load_stats(s, stats, err) : wasd_fail(err, WASD_ENOMEM, "bundle");
	wasd_free(stats);
	return st;
}

static enum wasd_status assemble(struct source *s, const struct wasd_mode_source *from, struct wasd_bundle **out,
                                 struct wasd_err *err)
{
	char name[MODE_PARTS_MAX][WASD_MODE_LEN];
	uint64_t macs[MODE_PARTS_MAX];
	int n = 0;
	enum wasd_status st = check_file(s, err);
	if (st || (st = s->mode.kind->parts(&s->mode, name, &n, err)))
		return st;
	struct wasd_bundle *b = *out = wasd_calloc(1, sizeof *b);
	if (!b)
		return wasd_fail(err, WASD_ENOMEM, "bundle");
	atomic_init(&b->refs, 1);
	for (; b->parts < n; b->parts++) {
		if ((st = open_part(s, from, name[b->parts], &b->part[b->parts], err)))
			return st;
		macs[b->parts] = wasd_bundle_macs(b->part[b->parts]);
	}
	st = s->mode.kind->route(&s->mode, b->part[0]->net.graph, macs, &b->router, err);
	b->macs = st ? 0 : b->router->macs;
	return st;
}

enum wasd_status wasd_bundle_create(const struct wasd_mode_source *from, struct wasd_bundle **out, struct wasd_err *err)
{
	struct source src = {0};
	struct wasd_bundle *b = NULL;
	enum wasd_status s = find_mode(&src, from, err);
	if (!s)
		s = src.mode.kind->parts ? assemble(&src, from, &b, err) : compile(&src, &b, err);
	if (s)
		goto end;
	memcpy(b->mode, src.mode.name, sizeof b->mode);
	b->kind = src.mode.kind;
	b->recipe = cJSON_Duplicate(src.mode.recipe, true);
	if (!(b->arch = wasd_strdup(src.ckpt.arch)) || (src.mode.recipe && !b->recipe)) {
		s = wasd_fail(err, WASD_ENOMEM, "bundle");
		goto end;
	}
	b->class_names = src.ckpt.class_names;
	src.ckpt.class_names = NULL;
	b->prepare = src.ckpt.prepare;
	b->pixels = src.ckpt.pixels;
	*out = b;
	b = NULL;
end:
	wasd_bundle_unref(b);
	source_done(&src);
	return s;
}

enum wasd_status wasd_mode_at(const void *file, size_t len, int i, char name[WASD_MODE_LEN], struct wasd_err *err)
{
	struct checkpoint c = {0};
	struct mode m;
	enum wasd_status s = checkpoint_open(file, len, &c, err);
	const cJSON *entry = s ? NULL : cJSON_GetArrayItem(c.modes, i);
	if (!s)
		s = entry ? mode_read(entry, &m, err) : wasd_fail(err, WASD_ENOTFOUND, "%d modes", i);
	if (!s)
		memcpy(name, m.name, WASD_MODE_LEN);
	checkpoint_done(&c);
	return s;
}

struct wasd_bundle *wasd_bundle_ref(struct wasd_bundle *b)
{
	atomic_fetch_add(&b->refs, 1);
	return b;
}

void wasd_bundle_unref(struct wasd_bundle *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) > 1)
		return;
	quant_destroy(b->quant);
	for (int i = 0; i < b->parts; i++)
		wasd_bundle_unref(b->part[i]);
	if (b->router)
		b->router->destroy(b->router);
	folded_done(&b->net);
	cJSON_Delete(b->class_names);
	cJSON_Delete(b->recipe);
	wasd_free(b->arch);
	wasd_free(b);
}

const char *wasd_bundle_mode(const struct wasd_bundle *b)
{
	return b->mode;
}
const char *wasd_bundle_arch(const struct wasd_bundle *b)
{
	return b->arch ? b->arch : "";
}
struct wasd_shape wasd_bundle_shape(const struct wasd_bundle *b)
{
	return wasd_graph_input_shape(first(b)->net.graph);
}
int wasd_bundle_classes(const struct wasd_bundle *b)
{
	return wasd_graph_classes(first(b)->net.graph);
}
const struct wasd_prepare *wasd_bundle_prepare(const struct wasd_bundle *b)
{
	return &b->prepare;
}
const struct wasd_pixels *wasd_bundle_pixels(const struct wasd_bundle *b)
{
	return &b->pixels;
}
uint64_t wasd_bundle_macs(const struct wasd_bundle *b)
{
	return b->macs;
}
size_t wasd_bundle_bytes(const struct wasd_bundle *b)
{
	size_t sum = b->router ? b->router->bytes : 0;
	for (int i = 0; i < b->parts; i++)
		sum += wasd_bundle_bytes(b->part[i]);
	if (b->parts)
		return sum;
	return wasd_graph_param_count(b->net.graph) * sizeof(real) + wasd_model_packed_bytes(b->net.model) +
	       (b->quant ? quant_bytes(b->net.graph, b->quant) : 0);
}
struct wasd_model *wasd_bundle_model(struct wasd_bundle *b)
{
	return first(b)->net.model;
}
const bool *wasd_bundle_summed(const struct wasd_bundle *b)
{
	return first(b)->net.summed;
}
int wasd_bundle_parts(const struct wasd_bundle *b)
{
	return b->parts;
}
struct wasd_bundle *bundle_part(const struct wasd_bundle *b, int i)
{
	return b->part[i];
}
const struct mode_router *bundle_router(const struct wasd_bundle *b)
{
	return b->router;
}

/* The float weights of layers that have 8-bit ones. */
static enum wasd_status drop_weights(struct wasd_bundle *b, const struct wasd_quant *q, struct wasd_err *err)
{
	bool *drop = wasd_calloc((size_t)wasd_graph_params(b->net.graph) + 1, sizeof *drop);
	enum wasd_status s = drop ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "8-bit weights");
	for (int i = 0; !s && i < q->nodes; i++)
		if (q->conv[i].on)
			drop[b->net.graph->nodes[i].weight] = true;
	if (!s)
		s = model_drop(b->net.model, drop, err);
	wasd_free(drop);
	return s;
}

/* Of the 1x1 convolutions of weights in two parts. */
static uint64_t coarse_macs(const struct wasd_graph *g, const struct wasd_quant *q)
{
	uint64_t macs = 0;
	for (int i = 0; i < q->nodes; i++)
		if (q->conv[i].on && q->conv[i].coarse)
			macs += g->nodes[i].layer->macs(&g->nodes[i], 1);
	return macs;
}

enum wasd_status bundle_quantise(struct wasd_bundle *b, const struct wasd_quant *q, struct wasd_err *err)
{
	struct wasd_quant *own = NULL;
	assert(!b->parts);
	enum wasd_status s = b->quant ? wasd_fail(err, WASD_ESTATE, "the bundle is an int8 network already") :
	                                quant_check(b->net.model, q, err);
	if (s || (s = quant_copy(b->net.graph, q, &own, err)))
		return s;
	if ((s = drop_weights(b, q, err))) {
		quant_destroy(own);
		return s;
	}
	b->quant = own;
	b->macs += coarse_macs(b->net.graph, q);
	return WASD_OK;
}

const struct wasd_quant *bundle_quant(const struct wasd_bundle *b)
{
	return b->quant;
}

const char *wasd_bundle_class(const struct wasd_bundle *b, int i)
{
	const cJSON *name = cJSON_GetArrayItem(b->class_names, i);
	return name ? name->valuestring : "";
}

const cJSON *bundle_class_names(const struct wasd_bundle *b)
{
	return b->class_names;
}

const cJSON *bundle_recipe(const struct wasd_bundle *b, const struct mode_kind *kind)
{
	return b->kind == kind ? b->recipe : NULL;
}
