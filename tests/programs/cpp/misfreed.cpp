// Frees that should not be, one kind a run. Of most glibc ends the process, after the call was seen.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#define SITE __attribute__((noinline, noclone, noipa))
#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")
// The call before is no jump.
#define RETURNS __asm__ volatile("" ::: "memory")

SITE void *site_malloc(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    return p;
}
SITE void *site_new(size_t n) {
    void *p = ::operator new(n);
    KEEP(p);
    return p;
}
SITE void *site_grown(void *p, size_t n) {
    p = realloc(p, n);
    KEEP(p);
    return p;
}
SITE void site_free(void *p) {
    free(p);
    RETURNS;
}
SITE void site_free_again(void *p) {
    free(p);
    RETURNS;
}
SITE void site_delete(void *p) {
    ::operator delete(p);
    RETURNS;
}

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    void *keep = site_malloc(100);
    KEEP(keep);
    if (!strcmp(kind, "double")) {
        void *p = site_malloc(40);
        site_free(p);
        site_free_again(p);
    } else if (!strcmp(kind, "moved")) {
        void *p = site_malloc(40);
        void *between = site_malloc(40);
        KEEP(between);
        site_grown(p, 4000);
        site_free_again(p);
    } else if (!strcmp(kind, "inside")) {
        char *p = (char *)site_malloc(4000);
        site_free(p + 512);
    } else if (!strcmp(kind, "new-free")) {
        for (int i = 0; i < 3; i++)
            site_free(site_new(40));
    } else if (!strcmp(kind, "malloc-delete")) {
        for (int i = 0; i < 5; i++)
            site_delete(site_malloc(40));
    }
    return 0;
}
