/* train/mode_file.c - see mode_file.h. Mode files come from the database, and before that from a message; the
 * reader checks them as strictly as checkpoints. */
#include "train/mode_file.h"
#include "train/checkpoint.h"

#include <assert.h>
#include <string.h>

#define FORMAT "wasd-mode-1"
#define FORMAT_PROFILE "wasd-profile-1"

static enum wasd_status metadata(const struct mode_file *f, const char *key, const char **out, struct wasd_err *err)
{
	*out = wasd_st_meta(f->st, key);
	return *out ? WASD_OK : wasd_fail_at(err, WASD_ECORRUPT, key, "mode file: metadata lacks \"%s\"", key);
}

static enum wasd_status read_recipe(struct mode_file *f, const char *key, struct wasd_err *err)
{
	const char *text;
	struct wasd_err e = {0};
	enum wasd_status s = metadata(f, key, &text, err);
	if (!s && (s = wasd_json_parse(text, strlen(text), WASD_JSON_BULK, &f->recipe, &e)))
		s = wasd_fail_at(err, s == WASD_ENOMEM ? s : WASD_ECORRUPT, key, "mode file: metadata \"%s\": %s", key, e.msg);
	f->mode.recipe = f->recipe;
	return s;
}

static enum wasd_status read_mode(struct mode_file *f, struct wasd_err *err)
{
	const char *kind;
	f->mode = (struct mode){.statistics = "", .measured = true};
	enum wasd_status s = metadata(f, "kind", &kind, err);
	if (!s && !(f->mode.kind = mode_kind_find(kind)))
		s = wasd_fail_at(err, WASD_ECORRUPT, "kind", "mode file: of kind \"%.40s\", which this program does not know",
		                 kind);
	return s ? s : read_recipe(f, "recipe", err);
}

static enum wasd_status read_profile(struct mode_file *f, struct wasd_err *err)
{
	f->mode = (struct mode){.kind = &mode_draw, .statistics = "dom.", .measured = true};
	return read_recipe(f, "draw", err);
}

static enum wasd_status read_metadata(struct mode_file *f, const char *arch, struct wasd_err *err)
{
	const char *format = wasd_st_meta(f->st, "format"), *of = wasd_st_meta(f->st, "arch");
	bool profile = format && !strcmp(format, FORMAT_PROFILE);
	if (!profile && (!format || strcmp(format, FORMAT)))
		return wasd_fail_at(err, WASD_ECORRUPT, "format",
		                    "mode file: format is \"%.60s\", this program reads \"" FORMAT "\" and \"" FORMAT_PROFILE
		                    "\"",
		                    format ? format : "");
	if (!of || strcmp(of, arch))
		return wasd_fail_at(err, WASD_ECORRUPT, "arch", "mode file: of a %.60s, the checkpoint is of a %.60s",
		                    of ? of : "nothing", arch);
	enum wasd_status s = profile ? read_profile(f, err) : read_mode(f, err);
	f->mode.tensors = f->st;
	return s;
}

enum wasd_status mode_file_open(const void *bytes, size_t len, const char *arch, struct mode_file *out,
                                struct wasd_err *err)
{
	struct mode_file f = {0};
	enum wasd_status s = wasd_st_open(bytes, len, &f.st, err);
	if (s || (s = read_metadata(&f, arch, err)))
		mode_file_done(&f);
	else
		*out = f;
	return s;
}

void mode_file_done(struct mode_file *f)
{
	cJSON_Delete(f->recipe);
	wasd_st_close(f->st);
	*f = (struct mode_file){0};
}

enum wasd_status mode_file_load_stats(const struct mode_file *f, const char *arch, const struct wasd_graph *g,
                                      real *dst, struct wasd_err *err)
{
	bool present;
	const char *own = f->mode.kind->prefix;
	size_t n = strlen(f->mode.statistics), n_own = own ? strlen(own) : 0;
	for (size_t i = 0; i < wasd_st_count(f->st); i++) {
		const char *name = wasd_st_at(f->st, i)->name;
		if (own && !strncmp(name, own, n_own))
			continue;
		if (strncmp(name, f->mode.statistics, n) || !checkpoint_is_statistic(g, name + n))
			return wasd_fail_at(err, WASD_ECORRUPT, name, "mode file: a %.40s has no statistics %.100s", arch, name);
	}
	enum wasd_status s = checkpoint_read_stats(f->st, arch, g, f->mode.statistics, dst, &present, err);
	return s || present ? s : wasd_fail_at(err, WASD_ECORRUPT, "", "mode file: it has no BatchNorm statistics");
}

enum wasd_status mode_file_write(const struct wasd_graph *g, const char *arch, const struct mode_kind *kind,
                                 const struct mode_made *made, const real *stats, void **out, size_t *len,
                                 struct wasd_err *err)
{
	struct wasd_st_writer *w = wasd_st_writer_create();
	char *text = made->recipe ? wasd_json_print(made->recipe) : wasd_strdup("null");
	enum wasd_status s = w && text ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "mode file");
	if (!s) {
		wasd_st_writer_meta(w, "format", FORMAT);
		wasd_st_writer_meta(w, "arch", arch);
		wasd_st_writer_meta(w, "kind", kind->name);
		wasd_st_writer_meta(w, "recipe", text);
		checkpoint_add_stats(w, g, "", stats);
		for (int i = 0; i < made->n_tensors; i++) {
			const struct mode_tensor *t = &made->tensor[i];
			assert(kind->prefix && !strncmp(t->name, kind->prefix, strlen(kind->prefix)));
			wasd_st_writer_add(w, t->name, t->dtype, t->ndims, t->dims, t->data);
		}
		s = wasd_st_writer_block(w, out, len, err);
	}
	wasd_free(text);
	wasd_st_writer_destroy(w);
	return s;
}
