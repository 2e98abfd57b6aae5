// mimalloc's heaps of their own, which are destroyed with all blocks in them. What sites named `site_lost...` allocate is
// gone in the end, all else is still there.
#define _GNU_SOURCE
#include "ledger.h"
#include <mimalloc.h>
#include <string.h>
#include <unistd.h>

enum { HUGE_BLOCKS = 5, BLOCKS = 4000 };

#define HEAP_SITE(name)                                                                                      \
    SITE static void *name(mi_heap_t *heap, size_t n) {                                                      \
        void *p = mi_heap_malloc(heap, n);                                                                   \
        KEEP(p);                                                                                             \
        LEDGER_ALLOC(p, n);                                                                                  \
        return p;                                                                                            \
    }
HEAP_SITE(site_lost_huge)
HEAP_SITE(site_destroyed)
HEAP_SITE(site_kept_huge)
HEAP_SITE(site_kept)
HEAP_SITE(site_kept_again)

int main(void) {
    ledger_start();
    mi_heap_t *kept = mi_heap_new(), *destroyed = mi_heap_new();
    for (size_t i = 0; i < HUGE_BLOCKS; i++) {
        site_kept_huge(kept, 40000003 + 2 * i);
        (void)ledger_take(site_lost_huge(destroyed, 50000005 + 2 * i));
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        site_kept(kept, 801 + 2 * (i % 50));
        void *p = site_destroyed(destroyed, 1001);
        (void)ledger_take(p);
        memset(p, 1, 1001);
    }
    mi_heap_destroy(destroyed);
    usleep(60000);
    for (size_t i = 0; i < BLOCKS; i++)
        site_kept_again(kept, 2003 + 2 * (i % 50));
    ledger_write();
    usleep(300000);
    ledger_touch("VANISHED");
    ledger_wait_file("VANISHING_END");
    _exit(0);
}
