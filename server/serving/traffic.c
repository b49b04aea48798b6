/* traffic.c - see traffic.h. */
#include "serving/traffic.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LEAST_OVER = 3, HOLD_MAX = 8 };
static const double HEADROOM = 0.8; /* most of its time that AOM may be busy by the forecast */

/* ---- the policy ---------------------------------------------------------------------------------------------- */

static void copy_mode(const cJSON *o, const char *name, char out[WASD_MODE_LEN])
{
	const char *v;
	if (wasd_json_str(o, name, &v))
		snprintf(out, WASD_MODE_LEN, "%s", v);
}

static void read_split(const cJSON *split, struct traffic_policy *out)
{
	const cJSON *one;
	cJSON_ArrayForEach(one, split) {
		int64_t weight = cJSON_IsNumber(one) ? (int64_t)one->valuedouble : 0;
		if (weight < 1 || out->n_split == TRAFFIC_SPLIT_MAX || !wasd_mode_ok(one->string))
			continue;
		struct traffic_share *s = &out->split[out->n_split++];
		snprintf(s->mode, sizeof s->mode, "%s", one->string);
		s->weight = weight;
	}
}

void traffic_policy_read(const cJSON *traffic, struct traffic_policy *out)
{
	const cJSON *shadow = wasd_json_get(traffic, "shadow"), *a = wasd_json_get(traffic, "auto"),
				*cascade = wasd_json_get(traffic, "cascade");
	const char *header;
	int64_t ms;
	*out = (struct traffic_policy){.brownout = {WASD_MODE_DOM, 50000, 2000000, 5000000},
	                               .cascade = {.cheap = WASD_MODE_DOM, .threshold = -1}};
	read_split(wasd_json_get(traffic, "split"), out);
	if (wasd_json_str(traffic, "sticky_header", &header))
		for (size_t i = 0; header[i] && i < TRAFFIC_HEADER_MAX; i++)
			out->sticky_header[i] = (char)(header[i] >= 'A' && header[i] <= 'Z' ? header[i] - 'A' + 'a' : header[i]);
	copy_mode(shadow, "mode", out->shadow.mode);
	wasd_json_num(shadow, "percent", &out->shadow.percent);
	wasd_json_i64(shadow, "examples", &out->shadow.examples);
	copy_mode(a, "cheap", out->brownout.cheap);
	wasd_json_i64(a, "target_p99_us", &out->brownout.target_us);
	if (wasd_json_i64(a, "window_ms", &ms) && ms > 0)
		out->brownout.window_us = ms * 1000;
	if (wasd_json_i64(a, "hold_ms", &ms) && ms > 0)
		out->brownout.hold_us = ms * 1000;
	copy_mode(cascade, "cheap", out->cascade.cheap);
	wasd_json_num(cascade, "keep", &out->cascade.keep);
	wasd_json_num(cascade, "threshold", &out->cascade.threshold);
}

/* {"checkpoint","cheap","keep","threshold",...}: what cascade:tune found. It counts if it is for this checkpoint, cheap
 * mode and share. */
static bool tuned_for(const cJSON *tuned, const char *checkpoint, const struct traffic_policy *p)
{
	const char *on, *cheap;
	double keep;
	return checkpoint && wasd_json_str(tuned, "checkpoint", &on) && !strcmp(on, checkpoint) &&
	       wasd_json_str(tuned, "cheap", &cheap) && !strcmp(cheap, p->cascade.cheap) &&
	       wasd_json_num(tuned, "keep", &keep) && p->cascade.keep >= keep && p->cascade.keep <= keep;
}

static cJSON *parse(const char *options)
{
	cJSON *o = NULL;
	if (options)
		wasd_json_parse(options, strlen(options), WASD_JSON_REQUEST, &o, NULL);
	return o;
}

void traffic_policy_of(const char *options, const char *checkpoint, struct traffic_policy *out)
{
	cJSON *o = parse(options);
	const cJSON *tuned = wasd_json_get(o, "tuned");
	traffic_policy_read(wasd_json_get(o, "traffic"), out);
	if (out->cascade.keep > 0 && tuned_for(tuned, checkpoint, out))
		wasd_json_num(tuned, "threshold", &out->cascade.threshold);
	cJSON_Delete(o);
}

bool traffic_tuning_failed(const char *options, const char *checkpoint)
{
	struct traffic_policy p;
	cJSON *o = parse(options);
	const cJSON *tuned = wasd_json_get(o, "tuned");
	traffic_policy_read(wasd_json_get(o, "traffic"), &p);
	bool failed = tuned_for(tuned, checkpoint, &p) && wasd_json_get(tuned, "failed");
	cJSON_Delete(o);
	return failed;
}

/* ---- the split ------------------------------------------------------------------------------------------------- */

/* A number in [0, 1) from the bytes of a header's value: FNV-1a, then the finisher of splitmix64, since FNV alone mixes
 * the last bytes too little. The same in every build, so that users keep their mode. */
static double point_of(const char *value)
{
	uint64_t h = 1469598103934665603u;
	for (const unsigned char *c = (const unsigned char *)value; *c; c++)
		h = (h ^ *c) * 1099511628211u;
	h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
	h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
	return (double)((h ^ (h >> 31)) >> 11) * 0x1p-53;
}

const char *traffic_split(const struct traffic_policy *p, struct traffic_turns *t, const char *value)
{
	int64_t total = 0, before = 0;
	int next = 0;
	for (int i = 0; i < p->n_split; i++)
		total += p->split[i].weight;
	if (value) {
		double at = point_of(value) * (double)total;
		while (next < p->n_split - 1 && at >= (double)(before += p->split[next].weight))
			next++;
		return p->split[next].mode;
	}
	for (int i = 0; i < p->n_split; i++) {
		t->behind[i] += p->split[i].weight;
		if (t->behind[i] > t->behind[next])
			next = i;
	}
	t->behind[next] -= total;
	return p->split[next].mode;
}

bool traffic_sample(double *owed, double percent)
{
	*owed += percent;
	if (*owed < 100)
		return false;
	*owed -= 100;
	return true;
}

/* ---- auto ------------------------------------------------------------------------------------------------------ */

static int64_t span_us(const struct traffic_auto *a)
{
	int64_t us = a->window_us / AUTO_SLICES;
	return us > 0 ? us : 1;
}

/* The slice of this moment; an old one at its place is emptied. */
static struct traffic_slice *slice_at(const struct traffic_auto *a, struct traffic_load *l, int64_t now_us)
{
	int64_t index = now_us / span_us(a);
	struct traffic_slice *s = &l->slice[index % (AUTO_SLICES + 1)];
	if (s->index != index)
		*s = (struct traffic_slice){.index = index};
	return s;
}

static struct traffic_slice sum(const struct traffic_auto *a, const struct traffic_load *l, int64_t now_us)
{
	struct traffic_slice all = {0};
	int64_t index = now_us / span_us(a);
	for (int i = 0; i <= AUTO_SLICES; i++) {
		const struct traffic_slice *s = &l->slice[i];
		if (s->index > index || s->index < index - AUTO_SLICES)
			continue;
		all.images += s->images;
		all.waits += s->waits;
		all.over += s->over;
		all.over_half += s->over_half;
	}
	return all;
}

void traffic_arrived(const struct traffic_auto *a, struct traffic_load *l, int64_t images, int64_t now_us)
{
	slice_at(a, l, now_us)->images += images;
}

void traffic_waited(const struct traffic_auto *a, struct traffic_load *l, int64_t wait_us, int64_t now_us)
{
	struct traffic_slice *s = slice_at(a, l, now_us);
	s->waits++;
	s->over += wait_us > a->target_us;
	s->over_half += wait_us > a->target_us / 2;
}

/* A moving mean over about the last 64 images: single large batches count more than single images. */
void traffic_computed(struct traffic_load *l, bool cheap, int64_t images, int64_t us)
{
	if (images < 1 || us < 1)
		return;
	double one = (double)us / (double)images, share = fmin(1, (double)images / 64);
	double *cost = &l->cost[cheap];
	*cost = *cost > 0 ? *cost + (one - *cost) * share : one;
}

static bool too_many(int64_t over, int64_t of)
{
	return over >= LEAST_OVER && over * 100 > of;
}

double traffic_utilisation(const struct traffic_auto *a, const struct traffic_load *l, int64_t now_us)
{
	if (l->cost[0] <= 0)
		return -1;
	/* The span that is being filled is part of the sum, so the sum covers a little more than the window. */
	int64_t covered = AUTO_SLICES * span_us(a) + now_us % span_us(a);
	return (double)sum(a, l, now_us).images * l->cost[0] / (double)covered;
}

static void switch_to(struct traffic_load *l, bool cheap, int64_t now_us)
{
	l->cheap = cheap;
	l->since_us = now_us;
	l->calm_us = 0;
	l->switches++;
	for (int i = 0; i <= AUTO_SLICES; i++) /* what waited under the other mode says nothing about this one */
		l->slice[i].waits = l->slice[i].over = l->slice[i].over_half = 0;
}

static bool overloaded(const struct traffic_auto *a, struct traffic_load *l, int64_t now_us, char why[200])
{
	struct traffic_slice all = sum(a, l, now_us);
	if (!too_many(all.over, all.waits))
		return false;
	bool again = l->returned_us && now_us - l->returned_us < 4 * l->hold_us;
	l->hold_us = !again || l->hold_us < a->hold_us ? a->hold_us : l->hold_us * 2;
	if (l->hold_us > HOLD_MAX * a->hold_us)
		l->hold_us = HOLD_MAX * a->hold_us;
	snprintf(why, 200, "%lld of the last %lld requests waited longer than %lld us in the queue", (long long)all.over,
	         (long long)all.waits, (long long)a->target_us);
	switch_to(l, true, now_us);
	return true;
}

static bool recovered(const struct traffic_auto *a, struct traffic_load *l, int64_t now_us, char why[200])
{
	struct traffic_slice all = sum(a, l, now_us);
	double busy = traffic_utilisation(a, l, now_us);
	if (all.over_half * 100 > all.waits || busy >= HEADROOM) {
		l->calm_us = 0;
		return false;
	}
	if (!l->calm_us)
		l->calm_us = now_us;
	if (now_us - l->calm_us < l->hold_us)
		return false;
	if (busy >= 0)
		snprintf(why, 200, "for %lld ms the queue was short; aom would be busy for %.0f %% of the time",
		         (long long)(l->hold_us / 1000), busy * 100);
	else
		snprintf(why, 200, "for %lld ms the queue was short", (long long)(l->hold_us / 1000));
	l->returned_us = now_us;
	switch_to(l, false, now_us);
	return true;
}

bool traffic_decide(const struct traffic_auto *a, struct traffic_load *l, int64_t now_us, char why[200])
{
	return l->cheap ? recovered(a, l, now_us, why) : overloaded(a, l, now_us, why);
}
