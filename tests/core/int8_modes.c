/* tests/core/int8_modes.c - int8 modes from the request to the served answers: made of every base and by every option,
 * close to their base, the same bits for any batch, of a smaller network the bits of that network alone, refused when
 * their file is damaged, and exported to ONNX. */
#include "halving.h"
#include "tiny.h"

#include "infer/bundle.h"
#include "modes/mode.h"
#include "wasd/convert.h"
#include "wasd/making.h"
#include "wasd/quant.h"
#include "wasd/safetensors.h"

enum { N = 24, CLASSES = 10 };
static struct wasd_dataset *data;
static struct tiny_run run;
static const struct tiny_run *made_of = &run;
static real x[N * 3 * 16 * 16];
static char out_dir[100];

/* Three blocks of parallel branches. */
#define BLOCK(name, of, out, stride) \
	"{\"type\":\"conv\",\"name\":\"" name "3\",\"from\":\"" of "\",\"out\":" out ",\"stride\":" stride \
	",\"bias\":false,\"augment\":true},{\"type\":\"batchnorm\",\"name\":\"" name "b3\"}," \
	"{\"type\":\"conv\",\"name\":\"" name "1\",\"from\":\"" of "\",\"out\":" out ",\"stride\":" stride \
	",\"kernel\":1,\"bias\":false},{\"type\":\"batchnorm\",\"name\":\"" name "b1\"}," \
	"{\"type\":\"add\",\"name\":\"" name "s\",\"from\":[\"" name "b3\",\"" name \
	"b1\"]},{\"type\":\"relu\",\"name\":\"" name "\"},"
static const char spec[] = "{\"model\":{\"layers\":[" BLOCK("a", "input", "16", "1") BLOCK("b", "a", "32", "2")
	BLOCK("c", "b", "64",
          "2") "{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]},"
			   "\"was\":{\"layers\":\"all\",\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3}]},"
			   "\"train\":{\"epochs\":8,\"batch\":16,\"seed\":5,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.003}}}";

struct made {
	void *file;
	size_t len;
	cJSON *info;
};

static enum wasd_status make(const char *request, struct made *out, struct wasd_err *err)
{
	cJSON *j = cJSON_Parse(request);
	*out = (struct made){0};
	enum wasd_status s =
		wasd_mode_make(&(struct wasd_making){.file = made_of->file, .len = made_of->len, .data = data, .request = j},
	                   &out->file, &out->len, &out->info, err);
	cJSON_Delete(j);
	return s;
}

static void done(struct made *m)
{
	wasd_free(m->file);
	cJSON_Delete(m->info);
	*m = (struct made){0};
}

static struct wasd_mode_source source(const char *name, const void *file, size_t len)
{
	return (struct wasd_mode_source){.file = made_of->file,
	                                 .len = made_of->len,
	                                 .mode_file = file,
	                                 .mode_len = len,
	                                 .name = name};
}

static struct wasd_bundle *bundle(const char *name, const void *file, size_t len)
{
	struct wasd_bundle *b = NULL;
	struct wasd_err err = {0};
	struct wasd_mode_source from = source(name, file, len);
	CHECK_MSG(!wasd_bundle_create(&from, &b, &err), "%s: %s", name, err.msg);
	return b;
}

static void logits_of(struct wasd_bundle *b, int each, real *out)
{
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err), "%s", err.msg);
	for (int i = 0; p && i < N; i += each)
		CHECK_MSG(!wasd_predictor_run(p, x + i * 3 * 256, each, out + i * CLASSES, &err), "%s", err.msg);
	wasd_predictor_destroy(p);
}

static void write_case(const char *name, const struct made *m, const real *logits)
{
	char path[200];
	void *onnx = NULL;
	size_t len = 0;
	struct wasd_buf b = {0};
	struct wasd_err err = {0};
	struct wasd_mode_source from = source("int8:x", m->file, m->len);
	CHECK_MSG(!wasd_export_onnx(&from, &onnx, &len, &err), "%s", err.msg);
	if (!out_dir[0] || !onnx) {
		wasd_free(onnx);
		return;
	}
	snprintf(path, sizeof path, "%s/%s.onnx", out_dir, name);
	CHECK_MSG(!wasd_file_write_atomic(path, onnx, len, &err), "%s", err.msg);
	wasd_buf_printf(&b, "{\"shape\":[3,16,16],\"classes\":%d,\"x\":[", CLASSES);
	for (size_t i = 0; i < N * 768; i++)
		wasd_buf_printf(&b, "%s%.9g", i ? "," : "", (double)x[i]);
	wasd_buf_puts(&b, "],\"logits\":[");
	for (int i = 0; i < N * CLASSES; i++)
		wasd_buf_printf(&b, "%s%.9g", i ? "," : "", (double)logits[i]);
	wasd_buf_puts(&b, "]}");
	snprintf(path, sizeof path, "%s/%s.json", out_dir, name);
	CHECK(!b.failed && !wasd_file_write_atomic(path, b.data, b.len, &err));
	wasd_buf_done(&b);
	wasd_free(onnx);
}

static const struct {
	const char *name, *request, *base;
	bool split;
	double off; /* of the logits, as a share of their norm, at most */
} cases[] = {
	{"aom", "{\"desire\":\"int8\"}", "aom", false, 0.05},
	{"dom", "{\"desire\":\"int8\",\"base\":\"dom\",\"images\":32}", "dom", false, 0.05},
	{"cfws", "{\"desire\":\"int8\",\"weights\":\"cfws\"}", "aom", true, 0.05},
	{"kl", "{\"desire\":\"int8\",\"base\":\"dom\",\"weights\":\"cfws\",\"activations\":\"kl\"}", "dom", true, 0.2},
	{"kl-clip", "{\"desire\":\"int8\",\"activations\":\"kl-clip\"}", "aom", false, 0.2},
};

static void check_case(size_t i)
{
	struct made m, again;
	struct wasd_err err = {0};
	real want[N * CLASSES], got[N * CLASSES], single[N * CLASSES];
	double off = 0, all = 0;
	int split = 0;
	const char *told = "";
	int64_t images = 0;
	uint64_t coarse = 0;
	CHECK_MSG(!make(cases[i].request, &m, &err), "%s: %s %s", cases[i].name, err.pointer, err.msg);
	if (!m.file)
		return;
	CHECK(wasd_json_str(m.info, "base", &told) && !strcmp(told, cases[i].base));
	wasd_json_i64(m.info, "images", &images);
	CHECK_INT(images, strstr(cases[i].request, "images") ? 32 : (int64_t)230);
	struct wasd_bundle *of = bundle(cases[i].base, NULL, 0), *b = bundle("int8:x", m.file, m.len);
	const struct wasd_quant *q = bundle_quant(b);
	CHECK(q && !bundle_quant(of));
	for (int k = 0; q && k < q->nodes; k++)
		if (q->conv[k].coarse) {
			struct wasd_node_info n = wasd_graph_node_info(wasd_model_graph(wasd_bundle_model(b)), k);
			coarse += n.macs / (uint64_t)(n.kh * n.kw);
			split++;
		}
	CHECK_INT(wasd_bundle_macs(b), wasd_bundle_macs(of) + coarse);
	CHECK_MSG((split > 0) == cases[i].split, "%s: %d layers in two parts", cases[i].name, split);
	logits_of(of, N, want);
	logits_of(b, N, got);
	logits_of(b, 1, single);
	CHECK_MSG(!memcmp(got, single, sizeof got), "%s: one image at a time has other bits", cases[i].name);
	for (int k = 0; k < N * CLASSES; k++) {
		off += pow((double)got[k] - (double)want[k], 2);
		all += pow((double)want[k], 2);
	}
	CHECK_MSG(sqrt(off / all) < cases[i].off, "%s: logits are %g off", cases[i].name, sqrt(off / all));
	printf("# int8 %s: logits %.2g off, %d layers in two parts, %zu bytes\n", cases[i].name, sqrt(off / all), split,
	       m.len);
	write_case(cases[i].name, &m, got);
	CHECK(!make(cases[i].request, &again, &err));
	CHECK_MSG(m.len == again.len && !memcmp(m.file, again.file, m.len), "%s: made twice, two files", cases[i].name);
	wasd_bundle_unref(b);
	wasd_bundle_unref(of);
	done(&m);
	done(&again);
}

static void every_base_and_option(void)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		check_case(i);
}

/* ---- bases with a network of their own ------------------------------------------------------------------------ */

#define SMALL(weights) \
	"{\"model\":{\"layers\":[{\"type\":\"conv\",\"out\":16},{\"type\":\"batchnorm\"},{\"type\":\"relu\"}," \
	"{\"type\":\"conv\",\"out\":32,\"stride\":2},{\"type\":\"batchnorm\"},{\"type\":\"relu\"},{\"type\":\"globalpool\"}," \
	"{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]},\"weights\":[" weights \
	"],\"train\":{\"epochs\":2,\"batch\":16,\"seed\":5}}"

static const struct {
	const char *base, *spec;
} smaller[] = {{"width:0.5", SMALL("{\"type\":\"slices\",\"widths\":[0.5,1],\"teacher\":\"largest\"}")},
               {"slim", SMALL("{\"type\":\"halving\"}")}};

/* The answers of int8 of a mode of the checkpoint. */
static void eight_bits(const struct tiny_run *of, const char *base, struct made *m, real logits[N * CLASSES])
{
	struct wasd_err err = {0};
	char request[100];
	snprintf(request, sizeof request, "{\"desire\":\"int8\",\"base\":\"%s\",\"images\":64}", base);
	made_of = of;
	CHECK_MSG(!make(request, m, &err), "%s: %s %s", base, err.pointer, err.msg);
	struct wasd_bundle *b = m->file ? bundle("int8:x", m->file, m->len) : NULL;
	CHECK(b && bundle_quant(b));
	if (b)
		logits_of(b, N, logits);
	wasd_bundle_unref(b);
}

/* int8 of a mode with a smaller network has the bits of int8 of that network alone. */
static void of_a_smaller_network(void)
{
	for (size_t i = 0; i < sizeof smaller / sizeof *smaller; i++) {
		struct tiny_run whole = {0}, alone = {0};
		struct made of_mode, of_alone;
		struct wasd_err err = {0};
		void *exported = NULL, *imported = NULL;
		size_t len;
		cJSON *info = NULL;
		real got[N * CLASSES] = {0}, want[N * CLASSES] = {1};
		tiny_go(&whole, smaller[i].spec, data);
		CHECK_MSG(!whole.status, "%s", whole.err.msg);
		CHECK_MSG(!wasd_export_smaller(whole.file, whole.len, smaller[i].base, &exported, &len, &err) &&
		              !wasd_import(exported, len, &(struct wasd_import){.to_serve = true}, &imported, &alone.len, &info,
		                           &err),
		          "%s", err.msg);
		alone.file = imported;
		eight_bits(&whole, smaller[i].base, &of_mode, got);
		write_case(i ? "slim" : "width", &of_mode, got);
		eight_bits(&alone, "aom", &of_alone, want);
		CHECK_MSG(!memcmp(got, want, sizeof got), "%s: other bits than of the network alone", smaller[i].base);
		CHECK(of_mode.len > of_alone.len); /* the statistics are those of the whole network */
		wasd_free(exported);
		cJSON_Delete(info);
		done(&of_mode);
		done(&of_alone);
		tiny_done(&alone);
		tiny_done(&whole);
	}
	made_of = &run;
}

static void requests_refused(void)
{
	static const struct {
		const char *request, *at;
	} wrong[] = {
		{"{\"desire\":\"int8\",\"weights\":\"fine\"}", "/weights"},
		{"{\"desire\":\"int8\",\"activations\":3}", "/activations"},
		{"{\"desire\":\"int8\",\"images\":8}", "/images"},
		{"{\"desire\":\"int8\",\"images\":5000}", "/images"},
		{"{\"desire\":\"int8\",\"bits\":4}", "/bits"},
		{"{\"desire\":\"int8\",\"base\":\"none\"}", "/base"},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct made m;
		struct wasd_err err = {0};
		CHECK_MSG(make(wrong[i].request, &m, &err) == WASD_EINVAL, "%s", wrong[i].request);
		CHECK_STR(err.pointer, wrong[i].at);
		done(&m);
	}
}

/* ---- damaged files ------------------------------------------------------------------------------------------- */

/* The file again, with another recipe (NULL: its own), without tensor `drop`, and with one of other contents. */
static void rewrite(const struct made *m, const char *recipe, const char *drop, const struct mode_tensor *other,
                    void **out, size_t *len)
{
	struct wasd_st *st = NULL;
	struct wasd_st_writer *w = wasd_st_writer_create();
	CHECK(!wasd_st_open(m->file, m->len, &st, NULL));
	for (const char *const *k = (const char *const[]){"format", "arch", "kind", NULL}; *k; k++)
		wasd_st_writer_meta(w, *k, wasd_st_meta(st, *k));
	wasd_st_writer_meta(w, "recipe", recipe ? recipe : wasd_st_meta(st, "recipe"));
	for (size_t i = 0; i < wasd_st_count(st); i++) {
		const struct wasd_st_tensor *t = wasd_st_at(st, i);
		if (!drop || strcmp(t->name, drop))
			wasd_st_writer_add(w, t->name, t->dtype, t->ndims, t->dims, t->data);
	}
	if (other)
		wasd_st_writer_add(w, other->name, other->dtype, other->ndims, other->dims, other->data);
	CHECK(!wasd_st_writer_block(w, out, len, NULL));
	wasd_st_writer_destroy(w);
	wasd_st_close(st);
}

static void damaged_files(void)
{
	static float zeros[64];
	static const struct {
		const char *what, *recipe, *drop;
		struct mode_tensor other;
	} wrong[] = {
		{"no scales of values", NULL, "q.scales", {.name = ""}},
		{"too few of them", NULL, "q.scales", {"q.scales", WASD_F32, 1, {3}, zeros}},
		{"a layer without scales", NULL, "q.b3.scale", {.name = ""}},
		{"scales of 0", NULL, "q.b3.scale", {"q.b3.scale", WASD_F32, 1, {32}, zeros}},
		{"weights of another size", NULL, "q.b3.weight", {"q.b3.weight", WASD_I8, 1, {5}, zeros}},
		{"weights of another type", NULL, "q.b3.weight", {"q.b3.weight", WASD_F32, 1, {64}, zeros}},
		{"a tensor of no layer", NULL, NULL, {"q.nonsense", WASD_F32, 1, {3}, zeros}},
		{"weights of an activation", NULL, NULL, {"q.b.weight", WASD_I8, 1, {5}, zeros}},
		{"scales of weights that are missing", NULL, "q.b3.weight", {.name = ""}},
		{"coarse scales alone", NULL, NULL, {"q.b3.coarse_scale", WASD_F32, 1, {32}, zeros}},
		{"no base", "{}", NULL, {.name = ""}},
		{"an unknown base", "{\"base\":{\"kind\":\"none\"},\"types\":[]}", NULL, {.name = ""}},
		{"itself as its base", "{\"base\":{\"kind\":\"int8\"},\"types\":[]}", NULL, {.name = ""}},
		{"a width that the network does not have",
	     "{\"base\":{\"kind\":\"width\",\"recipe\":{\"width\":2}},\"types\":[]}",
	     NULL,
	     {.name = ""}},
		{"no width", "{\"base\":{\"kind\":\"width\"},\"types\":[]}", NULL, {.name = ""}},
		{"weights of the whole network under a narrow one",
	     "{\"base\":{\"kind\":\"width\",\"recipe\":{\"width\":0.5}},\"types\":[]}",
	     NULL,
	     {.name = ""}},
		{"no types", "{\"base\":{\"kind\":\"plain\",\"recipe\":null}}", NULL, {.name = ""}},
		{"unknown types", "{\"base\":{\"kind\":\"plain\",\"recipe\":null},\"types\":[\"u7\"]}", NULL, {.name = ""}},
	};
	struct made m;
	struct wasd_err err = {0};
	CHECK_MSG(!make("{\"desire\":\"int8\",\"images\":32}", &m, &err), "%s", err.msg);
	for (size_t i = 0; m.file && i < sizeof wrong / sizeof *wrong; i++) {
		void *bad = NULL;
		size_t len = 0;
		struct wasd_bundle *b = NULL;
		rewrite(&m, wrong[i].recipe, wrong[i].drop, wrong[i].other.name[0] ? &wrong[i].other : NULL, &bad, &len);
		struct wasd_mode_source from = source("int8:x", bad, len);
		enum wasd_status s = wasd_bundle_create(&from, &b, &err);
		CHECK_MSG((s == WASD_ECORRUPT || s == WASD_EINVAL) && !b && err.msg[0], "%s: %s", wrong[i].what,
		          wasd_status_name(s));
		wasd_free(bad);
	}
	done(&m);
}

/* ONNX Runtime adds and fuses in another order, and rounds biases: nearly the same logits. */
static void onnx_runtime_agrees(void)
{
	const char *where = getenv("WASD_ONNXRUNTIME");
	char command[600];
	if (!where)
		TEST_SKIP("WASD_ONNXRUNTIME does not name a folder with node_modules/onnxruntime-node");
	snprintf(command, sizeof command, "node tests/core/onnx_check.js '%.300s' '%s' 0.02", where, out_dir);
	fflush(stdout);
	CHECK_INT(system(command), 0);
}

int main(void)
{
	char path[96];
	wasd_threads_init(2, NULL);
	tiny_begin();
	if (getenv("WASD_ONNXRUNTIME")) {
		snprintf(out_dir, sizeof out_dir, "%s/onnx", tiny_dir);
		CHECK(!wasd_mkdirs(out_dir, NULL));
	}
	data = tiny_glyphs("int8", 256, N, 16, path);
	for (size_t i = 0; i < N; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(data), wasd_dataset_image(data, WASD_TEST, i),
		               x + i * 768);
	tiny_go(&run, spec, data);
	CHECK_MSG(!run.status, "%s", run.err.msg);
	if (wasd_int8_offers(NULL) == WASD_OK) {
		TEST_RUN(every_base_and_option);
		TEST_RUN(damaged_files);
		TEST_RUN(of_a_smaller_network);
	}
	TEST_RUN(requests_refused);
	TEST_RUN(onnx_runtime_agrees);
	tiny_done(&run);
	wasd_dataset_close(data);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
