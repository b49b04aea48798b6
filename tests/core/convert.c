/* Checkpoints made into files for other programs: what is in them and that it is right. */
#include "tiny.h"

#include "wasd/convert.h"
#include "wasd/safetensors.h"

static struct wasd_dataset *small;

static bool has(const struct wasd_st *s, const char *name)
{
	return wasd_st_find(s, name) != NULL;
}

/* The bits of a tensor in one file are those of the same name in another. */
static void same_bits(const struct wasd_st *a, const struct wasd_st *b, const char *name)
{
	const struct wasd_st_tensor *x = wasd_st_find(a, name), *y = wasd_st_find(b, name);
	CHECK_MSG(x && y && x->dtype == y->dtype && x->count == y->count && !memcmp(x->data, y->data, x->count * wasd_dtype_size(x->dtype)), "%s differs", name);
}

static const char *meta(const struct wasd_st *s, const char *key)
{
	const char *v = wasd_st_meta(s, key);
	return v ? v : "(absent)";
}

static void a_state_dict_of_every_mode(void)
{
	struct tiny_run r = {0};
	struct wasd_err err = {0};
	struct wasd_st *from = NULL, *to = NULL;
	void *out = NULL;
	size_t len = 0;
	tiny_go(&r, "{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":1,\"batch\":16}}", small);
	CHECK_MSG(!r.status, "%s", r.err.msg);
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
	CHECK_STR(meta(to, "draw"), meta(from, "draw"));
	CHECK_STR(meta(to, "classes"), meta(from, "classes"));
	wasd_st_close(from);
	wasd_st_close(to);
	wasd_free(out);
	tiny_done(&r);
}

/* Stopped before its first measurement: no statistics that are those of nothing. Trained without WAS: one mode. */
static void modes_that_are_not_there(void)
{
	static const struct { const char *spec, *modes; int stop_at; bool aom, dom; } cases[] = {
		{"{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":1,\"batch\":16}}", "[]", 2, false, false},
		{"{\"model\":{\"arch\":\"resnet18\"},\"was\":false,\"train\":{\"epochs\":1,\"batch\":16}}", "[\"aom\"]", 0, true, false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tiny_run r = {.stop_at = cases[i].stop_at};
		struct wasd_err err = {0};
		struct wasd_st *to = NULL;
		void *out = NULL;
		size_t len = 0;
		tiny_go(&r, cases[i].spec, small);
		CHECK_MSG(!r.status, "%s", r.err.msg);
		CHECK_MSG(!wasd_export_safetensors(r.file, r.len, &out, &len, &err) && !wasd_st_open(out, len, &to, &err), "%s", err.msg);
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

/* Whichever allocation fails: a status, no leak. A file that is none is named as such. */
static void export_failures(void)
{
	struct tiny_run r = {0};
	struct wasd_err err = {0};
	void *out = NULL;
	size_t len = 0;
	enum wasd_status s = WASD_ENOMEM;
	tiny_go(&r, "{\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":1,\"batch\":16}}", small);
	for (uint64_t n = 1; s == WASD_ENOMEM && n < 100000; n += n < 100 ? 1 : 97) {
		wasd_mem_fail_at(n);
		s = wasd_export_safetensors(r.file, r.len, &out, &len, &err);
		wasd_mem_fail_at(0);
	}
	CHECK_MSG(!s, "%s: %s", wasd_status_name(s), err.msg);
	wasd_free(out);
	CHECK_INT(wasd_export_safetensors("no file", 7, &out, &len, &err), WASD_ECORRUPT);
	CHECK_INT(wasd_export_safetensors(r.file, r.len / 2, &out, &len, &err), WASD_ECORRUPT);
	tiny_done(&r);
}

int main(void)
{
	char path[96];
	tiny_begin();
	small = tiny_glyphs("small", 48, 16, 16, path);
	TEST_RUN(a_state_dict_of_every_mode);
	TEST_RUN(modes_that_are_not_there);
	TEST_RUN(export_failures);
	wasd_dataset_close(small);
	tiny_end();
	TEST_END();
}
