// Brings heaps of two arenas into a known state, prints what malloc says of itself, and rests.
// Prints into memory that is there already: stdio's own buffers would change what is printed.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// glibc has it since 2.33, and this runs on 2.31, too; of heaps so small the older one says the same.
#pragma weak mallinfo2
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define SAY(info)                                                                                                \
    printf("mallinfo arena %zu ordblks %zu smblks %zu hblks %zu hblkhd %zu fsmblks %zu uordblks %zu fordblks %zu " \
           "keepcost %zu\n",                                                                                     \
           (size_t)info.arena, (size_t)info.ordblks, (size_t)info.smblks, (size_t)info.hblks,                    \
           (size_t)info.hblkhd, (size_t)info.fsmblks, (size_t)info.uordblks, (size_t)info.fordblks,              \
           (size_t)info.keepcost)

#define MANY 3000
static void *kept[2][MANY];
static void *large[3];
static char out_buffer[1 << 16];
static pthread_barrier_t filled;

// Leaves blocks of all kinds: in use, in the thread's cache, in fastbins, unsorted, in small and large bins.
static void fill(int who) {
    for (int i = 0; i < MANY; i++) {
        kept[who][i] = malloc(24 + 8 * (size_t)(i % 300) + (size_t)who * 16);
        memset(kept[who][i], 0xa5, 24);
    }
    // Every third, so that neighbours stay and nothing is joined.
    for (int i = 0; i < MANY / 2; i += 3) {
        free(kept[who][i]);
        kept[who][i] = NULL;
    }
    // Sorts the unsorted ones into their bins.
    kept[who][0] = malloc(300000 / (who + 3));
    for (int i = MANY / 2; i < MANY * 3 / 4; i += 5) {
        free(kept[who][i]);
        kept[who][i] = NULL;
    }
}

static void *second(void *blocks) {
    fill(1);
    // More than one heap of 64 MiB holds.
    for (int i = 0; i < *(int *)blocks; i++) {
        void *block = malloc(30011);
        if (i % 3 == 0)
            free(block);
    }
    pthread_barrier_wait(&filled);
    pause();
    return NULL;
}

// From here on malloc's main arena has mappings in place of the break.
static void block_break(void) {
    void *behind = sbrk(0);
    void *at = (void *)(((size_t)behind + 4095) & ~(size_t)4095);
    if (mmap(at, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
        _exit(9);
}

int main(int argc, char **argv) {
    if (getenv("HEAP_BLOCKED"))
        block_break();
    setvbuf(stdout, out_buffer, _IOFBF, sizeof out_buffer);
    int blocks = 0;
    if (argc > 2 && strcmp(argv[1], "heaps") == 0) {
        blocks = atoi(argv[2]);
    } else if (argc > 2) {
        // "park N": so many blocks of one size in this thread's cache.
        void *blocks[7];
        int count = atoi(argv[2]);
        for (int i = 0; i < count; i++)
            blocks[i] = malloc(777);
        for (int i = 0; i < count; i++)
            free(blocks[i]);
        printf("parked\n");
        fflush(stdout);
        pause();
    }
    pthread_barrier_init(&filled, NULL, 2);
    fill(0);
    for (int i = 0; i < 3; i++)
        large[i] = malloc((1 << 20) + 4099 * (size_t)i);
    pthread_t thread;
    if (pthread_create(&thread, NULL, second, &blocks) != 0)
        return 1;
    pthread_barrier_wait(&filled);
    if (argc > 1 && strcmp(argv[1], "run") == 0) {
        // "run": never at rest.
        printf("running\n");
        fflush(stdout);
        for (unsigned i = 0;; i++) {
            int at = (int)(i * 7919u % MANY);
            free(kept[0][at]);
            kept[0][at] = malloc(16 + i * 31u % 5000);
        }
    }
    if (mallinfo2) {
        struct mallinfo2 info = mallinfo2();
        SAY(info);
    } else {
        struct mallinfo info = mallinfo();
        SAY(info);
    }
    malloc_info(0, stdout);
    printf("resting\n");
    fflush(stdout);
    pause();
    return 0;
}
