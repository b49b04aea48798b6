#include "process/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Builds the environment of an engine: one BLAS thread, OpenMP threads that sleep when idle, no OpenCL drivers. */
enum { PASSED = 6, VALUE_MAX = 4200 };

static size_t engine_environment(char *env[], char pass[PASSED][VALUE_MAX])
{
	static char fixed[][64] = {
		"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "OPENBLAS_NUM_THREADS=1", "OMP_WAIT_POLICY=passive",
		"OCL_ICD_VENDORS=/nonexistent",
	};
	static const char *const passed[] = {"WASD_TUNING",  "WASD_OPENBLAS_CORETYPE", "ONEDNN_MAX_CPU_ISA",
	                                     "ASAN_OPTIONS", "UBSAN_OPTIONS",          "TSAN_OPTIONS"};
	_Static_assert(sizeof passed / sizeof passed[0] == PASSED, "a buffer for each");
	size_t n = 0;
	for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
		env[n++] = fixed[i];
	for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) {
		const char *v = getenv(passed[i]);
		if (v && strlen(v) < VALUE_MAX - 40) {
			snprintf(pass[i], sizeof pass[i], "%s=%s", passed[i], v);
			env[n++] = pass[i];
		}
	}
	env[n] = NULL;
	return n;
}

enum wasd_status launch_engine(char *const argv[], int stream, int errors, pid_t *pid, struct wasd_err *err)
{
	char *env[16], pass[PASSED][VALUE_MAX];
	engine_environment(env, pass);
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&at);
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	/* Move the descriptors above their targets, so that no dup2 overwrites a source that is still needed. */
	int s = fcntl(stream, F_DUPFD_CLOEXEC, 10), e = fcntl(errors, F_DUPFD_CLOEXEC, 10);
	int bad = s < 0 || e < 0 ? errno : 0;
	if (!bad)
		bad = posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	if (!bad)
		bad = posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	if (!bad)
		bad = posix_spawn_file_actions_adddup2(&fa, e, 2);
	if (!bad)
		bad = posix_spawn_file_actions_adddup2(&fa, s, 3);
	if (!bad)
		bad = posix_spawn_file_actions_addclosefrom_np(&fa, 4);
	if (!bad)
		bad = posix_spawnattr_setsigmask(&at, &none) || posix_spawnattr_setsigdefault(&at, &all) ||
		              posix_spawnattr_setflags(&at,
		                                       POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF) ?
		          EINVAL :
		          0;
	if (!bad)
		bad = posix_spawn(pid, argv[0], &fa, &at, argv, env);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&at);
	if (s >= 0)
		close(s);
	if (e >= 0)
		close(e);
	return bad ? wasd_fail_errno(err, bad, "cannot start %s", argv[0]) : WASD_OK;
}
