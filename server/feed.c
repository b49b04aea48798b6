#include "feed.h"

#include "storage.h"

static enum wasd_status events_after(void *ctx, int64_t after, int max, hub_event_fn *fn, void *to,
                                     struct wasd_err *err)
{
	struct storage_event_list l = {0};
	enum wasd_status s = storage_event_read(ctx, after, NULL, NULL, max, &l, err);
	for (size_t i = 0; s == WASD_OK && i < l.n; i++)
		fn(to, &(struct hub_event){l.items[i].seq, l.items[i].type, l.items[i].object ? l.items[i].object : "",
		                           l.items[i].data ? l.items[i].data : "{}"});
	storage_event_list_done(&l);
	return s;
}

static enum wasd_status events_bounds(void *ctx, int64_t *first, int64_t *last, struct wasd_err *err)
{
	struct storage_event_list l = {0};
	enum wasd_status s = storage_event_read(ctx, INT64_MAX / 2, NULL, NULL, 1, &l, err);
	if (s == WASD_OK) {
		*first = l.first_seq;
		*last = l.last_seq;
	}
	storage_event_list_done(&l);
	return s;
}

static enum wasd_status log_after(void *ctx, const char *object, const struct api_log_filter *filter, int64_t *n,
                                  int max, struct wasd_buf *out, struct wasd_err *err)
{
	struct storage_log_query q = {.after_n = *n,
	                              .attempt = filter->attempt,
	                              .level = *filter->level ? filter->level : NULL,
	                              .contains = *filter->contains ? filter->contains : NULL,
	                              .limit = max};
	struct storage_log_list l = {0};
	enum wasd_status s = storage_log_read(ctx, object, &q, &l, err);
	for (size_t i = 0; s == WASD_OK && i < l.n; i++) {
		char when[WASD_RFC3339_LEN];
		wasd_rfc3339(l.items[i].ts, when);
		wasd_buf_printf(out, "%s %-5s %s\n", when, l.items[i].level, l.items[i].text);
		*n = l.items[i].n;
	}
	if (s == WASD_OK && l.n < (size_t)max && l.last_n > *n)
		*n = l.last_n; /* the rest does not pass the filter */
	storage_log_list_done(&l);
	return s;
}

static bool log_over(void *ctx, const char *object)
{
	struct storage_job j = {0};
	bool over = storage_job_get(ctx, object, &j, NULL) != WASD_OK || storage_job_terminal(j.state);
	storage_job_done(&j);
	return over;
}

struct hub_source feed_of(struct storage *db)
{
	return (struct hub_source){.ctx = db,
	                           .after = events_after,
	                           .bounds = events_bounds,
	                           .log_after = log_after,
	                           .log_over = log_over};
}
