/* batch.c - the question that a batch asks, and each member's part of the answer. */
#include "serving/queue_internal.h"

#include "wasd/data.h"
#include "wasd/protocol.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cJSON *sizes_of(const struct part *p)
{
	return wasd_json_get(p->whole->ask->call.json, "sizes");
}

static cJSON *joined_sizes(const struct batch *b)
{
	cJSON *all = cJSON_CreateArray();
	for (int i = 0; i < b->n; i++) {
		const struct part *p = b->member[i];
		const cJSON *v = sizes_of(p)->child;
		for (int64_t k = 0; k < p->first; k++)
			v = v->next;
		for (int64_t k = 0; k < p->images; k++, v = v->next)
			cJSON_AddItemToArray(all, cJSON_CreateNumber(v->valuedouble));
	}
	return all;
}

static cJSON *question_of(const struct batch *b)
{
	const struct part *first = b->member[0];
	const struct api_ask *a = first->whole->ask;
	if (b->n == 1 && first->whole->n == 1)
		return cJSON_Duplicate(a->call.json, 1);
	return sizes_of(first) ? wasd_message("logits", "bundle:s mode:s sizes:j", a->bundle, a->mode, joined_sizes(b)) :
	                         wasd_message("infer", "bundle:s mode:s n:i", a->bundle, a->mode, b->total);
}

enum wasd_status batch_post(struct queue *q, struct batch *b, void (*done)(struct question *), struct wasd_err *err)
{
	struct iovec parts[BATCH_MAX];
	b->question = (struct question){.who = b->who, .done = done};
	for (int i = 0; i < b->n; i++) {
		const struct part *p = b->member[i];
		const struct api_ask *a = p->whole->ask;
		parts[i] = (struct iovec){(void *)(uintptr_t)p->bin, p->len};
		b->question.bulk_max += p->whole->n > 1 ? a->call.reply_max / (size_t)a->images * (size_t)p->images :
		                                          a->call.reply_max;
	}
	return asker_post(q->asker, &b->question, question_of(b), parts, b->n, err);
}

enum wasd_status batch_check(const struct batch *b, struct wasd_err *err)
{
	const cJSON *crops = wasd_json_get(b->answer.reply, "crops"), *v;
	int64_t n = 0;
	if (!crops)
		return WASD_OK;
	cJSON_ArrayForEach(v, crops) {
		if (!cJSON_IsNumber(v) || v->valuedouble != v->valueint || v->valueint < 1 || v->valueint > WASD_CROPS_MAX)
			return wasd_fail(err, WASD_ECORRUPT,
			                 "the engine's answer: the crops of image %lld are not a number from 1 to %d", (long long)n,
			                 WASD_CROPS_MAX);
		n++;
	}
	return n == b->total ?
	           WASD_OK :
	           wasd_fail(err, WASD_ECORRUPT, "the engine's answer has the crops of %lld images, not of %lld",
	                     (long long)n, (long long)b->total);
}

int64_t batch_computed(const cJSON *reply, int64_t from, int64_t n)
{
	const cJSON *crops = wasd_json_get(reply, "crops"), *v;
	int64_t i = 0, sum = 0;
	cJSON_ArrayForEach(v, crops) {
		sum += i >= from && i < from + n ? v->valueint : 0;
		i++;
	}
	return cJSON_IsArray(crops) ? sum : n;
}

static void add_times(struct api_ask *a, const cJSON *reply)
{
	int64_t decode = 0, queue = 0, compute = 0;
	const cJSON *timing = wasd_json_get(reply, "timing_us");
	wasd_json_i64(timing, "decode", &decode);
	wasd_json_i64(timing, "queue", &queue);
	wasd_json_i64(timing, "compute", &compute);
	a->decode_us += decode;
	a->process_queue_us += queue;
	a->compute_us += compute;
}

/* The mean over the request's images, whole when the last part has been added. */
static void add_macs(struct api_ask *a, const cJSON *reply, int64_t computed)
{
	int64_t macs = 0;
	wasd_json_i64(reply, "macs", &macs);
	a->computed += computed;
	a->macs = (int64_t)round((double)macs * (double)a->computed / (double)a->images);
}

enum wasd_status batch_hand_out(struct batch *b, const struct part *p, int64_t before, struct wasd_err *err)
{
	struct api_call *from = &b->answer;
	struct api_ask *a = p->whole->ask;
	size_t row = from->reply_bin_len / (size_t)b->total, len = row * (size_t)p->images;
	if (b->total > a->computed_with)
		a->computed_with = b->total;
	add_times(a, from->reply);
	add_macs(a, from->reply, batch_computed(from->reply, before, p->images));
	if (b->n == 1 && p->whole->n == 1) {
		a->call.reply = from->reply;
		a->call.reply_bin = from->reply_bin;
		a->call.reply_bin_len = from->reply_bin_len;
		from->reply = NULL;
		from->reply_bin = NULL;
		return WASD_OK;
	}
	if (!a->call.reply_bin) {
		a->call.reply_bin_len = row * (size_t)a->images;
		a->call.reply_bin = wasd_calloc(a->call.reply_bin_len ? a->call.reply_bin_len : 1, 1);
	}
	if (!a->call.reply_bin)
		return wasd_fail(err, WASD_ENOMEM, "no memory for an answer");
	if (a->call.reply_bin_len != row * (size_t)a->images)
		return wasd_fail(err, WASD_ECORRUPT, "the engine's answers to one request differ in length");
	memcpy(a->call.reply_bin + row * (size_t)p->first, from->reply_bin + row * (size_t)before, len);
	return WASD_OK;
}

void batch_shift_pointer(struct wasd_err *err, int64_t first)
{
	static const char images[] = "/images/";
	if (first && !strncmp(err->pointer, images, sizeof images - 1))
		snprintf(err->pointer, sizeof err->pointer, "%s%lld", images,
		         atoll(err->pointer + sizeof images - 1) + (long long)first);
}
