// Allocates and frees from a given depth as often as it is told: depth and a number of pairs in, nanoseconds of CPU
// time per pair out, until end of input.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static __attribute__((noipa)) double pairs_at(unsigned long depth, unsigned long pairs) {
    double ns;
    if (depth > 0) {
        ns = pairs_at(depth - 1, pairs);
    } else {
        double before = now_ns();
        for (unsigned long i = 0; i < pairs; i++) {
            void *p = malloc(17 + 2 * (i & 63));
            KEEP(p);
            free(p);
            KEEP(p);
        }
        ns = now_ns() - before;
    }
    KEEP(depth);
    return ns;
}

int main(void) {
    unsigned long depth, pairs;
    while (scanf("%lu %lu", &depth, &pairs) == 2) {
        pairs_at(depth, pairs / 20);
        printf("%.2f\n", pairs_at(depth, pairs) / pairs);
        fflush(stdout);
    }
    return 0;
}
