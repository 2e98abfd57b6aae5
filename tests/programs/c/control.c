// Control flow that leaves functions early or enters them from the side: longjmp and signal handlers.
#include "ledger.h"
#include <setjmp.h>
#include <signal.h>

static jmp_buf back;
static void *slots[200];
static volatile size_t current;

SITE void *site_before_jump(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_after_jump(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_handler(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
SITE void *site_handler_jump(size_t n) {
    void *p = calloc(1, n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static __attribute__((noipa)) void descend(size_t depth, size_t i) {
    if (depth == 0) {
        slots[i] = site_before_jump(811 + 2 * i);
        longjmp(back, 1);
    }
    descend(depth - 1, i);
    KEEP(i);
}

static void on_usr1(int unused) {
    (void)unused;
    slots[current] = site_handler(1201 + 2 * current);
}

static void on_usr2(int unused) {
    (void)unused;
    slots[current] = site_handler_jump(1601 + 2 * current);
    siglongjmp(back, 1);
}

int main(void) {
    struct sigaction action = {0};
    action.sa_handler = on_usr1;
    sigaction(SIGUSR1, &action, NULL);
    action.sa_handler = on_usr2;
    sigaction(SIGUSR2, &action, NULL);
    ledger_start();

    for (volatile size_t i = 0; i < 200; i++) {
        if (sigsetjmp(back, 1) == 0)
            descend(i % 30, i);
        void *p = site_after_jump(31);
        release(p);
        if (i % 2)
            release(slots[i]);
    }
    for (size_t i = 0; i < 200; i++) {
        current = i;
        raise(SIGUSR1);
        if (i % 5)
            release(slots[i]);
    }
    for (volatile size_t i = 0; i < 200; i++) {
        current = i;
        if (sigsetjmp(back, 1) == 0)
            raise(SIGUSR2);
        if (i % 7)
            release(slots[i]);
    }
    ledger_write();
    return 0;
}
