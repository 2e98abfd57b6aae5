// Allocates a little, says so, then lives until it is told to end.
#include "ledger.h"

SITE void *site_idle(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

int main(void) {
    ledger_start();
    for (size_t i = 0; i < 100; i++) {
        void *p = site_idle(3307 + 2 * i);
        if (i % 4 == 0)
            release(p);
    }
    ledger_write();
    ledger_touch("IDLE_DONE");
    ledger_wait_file("IDLE_END");
    return 21;
}
