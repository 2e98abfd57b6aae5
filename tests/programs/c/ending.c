// The ways a process can end.
// usage: ending return|exit|_exit|abort|kill|leader
#define _GNU_SOURCE
#include "ledger.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

SITE void *site_main(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_worker(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

// Whether the main thread is gone while the process lives on.
static int leader_is_zombie(void) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    const char *state = strrchr(text, ')');
    return state && state[2] == 'Z';
}

SITE void *site_zeroed(size_t n) {
    void *p = calloc(1, n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

// Opens a library, and allocates for as long as a tracer needs to have looked at what that changed.
static void open_library(const char *library) {
    if (!dlopen(library, RTLD_NOW))
        _exit(96);
    for (size_t i = 0; i < 2500; i++) {
        release(site_zeroed(51 + 2 * i));
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

static void *outlive_leader(void *unused) {
    (void)unused;
    for (int i = 0; !leader_is_zombie(); i++) {
        if (i == 10000)
            _exit(97);
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    // Where the tracer needs time to notice.
    const char *pause = getenv("ENDING_PAUSE");
    if (pause)
        sleep((unsigned)atoi(pause));
    ledger_wait_file("ENDING_GO");
    if (getenv("ENDING_LIBRARY"))
        open_library(getenv("ENDING_LIBRARY"));
    for (size_t i = 0; i < 500; i++) {
        void *p = site_worker(4001 + 2 * i);
        if (i % 2)
            release(p);
    }
    ledger_write();
    exit(5);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    ledger_start();
    for (size_t i = 0; i < 300; i++) {
        void *p = site_main(601 + 2 * i);
        if (i % 3)
            release(p);
    }
    if (!strcmp(mode, "leader")) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, outlive_leader, NULL))
            return 3;
        pthread_exit(NULL);
    }
    ledger_write();
    if (!strcmp(mode, "return"))
        return 7;
    if (!strcmp(mode, "exit"))
        exit(9);
    if (!strcmp(mode, "_exit"))
        _exit(11);
    if (!strcmp(mode, "abort"))
        abort();
    if (!strcmp(mode, "kill"))
        kill(getpid(), SIGKILL);
    return 2;
}
