/* A daemon that was killed with large logs beside its databases. A log grows past the size at which the store begins it
 * again as long as somebody reads at an old position, as a backup does. The kill takes place in a child process. */
#include "util.h"
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>

enum { PAYLOAD = 72 << 20, LARGE = 64 << 20 };

static int64_t size_of(const char *name)
{
	struct stat st;
	return stat(in_dir(name), &st) ? -1 : st.st_size;
}

/* A read transaction of another process, which keeps the log of this file from beginning again. */
static sqlite3 *read_at(const char *name)
{
	sqlite3 *db = NULL;
	CHECK(sqlite3_open_v2(in_dir(name), &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK);
	CHECK(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL) == SQLITE_OK);
	return db;
}

/* Stores a checkpoint and waits for the kill. */
static void child(const char *job, int64_t attempt, int ready, int begin)
{
	char id[32], c;
	struct storage *s = open_store();
	if (write(ready, "o", 1) != 1 || read(begin, &c, 1) != 1)
		_exit(3);
	if (store_ckpt(s, job, attempt, 1, 0.5, PAYLOAD, 1, id))
		_exit(4);
	if (write(ready, "w", 1) != 1)
		_exit(5);
	for (;;)
		pause();
}

static void killed_with_large_log(const char *job, int64_t attempt)
{
	int ready[2], begin[2], status = 0;
	char c = 0;
	if (pipe(ready) || pipe(begin))
		abort();
	fflush(stdout);
	pid_t pid = fork(); /* this process has no thread now */
	if (!pid) {
		close(ready[0]);
		close(begin[1]);
		child(job, attempt, ready[1], begin[0]);
	}
	close(ready[1]);
	close(begin[0]);
	CHECK(read(ready[0], &c, 1) == 1);
	sqlite3 *rows = read_at("wasd.db"), *bytes = read_at("ckpt.db");
	CHECK(write(begin[1], "b", 1) == 1 && read(ready[0], &c, 1) == 1 && c == 'w');
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	sqlite3_close(rows); /* a read-only connection leaves the log as it is */
	sqlite3_close(bytes);
	close(ready[0]);
	close(begin[1]);
}

static void kept(struct storage *s, const char *job)
{
	struct storage_ckpt k = {0};
	int fd = -1;
	OK(storage_ckpt_pick(s, job, "latest", &k, &err));
	CHECK(k.epoch == 1 && k.bytes == PAYLOAD);
	OK(storage_ckpt_memfd(s, k.id, &fd, NULL, NULL, &err));
	close(fd);
	storage_ckpt_done(&k);
}

/* The start moves each log into its file and shortens it; it does not wait for writes that would. */
static void test_start_shortens_logs(void)
{
	char job[40];
	struct storage *s = fresh_store();
	add_job(s, "long", job);
	int64_t attempt = start_job(s, job);
	storage_close(s);
	killed_with_large_log(job, attempt);
	CHECK_MSG(size_of("ckpt.db-wal") > LARGE, "%lld", (long long)size_of("ckpt.db-wal"));
	CHECK(size_of("wasd.db-wal") > 0);
	s = open_store();
	CHECK_INT(size_of("ckpt.db-wal"), 0);
	CHECK_INT(size_of("wasd.db-wal"), 0);
	kept(s, job);
	OK(storage_check(s, true, &err));
	OK(storage_recover(s, NULL, &err));
	job_is(s, job, "queued");
	storage_close(s);
	end_store(open_store());
}

int main(void)
{
	TEST_RUN(test_start_shortens_logs);
	TEST_END();
}
