/* merge/assign.c - see assign.h. Rows and columns count from 1; 0 is a row and a column of no partner. */
#include "merge/assign.h"

#include <math.h>

struct assignment {
	int n;
	const double *gain;
	double *row, *col; /* potentials: row[i] + col[j] <= cost(i,j), equal where i has j */
	double *least;     /* per column: the smallest slack of a row that the path has reached */
	int *of, *from;    /* per column: its row; the column before it on the shortest path */
	bool *done;        /* per column: on the path */
};

static double slack(const struct assignment *a, int i, int j)
{
	return -a->gain[(size_t)(i - 1) * (size_t)a->n + (size_t)(j - 1)] - a->row[i] - a->col[j];
}

/* Looks from column j at all that are left. Returns the nearest; of equally near ones, the first. */
static int nearest(struct assignment *a, int j, double *step)
{
	int best = 0;
	*step = INFINITY;
	for (int k = 1; k <= a->n; k++) {
		if (a->done[k])
			continue;
		double d = slack(a, a->of[j], k);
		if (d < a->least[k]) {
			a->least[k] = d;
			a->from[k] = j;
		}
		if (!best || a->least[k] < *step) {
			*step = a->least[k];
			best = k;
		}
	}
	return best;
}

static void advance(struct assignment *a, double step)
{
	for (int k = 0; k <= a->n; k++)
		if (a->done[k]) {
			a->row[a->of[k]] += step;
			a->col[k] -= step;
		} else {
			a->least[k] -= step;
		}
}

/* Gives row i a column by the shortest path of exchanges. */
static void place_row(struct assignment *a, int i)
{
	int j = 0;
	double step;
	a->of[0] = i;
	for (int k = 0; k <= a->n; k++) {
		a->least[k] = INFINITY;
		a->done[k] = false;
	}
	while (a->of[j]) {
		a->done[j] = true;
		int next = nearest(a, j, &step);
		advance(a, step);
		j = next;
	}
	for (; j; j = a->from[j])
		a->of[j] = a->of[a->from[j]];
}

/* Two rows whose columns are in descending order change them if nothing is lost. Each change makes the permutation
 * smaller by its first differing entry, so this ends. */
static void settle_ties(int n, const double *gain, int *to)
{
	bool changed = true;
	while (changed) {
		changed = false;
		for (int i = 0; i < n; i++)
			for (int k = i + 1; k < n; k++) {
				const double *gi = gain + (size_t)i * (size_t)n, *gk = gain + (size_t)k * (size_t)n;
				int x = to[i], y = to[k];
				if (x < y || gi[y] + gk[x] < gi[x] + gk[y])
					continue;
				to[i] = y;
				to[k] = x;
				changed = true;
			}
	}
}

enum wasd_status merge_assign(int n, const double *gain, int *to, struct wasd_err *err)
{
	size_t room = (size_t)n + 1;
	for (size_t i = 0; i < (size_t)n * (size_t)n; i++)
		if (!isfinite(gain[i]))
			return wasd_fail(err, WASD_ENUMERIC, "assignment: a gain is %g", gain[i]);
	double *numbers = wasd_calloc(3 * room, sizeof *numbers);
	int *indices = wasd_calloc(2 * room, sizeof *indices);
	bool *done = wasd_calloc(room, sizeof *done);
	bool ok = numbers && indices && done;
	if (ok) {
		struct assignment a = {.n = n,
		                       .gain = gain,
		                       .row = numbers,
		                       .col = numbers + room,
		                       .least = numbers + 2 * room,
		                       .of = indices,
		                       .from = indices + room,
		                       .done = done};
		for (int i = 1; i <= n; i++)
			place_row(&a, i);
		for (int j = 1; j <= n; j++)
			to[a.of[j] - 1] = j - 1;
		settle_ties(n, gain, to);
	}
	wasd_free(numbers);
	wasd_free(indices);
	wasd_free(done);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "an assignment of %d channels", n);
}
