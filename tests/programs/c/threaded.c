// Threads with names that call one site each from the same stack: at the same time, one after the other where the last one's
// stack is, and one that takes another name. The ledger's sites are threads: "TID NAME".
#define _GNU_SOURCE
#include "ledger.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { POOL = 4, JOBS = 3, MOST = 400 };

struct work {
    char name[16];
    int blocks;
    size_t size;
    // Left to the first thread to free.
    void *left[MOST];
};

static int ledger_thread(const char *name) {
    char text[64];
    snprintf(text, sizeof text, "%d %s", (int)gettid(), name);
    return ledger_site(text);
}

SITE void *site_work(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    return p;
}

// Every second block is freed by the thread itself.
SITE void site_batch(struct work *work, const char *name, int blocks, void **left) {
    prctl(PR_SET_NAME, name);
    int thread = ledger_thread(name);
    for (int i = 0; i < blocks; i++) {
        void *p = site_work(work->size);
        ledger_alloc(thread, p, work->size);
        if (i % 2)
            release(p);
        else
            left[i] = p;
    }
}

static void *run(void *argument) {
    struct work *work = argument;
    site_batch(work, work->name, work->blocks, work->left);
    return NULL;
}

static void *run_renamed(void *argument) {
    struct work *work = argument;
    site_batch(work, "before", 30, work->left);
    site_batch(work, "after; a name", 50, work->left + 30);
    return NULL;
}

static pthread_t start(void *(*function)(void *), struct work *work) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, work))
        _exit(98);
    return thread;
}

static void free_left(struct work *work) {
    for (int i = 0; i < MOST; i += 1)
        if (work->left[i])
            release(work->left[i]);
}

int main(void) {
    static struct work pool[POOL], jobs[JOBS], renamed = {.size = 77};
    ledger_start();
    pthread_t threads[POOL];
    for (int i = 0; i < POOL; i++) {
        pool[i].blocks = 100 * (i + 1);
        pool[i].size = 13 * (size_t)(i + 1);
        snprintf(pool[i].name, sizeof pool[i].name, "pool-%d", i);
        threads[i] = start(run, &pool[i]);
    }
    for (int i = 0; i < POOL; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < JOBS; i++) {
        jobs[i].blocks = 10 * (i + 1);
        jobs[i].size = 1000 + (size_t)i;
        snprintf(jobs[i].name, sizeof jobs[i].name, "job-%d", i);
        pthread_join(start(run, &jobs[i]), NULL);
    }
    pthread_join(start(run_renamed, &renamed), NULL);
    // Of one thread all is freed, by another.
    free_left(&pool[0]);
    ledger_write();
    return 0;
}
