// Allocates and frees in several threads until it is told to end, and looks whether its blocks are what they were.
// usage: steady THREADS; ends when the file named by STEADY_END exists, with code 21 if all was well
#define _GNU_SOURCE
#include "ledger.h"
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { BLOCKS = 64, MOST = 200 };

static volatile int over, broken;
static unsigned long rounds[MOST];

static void check(const unsigned char *block, size_t n, unsigned char mark) {
    for (size_t i = 0; i < n; i++)
        if (block[i] != mark)
            broken = 1;
}

static void *work(void *argument) {
    size_t number = (size_t)argument;
    unsigned char *blocks[BLOCKS] = {0};
    size_t sizes[BLOCKS] = {0};
    for (unsigned long round = 0; !over; round++) {
        size_t at = (round * 7 + number) % BLOCKS;
        unsigned char mark = (unsigned char)(at + number);
        if (blocks[at])
            check(blocks[at], sizes[at], mark);
        size_t n = 16 + (round * 31 + number) % 700;
        if (round % 5 == 0 && blocks[at]) {
            unsigned char *moved = realloc(blocks[at], n);
            if (!moved) {
                broken = 1;
                break;
            }
            check(moved, n < sizes[at] ? n : sizes[at], mark);
            blocks[at] = moved;
        } else {
            free(blocks[at]);
            blocks[at] = round % 3 ? malloc(n) : calloc(1, n);
        }
        if (!blocks[at]) {
            broken = 1;
            break;
        }
        memset(blocks[at], mark, n);
        sizes[at] = n;
        rounds[number]++;
    }
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    return NULL;
}

int main(int argc, char **argv) {
    const char *end = getenv("STEADY_END");
    size_t count = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    if (!end || count == 0 || count > MOST)
        return 2;
    pthread_t threads[MOST];
    for (size_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i))
            return 3;
    ledger_start();
    while (access(end, F_OK))
        usleep(10000);
    over = 1;
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < count; i++)
        if (rounds[i] == 0)
            broken = 1;
    return broken ? 22 : 21;
}
