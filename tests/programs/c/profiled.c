// Blocks by several stacks, for an allocator that keeps a profile of its own.
#include "ledger.h"

SITE static void *site_kept(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE static void *site_zeroed(size_t n) {
    void *p = calloc(7, n);
    KEEP(p);
    LEDGER_ALLOC(p, 7 * n);
    return p;
}
SITE static void *site_resized(void *old, size_t n) {
    struct ledger_block taken = ledger_take(old);
    void *p = realloc(old, n);
    KEEP(p);
    ledger_settle(taken);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE static void *site_aligned(size_t n) {
    void *p = NULL;
    if (posix_memalign(&p, 128, n))
        abort();
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static __attribute__((noipa)) void at_depth(size_t depth, size_t i) {
    if (depth > 0) {
        at_depth(depth - 1, i);
        KEEP(depth);
        return;
    }
    void *blocks[] = {site_kept(10001), site_zeroed(501), site_resized(site_kept(1301), 20003), site_aligned(7001)};
    for (size_t j = 0; j < 4; j++)
        if ((i + j) % 3 == 0)
            release(blocks[j]);
}

int main(void) {
    ledger_start();
    for (size_t i = 0; i < 400; i++)
        at_depth(i % 5, i);
    ledger_write();
    return 0;
}
