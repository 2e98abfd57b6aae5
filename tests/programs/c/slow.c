// Threads that are in malloc nearly all of the time, each time for another size, while children come, or while a callee
// of valloc leaves another value in a register that it has to leave as it was: the allocator is the program's own, and
// naps inside.
// usage: slow children|clobbers
#define _GNU_SOURCE
#include "arena.h"
#include "ledger.h"
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ENDS = 26, THREADS = 16, CHILDREN = 3, CLOBBERED = 150 };

static int over;

static APART void nap(long ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}
APART void *malloc(size_t n) {
    void *p = arena_take(16, n);
    nap(2);
    // A jump where size and block are both known.
    if (n > 100)
        *(char *)p = 1;
    KEEP(p);
    return p;
}
APART void *calloc(size_t count, size_t n) {
    void *p = arena_take(16, count * n);
    KEEP(p);
    return p;
}
APART void *realloc(void *old, size_t n) {
    void *p = arena_take(16, n);
    arena_copy(p, old, n);
    return p;
}
APART void free(void *p) {
    KEEP(p);
}

APART void *take(size_t n) {
    return arena_take(16, n);
}
// The size stays in rbx, or should.
__asm__(".pushsection .text\n"
        ".globl valloc\n .type valloc, @function\n .balign 16\n"
        "valloc: .cfi_startproc\n push %rbx\n .cfi_adjust_cfa_offset 8\n mov %rdi, %rbx\n call clobber\n"
        " test %rax, %rax\n je 1f\n"
        "1: pop %rbx\n .cfi_adjust_cfa_offset -8\n ret\n .cfi_endproc\n"
        " .size valloc, . - valloc\n"
        ".type clobber, @function\n .balign 16\n"
        "clobber: .cfi_startproc\n sub $8, %rsp\n .cfi_adjust_cfa_offset 8\n call take\n mov $1, %ebx\n"
        " add $8, %rsp\n .cfi_adjust_cfa_offset -8\n ret\n .cfi_endproc\n"
        " .size clobber, . - clobber\n"
        ".popsection\n");

SITE static void *site_slow(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static void *run(void *unused) {
    for (size_t i = 0; !__atomic_load_n(&over, __ATOMIC_ACQUIRE); i++)
        release(site_slow(101 + 2 * (i % 500)));
    return unused;
}

static int children(void) {
    int failed = 0;
    for (int i = 0; i < CHILDREN; i++) {
        nap(300);
        pid_t pid = fork();
        if (pid == 0) {
            nap(600);
            _exit(0);
        }
        int status;
        failed += pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
    }
    return failed;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    if (argc != 2)
        return 2;
    ledger_start();
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, run, NULL))
            return 3;
    int failed = 0;
    if (!strcmp(argv[1], "children"))
        failed = children();
    for (int i = 0; i < CLOBBERED && !strcmp(argv[1], "clobbers"); i++) {
        free(valloc(40));
        nap(20);
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < THREADS; i++)
        failed += pthread_join(threads[i], NULL) != 0;
    ledger_write();
    return failed ? 4 : ENDS;
}
