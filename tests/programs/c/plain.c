// Allocates in every way that all C libraries know, in two halves, each when the harness says go.
#include "ledger.h"
#include <stdint.h>

SITE void *site_malloc(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_calloc(size_t n) {
    void *p = calloc(n, 3);
    KEEP(p);
    LEDGER_ALLOC(p, n * 3);
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
SITE void *site_aligned_alloc(size_t n) {
    void *p = aligned_alloc(64, n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_posix_memalign(size_t n) {
    void *p = NULL;
    if (posix_memalign(&p, 256, n))
        abort();
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_too_large(void) {
    void *p = malloc(PTRDIFF_MAX - 4096);
    KEEP(p);
    if (!p)
        ledger_failed();
    return p;
}

static void allocate(size_t rounds) {
    for (size_t i = 0; i < rounds; i++) {
        size_t n = 101 + 2 * (i % 50);
        void *blocks[] = {site_realloc(site_malloc(n), n + 400), site_calloc(n + 1), site_aligned_alloc(64 * n),
                          site_posix_memalign(n + 2)};
        for (size_t j = 0; j < sizeof blocks / sizeof *blocks; j++)
            if ((i + j) % 3)
                release(blocks[j]);
    }
    if (site_too_large())
        abort();
}

int main(void) {
    void *before = site_malloc(77);
    ledger_start();
    release(before);
    allocate(100);
    ledger_touch("PLAIN_HALF");
    ledger_wait_file("PLAIN_GO_ON");
    allocate(200);
    ledger_write();
    ledger_touch("PLAIN_DONE");
    ledger_wait_file("PLAIN_END");
    return 23;
}
