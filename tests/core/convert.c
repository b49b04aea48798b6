/* Exporting checkpoints to files for other programs, and importing such files as checkpoints. */
#include "tiny.h"

#include "wasd/convert.h"
#include "wasd/infer.h"
#include "wasd/safetensors.h"

static struct wasd_dataset *small;
static struct tiny_run trained; /* a ResNet-18 with both modes */

#define OWN \
	"{\"model\":{\"name\":\"own\",\"layers\":[{\"type\":\"conv\",\"out\":8,\"bias\":false,\"augment\":true},{\"type\":\"batchnorm\"},{\"type\":\"relu\",\"name\":\"a\"}," \
	"{\"type\":\"conv\",\"depthwise\":true,\"kernel\":5},{\"type\":\"add\",\"from\":[\"conv3\",\"a\"]},{\"type\":\"maxpool\",\"kernel\":2},{\"type\":\"flatten\"}," \
	"{\"type\":\"linear\",\"out\":\"classes\"}]},\"train\":{\"epochs\":1,\"batch\":16}}"
#define RESNET "{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":1,\"batch\":16,\"seed\":5}}"

static bool has(const struct wasd_st *s, const char *name)
{
	return wasd_st_find(s, name) != NULL;
}

/* Tensors of the same name have the same bits in both files. */
static void same_bits(const struct wasd_st *a, const struct wasd_st *b, const char *name)
{
	const struct wasd_st_tensor *x = wasd_st_find(a, name), *y = wasd_st_find(b, name);
	CHECK_MSG(x && y && x->dtype == y->dtype && x->count == y->count &&
	              !memcmp(x->data, y->data, x->count * wasd_dtype_size(x->dtype)),
	          "%s differs", name);
}

static const char *meta(const struct wasd_st *s, const char *key)
{
	const char *v = wasd_st_meta(s, key);
	return v ? v : "(absent)";
}

static void a_state_dict_of_every_mode(void)
{
	const struct tiny_run r = trained;
	struct wasd_err err = {0};
	struct wasd_st *from = NULL, *to = NULL;
	void *out = NULL;
	size_t len = 0;
	CHECK_MSG(!wasd_export_safetensors(r.file, r.len, &out, &len, &err), "%s", err.msg);
	CHECK_MSG(out && !wasd_st_open(out, len, &to, &err) && !wasd_st_open(r.file, r.len, &from, &err), "%s", err.msg);
	if (!to || !from)
		return;
	CHECK(len < r.len);
	same_bits(from, to, "layer1.0.conv1.weight");
	same_bits(from, to, "fc.weight");
	same_bits(from, to, "layer4.1.bn2.running_var");
	same_bits(from, to, "dom.layer4.1.bn2.running_var");
	CHECK(has(from, "state.rng.was") && !has(to, "state.rng.was"));
	CHECK(has(from, "train.bn.running_mean") && !has(to, "train.bn.running_mean"));
	for (size_t i = 0; i < wasd_st_count(to); i++)
		CHECK_MSG(strncmp(wasd_st_at(to, i)->name, "optim.", 6), "%s", wasd_st_at(to, i)->name);
	CHECK_STR(meta(to, "format"), "pt");
	CHECK_STR(meta(to, "modes"), "[\"aom\",\"dom\"]");
	CHECK_STR(meta(to, "input"), "[3,16,16]");
	CHECK_STR(meta(to, "model"), "{\"arch\":\"resnet18\"}");
	cJSON *list = cJSON_Parse(meta(from, "modes"));
	char *draw = wasd_json_print(wasd_json_get(cJSON_GetArrayItem(list, 1), "recipe"));
	CHECK_STR(meta(to, "draw"), draw);
	wasd_free(draw);
	cJSON_Delete(list);
	CHECK_STR(meta(to, "classes"), meta(from, "classes"));
	wasd_st_close(from);
	wasd_st_close(to);
	wasd_free(out);
}

/* A job stopped before its first measurement has no statistics; a job trained without WAS has one mode. */
static void modes_that_are_not_there(void)
{
	static const struct {
		const char *spec, *modes;
		int stop_at;
		bool aom, dom;
	} cases[] = {
		{"{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":1,\"batch\":16}}", "[]", 2, false, false},
		{"{\"model\":{\"arch\":\"resnet18\"},\"was\":false,\"train\":{\"epochs\":1,\"batch\":16}}", "[\"aom\"]", 0,
	     true, false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tiny_run r = {.stop_at = cases[i].stop_at};
		struct wasd_err err = {0};
		struct wasd_st *to = NULL;
		void *out = NULL;
		size_t len = 0;
		tiny_go(&r, cases[i].spec, small);
		CHECK_MSG(!r.status, "%s", r.err.msg);
		CHECK_MSG(!wasd_export_safetensors(r.file, r.len, &out, &len, &err) && !wasd_st_open(out, len, &to, &err), "%s",
		          err.msg);
		if (to) {
			CHECK_STR(meta(to, "modes"), cases[i].modes);
			CHECK_INT(has(to, "bn.running_mean"), cases[i].aom);
			CHECK_INT(has(to, "dom.bn.running_mean"), cases[i].dom);
		}
		wasd_st_close(to);
		wasd_free(out);
		tiny_done(&r);
	}
}

/* The smallest logit of a checkpoint's network over several images. */
static double least_logit(const void *file, size_t len, const struct wasd_dataset *data)
{
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	double least = INFINITY;
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(file, len, "aom"), &b, &err) &&
	              !wasd_predictor_create(b, &(struct wasd_predictor_opts){0}, &p, &err),
	          "%s", err.msg);
	size_t n = wasd_shape_count(wasd_dataset_shape(data));
	real *x = wasd_calloc(n, sizeof *x), y[10];
	for (size_t i = 0; p && i < 8; i++) {
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(data), wasd_dataset_image(data, WASD_TEST, i), x);
		CHECK(!wasd_predictor_run(p, x, 1, y, &err));
		for (int k = 0; k < 10; k++)
			least = fmin(least, (double)y[k]);
	}
	wasd_free(x);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
	return least;
}

/* Checkpoints and exported files whose model consists of the name only were made with a ReLU on the logits, and keep
 * it: when served, resumed, exported and imported, even if the request names only the network. A file that says
 * "published": false has negative logits. */
static void lenet_of_old_keeps_its_network(void)
{
	static const struct {
		const char *model, *asked;
		bool old, asked_old;
	} rows[] = {
		{"{\"arch\":\"lenet\"}", "{\"arch\":\"lenet\"}", true, true},
		{"{\"arch\":\"lenet\"}", "{\"arch\":\"lenet\",\"published\":false}", true, false},
		{"{\"arch\":\"lenet\",\"published\":false}", "{\"arch\":\"lenet\"}", false, false},
		{"{\"arch\":\"lenet\",\"published\":true}", NULL, true, true},
	};
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("lenet", 64, 16, 32, path);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char spec[300];
		struct tiny_run r = {.stop_at = 3};
		struct wasd_err err = {0};
		void *out = NULL, *back = NULL;
		size_t len = 0, back_len = 0;
		cJSON *info = NULL, *asked = rows[i].asked ? cJSON_Parse(rows[i].asked) : NULL;
		snprintf(spec, sizeof spec,
		         "{\"model\":%s,\"train\":{\"epochs\":2,\"batch\":16,\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001}}}",
		         rows[i].model);
		tiny_go(&r, spec, data);
		r.stop_at = 0;
		tiny_go(&r, spec, data);
		CHECK_MSG(!r.status && r.end == WASD_TRAIN_DONE, "%s", r.err.msg);
		CHECK_MSG((least_logit(r.file, r.len, data) >= 0) == rows[i].old, "row %zu: served", i);
		CHECK_MSG(!wasd_export_safetensors(r.file, r.len, &out, &len, &err), "%s", err.msg);
		CHECK_MSG(!wasd_import(out, len, &(struct wasd_import){.to_serve = true}, &back, &back_len, &info, &err), "%s",
		          err.msg);
		CHECK_MSG((least_logit(back, back_len, data) >= 0) == rows[i].old, "row %zu: exported and imported", i);
		wasd_free(back);
		cJSON_Delete(info);
		CHECK_MSG(!wasd_import(out, len, &(struct wasd_import){.to_serve = true, .model = asked}, &back, &back_len,
		                       &info, &err),
		          "%s", err.msg);
		CHECK_MSG((least_logit(back, back_len, data) >= 0) == rows[i].asked_old, "row %zu: imported by a request", i);
		wasd_free(back);
		wasd_free(out);
		cJSON_Delete(info);
		cJSON_Delete(asked);
		tiny_done(&r);
	}
	wasd_dataset_close(data);
}

/* Any failed allocation gives a status and leaks nothing. A file that is not a checkpoint is reported as such. */
static void export_failures(void)
{
	const struct tiny_run r = trained;
	struct wasd_err err = {0};
	void *out = NULL;
	size_t len = 0;
	enum wasd_status s = WASD_ENOMEM;
	for (uint64_t n = 1; s == WASD_ENOMEM && n < 100000; n += n < 100 ? 1 : 97) {
		wasd_mem_fail_at(n);
		s = wasd_export_safetensors(r.file, r.len, &out, &len, &err);
		wasd_mem_fail_at(0);
	}
	CHECK_MSG(!s, "%s: %s", wasd_status_name(s), err.msg);
	wasd_free(out);
	CHECK_INT(wasd_export_safetensors("no file", 7, &out, &len, &err), WASD_ECORRUPT);
	CHECK_INT(wasd_export_safetensors(r.file, r.len / 2, &out, &len, &err), WASD_ECORRUPT);
}

/* ---- import ---- */

/* A modified state_dict: the tensors of a file, which a case may drop, rename, reshape or retype. */
struct change {
	const char *what, *tensor, *to;
	enum wasd_dtype dtype;
	const char *error;
};

static enum wasd_status import_changed(const struct wasd_st *from, const struct change *c, const char *metadata,
                                       const struct wasd_import *how, void **out, size_t *out_len, cJSON **info,
                                       struct wasd_err *err)
{
	static const char *const keys[] = {"model", "classes", "input", "modes", "was", "draw", "spec"};
	static const int64_t batches = 7;
	struct wasd_st_writer *w = wasd_st_writer_create();
	void *kept[400] = {0}, *file = NULL;
	size_t n_kept = 0, size = 0;
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (strstr(metadata, keys[i]))
			wasd_st_writer_meta(w, keys[i], meta(from, keys[i]));
	wasd_st_writer_meta(w, "network", "resnet18"); /* means something in our own checkpoints only */
	for (size_t i = 0; i < wasd_st_count(from); i++) {
		struct wasd_st_tensor t = *wasd_st_at(from, i);
		bool hit = c->tensor && !strcmp(t.name, c->tensor);
		if (hit && !strcmp(c->what, "drop"))
			continue;
		if (c->tensor && !strcmp(c->what, "drop all") && strstr(t.name, c->tensor))
			continue;
		if (hit && !strcmp(c->what, "rename"))
			t.name = c->to;
		if (!strcmp(c->what, "prefix")) {
			char *name = kept[n_kept++] = malloc(strlen(c->to) + strlen(t.name) + 1);
			t.name = strcat(strcpy(name, c->to), t.name);
		}
		if (hit && !strcmp(c->what, "flatten"))
			t.dims[0] = t.count, t.ndims = 1;
		if ((hit && !strcmp(c->what, "type")) || !strcmp(c->what, "all of type")) {
			void *v = kept[n_kept++] = calloc(t.count + 1, wasd_dtype_size(c->dtype));
			for (size_t k = 0; k < t.count; k++) {
				uint32_t bits;
				memcpy(&bits, (const char *)t.data + 4 * k, 4);
				uint16_t h = (uint16_t)(bits >> 16); /* bfloat16 by truncation */
				if (c->dtype == WASD_F16) { /* also by truncation; values too small for a normal number become 0 */
					int e = (int)(bits >> 23 & 255) - 112;
					h = (uint16_t)(e <= 0 ? 0 : (bits >> 16 & 0x8000) | (unsigned)e << 10 | (bits >> 13 & 1023));
				}
				if (wasd_dtype_size(c->dtype) == 2)
					memcpy((char *)v + 2 * k, &h, 2);
			}
			t.dtype = c->dtype;
			t.data = v;
		}
		if (hit && !strcmp(c->what, "poison")) {
			real *v = kept[n_kept++] = malloc(t.count * sizeof *v);
			memcpy(v, t.data, t.count * sizeof *v);
			v[t.count - 1] = strcmp(c->to, "nan") ? -1 : NAN;
			t.data = v;
		}
		wasd_st_writer_add(w, t.name, t.dtype, t.ndims, t.dims, t.data);
	}
	if (!strcmp(c->what, "counters"))
		wasd_st_writer_add(w, "bn.num_batches_tracked", WASD_I64, 0, NULL, &batches);
	CHECK(!wasd_st_writer_size(w, &size, err) && (file = malloc(size)) && !wasd_st_writer_write(w, file, size, err));
	enum wasd_status s = wasd_import(file, size, how, out, out_len, info, err);
	free(file);
	for (size_t i = 0; i < n_kept; i++)
		free(kept[i]);
	wasd_st_writer_destroy(w);
	return s;
}

static void logits(const void *file, size_t len, const char *mode, const struct wasd_dataset *d, real out[40])
{
	static real x[4 * 3 * 32 * 32];
	struct wasd_bundle *b = NULL;
	struct wasd_predictor *p = NULL;
	struct wasd_err err = {0};
	size_t image = wasd_shape_count(wasd_dataset_shape(d));
	for (size_t i = 0; i < 4; i++)
		wasd_normalise(&wasd_pixels_half, wasd_dataset_shape(d), wasd_dataset_image(d, WASD_TEST, i), x + i * image);
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(file, len, mode), &b, &err) &&
	              !wasd_predictor_create(b, &(struct wasd_predictor_opts){.precision = WASD_PRECISION_FP32_STRICT}, &p,
	                                     &err) &&
	              !wasd_predictor_run(p, x, 4, out, &err),
	          "%s", err.msg);
	wasd_predictor_destroy(p);
	wasd_bundle_unref(b);
}

/* Export and re-import, from a safetensors file and from a stored one: bit-identical logits in both modes. */
static void out_and_in_again(void)
{
	static const struct {
		const char *spec;
		bool dom;
	} cases[] = {
		{RESNET, true},
		{"{\"model\":{\"arch\":\"vgg16\",\"head\":512},\"train\":{\"epochs\":1,\"batch\":16}}", true},
		{OWN, true},
		{"{\"model\":{\"arch\":\"efficientnet_lite0\"},\"train\":{\"epochs\":1,\"batch\":16}}", true},
		{"{\"model\":{\"arch\":\"mobilenetv2\"},\"was\":false,\"train\":{\"epochs\":1,\"batch\":16}}", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tiny_run r = {0};
		struct wasd_err err = {0};
		void *file = NULL;
		size_t len = 0;
		tiny_go(&r, cases[i].spec, small);
		CHECK_MSG(!r.status && !wasd_export_safetensors(r.file, r.len, &file, &len, &err), "%s %s", r.err.msg, err.msg);
		for (int stored = 0; stored < 2; stored++) {
			void *again = NULL;
			size_t again_len = 0;
			cJSON *info = NULL;
			real want[40], got[40];
			CHECK_MSG(!wasd_import(stored ? r.file : file, stored ? r.len : len,
			                       &(struct wasd_import){.to_serve = true}, &again, &again_len, &info, &err),
			          "%s", err.msg);
			struct wasd_st *from = NULL, *to = NULL; /* the preparation of pictures is exported too */
			CHECK(!wasd_st_open(r.file, r.len, &from, NULL) && !wasd_st_open(again, again_len, &to, NULL));
			CHECK_STR(wasd_st_meta(to, "prepare"), wasd_st_meta(from, "prepare"));
			wasd_st_close(from);
			wasd_st_close(to);
			for (int m = 0; again && m <= cases[i].dom; m++) {
				logits(r.file, r.len, tiny_modes[m], small, want);
				logits(again, again_len, tiny_modes[m], small, got);
				CHECK_MSG(!memcmp(want, got, sizeof want), "%s: %s differs", cases[i].spec, tiny_modes[m]);
			}
			CHECK_INT(cJSON_IsObject(wasd_json_get(info, "was")), cases[i].dom);
			cJSON_Delete(info);
			wasd_free(again);
		}
		wasd_free(file);
		tiny_done(&r);
	}
}

static void what_is_wrong_is_named(void)
{
	static const struct change cases[] = {
		{"drop", "layer2.0.conv1.weight", NULL, 0, "layer2.0.conv1.weight: missing"},
		{"drop", "layer1.0.param", NULL, 0, "layer1.0.param: missing"},
		{"drop", "layer3.1.bn2.running_var", NULL, 0, "layer3.1.bn2.running_var: missing"},
		{"drop", "dom.layer3.1.bn2.running_var", NULL, 0, "dom.layer3.1.bn2.running_var: missing"},
		{"drop all", "running_", NULL, 0, "no BatchNorm statistics"},
		{"rename", "fc.weight", "linear.weight", 0, "linear.weight: unexpected"},
		{"rename", "bn.running_mean", "optim.momentum.fc.weight", 0, "optim.momentum.fc.weight: unexpected"},
		{"flatten", "conv.weight", NULL, 0, "conv.weight: shape 1728, but the network has 64x3x3x3"},
		{"type", "fc.bias", NULL, WASD_I32, "fc.bias: has type I32"},
		{"poison", "fc.bias", "nan", 0, "fc.bias: element 9 has the invalid value nan"},
		{"poison", "bn.running_var", "negative", 0, "bn.running_var: element 63 has the invalid value -1"},
		{"metadata", NULL, "classes input", 0, "/model"},
		{"metadata", NULL, "model input", 0, "/classes"},
		{"metadata", NULL, "model classes", 0, "/input"},
	};
	const struct tiny_run r = trained;
	struct wasd_err err = {0};
	struct wasd_st *from = NULL;
	void *file = NULL, *out = NULL;
	size_t len = 0, out_len;
	cJSON *info = NULL;
	CHECK(!wasd_export_safetensors(r.file, r.len, &file, &len, &err) && !wasd_st_open(file, len, &from, &err));
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *metadata = strcmp(cases[i].what, "metadata") ? "model classes input modes was draw spec" :
		                                                           cases[i].to;
		err = (struct wasd_err){0};
		enum wasd_status s = import_changed(from, &cases[i], metadata, &(struct wasd_import){.to_serve = true}, &out,
		                                    &out_len, &info, &err);
		CHECK_MSG(s == WASD_EINVAL && strstr(err.msg, cases[i].error) && !out && !info, "%s %s: %s \"%s\", want \"%s\"",
		          cases[i].what, cases[i].tensor, wasd_status_name(s), err.msg, cases[i].error);
	}
	/* Members of the request replace the metadata; without statistics a job can still start from the weights. */
	cJSON *model = cJSON_Parse("{\"arch\":\"resnet18\"}"), *input = cJSON_Parse("[3,16,16]"),
		  *few = cJSON_Parse("[\"a\",\"b\"]"), *ten = cJSON_Parse(meta(from, "classes"));
	cJSON *vgg = cJSON_Parse("{\"arch\":\"vgg16\"}"), *odd = cJSON_Parse("[5,16,16]"),
		  *none = cJSON_Parse("{\"arch\":\"resnet19\"}");
	const struct {
		struct wasd_import how;
		const char *error;
	} given[] = {
		{{model, ten, input, true}, NULL},       {{model, few, input, true}, "shape 10x512, but the network has 2x512"},
		{{vgg, ten, input, true}, "unexpected"}, {{model, ten, odd, true}, "5"},
		{{model, ten, few, true}, "/input"},     {{model, input, input, true}, "/classes"},
		{{none, ten, input, true}, "resnet19"},
	};
	for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
		enum wasd_status s = import_changed(from, &(struct change){.what = "counters"}, "", &given[i].how, &out,
		                                    &out_len, &info, &err);
		CHECK_MSG(given[i].error ? s == WASD_EINVAL && strstr(err.msg, given[i].error) : !s, "case %zu: %s %s", i,
		          wasd_status_name(s), err.msg);
		if (!s)
			CHECK(cJSON_IsFalse(wasd_json_get(info, "was"))); /* the draw was in the metadata */
		cJSON_Delete(info);
		wasd_free(out);
		out = NULL, info = NULL;
	}
	CHECK(!import_changed(from, &(struct change){.what = "drop all", .tensor = "running_"}, "model classes input",
	                      &(struct wasd_import){0}, &out, &out_len, &info, &err));
	CHECK_INT(wasd_bundle_create(TINY_MODE(out, out_len, "aom"), &(struct wasd_bundle *){NULL}, NULL), WASD_ESTATE);
	cJSON_Delete(info);
	wasd_free(out);
	cJSON_Delete(model), cJSON_Delete(input), cJSON_Delete(few), cJSON_Delete(ten), cJSON_Delete(vgg),
		cJSON_Delete(odd), cJSON_Delete(none);
	wasd_st_close(from);
	wasd_free(file);
}

/* Half precision: the import keeps the values as rounded by the writer of the file. */
/* The prefixes that DataParallel and torch.compile add to every name are skipped and reported. */
static void prefixes(void)
{
	static const char *const words[] = {"module.", "_orig_mod.", "_orig_mod.module.", "net."};
	struct wasd_err err = {0};
	struct wasd_st *from = NULL;
	void *file = NULL;
	size_t len = 0;
	CHECK(!wasd_export_safetensors(trained.file, trained.len, &file, &len, &err) &&
	      !wasd_st_open(file, len, &from, &err));
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		void *out = NULL;
		size_t out_len = 0;
		cJSON *info = NULL;
		const char *told = "";
		enum wasd_status s = import_changed(from, &(struct change){.what = "prefix", .to = words[i]},
		                                    "model classes input", &(struct wasd_import){.to_serve = true}, &out,
		                                    &out_len, &info, &err);
		wasd_json_str(info, "prefix", &told);
		if (strcmp(words[i], "net."))
			CHECK_MSG(!s && !strcmp(told, words[i]), "%s: %s", words[i], err.msg);
		else
			CHECK_MSG(s == WASD_EINVAL && strstr(err.msg, "unexpected"), "%s", err.msg);
		cJSON_Delete(info);
		wasd_free(out);
	}
	wasd_st_close(from);
	wasd_free(file);
}

static void other_types(void)
{
	static const struct {
		enum wasd_dtype t;
		double most;
	} types[] = {{WASD_BF16, 1. / 128}, {WASD_F16, 1. / 1024}};
	const struct tiny_run r = trained;
	struct wasd_err err = {0};
	struct wasd_st *from = NULL;
	void *file = NULL;
	size_t len = 0;
	if (sizeof(real) != 4)
		TEST_SKIP("the float build writes F32");
	CHECK(!wasd_export_safetensors(r.file, r.len, &file, &len, &err) && !wasd_st_open(file, len, &from, &err));
	for (size_t i = 0; i < 2; i++) {
		void *out = NULL;
		size_t out_len = 0;
		cJSON *info = NULL;
		struct wasd_st *to = NULL;
		CHECK_MSG(!import_changed(from, &(struct change){.what = "all of type", .dtype = types[i].t},
		                          "model classes input", &(struct wasd_import){.to_serve = true}, &out, &out_len, &info,
		                          &err),
		          "%s", err.msg);
		CHECK(out && !wasd_st_open(out, out_len, &to, &err));
		const float *a = wasd_st_find(from, "fc.weight")->data, *b = to ? wasd_st_find(to, "fc.weight")->data : a;
		double worst = 0;
		for (int k = 0; k < 5120; k++)
			worst = fmax(worst, fabsf(a[k]) < 1e-4f ? 0 : fabs((double)b[k] / (double)a[k] - 1));
		CHECK_MSG(worst <= types[i].most && worst > types[i].most / 8, "%s: %g off", wasd_dtype_name(types[i].t),
		          worst);
		wasd_st_close(to);
		cJSON_Delete(info);
		wasd_free(out);
	}
	wasd_st_close(from);
	wasd_free(file);
}

/* A header with sizes larger than the file, offsets that overlap or lie outside, and every prefix of a good file. */
static void hostile_files(void)
{
	static const char *const headers[] = {
		"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
		"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
		"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}",
		"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
		"{\"__metadata__\":{\"model\":\"{\\\"arch\\\":\"},\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
		"{\"a\":{\"dtype\":\"F8\",\"shape\":[12],\"data_offsets\":[0,12]}}",
		"[]",
		"{\"a\":1}",
	};
	struct wasd_err err = {0};
	void *out = NULL;
	size_t out_len;
	cJSON *info = NULL;
	char file[400];
	for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
		for (int huge = 0; huge < 3; huge++) {
			uint64_t n = strlen(headers[i]);
			memset(file, 0, sizeof file);
			memcpy(file + 8, headers[i], n);
			size_t len = 8 + n + 12;
			n = huge == 2 ? UINT64_MAX : huge ? UINT64_C(1) << 40 : n;
			memcpy(file, &n, 8);
			enum wasd_status s = wasd_import(file, len, &(struct wasd_import){0}, &out, &out_len, &info, &err);
			CHECK_MSG(s && s != WASD_ENOMEM && s != WASD_EINTERNAL && !out && !info, "%s: %s", headers[i],
			          wasd_status_name(s));
		}
	struct tiny_run r = {0};
	void *good = NULL;
	size_t len = 0;
	tiny_go(&r, "{\"model\":{\"arch\":\"efficientnet_lite0\"},\"train\":{\"epochs\":1,\"batch\":16}}", small);
	CHECK(!wasd_export_safetensors(r.file, r.len, &good, &len, &err));
	for (size_t n = 0; n < len; n += n < 64 ? 1 : len / 61)
		CHECK(wasd_import(good, n, &(struct wasd_import){0}, &out, &out_len, &info, &err) == WASD_ECORRUPT && !out);
	wasd_free(good);
	tiny_done(&r);
}

/* Any allocation of an import may fail, including those of the network: nothing is created, nothing leaks, and the next
 * import succeeds. */
static void import_without_memory(void)
{
	struct tiny_run r = {0};
	struct wasd_err err = {0};
	void *file = NULL, *out = NULL;
	size_t len = 0, out_len = 0;
	cJSON *info = NULL;
	tiny_go(&r, OWN, small);
	CHECK_MSG(!r.status && !wasd_export_safetensors(r.file, r.len, &file, &len, &err), "%s %s", r.err.msg, err.msg);
	enum wasd_status s = WASD_ENOMEM;
	for (uint64_t n = 1; s == WASD_ENOMEM && n < 100000; n++) {
		struct wasd_mem_stats before = wasd_mem_stats(), after;
		wasd_mem_fail_at(n);
		s = wasd_import(file, len, &(struct wasd_import){.to_serve = true}, &out, &out_len, &info, &err);
		wasd_mem_fail_at(0);
		after = wasd_mem_stats();
		CHECK(!s || (!out && !info));
		CHECK_MSG(!s || after.allocs - before.allocs == after.frees - before.frees,
		          "allocation %llu: %lld blocks are left", (unsigned long long)n,
		          (long long)(after.allocs - before.allocs) - (long long)(after.frees - before.frees));
	}
	CHECK_MSG(!s && out, "%s: %s", wasd_status_name(s), err.msg);
	cJSON_Delete(info);
	wasd_free(out);
	wasd_free(file);
	tiny_done(&r);
}

/* ---- what the weights are ---- */

static double num_of(const cJSON *o, const char *key)
{
	double v = NAN;
	wasd_json_num(o, key, &v);
	return v;
}

static const cJSON *row_of(const cJSON *found, const char *layer)
{
	const cJSON *l;
	cJSON_ArrayForEach(l, wasd_json_get(found, "layers"))
		if (!strcmp(wasd_json_get(l, "name")->valuestring, layer))
			return l;
	CHECK_MSG(false, "no layer %s", layer);
	return NULL;
}

#define PRUNED(strategies) \
	"{\"model\":{\"name\":\"own\",\"layers\":[{\"type\":\"conv\",\"out\":8,\"bias\":true,\"name\":\"a\"},{\"type\":\"relu\"}," \
	"{\"type\":\"conv\",\"depthwise\":true,\"kernel\":5,\"name\":\"b\"},{\"type\":\"maxpool\",\"kernel\":2},{\"type\":\"flatten\"}," \
	"{\"type\":\"linear\",\"out\":\"classes\",\"name\":\"c\"}]},\"weights\":[" strategies \
	"],\"train\":{\"epochs\":1,\"batch\":16}}"
#define THREE_QUARTERS "{\"type\":\"magnitude\",\"sparsity\":0.75,\"begin\":0.4,\"end\":0.7,\"every\":1}"

/* Weights by layer: a 8x3x3x3, b 8x1x5x5 (depthwise, never pruned), c 10x512. */
static void alive_weights_of_each_layer(void)
{
	static const struct {
		const char *spec;
		double alive[3];
		const char *mask; /* NULL: none */
	} cases[] = {
		{PRUNED(THREE_QUARTERS), {54, 200, 1280}, "magnitude"},
		{PRUNED(THREE_QUARTERS ",{\"type\":\"compander\"}"), {54, 200, 1280}, "magnitude"},
		{PRUNED(""), {216, 200, 5120}, NULL},
	};
	static const char *const layers[] = {"a", "b", "c"};
	static const double n[] = {216, 200, 5120}, params[] = {224, 208, 5130};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tiny_run r = {0};
		struct wasd_err err = {0};
		cJSON *found = NULL;
		tiny_go(&r, cases[i].spec, small);
		CHECK_MSG(!r.status && !wasd_checkpoint_layers(r.file, r.len, &found, &err), "%s %s", r.err.msg, err.msg);
		double alive = 0;
		for (int k = 0; k < 3; k++) {
			const cJSON *l = row_of(found, layers[k]), *masks = wasd_json_get(l, "masks");
			CHECK_NEAR(num_of(l, "weights"), n[k], 0);
			CHECK_NEAR(num_of(l, "params"), params[k], 0);
			CHECK_NEAR(num_of(l, "alive"), cases[i].alive[k], 0);
			CHECK_NEAR(num_of(l, "zeros"), n[k] - cases[i].alive[k], 0);
			CHECK_NEAR(num_of(l, "share"), cases[i].alive[k] / n[k], 1e-12);
			CHECK_INT(cJSON_GetArraySize(masks), cases[i].mask && k != 1);
			if (masks && masks->child)
				CHECK_STR(masks->child->valuestring, cases[i].mask);
			alive += cases[i].alive[k];
		}
		CHECK_NEAR(num_of(found, "alive"), alive, 0);
		CHECK_NEAR(num_of(found, "weights"), 5536, 0);
		CHECK_NEAR(num_of(found, "params"), 5562, 0);
		cJSON_Delete(found);
		tiny_done(&r);
	}
}

/* Half of the columns of the first linear layer die: half of the pixels are not read. Channels of the images too. */
static void input_values_that_are_read(void)
{
#define HALF(layers, strategies) \
	"{\"model\":{\"name\":\"own\",\"layers\":[" layers "]},\"weights\":[" strategies \
	"],\"train\":{\"epochs\":1,\"batch\":16}}"
#define GONE(layer, granularity, share) \
	"{\"type\":\"structured\",\"sparsity\":" share ",\"begin\":0.4,\"end\":0.7,\"every\":1,\"round_to\":1," \
	"\"granularity\":\"" granularity "\",\"layers\":\"" layer "\"}"
#define FLAT "{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\",\"name\":\"fc\"}"
#define CONV "{\"type\":\"conv\",\"out\":8,\"name\":\"a\"}," FLAT
	static const struct {
		const char *spec;
		double read;
	} cases[] = {{HALF(FLAT, ""), 768},
	             {HALF(FLAT, GONE("fc", "channel", "0.5")), 384},
	             {HALF(CONV, GONE("a", "channel", "0.34")), 512}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tiny_run r = {0};
		struct wasd_err err = {0};
		cJSON *found = NULL;
		tiny_go(&r, cases[i].spec, small);
		CHECK_MSG(!r.status && !wasd_checkpoint_layers(r.file, r.len, &found, &err), "%s %s", r.err.msg, err.msg);
		CHECK_NEAR(num_of(found, "inputs"), 768, 0);
		CHECK_NEAR(num_of(found, "read"), cases[i].read, 0);
		cJSON_Delete(found);
		tiny_done(&r);
	}
}

/* The window's numbers are the tensor's, to four digits, and null exactly where the mask has a 0. */
static void kernels_of_a_layer(void)
{
	static const struct {
		struct wasd_kernels which;
		size_t output, outputs, input, inputs, taps, ins; /* what comes, and the inputs of the layer */
	} cases[] = {
		{{.layer = "a"}, 0, 8, 0, 3, 9, 3},
		{{.layer = "a", .output = 5, .outputs = 2, .input = 1, .inputs = 9}, 5, 2, 1, 2, 9, 3},
		{{.layer = "b"}, 0, 8, 0, 1, 25, 1},
		{{.layer = "c"}, 0, 10, 0, 32, 1, 512},
		{{.layer = "c", .output = 9, .input = 500}, 9, 1, 500, 12, 1, 512},
		{{.layer = "c", .inputs = 512}, 0, 10, 0, 512, 1, 512},
	};
	struct tiny_run r = {0};
	struct wasd_err err = {0};
	struct wasd_st *st = NULL;
	tiny_go(&r, PRUNED(THREE_QUARTERS), small);
	CHECK_MSG(!r.status && !wasd_st_open(r.file, r.len, &st, &err), "%s %s", r.err.msg, err.msg);
	for (size_t i = 0; st && i < sizeof cases / sizeof *cases; i++) {
		char name[64];
		cJSON *found = NULL;
		CHECK_MSG(!wasd_checkpoint_kernels(r.file, r.len, &cases[i].which, &found, &err), "%zu: %s", i, err.msg);
		CHECK_NEAR(num_of(found, "output"), (double)cases[i].output, 0);
		CHECK_NEAR(num_of(found, "outputs"), (double)cases[i].outputs, 0);
		CHECK_NEAR(num_of(found, "input"), (double)cases[i].input, 0);
		CHECK_NEAR(num_of(found, "inputs"), (double)cases[i].inputs, 0);
		const cJSON *list = wasd_json_get(found, "weights"), *v = list ? list->child : NULL;
		size_t row = cases[i].inputs * cases[i].taps;
		CHECK_INT(cJSON_GetArraySize(list), (int)(cases[i].outputs * row));
		snprintf(name, sizeof name, "%s.weight", cases[i].which.layer);
		const struct wasd_st_tensor *w = wasd_st_find(st, name);
		snprintf(name, sizeof name, "weights.magnitude.%s.weight", cases[i].which.layer);
		const struct wasd_st_tensor *mask = wasd_st_find(st, name);
		CHECK_INT(mask != NULL, *cases[i].which.layer != 'b');
		for (size_t at = 0; v; v = v->next, at++) {
			size_t k = ((cases[i].output + at / row) * cases[i].ins + cases[i].input) * cases[i].taps + at % row;
			bool alive = !mask || (((const uint8_t *)mask->data)[k / 8] >> k % 8 & 1);
			double is = sizeof(real) == 8 ? ((const double *)w->data)[k] : (double)((const float *)w->data)[k];
			CHECK_MSG(alive ? cJSON_IsNumber(v) && fabs(v->valuedouble - is) <= 6e-4 * fabs(is) : cJSON_IsNull(v),
			          "%s, weight %zu: %g", cases[i].which.layer, k, is);
		}
		cJSON_Delete(found);
	}
	wasd_st_close(st);
	tiny_done(&r);
}

static void windows_that_do_not_fit(void)
{
	static const struct {
		struct wasd_kernels which;
		enum wasd_status status;
		const char *pointer, *says;
	} cases[] = {
		{{.layer = "conv9"}, WASD_ENOTFOUND, "/layer", "no layer conv9"},
		{{.layer = "bn"}, WASD_ENOTFOUND, "/layer", "with weights"},
		{{.layer = "conv", .output = 64}, WASD_EINVAL, "/output", "outputs 0 to 63"},
		{{.layer = "fc", .input = 512}, WASD_EINVAL, "/input", "inputs 0 to 511"},
		{{.layer = "layer4.1.conv1", .outputs = 512, .inputs = 4}, WASD_EINVAL, "/outputs", "fewer outputs or inputs"},
		{{.layer = "layer4.1.conv1", .outputs = SIZE_MAX, .inputs = SIZE_MAX}, WASD_EINVAL, "/outputs", "fewer"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wasd_err err = {0};
		cJSON *found = NULL;
		CHECK_INT(wasd_checkpoint_kernels(trained.file, trained.len, &cases[i].which, &found, &err), cases[i].status);
		CHECK_STR(err.pointer, cases[i].pointer);
		CHECK_MSG(strstr(err.msg, cases[i].says) && !found, "%s", err.msg);
	}
}

/* A file that is cut, or an allocation that fails: an error, no leak. */
static void contents_of_hostile_files(void)
{
	const struct wasd_kernels which = {.layer = "a"};
	struct tiny_run r = {0};
	struct wasd_err err = {0};
	cJSON *found = NULL;
	tiny_go(&r, PRUNED(THREE_QUARTERS), small);
	for (size_t n = 0; n < r.len; n += n < 64 ? 1 : r.len / 61)
		CHECK(wasd_checkpoint_layers(r.file, n, &found, &err) == WASD_ECORRUPT && !found);
	for (int part = 0; part < 2; part++) {
		enum wasd_status s = WASD_ENOMEM;
		for (uint64_t n = 1; s == WASD_ENOMEM && n < 100000; n++) {
			struct wasd_mem_stats before = wasd_mem_stats(), after;
			wasd_mem_fail_at(n);
			s = part ? wasd_checkpoint_kernels(r.file, r.len, &which, &found, &err) :
			           wasd_checkpoint_layers(r.file, r.len, &found, &err);
			wasd_mem_fail_at(0);
			after = wasd_mem_stats();
			CHECK_MSG(!s || (!found && after.allocs - before.allocs == after.frees - before.frees), "allocation %llu",
			          (unsigned long long)n);
		}
		CHECK_MSG(!s && found, "%s: %s", wasd_status_name(s), err.msg);
		cJSON_Delete(found);
		found = NULL;
	}
	tiny_done(&r);
}

int main(void)
{
	char path[96];
	tiny_begin();
	small = tiny_glyphs("small", 48, 16, 16, path);
	tiny_go(&trained, RESNET, small);
	CHECK_MSG(!trained.status, "%s", trained.err.msg);
	TEST_RUN(a_state_dict_of_every_mode);
	TEST_RUN(modes_that_are_not_there);
	TEST_RUN(lenet_of_old_keeps_its_network);
	TEST_RUN(export_failures);
	TEST_RUN(out_and_in_again);
	TEST_RUN(what_is_wrong_is_named);
	TEST_RUN(prefixes);
	TEST_RUN(other_types);
	TEST_RUN(hostile_files);
	TEST_RUN(import_without_memory);
	TEST_RUN(alive_weights_of_each_layer);
	TEST_RUN(input_values_that_are_read);
	TEST_RUN(kernels_of_a_layer);
	TEST_RUN(windows_that_do_not_fit);
	TEST_RUN(contents_of_hostile_files);
	tiny_done(&trained);
	wasd_dataset_close(small);
	tiny_end();
	TEST_END();
}
