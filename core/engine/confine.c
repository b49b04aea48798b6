/* engine/confine.c - see confine.h. */
#include "engine/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

void engine_confine(void)
{
#if defined(WASD_SANITIZED) /* the leak checker traces its own process */
#elif defined(__x86_64__) || defined(__aarch64__)
#define DENY(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#ifdef __x86_64__
	enum { ARCH = (int)AUDIT_ARCH_X86_64 };
#else
	enum { ARCH = (int)AUDIT_ARCH_AARCH64 };
#endif
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)ARCH, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM), /* another ABI of this CPU */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), /* x32 */
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		DENY(SYS_execve),
		DENY(SYS_execveat),
		DENY(SYS_socket),
		DENY(SYS_socketpair),
		DENY(SYS_connect),
		DENY(SYS_bind),
		DENY(SYS_listen),
		DENY(SYS_ptrace),
		DENY(SYS_process_vm_readv),
		DENY(SYS_process_vm_writev),
		DENY(SYS_kill),
		DENY(SYS_setns),
		DENY(SYS_unshare),
		DENY(SYS_mount),
		DENY(SYS_bpf),
		DENY(SYS_keyctl),
		DENY(SYS_perf_event_open),
		DENY(SYS_io_uring_setup),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
#undef DENY
	struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
#endif
}

enum wasd_status engine_limit_memory(int64_t mb, struct wasd_err *err)
{
#ifdef WASD_SANITIZED
	mb = 0; /* a sanitizer's shadow memory would count; the trainer still compares its plan with the limit */
#endif
	rlim_t n = (rlim_t)mb << 20;
	if (mb <= 0 || !setrlimit(RLIMIT_DATA, &(struct rlimit){n, n}))
		return WASD_OK;
	return wasd_fail_errno(err, errno, "limits.memory_mb");
}
