// Small services whose blocks come, go and stay in one way each. usage: service KIND GO
// It begins once the file GO is there, and goes on until it is killed. Time passes in ticks of 10 ms, and what happens at a tick is
// the same in every run; one that was missed is made up for.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone, noipa))
#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")
enum { PER_SECOND = 100, MANY = 1 << 16 };

static _Thread_local uint64_t seed = 88172645463325252u;
static uint32_t chance(uint32_t of) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % of;
}

// Forwarders, as programs have them: no site of anybody's.
APART static void *zmalloc(size_t n) {
    char *p = malloc(n);
    if (!p)
        _exit(71);
    *p = 1;
    KEEP(p);
    return p;
}
APART static void zfree(void *p) { free(p); }

static void wait_for_tick(struct timespec *at) {
    at->tv_nsec += 1000000000 / PER_SECOND;
    if (at->tv_nsec >= 1000000000)
        at->tv_nsec -= 1000000000, at->tv_sec++;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, at, NULL) != 0)
        ;
}

// What lives for so many ticks, a few blocks a tick.
static void *ring[MANY];
APART static void *make_entry(size_t n) {
    void *p = zmalloc(n);
    KEEP(p);
    return p;
}
static void cache_for(long tick, long ticks, int each) {
    for (int i = 0; i < each; i++) {
        void **place = &ring[(tick % ticks) * each + i];
        zfree(*place);
        *place = make_entry(200 + chance(100));
    }
}

APART static void *make_request(size_t n) {
    void *p = zmalloc(n);
    KEEP(p);
    return p;
}
static void serve(uint32_t leaks_one_in, size_t n) {
    void *request = make_request(n);
    if (leaks_one_in == 0 || chance(leaks_one_in) != 0)
        zfree(request);
}

APART static void *make_chunk(size_t n) {
    void *p = zmalloc(n);
    KEEP(p);
    return p;
}
APART static void *grow_buffer(void *buffer, size_t n) {
    char *p = realloc(buffer, n);
    if (!p)
        _exit(71);
    p[n - 1] = 1;
    KEEP(p);
    return p;
}

static void slow_leak(long tick) {
    cache_for(tick, 8 * PER_SECOND, 1);
    serve(100, 300);
    serve(100, 300);
    serve(100, 300);
}
static void cache_time(long tick) { cache_for(tick, 8 * PER_SECOND, 1); }
static void cache_count(long tick) { cache_for(tick, 10 * PER_SECOND, 2); }

// By size: random entries go until there is room.
static size_t sizes[MANY], used;
static void cache_size(long tick) {
    (void)tick;
    static size_t total;
    size_t n = 100 + chance(2000);
    while (total + n > 1 << 20) {
        size_t out = chance((uint32_t)used);
        total -= sizes[out];
        zfree(ring[out]);
        used--;
        ring[out] = ring[used], sizes[out] = sizes[used];
    }
    ring[used] = make_entry(n);
    sizes[used++] = n;
    total += n;
}
static void pool(long tick) {
    if (tick < 6 * PER_SECOND)
        ring[used++] = make_chunk(512);
    serve(0, 100);
}
static void batch(long tick) {
    long at = tick % (6 * PER_SECOND);
    if (at < 3 * PER_SECOND)
        ring[used++] = make_chunk(400);
    else if (at == 4 * PER_SECOND)
        while (used > 0)
            zfree(ring[--used]);
}
static void fragments(long tick) {
    // Holes of many sizes: every other block goes at once, the rest a second later.
    if (tick % PER_SECOND == 0) {
        while (used > 0)
            zfree(ring[--used]);
        for (int i = 0; i < 100; i++) {
            void *hole = make_chunk(50 + chance(900));
            ring[used++] = make_chunk(50 + chance(900));
            zfree(hole);
        }
    }
}
static void leak_large(long tick) {
    if (tick % PER_SECOND == 50) {
        static void *before;
        void *now = make_request(256 << 10);
        if (tick / PER_SECOND % 2)
            zfree(before), before = NULL;
        before = now;
    }
}
static void leak_small(long tick) {
    (void)tick;
    make_request(24), make_request(40);
}
static void leak_realloc(long tick) {
    static void *buffer;
    static size_t n;
    if (tick % 25 == 0)
        buffer = grow_buffer(buffer, n += 4096);
}
static void requests(long tick) {
    (void)tick;
    for (int i = 0; i < 5; i++)
        serve(0, 100 + chance(3000));
}

// What fills by chance: a key that is missing is made. In so many seconds 95% of them are there.
static void warm_up(long seconds) {
    enum { KEYS = 3000 };
    long per_second = KEYS * 3 / seconds;
    static long owed;
    for (owed += per_second; owed >= PER_SECOND; owed -= PER_SECOND) {
        void **place = &ring[chance(KEYS)];
        if (!*place)
            *place = make_entry(250);
    }
}
static void warm_5(long tick) { (void)tick, warm_up(5); }
static void warm_20(long tick) { (void)tick, warm_up(20); }
static void warm_60(long tick) { (void)tick, warm_up(60); }
static void warm_120(long tick) { (void)tick, warm_up(120); }

static void *worker(void *leaks) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    seed += (uintptr_t)leaks;
    for (;;) {
        wait_for_tick(&at);
        void *p = make_request(150);
        if (!leaks || chance(4) != 0)
            zfree(p);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 64;
    const struct {
        const char *name;
        void (*tick)(long);
    } kinds[] = {
        {"slow-leak", slow_leak},   {"cache-time", cache_time},   {"cache-count", cache_count}, {"cache-size", cache_size},
        {"pool", pool},             {"batch", batch},             {"fragments", fragments},     {"leak-large", leak_large},
        {"leak-small", leak_small}, {"leak-realloc", leak_realloc}, {"requests", requests},     {"warm-5", warm_5},
        {"warm-20", warm_20},       {"warm-60", warm_60},         {"warm-120", warm_120},       {"leak-thread", NULL},
    };
    while (access(argv[2], F_OK) != 0)
        usleep(10000);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(argv[1], kinds[i].name) != 0)
            continue;
        if (!kinds[i].tick) {
            for (uintptr_t thread = 0; thread < 8; thread++) {
                pthread_t id;
                if (pthread_create(&id, NULL, worker, (void *)(uintptr_t)(thread == 3)) != 0)
                    return 71;
            }
            for (;;)
                pause();
        }
        struct timespec at;
        clock_gettime(CLOCK_MONOTONIC, &at);
        for (long tick = 0;; tick++) {
            wait_for_tick(&at);
            kinds[i].tick(tick);
        }
    }
    fprintf(stderr, "no such kind: %s\n", argv[1]);
    return 64;
}
