// A library whose frames are of the size WORDS says.
#include "ledger.h"
#include <string.h>

static __attribute__((noipa)) void inner(size_t n) {
    char bytes[8 * WORDS];
    memset(bytes, 1, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    void *block = malloc(n);
    KEEP(block);
    KEEP(p);
}

void allocate(size_t n) {
    char bytes[16 * WORDS];
    memset(bytes, 1, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    inner(n);
    KEEP(p);
}
