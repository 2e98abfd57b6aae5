// Frames that a signal interrupted anywhere but at a call. Each block has a size of its own.
#define _GNU_SOURCE
#include "ledger.h"
#include <signal.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

// Bytes of `ud2`.
enum { TRAP = 2, WARM_UPS = 150 };

static size_t wanted;

static __attribute__((noipa)) void handle(size_t depth, size_t n) {
    char bytes[56];
    memset(bytes, (int)depth, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    if (depth == 0) {
        void *block = malloc(n);
        KEEP(block);
    } else {
        handle(depth - 1, n);
    }
    KEEP(p);
}

static void on_trap(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    handle(2, wanted);
    if (wanted >= 25000)
        wanted++;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += TRAP;
}

// At its first instruction, after each push, with all room made, and on the way out: no row of these is one of a call.
void moments(void);
__asm__(".text\n"
        ".type moments, @function\n"
        "moments:\n"
        ".cfi_startproc\n"
        "ud2\n"
        "push %rbx\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset rbx, 0\n"
        "ud2\n"
        "push %rbp\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset rbp, 0\n"
        "xor %ebp, %ebp\n"
        "ud2\n"
        "sub $72, %rsp\n"
        ".cfi_adjust_cfa_offset 72\n"
        "ud2\n"
        "add $72, %rsp\n"
        ".cfi_adjust_cfa_offset -72\n"
        "pop %rbp\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore rbp\n"
        "ud2\n"
        "pop %rbx\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore rbx\n"
        "ud2\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size moments, . - moments\n");

// The same of a function that keeps a frame pointer.
void framed(void);
__asm__(".type framed, @function\n"
        "framed:\n"
        ".cfi_startproc\n"
        "push %rbp\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset rbp, 0\n"
        "ud2\n"
        "mov %rsp, %rbp\n"
        ".cfi_def_cfa_register rbp\n"
        "ud2\n"
        "pop %rbp\n"
        ".cfi_def_cfa rsp, 8\n"
        ".cfi_restore rbp\n"
        "ud2\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size framed, . - framed\n");

static __attribute__((noipa)) void caller(size_t depth) {
    char bytes[40];
    memset(bytes, 1, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    if (depth == 0) {
        moments();
        framed();
    } else {
        caller(depth - 1);
    }
    KEEP(p);
}

int main(void) {
    ledger_start();
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
    // A tracer makes exact rows once it has met such a frame, and is given the time.
    wanted = 31;
    for (int i = 0; i < WARM_UPS; i++) {
        caller(3);
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    wanted = 25000;
    caller(5);
    return wanted == 25009 ? 0 : 3;
}
