// Threads that allocate flat out while the tracer attaches; what is allocated after it did is known exactly.
#include "ledger.h"
#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 4, HELD = 64, MARKED = 5000 };
static atomic_int stop;
static atomic_ulong turns[THREADS];

SITE void *site_worker(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    return p;
}
SITE void *site_marked(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static void *worker(void *argument) {
    atomic_ulong *turn = argument;
    void *held[HELD] = {0};
    while (!atomic_load(&stop)) {
        for (size_t i = 0; i < HELD; i++) {
            free(held[i]);
            held[i] = site_worker(333);
        }
        atomic_fetch_add(turn, 1);
    }
    for (size_t i = 0; i < HELD; i++)
        free(held[i]);
    return NULL;
}

int main(void) {
    static pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, worker, &turns[i]))
            return 3;
    for (int i = 0; i < THREADS; i++)
        while (atomic_load(&turns[i]) == 0)
            ;
    ledger_start();
    for (size_t i = 0; i < MARKED; i++) {
        void *p = site_marked(1409 + 2 * (i % 100));
        if (i % 5 < 2)
            release(p);
    }
    // Each thread goes through all its blocks again, so that nothing from before is left.
    for (int i = 0; i < THREADS; i++) {
        unsigned long then = atomic_load(&turns[i]);
        while (atomic_load(&turns[i]) < then + 3)
            ;
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ledger_write();
    return 0;
}
