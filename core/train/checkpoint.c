/* train/checkpoint.c - writing and reading checkpoint files.
 *
 * The reader trusts nothing, since a file may come from an upload. It checks the format, then the metadata, then
 * the graph that the metadata names, then the name and shape of every tensor against that graph, then every value.
 * Values are F32 in a float build and F64 in a double build; each build reads both. */
#include "train/checkpoint.h"
#include "wasd/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define REAL_DTYPE (sizeof(real) == 8 ? WASD_F64 : WASD_F32)
#define NAME_MAX_LEN 160

/* ---- reading ------------------------------------------------------------------------------------------ */

static enum wasd_status metadata(const struct wasd_st *st, const char *key, const char **out, struct wasd_err *err)
{
	*out = wasd_st_meta(st, key);
	return *out ? WASD_OK : wasd_fail_at(err, WASD_ECORRUPT, key, "checkpoint: metadata lacks \"%s\"", key);
}

static enum wasd_status metadata_json(const struct wasd_st *st, const char *key, cJSON **out, struct wasd_err *err)
{
	const char *text;
	struct wasd_err e = {0};
	enum wasd_status s = metadata(st, key, &text, err);
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
	enum wasd_status s = metadata_json(c->st, "input", &j, err);
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
	enum wasd_status s = metadata_json(c->st, "prepare", &j, err);
	c->prepare = wasd_prepare_default;
	if (!s && wasd_prepare_read(j, &c->prepare, &e))
		s = wasd_fail_at(err, WASD_ECORRUPT, "prepare", "checkpoint: metadata \"prepare\": %.180s", e.msg);
	cJSON_Delete(j);
	return s;
}

static enum wasd_status read_network(struct checkpoint *c, struct wasd_err *err)
{
	if (!wasd_st_meta(c->st, "network"))
		return WASD_OK;
	enum wasd_status s = metadata_json(c->st, "network", &c->network, err);
	return s ? s : kind_of("network", cJSON_IsObject(c->network), "an object", err);
}

static enum wasd_status read_pixels(struct checkpoint *c, struct wasd_err *err)
{
	cJSON *j = NULL;
	struct wasd_err e = {0};
	c->pixels = wasd_pixels_half;
	if (!wasd_st_meta(c->st, "normalize"))
		return WASD_OK;
	enum wasd_status s = metadata_json(c->st, "normalize", &j, err);
	if (!s && wasd_pixels_read(j, "", c->input.c, &c->pixels, &e))
		s = wasd_fail_at(err, WASD_ECORRUPT, "normalize", "checkpoint: metadata \"normalize\": %.180s", e.msg);
	cJSON_Delete(j);
	return s;
}

/* ---- composed parameters ---- */

/* Made when a parameter is first asked for. */
struct checkpoint_composed {
	const struct weight_strategy *by;
	real *block; /* like a model's, with the composed parameters filled in; NULL: not made yet */
	bool *has;   /* per parameter: true if it is composed */
};

/* The object of the strategy in the job's list; NULL: it is not there. */
static const cJSON *entry_of(const struct checkpoint *c, const struct weight_strategy *by)
{
	const cJSON *entry;
	const char *type;
	cJSON_ArrayForEach(entry, wasd_json_get(c->spec, "weights"))
		if (wasd_json_str(entry, "type", &type) && !strcmp(type, by->name))
			return entry;
	return NULL;
}

static enum wasd_status read_composed(struct checkpoint *c, struct wasd_err *err)
{
	const char *name;
	if (strcmp(wasd_st_meta(c->st, "format"), CHECKPOINT_FORMAT_COMPACT))
		return WASD_OK;
	enum wasd_status s = metadata(c->st, "composed", &name, err);
	const struct weight_strategy *by = s ? NULL : weight_strategy_find(name);
	if (!s)
		s = kind_of("composed", by && by->compact && entry_of(c, by), "a compact strategy of the job", err);
	if (s)
		return s;
	c->composed = wasd_calloc(1, sizeof *c->composed);
	if (!c->composed)
		return wasd_fail(err, WASD_ENOMEM, "checkpoint");
	c->composed->by = by;
	return WASD_OK;
}

static void composed_done(struct checkpoint_composed *d)
{
	if (!d)
		return;
	wasd_free(d->block);
	wasd_free(d->has);
	wasd_free(d);
}

/* ---- the list of modes ---- */

/* Files of format 1 have AOM and, if they have a draw, DOM; "progress" records which of them were measured. */
static cJSON *first_modes(cJSON *draw, const cJSON *progress)
{
	bool aom = false, dom = false;
	wasd_json_bool(progress, "measured_aom", &aom);
	wasd_json_bool(progress, "measured_dom", &dom);
	cJSON *list = cJSON_CreateArray(), *one = mode_entry("aom", &mode_plain, NULL, "", aom);
	bool ok = cJSON_AddItemToArray(list, one);
	if (!ok)
		cJSON_Delete(one);
	if (!cJSON_IsArray(draw)) {
		cJSON_Delete(draw);
	} else {
		one = mode_entry("dom", &mode_draw, draw, "dom.", dom);
		ok = one && cJSON_AddItemToArray(list, one) && ok;
	}
	if (ok)
		return list;
	cJSON_Delete(list);
	return NULL;
}

static enum wasd_status read_first_modes(const struct wasd_st *st, cJSON **list, struct wasd_err *err)
{
	cJSON *draw = NULL, *progress = NULL, *modes = NULL;
	enum wasd_status s = metadata_json(st, "draw", &draw, err);
	if (!s && !(s = metadata_json(st, "progress", &progress, err)) &&
	    !(s = kind_of("draw", cJSON_IsArray(draw) || cJSON_IsNull(draw), "an array or null", err))) {
		modes = first_modes(draw, progress);
		draw = NULL;
		if (!modes)
			s = wasd_fail(err, WASD_ENOMEM, "checkpoint");
	}
	cJSON_Delete(draw);
	cJSON_Delete(progress);
	if (!s)
		*list = modes;
	return s;
}

/* Checks that every entry is readable and that names are unique. */
static enum wasd_status check_modes(const cJSON *list, struct wasd_err *err)
{
	const cJSON *entry, *other;
	struct mode m, o;
	enum wasd_status s = kind_of("modes", cJSON_IsArray(list) && list->child, "a list of modes", err);
	cJSON_ArrayForEach(entry, list) {
		if (s || (s = mode_read(entry, &m, err)))
			return s;
		for (other = list->child; other != entry; other = other->next)
			if (!mode_read(other, &o, NULL) && !strcmp(o.name, m.name))
				return wasd_fail_at(err, WASD_ECORRUPT, "modes", "checkpoint: mode %s stands twice in its list",
				                    m.name);
	}
	return s;
}

enum wasd_status checkpoint_read_modes(const struct wasd_st *st, cJSON **list, struct wasd_err *err)
{
	const char *format;
	enum wasd_status s = metadata(st, "format", &format, err);
	if (s)
		return s;
	if (!strcmp(format, CHECKPOINT_FORMAT_1))
		return read_first_modes(st, list, err);
	cJSON *modes = NULL;
	if ((s = metadata_json(st, "modes", &modes, err)) || (s = check_modes(modes, err)))
		cJSON_Delete(modes);
	else
		*list = modes;
	return s;
}

bool checkpoint_is(const char *format)
{
	return !strcmp(format, CHECKPOINT_FORMAT) || !strcmp(format, CHECKPOINT_FORMAT_COMPACT) ||
	       !strcmp(format, CHECKPOINT_FORMAT_1);
}

enum wasd_status checkpoint_mode(const struct checkpoint *c, const char *name, struct mode *out, struct wasd_err *err)
{
	const cJSON *entry;
	char there[160] = "";
	cJSON_ArrayForEach(entry, c->modes) {
		const char *have = wasd_json_get(entry, "name")->valuestring;
		size_t n = strlen(there);
		if (!strcmp(have, name)) {
			enum wasd_status s = mode_read(entry, out, err);
			if (!s)
				out->tensors = c->st;
			return s;
		}
		snprintf(there + n, sizeof there - n, "%s%s", n ? ", " : "", have);
	}
	return wasd_fail(err, WASD_ENOTFOUND, "this checkpoint%s has no mode %.80s; it has %s",
	                 cJSON_IsFalse(c->was) ? ", trained without WAS," : "", name, there);
}

static enum wasd_status read_metadata(struct checkpoint *c, struct wasd_err *err)
{
	const char *format;
	enum wasd_status s;
	if ((s = metadata(c->st, "format", &format, err)))
		return s;
	if (!checkpoint_is(format))
		return wasd_fail_at(err, WASD_ECORRUPT, "format",
		                    "checkpoint: format is \"%.60s\", this program reads \"" CHECKPOINT_FORMAT_COMPACT
		                    "\", \"" CHECKPOINT_FORMAT "\" and \"" CHECKPOINT_FORMAT_1 "\"",
		                    format);
	if ((s = metadata(c->st, "arch", &c->arch, err)) ||
	    (s = metadata(c->st, "dataset_digest", &c->dataset_digest, err)) ||
	    (s = metadata_json(c->st, "spec", &c->spec, err)) || (s = metadata_json(c->st, "was", &c->was, err)) ||
	    (s = checkpoint_read_modes(c->st, &c->modes, err)) ||
	    (s = metadata_json(c->st, "progress", &c->progress, err)) ||
	    (s = metadata_json(c->st, "fingerprint", &c->fingerprint, err)) ||
	    (s = metadata_json(c->st, "classes", &c->class_names, err)) || (s = read_input(c, err)) ||
	    (s = read_prepare(c, err)) || (s = read_pixels(c, err)) || (s = read_network(c, err)) ||
	    (s = read_composed(c, err)) || (s = kind_of("spec", cJSON_IsObject(c->spec), "an object", err)) ||
	    (s = kind_of("was", cJSON_IsObject(c->was) || cJSON_IsFalse(c->was), "an object or false", err)) ||
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
	cJSON_Delete(c->network);
	cJSON_Delete(c->was);
	cJSON_Delete(c->modes);
	cJSON_Delete(c->progress);
	cJSON_Delete(c->fingerprint);
	cJSON_Delete(c->class_names);
	composed_done(c->composed);
	wasd_st_close(c->st);
	*c = (struct checkpoint){0};
}

const cJSON *checkpoint_network(const struct checkpoint *c)
{
	return c->network ? c->network : wasd_json_get(c->spec, "model");
}

enum wasd_status checkpoint_graph(const struct checkpoint *c, struct wasd_graph **g, struct wasd_err *err)
{
	struct wasd_err e = {0};
	const cJSON *model = wasd_json_get(c->spec, "model");
	const char *name = wasd_network_name(model);
	if (!name || strcmp(name, c->arch))
		return wasd_fail_at(err, WASD_ECORRUPT, "arch", "checkpoint: of a %.60s, its spec says %.60s", c->arch,
		                    name ? name : "nothing");
	enum wasd_status s = wasd_network_build(checkpoint_network(c), c->input, c->classes, g, &e);
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

bool checkpoint_is_statistic(const struct wasd_graph *g, const char *name)
{
	for (int i = 0; i < wasd_graph_stats(g); i++) {
		const char *rest = name;
		if (has_prefix(&rest, wasd_graph_stats_info(g, i).name) &&
		    (!strcmp(rest, ".running_mean") || !strcmp(rest, ".running_var")))
			return true;
	}
	return false;
}

static bool is_known(const struct checkpoint *c, const struct wasd_graph *g, const char *name)
{
	const char *rest = name;
	const cJSON *entry;
	if (has_prefix(&rest, "state.") || has_prefix(&rest, "weights."))
		return true;
	if (has_prefix(&rest, "optim.")) {
		rest = strchr(rest, '.');
		return rest && wasd_graph_param_find(g, rest + 1) >= 0;
	}
	if (wasd_graph_param_find(g, name) >= 0 || checkpoint_is_statistic(g, name))
		return true;
	if (has_prefix(&rest, CHECKPOINT_TRAIN) && checkpoint_is_statistic(g, rest))
		return true;
	cJSON_ArrayForEach(entry, c->modes) {
		rest = name;
		if (has_prefix(&rest, wasd_json_get(entry, "statistics")->valuestring) && checkpoint_is_statistic(g, rest))
			return true;
	}
	return false;
}

enum wasd_status checkpoint_check_names(const struct checkpoint *c, const struct wasd_graph *g, struct wasd_err *err)
{
	for (size_t i = 0; i < wasd_st_count(c->st); i++) {
		const char *name = wasd_st_at(c->st, i)->name;
		if (!is_known(c, g, name))
			return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: a %.40s has no such tensor", name, c->arch);
	}
	return WASD_OK;
}

static enum wasd_status missing(const char *name, struct wasd_err *err)
{
	return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: missing from the checkpoint", name);
}

/* Copies a tensor of known shape into dst. lowest: smaller values are refused (0 for variances, -INFINITY otherwise).
 */
static enum wasd_status copy_tensor(const struct wasd_st_tensor *t, const char *arch, int ndims, const size_t *dims,
                                    double lowest, real *dst, struct wasd_err *err)
{
	const char *name = t->name;
	if (t->dtype != WASD_F32 && t->dtype != WASD_F64)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: type %s, want F32", name, wasd_dtype_name(t->dtype));
	bool same = t->ndims == ndims;
	for (int i = 0; same && i < ndims; i++)
		same = t->dims[i] == dims[i];
	if (!same) {
		char have[64], want[64];
		wasd_st_dims_text(have, t->ndims, t->dims);
		wasd_st_dims_text(want, ndims, dims);
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.100s: shape %s, a %.30s here has %s", name, have, arch, want);
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

static enum wasd_status load_one(const struct wasd_st *st, const char *arch, const char *name, int ndims,
                                 const size_t *dims, double lowest, real *dst, struct wasd_err *err)
{
	const struct wasd_st_tensor *t = wasd_st_find(st, name);
	return t ? copy_tensor(t, arch, ndims, dims, lowest, dst, err) : missing(name, err);
}

static void dims_of(const struct wasd_param_info *p, size_t dims[4])
{
	for (int d = 0; d < p->ndims; d++)
		dims[d] = (size_t)p->dims[d];
}

static enum wasd_status load_param(const struct checkpoint *c, const struct wasd_graph *g, const char *prefix,
                                   int param, real *dst, struct wasd_err *err)
{
	struct wasd_param_info p = wasd_graph_param_info(g, param);
	char name[NAME_MAX_LEN];
	size_t dims[4];
	dims_of(&p, dims);
	snprintf(name, sizeof name, "%s%s", prefix, p.name);
	return load_one(c->st, c->arch, name, p.ndims, dims, -INFINITY, dst + p.offset, err);
}

/* "weights.OWNER.NAME"; owner: the name of a strategy, or "master". */
static void own_name(char out[NAME_MAX_LEN], const char *owner, const char *name)
{
	snprintf(out, NAME_MAX_LEN, "weights.%s.%s", owner, name);
}

/* Packed bits are stored as bytes in one dimension; the writer adds them last, since their number is odd. */
static enum wasd_status load_bits(const struct wasd_st *st, const char *name, const struct weight_state *to,
                                  struct wasd_err *err)
{
	const struct wasd_st_tensor *t = wasd_st_find(st, name);
	size_t n = weight_state_elements(to), bytes = weight_state_bytes(to);
	if (!t)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: missing from the checkpoint", name);
	if (t->dtype != WASD_U8 || t->count != bytes)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.100s: want %zu bits as %zu bytes of type U8", name, n, bytes);
	if (n % 8 && ((const uint8_t *)t->data)[bytes - 1] >> (n % 8))
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.100s: has more than %zu bits", name, n);
	memcpy(to->bits, t->data, bytes);
	return WASD_OK;
}

static enum wasd_status load_state(const struct checkpoint *c, const struct chain_state *to, struct wasd_err *err)
{
	const struct weight_state *t = &to->tensor;
	char name[NAME_MAX_LEN];
	own_name(name, to->of->name, t->name);
	return t->bits ? load_bits(c->st, name, t, err) :
	                 load_one(c->st, c->arch, name, t->ndims, t->dims, -INFINITY, t->values, err);
}

/* The states of all strategies, then what they learn, whose sizes may depend on the former. */
static enum wasd_status load_states(const struct checkpoint *c, struct weight_chain *weights, struct wasd_err *err)
{
	struct chain_state own;
	enum wasd_status s = WASD_OK;
	int i = 0;
	for (; !s && chain_state(weights, i, &own) && !own.learned; i++)
		s = load_state(c, &own, err);
	if (!s)
		s = chain_arrange(weights, err);
	for (; !s && chain_state(weights, i, &own); i++)
		s = load_state(c, &own, err);
	return s;
}

static size_t values_of(const struct checkpoint *c, const char *strategy)
{
	char prefix[NAME_MAX_LEN];
	size_t n = 0;
	own_name(prefix, strategy, "");
	for (size_t i = 0; i < wasd_st_count(c->st); i++)
		n += strncmp(wasd_st_at(c->st, i)->name, prefix, strlen(prefix)) ? 0 : wasd_st_at(c->st, i)->count;
	return n;
}

/* A chain with the one strategy of the file that composes, its state loaded. */
static enum wasd_status make_chain(const struct checkpoint *c, const struct wasd_graph *g, struct weight_chain **out,
                                   struct wasd_err *err)
{
	struct wasd_err why = {0};
	size_t stored = values_of(c, c->composed->by->name) + 1;
	cJSON *list = cJSON_CreateArray(), *entry = cJSON_Duplicate(entry_of(c, c->composed->by), true);
	enum wasd_status s = list && entry && cJSON_AddItemToArray(list, entry) ?
	                         chain_create(g, &(struct chain_spec){.weights = list, .stored = stored}, out, &why) :
	                         wasd_fail(&why, WASD_ENOMEM, "checkpoint");
	if (s)
		s = wasd_fail_at(err, s == WASD_ENOMEM ? s : WASD_ECORRUPT, "spec",
		                 "checkpoint: its strategy of weights: %.180s", why.msg);
	cJSON_Delete(list);
	return s ? s : load_states(c, *out, err);
}

/* Once: the parameters that the file does not have. */
static enum wasd_status compose(const struct checkpoint *c, const struct wasd_graph *g, struct wasd_err *err)
{
	struct checkpoint_composed *d = c->composed;
	struct weight_chain *chain = NULL;
	if (d->block)
		return WASD_OK;
	enum wasd_status s = make_chain(c, g, &chain, err);
	wasd_free(d->has);
	d->has = s ? NULL : wasd_calloc((size_t)wasd_graph_params(g), sizeof *d->has);
	d->block = d->has ? wasd_alloc_aligned(wasd_graph_param_count(g), sizeof *d->block) : NULL;
	for (int i = 0; d->block && i < wasd_graph_params(g); i++)
		d->has[i] = chain_compact(chain, i);
	if (d->block)
		chain_compose(chain, d->block);
	chain_destroy(chain);
	return s || d->block ? s : wasd_fail(err, WASD_ENOMEM, "checkpoint");
}

enum wasd_status checkpoint_param(const struct checkpoint *c, const struct wasd_graph *g, int param,
                                  struct wasd_st_tensor *out, struct wasd_err *err)
{
	struct wasd_param_info p = wasd_graph_param_info(g, param);
	const struct wasd_st_tensor *t = wasd_st_find(c->st, p.name);
	enum wasd_status s = !t && c->composed ? compose(c, g, err) : WASD_OK;
	if (s)
		return s;
	if (!t && !(c->composed && c->composed->has[param]))
		return missing(p.name, err);
	if (t) {
		*out = *t;
		return WASD_OK;
	}
	*out = (struct wasd_st_tensor){.name = p.name,
	                               .dtype = REAL_DTYPE,
	                               .ndims = p.ndims,
	                               .count = p.count,
	                               .data = c->composed->block + p.offset};
	dims_of(&p, out->dims);
	return WASD_OK;
}

static enum wasd_status load_value(const struct checkpoint *c, const struct wasd_graph *g, int param, real *dst,
                                   struct wasd_err *err)
{
	struct wasd_param_info p = wasd_graph_param_info(g, param);
	struct wasd_st_tensor t;
	size_t dims[4];
	dims_of(&p, dims);
	enum wasd_status s = checkpoint_param(c, g, param, &t, err);
	return s ? s : copy_tensor(&t, c->arch, p.ndims, dims, -INFINITY, dst + p.offset, err);
}

enum wasd_status checkpoint_load_params(const struct checkpoint *c, const struct wasd_graph *g, const char *prefix,
                                        real *dst, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (int i = 0; i < wasd_graph_params(g) && !s; i++)
		s = *prefix ? load_param(c, g, prefix, i, dst, err) : load_value(c, g, i, dst, err);
	return s;
}

enum wasd_status checkpoint_load_optim(const struct checkpoint *c, const struct wasd_graph *g,
                                       const struct weight_chain *weights, const char *name, real *dst,
                                       struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	char prefix[64];
	snprintf(prefix, sizeof prefix, "optim.%s.", name);
	for (int i = 0; i < wasd_graph_params(g) && !s; i++)
		if (!chain_composes(weights, i))
			s = load_param(c, g, prefix, i, dst, err);
	return s;
}

static enum wasd_status load_masters(const struct checkpoint *c, const struct wasd_graph *g,
                                     const struct weight_chain *weights, real *master, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (int i = 0; i < wasd_graph_params(g) && !s; i++)
		if (chain_links(weights, i))
			s = load_param(c, g, "weights.master.", i, master, err);
	return s;
}

enum wasd_status checkpoint_load_weights(const struct checkpoint *c, const struct wasd_graph *g,
                                         struct weight_chain *weights, real *master, struct wasd_err *err)
{
	enum wasd_status s = load_masters(c, g, weights, master, err);
	return s ? s : load_states(c, weights, err);
}

static void stat_name(char out[NAME_MAX_LEN], const char *prefix, const char *bn, const char *which)
{
	snprintf(out, NAME_MAX_LEN, "%s%s.%s", prefix, bn, which);
}

enum wasd_status checkpoint_read_stats(const struct wasd_st *st, const char *arch, const struct wasd_graph *g,
                                       const char *prefix, real *dst, bool *present, struct wasd_err *err)
{
	char name[NAME_MAX_LEN];
	*present = true;
	for (int i = 0; i < wasd_graph_stats(g); i++) {
		struct wasd_stats_info b = wasd_graph_stats_info(g, i);
		size_t dims[1] = {(size_t)b.channels};
		stat_name(name, prefix, b.name, "running_mean");
		if (i == 0 && !wasd_st_find(st, name)) {
			*present = false;
			return WASD_OK;
		}
		enum wasd_status s = load_one(st, arch, name, 1, dims, -INFINITY, dst + b.mean_offset, err);
		stat_name(name, prefix, b.name, "running_var");
		if (!s)
			s = load_one(st, arch, name, 1, dims, 0, dst + b.var_offset, err);
		if (s)
			return s;
	}
	return WASD_OK;
}

enum wasd_status checkpoint_load_stats(const struct checkpoint *c, const struct wasd_graph *g, const char *prefix,
                                       real *dst, bool *present, struct wasd_err *err)
{
	return checkpoint_read_stats(c->st, c->arch, g, prefix, dst, present, err);
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

/* One block of the optimizer's state; without: the chain (NULL: none) that composes parameters, which have none. */
static void add_optim(struct wasd_st_writer *w, const struct wasd_graph *g, const struct weight_block *block,
                      const struct weight_chain *without)
{
	char prefix[64];
	snprintf(prefix, sizeof prefix, "optim.%s.", block->name);
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		if (!without || !chain_composes(without, i))
			add_param(w, prefix, &p, block->values + p.offset);
	}
}

/* chain (NULL: none): the parameters that a compact strategy composes are left out. */
static void add_weights(struct wasd_st_writer *w, const struct wasd_graph *g, const struct wasd_model *m,
                        const struct weight_chain *chain)
{
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		if (!chain || !chain_compact(chain, i))
			add_param(w, "", &p, wasd_model_weights(m, i));
	}
}

/* Adds what the chain needs to resume. */
static void add_chain(struct wasd_st_writer *w, const struct wasd_graph *g, const struct weight_chain *c,
                      const real *master)
{
	struct chain_state own;
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		if (chain_links(c, i))
			add_param(w, "weights.master.", &p, master + p.offset);
	}
	for (int bits = 0; bits < 2; bits++)
		for (int i = 0; chain_state(c, i, &own); i++) {
			char name[NAME_MAX_LEN];
			size_t bytes = weight_state_bytes(&own.tensor);
			own_name(name, own.of->name, own.tensor.name);
			if (bits && own.tensor.bits)
				wasd_st_writer_add(w, name, WASD_U8, 1, &bytes, own.tensor.bits);
			else if (!bits && own.tensor.values)
				wasd_st_writer_add(w, name, REAL_DTYPE, own.tensor.ndims, own.tensor.dims, own.tensor.values);
		}
}

void checkpoint_add_stats(struct wasd_st_writer *w, const struct wasd_graph *g, const char *prefix, const real *block)
{
	for (int i = 0; i < wasd_graph_stats(g); i++) {
		struct wasd_stats_info b = wasd_graph_stats_info(g, i);
		char name[NAME_MAX_LEN];
		size_t dims[1] = {(size_t)b.channels};
		stat_name(name, prefix, b.name, "running_mean");
		wasd_st_writer_add(w, name, REAL_DTYPE, 1, dims, block + b.mean_offset);
		stat_name(name, prefix, b.name, "running_var");
		wasd_st_writer_add(w, name, REAL_DTYPE, 1, dims, block + b.var_offset);
	}
}

/* NULL is written as "null". Returns false when out of memory. */
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

static bool add_pixels(struct wasd_st_writer *w, const struct wasd_pixels *p, int channels)
{
	if (!p || wasd_pixels_are_half(p))
		return true;
	cJSON *j = wasd_pixels_to_json(p, channels);
	bool ok = j && add_json(w, "normalize", j);
	cJSON_Delete(j);
	return ok;
}

static bool add_metadata(struct wasd_st_writer *w, const struct checkpoint_source *s)
{
	struct wasd_shape in = wasd_graph_input_shape(s->graph);
	cJSON *input = cJSON_CreateIntArray((int[]){in.c, in.h, in.w}, 3);
	cJSON *names = cJSON_CreateStringArray((const char *const *)s->class_names, wasd_graph_classes(s->graph));
	const struct weight_strategy *composer = s->weights ? chain_compact(s->weights, -1) : NULL;
	wasd_st_writer_meta(w, "format", composer ? CHECKPOINT_FORMAT_COMPACT : CHECKPOINT_FORMAT);
	if (composer)
		wasd_st_writer_meta(w, "composed", composer->name);
	wasd_st_writer_meta(w, "arch", s->arch);
	wasd_st_writer_meta(w, "dataset_digest", s->dataset_digest);
	bool ok = input && names && add_json(w, "input", input) && add_json(w, "classes", names) &&
	          add_json(w, "spec", s->spec) && add_json(w, "was", s->was) && add_json(w, "modes", s->modes) &&
	          add_json(w, "progress", s->progress) && add_json(w, "fingerprint", s->fingerprint) &&
	          (!s->network || add_json(w, "network", s->network)) &&
	          (!s->merged_from || add_json(w, "merged_from", s->merged_from)) && add_prepare(w, s->prepare) &&
	          add_pixels(w, s->pixels, in.c);
	cJSON_Delete(input);
	cJSON_Delete(names);
	return ok;
}

enum wasd_status checkpoint_write(const struct checkpoint_source *src, void **bytes, size_t *len, struct wasd_err *err)
{
	char name[NAME_MAX_LEN];
	const cJSON *entry;
	int n = 0;
	enum wasd_status s = WASD_OK;
	struct wasd_st_writer *w = wasd_st_writer_create();
	if (!w || !add_metadata(w, src)) {
		s = wasd_fail(err, WASD_ENOMEM, "checkpoint");
		goto end;
	}
	/* Write the 64-bit words first, so that they keep their natural alignment in the file. */
	for (int i = 0; i < CHECKPOINT_WORDS && src->words[i].name; i++) {
		snprintf(name, sizeof name, "state.%s", src->words[i].name);
		wasd_st_writer_add(w, name, WASD_U64, 1, &src->words[i].n, src->words[i].v);
	}
	add_weights(w, src->graph, src->model, src->weights);
	if (src->train)
		checkpoint_add_stats(w, src->graph, CHECKPOINT_TRAIN, src->train);
	cJSON_ArrayForEach(entry, src->modes) {
		if (src->stats[n])
			checkpoint_add_stats(w, src->graph, wasd_json_get(entry, "statistics")->valuestring, src->stats[n]);
		n++;
	}
	for (int i = 0; src->optim && src->optim[i].name; i++)
		add_optim(w, src->graph, &src->optim[i], src->weights);
	if (src->weights)
		add_chain(w, src->graph, src->weights, wasd_model_master(src->model));
	s = wasd_st_writer_block(w, bytes, len, err);
end:
	wasd_st_writer_destroy(w);
	return s;
}
