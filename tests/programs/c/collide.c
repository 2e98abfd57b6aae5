// Two processes of one image. The child gives its calls a stack of its own making that has the hash of its parent's, as
// heaptrace computes it where it walks by frame pointers (heaptrace-ebpf, `mix`); of an older or newer hash this shows
// nothing. COLLIDE_READY gets the child's PID; the parent begins once COLLIDE_GO is there.
#define _GNU_SOURCE
#include "ledger.h"
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const uint64_t FACTOR = 0x9E3779B97F4A7C15, SEED = 0x68656170;

struct frame {
    const struct frame *next;
    uint64_t address;
};

// Calls malloc with a frame pointer that leads to `frames`.
void *malloc_below(size_t n, const struct frame *frames);
extern const char behind_the_call[];
__asm__(".text\n"
        ".type malloc_below, @function\n"
        "malloc_below:\n"
        "    push %rbp\n"
        "    mov %rsi, %rbp\n"
        "    call malloc@plt\n"
        ".globl behind_the_call\n"
        "behind_the_call:\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size malloc_below, . - malloc_below\n");

static uint64_t mix(uint64_t hash, uint64_t value) {
    uint64_t product = (hash ^ value) * FACTOR;
    return product << 29 | product >> 35;
}

SITE void site_victim(void) {
    __asm__ volatile("nop; nop; nop; nop");
}

static _Noreturn void allocate(const struct frame *frames) {
    for (;;) {
        free(malloc_below(100, frames));
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

int main(void) {
    // Above all that is called from here, as callers' frames are.
    struct frame honest[1] = {{NULL, (uint64_t)site_victim + 2}}, forged[2] = {{&forged[1], 0}, {NULL, 0}};
    uint64_t first = mix(SEED, (uint64_t)behind_the_call), wanted = first ^ honest[0].address;
    for (uint64_t at = 0x1000;; at++) {
        uint64_t last = mix(first, at) ^ wanted;
        if (last >= 0x1000 && last < 1UL << 47) {
            forged[0].address = at;
            forged[1].address = last;
            break;
        }
    }
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        allocate(forged);
    }
    FILE *ready = fopen(getenv("COLLIDE_READY"), "w");
    if (!ready || fprintf(ready, "%d\n", child) < 0 || fclose(ready))
        return 3;
    ledger_wait_file("COLLIDE_GO");
    allocate(honest);
}
