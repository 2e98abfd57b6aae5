// A program that changes the code of its C library: "writable" lets itself write to it before it is traced, "patch" puts
// one nop in the place of another while it is, and "drop" gives the pages back, and what was changed in them with them.
#define _GNU_SOURCE
#include "ledger.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, FUNCTION = 600 };

static unsigned char *page_of(const void *code) { return (unsigned char *)((uintptr_t)code & ~(uintptr_t)(PAGE - 1)); }

static void protect(int permissions) {
    if (mprotect(page_of((void *)malloc), 2 * PAGE, permissions))
        abort();
}

// Bytes of the long nop at `code`: 0F 1F and an address that is not used.
static size_t nop(const unsigned char *code) {
    static const struct {
        unsigned char third;
        size_t length;
    } forms[] = {{0x00, 3}, {0x40, 4}, {0x44, 5}, {0x80, 7}, {0x84, 8}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (code[0] == 0x0f && code[1] == 0x1f && code[2] == forms[i].third)
            return forms[i].length;
    return 0;
}

static void patch(void) {
    unsigned char *code = (unsigned char *)malloc;
    protect(PROT_READ | PROT_WRITE | PROT_EXEC);
    for (size_t at = 0; at < FUNCTION; at++) {
        size_t length = nop(code + at);
        if (length) {
            memset(code + at, 0x90, length);
            protect(PROT_READ | PROT_EXEC);
            return;
        }
    }
    fprintf(stderr, "malloc has no long nop\n");
    abort();
}

SITE void *site_malloc(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    release(site_malloc(77));
    if (!strcmp(what, "writable"))
        protect(PROT_READ | PROT_WRITE | PROT_EXEC);
    ledger_start();
    release(site_malloc(79));
    if (!strcmp(what, "patch"))
        patch();
    if (!strcmp(what, "drop") && madvise(page_of((void *)malloc), 2 * PAGE, MADV_DONTNEED))
        abort();
    ledger_touch("PATCHED");
    ledger_wait_file("PATCHED_END");
    release(site_malloc(81));
    ledger_write();
    return 23;
}
