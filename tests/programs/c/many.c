// Very many live blocks, and very many distinct stacks.
// usage: many blocks COUNT | many stacks COUNT
#include "ledger.h"
#include <string.h>

SITE void *site_block(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_deep(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static void left(size_t path, size_t depth);

static __attribute__((noipa)) void right(size_t path, size_t depth) {
    if (depth == 0) {
        void *p = site_deep(19 + path % 1000 * 2);
        KEEP(p);
    } else if (path >> (depth - 1) & 1) {
        right(path, depth - 1);
    } else {
        left(path, depth - 1);
    }
    KEEP(path);
}

static __attribute__((noipa)) void left(size_t path, size_t depth) {
    if (path >> (depth - 1) & 1)
        right(path, depth - 1);
    else if (depth > 1)
        left(path, depth - 1);
    else
        right(path, 0);
    KEEP(path);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    size_t count = strtoul(argv[2], NULL, 10);
    ledger_start();
    if (!strcmp(argv[1], "blocks"))
        for (size_t i = 0; i < count; i++)
            site_block(17 + 2 * (i % 97));
    else
        for (size_t i = 0; i < count; i++)
            right(i, 15);
    ledger_write();
    return 0;
}
