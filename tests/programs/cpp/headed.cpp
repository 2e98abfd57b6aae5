// A program whose own operator new and delete put a header before each block, as engines and test frameworks do. The blocks
// are those of malloc and aligned_alloc.
#include "../c/ledger.h"
#include <cstdint>
#include <cstdlib>
#include <new>

// Inlined, there would be nothing to be mistaken about.
#define OWN __attribute__((noinline))
static constexpr std::size_t HEADER = 16;

static void *headed(void *raw, std::size_t header) {
    if (!raw)
        std::abort();
    char *block = static_cast<char *>(raw) + header;
    reinterpret_cast<void **>(block)[-1] = raw;
    return block;
}

static void *raw_of(void *block) { return static_cast<void **>(block)[-1]; }

OWN void *operator new(std::size_t n) { return headed(std::malloc(n + HEADER), HEADER); }
OWN void *operator new[](std::size_t n) { return headed(std::calloc(1, n + HEADER), HEADER); }
OWN void *operator new(std::size_t n, std::align_val_t align) {
    const auto header = static_cast<std::size_t>(align);
    return headed(std::aligned_alloc(header, n + header), header);
}
OWN void operator delete(void *p) noexcept { std::free(raw_of(p)); }
OWN void operator delete(void *p, std::size_t) noexcept {
    if (p)
        std::free(raw_of(p));
}
OWN void operator delete[](void *p) noexcept {
    // Something to come back to, so that this is a call and no jump.
    if (p) {
        std::free(raw_of(p));
        __asm__ volatile("" : : : "memory");
    }
}
OWN void operator delete[](void *p, std::size_t) noexcept { ::operator delete[](p); }
OWN void operator delete(void *p, std::size_t, std::align_val_t) noexcept { std::free(raw_of(p)); }

SITE static void *site_plain(std::size_t n) {
    void *p = ::operator new(n);
    KEEP(p);
    LEDGER_ALLOC(raw_of(p), n + HEADER);
    return p;
}
SITE static void *site_array(std::size_t n) {
    void *p = ::operator new[](n);
    KEEP(p);
    LEDGER_ALLOC(raw_of(p), n + HEADER);
    return p;
}
SITE static void *site_aligned(std::size_t n) {
    void *p = ::operator new(n, std::align_val_t{64});
    KEEP(p);
    LEDGER_ALLOC(raw_of(p), n + 64);
    return p;
}

int main() {
    ledger_start();
    for (std::size_t i = 0; i < 900; i++) {
        void *plain = site_plain(101 + i), *array = site_array(203 + i);
        void *aligned = site_aligned(64 * (1 + i % 7));
        // One in ten is kept.
        if (i % 10) {
            ledger_free(raw_of(plain));
            i % 2 ? ::operator delete(plain) : ::operator delete(plain, 101 + i);
            ledger_free(raw_of(array));
            ::operator delete[](array);
            ledger_free(raw_of(aligned));
            ::operator delete(aligned, 64 * (1 + i % 7), std::align_val_t{64});
        }
    }
    ledger_write();
    return 0;
}
