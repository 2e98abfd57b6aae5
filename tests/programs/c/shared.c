// A child in its parent's memory (vfork) that allocates and frees there: the blocks are the parent's.
#define _GNU_SOURCE
#include "ledger.h"
#include <sys/wait.h>
#include <unistd.h>

SITE void *site_parent(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_shared(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

enum { BLOCKS = 40 };
static void *volatile own[BLOCKS], *volatile shared[BLOCKS];

int main(void) {
    ledger_start();
    for (size_t i = 0; i < BLOCKS; i++)
        own[i] = site_parent(307 + 2 * i);
    pid_t child = vfork();
    if (child == 0) {
        for (size_t i = 0; i < BLOCKS; i++)
            shared[i] = site_shared(809 + 2 * i);
        for (size_t i = 0; i < BLOCKS; i += 2)
            release(own[i]);
        _exit(0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 5;
    for (size_t i = 0; i < BLOCKS; i += 4)
        release(shared[i]);
    for (size_t i = 1; i < BLOCKS; i += 4)
        release(own[i]);
    ledger_write();
    return status;
}
