// A library to be preloaded whose functions pass their calls on and are gone by then: by a jump into the C library, with
// -DPOINTERS by one through a pointer, and with -DONE only malloc's.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

void *__libc_malloc(size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *);

#ifdef POINTERS
static void *(*next_malloc)(size_t);
static void *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);

// The first call comes before any constructor of this library.
static void find(void) {
    next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
}
#define READY()                                                                                              \
    if (!next_malloc)                                                                                        \
    find()
#else
#define next_malloc __libc_malloc
#define next_realloc __libc_realloc
#define next_free __libc_free
#define READY() (void)0
#endif

void *malloc(size_t n) {
    READY();
    return next_malloc(n);
}

#ifndef ONE
void *realloc(void *p, size_t n) {
    READY();
    return next_realloc(p, n);
}

void free(void *p) {
    READY();
    next_free(p);
}
#endif
