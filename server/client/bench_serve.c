/* bench_serve.c - `wasd bench serve`: loads one deployment of a running daemon and reports latencies, throughput, the
 * batches that its requests were computed in, and errors. */
#include "client/client.h"
#include "client/commands.h"
#include "client/load.h"

#include "wasd/json.h"
#include "wasd/mode.h"
#include "wasd/protocol.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { BODIES = 16, BARS = 24, BAR_WIDTH = 50 };

struct options {
	const char *url, *model, *clients_s, *rate_s, *seconds_s, *warmup_s, *batch_s, *form, *mode, *seed_s;
	bool json, fixed;
	double clients, rate, seconds, warmup, batch, seed;
};

/* ---- options ----------------------------------------------------------------------------------------------- */

static bool number(const char *name, const char *text, double least, double most, double *v)
{
	char *end;
	if (!text)
		return true;
	*v = strtod(text, &end);
	if (*text && !*end && *v >= least && *v <= most)
		return true;
	fprintf(stderr, "wasd bench serve: %s must be a number from %g to %g, not %s\n", name, least, most, text);
	return false;
}

/* Returns false after printing a message to stderr. */
static bool check_options(void *options)
{
	struct options *o = options;
	o->clients = o->rate_s ? 256 : 16;
	if (!number("--clients", o->clients_s, 1, 10000, &o->clients) ||
	    !number("--rate", o->rate_s, 0.001, 1e6, &o->rate) ||
	    !number("--seconds", o->seconds_s, 0.01, 86400, &o->seconds) ||
	    !number("--warmup", o->warmup_s, 0, 3600, &o->warmup) || !number("--batch", o->batch_s, 1, 1024, &o->batch) ||
	    !number("--seed", o->seed_s, 0, 1e9, &o->seed))
		return false;
	bool form = !strcmp(o->form, "binary") || !strcmp(o->form, "json") || !strcmp(o->form, "png");
	const char *wrong = o->model && !client_word_ok(o->model) ? o->model :
	                    o->mode && !wasd_mode_ok(o->mode)     ? o->mode :
	                    form                                  ? NULL :
	                                                            o->form;
	if (wrong)
		fprintf(stderr, "wasd bench serve: unexpected value %s\n", wrong);
	else if (!o->model)
		fprintf(stderr, "wasd bench serve: give a deployment with --model\n");
	else if (o->fixed && !o->rate_s)
		fprintf(stderr, "wasd bench serve: --fixed needs --rate\n");
	else
		return true;
	return false;
}

/* ---- requests ---------------------------------------------------------------------------------------------- */

struct input {
	int channels, height, width;
};

static uint8_t next_pixel(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint8_t)(*state >> 33);
}

static void put_u32(struct wasd_buf *b, uint32_t v)
{
	const unsigned char p[4] = {(unsigned char)(v >> 24), (unsigned char)(v >> 16), (unsigned char)(v >> 8),
	                            (unsigned char)v};
	wasd_buf_append(b, p, 4);
}

static void put_chunk(struct wasd_buf *b, const char *type, const void *data, size_t len)
{
	put_u32(b, (uint32_t)len);
	size_t from = b->len;
	wasd_buf_append(b, type, 4);
	wasd_buf_append(b, data, len);
	if (!b->failed)
		put_u32(b, (uint32_t)crc32(0, (const Bytef *)b->data + from, (uInt)(b->len - from)));
}

/* A random image as PNG, grey or RGB, prefixed by its length as the element of a BYTES tensor. */
static void put_png(struct wasd_buf *out, const struct input *in, uint64_t *state)
{
	int colours = in->channels == 1 ? 1 : 3;
	struct wasd_buf rows = {0}, head = {0}, png = {0};
	for (int y = 0; y < in->height; y++) {
		wasd_buf_append(&rows, "", 1); /* no filter */
		for (int x = 0; x < in->width * colours; x++) {
			uint8_t v = next_pixel(state);
			wasd_buf_append(&rows, &v, 1);
		}
	}
	put_u32(&head, (uint32_t)in->width);
	put_u32(&head, (uint32_t)in->height);
	wasd_buf_append(&head, colours == 1 ? "\x08\0\0\0\0" : "\x08\x02\0\0\0", 5);
	uLongf packed_len = compressBound((uLong)rows.len);
	Bytef *packed = wasd_malloc(packed_len);
	wasd_buf_append(&png, "\x89PNG\r\n\x1a\n", 8);
	put_chunk(&png, "IHDR", head.data, head.len);
	if (packed && compress2(packed, &packed_len, (const Bytef *)rows.data, (uLong)rows.len, 6) == Z_OK)
		put_chunk(&png, "IDAT", packed, packed_len);
	put_chunk(&png, "IEND", NULL, 0);
	uint32_t len = (uint32_t)png.len;
	wasd_buf_append(out, &len, sizeof len);
	wasd_buf_append(out, png.data, png.len);
	wasd_free(packed);
	wasd_buf_done(&rows);
	wasd_buf_done(&head);
	wasd_buf_done(&png);
}

/* The bytes of one request. */
static void build(const struct options *o, const struct input *in, uint64_t *state, struct wasd_buf *out)
{
	struct wasd_buf json = {0}, tail = {0};
	size_t numbers = (size_t)(in->channels * in->height * in->width) * (size_t)o->batch;
	bool text = !strcmp(o->form, "json"), png = !strcmp(o->form, "png");
	for (int i = 0; png && i < (int)o->batch; i++)
		put_png(&tail, in, state);
	for (size_t i = 0; !png && !text && i < numbers; i++) {
		float v = ((float)next_pixel(state) / 255 - 0.5f) / 0.5f;
		wasd_buf_append(&tail, &v, sizeof v);
	}
	if (png)
		wasd_buf_printf(&json, "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"BYTES\",\"shape\":[%d],",
		                (int)o->batch);
	else
		wasd_buf_printf(&json, "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[%d,%d,%d,%d],",
		                (int)o->batch, in->channels, in->height, in->width);
	if (text) {
		wasd_buf_puts(&json, "\"data\":[");
		for (size_t i = 0; i < numbers; i++)
			wasd_buf_printf(&json, "%s%.4f", i ? "," : "", ((double)next_pixel(state) / 255 - 0.5) / 0.5);
		wasd_buf_puts(&json, "]}],\"outputs\":[{\"name\":\"logits\"}]}");
	} else {
		wasd_buf_printf(&json,
		                "\"parameters\":{\"binary_data_size\":%zu}}],\"outputs\":[{\"name\":\"logits\",\"parameters\":{"
		                "\"binary_data\":true}}]}",
		                tail.len);
	}
	wasd_buf_printf(out,
	                "POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/%s\r\n"
	                "Content-Length: %zu\r\nInference-Header-Content-Length: %zu\r\n",
	                o->model, text ? "json" : "octet-stream", json.len + tail.len, json.len);
	if (o->mode)
		wasd_buf_printf(out, "WASD-Mode: %s\r\n", o->mode);
	wasd_buf_puts(out, "\r\n");
	wasd_buf_append(out, json.data, json.len);
	wasd_buf_append(out, tail.data, tail.len);
	out->failed |= json.failed || tail.failed;
	wasd_buf_done(&json);
	wasd_buf_done(&tail);
}

/* False after a message on stderr. */
static bool find_input(const char *url, const char *model, struct input *in)
{
	char head[200];
	snprintf(head, sizeof head, "GET /v2/models/%.100s", model);
	cJSON *j = client_json("bench serve", url, head, NULL);
	const cJSON *inputs = wasd_json_get(j, "inputs"), *shape = wasd_json_get(inputs ? inputs->child : NULL, "shape");
	bool ok = cJSON_GetArraySize(shape) == 4;
	int *const to[] = {&in->channels, &in->height, &in->width};
	for (int i = 0; ok && i < 3; i++)
		*to[i] = cJSON_GetArrayItem(shape, i + 1)->valueint;
	if (j && !ok)
		fprintf(stderr, "wasd bench serve: the metadata of %s has no input of images\n", model);
	cJSON_Delete(j);
	return ok;
}

/* ---- the report -------------------------------------------------------------------------------------------- */

static const struct {
	const char *name, *key;
	double p;
} percentiles[] = {{"p50", "p50", 0.5},
                   {"p90", "p90", 0.9},
                   {"p99", "p99", 0.99},
                   {"p99.9", "p99_9", 0.999},
                   {"max", "max", 1}};
#define PERCENTILES (sizeof percentiles / sizeof *percentiles)

static double mean_of(const struct load_result *r)
{
	double sum = 0;
	for (size_t i = 0; i < r->n; i++)
		sum += (double)r->latency[i];
	return r->n ? sum / (double)r->n : 0;
}

static int64_t failures(const struct load_result *r)
{
	int64_t n = r->broken + r->unfinished;
	for (int i = 0; i < LOAD_STATUSES; i++)
		n += i == 200 ? 0 : r->status[i];
	return n;
}

/* Upper ends of the histogram's bars: equal factors between the fastest and the slowest answer. Returns their number.
 */
static int bars_of(const struct load_result *r, double upper[BARS], int64_t count[BARS])
{
	if (!r->n)
		return 0;
	double low = (double)(r->latency[0] > 0 ? r->latency[0] : 1), high = (double)r->latency[r->n - 1] + 1;
	int n = high > low * 1.05 ? BARS : 1;
	size_t at = 0;
	for (int i = 0; i < n; i++) {
		upper[i] = i == n - 1 ? high : low * pow(high / low, (double)(i + 1) / n);
		for (count[i] = 0; at < r->n && (double)r->latency[at] <= upper[i]; at++)
			count[i]++;
	}
	return n;
}

static void print_json(const struct options *o, const struct load_result *r)
{
	char name[24];
	double upper[BARS];
	int64_t count[BARS];
	cJSON *j = wasd_message(NULL, "model:s form:s clients:i", o->model, o->form, (int64_t)o->clients);
	cJSON_AddStringToObject(j, "mode", o->mode ? o->mode : "");
	cJSON_AddNumberToObject(j, "rate", o->rate);
	cJSON_AddNumberToObject(j, "batch", o->batch);
	cJSON_AddNumberToObject(j, "seconds", r->seconds);
	cJSON_AddNumberToObject(j, "requests", (double)r->n);
	cJSON_AddNumberToObject(j, "requests_per_s", (double)r->n / r->seconds);
	cJSON_AddNumberToObject(j, "images_per_s", (double)r->n * o->batch / r->seconds);
	cJSON *errors = cJSON_AddObjectToObject(j, "errors");
	for (int i = 0; i < LOAD_STATUSES; i++)
		if (i != 200 && r->status[i]) {
			snprintf(name, sizeof name, "%d", i);
			cJSON_AddNumberToObject(errors, name, (double)r->status[i]);
		}
	if (r->broken)
		cJSON_AddNumberToObject(errors, "broken", (double)r->broken);
	if (r->unfinished)
		cJSON_AddNumberToObject(errors, "unfinished", (double)r->unfinished);
	cJSON *latency = cJSON_AddObjectToObject(j, "latency_us");
	cJSON_AddNumberToObject(latency, "mean", mean_of(r));
	for (size_t i = 0; i < PERCENTILES; i++)
		cJSON_AddNumberToObject(latency, percentiles[i].key, (double)load_percentile(r, percentiles[i].p));
	if (r->timed) {
		cJSON_AddNumberToObject(j, "queue_us", (double)r->queue_us / (double)r->timed);
		cJSON_AddNumberToObject(j, "compute_us", (double)r->compute_us / (double)r->timed);
	}
	cJSON *batches = cJSON_AddObjectToObject(j, "batches");
	for (int i = 1; i < LOAD_BATCHES; i++)
		if (r->batch[i]) {
			snprintf(name, sizeof name, "%d", i);
			cJSON_AddNumberToObject(batches, name, (double)r->batch[i]);
		}
	cJSON *bars = cJSON_AddArrayToObject(j, "histogram");
	int n = bars_of(r, upper, count);
	for (int i = 0; i < n; i++)
		cJSON_AddItemToArray(bars, cJSON_CreateDoubleArray((double[]){upper[i], (double)count[i]}, 2));
	char *text = wasd_json_print(j);
	puts(text ? text : "{}");
	wasd_free(text);
	cJSON_Delete(j);
}

static void print_batches(const struct options *o, const struct load_result *r)
{
	double images = 0, executions = 0;
	int64_t answers = 0;
	for (int i = 1; i < LOAD_BATCHES; i++) {
		answers += r->batch[i];
		images += (double)r->batch[i] * o->batch;
		executions += (double)r->batch[i] * o->batch / i;
	}
	if (!answers)
		return;
	printf("  batches   mean %.1f images; answers by images computed together:", images / executions);
	for (int i = 1; i < LOAD_BATCHES; i++)
		if (r->batch[i])
			printf(" %d: %lld", i, (long long)r->batch[i]);
	printf("\n");
}

static void print_report(const struct options *o, const struct load_result *r)
{
	double upper[BARS];
	int64_t count[BARS], most = 1;
	printf("%s: %s, %.0f image%s per request, ", o->model, o->form, o->batch, o->batch > 1 ? "s" : "");
	if (o->rate > 0)
		printf("%g requests/s (%s)", o->rate, o->fixed ? "equal gaps" : "random gaps");
	else
		printf("%.0f clients", o->clients);
	printf(", %.1f s\n", r->seconds);
	printf("  answers   %zu, %.1f requests/s, %.1f images/s\n", r->n, (double)r->n / r->seconds,
	       (double)r->n * o->batch / r->seconds);
	printf("  errors   ");
	for (int i = 0; i < LOAD_STATUSES; i++)
		if (i != 200 && r->status[i])
			printf(" %d: %lld", i, (long long)r->status[i]);
	if (r->broken)
		printf(" connection ended: %lld", (long long)r->broken);
	if (r->unfinished)
		printf(" not answered: %lld", (long long)r->unfinished);
	printf(failures(r) ? "\n" : " none\n");
	if (!r->n)
		return;
	printf("  latency   mean %.3f ms", mean_of(r) / 1000);
	for (size_t i = 0; i < PERCENTILES; i++)
		printf("  %s %.3f", percentiles[i].name, (double)load_percentile(r, percentiles[i].p) / 1000);
	printf("\n");
	if (r->timed)
		printf("  of which  queue %.3f ms, compute %.3f ms (means)\n", (double)r->queue_us / (double)r->timed / 1000,
		       (double)r->compute_us / (double)r->timed / 1000);
	print_batches(o, r);
	int n = bars_of(r, upper, count);
	for (int i = 0; i < n; i++)
		most = count[i] > most ? count[i] : most;
	printf("\n  up to ms  answers\n");
	for (int i = 0; i < n; i++)
		printf("%10.3f %8lld  %.*s\n", upper[i] / 1000, (long long)count[i],
		       (int)((count[i] * BAR_WIDTH + most - 1) / most), "##################################################");
}

/* ---- the command ------------------------------------------------------------------------------------------- */

static int bench(const struct options *o, const char *url)
{
	struct input in;
	struct wasd_buf body[BODIES] = {0};
	struct load_request requests[BODIES];
	struct load_result r = {0};
	struct wasd_err err = {0};
	uint64_t state = (uint64_t)o->seed * 0x9e3779b97f4a7c15u + 1;
	bool ok = find_input(url, o->model, &in);
	for (int i = 0; ok && i < BODIES; i++) {
		build(o, &in, &state, &body[i]);
		requests[i] = (struct load_request){body[i].data, body[i].len};
		ok = !body[i].failed;
	}
	const struct load l = {.url = url,
	                       .requests = requests,
	                       .n_requests = BODIES,
	                       .clients = (int)o->clients,
	                       .rate = o->rate,
	                       .fixed = o->fixed,
	                       .warmup_s = o->warmup,
	                       .seconds = o->seconds,
	                       .seed = (uint64_t)o->seed + 1};
	if (ok && load_run(&l, &r, &err)) {
		fprintf(stderr, "wasd bench serve: %s\n", err.msg);
		ok = false;
	}
	if (ok) {
		load_sort(&r);
		(o->json ? print_json : print_report)(o, &r);
	}
	int rc = ok && r.n && !failures(&r) ? 0 : 1;
	for (int i = 0; i < BODIES; i++)
		wasd_buf_done(&body[i]);
	load_result_done(&r);
	return rc;
}

static int run_bench_serve(int argc, char **argv)
{
	struct options o = {.form = "binary", .seconds = 10, .warmup = 1, .batch = 1, .seed = 1};
	int rc = client_start(&client_command_bench_serve, argc, argv, check_options, &o);
	if (rc >= 0)
		return rc;
	char *url = client_url(o.url);
	rc = url ? bench(&o, url) : 1;
	wasd_free(url);
	return rc;
}

static const struct client_row bench_serve_rows[] = {
	{"--model", 0, "NAME", CLIENT_VALUE, offsetof(struct options, model), "the deployment", "@deployments"},
	{"--clients", 0, "N", CLIENT_VALUE, offsetof(struct options, clients_s),
     "connections (default 16, with --rate 256); without --rate each sends its next request when it has the answer to the last (closed loop)",
     NULL},
	{"--rate", 0, "R", CLIENT_VALUE, offsetof(struct options, rate_s),
     "send R requests per second, whether answers come or not (open loop); a latency counts from the time when the request should have been sent, so that a slow answer is not hidden by the wait for it",
     NULL},
	{"--fixed", 0, NULL, CLIENT_FLAG, offsetof(struct options, fixed),
     "with --rate: equal gaps between requests; without it they are random (Poisson)", NULL},
	{"--seconds", 0, "S", CLIENT_VALUE, offsetof(struct options, seconds_s), "length of the measurement (default 10)",
     NULL},
	{"--warmup", 0, "S", CLIENT_VALUE, offsetof(struct options, warmup_s),
     "time before it whose requests are not counted (default 1)", NULL},
	{"--batch", 0, "N", CLIENT_VALUE, offsetof(struct options, batch_s), "images per request (default 1)", NULL},
	{"--form", 0, "FORM", CLIENT_VALUE, offsetof(struct options, form),
     "binary: FP32 tensors (default); json: numbers as text; png: encoded images", "binary json png"},
	{"--mode", 0, "MODE", CLIENT_VALUE, offsetof(struct options, mode),
     "mode to ask for: aom, dom, slim or FAMILY:NAME (default: the deployment's)", "aom dom slim"},
	{"--seed", 0, "N", CLIENT_VALUE, offsetof(struct options, seed_s), "of the images and gaps (default 1)", NULL},
	{"--json", 0, NULL, CLIENT_FLAG, offsetof(struct options, json), "print one JSON object instead of a report", NULL},
	CLIENT_ROW_URL(struct options),
	{0},
};
const struct client_command client_command_bench_serve = {
	.name = "bench serve",
	.arguments = "",
	.summary = "load a deployment and report its latencies",
	.text = "Sends inference requests with random images to a deployment and reports how long the answers took.",
	.statuses = "0 done, 1 a request failed, 2 wrong usage",
	.example = "wasd bench serve --model reader --clients 32 --seconds 5",
	.run = run_bench_serve,
	.rows = bench_serve_rows,
};
