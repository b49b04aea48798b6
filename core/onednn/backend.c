/* onednn/backend.c - the backend "onednn": oneDNN convolutions on activations in blocks of 16 channels, float32 or
 * bfloat16. Activations stay blocked from the images to the logits. Master weights, statistics, loss and optimizer are
 * always float32. */
#include "onednn/backend.h"
#include "onednn/blocked.h"
#include "onednn/prim.h"
#include "wasd/cpu.h"

#include <cblas.h>

extern const struct backend backend_onednn;

static enum wasd_status onednn_offers(enum wasd_precision p, struct wasd_err *err)
{
	return prim_offers(p == WASD_PRECISION_BF16, err);
}

static enum wasd_status onednn_open(struct wasd_err *err)
{
	openblas_set_num_threads(1); /* for the products of the linear layers */
	enum wasd_status s = wasd_cpu_check(err);
	return s ? s : prim_open(wasd_threads(), err);
}

static void onednn_layout(struct tensor *t, int n, enum wasd_precision p)
{
	bool half = p == WASD_PRECISION_BF16;
	/* The output of a layer without a kernel here has the precision of its input, as for activations. */
	if (half && !t->convolved && t->source && backend_kernel_of(&backend_onednn, t->by->layer) == &relaid_kernel)
		half = blocked_of(t->source)->bf16;
	blocked_layout_set(t, n, half);
}

static const struct backend_kernel kernels[] = {
	{"conv", &onednn_conv},
	{"linear", &onednn_linear},
	{"batchnorm", &blocked_batchnorm},
	{"relu", &blocked_relu},
	{"relu6", &blocked_relu},
	{"add", &blocked_add},
	{"concat", &blocked_concat},
	{"maxpool", &blocked_maxpool},
	{"avgpool", &blocked_avgpool},
	{"globalpool", &blocked_globalpool},
	{"boxsum", &blocked_boxsum},
	{"flatten", &blocked_flatten},
	{"dropout", &blocked_dropout},
	{"dropchannel", &blocked_dropchannel},
	{"dropconnect", &blocked_dropconnect},
	{NULL, NULL},
};

const struct backend backend_onednn = {
	.name = "onednn",
	.summary = "oneDNN convolutions, direct and Winograd, in blocks of 16 channels",
	.library = prim_library,
	.offers = onednn_offers,
	.open = onednn_open,
	.layout = onednn_layout,
	.import = blocked_import,
	.export = blocked_export,
	.kernels = kernels,
	.block = LANES,
};
