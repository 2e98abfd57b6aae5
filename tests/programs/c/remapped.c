// Blocks with mappings of their own, whose places are mapped again by the program once they are freed.
// usage: remapped; ends when file MIXED_END is there
#include "ledger.h"
#include <sys/mman.h>

SITE void *site_own_mapping(size_t n) {
    char *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    p[0] = 1;
    return p;
}

SITE void *site_resized(void *p, size_t n) {
    struct ledger_block taken = ledger_take(p);
    char *q = realloc(p, n);
    KEEP(q);
    ledger_settle(taken);
    LEDGER_ALLOC(q, n);
    return q;
}

// Wherever there is room: where the block was.
static void map_again(size_t n) {
    char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED)
        p[0] = 5;
}

int main(void) {
    // Mappings for all of them, also after some were freed (mallopt(3), M_MMAP_THRESHOLD).
    enum { BIG = 40 << 20 };
    ledger_start();
    for (size_t i = 0; i < 20; i++) {
        release(site_own_mapping(BIG + i * 100003));
        map_again(BIG + i * 100003);
        release(site_resized(site_own_mapping(BIG + i), BIG + BIG / 2 + i));
        map_again(BIG + BIG / 2 + i);
    }
    site_own_mapping(BIG + 7);
    ledger_write();
    ledger_touch("MIXED_DONE");
    ledger_wait_file("MIXED_END");
    return 0;
}
