/* loader.c - batches for training, in an order that depends only on (seed, epoch, position).
 *
 * Epoch e visits the images in the permutation of stream ("shuffle", e). The augmentation of the image at position p is
 * drawn from stream ("augment", e, p). So a loader has no history: seek(epoch, batch) continues exactly where another
 * loader stopped.
 *
 * With prefetch, a thread fills the next batch while the caller works on the current one. There are two slots, each in
 * one state:
 *
 *     FREE -> FILLING -> READY -> HELD -> FREE          FILLING (thread), READY (waiting), HELD (lent by next())
 *
 * Invariants, under `lock`: at most one slot is FILLING and at most one HELD. The thread fills batch `pos` and then
 * advances it. A seek bumps `generation`, and a batch whose filling began under an older generation is dropped. Without
 * prefetch the caller fills slot 0 itself. next() never allocates. */
#include "augment/augment.h"
#include "wasd/data.h"
#include "wasd/pixel.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum slot_state { FREE, FILLING, READY, HELD };

struct position {
	uint64_t epoch;
	uint32_t batch;
};

struct slot {
	real *x;
	int32_t *y, *other;
	struct wasd_batch batch;
	enum slot_state state;
};

struct wasd_loader {
	struct wasd_loader_opts o;
	struct wasd_shape shape;
	size_t n, image; /* images per epoch, values per image */
	uint32_t batches;
	real value[3][256];           /* of each channel */
	struct augment_image scratch; /* used by the filler; empty if no augmentation changes single images */
	uint32_t *order;
	uint64_t order_epoch;
	bool order_valid; /* the filler's permutation of one epoch */
	struct slot slot[2];
	struct position pos; /* next batch to fill */
	uint64_t stall_us;
	/* used only with prefetch */
	bool running, stop;
	uint64_t generation;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t filled, freed;
};

/* ---- filling one batch ---------------------------------------------------------------- */

static void order_epoch(struct wasd_loader *l, uint64_t epoch)
{
	if (l->order_valid && (l->order_epoch == epoch || !l->o.shuffle))
		return;
	for (size_t i = 0; i < l->n; i++)
		l->order[i] = l->o.subset ? l->o.subset[i] : (uint32_t)i;
	if (l->o.shuffle) {
		struct wasd_rng r;
		wasd_rng_init(&r, l->o.seed, "shuffle", epoch, 0);
		wasd_rng_shuffle(&r, l->order, l->n);
	}
	l->order_epoch = epoch;
	l->order_valid = true;
}

/* The image as it is, or a copy that the augmentations of its place in the epoch have changed. */
static const uint8_t *augmented(struct wasd_loader *l, const uint8_t *src, uint64_t epoch, size_t position)
{
	if (!l->scratch.px)
		return src;
	struct wasd_rng r;
	wasd_rng_init(&r, l->o.seed, "augment", epoch, position);
	memcpy(l->scratch.px, src, l->image);
	augment_image(l->o.augment, &r, &l->scratch);
	return l->scratch.px;
}

static void mix(const struct wasd_loader *l, struct slot *s)
{
	struct wasd_rng r;
	struct augment_batch b = {.x = s->x, .y = s->y, .other = s->other, .n = s->batch.n, .shape = l->shape};
	wasd_rng_init(&r, l->o.seed, "mix", s->batch.epoch, s->batch.index);
	augment_batch(l->o.augment, &r, &b);
	s->batch.other = b.rest > 0 ? s->other : NULL;
	s->batch.rest = b.rest;
}

static void fill(struct wasd_loader *l, struct slot *s, struct position p)
{
	size_t first = (size_t)p.batch * (size_t)l->o.batch, left = l->n - first;
	int n = left < (size_t)l->o.batch ? (int)left : l->o.batch;
	size_t plane = (size_t)l->shape.h * (size_t)l->shape.w;
	order_epoch(l, p.epoch);
	for (int i = 0; i < n; i++) {
		uint32_t k = l->order[first + (size_t)i];
		const uint8_t *px = augmented(l, wasd_dataset_image(l->o.data, l->o.split, k), p.epoch, first + (size_t)i);
		real *x = s->x + (size_t)i * l->image;
		for (int c = 0; c < l->shape.c; c++)
			for (size_t v = 0; v < plane; v++)
				*x++ = l->value[c][*px++];
		s->y[i] = wasd_dataset_label(l->o.data, l->o.split, k);
	}
	s->batch = (struct wasd_batch){.x = s->x,
	                               .y = s->y,
	                               .n = n,
	                               .epoch = p.epoch,
	                               .index = p.batch,
	                               .last = p.batch + 1 == l->batches};
	if (s->other)
		mix(l, s);
}

static void advance(const struct wasd_loader *l, struct position *p)
{
	if (++p->batch == l->batches) {
		p->batch = 0;
		p->epoch++;
	}
}

/* ---- the prefetch thread ---------------------------------------------------------------- */

static struct slot *find(struct wasd_loader *l, enum slot_state state)
{
	for (int i = 0; i < 2; i++)
		if (l->slot[i].state == state)
			return &l->slot[i];
	return NULL;
}

/* Fills one slot ahead, never two: the READY slot must hold the very next batch. */
static void *prefetch(void *arg)
{
	struct wasd_loader *l = arg;
	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		struct slot *s = find(l, READY) ? NULL : find(l, FREE);
		if (!s) {
			pthread_cond_wait(&l->freed, &l->lock);
			continue;
		}
		uint64_t generation = l->generation;
		struct position p = l->pos;
		s->state = FILLING;
		pthread_mutex_unlock(&l->lock);
		fill(l, s, p);
		pthread_mutex_lock(&l->lock);
		if (generation != l->generation) {
			s->state = FREE;
			continue;
		}
		s->state = READY;
		advance(l, &l->pos);
		pthread_cond_signal(&l->filled);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static enum wasd_status start_thread(struct wasd_loader *l, struct wasd_err *err)
{
	sigset_t all, old;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->filled, NULL);
	pthread_cond_init(&l->freed, NULL);
	sigfillset(&all); /* the main thread handles signals */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int e = pthread_create(&l->thread, NULL, prefetch, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!e) {
		l->running = true;
		return WASD_OK;
	}
	pthread_cond_destroy(&l->freed);
	pthread_cond_destroy(&l->filled);
	pthread_mutex_destroy(&l->lock);
	return wasd_fail_errno(err, e == EAGAIN ? ENOMEM : e, "loader: prefetch thread");
}

/* ---- public ------------------------------------------------------------------------------- */

static enum wasd_status check(const struct wasd_loader_opts *o, size_t n, struct wasd_err *err)
{
	size_t all = wasd_dataset_count(o->data, o->split);
	if (o->batch < 1)
		return wasd_fail(err, WASD_EINVAL, "loader: batch %d; must be at least 1", o->batch);
	if (!n)
		return wasd_fail(err, WASD_EINVAL, "loader: no images");
	for (size_t i = 0; o->subset && i < n; i++)
		if (o->subset[i] >= all)
			return wasd_fail(err, WASD_EINVAL, "loader: the subset contains image %u, but there are only %zu",
			                 o->subset[i], all);
	return o->augment ? augment_check(o->augment, wasd_dataset_shape(o->data), err) : WASD_OK;
}

/* The mean colour is what the pixels of the data set average to, rounded. */
static bool create_scratch(struct wasd_loader *l)
{
	double mean[3], std[3];
	wasd_dataset_moments(l->o.data, mean, std);
	l->scratch.shape = l->shape;
	for (int c = 0; c < 3; c++)
		l->scratch.mean[c] = (uint8_t)(mean[c] * 255 + 0.5);
	return (l->scratch.px = wasd_calloc(l->image, 1)) && (l->scratch.spare = wasd_calloc(l->image, 1));
}

enum wasd_status wasd_loader_create(const struct wasd_loader_opts *o, struct wasd_loader **out, struct wasd_err *err)
{
	size_t n = o->subset ? o->n_subset : wasd_dataset_count(o->data, o->split), per_batch;
	enum wasd_status s = check(o, n, err);
	if (s)
		return s;
	struct wasd_loader *l = wasd_calloc(1, sizeof *l);
	if (!l)
		return wasd_fail(err, WASD_ENOMEM, "loader: no memory");
	l->o = *o;
	l->n = n;
	l->shape = wasd_dataset_shape(o->data);
	l->image = wasd_shape_count(l->shape);
	l->batches = (uint32_t)((n + (size_t)o->batch - 1) / (size_t)o->batch);
	for (int c = 0; c < 3; c++)
		wasd_pixels_table(o->pixels ? o->pixels : &wasd_pixels_half, c, l->value[c]);
	size_t most = (size_t)o->batch < n ? (size_t)o->batch : n; /* a batch larger than the set holds the whole set */
	bool ok = (l->order = wasd_calloc(n, sizeof *l->order)) && wasd_mul_size(most, l->image, &per_batch);
	for (int i = 0; ok && i <= o->prefetch; i++)
		ok = (l->slot[i].x = wasd_alloc_aligned(per_batch, sizeof(real))) &&
		     (l->slot[i].y = wasd_calloc(most, sizeof(int32_t))) &&
		     (!o->augment || !augment_mixes(o->augment) || (l->slot[i].other = wasd_calloc(most, sizeof(int32_t))));
	if (ok && l->o.augment && augment_changes_images(l->o.augment))
		ok = create_scratch(l);
	s = ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "loader: no memory for batches of %zu images", most);
	if (!s && o->prefetch)
		s = start_thread(l, err);
	if (s) {
		wasd_loader_destroy(l);
		return s;
	}
	*out = l;
	return WASD_OK;
}

void wasd_loader_destroy(struct wasd_loader *l)
{
	if (!l)
		return;
	if (l->running) {
		pthread_mutex_lock(&l->lock);
		l->stop = true;
		pthread_cond_signal(&l->freed);
		pthread_mutex_unlock(&l->lock);
		pthread_join(l->thread, NULL);
		pthread_cond_destroy(&l->freed);
		pthread_cond_destroy(&l->filled);
		pthread_mutex_destroy(&l->lock);
	}
	for (int i = 0; i < 2; i++) {
		wasd_free(l->slot[i].x);
		wasd_free(l->slot[i].y);
		wasd_free(l->slot[i].other);
	}
	wasd_free(l->scratch.px);
	wasd_free(l->scratch.spare);
	wasd_free(l->order);
	wasd_free(l);
}

void wasd_loader_seek(struct wasd_loader *l, uint64_t epoch, uint32_t batch)
{
	struct position p = {epoch + batch / l->batches,
	                     batch % l->batches}; /* one past the last batch is the first of the next epoch */
	if (!l->running) {
		l->pos = p;
		return;
	}
	pthread_mutex_lock(&l->lock);
	struct slot *ready = find(l, READY);
	if (ready)
		ready->state = FREE;
	l->generation++;
	l->pos = p;
	pthread_cond_signal(&l->freed);
	pthread_mutex_unlock(&l->lock);
}

static const struct wasd_batch *next_prefetched(struct wasd_loader *l)
{
	struct slot *s;
	pthread_mutex_lock(&l->lock);
	if ((s = find(l, HELD))) {
		s->state = FREE;
		pthread_cond_signal(&l->freed);
	}
	if (!(s = find(l, READY))) {
		int64_t t0 = wasd_mono_us();
		while (!(s = find(l, READY)))
			pthread_cond_wait(&l->filled, &l->lock);
		l->stall_us += (uint64_t)(wasd_mono_us() - t0);
	}
	s->state = HELD;
	pthread_cond_signal(&l->freed);
	pthread_mutex_unlock(&l->lock);
	return &s->batch;
}

const struct wasd_batch *wasd_loader_next(struct wasd_loader *l)
{
	if (l->running)
		return next_prefetched(l);
	int64_t t0 = wasd_mono_us();
	fill(l, &l->slot[0], l->pos);
	advance(l, &l->pos);
	l->stall_us += (uint64_t)(wasd_mono_us() - t0);
	return &l->slot[0].batch;
}

uint32_t wasd_loader_batches(const struct wasd_loader *l)
{
	return l->batches;
}
uint64_t wasd_loader_stall_us(const struct wasd_loader *l)
{
	return l->stall_us;
}
