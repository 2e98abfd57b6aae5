// Memory of every kind, each of a size of its own, before and after a tracer comes; then rests until told to end.
// Prints how much of each there should be. RESIDENT_FILE names the file that is mapped, RESIDENT_END the one to wait for.
#define _GNU_SOURCE
#include "ledger.h"
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    BEFORE = 3000, BEFORE_SIZE = 5011, BEFORE_LARGE = (3 << 20) + 17,
    AFTER = 2000, AFTER_SIZE = 7013, AFTER_LARGE = (5 << 20) + 33, UNTOUCHED = 64 << 20,
    THREADS = 3, STACK = 200 << 10,
    FILE_SIZE = 8 << 20, COPIED = 16, ANONYMOUS = 16 << 20, SHARED = 4 << 20,
};

static char *before[BEFORE], *after[AFTER], *large[3];
static pthread_barrier_t touched;

// No stdio: its buffers would be blocks, too.
static void say(const char *format, ...) {
    char line[256];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (write(1, line, (size_t)n) != n)
        _exit(4);
}

static char *filled(size_t size) {
    char *block = malloc(size);
    if (!block)
        _exit(5);
    memset(block, 0xa5, size);
    KEEP(block);
    return block;
}

static __attribute__((noipa)) void *thread(void *unused) {
    char stack[STACK];
    char *p = stack;
    memset(p, 1, STACK);
    KEEP(p);
    pthread_barrier_wait(&touched);
    for (;;)
        pause();
    KEEP(p);
    return unused;
}

static char *map(size_t size, int flags, int fd) {
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED)
        _exit(6);
    return memory;
}

int main(void) {
    // A huge page would make 2 MiB of each touch.
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    const char *path = getenv("RESIDENT_FILE");
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0)
        return 3;

    for (int i = 0; i < BEFORE; i++)
        before[i] = filled(BEFORE_SIZE);
    large[0] = filled(BEFORE_LARGE);
    pthread_barrier_init(&touched, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_t id;
        if (pthread_create(&id, NULL, thread, NULL))
            return 7;
    }
    pthread_barrier_wait(&touched);
    char *file = map(FILE_SIZE, MAP_PRIVATE, fd);
    volatile char sum = 0;
    for (int i = 0; i < FILE_SIZE; i += PAGE)
        sum = (char)(sum + file[i]);
    for (int i = 0; i < COPIED; i++)
        file[i * 3 * PAGE] = 1;
    memset(map(ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS, -1), 1, ANONYMOUS);
    memset(map(SHARED, MAP_SHARED | MAP_ANONYMOUS, -1), 1, SHARED);

    ledger_start();
    for (int i = 0; i < AFTER; i++)
        after[i] = filled(AFTER_SIZE);
    large[1] = filled(AFTER_LARGE);
    large[2] = malloc(UNTOUCHED);
    KEEP(large[2]);
    // Holes: neighbours stay, so that nothing is joined or given back.
    for (int i = 0; i < AFTER; i += 2)
        free(after[i]);
    for (int i = 0; i < BEFORE; i += 3)
        free(before[i]);

    struct mallinfo2 info = mallinfo2();
    say("live %ju\nuntouched %ju\n", (uintmax_t)(AFTER / 2) * AFTER_SIZE + AFTER_LARGE + UNTOUCHED, (uintmax_t)UNTOUCHED);
    say("before %ju\n", (uintmax_t)(BEFORE - BEFORE / 3) * BEFORE_SIZE + BEFORE_LARGE);
    say("before_blocks %d\nlive_blocks %d\nunknown_frees %d\n", BEFORE - BEFORE / 3 + 1, AFTER / 2 + 2, BEFORE / 3);
    say("free %ju\n", (uintmax_t)(AFTER / 2) * AFTER_SIZE + (uintmax_t)(BEFORE / 3) * BEFORE_SIZE);
    say("in_use %ju\nfordblks %ju\ntop %ju\n", (uintmax_t)(info.uordblks + info.hblkhd), (uintmax_t)info.fordblks,
        (uintmax_t)info.keepcost);
    say("stacks %d\nfile %d\ncopied %d\nanonymous %d\nshared %d\n", THREADS * STACK, FILE_SIZE, COPIED * PAGE, ANONYMOUS,
        SHARED);
    say("resting\n");
    ledger_wait_file("RESIDENT_END");
    _exit(0);
}
