// Allocates and frees as often as it is told: a number of pairs in, nanoseconds per pair out, until end of input.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FRAME __attribute__((noinline))
// No tail calls and no removed allocations: every function has a frame, and every malloc happens.
#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")

static FRAME void pair(unsigned long i) {
    void *p = malloc(17 + 2 * (i & 63));
    KEEP(p);
    free(p);
    KEEP(p);
}

static FRAME void fourth(unsigned long i) {
    pair(i);
    KEEP(i);
}

static FRAME void third(unsigned long i) {
    fourth(i);
    KEEP(i);
}

static FRAME void second(unsigned long i) {
    third(i);
    KEEP(i);
}

static FRAME void first(unsigned long pairs) {
    for (unsigned long i = 0; i < pairs; i++)
        second(i);
}

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(void) {
    unsigned long pairs;
    while (scanf("%lu", &pairs) == 1) {
        first(pairs / 20);
        double before = now_ns();
        first(pairs);
        printf("%.2f\n", (now_ns() - before) / pairs);
        fflush(stdout);
    }
    return 0;
}
