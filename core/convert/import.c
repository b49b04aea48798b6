/* convert/import.c - imports a safetensors file from elsewhere as a checkpoint.
 *
 * The file is untrusted until every tensor has been checked. The reader in base/safetensors.c checks sizes and offsets;
 * this file compares names, shapes, types and values with the network that the model object describes. Nothing is
 * guessed: the error names what is missing or unexpected. */
#include "wasd/slim.h"
#include "train/checkpoint.h"
#include "wasd/convert.h"
#include "wasd/foreign.h"
#include "wasd/model.h"
#include "wasd/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE 160
/* The modes that such a file may have. */
enum { AOM, DOM, MODES_READ };
static const char *const mode_names[] = {WASD_MODE_AOM, WASD_MODE_DOM}, *const prefixes[] = {"", "dom."};
static const char *const parts[] = {"running_mean", "running_var"};

struct import {
	struct wasd_st *st;
	const char *prefix; /* common to all names in the file; not part of the network's names */
	cJSON *own;         /* the list of modes in a checkpoint of wasd with the state of a run; else NULL */
	cJSON *meta[10];    /* parsed metadata: see keys */
	cJSON *asked;       /* the model given by the caller, with every option filled in */
	const cJSON *model, *classes, *input; /* given by the caller or taken from the metadata */
	struct wasd_graph *graph;
	struct wasd_model *to;
	bool has[MODES_READ];
	uint64_t slim_macs; /* of the network without its dead channels; 0: none are dead */
};
enum { MODEL, CLASSES, INPUT, WAS, DRAW, SPEC, MODES, PREPARE, NORMALIZE, NETWORK };
static const char *const keys[] = {"model", "classes", "input",   "was",       "draw",
                                   "spec",  "modes",   "prepare", "normalize", "network"};

/* ---- recognising the file ------------------------------------------------------------------------------------ */

/* PyTorch wrappers (DataParallel and DDP, torch.compile) prepend a word to every name. Removes it if all names have
 * it. */
static void find_prefix(struct import *m)
{
	static const char *const words[] = {"module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."};
	size_t n = wasd_st_count(m->st);
	m->prefix = "";
	for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
		size_t len = strlen(words[k]), i = 0;
		while (i < n && !strncmp(wasd_st_at(m->st, i)->name, words[k], len) && wasd_st_at(m->st, i)->name[len])
			i++;
		if (n && i == n && len > strlen(m->prefix))
			m->prefix = words[k];
	}
}

/* The error for a foreign file names its format instead of describing what a safetensors file should contain. */
static enum wasd_status open_file(struct import *m, const void *bytes, size_t len, struct wasd_err *err)
{
	char text[WASD_FOREIGN_TEXT];
	enum wasd_status s = wasd_st_open(bytes, len, &m->st, err);
	if (!s)
		find_prefix(m);
	return s && s != WASD_ENOMEM && wasd_foreign(WASD_READS_WEIGHTS, bytes, len, text) ? wasd_fail(err, s, "%s", text) :
	                                                                                     s;
}

/* Of a checkpoint of wasd; the recorded draw is DOM's recipe. */
static enum wasd_status read_own_modes(struct import *m, struct wasd_err *err)
{
	struct mode one;
	const cJSON *entry;
	enum wasd_status s = checkpoint_read_modes(m->st, &m->own, err);
	cJSON_ArrayForEach(entry, m->own)
		if (!m->meta[DRAW] && !mode_read(entry, &one, NULL) && one.kind == &mode_draw &&
		    !(m->meta[DRAW] = cJSON_Duplicate(one.recipe, true)))
			s = wasd_fail(err, WASD_ENOMEM, "import");
	return s;
}

static enum wasd_status read_metadata(struct import *m, struct wasd_err *err)
{
	const char *format = wasd_st_meta(m->st, "format");
	bool own = format && checkpoint_is(format);
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		struct wasd_err e = {0};
		const char *text = i == NETWORK && !own ? NULL : wasd_st_meta(m->st, keys[i]);
		enum wasd_status s = text ? wasd_json_parse(text, strlen(text), WASD_JSON_BULK, &m->meta[i], &e) : WASD_OK;
		if (s)
			return wasd_fail_at(err, s == WASD_ENOMEM ? s : WASD_EINVAL, keys[i], "metadata \"%s\": %s", keys[i],
			                    e.msg);
	}
	return own ? read_own_modes(m, err) : WASD_OK;
}

static enum wasd_status read_shape(const cJSON *j, struct wasd_shape *in, struct wasd_err *err)
{
	int dim[3] = {0};
	bool ok = cJSON_IsArray(j) && cJSON_GetArraySize(j) == 3;
	for (int i = 0; ok && i < 3; i++) {
		const cJSON *d = cJSON_GetArrayItem(j, i);
		ok = cJSON_IsNumber(d) && d->valuedouble >= 1 && d->valuedouble <= 4096 &&
		     d->valuedouble == floor(d->valuedouble);
		dim[i] = ok ? (int)d->valuedouble : 0;
	}
	*in = (struct wasd_shape){dim[0], dim[1], dim[2]};
	return ok ? WASD_OK : wasd_fail_at(err, WASD_EINVAL, "/input", "/input: must be [channels, height, width]");
}

static enum wasd_status lacking(const char *what, struct wasd_err *err)
{
	char pointer[20];
	snprintf(pointer, sizeof pointer, "/%s", what);
	return wasd_fail_at(err, WASD_EINVAL, pointer, "%s: not in the file's metadata; give it with the request", pointer);
}

static enum wasd_status make_graph(struct import *m, const struct wasd_import *how, struct wasd_err *err)
{
	const cJSON *name, *spec_model = wasd_json_get(m->meta[SPEC], "model");
	struct wasd_shape in;
	const cJSON *stored = m->meta[MODEL] ? m->meta[MODEL] : m->meta[NETWORK] ? m->meta[NETWORK] : spec_model;
	if (how->model && !(m->asked = cJSON_Duplicate(how->model, true)))
		return wasd_fail(err, WASD_ENOMEM, "import");
	if (m->asked && wasd_network_complete(m->asked, stored, err))
		return WASD_ENOMEM;
	m->model = m->asked ? m->asked : stored;
	m->classes = how->classes ? how->classes : m->meta[CLASSES];
	m->input = how->input ? how->input : m->meta[INPUT];
	if (!m->model || !m->classes || !m->input)
		return lacking(!m->model ? "model" : !m->classes ? "classes" : "input", err);
	int n = cJSON_GetArraySize(m->classes);
	bool names = cJSON_IsArray(m->classes) && n >= 1 && n <= 65535;
	cJSON_ArrayForEach(name, m->classes)
		names = names && cJSON_IsString(name);
	if (!names)
		return wasd_fail_at(err, WASD_EINVAL, "/classes", "/classes: must be a list of names");
	enum wasd_status s = read_shape(m->input, &in, err);
	struct wasd_err e = {0};
	if (s || !(s = wasd_network_build(m->model, in, n, &m->graph, &e)))
		return s;
	/* Where the shape does not fit, a job's error points to its data set; here the input is at fault. */
	return wasd_fail_at(err, s, strcmp(e.pointer, "/dataset") ? e.pointer : "/input", "%s", e.msg);
}

/* ---- tensors -------------------------------------------------------------------------------------------------- */

/* IEEE half: 1 sign, 5 exponent (bias 15), 10 fraction bits; exponent 0 is subnormal, 31 infinite or NaN. */
static double half(uint16_t h)
{
	int e = h >> 10 & 31, f = h & 1023;
	double v = e == 31 ? (f ? (double)NAN : (double)INFINITY) : e ? ldexp(1024 + f, e - 25) : ldexp(f, -24);
	return h >> 15 ? -v : v;
}

static double element(const struct wasd_st_tensor *t, size_t i)
{
	const char *p = (const char *)t->data + i * wasd_dtype_size(t->dtype);
	double d;
	float f;
	uint16_t h;
	uint32_t bits;
	if (t->dtype == WASD_F64) {
		memcpy(&d, p, sizeof d);
		return d;
	}
	if (t->dtype == WASD_F32) {
		memcpy(&f, p, sizeof f);
		return (double)f;
	}
	memcpy(&h, p, sizeof h);
	if (t->dtype == WASD_F16)
		return half(h);
	bits = (uint32_t)h << 16; /* bfloat16: the upper half of a float */
	memcpy(&f, &bits, sizeof f);
	return (double)f;
}

static const struct wasd_st_tensor *find(const struct import *m, const char *name)
{
	char full[NAME_SIZE + 40];
	snprintf(full, sizeof full, "%s%s", m->prefix, name);
	return wasd_st_find(m->st, full);
}

static enum wasd_status load_one(const struct import *m, const char *name, int n_dims, const size_t *dims,
                                 double lowest, real *dst, struct wasd_err *err)
{
	const struct wasd_st_tensor *t = find(m, name);
	if (!t)
		return wasd_fail_at(err, WASD_EINVAL, name, "%.120s: missing from the file", name);
	if (t->dtype != WASD_F32 && t->dtype != WASD_F16 && t->dtype != WASD_BF16 && t->dtype != WASD_F64)
		return wasd_fail_at(err, WASD_EINVAL, name, "%.120s: has type %s, but must be F32, F16, BF16 or F64", name,
		                    wasd_dtype_name(t->dtype));
	if (t->ndims != n_dims || (n_dims && memcmp(t->dims, dims, (size_t)n_dims * sizeof *dims))) {
		char have[64], want[64];
		wasd_st_dims_text(have, t->ndims, t->dims);
		wasd_st_dims_text(want, n_dims, dims);
		return wasd_fail_at(err, WASD_EINVAL, name, "%.100s: shape %s, but the network has %s", name,
		                    *have ? have : "of a scalar", want);
	}
	for (size_t i = 0; i < t->count; i++) {
		double v = element(t, i);
		dst[i] = (real)v;
		if (!isfinite(v) || !isfinite(dst[i]) || v < lowest)
			return wasd_fail_at(err, WASD_EINVAL, name, "%.120s: element %zu has the invalid value %g", name, i, v);
	}
	return WASD_OK;
}

static enum wasd_status load_params(struct import *m, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (int i = 0; i < wasd_graph_params(m->graph) && !s; i++) {
		struct wasd_param_info p = wasd_graph_param_info(m->graph, i);
		size_t dims[4];
		for (int d = 0; d < p.ndims; d++)
			dims[d] = (size_t)p.dims[d];
		s = load_one(m, p.name, p.ndims, dims, -INFINITY, wasd_model_master(m->to) + p.offset, err);
	}
	return s;
}

/* Loads all statistics of a set; *present is false if the file has none of them. */
static enum wasd_status load_stats(struct import *m, int mode, bool *present, struct wasd_err *err)
{
	char name[NAME_SIZE], missing[NAME_SIZE] = "";
	real *stats = wasd_model_stats(m->to, mode == DOM ? WASD_STATS_DOM : WASD_STATS_AOM);
	enum wasd_status s = WASD_OK;
	*present = !wasd_graph_stats(m->graph);
	for (int i = 0; i < wasd_graph_stats(m->graph) && !s; i++) {
		struct wasd_stats_info b = wasd_graph_stats_info(m->graph, i);
		for (int k = 0; k < 2 && !s; k++) {
			snprintf(name, sizeof name, "%s%s.%s", prefixes[mode], b.name, parts[k]);
			if (!find(m, name)) {
				snprintf(missing, sizeof missing, "%s", *missing ? missing : name);
				continue;
			}
			*present = true;
			s = load_one(m, name, 1, &(size_t){(size_t)b.channels}, k ? 0 : -INFINITY,
			             stats + (k ? b.var_offset : b.mean_offset), err);
		}
	}
	if (!s && *present && *missing)
		s = wasd_fail_at(err, WASD_EINVAL, missing,
		                 "%.120s: missing from the file, although it has other statistics of this mode", missing);
	return s;
}

static bool is_stat(const struct import *m, const char *name)
{
	const char *dot = strrchr(name, '.');
	for (int i = 0; dot && i < wasd_graph_stats(m->graph); i++) {
		const char *bn = wasd_graph_stats_info(m->graph, i).name;
		if (strlen(bn) == (size_t)(dot - name) && !strncmp(bn, name, strlen(bn)))
			return !strcmp(dot + 1, parts[0]) || !strcmp(dot + 1, parts[1]) || !strcmp(dot + 1, "num_batches_tracked");
	}
	return false;
}

/* "width:0.5.bn1.running_mean": statistics of a narrower network, which are left out. */
static bool is_of_width(const struct import *m, const char *name)
{
	static const char family[] = WASD_FAMILY_WIDTH ":";
	static const char digits[] = "0123456789";
	if (strncmp(name, family, sizeof family - 1))
		return false;
	const char *rest = name + sizeof family - 1;
	rest += strspn(rest, digits);
	rest += *rest == '.' ? 1 + strspn(rest + 1, digits) : 0;
	return *rest == '.' && is_stat(m, rest + 1);
}

static enum wasd_status check_names(const struct import *m, struct wasd_err *err)
{
	for (size_t i = 0; i < wasd_st_count(m->st); i++) {
		const char *name = wasd_st_at(m->st, i)->name + strlen(m->prefix);
		bool state = m->own && (!strncmp(name, "state.", 6) || !strncmp(name, "optim.", 6) ||
		                        !strncmp(name, "weights.", 8) || !strncmp(name, "train.", 6));
		/* Exports of wasd have the masks of strategies: the zeros are in the weights themselves. */
		state |= !strncmp(name, "weights.", 8) && wasd_st_at(m->st, i)->dtype == WASD_U8;
		if (!state && wasd_graph_param_find(m->graph, name) < 0 && !is_stat(m, name) && !is_of_width(m, name) &&
		    (strncmp(name, "dom.", 4) || !is_stat(m, name + 4)))
			return wasd_fail_at(err, WASD_EINVAL, name, "%.120s: unexpected; the network has no such tensor", name);
	}
	return WASD_OK;
}

/* What the file claims about a mode: the list of modes it has or, in a checkpoint of wasd, whether the mode's
 * statistics were measured. */
static bool claimed(const struct import *m, const char *mode)
{
	const cJSON *one;
	struct mode own;
	cJSON_ArrayForEach(one, m->own)
		if (!mode_read(one, &own, NULL) && !strcmp(own.name, mode))
			return own.measured;
	cJSON_ArrayForEach(one, m->meta[MODES])
		if (cJSON_IsString(one) && !strcmp(one->valuestring, mode))
			return true;
	return !m->own && !m->meta[MODES];
}

static enum wasd_status load(struct import *m, const struct wasd_import *how, struct wasd_draw *draw,
                             struct wasd_err *err)
{
	enum wasd_status s = wasd_model_create(m->graph, 0, &m->to, err);
	if (s || (s = check_names(m, err)) || (s = load_params(m, err)) || (s = load_stats(m, AOM, &m->has[AOM], err)) ||
	    (s = load_stats(m, DOM, &m->has[DOM], err)))
		return s;
	m->has[AOM] = m->has[AOM] && claimed(m, mode_names[AOM]);
	m->has[DOM] = m->has[DOM] && claimed(m, mode_names[DOM]) && cJSON_IsArray(m->meta[DRAW]) &&
	              cJSON_IsObject(m->meta[WAS]);
	if (how->to_serve && !m->has[AOM])
		return wasd_fail_at(
			err, WASD_EINVAL, "running_mean",
			"the file has no BatchNorm statistics (%s.running_mean, ...); train from it (init_from) to measure them",
			wasd_graph_stats(m->graph) ? wasd_graph_stats_info(m->graph, 0).name : "NAME");
	struct wasd_err e = {0};
	if (m->has[DOM] && (s = wasd_draw_from_json(m->meta[DRAW], m->graph, draw, &e)))
		return wasd_fail_at(err, s == WASD_ENOMEM ? s : WASD_EINVAL, "draw", "metadata \"draw\": %s", e.msg);
	return WASD_OK;
}

/* Files from elsewhere may be of networks with dead channels too. One that cannot be cut has no mode slim. */
static enum wasd_status find_slim(struct import *m, struct wasd_err *err)
{
	struct wasd_slim *s = NULL;
	if (!m->has[AOM])
		return WASD_OK;
	enum wasd_status st = wasd_slim_of(m->graph, wasd_model_master(m->to), wasd_model_stats(m->to, WASD_STATS_AOM),
	                                   WASD_MODE_SLIM, &s, err);
	if (!st && wasd_slim_removed(s))
		m->slim_macs = wasd_graph_macs(wasd_slim_graph(s), NULL);
	wasd_slim_destroy(s);
	return st == WASD_ENOMEM ? st : WASD_OK;
}

/* ---- the checkpoint --------------------------------------------------------------------------------------------- */

static cJSON *make_info(const struct import *m, const char *arch, const struct wasd_draw *draw)
{
	bool dom = m->has[DOM];
	cJSON *j = cJSON_CreateObject(), *macs = cJSON_CreateObject();
	bool ok = wasd_json_put(macs, "aom", cJSON_CreateNumber((double)wasd_graph_macs(m->graph, NULL))) &&
	          (!m->slim_macs || wasd_json_put(macs, WASD_MODE_SLIM, cJSON_CreateNumber((double)m->slim_macs))) &&
	          (!dom ||
	           wasd_json_put(macs, "dom", cJSON_CreateNumber((double)wasd_graph_macs(m->graph, &draw->recipe))));
	ok = wasd_json_put(j, "macs", macs) && ok && wasd_json_put(j, "arch", cJSON_CreateString(arch)) &&
	     wasd_json_put(j, "classes", cJSON_Duplicate(m->classes, true)) &&
	     wasd_json_put(j, "input", cJSON_Duplicate(m->input, true)) &&
	     wasd_json_put(j, "was", dom ? cJSON_Duplicate(m->meta[WAS], true) : cJSON_CreateFalse()) &&
	     wasd_json_put(j, "draw", dom ? cJSON_Duplicate(m->meta[DRAW], true) : cJSON_CreateNull()) &&
	     (!*m->prefix || wasd_json_put(j, "prefix", cJSON_CreateString(m->prefix)));
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

/* The job's spec if the file carries one, but always with the model that was built. */
static cJSON *make_spec(const struct import *m)
{
	cJSON *spec = cJSON_IsObject(m->meta[SPEC]) ? cJSON_Duplicate(m->meta[SPEC], true) : cJSON_CreateObject();
	if (wasd_json_put(spec, "model", cJSON_Duplicate(m->model, true)))
		return spec;
	cJSON_Delete(spec);
	return NULL;
}

/* AOM is in the list also where its statistics are still to be measured. */
static cJSON *make_modes(const struct import *m)
{
	cJSON *list = cJSON_CreateArray();
	if (wasd_json_push(list, mode_entry(WASD_MODE_AOM, &mode_plain, NULL, prefixes[AOM], m->has[AOM])) &&
	    (!m->has[DOM] || wasd_json_push(list, mode_entry(WASD_MODE_DOM, &mode_draw,
	                                                     cJSON_Duplicate(m->meta[DRAW], true), prefixes[DOM], true))) &&
	    (!m->slim_macs || wasd_json_push(list, mode_entry(WASD_MODE_SLIM, &mode_slim, NULL, prefixes[AOM], true))))
		return list;
	cJSON_Delete(list);
	return NULL;
}

static enum wasd_status write_checkpoint(const struct import *m, const cJSON *info, const char *arch, void **out,
                                         size_t *out_len, struct wasd_err *err)
{
	int n = cJSON_GetArraySize(m->classes), i = 0;
	const char **names = wasd_calloc((size_t)n, sizeof *names);
	cJSON *spec = make_spec(m), *progress = cJSON_CreateObject(), *modes = make_modes(m);
	const real *aom = m->has[AOM] ? wasd_model_stats(m->to, WASD_STATS_AOM) : NULL;
	/* In the order of the list; slim has those of AOM. */
	const real *stats[] = {aom, m->has[DOM] ? wasd_model_stats(m->to, WASD_STATS_DOM) : NULL, NULL};
	const cJSON *name;
	const char *producer = wasd_st_meta(m->st, "producer");
	bool older = !m->meta[PREPARE] && (m->own || (producer && !strncmp(producer, "wasd ", 5))); /* than the record */
	struct wasd_prepare prepare = older ? (struct wasd_prepare){0} : wasd_prepare_default;
	struct wasd_pixels pixels = wasd_pixels_half;
	struct wasd_err e = {0};
	enum wasd_status s = wasd_prepare_read(m->meta[PREPARE], &prepare, &e);
	cJSON_ArrayForEach(name, m->classes)
		if (names)
			names[i++] = name->valuestring;
	bool ok = names && spec && modes && wasd_json_put(progress, "epoch", cJSON_CreateNumber(0));
	struct checkpoint_source src = {
		.graph = m->graph,
		.model = m->to,
		.train = aom, /* a run that starts here has no better running values */
		.modes = modes,
		.stats = stats,
		.arch = arch,
		.dataset_digest = "",
		.class_names = names,
		.spec = spec,
		.was = wasd_json_get(info, "was"),
		.progress = progress,
		.prepare = &prepare,
		.pixels = &pixels,
	};
	if (s)
		s = wasd_fail_at(err, s, "prepare", "metadata \"prepare\": %.180s", e.msg);
	else if (m->meta[NORMALIZE] &&
	         (s = wasd_pixels_read(m->meta[NORMALIZE], "", wasd_graph_input_shape(m->graph).c, &pixels, &e)))
		s = wasd_fail_at(err, s, "normalize", "metadata \"normalize\": %.180s", e.msg);
	else
		s = ok ? checkpoint_write(&src, out, out_len, err) : wasd_fail(err, WASD_ENOMEM, "import");
	wasd_free(names);
	cJSON_Delete(spec);
	cJSON_Delete(progress);
	cJSON_Delete(modes);
	return s;
}

/* A compact checkpoint has no tensors for all parameters, but its export has. */
static enum wasd_status import_compact(const void *bytes, size_t len, const struct wasd_import *how, void **out,
                                       size_t *out_len, cJSON **info, struct wasd_err *err)
{
	void *whole = NULL;
	size_t size;
	enum wasd_status s = wasd_export_safetensors(bytes, len, &whole, &size, err);
	if (!s)
		s = wasd_import(whole, size, how, out, out_len, info, err);
	wasd_free(whole);
	return s;
}

enum wasd_status wasd_import(const void *bytes, size_t len, const struct wasd_import *how, void **out, size_t *out_len,
                             cJSON **info, struct wasd_err *err)
{
	struct import m = {0};
	struct wasd_draw draw = {0};
	cJSON *j = NULL;
	enum wasd_status s = open_file(&m, bytes, len, err);
	const char *format = s ? NULL : wasd_st_meta(m.st, "format");
	if (format && !strcmp(format, CHECKPOINT_FORMAT_COMPACT)) {
		s = import_compact(bytes, len, how, out, out_len, info, err);
		goto end;
	}
	if (s || (s = read_metadata(&m, err)) || (s = make_graph(&m, how, err)) || (s = load(&m, how, &draw, err)) ||
	    (s = find_slim(&m, err)))
		goto end;
	const char *arch = wasd_network_name(m.model);
	if (!(j = make_info(&m, arch, &draw)))
		s = wasd_fail(err, WASD_ENOMEM, "import");
	else
		s = write_checkpoint(&m, j, arch, out, out_len, err);
	if (!s) {
		*info = j;
		j = NULL;
	}
end:
	cJSON_Delete(j);
	wasd_draw_done(&draw);
	wasd_model_destroy(m.to);
	wasd_graph_destroy(m.graph);
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		cJSON_Delete(m.meta[i]);
	cJSON_Delete(m.asked);
	cJSON_Delete(m.own);
	wasd_st_close(m.st);
	return s;
}
