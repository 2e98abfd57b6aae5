// Allocation functions that are left by longjmp: the allocator is the program's own, as that of an interpreter is which
// gives up when memory is out; or a signal comes in the middle of a call.
// usage: jumps malloc|calloc|realloc|posix_memalign|free|handler|mixed
#define _GNU_SOURCE
#include "arena.h"
#include "sites.h"
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LEFT = 5000, BLOCKS = 10000 };

static sigjmp_buf out;
// A request of this very size raises a signal, half done; a larger one leaves.
static volatile size_t signals_at = SIZE_MAX, most = (1 << 30) + 1;
static volatile int in_free;
static int handled, left;

static APART void leave(void) {
    siglongjmp(out, 1);
}

static APART char *take(size_t n) {
    if (n > most)
        leave();
    if (n == signals_at)
        raise(SIGUSR1);
    return arena_take(16, n);
}
APART void *malloc(size_t n) {
    void *p = take(n);
    KEEP(p);
    return p;
}
APART void free(void *p) {
    if (in_free)
        leave();
    KEEP(p);
}
APART void *calloc(size_t a, size_t b) {
    void *p = take(a * b);
    KEEP(p);
    memset(p, 0, a * b);
    return p;
}
APART void *realloc(void *old, size_t n) {
    void *p = malloc(n);
    KEEP(p);
    arena_copy(p, old, n);
    KEEP(p);
    return p;
}
APART int posix_memalign(void **p, size_t alignment, size_t n) {
    char *block = take(n + alignment);
    KEEP(block);
    *p = (void *)(((uintptr_t)block + alignment - 1) & ~(uintptr_t)(alignment - 1));
    return 0;
}

SITE static void *site_handler(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE static void *site_interrupted(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

// A call that does not come back. It is in no ledger: nothing was handed out.
static APART void leave_by(const char *what, void *old) {
    void *p = NULL;
    const size_t n = most + 1;
    if (!strcmp(what, "malloc"))
        p = malloc(n);
    else if (!strcmp(what, "calloc"))
        p = calloc(1, n);
    else if (!strcmp(what, "realloc"))
        p = realloc(old, n);
    else if (!strcmp(what, "posix_memalign"))
        posix_memalign(&p, 32, n);
    else
        _exit(72);
    KEEP(p);
    _exit(73);
}
static APART void deeper(size_t depth, const char *what, void *old) {
    if (depth == 0)
        leave_by(what, old);
    else
        deeper(depth - 1, what, old);
    KEEP(depth);
}

// What is allocated at one depth and what is allocated at others, every call known.
static APART void work(size_t depth, size_t i) {
    if (depth > 0) {
        work(depth - 1, i);
        KEEP(depth);
        return;
    }
    void *blocks[] = {site_malloc(101 + 2 * i % 500), site_calloc(701 + 2 * i % 300),
                      site_realloc(site_malloc(1301), 1501), site_posix_memalign(3001)};
    for (size_t j = 0; j < sizeof blocks / sizeof *blocks; j++)
        if ((i + j) % 3)
            release(blocks[j]);
}

static void leave_often(const char *what) {
    for (volatile size_t i = 0; i < LEFT; i++) {
        // Each of them stays: the call that was to resize it did not come back.
        void *volatile old = i % 10 ? NULL : site_malloc(4001);
        if (sigsetjmp(out, 0) == 0)
            deeper(i * 7 % 40, what, old);
        left++;
        if (old && i % 20)
            release(old);
        // From shallower and from deeper stacks than what was left.
        if (i % 10 == 0)
            work(i / 10 * 3 % 50, i / 10);
    }
}

// A free that is left has freed: the block is the allocator's from its first instruction on.
static void leave_free(void) {
    for (volatile size_t i = 0; i < LEFT; i++) {
        void *volatile p = site_malloc(5001 + 2 * i % 100);
        in_free = 1;
        if (sigsetjmp(out, 0) == 0)
            release(p);
        in_free = 0;
        left++;
        if (i % 10 == 0)
            work(i % 50, i);
    }
}

static volatile int jump_out;
static void on_signal(int number) {
    (void)number;
    size_t at = signals_at;
    signals_at = SIZE_MAX;
    void *p = site_handler(6001 + 2 * (size_t)(handled % 100));
    if (handled % 2)
        release(p);
    handled++;
    signals_at = at;
    if (jump_out)
        siglongjmp(out, 1);
}

// The handler allocates in the middle of a malloc, which then goes on, or is left for good.
static APART void interrupt(size_t depth) {
    if (depth > 0) {
        interrupt(depth - 1);
        KEEP(depth);
        return;
    }
    if (jump_out) {
        void *p = malloc(signals_at);
        KEEP(p);
        _exit(74);
    }
    release(site_interrupted(signals_at));
}
static void interrupt_often(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    for (volatile size_t i = 0; i < LEFT; i++) {
        jump_out = i % 3 == 0;
        // A call that is left is of a size that no block has.
        signals_at = jump_out ? 1 << 30 : 7001;
        if (sigsetjmp(out, 1) == 0)
            interrupt(i % 30);
        else
            left++;
        signals_at = SIZE_MAX;
        if (i % 10 == 0)
            work(i % 50, i);
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "malloc";
    ledger_start();
    if (!strcmp(what, "mixed")) {
        leave_often("malloc");
        leave_often("realloc");
        interrupt_often();
        leave_free();
        leave_often("calloc");
        leave_often("posix_memalign");
    } else if (!strcmp(what, "handler")) {
        interrupt_often();
    } else if (!strcmp(what, "free")) {
        leave_free();
    } else {
        leave_often(what);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        site_malloc(107);
    char line[80];
    int n = snprintf(line, sizeof line, "left %d calls, handled %d signals\n", left, handled);
    if (write(1, line, (size_t)n) != n)
        return 3;
    ledger_write();
    return 18;
}
