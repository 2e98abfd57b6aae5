// Blocks that are held from the start beside threads that change the heap all the time.
// usage: held BLOCKS THREADS; ends when file HELD_END is there
#include "ledger.h"
#include <pthread.h>
#include <stdatomic.h>

static atomic_int over;

SITE void *site_held(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

__attribute__((noinline)) static void *churned(size_t n) {
    char *p = malloc(n);
    KEEP(p);
    return p;
}

static void *churn(void *seed) {
    static __thread void *blocks[256];
    unsigned random = (unsigned)(size_t)seed;
    while (!over) {
        random = random * 1103515245 + 12345;
        void **at = &blocks[random >> 16 & 255];
        free(*at);
        size_t n = 1 << (random >> 8 & 15);
        // Now and then in its place, so that blocks merge and are parted.
        *at = random & 64 ? churned(n + (random & 63)) : realloc(churned(n), 2 * n);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[8];
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 500;
    size_t beside = argc > 2 ? strtoul(argv[2], NULL, 10) : 3;
    ledger_start();
    for (size_t i = 0; i < beside && i < 8; i++)
        if (pthread_create(&threads[i], NULL, churn, (void *)(i + 1)))
            return 3;
    // Among theirs, of many sizes.
    for (size_t i = 0; i < count; i++) {
        KEEP(count);
        site_held(16 + i * 37 % 3000);
        free(churned(100 + i % 500));
    }
    ledger_write();
    ledger_touch("HELD_READY");
    ledger_wait_file("HELD_END");
    over = 1;
    for (size_t i = 0; i < beside && i < 8; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
