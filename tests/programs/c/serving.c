// What servers do, for pictures: answers requests, and remembers each session for ever. Ends when it is killed.
#include "ledger.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct session {
    struct session *next;
    char *user;
    char data[2000];
};
static struct session *sessions;
static unsigned long answered;

SITE char *copy_name(const char *name) {
    char *copy = malloc(strlen(name) + 1);
    KEEP(copy);
    return strcpy(copy, name);
}
SITE void remember_session(const char *user) {
    struct session *new = calloc(1, sizeof *new);
    KEEP(new);
    memset(new->data, 'x', sizeof new->data);
    new->user = copy_name(user);
    new->next = sessions;
    sessions = new;
}
SITE char *render_page(size_t n) {
    char *page = malloc(n);
    KEEP(page);
    return memset(page, ' ', n);
}
SITE void answer_request(void) {
    char user[32];
    snprintf(user, sizeof user, "user-%lu", answered++);
    remember_session(user);
    for (size_t part = 0; part < 4; part++)
        free(render_page(500 + answered % 9000));
}

int main(void) {
    for (;;) {
        answer_request();
        usleep(2000);
    }
}
