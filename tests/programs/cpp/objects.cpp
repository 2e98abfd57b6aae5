// new and delete in all their forms, containers, exceptions.
// The caller of malloc is the library's operator new here, so each site reaches it through an inner function:
// a frame-pointer walk out of a library without frame pointers skips exactly one caller.
#include "../c/ledger.h"
#include <cstdint>
#include <map>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#define INNER static __attribute__((noinline, noclone, noipa))

static volatile std::size_t huge = static_cast<std::size_t>(PTRDIFF_MAX) - 4096;

template <std::size_t N> struct Block {
    unsigned char bytes[N];
};
struct alignas(128) Wide {
    unsigned char bytes[128 * 3];
};

INNER void *plain(std::size_t n) {
    void *p = ::operator new(n);
    KEEP(p);
    return p;
}
INNER void *array(std::size_t n) {
    auto *p = new unsigned char[n];
    KEEP(p);
    return p;
}
INNER void *object() {
    auto *p = new Block<1237>;
    KEEP(p);
    return p;
}
INNER void *nothrow(std::size_t n) {
    auto *p = new (std::nothrow) unsigned char[n];
    KEEP(p);
    return p;
}
INNER void *aligned() {
    auto *p = new Wide;
    KEEP(p);
    return p;
}

#define CPP_SITE(name, call, n)                                                                              \
    SITE static void *name(std::size_t size) {                                                               \
        void *p = call;                                                                                      \
        KEEP(p);                                                                                             \
        LEDGER_ALLOC(p, n);                                                                                  \
        (void)size;                                                                                          \
        return p;                                                                                            \
    }
CPP_SITE(site_new, plain(size), size)
CPP_SITE(site_new_array, array(size), size)
CPP_SITE(site_new_object, object(), 1237)
CPP_SITE(site_new_nothrow, nothrow(size), size)
// The library's aligned operator new uses the frame pointer register for itself, so the walk ends there; all calls
// of aligned_alloc are these.
static void *new_aligned() {
    static int id = ledger_site("function:aligned_alloc");
    void *p = aligned();
    ledger_alloc(id, p, sizeof(Wide));
    return p;
}

static void drop(void *p) {
    ledger_free(p);
    ::operator delete(p);
}
static void drop_sized(void *p, std::size_t n) {
    ledger_free(p);
    ::operator delete(p, n);
}
static void drop_array(void *p) {
    ledger_free(p);
    delete[] static_cast<unsigned char *>(p);
}
static void drop_aligned(void *p) {
    ledger_free(p);
    delete static_cast<Wide *>(p);
}

// What a container asks for, entered in the ledger under the site that was last chosen.
static thread_local int container_site;

INNER void *for_container(std::size_t n) {
    void *p = ::operator new(n);
    KEEP(p);
    ledger_alloc(container_site, p, n);
    return p;
}

template <class T> struct Ledgered {
    using value_type = T;
    Ledgered() = default;
    template <class U> Ledgered(const Ledgered<U> &) {}
    T *allocate(std::size_t n) { return static_cast<T *>(for_container(n * sizeof(T))); }
    void deallocate(T *p, std::size_t) { drop(p); }
    template <class U> bool operator==(const Ledgered<U> &) const { return true; }
};

using Numbers = std::vector<std::uint32_t, Ledgered<std::uint32_t>>;
using Table = std::map<int, Block<83>, std::less<int>, Ledgered<std::pair<const int, Block<83>>>>;

SITE static void site_vector(Numbers &numbers, std::uint32_t n) {
    static int id = ledger_site(__func__);
    container_site = id;
    for (std::uint32_t i = 0; i < n; i++)
        numbers.push_back(i);
    KEEP(n);
}
SITE static void site_map(Table &table, int n) {
    static int id = ledger_site(__func__);
    container_site = id;
    for (int i = 0; i < n; i++)
        table.try_emplace(i);
    for (int i = 0; i < n; i += 3)
        table.erase(i);
    KEEP(n);
}

struct Owner {
    void *block;
    explicit Owner(void *p) : block(p) {}
    ~Owner() { drop(block); }
    Owner(const Owner &) = delete;
};

// Blocks held by objects are freed while the stack is unwound.
INNER void throw_through(int depth) {
    Owner held(site_new(911 + 2 * static_cast<std::size_t>(depth)));
    if (depth == 0)
        throw std::runtime_error("thrown on purpose");
    throw_through(depth - 1);
    KEEP(depth);
}

INNER void fail_to_allocate() {
    try {
        auto *p = new unsigned char[huge];
        KEEP(p);
        std::abort();
    } catch (const std::bad_alloc &) {
        ledger_failed();
    }
    auto *p = new (std::nothrow) unsigned char[huge];
    KEEP(p);
    if (p)
        std::abort();
    ledger_failed();
}

static void work() {
    Numbers numbers, kept;
    Table table;
    for (std::size_t i = 0; i < 100; i++) {
        void *blocks[] = {site_new(701 + 2 * i), site_new_array(1301 + 2 * i), site_new_object(0),
                          site_new_nothrow(1901 + 2 * i), new_aligned()};
        if (i % 2)
            drop_sized(blocks[0], 701 + 2 * i);
        if (i % 3)
            drop_array(blocks[1]);
        if (i % 4)
            drop(blocks[2]);
        if (i % 5)
            drop_array(blocks[3]);
        if (i % 6)
            drop_aligned(blocks[4]);
        try {
            throw_through(static_cast<int>(i % 9));
        } catch (const std::runtime_error &) {
        }
    }
    for (int i = 0; i < 10; i++)
        fail_to_allocate();
    site_vector(numbers, 3001);
    site_map(table, 307);
    // Never destroyed: live in the end.
    static char space[sizeof(Numbers)];
    site_vector(*new (space) Numbers, 1777);
    ledger_write();
    _Exit(0); // the other containers are live, too
}

int main() {
    ledger_start();
    std::thread worker(work);
    worker.join();
}
