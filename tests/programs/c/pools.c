// An allocator in an allocator: blocks are cut off chunks that come from malloc. One of them is emptied at once, without a
// free, and used again. What sites named `site_lost...` allocate is gone in the end, all else is still there.
#define _GNU_SOURCE
#include "ledger.h"
#include <stdint.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone, noipa, used))

enum { CHUNK = 400000, PARTS = 90 };
static char *next, *end;

// By a name that an allocator of its own has.
APART void *je_malloc(size_t n) {
    size_t room = (n + 15) & ~(size_t)15;
    if (next + room > end)
        _exit(77);
    void *p = next;
    next += room;
    KEEP(p);
    return p;
}
APART void je_free(void *p) {
    KEEP(p);
}

#define SITE_OF(name, function)                                                                              \
    SITE static void *name(size_t n) {                                                                       \
        void *p = function(n);                                                                               \
        KEEP(p);                                                                                             \
        LEDGER_ALLOC(p, n);                                                                                  \
        return p;                                                                                            \
    }
SITE_OF(site_kept_chunk, malloc)
SITE_OF(site_resized_chunk, malloc)
SITE_OF(site_kept_parts, je_malloc)
SITE_OF(site_kept_again, je_malloc)
SITE_OF(site_lost_parts, je_malloc)
SITE_OF(site_freed_parts, je_malloc)

static void use(char *chunk, size_t offset) {
    next = chunk + offset;
    end = chunk + CHUNK;
}

int main(void) {
    ledger_start();
    // Parts that are there as long as their chunk.
    use(site_kept_chunk(CHUNK + 1), 0x40);
    for (size_t i = 0; i < PARTS; i++)
        site_kept_parts(1001 + 2 * i);
    // The chunk shrinks in its place, and is newer than its parts from then on.
    char *chunk = site_resized_chunk(CHUNK + 4001);
    use(chunk, 0x40);
    for (size_t i = 0; i < PARTS; i++)
        site_kept_parts(1201 + 2 * i);
    usleep(60000);
    ledger_free(chunk);
    char *resized = realloc(chunk, CHUNK + 3001);
    KEEP(resized);
    if (resized != chunk)
        _exit(78);
    ledger_alloc(ledger_site("function:realloc"), resized, CHUNK + 3001);

    // A chunk whose parts go all at once, but for those that were freed one by one.
    chunk = site_kept_chunk(CHUNK + 3);
    use(chunk, 0x40);
    for (size_t i = 0; i < PARTS; i++) {
        // It is never looked for: its address may be in the ledger again.
        void *part = site_lost_parts(601 + 2 * i);
        (void)ledger_take(part);
        void *freed = site_freed_parts(301 + 2 * i);
        ledger_free(freed);
        je_free(freed);
    }
    char *used = next;
    usleep(60000);
    // Beginning between old ones, each lies over some of them, and all over all.
    use(chunk, 0x38);
    for (size_t n = 5005; next < used; n += 16)
        site_kept_again(n);
    ledger_write();
    usleep(300000);
    ledger_touch("VANISHED");
    ledger_wait_file("VANISHING_END");
    _exit(0);
}
