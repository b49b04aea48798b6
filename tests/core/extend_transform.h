/* extend_transform.h - a transform that core does not have: the kernel mirrored at its diagonal. */
#include "wasd/weights.h"

static void transpose_matrix(struct wasd_transform *t)
{
	int k = t->k;
	for (int y = 0; y < k; y++)
		for (int x = 0; x < k; x++)
			t->T[(y * k + x) * k * k + x * k + y] = 1;
}

static bool transpose_sample(int k, const double *law, struct wasd_rng *r, double *p)
{
	(void)k;
	(void)law;
	(void)r;
	(void)p;
	return true;
}

static const struct wasd_transform_op op_transpose = {.name = "transpose",
                                                      .summary = "mirrored at its diagonal",
                                                      .type = "transpose",
                                                      .matrix = transpose_matrix,
                                                      .sample = transpose_sample};
