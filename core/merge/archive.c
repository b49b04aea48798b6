/* merge/archive.c - see wasd/archive.h: one checkpoint after the other is opened, and written with its views. */
#include "wasd/archive.h"
#include "convert/state_dict.h"
#include "merge/layers.h"
#include "merge/match.h"
#include "merge/tarball.h"
#include "merge/views.h"
#include "wasd/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 100, NUMBER_SIZE = 32 };

struct archiving {
	const struct wasd_archive_opts *o;
	struct wasd_archive_how how;
	/* of the first checkpoint, and so of all */
	cJSON *layers;
	struct wasd_shape input;
	int classes;
	struct wasd_graph *graph;
	char first[NAME_SIZE];
	/* the result */
	struct tarball *tar;
	struct wasd_buf csv;
	char (*spec)[NAME_SIZE]; /* those that were written */
	int n_specs, done, of;
	uint64_t bytes; /* of the whole, about */
	/* the view that is being made */
	struct wasd_model *view;
	real *spare;
};

/* An opened checkpoint. */
struct net {
	struct wasd_archive_file file;
	bool open;
	struct checkpoint c;
	struct wasd_model *m;
	struct wasd_draw draw; /* of DOM, if has_dom */
	bool has_dom;
	struct merge_groups *groups; /* with whatever draw has */
};

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static enum wasd_status in_file(int index, const struct net *x, const struct wasd_err *why, struct wasd_err *err)
{
	char at[40];
	snprintf(at, sizeof at, "/checkpoints/%d", index);
	return why->status == WASD_ENOMEM || why->status == WASD_ECANCELLED ?
	           wasd_fail(err, why->status, "%s", why->msg) :
	           wasd_fail_at(err, why->status, at, "%s: %.60s: %.150s", at, x->file.checkpoint, why->msg);
}

static enum wasd_status take_first(struct archiving *a, const struct net *x, struct wasd_err *err)
{
	a->input = x->c.input;
	a->classes = x->c.classes;
	snprintf(a->first, sizeof a->first, "%s", x->file.checkpoint);
	if (!(a->layers = merge_layers(&x->c)))
		return wasd_fail(err, WASD_ENOMEM, "an archive");
	enum wasd_status s = checkpoint_graph(&x->c, &a->graph, err);
	if (s || !a->how.per_checkpoint)
		return s;
	if ((s = wasd_model_create(a->graph, 0, &a->view, err)))
		return s;
	a->spare = wasd_calloc(wasd_graph_param_count(a->graph), sizeof *a->spare);
	return a->spare ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "an archive");
}

/* One layout for all: that of the first. */
static enum wasd_status check_layout(const struct archiving *a, const struct net *x, struct wasd_err *err)
{
	cJSON *layers = merge_layers(&x->c);
	if (!layers)
		return wasd_fail(err, WASD_ENOMEM, "an archive");
	const bool same = cJSON_Compare(a->layers, layers, true);
	cJSON_Delete(layers);
	if (!same)
		return wasd_fail(err, WASD_EINVAL, "another network (/model) than that of %.60s", a->first);
	if (memcmp(&x->c.input, &a->input, sizeof a->input))
		return wasd_fail(err, WASD_EINVAL, "another input shape than that of %.60s", a->first);
	if (x->c.classes != a->classes)
		return wasd_fail(err, WASD_EINVAL, "%d classes, %.60s has %d", x->c.classes, a->first, a->classes);
	return WASD_OK;
}

static enum wasd_status read_draw(struct archiving *a, struct net *x, struct wasd_err *err)
{
	struct mode dom;
	if (checkpoint_mode(&x->c, WASD_MODE_DOM, &dom, NULL))
		return WASD_OK;
	enum wasd_status s = wasd_draw_from_json(dom.recipe, a->graph, &x->draw, err);
	x->has_dom = !s;
	return s;
}

static enum wasd_status read_values(struct archiving *a, struct net *x, struct wasd_err *err)
{
	bool measured = false;
	struct mode aom;
	enum wasd_status s = checkpoint_check_names(&x->c, a->graph, err);
	if (s || (s = wasd_model_create(a->graph, 0, &x->m, err)) ||
	    (s = checkpoint_load_params(&x->c, a->graph, "", wasd_model_master(x->m), err)) ||
	    (s = checkpoint_mode(&x->c, WASD_MODE_AOM, &aom, err)))
		return s;
	if (aom.measured &&
	    (s = checkpoint_load_stats(&x->c, a->graph, "", wasd_model_stats(x->m, WASD_STATS_AOM), &measured, err)))
		return s;
	if (!measured && wasd_graph_stats_count(a->graph))
		return wasd_fail(err, WASD_EINVAL, "its statistics were never measured");
	return WASD_OK;
}

static enum wasd_status read_net(struct archiving *a, struct net *x, struct wasd_err *err)
{
	enum wasd_status s = checkpoint_open(x->file.data, x->file.len, &x->c, err);
	if (s || (!a->graph && (s = take_first(a, x, err))) || (s = check_layout(a, x, err)) ||
	    (s = read_values(a, x, err)) || !a->how.per_checkpoint)
		return s;
	if ((s = read_draw(a, x, err)))
		return s;
	return merge_groups_create(a->graph, x->has_dom ? &x->draw : NULL, &x->groups, err);
}

static enum wasd_status net_open(struct archiving *a, int index, struct net *x, struct wasd_err *err)
{
	struct wasd_err why = {0};
	enum wasd_status s = a->o->open(a->o->ctx, index, a->bytes, &x->file, err);
	if (s)
		return s;
	x->open = true;
	return read_net(a, x, &why) ? in_file(index, x, &why, err) : WASD_OK;
}

static void net_close(struct archiving *a, struct net *x)
{
	merge_groups_destroy(x->groups);
	wasd_draw_done(&x->draw);
	wasd_model_destroy(x->m);
	checkpoint_done(&x->c);
	if (x->open)
		a->o->close(a->o->ctx, &x->file);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

/* A row; the texts have no comma, quote or end of line. */
struct row {
	const char *file, *statistics, *view;
	char parameters[60], partner[NAME_SIZE];
	uint64_t seed;
	double lambda, label, partner_label;
	bool mixed;
};

static void put_columns(struct archiving *a)
{
	wasd_buf_puts(&a->csv, "file,checkpoint,job,spec,seed,epoch,val_acc,val_loss,statistics,view,parameters,view_seed,"
	                       "partner,lambda,label,partner_label\n");
}

/* The fewest digits that give v again. */
static const char *number(double v, char out[NUMBER_SIZE])
{
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(out, NUMBER_SIZE, "%.*g", digits, v);
		if (strtod(out, NULL) == v)
			break;
	}
	return out;
}

static void put_number(struct archiving *a, const cJSON *o, const char *key)
{
	char text[NUMBER_SIZE];
	double v;
	wasd_buf_printf(&a->csv, "%s,", wasd_json_num(o, key, &v) ? number(v, text) : "");
}

static const char *owner(const struct net *x)
{
	return x->file.job ? x->file.job : x->file.checkpoint;
}

static void put_row(struct archiving *a, const struct net *x, const struct row *r)
{
	char lambda[NUMBER_SIZE], label[NUMBER_SIZE], other[NUMBER_SIZE];
	const bool original = !*r->view;
	wasd_buf_printf(&a->csv, "%s,%s,%s,specs/%s.json,", r->file, x->file.checkpoint, x->file.job ? x->file.job : "",
	                owner(x));
	put_number(a, wasd_json_get(x->c.spec, "train"), "seed");
	put_number(a, x->c.progress, "epoch");
	put_number(a, original ? x->file.metrics : NULL, "val_acc_aom");
	put_number(a, original ? x->file.metrics : NULL, "val_loss_aom");
	wasd_buf_printf(&a->csv, "%s,%s,%s,", r->statistics, r->view, r->parameters);
	if (!original)
		wasd_buf_printf(&a->csv, "%" PRIu64, r->seed);
	wasd_buf_printf(&a->csv, ",%s,%s,%s,%s\n", r->partner, r->mixed ? number(r->lambda, lambda) : "",
	                number(original || !r->mixed ? 1 : r->label, label),
	                number(original || !r->mixed ? 0 : r->partner_label, other));
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

/* Once for each job, or checkpoint without one. */
static enum wasd_status put_spec(struct archiving *a, const struct net *x, struct wasd_err *err)
{
	char name[NAME_SIZE];
	for (int i = 0; i < a->n_specs; i++)
		if (!strcmp(a->spec[i], owner(x)))
			return WASD_OK;
	snprintf(a->spec[a->n_specs++], NAME_SIZE, "%s", owner(x));
	snprintf(name, sizeof name, "specs/%.80s.json", owner(x));
	char *text = wasd_json_print(x->c.spec);
	enum wasd_status s = text ? tarball_add(a->tar, name, text, strlen(text), err) :
	                            wasd_fail(err, WASD_ENOMEM, "an archive");
	wasd_free(text);
	return s;
}

/* Knows the size of the whole by the first file, which all others resemble, and asks for room for it by opening the
 * first checkpoint once more. */
static enum wasd_status plan(struct archiving *a, size_t len, struct wasd_err *err)
{
	struct wasd_archive_file again = {0};
	a->bytes = (uint64_t)a->of * (len + 1024);
	if (a->bytes > WASD_ARCHIVE_BYTES)
		return wasd_fail(err, WASD_ETOOBIG,
		                 "%d files of %zu bytes are more than the %llu GiB of an archive; choose fewer checkpoints or "
		                 "views",
		                 a->of, len, (unsigned long long)(WASD_ARCHIVE_BYTES >> 30));
	enum wasd_status s = a->o->open(a->o->ctx, 0, a->bytes, &again, err);
	if (!s)
		a->o->close(a->o->ctx, &again);
	return s;
}

static enum wasd_status put_weights(struct archiving *a, const struct net *x, struct wasd_model *m, const struct row *r,
                                    struct wasd_err *err)
{
	void *file = NULL;
	size_t len = 0;
	if (a->o->go_on && !a->o->go_on(a->o->ctx, a->done, a->of))
		return wasd_fail(err, WASD_ECANCELLED, "cancelled");
	enum wasd_status s = state_dict_write(&x->c, m, &file, &len, err);
	if (!s && !a->bytes)
		s = plan(a, len, err);
	if (!s)
		s = tarball_add(a->tar, r->file, file, len, err);
	if (!s)
		put_row(a, x, r);
	a->done++;
	wasd_free(file);
	return s;
}

/* ---- views ------------------------------------------------------------------------------------------------------ */

static size_t param_bytes(const struct archiving *a)
{
	return wasd_graph_param_count(a->graph) * sizeof(real);
}

static void copy(const struct archiving *a, struct wasd_model *from, struct wasd_model *to)
{
	memcpy(wasd_model_master(to), wasd_model_master(from), param_bytes(a));
	memcpy(wasd_model_stats(to, WASD_STATS_AOM), wasd_model_stats(from, WASD_STATS_AOM),
	       wasd_graph_stats_count(a->graph) * sizeof(real));
}

/* Places the channels of `from` as g->map says. */
static void place(struct merge_groups *g, struct wasd_model *from, struct wasd_model *to)
{
	merge_permute_params(g, wasd_model_master(from), wasd_model_master(to));
	merge_permute_stats(g, wasd_model_stats(from, WASD_STATS_AOM), wasd_model_stats(to, WASD_STATS_AOM));
}

/* a->view becomes x under a view. */
static enum wasd_status one_view(struct archiving *a, struct net *x, int view, double option, struct wasd_rng *r,
                                 struct wasd_err *err)
{
	copy(a, x->m, a->view);
	enum wasd_status s = merge_view(view, x->groups, option, r, wasd_model_master(a->view), a->spare, err);
	if (!s && view == WASD_VIEW_PERMUTE)
		merge_permute_stats(x->groups, wasd_model_stats(x->m, WASD_STATS_AOM),
		                    wasd_model_stats(a->view, WASD_STATS_AOM));
	return s;
}

static bool goes_on(void *ctx)
{
	struct archiving *a = ctx;
	return !a->o->go_on || a->o->go_on(a->o->ctx, a->done, a->of);
}

/* b's channels change places so that they match those of x. */
static enum wasd_status align(struct archiving *a, struct net *x, struct wasd_model *b, struct wasd_err *err)
{
	struct merge_match match;
	struct wasd_model *placed = NULL;
	int *perm = wasd_calloc((size_t)x->groups->units, sizeof *perm);
	enum wasd_status s = perm ? wasd_model_create(a->graph, 0, &placed, err) :
	                            wasd_fail(err, WASD_ENOMEM, "an alignment");
	if (!s) {
		merge_groups_identity(x->groups, perm);
		s = merge_match_weights(x->groups, wasd_model_master(x->m), wasd_model_master(b), NULL, perm,
		                        (struct merge_tick){goes_on, a}, &match, err);
	}
	if (!s) {
		place(x->groups, b, placed);
		copy(a, placed, b);
	}
	wasd_model_destroy(placed);
	wasd_free(perm);
	return s;
}

static void mix(const struct archiving *a, struct wasd_model *with, double lambda)
{
	const double share[] = {lambda, 1 - lambda};
	merge_mix((const real *[]){wasd_model_master(a->view), wasd_model_master(with)}, share, 2,
	          wasd_graph_param_count(a->graph), wasd_model_master(a->view));
	merge_mix((const real *[]){wasd_model_stats(a->view, WASD_STATS_AOM), wasd_model_stats(with, WASD_STATS_AOM)},
	          share, 2, wasd_graph_stats_count(a->graph), wasd_model_stats(a->view, WASD_STATS_AOM));
}

/* a->view becomes a mix of x with b, which may change. */
static enum wasd_status mix_two(struct archiving *a, struct net *x, struct wasd_model *b,
                                const struct wasd_view_how *how, double lambda, struct wasd_rng *r,
                                struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	if (how->align == WASD_MIX_WEIGHTS)
		s = align(a, x, b, err);
	if (!s && how->align == WASD_MIX_RANDOM)
		s = one_view(a, x, WASD_VIEW_PERMUTE, 0, r, err);
	else if (!s)
		copy(a, x->m, a->view);
	if (!s)
		mix(a, b, lambda);
	return s;
}

/* The checkpoint's own copy under a view, with the view's default. */
static enum wasd_status mix_with_own(struct archiving *a, struct net *x, const struct wasd_view_how *how, double lambda,
                                     struct wasd_rng *r, struct wasd_err *err)
{
	struct wasd_model *b = NULL;
	double option[2];
	const struct wasd_field *f = &wasd_views[how->with].option;
	wasd_field_numbers(f, f->def, option);
	enum wasd_status s = one_view(a, x, how->with, option[0], r, err);
	if (!s)
		s = wasd_model_create(a->graph, 0, &b, err);
	if (!s) {
		copy(a, a->view, b);
		s = mix_two(a, x, b, how, lambda, r, err);
	}
	wasd_model_destroy(b);
	return s;
}

static enum wasd_status make_mix(struct archiving *a, struct net *x, int index, const struct wasd_view_how *how,
                                 struct wasd_rng *r, struct row *row, struct wasd_err *err)
{
	struct net other = {0};
	struct wasd_err why = {0};
	row->mixed = true;
	row->view = WASD_MIXUP;
	row->lambda = row->label = wasd_rng_between(r, how->low, how->high);
	row->partner_label = 1 - row->lambda;
	snprintf(row->parameters, sizeof row->parameters, "align=%s with=%s", wasd_mix_aligns[how->align],
	         how->with < 0 ? "other" : wasd_views[how->with].name);
	if (how->with >= 0) {
		snprintf(row->partner, sizeof row->partner, "%s", x->file.checkpoint);
		return mix_with_own(a, x, how, row->lambda, r, &why) ? in_file(index, x, &why, err) : WASD_OK;
	}
	int k = (int)wasd_rng_below(r, (uint32_t)a->o->n - 1);
	enum wasd_status s = net_open(a, k + (k >= index), &other, err);
	if (!s) {
		snprintf(row->partner, sizeof row->partner, "%s", other.file.checkpoint);
		if (mix_two(a, x, other.m, how, row->lambda, r, &why))
			s = in_file(index, x, &why, err);
	}
	net_close(a, &other);
	return s;
}

static enum wasd_status make_plain(struct archiving *a, struct net *x, const struct wasd_view_how *how,
                                   struct wasd_rng *r, struct row *row, struct wasd_err *err)
{
	char text[NUMBER_SIZE];
	const struct wasd_view *v = &wasd_views[how->view];
	row->view = v->name;
	if (v->option.name)
		snprintf(row->parameters, sizeof row->parameters, "%s=%s", v->option.name, number(how->option, text));
	if (how->view == WASD_VIEW_PERMUTE && wasd_graph_stats_count(a->graph))
		row->statistics = "permuted";
	return one_view(a, x, how->view, how->option, r, err);
}

/* View v of checkpoint `index`. What it draws depends on nothing but the seed in its row. */
static enum wasd_status put_view(struct archiving *a, struct net *x, int index, int v, struct wasd_err *err)
{
	const struct wasd_view_how *how = &a->how.views[v % a->how.n_views];
	struct wasd_rng r;
	char file[NAME_SIZE];
	struct row row = {.file = file, .statistics = wasd_graph_stats_count(a->graph) ? "stale" : "none"};
	snprintf(file, sizeof file, "weights/%.60s.view-%d.safetensors", x->file.checkpoint, v + 1);
	wasd_rng_init(&r, a->how.seed, "views", (uint64_t)index, (uint64_t)v);
	row.seed = wasd_rng_below(&r, UINT32_MAX);
	wasd_rng_init(&r, row.seed, "view", 0, 0);
	enum wasd_status s = how->view == WASD_VIEWS ? make_mix(a, x, index, how, &r, &row, err) :
	                                               make_plain(a, x, how, &r, &row, err);
	return s ? s : put_weights(a, x, a->view, &row, err);
}

/* ---- the whole -------------------------------------------------------------------------------------------------- */

static enum wasd_status put_checkpoint(struct archiving *a, int index, struct wasd_err *err)
{
	struct net x = {0};
	char file[NAME_SIZE];
	enum wasd_status s = net_open(a, index, &x, err);
	struct row row = {.file = file, .view = "", .statistics = "none"};
	if (!s) {
		row.statistics = wasd_graph_stats_count(a->graph) ? "measured" : "none";
		snprintf(file, sizeof file, "weights/%.60s.safetensors", x.file.checkpoint);
		s = put_weights(a, &x, x.m, &row, err);
	}
	if (!s)
		s = put_spec(a, &x, err);
	for (int v = 0; v < a->how.per_checkpoint && !s; v++)
		s = put_view(a, &x, index, v, err);
	net_close(a, &x);
	return s;
}

static enum wasd_status put_table(struct archiving *a, struct wasd_err *err)
{
	return a->csv.failed ? wasd_fail(err, WASD_ENOMEM, "an archive") :
	                       tarball_add(a->tar, "checkpoints.csv", a->csv.data, a->csv.len, err);
}

enum wasd_status wasd_archive(const struct wasd_archive_opts *o, const char *path, struct wasd_archive_made *out,
                              struct wasd_err *err)
{
	struct archiving a = {.o = o};
	struct wasd_archive_made made = {0};
	enum wasd_status s = wasd_archive_read(o->request, o->n, &a.how, err);
	if (s)
		return s;
	made.files = a.of = o->n * (1 + a.how.per_checkpoint);
	a.spec = wasd_calloc((size_t)o->n, sizeof *a.spec);
	s = a.spec ? tarball_create(path, WASD_ARCHIVE_BYTES, &a.tar, err) : wasd_fail(err, WASD_ENOMEM, "an archive");
	put_columns(&a);
	for (int i = 0; i < o->n && !s; i++)
		s = put_checkpoint(&a, i, err);
	if (!s)
		s = put_table(&a, err);
	if (!s)
		s = tarball_finish(a.tar, &made.bytes, made.sha256, err);
	if (!s)
		*out = made;
	tarball_destroy(a.tar);
	wasd_buf_done(&a.csv);
	wasd_free(a.spec);
	wasd_free(a.spare);
	wasd_model_destroy(a.view);
	wasd_graph_destroy(a.graph);
	cJSON_Delete(a.layers);
	return s;
}
