// Libraries opened while the program is traced.
// usage: dynamic plugin PATH | dynamic jemalloc PATH | dynamic bound PATH | dynamic deepbind PATH | dynamic namespace PATH
#define _GNU_SOURCE
#include "ledger.h"
#include <dlfcn.h>
#include <string.h>

static void *(*mallocx)(size_t, int);
static void (*dallocx)(void *, int);

SITE void *site_host(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

SITE void *site_mallocx(size_t n) {
    void *p = mallocx(n, 0);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    // Opened so that it finds its own functions first: it has no ledger.
    const int is_deep = !strcmp(argv[1], "deepbind"), is_apart = is_deep || !strcmp(argv[1], "namespace");
    // A plugin's allocator is there when the tracer comes.
    const int is_bound = is_apart || !strcmp(argv[1], "bound");
    if (!is_bound)
        ledger_start();
    const int how = RTLD_NOW | RTLD_LOCAL | (is_deep ? RTLD_DEEPBIND : 0);
    void *library = is_apart && !is_deep ? dlmopen(LM_ID_NEWLM, argv[2], how) : dlopen(argv[2], how);
    if (!library)
        return 3;
    if (!strcmp(argv[1], "plugin")) {
        void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(library, "site_plugin");
        if (!allocate)
            return 4;
        for (size_t i = 0; i < 300; i++) {
            void *p = allocate(2203 + 2 * i);
            if (i % 3 == 0)
                release(p);
        }
    } else if (is_bound) {
        void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(library, "site_bound");
        void (*give_back)(void *) = (void (*)(void *))dlsym(library, "bound_free");
        void *const functions[] = {dlsym(library, "malloc"), dlsym(library, "free")};
        if (!allocate || !give_back)
            return 4;
        ledger_start();
        ledger_wait_probed(functions, 2, 15);
        for (size_t i = 0; i < 300; i++) {
            void *p = allocate(2203 + 2 * i);
            if (is_apart)
                ledger_alloc(ledger_site("site_bound"), p, 2203 + 2 * i);
            void *own = site_host(51 + i);
            if (i % 3 == 0) {
                if (is_apart)
                    ledger_free(p);
                give_back(p);
                release(own);
            }
        }
    } else {
        mallocx = (void *(*)(size_t, int))dlsym(library, "mallocx");
        dallocx = (void (*)(void *, int))dlsym(library, "dallocx");
        if (!mallocx || !dallocx)
            return 4;
        void *const functions[] = {(void *)mallocx, (void *)dallocx};
        // The ledger says what should be counted, so a tracer that never notices the library is found out.
        ledger_wait_probed(functions, 2, 15);
        for (size_t i = 0; i < 300; i++) {
            void *p = site_mallocx(2603 + 2 * i);
            if (i % 3 == 0) {
                ledger_free(p);
                dallocx(p, 0);
            }
        }
    }
    ledger_write();
    return 0;
}
