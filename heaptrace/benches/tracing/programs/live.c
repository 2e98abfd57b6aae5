// Keeps BLOCKS blocks live and replaces them in random order: "BLOCKS" in once, "ready" out; then a number of
// replacements in, nanoseconds of CPU time for each out, until end of input. One replacement is a free and a malloc.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FRAME __attribute__((noinline))
// No tail calls and no removed allocations: every function has a frame, and every malloc happens.
#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")

static void **blocks;
static uint64_t state = 88172645463325252u;

// xorshift64
static uint64_t random_number(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static FRAME void fill(unsigned long i, uint64_t random) {
    void *p = malloc(17 + 2 * (random & 63));
    KEEP(p);
    blocks[i] = p;
}

static FRAME void replace(unsigned long count) {
    uint64_t random = random_number();
    unsigned long i = (random >> 6) % count;
    free(blocks[i]);
    fill(i, random);
}

static FRAME void replace_some(unsigned long count, unsigned long replacements) {
    for (unsigned long n = 0; n < replacements; n++)
        replace(count);
}

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(void) {
    unsigned long count, replacements;
    if (scanf("%lu", &count) != 1 || count == 0 || !(blocks = calloc(count, sizeof *blocks)))
        return 2;
    // Random sizes from the start, or neighbours would be of one size.
    for (unsigned long i = 0; i < count; i++)
        fill(i, random_number());
    printf("ready\n");
    fflush(stdout);
    while (scanf("%lu", &replacements) == 1) {
        // All of them are to be known to whoever came meanwhile.
        if (replacements == 0) {
            for (unsigned long i = 0; i < count; i++) {
                free(blocks[i]);
                fill(i, random_number());
            }
            printf("0\n");
        } else {
            replace_some(count, replacements / 20);
            double before = now_ns();
            replace_some(count, replacements);
            printf("%.2f\n", (now_ns() - before) / replacements);
        }
        fflush(stdout);
    }
    return 0;
}
