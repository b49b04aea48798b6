/* tests/server/window.c - what is kept of the last seconds and of the last hour, and what a shadow counts, with a clock
 * of the test's own. */
#include "check.h"
#include "../../server/serving/shadow.h"
#include "../../server/serving/window.h"

#include <stdio.h>
#include <string.h>

static const int64_t SECOND = 1000000, START = 7000 * 1000000ll + 500000;

static double number(const cJSON *o, const char *a, const char *b)
{
	double v = -1;
	if (b)
		o = wasd_json_get(o, a);
	wasd_json_num(o, b ? b : a, &v);
	return v;
}

static void add(struct window *w, const char *mode, int64_t total_us, int64_t queue_us, int64_t now)
{
	window_add(w, mode, &(struct window_request){true, 2, 4, total_us, queue_us, 1000, 1}, now);
}

static void quantiles_and_counts(void)
{
	struct window w = {{NULL}};
	for (int i = 1; i <= 1000; i++) /* 1 to 1000 ms */
		add(&w, "aom", i * 1000, i * 10, START);
	window_add(&w, "aom", &(struct window_request){.images = 5}, START); /* failed */
	cJSON *o = window_json(&w, 10, START + SECOND / 4);
	const cJSON *m = wasd_json_get(wasd_json_get(o, "modes"), "aom");
	CHECK_INT(number(m, "count", NULL), 1000);
	CHECK_INT(number(m, "failed", NULL), 1);
	CHECK_INT(number(m, "images", NULL), 2000);
	CHECK_INT(number(m, "repeated", NULL), 1000);
	CHECK_INT(number(m, "macs", NULL), 1000000);
	static const struct {
		const char *of, *name;
		double exact;
	} want[] = {{"total_us", "p50", 500000},
	            {"total_us", "p95", 950000},
	            {"total_us", "p99", 990000},
	            {"queue_us", "p50", 5000},
	            {"queue_us", "p99", 9900}};
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		double got = number(m, want[i].of, want[i].name);
		CHECK_MSG(got >= want[i].exact && got <= want[i].exact * 1.2, "%s %s is %g, the exact one %g", want[i].of,
		          want[i].name, got, want[i].exact);
	}
	const cJSON *batch = cJSON_GetArrayItem(wasd_json_get(m, "batches"), 0);
	CHECK_MSG(number(batch, "from", NULL) == 3 && number(batch, "to", NULL) == 4 &&
	              number(batch, "count", NULL) == 1000,
	          "batches of 4");
	double s = number(o, "seconds", NULL);
	CHECK_NEAR(s, 10.75, 1e-9);
	CHECK_NEAR(number(m, "rps", NULL), 1000 / 10.75, 1e-9);
	cJSON_Delete(o);
	window_done(&w);
}

static double count_in(const struct window *w, int64_t seconds, int64_t now)
{
	cJSON *o = window_json(w, seconds, now);
	double n = number(wasd_json_get(wasd_json_get(o, "modes"), "dom"), "count", NULL);
	cJSON_Delete(o);
	return n < 0 ? 0 : n;
}

/* One request a second for two hours. */
static void old_requests_leave(void)
{
	struct window w = {{NULL}};
	int64_t now = START;
	for (int i = 0; i < 7200; i++, now += SECOND)
		add(&w, "dom", 100, 10, now);
	now -= SECOND;
	CHECK_INT(count_in(&w, 1, now), 2);
	CHECK_INT(count_in(&w, 60, now), 61);
	CHECK_INT(count_in(&w, 127, now), 128);
	double n = count_in(&w, 300, now);
	CHECK_MSG(n >= 300 && n <= 330, "%g in five minutes", n);
	n = count_in(&w, 3600, now);
	CHECK_MSG(n >= 3600 && n <= 3630, "%g in an hour", n);
	CHECK_INT(count_in(&w, 60, now + 200 * SECOND), 0);
	CHECK_INT(count_in(&w, 3600, now + 4000 * SECOND), 0);
	window_done(&w);
}

static void modes_are_bounded(void)
{
	struct window w = {{NULL}};
	char name[32];
	for (int i = 0; i < WINDOW_MODES + 5; i++) {
		snprintf(name, sizeof name, "dom:p%d", i);
		add(&w, name, 1, 1, START);
	}
	cJSON *o = window_json(&w, 10, START);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(o, "modes")), WINDOW_MODES);
	cJSON_Delete(o);
	window_done(&w);
}

static void a_shadow_counts(void)
{
	struct shadow s = {0};
	cJSON *labels = cJSON_Parse("[\"cat\",\"dog\",\"emu\"]");
	shadow_begin(&s, "dom", "ckpt_A", 3);
	for (int i = 0; i < 7; i++)
		shadow_compare(&s, i % 3, i % 2 ? i % 3 : 0);
	for (int i = 0; i < 5; i++) {
		char image[8];
		snprintf(image, sizeof image, "image%d", i);
		shadow_keep(&s, 3, image, 6, "image/png", 1, 0, 1000);
	}
	shadow_keep(&s, 3, labels, SHADOW_EXAMPLE_MAX + 1, "image/png", 1, 0, 1000);
	cJSON *o = shadow_json(&s, labels);
	/* 0:0=0 1:1=1 2:2!0 3:0=0 4:1!0 5:2=2 6:0=0 */
	CHECK_INT(number(o, "agree", NULL), 5);
	CHECK_INT(number(o, "disagree", NULL), 2);
	CHECK_NEAR(number(o, "agreement", NULL), 5.0 / 7, 1e-12);
	CHECK_INT(number(wasd_json_get(o, "classes"), "cat", "agree"), 3);
	CHECK_INT(number(wasd_json_get(o, "classes"), "dog", "disagree"), 1);
	CHECK_INT(number(wasd_json_get(o, "classes"), "emu", "agree"), 1);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(o, "examples")), 3);
	CHECK_MSG(!shadow_example(&s, 2) && shadow_example(&s, 3) && shadow_example(&s, 5) && !shadow_example(&s, 6),
	          "the last three are kept");
	CHECK_MSG(!memcmp(shadow_example(&s, 5)->bytes, "image4", 6), "its bytes");
	cJSON_Delete(o);
	shadow_begin(&s, "dom", "ckpt_A", 3);
	CHECK_INT(s.agree, 5);
	shadow_begin(&s, "dom", "ckpt_B", 3);
	CHECK_INT(s.agree, 0);
	CHECK_MSG(!shadow_example(&s, 5), "another version begins anew");
	shadow_done(&s);
	cJSON_Delete(labels);
}

int main(void)
{
	TEST_RUN(quantiles_and_counts);
	TEST_RUN(old_requests_leave);
	TEST_RUN(modes_are_bounded);
	TEST_RUN(a_shadow_counts);
	TEST_END();
}
