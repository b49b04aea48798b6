/* core/weights/draw.c - a draw: one transform for every augmented layer of a network. Its JSON form is in
 * graph/draw_json.c, which knows the layers' names. */
#include "weights/apply.h"

void wasd_draw_done(struct wasd_draw *d)
{
	if (!d)
		return;
	for (int i = 0; i < d->n; i++)
		wasd_free(d->layer[i].more);
	wasd_free(d->layer);
	*d = (struct wasd_draw){0};
}

const struct wasd_draw_layer *wasd_draw_find(const struct wasd_draw *d, int aug)
{
	for (int i = 0; d && i < d->n; i++)
		if (d->layer[i].aug == aug)
			return &d->layer[i];
	return NULL;
}

/* ---- parts --------------------------------------------------------------------------------------------- */

static int parts_of(const struct wasd_draw_layer *l)
{
	return l->parts > 1 ? l->parts : 1;
}

const struct wasd_transform *wasd_draw_part(const struct wasd_draw_layer *l, int part)
{
	return part ? &l->more[part - 1] : &l->t;
}

static struct wasd_rect hull(struct wasd_rect a, struct wasd_rect b)
{
	if (!a.h || !b.h)
		return a.h ? a : b;
	int y = a.y < b.y ? a.y : b.y, x = a.x < b.x ? a.x : b.x;
	int y1 = a.y + a.h > b.y + b.h ? a.y + a.h : b.y + b.h, x1 = a.x + a.w > b.x + b.w ? a.x + a.w : b.x + b.w;
	return (struct wasd_rect){y, x, y1 - y, x1 - x};
}

struct wasd_rect wasd_draw_live(const struct wasd_draw_layer *l)
{
	struct wasd_rect live = l->t.live;
	for (int i = 1; i < parts_of(l); i++)
		live = hull(live, wasd_draw_part(l, i)->live);
	return live;
}

bool wasd_draw_box(const struct wasd_draw_layer *l)
{
	struct wasd_rect live = wasd_draw_live(l);
	for (int i = 0; i < parts_of(l); i++) {
		const struct wasd_transform *t = wasd_draw_part(l, i);
		if (!t->box || t->live.h != live.h || t->live.w != live.w)
			return false;
	}
	return true;
}

/* Number of rows of part i; *first: its first row. */
static size_t rows_of(const struct wasd_draw_layer *l, int i, int outs, size_t rows, size_t *first)
{
	int64_t n = parts_of(l), begin = outs * i / n, end = outs * (i + 1) / n;
	size_t each = rows / (size_t)outs;
	*first = (size_t)begin * each;
	return (size_t)(end - begin) * each;
}

void wasd_draw_forward(const struct wasd_draw_layer *l, real alpha, const real *pw, int outs, size_t rows,
                       struct wasd_rect at, real *sw)
{
	size_t kk = (size_t)(l->t.k * l->t.k), m = (size_t)(at.h * at.w), first;
	for (int i = 0; i < parts_of(l); i++) {
		size_t n = rows_of(l, i, outs, rows, &first);
		wasd_transform_forward(wasd_draw_part(l, i), alpha, pw + first * kk, n, at, sw + first * m);
	}
}

double wasd_draw_backward(const struct wasd_draw_layer *l, real alpha, const real *pw, real *dsw, int outs, size_t rows,
                          struct wasd_rect at, real *dpw)
{
	size_t kk = (size_t)(l->t.k * l->t.k), m = (size_t)(at.h * at.w), first;
	double dot = 0;
	for (int i = 0; i < parts_of(l); i++) {
		size_t n = rows_of(l, i, outs, rows, &first);
		dot += apply_backward_clear(wasd_draw_part(l, i), alpha, pw + first * kk, dsw + first * m, n, at,
		                            dpw + first * kk);
	}
	return dot;
}
