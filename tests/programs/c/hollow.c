// Code that is unmapped in part, with other code mapped in its place. Each block has a size of its own.
// Compiled with -fno-toplevel-reorder: the hollow lies between the two functions that allocate.
#define _GNU_SOURCE
#include "ledger.h"
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096 };

static __attribute__((noipa)) void before(size_t n) {
    char bytes[72];
    memset(bytes, 1, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    void *block = malloc(n);
    KEEP(block);
    KEEP(p);
}

extern char hollow[], hollow_end[];
__asm__(".text\n"
        ".globl hollow, hollow_end\n"
        "hollow:\n"
        ".skip 65536, 0x90\n"
        "hollow_end:\n");

static __attribute__((noipa)) void after(size_t n) {
    char bytes[136];
    memset(bytes, 1, sizeof bytes);
    char *p = bytes;
    KEEP(p);
    void *block = malloc(n);
    KEEP(block);
    KEEP(p);
}

int main(void) {
    ledger_start();
    char *start = (char *)(((uintptr_t)hollow + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    size_t length = (size_t)(hollow_end - start) / PAGE * PAGE;
    before(27000);
    after(27001);
    if (munmap(start, length))
        return 3;
    void *other = mmap(start + PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (other == MAP_FAILED)
        return 4;
    before(27002);
    after(27003);
    // A tracer is given the time to notice, and must not notice wrongly.
    nanosleep(&(struct timespec){2, 0}, NULL);
    before(27004);
    after(27005);
    return 0;
}
