// An allocator whose malloc calls functions that do not keep to the calling convention, as the first argument says:
//   lawful    they do
//   clobbers  one leaves another value in a register that it has to leave as it was
//   skips     one returns some instructions behind its call
//   repeats   one returns some instructions before its call, once in each call of malloc
// Blocks come and go at site_before until the file that UNLAWFUL_NEXT names exists, and at site_after then.
#include "arena.h"
#include "ledger.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// After so many blocks, a lawful one is believed.
enum { ENDS = 25, BELIEVED = 30000, AFTER = 1000, LAWFUL = 0, CLOBBERS, SKIPS, REPEATS };

int bending = LAWFUL;
int repeated;

APART void *take(size_t n) { return n > ARENA ? NULL : arena_take(16, n); }

// The size stays in rbx, and the block in rbp. Between the calls of `bend` and of `again` lie 8 bytes, and the last 5 are
// a comparison and the jump that comes after it.
__asm__(".pushsection .text\n"
        ".globl malloc\n .type malloc, @function\n .balign 16\n"
        "malloc: .cfi_startproc\n push %rbx\n .cfi_adjust_cfa_offset 8\n push %rbp\n .cfi_adjust_cfa_offset 8\n"
        " sub $8, %rsp\n .cfi_adjust_cfa_offset 8\n mov %rdi, %rbx\n"
        " call take\n mov %rax, %rdi\n call bend\n"
        " mov %rax, %rbp\n test %rax, %rax\n je 1f\n"
        " call again\n"
        "1: mov %rbp, %rax\n add $8, %rsp\n .cfi_adjust_cfa_offset -8\n pop %rbp\n .cfi_adjust_cfa_offset -8\n"
        " pop %rbx\n .cfi_adjust_cfa_offset -8\n ret\n .cfi_endproc\n"
        " .size malloc, . - malloc\n"
        ".globl valloc\n .type valloc, @function\n .balign 16\n"
        "valloc: .cfi_startproc\n push %rbx\n .cfi_adjust_cfa_offset 8\n mov %rdi, %rbx\n call take\n"
        " test %rax, %rax\n je 1f\n"
        "1: pop %rbx\n .cfi_adjust_cfa_offset -8\n ret\n .cfi_endproc\n"
        " .size valloc, . - valloc\n"
        ".type bend, @function\n .balign 16\n"
        "bend: .cfi_startproc\n mov %rdi, %rax\n mov bending(%rip), %ecx\n"
        " cmp $1, %ecx\n je 1f\n cmp $2, %ecx\n je 2f\n ret\n"
        "1: mov $1, %ebx\n ret\n"
        "2: mov %rdi, %rbp\n addq $8, (%rsp)\n ret\n .cfi_endproc\n"
        " .size bend, . - bend\n"
        ".type again, @function\n .balign 16\n"
        "again: .cfi_startproc\n mov bending(%rip), %ecx\n cmp $3, %ecx\n jne 1f\n"
        " xorl $1, repeated(%rip)\n cmpl $1, repeated(%rip)\n jne 1f\n subq $10, (%rsp)\n"
        "1: ret\n .cfi_endproc\n"
        " .size again, . - again\n"
        ".popsection\n");

APART void free(void *p) {
    if (p)
        memset((char *)p - HEADER, 0xee, sizeof(size_t));
}

APART void *calloc(size_t count, size_t n) {
    size_t bytes;
    if (__builtin_mul_overflow(count, n, &bytes))
        return NULL;
    // The arena is zero, and no part of it comes twice.
    return take(bytes);
}

APART void *realloc(void *old, size_t n) {
    void *p = take(n);
    if (p) {
        arena_copy(p, old, n);
        free(old);
    }
    return p;
}

SITE void *site_before(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

SITE void *site_after(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

// Of a function whose callee does as it has to.
SITE void *site_valloc(size_t n) {
    void *p = valloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static int bending_of(const char *name) {
    static const char *const names[] = {"lawful", "clobbers", "skips", "repeats"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i]))
            return i;
    abort();
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    bending = bending_of(argv[1]);
    ledger_start();
    const char *next = getenv("UNLAWFUL_NEXT");
    for (size_t i = 0; next && access(next, F_OK) != 0; i++) {
        release(site_before(100));
        if (i % 8 == 0)
            release(site_valloc(40));
        if (bending != LAWFUL || i >= BELIEVED)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    for (size_t i = 0; i < AFTER; i++) {
        void *p = site_after(200 + i);
        release(site_valloc(50));
        if (i % 2)
            release(p);
    }
    ledger_write();
    return ENDS;
}
