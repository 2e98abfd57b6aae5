// Does what it is told and rests with it, so that it can be looked at: maps memory, or forks a child that allocates.
// usage: resting map|fork; touches RESTING_DONE, ends when RESTING_END exists; the child allocates when RESTING_CHILD
// exists.
#define _GNU_SOURCE
#include "ledger.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1 << 20, PAGE = 4096 };

SITE void *site_maps(size_t n) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    KEEP(p);
    return p;
}
SITE void *site_breaks(long n) {
    void *p = sbrk(n);
    KEEP(p);
    return p;
}
SITE void *site_of_child(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    return p;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    ledger_start();
    pid_t child = 0;
    if (strcmp(argv[1], "map") == 0) {
        char *kept = site_maps(7 * MIB + 3 * PAGE);
        if (kept == MAP_FAILED || munmap(kept, 2 * PAGE) != 0 || site_breaks(2 * MIB + PAGE) == (void *)-1)
            return 1;
    } else {
        child = fork();
        if (child < 0)
            return 1;
        if (child == 0) {
            ledger_wait_file("RESTING_CHILD");
            for (size_t i = 0; i < 3; i++)
                if (!site_of_child(70001 + i))
                    _exit(1);
            ledger_touch("RESTING_DONE");
            ledger_wait_file("RESTING_END");
            _exit(0);
        }
    }
    if (child == 0)
        ledger_touch("RESTING_DONE");
    ledger_wait_file("RESTING_END");
    int status = 0;
    return child > 0 && (waitpid(child, &status, 0) != child || status != 0);
}
