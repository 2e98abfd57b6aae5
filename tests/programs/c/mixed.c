// Small blocks beside large ones, and some of a fixed size at regular distances: what a sampler by count or by a fixed
// number of bytes gets wrong.
// usage: mixed ROUNDS [THREADS]
#include "ledger.h"
#include <pthread.h>

enum { KEPT = 1 << 10 };

SITE void *site_small(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

SITE void *site_periodic(void) {
    void *p = calloc(1, 65536);
    KEEP(p);
    LEDGER_ALLOC(p, 65536);
    return p;
}

SITE void *site_large(void) {
    void *p = malloc(400000);
    KEEP(p);
    LEDGER_ALLOC(p, 400000);
    return p;
}

SITE void *site_grown(void *p, size_t n) {
    struct ledger_block taken = ledger_take(p);
    void *q = realloc(p, n);
    KEEP(q);
    ledger_settle(taken);
    LEDGER_ALLOC(q, n);
    return q;
}

SITE void *site_leak(void) {
    void *p = malloc(200);
    KEEP(p);
    LEDGER_ALLOC(p, 200);
    return p;
}

static size_t rounds = 10000;

static void *work(void *unused) {
    static __thread void *kept[KEPT];
    for (size_t i = 0; i < rounds; i++) {
        size_t at = i * 7919 % KEPT;
        release(kept[at]);
        kept[at] = site_small(16 + i % 97);
        if (i % 7 == 0)
            release(site_periodic());
        if (i % 3 == 0)
            site_leak();
        if (i % 50 == 0)
            kept[at] = site_grown(kept[at], 3000 + i % 1000);
        if (i % 1000 == 0)
            site_large();
    }
    return unused;
}

int main(int argc, char **argv) {
    pthread_t threads[16];
    if (argc > 1)
        rounds = strtoul(argv[1], NULL, 10);
    size_t count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    ledger_start();
    for (size_t i = 0; i < count && i < 16; i++)
        if (pthread_create(&threads[i], NULL, work, NULL))
            return 3;
    work(NULL);
    for (size_t i = 0; i < count && i < 16; i++)
        pthread_join(threads[i], NULL);
    ledger_write();
    ledger_touch("MIXED_DONE");
    ledger_wait_file("MIXED_END");
    return 0;
}
