// Very many processes of a moment.
// usage: brief COUNT fork | brief COUNT exec | brief leaf; each allocates three blocks and frees one
#define _GNU_SOURCE
#include "ledger.h"
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

int main(int argc, char **argv) {
    if (argc == 2) {
        moment();
        return 0;
    }
    if (argc != 3)
        return 2;
    long count = atol(argv[1]);
    int exec = !strcmp(argv[2], "exec"), failed = 0, running = 0;
    ledger_start();
    for (long i = 0; i < count || running > 0;) {
        if (i < count && running < AT_ONCE) {
            pid_t pid = exec ? vfork() : fork();
            if (pid < 0)
                return 4;
            if (pid == 0) {
                if (exec) {
                    execl("/proc/self/exe", "brief", "leaf", NULL);
                    _exit(96);
                }
                moment();
                _exit(0);
            }
            running++;
            i++;
        } else {
            int status;
            failed += wait(&status) < 0 || status != 0;
            running--;
        }
    }
    ledger_write();
    return failed ? 5 : 0;
}
