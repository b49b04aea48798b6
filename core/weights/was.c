/* core/weights/was.c - the strategy of a job: which layers are augmented, by which transforms with which probabilities.
 * The spec's "was" object (web/docs/job-spec.md#was) is compiled once for a graph; a draw then costs a few numbers of
 * the run's generator per layer. */
#include <stdio.h>
#include <string.h>

#include "base/fields.h"
#include "wasd/graph.h"
#include "wasd/weights.h"

struct choice {
	const struct wasd_transform_op *op;
	double weight, law[WASD_LAW_MAX];
};

struct wasd_was {
	int n_choices, n_layers;
	struct choice choice[WASD_TRANSFORMS_MAX];
	double total;    /* sum of the weights */
	double from, to; /* probability that a layer is transformed in a draw: at epoch 0, and from epoch `ramp` on */
	int ramp;
	struct augmented {
		int aug, k;
		bool alpha_one;
	} * layer;
	int groups; /* groups of each layer's output channels, each with its own draw */
	bool fixed, per_epoch;
	char *profile;           /* "draw": "profile:NAME" is this NAME; NULL: another kind of draw */
	cJSON *recorded;         /* that profile's draw */
	double odds[WASD_TURNS]; /* with a profile: relative frequency of each kind of step */
	cJSON *layers;           /* the member as given, "paper" or "all" when it was not */
};

/* ---- reading the object ---------------------------------------------------------------------------- */

/* A row of the spec's "was". */
static const struct wasd_field *row(const char *name)
{
	return wasd_field_find(wasd_spec_was, name);
}

static const struct wasd_transform_op *op_of_type(const char *type)
{
	const struct wasd_transform_op *op;
	for (int i = 0; (op = wasd_transform_op_at(i)); i++)
		if (op->type && !strcmp(op->type, type))
			return op;
	return NULL;
}

static enum wasd_status read_transform(const cJSON *j, const char *at, struct choice *c, struct wasd_err *err)
{
	const struct wasd_field *common = row("transforms")->sub; /* "weight" */
	const char *type;
	char ptr[FIELDS_POINTER];
	if (!cJSON_IsObject(j))
		return wasd_fail_at(err, WASD_EINVAL, at, "must be an object");
	fields_pointer(ptr, at, "type");
	if (!wasd_json_str(j, "type", &type))
		return wasd_fail_at(err, WASD_EINVAL, ptr, "must be the name of a transform");
	if (!(c->op = op_of_type(type))) {
		char list[128] = "";
		size_t n = 0;
		const struct wasd_transform_op *op;
		for (int i = 0; (op = wasd_transform_op_at(i)) && n < sizeof list; i++)
			if (op->type)
				n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", op->type);
		return wasd_fail_at(err, WASD_EINVAL, ptr, "unknown transform \"%.60s\"; known: %s", type, list);
	}
	enum wasd_status s = fields_known_rows(j, at, "type", c->op->law, common, err);
	if (s == WASD_OK)
		s = fields_numbers(j, at, common, &c->weight, err);
	return s != WASD_OK ? s : fields_numbers(j, at, c->op->law, c->law, err);
}

static enum wasd_status read_transforms(const cJSON *j, struct wasd_was *w, struct wasd_err *err)
{
	if (!cJSON_IsArray(j) || !j->child)
		return wasd_fail_at(err, WASD_EINVAL, "/was/transforms", "must be an array of at least one transform");
	const cJSON *item;
	cJSON_ArrayForEach(item, j) {
		char at[40];
		snprintf(at, sizeof at, "/was/transforms/%d", w->n_choices);
		if (w->n_choices == WASD_TRANSFORMS_MAX)
			return wasd_fail_at(err, WASD_ETOOBIG, "/was/transforms", "more than %d transforms", WASD_TRANSFORMS_MAX);
		struct choice *c = &w->choice[w->n_choices++];
		enum wasd_status s = read_transform(item, at, c, err);
		if (s != WASD_OK)
			return s;
		w->total += c->weight;
	}
	return WASD_OK;
}

/* ---- which layers ------------------------------------------------------------------------------------- */

/* Marks the convolutions that match a name or a pattern. */
static enum wasd_status mark_layers(const cJSON *pattern, const char *at, const struct wasd_graph *g, bool *use,
                                    struct wasd_err *err)
{
	bool found = false;
	if (!cJSON_IsString(pattern))
		return wasd_fail_at(err, WASD_EINVAL, at, "must be the name of a layer, or a pattern of names");
	for (int aug = 0; aug < wasd_graph_augs(g); aug++) {
		if (!wasd_glob(pattern->valuestring, wasd_graph_aug_info(g, aug).layer))
			continue;
		use[aug] = found = true;
	}
	return found ?
	           WASD_OK :
	           wasd_fail_at(err, WASD_EINVAL, at,
	                        "\"%.60s\" is not a convolution with k > 1 of this network, nor a pattern of such names",
	                        pattern->valuestring);
}

/* Names and patterns may be in any order and match a layer several times; the draw keeps execution order. */
static enum wasd_status mark_list(const cJSON *list, const struct wasd_graph *g, bool *use, struct wasd_err *err)
{
	int i = 0;
	const cJSON *item;
	cJSON_ArrayForEach(item, list) {
		char at[40];
		snprintf(at, sizeof at, "/was/layers/%d", i++);
		enum wasd_status s = mark_layers(item, at, g, use, err);
		if (s != WASD_OK)
			return s;
		for (const cJSON *before = list->child; before != item; before = before->next)
			if (!strcmp(before->valuestring, item->valuestring))
				return wasd_fail_at(err, WASD_EINVAL, at, "\"%.60s\" is listed twice", item->valuestring);
	}
	return WASD_OK;
}

static enum wasd_status mark(const cJSON *layers, const struct wasd_graph *g, bool *use, struct wasd_err *err)
{
	int n = wasd_graph_augs(g), paper = 0;
	const char *which = cJSON_IsString(layers) ? layers->valuestring : "";
	for (int i = 0; i < n; i++)
		paper += use[i] = wasd_graph_aug_info(g, i).alpha_param >= 0;
	if (!layers ? paper : !strcmp(which, "paper"))
		return paper ? WASD_OK :
		               wasd_fail_at(err, WASD_EINVAL, "/was/layers",
		                            "the published method augments no layer of this network: use \"all\" or names");
	bool all = !layers || !strcmp(which, "all");
	for (int i = 0; i < n; i++)
		use[i] = all;
	if (all)
		return WASD_OK;
	if (*which)
		return mark_layers(layers, "/was/layers", g, use, err);
	if (!cJSON_IsArray(layers) || !layers->child)
		return wasd_fail_at(err, WASD_EINVAL, "/was/layers",
		                    "must be \"paper\", \"all\", a name or pattern of layers, or an array of these");
	return mark_list(layers, g, use, err);
}

static enum wasd_status read_layers(const cJSON *j, const struct wasd_graph *g, struct wasd_was *w,
                                    struct wasd_err *err)
{
	int n = wasd_graph_augs(g);
	bool *use = NULL;
	if (!n)
		return wasd_fail_at(err, WASD_EINVAL, "/was", "this network has no convolution to augment");
	if (!(w->layer = wasd_calloc((size_t)n, sizeof *w->layer)) || !(use = wasd_calloc((size_t)n, sizeof *use)))
		return wasd_fail(err, WASD_ENOMEM, "was: %d layers", n);
	enum wasd_status s = mark(j, g, use, err);
	bool paper = true;
	for (int i = 0; s == WASD_OK && i < n; i++) {
		struct wasd_aug_info a = wasd_graph_aug_info(g, i);
		paper = paper && use[i] == (a.alpha_param >= 0);
		if (use[i])
			w->layer[w->n_layers++] = (struct augmented){i, a.k, w->fixed || a.alpha_param < 0};
	}
	wasd_free(use);
	if (s == WASD_OK && !(w->layers = j ? cJSON_Duplicate(j, true) : cJSON_CreateString(paper ? "paper" : "all")))
		s = wasd_fail(err, WASD_ENOMEM, "was: %d layers", n);
	return s;
}

/* ---- the other members ------------------------------------------------------------------------------------ */

/* A number, or {"from","to","epochs"}: from the one to the other in equal steps, one an epoch. */
static enum wasd_status read_probability(const cJSON *j, struct wasd_was *w, struct wasd_err *err)
{
	const struct wasd_field *f = row("probability");
	double ramp[3]; /* from, to, epochs */
	enum wasd_status s;
	if (j && !cJSON_IsNumber(j) && !cJSON_IsObject(j))
		return wasd_fail_at(err, WASD_EINVAL, "/was/probability",
		                    "must be a number, or an object with \"from\", \"to\" and \"epochs\"");
	if (!cJSON_IsObject(j)) {
		s = fields_number(j, "/was/probability", f, &w->to, err);
		w->from = w->to;
		return s;
	}
	s = fields_known_rows(j, "/was/probability", NULL, f->sub, NULL, err);
	if (s == WASD_OK)
		s = fields_numbers(j, "/was/probability", f->sub, ramp, err);
	if (s != WASD_OK)
		return s;
	w->from = ramp[0];
	w->to = ramp[1];
	w->ramp = (int)ramp[2];
	return WASD_OK;
}

/* A member that is one of a few words. */
static enum wasd_status read_word(const cJSON *was, const char *name, const char *word, bool *is, struct wasd_err *err)
{
	char ptr[FIELDS_POINTER];
	int i = 0;
	fields_pointer(ptr, "/was", name);
	enum wasd_status s = fields_choice(wasd_json_get(was, name), ptr, row(name), &i, err);
	*is = !strcmp(wasd_field_choice(row(name), i), word);
	return s;
}

static const char *const turn_names[WASD_TURNS] =
	{[WASD_TURN_FRESH] = "fresh", [WASD_TURN_PLAIN] = "plain", [WASD_TURN_PROFILE] = "profile"};

/* {"plain","profile","fresh"}: how often a step takes each, in proportion. */
static enum wasd_status read_odds(const cJSON *j, struct wasd_was *w, struct wasd_err *err)
{
	const struct wasd_field *f = row("odds");
	double sum = 0;
	if (j && !cJSON_IsObject(j))
		return wasd_fail_at(err, WASD_EINVAL, "/was/odds",
		                    "must be an object with \"plain\", \"profile\" and \"fresh\"");
	cJSON *def = j ? NULL : cJSON_Parse(f->def);
	if (!j && !def)
		return wasd_fail(err, WASD_ENOMEM, "was");
	enum wasd_status s = fields_known_rows(j ? j : def, "/was/odds", NULL, f->sub, NULL, err);
	for (int i = 0; i < WASD_TURNS && s == WASD_OK; i++) {
		char ptr[FIELDS_POINTER];
		fields_pointer(ptr, "/was/odds", turn_names[i]);
		s = fields_number(wasd_json_get(j ? j : def, turn_names[i]), ptr, wasd_field_find(f->sub, turn_names[i]),
		                  &w->odds[i], err);
		sum += w->odds[i];
	}
	cJSON_Delete(def);
	return s != WASD_OK || sum > 0 ? s : wasd_fail_at(err, WASD_EINVAL, "/was/odds", "must not all be 0");
}

/* "step", "epoch", or "profile:NAME" with that profile's draw in "profile". */
static enum wasd_status read_draw(const cJSON *was, struct wasd_was *w, struct wasd_err *err)
{
	static const char prefix[] = WASD_DRAW_PROFILE;
	const cJSON *m = wasd_json_get(was, "draw"), *profile = wasd_json_get(was, "profile"),
				*odds = wasd_json_get(was, "odds");
	bool named = cJSON_IsString(m) && !strncmp(m->valuestring, prefix, sizeof prefix - 1) &&
	             m->valuestring[sizeof prefix - 1];
	if (!named && (profile || odds))
		return wasd_fail_at(err, WASD_EINVAL, profile ? "/was/profile" : "/was/odds",
		                    "goes with \"draw\": \"" WASD_DRAW_PROFILE "NAME\" only");
	if (!named) {
		enum wasd_status s = read_word(was, "draw", "epoch", &w->per_epoch, err);
		return s == WASD_EINVAL ?
		           wasd_fail_at(err, s, "/was/draw", "must be \"step\", \"epoch\" or \"" WASD_DRAW_PROFILE "NAME\"") :
		           s;
	}
	if (!cJSON_IsArray(profile))
		return wasd_fail_at(err, WASD_EINVAL, "/was/profile",
		                    "must be the draw of %.80s: an array with a transform for each layer", m->valuestring);
	w->profile = wasd_strdup(m->valuestring + sizeof prefix - 1);
	w->recorded = cJSON_Duplicate(profile, true);
	return w->profile && w->recorded ? read_odds(odds, w, err) : wasd_fail(err, WASD_ENOMEM, "was");
}

/* Checks the profile's draw when the strategy is created, not when it is first used. */
static enum wasd_status check_profile(const struct wasd_graph *g, const struct wasd_was *w, struct wasd_err *err)
{
	struct wasd_draw d = {0};
	struct wasd_err e = {0};
	enum wasd_status s = w->recorded ? wasd_draw_from_json(w->recorded, g, &d, &e) : WASD_OK;
	wasd_draw_done(&d);
	if (s != WASD_OK && err) {
		*err = e;
		snprintf(err->pointer, sizeof err->pointer, "/was/profile%.80s", e.pointer);
	}
	return s;
}

static enum wasd_status read_groups(const cJSON *j, const struct wasd_graph *g, struct wasd_was *w,
                                    struct wasd_err *err)
{
	double n = 1;
	enum wasd_status s = fields_number(j, "/was/groups", row("groups"), &n, err);
	w->groups = (int)n;
	for (int i = 0; s == WASD_OK && i < w->n_layers; i++) {
		struct wasd_aug_info a = wasd_graph_aug_info(g, w->layer[i].aug);
		if (a.out < w->groups)
			s = wasd_fail_at(err, WASD_EINVAL, "/was/groups", "%d groups of the %d output channels of %s", w->groups,
			                 a.out, a.layer);
	}
	return s;
}

static enum wasd_status read_object(const struct wasd_graph *g, const cJSON *was, const cJSON *paper,
                                    struct wasd_was *w, struct wasd_err *err)
{
	enum wasd_status s = fields_known_rows(was, "/was", NULL, wasd_spec_was, NULL, err);
	if (s == WASD_OK)
		s = read_probability(wasd_json_get(was, "probability"), w, err);
	if (s == WASD_OK)
		s = read_word(was, "alpha", "fixed", &w->fixed, err);
	if (s == WASD_OK)
		s = read_draw(was, w, err);
	if (s == WASD_OK)
		s = check_profile(g, w, err);
	if (s != WASD_OK)
		return s;
	const cJSON *transforms = wasd_json_get(was, "transforms");
	if (!transforms && !(transforms = wasd_json_get(paper, "transforms")))
		return wasd_fail_at(err, WASD_EINVAL, "/was/transforms",
		                    "needed: the published method has none for this network");
	s = read_transforms(transforms, w, err);
	if (s == WASD_OK)
		s = read_layers(wasd_json_get(was, "layers"), g, w, err);
	return s != WASD_OK ? s : read_groups(wasd_json_get(was, "groups"), g, w, err);
}

enum wasd_status wasd_was_create(const struct wasd_graph *g, const cJSON *was, const char *paper, struct wasd_was **out,
                                 struct wasd_err *err)
{
	cJSON *own = NULL;
	struct wasd_was *w = NULL;
	if (was && !cJSON_IsObject(was) && !cJSON_IsFalse(was))
		return wasd_fail_at(err, WASD_EINVAL, "/was", "must be an object, or false for plain weights");
	enum wasd_status s = wasd_json_parse(paper, strlen(paper), WASD_JSON_REQUEST, &own, err);
	if (s != WASD_OK)
		return s;
	if (!was)
		was = own;
	if (!cJSON_IsFalse(was)) {
		w = wasd_calloc(1, sizeof *w);
		s = w ? read_object(g, was, own, w, err) : wasd_fail(err, WASD_ENOMEM, "was");
	}
	cJSON_Delete(own);
	if (s != WASD_OK) {
		wasd_was_destroy(w);
		return s;
	}
	*out = w;
	return WASD_OK;
}

void wasd_was_destroy(struct wasd_was *w)
{
	if (!w)
		return;
	cJSON_Delete(w->layers);
	cJSON_Delete(w->recorded);
	wasd_free(w->profile);
	wasd_free(w->layer);
	wasd_free(w);
}

bool wasd_was_per_epoch(const struct wasd_was *w)
{
	return w->per_epoch;
}

double wasd_was_probability(const struct wasd_was *w, int epoch)
{
	return epoch >= w->ramp ? w->to : w->from + (w->to - w->from) * epoch / w->ramp;
}

/* ---- writing JSON --------------------------------------------------------------------------------------- */

static bool add_transform(cJSON *list, const struct choice *c)
{
	cJSON *o = cJSON_CreateObject();
	bool ok = cJSON_AddStringToObject(o, "type", c->op->type);
	ok = ok && fields_put(o, c->op->law, c->law) && fields_put(o, row("transforms")->sub, &c->weight) &&
	     cJSON_AddItemToArray(list, o);
	if (!ok)
		cJSON_Delete(o);
	return ok;
}

static bool add_probability(cJSON *o, const struct wasd_was *w)
{
	if (!w->ramp)
		return cJSON_AddNumberToObject(o, "probability", w->to);
	cJSON *p = cJSON_AddObjectToObject(o, "probability");
	return cJSON_AddNumberToObject(p, "from", w->from) && cJSON_AddNumberToObject(p, "to", w->to) &&
	       cJSON_AddNumberToObject(p, "epochs", w->ramp);
}

/* "draw", and what belongs to it. */
static bool add_draw(cJSON *o, const struct wasd_was *w)
{
	if (!w->profile)
		return cJSON_AddStringToObject(o, "draw", w->per_epoch ? "epoch" : "step");
	char *name = wasd_asprintf(WASD_DRAW_PROFILE "%s", w->profile);
	bool ok = name && cJSON_AddStringToObject(o, "draw", name);
	wasd_free(name);
	cJSON *recorded = cJSON_Duplicate(w->recorded, true), *odds;
	if (!ok || !recorded || !cJSON_AddItemToObject(o, "profile", recorded)) {
		cJSON_Delete(recorded);
		return false;
	}
	ok = (odds = cJSON_AddObjectToObject(o, "odds")) != NULL;
	for (int i = 0; ok && i < WASD_TURNS; i++)
		ok = cJSON_AddNumberToObject(odds, turn_names[i], w->odds[i]);
	return ok;
}

cJSON *wasd_was_to_json(const struct wasd_was *w)
{
	cJSON *o = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(o, "transforms"),
		  *layers = cJSON_Duplicate(w->layers, true);
	bool ok = list && layers;
	for (int i = 0; ok && i < w->n_choices; i++)
		ok = add_transform(list, &w->choice[i]);
	if (ok && layers && cJSON_AddItemToObject(o, "layers", layers))
		layers = NULL;
	ok = ok && !layers && cJSON_AddStringToObject(o, "alpha", w->fixed ? "fixed" : "learned") && add_draw(o, w) &&
	     add_probability(o, w) && cJSON_AddNumberToObject(o, "groups", w->groups);
	if (ok)
		return o;
	cJSON_Delete(layers);
	cJSON_Delete(o);
	return NULL;
}

/* ---- drawing -------------------------------------------------------------------------------------------- */

static const struct choice *choose(const struct wasd_was *w, struct wasd_rng *r)
{
	double u = wasd_rng_uniform(r) * w->total;
	int i = 0;
	for (; i < w->n_choices - 1 && u >= w->choice[i].weight; i++)
		u -= w->choice[i].weight;
	return &w->choice[i];
}

/* Draws the kind of a layer's transform, and its parameters. Probability 1, the published law, takes no random number.
 */
static const struct wasd_transform_op *draw_op(const struct wasd_was *w, double probability, int k, struct wasd_rng *r,
                                               double *p)
{
	if (probability < 1 && wasd_rng_uniform(r) >= probability)
		return wasd_transform_op_find("identity");
	const struct choice *c = choose(w, r);
	return c->op->sample(k, c->law, r, p) ? c->op : wasd_transform_op_find("identity");
}

static enum wasd_status draw_create(const struct wasd_was *w, struct wasd_draw *d, struct wasd_err *err)
{
	d->layer = wasd_calloc((size_t)w->n_layers, sizeof *d->layer);
	bool ok = d->layer;
	d->recipe.by = &weight_was;
	d->n = ok ? w->n_layers : 0;
	for (int i = 0; i < d->n && w->groups > 1; i++)
		ok = ok && (d->layer[i].more = wasd_calloc((size_t)w->groups - 1, sizeof *d->layer[i].more));
	if (ok)
		return WASD_OK;
	wasd_draw_done(d);
	return wasd_fail(err, WASD_ENOMEM, "draw of %d layers", w->n_layers);
}

enum wasd_status wasd_was_draw_in(const struct wasd_was *w, int epoch, struct wasd_rng *r, struct wasd_draw *d,
                                  struct wasd_err *err)
{
	double probability = wasd_was_probability(w, epoch);
	enum wasd_status s = d->layer ? WASD_OK : draw_create(w, d, err);
	for (int i = 0; s == WASD_OK && i < w->n_layers; i++) {
		const struct augmented *l = &w->layer[i];
		d->layer[i].aug = l->aug;
		d->layer[i].alpha_one = l->alpha_one;
		d->layer[i].parts = w->groups;
		for (int part = 0; s == WASD_OK && part < w->groups; part++) {
			double p[6] = {0};
			const struct wasd_transform_op *op = draw_op(w, probability, l->k, r, p);
			s = wasd_transform_make(op->name, l->k, p, part ? &d->layer[i].more[part - 1] : &d->layer[i].t, err);
		}
	}
	return s;
}

enum wasd_status wasd_was_draw(const struct wasd_was *w, struct wasd_rng *r, struct wasd_draw *d, struct wasd_err *err)
{
	return wasd_was_draw_in(w, w->ramp, r, d, err);
}

/* ---- the recorded draw, and the kind of a step ---------------------------------------------------------- */

enum wasd_status wasd_was_record(const struct wasd_was *w, const struct wasd_graph *g, uint64_t seed,
                                 struct wasd_draw *out, struct wasd_err *err)
{
	struct wasd_rng r;
	if (w->recorded)
		return wasd_draw_from_json(w->recorded, g, out, err);
	wasd_rng_init(&r, seed, "dom", 0, 0);
	return wasd_was_draw(w, &r, out, err);
}

enum wasd_was_turn wasd_was_turn(const struct wasd_was *w, struct wasd_rng *r)
{
	if (!w->profile)
		return WASD_TURN_FRESH;
	double u = wasd_rng_uniform(r) * (w->odds[0] + w->odds[1] + w->odds[2]);
	int turn = 0;
	while (turn < WASD_TURNS - 1 && u >= w->odds[turn])
		u -= w->odds[turn++];
	while (!(w->odds[turn] > 0)) /* rounding led past the last kind with odds above 0 */
		turn--;
	return (enum wasd_was_turn)turn;
}
