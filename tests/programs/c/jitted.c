// Generates a function that allocates, and tells of it in a perf map as a JIT compiler does: 100 blocks of 2,003 bytes. Then it
// ends; before, as the first argument says, it has another name, or has removed its map. Or it writes a dump, beside the
// ledger, and no map.
#include "ledger.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static void *kept[100];

static void *allocate(void)
{
    void *block = malloc(2003);
    __asm__ volatile("" : "+r"(block));
    return block;
}

// As `node --perf-prof`: a header, a record of a function with its code, and the first page mapped as a mark.
static int dump(const unsigned char *code) {
    static const char name[] = "generated_allocate";
    char path[4096];
    snprintf(path, sizeof path, "%s/jit-%d.dump", getenv("JIT_DUMPS"), getpid());
    FILE *file = fopen(path, "w+");
    if (file == NULL)
        return 4;
    unsigned header[10] = {0x4a695444, 1, 40, 62, 0, (unsigned)getpid()};
    fwrite(header, sizeof header, 1, file);
    unsigned prefix[4] = {0, 16 + 40 + sizeof name + 18};
    unsigned ids[2] = {(unsigned)getpid(), (unsigned)getpid()};
    unsigned long fields[4] = {(unsigned long)code, (unsigned long)code, 18, 1};
    fwrite(prefix, sizeof prefix, 1, file);
    fwrite(ids, sizeof ids, 1, file);
    fwrite(fields, sizeof fields, 1, file);
    fwrite(name, sizeof name, 1, file);
    fwrite(code, 18, 1, file);
    fflush(file);
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(file), 0) == MAP_FAILED ? 5 : 0;
}

int main(int count, char **arguments)
{
    const char *how = count > 1 ? arguments[1] : "";
    unsigned char *code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        return 2;
    // push rbp; mov rbp, rsp; mov rax, allocate; call rax; pop rbp; ret
    memcpy(code, "\x55\x48\x89\xe5\x48\xb8", 6);
    void *(*function)(void) = allocate;
    memcpy(code + 6, &function, 8);
    memcpy(code + 14, "\xff\xd0\x5d\xc3", 4);
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    if (strcmp(how, "dumped") == 0) {
        int failed = dump(code);
        if (failed)
            return failed;
    } else {
        FILE *map = fopen(path, "w");
        if (map == NULL)
            return 3;
        fprintf(map, "%lx 12 generated_allocate\n", (unsigned long)code);
        fclose(map);
    }
    if (strcmp(how, "renamed") == 0)
        prctl(PR_SET_NAME, "another");
    ledger_start();
    // As long as a compiler takes to begin.
    sleep(2);
    void *(*generated)(void) = (void *(*)(void))code;
    for (int i = 0; i < 100; i++)
        kept[i] = generated();
    if (strcmp(how, "removed") == 0)
        unlink(path);
    return 0;
}
