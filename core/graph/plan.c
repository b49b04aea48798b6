/* graph/plan.c - plans the steps and the memory of a pass over a graph.
 *
 * 1. Live nodes: nodes that the output does not need are dropped.
 * 2. Fusion: a layer that supports it absorbs the add and the activation that follow it (y = act(op(x) + residual)), if
 *    no other node reads the values in between. The step takes the position of the last fused node, where every input
 *    is ready.
 * 3. Gradients: computed for every value that depends on a parameter. In backward order, the first writer of a gradient
 *    sets it, later ones add to it.
 * 4. Memory: each value, gradient and saved buffer is a slot with a first and a last time. With S steps, step i runs
 *    forward at time i and backward at 2S-i. An in-place step shares its input's slot, and the gradient of one input
 *    may share the slot of the output's gradient. Slots are placed largest first, each at the lowest address where it
 *    overlaps no other in both time and space.
 *
 * Plain backends (the reference) and keep_all use no fusion, and their values live to the end. */
#include "graph/plan.h"

#include <stdlib.h>
#include <string.h>

#define ALIGN 64

struct builder {
	const struct wasd_graph *g;
	const struct backend *b;
	const struct wasd_exec_opts *o;
	struct plan *p;
	bool *live, *needs_grad, *written;
	int *uses;                  /* number of readers of a value; the caller counts as a reader of the output */
	wasd_node *tail, *residual; /* per head of a fused chain: its last node; the other operand of its add (-1: none) */
	bool *inner;                /* in a chain, but not its head */
	int pointers;               /* used so far */
};

static int time_back(const struct plan *p, int step)
{
	return 2 * p->n_steps - step;
}

static void find_live(struct builder *b)
{
	const struct wasd_graph *g = b->g;
	b->live[g->output] = true;
	b->uses[g->output] = 1;
	for (int i = g->n_nodes - 1; i >= 0; i--)
		for (int k = 0; b->live[i] && k < g->nodes[i].n_in; k++) {
			b->live[g->nodes[i].inputs[k]] = true;
			b->uses[g->nodes[i].inputs[k]]++;
		}
}

static const struct layer *reader_kind(const struct wasd_graph *g, wasd_node i)
{
	const struct layer *kind = NULL;
	for (wasd_node r = i + 1; r < g->n_nodes; r++)
		for (int k = 0; k < g->nodes[r].n_in; k++) {
			if (g->nodes[r].inputs[k] != i)
				continue;
			if (kind && kind != g->nodes[r].layer)
				return NULL;
			kind = g->nodes[r].layer;
		}
	return kind;
}

static bool read_by_conv(const struct wasd_graph *g, wasd_node i)
{
	for (wasd_node r = i + 1; r < g->n_nodes; r++)
		for (int k = 0; k < g->nodes[r].n_in; k++)
			if (g->nodes[r].inputs[k] == i && g->nodes[r].layer == &layer_conv)
				return true;
	return false;
}

/* The only reader of node i, or -1 if it has several or is the output. */
static wasd_node only_reader(const struct builder *b, wasd_node i)
{
	if (b->uses[i] != 1 || i == b->g->output)
		return -1;
	for (wasd_node r = i + 1; r < b->g->n_nodes; r++)
		for (int k = 0; b->live[r] && k < b->g->nodes[r].n_in; k++)
			if (b->g->nodes[r].inputs[k] == i)
				return r;
	return -1;
}

static void fuse_from(struct builder *b, wasd_node head)
{
	const struct node *nodes = b->g->nodes;
	const struct layer *l = nodes[head].layer;
	if (!b->live[head] || b->inner[head] || !(b->o->training ? l->fuses_training : l->fuses_inference))
		return;
	wasd_node next = only_reader(b, head);
	if (next >= 0 && !l->is_add && nodes[next].layer->is_add && !b->inner[next]) {
		b->residual[head] = nodes[next].inputs[nodes[next].inputs[0] == head];
		b->tail[head] = next;
		b->inner[next] = true;
		next = only_reader(b, next);
	}
	if (next >= 0 && nodes[next].layer->is_act && !b->inner[next]) {
		b->tail[head] = next;
		b->inner[next] = true;
	}
}

/* Of two layers that feed one add, the later one absorbs it, because the add has to wait for it anyway. The remaining
 * adds absorb their activations. */
static void fuse(struct builder *b)
{
	if (b->o->keep_all || b->b->plain)
		return;
	for (int adds = 0; adds < 2; adds++)
		for (wasd_node i = b->g->n_nodes - 1; i > 0; i--)
			if (b->g->nodes[i].layer->is_add == (adds == 1))
				fuse_from(b, i);
}

bool plan_chains(const struct wasd_graph *g, wasd_node *tail, wasd_node *residual, bool *inner)
{
	static const struct wasd_exec_opts serving = {0};
	static const struct backend any = {0};
	struct builder b = {.g = g, .b = &any, .o = &serving, .tail = tail, .residual = residual, .inner = inner};
	b.live = wasd_calloc((size_t)g->n_nodes, sizeof *b.live);
	b.uses = wasd_calloc((size_t)g->n_nodes, sizeof *b.uses);
	bool ok = b.live && b.uses;
	for (int i = 0; i < g->n_nodes; i++) {
		tail[i] = i;
		residual[i] = -1;
		inner[i] = false;
	}
	if (ok) {
		find_live(&b);
		fuse(&b);
	}
	for (int i = 0; ok && i < g->n_nodes; i++)
		inner[i] |= !b.live[i];
	wasd_free(b.live);
	wasd_free(b.uses);
	return ok;
}

static enum act act_of_chain(const struct builder *b, wasd_node head)
{
	return b->tail[head] == head ? ACT_NONE : b->g->nodes[b->tail[head]].layer->is_act;
}

static void make_step(struct builder *b, wasd_node head)
{
	struct plan *p = b->p;
	const struct node *n = &b->g->nodes[head];
	wasd_node out = b->tail[head];
	struct step *s = &p->steps[p->n_steps];
	s->node = n;
	s->kernel = backend_kernel_of(b->b, n->layer);
	s->backend = b->b;
	s->strict = b->o->precision == WASD_PRECISION_FP32_STRICT;
	s->unmeasured = b->o->unmeasured;
	s->varies = n->aug >= 0;
	s->quant = b->o->quant ? &b->o->quant->conv[head] : NULL;
	s->has_res = b->residual[head] >= 0;
	s->n_in = n->n_in + s->has_res;
	s->act = act_of_chain(b, head);
	s->kh = n->kh;
	s->kw = n->kw;
	s->pad_top = n->pad_top;
	s->pad_left = n->pad_left;
	s->eps = n->eps;
	s->momentum = n->momentum;
	s->x = p->pointers + 2 * b->pointers;
	s->dx = s->x + s->n_in;
	s->dx_add = p->flags + b->pointers;
	b->pointers += s->n_in;
	s->y = &p->value[out];
	p->step_of[out] = p->n_steps;
	bool grads = n->weight >= 0;
	for (int k = 0; k < s->n_in; k++) {
		wasd_node in = k < n->n_in ? n->inputs[k] : b->residual[head];
		s->x[k] = &p->value[in];
		grads |= b->needs_grad[in];
	}
	b->needs_grad[out] = grads && b->o->training;
	if (b->needs_grad[out])
		s->dy = &p->grad[out];
	p->n_steps++;
}

/* Makes the steps, in the order of the chains' last nodes. */
static void make_steps(struct builder *b)
{
	for (wasd_node out = 1; out < b->g->n_nodes; out++) {
		wasd_node head = out;
		while (b->inner[head]) {
			const struct node *n = &b->g->nodes[head];
			wasd_node next = n->inputs[0];
			if (n->layer->is_add && b->tail[next] != out)
				next = n->inputs[1];
			head = next;
		}
		if (b->live[out] && b->tail[head] == out)
			make_step(b, head);
	}
	for (int i = b->p->n_steps - 1; i >= 0; i--) {
		struct step *s = &b->p->steps[i];
		for (int k = 0; s->dy && k < s->n_in; k++) {
			wasd_node in = (wasd_node)(s->x[k] - b->p->value);
			if (!b->needs_grad[in])
				continue;
			s->dx[k] = &b->p->grad[in];
			s->dx_add[k] = b->written[in];
			b->written[in] = true;
		}
	}
}

static int new_slot(struct plan *p, size_t bytes, int first, int last)
{
	p->slots[p->n_slots] = (struct slot){(bytes + ALIGN - 1) / ALIGN * ALIGN, 0, first, last};
	return p->n_slots++;
}

/* Time of the last read of the value of node v, computed by step `made` (-1: the input). */
static int last_read(const struct builder *b, wasd_node v, int made)
{
	const struct plan *p = b->p;
	int last = made < 0 ? 0 : made;
	if (v == b->g->output || (v && v == b->o->kept))
		last = p->n_steps;
	if (b->o->keep_all || b->b->plain)
		return time_back(p, -1);
	for (int i = made + 1; i < p->n_steps; i++) {
		const struct step *s = &p->steps[i];
		for (int k = 0; k < s->n_in; k++) {
			if (s->x[k] != &p->value[v])
				continue;
			unsigned keeps = s->node->layer->keeps ? s->node->layer->keeps(s->act, s->has_res) : 0;
			int t = s->dy && k < s->node->n_in && (keeps & LAYER_KEEPS_X) ? time_back(p, i) : i;
			last = t > last ? t : last;
		}
	}
	if (made >= 0 && p->steps[made].dy) {
		const struct step *s = &p->steps[made];
		if (s->node->layer->keeps && (s->node->layer->keeps(s->act, s->has_res) & LAYER_KEEPS_Y) &&
		    time_back(p, made) > last)
			last = time_back(p, made);
	}
	return last;
}

/* The value that a step may compute its output over: its first input or its residual. NULL: none. */
static const struct tensor *under(const struct step *s)
{
	if (s->node->layer->in_place)
		return s->x[0];
	return s->has_res && s->kernel->onto_residual && s->x[0] != s->x[1] ? s->x[1] : NULL;
}

static void value_slots(struct builder *b)
{
	struct plan *p = b->p;
	p->value_slot[0] = new_slot(p, p->value[0].bytes, 0, last_read(b, 0, -1));
	for (int i = 0; i < p->n_steps; i++) {
		struct step *s = &p->steps[i];
		wasd_node out = (wasd_node)(s->y - p->value);
		int last = last_read(b, out, i);
		const struct tensor *x = under(s);
		int from = x ? p->value_slot[x - p->value] : -1;
		if (x && !b->o->keep_all && !b->b->plain && p->slots[from].last == i && x->bytes == s->y->bytes) {
			p->value_slot[out] = from;
			p->slots[from].last = last;
		} else {
			p->value_slot[out] = new_slot(p, s->y->bytes, i, last);
		}
		p->saved_slot[i] = s->saved_bytes ? new_slot(p, s->saved_bytes, i, s->dy ? time_back(p, i) : i) : -1;
	}
}

static void grad_slots(struct builder *b)
{
	struct plan *p = b->p;
	for (int i = p->n_steps - 1; i >= 0; i--) {
		struct step *s = &p->steps[i];
		if (!s->dy)
			continue;
		wasd_node out = (wasd_node)(s->y - p->value);
		int now = time_back(p, i);
		if (p->grad_slot[out] < 0) /* gradient of the logits, written by the loss */
			p->grad_slot[out] = new_slot(p, s->dy->bytes, p->n_steps, now);
		struct slot *dy = &p->slots[p->grad_slot[out]];
		bool shared = !s->node->layer->in_place_bwd || b->b->plain;
		for (int k = s->n_in - 1; k >= 0; k--) {
			/* The residual's gradient first: it equals dy except for the activation's mask. */
			if (!s->dx[k])
				continue;
			wasd_node in = (wasd_node)(s->x[k] - p->value);
			int made = p->step_of[in], end = made < 0 ? now : time_back(p, made);
			if (s->dx_add[k] || p->grad_slot[in] >= 0)
				continue;
			if (!shared && dy->last == now && s->dx[k]->bytes == s->dy->bytes) {
				p->grad_slot[in] = p->grad_slot[out];
				dy->last = end;
				shared = true;
			} else {
				p->grad_slot[in] = new_slot(p, s->dx[k]->bytes, now, end);
			}
		}
	}
}

static int by_size(const void *a, const void *b)
{
	const struct slot *x = *(struct slot *const *)a, *y = *(struct slot *const *)b;
	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? 1 : -1;
	return x < y ? -1 : x > y;
}

static int by_place(const void *a, const void *b)
{
	const struct slot *x = *(struct slot *const *)a, *y = *(struct slot *const *)b;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* Assigns an address to every slot; returns their total size in bytes. order, near: room for n_slots pointers each. */
static size_t place_slots(struct plan *p, struct slot **order, struct slot **near)
{
	size_t total = 0;
	for (int i = 0; i < p->n_slots; i++)
		order[i] = &p->slots[i];
	qsort(order, (size_t)p->n_slots, sizeof *order, by_size);
	for (int i = 0; i < p->n_slots; i++) {
		struct slot *s = order[i];
		int n = 0;
		for (int k = 0; k < i; k++)
			if (order[k]->first <= s->last && s->first <= order[k]->last)
				near[n++] = order[k];
		qsort(near, (size_t)n, sizeof *near, by_place);
		s->at = 0;
		for (int k = 0; k < n; k++) {
			if (near[k]->at >= s->at + s->bytes)
				break;
			if (near[k]->at + near[k]->bytes > s->at)
				s->at = near[k]->at + near[k]->bytes;
		}
		if (s->at + s->bytes > total)
			total = s->at + s->bytes;
	}
	return total;
}

static bool arrays(struct builder *b)
{
	size_t n = (size_t)b->g->n_nodes, inputs = 0;
	struct plan *p = b->p;
	for (size_t i = 0; i < n; i++)
		inputs += (size_t)b->g->nodes[i].n_in + 1;
	return (b->live = wasd_calloc(n, sizeof *b->live)) && (b->needs_grad = wasd_calloc(n, sizeof *b->needs_grad)) &&
	       (b->written = wasd_calloc(n, sizeof *b->written)) && (b->uses = wasd_calloc(n, sizeof *b->uses)) &&
	       (b->tail = wasd_calloc(n, sizeof *b->tail)) && (b->residual = wasd_calloc(n, sizeof *b->residual)) &&
	       (b->inner = wasd_calloc(n, sizeof *b->inner)) && (p->steps = wasd_calloc(n, sizeof *p->steps)) &&
	       (p->value = wasd_calloc(n, sizeof *p->value)) && (p->grad = wasd_calloc(n, sizeof *p->grad)) &&
	       (p->value_slot = wasd_calloc(n, sizeof *p->value_slot)) &&
	       (p->grad_slot = wasd_calloc(n, sizeof *p->grad_slot)) && (p->step_of = wasd_calloc(n, sizeof *p->step_of)) &&
	       (p->saved_slot = wasd_calloc(n, sizeof *p->saved_slot)) &&
	       (p->slots = wasd_calloc(3 * n, sizeof *p->slots)) &&
	       (p->pointers = wasd_calloc(2 * inputs, sizeof *p->pointers)) &&
	       (p->flags = wasd_calloc(inputs, sizeof *p->flags));
}

/* Assigns the places in the block, which is not allocated yet. */
static enum wasd_status lay_out(struct plan *p, struct wasd_err *err)
{
	size_t scratch = 0;
	struct slot **order = wasd_calloc(2 * (size_t)p->n_slots + 1, sizeof *order);
	if (!order)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the plan");
	size_t total = place_slots(p, order, order + p->n_slots);
	wasd_free(order);
	for (int i = 0; i < p->n_steps; i++)
		scratch = p->steps[i].scratch_bytes > scratch ? p->steps[i].scratch_bytes : scratch;
	p->bytes = total + scratch;
	p->scratch_at = total;
	return WASD_OK;
}

static enum wasd_status memory(struct plan *p, struct wasd_err *err)
{
	if (p->arena)
		return arena_reserve(p->arena, p->bytes, err);
	if (!(p->block = tensor_alloc(p->bytes)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu bytes of activations and workspace", p->bytes);
	return WASD_OK;
}

void plan_bind(struct plan *p)
{
	if (p->arena)
		p->block = p->arena->block;
	p->scratch = p->block + p->scratch_at;
	for (int i = 0; i < p->n_nodes; i++) {
		if (p->value_slot[i] >= 0)
			p->value[i].data = p->block + p->slots[p->value_slot[i]].at;
		if (p->grad_slot[i] >= 0)
			p->grad[i].data = p->block + p->slots[p->grad_slot[i]].at;
	}
	for (int i = 0; i < p->n_steps; i++)
		p->steps[i].saved = p->saved_slot[i] >= 0 ? p->block + p->slots[p->saved_slot[i]].at : NULL;
}

static enum wasd_status make(const struct wasd_graph *g, const struct backend *be, const struct wasd_exec_opts *o,
                             int threads, struct packs *packs, struct plan *p, struct wasd_err *err)
{
	struct builder b = {.g = g, .b = be, .o = o, .p = p};
	enum wasd_status s = WASD_OK;
	memset(p, 0, sizeof *p);
	p->n_nodes = g->n_nodes;
	p->arena = o->arena;
	if (!arrays(&b)) {
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the plan");
		goto end;
	}
	for (int i = 0; i < g->n_nodes; i++) {
		b.tail[i] = i;
		b.residual[i] = p->value_slot[i] = p->grad_slot[i] = p->step_of[i] = -1;
		p->value[i].shape = p->grad[i].shape = g->nodes[i].shape;
		p->value[i].by = p->grad[i].by = &g->nodes[i];
		p->value[i].source = p->grad[i].source = g->nodes[i].n_in ? &p->value[g->nodes[i].inputs[0]] : NULL;
		p->value[i].reader = p->grad[i].reader = reader_kind(g, i);
		p->value[i].convolved = p->grad[i].convolved = read_by_conv(g, i);
		p->value[i].quant = o->quant ? &o->quant->tensor[i] : NULL;
		be->layout(&p->value[i], o->batch, o->precision);
		be->layout(&p->grad[i], o->batch, o->precision);
	}
	find_live(&b);
	fuse(&b);
	make_steps(&b);
	for (int i = 0; i < p->n_steps; i++) {
		struct step *st = &p->steps[i];
		st->packs = packs;
		if (!st->kernel) {
			s = wasd_fail(err, WASD_EUNSUPPORTED, "%s %s: the backend \"%s\" has no kernel for this layer",
			              st->node->layer->op, st->node->name, be->name);
			goto end;
		}
		if (o->planned)
			o->planned(o->ctx, i, p->n_steps);
		if (st->kernel->plan)
			st->kernel->plan(st, o->batch, o->training, threads);
		if (st->status) {
			s = wasd_fail(err, st->status, "%s %s: %s", st->node->layer->op, st->node->name,
			              st->status == WASD_ENOMEM ? "no memory for its plan" : "cannot be planned");
			goto end;
		}
	}
	value_slots(&b);
	grad_slots(&b);
	s = lay_out(p, err);
end:
	wasd_free(b.live);
	wasd_free(b.needs_grad);
	wasd_free(b.written);
	wasd_free(b.uses);
	wasd_free(b.tail);
	wasd_free(b.residual);
	wasd_free(b.inner);
	if (s)
		plan_done(p);
	return s;
}

enum wasd_status plan_create(const struct wasd_graph *g, const struct backend *b, const struct wasd_exec_opts *o,
                             int threads, struct packs *packs, struct plan *p, struct wasd_err *err)
{
	enum wasd_status s = make(g, b, o, threads, packs, p, err);
	if (s)
		return s;
	if ((s = memory(p, err)))
		plan_done(p);
	else
		plan_bind(p);
	return s;
}

enum wasd_status plan_price(const struct wasd_graph *g, const struct backend *b, const struct wasd_exec_opts *o,
                            int threads, size_t *tensors, size_t *scratch, struct wasd_err *err)
{
	struct plan p;
	enum wasd_status s = make(g, b, o, threads, NULL, &p, err);
	if (s)
		return s;
	*tensors = p.scratch_at;
	*scratch = p.bytes - p.scratch_at;
	plan_done(&p);
	return WASD_OK;
}

void plan_done(struct plan *p)
{
	for (int i = 0; i < p->n_steps; i++)
		if (p->steps[i].kernel && p->steps[i].kernel->unplan)
			p->steps[i].kernel->unplan(&p->steps[i]);
	wasd_free(p->steps);
	wasd_free(p->value);
	wasd_free(p->grad);
	wasd_free(p->value_slot);
	wasd_free(p->grad_slot);
	wasd_free(p->step_of);
	wasd_free(p->saved_slot);
	wasd_free(p->slots);
	wasd_free(p->pointers);
	wasd_free(p->flags);
	if (!p->arena)
		tensor_free(p->block);
	memset(p, 0, sizeof *p);
}
