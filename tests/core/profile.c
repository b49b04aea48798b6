/* Profiles: the search alone on synthetic layers, and the complete path on a trained network. */
#include "tiny.h"

#include "profile/search.h"
#include "wasd/infer.h"
#include "wasd/making.h"
#include "wasd/profile.h"
#include "wasd/safetensors.h"

static struct wasd_dataset *small;
static struct tiny_run trained; /* six convolutions in a row */

#define CONV \
	"{\"type\":\"conv\",\"out\":8,\"bias\":false,\"augment\":true},{\"type\":\"batchnorm\"},{\"type\":\"relu\"},"
#define SPEC \
	"{\"model\":{\"name\":\"row\",\"layers\":[" CONV CONV CONV CONV CONV CONV \
	"{\"type\":\"globalpool\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}," \
	"\"train\":{\"epochs\":2,\"batch\":16,\"seed\":5},\"data\":{\"val_fraction\":0.25},\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1}]}}"

/* ---- made-up layers ---------------------------------------------------------------------------------------- */

#define LAYERS 10
struct made {
	struct search_space space;
	int judged, most;
	double own[LAYERS];
};

/* Layers of 3x3 kernels that may move by one tap in every direction; each tap of layer i saves i+1. */
static void made_begin(struct made *m)
{
	*m = (struct made){.space = {LAYERS, wasd_calloc(LAYERS, sizeof *m->space.layer)}};
	for (int i = 0; i < LAYERS; i++) {
		struct search_layer *l = &m->space.layer[i];
		*l = (struct search_layer){i, false, 0, wasd_calloc(9, sizeof *l->option)};
		m->own[i] = 1 + (i * 7) % 5;
		for (int taps = 0; taps < 3; taps++)
			for (int dy = -1; dy <= 1; dy++)
				for (int dx = -1; dx <= 1; dx++)
					if (abs(dy) + abs(dx) == taps)
						l->option[l->n++] =
							(struct search_option){.dy = dy,
						                           .dx = dx,
						                           .saves = (uint64_t)((9 - (3 - abs(dy)) * (3 - abs(dx))) * (i + 1))};
	}
}

/* The cost of each layer's missing taps, plus the square of the map's displacement behind each layer. */
static double made_cost(const struct made *m, const int *pick)
{
	double cost = 0;
	int y = 0, x = 0;
	for (int i = 0; i < LAYERS; i++) {
		const struct search_option *o = &m->space.layer[i].option[pick[i]];
		y += o->dy;
		x += o->dx;
		cost += m->own[i] * (abs(o->dy) + abs(o->dx)) + 4 * (y * y + x * x);
	}
	return cost;
}

static enum wasd_status made_judge(void *ctx, const int *pick, double *loss, struct wasd_err *err)
{
	struct made *m = ctx;
	(void)err;
	m->judged++;
	*loss = made_cost(m, pick);
	return m->judged == m->most ? WASD_ECANCELLED : WASD_OK;
}

static uint64_t everything(const struct search_space *s)
{
	uint64_t sum = 0;
	for (int i = 0; i < s->n; i++)
		sum += s->layer[i].option[s->layer[i].n - 1].saves;
	return sum;
}

/* Moves that undo each other, back and forth along one axis, in as many layers as the goal needs: the best draw that a
 * person would write down. */
static double to_and_fro(const struct made *m, uint64_t need)
{
	double best = INFINITY;
	for (int from = 0; from < LAYERS; from++)
		for (int to = from + 2; to <= LAYERS; to += 2)
			for (int o = 1; o < 9; o++) {
				int pick[LAYERS] = {0};
				for (int i = from; i < to; i++) {
					const struct search_option *a = &m->space.layer[i].option[o];
					for (int k = 0; k < 9; k++) {
						const struct search_option *b = &m->space.layer[i].option[k];
						if (b->dy == (i - from) % 2 * -2 * a->dy + a->dy &&
						    b->dx == (i - from) % 2 * -2 * a->dx + a->dx)
							pick[i] = k;
					}
				}
				if (search_saving(&m->space, pick) >= need)
					best = fmin(best, made_cost(m, pick));
			}
	return best;
}

static void search_beats_regular_patterns(void)
{
	struct made m;
	made_begin(&m);
	uint64_t all = everything(&m.space);
	for (int tenth = 1; tenth < 10; tenth++) {
		struct search *s = NULL;
		struct wasd_err err = {0};
		uint64_t need = all * (uint64_t)tenth / 10;
		m.judged = 0;
		CHECK(!search_create(&m.space, (struct search_judge){made_judge, &m}, 300, 1, &s, &err));
		CHECK(!search_price(s, &err) && m.judged <= 180);
		CHECK(!search_refine(s, need, &err) && m.judged <= 300 && search_used(s) == m.judged);
		const int *best = search_best(s, 0);
		CHECK(best && search_saving(&m.space, best) >= need);
		CHECK_MSG(best && made_cost(&m, best) <= to_and_fro(&m, need), "%d tenths: %g, a pattern costs %g", tenth,
		          best ? made_cost(&m, best) : 0, to_and_fro(&m, need));
		for (int i = 1; search_best(s, i); i++)
			CHECK(made_cost(&m, search_best(s, i)) >= made_cost(&m, search_best(s, i - 1)) &&
			      search_saving(&m.space, search_best(s, i)) >= need);
		search_destroy(s);
	}
	search_space_done(&m.space);
}

static void search_within_few_evaluations(void)
{
	struct made m;
	made_begin(&m);
	for (int n = 1; n < 40; n++) {
		struct search *s = NULL;
		struct wasd_err err = {0};
		m.judged = 0;
		m.most = 0;
		CHECK(!search_create(&m.space, (struct search_judge){made_judge, &m}, n, 1, &s, &err));
		CHECK(!search_price(s, &err) && !search_refine(s, everything(&m.space) / 3, &err));
		CHECK_INT(m.judged, n);
		search_destroy(s);
		m.judged = 0;
		m.most = n; /* the judge fails at the last one */
		CHECK(!search_create(&m.space, (struct search_judge){made_judge, &m}, 40, 1, &s, &err));
		enum wasd_status st = search_price(s, &err);
		CHECK_INT(st ? st : search_refine(s, everything(&m.space) / 3, &err), WASD_ECANCELLED);
		search_destroy(s);
	}
	struct search *s = NULL;
	int pick[LAYERS];
	CHECK(!search_create(&m.space, (struct search_judge){made_judge, &m}, 10, 1, &s, NULL));
	CHECK_INT(search_solve(s, everything(&m.space) + 1, pick, NULL), WASD_ENOTFOUND);
	CHECK_INT(search_solve(s, everything(&m.space), pick, NULL), WASD_OK);
	CHECK(search_saving(&m.space, pick) == everything(&m.space));
	search_destroy(s);
	search_space_done(&m.space);
}

/* ---- a network ----------------------------------------------------------------------------------------------- */

struct made_profile {
	void *overlay;
	size_t len;
	cJSON *info;
	enum wasd_status status;
	struct wasd_err err;
};

static void profile_done(struct made_profile *p)
{
	wasd_free(p->overlay);
	cJSON_Delete(p->info);
	*p = (struct made_profile){0};
}

static struct made_profile ask(const char *request, bool (*go_on)(void *, int, int), void *ctx)
{
	struct made_profile p = {0};
	cJSON *j = cJSON_Parse(request);
	struct wasd_making o =
		{.file = trained.file, .len = trained.len, .data = small, .request = j, .go_on = go_on, .ctx = ctx};
	CHECK_MSG(j, "%s", request);
	p.status = wasd_mode_make(&o, &p.overlay, &p.len, &p.info, &p.err);
	CHECK(p.status ? !p.overlay && !p.info : p.overlay && p.info);
	cJSON_Delete(j);
	return p;
}

static double number(const cJSON *j, const char *name)
{
	double v = NAN;
	CHECK_MSG(wasd_json_num(j, name, &v), "%s", name);
	return v;
}

static enum wasd_status bundle_of(const void *mode_file, size_t len, struct wasd_bundle **out, struct wasd_err *err)
{
	return wasd_bundle_create(&(struct wasd_mode_source){.file = trained.file,
	                                                     .len = trained.len,
	                                                     .mode_file = mode_file,
	                                                     .mode_len = len,
	                                                     .name = "dom:it"},
	                          out, err);
}

static void within_a_budget_of_macs(void)
{
	struct made_profile p = ask("{\"desire\":\"macs\",\"budget\":0.7,\"evaluations\":24}", NULL, NULL), again = {0};
	CHECK_MSG(!p.status, "%s", p.err.msg);
	if (p.status)
		return;
	const cJSON *aom = wasd_json_get(p.info, "aom"), *draw = wasd_json_get(p.info, "draw");
	static const char *const names[] = {"macs",       "val_loss", "val_acc", "images_per_s_1", "images_per_s_64",
	                                    "latency_us", "bytes"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		CHECK(number(p.info, names[i]) >= 0 && number(aom, names[i]) >= 0);
	CHECK(number(p.info, "macs_share") <= 0.7);
	CHECK_NEAR(number(p.info, "macs_share"), number(p.info, "macs") / number(aom, "macs"), 1e-9);
	CHECK_INT(number(p.info, "evaluations"), 24);
	/* Beside its checkpoint it is a mode with these multiply-adds. */
	struct wasd_bundle *b = NULL;
	struct wasd_err err = {0};
	CHECK_MSG(!bundle_of(p.overlay, p.len, &b, &err), "%s", err.msg);
	CHECK(b && (double)wasd_bundle_macs(b) == number(p.info, "macs"));
	wasd_bundle_unref(b);
	b = NULL;
	CHECK(!wasd_bundle_create(TINY_MODE(trained.file, trained.len, "aom"), &b, &err) &&
	      (double)wasd_bundle_macs(b) == number(aom, "macs"));
	wasd_bundle_unref(b);
	/* The same request finds the same draw, and requesting that draw explicitly gives the same numbers. */
	again = ask("{\"desire\":\"macs\",\"budget\":0.7,\"evaluations\":24}", NULL, NULL);
	CHECK(!again.status && cJSON_Compare(draw, wasd_json_get(again.info, "draw"), true) && again.len == p.len &&
	      !memcmp(again.overlay, p.overlay, p.len));
	profile_done(&again);
	char *text = cJSON_PrintUnformatted(draw), *request = wasd_asprintf("{\"desire\":\"draw\",\"draw\":%s}", text);
	again = ask(request, NULL, NULL);
	CHECK_MSG(!again.status, "%s: %s", again.err.pointer, again.err.msg);
	CHECK(again.info && number(again.info, "val_acc") == number(p.info, "val_acc") &&
	      number(again.info, "macs") == number(p.info, "macs"));
	free(text);
	wasd_free(request);
	profile_done(&again);
	profile_done(&p);
}

static void within_a_latency(void)
{
	struct made_profile p = ask("{\"desire\":\"latency\",\"budget_us\":1e9,\"evaluations\":8}", NULL, NULL);
	CHECK_MSG(!p.status && number(p.info, "latency_us") < 1e9, "%s", p.err.msg);
	profile_done(&p);
	p = ask("{\"desire\":\"latency\",\"budget_us\":1,\"evaluations\":8}", NULL, NULL);
	CHECK_INT(p.status, WASD_ENOTFOUND);
	CHECK_STR(p.err.pointer, "/budget_us");
	profile_done(&p);
}

static bool stop_at_once(void *ctx, int done, int of)
{
	(void)ctx, (void)done, (void)of;
	return false;
}

static void what_is_wrong_is_named(void)
{
	static const struct {
		const char *request, *pointer;
		enum wasd_status status;
	} rows[] = {
		{"{}", "/desire", WASD_EINVAL},
		{"{\"desire\":\"speed\"}", "/desire", WASD_EINVAL},
		{"{\"desire\":\"macs\"}", "/budget", WASD_EINVAL},
		{"{\"desire\":\"macs\",\"budget\":0}", "/budget", WASD_EINVAL},
		{"{\"desire\":\"macs\",\"budget\":1.5}", "/budget", WASD_EINVAL},
		{"{\"desire\":\"macs\",\"budget\":0.1}", "/budget", WASD_ENOTFOUND},
		{"{\"desire\":\"macs\",\"budget\":0.7,\"budget_us\":9}", "/budget_us", WASD_EINVAL},
		{"{\"desire\":\"macs\",\"budget\":0.7,\"evaluations\":0}", "/evaluations", WASD_EINVAL},
		{"{\"desire\":\"latency\",\"budget_us\":0}", "/budget_us", WASD_EINVAL},
		{"{\"desire\":\"draw\"}", "/draw", WASD_EINVAL},
		{"{\"desire\":\"draw\",\"draw\":[{\"layer\":\"nowhere\",\"op\":\"identity\",\"params\":{}}]}", "/draw/0/layer",
	     WASD_EINVAL},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct made_profile p = ask(rows[i].request, NULL, NULL);
		CHECK_MSG(p.status == rows[i].status && !strcmp(p.err.pointer, rows[i].pointer), "%s: %s at \"%s\": %s",
		          rows[i].request, wasd_status_name(p.status), p.err.pointer, p.err.msg);
		profile_done(&p);
	}
	struct made_profile p = ask("{\"desire\":\"macs\",\"budget\":0.7}", stop_at_once, NULL);
	CHECK_INT(p.status, WASD_ECANCELLED);
	profile_done(&p);
}

/* A mode file with another value of one member of its metadata; NULL: without it. */
static enum wasd_status changed(const struct made_profile *p, const char *key, const char *value, struct wasd_err *err)
{
	static const char *const keys[] = {"format", "arch", "kind", "recipe"};
	struct wasd_st *st = NULL;
	struct wasd_st_writer *w = wasd_st_writer_create();
	struct wasd_bundle *b = NULL;
	void *bytes = NULL;
	size_t len = 0;
	CHECK(!wasd_st_open(p->overlay, p->len, &st, NULL));
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (strcmp(keys[i], key) || value)
			wasd_st_writer_meta(w, keys[i], strcmp(keys[i], key) ? wasd_st_meta(st, keys[i]) : value);
	for (size_t i = 0; i < wasd_st_count(st); i++) {
		const struct wasd_st_tensor *t = wasd_st_at(st, i);
		wasd_st_writer_add(w, t->name, t->dtype, t->ndims, t->dims, t->data);
	}
	CHECK(!wasd_st_writer_block(w, &bytes, &len, NULL));
	enum wasd_status s = bundle_of(bytes, len, &b, err);
	CHECK(s ? !b : b != NULL);
	wasd_bundle_unref(b);
	wasd_free(bytes);
	wasd_st_writer_destroy(w);
	wasd_st_close(st);
	return s;
}

static void mode_files_are_checked(void)
{
	static const struct {
		const char *key, *value;
		enum wasd_status status;
	} rows[] = {
		{"kind", "draw", WASD_OK},
		{"format", "wasd-mode-9", WASD_ECORRUPT},
		{"format", "wasd-profile-1", WASD_ECORRUPT}, /* which has other members */
		{"arch", "lenet", WASD_ECORRUPT},
		{"arch", NULL, WASD_ECORRUPT},
		{"kind", "drawn", WASD_ECORRUPT},
		{"kind", NULL, WASD_ECORRUPT},
		{"kind", "plain", WASD_EINVAL}, /* it has no recipe */
		{"recipe", NULL, WASD_ECORRUPT},
		{"recipe", "[", WASD_ECORRUPT},
		{"recipe", "{}", WASD_EINVAL},
	};
	struct made_profile p = ask("{\"desire\":\"draw\",\"draw\":[]}", NULL, NULL);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct wasd_err err = {0};
		enum wasd_status s = changed(&p, rows[i].key, rows[i].value, &err);
		CHECK_MSG(s == rows[i].status, "%s %s: %s (%s)", rows[i].key, rows[i].value ? rows[i].value : "left out",
		          wasd_status_name(s), err.msg);
	}
	profile_done(&p);
}

/* A mode file comes from a database, and once it was a message. */
static void mode_files_are_not_trusted(void)
{
	struct made_profile p = ask("{\"desire\":\"draw\",\"draw\":[]}", NULL, NULL);
	struct wasd_err err = {0};
	struct wasd_bundle *b = NULL;
	CHECK_MSG(!p.status, "%s", p.err.msg);
	for (size_t n = 0; n < p.len; n += n < 64 ? 1 : p.len / 61)
		CHECK(bundle_of(p.overlay, n, &b, &err) == WASD_ECORRUPT && !b);
	CHECK(bundle_of(trained.file, trained.len, &b, &err) == WASD_ECORRUPT && !b);
	CHECK_STR(err.pointer, "format");
	CHECK(wasd_bundle_create(TINY_MODE(p.overlay, p.len, "aom"), &b, &err) == WASD_ECORRUPT && !b);
	for (uint64_t n = 1; n < 4000; n += n < 100 ? 1 : 97) {
		wasd_mem_fail_at(n);
		enum wasd_status s = bundle_of(p.overlay, p.len, &b, &err);
		wasd_mem_fail_at(0);
		CHECK(s ? s == WASD_ENOMEM && !b : b != NULL);
		wasd_bundle_unref(b);
		b = NULL;
	}
	profile_done(&p);
}

/* The benchmark: the requested number of random draws, all within the budget and close to it. */
static void beside_random_draws(void)
{
	cJSON *request = cJSON_Parse("{\"desire\":\"macs\",\"budget\":0.7,\"evaluations\":12}"), *out = NULL;
	struct wasd_err err = {0};
	struct wasd_making o = {.file = trained.file, .len = trained.len, .data = small, .request = request};
	CHECK_MSG(!wasd_profile_compare(&o, 6, &out, &err), "%s", err.msg);
	const cJSON *list = wasd_json_get(out, "random"), *row;
	CHECK_INT(cJSON_GetArraySize(list), 6);
	cJSON_ArrayForEach(row, list)
		CHECK(number(row, "macs_share") <= 0.7 && number(row, "macs_share") > 0.5 && number(row, "accuracy") >= 0);
	CHECK(number(wasd_json_get(out, "searched"), "macs_share") <= 0.7 && number(out, "aom") >= 0 &&
	      number(out, "images") == 16);
	cJSON_Delete(out);
	cJSON_Delete(request);
	request = cJSON_Parse("{\"desire\":\"latency\",\"budget_us\":900}");
	o.request = request;
	CHECK(wasd_profile_compare(&o, 6, &out, &err) == WASD_EINVAL && !strcmp(err.pointer, "/desire"));
	cJSON_Delete(request);
}

int main(void)
{
	char path[96];
	tiny_begin();
	TEST_RUN(search_beats_regular_patterns);
	TEST_RUN(search_within_few_evaluations);
	small = tiny_glyphs("small", 48, 16, 16, path);
	tiny_go(&trained, SPEC, small);
	CHECK_MSG(!trained.status, "%s", trained.err.msg);
	TEST_RUN(within_a_budget_of_macs);
	TEST_RUN(within_a_latency);
	TEST_RUN(what_is_wrong_is_named);
	TEST_RUN(mode_files_are_checked);
	TEST_RUN(mode_files_are_not_trusted);
	TEST_RUN(beside_random_draws);
	tiny_done(&trained);
	wasd_dataset_close(small);
	tiny_end();
	TEST_END();
}
