// operator new in all its forms, failing between calls that succeed, with each kind of new-handler.
// usage: failing none|throws|jumps|frees [nothrow]; `nothrow` leaves the forms out that throw.
// Output is one line of what came of the calls. Failing calls are made by functions that are no sites: what C++ itself
// allocates for an exception is not the program's.
#include "../c/ledger.h"
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sys/resource.h>
#include <unistd.h>

#define INNER static __attribute__((noinline, noclone, noipa))

// libstdc++ rounds what it asks for up to the alignment.
constexpr auto WIDE = std::align_val_t(128);
constexpr std::size_t MIB = 1 << 20, ROUNDS = 20;
static volatile std::size_t huge = static_cast<std::size_t>(PTRDIFF_MAX) - 8191;

// Between new and the site lies an inner function: see objects.cpp.
#define FORM(name, new_call, delete_call)                                                                    \
    INNER void *new_##name(std::size_t n) {                                                                  \
        void *p = new_call;                                                                                  \
        KEEP(p);                                                                                             \
        return p;                                                                                            \
    }                                                                                                        \
    SITE static void *site_##name(std::size_t n) {                                                           \
        void *p = new_##name(n);                                                                             \
        KEEP(p);                                                                                             \
        LEDGER_ALLOC(p, n);                                                                                  \
        return p;                                                                                            \
    }                                                                                                        \
    INNER void delete_##name(void *p, [[maybe_unused]] std::size_t n) { delete_call; }

FORM(plain, ::operator new(n), ::operator delete(p, n))
FORM(array, ::operator new[](n), ::operator delete[](p, n))
FORM(nothrow, ::operator new(n, std::nothrow), ::operator delete(p))
FORM(nothrow_array, ::operator new[](n, std::nothrow), ::operator delete[](p))
FORM(aligned, ::operator new(n, WIDE), ::operator delete(p, n, WIDE))
FORM(aligned_array, ::operator new[](n, WIDE), ::operator delete[](p, n, WIDE))
FORM(aligned_nothrow, ::operator new(n, WIDE, std::nothrow), ::operator delete(p, WIDE))
FORM(aligned_nothrow_array, ::operator new[](n, WIDE, std::nothrow), ::operator delete[](p, WIDE))

struct Form {
    void *(*inner)(std::size_t);
    void *(*site)(std::size_t);
    void (*drop)(void *, std::size_t);
    bool throws, aligned;
};
#define ENTRY(name, throws, aligned) {new_##name, site_##name, delete_##name, throws, aligned}
static const Form forms[] = {
    ENTRY(plain, true, false),           ENTRY(array, true, false),
    ENTRY(nothrow, false, false),        ENTRY(nothrow_array, false, false),
    ENTRY(aligned, true, true),          ENTRY(aligned_array, true, true),
    ENTRY(aligned_nothrow, false, true), ENTRY(aligned_nothrow_array, false, true),
};

static int caught, returned_null, jumped, handled, retried;

static void drop(const Form &form, void *p, std::size_t n) {
    ledger_free(p);
    form.drop(p, n);
}

struct Refused : std::bad_alloc {};
static void throws() {
    handled++;
    throw Refused();
}

static std::jmp_buf back;
static void jumps() {
    handled++;
    std::longjmp(back, 1);
}

// Memory that the handler has in reserve; with that free, the call succeeds.
static void *reserve;
SITE static void *site_reserve() {
    void *p = new_plain(64 * MIB + 1);
    KEEP(p);
    LEDGER_ALLOC(p, 64 * MIB + 1);
    return p;
}
// The handler allocates, too: by whom it was called does not matter.
SITE static void *site_in_handler(std::size_t n) {
    void *p = new_plain(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}
static void frees() {
    handled++;
    if (!reserve)
        _exit(80);
    drop(forms[0], reserve, 64 * MIB + 1);
    reserve = nullptr;
    ledger_failed();
    drop(forms[0], site_in_handler(191), 191);
}
SITE static void *site_retried(const Form &form, std::size_t n) {
    void *p = form.inner(n);
    KEEP(p);
    LEDGER_ALLOC(p, n);
    return p;
}

// Address space in use, in bytes; asked for without an allocation.
static std::size_t address_space() {
    char text[32] = {};
    static int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (pread(file, text, sizeof text - 1, 0) <= 0)
        _exit(81);
    std::size_t pages = 0;
    for (const char *digit = text; *digit >= '0' && *digit <= '9'; digit++)
        pages = pages * 10 + static_cast<std::size_t>(*digit - '0');
    return pages * 4096;
}

static void limit(bool on) {
    rlimit now;
    getrlimit(RLIMIT_AS, &now);
    now.rlim_cur = on ? address_space() + 8 * MIB : now.rlim_max;
    if (setrlimit(RLIMIT_AS, &now))
        _exit(82);
}

INNER void fail(const Form &form, int depth) {
    if (depth > 0) {
        fail(form, depth - 1);
        KEEP(depth);
        return;
    }
    try {
        if (form.inner(huge))
            _exit(83);
        returned_null++;
    } catch (const std::bad_alloc &) {
        caught++;
    }
    ledger_failed();
}

INNER void fail_or_jump(const Form &form, int depth) {
    if (setjmp(back) == 0) {
        fail(form, depth);
    } else {
        jumped++;
        ledger_failed();
    }
}

// What is larger than the space that is left, and smaller than what the handler gives.
INNER void retry(const Form &form, std::size_t i) {
    reserve = site_reserve();
    limit(true);
    std::size_t n = 48 * MIB + (form.aligned ? 128 * i : 2 * i + 1);
    void *p = site_retried(form, n);
    limit(false);
    if (reserve)
        _exit(84);
    retried++;
    drop(form, p, n);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "none";
    bool all = argc < 3;
    auto is = [&](const char *name) { return !std::strcmp(mode, name); };
    std::set_new_handler(is("throws") ? throws : is("jumps") ? jumps : is("frees") ? frees : nullptr);
    ledger_start();
    for (std::size_t i = 0; i < ROUNDS; i++) {
        std::size_t number = 0;
        for (const Form &form : forms) {
            number++;
            if (form.throws && !all)
                continue;
            if (is("frees"))
                retry(form, i);
            else
                fail_or_jump(form, static_cast<int>(i % 7));
            // Kept or freed: both are told apart by their sizes.
            std::size_t n = form.aligned ? 128 * (10 * number + i) : 1000 * number + 2 * i + 1;
            void *p = form.site(n);
            if (i % 2)
                drop(form, p, n);
        }
    }
    char line[160];
    int n = std::snprintf(line, sizeof line, "caught %d, null %d, jumped %d, handled %d, retried %d\n", caught,
                          returned_null, jumped, handled, retried);
    if (write(1, line, static_cast<std::size_t>(n)) != n)
        _exit(85);
    ledger_write();
    _exit(17);
}
