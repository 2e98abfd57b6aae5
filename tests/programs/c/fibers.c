// Fibers that go on in another thread in the middle of each call of the malloc family: the allocator is the program's own,
// and lets another fiber run, as one that waits for memory does. Every call begins in one thread and ends in the next.
// usage: fibers ucontext|switch THREADS
#define _GNU_SOURCE
#include "arena.h"
#include "sites.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { FIBERS = 12, EACH = 50, STACK = 128 << 10, MOST_THREADS = 8 };

struct fiber {
    ucontext_t context;
    void *stack_pointer;
    struct fiber *next;
    size_t number;
    int done;
};
// A thread, and the fibers that wait for it.
struct worker {
    ucontext_t home;
    void *stack_pointer;
    struct fiber *now, *first, **last;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t number;
};
static struct fiber fibers[FIBERS];
static struct worker workers[MOST_THREADS];
static size_t worker_count;
static int by_hand, finished;
static long migrations;

static __thread struct worker *own;
// Not kept in a register over a switch, after which it is another thread's.
static APART struct worker *self(void) {
    __asm__ volatile("" ::: "memory");
    return own;
}

// What a library of fibers does by hand: the callee-saved registers go on the stack, and the stacks change places.
void switch_stacks(void **save, void *load);
__asm__(".text\n"
        ".type switch_stacks, @function\n"
        "switch_stacks:\n"
        "push %rbp\n"
        "push %rbx\n"
        "push %r12\n"
        "push %r13\n"
        "push %r14\n"
        "push %r15\n"
        "mov %rsp, (%rdi)\n"
        "mov %rsi, %rsp\n"
        "pop %r15\n"
        "pop %r14\n"
        "pop %r13\n"
        "pop %r12\n"
        "pop %rbx\n"
        "pop %rbp\n"
        "pop %rcx\n"
        "jmp *%rcx\n"
        ".size switch_stacks, . - switch_stacks\n");

static void enter(struct worker *worker, struct fiber *fiber) {
    if (by_hand)
        switch_stacks(&worker->stack_pointer, fiber->stack_pointer);
    else
        swapcontext(&worker->home, &fiber->context);
}
static APART void leave(void) {
    struct worker *worker = self();
    struct fiber *fiber = worker->now;
    if (by_hand)
        switch_stacks(&fiber->stack_pointer, worker->stack_pointer);
    else
        swapcontext(&fiber->context, &worker->home);
    if (self() != worker)
        __atomic_add_fetch(&migrations, 1, __ATOMIC_RELAXED);
}

// The allocator.
static APART void wait_for_memory(void) {
    if (self() && self()->now)
        leave();
}

APART void *malloc(size_t n) {
    void *p = arena_take(16, n);
    wait_for_memory();
    KEEP(p);
    return p;
}
APART void free(void *p) {
    wait_for_memory();
    KEEP(p);
}
// These two call malloc, and lie on the same stack meanwhile.
APART void *calloc(size_t a, size_t b) {
    void *p = malloc(a * b);
    KEEP(p);
    memset(p, 0, a * b);
    return p;
}
APART void *realloc(void *old, size_t n) {
    void *p = malloc(n);
    KEEP(p);
    arena_copy(p, old, n);
    if (old)
        free(old);
    KEEP(p);
    return p;
}
APART void *memalign(size_t alignment, size_t n) {
    wait_for_memory();
    void *p = arena_take(alignment, n);
    wait_for_memory();
    KEEP(p);
    return p;
}
APART int posix_memalign(void **p, size_t alignment, size_t n) {
    void *block = arena_take(alignment, n);
    wait_for_memory();
    KEEP(block);
    *p = block;
    return 0;
}

SITE static void *site_memalign(size_t n) {
    void *p = memalign(256, n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static APART void work(size_t number) {
    for (size_t i = 0; i < EACH; i++) {
        size_t n = 100 * number + 2 * i + 1;
        void *blocks[] = {site_malloc(n), site_calloc(n + 2000), site_realloc(site_malloc(n + 20), n + 9000),
                          site_memalign(n + 12000), site_posix_memalign(n + 15000)};
        for (size_t j = 0; j < sizeof blocks / sizeof *blocks; j++) {
            memset(blocks[j], (int)i, n);
            if ((i + j) % 3)
                release(blocks[j]);
        }
    }
}

static void body(void) {
    struct fiber *fiber = self()->now;
    work(fiber->number);
    fiber->done = 1;
    leave();
    _exit(72);
}

static void push(struct worker *worker, struct fiber *fiber) {
    pthread_mutex_lock(&worker->lock);
    fiber->next = NULL;
    *worker->last = fiber;
    worker->last = &fiber->next;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}

static void end_all(void) {
    for (size_t i = 0; i < worker_count; i++) {
        pthread_mutex_lock(&workers[i].lock);
        pthread_cond_signal(&workers[i].changed);
        pthread_mutex_unlock(&workers[i].lock);
    }
}

// The next fiber; NULL once all have ended.
static struct fiber *pop(struct worker *worker) {
    pthread_mutex_lock(&worker->lock);
    while (!worker->first && __atomic_load_n(&finished, __ATOMIC_ACQUIRE) < FIBERS)
        pthread_cond_wait(&worker->changed, &worker->lock);
    struct fiber *fiber = worker->first;
    if (fiber) {
        worker->first = fiber->next;
        if (!worker->first)
            worker->last = &worker->first;
    }
    pthread_mutex_unlock(&worker->lock);
    return fiber;
}

static void *run(void *argument) {
    struct worker *worker = argument;
    own = worker;
    for (struct fiber *fiber; (fiber = pop(worker));) {
        worker->now = fiber;
        enter(worker, fiber);
        worker->now = NULL;
        // Now that its registers are saved, it is the next thread's.
        if (!fiber->done)
            push(&workers[(worker->number + 1) % worker_count], fiber);
        else if (__atomic_add_fetch(&finished, 1, __ATOMIC_ACQ_REL) == FIBERS)
            end_all();
    }
    own = NULL;
    return NULL;
}

static void prepare(struct fiber *fiber) {
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        _exit(73);
    if (by_hand) {
        // Six registers, where to go, and no caller: the stack is as at a function's entry.
        void **top = (void **)(stack + STACK) - 2;
        top[0] = (void *)body;
        top[1] = NULL;
        fiber->stack_pointer = top - 6;
    } else {
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = stack;
        fiber->context.uc_stack.ss_size = STACK;
        makecontext(&fiber->context, body, 0);
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    by_hand = !strcmp(argv[1], "switch");
    worker_count = strtoul(argv[2], NULL, 10);
    if (worker_count < 1 || worker_count > MOST_THREADS)
        return 2;
    ledger_start();
    for (size_t i = 0; i < worker_count; i++) {
        workers[i].number = i;
        workers[i].last = &workers[i].first;
        pthread_mutex_init(&workers[i].lock, NULL);
        pthread_cond_init(&workers[i].changed, NULL);
    }
    for (size_t i = 0; i < FIBERS; i++) {
        fibers[i].number = i + 1;
        prepare(&fibers[i]);
        push(&workers[i % worker_count], &fibers[i]);
    }
    pthread_t threads[MOST_THREADS];
    for (size_t i = 0; i < worker_count; i++)
        pthread_create(&threads[i], NULL, run, &workers[i]);
    for (size_t i = 0; i < worker_count; i++)
        pthread_join(threads[i], NULL);
    char line[80];
    int n = snprintf(line, sizeof line, "%d fibers, %ld migrations\n", finished, migrations);
    if (write(1, line, (size_t)n) != n)
        return 3;
    ledger_write();
    return 19;
}
