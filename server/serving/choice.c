/* choice.c - the mode of a request that names none: the deployment's traffic policy applied to its loaded bundle. */
#include "serving/internal.h"

#include "log.h"
#include "metrics.h"

#include <stdio.h>
#include <string.h>

const char *serving_base_mode(const struct deployment *d)
{
	return wasd_mode_chooses(d->mode) ? WASD_MODE_AOM : d->mode;
}

/* The mode that answers without a split. */
static void pick_default(const struct deployment *d, const struct bundle *b, struct api_pick *out)
{
	const struct traffic_policy *p = &d->traffic.policy;
	const char *mode = serving_base_mode(d);
	if (!strcmp(d->mode, WASD_MODE_AUTO) && d->traffic.load.cheap && serving_has_mode(b, p->brownout.cheap))
		mode = p->brownout.cheap;
	if (!strcmp(d->mode, WASD_MODE_CASCADE) && p->cascade.threshold >= 0 && serving_has_mode(b, p->cascade.cheap)) {
		mode = p->cascade.cheap;
		out->cascade = true;
		out->threshold = p->cascade.threshold;
	}
	snprintf(out->mode, sizeof out->mode, "%s", mode);
}

void serving_pick(struct serving *s, struct deployment *d, const struct api_request *q, struct api_live *out)
{
	const struct bundle *b = serving_bundle(s, d->bundle);
	const struct traffic_policy *p = &d->traffic.policy;
	pick_default(d, b, &out->pick);
	if (!q || !p->n_split)
		return;
	const char *value = *p->sticky_header ? api_header(q, p->sticky_header) : NULL;
	const char *mode = traffic_split(p, &d->traffic.turns, value && *value ? value : NULL);
	if (serving_has_mode(b, mode)) /* another version may lack a profile of the split */
		snprintf(out->pick.mode, sizeof out->pick.mode, "%s", mode), out->pick.cascade = false;
}

void serving_follow_policy(struct deployment *d, const struct storage_deployment *row)
{
	struct traffic_policy now;
	traffic_policy_of(row->options, d->bundle, &now);
	if (memcmp(&now.brownout, &d->traffic.policy.brownout, sizeof now.brownout))
		d->traffic.load = (struct traffic_load){0};
	if (now.shadow.examples != d->traffic.policy.shadow.examples)
		shadow_forget(&d->traffic.shadow);
	if (strcmp(now.shadow.mode, d->traffic.shadow.mode))
		shadow_begin(&d->traffic.shadow, "", "", 0);
	d->traffic.policy = now;
	d->traffic.turns = (struct traffic_turns){{0}};
}

enum wasd_status serve_traffic(struct serving *s, const struct storage_traffic_in *in, struct storage_deployment *out,
                               struct wasd_err *err)
{
	pthread_mutex_lock(&s->switching);
	enum wasd_status st = storage_deployment_traffic(s->cfg.db, in, out, err);
	if (st == WASD_OK) {
		pthread_mutex_lock(&s->lock);
		struct deployment *d = serving_find(s, in->name);
		if (d && *d->bundle)
			serving_follow_policy(d, out);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&s->switching);
	if (st == WASD_OK)
		serving_tune(s, out);
	return st;
}

void serving_traffic_done(struct deployment *d)
{
	shadow_done(&d->traffic.shadow);
	window_done(&d->traffic.window);
}

static void add_auto(cJSON *o, const struct deployment *d)
{
	const struct traffic_load *l = &d->traffic.load;
	double busy = traffic_utilisation(&d->traffic.policy.brownout, l, wasd_mono_us());
	cJSON *a = cJSON_AddObjectToObject(o, "auto");
	cJSON_AddBoolToObject(a, "degraded", l->cheap);
	cJSON_AddNumberToObject(a, "switches", (double)l->switches);
	if (busy >= 0)
		cJSON_AddNumberToObject(a, "aom_busy", busy);
	else
		cJSON_AddNullToObject(a, "aom_busy");
}

cJSON *serve_traffic_now(struct serving *s, const char *name)
{
	struct api_live live = {0};
	cJSON *o = NULL;
	pthread_mutex_lock(&s->switching); /* a policy whose row is committed is in force */
	pthread_mutex_lock(&s->lock);
	struct deployment *d = serving_find(s, name);
	if (d && d->wanted && *d->bundle && (o = cJSON_CreateObject())) {
		serving_pick(s, d, NULL, &live);
		cJSON_AddStringToObject(o, "mode", live.pick.mode);
		if (!strcmp(d->mode, WASD_MODE_AUTO))
			add_auto(o, d);
		if (d->traffic.policy.cascade.threshold >= 0)
			cJSON_AddNumberToObject(o, "threshold", d->traffic.policy.cascade.threshold);
		serving_add_tuning(s, name, o);
	}
	pthread_mutex_unlock(&s->lock);
	pthread_mutex_unlock(&s->switching);
	return o;
}

/* ---- auto ----------------------------------------------------------------------------------------------------------
 */

void serving_add_degraded(const struct deployment *d, cJSON *o)
{
	char when[WASD_RFC3339_LEN];
	if (strcmp(d->mode, WASD_MODE_AUTO) || !d->traffic.load.cheap)
		return;
	cJSON *one = serving_add_condition(o, "Degraded", d->traffic.why);
	wasd_rfc3339(d->traffic.why_ms, when);
	cJSON_AddStringToObject(one, "mode", d->traffic.policy.brownout.cheap);
	cJSON_AddStringToObject(one, "since", when);
}

/* A switch of auto, to be written down. */
struct turn {
	char name[72], from[WASD_MODE_LEN], to[WASD_MODE_LEN], why[200];
};

/* Lets the first deployment after *at decide. False: there is none. *turned: it has switched. */
static bool decide_next(struct serving *s, char at[72], bool *turned, struct turn *out)
{
	pthread_mutex_lock(&s->lock);
	struct deployment *d = *at ? serving_find(s, at) : NULL;
	d = d ? d->next : *at ? NULL : s->deployments;
	while (d && (!d->wanted || strcmp(d->mode, WASD_MODE_AUTO)))
		d = d->next;
	if (d) {
		const char *cheap = d->traffic.policy.brownout.cheap;
		snprintf(at, 72, "%s", d->name);
		*turned = traffic_decide(&d->traffic.policy.brownout, &d->traffic.load, wasd_mono_us(), out->why);
		if (*turned) {
			bool down = d->traffic.load.cheap;
			snprintf(out->name, sizeof out->name, "%s", d->name);
			snprintf(out->from, sizeof out->from, "%s", down ? WASD_MODE_AOM : cheap);
			snprintf(out->to, sizeof out->to, "%s", down ? cheap : WASD_MODE_AOM);
			snprintf(d->traffic.why, sizeof d->traffic.why, "%s", out->why);
			d->traffic.why_ms = wasd_now_ms();
		}
	}
	pthread_mutex_unlock(&s->lock);
	return d != NULL;
}

void serving_balance(struct serving *s)
{
	char at[72] = "";
	bool turned = false;
	struct turn t;
	struct wasd_err err = {0};
	while (decide_next(s, at, &turned, &t)) {
		if (!turned)
			continue;
		log_line(LOG_WARN, "deployment switched by auto", "deployment=%s from=%s to=%s why=%s", t.name, t.from, t.to,
		         LOG_Q(t.why));
		metric_add(s->cfg.metrics, METRIC_MODE_SWITCHES, 1, LABELS(t.name, t.to));
		if (storage_deployment_turned(s->cfg.db, t.name, t.from, t.to, t.why, &err) != WASD_OK)
			log_line(LOG_ERROR, "cannot write down a switch of auto", "deployment=%s why=%s", t.name, LOG_Q(err.msg));
	}
}
