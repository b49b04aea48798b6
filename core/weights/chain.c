/* weights/chain.c - the strategies of one run, called in order. See chain.h. */
#include "weights/chain.h"

#include "base/fields.h"
#include "wasd/optim.h"
#include "weights/layers.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct part {
	const struct weight_strategy *by;
	void *self;
	struct weight_param *param; /* the parameters that it forms, unless it only draws */
	bool *first;                /* per such parameter: true if no earlier link forms it */
	int n_params;
	struct learner *learner; /* of each tensor that it learns; NULL: none, or the run has not begun */
	int n_learners;
};

struct learner {
	struct wasd_optim *optim;
	struct weight_learned seen;         /* its size and life when the optimizer's state was given its shape */
	char state[WASD_OPTIM_STATES][100]; /* names: "learned.momentum.NAME" */
};

struct weight_chain {
	const struct wasd_graph *graph;
	struct wasd_model *model;
	struct part part[WASD_WEIGHTS_MAX];
	int n;
	struct part *drawing;             /* the strategy that draws, NULL = none */
	struct wasd_rng rng, rng_before;  /* rng_before: state before the current draw */
	const struct wasd_recipe *recipe; /* its last draw */
	real *input; /* buffer to recompute the input of a later link; NULL: no parameter has two links */
	real *moved; /* and for an optimizer's state whose size changes; NULL: none does */
};

/* ---- create ------------------------------------------------------------------------------------------- */

/* A choice, as its index; a number without a default that is absent, as NaN; a string is only checked. */
static enum wasd_status read_other(const struct weight_setup *s, const struct wasd_field *f, double *v,
                                   struct wasd_err *err)
{
	const cJSON *given = s->spec ? wasd_json_get(s->spec, f->name) : NULL;
	char ptr[FIELDS_POINTER], range[WASD_FIELD_RANGE];
	fields_pointer(ptr, s->at, f->name);
	if (f->type == WASD_CHOICE) {
		int i = 0;
		enum wasd_status st = fields_choice(given, ptr, f, &i, err);
		*v = i;
		return st;
	}
	if (f->type != WASD_STR) {
		*v = given || f->def ? *v : NAN;
		return WASD_OK;
	}
	size_t n = cJSON_IsString(given) ? strlen(given->valuestring) : 0;
	wasd_field_range(f, range);
	return !given || (cJSON_IsString(given) && (double)n >= f->min && (double)n <= f->max) ?
	           WASD_OK :
	           wasd_fail_at(err, WASD_EINVAL, ptr, "%s must be %s", ptr, range);
}

static enum wasd_status read_options(const struct weight_strategy *by, const struct weight_setup *s, double *v,
                                     struct wasd_err *err)
{
	if (by->reads_spec)
		return WASD_OK;
	enum wasd_status st = fields_known_rows(s->spec, s->at, "type", by->options, NULL, err);
	if (!st)
		st = fields_numbers(s->spec, s->at, by->options, v, err);
	for (const struct wasd_field *f = by->options; !st && f && f->name; v += f->type == WASD_PAIR ? 2 : 1, f++)
		st = read_other(s, f, v, err);
	return st;
}

/* What a strategy's string option "layers" says; "all" without it. */
static const char *layers_of(const struct weight_strategy *by, const cJSON *spec)
{
	const struct wasd_field *f = by->reads_spec ? NULL : wasd_field_find(by->options, "layers");
	const char *text = "all";
	if (f && f->type == WASD_STR)
		wasd_json_str(spec, "layers", &text);
	return text;
}

static bool forms_parameters(const struct weight_strategy *by)
{
	return by->link || by->compose || by->event || by->after_step;
}

static enum wasd_status list_params(const struct weight_chain *c, struct part *p, const struct weight_setup *setup,
                                    struct wasd_err *err)
{
	int nodes = wasd_graph_nodes(c->graph);
	char ptr[FIELDS_POINTER];
	const char *layers = layers_of(p->by, setup->spec);
	if (!forms_parameters(p->by) || (setup->smaller && p->by->compose))
		return WASD_OK;
	p->param = wasd_calloc((size_t)nodes, sizeof *p->param);
	p->first = wasd_calloc((size_t)nodes, sizeof *p->first);
	if (!p->param || !p->first)
		return wasd_fail(err, WASD_ENOMEM, "%s", p->by->name);
	fields_pointer(ptr, setup->at, "layers");
	enum wasd_status s = layers_check(layers, c->graph, ptr, err);
	for (wasd_node n = 0; !s && n < nodes; n++) {
		if (!layers_has_weights(c->graph, n) || (p->by->applies && !p->by->applies(c->graph, n)) ||
		    !layers_take(layers, wasd_graph_node_info(c->graph, n).name))
			continue;
		int w = wasd_graph_node_info(c->graph, n).weight;
		p->first[p->n_params] = p->by->link && !chain_links(c, w);
		p->param[p->n_params] = (struct weight_param){p->n_params, n, wasd_graph_param_info(c->graph, w)};
		p->n_params++;
	}
	if (!s && !p->n_params)
		s = wasd_fail_at(err, WASD_EINVAL, ptr, "no layer is left for %s", p->by->name);
	return s;
}

static void part_done(struct part *p)
{
	if (p->self)
		p->by->destroy(p->self);
	for (int i = 0; i < p->n_learners; i++)
		wasd_optim_destroy(p->learner[i].optim);
	wasd_free(p->learner);
	wasd_free(p->param);
	wasd_free(p->first);
}

/* A step of a strategy's own passes through weights that are linked, masked or drawn, not composed. */
static bool excludes(const struct weight_strategy *a, const struct weight_strategy *b)
{
	return a->passes && (b->passes || b->compose);
}

static enum wasd_status check_place(const struct weight_chain *c, const struct part *p, const char *at,
                                    struct wasd_err *err)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by == p->by)
			return wasd_fail_at(err, WASD_EINVAL, at, "%s is in the list twice", p->by->name);
	if (p->by->draw && c->drawing)
		return wasd_fail_at(err, WASD_EINVAL, at, "%s and %s both draw the weights of a pass: use only one of them",
		                    c->drawing->by->name, p->by->name);
	for (int i = 0; i < c->n; i++)
		if (excludes(p->by, c->part[i].by) || excludes(c->part[i].by, p->by))
			return wasd_fail_at(err, WASD_EINVAL, at, "%s cannot be combined with %s: one of them must go", p->by->name,
			                    c->part[i].by->name);
	return c->n < WASD_WEIGHTS_MAX ? WASD_OK :
	                                 wasd_fail_at(err, WASD_EINVAL, at, "more than %d strategies", WASD_WEIGHTS_MAX);
}

static const struct weight_param *param_of(const struct part *p, size_t offset)
{
	for (int k = 0; k < p->n_params; k++)
		if (p->param[k].info.offset == offset)
			return &p->param[k];
	return NULL;
}

/* Only a draw may act on what another strategy composes. */
static enum wasd_status check_composed(const struct weight_chain *c, const struct part *p, const char *at,
                                       struct wasd_err *err)
{
	for (int i = 0; i < c->n; i++)
		for (int k = 0; (p->by->compose || c->part[i].by->compose) && k < p->n_params; k++)
			if (param_of(&c->part[i], p->param[k].info.offset))
				return wasd_fail_at(
					err, WASD_EINVAL, at,
					"%s: the weights of %s are formed by %s: no layer may be in both (\"layers\" leaves some out)",
					p->by->name, wasd_graph_node_info(c->graph, p->param[k].node).name, c->part[i].by->name);
	return WASD_OK;
}

static enum wasd_status add(struct weight_chain *c, const struct weight_strategy *by, const struct chain_spec *spec,
                            const cJSON *own, const char *at, struct wasd_err *err)
{
	struct part p = {.by = by};
	double option[WEIGHT_OPTIONS] = {0};
	struct weight_setup setup = {.graph = c->graph,
	                             .spec = own,
	                             .at = at,
	                             .option = option,
	                             .paper = spec->paper,
	                             .seed = spec->seed,
	                             .epochs = spec->epochs,
	                             .stored = spec->stored,
	                             .smaller = spec->smaller};
	enum wasd_status s = check_place(c, &p, at, err);
	if (!s)
		s = read_options(by, &setup, option, err);
	if (!s)
		s = list_params(c, &p, &setup, err);
	if (!s)
		s = check_composed(c, &p, at, err);
	setup.param = p.param;
	setup.n_params = p.n_params;
	if (!s)
		s = by->create(&setup, &p.self, err);
	if (s || !p.self) {
		part_done(&p);
		return s;
	}
	c->part[c->n] = p;
	if (by->draw)
		c->drawing = &c->part[c->n];
	c->n++;
	return WASD_OK;
}

static enum wasd_status add_listed(struct weight_chain *c, const struct chain_spec *spec, const cJSON *own, int i,
                                   struct wasd_err *err)
{
	char at[32], ptr[FIELDS_POINTER];
	const char *type;
	snprintf(at, sizeof at, "/weights/%d", i);
	fields_pointer(ptr, at, "type");
	if (!cJSON_IsObject(own))
		return wasd_fail_at(err, WASD_EINVAL, at, "must be an object with a \"type\"");
	if (!wasd_json_str(own, "type", &type))
		return wasd_fail_at(err, WASD_EINVAL, ptr, "must be the name of a strategy");
	const struct weight_strategy *by = weight_strategy_find(type);
	return by ? add(c, by, spec, own, at, err) :
	            wasd_fail_at(err, WASD_EINVAL, ptr, "unknown strategy \"%.60s\"", type);
}

static enum wasd_status add_all(struct weight_chain *c, const struct chain_spec *spec, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	const cJSON *own;
	int i = 0;
	if (!spec->weights)
		return add(c, &weight_was, spec, spec->was, "/was", err);
	if (spec->was)
		return wasd_fail_at(err, WASD_EINVAL, "/weights", "cannot be combined with \"was\", which is its short form");
	if (!cJSON_IsArray(spec->weights))
		return wasd_fail_at(err, WASD_EINVAL, "/weights", "must be an array of objects with a \"type\"");
	cJSON_ArrayForEach(own, spec->weights)
		if (!s)
			s = add_listed(c, spec, own, i++, err);
	return s;
}

static const char *cuts_at(const struct part *p)
{
	return p->by->cuts_at ? p->by->cuts_at(p->self) : NULL;
}

static enum wasd_status check_cuts(const struct weight_chain *c, struct wasd_err *err)
{
	for (int i = 0; i < c->n; i++)
		for (int k = 0; k < c->n && cuts_at(&c->part[i]); k++)
			if (k != i && !(c->part[i].by->split && c->part[k].by->draw))
				return wasd_fail_at(
					err, WASD_EINVAL, cuts_at(&c->part[i]),
					"%s: %s makes another network while it trains, so no other strategy%s may be in the list",
					cuts_at(&c->part[i]), c->part[i].by->name, c->part[i].by->split ? " but a draw" : "");
	return WASD_OK;
}

static const char *paces_at(const struct part *p)
{
	return p->by->paces_at ? p->by->paces_at(p->self) : NULL;
}

static enum wasd_status check_paces(const struct weight_chain *c, struct wasd_err *err)
{
	for (int i = 0; i < c->n; i++)
		for (int k = 0; k < c->n && paces_at(&c->part[i]); k++)
			if (k != i && (c->part[k].by->compose || (k < i && paces_at(&c->part[k]))))
				return wasd_fail_at(err, WASD_EINVAL, paces_at(&c->part[i]),
				                    "%s: %s cannot go back in training beside %s, which %s", paces_at(&c->part[i]),
				                    c->part[i].by->name, c->part[k].by->name,
				                    c->part[k].by->compose ? "learns tensors of its own" : "goes back, too");
	return WASD_OK;
}

/* The strategy that makes the passes of a step, or NULL. */
static const struct part *passing(const struct weight_chain *c)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->passes)
			return &c->part[i];
	return NULL;
}

static enum wasd_status check_parts(const struct weight_chain *c, struct wasd_err *err)
{
	const struct part *d = c->drawing, *p = passing(c);
	const char *at = p && d && d->by->parts_at ? d->by->parts_at(d->self) : NULL;
	return !at ? WASD_OK :
	             wasd_fail_at(err, WASD_EINVAL, at,
	                          "output channels of one layer cannot have different draws beside %s, whose narrower "
	                          "networks have only the first of them: one draw must hold for the whole layer",
	                          p->by->name);
}

enum wasd_status chain_create(const struct wasd_graph *g, const struct chain_spec *spec, struct weight_chain **out,
                              struct wasd_err *err)
{
	struct weight_chain *c = wasd_calloc(1, sizeof *c);
	if (!c)
		return wasd_fail(err, WASD_ENOMEM, "weights");
	c->graph = g;
	enum wasd_status s = add_all(c, spec, err);
	if (s || (s = check_cuts(c, err)) || (s = check_paces(c, err)) || (s = check_parts(c, err))) {
		chain_destroy(c);
		return s;
	}
	wasd_rng_init(&c->rng, spec->seed, c->drawing ? c->drawing->by->name : weight_was.name, 0, 0);
	*out = c;
	return WASD_OK;
}

void chain_destroy(struct weight_chain *c)
{
	if (!c)
		return;
	for (int i = 0; i < c->n; i++)
		part_done(&c->part[i]);
	wasd_free(c->input);
	wasd_free(c->moved);
	wasd_free(c);
}

/* ---- compositions --------------------------------------------------------------------------------------- */

bool chain_composes(const struct weight_chain *c, int param)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->compose && param_of(&c->part[i], wasd_graph_param_info(c->graph, param).offset))
			return true;
	return false;
}

const struct weight_strategy *chain_composer(const struct weight_chain *c)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->compose)
			return c->part[i].by;
	return NULL;
}

const struct weight_strategy *chain_compact(const struct weight_chain *c, int param)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->compact &&
		    (param < 0 || param_of(&c->part[i], wasd_graph_param_info(c->graph, param).offset)))
			return c->part[i].by;
	return NULL;
}

void chain_compose(const struct weight_chain *c, real *block)
{
	for (int i = 0; i < c->n; i++)
		for (int k = 0; c->part[i].by->compose && k < c->part[i].n_params; k++) {
			const struct part *p = &c->part[i];
			p->by->compose(p->self, &p->param[k], block + p->param[k].info.offset);
		}
}

static bool learned_at(const struct part *p, int i, struct weight_learned *out)
{
	return p->by->learned && p->by->learned(p->self, i, out);
}

bool chain_learned(const struct weight_chain *c, int i, struct weight_learned *out)
{
	for (int k = 0; k < c->n; k++)
		for (int j = 0; learned_at(&c->part[k], j, out); j++)
			if (i-- == 0)
				return true;
	return false;
}

static void compose_back(struct weight_chain *c, const struct part *p)
{
	struct weight_learned l;
	for (int i = 0; learned_at(p, i, &l); i++)
		memset(l.grad, 0, weight_learned_elements(&l) * sizeof *l.grad);
	for (int k = 0; k < p->n_params; k++) {
		real *g = wasd_model_grad(c->model) + p->param[k].info.offset;
		p->by->compose_back(p->self, &p->param[k], g);
		memset(g, 0, p->param[k].info.count * sizeof *g);
	}
}

/* ---- links ---------------------------------------------------------------------------------------------- */

bool chain_masks(const struct weight_chain *c)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->event && !c->part[i].by->compose)
			return true;
	return false;
}

bool chain_links(const struct weight_chain *c, int param)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->link && param_of(&c->part[i], wasd_graph_param_info(c->graph, param).offset))
			return true;
	return false;
}

enum wasd_status chain_attach(struct weight_chain *c, struct wasd_model *m, struct wasd_err *err)
{
	size_t again = 0;
	c->model = m;
	for (int i = 0; i < wasd_graph_params(c->graph); i++) {
		enum wasd_status s = chain_links(c, i) ? wasd_model_link(m, i, err) : WASD_OK;
		if (s)
			return s;
	}
	for (int i = 0; i < c->n; i++)
		for (int k = 0; k < c->part[i].n_params; k++)
			if (c->part[i].by->link && !c->part[i].first[k] && c->part[i].param[k].info.count > again)
				again = c->part[i].param[k].info.count;
	if (again && !(c->input = wasd_alloc_aligned(again, sizeof *c->input)))
		return wasd_fail(err, WASD_ENOMEM, "weights");
	chain_apply(c);
	return WASD_OK;
}

void chain_apply(struct weight_chain *c)
{
	const real *master = wasd_model_master(c->model);
	chain_compose(c, wasd_model_master(c->model));
	for (int i = 0; i < c->n; i++)
		for (int k = 0; c->part[i].by->link && k < c->part[i].n_params; k++) {
			const struct part *p = &c->part[i];
			size_t at = p->param[k].info.offset;
			real *w = wasd_model_effective(c->model) + at;
			p->by->link(p->self, &p->param[k], p->first[k] ? master + at : w, w);
		}
}

/* The input of link i for the parameter at `offset`: the master weights after the links before it. */
static const real *input_of(struct weight_chain *c, int i, size_t offset)
{
	const real *v = wasd_model_master(c->model) + offset;
	for (int k = 0; k < i; k++) {
		const struct weight_param *p = c->part[k].by->link ? param_of(&c->part[k], offset) : NULL;
		if (!p)
			continue;
		c->part[k].by->link(c->part[k].self, p, v, c->input);
		v = c->input;
	}
	return v;
}

void chain_pull(struct weight_chain *c)
{
	for (int i = c->n - 1; i >= 0; i--)
		for (int k = 0; c->part[i].by->link && k < c->part[i].n_params; k++) {
			const struct part *p = &c->part[i];
			size_t at = p->param[k].info.offset;
			p->by->link_back(p->self, &p->param[k], input_of(c, i, at), wasd_model_grad(c->model) + at);
		}
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->compose)
			compose_back(c, &c->part[i]);
}

/* ---- passes ----------------------------------------------------------------------------------------------- */

enum wasd_status chain_plan(struct weight_chain *c, const struct weight_plan *plan, struct wasd_err *err)
{
	const struct part *p = passing(c);
	struct weight_plan own = *plan;
	own.draws = c->drawing != NULL;
	return p ? p->by->plan(p->self, &own, err) : WASD_OK;
}

enum wasd_status chain_price(const struct weight_chain *c, const struct wasd_exec_opts *o, size_t *bytes,
                             struct wasd_err *err)
{
	const struct part *p = passing(c);
	*bytes = 0;
	return p ? p->by->price(p->self, o, bytes, err) : WASD_OK;
}

enum wasd_status chain_passes(struct weight_chain *c, const struct weight_passes *in, double *loss, int *hits,
                              struct wasd_err *err)
{
	const struct part *p = passing(c);
	if (p)
		return p->by->passes(p->self, in, loss, hits, err);
	enum wasd_status s = wasd_exec_forward(in->exec, in->x, in->pass, err);
	if (!s)
		s = wasd_exec_loss_of(in->exec, in->targets, loss, hits, err);
	return s ? s : wasd_exec_backward(in->exec, err);
}

bool chain_network(const struct weight_chain *c, int i, struct weight_network *out)
{
	const struct part *p = passing(c);
	return p && p->by->network && p->by->network(p->self, i, out);
}

/* ---- during the run ------------------------------------------------------------------------------------- */

void weight_say(const struct weight_run *r, const char *level, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	if (!r->log)
		return;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	r->log(r->ctx, level, text);
}

static size_t room_of(const struct weight_learned *l)
{
	return l->room ? l->room : weight_learned_elements(l);
}

static enum wasd_status begin_tensor(struct learner *to, const struct weight_learned *l, const cJSON *optimizer,
                                     struct wasd_err *err)
{
	const char *name;
	enum wasd_status s = wasd_optim_create(optimizer, room_of(l), &to->optim, err);
	for (int i = 0; !s && wasd_optim_state(to->optim, i, &name); i++)
		snprintf(to->state[i], sizeof to->state[i], "learned.%.30s%s%.60s", name, l->name ? "." : "",
		         l->name ? l->name : "");
	if (!s && !l->decays)
		s = wasd_optim_spare(to->optim, 0, room_of(l), err);
	if (s)
		return s;
	to->seen = *l;
	wasd_optim_resize(to->optim, weight_learned_elements(l));
	return WASD_OK;
}

static enum wasd_status begin_learning(struct part *p, const cJSON *optimizer, size_t *moved, struct wasd_err *err)
{
	struct weight_learned l;
	enum wasd_status s = WASD_OK;
	int n = 0;
	while (learned_at(p, n, &l))
		n++;
	if (!n)
		return WASD_OK;
	if (!(p->learner = wasd_calloc((size_t)n, sizeof *p->learner)))
		return wasd_fail(err, WASD_ENOMEM, "%s", p->by->name);
	for (p->n_learners = 0; !s && learned_at(p, p->n_learners, &l); p->n_learners++) {
		s = begin_tensor(&p->learner[p->n_learners], &l, optimizer, err);
		*moved = l.room > *moved ? l.room : *moved;
	}
	return s;
}

enum wasd_status chain_begin(struct weight_chain *c, const cJSON *optimizer, const struct weight_run *now,
                             struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	size_t moved = 0;
	for (int i = 0; !s && i < c->n; i++)
		if (!(s = begin_learning(&c->part[i], optimizer, &moved, err)) && c->part[i].by->begin)
			s = c->part[i].by->begin(c->part[i].self, now, err);
	if (!s && moved && !(c->moved = wasd_calloc(moved, sizeof *c->moved)))
		s = wasd_fail(err, WASD_ENOMEM, "weights");
	return s;
}

size_t chain_begin_bytes(const struct weight_chain *c, int states)
{
	struct weight_learned l;
	size_t bytes = 0, moved = 0;
	for (int i = 0; i < c->n; i++)
		bytes += c->part[i].by->begin_bytes ? c->part[i].by->begin_bytes(c->part[i].self, states) : 0;
	for (int i = 0; chain_learned(c, i, &l); i++)
		moved = l.room > moved ? l.room : moved;
	return bytes + moved * sizeof(real);
}

/* Moves what both sizes have from v to its new indices; the rest is 0. */
static void move_corner(real *v, real *spare, const struct weight_learned *from, const struct weight_learned *to)
{
	size_t n = weight_learned_elements(to);
	memcpy(spare, v, weight_learned_elements(from) * sizeof *v);
	memset(v, 0, n * sizeof *v);
	if (from->ndims != to->ndims || from->life != to->life)
		return;
	for (size_t i = 0; i < n; i++) {
		size_t rest = i, at = 0, step = 1;
		bool both = true;
		for (int d = to->ndims - 1; d >= 0; d--) {
			size_t k = rest % to->dims[d];
			rest /= to->dims[d];
			both = both && k < from->dims[d];
			at += k * step;
			step *= from->dims[d];
		}
		if (both)
			v[i] = spare[at];
	}
}

/* The optimizer's state follows a tensor that has changed. */
static void follow(struct weight_chain *c, struct learner *l, const struct weight_learned *now)
{
	if (l->seen.ndims == now->ndims && !memcmp(l->seen.dims, now->dims, sizeof now->dims) && l->seen.life == now->life)
		return;
	real *v;
	for (int i = 0; (v = wasd_optim_state(l->optim, i, NULL)); i++)
		move_corner(v, c->moved, &l->seen, now);
	wasd_optim_resize(l->optim, weight_learned_elements(now));
	l->seen = *now;
}

static void follow_all(struct weight_chain *c)
{
	struct weight_learned l;
	for (int i = 0; i < c->n; i++)
		for (int k = 0; k < c->part[i].n_learners && learned_at(&c->part[i], k, &l); k++)
			follow(c, &c->part[i].learner[k], &l);
}

void chain_learn(struct weight_chain *c, double lr, uint64_t steps)
{
	struct weight_learned l;
	for (int i = 0; i < c->n; i++)
		for (int k = 0; k < c->part[i].n_learners && learned_at(&c->part[i], k, &l); k++) {
			wasd_optim_set_steps(c->part[i].learner[k].optim, steps);
			wasd_optim_step(c->part[i].learner[k].optim, l.values, l.grad, lr);
		}
}

void chain_event(struct weight_chain *c, const struct weight_run *now)
{
	bool changed = false;
	for (int i = 0; i < c->n; i++)
		changed |= c->part[i].by->event && c->part[i].by->event(c->part[i].self, now);
	if (!changed)
		return;
	follow_all(c);
	chain_apply(c);
}

void chain_after_step(struct weight_chain *c, const struct weight_run *now)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->after_step)
			c->part[i].by->after_step(c->part[i].self, now);
}

void chain_at_epoch(struct weight_chain *c, const struct weight_run *now)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->at_epoch)
			c->part[i].by->at_epoch(c->part[i].self, now);
}

bool chain_rehearses(const struct weight_chain *c)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->rehearses && c->part[i].by->rehearses(c->part[i].self))
			return true;
	return false;
}

bool chain_cuts(const struct weight_chain *c, const struct weight_run *now)
{
	for (int i = 0; i < c->n; i++)
		if (cuts_at(&c->part[i]) && c->part[i].by->cuts(c->part[i].self, now))
			return true;
	return false;
}

const char *chain_cuts_at(const struct weight_chain *c)
{
	const char *at = NULL;
	for (int i = 0; i < c->n && !at; i++)
		at = cuts_at(&c->part[i]);
	return at;
}

static const struct part *splitting(const struct weight_chain *c)
{
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->split && cuts_at(&c->part[i]))
			return &c->part[i];
	return NULL;
}

bool chain_split(const struct weight_chain *c, int i, struct weight_split *out)
{
	const struct part *p = splitting(c);
	return p && p->by->split(p->self, i, out);
}

const real *chain_split_values(const struct weight_chain *c, int learned, int block)
{
	const struct part *p = splitting(c);
	struct weight_learned l;
	if (block >= 0)
		return wasd_optim_state(p->learner[learned].optim, block, NULL);
	return learned_at(p, learned, &l) ? l.values : NULL;
}

struct weight_pace chain_pace(const struct weight_chain *c, const struct weight_run *now)
{
	struct weight_pace pace = {now->step, now->epochs, now->step};
	for (int i = 0; i < c->n; i++)
		if (c->part[i].by->pace)
			c->part[i].by->pace(c->part[i].self, now, &pace);
	return pace;
}

/* ---- the draw ------------------------------------------------------------------------------------------- */

static bool holds(const struct weight_chain *c)
{
	return c->drawing->by->holds && c->drawing->by->holds(c->drawing->self);
}

enum wasd_status chain_draw(struct weight_chain *c, const struct weight_when *when, struct wasd_rng *r,
                            const struct wasd_recipe **out, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	if (!c->drawing) {
		*out = NULL;
		return WASD_OK;
	}
	if (r)
		return c->drawing->by->draw(c->drawing->self, when, r, out, err);
	if (!when->batch || !holds(c)) {
		c->rng_before = c->rng;
		s = c->drawing->by->draw(c->drawing->self, when, &c->rng, &c->recipe, err);
	}
	*out = c->recipe;
	return s;
}

const struct wasd_recipe *chain_recorded(const struct weight_chain *c)
{
	return c->drawing ? c->drawing->by->recorded(c->drawing->self) : NULL;
}

cJSON *chain_recorded_json(const struct weight_chain *c)
{
	return c->drawing ? c->drawing->by->recorded_json(c->drawing->self) : cJSON_CreateNull();
}

cJSON *chain_draw_json(const struct weight_chain *c)
{
	return c->drawing ? c->drawing->by->to_json(c->drawing->self) : cJSON_CreateFalse();
}

/* ---- checkpoint contents --------------------------------------------------------------------------------- */

/* Tensor j of those that a strategy learns, and of the optimizer's state for them. */
static bool learned_state(const struct part *p, int j, struct weight_state *out)
{
	struct weight_learned l;
	for (int i = 0; learned_at(p, i, &l); i++) {
		*out = (struct weight_state){.name = l.name, .ndims = l.ndims, .values = l.values};
		memcpy(out->dims, l.dims, sizeof l.dims);
		if (l.name && j-- == 0)
			return true;
		for (int k = 0; i < p->n_learners && (out->values = wasd_optim_state(p->learner[i].optim, k, NULL)); k++) {
			out->name = p->learner[i].state[k];
			if (j-- == 0)
				return true;
		}
	}
	return false;
}

static bool part_state(const struct part *p, bool learned, int j, struct weight_state *out)
{
	return learned ? learned_state(p, j, out) : p->by->state && p->by->state(p->self, j, out);
}

bool chain_state(const struct weight_chain *c, int i, struct chain_state *out)
{
	for (int learned = 0; learned < 2; learned++)
		for (int k = 0; k < c->n; k++)
			for (int j = 0; part_state(&c->part[k], learned, j, &out->tensor); j++)
				if (i-- == 0) {
					out->of = c->part[k].by;
					out->learned = learned;
					return true;
				}
	return false;
}

enum wasd_status chain_arrange(struct weight_chain *c, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (int i = 0; !s && i < c->n; i++)
		if (c->part[i].by->arrange)
			s = c->part[i].by->arrange(c->part[i].self, err);
	if (!s)
		follow_all(c);
	return s;
}

const uint64_t *chain_generator(const struct weight_chain *c, uint32_t batch, const char **stream)
{
	*stream = c->drawing ? c->drawing->by->name : weight_was.name;
	/* A recipe that holds for the epoch is drawn again on resume. */
	return c->drawing && batch && holds(c) ? c->rng_before.s : c->rng.s;
}

enum wasd_status chain_resume(struct weight_chain *c, const uint64_t generator[4], const cJSON *recorded,
                              const struct weight_when *when, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	memcpy(c->rng.s, generator, sizeof c->rng.s);
	for (int i = 0; !s && i < c->n; i++)
		if (c->part[i].by->resumed)
			s = c->part[i].by->resumed(c->part[i].self, wasd_model_master(c->model), err);
	chain_apply(c);
	if (s || !c->drawing)
		return s;
	s = c->drawing->by->recall(c->drawing->self, recorded, err);
	if (s || !when->batch || !holds(c))
		return s;
	c->rng_before = c->rng;
	return c->drawing->by->draw(c->drawing->self, when, &c->rng, &c->recipe, err);
}

/* ---- metrics and warnings --------------------------------------------------------------------------------- */

bool chain_metric(const struct weight_chain *c, int i, int epoch, const char **name, double *value)
{
	for (int k = 0; k < c->n; k++)
		for (int j = 0; c->part[k].by->metric && c->part[k].by->metric(c->part[k].self, j, epoch, name, value); j++)
			if (i-- == 0)
				return true;
	return false;
}

bool chain_warning(const struct weight_chain *c, int i, const char **code, char *text, size_t size)
{
	for (int k = 0; k < c->n; k++) {
		const struct part *p = &c->part[k];
		for (int j = 0; p->by->warning && p->by->warning(p->self, j, wasd_model_master(c->model), code, text, size);
		     j++)
			if (i-- == 0)
				return true;
	}
	return false;
}
