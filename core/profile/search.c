/* profile/search.c - the search for a draw (our own method; the paper draws at random).
 *
 * Dropping a row or a column of taps costs some accuracy, and it also moves the layer's output by one position, which
 * costs more unless the next layer moves it back. So the search works with pairs of neighbouring layers that move in
 * opposite directions:
 *
 *   1. Prices. The price of a transform of one layer, or of a pair of neighbours, is the rise of the loss with all
 *      other layers unchanged. Options with the smallest saving are priced first, so that diagonals stay unpriced if
 *      the evaluations run short; the price of a diagonal is then the sum of its two axes.
 *   2. Plan. Prices are additive enough to choose by: the chain of layers is divided into pairs and single layers with
 *      the lowest sum of prices whose saving reaches the goal (dynamic programming over layers and quantised saving).
 *   3. Refinement. The best of that plan and of the regular patterns (alternating one direction and its opposite) is
 *      changed in small steps: set a layer, set a pair, exchange two layers or pairs, mirror a range. Changes that
 *      lower the loss are kept.
 *
 * All random choices come from one stream of the seed. */
#include "profile/search.h"

#include <math.h>
#include <string.h>

enum { UNITS = 512 }; /* quantisation steps of the saving in the plan */
#define PRICING_SHARE 0.6
#define TRIES 200 /* attempts to find a change that is possible and new */

struct judged {
	double loss;
	int *pick;
};

struct search {
	const struct search_space *space;
	struct search_judge judge;
	int evaluations, used;
	struct wasd_rng rng;
	double plain; /* loss of the unchanged layers */
	/* Prices, NaN = unknown. alone[i][o]: layer i alone with option o. pair[i][o]: layer i with option o and layer i+1
	 * with the option that undoes its move. */
	double **alone, **pair;
	struct judged *seen;
	int kept[SEARCH_KEPT], n_kept; /* indices into seen */
};

void search_space_done(struct search_space *s)
{
	for (int i = 0; i < s->n; i++)
		wasd_free(s->layer[i].option);
	wasd_free(s->layer);
	*s = (struct search_space){0};
}

uint64_t search_saving(const struct search_space *space, const int *pick)
{
	uint64_t sum = 0;
	for (int i = 0; i < space->n; i++)
		sum += space->layer[i].option[pick[i]].saves;
	return sum;
}

/* The layer's option that moves the map by (dy,dx); -1: none. */
static int moving(const struct search_layer *l, int dy, int dx)
{
	for (int o = 0; o < l->n; o++)
		if (l->option[o].dy == dy && l->option[o].dx == dx && (o == 0) == (dy == 0 && dx == 0))
			return o;
	return -1;
}

/* The option of layer i+1 that undoes the move of option o of layer i; -1: none, or o does not move the map. */
static int undoing(const struct search *s, int i, int o)
{
	const struct search_option *p = &s->space->layer[i].option[o];
	if (i + 1 >= s->space->n || (!p->dy && !p->dx))
		return -1;
	return moving(&s->space->layer[i + 1], -p->dy, -p->dx);
}

/* ---- judging ---------------------------------------------------------------------------------------------- */

static const struct judged *known(const struct search *s, const int *pick)
{
	for (int i = 0; i < s->used; i++)
		if (!memcmp(s->seen[i].pick, pick, (size_t)s->space->n * sizeof *pick))
			return &s->seen[i];
	return NULL;
}

/* Judges a choice, at most once. *loss is INFINITY if the evaluations are used up. */
static enum wasd_status judge(struct search *s, const int *pick, double *loss, struct wasd_err *err)
{
	const struct judged *j = known(s, pick);
	*loss = j ? j->loss : INFINITY;
	if (j || s->used == s->evaluations)
		return WASD_OK;
	size_t bytes = (size_t)s->space->n * sizeof *pick;
	int *copy = wasd_malloc(bytes);
	if (!copy)
		return wasd_fail(err, WASD_ENOMEM, "search for a profile");
	memcpy(copy, pick, bytes);
	enum wasd_status st = s->judge.loss(s->judge.ctx, pick, loss, err);
	if (isnan(*loss))
		*loss = INFINITY;
	s->seen[s->used++] = (struct judged){*loss, copy};
	return st;
}

/* ---- prices ------------------------------------------------------------------------------------------------- */

/* Prices option `rank` of every layer, as a pair with the option of the next layer that undoes it: plans consist mostly
 * of pairs. A layer alone is priced only if no option undoes its move. */
static enum wasd_status price_rank(struct search *s, int rank, int limit, int *pick, struct wasd_err *err)
{
	enum wasd_status st = WASD_OK;
	double loss;
	for (int i = 0; i < s->space->n && !st && s->used < limit; i++) {
		if (rank >= s->space->layer[i].n)
			continue;
		int back = undoing(s, i, rank);
		memset(pick, 0, (size_t)s->space->n * sizeof *pick);
		pick[i] = rank;
		if (back >= 0) {
			pick[i + 1] = back;
			if (!(st = judge(s, pick, &loss, err)))
				s->pair[i][rank] = loss - s->plain;
		} else if (!(st = judge(s, pick, &loss, err))) {
			s->alone[i][rank] = loss - s->plain;
		}
	}
	return st;
}

/* The estimated price of an unpriced option that combines two others is the sum of their prices. */
static void estimate(struct search *s, double **price)
{
	for (int i = 0; i < s->space->n; i++) {
		const struct search_layer *l = &s->space->layer[i];
		for (int o = 1; o < l->n; o++) {
			int y = moving(l, l->option[o].dy, 0), x = moving(l, 0, l->option[o].dx);
			if (isnan(price[i][o]) && y > 0 && x > 0 && y != o && x != o)
				price[i][o] = price[i][y] + price[i][x];
		}
	}
}

enum wasd_status search_price(struct search *s, struct wasd_err *err)
{
	int most = 0, limit = (int)(s->evaluations * PRICING_SHARE), *pick = wasd_calloc((size_t)s->space->n, sizeof *pick);
	if (!pick)
		return wasd_fail(err, WASD_ENOMEM, "search for a profile");
	enum wasd_status st = judge(s, pick, &s->plain, err);
	for (int i = 0; i < s->space->n; i++)
		most = s->space->layer[i].n > most ? s->space->layer[i].n : most;
	for (int rank = 1; rank < most && !st; rank++)
		st = price_rank(s, rank, limit, pick, err);
	estimate(s, s->pair);
	estimate(s, s->alone);
	wasd_free(pick);
	return st;
}

/* ---- the plan -------------------------------------------------------------------------------------------------- */

/* The price of a layer alone. If it is unknown: the price of the pair, since half of that is the layer's own and the
 * uncompensated move is assumed to cost as much again. */
static double price_alone(const struct search *s, int i, int o)
{
	return !isnan(s->alone[i][o]) ? s->alone[i][o] : s->pair[i][o];
}

struct cell {
	double cost;
	int option, layers, from;
}; /* layers: number of layers in the last step, 1 or 2; from: units before that step */

static void offer(struct cell *to, double cost, int option, int layers, int from)
{
	if (cost < to->cost)
		*to = (struct cell){cost, option, layers, from};
}

/* The saving in units, rounded down so that a plan never saves less than its units say. */
static int units(uint64_t saves, uint64_t need)
{
	return need ? (int)fmin(UNITS, floor((double)saves / (double)need * UNITS)) : 0;
}

/* Extends row[i], the best plans for the first i layers by units saved (UNITS: the goal or more), by one step. */
static void extend(const struct search *s, struct cell (*row)[UNITS + 1], int i, uint64_t need)
{
	const struct search_layer *l = &s->space->layer[i];
	for (int u = 0; u <= UNITS; u++) {
		double cost = row[i][u].cost;
		if (isinf(cost))
			continue;
		for (int o = 0; o < l->n; o++) {
			double price = o ? price_alone(s, i, o) : 0;
			int to = u + units(l->option[o].saves, need);
			if (!isnan(price))
				offer(&row[i + 1][to > UNITS ? UNITS : to], cost + fmax(price, o ? 1e-6 : 0), o, 1, u);
			int back = o ? undoing(s, i, o) : -1;
			if (back < 0 || isnan(s->pair[i][o]))
				continue;
			to = u + units(l->option[o].saves + s->space->layer[i + 1].option[back].saves, need);
			offer(&row[i + 2][to > UNITS ? UNITS : to], cost + fmax(s->pair[i][o], 1e-6), o, 2, u);
		}
	}
}

enum wasd_status search_solve(struct search *s, uint64_t need, int *pick, struct wasd_err *err)
{
	int n = s->space->n;
	uint64_t most = 0;
	memset(pick, 0, (size_t)n * sizeof *pick);
	for (int i = 0; i < n; i++)
		most += s->space->layer[i].option[s->space->layer[i].n - 1].saves;
	if (most < need)
		return wasd_fail(err, WASD_ENOTFOUND, "no draw saves that many multiply-adds");
	struct cell(*row)[UNITS + 1] = wasd_malloc((size_t)(n + 2) * sizeof *row);
	if (!row)
		return wasd_fail(err, WASD_ENOMEM, "search for a profile");
	for (int i = 0; i < n + 2; i++)
		for (int u = 0; u <= UNITS; u++)
			row[i][u] = (struct cell){.cost = INFINITY};
	row[0][0].cost = 0;
	for (int i = 0; i < n; i++)
		extend(s, row, i, need);
	int u = need ? UNITS : 0;
	bool found = !isinf(row[n][u].cost);
	for (int i = n; i > 0 && found;) {
		const struct cell *c = &row[i][u];
		i -= c->layers;
		u = c->from;
		pick[i] = c->option;
		if (c->layers == 2)
			pick[i + 1] = undoing(s, i, c->option);
	}
	wasd_free(row);
	/* Rounding may hide the only solution: then take the largest saving in every layer. */
	for (int i = 0; i < n && !found; i++)
		pick[i] = s->space->layer[i].n - 1;
	return WASD_OK;
}

/* ---- refinement ------------------------------------------------------------------------------------------------- */

/* Resets layers to unchanged, the most expensive first, as long as the rest saves enough. */
static void relax(const struct search *s, uint64_t need, int *pick)
{
	for (;;) {
		int at = -1, layers = 0;
		double dearest = -INFINITY;
		uint64_t have = search_saving(s->space, pick);
		for (int i = 0; i < s->space->n; i++) {
			uint64_t gone = s->space->layer[i].option[pick[i]].saves;
			if (!pick[i] || have - gone < need)
				continue;
			bool two = undoing(s, i, pick[i]) >= 0 && pick[i + 1] == undoing(s, i, pick[i]) &&
			           have - gone - s->space->layer[i + 1].option[pick[i + 1]].saves >= need;
			double price = two ? s->pair[i][pick[i]] : price_alone(s, i, pick[i]);
			if (at < 0 || price > dearest) {
				at = i;
				layers = two ? 2 : 1;
				dearest = isnan(price) ? -INFINITY : price;
			}
		}
		if (at < 0)
			return;
		for (int k = 0; k < layers; k++)
			pick[at + k] = 0;
	}
}

/* Fills pick with moves that alternate between one direction and its opposite. False: this saves too little. */
static bool pattern(const struct search *s, int dy, int dx, uint64_t need, int *pick)
{
	int sign = 1;
	for (int i = 0; i < s->space->n; i++) {
		int o = moving(&s->space->layer[i], sign * dy, sign * dx);
		pick[i] = o > 0 ? o : 0;
		sign = o > 0 ? -sign : sign;
	}
	if (search_saving(s->space, pick) < need)
		return false;
	relax(s, need, pick);
	return true;
}

static int below(struct search *s, int n)
{
	return (int)wasd_rng_below(&s->rng, (uint32_t)n);
}

static void set_layer(struct search *s, int *pick)
{
	int i = below(s, s->space->n);
	pick[i] = below(s, s->space->layer[i].n);
}

static void set_pair(struct search *s, int *pick)
{
	int i = below(s, s->space->n), o = below(s, s->space->layer[i].n), back = undoing(s, i, o);
	pick[i] = o;
	if (back >= 0)
		pick[i + 1] = back;
	else if (!o && i + 1 < s->space->n)
		pick[i + 1] = 0;
}

/* Exchanges the moves of two layers or of two pairs. */
static void exchange(struct search *s, int *pick)
{
	int a = below(s, s->space->n), b = below(s, s->space->n), length = 1 + below(s, 2);
	for (int k = 0; k < length && a + k < s->space->n && b + k < s->space->n; k++) {
		const struct search_layer *la = &s->space->layer[a + k], *lb = &s->space->layer[b + k];
		const struct search_option *pa = &la->option[pick[a + k]], *pb = &lb->option[pick[b + k]];
		int na = moving(la, pb->dy, pb->dx), nb = moving(lb, pa->dy, pa->dx);
		if (na >= 0 && nb >= 0) {
			pick[a + k] = na;
			pick[b + k] = nb;
		}
	}
}

static void mirror(struct search *s, int *pick)
{
	int from = below(s, s->space->n), to = from + 1 + below(s, s->space->n - from);
	for (int i = from; i < to; i++) {
		const struct search_option *p = &s->space->layer[i].option[pick[i]];
		int o = moving(&s->space->layer[i], -p->dy, -p->dx);
		pick[i] = o >= 0 ? o : pick[i];
	}
}

/* Writes a new choice near `from` that saves enough to `to`. False: none was found. */
static bool neighbour(struct search *s, const int *from, uint64_t need, int *to)
{
	static void (*const changes[])(struct search *, int *) = {set_layer, set_pair, set_pair, exchange, mirror};
	for (int i = 0; i < TRIES; i++) {
		memcpy(to, from, (size_t)s->space->n * sizeof *to);
		for (int changed = 0; changed < 3; changed++) {
			changes[below(s, (int)(sizeof changes / sizeof *changes))](s, to);
			if (search_saving(s->space, to) >= need && !known(s, to))
				return true;
		}
	}
	return false;
}

/* Judges a choice and copies it to `best` if its loss is lower than *least. */
static enum wasd_status try(struct search *s, const int *pick, int *best, double *least, struct wasd_err *err)
{
	double loss;
	enum wasd_status st = judge(s, pick, &loss, err);
	if (!st && loss < *least) {
		*least = loss;
		memcpy(best, pick, (size_t)s->space->n * sizeof *best);
	}
	return st;
}

static void keep_best(struct search *s, uint64_t need)
{
	s->n_kept = 0;
	for (int i = 0; i < s->used; i++) {
		if (search_saving(s->space, s->seen[i].pick) < need || isinf(s->seen[i].loss))
			continue;
		int at = s->n_kept;
		while (at > 0 && s->seen[s->kept[at - 1]].loss > s->seen[i].loss)
			at--;
		if (at == SEARCH_KEPT)
			continue;
		int tail = s->n_kept - at - (s->n_kept == SEARCH_KEPT);
		memmove(s->kept + at + 1, s->kept + at, (size_t)tail * sizeof *s->kept);
		s->kept[at] = i;
		s->n_kept += s->n_kept < SEARCH_KEPT;
	}
}

enum wasd_status search_refine(struct search *s, uint64_t need, struct wasd_err *err)
{
	int n = s->space->n, *best = wasd_calloc(2 * (size_t)n, sizeof *best), *next = best + n;
	const struct search_layer *widest = &s->space->layer[0];
	double least = INFINITY;
	if (!best)
		return wasd_fail(err, WASD_ENOMEM, "search for a profile");
	for (int i = 1; i < n; i++)
		widest = s->space->layer[i].n > widest->n ? &s->space->layer[i] : widest;
	enum wasd_status st = search_solve(s, need, next, err);
	if (!st)
		st = try(s, next, best, &least, err);
	relax(s, need, next);
	if (!st)
		st = try(s, next, best, &least, err);
	for (int o = 1; o < widest->n && !st; o++)
		if ((widest->option[o].dy || widest->option[o].dx) &&
		    pattern(s, widest->option[o].dy, widest->option[o].dx, need, next))
			st = try(s, next, best, &least, err);
	while (!st && s->used < s->evaluations && neighbour(s, best, need, next))
		st = try(s, next, best, &least, err);
	if (!st)
		keep_best(s, need);
	wasd_free(best);
	return st;
}

const int *search_best(const struct search *s, int i)
{
	return i < s->n_kept ? s->seen[s->kept[i]].pick : NULL;
}

int search_used(const struct search *s)
{
	return s->used;
}

/* ---- create and destroy ------------------------------------------------------------------------------------ */

static double **prices(const struct search_space *space)
{
	double **p = wasd_calloc((size_t)space->n, sizeof *p);
	for (int i = 0; p && i < space->n; i++) {
		p[i] = wasd_calloc((size_t)space->layer[i].n, sizeof **p);
		for (int o = 0; p[i] && o < space->layer[i].n; o++)
			p[i][o] = NAN;
	}
	return p;
}

static bool whole(double *const *p, int n)
{
	bool ok = p != NULL;
	for (int i = 0; ok && i < n; i++)
		ok = p[i] != NULL;
	return ok;
}

static void prices_free(double **p, int n)
{
	for (int i = 0; p && i < n; i++)
		wasd_free(p[i]);
	wasd_free(p);
}

enum wasd_status search_create(const struct search_space *space, struct search_judge judge, int evaluations,
                               uint64_t seed, struct search **out, struct wasd_err *err)
{
	struct search *s = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "search for a profile");
	*s = (struct search){.space = space,
	                     .judge = judge,
	                     .evaluations = evaluations,
	                     .alone = prices(space),
	                     .pair = prices(space),
	                     .seen = wasd_calloc((size_t)evaluations, sizeof *s->seen)};
	wasd_rng_init(&s->rng, seed, "profile", 0, 0);
	if (!s->seen || !whole(s->alone, space->n) || !whole(s->pair, space->n)) {
		search_destroy(s);
		return wasd_fail(err, WASD_ENOMEM, "search for a profile");
	}
	*out = s;
	return WASD_OK;
}

void search_destroy(struct search *s)
{
	if (!s)
		return;
	for (int i = 0; i < s->used; i++)
		wasd_free(s->seen[i].pick);
	wasd_free(s->seen);
	prices_free(s->alone, s->space->n);
	prices_free(s->pair, s->space->n);
	wasd_free(s);
}
