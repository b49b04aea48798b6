/* The loss with class weights, with a second label and with both, against numbers computed by hand from the formulas of
 * torch's CrossEntropyLoss; and its gradient against differences. */
#include "check.h"
#include "layers/layer.h"

enum { N = 3, C = 4 };
static const real logits[N * C] = {1, 2, 0.5, -1, 0, 0.25, -2, 3, 1.5, 1.5, -0.5, 0};
static const int32_t labels[N] = {1, 0, 2}, others[N] = {3, 0, 1};
static const double weights[C] = {0.5, 2, 1, 3};

/* The definition, independent of the code: sum of w_c q_c (-log p_c) over the sum of the labels' weights. */
static double definition(const struct wasd_targets *t, const real *z)
{
	double total = 0, mass = 0;
	for (int i = 0; i < N; i++) {
		double sum = 0;
		for (int c = 0; c < C; c++)
			sum += exp((double)z[i * C + c]);
		for (int c = 0; c < C; c++) {
			double w = t->weights ? t->weights[c] : 1, hot = (1 - t->rest) * (c == t->y[i]);
			hot += t->other ? t->rest * (c == t->other[i]) : 0;
			mass += w * hot;
			total -= w * ((1 - t->smoothing) * hot + t->smoothing / C) * log(exp((double)z[i * C + c]) / sum);
		}
	}
	return total / mass;
}

static const struct {
	struct wasd_targets t;
	double want; /* NaN: by the definition alone */
	const char *what;
} rows[] = {
	{{.y = labels}, NAN, "plain"},
	{{.y = labels, .smoothing = 0.2}, NAN, "smoothing"},
	{{.y = labels, .weights = weights}, 1.5443546990546253, "torch.nn.CrossEntropyLoss(weight)"},
	{{.y = labels, .weights = weights, .smoothing = 0.1}, 1.6687407947086963, "with label_smoothing=0.1"},
	{{.y = labels, .other = others, .rest = 0.3}, 2.2556420091453675, "0.7 of one loss and 0.3 of the other"},
	{{.y = labels, .other = others, .rest = 0.3, .weights = weights, .smoothing = 0.1}, NAN, "all three"},
};

static void values_and_gradients(void)
{
	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
		real z[N * C], dz[N * C];
		double loss;
		int hits;
		struct wasd_err err = {0};
		memcpy(z, logits, sizeof z);
		CHECK_MSG(!loss_softmax_xent(z, &rows[k].t, N, C, &loss, &hits, dz, &err), "%s", err.msg);
		CHECK_NEAR(loss, definition(&rows[k].t, z), 1e-12);
		if (!isnan(rows[k].want))
			CHECK_MSG(fabs(loss - rows[k].want) < 1e-9, "%s: %.12g, want %.12g", rows[k].what, loss, rows[k].want);
		CHECK_INT(hits, 1);
		for (int i = 0; i < N * C; i++) {
			double h = 1e-3, up, down;
			z[i] = (real)((double)logits[i] + h);
			up = definition(&rows[k].t, z);
			z[i] = (real)((double)logits[i] - h);
			down = definition(&rows[k].t, z);
			z[i] = logits[i];
			CHECK_MSG(fabs((up - down) / (2 * h) - (double)dz[i]) < 1e-4, "%s: gradient %d is %g, not %g", rows[k].what,
			          i, (double)dz[i], (up - down) / (2 * h));
		}
	}
}

static void refuses(void)
{
	static const int32_t bad[N] = {0, 1, C};
	static const struct wasd_targets t[] = {{.y = bad},
	                                        {.y = labels, .other = bad, .rest = 0.1},
	                                        {.y = labels, .smoothing = 1}};
	double loss = 7;
	int hits = 7;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		CHECK_INT(loss_softmax_xent(logits, &t[i], N, C, &loss, &hits, NULL, NULL), WASD_EINVAL);
	CHECK(loss == 7 && hits == 7);
}

int main(void)
{
	TEST_RUN(values_and_gradients);
	TEST_RUN(refuses);
	TEST_END();
}
