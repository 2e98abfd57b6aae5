// Children of a moment that become another program.
// usage: momentary start fork|vfork|spawn COUNT PROGRAM [ARGUMENT...]: one after the other
//        momentary become PROGRAM [ARGUMENT...]: by an exec
//        momentary leaf: allocates a block, and ends
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static pid_t started(const char *how, char **program) {
    pid_t child = -1;
    if (strcmp(how, "spawn") == 0)
        return posix_spawn(&child, program[0], NULL, NULL, program, environ) ? -1 : child;
    child = strcmp(how, "vfork") == 0 ? vfork() : fork();
    if (child == 0) {
        execv(program[0], program);
        _exit(127);
    }
    return child;
}

int main(int argc, char **argv) {
    if (argc >= 5 && strcmp(argv[1], "start") == 0) {
        for (int n = atoi(argv[3]); n > 0; n--) {
            int status = 0;
            pid_t child = started(argv[2], argv + 4);
            if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
                return 1;
        }
        return 0;
    }
    if (argc >= 3 && strcmp(argv[1], "become") == 0) {
        execv(argv[2], argv + 2);
        return 127;
    }
    void *volatile block = malloc(1009);
    return block == NULL;
}
