// Runs a program from a FUSE file system that a child of this one serves, and that always answers.
// usage: served USER FOLDER FILE ARGS...    the file system, which is this program's alone, is mounted at FOLDER as USER's; each of
// its files is FILE. The server ends when nobody has any of it any more. Ends with 77 where FUSE cannot be mounted.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned long size;

static void describe(struct fuse_attr *attr, unsigned long node) {
    attr->ino = node;
    attr->mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0755;
    attr->size = node == 1 ? 0 : size;
    attr->nlink = 1;
}

static void serve(int device, int file, pid_t parent) {
    static char request[1 << 20], reply[(1 << 20) + 4096];
    for (;;) {
        if (read(device, request, sizeof request) < 0) {
            // It is not mounted yet.
            if (errno == EPERM && getppid() == parent)
                usleep(1000);
            else if (errno != EINTR && errno != ENOENT)
                return;
            continue;
        }
        struct fuse_in_header *in = (void *)request;
        struct fuse_out_header *out = (void *)reply;
        void *body = out + 1;
        memset(reply, 0, 4096);
        out->unique = in->unique;
        out->len = sizeof *out;
        if (in->opcode == FUSE_INIT) {
            *(struct fuse_init_out *)body = (struct fuse_init_out){.major = 7, .minor = 31, .max_write = 4096};
            out->len += sizeof(struct fuse_init_out);
        } else if (in->opcode == FUSE_GETATTR) {
            struct fuse_attr_out *attr = body;
            attr->attr_valid = 3600;
            describe(&attr->attr, in->nodeid);
            out->len += sizeof *attr;
        } else if (in->opcode == FUSE_LOOKUP) {
            struct fuse_entry_out *entry = body;
            *entry = (struct fuse_entry_out){.nodeid = 2, .entry_valid = 3600, .attr_valid = 3600};
            describe(&entry->attr, 2);
            out->len += sizeof *entry;
        } else if (in->opcode == FUSE_OPEN) {
            out->len += sizeof(struct fuse_open_out);
        } else if (in->opcode == FUSE_READ) {
            struct fuse_read_in *wanted = (void *)(in + 1);
            ssize_t got = pread(file, body, wanted->size < 1 << 20 ? wanted->size : 1 << 20, (off_t)wanted->offset);
            if (got < 0)
                out->error = -EIO;
            else
                out->len += (unsigned)got;
        } else if (in->opcode == FUSE_STATFS) {
            out->len += sizeof(struct fuse_statfs_out);
        } else if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT) {
            continue;
        } else if (in->opcode != FUSE_RELEASE && in->opcode != FUSE_FLUSH) {
            out->error = -ENOSYS;
        }
        if (write(device, reply, out->len) < 0 && errno != ENOENT)
            return;
    }
}

int main(int argc, char **argv) {
    char options[128], path[4096];
    struct stat of;
    if (argc < 4)
        return 2;
    int file = open(argv[3], O_RDONLY | O_CLOEXEC), device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (file < 0 || fstat(file, &of))
        return 3;
    size = (unsigned long)of.st_size;
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%s,group_id=0,allow_other", device, argv[1]);
    pid_t parent = getpid();
    if (device < 0)
        return 77;
    // Not in the namespace, which would then never go.
    if (fork() == 0) {
        serve(device, file, parent);
        _exit(0);
    }
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("served", argv[2], "fuse", MS_NOSUID | MS_NODEV, options))
        return 77;
    snprintf(path, sizeof path, "%s/program", argv[2]);
    argv[3] = path;
    execv(path, argv + 3);
    return 4;
}
