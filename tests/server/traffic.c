/* tests/server/traffic.c - the traffic policy with a clock of the test's own: exact shares, sticky users, and auto
 * under loads that are written down. */
#include "check.h"
#include "../../server/serving/traffic.h"

#include <stdio.h>
#include <string.h>

static struct traffic_policy policy(const char *json)
{
	struct traffic_policy p;
	cJSON *o = cJSON_Parse(json);
	traffic_policy_read(o, &p);
	cJSON_Delete(o);
	return p;
}

static int place(const struct traffic_policy *p, const char *mode)
{
	for (int i = 0; i < p->n_split; i++)
		if (!strcmp(p->split[i].mode, mode))
			return i;
	return -1;
}

static void shares_are_exact(void)
{
	struct traffic_policy p = policy("{\"split\":{\"aom\":90,\"dom\":7,\"dom:light\":3}}");
	struct traffic_turns t = {{0}};
	int n[3] = {0}, longest = 0, run = 0;
	for (int i = 0; i < 1000; i++) {
		int at = place(&p, traffic_split(&p, &t, NULL));
		n[at]++;
		run = at ? 0 : run + 1;
		longest = run > longest ? run : longest;
		if (i % 100 == 99)
			CHECK_MSG(n[0] == (i + 1) / 100 * 90 && n[1] == (i + 1) / 100 * 7 && n[2] == (i + 1) / 100 * 3,
			          "after %d: %d %d %d", i + 1, n[0], n[1], n[2]);
	}
	CHECK_MSG(longest < 20, "%d requests in a row for aom", longest);
}

static void users_stick(void)
{
	struct traffic_policy p = policy("{\"split\":{\"aom\":80,\"dom\":20},\"sticky_header\":\"X-User\"}"),
						  more = policy("{\"split\":{\"aom\":60,\"dom\":40},\"sticky_header\":\"X-User\"}");
	struct traffic_turns t = {{0}}, untouched = {{0}};
	int dom = 0, back = 0, of = 20000;
	char user[32];
	CHECK_STR(p.sticky_header, "x-user");
	for (int i = 0; i < of; i++) {
		snprintf(user, sizeof user, "user-%d", i);
		const char *first = traffic_split(&p, &t, user);
		CHECK_MSG(first == traffic_split(&p, &t, user), "%s has two modes", user);
		dom += !strcmp(first, "dom");
		/* A larger share only adds users. */
		back += !strcmp(first, "dom") && strcmp(traffic_split(&more, &t, user), "dom");
	}
	CHECK_MSG(dom > of * 0.19 && dom < of * 0.21, "%d of %d users in dom", dom, of);
	CHECK_MSG(back == 0, "%d users went back to aom although dom got more", back);
	CHECK_MSG(!memcmp(&t, &untouched, sizeof t), "a sticky request took a turn");
	CHECK_STR(traffic_split(&p, &t, "user-1"), traffic_split(&p, &t, "user-1"));
}

static void samples_are_even(void)
{
	double owed = 0;
	int n = 0;
	for (int i = 0; i < 1000; i++)
		n += traffic_sample(&owed, 12.5);
	CHECK_MSG(n == 125, "%d of 1000 at 12.5 %%", n);
}

static void defaults_and_tuned(void)
{
	struct traffic_policy p = policy("{}");
	CHECK_MSG(p.n_split == 0 && p.cascade.threshold < 0 && p.brownout.target_us == 50000, "defaults");
	static const char options[] =
		"{\"traffic\":{\"cascade\":{\"cheap\":\"dom\",\"keep\":0.99}},"
		"\"tuned\":{\"checkpoint\":\"ckpt_A\",\"cheap\":\"dom\",\"keep\":0.99,\"threshold\":0.25}}";
	traffic_policy_of(options, "ckpt_A", &p);
	CHECK_MSG(p.cascade.threshold == 0.25, "tuned threshold %g", p.cascade.threshold);
	traffic_policy_of(options, "ckpt_B", &p);
	CHECK_MSG(p.cascade.threshold < 0, "a threshold of another checkpoint: %g", p.cascade.threshold);
}

/* ---- auto ---- */

/* One server that computes requests in order; a bounded queue; both costs in microseconds. */
struct world {
	struct traffic_auto a;
	struct traffic_load l;
	int64_t now, free_at, cost[2], queue_max;
	double owed;
	int to_cheap, to_aom, refused, late;
	int64_t first_cheap, last_aom;
};

/* Lets requests arrive at this rate for that time, deciding every 100 ms. */
static void run(struct world *w, double rate, int64_t us)
{
	int64_t end = w->now + us, decide = w->now;
	for (; w->now < end; w->now += 1000) {
		for (w->owed += rate / 1000; w->owed >= 1; w->owed--) {
			int64_t begin = w->free_at > w->now ? w->free_at : w->now, cost = w->cost[w->l.cheap];
			traffic_arrived(&w->a, &w->l, 1, w->now);
			if ((begin - w->now) / cost >= w->queue_max) {
				traffic_waited(&w->a, &w->l, INT64_MAX, w->now);
				w->refused++;
				continue;
			}
			/* Told when it arrives and not when it is answered: the wait is known here. */
			traffic_waited(&w->a, &w->l, begin - w->now, w->now);
			traffic_computed(&w->l, w->l.cheap, 1, cost);
			w->late += begin - w->now > w->a.target_us;
			w->free_at = begin + cost;
		}
		if (w->now < decide)
			continue;
		char why[200] = "";
		decide += 100000;
		if (traffic_decide(&w->a, &w->l, w->now, why)) {
			CHECK_MSG(*why, "a switch without a reason");
			if (w->l.cheap && !w->to_cheap++)
				w->first_cheap = w->now;
			if (!w->l.cheap) {
				w->to_aom++;
				w->last_aom = w->now;
			}
		}
	}
}

static struct world world(int64_t aom_us, int64_t cheap_us)
{
	return (struct world){.a = {"dom", 50000, 2000000, 5000000},
	                      .now = 1000000000,
	                      .cost = {aom_us, cheap_us},
	                      .queue_max = 1000};
}

static void a_step_makes_two_switches(void)
{
	struct world w = world(10000, 2500); /* saturates at 100/s and at 400/s */
	run(&w, 50, 30000000);
	CHECK_MSG(w.to_cheap == 0, "half of saturation is no overload");
	int64_t step = w.now;
	run(&w, 300, 20000000);
	CHECK_MSG(w.to_cheap == 1 && w.to_aom == 0, "%d switches to the cheap mode, %d back during the step", w.to_cheap,
	          w.to_aom);
	CHECK_MSG(w.first_cheap - step < 1000000, "the switch came %lld us after the step",
	          (long long)(w.first_cheap - step));
	w.late = 0;
	run(&w, 300, 1000000);
	CHECK_MSG(w.late == 0, "%d requests above the target 20 s after the switch", w.late);
	step = w.now;
	run(&w, 50, 60000000);
	CHECK_MSG(w.to_aom == 1 && w.to_cheap == 1, "back %d times, %d switches in all", w.to_aom, w.to_aom + w.to_cheap);
	CHECK_MSG(w.last_aom - step >= 5000000 && w.last_aom - step < 9000000, "back %lld us after the step",
	          (long long)(w.last_aom - step));
}

/* In the cheap mode the queue is short, but AOM could not carry this load: it must not go back. */
static void no_return_into_an_overload(void)
{
	struct world w = world(10000, 2500);
	run(&w, 200, 300000000);
	CHECK_MSG(w.to_cheap == 1 && w.to_aom == 0, "%d + %d switches in 300 s at twice AOM's saturation", w.to_cheap,
	          w.to_aom);
	run(&w, 78, 60000000);
	CHECK_MSG(w.to_aom == 1, "78 %% of saturation: back %d times", w.to_aom);
}

/* Where even the cheap mode cannot carry the load, the queue refuses requests; nothing flaps. */
static void hopeless_overload(void)
{
	struct world w = world(10000, 8000);
	w.queue_max = 20;
	run(&w, 500, 60000000);
	CHECK_MSG(w.to_cheap == 1 && w.to_aom == 0 && w.refused > 0, "%d + %d switches", w.to_cheap, w.to_aom);
	run(&w, 10, 60000000);
	CHECK_MSG(w.to_aom == 1, "back %d times", w.to_aom);
}

/* A forecast that is wrong, since nobody measured AOM before: returns become rarer and rarer. */
static void wrong_forecast_backs_off(void)
{
	struct world w = world(10000, 2500);
	for (int i = 0; i < 6000; i++) {
		run(&w, 150, 100000);
		w.l.cost[0] = 100; /* claims that AOM is cheap */
	}
	CHECK_MSG(w.to_aom <= 18, "%d returns in 600 s; without the back-off it would be about 100", w.to_aom);
	CHECK_MSG(w.to_aom >= 1, "never tried again");
}

static void one_slow_request_is_no_overload(void)
{
	struct world w = world(10000, 2500);
	run(&w, 20, 5000000);
	traffic_waited(&w.a, &w.l, 900000, w.now);
	traffic_waited(&w.a, &w.l, 900000, w.now);
	run(&w, 20, 5000000);
	CHECK_MSG(w.to_cheap == 0, "two slow requests switched the mode");
}

int main(void)
{
	TEST_RUN(shares_are_exact);
	TEST_RUN(users_stick);
	TEST_RUN(samples_are_even);
	TEST_RUN(defaults_and_tuned);
	TEST_RUN(a_step_makes_two_switches);
	TEST_RUN(no_return_into_an_overload);
	TEST_RUN(hopeless_overload);
	TEST_RUN(wrong_forecast_backs_off);
	TEST_RUN(one_slow_request_is_no_overload);
	TEST_END();
}
