// Allocates and frees for a time in so many threads: "SECONDS THREADS" in, pairs a second out, until end of input.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FRAME __attribute__((noinline))
#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")

static double until;
static atomic_ulong pairs;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static FRAME void pair(unsigned long i) {
    void *p = malloc(17 + 2 * (i & 63));
    KEEP(p);
    free(p);
    KEEP(p);
}

static void *work(void *nothing) {
    unsigned long done = 0;
    while (now() < until)
        for (int i = 0; i < 100; i++)
            pair(done++);
    pairs += done;
    return nothing;
}

int main(void) {
    double seconds;
    unsigned threads;
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (scanf("%lf %u", &seconds, &threads) == 2) {
        pthread_t others[64];
        double began = now();
        pairs = 0;
        until = began + seconds;
        for (unsigned i = 1; i < threads && i < 64; i++)
            if (pthread_create(&others[i], NULL, work, NULL))
                return 1;
        work(NULL);
        for (unsigned i = 1; i < threads && i < 64; i++)
            pthread_join(others[i], NULL);
        printf("%f\n", pairs / (now() - began));
    }
    return 0;
}
