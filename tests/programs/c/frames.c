// Frames of every kind on the way to an allocation. Each block has a size of its own.
#include "ledger.h"
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

SITE void site_allocate(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
}

static __attribute__((noipa)) void deep(size_t depth, size_t n) {
    if (depth == 0)
        site_allocate(n);
    else
        deep(depth - 1, n);
    KEEP(n);
}

// A frame whose size is not known before it runs hangs on rbp.
static __attribute__((noipa)) void variable(size_t length, size_t n) {
    char *bytes = alloca(length);
    memset(bytes, 1, length);
    KEEP(bytes);
    deep(2, n);
    KEEP(bytes);
}

// Larger than the window that a walk reads.
static __attribute__((noipa)) void large(size_t n) {
    char bytes[300000];
    memset(bytes, 1, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    deep(1, n);
    KEEP(p);
}

// A realigned frame finds its caller's stack pointer in memory.
static __attribute__((noipa)) void aligned(size_t length, size_t n) {
    __attribute__((aligned(128))) char bytes[256];
    char *p = bytes, *more = alloca(length);
    KEEP(p);
    KEEP(more);
    deep(1, n);
    KEEP(p);
    KEEP(more);
}

// Its last arguments are pushed.
static __attribute__((noipa)) void many(long a, long b, long c, long d, long e, long f, long g, long h, size_t n) {
    long sum = a + b + c + d + e + f + g + h;
    KEEP(sum);
    site_allocate(n);
    KEEP(sum);
}

// Through the C library's frames.
static int compare(const void *a, const void *b) {
    static int done;
    if (!done++)
        site_allocate(20005);
    return *(const int *)a - *(const int *)b;
}

static void on_signal(int number) {
    size_t n = 20006;
    KEEP(number);
    deep(1, n);
    KEEP(n);
}

static void *thread(void *argument) {
    deep(3, 20007);
    return argument;
}

int main(void) {
    ledger_start();
    deep(40, 20000);
    variable(1000, 20001);
    large(20002);
    aligned(500, 20003);
    many(1, 2, 3, 4, 5, 6, 7, 8, 20004);
    int numbers[] = {3, 1, 2};
    qsort(numbers, 3, sizeof *numbers, compare);
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    pthread_t other;
    pthread_create(&other, NULL, thread, NULL);
    pthread_join(other, NULL);
    ledger_write();
}
