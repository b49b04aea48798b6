/* train/mode_file.c - see mode_file.h. Such a file comes from a database, and once it was a message: it is trusted no
 * more than a checkpoint. */
#include "train/mode_file.h"
#include "train/checkpoint.h"

#include <string.h>

#define FORMAT "wasd-profile-1"
#define PREFIX "dom."

static enum wasd_status read_recipe(struct mode_file *f, struct wasd_err *err)
{
	const char *text = wasd_st_meta(f->st, "draw");
	struct wasd_err e = {0};
	if (!text)
		return wasd_fail_at(err, WASD_ECORRUPT, "draw", "mode file: metadata lacks \"draw\"");
	enum wasd_status s = wasd_json_parse(text, strlen(text), WASD_JSON_BULK, &f->recipe, &e);
	return s ? wasd_fail_at(err, s == WASD_ENOMEM ? s : WASD_ECORRUPT, "draw", "mode file: metadata \"draw\": %s",
	                        e.msg) :
	           WASD_OK;
}

static enum wasd_status check_head(const struct mode_file *f, const char *arch, struct wasd_err *err)
{
	const char *format = wasd_st_meta(f->st, "format"), *of = wasd_st_meta(f->st, "arch");
	if (!format || strcmp(format, FORMAT))
		return wasd_fail_at(err, WASD_ECORRUPT, "format",
		                    "mode file: format is \"%.60s\", this program reads \"" FORMAT "\"", format ? format : "");
	if (!of || strcmp(of, arch))
		return wasd_fail_at(err, WASD_ECORRUPT, "arch", "mode file: of a %.60s, the checkpoint is of a %.60s",
		                    of ? of : "nothing", arch);
	return WASD_OK;
}

enum wasd_status mode_file_open(const void *bytes, size_t len, const char *arch, struct mode_file *out,
                                struct wasd_err *err)
{
	struct mode_file f = {0};
	enum wasd_status s = wasd_st_open(bytes, len, &f.st, err);
	if (s || (s = check_head(&f, arch, err)) || (s = read_recipe(&f, err))) {
		mode_file_done(&f);
		return s;
	}
	f.mode = (struct mode){.kind = &mode_draw, .recipe = f.recipe, .statistics = PREFIX, .measured = true};
	*out = f;
	return WASD_OK;
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
	size_t n = strlen(f->mode.statistics);
	for (size_t i = 0; i < wasd_st_count(f->st); i++) {
		const char *name = wasd_st_at(f->st, i)->name;
		if (strncmp(name, f->mode.statistics, n) || !checkpoint_is_statistic(g, name + n))
			return wasd_fail_at(err, WASD_ECORRUPT, name, "mode file: a %.40s has no statistics %.100s", arch, name);
	}
	enum wasd_status s = checkpoint_read_stats(f->st, arch, g, f->mode.statistics, dst, &present, err);
	return s || present ? s : wasd_fail_at(err, WASD_ECORRUPT, "", "mode file: it has no BatchNorm statistics");
}

enum wasd_status mode_file_write(const struct wasd_graph *g, const char *arch, const cJSON *recipe, const real *stats,
                                 void **out, size_t *len, struct wasd_err *err)
{
	struct wasd_st_writer *w = wasd_st_writer_create();
	char *text = wasd_json_print(recipe);
	enum wasd_status s = w && text ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "mode file");
	if (!s) {
		wasd_st_writer_meta(w, "format", FORMAT);
		wasd_st_writer_meta(w, "arch", arch);
		wasd_st_writer_meta(w, "draw", text);
		checkpoint_add_stats(w, g, PREFIX, stats);
		s = wasd_st_writer_block(w, out, len, err);
	}
	wasd_free(text);
	wasd_st_writer_destroy(w);
	return s;
}
