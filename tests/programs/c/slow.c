// Threads that are in malloc nearly all of the time, each time for another size, while children come: the allocator is
// the program's own, and naps inside.
#define _GNU_SOURCE
#include "arena.h"
#include "ledger.h"
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ENDS = 26, THREADS = 16, CHILDREN = 3 };

static int over;

static APART void nap(long ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}
APART void *malloc(size_t n) {
    void *p = arena_take(16, n);
    nap(2);
    KEEP(p);
    KEEP(n);
    memcpy((char *)p - HEADER, &n, sizeof n);
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

int main(void) {
    pthread_t threads[THREADS];
    ledger_start();
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, run, NULL))
            return 3;
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
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < THREADS; i++)
        failed += pthread_join(threads[i], NULL) != 0;
    ledger_write();
    return failed ? 4 : ENDS;
}
