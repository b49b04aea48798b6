/* Durable files: all or nothing, and nothing left behind. Sealed memory files. */
#include "check.h"
#include "wasd/base.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static const char *path(const char *name)
{
	static char p[4][300];
	static int k;
	k = (k + 1) % 4;
	snprintf(p[k], sizeof p[k], "%s/%s", dir, name);
	return p[k];
}

static int count_entries(const char *d)
{
	int n = 0;
	DIR *h = opendir(d);
	if (!h)
		return -1;
	for (struct dirent *e; (e = readdir(h));)
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(h);
	return n;
}

static void test_write_atomic(void)
{
	struct wasd_err e;
	char *data = NULL;
	size_t n = 0;
	CHECK_INT(wasd_mkdirs(path("w"), &e), WASD_OK);
	CHECK_INT(wasd_file_write_atomic(path("w/f"), "one", 3, &e), WASD_OK);
	CHECK_INT(wasd_file_write_atomic(path("w/f"), "second", 6, &e), WASD_OK);
	CHECK_INT(wasd_file_read(path("w/f"), 100, &data, &n, &e), WASD_OK);
	CHECK_STR(data, "second");
	CHECK_INT(n, 6);
	wasd_free(data);
	CHECK_INT(wasd_file_write_atomic(path("w/empty"), NULL, 0, &e), WASD_OK);
	CHECK_INT(count_entries(path("w")), 2);

	/* Failures: each keeps the old content and leaves no temporary file. */
	CHECK_INT(wasd_file_write_atomic(path("absent/f"), "x", 1, &e), WASD_EIO);
	CHECK_MSG(strstr(e.msg, "absent/f") != NULL, "%s", e.msg);
	CHECK_INT(wasd_mkdirs(path("w/d/sub"), &e), WASD_OK);
	CHECK_INT(wasd_file_write_atomic(path("w/d"), "x", 1, &e), WASD_EIO); /* rename over a directory */
	CHECK_INT(count_entries(path("w")), 3);
	struct rlimit old, small = {4096, RLIM_INFINITY};
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	char *big = calloc(1, 100000);
	enum wasd_status s = wasd_file_write_atomic(path("w/f"), big, 100000, &e); /* the write stops halfway */
	setrlimit(RLIMIT_FSIZE, &old);
	free(big);
	CHECK_INT(s, WASD_EIO);
	CHECK_INT(count_entries(path("w")), 3);
	CHECK_INT(wasd_file_read(path("w/f"), 100, &data, &n, &e), WASD_OK);
	CHECK_STR(data, "second");
	wasd_free(data);
	for (uint64_t nth = 1; nth < 10; nth++) {
		wasd_mem_fail_at(nth);
		s = wasd_file_write_atomic(path("w/f"), "second", 6, &e);
		wasd_mem_fail_at(0);
		CHECK(s == WASD_OK || s == WASD_ENOMEM);
		CHECK_INT(count_entries(path("w")), 3);
	}
}

static void test_read(void)
{
	struct wasd_err e;
	char *data = NULL;
	size_t n = 0;
	CHECK_INT(wasd_file_write_atomic(path("r"), "0123456789", 10, &e), WASD_OK);
	CHECK_INT(wasd_file_read(path("r"), 10, &data, &n, &e), WASD_OK);
	wasd_free(data);
	CHECK_INT(wasd_file_read(path("r"), 9, &data, &n, &e), WASD_ETOOBIG);
	CHECK_INT(wasd_file_read(path("none"), 9, &data, &n, &e), WASD_ENOTFOUND);
	CHECK_INT(e.status, WASD_ENOTFOUND);
	CHECK_INT(wasd_file_read(dir, 9, &data, &n, &e), WASD_EIO);
	int fd = open(path("r"), O_RDONLY | O_CLOEXEC);
	char buf[20];
	CHECK_INT(wasd_read_full(fd, buf, 10, &e), WASD_OK);
	CHECK_INT(wasd_read_full(fd, buf, 1, &e), WASD_ECORRUPT);
	CHECK_INT(wasd_write_full(fd, buf, 1, &e), WASD_EIO); /* opened for reading */
	close(fd);
}

static void test_directories(void)
{
	struct wasd_err e;
	struct stat st;
	CHECK_INT(wasd_mkdirs(path("a/b//c/"), &e), WASD_OK);
	CHECK_INT(wasd_mkdirs(path("a/b/c"), &e), WASD_OK);
	CHECK(!stat(path("a/b/c"), &st) && S_ISDIR(st.st_mode) && (st.st_mode & 07) == 0);
	CHECK_INT(wasd_file_write_atomic(path("a/file"), "x", 1, &e), WASD_OK);
	CHECK_INT(wasd_mkdirs(path("a/file/d"), &e), WASD_EIO);
	CHECK_MSG(strstr(e.msg, "a/file") != NULL, "%s", e.msg);
	CHECK_INT(wasd_mkdirs(path("outside"), &e), WASD_OK);
	CHECK_INT(wasd_file_write_atomic(path("outside/keep"), "x", 1, &e), WASD_OK);
	CHECK(!symlink(path("outside"), path("a/b/link")));
	CHECK_INT(wasd_remove_tree(path("a"), &e), WASD_OK);
	CHECK(stat(path("a"), &st) && errno == ENOENT);
	CHECK(!stat(path("outside/keep"), &st)); /* the link was removed, not followed */
	CHECK_INT(wasd_remove_tree(path("a"), &e), WASD_OK);
	CHECK_INT(wasd_fsync_dir(path("outside"), &e), WASD_OK);
	CHECK_INT(wasd_fsync_dir(path("gone"), &e), WASD_EIO);
}

static void test_memory_files(void)
{
	struct wasd_err e;
	int fd = -1;
	const void *p = NULL;
	CHECK_INT(wasd_memfd_sealed("t", "hello", 5, &fd, &e), WASD_OK);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(write(fd, "x", 1) < 0 && errno == EPERM);
	CHECK(ftruncate(fd, 1) < 0 && ftruncate(fd, 100) < 0);
	CHECK_INT(wasd_memfd_map(fd, 4, &p, &e), WASD_ECORRUPT);
	CHECK_INT(wasd_memfd_map(fd, 6, &p, &e), WASD_ECORRUPT);
	CHECK_INT(wasd_memfd_map(fd, 5, &p, &e), WASD_OK);
	CHECK(!memcmp(p, "hello", 5));
	wasd_memfd_unmap(p, 5);
	close(fd);

	CHECK_INT(wasd_memfd_sealed("zero", NULL, 8192, &fd, &e), WASD_OK);
	CHECK_INT(wasd_memfd_map(fd, 8192, &p, &e), WASD_OK);
	CHECK(((const char *)p)[8191] == 0);
	wasd_memfd_unmap(p, 8192);
	close(fd);
	CHECK_INT(wasd_memfd_sealed("empty", NULL, 0, &fd, &e), WASD_OK);
	CHECK_INT(wasd_memfd_map(fd, 0, &p, &e), WASD_OK);
	wasd_memfd_unmap(p, 0);
	close(fd);

	/* What a hostile worker may send: unsealed, partly sealed, or not a memory file at all. */
	fd = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(!ftruncate(fd, 5));
	CHECK_INT(wasd_memfd_map(fd, 5, &p, &e), WASD_ECORRUPT);
	CHECK(!fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW));
	CHECK_INT(wasd_memfd_map(fd, 5, &p, &e), WASD_ECORRUPT); /* could still shrink under the mapping */
	close(fd);
	fd = open(path("plain"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(!ftruncate(fd, 5));
	CHECK_INT(wasd_memfd_map(fd, 5, &p, &e), WASD_ECORRUPT);
	close(fd);
}

int main(void)
{
	check_temp(dir, sizeof dir, "wasd-base");
	if (!mkdtemp(dir))
		return 1;
	TEST_RUN(test_write_atomic);
	TEST_RUN(test_read);
	TEST_RUN(test_directories);
	TEST_RUN(test_memory_files);
	if (wasd_remove_tree(dir, NULL))
		return 1;
	TEST_END();
}
