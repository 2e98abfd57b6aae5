// Blocks freed by another thread than the one that allocated them.
// usage: cross BLOCKS_PER_PRODUCER
#include "ledger.h"
#include <pthread.h>

enum { PAIRS = 4, RING = 64 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void *blocks[RING];
    size_t head, tail, finished;
} ring = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, 0, 0, 0};

static size_t blocks;

SITE void *site_producer(size_t n) {
    void *p = malloc(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

static void *producer(void *unused) {
    for (size_t i = 0; i < blocks; i++) {
        void *p = site_producer(37 + 2 * (i % 1000));
        pthread_mutex_lock(&ring.lock);
        while (ring.head - ring.tail == RING)
            pthread_cond_wait(&ring.changed, &ring.lock);
        ring.blocks[ring.head++ % RING] = p;
        pthread_cond_broadcast(&ring.changed);
        pthread_mutex_unlock(&ring.lock);
    }
    pthread_mutex_lock(&ring.lock);
    ring.finished++;
    pthread_cond_broadcast(&ring.changed);
    pthread_mutex_unlock(&ring.lock);
    return unused;
}

static void *consumer(void *unused) {
    for (size_t taken = 0;; taken++) {
        pthread_mutex_lock(&ring.lock);
        while (ring.head == ring.tail && ring.finished < PAIRS)
            pthread_cond_wait(&ring.changed, &ring.lock);
        if (ring.head == ring.tail) {
            pthread_mutex_unlock(&ring.lock);
            return unused;
        }
        void *p = ring.blocks[ring.tail++ % RING];
        pthread_cond_broadcast(&ring.changed);
        pthread_mutex_unlock(&ring.lock);
        if (taken % 5) // every fifth is kept
            release(p);
    }
}

int main(int argc, char **argv) {
    pthread_t threads[2 * PAIRS];
    blocks = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
    ledger_start();
    for (int i = 0; i < 2 * PAIRS; i++)
        if (pthread_create(&threads[i], NULL, i % 2 ? consumer : producer, NULL))
            return 3;
    for (int i = 0; i < 2 * PAIRS; i++)
        pthread_join(threads[i], NULL);
    ledger_write();
    return 0;
}
