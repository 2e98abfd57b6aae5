// Runs itself, as /containers, in each of the root folders that are given, at one time; there it allocates and frees.
// A file in each says when.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void *kept[10];

static int within(void)
{
    while (access("/go", F_OK) != 0)
        usleep(10000);
    for (int i = 0; i < 1000; i++) {
        void *block = malloc(101);
        block = realloc(block, 203);
        free(block);
    }
    for (int i = 0; i < 10; i++)
        kept[i] = malloc(1009);
    // Until all has been looked at.
    usleep(300000);
    return 0;
}

int main(int count, char **roots)
{
    if (count == 1)
        return within();
    for (int i = 1; i < count; i++) {
        if (fork() == 0) {
            if (chroot(roots[i]) != 0 || chdir("/") != 0)
                _exit(3);
            char *environment[] = {"LD_LIBRARY_PATH=/lib64", 0};
            execle("/containers", "containers", (char *)0, environment);
            _exit(4);
        }
    }
    int worst = 0, status;
    while (wait(&status) > 0)
        worst = status != 0 ? 1 : worst;
    return worst;
}
