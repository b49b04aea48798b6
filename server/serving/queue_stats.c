/* queue_stats.c - statistics of each deployment in Triton's form, and the measured times that scheduling uses. */
#include "serving/queue_internal.h"

#include "metrics.h"

#include <string.h>

static void add_count(struct counted *c, int64_t us)
{
	c->count++;
	c->us += us > 0 ? us : 0;
}

void stats_ended(struct queue *q, const struct whole *w, int64_t now)
{
	const struct api_ask *a = w->ask;
	struct lane *l = w->lane;
	if (a->uncounted)
		return;
	if (a->status != WASD_OK) {
		add_count(&l->fail, now - a->came_us);
		return;
	}
	metric_observe(q->metrics, METRIC_INFER_QUEUE, (double)a->queue_us / 1e6, LABELS(l->name, a->mode));
	add_count(&l->success, now - a->came_us);
	add_count(&l->queue, a->queue_us);
	l->answered_images += a->images;
	l->last_ms = wasd_now_ms();
}

/* Follows a change within a few values. */
static void follow(double *mean, double v)
{
	*mean = *mean > 0 ? *mean + (v - *mean) / 4 : v;
}

void stats_computed(struct queue *q, const struct batch *b)
{
	int64_t decode = 0, compute = 0, macs = 0;
	const char *const labels[] = {b->who, b->mode};
	struct lane *l = lane_find(q, b->who);
	const cJSON *timing = wasd_json_get(b->answer.reply, "timing_us");
	int64_t size = b->total < BATCH_MAX ? b->total > 0 ? b->total : 1 : BATCH_MAX;
	wasd_json_i64(timing, "decode", &decode);
	wasd_json_i64(timing, "compute", &compute);
	wasd_json_i64(b->answer.reply, "macs", &macs);
	if (!l)
		return;
	metric_observe(q->metrics, METRIC_INFER_BATCH, (double)b->total, labels);
	metric_add(q->metrics, METRIC_INFER_MACS, (double)macs * (double)batch_computed(b->answer.reply, 0, b->total),
	           labels);
	l->executions++;
	for (int i = 0; i < b->n; i++) {
		add_count(&l->input, decode);
		add_count(&l->compute, compute);
		metric_observe(q->metrics, METRIC_INFER_COMPUTE, (double)compute / 1e6, labels);
	}
	add_count(&l->batches[size], compute);
	follow(&l->batch_us[size], (double)(decode + compute));
	follow(&l->image_us, (double)(decode + compute) / (double)(b->total > 0 ? b->total : 1));
}

static void add_stat(cJSON *o, const char *name, const struct counted *c)
{
	cJSON *one = cJSON_AddObjectToObject(o, name);
	cJSON_AddNumberToObject(one, "count", (double)c->count);
	cJSON_AddNumberToObject(one, "ns", (double)c->us * 1000);
}

cJSON *queue_stats(struct queue *q, const char *name)
{
	static const struct counted none;
	static const struct lane empty;
	cJSON *o = cJSON_CreateObject();
	pthread_mutex_lock(&q->lock);
	const struct lane *found = lane_find(q, name), *l = found ? found : &empty;
	cJSON_AddNumberToObject(o, "waiting", l->waiting);
	cJSON_AddNumberToObject(o, "last_inference", (double)l->last_ms);
	cJSON_AddNumberToObject(o, "inference_count", (double)l->answered_images);
	cJSON_AddNumberToObject(o, "execution_count", (double)l->executions);
	cJSON *stats = cJSON_AddObjectToObject(o, "inference_stats"), *batches = cJSON_AddArrayToObject(o, "batch_stats");
	add_stat(stats, "success", &l->success);
	add_stat(stats, "fail", &l->fail);
	add_stat(stats, "queue", &l->queue);
	add_stat(stats, "compute_input", &l->input);
	add_stat(stats, "compute_infer", &l->compute);
	add_stat(stats, "compute_output", &none);
	add_stat(stats, "cache_hit", &none);
	add_stat(stats, "cache_miss", &none);
	for (int i = 1; i <= BATCH_MAX; i++)
		if (l->batches[i].count) {
			cJSON *one = cJSON_CreateObject();
			cJSON_AddNumberToObject(one, "batch_size", i);
			add_stat(one, "compute_input", &none);
			add_stat(one, "compute_infer", &l->batches[i]);
			add_stat(one, "compute_output", &none);
			cJSON_AddItemToArray(batches, one);
		}
	pthread_mutex_unlock(&q->lock);
	return o;
}

void queue_drop_stats(struct queue *q, const char *name)
{
	pthread_mutex_lock(&q->lock);
	struct lane *l = lane_find(q, name);
	if (l)
		l->dropped = true;
	lane_free_dropped(q);
	pthread_mutex_unlock(&q->lock);
}
