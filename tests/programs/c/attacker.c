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

// Sets two limits of the memory that /proc shows: the end first, as no range may end before it begins.
static int move(int start, int end) {
    void *zeros = mmap(NULL, ENDLESS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (zeros == MAP_FAILED)
        return 3;
    // Below the stack, where they are.
    return prctl(PR_SET_MM, start, zeros, 0, 0) || prctl(PR_SET_MM, end, (char *)zeros + ENDLESS, 0, 0) ? 4 : 0;
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
        failed = move(PR_SET_MM_ARG_START, PR_SET_MM_ARG_END);
    else if (!strcmp(trap, "environment"))
        failed = move(PR_SET_MM_ENV_START, PR_SET_MM_ENV_END);
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
