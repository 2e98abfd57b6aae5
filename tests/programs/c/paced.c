// A child that allocates from its first moment on, one block every 50 us at most, 2,000 in all: how many are missing
// tells for how long it was not traced at least.
// usage: paced fork|vfork|spawn
#define _GNU_SOURCE
#include "ledger.h"
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { BLOCKS = 2000, PACE_NS = 50000 };

SITE void *site_parent(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_paced(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int paced(void) {
    for (int i = 0; i < BLOCKS; i++) {
        long long began = now_ns();
        site_paced(1013);
        while (now_ns() - began < PACE_NS)
            ;
    }
    ledger_write();
    return 0;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "paced"))
        return paced();
    ledger_start();
    for (size_t i = 0; i < 100; i++)
        site_parent(211 + 2 * i);
    char *const arguments[] = {argv[0], "paced", NULL};
    pid_t child = 0;
    if (!strcmp(mode, "fork") || !strcmp(mode, "vfork")) {
        child = *mode == 'f' ? fork() : vfork();
        if (child == 0) {
            execv("/proc/self/exe", arguments);
            _exit(96);
        }
    } else if (strcmp(mode, "spawn") || posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ)) {
        return 2;
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 5;
    ledger_write();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 6;
}
