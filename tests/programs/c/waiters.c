// Ends by exit() of its first thread while others wait, as most programs with threads do.
// usage: waiters THREADS
#include "ledger.h"
#include <pthread.h>
#include <unistd.h>

SITE void *site_main(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static void *wait_for_ever(void *unused) {
    (void)unused;
    for (;;)
        pause();
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    ledger_start();
    pthread_t thread;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&thread, NULL, wait_for_ever, NULL))
            return 2;
    for (size_t i = 0; i < 20; i++)
        release(site_main(613 + 2 * i));
    ledger_write();
    exit(0);
}
