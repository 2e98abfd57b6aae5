// Takes all it gets of what a tracer has only so much of, until it is killed.
// usage: greedy blocks     blocks that stay
//        greedy stacks     every stack another one
//        greedy children   forks that end
//        greedy programs   forks that exec this program
//        greedy mappings   mappings of code that come and go
//        greedy libraries FILE   the same by dlopen
//        greedy threads N  threads, all in malloc
//        greedy names      threads and children with names that no terminal likes
// GREEDY_READY is made once it has begun.
#define _GNU_SOURCE
#include "ledger.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Processors are not what is to be used up, nor memory: enough for any table, and no more.
static void pause_for(long nanoseconds) {
    nanosleep(&(struct timespec){0, nanoseconds}, NULL);
}

static void blocks(void) {
    for (long n = 0; n < 400000; n++) {
        void *p = malloc(16);
        KEEP(p);
        if (n % 1000 == 0)
            pause_for(5000000);
    }
    for (;;)
        pause();
}

static SITE void one(unsigned long way, int depth);
static SITE void zero(unsigned long way, int depth) {
    if (depth == 0)
        free(malloc(100));
    else if (way & 1)
        one(way >> 1, depth - 1);
    else
        zero(way >> 1, depth - 1);
    KEEP(depth);
}
static SITE void one(unsigned long way, int depth) {
    zero(way, depth);
    KEEP(depth);
}

static void stacks(void) {
    for (unsigned long way = 0;; way++) {
        zero(way, 22);
        if (way % 50 == 0)
            pause_for(5000000);
    }
}

static void children(char *const again[]) {
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            free(malloc(100));
            if (again)
                execv("/proc/self/exe", again);
            _exit(0);
        }
        if (child > 0)
            waitpid(child, NULL, 0);
        pause_for(20000000);
    }
}

static void mappings(void) {
    int self = open("/proc/self/exe", O_RDONLY);
    for (;;) {
        void *at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, self, 0);
        if (at != MAP_FAILED)
            munmap(at, 4096);
        pause_for(2000000);
    }
}

static void libraries(const char *file) {
    for (;;) {
        void *library = dlopen(file, RTLD_NOW);
        free(malloc(100));
        if (library)
            dlclose(library);
        pause_for(20000000);
    }
}

static __attribute__((noreturn)) void *thread(void *unused) {
    (void)unused;
    for (;;) {
        free(malloc(100));
        // Most of the time they wait.
        sleep(3);
    }
}

static void threads(long count) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (long n = 0; n < count; n++) {
        pthread_t made;
        if (pthread_create(&made, &small, thread, NULL))
            break;
    }
    thread(NULL);
}

static void names(void) {
    static const char *const bad[] = {"\033[2J\033]0;x\007", "\nheaptrace: no", "\r\b\b\177", "\xff\xfe\x80", "a\tb,\"c'"};
    for (unsigned long n = 0;; n++) {
        prctl(PR_SET_NAME, bad[n % 5]);
        pid_t child = fork();
        if (child == 0) {
            free(malloc(100));
            _exit(0);
        }
        if (child > 0)
            waitpid(child, NULL, 0);
        pause_for(20000000);
    }
}

int main(int argc, char **argv) {
    const char *what = argc < 2 ? "" : argv[1];
    if (!strcmp(what, "again"))
        return 0;
    // Whoever started it may be killed.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ledger_touch("GREEDY_READY");
    ledger_wait_file("GREEDY_GO");
    char *again[] = {argv[0], "again", NULL};
    if (!strcmp(what, "blocks"))
        blocks();
    else if (!strcmp(what, "stacks"))
        stacks();
    else if (!strcmp(what, "children"))
        children(NULL);
    else if (!strcmp(what, "programs"))
        children(again);
    else if (!strcmp(what, "mappings"))
        mappings();
    else if (!strcmp(what, "libraries") && argc == 3)
        libraries(argv[2]);
    else if (!strcmp(what, "threads") && argc == 3)
        threads(strtol(argv[2], NULL, 10));
    else if (!strcmp(what, "names"))
        names();
    return 2;
}
