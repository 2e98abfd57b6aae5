// Blocks by several stacks, for an allocator that keeps a profile of its own.
#include "sites.h"

static __attribute__((noipa)) void at_depth(size_t depth, size_t i) {
    if (depth > 0) {
        at_depth(depth - 1, i);
        KEEP(depth);
        return;
    }
    void *blocks[] = {site_malloc(10001), site_calloc(501), site_realloc(site_malloc(1301), 20003), site_posix_memalign(7001)};
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
