/* weights/superweights_plan.c - clusters, strips and banks of SuperWeights. See superweights.h. */
#include "weights/superweights.h"

#include <math.h>
#include <string.h>

bool sw_plan_init(struct sw_plan *p, int n_layers)
{
	size_t n = (size_t)n_layers;
	*p = (struct sw_plan){.n_layers = n_layers,
	                      .cluster = wasd_calloc(n, sizeof *p->cluster),
	                      .first = wasd_calloc(n, sizeof *p->first),
	                      .strips = wasd_calloc(n, sizeof *p->strips),
	                      .strip = wasd_calloc(n, sizeof *p->strip)};
	return p->cluster && p->first && p->strips && p->strip;
}

void sw_plan_done(struct sw_plan *p)
{
	wasd_free(p->cluster);
	wasd_free(p->first);
	wasd_free(p->strips);
	wasd_free(p->strip);
	*p = (struct sw_plan){0};
}

/* ---- clusters --------------------------------------------------------------------------------------------- */

static int by_kernel(const struct sw_layer *a, const struct sw_layer *b)
{
	return a->kh != b->kh ? a->kh - b->kh : a->kw - b->kw;
}

/* The next larger kernel after `than`, or the smallest if it is NULL; NULL: none. */
static const struct sw_layer *next_kernel(const struct sw_layer *layer, int n, const struct sw_layer *than)
{
	const struct sw_layer *best = NULL;
	for (int i = 0; i < n; i++)
		if ((!than || by_kernel(&layer[i], than) > 0) && (!best || by_kernel(&layer[i], best) < 0))
			best = &layer[i];
	return best;
}

void sw_bins(const struct sw_layer *layer, int n, int bins, int *cluster)
{
	int first = 0;
	for (const struct sw_layer *of = NULL; (of = next_kernel(layer, n, of));) {
		int layers = 0, own, at = 0;
		for (int i = 0; i < n; i++)
			layers += !by_kernel(&layer[i], of);
		own = (int)rint((double)bins * layers / n);
		own = own < 1 ? 1 : own > layers ? layers : own;
		/* the first bins have one layer more */
		int some = layers / own, more = layers % own, larger = more * (some + 1);
		for (int i = 0; i < n; i++) {
			if (by_kernel(&layer[i], of))
				continue;
			cluster[i] = first + (at < larger ? at / (some + 1) : more + (at - larger) / some);
			at++;
		}
		first += own;
	}
}

/* The smallest layer of a cluster, the first of equal ones, that nests around `inner` (NULL: any); -1: none. */
static int next_shape(const struct sw_layer *layer, int n, const int *cluster, int c, const struct sw_layer *inner)
{
	int best = -1;
	for (int i = 0; i < n; i++) {
		const struct sw_layer *l = &layer[i];
		bool fits = cluster[i] == c && (!inner || (!by_kernel(l, inner) && l->outs >= inner->outs &&
		                                           l->ins >= inner->ins && sw_count(l) > sw_count(inner)));
		if (fits && (best < 0 || sw_count(l) < sw_count(&layer[best])))
			best = i;
	}
	return best;
}

static bool same_shape(const struct sw_layer *a, const struct sw_layer *b)
{
	return a->outs == b->outs && a->ins == b->ins && !by_kernel(a, b);
}

/* Clusters that are numbered already are below 0 in the meantime: -1 - number. */
void sw_nest(const struct sw_layer *layer, int n, int *cluster)
{
	int next = 0, most = -1;
	for (int i = 0; i < n; i++)
		most = cluster[i] > most ? cluster[i] : most;
	for (int c = 0; c <= most; c++)
		for (int at; (at = next_shape(layer, n, cluster, c, NULL)) >= 0; next++)
			for (; at >= 0; at = next_shape(layer, n, cluster, c, &layer[at]))
				for (int i = 0; i < n; i++)
					if (cluster[i] == c && same_shape(&layer[i], &layer[at]))
						cluster[i] = -1 - next;
	for (int i = 0; i < n; i++)
		cluster[i] = -1 - cluster[i];
}

/* ---- banks ------------------------------------------------------------------------------------------------ */

static void add_strip(struct sw_plan *p, const struct sw_layer *layer, int c, const struct sw_layer *inner,
                      const struct sw_layer *outer)
{
	struct sw_strip *s = &p->strip[p->n_strips];
	size_t had = inner ? sw_count(inner) : 0;
	*s = (struct sw_strip){.cluster = c,
	                       .outs0 = inner ? inner->outs : 0,
	                       .ins0 = inner ? inner->ins : 0,
	                       .outs = outer->outs,
	                       .ins = outer->ins,
	                       .taps = (size_t)outer->kh * (size_t)outer->kw,
	                       .n = sw_count(outer) - had,
	                       .templates = 1,
	                       .at = p->values};
	for (int i = 0; i < p->n_layers; i++) {
		if (p->cluster[i] != c || sw_count(&layer[i]) <= had)
			continue;
		s->layers++;
		if (!inner)
			p->first[i] = p->n_strips;
		p->strips[i]++;
	}
	p->values += s->n;
	p->n_strips++;
}

void sw_plan_banks(struct sw_plan *p, const struct sw_layer *layer)
{
	p->n_strips = 0;
	p->values = 0;
	memset(p->strips, 0, (size_t)p->n_layers * sizeof *p->strips);
	for (int c = 0, at; (at = next_shape(layer, p->n_layers, p->cluster, c, NULL)) >= 0; c++)
		for (const struct sw_layer *inner = NULL; at >= 0;
		     inner = &layer[at], at = next_shape(layer, p->n_layers, p->cluster, c, inner))
			add_strip(p, layer, c, inner, &layer[at]);
}

void sw_plan_fill(struct sw_plan *p, size_t room, int most)
{
	size_t left = room > p->values ? room - p->values : 0;
	for (int by_layers = 1; by_layers >= 0; by_layers--)
		for (int round = 1; round < most; round++)
			for (int i = 0; i < p->n_strips; i++) {
				struct sw_strip *s = &p->strip[i];
				if (s->n >= left || s->templates >= most || (by_layers && s->layers <= round))
					continue;
				s->templates++;
				left -= s->n;
			}
	p->values = 0;
	for (int i = 0; i < p->n_strips; i++) {
		p->strip[i].at = p->values;
		p->values += (size_t)p->strip[i].templates * p->strip[i].n;
	}
}
