/* convert/safetensors.c - exports a checkpoint without what only a run needs: a state_dict that PyTorch loads, with
 * everything that a deployment needs in its metadata.
 *
 * Tensors are copied as stored, without computation, so an import (import.c) gets the same bits back. */
#include "convert/state_dict.h"
#include "wasd/slim.h"
#include "wasd/convert.h"

#include <stdio.h>
#include <string.h>

#define NAME_SIZE 160
#define REAL_DTYPE (sizeof(real) == 8 ? WASD_F64 : WASD_F32)

static enum wasd_status pass(const struct checkpoint *c, const char *name, struct wasd_st_writer *w,
                             struct wasd_err *err)
{
	const struct wasd_st_tensor *t = wasd_st_find(c->st, name);
	if (!t)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: missing from the checkpoint", name);
	wasd_st_writer_add(w, name, t->dtype, t->ndims, t->dims, t->data);
	return WASD_OK;
}

static enum wasd_status pass_param(const struct checkpoint *c, const struct wasd_graph *g, int param,
                                   struct wasd_st_writer *w, struct wasd_err *err)
{
	struct wasd_st_tensor t;
	enum wasd_status s = checkpoint_param(c, g, param, &t, err);
	if (!s)
		wasd_st_writer_add(w, t.name, t.dtype, t.ndims, t.dims, t.data);
	return s;
}

static enum wasd_status pass_stats(const struct checkpoint *c, const struct wasd_graph *g, const char *prefix,
                                   struct wasd_st_writer *w, struct wasd_err *err)
{
	static const char *const parts[] = {"running_mean", "running_var"};
	char name[NAME_SIZE];
	enum wasd_status s = WASD_OK;
	for (int i = 0; i < wasd_graph_stats(g) && !s; i++)
		for (int k = 0; k < 2 && !s; k++) {
			snprintf(name, sizeof name, "%s%s.%s", prefix, wasd_graph_stats_info(g, i).name, parts[k]);
			s = pass(c, name, w, err);
		}
	return s;
}

/* Whether an earlier mode of the list has the statistics of this one. */
static bool written(const struct checkpoint *c, const cJSON *entry, const char *prefix)
{
	struct mode m;
	for (const cJSON *e = c->modes->child; e != entry; e = e->next)
		if (!mode_read(e, &m, NULL) && m.measured && !strcmp(m.statistics, prefix))
			return true;
	return false;
}

/* The masks of strategies, whose bits are the only bytes in a checkpoint. */
static enum wasd_status pass_masks(const struct checkpoint *c, struct wasd_st_writer *w, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (size_t i = 0; i < wasd_st_count(c->st) && !s; i++) {
		const struct wasd_st_tensor *t = wasd_st_at(c->st, i);
		if (t->dtype == WASD_U8 && !strncmp(t->name, "weights.", 8))
			s = pass(c, t->name, w, err);
	}
	return s;
}

/* Adds v as JSON text under key; false: no memory. */
static bool put_json(struct wasd_st_writer *w, const char *key, const cJSON *v)
{
	char *text = wasd_json_print(v);
	if (text)
		wasd_st_writer_meta(w, key, text);
	wasd_free(text);
	return text != NULL;
}

/* What a file says of its weights. */
struct content {
	const cJSON *model, *modes, *was, *draw, *spec; /* modes: names */
};

static bool put_metadata(struct wasd_st_writer *w, const struct checkpoint *c, const struct content *of)
{
	cJSON *input = cJSON_CreateIntArray((int[]){c->input.c, c->input.h, c->input.w}, 3);
	wasd_st_writer_meta(w, "format", "pt");
	wasd_st_writer_meta(w, "producer", "wasd " WASD_VERSION);
	char *pixels = wasd_pixels_rule(&c->pixels, c->input.c);
	bool ok = input && pixels && put_json(w, "model", of->model) && put_json(w, "classes", c->class_names) &&
	          put_json(w, "input", input) && put_json(w, "modes", of->modes) && put_json(w, "was", of->was) &&
	          put_json(w, "draw", of->draw) && put_json(w, "spec", of->spec);
	if (ok && wasd_st_meta(c->st, "prepare"))
		wasd_st_writer_meta(w, "prepare", wasd_st_meta(c->st, "prepare"));
	if (pixels)
		wasd_st_writer_meta(w, "pixels", pixels);
	if (ok && wasd_st_meta(c->st, "normalize"))
		wasd_st_writer_meta(w, "normalize", wasd_st_meta(c->st, "normalize"));
	wasd_free(pixels);
	cJSON_Delete(input);
	return ok;
}

/* The list has the names of the modes that were measured, and the recorded draw has a place of its own. */
static bool put_all_modes(struct wasd_st_writer *w, const struct checkpoint *c)
{
	cJSON *modes = cJSON_CreateArray(), *none = cJSON_CreateNull();
	struct content of = {checkpoint_network(c), modes, c->was, none, c->spec};
	const cJSON *entry;
	struct mode m;
	bool ok = modes && none;
	cJSON_ArrayForEach(entry, c->modes) {
		if (mode_read(entry, &m, NULL))
			continue;
		if (m.kind == &mode_draw)
			of.draw = m.recipe;
		ok = ok && (!m.measured || cJSON_AddItemToArray(modes, cJSON_CreateString(m.name)));
	}
	ok = ok && put_metadata(w, c, &of);
	cJSON_Delete(modes);
	cJSON_Delete(none);
	return ok;
}

enum wasd_status wasd_export_safetensors(const void *bytes, size_t len, void **out, size_t *out_len,
                                         struct wasd_err *err)
{
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	struct wasd_st_writer *w = NULL;
	const cJSON *entry;
	struct mode m;
	enum wasd_status s = checkpoint_open(bytes, len, &c, err);
	if (s || (s = checkpoint_graph(&c, &g, err)) || (s = checkpoint_check_names(&c, g, err)))
		goto end;
	w = wasd_st_writer_create();
	if (!w || !put_all_modes(w, &c)) {
		s = wasd_fail(err, WASD_ENOMEM, "safetensors");
		goto end;
	}
	for (int i = 0; i < wasd_graph_params(g) && !s; i++)
		s = pass_param(&c, g, i, w, err);
	cJSON_ArrayForEach(entry, c.modes)
		if (!s && !(s = mode_read(entry, &m, err)) && m.measured && !written(&c, entry, m.statistics))
			s = pass_stats(&c, g, m.statistics, w, err);
	if (!s)
		s = pass_masks(&c, w, err);
	if (!s)
		s = wasd_st_writer_block(w, out, out_len, err);
end:
	wasd_st_writer_destroy(w);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
	return s;
}

/* ---- other values ---------------------------------------------------------------------------------------------- */

static void put_values(struct wasd_st_writer *w, struct wasd_model *m)
{
	const struct wasd_graph *g = wasd_model_graph(m);
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		size_t dims[4];
		for (int d = 0; d < p.ndims; d++)
			dims[d] = (size_t)p.dims[d];
		wasd_st_writer_add(w, p.name, REAL_DTYPE, p.ndims, dims, wasd_model_master(m) + p.offset);
	}
	checkpoint_add_stats(w, g, "", wasd_model_stats(m, WASD_STATS_AOM));
}

enum wasd_status state_dict_write(const struct checkpoint *c, struct wasd_model *m, void **out, size_t *len,
                                  struct wasd_err *err)
{
	cJSON *modes = cJSON_CreateStringArray((const char *const[]){WASD_MODE_AOM}, 1), *none = cJSON_CreateNull();
	struct wasd_st_writer *w = wasd_st_writer_create();
	bool ok = modes && none && w &&
	          put_metadata(w, c, &(struct content){checkpoint_network(c), modes, c->was, none, c->spec});
	if (ok)
		put_values(w, m);
	enum wasd_status s = ok ? wasd_st_writer_block(w, out, len, err) : wasd_fail(err, WASD_ENOMEM, "safetensors");
	wasd_st_writer_destroy(w);
	cJSON_Delete(none);
	cJSON_Delete(modes);
	return s;
}

/* ---- a mode with a smaller network ------------------------------------------------------------------------------- */

/* Its weights and statistics are those of AOM, whose name the mode has in the file of a network of its own. */
static bool put_slim(struct wasd_st_writer *w, const struct checkpoint *c, const struct wasd_slim *s)
{
	cJSON *modes = cJSON_CreateStringArray((const char *const[]){WASD_MODE_AOM}, 1), *none = cJSON_CreateNull(),
		  *off = cJSON_CreateFalse(), *spec = cJSON_Duplicate(c->spec, true),
		  *model = cJSON_Duplicate(wasd_slim_model(s), true);
	bool ok = modes && none && off && model;
	cJSON_DeleteItemFromObjectCaseSensitive(spec, "weights"); /* what formed the weights of the whole network */
	cJSON_DeleteItemFromObjectCaseSensitive(spec, "was");
	ok = cJSON_AddFalseToObject(spec, "was") && ok;
	if (!cJSON_ReplaceItemInObjectCaseSensitive(spec, "model", model))
		ok = false;
	else
		model = NULL;
	ok = ok && put_metadata(w, c, &(struct content){wasd_slim_model(s), modes, off, none, spec});
	cJSON_Delete(model);
	cJSON_Delete(spec);
	cJSON_Delete(off);
	cJSON_Delete(none);
	cJSON_Delete(modes);
	return ok;
}

static enum wasd_status load_smaller(const struct checkpoint *c, const char *name, struct wasd_graph **g,
                                     struct wasd_model **m, struct wasd_slim **out, struct wasd_err *err)
{
	bool present;
	struct mode mode;
	struct wasd_recipe *none = NULL;
	enum wasd_status s = checkpoint_mode(c, name, &mode, err);
	if (!s && !mode.kind->smaller)
		return wasd_fail(err, WASD_EINVAL, "mode %s has the checkpoint's own network", mode.name);
	if (s || (s = checkpoint_graph(c, g, err)) || (s = checkpoint_check_names(c, *g, err)) ||
	    (s = mode.kind->open(&mode, *g, &none, err)) || (s = wasd_model_create(*g, 0, m, err)) ||
	    (s = checkpoint_load_params(c, *g, "", wasd_model_master(*m), err)) ||
	    (s = checkpoint_load_stats(c, *g, mode.statistics, wasd_model_stats(*m, WASD_STATS_AOM), &present, err)))
		return s;
	if (!present)
		return wasd_fail_at(err, WASD_ECORRUPT, "", "checkpoint: BatchNorm statistics of mode %s are missing",
		                    mode.name);
	return mode.kind->smaller(&mode, *m, c->arch, out, err);
}

enum wasd_status wasd_export_smaller(const void *bytes, size_t len, const char *mode, void **out, size_t *out_len,
                                     struct wasd_err *err)
{
	struct checkpoint c = {0};
	struct wasd_graph *g = NULL;
	struct wasd_model *whole = NULL, *small = NULL;
	struct wasd_slim *slim = NULL;
	struct wasd_st_writer *w = NULL;
	enum wasd_status s = checkpoint_open(bytes, len, &c, err);
	if (s || (s = load_smaller(&c, mode, &g, &whole, &slim, err)) || (s = wasd_slim_carry(slim, whole, &small, err)))
		goto end;
	w = wasd_st_writer_create();
	if (!w || !put_slim(w, &c, slim)) {
		s = wasd_fail(err, WASD_ENOMEM, "safetensors");
		goto end;
	}
	put_values(w, small);
	s = wasd_st_writer_block(w, out, out_len, err);
end:
	wasd_st_writer_destroy(w);
	wasd_model_destroy(small);
	wasd_slim_destroy(slim);
	wasd_model_destroy(whole);
	wasd_graph_destroy(g);
	checkpoint_done(&c);
	return s;
}
