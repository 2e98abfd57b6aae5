// A library that is opened at run time and allocates.
#include "ledger.h"

SITE void *site_plugin(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
