// Allocates BLOCKS blocks from STACKS distinct stacks when told so ("BLOCKS STACKS" in, "done" out), and keeps them
// until end of input.
#include <stdio.h>
#include <stdlib.h>

#define FRAME __attribute__((noinline))
#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")
// 2^DEPTH paths.
#define DEPTH 15

static FRAME void *left(unsigned path, int depth, size_t size);

static FRAME void *right(unsigned path, int depth, size_t size) {
    void *p = depth == 0 ? malloc(size)
              : path & 1 ? right(path >> 1, depth - 1, size)
                         : left(path >> 1, depth - 1, size);
    KEEP(p);
    return p;
}

static FRAME void *left(unsigned path, int depth, size_t size) {
    void *p = depth == 0 ? malloc(size)
              : path & 1 ? right(path >> 1, depth - 1, size)
                         : left(path >> 1, depth - 1, size);
    KEEP(p);
    return p;
}

int main(void) {
    unsigned blocks, stacks;
    if (scanf("%u %u", &blocks, &stacks) != 2 || stacks == 0 || stacks > 1u << DEPTH)
        return 2;
    for (unsigned i = 0; i < blocks; i++) {
        void *p = left(i % stacks, DEPTH, 17 + 2 * (i & 31));
        KEEP(p);
    }
    puts("done");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return 0;
}
