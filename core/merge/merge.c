/* merge/merge.c - see wasd/merge.h: reads the files, aligns and mixes them, and writes the result. */
#include "merge/layers.h"
#include "merge/merge.h"
#include "merge/views.h"
#include "wasd/data.h"
#include "wasd/slim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static enum wasd_status read_request(struct merging *m, struct wasd_err *err)
{
	enum wasd_status s = wasd_merge_read(m->o->request, m->o->n, &m->how, err);
	if (!s && !m->o->data && wasd_merge_measures(&m->how))
		return wasd_fail_at(err, WASD_EINVAL, "/dataset", "/dataset: images are needed to measure");
	return s;
}

/* ---- the files -------------------------------------------------------------------------------------------------- */

static enum wasd_status misfit(const struct merging *m, int k, const char *what, struct wasd_err *err)
{
	char at[40];
	snprintf(at, sizeof at, "/checkpoints/%d", k);
	return wasd_fail_at(err, WASD_EINVAL, at, "%s: %.60s has %s than %.60s", at, m->o->file[k].name, what,
	                    m->o->file[0].name);
}

cJSON *merge_layers(const struct checkpoint *c)
{
	cJSON *j = cJSON_Duplicate(checkpoint_network(c), true);
	cJSON_DeleteItemFromObjectCaseSensitive(j, "init");
	return j;
}

static enum wasd_status same_network(const struct merging *m, int k, struct wasd_err *err)
{
	cJSON *a = merge_layers(&m->ckpt[0]), *b = merge_layers(&m->ckpt[k]);
	enum wasd_status s = !a || !b                  ? wasd_fail(err, WASD_ENOMEM, "merge") :
	                     cJSON_Compare(a, b, true) ? WASD_OK :
	                                                 misfit(m, k, "another network (/model)", err);
	cJSON_Delete(a);
	cJSON_Delete(b);
	return s;
}

static bool same_was(const cJSON *a, const cJSON *b)
{
	static const char *const members[] = {"layers", "alpha", "groups"};
	bool same = cJSON_IsFalse(a) == cJSON_IsFalse(b);
	for (size_t i = 0; i < sizeof members / sizeof *members && same; i++) {
		const cJSON *x = wasd_json_get(a, members[i]), *y = wasd_json_get(b, members[i]);
		same = x && y ? cJSON_Compare(x, y, true) : x == y;
	}
	return same;
}

static enum wasd_status agrees(const struct merging *m, int k, struct wasd_err *err)
{
	const struct checkpoint *a = &m->ckpt[0], *b = &m->ckpt[k];
	enum wasd_status s = same_network(m, k, err);
	if (s)
		return s;
	if (memcmp(&a->input, &b->input, sizeof a->input))
		return misfit(m, k, "another input shape", err);
	if (!cJSON_Compare(a->class_names, b->class_names, true))
		return misfit(m, k, "other classes", err);
	if (memcmp(&a->pixels, &b->pixels, sizeof a->pixels))
		return misfit(m, k, "another normalisation of its images (/data/normalize)", err);
	if (!same_was(a->was, b->was))
		return misfit(m, k, "other layers, alphas or groups of WAS (/was)", err);
	return WASD_OK;
}

static enum wasd_status in_file(const struct merging *m, int k, enum wasd_status s, const struct wasd_err *why,
                                struct wasd_err *err)
{
	char at[40];
	snprintf(at, sizeof at, "/checkpoints/%d", k);
	return s == WASD_ENOMEM ? wasd_fail(err, s, "%s", why->msg) :
	                          wasd_fail_at(err, s, at, "%s: %.60s: %.150s", at, m->o->file[k].name, why->msg);
}

static enum wasd_status read_file(struct merging *m, int k, struct wasd_err *err)
{
	struct wasd_err why = {0};
	enum wasd_status s = checkpoint_open(m->o->file[k].data, m->o->file[k].len, &m->ckpt[k], &why);
	if (s)
		return in_file(m, k, s, &why, err);
	if (!k && ((s = train_spec_read(m->ckpt[0].spec, &m->spec, &why)) ||
	           (s = checkpoint_graph(&m->ckpt[0], &m->graph, &why))))
		return in_file(m, k, s, &why, err);
	if (k && (s = agrees(m, k, err)))
		return s;
	if (!(m->param[k] = wasd_calloc(wasd_graph_param_count(m->graph), sizeof(real))))
		return wasd_fail(err, WASD_ENOMEM, "the weights of %d checkpoints", m->o->n);
	if ((s = checkpoint_check_names(&m->ckpt[k], m->graph, &why)) ||
	    (s = checkpoint_load_params(&m->ckpt[k], m->graph, "", m->param[k], &why)))
		return in_file(m, k, s, &why, err);
	return WASD_OK;
}

/* The recorded draw of the first. */
static enum wasd_status read_draw(struct merging *m, struct wasd_err *err)
{
	struct mode dom;
	struct wasd_err why = {0};
	if (checkpoint_mode(&m->ckpt[0], WASD_MODE_DOM, &dom, NULL))
		return WASD_OK;
	enum wasd_status s = wasd_draw_from_json(dom.recipe, m->graph, &m->draw, &why);
	m->has_dom = !s;
	return s ? in_file(m, 0, s, &why, err) : WASD_OK;
}

static enum wasd_status read_files(struct merging *m, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (int k = 0; k < m->o->n && !s; k++)
		s = read_file(m, k, err);
	if (s || (s = read_draw(m, err)) || (s = wasd_model_create(m->graph, 0, &m->model, err)))
		return s;
	if (!m->o->data)
		return WASD_OK;
	struct wasd_shape a = m->ckpt[0].input, d = wasd_dataset_shape(m->o->data);
	if (memcmp(&a, &d, sizeof a) || m->ckpt[0].classes != wasd_dataset_classes(m->o->data))
		return wasd_fail_at(err, WASD_EINVAL, "/dataset",
		                    "/dataset: its images are %dx%dx%d in %d classes, the network takes %dx%dx%d in %d", d.c,
		                    d.h, d.w, wasd_dataset_classes(m->o->data), a.c, a.h, a.w, m->ckpt[0].classes);
	return merge_images_open(m, err);
}

/* ---- alignment and mixing --------------------------------------------------------------------------------------- */

bool merge_go_on(struct merging *m)
{
	int done = m->done < m->of ? m->done : m->of;
	m->stopped = m->stopped || (m->o->go_on && !m->o->go_on(m->o->ctx, done, m->of));
	return !m->stopped;
}

static bool go_on(void *ctx)
{
	return merge_go_on(ctx);
}

/* Places the channels of file k. perm, spare: of the network's units and parameters. */
static enum wasd_status align_one(struct merging *m, int k, int *perm, real *spare, struct wasd_err *err)
{
	merge_groups_identity(m->groups, perm);
	enum wasd_status s = m->how.align == WASD_ALIGN_WEIGHTS ?
	                         merge_match_weights(m->groups, m->param[0], m->param[k], NULL, perm,
	                                             (struct merge_tick){go_on, m}, &m->match[k], err) :
	                         merge_match_activations(m, k, perm, err);
	if (s)
		return s;
	merge_groups_place(m->groups, perm);
	memcpy(spare, m->param[k], wasd_graph_param_count(m->graph) * sizeof *spare);
	merge_permute_params(m->groups, spare, m->param[k]);
	return WASD_OK;
}

static enum wasd_status align(struct merging *m, struct wasd_err *err)
{
	if (m->how.align == WASD_ALIGN_NONE)
		return WASD_OK;
	enum wasd_status s = merge_groups_create(m->graph, m->has_dom ? &m->draw : NULL, &m->groups, err);
	if (s)
		return s;
	int *perm = wasd_calloc((size_t)m->groups->units, sizeof *perm);
	real *spare = wasd_calloc(wasd_graph_param_count(m->graph), sizeof *spare);
	if (!perm || !spare)
		s = wasd_fail(err, WASD_ENOMEM, "the alignment of %d checkpoints", m->o->n);
	for (int k = 1; k < m->o->n && !s; k++)
		s = align_one(m, k, perm, spare, err);
	wasd_free(perm);
	wasd_free(spare);
	return s;
}

static void mix(struct merging *m, const double *weight)
{
	merge_mix((const real *const *)m->param, weight, m->o->n, wasd_graph_param_count(m->graph),
	          wasd_model_master(m->model));
}

static enum wasd_status walk(struct merging *m, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	if (m->how.points && !(m->path = wasd_calloc((size_t)m->how.points, sizeof *m->path)))
		return wasd_fail(err, WASD_ENOMEM, "a path of %d points", m->how.points);
	for (int i = 0; i < m->how.points && !s; i++) {
		struct merge_point *p = &m->path[i];
		p->lambda = (double)i / (m->how.points - 1);
		mix(m, (double[]){p->lambda, 1 - p->lambda});
		s = merge_examine(m, NULL, WASD_STATS_AOM, &p->val, err);
	}
	for (int i = 0; i < m->how.points && !s && isfinite(m->barrier); i++) {
		const struct merge_point *p = &m->path[i];
		double line = p->lambda * m->path[m->how.points - 1].val.loss + (1 - p->lambda) * m->path[0].val.loss;
		double above = p->val.loss - line;
		m->barrier = isfinite(above) ? fmax(m->barrier, above) : NAN;
	}
	return s;
}

/* Networks with dead channels, such as two that go on from one pruned network, have the mode slim. One that cannot be
 * cut has not. */
static enum wasd_status find_slim(struct merging *m, struct wasd_err *err)
{
	struct wasd_slim *slim = NULL;
	enum wasd_status s = wasd_slim_of(m->graph, wasd_model_master(m->model), wasd_model_stats(m->model, WASD_STATS_AOM),
	                                  WASD_MODE_SLIM, &slim, err);
	if (!s && wasd_slim_removed(slim))
		m->slim_macs = wasd_graph_macs(wasd_slim_graph(slim), NULL);
	wasd_slim_destroy(slim);
	return s == WASD_ENOMEM ? s : WASD_OK;
}

static enum wasd_status check_finite(const struct merging *m, enum wasd_stats_set set, struct wasd_err *err)
{
	const real *v = wasd_model_stats(m->model, set);
	for (size_t i = 0; i < wasd_graph_stats_count(m->graph); i++)
		if (!isfinite((double)v[i]))
			return wasd_fail(err, WASD_ENUMERIC, "the statistics of the mixed network are not finite");
	return WASD_OK;
}

static enum wasd_status measure(struct merging *m, struct wasd_err *err)
{
	mix(m, m->how.weight);
	if (!m->how.recalibrate)
		return WASD_OK;
	enum wasd_status s = merge_examine(m, NULL, WASD_STATS_AOM, &m->val[0], err);
	if (!s && m->has_dom)
		s = merge_examine(m, &m->draw.recipe, WASD_STATS_DOM, &m->val[1], err);
	if (s || (s = check_finite(m, WASD_STATS_AOM, err)) || (m->has_dom && (s = check_finite(m, WASD_STATS_DOM, err))))
		return s;
	return find_slim(m, err);
}

/* ---- the result ------------------------------------------------------------------------------------------------- */

static bool list_files(const struct merging *m, cJSON *j)
{
	cJSON *from = cJSON_CreateArray(), *sweeps = cJSON_CreateArray(), *inner = cJSON_CreateArray();
	bool ok = true;
	for (int k = 0; k < m->o->n; k++) {
		cJSON *one = cJSON_CreateObject();
		ok = wasd_json_put(one, "checkpoint", cJSON_CreateString(m->o->file[k].name)) &&
		     wasd_json_put(one, "weight", cJSON_CreateNumber(m->how.weight[k])) && ok;
		ok = wasd_json_push(from, one) && ok;
		if (k && m->how.align == WASD_ALIGN_WEIGHTS)
			ok = wasd_json_push(sweeps, cJSON_CreateNumber(m->match[k].sweeps)) &&
			     wasd_json_push(inner, cJSON_CreateDoubleArray((double[]){m->match[k].before, m->match[k].after}, 2)) &&
			     ok;
	}
	ok = wasd_json_put(j, "from", from) && ok;
	ok = wasd_json_put(j, "sweeps", sweeps) && ok;
	return wasd_json_put(j, "inner", inner) && ok;
}

static cJSON *merged_from(const struct merging *m)
{
	cJSON *j = cJSON_CreateObject();
	if (wasd_json_put(j, "align", cJSON_CreateString(wasd_aligns[m->how.align])) && list_files(m, j))
		return j;
	cJSON_Delete(j);
	return NULL;
}

/* NaN and infinite values become null. */
static cJSON *number(double v)
{
	return isfinite(v) ? cJSON_CreateNumber(v) : cJSON_CreateNull();
}

static bool list_path(const struct merging *m, cJSON *j)
{
	cJSON *path = cJSON_CreateArray();
	bool ok = true;
	for (int i = 0; i < m->how.points; i++) {
		const struct merge_point *p = &m->path[i];
		cJSON *one = cJSON_CreateObject();
		ok = wasd_json_put(one, "lambda", cJSON_CreateNumber(p->lambda)) &&
		     wasd_json_put(one, "loss", number(p->val.loss)) &&
		     wasd_json_put(one, "accuracy", cJSON_CreateNumber(p->val.accuracy)) && ok;
		ok = wasd_json_push(path, one) && ok;
	}
	return wasd_json_put(j, "path", path) && ok && (!m->how.points || wasd_json_put(j, "barrier", number(m->barrier)));
}

static cJSON *make_info(const struct merging *m, const cJSON *from)
{
	const struct checkpoint *c = &m->ckpt[0];
	struct wasd_shape in = c->input;
	cJSON *j = cJSON_CreateObject(), *macs = cJSON_CreateObject(), *merge = cJSON_Duplicate(from, true);
	bool ok = wasd_json_put(macs, "aom", cJSON_CreateNumber((double)wasd_graph_macs(m->graph, NULL))) &&
	          (!m->has_dom ||
	           wasd_json_put(macs, "dom", cJSON_CreateNumber((double)wasd_graph_macs(m->graph, &m->draw.recipe)))) &&
	          (!m->slim_macs || wasd_json_put(macs, WASD_MODE_SLIM, cJSON_CreateNumber((double)m->slim_macs)));
	ok = list_path(m, merge) && ok;
	ok = wasd_json_put(j, "macs", macs) && ok;
	ok = wasd_json_put(j, "merge", merge) && ok && wasd_json_put(j, "arch", cJSON_CreateString(c->arch)) &&
	     wasd_json_put(j, "classes", cJSON_Duplicate(c->class_names, true)) &&
	     wasd_json_put(j, "input", cJSON_CreateIntArray((int[]){in.c, in.h, in.w}, 3)) &&
	     wasd_json_put(j, "was", cJSON_Duplicate(c->was, true)) &&
	     wasd_json_put(j, "draw", m->has_dom ? wasd_draw_to_json(&m->draw, m->graph) : cJSON_CreateNull());
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

static cJSON *make_metrics(const struct merging *m)
{
	static const char *const names[2][2] = {{"val_acc_aom", "val_loss_aom"}, {"val_acc_dom", "val_loss_dom"}};
	cJSON *j = cJSON_CreateObject();
	bool ok = j;
	for (int i = 0; ok && m->how.recalibrate && i < 1 + m->has_dom; i++)
		ok = wasd_json_put(j, names[i][0], cJSON_CreateNumber(m->val[i].accuracy)) &&
		     wasd_json_put(j, names[i][1], number(m->val[i].loss));
	if (ok)
		return j;
	cJSON_Delete(j);
	return NULL;
}

static cJSON *make_modes(const struct merging *m)
{
	bool measured = m->how.recalibrate || !wasd_graph_stats(m->graph);
	cJSON *list = cJSON_CreateArray();
	if (wasd_json_push(list, mode_entry(WASD_MODE_AOM, &mode_plain, NULL, "", measured)) &&
	    (!m->has_dom || wasd_json_push(list, mode_entry(WASD_MODE_DOM, &mode_draw,
	                                                    wasd_draw_to_json(&m->draw, m->graph), "dom.", measured))) &&
	    (!m->slim_macs || wasd_json_push(list, mode_entry(WASD_MODE_SLIM, &mode_slim, NULL, "", true))))
		return list;
	cJSON_Delete(list);
	return NULL;
}

static enum wasd_status write_checkpoint(const struct merging *m, const cJSON *from, void **out, size_t *len,
                                         struct wasd_err *err)
{
	const struct checkpoint *c = &m->ckpt[0];
	const real *aom = m->how.recalibrate ? wasd_model_stats(m->model, WASD_STATS_AOM) : NULL;
	/* In the order of the list; slim has those of AOM. */
	const real *stats[] = {aom, m->how.recalibrate && m->has_dom ? wasd_model_stats(m->model, WASD_STATS_DOM) : NULL,
	                       NULL};
	const char **names = wasd_calloc((size_t)c->classes, sizeof *names);
	cJSON *modes = make_modes(m), *progress = cJSON_CreateObject();
	const cJSON *name;
	int i = 0;
	cJSON_ArrayForEach(name, c->class_names)
		if (names)
			names[i++] = name->valuestring;
	bool ok = names && modes && wasd_json_put(progress, "epoch", cJSON_CreateNumber(0));
	struct checkpoint_source src = {.graph = m->graph,
	                                .model = m->model,
	                                .train = aom,
	                                .modes = modes,
	                                .stats = stats,
	                                .arch = c->arch,
	                                .network = c->network,
	                                .merged_from = from,
	                                .dataset_digest = "",
	                                .class_names = names,
	                                .spec = c->spec,
	                                .was = c->was,
	                                .progress = progress,
	                                .prepare = &c->prepare,
	                                .pixels = &c->pixels};
	enum wasd_status s = ok ? checkpoint_write(&src, out, len, err) : wasd_fail(err, WASD_ENOMEM, "merge");
	wasd_free(names);
	cJSON_Delete(modes);
	cJSON_Delete(progress);
	return s;
}

static void merging_done(struct merging *m)
{
	merge_images_done(m);
	wasd_free(m->path);
	merge_groups_destroy(m->groups);
	wasd_model_destroy(m->model);
	wasd_draw_done(&m->draw);
	wasd_graph_destroy(m->graph);
	for (int k = 0; k < m->o->n; k++) {
		wasd_free(m->param[k]);
		checkpoint_done(&m->ckpt[k]);
	}
}

enum wasd_status wasd_merge(const struct wasd_merge_opts *o, void **out, size_t *len, cJSON **info, cJSON **metrics,
                            struct wasd_err *err)
{
	struct merging m = {.o = o};
	cJSON *from = NULL, *j = NULL, *v = NULL;
	enum wasd_status s = read_request(&m, err);
	if (s || (s = read_files(&m, err)) || (s = align(&m, err)) || (s = walk(&m, err)) || (s = measure(&m, err)))
		goto end;
	if (!(from = merged_from(&m)) || !(j = make_info(&m, from)) || !(v = make_metrics(&m)))
		s = wasd_fail(err, WASD_ENOMEM, "merge");
	else
		s = write_checkpoint(&m, from, out, len, err);
	if (!s) {
		*info = j;
		*metrics = v;
		j = v = NULL;
	}
end:
	cJSON_Delete(from);
	cJSON_Delete(j);
	cJSON_Delete(v);
	merging_done(&m);
	return s;
}
