// The ledger: what a test program itself says it allocated and freed, by site. It never allocates.
//
// A site is a noinline function whose name begins with `site_`; the harness looks for that name in stacks. Other
// names say where else to look:
//   function:F   all calls of allocation function F
//   caller:F     all calls made by function F of a library
//   live_from:L  what is live in the end of the calls made by library L, those of a `caller:` left out
//   elsewhere    nowhere; but with it all calls by functions whose name begins with `ledgered_` are in the ledger
#pragma once
#include <stddef.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

// Every site is a function of its own: not inlined, cloned, merged with its like, or left by a tail call.
#define SITE __attribute__((noinline, noclone, noipa, unused))
// The compiler must believe that someone looks at `p`.
#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")

// Number of the site called `name`; registers it on first use.
int ledger_site(const char *name);
// Block `p` of `n` requested bytes was handed out at `site`. Call it after the allocation returned.
void ledger_alloc(int site, const void *p, size_t n);
// Block `p` is about to be freed. Call it before the free. NULL is allowed.
void ledger_free(const void *p);
// An allocation call returned no memory.
void ledger_failed(void);

// realloc: the old block leaves at the call and comes back if the call fails.
struct ledger_block {
    const void *address;
    size_t size;
    int site, generation;
};
struct ledger_block ledger_take(const void *p);
void ledger_settle(struct ledger_block taken);
void ledger_restore(struct ledger_block taken);

// Writes "ready" for the harness and waits until it says go; blocks from before are then unknown to the tracer.
// Does nothing when the program is traced from its first instruction.
void ledger_start(void);
// The part of it after the harness has said go: for programs with a handshake of their own.
void ledger_attached(void);
// Does now what ledger_write would ask the kernel for, but for the writing itself.
void ledger_prepare(void);
// In the child of a fork: begins its own ledger; the parent's blocks are inherited ones from now on.
void ledger_forked(void);
// Writes this process's ledger to LEDGER_OUT.
void ledger_write(void);
// Same, for an image that is about to exec: its live blocks are released with it.
void ledger_write_before_exec(void);
// After the ledger was written: no address of a block is kept any more, so that who looks for leaks finds them.
void ledger_forget(void);
// Waits until the code at `function` differs from its file, and stays so: until a probe is there.
// Returns 0 if that did not happen within `seconds`.
int ledger_wait_probed(void *const *functions, size_t count, int seconds);
// Waits until the file named by environment variable `variable` exists; nothing if it is not set.
void ledger_wait_file(const char *variable);
// Creates the file named by environment variable `variable`; nothing if it is not set.
void ledger_touch(const char *variable);

#define LEDGER_ALLOC(p, n)                                                                                   \
    do {                                                                                                     \
        static int ledger_id = -1;                                                                           \
        if (ledger_id < 0)                                                                                   \
            ledger_id = ledger_site(__func__);                                                               \
        ledger_alloc(ledger_id, (p), (n));                                                                   \
    } while (0)

static inline void release(void *p) {
    ledger_free(p);
    free(p);
}

#ifdef __cplusplus
}
#endif
