// The functions of mimalloc's interface that take a heap, or more than a size: each is called some times for blocks of sizes of
// its own. With "unseen": those that copy texts, as often as is printed, whose blocks' sizes nobody says.
#include "ledger.h"
#include <mimalloc.h>
#include <stdio.h>
#include <string.h>

enum { TIMES = 100 };

static mi_heap_t *heap;

// Each other block is freed.
#define GIVES(NAME, SIZE, CALL)                     \
    SITE static void *site_##NAME(size_t n) {       \
        (void)n;                                    \
        void *p = CALL;                             \
        KEEP(p);                                    \
        return p;                                   \
    }                                               \
    static void NAME(void) {                        \
        int site = ledger_site("site_" #NAME);      \
        for (size_t n = 1; n <= TIMES; n++) {       \
            void *p = site_##NAME(n);               \
            ledger_alloc(site, p, SIZE);            \
            if (n % 2) {                            \
                ledger_free(p);                     \
                mi_free(p);                         \
            }                                       \
        }                                           \
    }

// A block grows from nothing, is made larger three times, and every other one is freed.
#define RESIZES(NAME, SIZE, CALL)                   \
    SITE static void *site_##NAME(void *p, size_t n) { \
        void *new = CALL;                           \
        KEEP(new);                                  \
        return new;                                 \
    }                                               \
    static void NAME(void) {                        \
        int site = ledger_site("site_" #NAME);      \
        for (int i = 0; i < TIMES; i++) {           \
            void *p = NULL;                         \
            for (size_t n = 1; n <= 4; n++) {       \
                struct ledger_block taken = ledger_take(p); \
                p = site_##NAME(p, n);              \
                ledger_settle(taken);               \
                ledger_alloc(site, p, SIZE);        \
            }                                       \
            if (i % 2) {                            \
                ledger_free(p);                     \
                mi_free(p);                         \
            }                                       \
        }                                           \
    }

GIVES(heap_calloc, n * 13, mi_heap_calloc(heap, n, 13))
GIVES(heap_calloc_large, n * 1013, mi_heap_calloc(heap, n, 1013))
GIVES(heap_mallocn, n * 17, mi_heap_mallocn(heap, n, 17))
GIVES(heap_calloc_aligned, n * 19, mi_heap_calloc_aligned(heap, n, 19, 64))
GIVES(heap_calloc_aligned_at, n * 23, mi_heap_calloc_aligned_at(heap, n, 23, 64, 8))
GIVES(heap_alloc_new, n * 29, mi_heap_alloc_new(heap, n * 29))
GIVES(heap_alloc_new_n, n * 31, mi_heap_alloc_new_n(heap, n, 31))
GIVES(heap_zalloc, n * 37, mi_heap_zalloc(heap, n * 37))
GIVES(heap_malloc_aligned, n * 41, mi_heap_malloc_aligned(heap, n * 41, 128))
GIVES(calloc_aligned, n * 43, mi_calloc_aligned(n, 43, 64))
GIVES(calloc_aligned_at, n * 47, mi_calloc_aligned_at(n, 47, 64, 16))
GIVES(mallocn, n * 53, mi_mallocn(n, 53))
GIVES(new_n, n * 59, mi_new_n(n, 59))
RESIZES(heap_realloc, n * 401, mi_heap_realloc(heap, p, n * 401))
RESIZES(heap_reallocf, n * 409, mi_heap_reallocf(heap, p, n * 409))
RESIZES(heap_rezalloc, n * 419, mi_heap_rezalloc(heap, p, n * 419))
RESIZES(heap_reallocn, n * 421, mi_heap_reallocn(heap, p, n, 421))
RESIZES(heap_recalloc, n * 431, mi_heap_recalloc(heap, p, n, 431))
RESIZES(heap_realloc_aligned, n * 433, mi_heap_realloc_aligned(heap, p, n * 433, 64))
RESIZES(heap_rezalloc_aligned_at, n * 439, mi_heap_rezalloc_aligned_at(heap, p, n * 439, 64, 8))
RESIZES(heap_recalloc_aligned, n * 443, mi_heap_recalloc_aligned(heap, p, n, 443, 64))
RESIZES(realloc_, n * 449, mi_realloc(p, n * 449))
RESIZES(reallocf_, n * 457, mi_reallocf(p, n * 457))
RESIZES(recalloc, n * 461, mi_recalloc(p, n, 461))
RESIZES(reallocn, n * 463, mi_reallocn(p, n, 463))
RESIZES(rezalloc_aligned, n * 467, mi_rezalloc_aligned(p, n * 467, 64))
RESIZES(recalloc_aligned, n * 479, mi_recalloc_aligned(p, n, 479, 64))
RESIZES(aligned_recalloc, n * 487, mi_aligned_recalloc(p, n, 487, 64))

static void unseen(void) {
    unsigned calls = 0;
    static char text[3000];
    for (size_t n = 1; n <= TIMES; n++) {
        memset(text, 'x', n * 20);
        text[n * 20] = 0;
        void *copies[] = {
            mi_strdup(text), mi_strndup(text, n), mi_heap_strdup(heap, text), mi_heap_strndup(heap, text, n),
            mi_realpath("/", NULL), mi_heap_realpath(heap, "/", NULL),
        };
        for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) {
            calls += copies[i] != NULL;
            mi_free(copies[i]);
        }
    }
    printf("%u\n", calls);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "unseen") == 0) {
        heap = mi_heap_get_default();
        unseen();
        return 0;
    }
    ledger_start();
    // The thread's own, so that nothing but these calls gives a block.
    heap = mi_heap_get_default();
    heap_calloc(), heap_calloc_large(), heap_mallocn(), heap_calloc_aligned(), heap_calloc_aligned_at();
    heap_alloc_new(), heap_alloc_new_n(), heap_zalloc(), heap_malloc_aligned();
    calloc_aligned(), calloc_aligned_at(), mallocn(), new_n();
    heap_realloc(), heap_reallocf(), heap_rezalloc(), heap_reallocn(), heap_recalloc();
    heap_realloc_aligned(), heap_rezalloc_aligned_at(), heap_recalloc_aligned();
    realloc_(), reallocf_(), recalloc(), reallocn(), rezalloc_aligned(), recalloc_aligned(), aligned_recalloc();
    ledger_write();
    return 0;
}
