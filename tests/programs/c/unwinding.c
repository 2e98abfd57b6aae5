// An allocator that looks at who called it, as heap profilers and crash handlers do: no frame may be unknown, and the
// caller must be the one that it is. With LIBUNWIND by that, else by glibc's backtrace.
#define _GNU_SOURCE
#include "arena.h"
#include "sites.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifdef LIBUNWIND
#define UNW_LOCAL_ONLY
#include <libunwind.h>
#define backtrace unw_backtrace
#endif

enum { FRAMES = 64 };

static int looking;
static long calls, frames, unknown, strange_callers;

static APART void look(void *caller) {
    void *found[FRAMES];
    Dl_info info;
    if (!looking)
        return;
    looking = 0;
    int n = backtrace(found, FRAMES);
    int seen = 0;
    calls++;
    frames += n;
    for (int i = 0; i < n; i++) {
        unknown += !dladdr(found[i], &info);
        seen |= found[i] == caller;
    }
    unknown += !dladdr(caller, &info);
    strange_callers += !seen;
    looking = 1;
}

APART void *malloc(size_t n) {
    look(__builtin_return_address(0));
    void *p = arena_take(16, n);
    KEEP(p);
    return p;
}
APART void free(void *p) {
    look(__builtin_return_address(0));
    KEEP(p);
}
APART void *calloc(size_t a, size_t b) {
    void *p = malloc(a * b);
    KEEP(p);
    memset(p, 0, a * b);
    return p;
}
APART void *realloc(void *old, size_t n) {
    look(__builtin_return_address(0));
    void *p = malloc(n);
    KEEP(p);
    arena_copy(p, old, n);
    KEEP(p);
    return p;
}

static APART void at_depth(size_t depth, size_t i) {
    if (depth > 0) {
        at_depth(depth - 1, i);
        KEEP(depth);
        return;
    }
    void *blocks[] = {site_malloc(101 + 2 * i), site_calloc(2001 + 2 * i), site_realloc(site_malloc(1301), 9001 + 2 * i)};
    for (size_t j = 0; j < 3; j++)
        if ((i + j) % 3)
            release(blocks[j]);
}

int main(void) {
    // The first one loads what unwinds.
    void *some[4];
    int n = backtrace(some, 4);
    KEEP(n);
    ledger_start();
    looking = 1;
    for (size_t i = 0; i < 300; i++)
        at_depth(i % 20, i);
    looking = 0;
    char line[120];
    n = snprintf(line, sizeof line, "%ld calls, %ld frames, %ld unknown, %ld not by their callers\n", calls, frames,
                 unknown, strange_callers);
    if (write(1, line, (size_t)n) != n)
        return 3;
    ledger_write();
    return 24;
}
