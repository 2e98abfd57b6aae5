// Allocates and frees in several threads until it is told to end, and looks whether its blocks are what they were.
// usage: steady THREADS [CHILDREN]; ends when the file named by STEADY_END exists, with code 21 if all was well, and
// prints what it allocated and freed. With CHILDREN it forks one every 100 ms until there were as many.
#define _GNU_SOURCE
#include "ledger.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCKS = 64, MOST = 200 };

static volatile int over, broken;
static struct { unsigned long rounds, alloc_count, alloc_bytes, free_count, free_bytes; } done[MOST];

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
        if (blocks[at]) {
            done[number].free_count++;
            done[number].free_bytes += sizes[at];
        }
        done[number].alloc_count++;
        done[number].alloc_bytes += n;
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
        done[number].rounds++;
    }
    for (size_t i = 0; i < BLOCKS; i++)
        if (blocks[i]) {
            done[number].free_count++;
            done[number].free_bytes += sizes[i];
            free(blocks[i]);
        }
    return NULL;
}

static void child(void) {
    for (size_t i = 0; i < 5; i++) {
        void *p = malloc(1501 + 2 * i);
        KEEP(p);
        if (i % 2)
            free(p);
    }
    _exit(0);
}

int main(int argc, char **argv) {
    const char *end = getenv("STEADY_END");
    size_t count = argc >= 2 ? strtoul(argv[1], NULL, 10) : 0;
    size_t children = argc >= 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (!end || count == 0 || count > MOST)
        return 2;
    static pthread_t threads[MOST];
    ledger_start();
    for (size_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i))
            return 3;
    for (unsigned long turn = 0; access(end, F_OK); turn++) {
        usleep(10000);
        if (turn % 10 == 0 && children > 0) {
            children--;
            pid_t pid = fork();
            if (pid == 0)
                child();
            int status;
            if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
                broken = 1;
        }
    }
    over = 1;
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    unsigned long sums[4] = {0};
    for (size_t i = 0; i < count; i++) {
        if (done[i].rounds == 0)
            broken = 1;
        sums[0] += done[i].alloc_count;
        sums[1] += done[i].alloc_bytes;
        sums[2] += done[i].free_count;
        sums[3] += done[i].free_bytes;
    }
    char line[200];
    int length = snprintf(line, sizeof line, "%lu %lu %lu %lu\n", sums[0], sums[1], sums[2], sums[3]);
    if (write(1, line, (size_t)length) != length)
        broken = 1;
    return broken ? 22 : 21;
}
