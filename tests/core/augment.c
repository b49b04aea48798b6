/* The table of augmentations: every row is a function of (seed, epoch, position) alone, with or without the prefetch
 * thread and after a seek; stays in range; suits images of any shape; and changes nothing at strength 0. The colour
 * operations give the numbers of torchvision's formulas. */
#include "augment/augment.h"

#include "augment_golden.h"
#include "tiny.h"

enum { IMAGES = 37, CLASSES = 5, BATCH = 8, BATCHES = (IMAGES + BATCH - 1) / BATCH, EPOCHS = 2 };
static char path[64];
static struct wasd_dataset *data;
static const struct augment_kind *kind; /* the row under test */

static bool make_data(struct wasd_shape shape)
{
	static const char *const names[CLASSES] = {"a", "b", "c", "d", "e"};
	struct wasd_dataset_writer *w = NULL;
	struct wasd_rng r;
	size_t image = wasd_shape_count(shape);
	uint8_t *px = wasd_calloc(image, 1);
	wasd_rng_init(&r, 3, "test", 0, 0);
	wasd_dataset_close(data);
	data = NULL;
	bool ok = !wasd_dataset_writer_create(path, shape, names, CLASSES, "test", &w, NULL);
	for (int i = 0; ok && i <= IMAGES; i++) {
		for (size_t k = 0; k < image; k++)
			px[k] = (uint8_t)wasd_rng_below(&r, 256);
		ok = !wasd_dataset_writer_add(w, i < IMAGES ? WASD_TRAIN : WASD_TEST, px, i % CLASSES, NULL);
	}
	ok = ok && !wasd_dataset_writer_finish(w, NULL);
	wasd_dataset_writer_abort(w);
	wasd_free(px);
	return ok && !wasd_dataset_open(path, &data, NULL);
}

/* Everything that two epochs give. */
struct given {
	size_t image;
	real *x;
	int32_t y[EPOCHS * BATCHES * BATCH];
};

static void take(struct given *g, int at, const struct wasd_batch *b)
{
	memcpy(g->x + (size_t)at * BATCH * g->image, b->x, (size_t)b->n * g->image * sizeof(real));
	memcpy(g->y + at * BATCH, b->y, (size_t)b->n * sizeof *b->y);
}

/* Runs the epochs from batch `from`, and then those before it. */
static void run(const struct augment_list *a, uint64_t seed, bool prefetch, int from, struct given *g)
{
	struct wasd_loader *l;
	struct wasd_err err = {0};
	struct wasd_loader_opts o =
		{.data = data, .batch = BATCH, .shuffle = true, .augment = a, .seed = seed, .prefetch = prefetch};
	memset(g->x, 0, (size_t)EPOCHS * BATCHES * BATCH * g->image * sizeof(real));
	memset(g->y, 0, sizeof g->y);
	if (wasd_loader_create(&o, &l, &err)) {
		CHECK_MSG(0, "%s: %s", kind->name, err.msg);
		return;
	}
	for (int turn = 0; turn < 2; turn++) {
		int begin = turn ? 0 : from, end = turn ? from : EPOCHS * BATCHES;
		wasd_loader_seek(l, (uint64_t)(begin / BATCHES), (uint32_t)(begin % BATCHES));
		for (int at = begin; at < end; at++)
			take(g, at, wasd_loader_next(l));
	}
	wasd_loader_destroy(l);
}

static bool same(const struct given *a, const struct given *b)
{
	return !memcmp(a->x, b->x, (size_t)EPOCHS * BATCHES * BATCH * a->image * sizeof(real)) &&
	       !memcmp(a->y, b->y, sizeof a->y);
}

static bool in_range(const struct given *g)
{
	for (size_t i = 0; i < (size_t)EPOCHS * BATCHES * BATCH * g->image; i++)
		if (!(g->x[i] >= -1 && g->x[i] <= 1))
			return false;
	for (int i = 0; i < EPOCHS * BATCHES * BATCH; i++)
		if (g->y[i] < 0 || g->y[i] >= CLASSES)
			return false;
	return true;
}

/* The row with its defaults; an option that does not suit the shape is at its least value. */
static struct augment_list list_of(struct wasd_shape shape)
{
	struct augment_list a = {0};
	cJSON *j = cJSON_CreateArray();
	cJSON_AddItemToArray(j, cJSON_CreateString(kind->name));
	CHECK(!augment_read(j, "/train/augment", &a, NULL));
	CHECK_INT(a.n, 1);
	cJSON_Delete(j);
	for (int i = 0; augment_check(&a, shape, NULL) && kind->options[i].name; i++)
		a.item[0].option[i] = kind->options[i].min;
	return a;
}

/* Every option that may be 0 is 0. Returns false if there is none. */
static bool weaken(struct augment_list *a)
{
	bool any = false;
	for (int i = 0; kind->options && kind->options[i].name; i++)
		if (kind->options[i].min == 0 && !kind->options[i].above_min) {
			a->item[0].option[i] = 0;
			any = true;
		}
	return any;
}

static void row_keeps_the_rules(void)
{
	static const struct wasd_shape shapes[] = {{3, 16, 16}, {1, 5, 9}, {2, 9, 5}, {3, 2, 2}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		struct given g[4];
		if (!make_data(shapes[i])) {
			CHECK_MSG(0, "no data of %dx%dx%d", shapes[i].c, shapes[i].h, shapes[i].w);
			return;
		}
		struct augment_list a = list_of(shapes[i]);
		for (int k = 0; k < 4; k++) {
			g[k].image = wasd_shape_count(shapes[i]);
			g[k].x = wasd_calloc((size_t)EPOCHS * BATCHES * BATCH * g[k].image, sizeof(real));
		}
		run(&a, 1, false, 0, &g[0]);
		run(NULL, 1, false, 0, &g[3]);
		run(&a, 1, true, 0, &g[1]);
		CHECK_MSG(same(&g[0], &g[1]), "%s differs with the prefetch thread", kind->name);
		run(&a, 1, true, BATCHES + 2, &g[1]);
		CHECK_MSG(same(&g[0], &g[1]), "%s differs after a seek", kind->name);
		run(&a, 2, false, 0, &g[2]);
		CHECK_MSG(i || !same(&g[0], &g[2]), "%s does not depend on the seed", kind->name);
		CHECK_MSG(i || !same(&g[0], &g[3]), "%s changes nothing", kind->name);
		CHECK_MSG(in_range(&g[0]), "%s leaves the range", kind->name);
		if (weaken(&a)) {
			run(&a, 1, false, 0, &g[0]);
			CHECK_MSG(same(&g[0], &g[3]), "%s changes images at strength 0", kind->name);
		}
		for (int k = 0; k < 4; k++)
			wasd_free(g[k].x);
	}
}

static void every_row(void)
{
	for (int i = 0; (kind = augment_kind_at(i)); i++) {
		CHECK(augment_kind_find(kind->name) == kind);
		CHECK_MSG(!kind->image != !kind->batch, "%s has one function", kind->name);
		row_keeps_the_rules();
	}
	CHECK(!augment_kind_at(-1) && !augment_kind_find("blur"));
}

/* The order of a list does not matter, and an augmentation of images that comes later in the table does not change the
 * draws of an earlier one. */
static void lists(void)
{
	static const char *const texts[] = {"[\"flip\",{\"type\":\"crop\",\"pad\":2}]",
	                                    "[{\"type\":\"crop\",\"pad\":2},\"flip\"]"};
	struct augment_list a[2];
	for (int i = 0; i < 2; i++) {
		cJSON *j = cJSON_Parse(texts[i]);
		CHECK(!augment_read(j, "/train/augment", &a[i], NULL));
		cJSON_Delete(j);
		CHECK(a[i].n == 2 && a[i].item[0].kind == &augment_crop && a[i].item[0].option[0] == 2 &&
		      a[i].item[1].kind == &augment_flip);
	}
	static const struct {
		const char *list, *pointer;
	} bad[] = {
		{"{}", "/train/augment"},
		{"[\"blur\"]", "/train/augment/type"},
		{"[3]", "/train/augment/type"},
		{"[\"flip\",\"flip\"]", "/train/augment/type"},
		{"[{\"type\":\"crop\",\"pad\":0}]", "/train/augment/pad"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		cJSON *j = cJSON_Parse(bad[i].list);
		struct wasd_err err = {0};
		CHECK_INT(augment_read(j, "/train/augment", &a[0], &err), WASD_EINVAL);
		CHECK_STR(err.pointer, bad[i].pointer);
		cJSON_Delete(j);
	}
	CHECK_INT(a[0].n, 2);
}

/* Python and C may round a product to either side of a whole number. */
static void colours(void)
{
	for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
		uint8_t px[GOLDEN], spare[GOLDEN];
		struct augment_image x = {px, spare, {GOLDEN_C, GOLDEN_H, GOLDEN_W}, {0}};
		int off = 0;
		memcpy(px, golden_image, GOLDEN);
		golden[i].change(&x, golden[i].by);
		for (int k = 0; k < GOLDEN; k++) {
			off += px[k] != golden[i].px[k];
			CHECK_MSG(abs(px[k] - golden[i].px[k]) <= 1, "%s: value %d is %d, want %d", golden[i].name, k, px[k],
			          golden[i].px[k]);
		}
		CHECK_MSG(off <= 2, "%s: %d values differ", golden[i].name, off);
	}
}

/* Copies of the image below one another, since 255 steps need some pixels. */
static void equalize(void)
{
	static uint8_t px[TILES * GOLDEN], spare[TILES * GOLDEN];
	struct augment_image x = {px, spare, {GOLDEN_C, TILES * GOLDEN_H, GOLDEN_W}, {0}};
	enum { PLANE = GOLDEN_H * GOLDEN_W };
	for (int i = 0; i < TILES * GOLDEN; i++)
		px[i] = golden_image[i / (TILES * PLANE) * PLANE + i % PLANE];
	pixels_equalize(&x, 0);
	for (int i = 0; i < TILES * GOLDEN; i++)
		CHECK_INT(px[i], golden_equalize[i / (TILES * PLANE) * PLANE + i % PLANE]);
}

/* What is covered is a rectangle of the mean colour, at most `size` long; the rest is as it was. */
static void cutout_covers_a_square(void)
{
	enum { S = 9, SIZE = 4 };
	double o[] = {SIZE, 1};
	int whole = 0;
	for (uint64_t seed = 0; seed < 200; seed++) {
		uint8_t px[3 * S * S], spare[3 * S * S];
		struct augment_image x = {px, spare, {3, S, S}, {7, 8, 9}};
		struct wasd_rng r;
		int y0 = S, x0 = S, y1 = -1, x1 = -1, n = 0;
		memset(px, 100, sizeof px);
		wasd_rng_init(&r, seed, "augment", 0, 0);
		augment_cutout.image(o, &r, &x);
		for (int i = 0; i < S * S; i++) {
			if (px[i] == 100)
				continue;
			n++;
			y0 = i / S < y0 ? i / S : y0;
			x0 = i % S < x0 ? i % S : x0;
			y1 = i / S > y1 ? i / S : y1;
			x1 = i % S > x1 ? i % S : x1;
			CHECK(px[i] == 7 && px[S * S + i] == 8 && px[2 * S * S + i] == 9);
		}
		CHECK_INT(n, (y1 - y0 + 1) * (x1 - x0 + 1));
		CHECK(n >= 4 && y1 - y0 < SIZE && x1 - x0 < SIZE);
		whole += n == SIZE * SIZE;
	}
	CHECK_MSG(whole > 50 && whole < 150, "%d of 200 squares are whole", whole);
}

/* Every image of a mixed batch is what its two labels say: with MixUp the weighted mean of image i and image n-1-i of
 * the unmixed batch, with CutMix one or the other at each pixel, in the proportion of the labels. */
static void mixed_batch(const struct augment_kind *k, const struct wasd_batch *m, const struct wasd_batch *b)
{
	size_t image = wasd_shape_count(wasd_dataset_shape(data));
	CHECK_INT(m->n, b->n);
	CHECK(m->other ? m->rest > 0 && m->rest <= 0.5 : m->rest == 0);
	for (int i = 0; i < b->n; i++) {
		int j = b->n - 1 - i;
		const real *own = b->x + (size_t)i * image, *partner = b->x + (size_t)j * image, *x = m->x + (size_t)i * image;
		bool swapped = m->y[i] != b->y[i];
		double share = swapped ? m->rest : 1 - m->rest;
		size_t mine = 0, both = 0;
		CHECK(m->y[i] == b->y[i] || m->y[i] == b->y[j]);
		CHECK(!m->other || m->other[i] == (swapped ? b->y[i] : b->y[j]));
		if (b->y[i] == b->y[j])
			continue; /* which of the two is the first cannot be seen */
		for (size_t v = 0; v < image; v++) {
			double mean = share * (double)own[v] + (1 - share) * (double)partner[v];
			if (k == &augment_mixup)
				CHECK_NEAR(x[v], mean, 1e-5);
			else
				CHECK(x[v] == own[v] || x[v] == partner[v]);
			mine += x[v] == own[v];
			both += own[v] == partner[v];
		}
		if (k == &augment_cutmix && i != j)
			CHECK_NEAR((double)mine / (double)image, share, ((double)both + 1) / (double)image);
	}
}

static void mixes(void)
{
	static const struct augment_kind *const kinds[] = {&augment_mixup, &augment_cutmix};
	static const double alphas[] = {0.01, 0.2, 1, 20};
	CHECK(make_data((struct wasd_shape){3, 12, 10}));
	for (int k = 0; k < 2; k++)
		for (int a = 0; a < 4; a++) {
			struct augment_list list = {1, {{kinds[k], {alphas[a]}}}};
			struct wasd_loader *l[2] = {NULL, NULL};
			double sum = 0;
			int mixed = 0, n = 0;
			for (int i = 0; i < 2; i++) {
				struct wasd_loader_opts o = {.data = data,
				                             .batch = BATCH,
				                             .shuffle = true,
				                             .seed = 4,
				                             .augment = i ? NULL : &list};
				CHECK(!wasd_loader_create(&o, &l[i], NULL));
			}
			for (int i = 0; i < 40 * BATCHES; i++) {
				const struct wasd_batch *m = wasd_loader_next(l[0]);
				mixed_batch(kinds[k], m, wasd_loader_next(l[1]));
				sum += m->rest;
				mixed += m->other != NULL;
				n++;
			}
			/* Of Beta(a,a) the smaller part has a mean of 1/4 for a = 1, less for smaller a, towards 1/2 for larger a.
			 */
			sum /= n;
			if (kinds[k] == &augment_mixup)
				CHECK_MSG(a == 2 ? sum > 0.2 && sum < 0.3 :
				          a < 2  ? sum < 0.15 :
				                   sum > 0.4,
				          "alpha %g: mean %g", alphas[a], sum);
			CHECK_MSG(mixed > 0 || a == 0, "alpha %g mixed nothing", alphas[a]);
			wasd_loader_destroy(l[0]);
			wasd_loader_destroy(l[1]);
		}
}

/* A run that is stopped in the middle of an epoch and resumed has the weights of one that was not. */
static void resume(void)
{
	static const char *const lists[] = {
		"\"color_jitter\",{\"type\":\"cutout\",\"size\":9},\"crop\",\"flip\"",
		"\"randaugment\",\"mixup\"",
		"\"cutmix\",\"mixup\"",
	};
	char file[96], spec[400];
	struct wasd_dataset *glyphs = tiny_glyphs("augment", 96, 16, 32, file);
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		struct tiny_run whole = {0}, cut = {.stop_at = 9}, plain = {0};
		snprintf(spec, sizeof spec,
		         "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":2,\"batch\":16,\"augment\":[%s]}}", lists[i]);
		tiny_go(&whole, spec, glyphs);
		CHECK_MSG(!whole.status && whole.end == WASD_TRAIN_DONE, "%s: %s", lists[i], whole.err.msg);
		tiny_go(&cut, spec, glyphs);
		CHECK_INT(cut.end, WASD_TRAIN_CANCELLED);
		cut.stop_at = 0;
		tiny_go(&cut, spec, glyphs);
		CHECK_MSG(!cut.status && !strcmp(cut.sha, whole.sha), "%s differs after a resume", lists[i]);
		tiny_go(&plain, "{\"model\":{\"arch\":\"lenet\"},\"train\":{\"epochs\":2,\"batch\":16}}", glyphs);
		CHECK_MSG(strcmp(plain.sha, whole.sha), "%s changes nothing", lists[i]);
		tiny_done(&whole);
		tiny_done(&cut);
		tiny_done(&plain);
	}
	wasd_dataset_close(glyphs);
}

int main(void)
{
	struct wasd_err err = {0};
	tiny_begin();
	CHECK_MSG(!wasd_threads_init(2, &err), "%s", err.msg);
	check_temp(path, sizeof path, "wasd-augment");
	close(mkstemp(path));
	TEST_RUN(every_row);
	TEST_RUN(lists);
	TEST_RUN(colours);
	TEST_RUN(equalize);
	TEST_RUN(cutout_covers_a_square);
	TEST_RUN(mixes);
	TEST_RUN(resume);
	wasd_dataset_close(data);
	unlink(path);
	wasd_threads_done();
	tiny_end();
	TEST_END();
}
