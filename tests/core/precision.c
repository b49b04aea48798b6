/* Every network in every precision that this processor supports: one training pass in bf16 compared with the same pass
 * in fp32. Both take the usual algorithms: which is measured as the fastest changes the last bits of bf16, and
 * EfficientNet-Lite, which normalises 1x1 maps by the 8 values of a batch, makes several per cent of them. */
#include "check.h"
#include "backend/backend.h"
#include "wasd/cpu.h"
#include "wasd/graph.h"
#include "wasd/model.h"

enum { N = 8, CLASSES = 10 };

/* Loss of a training pass over synthetic images, and the norm of its gradient. */
static bool pass(const char *arch, enum wasd_precision precision, double *loss, double *norm)
{
	struct wasd_err err = {0};
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	static real x[N * 3 * 32 * 32];
	int32_t y[N];
	int correct;
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = (real)((double)(i * 7919 % 2003) / 1001 - 1);
	for (int i = 0; i < N; i++)
		y[i] = i % CLASSES;
	struct wasd_exec_opts o = {.batch = N, .training = true, .precision = precision, .unmeasured = true};
	struct wasd_pass p = {.n = N, .bn = WASD_BN_BATCH, .set = WASD_STATS_TRAIN};
	bool good = !wasd_arch_build(arch, (struct wasd_shape){3, 32, 32}, CLASSES, NULL, &g, &err) &&
	            !wasd_model_create(g, 3, &m, &err) && !wasd_exec_create(m, &o, &e, &err) &&
	            !wasd_exec_forward(e, x, &p, &err) && !wasd_exec_loss(e, y, 0, loss, &correct, &err) &&
	            !wasd_exec_backward(e, &err);
	CHECK_MSG(good, "%s in %s: %s", arch, wasd_precision_name(precision), err.msg);
	*norm = 0;
	for (size_t i = 0; good && i < wasd_graph_param_count(g); i++)
		*norm += (double)wasd_model_grad(m)[i] * (double)wasd_model_grad(m)[i];
	*norm = sqrt(*norm);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	return good;
}

static void every_network_in_bf16(void)
{
	const struct backend *b;
	if (backend_choose(NULL, WASD_PRECISION_BF16, &b, NULL))
		TEST_SKIP("this processor or build does not compute in bf16");
	for (int i = 0; wasd_arch_at(i); i++) {
		const char *arch = wasd_arch_at(i)->name;
		double loss[2], norm[2];
		if (!pass(arch, WASD_PRECISION_FP32_STRICT, &loss[0], &norm[0]) ||
		    !pass(arch, WASD_PRECISION_BF16, &loss[1], &norm[1]))
			continue;
		printf("# %-20s loss %.5f in fp32, %.5f in bf16; gradient norm %.4g, %.4g\n", arch, loss[0], loss[1], norm[0],
		       norm[1]);
		CHECK_MSG(fabs(loss[1] - loss[0]) <= 0.05 * loss[0], "%s: loss %g in fp32, %g in bf16", arch, loss[0], loss[1]);
		CHECK_MSG(norm[1] > norm[0] / 1.5 && norm[1] < norm[0] * 1.5, "%s: gradient norm %g in fp32, %g in bf16", arch,
		          norm[0], norm[1]);
		CHECK_MSG(loss[1] != loss[0], "%s: the same digits in both", arch);
	}
}

int main(int argc, char **argv)
{
	struct wasd_err err;
	(void)argc;
	wasd_cpu_prepare(argv, NULL);
	CHECK(!wasd_threads_init(2, &err));
	TEST_RUN(every_network_in_bf16);
	TEST_END();
}
