/* profile/overlay.c - the overlay file of a profile, and laying it over its checkpoint (wasd/profile.h). */
#include "train/checkpoint.h"
#include "wasd/profile.h"

#include <stdio.h>
#include <string.h>

#define FORMAT "wasd-profile-1"
#define NAME_SIZE 160

enum wasd_status wasd_profile_overlay(const struct wasd_graph *g, const char *arch, const struct wasd_draw *draw,
                                      const real *stats, void **out, size_t *len, struct wasd_err *err)
{
	struct wasd_st_writer *w = wasd_st_writer_create();
	cJSON *j = wasd_draw_to_json(draw, g);
	char *text = j ? wasd_json_print(j) : NULL;
	enum wasd_status s = w && text ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "overlay of a profile");
	if (!s) {
		wasd_st_writer_meta(w, "format", FORMAT);
		wasd_st_writer_meta(w, "arch", arch);
		wasd_st_writer_meta(w, "draw", text);
		checkpoint_add_stats(w, g, WASD_STATS_DOM, stats);
		s = wasd_st_writer_block(w, out, len, err);
	}
	wasd_free(text);
	cJSON_Delete(j);
	wasd_st_writer_destroy(w);
	return s;
}

static bool begins(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

static enum wasd_status check(const struct checkpoint *c, const struct wasd_st *over, struct wasd_err *err)
{
	const char *format = wasd_st_meta(over, "format"), *arch = wasd_st_meta(over, "arch");
	if (!format || strcmp(format, FORMAT))
		return wasd_fail_at(err, WASD_ECORRUPT, "format",
		                    "profile: format is \"%.60s\", this program reads \"" FORMAT "\"", format ? format : "");
	if (!arch || strcmp(arch, c->arch))
		return wasd_fail_at(err, WASD_ECORRUPT, "arch", "profile: of a %.60s, the checkpoint is of a %.60s",
		                    arch ? arch : "nothing", c->arch);
	if (!wasd_st_meta(over, "draw"))
		return wasd_fail_at(err, WASD_ECORRUPT, "draw", "profile: metadata lacks \"draw\"");
	for (size_t i = 0; i < wasd_st_count(over); i++)
		if (!begins(wasd_st_at(over, i)->name, "dom."))
			return wasd_fail_at(err, WASD_ECORRUPT, wasd_st_at(over, i)->name,
			                    "profile: tensor %.100s is no statistic of DOM", wasd_st_at(over, i)->name);
	return WASD_OK;
}

static void add(struct wasd_st_writer *w, const struct wasd_st_tensor *t)
{
	wasd_st_writer_add(w, t->name, t->dtype, t->ndims, t->dims, t->data);
}

/* The run's progress, which also says what was measured: a profile always is. */
static char *measured(const struct checkpoint *c)
{
	cJSON *p = cJSON_Duplicate(c->progress, true);
	cJSON_DeleteItemFromObjectCaseSensitive(p, "measured_dom");
	char *text = p && cJSON_AddTrueToObject(p, "measured_dom") ? wasd_json_print(p) : NULL;
	cJSON_Delete(p);
	return text;
}

enum wasd_status wasd_profile_lay(const void *file, size_t file_len, const void *overlay, size_t overlay_len,
                                  void **out, size_t *len, struct wasd_err *err)
{
	static const char *const kept[] = {"format",      "arch",    "dataset_digest", "spec",   "was",
	                                   "fingerprint", "classes", "input",          "prepare"};
	struct checkpoint c = {0};
	struct wasd_st *over = NULL;
	struct wasd_st_writer *w = NULL;
	char *progress = NULL;
	enum wasd_status s = checkpoint_open(file, file_len, &c, err);
	if (s || (s = wasd_st_open(overlay, overlay_len, &over, err)) || (s = check(&c, over, err)))
		goto end;
	w = wasd_st_writer_create();
	progress = measured(&c);
	if (!w || !progress) {
		s = wasd_fail(err, WASD_ENOMEM, "profile");
		goto end;
	}
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		if (wasd_st_meta(c.st, kept[i])) /* older files lack the last */
			wasd_st_writer_meta(w, kept[i], wasd_st_meta(c.st, kept[i]));
	wasd_st_writer_meta(w, "progress", progress);
	wasd_st_writer_meta(w, "draw", wasd_st_meta(over, "draw"));
	for (size_t i = 0; i < wasd_st_count(c.st); i++) {
		const struct wasd_st_tensor *t = wasd_st_at(c.st, i);
		if (!begins(t->name, "dom.") && !begins(t->name, "train.") && !begins(t->name, "optim.") &&
		    !begins(t->name, "state.") && !begins(t->name, "weights."))
			add(w, t);
	}
	for (size_t i = 0; i < wasd_st_count(over); i++)
		add(w, wasd_st_at(over, i));
	s = wasd_st_writer_block(w, out, len, err);
end:
	wasd_free(progress);
	wasd_st_writer_destroy(w);
	wasd_st_close(over);
	checkpoint_done(&c);
	return s;
}
