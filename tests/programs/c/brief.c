// Very many processes of a moment.
// usage: brief COUNT fork|exec [together] | brief leaf [FD]; each allocates three blocks and frees one. Together: none ends
// before the last has begun
#define _GNU_SOURCE
#include "ledger.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { AT_ONCE = 8 };

SITE void *site_first(void) {
    return malloc(1009);
}
SITE void *site_second(void) {
    return malloc(2003);
}
SITE void *site_third(void) {
    return malloc(3001);
}

static void moment(void) {
    void *first = site_first(), *second = site_second(), *third = site_third();
    KEEP(first);
    KEEP(third);
    KEEP(second);
    free(second);
}

// Until nobody holds the other end any more.
static void wait_for_end(int fd) {
    char byte;
    while (read(fd, &byte, 1) > 0)
        ;
}

int main(int argc, char **argv) {
    if (argc >= 2 && !strcmp(argv[1], "leaf")) {
        moment();
        if (argc > 2)
            wait_for_end(atoi(argv[2]));
        return 0;
    }
    if (argc < 3)
        return 2;
    long count = atol(argv[1]);
    int exec = !strcmp(argv[2], "exec"), failed = 0, together = argc > 3;
    long running = 0, at_once = together ? count : AT_ONCE;
    int ends[2];
    char fd[16];
    if (pipe(ends) || fcntl(ends[1], F_SETFD, FD_CLOEXEC))
        return 3;
    snprintf(fd, sizeof fd, "%d", ends[0]);
    ledger_start();
    for (long i = 0; i < count || running > 0;) {
        if (i < count && running < at_once) {
            pid_t pid = exec ? vfork() : fork();
            if (pid < 0)
                return 4;
            if (pid == 0) {
                if (exec) {
                    execl("/proc/self/exe", "brief", "leaf", together ? fd : NULL, NULL);
                    _exit(96);
                }
                close(ends[1]);
                moment();
                if (together)
                    wait_for_end(ends[0]);
                _exit(0);
            }
            running++;
            i++;
            if (i == count)
                close(ends[1]);
        } else {
            int status;
            failed += wait(&status) < 0 || status != 0;
            running--;
        }
    }
    ledger_write();
    return failed ? 5 : 0;
}
