// Holds 100 blocks of 1 MiB of an allocator that is linked in and has no names that are left.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *kept[100];

int main(void)
{
    const char *ready = getenv("LEDGER_READY"), *go = getenv("LEDGER_GO");
    FILE *file = ready != NULL ? fopen(ready, "w") : NULL;
    if (file != NULL)
        fclose(file);
    while (go != NULL && access(go, F_OK) != 0)
        usleep(3000);
    for (int i = 0; i < 100; i++)
        kept[i] = memset(malloc(1 << 20), 1, 1 << 20);
    return 0;
}
