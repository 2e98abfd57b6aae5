// Does one of several things as often as it is told: WHAT TIMES in, nanoseconds of CPU time each out, until end of
// input. CPU time, as others may want the CPU too.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")

static void fail(const char *what) {
    perror(what);
    exit(1);
}

// A block and its free.
static void pairs(unsigned long times) {
    for (unsigned long i = 0; i < times; i++) {
        void *p = malloc(17 + 2 * (i & 63));
        KEEP(p);
        free(p);
    }
}

// Blocks of up to 64 kB, a thousand at a time, touched where they begin: the heap grows and is trimmed all the time.
static void heap(unsigned long times) {
    static char *blocks[1000];
    unsigned long random = 1;
    for (unsigned long i = 0; i < times; i++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        char **block = &blocks[i % 1000];
        free(*block);
        *block = malloc(1 + (random >> 48));
        if (!*block)
            fail("malloc");
        **block = 1;
        // All of them go at times, and the top with them.
        if (i % 4000 == 3999)
            for (int n = 0; n < 1000; n++) {
                free(blocks[n]);
                blocks[n] = NULL;
            }
    }
}

static void calls(unsigned long times) {
    for (unsigned long i = 0; i < times; i++)
        getppid();
}

static void mappings(unsigned long times) {
    for (unsigned long i = 0; i < times; i++) {
        char *at = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED || munmap(at, 1 << 20))
            fail("mmap");
    }
}

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(void) {
    char what[16];
    unsigned long times;
    while (scanf("%15s %lu", what, &times) == 2) {
        void (*run)(unsigned long) = !strcmp(what, "pairs")  ? pairs
                                     : !strcmp(what, "heap") ? heap
                                     : !strcmp(what, "calls") ? calls
                                                              : mappings;
        run(times / 20);
        double before = now_ns();
        run(times);
        printf("%.2f\n", (now_ns() - before) / times);
        fflush(stdout);
    }
    return 0;
}
