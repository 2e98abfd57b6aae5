// Changes its mappings in every way, and keeps a list of what each call did, and of what /proc/self/maps says.
// usage: mappings OUT [THREADS]; without threads: a known sequence of calls. With: each thread maps and unmaps.
// A line of OUT: CALL TID DELTA ADDRESS, or `maps BYTES`.
#define _GNU_SOURCE
#include "ledger.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, GROWN = 4, ROUNDS = 2000, MAX_THREADS = 8, RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };

// Everything is in static memory: the list must not change what it lists.
static char text[1 << 16], maps[1 << 18];
static size_t used;
static long page_round(long bytes) {
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    used += vsnprintf(text + used, sizeof text - used, format, arguments);
    va_end(arguments);
}

static void did(const char *call, long delta, void *at) {
    say("%s %ld %ld %lu\n", call, (long)gettid(), delta, (unsigned long)at);
}

static void fail(const char *what) {
    perror(what);
    _exit(9);
}

// All that is mapped, but for the kernel's own page, which is no process's.
static void say_maps(void) {
    size_t length = 0;
    int file = open("/proc/self/maps", O_RDONLY);
    for (ssize_t n; (n = read(file, maps + length, sizeof maps - 1 - length)) > 0;)
        length += n;
    close(file);
    maps[length] = 0;
    unsigned long sum = 0, start, end;
    for (char *line = maps; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char *stop = strchr(line, '\n');
        if (stop)
            *stop = 0;
        if (!strstr(line, "[vsyscall]") && sscanf(line, "%lx-%lx", &start, &end) == 2)
            sum += end - start;
        if (stop)
            *stop = '\n';
    }
    say("maps %lu\n", sum);
}

static char *map(void *at, size_t length, int flags, long delta) {
    char *got = mmap(at, length, RW, flags, -1, 0);
    if (got == MAP_FAILED)
        fail("mmap");
    did("mmap", delta, got);
    return got;
}

static void unmap(char *at, size_t length, long delta) {
    if (munmap(at, length))
        fail("munmap");
    did("munmap", delta, at);
}

static char *remap(char *old, size_t old_length, size_t length, int flags, void *to, long delta) {
    char *got = mremap(old, old_length, length, flags, to);
    if (got == MAP_FAILED)
        fail("mremap");
    did("mremap", delta, got);
    return got;
}

static void move_break(long by) {
    char *before = sbrk(by);
    if (before == (void *)-1)
        fail("sbrk");
    long from = page_round((long)before), to = page_round((long)before + by);
    did("brk", to - from, (void *)(from < to ? from : to));
}

SITE void site_sequence(void) {
    move_break(3 * PAGE + 5);
    move_break(100);
    move_break(-(2 * PAGE + 100));
    move_break(1234567);
    // A file, and a stack.
    int file = open("/proc/self/exe", O_RDONLY);
    char *mapped = mmap(NULL, 5003, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (mapped == MAP_FAILED)
        fail("mmap");
    did("mmap", 2 * PAGE, mapped);
    unmap(mapped, 5003, -2 * PAGE);
    char *stack = map(NULL, 77 * PAGE, ANON | MAP_STACK, 77 * PAGE);
    unmap(stack, 77 * PAGE, -77 * PAGE);
    // It grows when it is touched below, which is no call; and all of it goes.
    char *down = map(NULL, 33 * PAGE, ANON | MAP_GROWSDOWN, 33 * PAGE);
    down[-GROWN * PAGE] = 1;
    unmap(down - GROWN * PAGE, (33 + GROWN) * PAGE, -(33 + GROWN) * PAGE);
    // Two huge pages for three quarters; without room for them, as nobody touches them. Not all kernels have them.
    char *huge = mmap(NULL, 3 << 20, RW, ANON | MAP_NORESERVE | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, -1, 0);
    if (huge != MAP_FAILED) {
        did("mmap", 4 << 20, huge);
        unmap(huge, 4 << 20, -(4 << 20));
    }
    // Holes: of 100 pages, 40 to 49 and 60 to 64 go, and then all.
    char *holes = map(NULL, 100 * PAGE - 7, ANON, 100 * PAGE);
    unmap(holes + 40 * PAGE, 10 * PAGE, -10 * PAGE);
    unmap(holes + 60 * PAGE, 5 * PAGE - 9, -5 * PAGE);
    unmap(holes + 40 * PAGE, 10 * PAGE, 0);
    // Over a mapping, over a hole, and over both.
    map(holes + 2 * PAGE, 3 * PAGE, ANON | MAP_FIXED, 0);
    map(holes + 41 * PAGE, 2 * PAGE, ANON | MAP_FIXED, 2 * PAGE);
    map(holes + 38 * PAGE, 20 * PAGE, ANON | MAP_FIXED, 8 * PAGE);
    unmap(holes, 100 * PAGE, -95 * PAGE);
    // Grows where there is room, shrinks, moves, and moves over something.
    char *room = map(NULL, 64 * PAGE, ANON, 64 * PAGE);
    unmap(room + 8 * PAGE, 56 * PAGE, -56 * PAGE);
    remap(room, 8 * PAGE, 16 * PAGE, 0, NULL, 8 * PAGE);
    remap(room, 16 * PAGE, 4 * PAGE, 0, NULL, -12 * PAGE);
    map(room + 4 * PAGE, PAGE, ANON | MAP_FIXED, PAGE);
    char *moved = remap(room, 4 * PAGE, 1000 * PAGE, MREMAP_MAYMOVE, NULL, 996 * PAGE);
    if (moved == room)
        fail("mremap did not move");
    char *target = map(NULL, 50 * PAGE, ANON, 50 * PAGE);
    remap(moved, 1000 * PAGE, 20 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + 10 * PAGE, -1000 * PAGE);
#ifdef MREMAP_DONTUNMAP
    char *twice = remap(target, 5 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL, 5 * PAGE);
    unmap(twice, 5 * PAGE, -5 * PAGE);
#endif
    unmap(target, 50 * PAGE, -50 * PAGE);
    // Stays mapped.
    if (madvise(room + 4 * PAGE, PAGE, MADV_DONTNEED) || madvise(room + 4 * PAGE, PAGE, MADV_WILLNEED))
        fail("madvise");
    did("madvise", -PAGE, room + 4 * PAGE);
    // What fails is not listed.
    if (mmap(NULL, 0, RW, ANON, -1, 0) != MAP_FAILED || !munmap(target + 1, PAGE) ||
        mremap(target, 5 * PAGE, 9 * PAGE, 0) != MAP_FAILED || mmap(NULL, PAGE, RW, MAP_PRIVATE, -1, 0) != MAP_FAILED ||
        madvise(room + 1, PAGE, MADV_DONTNEED) == 0 || sbrk(1L << 46) != (void *)-1)
        fail("it should have failed, and did not");
    unmap(room + 4 * PAGE, PAGE, -PAGE);
    // No tail call: the caller is looked for in its stack.
    char *last = map(NULL, 2000003, ANON, page_round(2000003));
    KEEP(last);
}

static long own_tids[MAX_THREADS];

// What each thread does is known; where, and after whom, is not.
static void *churn(void *number) {
    long n = (long)number;
    own_tids[n] = gettid();
    for (long i = 0; i < ROUNDS; i++) {
        long pages = 1 + (i * 7 + n * 3) % 13, first = i % pages;
        char *at = mmap(NULL, pages * PAGE, RW, ANON, -1, 0);
        if (at == MAP_FAILED || (first && munmap(at, first * PAGE)) || munmap(at + first * PAGE, (pages - first) * PAGE))
            fail("churn");
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    long threads = argc > 2 ? atol(argv[2]) : 0;
    pthread_t thread[MAX_THREADS];
    ledger_start();
    say_maps();
    if (threads > 0) {
        for (long n = 0; n < threads; n++)
            if (pthread_create(&thread[n], NULL, churn, (void *)n))
                return 3;
        for (long n = 0; n < threads; n++)
            pthread_join(thread[n], NULL);
        for (long n = 0; n < threads; n++)
            say("thread %ld %ld 0\n", own_tids[n], n);
    } else {
        site_sequence();
    }
    say_maps();
    int out = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0 || write(out, text, used) != (ssize_t)used)
        return 4;
    return 0;
}
