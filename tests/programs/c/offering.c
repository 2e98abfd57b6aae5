// An allocator that tells of samples by probes that the program offers (USDT), as the OpenTelemetry eBPF profiler wants them:
// otel_memory:alloc(pointer, size, weight) and otel_memory:free(pointer). Every block is a sample, and stands for itself.
// usage: offering ROUNDS
// -DPROVIDER="..."  another provider
// -DNOP="..."       another instruction than a nop of one byte
// -DAT_ENTRY        the probe of allocations is a function of its own
// -DNO_FREES        none of frees
#include "ledger.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef PROVIDER
#define PROVIDER "otel_memory"
#endif
#ifndef NOP
#define NOP "nop"
#endif

// Counted up by the kernel while somebody listens.
__attribute__((used)) volatile unsigned short otel_semaphore __attribute__((section(".probes")));

// sourceware.org/systemtap/wiki/UserSpaceProbeImplementation
#define OFFER(instruction, name, arguments)                                                                            \
    "990: " instruction "\n"                                                                                           \
    ".pushsection .note.stapsdt,\"\",\"note\"\n"                                                                       \
    ".balign 4\n"                                                                                                      \
    ".4byte 992f-991f, 994f-993f, 3\n"                                                                                 \
    "991: .asciz \"stapsdt\"\n"                                                                                        \
    "992: .balign 4\n"                                                                                                 \
    "993: .8byte 990b\n"                                                                                               \
    ".8byte _.stapsdt.base\n"                                                                                          \
    ".8byte otel_semaphore\n"                                                                                          \
    ".asciz \"" PROVIDER "\"\n"                                                                                        \
    ".asciz \"" name "\"\n"                                                                                            \
    ".asciz \"" arguments "\"\n"                                                                                       \
    "994: .balign 4\n"                                                                                                 \
    ".popsection\n"                                                                                                    \
    ".ifndef _.stapsdt.base\n"                                                                                         \
    ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"                                            \
    ".weak _.stapsdt.base\n"                                                                                           \
    ".hidden _.stapsdt.base\n"                                                                                         \
    "_.stapsdt.base: .space 1\n"                                                                                       \
    ".size _.stapsdt.base, 1\n"                                                                                        \
    ".popsection\n"                                                                                                    \
    ".endif\n"

#ifdef AT_ENTRY
__attribute__((naked, noinline)) static void tell(void *p, size_t n, size_t weight) {
    (void)p, (void)n, (void)weight;
    __asm__(OFFER(NOP, "alloc", "8@%rdi 8@%rsi 8@%rdx") "ret");
}
#else
static inline __attribute__((always_inline)) void tell(void *p, size_t n, size_t weight) {
    __asm__ volatile(OFFER(NOP, "alloc", "8@%0 8@%1 8@%2") : : "nor"(p), "nor"(n), "nor"(weight));
}
#endif

static inline __attribute__((always_inline)) void tell_free(void *p) {
#ifndef NO_FREES
    __asm__ volatile(OFFER("nop", "free", "8@%0") : : "nor"(p));
#endif
    (void)p;
}

static long told;

// What lies below the stack pointer is this function's as long as it calls nothing.
static __attribute__((noinline, noclone)) void take(void *p, size_t n) {
    volatile size_t kept[8];
    for (size_t i = 0; i < 8; i++)
        kept[i] = n + i;
    if (otel_semaphore) {
        tell(p, n, n);
        told++;
    }
    for (size_t i = 0; i < 8; i++)
        if (kept[i] != n + i)
            _exit(9);
}

static void give(void *p) {
    if (p && otel_semaphore)
        tell_free(p);
    release(p);
}

SITE void *site_small(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    take(p, n);
    LEDGER_ALLOC(p, n);
    return p;
}

SITE void *site_kept(void) {
    void *p = malloc(5000);
    KEEP(p);
    take(p, 5000);
    LEDGER_ALLOC(p, 5000);
    return p;
}

int main(int argc, char **argv) {
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
    void *small[64] = {0};
    if (argc > 2) {
        // Says what the semaphore is, and waits for another.
        for (unsigned was = 1 << 16;;) {
            unsigned now = otel_semaphore;
            if (now != was) {
                printf("semaphore %u\n", now);
                fflush(stdout);
                was = now;
            }
            usleep(1000);
        }
    }
    ledger_start();
    for (size_t i = 0; i < rounds; i++) {
        give(small[i % 64]);
        small[i % 64] = site_small(16 + i % 900);
        if (i % 10 == 0)
            site_kept();
    }
    ledger_write();
    return told == 0;
}
