// Loses blocks without freeing them. What sites named `site_lost...` allocate is gone in the end, all else is still there.
// usage: vanishing munmap|mremap|brk|ordinary|leaderless, or vanishing execs N: replaces its image so often
#define _GNU_SOURCE
#include "ledger.h"
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCKS = 12, SMALL = 700, PAGE = 4096 };

#define BLOCK_SITE(name)                                                                                     \
    SITE static void *name(size_t n) {                                                                       \
        void *p = malloc(n);                                                                                 \
        KEEP(p);                                                                                             \
        LEDGER_ALLOC(p, n);                                                                                  \
        return p;                                                                                            \
    }
BLOCK_SITE(site_lost)
BLOCK_SITE(site_kept)
BLOCK_SITE(site_kept_part)
BLOCK_SITE(site_kept_resized)
BLOCK_SITE(site_kept_small)
BLOCK_SITE(site_passing)

// The mapping that glibc made for the block `p`: before it lie what precedes it there, and its size with three flags.
static char *mapping_of(void *p, size_t *length) {
    size_t *header = (size_t *)p - 2;
    if (!(header[1] & 2))
        _exit(71);
    *length = header[0] + (header[1] & ~(size_t)7);
    return (char *)header - header[0];
}

static void unmap(void *p) {
    size_t length;
    char *start = mapping_of(p, &length);
    if (munmap(start, length))
        _exit(72);
}

// Room for all that is moved, made before any is: it would lie where others were.
static char *room;

static void move_away(void *p) {
    size_t length;
    char *start = mapping_of(p, &length);
    if (mremap(start, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, room) != room)
        _exit(73);
    room += length;
}

// Every second one goes.
static void lose(void (*away)(void *)) {
    void *lost[BLOCKS];
    room = mmap(NULL, 2 * BLOCKS * 300007, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        _exit(79);
    for (size_t i = 0; i < BLOCKS; i++) {
        site_kept(200003 + 2 * i);
        lost[i] = site_lost(300007 + 2 * i);
        site_kept_small(31 + 2 * i);
    }
    // Of some the first pages only, of some those behind them: what is left of a block is still there. All at once, as the
    // next one would get the pages and lie over the beginning of the one before.
    void *parts[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++)
        parts[i] = site_kept_part(250001 + 2 * i);
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t length;
        char *part = mapping_of(parts[i], &length);
        size_t pages = length / PAGE;
        if (munmap(part + (i % 2 ? 0 : PAGE * (pages - 3)), PAGE * (i % 2 ? pages - 2 : 3)))
            _exit(74);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        away(lost[i]);
    // The old block is gone, and that is seen.
    void *p = site_passing(180001);
    for (size_t n = 400009; n < 4000009; n += 500002) {
        ledger_free(p);
        p = realloc(p, n);
        KEEP(p);
        ledger_alloc(ledger_site("function:realloc"), p, n);
    }
}

// The top of the heap is given back with blocks in it.
static void lose_top(void) {
    if (mallopt(M_MMAP_THRESHOLD, 1 << 30) != 1 || mallopt(M_TOP_PAD, 0) != 1)
        _exit(75);
    for (size_t i = 0; i < BLOCKS; i++)
        site_kept(20011 + 2 * i);
    char *edge = (char *)(((uintptr_t)site_kept_resized(PAGE + 11) + 2 * PAGE + 11) & ~(uintptr_t)(PAGE - 1));
    // None lies over the edge.
    while ((char *)site_kept_small(17) + 200 < edge)
        ;
    site_kept_resized(199);
    for (size_t i = 0; i < BLOCKS; i++)
        site_lost(50021 + 2 * i);
    char *top = sbrk(0);
    if (edge > top || sbrk(edge - top) == (void *)-1)
        _exit(76);
}

// Nothing but what programs do: blocks of all sizes come, grow, shrink and go, and what is free is given back.
static void work(void) {
    static void *blocks[SMALL];
    for (size_t round = 0; round < 6; round++) {
        for (size_t i = 0; i < SMALL; i++) {
            if (blocks[i] && (i + round) % 3 == 0) {
                release(blocks[i]);
                blocks[i] = NULL;
            } else if (blocks[i] && (i + round) % 3 == 1) {
                size_t n = 1 + (i * 7919 + round * 104729) % 300000;
                ledger_free(blocks[i]);
                blocks[i] = realloc(blocks[i], n);
                KEEP(blocks[i]);
                ledger_alloc(ledger_site("function:realloc"), blocks[i], n);
            } else if (!blocks[i]) {
                blocks[i] = i % 97 ? site_kept_small(i % 5 ? i * 3 : 0) : site_kept(150001 + i);
            }
        }
        malloc_trim(0);
        usleep(60000);
    }
}

// Each image has blocks that are old enough to be judged, and of them none is unmapped before all are.
static void exec_again(char **argv) {
    for (size_t i = 0; i < BLOCKS; i++)
        site_kept(200003 + 2 * i);
    usleep(130000);
    static char left[16];
    snprintf(left, sizeof left, "%d", atoi(argv[2]) - 1);
    if (atoi(argv[2]) == 0)
        return;
    ledger_write_before_exec();
    unsetenv("LEDGER_GO");
    execv(argv[0], (char *[]){argv[0], argv[1], left, NULL});
    _exit(80);
}

static _Noreturn void end(void) {
    ledger_write();
    // Longer than a block must be there to be judged.
    usleep(300000);
    ledger_touch("VANISHED");
    ledger_wait_file("VANISHING_END");
    _exit(0);
}

// Goes on when the first thread is gone, which has no memory to be looked at then.
static void *second(void *started) {
    pthread_barrier_wait(started);
    // Until the tracer has seen to the probes: other tracers that come or go before take them away.
    sleep(2);
    lose(unmap);
    end();
}

static void leave_it_to_another(void) {
    static pthread_barrier_t started;
    pthread_t thread;
    if (pthread_barrier_init(&started, NULL, 2) || pthread_create(&thread, NULL, second, &started))
        _exit(81);
    ledger_start();
    pthread_barrier_wait(&started);
    // Not by pthread_exit, which would open a library.
    syscall(SYS_exit, 0);
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 64;
    if (!strcmp(argv[1], "leaderless"))
        leave_it_to_another();
    ledger_start();
    if (!strcmp(argv[1], "munmap"))
        lose(unmap);
    else if (!strcmp(argv[1], "mremap"))
        lose(move_away);
    else if (!strcmp(argv[1], "brk"))
        lose_top();
    else if (!strcmp(argv[1], "execs") && argc == 3)
        exec_again(argv);
    else
        work();
    end();
}
