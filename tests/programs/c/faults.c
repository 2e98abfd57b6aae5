// Memory that is touched for the first time.
#define _GNU_SOURCE
#include "ledger.h"
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, PAGES = 733 };

static __attribute__((noipa)) void touch(char *memory, size_t pages) {
    for (size_t i = 0; i < pages; i++)
        memory[i * PAGE] = 1;
}

static __attribute__((noipa)) void outer(char *memory, size_t pages) {
    char bytes[88];
    memset(bytes, 1, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    touch(memory, pages);
    KEEP(p);
}

int main(void) {
    ledger_start();
    char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 3;
    // Where the kernel would give a huge page, there would be one fault for 512 pages.
    madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
    outer(memory, PAGES);
    return 0;
}
