// The ledger's tables: sites, and blocks by address, all in static memory.
#define _GNU_SOURCE
#include "ledger.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// For 1.2 million blocks at one time, which fill 57 %; more where a program is compiled for more.
#ifndef LEDGER_BITS
#define LEDGER_BITS 21
#endif

enum { SITES = 128, SLOTS = 1 << LEDGER_BITS, NAME = 64, CLASSES = 65 };

struct site {
    char name[NAME];
    uint64_t alloc_bytes, alloc_count, free_bytes, free_count;
    // Blocks by the bit length of their size: of two blocks whose sizes were mixed up, the sum is right and this is not.
    uint64_t sizes[CLASSES];
};

static struct site sites[SITES];
static int site_count;
// Open addressing with linear probing.
static struct ledger_block slots[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
// Blocks of generation 0 are from before the tracer came, if it came late (`attached`).
static int generation, attached, forked_at = -1;
static int prepared_pid, prepared_fd = -1;
static uint64_t failed, pre_attach_frees, inherited_frees;

static void die(const char *why) {
    ssize_t n = write(2, why, strlen(why));
    (void)n;
    _exit(99);
}

static size_t home(const void *p) {
    return (size_t)(((uint64_t)(uintptr_t)p * 0x9e3779b97f4a7c15u) >> (64 - LEDGER_BITS));
}

static size_t find(const void *p) {
    size_t i = home(p);
    while (slots[i].address && slots[i].address != p)
        i = (i + 1) & (SLOTS - 1);
    return i;
}

static void insert(struct ledger_block block) {
    size_t i = find(block.address);
    if (slots[i].address)
        die("ledger: block handed out twice\n");
    slots[i] = block;
}

// Backward-shift deletion: no tombstones, however many blocks come and go.
static struct ledger_block take_slot(size_t i) {
    struct ledger_block block = slots[i];
    size_t hole = i;
    for (;;) {
        i = (i + 1) & (SLOTS - 1);
        if (!slots[i].address)
            break;
        size_t distance = (i - home(slots[i].address)) & (SLOTS - 1);
        if (distance >= ((i - hole) & (SLOTS - 1))) {
            slots[hole] = slots[i];
            hole = i;
        }
    }
    slots[hole].address = NULL;
    return block;
}

static void count_free(struct ledger_block block) {
    if (block.generation == generation) {
        sites[block.site].free_bytes += block.size;
        sites[block.site].free_count++;
    } else if (attached && block.generation == 0) {
        pre_attach_frees++;
    } else if (forked_at >= 0) {
        inherited_frees++;
    }
}

int ledger_site(const char *name) {
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < site_count && strcmp(sites[i].name, name))
        i++;
    if (i == site_count) {
        if (i == SITES || strlen(name) >= NAME)
            die("ledger: too many sites\n");
        strcpy(sites[i].name, name);
        site_count++;
    }
    pthread_mutex_unlock(&lock);
    return i;
}

void ledger_alloc(int site, const void *p, size_t n) {
    if (!p)
        die("ledger: allocation that should work failed\n");
    pthread_mutex_lock(&lock);
    insert((struct ledger_block){p, n, site, generation});
    sites[site].alloc_bytes += n;
    sites[site].alloc_count++;
    sites[site].sizes[n ? 64 - __builtin_clzll(n) : 0]++;
    pthread_mutex_unlock(&lock);
}

struct ledger_block ledger_take(const void *p) {
    struct ledger_block none = {0};
    if (!p)
        return none;
    pthread_mutex_lock(&lock);
    size_t i = find(p);
    if (!slots[i].address)
        die("ledger: free of a block that is not in the ledger\n");
    struct ledger_block block = take_slot(i);
    pthread_mutex_unlock(&lock);
    return block;
}

void ledger_settle(struct ledger_block taken) {
    if (!taken.address)
        return;
    pthread_mutex_lock(&lock);
    count_free(taken);
    pthread_mutex_unlock(&lock);
}

void ledger_restore(struct ledger_block taken) {
    if (!taken.address)
        return;
    pthread_mutex_lock(&lock);
    insert(taken);
    pthread_mutex_unlock(&lock);
}

void ledger_free(const void *p) {
    ledger_settle(ledger_take(p));
}

void ledger_failed(void) {
    __atomic_add_fetch(&failed, 1, __ATOMIC_RELAXED);
}

void ledger_touch(const char *variable) {
    const char *path = getenv(variable);
    if (!path)
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        die("ledger: cannot write a handshake file\n");
    close(fd);
}

void ledger_wait_file(const char *variable) {
    const char *path = getenv(variable);
    // Two minutes: longer than the harness waits for anything.
    for (int i = 0; path && access(path, F_OK) != 0; i++) {
        if (i == 60000)
            die("ledger: nobody said go\n");
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
}

void ledger_start(void) {
    if (!getenv("LEDGER_GO"))
        return;
    ledger_touch("LEDGER_READY");
    ledger_wait_file("LEDGER_GO");
    ledger_attached();
}

static void begin_again(void) {
    failed = 0;
    for (int i = 0; i < site_count; i++) {
        struct site *s = &sites[i];
        s->alloc_bytes = s->alloc_count = s->free_bytes = s->free_count = 0;
        memset(s->sizes, 0, sizeof s->sizes);
    }
}

void ledger_attached(void) {
    pthread_mutex_lock(&lock);
    attached = 1;
    generation = 1;
    begin_again();
    pthread_mutex_unlock(&lock);
}

void ledger_forked(void) {
    forked_at = generation++;
    pre_attach_frees = inherited_frees = 0;
    begin_again();
}

static int open_ledger(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

void ledger_prepare(void) {
    const char *path = getenv("LEDGER_OUT");
    prepared_pid = getpid();
    prepared_fd = path ? open_ledger(path) : -1;
}

static void write_ledger(int released) {
    static char text[SITES * 512];
    size_t n = 0;
    const char *path = getenv("LEDGER_OUT");
    if (!path)
        return;
    int pid = prepared_pid ? prepared_pid : getpid();
    pthread_mutex_lock(&lock);
    for (int i = 0; i < site_count; i++) {
        struct site *s = &sites[i];
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "{\"pid\":%d,\"site\":\"%s\",\"alloc_bytes\":%llu,\"alloc_count\":%llu,"
                              "\"free_bytes\":%llu,\"free_count\":%llu,\"released\":%s,\"sizes\":[",
                              pid, s->name, (unsigned long long)s->alloc_bytes,
                              (unsigned long long)s->alloc_count, (unsigned long long)s->free_bytes,
                              (unsigned long long)s->free_count, released ? "true" : "false");
        const char *comma = "";
        for (int j = 0; j < CLASSES; j++) {
            if (!s->sizes[j])
                continue;
            n += (size_t)snprintf(text + n, sizeof text - n, "%s[%d,%llu]", comma, j,
                                  (unsigned long long)s->sizes[j]);
            comma = ",";
        }
        n += (size_t)snprintf(text + n, sizeof text - n, "]}\n");
    }
    n += (size_t)snprintf(text + n, sizeof text - n,
                          "{\"pid\":%d,\"failed\":%llu,\"pre_attach_frees\":%llu,\"inherited_frees\":%llu}\n",
                          pid, (unsigned long long)failed, (unsigned long long)pre_attach_frees,
                          (unsigned long long)inherited_frees);
    pthread_mutex_unlock(&lock);
    int fd = prepared_fd >= 0 ? prepared_fd : open_ledger(path);
    if (fd < 0 || write(fd, text, n) != (ssize_t)n)
        die("ledger: cannot write LEDGER_OUT\n");
    if (fd != prepared_fd)
        close(fd);
}

void ledger_write(void) {
    write_ledger(0);
}

void ledger_write_before_exec(void) {
    write_ledger(1);
}

void ledger_forget(void) {
    pthread_mutex_lock(&lock);
    memset(slots, 0, sizeof slots);
    pthread_mutex_unlock(&lock);
}

// Bytes of code that hold a probe of each function that is waited for.
enum { CODE = 640 };

static int differs_from_file(void *function) {
    Dl_info info;
    unsigned char file[CODE];
    if (!dladdr(function, &info))
        return 0;
    int fd = open(info.dli_fname, O_RDONLY | O_CLOEXEC);
    // In the libraries tested here an address in the text segment is its offset in the file.
    off_t offset = (off_t)((uintptr_t)function - (uintptr_t)info.dli_fbase);
    ssize_t n = fd < 0 ? -1 : pread(fd, file, sizeof file, offset);
    close(fd);
    return n == (ssize_t)sizeof file && memcmp(file, function, sizeof file) != 0;
}

int ledger_wait_probed(void *const *functions, size_t count, int seconds) {
    // After a fork the child has copies of its parent's breakpoints; the kernel removes one that is not meant
    // for the child when it is hit. So hit them, and believe what is still there long after.
    enum { STEADY = 250, EACH_MS = 2 };
    int steady = 0;
    for (int i = 0; i < seconds * 1000 / EACH_MS; i++) {
        void *p = realloc(calloc(1, 8), 16), *q = malloc(8);
        KEEP(p);
        KEEP(q);
        free(p);
        free(q);
        steady++;
        for (size_t f = 0; f < count; f++)
            if (!differs_from_file(functions[f]))
                steady = 0;
        if (steady >= STEADY)
            return 1;
        nanosleep(&(struct timespec){0, EACH_MS * 1000000}, NULL);
    }
    return 0;
}
