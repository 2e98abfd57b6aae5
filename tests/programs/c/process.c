// Processes that make processes.
// usage: process fork|follow|fork-exec|vfork-exec|spawn|exec|thread-exec|leaf, or process run PROGRAM
#define _GNU_SOURCE
#include "ledger.h"
#include <pthread.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define BLOCK_SITE(name)                                                                                     \
    SITE void *name(size_t n) {                                                                              \
        void *p = malloc(n);                                                                                 \
        KEEP(p);                                                                                             \
        LEDGER_ALLOC(p, n);                                                                                  \
        return p;                                                                                            \
    }
BLOCK_SITE(site_pre)
BLOCK_SITE(site_parent)
BLOCK_SITE(site_child)
BLOCK_SITE(site_before_exec)
BLOCK_SITE(site_leaf)
BLOCK_SITE(site_after)

enum { PRE = 30, OWN = 50 };
static void *pre[PRE], *own[OWN];

static int leaf(void) {
    for (size_t i = 0; i < 40; i++) {
        void *p = site_leaf(503 + 2 * i);
        if (i % 4 == 0)
            release(p);
    }
    ledger_write();
    return 0;
}

static _Noreturn void child_of_fork(int wait_for_probes) {
    ledger_forked();
    if (wait_for_probes) {
        void *const functions[] = {(void *)malloc, (void *)free, (void *)calloc, (void *)realloc};
        if (!ledger_wait_probed(functions, 4, 30))
            _exit(95);
    }
    for (size_t i = 0; i < PRE; i += 3)
        release(pre[i]);
    for (size_t i = 0; i < 20; i++)
        release(own[i]);
    for (size_t i = 0; i < 30; i++) {
        void *p = site_child(707 + 2 * i);
        if (i % 3 == 0)
            release(p);
    }
    ledger_write();
    _exit(0);
}

static void exec_leaf(const char *self) {
    char *const arguments[] = {(char *)self, "leaf", NULL};
    execv("/proc/self/exe", arguments);
    _exit(96);
}

static void *exec_by_thread(void *self) {
    exec_leaf(self);
    return NULL;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "leaf"))
        return leaf();
    for (size_t i = 0; i < PRE; i++)
        pre[i] = site_pre(203 + 2 * i);
    ledger_start();
    for (size_t i = 0; i < OWN; i++)
        own[i] = site_parent(1103 + 2 * i);

    pid_t child = 0;
    if (!strcmp(mode, "exec") || !strcmp(mode, "thread-exec")) {
        for (size_t i = 0; i < OWN; i += 2)
            release(own[i]);
        pthread_t thread;
        ledger_write_before_exec();
        if (!strcmp(mode, "exec"))
            exec_leaf(argv[0]);
        if (pthread_create(&thread, NULL, exec_by_thread, argv[0]) || pthread_join(thread, NULL))
            return 7;
    } else if (!strcmp(mode, "fork") || !strcmp(mode, "follow")) {
        child = fork();
        if (child == 0)
            child_of_fork(!strcmp(mode, "follow"));
    } else if (!strcmp(mode, "fork-exec")) {
        child = fork();
        if (child == 0) {
            ledger_forked();
            for (size_t i = 0; i < 25; i++)
                site_before_exec(907 + 2 * i);
            ledger_write_before_exec();
            exec_leaf(argv[0]);
        }
    } else if (!strcmp(mode, "vfork-exec")) {
        child = vfork();
        if (child == 0) {
            char *const arguments[] = {argv[0], "leaf", NULL};
            execv("/proc/self/exe", arguments);
            _exit(96);
        }
    } else if (!strcmp(mode, "spawn") || (!strcmp(mode, "run") && argc > 2)) {
        char *const arguments[] = {argv[0], "leaf", NULL};
        const char *program = argc > 2 ? argv[2] : "/proc/self/exe";
        if (posix_spawn(&child, program, NULL, NULL, arguments, environ))
            return 4;
    } else {
        return 2;
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 5;
    // The parent's blocks are its own, whatever the child did with its copies.
    for (size_t i = 0; i < OWN; i += 5)
        release(own[i]);
    for (size_t i = 0; i < PRE; i += 2)
        release(pre[i]);
    for (size_t i = 0; i < 10; i++)
        site_after(1301 + 2 * i);
    ledger_write();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 6;
}
