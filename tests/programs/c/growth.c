// Maps, unmaps and moves the break by known amounts if told to; else nothing. The difference of two recordings is
// what the amounts say, whatever the loader maps.
#define _GNU_SOURCE
#include "ledger.h"
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, MAPPED = 1000001, UNMAPPED = 2 * PAGE, LEFT = MAPPED - UNMAPPED, GROWN = 3000001, SHRUNK = 5003 };

int main(int argc, char **argv) {
    (void)argv;
    ledger_start();
    if (argc < 2)
        return 0;
    int access = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *mapped = mmap(NULL, MAPPED, access, flags, -1, 0);
    if (mapped == MAP_FAILED || munmap(mapped, UNMAPPED) != 0)
        return 1;
    mapped = mremap(mapped + UNMAPPED, LEFT, GROWN, MREMAP_MAYMOVE);
    if (mapped == MAP_FAILED || mremap(mapped, GROWN, SHRUNK, 0) == MAP_FAILED)
        return 2;
    // These fail, and count for nothing.
    if (mmap(NULL, 0, access, flags, -1, 0) != MAP_FAILED || munmap(mapped + 1, PAGE) == 0)
        return 3;
    if (sbrk(1 << 20) == (void *)-1 || sbrk(-3 * PAGE) == (void *)-1)
        return 4;
    return 0;
}
