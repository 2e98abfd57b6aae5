// Stacks of several shapes, for formats: recursion of one function and of two, and an inlined one. Holds most at a peak,
// where it waits for the file named by PEAK_SEEN, and then frees most of that.
#include "ledger.h"

enum { PEAK = 61, DEPTH = 7 };
static void *peak[PEAK];

SITE void *site_kept(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_peak(size_t n) {
    void *p = calloc(1, n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_passing(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static inline __attribute__((always_inline)) void *inlined(size_t n) {
    void *p = site_kept(n);
    KEEP(p);
    return p;
}

// Allocates at each depth: what it holds by itself, and with all that it calls.
static __attribute__((noipa)) void recursive(size_t depth) {
    void *p = inlined(1009 + 2 * depth);
    KEEP(p);
    if (depth > 0)
        recursive(depth - 1);
    KEEP(depth);
}

static __attribute__((noipa)) void odd(size_t depth);
static __attribute__((noipa)) void even(size_t depth) {
    if (depth == 0)
        release(site_passing(4003));
    else
        odd(depth - 1);
    KEEP(depth);
}
static __attribute__((noipa)) void odd(size_t depth) {
    void *p = site_kept(2003 + 2 * depth);
    KEEP(p);
    even(depth - 1);
    KEEP(depth);
}

int main(void) {
    ledger_start();
    recursive(DEPTH);
    even(2 * DEPTH);
    for (size_t i = 0; i < PEAK; i++)
        peak[i] = site_peak(30011 + 2 * i);
    ledger_wait_file("PEAK_SEEN");
    for (size_t i = 1; i < PEAK; i++)
        release(peak[i]);
    ledger_write();
    return 0;
}
