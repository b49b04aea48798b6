/* train/checkpoint.c - writing and reading checkpoint files.
 *
 * Reading trusts nothing: a file may come from an upload. The order is format, metadata, the graph that the metadata
 * names, then every tensor by name and shape against that graph, then every value. Values are F32 in a float build and
 * F64 in a double build; each reads both. */
#include "train/checkpoint.h"
#include "wasd/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define REAL_DTYPE (sizeof(real) == 8 ? WASD_F64 : WASD_F32)
#define NAME_MAX_LEN 160

static const char *const stats_prefix[WASD_STATS_SETS] = {
	[WASD_STATS_AOM] = "",
	[WASD_STATS_DOM] = "dom.",
	[WASD_STATS_TRAIN] = "train.",
};

/* ---- reading ------------------------------------------------------------------------------------------ */

static enum wasd_status metadata(const struct checkpoint *c, const char *key, const char **out, struct wasd_err *err)
{
	*out = wasd_st_meta(c->st, key);
	return *out ? WASD_OK : wasd_fail_at(err, WASD_ECORRUPT, key, "checkpoint: metadata lacks \"%s\"", key);
}

static enum wasd_status metadata_json(const struct checkpoint *c, const char *key, cJSON **out, struct wasd_err *err)
{
	const char *text;
	struct wasd_err e = {0};
	enum wasd_status s = metadata(c, key, &text, err);
	if (!s && wasd_json_parse(text, strlen(text), WASD_JSON_BULK, out, &e))
		s = wasd_fail_at(err, e.status == WASD_ENOMEM ? WASD_ENOMEM : WASD_ECORRUPT, key,
		                 "checkpoint: metadata \"%s\": %s", key, e.msg);
	return s;
}

static enum wasd_status kind_of(const char *key, bool right, const char *want, struct wasd_err *err)
{
	return right ? WASD_OK : wasd_fail_at(err, WASD_ECORRUPT, key, "checkpoint: metadata \"%s\" is not %s", key, want);
}

static enum wasd_status read_input(struct checkpoint *c, struct wasd_err *err)
{
	cJSON *j = NULL;
	int dim[3] = {0};
	enum wasd_status s = metadata_json(c, "input", &j, err);
	if (s)
		return s;
	bool ok = cJSON_IsArray(j) && cJSON_GetArraySize(j) == 3;
	for (int i = 0; ok && i < 3; i++) {
		const cJSON *d = cJSON_GetArrayItem(j, i);
		ok = cJSON_IsNumber(d) && d->valuedouble >= 1 && d->valuedouble <= 65535 &&
		     d->valuedouble == floor(d->valuedouble);
		dim[i] = ok ? (int)d->valuedouble : 0;
	}
	cJSON_Delete(j);
	c->input = (struct wasd_shape){dim[0], dim[1], dim[2]};
	return kind_of("input", ok, "[channels, height, width]", err);
}

static enum wasd_status read_prepare(struct checkpoint *c, struct wasd_err *err)
{
	cJSON *j = NULL;
	struct wasd_err e = {0};
	if (!wasd_st_meta(c->st, "prepare"))
		return WASD_OK;
	enum wasd_status s = metadata_json(c, "prepare", &j, err);
	c->prepare = wasd_prepare_default;
	if (!s && wasd_prepare_read(j, &c->prepare, &e))
		s = wasd_fail_at(err, WASD_ECORRUPT, "prepare", "checkpoint: metadata \"prepare\": %.180s", e.msg);
	cJSON_Delete(j);
	return s;
}

static enum wasd_status read_metadata(struct checkpoint *c, struct wasd_err *err)
{
	const char *format;
	enum wasd_status s;
	if ((s = metadata(c, "format", &format, err)))
		return s;
	if (strcmp(format, CHECKPOINT_FORMAT))
		return wasd_fail_at(err, WASD_ECORRUPT, "format",
		                    "checkpoint: format is \"%.60s\", this program reads \"" CHECKPOINT_FORMAT "\"", format);
	if ((s = metadata(c, "arch", &c->arch, err)) || (s = metadata(c, "dataset_digest", &c->dataset_digest, err)) ||
	    (s = metadata_json(c, "spec", &c->spec, err)) || (s = metadata_json(c, "was", &c->was, err)) ||
	    (s = metadata_json(c, "draw", &c->draw, err)) || (s = metadata_json(c, "progress", &c->progress, err)) ||
	    (s = metadata_json(c, "fingerprint", &c->fingerprint, err)) ||
	    (s = metadata_json(c, "classes", &c->class_names, err)) || (s = read_input(c, err)) ||
	    (s = read_prepare(c, err)) || (s = kind_of("spec", cJSON_IsObject(c->spec), "an object", err)) ||
	    (s = kind_of("was", cJSON_IsObject(c->was) || cJSON_IsFalse(c->was), "an object or false", err)) ||
	    (s = kind_of("draw", cJSON_IsArray(c->draw) || cJSON_IsNull(c->draw), "an array or null", err)) ||
	    (s = kind_of("progress", cJSON_IsObject(c->progress), "an object", err)))
		return s;
	c->classes = cJSON_GetArraySize(c->class_names);
	bool names = cJSON_IsArray(c->class_names) && c->classes >= 1 && c->classes <= 65535;
	const cJSON *name;
	cJSON_ArrayForEach(name, c->class_names)
		names = names && cJSON_IsString(name);
	return kind_of("classes", names, "an array of names", err);
}

enum wasd_status checkpoint_open(const void *bytes, size_t len, struct checkpoint *out, struct wasd_err *err)
{
	struct checkpoint c = {0};
	enum wasd_status s = wasd_st_open(bytes, len, &c.st, err);
	if (!s)
		s = read_metadata(&c, err);
	if (s) {
		checkpoint_done(&c);
		return s;
	}
	*out = c;
	return WASD_OK;
}

void checkpoint_done(struct checkpoint *c)
{
	cJSON_Delete(c->spec);
	cJSON_Delete(c->was);
	cJSON_Delete(c->draw);
	cJSON_Delete(c->progress);
	cJSON_Delete(c->fingerprint);
	cJSON_Delete(c->class_names);
	wasd_st_close(c->st);
	*c = (struct checkpoint){0};
}

enum wasd_status checkpoint_graph(const struct checkpoint *c, struct wasd_graph **g, struct wasd_err *err)
{
	struct wasd_err e = {0};
	const cJSON *model = wasd_json_get(c->spec, "model");
	const char *name = wasd_network_name(model);
	if (!name || strcmp(name, c->arch))
		return wasd_fail_at(err, WASD_ECORRUPT, "arch", "checkpoint: of a %.60s, its spec says %.60s", c->arch,
		                    name ? name : "nothing");
	enum wasd_status s = wasd_network_build(model, c->input, c->classes, g, &e);
	if (s == WASD_EINVAL || s == WASD_ENOTFOUND || s == WASD_ETOOBIG)
		return wasd_fail_at(err, WASD_ECORRUPT, "arch", "checkpoint: %s", e.msg);
	if (s && err)
		*err = e;
	return s;
}

static bool has_prefix(const char **name, const char *prefix)
{
	size_t n = strlen(prefix);
	if (strncmp(*name, prefix, n))
		return false;
	*name += n;
	return true;
}

static bool is_statistic(const struct wasd_graph *g, const char *name)
{
	for (int i = 0; i < wasd_graph_stats(g); i++) {
		const char *rest = name;
		if (has_prefix(&rest, wasd_graph_stats_info(g, i).name) &&
		    (!strcmp(rest, ".running_mean") || !strcmp(rest, ".running_var")))
			return true;
	}
	return false;
}

static bool is_known(const struct wasd_graph *g, const char *name)
{
	const char *rest = name;
	if (has_prefix(&rest, "state.") || has_prefix(&rest, "weights."))
		return true;
	if (has_prefix(&rest, "optim.")) {
		rest = strchr(rest, '.');
		return rest && wasd_graph_param_find(g, rest + 1) >= 0;
	}
	if (wasd_graph_param_find(g, name) >= 0 || is_statistic(g, name))
		return true;
	return (has_prefix(&rest, "dom.") || has_prefix(&rest, "train.")) && is_statistic(g, rest);
}

enum wasd_status checkpoint_check_names(const struct checkpoint *c, const struct wasd_graph *g, struct wasd_err *err)
{
	for (size_t i = 0; i < wasd_st_count(c->st); i++) {
		const char *name = wasd_st_at(c->st, i)->name;
		if (!is_known(g, name))
			return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: a %.40s has no such tensor", name, c->arch);
	}
	return WASD_OK;
}

/* One tensor of known name and shape into dst. lowest: values below it are refused (0 for variances, -INFINITY
 * otherwise). */
static enum wasd_status load_one(const struct checkpoint *c, const char *name, int ndims, const size_t *dims,
                                 double lowest, real *dst, struct wasd_err *err)
{
	const struct wasd_st_tensor *t = wasd_st_find(c->st, name);
	if (!t)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: missing from the checkpoint", name);
	if (t->dtype != WASD_F32 && t->dtype != WASD_F64)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: type %s, want F32", name, wasd_dtype_name(t->dtype));
	bool same = t->ndims == ndims;
	for (int i = 0; same && i < ndims; i++)
		same = t->dims[i] == dims[i];
	if (!same) {
		char have[64], want[64];
		wasd_st_dims_text(have, t->ndims, t->dims);
		wasd_st_dims_text(want, ndims, dims);
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.100s: shape %s, a %.30s here has %s", name, have, c->arch,
		                    want);
	}
	for (size_t i = 0; i < t->count; i++) {
		double v;
		if (t->dtype == WASD_F64) {
			memcpy(&v, (const char *)t->data + 8 * i, 8);
		} else {
			float f;
			memcpy(&f, (const char *)t->data + 4 * i, 4);
			v = f;
		}
		if (!isfinite(v) || v < lowest)
			return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: element %zu is %g", name, i, v);
		dst[i] = (real)v;
	}
	return WASD_OK;
}

enum wasd_status checkpoint_load_params(const struct checkpoint *c, const struct wasd_graph *g, const char *prefix,
                                        real *dst, struct wasd_err *err)
{
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		char name[NAME_MAX_LEN];
		size_t dims[4];
		for (int d = 0; d < p.ndims; d++)
			dims[d] = (size_t)p.dims[d];
		snprintf(name, sizeof name, "%s%s", prefix, p.name);
		enum wasd_status s = load_one(c, name, p.ndims, dims, -INFINITY, dst + p.offset, err);
		if (s)
			return s;
	}
	return WASD_OK;
}

/* "weights.OWNER.NAME"; owner: a strategy, or "master". */
static void own_name(char out[NAME_MAX_LEN], const char *owner, const char *name)
{
	snprintf(out, NAME_MAX_LEN, "weights.%s.%s", owner, name);
}

static enum wasd_status load_masters(const struct checkpoint *c, const struct wasd_graph *g,
                                     const struct weight_chain *weights, real *master, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (int i = 0; i < wasd_graph_params(g) && !s; i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		char name[NAME_MAX_LEN];
		size_t dims[4];
		if (!chain_links(weights, i))
			continue;
		for (int d = 0; d < p.ndims; d++)
			dims[d] = (size_t)p.dims[d];
		own_name(name, "master", p.name);
		s = load_one(c, name, p.ndims, dims, -INFINITY, master + p.offset, err);
	}
	return s;
}

enum wasd_status checkpoint_load_weights(const struct checkpoint *c, const struct wasd_graph *g,
                                         struct weight_chain *weights, real *master, struct wasd_err *err)
{
	struct chain_state own;
	enum wasd_status s = load_masters(c, g, weights, master, err);
	for (int i = 0; !s && chain_state(weights, i, &own); i++) {
		char name[NAME_MAX_LEN];
		own_name(name, own.of->name, own.tensor.name);
		s = load_one(c, name, own.tensor.ndims, own.tensor.dims, -INFINITY, own.tensor.values, err);
	}
	return s;
}

static void stat_name(char out[NAME_MAX_LEN], enum wasd_stats_set set, const char *bn, const char *which)
{
	snprintf(out, NAME_MAX_LEN, "%s%s.%s", stats_prefix[set], bn, which);
}

enum wasd_status checkpoint_load_stats(const struct checkpoint *c, const struct wasd_graph *g, enum wasd_stats_set set,
                                       real *dst, bool *present, struct wasd_err *err)
{
	char name[NAME_MAX_LEN];
	*present = true;
	for (int i = 0; i < wasd_graph_stats(g); i++) {
		struct wasd_stats_info b = wasd_graph_stats_info(g, i);
		size_t dims[1] = {(size_t)b.channels};
		stat_name(name, set, b.name, "running_mean");
		if (i == 0 && !wasd_st_find(c->st, name)) {
			*present = false;
			return WASD_OK;
		}
		enum wasd_status s = load_one(c, name, 1, dims, -INFINITY, dst + b.mean_offset, err);
		stat_name(name, set, b.name, "running_var");
		if (!s)
			s = load_one(c, name, 1, dims, 0, dst + b.var_offset, err);
		if (s)
			return s;
	}
	return WASD_OK;
}

enum wasd_status checkpoint_load_u64(const struct checkpoint *c, const char *name, uint64_t *v, size_t n,
                                     struct wasd_err *err)
{
	const struct wasd_st_tensor *t = wasd_st_find(c->st, name);
	if (!t || t->dtype != WASD_U64 || t->count != n)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: %s", name,
		                    t ? "want a vector of U64" : "missing from the checkpoint");
	memcpy(v, t->data, n * sizeof *v);
	return WASD_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static void add_param(struct wasd_st_writer *w, const char *prefix, const struct wasd_param_info *p, const real *values)
{
	char name[NAME_MAX_LEN];
	size_t dims[4];
	for (int d = 0; d < p->ndims; d++)
		dims[d] = (size_t)p->dims[d];
	snprintf(name, sizeof name, "%s%s", prefix, p->name);
	wasd_st_writer_add(w, name, REAL_DTYPE, p->ndims, dims, values);
}

static void add_params(struct wasd_st_writer *w, const struct wasd_graph *g, const char *prefix, const real *block)
{
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		add_param(w, prefix, &p, block + p.offset);
	}
}

static void add_weights(struct wasd_st_writer *w, const struct wasd_graph *g, const struct wasd_model *m)
{
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		add_param(w, "", &p, wasd_model_weights(m, i));
	}
}

/* What the chain needs to go on. */
static void add_chain(struct wasd_st_writer *w, const struct wasd_graph *g, const struct weight_chain *c,
                      const real *master)
{
	struct chain_state own;
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		if (chain_links(c, i))
			add_param(w, "weights.master.", &p, master + p.offset);
	}
	for (int i = 0; chain_state(c, i, &own); i++) {
		char name[NAME_MAX_LEN];
		own_name(name, own.of->name, own.tensor.name);
		wasd_st_writer_add(w, name, REAL_DTYPE, own.tensor.ndims, own.tensor.dims, own.tensor.values);
	}
}

void checkpoint_add_stats(struct wasd_st_writer *w, const struct wasd_graph *g, enum wasd_stats_set set,
                          const real *block)
{
	for (int i = 0; i < wasd_graph_stats(g); i++) {
		struct wasd_stats_info b = wasd_graph_stats_info(g, i);
		char name[NAME_MAX_LEN];
		size_t dims[1] = {(size_t)b.channels};
		stat_name(name, set, b.name, "running_mean");
		wasd_st_writer_add(w, name, REAL_DTYPE, 1, dims, block + b.mean_offset);
		stat_name(name, set, b.name, "running_var");
		wasd_st_writer_add(w, name, REAL_DTYPE, 1, dims, block + b.var_offset);
	}
}

/* false: out of memory. NULL is written as "null". */
static bool add_json(struct wasd_st_writer *w, const char *key, const cJSON *v)
{
	char *text = v ? wasd_json_print(v) : wasd_strdup("null");
	if (text)
		wasd_st_writer_meta(w, key, text);
	wasd_free(text);
	return text != NULL;
}

static bool add_prepare(struct wasd_st_writer *w, const struct wasd_prepare *p)
{
	if (!p || !p->reduce)
		return true;
	cJSON *j = cJSON_CreateObject();
	bool ok = wasd_prepare_add(j, p) && add_json(w, "prepare", j);
	cJSON_Delete(j);
	return ok;
}

static bool add_metadata(struct wasd_st_writer *w, const struct checkpoint_source *s)
{
	struct wasd_shape in = wasd_graph_input_shape(s->graph);
	cJSON *input = cJSON_CreateIntArray((int[]){in.c, in.h, in.w}, 3);
	cJSON *names = cJSON_CreateStringArray((const char *const *)s->class_names, wasd_graph_classes(s->graph));
	wasd_st_writer_meta(w, "format", CHECKPOINT_FORMAT);
	wasd_st_writer_meta(w, "arch", s->arch);
	wasd_st_writer_meta(w, "dataset_digest", s->dataset_digest);
	bool ok = input && names && add_json(w, "input", input) && add_json(w, "classes", names) &&
	          add_json(w, "spec", s->spec) && add_json(w, "was", s->was) && add_json(w, "draw", s->draw) &&
	          add_json(w, "progress", s->progress) && add_json(w, "fingerprint", s->fingerprint) &&
	          add_prepare(w, s->prepare);
	cJSON_Delete(input);
	cJSON_Delete(names);
	return ok;
}

enum wasd_status checkpoint_write(const struct checkpoint_source *src, void **bytes, size_t *len, struct wasd_err *err)
{
	char name[NAME_MAX_LEN];
	enum wasd_status s = WASD_OK;
	struct wasd_st_writer *w = wasd_st_writer_create();
	if (!w || !add_metadata(w, src)) {
		s = wasd_fail(err, WASD_ENOMEM, "checkpoint");
		goto end;
	}
	/* Words first: they keep their natural alignment in the file. */
	for (int i = 0; i < CHECKPOINT_WORDS && src->words[i].name; i++) {
		snprintf(name, sizeof name, "state.%s", src->words[i].name);
		wasd_st_writer_add(w, name, WASD_U64, 1, &src->words[i].n, src->words[i].v);
	}
	add_weights(w, src->graph, src->model);
	for (int set = 0; set < WASD_STATS_SETS; set++)
		if (src->stats[set])
			checkpoint_add_stats(w, src->graph, set, src->stats[set]);
	for (int i = 0; src->optim && src->optim[i].name; i++) {
		snprintf(name, sizeof name, "optim.%s.", src->optim[i].name);
		add_params(w, src->graph, name, src->optim[i].block);
	}
	if (src->weights)
		add_chain(w, src->graph, src->weights, wasd_model_master(src->model));
	s = wasd_st_writer_block(w, bytes, len, err);
end:
	wasd_st_writer_destroy(w);
	return s;
}
