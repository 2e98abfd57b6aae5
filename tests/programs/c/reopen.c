// A library, and after it is closed another one at the same address.
// usage: reopen FIRST SECOND
#define _GNU_SOURCE
#include "ledger.h"
#include <dlfcn.h>
#include <time.h>

static void *use(const char *path, size_t n) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void (*allocate)(size_t) = library ? (void (*)(size_t))dlsym(library, "allocate") : NULL;
    Dl_info info;
    if (!allocate || !dladdr((void *)allocate, &info))
        _Exit(3);
    // Tables are made as code appears, and stacks are named once a second: a tracer is given the time.
    nanosleep(&(struct timespec){2, 0}, NULL);
    allocate(n);
    nanosleep(&(struct timespec){3, 0}, NULL);
    dlclose(library);
    return info.dli_fbase;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    ledger_start();
    void *first = use(argv[1], 22000), *second = use(argv[2], 22001);
    return first == second ? 0 : 4;
}
