/* deaths.c - what follows when the inference process ends.
 *
 *   the process:    up -> dead -> (at once, or after a wait) up, and everything wanted is loaded again
 *   a deployment:   served -> set aside -> (after a time, by :reload or by another change) served
 *
 * The process answers in the order of the questions, so the oldest question without an answer says at whose work it
 * died. Death number n of a row of deaths, each within the window of the one before, is followed by no wait up to n =
 * AT_ONCE, then by backoff_ms, twice that, and so on, at most WAIT_MAX times; a death that has set a deployment aside
 * is followed by none, for its cause is gone. A deployment with cfg.crashes deaths in such a row of its own is set
 * aside: the row in the database says so, requests get 503 with the time, and it is not loaded with the others. It is
 * taken back after aside_ms; should the process die at its work again, it is set aside at once, for twice as long, at
 * most ASIDE_MAX times. A window without a death ends either row. Nothing of this outlives the daemon.
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

/* base, 2 base, 4 base, ... at most `most` times base. */
static int64_t doubled_us(int base_ms, int times, int most)
{
	int factor = times < 16 ? 1 << times : most;
	return base_ms * 1000ll * (factor < most ? factor : most);
}

/* One more death at its work. True: it is set aside now. */
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
	cJSON *list = cJSON_AddArrayToObject(o, "conditions"), *one = cJSON_CreateObject();
	wasd_rfc3339(wasd_now_ms() + (d->aside_until_us - wasd_mono_us()) / 1000, when);
	cJSON_AddStringToObject(one, "type", "Suspended");
	cJSON_AddStringToObject(one, "reason", d->condition);
	cJSON_AddStringToObject(one, "retry_at", when);
	cJSON_AddItemToArray(list, one);
}

/* ---- [S] --------------------------------------------------------------------------------------------------------- */

/* State ready with a message when it has answered before, else failed; a row in the audit either way. */
static void tell_suspended(struct serving *s, const char *name, bool answered, const char *message)
{
	char object[100];
	snprintf(object, sizeof object, "deployment/%s", name);
	log_line(LOG_ERROR, "deployment set aside", "deployment=%s why=%s", name, LOG_Q(message));
	storage_deployment_state(s->cfg.db, name, answered ? "ready" : "failed", message, NULL);
	storage_audit_add(s->cfg.db, "daemon", "deployment.suspend", object, NULL, NULL, message, NULL, NULL);
}

/* True: the deployment is set aside now. */
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
			"Suspended: the inference process ended again and again at its work, last: %.160s. It is tried again in %lld s, or at once by POST /v1/deployments/%.64s:reload",
			reason, (long long)seconds_until(d->aside_until_us), d->name);
		snprintf(d->condition, sizeof d->condition, "%s", message);
		answered = *d->bundle != 0;
	}
	pthread_mutex_unlock(&s->lock);
	if (aside)
		tell_suspended(s, who, answered, message);
	return aside;
}

/* Another start of the process, after a wait when it keeps dying. */
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
		log_line(LOG_ERROR, "serving waits", "deaths=%d wait_ms=%lld", s->deaths, (long long)wait / 1000);
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
		return; /* the next load starts it */
	atomic_fetch_add(&s->restarts, 1);
	start_later(s, now, aside);
}

static void start_again(struct serving *s, int64_t now)
{
	struct wasd_err err = {0};
	if (helper_start(&s->helper, &err) != WASD_OK) {
		log_line(LOG_ERROR, "the inference process cannot be started", "why=%s", LOG_Q(err.msg));
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

/* One whose time is over, taken back. False: there is none. */
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
	queue_tick(s->queue);
	if (atomic_load(&s->stopping))
		return;
	if (at && now >= at)
		start_again(s, now);
	while (take_back(s, now, name)) {
		snprintf(object, sizeof object, "deployment/%s", name);
		log_line(LOG_INFO, "deployment tried again", "deployment=%s", name);
		storage_audit_add(s->cfg.db, "daemon", "deployment.resume", object, NULL, NULL, "its time is over", NULL, NULL);
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
