/* base/archive.c - the request of an archive of checkpoints (wasd/archive.h), which the daemon checks and the engine
 * carries out. */
#include "wasd/archive.h"
#include "base/fields.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
#define NUMBER(n, d, hi, text) {n, WASD_NUM, d, 0, hi, .summary = text}
const struct wasd_view wasd_views[WASD_VIEWS + 1] = {
	[WASD_VIEW_DROPOUT] = {"dropout", "weights become zero at random, the others are scaled up",
	                       {"p", WASD_NUM, "0.1", 0, 1, .below_max = true, .summary = "share of the weights"}},
	[WASD_VIEW_NOISE] = {"noise", "Gaussian noise",
	                     NUMBER("std", "0.32", 10, "in standard deviations of each tensor")},
	[WASD_VIEW_QUANTILE] = {"quantile", "the smallest weights become zero",
	                        NUMBER("most", "0.1", 1, "largest share of all weights; the share is drawn")},
	[WASD_VIEW_SCALE] = {"scale", "the first layer times a number near 1",
	                     NUMBER("by", "0.2", 0.99, "largest distance from 1")},
	[WASD_VIEW_PERMUTE] = {"permute", "the channels of all groups change places at random; the network computes the same",
	                       {0}},
};
#undef NUMBER
/* clang-format on */

static const char *partner_at(int i)
{
	return !i ? "other" : wasd_views[i - 1].name;
}

enum { ALIGN, WITH, LAMBDA };
const char *const wasd_mix_aligns[] = {"weights", "random", "none", NULL};
const struct wasd_field wasd_mixup_fields[] = {
	[ALIGN] = {"align", WASD_CHOICE, "\"weights\"", .choices = wasd_mix_aligns,
               .summary = "weights: the partner's channels are matched with those of the checkpoint; random: the "
                          "checkpoint's channels change places at random"},
	[WITH] = {"with", WASD_CHOICE, "\"other\"", .choice_at = partner_at,
              .summary = "other: another checkpoint, drawn; a view: the checkpoint's own copy under it"},
	[LAMBDA] = {"lambda", WASD_PAIR, "[0,1]", 0, 1, .summary = "bounds of the checkpoint's share, which is drawn"},
	{0},
};

enum { VIEWS, PER_CHECKPOINT, SEED };
const struct wasd_field wasd_archive_fields[] = {
	[VIEWS] = {"views", WASD_LIST, NULL, 1, WASD_ARCHIVE_VIEWS, .items = "views",
               .summary = "kinds of views, {\"type\", options}; default: none"},
	[PER_CHECKPOINT] = {"per_checkpoint", WASD_INT, NULL, 1, 1000,
                        .summary = "views of each checkpoint, the kinds in turn; default: one of each kind"},
	[SEED] = {"seed", WASD_INT, "0", 0, UINT32_MAX, .summary = "of all that is drawn"},
	{0},
};

static enum wasd_status read_mixup(const cJSON *view, const char *at, int n, struct wasd_view_how *out,
                                   struct wasd_err *err)
{
	char pointer[FIELDS_POINTER];
	double lambda[2];
	int align, with;
	enum wasd_status s = fields_known_rows(view, at, "type", wasd_mixup_fields, NULL, err);
	fields_pointer(pointer, at, "align");
	if (s || (s = fields_choice(wasd_json_get(view, "align"), pointer, &wasd_mixup_fields[ALIGN], &align, err)))
		return s;
	fields_pointer(pointer, at, "with");
	if ((s = fields_choice(wasd_json_get(view, "with"), pointer, &wasd_mixup_fields[WITH], &with, err)))
		return s;
	if (!with && n < 2)
		return wasd_fail_at(err, WASD_EINVAL, pointer, "%s: there is no other checkpoint to mix with", pointer);
	fields_pointer(pointer, at, "lambda");
	if ((s = fields_number(wasd_json_get(view, "lambda"), pointer, &wasd_mixup_fields[LAMBDA], lambda, err)))
		return s;
	*out = (struct wasd_view_how){.view = WASD_VIEWS,
	                              .align = (enum wasd_mix_align)align,
	                              .with = with - 1,
	                              .low = lambda[0],
	                              .high = lambda[1]};
	return WASD_OK;
}

static enum wasd_status unknown_view(const char *at, struct wasd_err *err)
{
	char list[120] = "";
	for (const struct wasd_view *v = wasd_views; v->name; v++)
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s, ", v->name);
	return wasd_fail_at(err, WASD_EINVAL, at, "%s must be one of %s" WASD_MIXUP, at, list);
}

static enum wasd_status read_view(const cJSON *view, const char *at, int n, struct wasd_view_how *out,
                                  struct wasd_err *err)
{
	char pointer[FIELDS_POINTER];
	const char *type = "";
	int k = 0;
	if (!cJSON_IsObject(view))
		return wasd_fail_at(err, WASD_EINVAL, at, "%s must be an object with a \"type\"", at);
	wasd_json_str(view, "type", &type);
	if (!strcmp(type, WASD_MIXUP))
		return read_mixup(view, at, n, out, err);
	while (wasd_views[k].name && strcmp(wasd_views[k].name, type))
		k++;
	fields_pointer(pointer, at, "type");
	if (!wasd_views[k].name)
		return unknown_view(pointer, err);
	const struct wasd_field *f = &wasd_views[k].option, row[] = {*f, {0}};
	enum wasd_status s = fields_known_rows(view, at, "type", row, NULL, err);
	double option = 0;
	if (f->name)
		fields_pointer(pointer, at, f->name);
	if (!s && f->name)
		s = fields_number(wasd_json_get(view, f->name), pointer, f, &option, err);
	if (!s)
		*out = (struct wasd_view_how){.view = k, .option = option, .with = -1};
	return s;
}

static enum wasd_status read_views(const cJSON *list, int n, struct wasd_archive_how *out, struct wasd_err *err)
{
	const cJSON *view;
	cJSON_ArrayForEach(view, list) {
		char at[40];
		snprintf(at, sizeof at, "/views/%d", out->n_views);
		if (out->n_views == WASD_ARCHIVE_VIEWS)
			return wasd_fail_at(err, WASD_EINVAL, "/views", "/views: at most %d", WASD_ARCHIVE_VIEWS);
		enum wasd_status s = read_view(view, at, n, &out->views[out->n_views++], err);
		if (s)
			return s;
	}
	return WASD_OK;
}

enum wasd_status wasd_archive_read(const cJSON *request, int n, struct wasd_archive_how *out, struct wasd_err *err)
{
	struct wasd_archive_how how = {0};
	const cJSON *per = wasd_json_get(request, "per_checkpoint");
	double x = 0;
	enum wasd_status s = read_views(wasd_json_get(request, "views"), n, &how, err);
	if (!s && per)
		s = fields_number(per, "/per_checkpoint", &wasd_archive_fields[PER_CHECKPOINT], &x, err);
	if (s)
		return s;
	if (per && !how.n_views)
		return wasd_fail_at(err, WASD_EINVAL, "/views", "/views: name the views of which each checkpoint gets %.0f", x);
	how.per_checkpoint = per ? (int)x : how.n_views;
	if ((int64_t)n * (1 + how.per_checkpoint) > WASD_ARCHIVE_FILES)
		return wasd_fail_at(err, WASD_EINVAL, per ? "/per_checkpoint" : "/checkpoints",
		                    "%d checkpoints with %d views each are %lld files; an archive has at most %d", n,
		                    how.per_checkpoint, (long long)n * (1 + how.per_checkpoint), WASD_ARCHIVE_FILES);
	if ((s = fields_number(wasd_json_get(request, "seed"), "/seed", &wasd_archive_fields[SEED], &x, err)))
		return s;
	how.seed = (uint64_t)x;
	*out = how;
	return WASD_OK;
}
