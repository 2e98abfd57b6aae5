// What sanitizers report, each report with the stack of an allocation in it.
// usage: sanitized clean|leak|freed|race|undefined
// The ledger is written before the mistake is made: reports end the program.
#include "sites.h"
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone, noipa))

// Named by the suppressions of the test.
SITE static void *site_known_leak(size_t n) {
    char *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    p[0] = 1;
    return p;
}

// Found by a sanitizer that looks for leaks.
static void *volatile kept[400];

static APART void work(void) {
    for (size_t i = 0; i < 100; i++) {
        void *blocks[] = {site_malloc(101 + 2 * i), site_calloc(701 + 2 * i), site_realloc(site_malloc(1301), 1501 + 2 * i),
                          site_posix_memalign(3001 + 2 * i)};
        for (size_t j = 0; j < 4; j++) {
            if ((i + j) % 3)
                release(blocks[j]);
            else
                kept[4 * i + j] = blocks[j];
        }
    }
}

// The ledger hides what it has of addresses from who looks for leaks: see main.
static APART void leak(void) {
    for (int i = 0; i < 10; i++) {
        void *p = site_known_leak(1009);
        KEEP(p);
        p = NULL;
        KEEP(p);
    }
}
static APART void overwrite_stack(void) {
    char waste[8192];
    memset(waste, 0, sizeof waste);
    char *p = waste;
    KEEP(p);
}

static char *shared;
static int done;
static void *write_shared(void *unused) {
    shared[0] = 1;
    // No order for the sanitizer.
    __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
    return unused;
}
static APART void race(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, write_shared, NULL);
    while (!__atomic_load_n(&done, __ATOMIC_RELAXED))
        sched_yield();
    shared[0] = 2;
    pthread_join(thread, NULL);
}
static APART void use_freed(char *p) {
    char c = p[5];
    KEEP(c);
}
static volatile int large = INT_MAX;
static APART void overflow(void) {
    int sum = large + 1;
    KEEP(sum);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "clean";
    ledger_start();
    work();
    if (!strcmp(what, "leak"))
        leak();
    shared = site_malloc(2003);
    char *freed = site_malloc(2207);
    release(freed);
    ledger_write();
    ledger_forget();
    overwrite_stack();
    if (!strcmp(what, "race"))
        race();
    if (!strcmp(what, "freed"))
        use_freed(freed);
    if (!strcmp(what, "undefined"))
        overflow();
    return 0;
}
