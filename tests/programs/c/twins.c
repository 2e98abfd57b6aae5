// Two callers of one function, whose frames are of one size: their calls of malloc differ only by what lies further up on
// the stack. Taken by turns, and by a deeper way now and then.
#include "ledger.h"

enum { CALLS = 3000 };
static void *blocks[CALLS];

SITE static void *common(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    return p;
}

SITE void *site_left(size_t n) {
    void *p = common(n);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_right(size_t n) {
    void *p = common(n);
    LEDGER_ALLOC(p, n);
    return p;
}

SITE static void *deeper(size_t n, int levels) {
    void *p = levels ? deeper(n, levels - 1) : site_left(n);
    KEEP(p);
    return p;
}

int main(void) {
    ledger_start();
    for (size_t i = 0; i < CALLS; i++) {
        size_t n = 24 + i % 500;
        blocks[i] = i % 7 == 0 ? deeper(n, i % 5) : i % 2 ? site_right(n) : site_left(n);
    }
    for (size_t i = 0; i < CALLS; i += 3)
        release(blocks[i]);
    ledger_write();
    return 0;
}
