// Brings two arenas of a preloaded jemalloc into a known state, prints what it says of itself, and rests.
// Prints into memory that is there already: stdio's own buffers would change what is printed.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MANY 4000
// MALLCTL_ARENAS_ALL: the sums.
#define ALL 4096
static int (*ctl)(const char *, void *, size_t *, void *, size_t);
static void *kept[2][MANY];
static char out_buffer[1 << 16];
static pthread_barrier_t filled;

static void fill(int who) {
    for (int i = 0; i < MANY; i++)
        kept[who][i] = malloc(1 + (size_t)i * 13 % (who ? 3001 : 60013));
    for (int i = 0; i < MANY; i += 3) {
        free(kept[who][i]);
        kept[who][i] = NULL;
    }
    ctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    // 5.2.1 leaves larger ones out of what it says of caches (src/arena.c, arena_stats_merge).
    void *small[9];
    for (int i = 0; i < 9; i++)
        small[i] = malloc(100 + 1000 * (size_t)who);
    for (int i = 0; i < 9; i++)
        free(small[i]);
}

static void *second(void *unused) {
    (void)unused;
    fill(1);
    pthread_barrier_wait(&filled);
    pause();
    return NULL;
}

// Prints the number of `size` bytes by that name, if there is one.
static void say(const char *name, size_t size) {
    uint64_t value = 0;
    if (ctl(name, &value, &size, NULL, 0) == 0)
        printf("%s %zu\n", name, (size_t)value);
}

static void say_of(const char *format, unsigned index, const char *what, size_t size) {
    char name[80];
    snprintf(name, sizeof name, format, index, what);
    say(name, size);
}

int main(int argc, char **argv) {
    setvbuf(stdout, out_buffer, _IOFBF, sizeof out_buffer);
    ctl = (int (*)(const char *, void *, size_t *, void *, size_t))dlsym(RTLD_DEFAULT, "mallctl");
    if (!ctl)
        return 1;
    pthread_barrier_init(&filled, NULL, 2);
    fill(0);
    void *large = malloc(3000017);
    pthread_t thread;
    if (large == NULL || pthread_create(&thread, NULL, second, NULL) != 0)
        return 1;
    pthread_barrier_wait(&filled);
    if (argc > 1 && strcmp(argv[1], "run") == 0) {
        // "run": never at rest.
        printf("running\n");
        fflush(stdout);
        for (unsigned i = 0;; i++) {
            int at = (int)(i * 7919u % MANY);
            free(kept[0][at]);
            kept[0][at] = malloc(16 + i * 31u % 50000);
        }
    }
    // The first time it allocates for itself.
    for (int i = 0; i < 3; i++) {
        uint64_t epoch = 1;
        size_t size = sizeof epoch;
        ctl("epoch", &epoch, &size, &epoch, size);
    }
    static const char *const sums[] = {"stats.allocated", "stats.active", "stats.metadata",
                                       "stats.resident",  "stats.mapped", "stats.retained"};
    for (int i = 0; i < 6; i++)
        say(sums[i], 8);
    static const char *const of_arenas[] = {"small.allocated", "large.allocated", "pactive", "pdirty", "pmuzzy",
                                            "tcache_bytes",    "retained",        "mapped",  "resident"};
    unsigned arenas = 0;
    size_t size = sizeof arenas;
    ctl("arenas.narenas", &arenas, &size, NULL, 0);
    for (unsigned i = 0; i <= arenas; i++) {
        unsigned arena = i < arenas ? i : ALL;
        say_of("stats.arenas.%u.%s", arena, "nthreads", sizeof(unsigned));
        for (int j = 0; j < 9; j++)
            say_of("stats.arenas.%u.%s", arena, of_arenas[j], 8);
    }
    for (unsigned i = 0; i < 36; i++) {
        say_of("arenas.bin.%u.%s", i, "size", 8);
        say_of("arenas.bin.%u.%s", i, "slab_size", 8);
        say_of("stats.arenas.4096.bins.%u.%s", i, "curregs", 8);
        say_of("stats.arenas.4096.bins.%u.%s", i, "curslabs", 8);
    }
    printf("resting\n");
    fflush(stdout);
    pause();
    return 0;
}
