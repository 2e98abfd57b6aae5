// Exceptions, templates, virtual functions and callbacks on the way to an allocation. Each block has a size of its
// own.
#include "../c/ledger.h"
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#define OUTLINE __attribute__((noinline, noclone))

OUTLINE static void allocate(std::size_t n) {
    void *p = ::operator new(n);
    KEEP(p);
}

// An exception that is a block of more than its own size: the library's header comes before it.
struct Large {
    char bytes[23001];
};
struct Guard {
    std::size_t size;
    ~Guard() { allocate(size); }
};

OUTLINE static void throw_from(int depth) {
    // The guards allocate while the stack is unwound.
    Guard guard{23100 + static_cast<std::size_t>(depth)};
    KEEP(depth);
    if (depth == 0)
        throw Large();
    throw_from(depth - 1);
    KEEP(depth);
}
OUTLINE static void rethrow(int depth) {
    try {
        throw_from(depth);
    } catch (const Large &) {
        allocate(23200);
        throw;
    }
}
OUTLINE static void catch_all() {
    try {
        rethrow(4);
    } catch (...) {
        allocate(23201);
    }
    allocate(23202);
}

template <std::size_t N> struct Nested {
    OUTLINE static void run(std::size_t n) {
        char bytes[N * 24];
        char *p = bytes;
        KEEP(p);
        Nested<N - 1>::run(n);
        KEEP(p);
    }
};
template <> struct Nested<0> {
    OUTLINE static void run(std::size_t n) {
        allocate(n);
        KEEP(n);
    }
};

struct Shape {
    virtual ~Shape() = default;
    virtual void draw(std::size_t n) = 0;
};
struct Other {
    virtual ~Other() = default;
    virtual void other(std::size_t n) = 0;
};
// Its second base is reached by a thunk.
struct Both : Shape, Other {
    void draw(std::size_t n) override {
        allocate(n);
        KEEP(n);
    }
    void other(std::size_t n) override {
        draw(n);
        KEEP(n);
    }
};

OUTLINE static void call(const std::function<void(std::size_t)> &function, std::size_t n) {
    function(n);
    KEEP(n);
}

OUTLINE static void sort() {
    std::vector<int> numbers(23401 / sizeof(int));
    for (std::size_t i = 0; i < numbers.size(); i++)
        numbers[i] = static_cast<int>((i * 7919) % 5851);
    std::size_t compared = 0;
    std::sort(numbers.begin(), numbers.end(), [&](int a, int b) {
        if (++compared % 20000 == 0)
            allocate(23410 + compared / 20000);
        return a < b;
    });
    KEEP(compared);
}

int main() {
    ledger_start();
    catch_all();
    Nested<12>::run(23300);
    auto both = std::make_unique<Both>();
    Shape *shape = both.get();
    Other *other = both.get();
    KEEP(shape);
    KEEP(other);
    shape->draw(23301);
    other->other(23302);
    // What it holds is too large for the function itself.
    struct {
        char bytes[23500];
    } held{};
    call([held](std::size_t n) { allocate(n + static_cast<std::size_t>(held.bytes[0])); }, 23303);
    sort();
    std::map<int, Large> table;
    for (int i = 0; i < 1; i++)
        table.try_emplace(i);
    std::string text(23600, 'a');
    for (int i = 0; i < 3; i++)
        text += text;
    std::thread([] { Nested<3>::run(23700); }).join();
    KEEP(shape);
}
