// A process that puts traps where tracers look.
// usage: attacker preload ROOT     its root is ROOT from now on, with whatever lies at etc/ld.so.preload there
//        attacker arguments        its arguments are 64 GB of zeros
//        attacker environment      its environment is
//        attacker maps FOLDER      it maps every file of FOLDER like a library
//        attacker file             it is the trap itself
// It allocates until it is killed.
#define _GNU_SOURCE
#include "ledger.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const size_t ENDLESS = 64UL << 30;

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
