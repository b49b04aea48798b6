/* deaths.c - restarts of the inference process, and suspension of deployments that crash it.
 *
 *   the process:    up -> dead -> (at once, or after a backoff) up; every wanted deployment is loaded again
 *   a deployment:   served -> suspended -> (after a time, by :reload or by another change) served
 *
 * The process answers questions in order, so a death is blamed on the deployment of the oldest open question. A series
 * of deaths is a sequence in which each falls within crash_window_ms of the one before. The first AT_ONCE deaths of a
 * series are followed by an immediate restart, later ones by a backoff of backoff_ms, 2 backoff_ms, 4 backoff_ms, ...,
 * at most WAIT_MAX backoff_ms. A death that suspends a deployment is followed by an immediate restart, because its
 * cause is removed. A deployment with cfg.crashes deaths in a series of its own is suspended: its row in the database
 * says so, requests get 503 with Retry-After, and it is not loaded with the others. It is resumed after aside_ms. If
 * the process then dies at its work again, it is suspended at once for twice as long, up to ASIDE_MAX aside_ms. A
 * window without a death ends a series. This state is not kept when the daemon exits.
 */
#include "serving/internal.h"

#include "log.h"

#include <stdio.h>
#include <string.h>

enum { AT_ONCE = 3, WAIT_MAX = 60, ASIDE_MAX = 10 };

/* ---- a deployment; lock held ---------------------------------------------------------------------------------- */

static int64_t window_us(const struct serving *s)
{
	return s->cfg.crash_window_ms * 1000ll;
}

static int64_t seconds_until(int64_t us)
{
	int64_t left = us - wasd_mono_us();
	return left > 0 ? (left + 999999) / 1000000 : 1;
}

/* base * 2^times in microseconds, at most `most` times base. */
static int64_t doubled_us(int base_ms, int times, int most)
{
	int factor = times < 16 ? 1 << times : most;
	return base_ms * 1000ll * (factor < most ? factor : most);
}

/* Counts a death of the process at the deployment's work. True: the deployment is now suspended. */
static bool blame(const struct serving *s, struct deployment *d, int64_t now)
{
	int64_t last = d->death_us;
	if (last && now - last > window_us(s))
		d->deaths = 0;
	if (d->asides && now - last > window_us(s) + doubled_us(s->cfg.aside_ms, d->asides - 1, ASIDE_MAX))
		d->asides = 0;
	d->death_us = now;
	d->deaths++;
	if (d->deaths < s->cfg.crashes && !d->asides)
		return false;
	d->aside_until_us = now + doubled_us(s->cfg.aside_ms, d->asides++, ASIDE_MAX);
	d->deaths = 0;
	return true;
}

int64_t serving_retry_s(struct serving *s, const struct deployment *d)
{
	return d->aside_until_us ? seconds_until(d->aside_until_us) : serving_restart_s(s);
}

void serving_add_suspended(const struct deployment *d, cJSON *o)
{
	char when[WASD_RFC3339_LEN];
	cJSON *one = serving_add_condition(o, "Suspended", d->condition);
	wasd_rfc3339(wasd_now_ms() + (d->aside_until_us - wasd_mono_us()) / 1000, when);
	cJSON_AddStringToObject(one, "retry_at", when);
}

/* ---- [S] --------------------------------------------------------------------------------------------------------- */

/* Sets the row's state, ready if the deployment has been served before, else failed, and adds an audit row. */
static void tell_suspended(struct serving *s, const char *name, bool answered, const char *message)
{
	char object[100];
	snprintf(object, sizeof object, "deployment/%s", name);
	log_line(LOG_ERROR, "deployment suspended", "deployment=%s why=%s", name, LOG_Q(message));
	storage_deployment_state(s->cfg.db, name, answered ? "ready" : "failed", message, NULL);
	storage_audit_add(s->cfg.db, "daemon", "deployment.suspend", object, NULL, NULL, message, NULL, NULL);
}

/* True: the deployment is now suspended. */
static bool blame_deployment(struct serving *s, const char *who, const char *reason, int64_t now)
{
	char message[400] = "";
	bool answered = false;
	pthread_mutex_lock(&s->lock);
	struct deployment *d = *who ? serving_find(s, who) : NULL;
	bool aside = d && d->wanted && blame(s, d, now);
	if (aside) {
		snprintf(
			message, sizeof message,
			"Suspended: the inference process died repeatedly while serving this deployment, last: %.160s. It is retried in %lld s, or at once by POST /v1/deployments/%.64s:reload",
			reason, (long long)seconds_until(d->aside_until_us), d->name);
		snprintf(d->condition, sizeof d->condition, "%s", message);
		answered = *d->bundle != 0;
	}
	pthread_mutex_unlock(&s->lock);
	if (aside)
		tell_suspended(s, who, answered, message);
	return aside;
}

/* Schedules a restart of the process, with a backoff if it keeps dying. */
static void start_later(struct serving *s, int64_t now, bool cause_is_gone)
{
	if (now - s->death_us > window_us(s))
		s->deaths = 0;
	s->death_us = now;
	s->deaths++;
	int64_t wait = cause_is_gone || s->deaths <= AT_ONCE ?
	                   0 :
	                   doubled_us(s->cfg.backoff_ms, s->deaths - AT_ONCE - 1, WAIT_MAX);
	atomic_store(&s->up_at_us, now + wait);
	if (wait)
		log_line(LOG_ERROR, "inference process restart delayed", "deaths=%d wait_ms=%lld", s->deaths,
		         (long long)wait / 1000);
}

static bool anybody(struct serving *s)
{
	bool any = false;
	pthread_mutex_lock(&s->lock);
	for (struct deployment *d = s->deployments; d; d = d->next)
		any |= d->wanted && !d->aside_until_us;
	pthread_mutex_unlock(&s->lock);
	return any;
}

void serving_died(struct serving *s, const char *who, const char *reason)
{
	int64_t now = wasd_mono_us();
	if (atomic_load(&s->stopping))
		return;
	bool aside = blame_deployment(s, who, reason, now);
	if (!anybody(s))
		return; /* the next load starts the process */
	atomic_fetch_add(&s->restarts, 1);
	start_later(s, now, aside);
}

static void start_again(struct serving *s, int64_t now)
{
	struct wasd_err err = {0};
	if (helper_start(&s->helper, &err) != WASD_OK) {
		log_line(LOG_ERROR, "cannot start the inference process", "why=%s", LOG_Q(err.msg));
		s->deaths = s->deaths > AT_ONCE ? s->deaths : AT_ONCE;
		start_later(s, now, false);
		return;
	}
	atomic_store(&s->up_at_us, 0);
	pthread_mutex_lock(&s->lock);
	for (struct deployment *d = s->deployments; d; d = d->next)
		if (d->wanted && !d->aside_until_us)
			serving_queue_load(s, d->name);
	pthread_mutex_unlock(&s->lock);
}

/* Ends the suspension of one deployment whose time has passed. False: there is none. */
static bool take_back(struct serving *s, int64_t now, char name[72])
{
	pthread_mutex_lock(&s->lock);
	struct deployment *d = s->deployments;
	while (d && !(d->aside_until_us && now >= d->aside_until_us))
		d = d->next;
	if (d) {
		d->aside_until_us = 0;
		snprintf(name, 72, "%s", d->name);
	}
	pthread_mutex_unlock(&s->lock);
	return d != NULL;
}

void serving_tick(void *ctx)
{
	struct serving *s = ctx;
	char name[72], object[100];
	int64_t now = wasd_mono_us(), at = atomic_load(&s->up_at_us);
	if (atomic_load(&s->stopping))
		return;
	if (at && now >= at)
		start_again(s, now);
	serving_balance(s);
	while (take_back(s, now, name)) {
		snprintf(object, sizeof object, "deployment/%s", name);
		log_line(LOG_INFO, "deployment resumed", "deployment=%s", name);
		storage_audit_add(s->cfg.db, "daemon", "deployment.resume", object, NULL, NULL, "the suspension has expired",
		                  NULL, NULL);
		serving_queue_load(s, name);
	}
}

/* ---- any thread ------------------------------------------------------------------------------------------------- */

int64_t serving_restart_s(struct serving *s)
{
	int64_t at = atomic_load(&s->up_at_us);
	return at > wasd_mono_us() ? seconds_until(at) : 0;
}

void serving_forgive(struct serving *s, const char *name)
{
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	if (d)
		d->aside_until_us = d->death_us = d->deaths = d->asides = 0;
	pthread_mutex_unlock(&s->lock);
	int64_t at = atomic_load(&s->up_at_us);
	while (at > wasd_mono_us() && !atomic_compare_exchange_weak(&s->up_at_us, &at, wasd_mono_us()))
		;
}
