// Every function of the malloc family, with its successes and failures, in one or more threads.
// usage: family THREADS ROUNDS
#define _GNU_SOURCE
#include "ledger.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

static volatile size_t huge = (size_t)PTRDIFF_MAX - 4096;
static volatile size_t no_bytes = 0;
static volatile size_t half = SIZE_MAX / 2 + 2; // twice this overflows

SITE void *site_pre(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_malloc_a(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_malloc_b(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_malloc_zero(void) {
    void *p = malloc(no_bytes);
    KEEP(p);
    LEDGER_ALLOC(p, 0);
    return p;
}
SITE void *site_calloc(size_t a, size_t b) {
    void *p = calloc(a, b);
    KEEP(p);
    LEDGER_ALLOC(p, a * b);
    return p;
}
// The one shape of a realloc that returns a block.
#define RESIZE(old, call, n)                                                                                 \
    struct ledger_block taken = ledger_take(old);                                                            \
    void *p = call;                                                                                          \
    KEEP(p);                                                                                                 \
    ledger_settle(taken);                                                                                    \
    LEDGER_ALLOC(p, n);                                                                                      \
    return p
SITE void *site_realloc_null(size_t n) {
    RESIZE(NULL, realloc(NULL, n), n);
}
SITE void *site_realloc_grow(void *old, size_t n) {
    RESIZE(old, realloc(old, n), n);
}
SITE void *site_realloc_shrink(void *old, size_t n) {
    RESIZE(old, realloc(old, n), n);
}
SITE void *site_reallocarray(void *old, size_t a, size_t b) {
    RESIZE(old, reallocarray(old, a, b), a * b);
}
SITE void *site_memalign(size_t alignment, size_t n) {
    void *p = memalign(alignment, n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_aligned_alloc(size_t alignment, size_t n) {
    void *p = aligned_alloc(alignment, n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_posix_memalign(size_t alignment, size_t n) {
    void *p = NULL;
    if (posix_memalign(&p, alignment, n) != 0)
        _exit(90);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_valloc(size_t n) {
    void *p = valloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_pvalloc(size_t n) {
    void *p = pvalloc(n);
    KEEP(p);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    LEDGER_ALLOC(p, (n + page - 1) / page * page);
    return p;
}

// realloc to zero bytes frees the block, and that is no failure.
SITE void site_realloc_zero(void *old) {
    struct ledger_block taken = ledger_take(old);
    void *p = realloc(old, no_bytes);
    KEEP(p);
    if (p)
        _exit(91);
    ledger_settle(taken);
}

static void must_fail(const void *p) {
    if (p)
        _exit(92);
    ledger_failed();
}

// Each of these fails; `kept` must survive the two that are given it.
SITE void site_failures(void *kept) {
    void *untouched = NULL;
    must_fail(malloc(huge));
    must_fail(calloc(huge, 3));
    must_fail(calloc(half, 2));
    must_fail(reallocarray(NULL, half, 2));
    must_fail(memalign(64, huge));
    must_fail(aligned_alloc(64, huge));
    must_fail(valloc(huge));
    if (posix_memalign(&untouched, 3 + no_bytes, 100) != EINVAL)
        _exit(93);
    must_fail(untouched);
    if (posix_memalign(&untouched, 64, huge) != ENOMEM)
        _exit(94);
    must_fail(untouched);

    struct ledger_block taken = ledger_take(kept);
    must_fail(realloc(kept, huge));
    ledger_restore(taken);
    taken = ledger_take(kept);
    must_fail(reallocarray(kept, half, 2));
    ledger_restore(taken);
}

static void round_of_calls(size_t i) {
    void *a = site_malloc_a(1009 + 2 * (i % 11));
    void *b = site_malloc_b(2003 + 2 * (i % 13));
    void *zero = site_malloc_zero();
    void *c = site_calloc(3, 677 + 2 * (i % 5));
    void *grown = site_realloc_grow(site_realloc_null(331), 40009 + 2 * (i % 3));
    void *shrunk = site_realloc_shrink(site_malloc_a(9001), 117);
    void *array = site_reallocarray(site_malloc_b(55), 7, 311);
    void *aligned[] = {site_memalign(256, 1511),       site_aligned_alloc(64, 64 * 27), site_valloc(4703),
                       // Of the lesser alignment glibc's goes on in malloc.
                       site_posix_memalign(i % 2 ? 16 : 128, 2711), site_pvalloc(4999),
                       site_malloc_a(300007)}; // the last is large enough to be mapped
    void *null = NULL;
    KEEP(null);
    free(null);
    site_failures(a);
    site_realloc_zero(site_malloc_b(71));
    // Every third round leaves its blocks alive, each round a part of them.
    size_t kept = sizeof aligned / sizeof *aligned;
    for (size_t k = 0; k < kept; k++)
        if ((i + k) % 3)
            release(aligned[k]);
    if (i % 3 == 0)
        return;
    release(a);
    release(b);
    release(zero);
    release(c);
    release(grown);
    release(shrunk);
    if (i % 3 == 1)
        release(array);
}

static size_t rounds;

static void *worker(void *unused) {
    for (size_t i = 0; i < rounds; i++)
        round_of_calls(i);
    return unused;
}

int main(int argc, char **argv) {
    enum { PRE = 101, MOST_THREADS = 128 };
    static void *pre[PRE];
    static pthread_t threads[MOST_THREADS];
    if (argc != 3)
        return 2;
    size_t count = strtoul(argv[1], NULL, 10);
    rounds = strtoul(argv[2], NULL, 10);
    if (count > MOST_THREADS)
        return 2;
    for (size_t i = 0; i < PRE; i++)
        pre[i] = site_pre(401 + 2 * i);
    ledger_start();
    for (size_t i = 0; i < PRE; i += 2)
        release(pre[i]);
    if (count == 1)
        worker(NULL);
    else
        for (size_t i = 0; i < count; i++)
            if (pthread_create(&threads[i], NULL, worker, NULL))
                return 3;
    for (size_t i = 0; count > 1 && i < count; i++)
        pthread_join(threads[i], NULL);
    ledger_write();
    return 0;
}
