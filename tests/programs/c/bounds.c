// Blocks on both sides of the sizes 500 to 1500, and reallocs across them. In the ledger are the blocks within.
// usage: bounds COUNT
#define _GNU_SOURCE
#include "ledger.h"
#include <stdint.h>

static volatile size_t huge = (size_t)PTRDIFF_MAX - 4096;
// Just within and just without, at both ends.
enum { LEAST = 500, MOST = 1500, SMALL = LEAST - 1, LARGE = MOST + 1 };

static int within(size_t n) {
    return n >= LEAST && n <= MOST;
}

SITE void *site_malloc(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    if (within(n))
        LEDGER_ALLOC(p, n);
    return p;
}
// `before` says how large the old block was.
SITE void *site_realloc(void *old, size_t before, size_t n) {
    struct ledger_block taken = {0};
    if (within(before))
        taken = ledger_take(old);
    void *p = realloc(old, n);
    KEEP(p);
    if (!p) {
        ledger_failed();
        ledger_restore(taken);
        return old;
    }
    ledger_settle(taken);
    if (within(n))
        LEDGER_ALLOC(p, n);
    return p;
}
static void freed(void *p, size_t n) {
    if (within(n))
        ledger_free(p);
    free(p);
}

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    static const size_t sizes[] = {SMALL, LEAST, 777, MOST, LARGE};
    ledger_start();
    for (size_t i = 0; i < count; i++) {
        for (int from = 0; from < 5; from++) {
            for (int to = 0; to < 5; to++) {
                void *p = site_realloc(site_malloc(sizes[from]), sizes[from], sizes[to]);
                if ((from + to) % 3)
                    freed(p, sizes[to]);
            }
            void *p = site_realloc(site_malloc(sizes[from]), sizes[from], huge);
            if (from % 2)
                freed(p, sizes[from]);
        }
    }
    ledger_write();
    return 0;
}
