/* server/serving/window.h - what a deployment answered in the last seconds to the last hour, by mode.
 *
 * Times of the last two minutes are kept by the second, those of the last hour by the half minute, in histograms whose
 * bounds grow by a fifth. A mode takes about 200 KiB, allocated with its first request; at most WINDOW_MODES modes are
 * kept. Arithmetic only: no locks, no clock. */
#ifndef SERVER_SERVING_WINDOW_H
#define SERVER_SERVING_WINDOW_H

#include "wasd/json.h"
#include "wasd/mode.h"

enum { WINDOW_MODES = 16, WINDOW_MOST_S = 3600, WINDOW_BINS = 96, WINDOW_BATCHES = 8 };

struct window {
	struct window_mode *mode[WINDOW_MODES];
};

struct window_request {
	bool ok;
	int64_t images, batch; /* batch: images that were computed together */
	int64_t total_us, queue_us;
	double macs;      /* of all images */
	int64_t repeated; /* images that a cascade repeated */
};

/* Without memory the request is not counted. */
void window_add(struct window *w, const char *mode, const struct window_request *r, int64_t now_us);
/* {"seconds","modes":{MODE:{"count","failed","rps","images","macs","repeated",
 *  "total_us":{"p50","p95","p99"},"queue_us":{...},"batches":[{"from","to","count"}]}}}: at least the last `seconds`
 * (to WINDOW_MOST_S), "seconds" says how many exactly. Quantiles are the upper bound of their bin: up to a fifth above
 * the exact value; null without a request. */
cJSON *window_json(const struct window *w, int64_t seconds, int64_t now_us);
void window_done(struct window *w);

#endif
