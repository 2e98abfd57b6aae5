// Calls the `reallocf` of the library that is named: 100 blocks of 503 bytes that grow to 907, of which 10 stay.
#include "ledger.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void *kept[10];

int main(int count, char **arguments)
{
    void *library = count > 1 ? dlopen(arguments[1], RTLD_NOW) : NULL;
    void *(*resize)(void *, size_t) = library ? (void *(*)(void *, size_t))dlsym(library, "reallocf") : NULL;
    if (resize == NULL)
        return 2;
    ledger_start();
    // Until the library's probes would be there.
    sleep(1);
    for (int i = 0; i < 100; i++) {
        void *block = resize(resize(NULL, 503), 907);
        if (i < 10)
            kept[i] = block;
        else
            free(block);
    }
    return 0;
}
