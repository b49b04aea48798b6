/* The queue of inference requests, with a process that answers when the test says so: asker_post and asker_take are
 * the test's own. An image is one float; its "logits" are twice that number and the mode's first letter. */
#include "check.h"
#include "serving/queue.h"
#include "wasd/cond.h"
#include "wasd/protocol.h"

#include <pthread.h>
#include <sys/uio.h>

enum { ROW = 2 * sizeof(float), MOST = 6 };

/* ---- the process ------------------------------------------------------------------------------------------- */

struct posted {
	struct question *question;
	cJSON *json;
	struct wasd_buf bytes;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct posted posted[64];
	int n;              /* questions so far */
	bool down, instant; /* no process; it answers before asker_post returns */
	void (*meanwhile)(void);
	enum wasd_status status; /* of the next answer */
	const char *crops;       /* "crops" of the answers instead of the right ones */
	struct wasd_err err;
} p = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct queue *queue;

static void answer(int i);

enum wasd_status asker_post(struct asker *a, struct question *q, cJSON *json, const struct iovec *part, int n,
                            struct wasd_err *err)
{
	(void)a;
	if (p.meanwhile)
		p.meanwhile();
	pthread_mutex_lock(&p.lock);
	int at = p.n;
	if (!p.down) {
		struct posted *one = &p.posted[p.n++];
		*one = (struct posted){.question = q, .json = json};
		for (int i = 0; i < n; i++)
			wasd_buf_append(&one->bytes, part[i].iov_base, part[i].iov_len);
		pthread_cond_broadcast(&p.changed);
	}
	pthread_mutex_unlock(&p.lock);
	if (p.down) {
		cJSON_Delete(json);
		return wasd_fail(err, WASD_EBUSY, "there is no process");
	}
	if (p.instant)
		answer(at);
	return WASD_OK;
}

enum wasd_status asker_take(struct asker *a, struct question *q, struct api_call *call, struct wasd_err *err)
{
	(void)a;
	if (q->lost)
		return wasd_fail(err, WASD_EBUSY, "it has died");
	call->reply = q->reply;
	call->reply_bin = q->bin;
	call->reply_bin_len = q->bin_len;
	q->reply = NULL;
	q->bin = NULL;
	if (p.status != WASD_OK) {
		enum wasd_status s = p.status;
		*err = p.err;
		p.status = WASD_OK;
		return s;
	}
	return WASD_OK;
}

/* Negative numbers stand for images of which three crops are computed. */
static void answer(int i)
{
	cJSON *crops = cJSON_CreateArray();
	bool several = false;
	struct question *q = p.posted[i].question;
	const struct wasd_buf *in = &p.posted[i].bytes;
	const char *mode = "?";
	size_t n = in->len / sizeof(float);
	float *rows = wasd_calloc(n, ROW);
	wasd_json_str(p.posted[i].json, "mode", &mode);
	for (size_t k = 0; k < n; k++) {
		float v;
		memcpy(&v, in->data + k * sizeof v, sizeof v);
		rows[2 * k] = 2 * v;
		rows[2 * k + 1] = (float)*mode;
		several |= v < 0;
		cJSON_AddItemToArray(crops, cJSON_CreateNumber(v < 0 ? 3 : 1));
	}
	q->reply = wasd_message("inferred", "re:i macs:i timing_us:j", (int64_t)1, (int64_t)100,
	                        wasd_message(NULL, "decode:i queue:i compute:i", (int64_t)1, (int64_t)2, (int64_t)3000000));
	if (p.crops)
		cJSON_AddItemToObject(q->reply, "crops", cJSON_Parse(p.crops));
	else if (several)
		cJSON_AddItemToObject(q->reply, "crops", crops);
	if (p.crops || !several)
		cJSON_Delete(crops);
	q->bin = (char *)rows;
	q->bin_len = n * ROW;
	q->done(q);
}

static void answer_with(int i, enum wasd_status status, const char *pointer, const char *what)
{
	p.status = wasd_fail_at(&p.err, status, pointer, "%s", what);
	answer(i);
}

static int await_posted(int n)
{
	pthread_mutex_lock(&p.lock);
	int64_t until = wasd_mono_us() + 60000000;
	while (p.n < n && wasd_cond_wait_until(&p.changed, &p.lock, until))
		;
	int have = p.n;
	pthread_mutex_unlock(&p.lock);
	return have;
}

/* ---- requests ---------------------------------------------------------------------------------------------- */

struct request {
	struct api_ask ask;
	float in[16];
	int ended;
	int64_t ended_us;
};

static void ended(void *ctx)
{
	struct request *r = ctx;
	pthread_mutex_lock(&p.lock);
	r->ended++;
	r->ended_us = wasd_mono_us();
	pthread_cond_broadcast(&p.changed);
	pthread_mutex_unlock(&p.lock);
}

static void await_end(struct request *r)
{
	pthread_mutex_lock(&p.lock);
	int64_t until = wasd_mono_us() + 60000000;
	while (!r->ended && wasd_cond_wait_until(&p.changed, &p.lock, until))
		;
	pthread_mutex_unlock(&p.lock);
}

/* n images with the numbers first, first + 1, ... */
static struct request *request(const char *who, const char *mode, int first, int n)
{
	struct request *r = wasd_calloc(1, sizeof *r);
	for (int i = 0; i < n; i++)
		r->in[i] = (float)(first + i);
	r->ask = (struct api_ask){.call = {.json = wasd_message("infer", "bundle:s mode:s n:i", "b", mode, (int64_t)n),
	                                   .bin = r->in,
	                                   .bin_len = (size_t)n * sizeof(float),
	                                   .who = who,
	                                   .reply_max = (size_t)n * ROW},
	                          .bundle = "b",
	                          .mode = mode,
	                          .images = n,
	                          .max_batch = 4,
	                          .deadline_us = wasd_mono_us() + 600000000};
	return r;
}

static struct request *ask(struct request *r)
{
	queue_ask(queue, &r->ask, ended, r);
	return r;
}

static struct request *ask_one(const char *who, int number)
{
	return ask(request(who, "aom", number, 1));
}

/* Is it answered, with its own numbers? If the timer has posted it, the answer is delivered by that thread. */
static void check_answer(struct request *r)
{
	await_end(r);
	const float *rows = (const float *)(const void *)r->ask.call.reply_bin;
	CHECK_INT(r->ended, 1);
	CHECK_INT(r->ask.status, WASD_OK);
	CHECK_INT(r->ask.call.reply_bin_len, (size_t)r->ask.images * ROW);
	for (int64_t i = 0; rows && i < r->ask.images; i++) {
		CHECK_INT(rows[2 * i], 2 * r->in[i]);
		CHECK_INT(rows[2 * i + 1], *r->ask.mode);
	}
}

static void done(struct request *r)
{
	api_call_done(&r->ask.call);
	wasd_free(r);
}

/* The numbers of a question, as text. */
static const char *asked(int i)
{
	static char text[200];
	int n = 0;
	text[0] = 0;
	for (size_t k = 0; i < p.n && k < p.posted[i].bytes.len / sizeof(float); k++) {
		float v;
		memcpy(&v, p.posted[i].bytes.data + k * sizeof v, sizeof v);
		n += snprintf(text + n, sizeof text - (size_t)n, "%s%g", k ? " " : "", (double)v);
	}
	return text;
}

static void begin(void)
{
	p.n = 0;
	p.down = p.instant = false;
	p.meanwhile = NULL;
	CHECK_INT(queue_create(NULL, MOST, NULL, &queue, NULL), WASD_OK);
}

static void finish(void)
{
	queue_destroy(queue);
	for (int i = 0; i < p.n; i++) {
		cJSON_Delete(p.posted[i].json);
		wasd_buf_done(&p.posted[i].bytes);
	}
}

/* Two questions occupy the process; what comes then waits. */
static void occupy(struct request *r[2])
{
	for (int i = 0; i < 2; i++) {
		r[i] = request("other", "aom", 100 + i, 1);
		r[i]->ask.max_batch = 0;
		ask(r[i]);
	}
	CHECK_INT(p.n, 2);
}

/* ---- tests ------------------------------------------------------------------------------------------------- */

static void a_batch_waits_for_company_but_not_longer(void)
{
	begin();
	struct request *a = request("d", "aom", 1, 1), *b = request("d", "aom", 2, 3);
	a->ask.max_queue_delay_us = 30000;
	int64_t from = wasd_mono_us();
	ask(a);
	CHECK_INT(await_posted(1), 1);
	CHECK_MSG(wasd_mono_us() - from >= 30000, "posted after %lld us", (long long)(wasd_mono_us() - from));
	answer(0);
	check_answer(a);
	CHECK(a->ask.queue_us >= 30000);
	done(a);
	/* With an hour to wait, only a full batch is posted, and that at once. */
	a = request("d", "aom", 1, 1);
	a->ask.max_queue_delay_us = b->ask.max_queue_delay_us = 3600000000;
	ask(a);
	CHECK_INT(p.n, 1);
	ask(b);
	CHECK_STR(asked(1), "1 2 3 4");
	answer(1);
	check_answer(a);
	check_answer(b);
	CHECK_INT(a->ask.computed_with, 4);
	CHECK_INT(b->ask.compute_us, 3000000);
	done(a);
	done(b);
	finish();
}

static void only_what_belongs_together_is_computed_together(void)
{
	struct request *busy[2], *r[6];
	begin();
	occupy(busy);
	r[0] = ask(request("d", "aom", 1, 1));
	r[1] = ask(request("d", "dom", 2, 1));
	r[2] = ask(request("d", "aom", 3, 2));
	r[3] = ask(request("d", "dom", 4, 1));
	r[4] = request("d", "aom", 5, 1);
	r[4]->ask.bundle = "other";
	ask(r[4]);
	r[5] = ask(request("d", "aom", 6, 2)); /* does not fit with 1, 3 and 4 */
	answer(0);
	CHECK_STR(asked(2), "1 3 4");
	answer(1);
	CHECK_STR(asked(3), "2 4");
	answer(3);
	CHECK_STR(asked(4), "5");
	answer(4);
	CHECK_STR(asked(5), "6 7");
	answer(5);
	answer(2);
	for (int i = 0; i < 6; i++) {
		check_answer(r[i]);
		done(r[i]);
	}
	done(busy[0]);
	done(busy[1]);
	finish();
}

static void the_bound_is_exact(void)
{
	struct request *busy[2], *r[8] = {0};
	begin();
	occupy(busy);
	for (int i = 0; i < 4; i++) {
		r[i] = request("d", "aom", i, 1);
		r[i]->ask.queue_max = 3;
		ask(r[i]);
		CHECK_INT(r[i]->ended, i == 3);
		CHECK_INT(queue_refusals(queue, "d").count, i == 3);
	}
	CHECK_INT(queue_refusals(queue, "d").waiting, 3);
	CHECK(queue_refusals(queue, "d").since_ms > 0);
	CHECK_INT(queue_refusals(queue, "other").count + queue_refusals(queue, "none").count, 0);
	CHECK_INT(r[3]->ask.status, WASD_EBUSY);
	CHECK_STR(r[3]->ask.outcome, API_REJECTED);
	CHECK(strstr(r[3]->ask.err.msg, "queue of d is full: 3 inference requests wait") != NULL);
	CHECK_INT(r[3]->ask.retry_s, 1); /* nothing is measured yet */
	for (int i = 4; i < 8; i++) {    /* the daemon's bound counts all */
		r[i] = ask_one("e", i);
		CHECK_INT(r[i]->ended, i == 7);
	}
	answer(0); /* 3 s for an image of "other"; then "d" and "e" are measured, too */
	answer(1);
	answer(2);
	answer(3);
	done(r[3]);
	/* Two places are taken again; 4 images of d and 1 of e wait: 3 s for an image of e, 1 s for one of d. */
	struct request *more[8];
	for (int i = 0; i < 2; i++) {
		more[i] = request("other", "aom", 200 + i, 1);
		more[i]->ask.max_batch = 0;
		ask(more[i]);
	}
	for (int i = 2; i < 6; i++) {
		more[i] = request("d", "aom", i, 1);
		more[i]->ask.max_batch = 0; /* so that each counts */
		ask(more[i]);
	}
	more[6] = request("d", "aom", 9, 1);
	more[6]->ask.queue_max = 4;
	ask(more[6]);
	CHECK_INT(more[6]->ended, 1);
	CHECK_INT(more[6]->ask.retry_s, 5); /* 4 images of 1 s, rounded up */
	for (int i = 4; i < p.n; i++)
		answer(i);
	for (int i = 0; i < 7; i++)
		done(more[i]);
	for (int i = 0; i < 8; i++) {
		if (i != 3 && i != 7)
			check_answer(r[i]);
		if (i != 3)
			done(r[i]);
	}
	done(busy[0]);
	done(busy[1]);
	finish();
}

static void priorities_are_strict_and_in_order_of_arrival(void)
{
	static const struct {
		int number, priority;
	} rows[] = {{1, 0}, {2, 3}, {3, 1}, {4, 2}, {5, 4}, {6, 1}};
	static const char *const order[] = {"3", "6", "1", "4", "2"};
	struct request *busy[2], *r[6];
	begin();
	occupy(busy);
	for (int i = 0; i < 6; i++) {
		r[i] = request("d", "aom", rows[i].number, 1);
		r[i]->ask.priority = rows[i].priority;
		r[i]->ask.max_batch = 1;
		ask(r[i]);
	}
	for (int i = 0; i < 5; i++) {
		answer(i);
		CHECK_STR(asked(i + 2), order[i]);
	}
	answer(5);
	CHECK_INT(p.n, 7); /* one with the last priority is posted when the process is idle */
	answer(6);
	CHECK_INT(p.n, 8);
	CHECK_STR(asked(7), "5");
	answer(7);
	for (int i = 0; i < 6; i++) {
		check_answer(r[i]);
		done(r[i]);
	}
	done(busy[0]);
	done(busy[1]);
	finish();
}

static void a_large_request_is_split(void)
{
	begin();
	struct request *a = ask(request("d", "aom", 10, 9)), *b = ask(request("d", "aom", 30, 2));
	CHECK_STR(asked(0), "10 11 12 13");
	CHECK_STR(asked(1), "14 15 16 17");
	answer(1);
	CHECK_STR(asked(2), "18 30 31");
	answer(2);
	check_answer(b);
	CHECK_INT(a->ended, 0);
	answer(0);
	check_answer(a);
	CHECK_INT(a->ask.compute_us, 9000000);
	CHECK_INT(a->ask.computed_with, 4);
	done(a);
	done(b);
	/* A fault of the 6th image, the second of its part. */
	a = ask(request("d", "aom", 10, 9));
	CHECK_INT(p.n, 5);
	answer_with(4, WASD_EINVAL, "/images/1", "no image");
	CHECK_INT(a->ended, 1);
	CHECK_INT(a->ask.status, WASD_EINVAL);
	CHECK_STR(a->ask.err.pointer, "/images/5");
	CHECK(a->ask.call.reply_bin == NULL);
	answer(3);
	CHECK_INT(p.n, 5); /* the last image is not asked for any more */
	CHECK_INT(a->ended, 1);
	done(a);
	finish();
}

/* An image of which three crops are computed costs three times as much, and only its own request. */
static void multiply_adds_of_crops(void)
{
	static const struct {
		int first, n;
		int64_t macs;
	} rows[] = {{1, 1, 100}, {-1, 2, 200}, {-2, 1, 300}, {-5, 8, 225}};
	struct request *r[4];
	begin();
	for (int i = 0; i < 4; i++) {
		r[i] = request("d", "aom", rows[i].first, rows[i].n);
		r[i]->ask.max_queue_delay_us = 3600000000;
	}
	for (int i = 0; i < 4; i++)
		ask(r[i]);
	CHECK_STR(asked(0), "1 -1 0 -2");
	CHECK_STR(asked(1), "-5 -4 -3 -2");
	answer(1);
	CHECK_STR(asked(2), "-1 0 1 2");
	answer(0);
	answer(2);
	for (int i = 0; i < 4; i++) {
		check_answer(r[i]);
		CHECK_INT(r[i]->ask.macs, rows[i].macs);
		done(r[i]);
	}
	finish();
}

static void bad_crops_are_refused(void)
{
	static const struct {
		const char *crops;
		bool good;
	} rows[] = {{"[1,3]", true},     {"[3]", false},     {"[1,1,1]", false}, {"[]", false},       {"[1,0]", false},
	            {"[4,1]", false},    {"[1,-1]", false},  {"[1.5,1]", false}, {"[1e99,1]", false}, {"[1,\"3\"]", false},
	            {"[null,1]", false}, {"[[1],1]", false}, {"3", false}};
	begin();
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct request *r = ask(request("d", "aom", 1, 2));
		p.crops = rows[i].crops;
		answer((int)i);
		p.crops = NULL;
		await_end(r);
		CHECK_MSG(r->ask.status == (rows[i].good ? WASD_OK : WASD_ECORRUPT), "%s: %d", rows[i].crops, r->ask.status);
		CHECK_MSG(rows[i].good || (strstr(r->ask.err.msg, "the crops") && !r->ask.call.reply), "%s", rows[i].crops);
		done(r);
	}
	finish();
}

static void deadlines_end_what_waits_and_what_is_asked(void)
{
	begin();
	struct request *r[3];
	int64_t from = wasd_mono_us();
	for (int i = 0; i < 3; i++) {
		r[i] = request("d", "aom", i, 1);
		r[i]->ask.max_batch = 0;
		r[i]->ask.deadline_us = from + 20000;
		ask(r[i]);
	}
	for (int i = 0; i < 3; i++) {
		await_end(r[i]);
		CHECK_INT(r[i]->ask.status, WASD_EBUSY);
		CHECK_STR(r[i]->ask.outcome, API_LATE);
		CHECK(r[i]->ended_us >= from + 20000);
	}
	/* The process hangs at two, or at three if the first two were late before the third came; they occupy no place any
	 * more. */
	int hung = p.n;
	CHECK(hung == 2 || hung == 3);
	struct request *next = ask_one("d", 7);
	CHECK_INT(await_posted(hung + 1), hung + 1);
	answer(hung);
	check_answer(next);
	for (int i = 0; i < hung; i++)
		answer(i); /* late, for nobody */
	for (int i = 0; i < 3; i++) {
		CHECK_INT(r[i]->ended, 1);
		done(r[i]);
	}
	done(next);
	finish();
}

static void deployments_take_turns(void)
{
	struct request *busy[2], *a[4], *b[2];
	begin();
	occupy(busy);
	for (int i = 0; i < 4; i++) {
		a[i] = request("a", "aom", i, 1);
		a[i]->ask.max_batch = 1;
		ask(a[i]);
	}
	for (int i = 0; i < 2; i++) {
		b[i] = request("b", "aom", 10 + i, 1);
		b[i]->ask.max_batch = 1;
		ask(b[i]);
	}
	for (int i = 0; i < 6; i++)
		answer(i);
	for (int i = 3; i < 6; i++) { /* those of b have two digits */
		bool before = strlen(asked(i - 1)) == 2, now = strlen(asked(i)) == 2;
		CHECK(before != now);
	}
	answer(6);
	answer(7);
	for (int i = 0; i < 4; i++) {
		check_answer(a[i]);
		done(a[i]);
	}
	for (int i = 0; i < 2; i++) {
		check_answer(b[i]);
		done(b[i]);
	}
	done(busy[0]);
	done(busy[1]);
	finish();
}

static struct request *leaving;

static void hang_up(void)
{
	p.meanwhile = NULL;
	queue_forget(queue, leaving);
	CHECK_INT(leaving->ended, 0); /* its bytes are being read */
}

static void a_client_that_leaves_while_its_bytes_are_sent(void)
{
	begin();
	leaving = request("d", "aom", 1, 1);
	struct request *other = request("d", "aom", 2, 3);
	leaving->ask.max_queue_delay_us = other->ask.max_queue_delay_us = 3600000000;
	ask(leaving);
	p.meanwhile = hang_up;
	ask(other);
	CHECK_INT(leaving->ended, 1);
	CHECK_STR(leaving->ask.outcome, API_CANCELLED);
	CHECK_STR(asked(0), "1 2 3 4");
	answer(0);
	CHECK_INT(leaving->ended, 1);
	check_answer(other);
	done(leaving);
	done(other);
	finish();
}

static void a_batch_that_fails_is_asked_one_by_one(void)
{
	begin();
	struct request *a = request("d", "aom", 1, 1), *b = request("d", "aom", 2, 3);
	a->ask.max_queue_delay_us = b->ask.max_queue_delay_us = 3600000000;
	ask(a);
	ask(b);
	answer_with(0, WASD_EINVAL, "/images/2", "no image");
	CHECK_INT(p.n, 3);
	CHECK_STR(asked(1), "1");
	CHECK_STR(asked(2), "2 3 4");
	answer(1);
	check_answer(a);
	answer_with(2, WASD_EINVAL, "/images/1", "no image");
	CHECK_INT(b->ended, 1);
	CHECK_INT(b->ask.status, WASD_EINVAL);
	CHECK_STR(b->ask.err.pointer, "/images/1");
	done(a);
	done(b);
	finish();
}

static void no_process_and_a_fast_one(void)
{
	begin();
	p.down = true;
	struct request *a = ask_one("d", 1);
	CHECK_INT(a->ended, 1);
	CHECK_INT(a->ask.status, WASD_EBUSY);
	done(a);
	p.down = false;
	p.instant = true;
	a = ask_one("d", 1);
	check_answer(a);
	done(a);
	a = ask(request("d", "dom", 5, 14)); /* in parts, of which each is answered before asker_post returns */
	check_answer(a);
	done(a);
	p.instant = false;
	a = ask_one("d", 1);
	struct question *q = p.posted[p.n - 1].question;
	q->lost = true;
	q->done(q);
	CHECK_INT(a->ended, 1);
	CHECK_INT(a->ask.status, WASD_EBUSY);
	int waiting, in_process;
	queue_length(queue, &waiting, &in_process);
	CHECK_INT(waiting, 0);
	CHECK_INT(in_process, 0);
	done(a);
	finish();
}

static void encoded_images_keep_their_lengths(void)
{
	begin();
	struct request *a = request("d", "aom", 1, 2), *b = request("d", "aom", 10, 6);
	struct request *const both[] = {a, b};
	for (int i = 0; i < 2; i++) {
		cJSON *sizes = cJSON_CreateArray();
		for (int64_t k = 0; k < both[i]->ask.images; k++)
			cJSON_AddItemToArray(sizes, cJSON_CreateNumber(sizeof(float)));
		cJSON_Delete(both[i]->ask.call.json);
		both[i]->ask.call.json = wasd_message("logits", "bundle:s mode:s sizes:j", "b", "aom", sizes);
		both[i]->ask.max_queue_delay_us = 3600000000;
	}
	ask(b);
	CHECK_STR(asked(0), "10 11 12 13");
	ask(a);
	CHECK_STR(asked(1), "14 15 1 2");
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(p.posted[1].json, "sizes")), 4);
	answer(0);
	answer(1);
	check_answer(a);
	check_answer(b);
	done(a);
	done(b);
	finish();
}

int main(void)
{
	wasd_cond_init(&p.changed);
	TEST_RUN(a_batch_waits_for_company_but_not_longer);
	TEST_RUN(only_what_belongs_together_is_computed_together);
	TEST_RUN(the_bound_is_exact);
	TEST_RUN(priorities_are_strict_and_in_order_of_arrival);
	TEST_RUN(a_large_request_is_split);
	TEST_RUN(multiply_adds_of_crops);
	TEST_RUN(bad_crops_are_refused);
	TEST_RUN(deadlines_end_what_waits_and_what_is_asked);
	TEST_RUN(deployments_take_turns);
	TEST_RUN(a_client_that_leaves_while_its_bytes_are_sent);
	TEST_RUN(a_batch_that_fails_is_asked_one_by_one);
	TEST_RUN(no_process_and_a_fast_one);
	TEST_RUN(encoded_images_keep_their_lengths);
	TEST_END();
}
