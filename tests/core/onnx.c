/* ONNX files: every network in both modes gives the same answers as its bundle, when read back by plain loops
 * (onnx_run.h) and, if WASD_ONNXRUNTIME names a folder with npm's onnxruntime-node, by ONNX Runtime. */
#include "halving.h"
#include "onnx_run.h"
#include "tiny.h"

#include "infer/bundle.h"
#include "train/checkpoint.h"
#include "wasd/convert.h"
#include "wasd/infer.h"

#include <unistd.h>

enum { N = 3 };
static struct wasd_dataset *small, *big;
static char out_dir[80]; /* for ONNX Runtime */

static const struct {
	const char *name, *spec;
	bool small, dom;
} nets[] = {
	{"lenet",
     "{\"model\":{\"arch\":\"lenet\"},\"was\":{\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3}]},\"train\":{\"epochs\":1,\"batch\":16,\"seed\":2}}",
     false, true},
	{"lenet-equal",
     "{\"model\":{\"arch\":\"lenet\"},\"was\":{\"layers\":\"all\",\"transforms\":[{\"type\":\"scale\",\"scale\":[4.5,5]}],\"groups\":2},\"train\":{\"epochs\":1,\"batch\":16}}",
     false, true},
	{"vgg16", "{\"model\":{\"arch\":\"vgg16\"},\"train\":{\"epochs\":1,\"batch\":16}}", true, true},
	{"vgg16-4096", "{\"model\":{\"arch\":\"vgg16\",\"head\":4096},\"train\":{\"epochs\":1,\"batch\":16}}", true, true},
	{"resnet18", "{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":1,\"batch\":16,\"seed\":8}}", true, true},
	{"resnet34", "{\"model\":{\"arch\":\"resnet34\"},\"train\":{\"epochs\":1,\"batch\":16}}", true, true},
	{"googlenet", "{\"model\":{\"arch\":\"googlenet\"},\"train\":{\"epochs\":1,\"batch\":16}}", true, true},
	{"mobilenetv2", "{\"model\":{\"arch\":\"mobilenetv2\"},\"train\":{\"epochs\":1,\"batch\":16}}", true, true},
	{"efficientnet_lite0", "{\"model\":{\"arch\":\"efficientnet_lite0\"},\"train\":{\"epochs\":1,\"batch\":16}}", true,
     true},
	{"repvgg",
     "{\"model\":{\"arch\":\"repvgg\",\"width\":25},\"was\":{\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3}]},\"train\":{\"epochs\":1,\"batch\":16}}",
     true, true},
	{"own",
     "{\"model\":{\"name\":\"own\",\"layers\":[{\"type\":\"conv\",\"out\":8,\"bias\":false,\"augment\":true},{\"type\":\"batchnorm\"},{\"type\":\"relu\",\"name\":\"a\"},"
     "{\"type\":\"conv\",\"depthwise\":true,\"kernel\":5},{\"type\":\"add\",\"from\":[\"conv3\",\"a\"]},{\"type\":\"maxpool\",\"kernel\":2},{\"type\":\"flatten\"},"
     "{\"type\":\"linear\",\"out\":\"classes\"}]},\"train\":{\"epochs\":1,\"batch\":16}}",
     true, true},
	{"padded",
     "{\"model\":{\"layers\":[{\"type\":\"conv\",\"out\":8,\"name\":\"a\"},{\"type\":\"conv\",\"out\":5},{\"type\":\"dropchannel\",\"p\":0.1,\"name\":\"b\"},"
     "{\"type\":\"addpad\",\"from\":[\"b\",\"a\"]},{\"type\":\"relu\"},{\"type\":\"maxpool\",\"kernel\":2},{\"type\":\"flatten\"},"
     "{\"type\":\"linear\",\"out\":\"classes\"}]},\"was\":false,\"train\":{\"epochs\":1,\"batch\":16}}",
     true, false},
	{"resnet18-groups",
     "{\"model\":{\"arch\":\"resnet18\"},\"was\":{\"transforms\":[{\"type\":\"translate\"},{\"type\":\"rotate\"}],\"groups\":4},\"train\":{\"epochs\":1,\"batch\":16}}",
     true, true},
	{"lenet-masked",
     "{\"model\":{\"arch\":\"lenet\"},\"weights\":[{\"type\":\"magnitude\",\"sparsity\":0.8,\"begin\":0.4,\"end\":0.7,\"every\":1},{\"type\":\"compander\",\"unit\":\"std\"},"
     "{\"type\":\"was\",\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3}]}],\"train\":{\"epochs\":2,\"batch\":16,\"seed\":2}}",
     false, true},
	{"resnet18-masked",
     "{\"model\":{\"arch\":\"resnet18\"},\"weights\":[{\"type\":\"weightmom\",\"sparsity\":0.8,\"events\":2,\"begin\":0.4,\"end\":0.7},{\"type\":\"compander\"}],\"train\":{\"epochs\":1,\"batch\":16}}",
     true, false},
	{"plain", "{\"model\":{\"arch\":\"resnet18\"},\"was\":false,\"train\":{\"epochs\":1,\"batch\":16}}", true, false},
};

/* NAME-MODE.onnx and NAME-MODE.json for onnx_check.js. */
static void write_case(const char *name, const char *mode, struct wasd_shape in, const void *onnx, size_t len,
                       const real *x, const real *logits, int classes)
{
	char path[200];
	struct wasd_err err = {0};
	struct wasd_buf b = {0};
	snprintf(path, sizeof path, "%s/%s-%s.onnx", out_dir, name, mode);
	CHECK_MSG(!wasd_file_write_atomic(path, onnx, len, &err), "%s", err.msg);
	wasd_buf_printf(&b, "{\"shape\":[%d,%d,%d],\"classes\":%d,\"x\":[", in.c, in.h, in.w, classes);
	for (size_t i = 0; i < N * wasd_shape_count(in); i++)
		wasd_buf_printf(&b, "%s%.9g", i ? "," : "", (double)x[i]);
	wasd_buf_puts(&b, "],\"logits\":[");
	for (int i = 0; i < N * classes; i++)
		wasd_buf_printf(&b, "%s%.9g", i ? "," : "", (double)logits[i]);
	wasd_buf_puts(&b, "]}");
	snprintf(path, sizeof path, "%s/%s-%s.json", out_dir, name, mode);
	CHECK(!b.failed && !wasd_file_write_atomic(path, b.data, b.len, &err));
	wasd_buf_done(&b);
}

static void check_mode(const char *name, const struct tiny_run *run, const char *mode, const struct wasd_dataset *d)
{
	static real x[N * 3 * 32 * 32];
	static float xf[N * 3 * 32 * 32];
	static struct onnx_run r;
	real want[N * 10];
	float got[N * 10];
	struct wasd_shape in = wasd_dataset_shape(d);
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	void *onnx = NULL;
	size_t len = 0, image = wasd_shape_count(in);
	for (size_t i = 0; i < N; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(d), wasd_dataset_image(d, WASD_TEST, i), x + i * image);
	for (size_t i = 0; i < N * image; i++)
		xf[i] = (float)x[i];
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(run->file, run->len, mode), &b, &err) &&
	              !wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err) &&
	              !wasd_predictor_run(p, x, N, want, &err),
	          "%s: %s", name, err.msg);
	CHECK_MSG(!wasd_export_onnx(TINY_MODE(run->file, run->len, mode), &onnx, &len, &err), "%s: %s", name, err.msg);
	if (!onnx)
		return;
	onnx_execute(&r, onnx, len, xf, N, in.c, in.h, in.w, 10, got);
	CHECK_MSG(!r.fault[0], "%s %s: %s", name, mode, r.fault);
	double worst = 0, largest = 0;
	for (int i = 0; i < N * 10; i++)
		largest = fmax(largest, fabs((double)want[i]));
	for (int i = 0; i < N * 10 && !r.fault[0]; i++)
		worst = fmax(worst, fabs((double)got[i] - (double)want[i]) / largest);
	CHECK_MSG(worst <= 1e-4, "%s %s: logits are %g of the largest off", name, mode, worst);
	CHECK_INT(r.macs, wasd_bundle_macs(b)); /* dead taps are not computed in ONNX either */
	CHECK_MSG(strstr(r.meta, !strcmp(mode, "dom")  ? "mode=dom\n" :
	                         !strcmp(mode, "slim") ? "mode=slim\n" :
	                                                 "mode=aom\n") &&
	              strstr(r.meta, "classes=[\"") && strstr(r.meta, "pixels="),
	          "%.100s", r.meta);
	CHECK((strstr(r.meta, "draw=[") != NULL) == !strcmp(mode, "dom"));
	printf("# %s %s: %.1e of the largest logit, %d convolutions, %.1f M multiply-adds, %zu bytes\n", name, mode, worst,
	       r.convs, (double)r.macs * 1e-6, len);
	if (out_dir[0])
		write_case(name, mode, in, onnx, len, x, want, 10);
	onnx_done(&r);
	wasd_free(onnx);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
}

static void every_network_in_both_modes(void)
{
	for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
		struct tiny_run r = {0};
		void *none = NULL;
		size_t len;
		const struct wasd_dataset *d = nets[i].small ? small : big;
		tiny_go(&r, nets[i].spec, nets[i].small ? small : big);
		CHECK_MSG(!r.status, "%s: %s", nets[i].name, r.err.msg);
		check_mode(nets[i].name, &r, "aom", d);
		if (nets[i].dom)
			check_mode(nets[i].name, &r, "dom", d);
		else
			CHECK_INT(wasd_export_onnx(TINY_MODE(r.file, r.len, "dom"), &none, &len, NULL), WASD_ENOTFOUND);
		tiny_done(&r);
	}
}

/* The network of mode slim, where half of all channels are dead. */
static void without_dead_channels(void)
{
	static const char *const archs[] = {"lenet", "mobilenetv2"};
	for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
		struct tiny_run r = {0};
		const struct wasd_dataset *d = i ? small : big;
		char *spec = wasd_asprintf("{\"model\":{\"arch\":\"%s\"},\"weights\":[{\"type\":\"halving\"}],"
		                           "\"train\":{\"epochs\":1,\"batch\":16}}",
		                           archs[i]);
		tiny_go(&r, spec, d);
		CHECK_MSG(!r.status, "%s: %s", archs[i], r.err.msg);
		check_mode(archs[i], &r, "slim", d);
		wasd_free(spec);
		tiny_done(&r);
	}
}

static void onnx_runtime_agrees(void)
{
	const char *where = getenv("WASD_ONNXRUNTIME");
	char command[600];
	if (!where)
		TEST_SKIP(
			"WASD_ONNXRUNTIME does not name a folder with node_modules/onnxruntime-node (npm install --ignore-scripts onnxruntime-node)");
	snprintf(command, sizeof command, "node tests/core/onnx_check.js '%.300s' '%s' 1e-4", where, out_dir);
	fflush(stdout);
	CHECK_INT(system(command), 0);
}

static void no_memory(void)
{
	struct tiny_run r = {0};
	struct wasd_err err = {0};
	void *out = NULL;
	size_t len = 0;
	enum wasd_status s = WASD_ENOMEM;
	tiny_go(&r, nets[0].spec, big);
	for (uint64_t n = 1; s == WASD_ENOMEM && n < 100000; n++) {
		wasd_mem_fail_at(n);
		s = wasd_export_onnx(TINY_MODE(r.file, r.len, "dom"), &out, &len, &err);
		wasd_mem_fail_at(0);
	}
	CHECK_MSG(!s, "%s: %s", wasd_status_name(s), err.msg);
	wasd_free(out);
	tiny_done(&r);
}

int main(void)
{
	char path[96];
	tiny_begin();
	if (getenv("WASD_ONNXRUNTIME")) {
		snprintf(out_dir, sizeof out_dir, "%s/onnx", tiny_dir);
		CHECK(!wasd_mkdirs(out_dir, NULL));
	}
	small = tiny_glyphs("small", 48, 16, 16, path);
	big = tiny_glyphs("big", 48, 16, 32, path);
	TEST_RUN(every_network_in_both_modes);
	TEST_RUN(without_dead_channels);
	TEST_RUN(onnx_runtime_agrees);
	TEST_RUN(no_memory);
	wasd_dataset_close(small);
	wasd_dataset_close(big);
	tiny_end();
	TEST_END();
}
