// Many processes, each with libraries of its own.
// usage: crowd PROCESSES LIBRARIES ROUNDS FOLDER; the libraries are FOLDER/0.so and so on
#define _GNU_SOURCE
#include "ledger.h"
#include <dlfcn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 8, FIRST = 26000 };

// What a child allocates in round r comes of two calls, of FIRST + r bytes each.
static int child(int number, int libraries, int rounds, const char *folder) {
    void (*allocate[MOST])(size_t);
    for (int i = 0; i < libraries; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d.so", folder, number * libraries + i);
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        allocate[i] = library ? (void (*)(size_t))dlsym(library, "allocate") : NULL;
        if (!allocate[i])
            return 3;
    }
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < libraries; i++)
            allocate[i](FIRST + (size_t)round);
        // A tracer is given the time to make the libraries' tables.
        nanosleep(&(struct timespec){0, 500000000}, NULL);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    int processes = atoi(argv[1]), libraries = atoi(argv[2]), rounds = atoi(argv[3]);
    if (libraries > MOST)
        return 2;
    ledger_start();
    for (int i = 0; i < processes; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 4;
        if (pid == 0)
            _exit(child(i, libraries, rounds, argv[4]));
    }
    int failed = 0;
    for (int i = 0; i < processes; i++) {
        int status;
        failed += wait(&status) < 0 || status != 0;
    }
    ledger_write();
    return failed ? 5 : 0;
}
