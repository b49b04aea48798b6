/* SuperWeights against the golden numbers of $WASD_SHARED/strategies/part2.json. */
#include "golden.h"
#include "weights/superweights.h"

static const cJSON *golden;

static double at(const cJSON *list, int i)
{
	const cJSON *v = cJSON_GetArrayItem(list, i);
	return v ? v->valuedouble : NAN;
}

static double number(const cJSON *j, const char *name)
{
	const cJSON *v = wasd_json_get(j, name);
	return v ? v->valuedouble : NAN;
}

/* ---- composition ------------------------------------------------------------------------------------------ */

static void golden_compose(void)
{
	const cJSON *j = wasd_json_get(golden, "compose");
	real t[18], c[3], w[6], dw[6], dt[18] = {0};
	double dc[3] = {0};
	for (int i = 0; i < 18; i++)
		t[i] = (real)((5 * (i / 6) + 3 * (i % 6)) % 7 - 3);
	for (int k = 0; k < 3; k++)
		c[k] = (real)at(wasd_json_get(j, "coeff"), k);
	for (int i = 0; i < 6; i++)
		dw[i] = (real)at(wasd_json_get(j, "dW"), i);
	sw_compose(6, 3, t, 6, c, w);
	sw_compose_back(6, 3, t, 6, c, dw, dt, dc);
	for (int i = 0; i < 6; i++)
		CHECK_NEAR((double)w[i], at(wasd_json_get(j, "W"), i), 0);
	for (int i = 0; i < 18; i++)
		CHECK_NEAR((double)dt[i], at(wasd_json_get(j, "dT"), i), 0);
	for (int k = 0; k < 3; k++)
		CHECK_NEAR(dc[k], at(wasd_json_get(j, "dcoeff"), k), 0);
}

/* Strip 0 is 2x2 with 1 to 4, strip 1 makes it 4x3 with 10 to 17. */
static void golden_strips(void)
{
	const cJSON *w = wasd_json_get(wasd_json_get(golden, "strips"), "W");
	struct sw_layer layer[2] = {{4, 3, 1, 1}, {2, 2, 1, 1}};
	struct sw_plan p;
	real t[12] = {1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17}, got[12] = {0};
	CHECK(sw_plan_init(&p, 2));
	sw_plan_banks(&p, layer);
	CHECK_INT(p.n_strips, 2);
	CHECK_INT(p.strips[0], 2);
	CHECK_INT(p.strips[1], 1);
	CHECK_INT(p.values, 12);
	for (int s = 0; s < p.n_strips; s++)
		for (int o = 0; o < p.strip[s].outs; o++) {
			struct sw_run r = sw_run_of(&p.strip[s], 3, o);
			memcpy(got + r.w, t + p.strip[s].at + r.t, r.n * sizeof *t);
		}
	for (int i = 0; i < 12; i++)
		CHECK_NEAR((double)got[i], at(w, i), 0);
	sw_plan_done(&p);
}

static void orthogonal(void)
{
	static const int sizes[][2] = {{5, 3}, {2, 3}, {3, 3}, {1, 1}, {1, 8}, {8, 1}, {17, 8}};
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "orthogonal", 0, 0);
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		int rows = sizes[s][0], cols = sizes[s][1], n = rows < cols ? rows : cols, len = rows < cols ? cols : rows;
		double m[17 * 8];
		sw_orthogonal(&r, rows, cols, m);
		for (int a = 0; a < n; a++)
			for (int b = 0; b < n; b++) {
				double dot = 0;
				for (int k = 0; k < len; k++)
					dot += rows <= cols ? m[a * cols + k] * m[b * cols + k] : m[k * cols + a] * m[k * cols + b];
				CHECK_NEAR(dot, a == b, 1e-12);
			}
	}
	const cJSON *j = wasd_json_get(golden, "orthogonal");
	CHECK(!golden ||
	      (cJSON_IsTrue(wasd_json_get(j, "5x3_PtP_is_I")) && cJSON_IsTrue(wasd_json_get(j, "2x3_QQt_is_I"))));
}

/* ---- which layers share ------------------------------------------------------------------------------------ */

static void golden_cosine(void)
{
	real a[12], b[8];
	struct sw_layer la = {4, 3, 1, 1}, lb = {2, 4, 1, 1};
	for (int i = 0; i < 12; i++)
		a[i] = (real)((7 * (i / 3) + 5 * (i % 3) + 3) % 9 - 4);
	for (int i = 0; i < 8; i++)
		b[i] = (real)((2 * (i / 4) + 3 * (i % 4) + 1) % 5 - 2);
	double want = number(wasd_json_get(golden, "cos"), "cos_of_crop_2x3");
	CHECK_NEAR(sw_cosine(&la, a, &lb, b), want, 1e-7);
	CHECK_NEAR(sw_cosine(&lb, b, &la, a), want, 1e-7);
	CHECK_NEAR(sw_cosine(&la, a, &la, a), 1, 1e-12);
	CHECK_NEAR(sw_cosine(&la, a, &la, (real[12]){0}), 0, 0);
}

static void golden_queue_of(const char *name)
{
	const cJSON *j = wasd_json_get(golden, name), *row, *want = wasd_json_get(j, "result");
	struct sw_pair pair[8];
	int cluster[4] = {0, 1, 2, 3};
	size_t n = 0;
	cJSON_ArrayForEach(row, wasd_json_get(j, "pairs"))
		pair[n++] = (struct sw_pair){at(row, 0), cJSON_GetArrayItem(row, 1)->valuestring[0] - 'a',
		                             cJSON_GetArrayItem(row, 2)->valuestring[0] - 'a'};
	sw_queue(pair, n, number(j, "threshold"), cluster);
	CHECK(n > 1);
	cJSON_ArrayForEach(row, want)
		CHECK_INT(cluster[row->string[0] - 'a'], row->valueint);
}

static void golden_queues(void)
{
	golden_queue_of("queue");
	golden_queue_of("queue2");
}

/* ---- banks -------------------------------------------------------------------------------------------------- */

enum { LAYERS = 32 };

static int layers_of(const cJSON *j, struct sw_layer layer[LAYERS])
{
	const cJSON *l;
	int n = 0;
	cJSON_ArrayForEach(l, wasd_json_get(j, "layers"))
		layer[n++] = (struct sw_layer){(int)at(l, 0), (int)at(l, 1), (int)at(l, 2), (int)at(l, 3)};
	return n;
}

static void check_banks(const struct sw_plan *p, const cJSON *banks)
{
	int strip = 0;
	CHECK_INT(p->n_strips, cJSON_GetArraySize(banks));
	for (int i = 0; i < p->n_strips; i++) {
		const struct sw_strip *s = &p->strip[i];
		char name[64];
		strip = i && p->strip[i - 1].cluster == s->cluster ? strip + 1 : 0;
		snprintf(name, sizeof name, "_param_group_%d_width_%d", s->cluster, strip);
		const cJSON *b = wasd_json_get(banks, name);
		CHECK_MSG(b, "no bank %s", name);
		CHECK_INT((size_t)s->templates * s->n, number(b, "params"));
		CHECK_INT(s->layers, number(b, "layers"));
		CHECK_INT(s->templates, at(wasd_json_get(b, "candidates"), 0));
		CHECK_INT(s->n, at(wasd_json_get(b, "layer_size"), 0));
	}
}

static void golden_banks(void)
{
	const cJSON *j, *groups;
	int nets = 0;
	cJSON_ArrayForEach(j, wasd_json_get(golden, "banks")) {
		struct sw_layer layer[LAYERS];
		struct sw_plan p;
		int n = layers_of(j, layer), i = 0;
		CHECK(sw_plan_init(&p, n));
		sw_bins(layer, n, 4, p.cluster);
		sw_nest(layer, n, p.cluster);
		sw_plan_banks(&p, layer);
		size_t all = 0;
		for (int k = 0; k < n; k++)
			all += sw_count(&layer[k]);
		CHECK_INT(all, number(j, "fully_parameterised"));
		sw_plan_fill(&p, (size_t)number(j, "max_params"), SW_TEMPLATES);
		CHECK_INT(p.values, number(j, "bank_params"));
		check_banks(&p, wasd_json_get(j, "banks"));
		cJSON_ArrayForEach(groups, wasd_json_get(j, "groups_of_layers")) {
			CHECK_INT(p.strips[i], cJSON_GetArraySize(groups));
			CHECK_INT(p.cluster[i], atoi(cJSON_GetArrayItem(groups, 0)->valuestring));
			CHECK_INT(p.strip[p.first[i]].cluster, p.cluster[i]);
			i++;
		}
		CHECK_INT(i, n);
		sw_plan_done(&p);
		nets++;
	}
	CHECK_INT(nets, 3);
}

/* Shapes of one cluster nest, and every layer's strips are its weights, each once. */
static void strips_cover_a_layer(void)
{
	static const struct sw_layer layer[] = {{8, 3, 3, 3},  {8, 8, 3, 3}, {16, 8, 1, 1}, {8, 16, 1, 1}, {16, 8, 3, 3},
	                                        {8, 16, 3, 3}, {9, 1, 3, 3}, {8, 8, 1, 1},  {16, 16, 3, 3}};
	enum { N = sizeof layer / sizeof *layer };
	struct sw_plan p;
	CHECK(sw_plan_init(&p, N));
	for (int bins = 1; bins <= 12; bins++) {
		sw_bins(layer, N, bins, p.cluster);
		sw_nest(layer, N, p.cluster);
		sw_plan_banks(&p, layer);
		CHECK(p.n_strips <= N);
		for (int l = 0; l < N; l++) {
			int seen[16 * 16 * 9] = {0};
			size_t n = 0;
			for (int s = p.first[l]; s < p.first[l] + p.strips[l]; s++)
				for (int o = 0; o < p.strip[s].outs; o++) {
					struct sw_run r = sw_run_of(&p.strip[s], layer[l].ins, o);
					CHECK(r.t + r.n <= p.strip[s].n && r.w + r.n <= sw_count(&layer[l]));
					for (size_t i = 0; i < r.n; i++)
						seen[r.w + i]++;
					n += r.n;
				}
			CHECK_INT(n, sw_count(&layer[l]));
			for (size_t i = 0; i < sw_count(&layer[l]); i++)
				CHECK(seen[i] == 1);
		}
	}
	sw_plan_done(&p);
}

/* Layers with like gradients share; under a smaller room the threshold falls until the banks fit. */
static void clusters_by_similarity(void)
{
	static const struct sw_layer layer[4] = {{2, 2, 1, 1}, {2, 2, 1, 1}, {3, 2, 1, 1}, {2, 2, 1, 1}};
	static const real g[4][6] = {{1, 2, 3, 4}, {2, 4, 6, 9}, {-1, 2, -3, 4, 5, 6}, {4, -3, 2, -1}};
	static const int bin[4] = {0};
	const real *grad[4] = {g[0], g[1], g[2], g[3]};
	struct sw_pair pair[12];
	struct sw_plan p;
	double threshold;
	size_t n = sw_pairs(layer, 4, bin, grad, pair);
	CHECK_INT(n, 12);
	for (size_t i = 1; i < n; i++)
		CHECK(pair[i - 1].similar >= pair[i].similar);
	CHECK(sw_plan_init(&p, 4));
	CHECK(sw_cluster(&p, layer, pair, n, 100, &threshold));
	CHECK_NEAR(threshold, 0.1, 1e-12);
	CHECK(p.cluster[0] == p.cluster[1] && p.cluster[3] != p.cluster[0]);
	CHECK(sw_cluster(&p, layer, pair, n, 6, &threshold) && threshold < 0 && p.values <= 6);
	CHECK(!sw_cluster(&p, layer, pair, n, 5, &threshold));
	sw_plan_done(&p);
}

int main(void)
{
	cJSON *all = golden_part2();
	golden = wasd_json_get(all, "sw");
	CHECK(!wasd_threads_init(1, NULL));
	TEST_RUN(orthogonal);
	TEST_RUN(strips_cover_a_layer);
	TEST_RUN(clusters_by_similarity);
	if (golden) {
		TEST_RUN(golden_compose);
		TEST_RUN(golden_strips);
		TEST_RUN(golden_cosine);
		TEST_RUN(golden_queues);
		TEST_RUN(golden_banks);
	} else {
		printf("skip golden numbers: ../shared/strategies/part2.json is absent\n");
	}
	cJSON_Delete(all);
	TEST_END();
}
