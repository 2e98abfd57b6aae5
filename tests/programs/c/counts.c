// A number of calls of each function, each with a size of its own, and blocks that are held for a while.
// usage: counts COUNT HELD; ends with code 23
#define _GNU_SOURCE
#include "ledger.h"
#include <malloc.h>
#include <stdint.h>
#include <time.h>

static volatile size_t huge = (size_t)PTRDIFF_MAX - 4096;
enum { MOST = 10000 };
static void *blocks[MOST];

// All calls of a function are one entry of the ledger, under the function's own name.
#define LEDGERED(name, p, n)                                                                                 \
    do {                                                                                                     \
        static int ledger_id = -1;                                                                           \
        if (ledger_id < 0)                                                                                   \
            ledger_id = ledger_site("function:" name);                                                       \
        ledger_alloc(ledger_id, (p), (n));                                                                   \
    } while (0)

static void *allocated(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGERED("malloc", p, n);
    return p;
}

static void *resized(void *old, size_t n) {
    struct ledger_block taken = ledger_take(old);
    void *p = realloc(old, n);
    KEEP(p);
    ledger_settle(taken);
    LEDGERED("realloc", p, n);
    return p;
}

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, held = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    if (count > MOST || held > MOST)
        return 2;
    void *before[7];
    for (size_t i = 0; i < 7; i++)
        before[i] = allocated(71);
    ledger_start();
    for (size_t i = 0; i < 7; i++)
        release(before[i]);

    for (size_t i = 0; i < count; i++) {
        void *p = calloc(3, 151);
        KEEP(p);
        LEDGERED("calloc", p, 453);
        release(p);
        p = resized(allocated(37), 1501);
        if (i % 2)
            release(p);
        p = aligned_alloc(64, 6016);
        KEEP(p);
        LEDGERED("aligned_alloc", p, 6016);
        release(p);
        if (posix_memalign(&p, 64, 20011))
            return 3;
        LEDGERED("posix_memalign", p, 20011);
        release(p);
    }
    for (int i = 0; i < 3; i++) {
        void *p = malloc(huge);
        KEEP(p);
        if (!p)
            ledger_failed();
    }
    void *p = calloc(huge, 3);
    KEEP(p);
    if (!p)
        ledger_failed();
    void *kept = allocated(37);
    p = realloc(kept, huge);
    KEEP(p);
    if (!p)
        ledger_failed();

    for (size_t i = 0; i < held; i++)
        blocks[i] = allocated(91);
    nanosleep(&(struct timespec){0, 150000000}, NULL);
    for (size_t i = 0; i < held; i++)
        release(blocks[i]);
    ledger_write();
    return 23;
}
