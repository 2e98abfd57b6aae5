// Blocks that the C library allocates for the program. What is live in the end is known to the byte; what was
// allocated on the way there is the library's own affair.
#define _GNU_SOURCE
#include "ledger.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char text[5001];

int main(void) {
    memset(text, 'x', sizeof text - 1);
    ledger_start();
    int in_libc = ledger_site("live_from:libc.so.6"), in_strdup = ledger_site("caller:strdup");
    for (size_t i = 0; i < 60; i++) {
        size_t length = 1000 + 2 * i; // and a byte for the end
        char *p = strdup(text + sizeof text - 1 - length);
        KEEP(p);
        ledger_alloc(in_strdup, p, length + 1);
        if (i % 4 == 0)
            release(p);

        char *q = NULL;
        int printed = asprintf(&q, "%.*s", (int)(2100 + 2 * i), text);
        if (printed < 0)
            return 3;
        KEEP(q);
        ledger_alloc(in_libc, q, (size_t)printed + 1);
        if (i % 3 == 0)
            release(q);
    }
    int ends[2];
    if (pipe(ends))
        return 4;
    for (size_t i = 0; i < 3; i++)
        if (write(ends[1], text, 3001 + 2 * i) < 0 || write(ends[1], "\n", 1) != 1)
            return 5;
    close(ends[1]);
    FILE *file = fdopen(ends[0], "r");
    for (size_t i = 0; i < 3; i++) {
        char *line = NULL;
        size_t capacity = 0;
        if (getline(&line, &capacity, file) < 0)
            return 6;
        KEEP(line);
        ledger_alloc(in_libc, line, capacity);
    }
    fclose(file);
    ledger_write();
    return 0;
}
