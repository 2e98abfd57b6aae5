// An allocator of a test program's own: blocks are cut off an arena and never given out again. The program wraps it in
// the functions of the malloc family, as its test wants them.
#pragma once
#include <stdint.h>
#include <string.h>
#include <unistd.h>

// A function that keeps its own frame and entry.
#define APART __attribute__((noinline, noclone, noipa, unused))

// Before each block, its size.
enum { HEADER = 16, ARENA = 128 << 20 };

static char arena[ARENA] __attribute__((aligned(4096)));
static size_t arena_used;

static APART void *arena_take(size_t alignment, size_t n) {
    size_t room = n + HEADER + alignment;
    size_t at = __atomic_fetch_add(&arena_used, (room + 15) & ~(size_t)15, __ATOMIC_RELAXED);
    if (at + room > sizeof arena)
        _exit(70);
    uintptr_t block = ((uintptr_t)arena + at + HEADER + alignment - 1) & ~(uintptr_t)(alignment - 1);
    memcpy((void *)(block - HEADER), &n, sizeof n);
    return (void *)block;
}

// What realloc keeps of the block `old`, which may be NULL, in the block `p` of `n` bytes.
static inline void arena_copy(void *p, const void *old, size_t n) {
    if (old) {
        size_t before;
        memcpy(&before, (const char *)old - HEADER, sizeof before);
        memcpy(p, old, before < n ? before : n);
    }
}
