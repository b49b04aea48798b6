/* lanes.c - which waiting requests are computed next.
 *
 * Every deployment has a lane with one list per priority. Lanes take turns, a batch each, so a deployment with many
 * requests delays another by one batch at a time. Within a lane the smallest priority goes first, and equal ones in
 * order of arrival. A batch holds requests of one bundle, mode and kind.
 *
 * A batch that is not full waits for others: until its oldest request has waited max_queue_delay_us; and while the
 * process is busy and no other deployment waits, until the process is about to become idle, which costs nothing. */
#include "serving/queue_internal.h"

#include <stdio.h>
#include <string.h>

enum {
	LEAD_US = 400, /* a batch is posted this long before the process becomes idle, by estimate */
	KINDS = 8      /* different bundles, modes and kinds that are looked at in one lane */
};

struct lane *lane_find(struct queue *q, const char *name)
{
	for (struct lane *l = q->lanes; l; l = l->next)
		if (!l->dropped && !strcmp(l->name, name))
			return l;
	return NULL;
}

struct lane *lane_of(struct queue *q, const char *name)
{
	struct lane *l = lane_find(q, name);
	if (l || !(l = wasd_calloc(1, sizeof *l)))
		return l;
	snprintf(l->name, sizeof l->name, "%s", name);
	for (int i = 0; i < LEVELS; i++)
		l->last[i] = &l->first[i];
	l->next = q->lanes;
	q->lanes = l;
	return l;
}

void lane_free_dropped(struct queue *q)
{
	for (struct lane **at = &q->lanes; *at;) {
		struct lane *l = *at;
		if (!l->dropped || l->wholes) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		if (q->turn == l)
			q->turn = l->next;
		wasd_free(l);
	}
}

static void link_part(struct queue *q, struct part *p, struct part **at)
{
	struct lane *l = p->whole->lane;
	int level = p->whole->level;
	p->next = *at;
	p->pprev = at;
	*at = p;
	if (p->next)
		p->next->pprev = &p->next;
	else
		l->last[level] = &p->next;
	l->images += p->images;
	if (!p->whole->waiting++) {
		l->waiting++;
		q->waiting++;
	}
}

void lane_append(struct queue *q, struct part *p)
{
	link_part(q, p, p->whole->lane->last[p->whole->level]);
}

void lane_put_first(struct queue *q, struct part *p)
{
	link_part(q, p, &p->whole->lane->first[p->whole->level]);
}

void lane_take_out(struct queue *q, struct part *p)
{
	struct lane *l = p->whole->lane;
	*p->pprev = p->next;
	if (p->next)
		p->next->pprev = p->pprev;
	else
		l->last[p->whole->level] = p->pprev;
	p->pprev = NULL;
	l->images -= p->images;
	if (!--p->whole->waiting) {
		l->waiting--;
		q->waiting--;
	}
}

/* ---- choosing ---------------------------------------------------------------------------------------------- */

static const struct api_ask *ask_of(const struct part *p)
{
	return p->whole->ask;
}

static bool mergeable(const struct part *p)
{
	return p->whole->lane->max_batch > 1 && !p->alone && !ask_of(p)->alone;
}

static bool together(const struct part *a, const struct part *b)
{
	const struct api_ask *x = ask_of(a), *y = ask_of(b);
	return mergeable(a) && mergeable(b) && x->uncounted == y->uncounted &&
	       !wasd_json_get(x->call.json, "sizes") == !wasd_json_get(y->call.json, "sizes") &&
	       !strcmp(x->mode, y->mode) && !strcmp(x->bundle, y->bundle);
}

/* The part after p in the order of computation, of levels up to `most`; NULL p: the first. */
static struct part *after(const struct lane *l, struct part *p, int most)
{
	int level = p ? p->whole->level + 1 : 0;
	if (p && p->next)
		return p->next;
	for (; level <= most; level++)
		if (l->first[level])
			return l->first[level];
	return NULL;
}

/* When the batch that begins with p may be posted; 0: at once. contended: other lanes wait, too. */
static int64_t ripe_at(const struct queue *q, struct part *p, int most, bool contended)
{
	const struct lane *l = p->whole->lane;
	int64_t images = 0, oldest = INT64_MAX;
	if (!mergeable(p))
		return 0;
	for (struct part *x = p; x; x = after(l, x, most)) {
		if (!together(p, x))
			continue;
		images += x->images;
		if (images >= l->max_batch)
			return 0;
		if (ask_of(x)->came_us < oldest)
			oldest = ask_of(x)->came_us;
	}
	int64_t at = oldest + l->max_queue_delay_us;
	return q->asked && !contended && q->busy_until_us - LEAD_US > at ? q->busy_until_us - LEAD_US : at;
}

/* The first part of the lane's next batch. NULL: none before *due_us. */
static struct part *ripe(const struct queue *q, const struct lane *l, int most, bool contended, int64_t now,
                         int64_t *due_us)
{
	struct part *seen[KINDS];
	int n = 0;
	for (struct part *p = after(l, NULL, most); p && n < KINDS; p = after(l, p, most)) {
		bool known = false;
		for (int i = 0; i < n && !known; i++)
			known = together(seen[i], p);
		if (known)
			continue;
		int64_t at = ripe_at(q, p, most, contended);
		if (at <= now)
			return p;
		if (at < *due_us)
			*due_us = at;
		seen[n++] = p;
	}
	return NULL;
}

static struct part *pick(struct queue *q, int64_t now, int64_t *due_us, int *most)
{
	int busy = 0, lanes = 0;
	for (const struct lane *l = q->lanes; l; l = l->next) {
		busy += after(l, NULL, LEVEL_IDLE - 1) != NULL;
		lanes++;
	}
	if (!busy && q->asked)
		return NULL; /* idle requests do not wait in the process, where they would delay others */
	*most = busy ? LEVEL_IDLE - 1 : LEVEL_IDLE;
	struct lane *l = q->turn ? q->turn : q->lanes;
	for (int i = 0; i < lanes; i++, l = l->next ? l->next : q->lanes) {
		struct part *p = ripe(q, l, *most, busy > 1, now, due_us);
		if (p) {
			q->turn = l->next;
			return p;
		}
	}
	return NULL;
}

static void add_member(struct queue *q, struct batch *b, struct part *p, int64_t now)
{
	struct api_ask *a = p->whole->ask;
	lane_take_out(q, p);
	if (!p->first)
		a->queue_us = now - a->came_us;
	p->whole->pinned++;
	b->images[b->n] = p->images;
	b->member[b->n++] = p;
	b->total += p->images;
	if (a->deadline_us > b->deadline_us)
		b->deadline_us = a->deadline_us;
}

struct batch *lanes_gather(struct queue *q, int64_t now, int64_t *due_us)
{
	int most;
	struct part *first = pick(q, now, due_us, &most);
	struct batch *b = first ? wasd_calloc(1, sizeof *b) : NULL;
	if (!b)
		return NULL;
	const struct lane *l = b->lane = first->whole->lane;
	b->queue = q;
	b->posting = true;
	b->uncounted = ask_of(first)->uncounted;
	snprintf(b->who, sizeof b->who, "%s", l->name);
	snprintf(b->mode, sizeof b->mode, "%s", ask_of(first)->mode ? ask_of(first)->mode : "");
	struct part *next = after(l, first, most);
	add_member(q, b, first, now);
	while (next && b->n < BATCH_MAX && b->total < l->max_batch) {
		struct part *p = next;
		next = after(l, p, most);
		if (together(first, p) && b->total + p->images <= l->max_batch)
			add_member(q, b, p, now);
	}
	return b;
}

int64_t lanes_wait_s(const struct queue *q)
{
	double us = 0;
	for (const struct lane *l = q->lanes; l; l = l->next)
		us += (double)l->images * l->image_us;
	int64_t s = (int64_t)(us / 1e6) + 1;
	return s < 600 ? s : 600;
}
