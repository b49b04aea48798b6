/* Merging and archiving of checkpoints (wasd/merge.h, wasd/archive.h): what is written, what is refused, on two runs of
 * a small residual network. */
#include "tiny.h"

#include "merge/merge.h"
#include "wasd/archive.h"
#include "wasd/convert.h"

#include <unistd.h>

static struct wasd_dataset *data;
static char path[96];
static struct tiny_run a, b;

#define CONV(name) \
	"{\"type\":\"conv\",\"name\":\"" name "\",\"out\":8,\"bias\":false,\"augment\":true},{\"type\":\"batchnorm\"},"
#define NETWORK \
	"{\"name\":\"block\",\"layers\":[" CONV("stem") "{\"type\":\"relu\",\"name\":\"r\"}," CONV("c1") "{\"type\":\"relu\"}," CONV( \
		"c2") "{\"type\":\"add\",\"from\":[\"r\",\"batchnorm7\"]},{\"type\":\"relu\"}," \
			  "{\"type\":\"maxpool\",\"kernel\":4},{\"type\":\"flatten\"},{\"type\":\"linear\",\"name\":\"fc\",\"out\":\"classes\"}]}"
#define WAS ",\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1}]}"
#define SPEC(network, seed, more) \
	"{\"model\":" network ",\"train\":{\"epochs\":2,\"batch\":16,\"seed\":" seed \
	"},\"data\":{\"val_fraction\":0.25}" more "}"

/* What a merge gave; done() frees it. */
struct result {
	void *file;
	size_t len;
	cJSON *info, *metrics;
	enum wasd_status status;
	struct wasd_err err;
};

static void done(struct result *r)
{
	wasd_free(r->file);
	cJSON_Delete(r->info);
	cJSON_Delete(r->metrics);
	*r = (struct result){0};
}

static struct result merge(const struct wasd_merge_opts *files, const char *request, const struct wasd_dataset *images)
{
	struct result r = {0};
	struct wasd_merge_opts o = *files;
	cJSON *j = cJSON_Parse(request);
	CHECK_MSG(j, "%s", request);
	o.data = images;
	o.request = j;
	r.status = wasd_merge(&o, &r.file, &r.len, &r.info, &r.metrics, &r.err);
	cJSON_Delete(j);
	return r;
}

#define TWO(x, y) \
	(&(struct wasd_merge_opts){.n = 2, .file = {{"first", (x)->file, (x)->len}, {"second", (y)->file, (y)->len}}})

/* Parameters and the statistics of AOM. */
struct values {
	struct checkpoint c;
	struct wasd_graph *g;
	struct wasd_model *m;
	bool measured;
};

static void open_values(struct values *v, const void *file, size_t len)
{
	struct wasd_err err = {0};
	CHECK_MSG(!checkpoint_open(file, len, &v->c, &err) && !checkpoint_graph(&v->c, &v->g, &err) &&
	              !checkpoint_check_names(&v->c, v->g, &err) && !wasd_model_create(v->g, 0, &v->m, &err) &&
	              !checkpoint_load_params(&v->c, v->g, "", wasd_model_master(v->m), &err) &&
	              !checkpoint_load_stats(&v->c, v->g, "", wasd_model_stats(v->m, WASD_STATS_AOM), &v->measured, &err),
	          "%s", err.msg);
}

static void close_values(struct values *v)
{
	wasd_model_destroy(v->m);
	wasd_graph_destroy(v->g);
	checkpoint_done(&v->c);
}

static bool same_params(const void *x, size_t nx, const void *y, size_t ny)
{
	struct values p = {0}, q = {0};
	open_values(&p, x, nx);
	open_values(&q, y, ny);
	bool same = !memcmp(wasd_model_master(p.m), wasd_model_master(q.m), wasd_graph_param_count(p.g) * sizeof(real));
	close_values(&p);
	close_values(&q);
	return same;
}

/* v's checkpoint with the values of m. */
static struct tiny_run written(const struct values *from, struct wasd_model *m)
{
	struct tiny_run out = {0};
	const char *names[10];
	cJSON *modes = cJSON_CreateArray();
	cJSON_AddItemToArray(modes, mode_entry("aom", &mode_plain, NULL, "", true));
	for (int i = 0; i < from->c.classes; i++)
		names[i] = cJSON_GetArrayItem(from->c.class_names, i)->valuestring;
	const real *stats[] = {wasd_model_stats(m, WASD_STATS_AOM)};
	struct checkpoint_source src = {.graph = from->g,
	                                .model = m,
	                                .modes = modes,
	                                .stats = stats,
	                                .arch = from->c.arch,
	                                .dataset_digest = "",
	                                .class_names = names,
	                                .spec = from->c.spec,
	                                .was = from->c.was,
	                                .progress = from->c.progress,
	                                .pixels = &from->c.pixels};
	void *file = NULL;
	CHECK(!checkpoint_write(&src, &file, &out.len, NULL));
	out.file = file;
	cJSON_Delete(modes);
	return out;
}

/* The checkpoint with its channels in another order. */
static struct tiny_run permuted(const struct tiny_run *from)
{
	struct values v = {0};
	struct merge_groups *g = NULL;
	struct wasd_model *m = NULL;
	struct tiny_run out = {0};
	struct wasd_rng r;
	uint32_t order[64];
	open_values(&v, from->file, from->len);
	CHECK(!merge_groups_create(v.g, NULL, &g, NULL) && !wasd_model_create(v.g, 0, &m, NULL));
	CHECK_INT(g->n, 2);
	int *perm = wasd_calloc((size_t)g->units, sizeof *perm);
	merge_groups_identity(g, perm);
	wasd_rng_init(&r, 1, "perm", 0, 0);
	for (int p = 0; p < g->n; p++) {
		for (int i = 0; i < g->group[p].n; i++)
			order[i] = (uint32_t)i;
		wasd_rng_shuffle(&r, order, (size_t)g->group[p].n);
		for (int i = 0; i < g->group[p].n; i++)
			perm[g->group[p].unit[i]] = g->group[p].unit[order[i]];
	}
	merge_groups_place(g, perm);
	merge_permute_params(g, wasd_model_master(v.m), wasd_model_master(m));
	merge_permute_stats(g, wasd_model_stats(v.m, WASD_STATS_AOM), wasd_model_stats(m, WASD_STATS_AOM));
	out = written(&v, m);
	wasd_free(perm);
	merge_groups_destroy(g);
	wasd_model_destroy(m);
	close_values(&v);
	return out;
}

static double number(const cJSON *j, const char *name)
{
	double v = NAN;
	CHECK_MSG(wasd_json_num(j, name, &v), "no %s", name);
	return v;
}

/* ---- what is written -------------------------------------------------------------------------------------------- */

static void served(const struct result *r, const char *mode)
{
	struct wasd_bundle *bundle = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!wasd_bundle_create(TINY_MODE(r->file, r->len, mode), &bundle, &err), "%s: %s", mode, err.msg);
	wasd_bundle_unref(bundle);
}

static void two_runs(void)
{
	struct result r = merge(TWO(&a, &b), "{\"path\":5}", data), again;
	CHECK_MSG(!r.status, "%s", r.err.msg);
	if (r.status)
		return;
	const cJSON *m = wasd_json_get(r.info, "merge"), *p = wasd_json_get(m, "path"), *from = wasd_json_get(m, "from");
	CHECK_STR(wasd_json_get(m, "align")->valuestring, "weights");
	CHECK_INT(cJSON_GetArraySize(from), 2);
	CHECK_STR(wasd_json_get(cJSON_GetArrayItem(from, 1), "checkpoint")->valuestring, "second");
	CHECK_NEAR(number(cJSON_GetArrayItem(from, 1), "weight"), 0.5, 0);
	const cJSON *inner = cJSON_GetArrayItem(wasd_json_get(m, "inner"), 0);
	CHECK(cJSON_GetArrayItem(inner, 1)->valuedouble > cJSON_GetArrayItem(inner, 0)->valuedouble);
	CHECK_INT(cJSON_GetArraySize(p), 5);
	double worst = 0, ends[2] = {number(cJSON_GetArrayItem(p, 0), "loss"), number(cJSON_GetArrayItem(p, 4), "loss")};
	for (int i = 0; i < 5; i++) {
		const cJSON *one = cJSON_GetArrayItem(p, i);
		double l = number(one, "lambda");
		CHECK_NEAR(l, i / 4.0, 0);
		worst = fmax(worst, number(one, "loss") - l * ends[1] - (1 - l) * ends[0]);
	}
	CHECK_NEAR(number(m, "barrier"), worst, 1e-12);
	/* The middle of the path is the mix. */
	CHECK_NEAR(number(r.metrics, "val_loss_aom"), number(cJSON_GetArrayItem(p, 2), "loss"), 0);
	CHECK_NEAR(number(r.metrics, "val_acc_aom"), number(cJSON_GetArrayItem(p, 2), "accuracy"), 0);
	number(r.metrics, "val_acc_dom");
	number(wasd_json_get(r.info, "macs"), "dom");
	served(&r, "aom");
	served(&r, "dom");
	struct values v = {0};
	open_values(&v, r.file, r.len);
	CHECK(v.measured && strstr(wasd_st_meta(v.c.st, "merged_from"), "second"));
	close_values(&v);
	again = merge(TWO(&a, &b), "{\"path\":5}", data);
	CHECK(again.len == r.len && !memcmp(again.file, r.file, r.len));
	done(&again);
	done(&r);
}

/* The checkpoint with the largest weights in its last layer. */
static struct tiny_run with_huge_weights(const struct tiny_run *from)
{
	struct values v = {0};
	open_values(&v, from->file, from->len);
	struct wasd_param_info fc = wasd_graph_param_info(v.g, wasd_graph_param_find(v.g, "fc.weight"));
	for (size_t i = 0; i < fc.count; i++)
		wasd_model_master(v.m)[fc.offset + i] = (real)(i % 2 ? 3e38 : -3e38) * (sizeof(real) == 8 ? (real)5e269 : 1);
	struct tiny_run huge = written(&v, v.m);
	close_values(&v);
	return huge;
}

/* One end computes infinite logits, so that its loss is no number: there is no line to rise above. */
static void no_barrier_without_losses(void)
{
	struct tiny_run huge = with_huge_weights(&b);
	struct result r = merge(TWO(&a, &huge), "{\"path\":3,\"align\":\"none\"}", data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	const cJSON *m = wasd_json_get(r.info, "merge"), *p = wasd_json_get(m, "path");
	CHECK(cJSON_IsNull(wasd_json_get(cJSON_GetArrayItem(p, 0), "loss")));
	number(cJSON_GetArrayItem(p, 2), "loss");
	CHECK(cJSON_IsNull(wasd_json_get(m, "barrier")));
	wasd_free((void *)(uintptr_t)huge.file);
	done(&r);
}

/* The end of the path where the first has all the weight is the first run, measured anew: nearly its own numbers. */
static void ends_are_the_runs(void)
{
	struct result r = merge(TWO(&a, &b), "{\"weights\":[1,0],\"path\":2}", data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	CHECK(same_params(r.file, r.len, a.file, a.len));
	const cJSON *p = wasd_json_get(wasd_json_get(r.info, "merge"), "path");
	CHECK_NEAR(number(r.metrics, "val_acc_aom"), a.value[2][3], 0.1);
	CHECK_NEAR(number(cJSON_GetArrayItem(p, 1), "accuracy"), a.value[2][3], 0.1);
	CHECK_NEAR(number(cJSON_GetArrayItem(p, 0), "accuracy"), b.value[2][3], 0.1);
	CHECK_NEAR(number(wasd_json_get(r.info, "merge"), "barrier"), 0, 1e-12);
	done(&r);
	r = merge(TWO(&a, &b), "{\"weights\":[0,1],\"align\":\"none\"}", data);
	CHECK(same_params(r.file, r.len, b.file, b.len));
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(wasd_json_get(r.info, "merge"), "sweeps")), 0);
	done(&r);
}

/* A permuted copy is recovered by weights and by activations; every mix of the two is the first. */
static void permuted_copy(void)
{
	static const char *const requests[] = {"{\"weights\":[0.3,0.7]}",
	                                       "{\"weights\":[0.3,0.7],\"align\":\"activations\"}"};
	struct tiny_run other = permuted(&a);
	CHECK(!same_params(a.file, a.len, other.file, other.len));
	for (int i = 0; i < 2; i++) {
		struct result r = merge(TWO(&a, &other), requests[i], data);
		CHECK_MSG(!r.status, "%s", r.err.msg);
		if (sizeof(real) == 4)
			CHECK_MSG(same_params(r.file, r.len, a.file, a.len), "%s", requests[i]);
		CHECK_NEAR(number(r.metrics, "val_acc_aom"), a.value[2][3], 0.05);
		done(&r);
	}
	struct result r = merge(TWO(&a, &other), "{\"align\":\"none\"}", data);
	CHECK(!r.status && !same_params(r.file, r.len, a.file, a.len));
	done(&r);
	tiny_done(&other);
}

static void several(void)
{
	struct tiny_run other = permuted(&b);
	struct wasd_merge_opts o = {.n = 3,
	                            .file = {{"x", b.file, b.len},
	                                     {"y", other.file, other.len},
	                                     {"z", other.file, other.len}}};
	struct result r = merge(&o, "{\"weights\":[0.2,0.3,0.5]}", data);
	CHECK_MSG(!r.status, "%s", r.err.msg);
	if (sizeof(real) == 4)
		CHECK(same_params(r.file, r.len, b.file, b.len));
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(wasd_json_get(r.info, "merge"), "inner")), 2);
	done(&r);
	tiny_done(&other);
}

/* Without statistics nothing can serve it, but a run can start from it. */
static void to_start_from(void)
{
	struct result r = merge(TWO(&a, &b), "{\"recalibrate\":false}", NULL);
	struct wasd_bundle *bundle = NULL;
	struct wasd_trainer *t = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!r.status, "%s", r.err.msg);
	CHECK(!wasd_json_get(r.metrics, "val_acc_aom"));
	CHECK_INT(wasd_bundle_create(TINY_MODE(r.file, r.len, "aom"), &bundle, NULL), WASD_ESTATE);
	cJSON *spec = cJSON_Parse(SPEC(NETWORK, "7", WAS));
	struct wasd_train_opts o = {.spec = spec, .data = data, .init = r.file, .init_len = r.len};
	CHECK_MSG(!wasd_trainer_create(&o, &t, &err), "%s", err.msg);
	struct values v = {0};
	open_values(&v, r.file, r.len);
	CHECK(!v.measured && t &&
	      !memcmp(wasd_model_master(v.m), wasd_model_master(wasd_trainer_model(t)),
	              wasd_graph_param_count(v.g) * sizeof(real)));
	close_values(&v);
	wasd_trainer_destroy(t);
	cJSON_Delete(spec);
	done(&r);
}

/* ---- what is refused -------------------------------------------------------------------------------------------- */

static void refused(const struct wasd_merge_opts *files, const char *request, const struct wasd_dataset *images,
                    const char *pointer, const char *says)
{
	struct result r = merge(files, request, images);
	CHECK_MSG(r.status == WASD_EINVAL && !strcmp(r.err.pointer, pointer) && strstr(r.err.msg, says) && !r.file,
	          "%s: %d at %s: %s; want %s: %s", request, r.status, r.err.pointer, r.err.msg, pointer, says);
	done(&r);
}

static void bad_requests(void)
{
	refused(TWO(&a, &b), "{\"weights\":[0.5,0.4]}", data, "/weights", "sum to 0.9");
	refused(TWO(&a, &b), "{\"weights\":[1]}", data, "/weights", "1 shares for 2");
	refused(TWO(&a, &b), "{\"weights\":[1.5,-0.5]}", data, "/weights/0", "from 0 to 1");
	refused(TWO(&a, &b), "{\"align\":\"luck\"}", data, "/align", "weights");
	refused(TWO(&a, &b), "{\"path\":1}", data, "/path", "two ends");
	refused(TWO(&a, &b), "{\"path\":102}", data, "/path", "101");
	refused(TWO(&a, &b), "{}", NULL, "/dataset", "images are needed");
	struct wasd_merge_opts o = {.n = 3, .file = {{"x", a.file, a.len}, {"y", a.file, a.len}, {"z", a.file, a.len}}};
	refused(&o, "{\"path\":3}", data, "/path", "between two");
}

static void other_run(const char *spec, const char *says)
{
	struct tiny_run other = {0};
	tiny_go(&other, spec, data);
	CHECK_MSG(!other.status, "%s", other.err.msg);
	refused(TWO(&a, &other), "{}", data, "/checkpoints/1", says);
	refused(TWO(&a, &other), "{}", data, "/checkpoints/1", "second has");
	tiny_done(&other);
}

#define SMALL \
	"{\"layers\":[" CONV( \
		"stem") "{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}"

static void other_specs(void)
{
	other_run("{\"model\":" SMALL ",\"train\":{\"epochs\":1,\"batch\":64}}", "another network");
	other_run("{\"model\":" NETWORK ",\"train\":{\"epochs\":1,\"batch\":64},\"was\":false}", "groups of WAS");
	other_run("{\"model\":" NETWORK ",\"train\":{\"epochs\":1,\"batch\":64},\"data\":{\"normalize\":\"set\"}" WAS "}",
	          "another normalisation");
}

static void damaged(void)
{
	struct wasd_merge_opts o = *TWO(&a, &b);
	o.file[1].len = 100;
	struct result r = merge(&o, "{}", data);
	CHECK_INT(r.status, WASD_ECORRUPT);
	CHECK_STR(r.err.pointer, "/checkpoints/1");
	CHECK(strstr(r.err.msg, "second"));
	done(&r);
}

/* A weight that is NaN is refused by its name. */
static void not_a_number(void)
{
	struct tiny_run other = permuted(&a);
	struct wasd_st *st = NULL;
	CHECK(!wasd_st_open(other.file, other.len, &st, NULL));
	const struct wasd_st_tensor *t = wasd_st_find(st, "c1.weight");
	memset((void *)(uintptr_t)t->data, 0xff, sizeof(real));
	wasd_st_close(st);
	struct result r = merge(TWO(&a, &other), "{}", data);
	CHECK_INT(r.status, WASD_ECORRUPT);
	CHECK_MSG(strstr(r.err.msg, "second: c1.weight: element 0 is"), "%s", r.err.msg);
	done(&r);
	tiny_done(&other);
}

static int calls, last_of;
static bool stop(void *ctx, int n_done, int of)
{
	CHECK(n_done <= of);
	last_of = of;
	return ++calls != *(int *)ctx;
}

static void cancelled(void)
{
	for (int at = 1; at < 20; at += 3) {
		struct wasd_merge_opts o = *TWO(&a, &b);
		calls = 0;
		o.go_on = stop;
		o.ctx = &at;
		struct result r = merge(&o, "{\"path\":3}", data);
		CHECK_INT(r.status, WASD_ECANCELLED);
		CHECK(!r.file && !r.info && calls == at && last_of > 0);
		done(&r);
	}
}

/* ---- archives --------------------------------------------------------------------------------------------------- */

static struct tiny_run *runs[2] = {&a, &b};
static int opened, closed, stop_at, asked;
static uint64_t size_said, fail_at;

static enum wasd_status open_run(void *ctx, int index, uint64_t bytes, struct wasd_archive_file *out,
                                 struct wasd_err *err)
{
	(void)ctx, (void)err;
	static const char *const names[] = {"ckpt_a", "ckpt_b"};
	CHECK((bytes != 0) == (opened > 0));
	size_said = bytes;
	opened++;
	*out = (struct wasd_archive_file){.data = runs[index]->file, .len = runs[index]->len, .checkpoint = names[index]};
	return WASD_OK;
}

static void close_run(void *ctx, struct wasd_archive_file *f)
{
	(void)ctx, (void)f;
	closed++;
	CHECK(opened - closed <= 1);
}

static bool goes_on(void *ctx, int n_done, int of)
{
	(void)ctx;
	CHECK(n_done < of);
	return ++asked != stop_at;
}

static char tar[96];

/* The file of the archive, or of what a failure may leave. */
static bool is_there(const char *end)
{
	char name[128];
	snprintf(name, sizeof name, "%s%s", tar, end);
	return access(name, F_OK) == 0;
}

static enum wasd_status archive(const char *request, int n, struct wasd_archive_made *made, struct wasd_err *err)
{
	cJSON *j = cJSON_Parse(request);
	CHECK_MSG(j, "%s", request);
	struct wasd_archive_opts o = {.n = n, .request = j, .open = open_run, .close = close_run, .go_on = goes_on};
	opened = closed = asked = 0;
	wasd_mem_fail_at(fail_at);
	enum wasd_status s = wasd_archive(&o, tar, made, err);
	wasd_mem_fail_at(0);
	cJSON_Delete(j);
	CHECK_INT(opened, closed);
	CHECK(!is_there(".part") && is_there("") == !s);
	return s;
}

#define ALL_VIEWS \
	"{\"views\":[{\"type\":\"dropout\"},{\"type\":\"noise\"},{\"type\":\"quantile\"},{\"type\":\"scale\"},{\"type\":\"permute\"}," \
	"{\"type\":\"mixup\"},{\"type\":\"mixup\",\"align\":\"random\"},{\"type\":\"mixup\",\"with\":\"permute\"}]}"

/* What it holds is read back by tests/e2e/test_merge.py. */
static void archives(void)
{
	struct wasd_archive_made made = {0}, again = {0};
	struct wasd_err err = {0};
	CHECK_MSG(!archive(ALL_VIEWS, 2, &made, &err), "%s", err.msg);
	CHECK_INT(made.files, 18);
	CHECK_MSG(size_said > made.bytes * 9 / 10 && size_said < made.bytes * 11 / 10, "%llu bytes said, %llu written",
	          (unsigned long long)size_said, (unsigned long long)made.bytes);
	unlink(tar);
	wasd_threads_init(2, NULL);
	CHECK(!archive(ALL_VIEWS, 2, &again, NULL) && !strcmp(again.sha256, made.sha256));
	wasd_threads_init(1, NULL);
	unlink(tar);
	for (stop_at = 1; stop_at <= 18; stop_at += 6)
		CHECK_INT(archive(ALL_VIEWS, 2, &again, NULL), WASD_ECANCELLED);
	stop_at = 0;
	CHECK_INT(archive("{\"views\":[{\"type\":\"mixup\"}]}", 1, &again, &err), WASD_EINVAL);
	CHECK_STR(err.pointer, "/views/0/with");
}

/* Another network is refused by name, first or last. */
static void archive_of_others(void)
{
	struct tiny_run other = {0};
	struct wasd_archive_made made;
	struct wasd_err err = {0};
	tiny_go(&other, "{\"model\":" SMALL ",\"train\":{\"epochs\":1,\"batch\":64}}", data);
	runs[1] = &other;
	CHECK_INT(archive("{}", 2, &made, &err), WASD_EINVAL);
	CHECK_STR(err.pointer, "/checkpoints/1");
	CHECK_MSG(strstr(err.msg, "ckpt_b: another network (/model) than that of ckpt_a"), "%s", err.msg);
	runs[1] = &b;
	tiny_done(&other);
}

/* Noise makes some of the weights infinite, so that they cannot be matched: the checkpoint is named. */
static void archive_of_huge_weights(void)
{
	struct tiny_run huge = with_huge_weights(&b);
	struct wasd_archive_made made;
	struct wasd_err err = {0};
	runs[1] = &huge;
	CHECK_INT(archive("{\"views\":[{\"type\":\"mixup\",\"with\":\"noise\"}]}", 2, &made, &err), WASD_EINVAL);
	CHECK_STR(err.pointer, "/checkpoints/1");
	CHECK_MSG(strstr(err.msg, "/checkpoints/1: ckpt_b: fc.weight: element"), "%s", err.msg);
	runs[1] = &b;
	wasd_free((void *)(uintptr_t)huge.file);
}

/* Allocation after allocation fails: nothing leaks, no file is left. */
static void archive_without_memory(void)
{
	struct wasd_archive_made made;
	enum wasd_status s = WASD_ENOMEM;
	struct wasd_err err = {0};
	for (uint64_t nth = 1; s == WASD_ENOMEM; nth += 1 + nth / 16) {
		fail_at = nth;
		s = archive("{\"views\":[{\"type\":\"permute\"},{\"type\":\"mixup\"}]}", 2, &made, &err);
	}
	CHECK_MSG(!s, "%s: %s", wasd_status_name(s), err.msg);
	unlink(tar);
}

int main(void)
{
	wasd_threads_init(1, NULL);
	tiny_begin();
	data = tiny_glyphs("merge", 600, 20, 16, path);
	tiny_go(&a, SPEC(NETWORK, "1", WAS), data);
	CHECK_MSG(!a.status, "%s", a.err.msg);
	tiny_go(&b, SPEC(NETWORK, "2", WAS), data);
	TEST_RUN(two_runs);
	TEST_RUN(no_barrier_without_losses);
	TEST_RUN(ends_are_the_runs);
	TEST_RUN(permuted_copy);
	TEST_RUN(several);
	TEST_RUN(to_start_from);
	TEST_RUN(bad_requests);
	TEST_RUN(other_specs);
	TEST_RUN(damaged);
	TEST_RUN(not_a_number);
	TEST_RUN(cancelled);
	check_temp(tar, sizeof tar, "wasd-tar");
	close(mkstemp(tar));
	unlink(tar);
	TEST_RUN(archives);
	TEST_RUN(archive_of_others);
	TEST_RUN(archive_of_huge_weights);
	TEST_RUN(archive_without_memory);
	tiny_done(&a);
	tiny_done(&b);
	wasd_dataset_close(data);
	tiny_end();
	wasd_threads_done();
	TEST_END();
}
