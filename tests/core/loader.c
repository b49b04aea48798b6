/* The loader: order and augmentation are functions of (seed, epoch, position), with or without the prefetch thread. */
#include "augment/augment.h"
#include "check.h"
#include "wasd/data.h"

#include <stdio.h>
#include <unistd.h>

enum { N_TRAIN = 23, N_TEST = 5, C = 2, H = 6, W = 8, IMAGE = C * H * W };
static char path[64];
static struct wasd_dataset *data;

static uint8_t pixel(size_t i, int k)
{
	return (uint8_t)(i * 37 + (size_t)k * 5 + 1);
}

static bool make_data(void)
{
	struct wasd_dataset_writer *w;
	uint8_t p[IMAGE];
	check_temp(path, sizeof path, "wasd-loader");
	close(mkstemp(path));
	if (wasd_dataset_writer_create(path, (struct wasd_shape){C, H, W}, (const char *[]){"a", "b", "c"}, 3, "test", &w,
	                               NULL))
		return false;
	bool ok = true;
	for (size_t i = 0; i < N_TRAIN + N_TEST; i++) {
		for (int k = 0; k < IMAGE; k++)
			p[k] = pixel(i, k);
		ok = ok && !wasd_dataset_writer_add(w, i < N_TRAIN ? WASD_TRAIN : WASD_TEST, p, (int)(i % 3), NULL);
	}
	ok = ok && !wasd_dataset_writer_finish(w, NULL);
	wasd_dataset_writer_abort(w);
	return ok && !wasd_dataset_open(path, &data, NULL);
}

static struct wasd_loader *loader(struct wasd_loader_opts o)
{
	struct wasd_loader *l = NULL;
	struct wasd_err err = {0};
	o.data = data;
	CHECK_MSG(!wasd_loader_create(&o, &l, &err), "%s", err.msg);
	return l;
}

/* Index of the training image in a sample (its first value is unique), -1 if none. */
static int which(const real *x)
{
	for (size_t i = 0; i < N_TRAIN; i++)
		if (fabs((double)x[0] - ((pixel(i, 0) / 255.0 - 0.5) / 0.5)) < 1e-6)
			return (int)i;
	return -1;
}

static void plain_order(void)
{
	struct wasd_loader *l = loader((struct wasd_loader_opts){.batch = 4, .split = WASD_TEST});
	CHECK_INT(wasd_loader_batches(l), 2);
	for (int turn = 0; turn < 4; turn++) {
		const struct wasd_batch *b = wasd_loader_next(l);
		CHECK_INT(b->n, turn % 2 ? 1 : 4);
		CHECK_INT(b->epoch, turn / 2);
		CHECK_INT(b->index, turn % 2);
		CHECK_INT(b->last, turn % 2);
		for (int i = 0; i < b->n; i++) {
			size_t at = N_TRAIN + (size_t)(turn % 2 * 4 + i);
			CHECK_INT(b->y[i], at % 3);
			for (int k = 0; k < IMAGE; k++)
				CHECK_NEAR(b->x[i * IMAGE + k], (pixel(at, k) / 255.0 - 0.5) / 0.5, 1e-6);
		}
	}
	wasd_loader_destroy(l);
}

static void epochs_are_permutations(void)
{
	struct wasd_loader *l = loader((struct wasd_loader_opts){.batch = 5, .shuffle = true, .seed = 9, .prefetch = true});
	int order[3][N_TRAIN];
	for (int e = 0; e < 3; e++) {
		int seen[N_TRAIN] = {0}, at = 0;
		for (uint32_t k = 0; k < wasd_loader_batches(l); k++) {
			const struct wasd_batch *b = wasd_loader_next(l);
			CHECK_INT(b->epoch, e);
			for (int i = 0; i < b->n; i++) {
				int id = which(b->x + i * IMAGE);
				CHECK(id >= 0);
				if (id < 0)
					continue;
				CHECK_INT(b->y[i], id % 3);
				seen[id]++;
				order[e][at++] = id;
			}
		}
		CHECK_INT(at, N_TRAIN);
		for (int i = 0; i < N_TRAIN; i++)
			CHECK_INT(seen[i], 1);
	}
	CHECK(memcmp(order[0], order[1], sizeof order[0]) && memcmp(order[1], order[2], sizeof order[0]));
	wasd_loader_destroy(l);
	/* The permutation is the run's generator applied to 0..n-1. */
	uint32_t v[N_TRAIN];
	struct wasd_rng r;
	for (uint32_t i = 0; i < N_TRAIN; i++)
		v[i] = i;
	wasd_rng_init(&r, 9, "shuffle", 2, 0);
	wasd_rng_shuffle(&r, v, N_TRAIN);
	for (int i = 0; i < N_TRAIN; i++)
		CHECK_INT(order[2][i], v[i]);
}

static const struct augment_list flip_and_crop = {2, {{&augment_crop, {2}}, {&augment_flip, {0}}}};
static const struct wasd_loader_opts full = {.batch = 4, .shuffle = true, .augment = &flip_and_crop, .seed = 77};

/* Prefetch changes nothing, and a loader moved to (epoch, batch) continues like one that got there step by step. */
static void seek_resumes(void)
{
	enum { BATCHES = 6, ALL = 3 * BATCHES };
	static real x[ALL][4 * IMAGE];
	struct wasd_loader_opts o = full;
	struct wasd_loader *l = loader(o);
	for (int k = 0; k < ALL; k++) {
		const struct wasd_batch *b = wasd_loader_next(l);
		memcpy(x[k], b->x, (size_t)b->n * IMAGE * sizeof(real));
	}
	wasd_loader_destroy(l);
	for (int prefetch = 0; prefetch < 2; prefetch++) {
		o.prefetch = prefetch;
		l = loader(o);
		struct wasd_rng r;
		wasd_rng_init(&r, 1, "test", 0, 0);
		for (int turn = 0; turn < 200; turn++) {
			int k = (int)wasd_rng_below(&r, ALL), run = (int)wasd_rng_below(&r, 5);
			wasd_loader_seek(l, (uint64_t)(k / BATCHES), (uint32_t)(k % BATCHES));
			if (wasd_rng_below(&r, 4) == 0)
				wasd_loader_seek(l, (uint64_t)(k / BATCHES), (uint32_t)(k % BATCHES));
			for (; run-- && k < ALL; k++) {
				const struct wasd_batch *b = wasd_loader_next(l);
				CHECK_INT(b->epoch, k / BATCHES);
				CHECK_INT(b->index, k % BATCHES);
				CHECK(!memcmp(x[k], b->x, (size_t)b->n * IMAGE * sizeof(real)));
			}
		}
		wasd_loader_seek(l, 1, BATCHES); /* one past the last */
		CHECK_INT(wasd_loader_next(l)->epoch, 2);
		wasd_loader_destroy(l);
	}
}

/* Every augmented image is one of the 2 * 5 * 5 flips and shifts of its source, and all of them occur. */
static void augmentation(void)
{
	struct wasd_loader_opts o = full;
	o.shuffle = false;
	struct wasd_loader *l = loader(o);
	int seen[2][5][5] = {0}, kinds = 0, total = 0, flipped = 0;
	for (int k = 0; k < 60 * 6; k++) {
		const struct wasd_batch *b = wasd_loader_next(l);
		for (int i = 0; i < b->n; i++) {
			size_t id = (size_t)b->index * 4 + (size_t)i;
			int hits = 0;
			for (int t = 0; t < 50; t++) {
				int f = t / 25, dy = t / 5 % 5 - 2, dx = t % 5 - 2;
				bool same = true;
				for (int c = 0; c < C && same; c++)
					for (int y = 0; y < H && same; y++)
						for (int j = 0; j < W && same; j++) {
							int sy = y + dy, sx = (f ? W - 1 - j : j) + dx;
							double v = sy < 0 || sy >= H || sx < 0 || sx >= W ? 0 : pixel(id, (c * H + sy) * W + sx);
							same = fabs((double)b->x[(((size_t)i * C + (size_t)c) * H + (size_t)y) * W + (size_t)j] -
							            (v / 255 - 0.5) / 0.5) < 1e-6;
						}
				if (same) {
					hits++;
					kinds += !seen[f][dy + 2][dx + 2]++;
					flipped += f;
				}
			}
			CHECK_INT(hits, 1);
			total++;
		}
	}
	CHECK_INT(kinds, 50);
	CHECK_MSG(abs(flipped - total / 2) < 5 * sqrt(total) / 2, "%d of %d flipped", flipped, total);
	wasd_loader_destroy(l);
}

static void subset(void)
{
	uint32_t few[] = {20, 3, 11};
	struct wasd_loader *l = loader((struct wasd_loader_opts){.batch = 100, .subset = few, .n_subset = 3});
	const struct wasd_batch *b = wasd_loader_next(l);
	CHECK_INT(b->n, 3);
	CHECK(b->last);
	for (int i = 0; i < 3; i++)
		CHECK_INT(which(b->x + i * IMAGE), few[i]);
	wasd_loader_destroy(l);
}

static void refuses(void)
{
	struct wasd_loader *l = NULL;
	struct wasd_err err;
	uint32_t bad[] = {0, N_TRAIN};
	static const struct augment_list too_far = {1, {{&augment_crop, {H}}}};
	struct wasd_loader_opts rows[] = {
		{.data = data, .batch = 0},
		{.data = data, .batch = 4, .augment = &too_far},
		{.data = data, .batch = 4, .subset = bad, .n_subset = 2},
		{.data = data, .batch = 4, .subset = bad, .n_subset = 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		CHECK_INT(wasd_loader_create(&rows[i], &l, &err), WASD_EINVAL);
	CHECK(!l);
	wasd_loader_destroy(NULL);
}

static void allocates_nothing(void)
{
	for (int prefetch = 0; prefetch < 2; prefetch++) {
		struct wasd_loader_opts o = full;
		o.prefetch = prefetch;
		struct wasd_mem_stats start = wasd_mem_stats();
		struct wasd_loader *l = loader(o);
		struct wasd_mem_stats a = wasd_mem_stats();
		for (int k = 0; k < 100; k++)
			wasd_loader_next(l);
		struct wasd_mem_stats b = wasd_mem_stats();
		CHECK(a.allocs == b.allocs && a.frees == b.frees);
		wasd_loader_destroy(l);
		b = wasd_mem_stats();
		CHECK_INT(b.allocs - start.allocs, b.frees - start.frees);
	}
	struct wasd_loader_opts o = full;
	o.data = data;
	for (uint64_t n = 1; n < 20; n++) {
		struct wasd_loader *l = NULL;
		wasd_mem_fail_at(n);
		enum wasd_status s = wasd_loader_create(&o, &l, NULL);
		wasd_mem_fail_at(0);
		wasd_loader_destroy(l);
		if (!s) {
			CHECK(n > 3);
			return;
		}
		CHECK_INT(s, WASD_ENOMEM);
	}
	CHECK_MSG(0, "creation never succeeded");
}

int main(void)
{
	if (!make_data())
		return 1;
	TEST_RUN(plain_order);
	TEST_RUN(epochs_are_permutations);
	TEST_RUN(seek_resumes);
	TEST_RUN(augmentation);
	TEST_RUN(subset);
	TEST_RUN(refuses);
	TEST_RUN(allocates_nothing);
	wasd_dataset_close(data);
	unlink(path);
	TEST_END();
}
