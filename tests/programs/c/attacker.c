// A process that puts traps where tracers look.
// usage: attacker preload ROOT     its root is ROOT from now on, with whatever lies at etc/ld.so.preload there
//        attacker arguments        its arguments are 64 GB of zeros
//        attacker environment      its environment is
//        attacker maps FOLDER      it maps every file of FOLDER like a library
//        attacker heaps            its malloc has 20,000 heaps of 64 MB
//        attacker arenas           its malloc has 5,000 arenas, with lists that run in circles
//        attacker file             it is the trap itself
// It allocates until it is killed.
#define _GNU_SOURCE
#include "ledger.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const size_t ENDLESS = 64UL << 30;

// HEAP_MAX_SIZE of glibc's malloc.
static const size_t HEAP = 64UL << 20;

static SITE void *site_attacker(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    return p;
}

// Says of a part of the memory that /proc shows that it is 64 GB of zeros; all else stays as it is.
static int move(int arguments) {
    char *zeros = mmap(NULL, ENDLESS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char stat[4096] = "", *field = NULL;
    unsigned long is[52] = {0};
    FILE *file = fopen("/proc/self/stat", "r");
    if (zeros == MAP_FAILED || !file || !fgets(stat, sizeof stat, file) || fclose(file))
        return 3;
    // proc_pid_stat(5): the third field is behind the name, which may hold anything.
    field = strrchr(stat, ')') + 4;
    for (int n = 4; n < 52; n++)
        is[n] = strtoul(field, &field, 10);
    struct prctl_mm_map map = {
        .start_code = is[26],
        .end_code = is[27],
        .start_stack = is[28],
        .start_data = is[45],
        .end_data = is[46],
        .start_brk = is[47],
        .brk = (unsigned long)sbrk(0),
        .arg_start = arguments ? (unsigned long)zeros : is[48],
        .arg_end = arguments ? (unsigned long)zeros + ENDLESS : is[49],
        .env_start = arguments ? is[50] : (unsigned long)zeros,
        .env_end = arguments ? is[51] : (unsigned long)zeros + ENDLESS,
        .exe_fd = -1,
    };
    return prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) ? 4 : 0;
}

static int map_all(const char *folder) {
    DIR *files = opendir(folder);
    if (!files)
        return 6;
    for (struct dirent *file; (file = readdir(files));) {
        if (file->d_type != DT_REG)
            continue;
        int fd = openat(dirfd(files), file->d_name, O_RDONLY);
        if (fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED)
            return 7;
        close(fd);
    }
    return closedir(files);
}

static char *volatile arena;

// A thread's arena is at the beginning of its heap.
static void *of_thread(void *unused) {
    (void)unused;
    arena = *(char **)((unsigned long)malloc(100) & ~(HEAP - 1));
    for (;;)
        pause();
    return NULL;
}

// Puts heaps in front of the one of a thread's arena, as glibc lays them out from 2.35 on.
static int add_heaps(void) {
    enum { HEAPS = 20000, INFO = 48, TOP = 96 };
    pthread_t thread;
    if (pthread_create(&thread, NULL, of_thread, NULL))
        return 8;
    while (!arena)
        usleep(1000);
    size_t length = (HEAPS + 1) * HEAP;
    char *all = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return 9;
    madvise(all, length, MADV_NOHUGEPAGE);
    char *previous = (char *)((unsigned long)arena & ~(HEAP - 1));
    char *at = (char *)(((unsigned long)all + HEAP - 1) & ~(HEAP - 1));
    for (int n = 0; n < HEAPS; n++, previous = at, at += HEAP) {
        // Its arena, the heap before, its size; then one block as large as the heap.
        ((char **)at)[0] = arena;
        ((char **)at)[1] = previous;
        ((size_t *)at)[2] = HEAP;
        ((size_t *)(at + INFO))[1] = (HEAP - INFO) | 1;
    }
    ((size_t *)(previous + INFO))[1] = 4096 | 1;
    *(char **)(arena + TOP) = previous + INFO;
    return 0;
}

// Puts arenas of a heap each behind the one of a thread, as glibc lays them out from 2.35 on. In each, a block of a fastbin
// leads to itself.
static int add_arenas(void) {
    enum { ARENAS = 5000, INFO = 48, FASTBIN = 16, TOP = 96, NEXT = 2160, SYSTEM = 2184, STATE = 2208 };
    pthread_t thread;
    if (pthread_create(&thread, NULL, of_thread, NULL))
        return 8;
    while (!arena)
        usleep(1000);
    size_t length = (ARENAS + 1) * HEAP;
    char *all = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return 9;
    madvise(all, length, MADV_NOHUGEPAGE);
    char *previous = arena, *last = *(char **)(arena + NEXT);
    char *at = (char *)(((unsigned long)all + HEAP - 1) & ~(HEAP - 1));
    for (int n = 0; n < ARENAS; n++, at += HEAP) {
        char *own = at + INFO, *block = own + STATE, *top = block + 32;
        // Its arena, and its size; then a block, and the top block.
        ((char **)at)[0] = own;
        ((size_t *)at)[2] = HEAP;
        ((size_t *)block)[1] = 32 | 1;
        ((size_t *)block)[2] = (size_t)block ^ (size_t)(block + 16) >> 12;
        ((size_t *)top)[1] = (size_t)(at + HEAP - top) | 1;
        *(char **)(own + FASTBIN) = block;
        *(char **)(own + TOP) = top;
        *(size_t *)(own + SYSTEM) = HEAP;
        *(char **)(own + NEXT) = last;
        *(char **)(previous + NEXT) = own;
        previous = own;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    const char *trap = argv[1];
    int failed = 0;
    if (!strcmp(trap, "preload"))
        failed = argc != 3 || chroot(argv[2]) || chdir("/");
    else if (!strcmp(trap, "arguments"))
        failed = move(1);
    else if (!strcmp(trap, "environment"))
        failed = move(0);
    else if (!strcmp(trap, "maps"))
        failed = argc != 3 || map_all(argv[2]);
    else if (!strcmp(trap, "heaps"))
        failed = add_heaps();
    else if (!strcmp(trap, "arenas"))
        failed = add_arenas();
    else if (strcmp(trap, "file"))
        return 2;
    if (failed)
        return 5;
    ledger_touch("ATTACKER_READY");
    for (;;) {
        free(site_attacker(100));
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}
