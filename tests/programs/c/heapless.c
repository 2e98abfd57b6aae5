// Has no heap until it is told to go on; allocates nothing itself before that, nor after.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int main(void) {
    const char *ready = getenv("LEDGER_READY"), *go = getenv("LEDGER_GO");
    if (!ready || !go)
        return 2;
    close(open(ready, O_WRONLY | O_CREAT, 0600));
    while (access(go, F_OK))
        usleep(2000);
    return sbrk(2000003) == (void *)-1 || sbrk(-500009) == (void *)-1;
}
