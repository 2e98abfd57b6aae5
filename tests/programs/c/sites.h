// Sites of the usual calls, as most programs have them.
#pragma once
#include "ledger.h"
#include <unistd.h>

SITE static void *site_malloc(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE static void *site_calloc(size_t n) {
    void *p = calloc(3, n);
    KEEP(p);
    LEDGER_ALLOC(p, 3 * n);
    return p;
}
SITE static void *site_realloc(void *old, size_t n) {
    struct ledger_block taken = ledger_take(old);
    void *p = realloc(old, n);
    KEEP(p);
    ledger_settle(taken);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE static void *site_posix_memalign(size_t n) {
    void *p = NULL;
    if (posix_memalign(&p, 64, n))
        _exit(71);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
