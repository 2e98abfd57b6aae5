// Forbids itself most system calls, and allocates: whatever a tracer makes it call besides would kill it.
// usage: filtered strict|filter|late|bite
#define _GNU_SOURCE
#include "ledger.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

SITE void *site_malloc(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_calloc(size_t n) {
    void *p = calloc(1, n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_realloc(void *old, size_t n) {
    struct ledger_block taken = ledger_take(old);
    void *p = realloc(old, n);
    KEEP(p);
    ledger_settle(taken);
    LEDGER_ALLOC(p, n);
    return p;
}

static void allocate(size_t rounds) {
    for (size_t i = 0; i < rounds; i++) {
        void *p = site_malloc(101 + 2 * (i % 50)), *q = site_calloc(51 + 2 * (i % 50));
        p = site_realloc(p, 301 + 2 * (i % 50));
        if (i % 3)
            release(p);
        if (i % 4)
            release(q);
    }
}

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void forbid(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(read), ALLOW(write), ALLOW(openat), ALLOW(close), ALLOW(access), ALLOW(clock_nanosleep),
        ALLOW(brk), ALLOW(mmap), ALLOW(munmap), ALLOW(getpid), ALLOW(futex), ALLOW(getrandom),
        ALLOW(exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(97);
}

// Only read, write and exit are left: everything else is made ready before, and go is a byte in a pipe.
static _Noreturn void strict(void) {
    const char *go = getenv("LEDGER_GO");
    char byte;
    int fd = -1;
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    free(malloc(100000));
    ledger_prepare();
    if (go && (mkfifo(go, 0600) || (fd = open(go, O_RDWR)) < 0))
        _exit(97);
    ledger_touch("LEDGER_READY");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
        _exit(97);
    if (go && read(fd, &byte, 1) == 1)
        ledger_attached();
    allocate(100);
    ledger_write();
    syscall(SYS_exit, 23);
    __builtin_unreachable();
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "strict"))
        strict();
    if (!strcmp(mode, "filter")) {
        forbid();
        ledger_start();
    } else {
        ledger_start();
        allocate(100);
        forbid();
    }
    allocate(400);
    ledger_write();
    if (!strcmp(mode, "bite"))
        getppid();
    return 23;
}
