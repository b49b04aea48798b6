/* window.c - see window.h. */
#include "serving/window.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FINE_S = 1, FINE = 128, COARSE_S = 30, COARSE = WINDOW_MOST_S / COARSE_S + 2, LEAST_US = 16 };

struct bucket {
	int64_t index; /* of its time span */
	uint32_t count, failed, images, repeated;
	uint32_t total[WINDOW_BINS], queue[WINDOW_BINS], batches[WINDOW_BATCHES];
	double macs;
};

struct window_mode {
	char name[WASD_MODE_LEN];
	struct bucket fine[FINE], coarse[COARSE];
};

/* ---- bins ---- */

/* Bin b has the times up to LEAST_US * 2^(b/4); the last one all above. */
static int bin_of(int64_t us)
{
	if (us <= LEAST_US)
		return 0;
	int b = (int)ceil(4 * log2((double)us / LEAST_US) - 1e-9);
	return b < WINDOW_BINS ? b : WINDOW_BINS - 1;
}

static double bound_of(int bin)
{
	return LEAST_US * exp2(bin / 4.0);
}

/* Batches of 1, 2, 3-4, 5-8, ... */
static int batch_bin(int64_t n)
{
	int b = 0;
	while (b < WINDOW_BATCHES - 1 && n > 1ll << b)
		b++;
	return b;
}

/* ---- adding ---- */

static void count(struct bucket *b, const struct window_request *r)
{
	if (!r->ok) {
		b->failed++;
		return;
	}
	b->count++;
	b->images += (uint32_t)r->images;
	b->repeated += (uint32_t)r->repeated;
	b->macs += r->macs;
	b->total[bin_of(r->total_us)]++;
	b->queue[bin_of(r->queue_us)]++;
	b->batches[batch_bin(r->batch)]++;
}

static struct bucket *at(struct bucket *ring, int n, int64_t index)
{
	struct bucket *b = &ring[index % n];
	if (b->index != index)
		*b = (struct bucket){.index = index};
	return b;
}

void window_add(struct window *w, const char *mode, const struct window_request *r, int64_t now_us)
{
	int i = 0;
	while (i < WINDOW_MODES && w->mode[i] && strcmp(w->mode[i]->name, mode))
		i++;
	if (i == WINDOW_MODES)
		return;
	if (!w->mode[i]) {
		if (!(w->mode[i] = wasd_calloc(1, sizeof *w->mode[i])))
			return;
		snprintf(w->mode[i]->name, sizeof w->mode[i]->name, "%s", mode);
	}
	count(at(w->mode[i]->fine, FINE, now_us / (FINE_S * 1000000ll)), r);
	count(at(w->mode[i]->coarse, COARSE, now_us / (COARSE_S * 1000000ll)), r);
}

/* ---- showing ---- */

static void add_up(const struct bucket *ring, int n, int64_t from, int64_t to, struct bucket *all)
{
	for (int i = 0; i < n; i++) {
		const struct bucket *b = &ring[i];
		if (b->index < from || b->index > to)
			continue;
		all->count += b->count;
		all->failed += b->failed;
		all->images += b->images;
		all->repeated += b->repeated;
		all->macs += b->macs;
		for (int k = 0; k < WINDOW_BINS; k++) {
			all->total[k] += b->total[k];
			all->queue[k] += b->queue[k];
		}
		for (int k = 0; k < WINDOW_BATCHES; k++)
			all->batches[k] += b->batches[k];
	}
}

static void add_quantiles(cJSON *o, const char *name, const uint32_t *bins, uint32_t n)
{
	static const struct {
		const char *name;
		double q;
	} quantiles[] = {{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}};
	cJSON *one = cJSON_AddObjectToObject(o, name);
	for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
		double rank = ceil(quantiles[i].q * n);
		uint32_t seen = 0;
		int b = 0;
		while (b < WINDOW_BINS - 1 && (seen += bins[b]) < rank)
			b++;
		if (n)
			cJSON_AddNumberToObject(one, quantiles[i].name, round(bound_of(b)));
		else
			cJSON_AddNullToObject(one, quantiles[i].name);
	}
}

static void add_mode(cJSON *o, const char *name, const struct bucket *all, double seconds)
{
	cJSON *m = cJSON_AddObjectToObject(o, name);
	cJSON_AddNumberToObject(m, "count", all->count);
	cJSON_AddNumberToObject(m, "failed", all->failed);
	cJSON_AddNumberToObject(m, "rps", all->count / seconds);
	cJSON_AddNumberToObject(m, "images", all->images);
	cJSON_AddNumberToObject(m, "macs", all->macs);
	cJSON_AddNumberToObject(m, "repeated", all->repeated);
	add_quantiles(m, "total_us", all->total, all->count);
	add_quantiles(m, "queue_us", all->queue, all->count);
	cJSON *batches = cJSON_AddArrayToObject(m, "batches");
	for (int i = 0; i < WINDOW_BATCHES; i++) {
		if (!all->batches[i])
			continue;
		cJSON *b = cJSON_CreateObject();
		cJSON_AddNumberToObject(b, "from", i ? (double)((1 << (i - 1)) + 1) : 1);
		if (i < WINDOW_BATCHES - 1)
			cJSON_AddNumberToObject(b, "to", 1 << i);
		else
			cJSON_AddNullToObject(b, "to");
		cJSON_AddNumberToObject(b, "count", all->batches[i]);
		cJSON_AddItemToArray(batches, b);
	}
}

cJSON *window_json(const struct window *w, int64_t seconds, int64_t now_us)
{
	bool fine = seconds < FINE * FINE_S;
	int64_t span_us = (fine ? FINE_S : COARSE_S) * 1000000ll, to = now_us / span_us;
	int64_t from = to - (seconds * 1000000 + span_us - 1) / span_us;
	double covered = (double)(now_us - from * span_us) / 1e6;
	cJSON *o = cJSON_CreateObject();
	cJSON_AddNumberToObject(o, "seconds", round(covered * 1000) / 1000);
	cJSON *modes = cJSON_AddObjectToObject(o, "modes");
	for (int i = 0; i < WINDOW_MODES && w->mode[i]; i++) {
		struct bucket all = {0};
		if (fine)
			add_up(w->mode[i]->fine, FINE, from, to, &all);
		else
			add_up(w->mode[i]->coarse, COARSE, from, to, &all);
		if (all.count || all.failed)
			add_mode(modes, w->mode[i]->name, &all, covered);
	}
	return o;
}

void window_done(struct window *w)
{
	for (int i = 0; i < WINDOW_MODES; i++)
		wasd_free(w->mode[i]);
	*w = (struct window){{NULL}};
}
