// Maps, moves, touches and gives back memory in steps, and waits after each for the word to go on: STEP1_DONE, STEP1_GO ...
// Keeps a table of whose each of its pages is, and writes after each step what every site has: `STEP SITE MAPPED TOUCHED`, in
// bytes, to LEDGER_OUT. usage: holding
#define _GNU_SOURCE
#include "ledger.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, HUGE = 512 * PAGE, THREADS = 4, RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };

enum site { NOBODY, MAP, OTHER, GROW, TWICE, BREAK, THREAD, CHILD, TOUCH, AGAIN, TOUCH_THREAD, TOUCH_HUGE, SITES };
static const char *const names[SITES] = {
    "",           "site_map",   "site_other", "site_grow",  "site_twice",        "site_break",
    "site_thread", "site_child", "site_touch", "site_again", "site_touch_thread", "site_touch_huge",
};

static void fail(const char *what) {
    perror(what);
    _exit(9);
}

// Whose the pages are. A page that is given back keeps its place.
static struct page {
    uintptr_t number;
    unsigned char mapped, touched;
} table[1 << 15];

static struct page *page_at(const char *at) {
    uintptr_t number = (uintptr_t)at / PAGE;
    size_t mask = sizeof table / sizeof *table - 1, place = number * 0x9E3779B97F4A7C15u >> 20 & mask;
    while (table[place].number && table[place].number != number)
        place = (place + 1) & mask;
    table[place].number = number;
    return &table[place];
}

static size_t pages(size_t bytes) {
    return (bytes + PAGE - 1) / PAGE;
}

static void is_mapped(const char *at, size_t count, enum site site) {
    for (size_t i = 0; i < count; i++)
        *page_at(at + i * PAGE) = (struct page){(uintptr_t)(at + i * PAGE) / PAGE, site, NOBODY};
}

static void is_touched(const char *at, size_t count, enum site site) {
    for (size_t i = 0; i < count; i++)
        page_at(at + i * PAGE)->touched = site;
}

static void is_moved(const char *old, const char *new, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct page was = *page_at(old + i * PAGE);
        is_mapped(old + i * PAGE, 1, NOBODY);
        struct page *now = page_at(new + i * PAGE);
        now->mapped = was.mapped;
        now->touched = was.touched;
    }
}

static void report(int step) {
    static char text[1 << 13];
    size_t used = 0;
    for (enum site site = MAP; site < SITES; site++) {
        size_t mapped = 0, touched = 0;
        for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
            mapped += table[i].mapped == site;
            touched += table[i].touched == site;
        }
        used += snprintf(text + used, sizeof text - used, "%d %s %zu %zu\n", step, names[site], mapped * PAGE,
                         touched * PAGE);
    }
    const char *path = getenv("LEDGER_OUT");
    int out = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (path && (out < 0 || write(out, text, used) != (ssize_t)used))
        fail("LEDGER_OUT");
    close(out);
}

SITE char *site_map(size_t bytes) {
    char *got = mmap(NULL, bytes, RW, ANON, -1, 0);
    KEEP(got);
    return got;
}
SITE char *site_other(size_t bytes) {
    char *got = mmap(NULL, bytes, RW, ANON, -1, 0);
    KEEP(got);
    return got;
}
SITE char *site_child(size_t bytes) {
    char *got = mmap(NULL, bytes, RW, ANON, -1, 0);
    KEEP(got);
    return got;
}
SITE char *site_thread(size_t bytes) {
    char *got = mmap(NULL, bytes, RW, ANON, -1, 0);
    KEEP(got);
    return got;
}
SITE char *site_grow(char *old, size_t old_bytes, size_t bytes) {
    char *got = mremap(old, old_bytes, bytes, MREMAP_MAYMOVE);
    KEEP(got);
    return got;
}
SITE char *site_twice(char *old, size_t bytes) {
    char *got = mremap(old, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    KEEP(got);
    return got;
}
SITE char *site_break(long by) {
    char *before = sbrk(by);
    KEEP(before);
    return before;
}
SITE void site_touch(char *at, size_t count) {
    for (size_t i = 0; i < count; i++)
        at[i * PAGE] = 1;
    KEEP(at);
}
SITE void site_again(char *at, size_t count) {
    for (size_t i = 0; i < count; i++)
        at[i * PAGE] = 1;
    KEEP(at);
}
SITE void site_touch_thread(char *at, size_t count) {
    for (size_t i = 0; i < count; i++)
        at[i * PAGE] = 1;
    KEEP(at);
}
SITE void site_touch_huge(char *at) {
    *at = 1;
    KEEP(at);
}

static char *small(char *mapped, size_t bytes) {
    if (mapped == MAP_FAILED)
        fail("no memory");
    // Where the kernel would give a huge page, there would be one fault for 512 pages.
    madvise(mapped, bytes, MADV_NOHUGEPAGE);
    return mapped;
}

static void unmap(char *at, size_t count) {
    if (munmap(at, count * PAGE))
        fail("munmap");
    is_mapped(at, count, NOBODY);
}

static void discard(char *at, size_t count) {
    if (madvise(at, count * PAGE, MADV_DONTNEED))
        fail("madvise");
    is_touched(at, count, NOBODY);
}

static char *of_threads[THREADS];

// Books nothing: the table is the first thread's.
static void *thread(void *number) {
    long n = (long)number;
    char *mapped = small(site_thread((33 + n) * PAGE), (33 + n) * PAGE);
    site_touch_thread(mapped, 11 + n);
    if (munmap(mapped, 3 * PAGE))
        fail("munmap");
    of_threads[n] = mapped;
    return NULL;
}

// What of a huge page is there, by the kernel: all of it, or the page that was touched.
static void huge_is_touched(char *at) {
    uint64_t entries[512];
    int file = open("/proc/self/pagemap", O_RDONLY);
    if (file < 0 || pread(file, entries, sizeof entries, (uintptr_t)at / PAGE * 8) != (ssize_t)sizeof entries)
        fail("pagemap");
    close(file);
    for (size_t i = 0; i < 512; i++)
        if (entries[i] >> 63)
            is_touched(at + i * PAGE, 1, TOUCH_HUGE);
}

static char *held, *other, *heap, *huge;
enum { HELD = 1000, GROWN = 2000, BROKEN = 50 };

static void first(void) {
    size_t bytes = HELD * PAGE - 5;
    held = small(site_map(bytes), bytes);
    is_mapped(held, pages(bytes), MAP);
    site_touch(held, 700);
    is_touched(held, 700, TOUCH);
    discard(held, 100);
    site_again(held, 40);
    is_touched(held, 40, AGAIN);
    unmap(held + 200 * PAGE, 100);
    other = small(site_other(64 * PAGE), 64 * PAGE);
    is_mapped(other, 64, OTHER);
    site_touch(other, 9);
    is_touched(other, 9, TOUCH);
    char *before = site_break(BROKEN * PAGE);
    if (before == (char *)-1)
        fail("sbrk");
    heap = (char *)(((uintptr_t)before + PAGE - 1) / PAGE * PAGE);
    size_t count = ((uintptr_t)before + BROKEN * PAGE + PAGE - 1) / PAGE - (uintptr_t)heap / PAGE;
    is_mapped(heap, count, BREAK);
    site_touch(heap, 30);
    is_touched(heap, 30, TOUCH);
    // Before anybody else moves it.
    if (sbrk(-25 * PAGE) == (void *)-1)
        fail("sbrk");
    is_mapped(heap + (count - 25) * PAGE, 25, NOBODY);
    // Aligned to what a huge page is; the rest goes again.
    char *room = site_other(2 * HUGE);
    if (room == MAP_FAILED)
        fail("no memory");
    is_mapped(room, 2 * HUGE / PAGE, OTHER);
    huge = (char *)(((uintptr_t)room + HUGE - 1) / HUGE * HUGE);
    madvise(huge, HUGE, MADV_HUGEPAGE);
    site_touch_huge(huge + 77 * PAGE);
    huge_is_touched(huge);
}

static void second(void) {
    char *old = held + 300 * PAGE;
    // It has no room where it is.
    char *guard = mmap(held + HELD * PAGE, PAGE, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0);
    char *moved = site_grow(old, 700 * PAGE, GROWN * PAGE);
    if (moved == MAP_FAILED || moved == old)
        fail("mremap did not move");
    (void)guard;
    is_moved(old, moved, 700);
    is_mapped(moved + 700 * PAGE, GROWN - 700, GROW);
    site_again(moved + (GROWN - 10) * PAGE, 10);
    is_touched(moved + (GROWN - 10) * PAGE, 10, AGAIN);
    held = moved;
    pthread_t threads[THREADS];
    for (long n = 0; n < THREADS; n++)
        if (pthread_create(&threads[n], NULL, thread, (void *)n))
            fail("thread");
    for (long n = 0; n < THREADS; n++) {
        pthread_join(threads[n], NULL);
        is_mapped(of_threads[n] + 3 * PAGE, 30 + n, THREAD);
        is_touched(of_threads[n] + 3 * PAGE, 8 + n, TOUCH_THREAD);
    }
    pid_t child = fork();
    if (child == 0) {
        // What it inherits is not its own, and what it unmaps stays its parent's.
        munmap(held, GROWN * PAGE);
        site_child(17 * PAGE);
        _exit(0);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child)
        fail("fork");
}

static void third(void) {
    unmap(other, 64);
    discard(held + (GROWN - 10) * PAGE, 4);
    char *twice = site_twice(held + 3 * PAGE, 5 * PAGE);
    if (twice == MAP_FAILED)
        fail("mremap");
    for (size_t i = 0; i < 5; i++) {
        struct page *old = page_at(held + (3 + i) * PAGE);
        unsigned char touched = old->touched;
        old->touched = NOBODY;
        is_mapped(twice + i * PAGE, 1, TWICE);
        page_at(twice + i * PAGE)->touched = touched;
    }
    unmap(huge + 100 * PAGE, 50);
}

int main(void) {
    void (*const steps[])(void) = {first, second, third};
    ledger_start();
    for (int step = 1; step <= 3; step++) {
        char name[16];
        steps[step - 1]();
        report(step);
        snprintf(name, sizeof name, "STEP%d_DONE", step);
        ledger_touch(name);
        snprintf(name, sizeof name, "STEP%d_GO", step);
        ledger_wait_file(name);
    }
    return 0;
}
