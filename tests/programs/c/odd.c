// Stacks of unusual shape. Each block has a size of its own.
#define _GNU_SOURCE
#include "ledger.h"
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { THREADS = 3, STACK = 256 << 10 };

SITE void site_allocate(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
}

static __attribute__((noipa)) void deep(size_t depth, size_t n) {
    char bytes[72];
    memset(bytes, (int)depth, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    if (depth == 0)
        site_allocate(n);
    else
        deep(depth - 1, n);
    KEEP(p);
}

// The last calls are jumps: these functions leave no frame.
static __attribute__((noipa)) void *last(size_t n) {
    return malloc(n);
}
static __attribute__((noipa)) void *tail(size_t n) {
    char bytes[200];
    memset(bytes, 1, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    return last(n);
}
SITE void site_tail(size_t n) {
    void *p = tail(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
}

// On a stack that is none: a signal's own, below which the interrupted one goes on after a system call.
static void on_signal(int number) {
    KEEP(number);
    deep(3, 21003);
    KEEP(number);
}
static __attribute__((noipa)) void interrupted(size_t depth) {
    if (depth == 0)
        kill(getpid(), SIGUSR1);
    else
        interrupted(depth - 1);
    KEEP(depth);
}

static ucontext_t outside, inside;
static void coroutine(void) {
    deep(2, 21004);
    swapcontext(&inside, &outside);
    deep(5, 21005);
}
static __attribute__((noipa)) void resume(size_t depth) {
    if (depth == 0)
        swapcontext(&outside, &inside);
    else
        resume(depth - 1);
    KEEP(depth);
}

static void *thread(void *argument) {
    size_t n = (size_t)argument;
    deep(n - 21000, n);
    return NULL;
}

int main(void) {
    ledger_start();
    deep(110, 21000);
    deep(200, 21001);
    site_tail(21002);

    static char signal_stack[STACK];
    stack_t other = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&other, NULL);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    interrupted(4);

    static char stack[STACK];
    getcontext(&inside);
    inside.uc_stack = (stack_t){.ss_sp = stack, .ss_size = sizeof stack};
    inside.uc_link = &outside;
    makecontext(&inside, coroutine, 0);
    resume(1);
    resume(6);

    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, thread, (void *)(21006 + i));
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    site_allocate(21009);
    ledger_write();
    return 0;
}
