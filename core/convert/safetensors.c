/* convert/safetensors.c - exports a checkpoint without what only a run needs: a state_dict that PyTorch loads, with
 * everything that a deployment needs in its metadata.
 *
 * Tensors are copied as stored, without computation, so an import (import.c) gets the same bits back. */
#include "train/checkpoint.h"
#include "wasd/convert.h"

#include <stdio.h>
#include <string.h>

#define NAME_SIZE 160

static enum wasd_status pass(const struct checkpoint *c, const char *name, struct wasd_st_writer *w,
                             struct wasd_err *err)
{
	const struct wasd_st_tensor *t = wasd_st_find(c->st, name);
	if (!t)
		return wasd_fail_at(err, WASD_ECORRUPT, name, "%.120s: missing from the checkpoint", name);
	wasd_st_writer_add(w, name, t->dtype, t->ndims, t->dims, t->data);
	return WASD_OK;
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

/* The list has the names of the modes that were measured, and the recorded draw has a place of its own. */
static bool put_metadata(struct wasd_st_writer *w, const struct checkpoint *c)
{
	cJSON *input = cJSON_CreateIntArray((int[]){c->input.c, c->input.h, c->input.w}, 3), *modes = cJSON_CreateArray();
	cJSON *none = cJSON_CreateNull();
	const cJSON *entry, *draw = none;
	struct mode m;
	bool ok = input && modes && none;
	cJSON_ArrayForEach(entry, c->modes) {
		if (mode_read(entry, &m, NULL))
			continue;
		if (m.kind == &mode_draw)
			draw = m.recipe;
		ok = ok && (!m.measured || cJSON_AddItemToArray(modes, cJSON_CreateString(m.name)));
	}
	wasd_st_writer_meta(w, "format", "pt");
	wasd_st_writer_meta(w, "producer", "wasd " WASD_VERSION);
	char *pixels = wasd_pixels_rule(&c->pixels, c->input.c);
	ok = ok && pixels && put_json(w, "model", wasd_json_get(c->spec, "model")) &&
	     put_json(w, "classes", c->class_names) && put_json(w, "input", input) && put_json(w, "modes", modes) &&
	     put_json(w, "was", c->was) && put_json(w, "draw", draw) && put_json(w, "spec", c->spec);
	if (ok && wasd_st_meta(c->st, "prepare"))
		wasd_st_writer_meta(w, "prepare", wasd_st_meta(c->st, "prepare"));
	if (pixels)
		wasd_st_writer_meta(w, "pixels", pixels);
	if (ok && wasd_st_meta(c->st, "normalize"))
		wasd_st_writer_meta(w, "normalize", wasd_st_meta(c->st, "normalize"));
	wasd_free(pixels);
	cJSON_Delete(input);
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
	if (!w || !put_metadata(w, &c)) {
		s = wasd_fail(err, WASD_ENOMEM, "safetensors");
		goto end;
	}
	for (int i = 0; i < wasd_graph_params(g) && !s; i++)
		s = pass(&c, wasd_graph_param_info(g, i).name, w, err);
	cJSON_ArrayForEach(entry, c.modes)
		if (!s && !(s = mode_read(entry, &m, err)) && m.measured)
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
