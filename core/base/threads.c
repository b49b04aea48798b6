/* base/threads.c - the thread team. One owner hands out work and takes part in it; helper threads sleep between jobs.
 *
 * The owner publishes a job by incrementing `gen`; each helper does its own range and decrements `left`. Waiting
 * threads spin briefly, because in a training step the next job is mostly microseconds away. Then they sleep in the
 * kernel (futex), because on a busy machine a spinning thread takes the core from the thread it waits for. */
#include "wasd/machine.h"
#include "wasd/tensor.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPINS 4000

struct team {
	int n; /* number of threads, including the owner */
	pthread_t helper[WASD_THREADS_MAX];
	void (*fn)(void *ctx, int begin, int end, int thread);
	void *ctx;
	int count;
	bool quit;
	_Alignas(64) atomic_uint gen;  /* incremented for every job: publishes fn, ctx, count, quit */
	_Alignas(64) atomic_uint left; /* helpers that have not finished this job */
	atomic_uint sleepers;          /* helpers that may be asleep on gen */
	atomic_uint owner_sleeps;
	void (*on_all)(int threads,
	               void (*member)(int thread)); /* runs the work on another thread pool; NULL: on the helpers */
};

/* The process has one team by design (one owner of threads); this is the only state in this file. */
static struct team team = {.n = 1};

static void futex_wait(atomic_uint *word, unsigned seen)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

static void run_range(int thread)
{
	int b = (int)((int64_t)team.count * thread / team.n), e = (int)((int64_t)team.count * (thread + 1) / team.n);
	if (b < e)
		team.fn(team.ctx, b, e, thread);
}

static unsigned wait_change(atomic_uint *word, unsigned old, atomic_uint *sleepers)
{
	unsigned v;
	for (int i = 0; i < SPINS; i++) {
		if ((v = atomic_load_explicit(word, memory_order_acquire)) != old)
			return v;
		cpu_relax();
	}
	atomic_fetch_add(sleepers, 1);
	while ((v = atomic_load(word)) == old)
		futex_wait(word, old);
	atomic_fetch_sub(sleepers, 1);
	return v;
}

static void *helper_main(void *arg)
{
	int thread = (int)(intptr_t)arg;
	unsigned gen = 0;
	for (;;) {
		gen = wait_change(&team.gen, gen, &team.sleepers);
		if (team.quit)
			return NULL;
		run_range(thread);
		if (atomic_fetch_sub(&team.left, 1) == 1 && atomic_load(&team.owner_sleeps))
			futex_wake(&team.left);
	}
}

static void publish(void)
{
	atomic_fetch_add(&team.gen, 1);
	if (atomic_load(&team.sleepers))
		futex_wake(&team.gen);
}

enum wasd_status wasd_threads_init(int n, struct wasd_err *err)
{
	if (n < 0 || n > WASD_THREADS_MAX)
		return wasd_fail(err, WASD_EINVAL, "threads: %d must be between 1 and %d (or 0 for all cores)", n,
		                 WASD_THREADS_MAX);
	if (n == 0) {
		n = wasd_processors();
		if (n > WASD_THREADS_MAX)
			n = WASD_THREADS_MAX;
	}
	if (n == team.n)
		return WASD_OK;
	wasd_threads_done();
	atomic_store(&team.gen, 0);
	team.quit = false;
	for (int t = 1; t < n; t++) {
		int rc = pthread_create(&team.helper[t], NULL, helper_main, (void *)(intptr_t)t);
		if (rc) {
			wasd_threads_done();
			/* EAGAIN: no memory for its stack, or too many threads */
			return wasd_fail_errno(err, rc == EAGAIN ? ENOMEM : rc, "threads: cannot start helper %d of %d", t, n - 1);
		}
		team.n = t + 1;
	}
	return WASD_OK;
}

int wasd_threads(void)
{
	return team.n;
}

void wasd_threads_done(void)
{
	if (team.n == 1)
		return;
	team.quit = true;
	publish();
	for (int t = 1; t < team.n; t++)
		pthread_join(team.helper[t], NULL);
	team.n = 1;
}

void wasd_parallel(int n, void (*fn)(void *ctx, int begin, int end, int thread), void *ctx)
{
	if (n <= 0)
		return;
	if (team.n == 1 || n == 1) {
		/* With a team, item 0 of 1 goes to the last thread; partial sums must not depend on which thread ran it. */
		fn(ctx, 0, n, 0);
		return;
	}
	team.fn = fn;
	team.ctx = ctx;
	team.count = n;
	if (team.on_all) {
		team.on_all(team.n, run_range);
		return;
	}
	atomic_store(&team.left, (unsigned)team.n - 1);
	publish();
	run_range(0);
	for (int i = 0; i < SPINS; i++) {
		if (!atomic_load_explicit(&team.left, memory_order_acquire))
			return;
		cpu_relax();
	}
	atomic_store(&team.owner_sleeps, 1);
	for (unsigned v; (v = atomic_load(&team.left)) != 0;)
		futex_wait(&team.left, v);
	atomic_store(&team.owner_sleeps, 0);
}

void wasd_threads_lend(void (*on_all)(int threads, void (*member)(int thread)))
{
	team.on_all = on_all;
}
