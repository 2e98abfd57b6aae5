// A call of an allocation function that takes its time, in a thread of its own, while tracers come and go: the allocator
// is the program's own, and waits inside.
// usage: underway attach|detach malloc|realloc; waits for the harness before that call returns
#define _GNU_SOURCE
#include "arena.h"
#include "sites.h"
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLOW = 3001, OLD = 2001 };

static int inside, may_return;

static APART void pause_until(const int *flag) {
    while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE))
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}
static APART char *take(size_t n) {
    char *p = arena_take(16, n);
    if (n == SLOW) {
        __atomic_store_n(&inside, 1, __ATOMIC_RELEASE);
        pause_until(&may_return);
    }
    return p;
}
APART void *malloc(size_t n) {
    void *p = take(n);
    KEEP(p);
    return p;
}
APART void *calloc(size_t a, size_t b) {
    void *p = take(a * b);
    KEEP(p);
    memset(p, 0, a * b);
    return p;
}
APART void *realloc(void *old, size_t n) {
    char *p = take(n);
    KEEP(p);
    arena_copy(p, old, n);
    KEEP(p);
    return p;
}
APART void free(void *p) {
    KEEP(p);
}

// In no ledger: nobody can say whether the call is before or after the tracer came or left.
static APART void *slow_call(void *old) {
    void *p = old ? realloc(old, SLOW) : malloc(SLOW);
    KEEP(p);
    memset(p, 7, SLOW);
    return p;
}
static void *run(void *old) {
    return slow_call(old);
}

static APART void work(void) {
    for (size_t i = 0; i < 500; i++) {
        void *p = site_realloc(site_malloc(501 + 2 * i), 3201 + 2 * i);
        void *q = site_malloc(1701);
        if (i % 3)
            release(p);
        if (i % 2)
            release(q);
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    int at_attach = !strcmp(argv[1], "attach");
    void *old = strcmp(argv[2], "realloc") ? NULL : malloc(OLD);
    pthread_t thread;
    void *slow;
    if (at_attach) {
        pthread_create(&thread, NULL, run, old);
        pause_until(&inside);
    }
    ledger_start();
    work();
    if (!at_attach) {
        pthread_create(&thread, NULL, run, old);
        pause_until(&inside);
        ledger_write();
        ledger_touch("UNDERWAY_INSIDE");
        ledger_wait_file("UNDERWAY_DETACHED");
    }
    __atomic_store_n(&may_return, 1, __ATOMIC_RELEASE);
    if (pthread_join(thread, &slow))
        return 3;
    for (size_t i = 0; i < SLOW; i++)
        if (((char *)slow)[i] != 7)
            return 4;
    free(slow);
    work();
    if (at_attach)
        ledger_write();
    return 22;
}
