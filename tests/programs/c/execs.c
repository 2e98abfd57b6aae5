// Replaces itself by itself, by its first thread or another, as often as is said; then it allocates 1,000 blocks of 1,013 bytes.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *kept[1000];
static char **said;

static void *replace(void *unused)
{
    (void)unused;
    char left[16];
    snprintf(left, sizeof left, "%d", atoi(said[2]) - 1);
    // Others are looked at, too.
    usleep(300000);
    execl("/proc/self/exe", said[0], said[1], left, (char *)0);
    _exit(3);
}

static void wait_to_go(void)
{
    const char *ready = getenv("LEDGER_READY"), *go = getenv("LEDGER_GO");
    if (ready == NULL || go == NULL)
        return;
    FILE *file = fopen(ready, "w");
    if (file != NULL)
        fclose(file);
    while (access(go, F_OK) != 0)
        usleep(3000);
    unsetenv("LEDGER_READY");
}

int main(int count, char **arguments)
{
    if (count < 3)
        return 2;
    said = arguments;
    wait_to_go();
    if (atoi(arguments[2]) == 0) {
        // Until its probes are there.
        sleep(2);
        for (int i = 0; i < 1000; i++)
            kept[i] = malloc(1013);
        usleep(500000);
        return 0;
    }
    if (strcmp(arguments[1], "thread") != 0)
        replace(NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, replace, NULL);
    pthread_join(thread, NULL);
    return 3;
}
