// Heaps that go with all their blocks, as often as is said: by mimalloc (-DMI), or by jemalloc's mallctl. What goes, and how, is
// the first argument; with a second one, jemalloc is told by numbers. The last round's blocks have nobody's newer blocks in their places.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 20
#define BLOCKS 1000
#define SIZE 1009

#ifdef MI
#include <mimalloc.h>

static void each_round(const char *how)
{
    mi_heap_t *heap = mi_heap_new();
    for (int i = 0; i < BLOCKS; i++)
        memset(mi_heap_malloc(heap, SIZE), 1, SIZE);
    if (strcmp(how, "destroy") == 0)
        mi_heap_destroy(heap);
    else
        mi_heap_delete(heap);
}
#else
#include <jemalloc/jemalloc.h>

static int by_numbers;

static void control(const char *name)
{
    size_t numbers[3], length = 3;
    int failed = by_numbers ? mallctlnametomib(name, numbers, &length) || mallctlbymib(numbers, length, NULL, NULL, NULL, 0)
                            : mallctl(name, NULL, NULL, NULL, 0);
    if (failed)
        exit(2);
}

static void each_round(const char *how)
{
    static unsigned arena;
    static int made;
    size_t length = sizeof arena;
    char name[64];
    if (!made || strcmp(how, "destroy") == 0) {
        if (mallctl("arenas.create", &arena, &length, NULL, 0) != 0)
            exit(1);
        made = 1;
    }
    for (int i = 0; i < BLOCKS; i++)
        memset(mallocx(SIZE, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE), 1, SIZE);
    snprintf(name, sizeof name, "arena.%u.%s", arena, how);
    control(name);
}
#endif

int main(int count, char **arguments)
{
#ifndef MI
    by_numbers = count > 2;
#endif
    for (int i = 0; i < ROUNDS; i++)
        each_round(count > 1 ? arguments[1] : "");
    return 0;
}
