// Maps a page and unmaps it again every 5 ms, 300 times in all, and from another function once at the end.
#define _GNU_SOURCE
#include "ledger.h"
#include <sys/mman.h>
#include <unistd.h>

enum { ROUNDS = 300, PACE_US = 5000, PAGE = 4096 };

static void map(void) {
    char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || munmap(at, PAGE))
        _exit(9);
}

SITE void site_pages(void) {
    for (int i = 0; i < ROUNDS; i++) {
        map();
        usleep(PACE_US);
    }
}

SITE void site_last(void) {
    map();
    usleep(PACE_US);
}

int main(void) {
    ledger_start();
    site_pages();
    site_last();
    return 0;
}
