// Blocks that are freed at once, after more than a second, and never.
#define _GNU_SOURCE
#include "ledger.h"
#include <time.h>

enum { SHORT = 1000, LONG = 50, KEPT = 30 };

SITE void *site_short(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_long(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_kept(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

int main(void) {
    void *held[LONG];
    ledger_start();
    for (int i = 0; i < LONG; i++)
        held[i] = site_long(100 + (size_t)i);
    for (int i = 0; i < KEPT; i++)
        site_kept(10);
    for (int i = 0; i < SHORT; i++)
        release(site_short(20));
    nanosleep(&(struct timespec){1, 200000000}, NULL);
    for (int i = 0; i < LONG; i++)
        release(held[i]);
    ledger_write();
    return 0;
}
