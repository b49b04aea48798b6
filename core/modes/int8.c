/* modes/int8.c - another mode in 8-bit integers (wasd/quant.h): its network, quantised after training. The recipe has
 * that of the mode that it was made of, whose network and weights are formed and folded first:
 *
 *     {"base": {"name","kind","recipe"}, "weights": "plain"|"cfws", "activations": "minmax"|"kl"|"kl-clip",
 *      "images": N, "types": ["s8","u8","f32",...]}       the last one per layer of the folded network
 *
 * Its tensors: q.scales (F32, one per layer; 1 where the type is f32), and of a layer in 8 bits q.LAYER.weight (I8),
 * q.LAYER.scale (F32, one per output channel), and of a split one q.LAYER.coarse and q.LAYER.coarse_scale. The file may
 * be anyone's: reading checks every name, type and size, and refuses tensors of other names. */
#include "backend/backend.h"
#include "modes/mode.h"
#include "quant/make.h"
#include "wasd/infer.h"
#include "weights/strategy.h"

#include <stdio.h>
#include <string.h>

#define PREFIX "q."
#define BATCH 32
#define NAME_SIZE 128

static const char *const type_names[] = {[WASD_QUANT_F32] = "f32", [WASD_QUANT_U8] = "u8", [WASD_QUANT_S8] = "s8"};

/* ---- the mode that it was made of --------------------------------------------------------------------------------
 *
 * A recipe of its own around the other's, so that close knows whose that is. */

struct int8_recipe {
	struct wasd_recipe recipe;
	struct wasd_recipe *base;
	const struct mode_kind *kind;
};

static const struct wasd_recipe *base_of(const struct wasd_recipe *r)
{
	return ((const struct int8_recipe *)(const void *)r)->base;
}

static enum wasd_status base_check(const struct wasd_recipe *r, const struct wasd_graph *g, struct wasd_err *err)
{
	return base_of(r)->by->check(base_of(r), g, err);
}

static bool base_shape(const struct wasd_recipe *r, int index, struct weight_shape *out)
{
	return base_of(r)->by->shape(base_of(r), index, out);
}

static void base_forward(const struct wasd_recipe *r, const struct weight_kernel *k, struct wasd_rect at, real *s)
{
	base_of(r)->by->forward(base_of(r), k, at, s);
}

static const struct weight_strategy by_base = {.name = "int8",
                                               .summary = "the weights of another mode",
                                               .check = base_check,
                                               .shape = base_shape,
                                               .forward = base_forward};

/* Kinds with tensors of their own are no base: the file has those of the 8-bit weights alone. */
static bool can_be_base(const struct mode_kind *k)
{
	return k && !k->prefix;
}

static enum wasd_status read_base(const struct mode *m, struct mode *of, struct wasd_err *err)
{
	const cJSON *base = wasd_json_get(m->recipe, "base");
	const char *kind = "";
	wasd_json_str(base, "kind", &kind);
	*of = (struct mode){.kind = mode_kind_find(kind), .recipe = wasd_json_get(base, "recipe"), .statistics = ""};
	return can_be_base(of->kind) ?
	           WASD_OK :
	           wasd_fail_at(err, WASD_EINVAL, "/base/kind", "\"%.40s\" cannot be the base of an int8 mode", kind);
}

static enum wasd_status open_int8(const struct mode *m, const struct wasd_graph *g, struct wasd_recipe **out,
                                  struct wasd_err *err)
{
	struct mode of;
	struct wasd_recipe *r = NULL;
	enum wasd_status s = read_base(m, &of, err);
	if (s || (s = of.kind->open(&of, g, &r, err)) || !r) {
		*out = NULL;
		return s;
	}
	struct int8_recipe *own = wasd_malloc(sizeof *own);
	if (!own) {
		of.kind->close(r);
		return wasd_fail(err, WASD_ENOMEM, "int8 mode");
	}
	*own = (struct int8_recipe){{&by_base}, r, of.kind};
	*out = &own->recipe;
	return WASD_OK;
}

static void close_int8(struct wasd_recipe *r)
{
	struct int8_recipe *own = (struct int8_recipe *)(void *)r;
	own->kind->close(own->base);
	wasd_free(own);
}

static enum wasd_status reshape_int8(const struct mode *m, struct wasd_model *from, struct wasd_model **out,
                                     struct wasd_err *err)
{
	struct mode of;
	enum wasd_status s = read_base(m, &of, err);
	return s || !of.kind->reshape ? s : of.kind->reshape(&of, from, out, err);
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

struct reading {
	const struct wasd_st *st;
	bool *read; /* per tensor of the file */
};

/* Copies tensor PREFIX LAYER.part of `count` elements. *out NULL: the file has none. */
static enum wasd_status read_tensor(struct reading *r, const char *layer, const char *part, enum wasd_dtype type,
                                    size_t count, void **out, struct wasd_err *err)
{
	const struct wasd_st *st = r->st;
	char name[NAME_SIZE];
	snprintf(name, sizeof name, PREFIX "%.90s%s%s", layer, *layer ? "." : "", part);
	const struct wasd_st_tensor *t = wasd_st_find(st, name);
	*out = NULL;
	if (!t)
		return WASD_OK;
	if (t->dtype != type || t->count != count)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "mode file: %s must have %zu elements of type %s", name, count,
		                    wasd_dtype_name(type));
	size_t bytes = count * wasd_dtype_size(type);
	if (!(*out = wasd_malloc(bytes + 1)))
		return wasd_fail(err, WASD_ENOMEM, "%s", name);
	memcpy(*out, t->data, bytes);
	for (size_t i = 0; i < wasd_st_count(st); i++)
		r->read[i] |= wasd_st_at(st, i) == t;
	return WASD_OK;
}

static enum wasd_status read_layer(struct reading *r, const struct wasd_graph *g, wasd_node i,
                                   struct wasd_quant_conv *c, struct wasd_err *err)
{
	struct wasd_node_info n = wasd_graph_node_info(g, i);
	struct wasd_param_info p = wasd_graph_param_info(g, n.weight);
	size_t outs = (size_t)p.dims[0], ins = (size_t)p.dims[1];
	void *w = NULL, *scale = NULL, *coarse = NULL, *coarse_scale = NULL;
	enum wasd_status s = read_tensor(r, n.name, "weight", WASD_I8, p.count, &w, err);
	if (!s && w)
		s = read_tensor(r, n.name, "scale", WASD_F32, outs, &scale, err);
	if (!s && w)
		s = read_tensor(r, n.name, "coarse", WASD_I8, outs * ins, &coarse, err);
	if (!s && coarse)
		s = read_tensor(r, n.name, "coarse_scale", WASD_F32, outs, &coarse_scale, err);
	*c = (struct wasd_quant_conv){w != NULL, w, scale, coarse, coarse_scale};
	return s;
}

static enum wasd_status read_types(const struct mode *m, struct wasd_quant *q, struct wasd_err *err)
{
	const cJSON *list = wasd_json_get(m->recipe, "types"), *t;
	int i = 0;
	if (cJSON_GetArraySize(list) != q->nodes)
		return wasd_fail_at(err, WASD_ECORRUPT, "/types", "mode file: must have %d types", q->nodes);
	cJSON_ArrayForEach(t, list) {
		int k = WASD_QUANT_S8;
		while (k >= 0 && !(cJSON_IsString(t) && !strcmp(t->valuestring, type_names[k])))
			k--;
		if (k < 0)
			return wasd_fail_at(err, WASD_ECORRUPT, "/types", "mode file: type %d is unknown", i);
		q->tensor[i++].type = (enum wasd_quant_type)k;
	}
	return WASD_OK;
}

static enum wasd_status read_values(struct reading *r, const struct mode *m, struct wasd_quant *q, struct wasd_err *err)
{
	void *scales = NULL;
	enum wasd_status s = read_types(m, q, err);
	if (!s)
		s = read_tensor(r, "", "scales", WASD_F32, (size_t)q->nodes, &scales, err);
	if (!s && !scales)
		s = wasd_fail_at(err, WASD_ECORRUPT, PREFIX "scales", "mode file: " PREFIX "scales is missing");
	for (int i = 0; !s && i < q->nodes; i++)
		q->tensor[i].scale = ((const float *)scales)[i];
	wasd_free(scales);
	return s;
}

static enum wasd_status check_all_read(const struct reading *r, struct wasd_err *err)
{
	for (size_t i = 0; i < wasd_st_count(r->st); i++) {
		const char *name = wasd_st_at(r->st, i)->name;
		if (!r->read[i] && !strncmp(name, PREFIX, strlen(PREFIX)))
			return wasd_fail_at(err, WASD_ECORRUPT, name, "mode file: %.100s belongs to no layer in 8 bits", name);
	}
	return WASD_OK;
}

static enum wasd_status read_network(struct reading *r, const struct mode *m, const struct wasd_graph *g,
                                     struct wasd_quant *q, struct wasd_err *err)
{
	enum wasd_status s = read_values(r, m, q, err);
	for (int i = 0; !s && i < q->nodes; i++)
		if (wasd_graph_node_info(g, i).weight >= 0 && wasd_graph_node_info(g, i).macs)
			s = read_layer(r, g, i, &q->conv[i], err);
	return s ? s : check_all_read(r, err);
}

/* Also where no processor can compute it: for an export. */
static enum wasd_status quant_int8(const struct mode *m, const struct wasd_graph *g, struct wasd_quant **out,
                                   struct wasd_err *err)
{
	if (!m->tensors)
		return wasd_fail_at(err, WASD_ECORRUPT, "", "mode file: an int8 mode without tensors");
	struct reading r = {m->tensors, wasd_calloc(wasd_st_count(m->tensors) + 1, sizeof *r.read)};
	struct wasd_quant *q = quant_made_create(wasd_graph_nodes(g));
	enum wasd_status s = q && r.read ? read_network(&r, m, g, q, err) : wasd_fail(err, WASD_ENOMEM, "int8 mode");
	wasd_free(r.read);
	if (s)
		quant_made_destroy(q);
	else
		*out = q;
	return s;
}

/* ---- making -------------------------------------------------------------------------------------------------- */

enum { OPT_WEIGHTS, OPT_ACTIVATIONS, OPT_IMAGES };
static const char *const weights[] = {"plain", "cfws", NULL}, *const activations[] = {"minmax", "kl", "kl-clip", NULL};
static const struct wasd_field options[] =
	{[OPT_WEIGHTS] = {"weights", WASD_CHOICE, "\"plain\"", .choices = weights,
                      .summary = "plain: one scale per output channel; cfws: those of parallel branches in two parts, "
                                 "coarse and fine"},
     [OPT_ACTIVATIONS] = {"activations", WASD_CHOICE, "\"minmax\"", .choices = activations,
                          .summary = "ranges of what is stored between layers: the largest value, or the least "
                                     "divergence, in two forms"},
     [OPT_IMAGES] = {"images", WASD_INT, "256", 32, 4096, .summary = "of the training set, to calibrate with"},
     {0}};

/* Copies the values into the mode file's tensor. */
static enum wasd_status add(struct mode_made *to, const char *layer, const char *part, enum wasd_dtype type, int ndims,
                            const size_t *dims, const void *values, struct wasd_err *err)
{
	char name[NAME_SIZE];
	size_t bytes = wasd_dtype_size(type);
	for (int d = 0; d < ndims; d++)
		bytes *= dims[d];
	void *copy = wasd_malloc(bytes + 1);
	if (!copy)
		return wasd_fail(err, WASD_ENOMEM, "int8 mode");
	memcpy(copy, values, bytes);
	snprintf(name, sizeof name, PREFIX "%.90s%s%s", layer, *layer ? "." : "", part);
	return mode_made_add(to, name, type, ndims, dims, copy, err);
}

static enum wasd_status add_layer(struct mode_made *to, const struct wasd_graph *g, wasd_node i,
                                  const struct wasd_quant_conv *c, struct wasd_err *err)
{
	struct wasd_node_info n = wasd_graph_node_info(g, i);
	struct wasd_param_info p = wasd_graph_param_info(g, n.weight);
	size_t dims[4];
	for (int d = 0; d < p.ndims; d++)
		dims[d] = (size_t)p.dims[d];
	enum wasd_status s = add(to, n.name, "weight", WASD_I8, p.ndims, dims, c->w, err);
	if (!s)
		s = add(to, n.name, "scale", WASD_F32, 1, dims, c->scale, err);
	if (!s && c->coarse)
		s = add(to, n.name, "coarse", WASD_I8, 2, dims, c->coarse, err);
	if (!s && c->coarse)
		s = add(to, n.name, "coarse_scale", WASD_F32, 1, dims, c->coarse_scale, err);
	return s;
}

static enum wasd_status add_tensors(struct mode_made *to, const struct wasd_graph *g, const struct wasd_quant *q,
                                    struct wasd_err *err)
{
	float *scales = wasd_malloc((size_t)q->nodes * sizeof *scales);
	enum wasd_status s = scales ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "int8 mode");
	for (int i = 0; !s && i < q->nodes; i++)
		scales[i] = q->tensor[i].scale;
	if (!s)
		s = add(to, "", "scales", WASD_F32, 1, (size_t[]){(size_t)q->nodes}, scales, err);
	for (int i = 0; !s && i < q->nodes; i++)
		if (q->conv[i].on)
			s = add_layer(to, g, i, &q->conv[i], err);
	wasd_free(scales);
	return s;
}

static bool add_base(cJSON *recipe, const struct mode *m)
{
	cJSON *base = cJSON_AddObjectToObject(recipe, "base");
	cJSON *own = m->recipe ? cJSON_Duplicate(m->recipe, true) : cJSON_CreateNull();
	bool ok = cJSON_AddStringToObject(base, "name", m->name) && cJSON_AddStringToObject(base, "kind", m->kind->name);
	if (ok && own && cJSON_AddItemToObject(base, "recipe", own))
		return true;
	cJSON_Delete(own);
	return false;
}

/* images: that were seen. */
static bool add_how(cJSON *j, const double *option, int images)
{
	return cJSON_AddStringToObject(j, "weights", weights[(int)option[OPT_WEIGHTS]]) &&
	       cJSON_AddStringToObject(j, "activations", activations[(int)option[OPT_ACTIVATIONS]]) &&
	       cJSON_AddNumberToObject(j, "images", images);
}

static enum wasd_status add_recipe(struct mode_made *to, const struct mode_making *in, const struct wasd_quant *q,
                                   int images, struct wasd_err *err)
{
	cJSON *types;
	bool ok = (to->recipe = cJSON_CreateObject()) && add_base(to->recipe, in->base) &&
	          add_how(to->recipe, in->option, images) && (types = cJSON_AddArrayToObject(to->recipe, "types"));
	for (int i = 0; ok && i < q->nodes; i++)
		ok = cJSON_AddItemToArray(types, cJSON_CreateString(type_names[q->tensor[i].type]));
	ok = ok && (to->info = cJSON_CreateObject()) && cJSON_AddStringToObject(to->info, "base", in->base->name) &&
	     add_how(to->info, in->option, images);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "int8 mode");
}

static enum wasd_status quantise(const struct mode_making *in, struct wasd_loader *l, int *seen, struct wasd_quant **q,
                                 struct wasd_err *err)
{
	uint32_t have = wasd_loader_batches(l), want = ((uint32_t)in->option[OPT_IMAGES] + BATCH - 1) / BATCH;
	struct quant_images images = {.loader = l,
	                              .batches = want < have ? want : have,
	                              .batch = BATCH,
	                              .seen = seen,
	                              .go_on = in->go_on,
	                              .ctx = in->ctx};
	struct quant_how how = {.split = in->option[OPT_WEIGHTS] > 0,
	                        .ranges = (enum quant_ranges)(int)in->option[OPT_ACTIVATIONS]};
	return quant_make(wasd_bundle_model(in->served), wasd_bundle_summed(in->served), &images, &how, q, err);
}

static enum wasd_status can_compute(struct wasd_err *err)
{
	const struct backend *can;
	struct wasd_err why = {0};
	enum wasd_status s = backend_int8(&can, &why);
	return s ? wasd_fail_at(err, s, "/desire", "%s", why.msg) : s;
}

static enum wasd_status make_int8(const struct mode_making *in, struct mode_made *out, struct wasd_err *err)
{
	struct wasd_loader *l = NULL;
	struct wasd_quant *q = NULL;
	struct wasd_loader_opts o = *in->train;
	int seen = 0;
	enum wasd_status s = can_compute(err);
	if (s)
		return s;
	if (!can_be_base(in->base->kind))
		return wasd_fail_at(err, WASD_EINVAL, "/base",
		                    "int8 is made of modes without tensors of their own, not of one of kind %s",
		                    in->base->kind->name);
	o.batch = BATCH;
	s = wasd_loader_create(&o, &l, err);
	if (!s)
		s = quantise(in, l, &seen, &q, err);
	if (!s)
		s = add_recipe(out, in, q, seen, err);
	if (!s)
		s = add_tensors(out, wasd_model_graph(wasd_bundle_model(in->served)), q, err);
	quant_made_destroy(q);
	wasd_loader_destroy(l);
	return s;
}

static enum wasd_status check_int8(const cJSON *spec, struct wasd_shape in, int classes, const cJSON *request,
                                   struct wasd_err *err)
{
	(void)spec;
	(void)in;
	(void)classes;
	(void)request;
	return can_compute(err);
}

static const struct mode_desire desires[] = {{.name = "int8",
                                              .summary = "8-bit weights and maps, calibrated after training",
                                              .options = options,
                                              .based = true,
                                              .check = check_int8,
                                              .make = make_int8},
                                             {0}};

const struct mode_kind mode_int8 = {.name = "int8",
                                    .summary = "another mode in 8-bit integers",
                                    .family = "int8",
                                    .prefix = PREFIX,
                                    .desires = desires,
                                    .open = open_int8,
                                    .close = close_int8,
                                    .reshape = reshape_int8,
                                    .quant = quant_int8};
