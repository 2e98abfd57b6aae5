// Large from the start, it allocates a little, waits until it is told to grow by so many MiB, waits again, and then leaks.
// usage: surge MIB LEAKS BEFORE; files SURGE_DONE1, SURGE_GO1 and so on say where it is
#include "ledger.h"
#include <string.h>

SITE void *site_before(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

__attribute__((noinline)) static void *grow(size_t n) {
    char *p = malloc(n);
    KEEP(p);
    memset(p, 1, n);
    return p;
}

SITE void *site_leak(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

int main(int argc, char **argv) {
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 16;
    size_t leaks = argc > 2 ? strtoul(argv[2], NULL, 10) : 100;
    size_t before = argc > 3 ? strtoul(argv[3], NULL, 10) : 32;
    for (size_t i = 0; i < before; i++)
        grow(1 << 20);
    ledger_start();
    for (size_t i = 0; i < 100; i++)
        site_before(1009 + i);
    ledger_touch("SURGE_DONE1");
    ledger_wait_file("SURGE_GO1");
    for (size_t i = 0; i < mib; i++)
        grow(1 << 20);
    ledger_touch("SURGE_DONE2");
    ledger_wait_file("SURGE_GO2");
    for (size_t i = 0; i < leaks; i++)
        site_leak(2003 + 2 * i);
    ledger_write();
    ledger_touch("SURGE_DONE3");
    ledger_wait_file("SURGE_GO3");
    return 22;
}
