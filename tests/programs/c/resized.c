// An allocator whose realloc ends in a jump to free where no size is asked for.
#define _GNU_SOURCE
#include "arena.h"
#include "ledger.h"

enum { ROUNDS = 500 };

// The same function, as realloc calls it at its end: what it returns is NULL.
void *free_to_null(void *p) __asm__("free");

APART void *malloc(size_t n) {
    void *p = arena_take(16, n);
    KEEP(p);
    return p;
}
APART void *free_to_null(void *p) {
    KEEP(p);
    return NULL;
}
APART void *calloc(size_t a, size_t b) {
    void *p = arena_take(16, a * b);
    KEEP(p);
    memset(p, 0, a * b);
    return p;
}
APART void *realloc(void *old, size_t n) {
    if (!n && old)
        return free_to_null(old);
    void *p = arena_take(16, n);
    KEEP(p);
    arena_copy(p, old, n);
    return p;
}

SITE static void *site_malloc(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE static void *site_realloc(void *old, size_t n) {
    ledger_free(old);
    void *p = realloc(old, n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE static void site_realloc_to_nothing(void *old) {
    ledger_free(old);
    void *p = realloc(old, 0);
    KEEP(p);
}

int main(void) {
    void *before = site_malloc(71);
    ledger_start();
    site_realloc_to_nothing(before);
    for (size_t i = 0; i < ROUNDS; i++) {
        void *p = site_realloc(site_malloc(101 + 2 * (i % 50)), 501 + 2 * (i % 70));
        if (i % 3 == 0)
            site_realloc_to_nothing(p);
        else if (i % 3 == 1)
            release(p);
    }
    ledger_write();
    return 18;
}
