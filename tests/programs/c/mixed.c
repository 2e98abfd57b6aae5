// Small blocks beside large ones, and some of a fixed size at regular distances: what a sampler by count or by a fixed
// number of bytes gets wrong.
// usage: mixed ROUNDS
#include "ledger.h"

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

int main(int argc, char **argv) {
    static void *kept[KEPT];
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    ledger_start();
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
    ledger_write();
    return 0;
}
