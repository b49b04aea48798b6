/* server/client/load.h - a load generator: sends requests over many connections from one thread, and keeps the time of
 * each. */
#ifndef SERVER_CLIENT_LOAD_H
#define SERVER_CLIENT_LOAD_H

#include "wasd/base.h"

enum { LOAD_BATCHES = 1025, LOAD_STATUSES = 600 };

/* One request, as the bytes that go over the wire. */
struct load_request {
	const char *bytes;
	size_t len;
};

struct load {
	const char *url;
	const struct load_request *requests; /* sent in turn */
	int n_requests;
	int clients;     /* connections */
	double rate;     /* requests per second; 0: each connection sends the next request when it has the answer */
	bool fixed;      /* equal gaps instead of random ones (Poisson) */
	double warmup_s; /* requests that begin in this time are sent, but not counted */
	double seconds;  /* length of the measurement */
	uint64_t seed;   /* of the random gaps */
};

/* Times in microseconds. */
struct load_result {
	int64_t *latency; /* of each answer with status 200, in order of arrival; freed by load_result_done */
	size_t n, room;
	int64_t status[LOAD_STATUSES]; /* answers by HTTP status, 200 included */
	int64_t broken;                /* requests whose connection ended without an answer */
	int64_t unfinished;            /* requests not answered long after the end */
	int64_t batch[LOAD_BATCHES];   /* answers by the number of images computed together; [0]: the answer says none */
	int64_t queue_us, compute_us;  /* sums of what the answers report */
	int64_t timed;                 /* answers that report them */
	double seconds;                /* from the first counted request to the last counted answer */
};

/* Runs the load. A request's latency counts from the time when it should have been sent: with a rate from its place in
 * the schedule, so that a slow answer also delays those behind it; without one from the moment it is sent. Fails only
 * if no connection can be made or memory runs out. */
enum wasd_status load_run(const struct load *l, struct load_result *out, struct wasd_err *err);
void load_result_done(struct load_result *r);

/* Sorts r->latency; after that load_percentile(r, 0.99) is the time within which 99 % of the answers came. 0: none. */
void load_sort(struct load_result *r);
int64_t load_percentile(const struct load_result *r, double p);

#endif
