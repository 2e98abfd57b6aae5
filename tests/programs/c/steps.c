// Allocates in steps, and waits after each for the word to go on: STEP1_DONE, STEP1_GO, STEP2_DONE ...
// Each step leaks some blocks; the first one fills a cache, and the third one empties it.
#include "ledger.h"
#include <stdio.h>

enum { LEAKED = 12, CACHED = 5 };
static void *cache[CACHED];

SITE void *site_leak(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_cache(size_t n) {
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

int main(void) {
    ledger_start();
    for (size_t step = 1; step <= 3; step++) {
        char name[16];
        for (size_t i = 0; step == 1 && i < CACHED; i++)
            cache[i] = site_cache(40009 + 2 * i);
        for (size_t i = 0; step == 3 && i < CACHED; i++)
            release(cache[i]);
        for (size_t i = 0; i < LEAKED; i++) {
            site_leak(1009 + 2 * i);
            release(site_passing(55));
        }
        snprintf(name, sizeof name, "STEP%zu_DONE", step);
        ledger_touch(name);
        snprintf(name, sizeof name, "STEP%zu_GO", step);
        ledger_wait_file(name);
    }
    ledger_write();
    return 0;
}
