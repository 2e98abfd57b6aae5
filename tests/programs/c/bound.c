// A plugin with an allocator of its own linked in, and bound to itself: whatever else is called malloc, its code calls its own.
// With -DAPART it has no ledger: whoever calls it, has. With -DPLAIN it has no allocator, and calls what its linker finds.
#include "ledger.h"
#include <string.h>

#ifndef PLAIN
// A stack of blocks in an arena, each behind its size; free gives back what was taken last.
static _Alignas(16) char arena[4 << 20];
static size_t used;

__attribute__((noinline)) void *malloc(size_t n) {
    size_t room = (n + 31) & ~(size_t)15;
    if (n > sizeof arena || used + room > sizeof arena)
        return NULL;
    char *block = arena + used + 16;
    memcpy(block - 16, &room, sizeof room);
    used += room;
    return block;
}
__attribute__((noinline)) void free(void *p) {
    if (!p)
        return;
    size_t room;
    memcpy(&room, (char *)p - 16, sizeof room);
    if ((char *)p - 16 + room == arena + used)
        used -= room;
}
__attribute__((noinline)) void *calloc(size_t count, size_t n) {
    void *p = malloc(count * n);
    return p ? memset(p, 0, count * n) : NULL;
}
#endif

#ifdef APART
#undef LEDGER_ALLOC
#define LEDGER_ALLOC(p, n) (void)0
#define ledger_free(p) (void)0
#endif

SITE void *site_bound(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

void bound_free(void *p) {
    ledger_free(p);
    free(p);
}
