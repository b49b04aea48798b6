/* onednn/backend.c - the rows "onednn" (float32) and "onednn-bf16": oneDNN's convolutions between activations that stay in blocks of 16 channels
 * from the images to the logits. Master weights, statistics, loss and optimizer are float32 in both. */
#include "onednn/backend.h"
#include "onednn/blocked.h"
#include "onednn/prim.h"

#include <cblas.h>

static enum wasd_status open_any(bool bf16, struct wasd_err *err)
{
	openblas_set_num_threads(1);
	return prim_open(bf16, wasd_threads(), err);
}

static enum wasd_status open_f32(struct wasd_err *err) { return open_any(false, err); }
static enum wasd_status open_bf16(struct wasd_err *err) { return open_any(true, err); }
static void layout_f32(struct tensor *t, int n) { blocked_layout_set(t, n, false); }
static void layout_bf16(struct tensor *t, int n) { blocked_layout_set(t, n, true); }

static const struct backend_kernel kernels[] = {
	{ "conv", &onednn_conv }, { "linear", &onednn_linear }, { "batchnorm", &blocked_batchnorm }, { "relu", &blocked_relu }, { "relu6", &blocked_relu },
	{ "add", &blocked_add }, { "concat", &blocked_concat }, { "maxpool", &blocked_maxpool }, { "avgpool", &blocked_avgpool },
	{ "globalpool", &blocked_globalpool }, { "flatten", &blocked_flatten }, { "dropout", &blocked_dropout }, { "dropconnect", &blocked_dropconnect },
	{ NULL, NULL },
};

extern const struct backend backend_onednn, backend_onednn_bf16;
const struct backend backend_onednn = {
	.name = "onednn", .summary = "oneDNN convolutions, direct and Winograd, blocks of 16 channels", .open = open_f32, .layout = layout_f32,
	.import = blocked_import, .export = blocked_export, .kernels = kernels,
};
const struct backend backend_onednn_bf16 = {
	.name = "onednn-bf16", .summary = "the same with bfloat16 activations and products", .open = open_bf16, .layout = layout_bf16,
	.import = blocked_import, .export = blocked_export, .kernels = kernels,
};
