/* The life of jobs against a model: random sequences of what users, workers and the daemon's end do, with real
 * processes of a fake engine. The model below is the whole rule: which state follows which, what waits, what runs next.
 * After every operation the rows must become what it says. */
#include "faults.h"
#include "jobs/plan.h"

/* ---- the model ---------------------------------------------------------------------------------------------- */

enum state { QUEUED, HELD, RUNNING, PAUSED, COMPLETED, FAILED, CANCELLED, N_STATES };
static const char *const state_names[] = {"queued", "held", "running", "paused", "completed", "failed", "cancelled"};
/* What each state may become; every passage through starting, pausing, preempting or cancelling is one arrow here. */
static const char *const arrows[N_STATES] = {
	[QUEUED] = "held running cancelled failed",
	[HELD] = "queued cancelled failed",
	[RUNNING] = "completed failed paused queued cancelled",
	[PAUSED] = "queued cancelled failed",
	[COMPLETED] = "",
	[FAILED] = "queued",
	[CANCELLED] = "queued",
};

enum { JOBS = 12, QUEUES = 3, NOBODY = -1 };
struct model_job {
	char id[48];
	enum state state;
	bool by_user; /* held by the user, not only for others */
	int64_t priority;
	int queue, after; /* index of a job, or NOBODY */
	bool preemptible;
	bool late; /* its deadline has passed */
	int began; /* order of the starts */
};
static struct model_job m[JOBS];
static int n, workers, begun;
static struct {
	int64_t limit, weight;
	bool paused;
} queue[QUEUES];
static const char *const queue_names[QUEUES] = {"default", "narrow", "wide"};

static int running(int in_queue)
{
	int k = 0;
	for (int i = 0; i < n; i++)
		k += m[i].state == RUNNING && (in_queue < 0 || m[i].queue == in_queue);
	return k;
}

/* Moves, if the diagram has the arrow. */
static void go(int i, enum state to)
{
	CHECK_MSG(strstr(arrows[m[i].state], state_names[to]) != NULL, "the model goes from %s to %s",
	          state_names[m[i].state], state_names[to]);
	m[i].state = to;
	m[i].by_user &= to == HELD;
	if (to == RUNNING)
		m[i].began = ++begun;
}

static bool waits(int i)
{
	return m[i].after != NOBODY && m[m[i].after].state < COMPLETED;
}

/* The job to start next: the highest priority whose queue has room, then the least loaded queue, then the oldest. */
static int next(void)
{
	int best = NOBODY;
	for (int i = 0; i < n; i++) {
		int q = m[i].queue;
		if (m[i].state != QUEUED || queue[q].paused || (queue[q].limit && running(q) >= queue[q].limit))
			continue;
		if (best == NOBODY || m[i].priority > m[best].priority ||
		    (m[i].priority == m[best].priority &&
		     (double)running(q) / (double)queue[q].weight <
		         (double)running(m[best].queue) / (double)queue[m[best].queue].weight))
			best = i;
	}
	return best;
}

/* What follows by itself. */
static void settle(void)
{
	for (bool again = true; again;) {
		again = false;
		for (int i = 0; i < n; i++) {
			if (m[i].state != HELD || m[i].after == NOBODY)
				continue;
			enum state of = m[m[i].after].state;
			again |= of >= COMPLETED && !(of == COMPLETED && m[i].by_user);
			if (of == FAILED || of == CANCELLED)
				go(i, CANCELLED);
			else if (of == COMPLETED && !m[i].by_user)
				go(i, QUEUED);
		}
		int i = next(), victim = NOBODY;
		if (i == NOBODY)
			continue;
		if (running(-1) < workers) {
			go(i, RUNNING);
			again = true;
			continue;
		}
		for (int v = 0; v < n; v++)
			if (m[v].state == RUNNING && m[v].preemptible && m[v].priority < m[i].priority &&
			    (victim == NOBODY || m[v].priority < m[victim].priority ||
			     (m[v].priority == m[victim].priority && m[v].began > m[victim].began)))
				victim = v;
		if (victim != NOBODY) {
			go(victim, QUEUED);
			again = true;
		}
	}
}

/* ---- operations: on the model, and on the program ---------------------------------------------------------------- */

static uint64_t seed;
static int roll(int of)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (int)(seed % (uint64_t)of);
}

static bool quiet; /* without preemption and with several workers; else the opposite */

static void op_submit(void)
{
	if (n == JOBS)
		return;
	struct model_job *j = &m[n];
	*j = (struct model_job){.priority = 10 * roll(4), .queue = roll(QUEUES), .after = NOBODY};
	j->preemptible = !quiet && roll(4);
	if (n && !roll(3))
		j->after = roll(n);
	char spec[200];
	snprintf(spec, sizeof spec,
	         "{\"fault\":\"told\",\"retry\":{\"max\":0,\"backoff_s\":0},\"limits\":{},\"preemptible\":%s}",
	         j->preemptible ? "true" : "false");
	const char *after = j->after == NOBODY ? NULL : m[j->after].id;
	struct storage_job_in in = {.name = "m",
	                            .queue = queue_names[j->queue],
	                            .spec = spec,
	                            .spec_digest = "x",
	                            .created_by = "t",
	                            .priority = j->priority,
	                            .dataset = "d",
	                            .dataset_version = 1,
	                            .keep_best = 1,
	                            .keep_latest = 1,
	                            .keep_metric = "val_acc_aom",
	                            .after = &after,
	                            .n_after = after != NULL};
	struct storage_job row = {0};
	struct wasd_err err = {0};
	bool lost = after && m[j->after].state > COMPLETED;
	enum wasd_status s = storage_job_create(db, &in, &row, NULL, &err);
	CHECK_MSG(s == (lost ? WASD_EINVAL : WASD_OK), "submit: %s", err.msg);
	if (s)
		return;
	snprintf(j->id, sizeof j->id, "%s", row.id);
	storage_job_done(&row);
	j->state = QUEUED;
	n++;
	if (waits(n - 1))
		go(n - 1, HELD);
	sched_poke(jobs);
}

static enum wasd_status asks(int i, enum api_job_change what)
{
	struct wasd_err err = {0};
	return sched_change(jobs, m[i].id, what, &(struct storage_request){.actor = "t"}, &err);
}

static void op_pause(int i)
{
	enum state s = m[i].state;
	CHECK_INT(asks(i, API_JOB_PAUSE), s < COMPLETED ? WASD_OK : WASD_ESTATE);
	if (s == RUNNING)
		go(i, PAUSED);
	else if (s == QUEUED)
		go(i, HELD);
	if (m[i].state == HELD)
		m[i].by_user = true;
}

static void op_hold(int i)
{
	CHECK_INT(asks(i, API_JOB_HOLD), m[i].state <= HELD ? WASD_OK : WASD_ESTATE);
	if (m[i].state == QUEUED)
		go(i, HELD);
	if (m[i].state == HELD)
		m[i].by_user = true;
}

static void op_resume(int i)
{
	enum state s = m[i].state;
	bool can = s == QUEUED || s == RUNNING || s == PAUSED || (s == HELD && m[i].by_user);
	CHECK_INT(asks(i, API_JOB_RESUME), can ? WASD_OK : WASD_ESTATE);
	if (s == PAUSED || (s == HELD && m[i].by_user)) {
		go(i, QUEUED);
		if (waits(i))
			go(i, HELD);
	}
}

static void op_retry(int i)
{
	enum state s = m[i].state;
	bool can = s == QUEUED || ((s == FAILED || s == CANCELLED) && !m[i].late);
	CHECK_INT(asks(i, API_JOB_RETRY), can ? WASD_OK : WASD_ESTATE);
	if (can && s != QUEUED) {
		if (m[i].after != NOBODY && m[m[i].after].state > COMPLETED)
			m[i].after = NOBODY; /* it does not wait in vain again */
		go(i, QUEUED);
		if (waits(i))
			go(i, HELD);
	}
}

static void op_cancel(int i, bool kill)
{
	struct wasd_err err = {0};
	CHECK_INT(sched_cancel(jobs, m[i].id, kill, "", "t", &err), m[i].state < COMPLETED ? WASD_OK : WASD_ESTATE);
	if (m[i].state < COMPLETED)
		go(i, CANCELLED);
}

/* The worker of a running job ends: it has completed, diverged or crashed. */
static void op_worker(int i, int sig)
{
	if (m[i].state != RUNNING)
		return;
	struct storage_attempt_list a = {0};
	storage_attempt_list(db, m[i].id, &a, NULL);
	pid_t pid = a.n ? (pid_t)a.items[a.n - 1].pid : 0;
	storage_attempt_list_done(&a);
	CHECK_MSG(pid > 1 && kill(pid, sig) == 0, "no worker of a running job");
	go(i, sig == SIGUSR1 ? COMPLETED : FAILED);
}

static void op_priority(int i)
{
	struct storage_job now = {0};
	struct wasd_err err = {0};
	struct storage_job_patch p = {.priority = 10 * roll(4)};
	bool can = m[i].state < COMPLETED;
	CHECK_INT(storage_job_update(db, m[i].id, &p, "t", &now, &err), can ? WASD_OK : WASD_ESTATE);
	storage_job_done(&now);
	if (can)
		m[i].priority = p.priority;
	sched_poke(jobs);
}

static void op_move(int i)
{
	struct storage_job now = {0};
	struct wasd_err err = {0};
	int to = roll(QUEUES);
	struct storage_job_patch p = {.priority = -1, .queue = queue_names[to]};
	bool can = m[i].state < COMPLETED && m[i].state != RUNNING; /* a running one would change two loads at once */
	if (!can)
		return;
	CHECK_INT(storage_job_update(db, m[i].id, &p, "t", &now, &err), WASD_OK);
	storage_job_done(&now);
	m[i].queue = to;
	sched_poke(jobs);
}

static void op_queue(int q)
{
	struct storage_queue now = {0};
	struct wasd_err err = {0};
	bool created;
	queue[q].paused = !roll(6);
	queue[q].limit = quiet ? roll(3) : 0;
	queue[q].weight = 1 + roll(3);
	struct storage_queue_in in = {.name = queue_names[q],
	                              .actor = "t",
	                              .max_running = queue[q].limit,
	                              .paused = queue[q].paused,
	                              .weight = (double)queue[q].weight};
	CHECK_INT(storage_queue_put(db, &in, &now, &created, &err), WASD_OK);
	storage_queue_done(&now);
	sched_poke(jobs);
}

/* The deadline is far away, is taken back, or has passed, which ends the job in whatever state it is. */
static void op_deadline(int i)
{
	struct storage_job now = {0};
	struct wasd_err err = {0};
	int what = roll(3);
	struct storage_job_patch p = {.priority = -1, .set_deadline = true};
	p.deadline = what == 2 ? 1 : what ? wasd_now_ms() + 3600000 : 0;
	bool can = m[i].state != COMPLETED;
	CHECK_INT(storage_job_update(db, m[i].id, &p, "t", &now, &err), can ? WASD_OK : WASD_ESTATE);
	storage_job_done(&now);
	if (!can)
		return;
	m[i].late = what == 2;
	if (m[i].late && m[i].state < COMPLETED)
		go(i, FAILED);
	sched_poke(jobs);
}

/* The daemon stops, and begins again. */
static void op_restart(void)
{
	sched_drain(jobs);
	while (!sched_idle(jobs))
		poll(NULL, 0, 1);
	stop_parts();
	start_parts(workers);
	for (int i = 0; i < n; i++)
		if (m[i].state == RUNNING)
			go(i, QUEUED);
	sched_poke(jobs);
}

/* Ended jobs make room for new ones. */
static void op_forget(int i)
{
	struct wasd_err err = {0};
	bool needed = false;
	for (int k = 0; k < n; k++)
		needed |= m[k].after == i;
	if (m[i].state < COMPLETED) {
		CHECK_INT(storage_job_delete(db, m[i].id, "t", &err), WASD_ESTATE);
	} else if (!needed) {
		CHECK_INT(storage_job_delete(db, m[i].id, "t", &err), WASD_OK);
		for (int k = i; k + 1 < n; k++)
			m[k] = m[k + 1];
		n--;
		for (int k = 0; k < n; k++)
			m[k].after -= m[k].after > i;
	}
}

/* ---- the comparison ------------------------------------------------------------------------------------------------
 */

/* The first job whose row differs from the model; n: none. */
static int differs(char state[16], char reason[64])
{
	for (int i = 0; i < n; i++) {
		struct storage_job j = {0};
		storage_job_get(db, m[i].id, &j, NULL);
		bool same = j.state && !strcmp(j.state, state_names[m[i].state]);
		if (same && m[i].state == HELD)
			same = j.reason && !strcmp(j.reason, m[i].by_user ? "user" : "dependency");
		snprintf(state, 16, "%s", j.state ? j.state : "(gone)");
		snprintf(reason, 64, "%s", j.reason ? j.reason : "");
		storage_job_done(&j);
		if (!same)
			return i;
	}
	return n;
}

/* How long a state may take. A script that seeds bugs, and so waits in vain, sets less. */
static int64_t patience_us(void)
{
	const char *s = getenv("WASD_PATIENCE_S");
	return s ? 1000000ll * atoi(s) : 5000000ll * PATIENCE;
}

static int compare(int op, const char *what)
{
	char state[16], reason[64];
	int64_t until = wasd_mono_us() + patience_us();
	int i;
	while ((i = differs(state, reason)) < n && wasd_mono_us() < until)
		poll(NULL, 0, 1);
	if (i == n)
		return 0;
	CHECK_MSG(false, "operation %d (%s): job %d is %s (%s), the model says %s", op, what, i, state, reason,
	          state_names[m[i].state]);
	return 1;
}

static void walk(uint64_t from, int ops, int with_workers, bool calm)
{
	static const char *const names[] = {"submit", "pause",    "hold",     "resume", "retry",    "cancel",
	                                    "kill",   "complete", "nan",      "crash",  "priority", "move",
	                                    "queue",  "forget",   "deadline", "restart"};
	seed = from;
	n = begun = 0;
	quiet = calm;
	workers = with_workers;
	start(workers);
	for (int q = 0; q < QUEUES; q++)
		op_queue(q);
	int wrong = 0, done = 0;
	for (; done < ops && !wrong; done++) {
		int what = roll(16), i = n ? roll(n) : 0;
		if (what == 15 && roll(20))
			what = 0;
		if (!n)
			what = 0;
		switch (what) {
		case 0:
			op_submit();
			break;
		case 1:
			op_pause(i);
			break;
		case 2:
			op_hold(i);
			break;
		case 3:
			op_resume(i);
			break;
		case 4:
			op_retry(i);
			break;
		case 5:
			op_cancel(i, false);
			break;
		case 6:
			op_cancel(i, true);
			break;
		case 7:
			op_worker(i, SIGUSR1);
			break;
		case 8:
			op_worker(i, SIGUSR2);
			break;
		case 9:
			op_worker(i, SIGKILL);
			break;
		case 10:
			op_priority(i);
			break;
		case 11:
			op_move(i);
			break;
		case 12:
			op_queue(roll(QUEUES));
			break;
		case 13:
			op_forget(i);
			break;
		case 14:
			op_deadline(i);
			break;
		default:
			op_restart();
			break;
		}
		settle();
		wrong += compare(done, names[what]);
	}
	printf("# seed %llu: %d operations, %d starts, %d disagreements\n", (unsigned long long)from, done, begun, wrong);
	stop();
}

static int many(int ops)
{
	const char *s = getenv("WASD_OPERATIONS");
	return s ? atoi(s) : ops;
}

static void one_worker_and_preemption(void)
{
	walk(20261130, many(2000), 1, false);
}

static void three_workers_and_limits(void)
{
	walk(11, many(2000), 3, true);
}

/* ---- what the model leaves out --------------------------------------------------------------------------------------
 */

static void says_when_it_starts(void)
{
	double f[3] = {30, 5, 0};
	CHECK_NEAR(plan_eta(f, 2, 3, 0, 0), 0, 0); /* a worker is free */
	CHECK_NEAR(plan_eta((double[]){30, 5}, 2, 2, 0, 0), 5, 0);
	CHECK_NEAR(plan_eta((double[]){30, 5}, 2, 2, 1, 10), 15, 0); /* the one before it runs from 5 to 15 */
	CHECK_NEAR(plan_eta((double[]){30, 5}, 2, 2, 4, 10), 35, 0); /* 5-15, 15-25, 25-35, 30-40 */
	CHECK_NEAR(plan_eta((double[]){30, 5}, 2, 2, 1, 0), -1, 0);
	CHECK_NEAR(plan_eta((double[]){30, -1}, 2, 2, 0, 10), -1, 0);
}

int main(int argc, char **argv)
{
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	TEST_RUN(one_worker_and_preemption);
	TEST_RUN(three_workers_and_limits);
	TEST_RUN(says_when_it_starts);
	TEST_END();
}
