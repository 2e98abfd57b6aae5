// Everything that is freed here is freed as it should be, in all the ways that are allowed.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <vector>

#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")
// The call before is no jump.
#define RETURNS __asm__ volatile("" ::: "memory")

// A library's own wrappers: what they give is theirs to take back.
__attribute__((noinline)) static void *pool_alloc(size_t n) {
    void *p = malloc(n + 16);
    KEEP(p);
    return static_cast<char *>(p) + 16;
}
__attribute__((noinline)) static void pool_free(void *p) {
    void *whole = static_cast<char *>(p) - 16;
    free(whole);
    RETURNS;
}

struct alignas(64) Aligned {
    char bytes[192];
};

// A class with operators of its own, which are malloc and free.
struct Own {
    static void *operator new(size_t n) {
        void *p = malloc(n);
        KEEP(p);
        if (!p)
            throw std::bad_alloc();
        return p;
    }
    static void operator delete(void *p) {
        free(p);
        RETURNS;
    }
    int values[9];
};

struct Base {
    virtual ~Base() = default;
    std::string name{"a name that is too long to be kept inside"};
};
struct Derived : Base {
    std::vector<int> numbers = std::vector<int>(100);
};

static void containers(int seed) {
    std::vector<std::string> words;
    std::map<int, std::string> ordered;
    std::unordered_map<std::string, std::vector<int>> by_name;
    std::deque<std::unique_ptr<Base>> objects;
    for (int i = 0; i < 200; i++) {
        words.push_back("word number " + std::to_string(i * seed) + " of many");
        ordered[i] = words.back();
        by_name[words.back()].push_back(i);
        objects.push_back(std::make_unique<Derived>());
        if (i % 3 == 0)
            objects.pop_front();
    }
    std::function<size_t()> count = [words, ordered] { return words.size() + ordered.size(); };
    auto shared = std::make_shared<std::string>(1000, 'x');
    std::weak_ptr<std::string> weak = shared;
    std::ostringstream text;
    text << count() << *shared << by_name.size();
    try {
        if (text.str().size() > 10)
            throw std::runtime_error(text.str());
    } catch (const std::exception &error) {
        words.emplace_back(error.what());
    }
}

static void operators() {
    Aligned *one = new Aligned, *many = new Aligned[3];
    KEEP(one);
    KEEP(many);
    delete one;
    delete[] many;
    int *none = new (std::nothrow) int[50];
    KEEP(none);
    delete[] none;
    Own *own = new Own;
    KEEP(own);
    delete own;
    void *raw = ::operator new(300), *aligned = ::operator new(300, std::align_val_t(128));
    KEEP(raw);
    KEEP(aligned);
    ::operator delete(raw);
    ::operator delete(aligned, std::align_val_t(128));
    delete static_cast<int *>(nullptr);
}

static void library() {
    char *copy = strdup("a copy"), *line = nullptr, *printed = nullptr;
    KEEP(copy);
    free(copy);
    size_t room = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && getline(&line, &room, file) > 0) {
    }
    free(line);
    if (file)
        fclose(file);
    if (asprintf(&printed, "%s %d", "printed", 7) > 0)
        free(printed);
    char *path = realpath("/proc/self/../self", nullptr);
    free(path);
    std::unique_ptr<void, decltype(&free)> held(malloc(77), &free);
    void *p = malloc(10);
    for (size_t n = 10; n < 1 << 20; n *= 3)
        p = realloc(p, n);
    // It frees.
    p = realloc(p, 0);
    KEEP(p);
    void *page = nullptr;
    if (!posix_memalign(&page, 4096, 5000))
        free(page);
    free(aligned_alloc(64, 640));
    free(nullptr);
    void *mapped = malloc(4 << 20);
    KEEP(mapped);
    free(mapped);
    pool_free(pool_alloc(100));
    setvbuf(stdout, nullptr, _IOLBF, 0);
    setenv("A_VARIABLE", "and its value", 1);
    unsetenv("A_VARIABLE");
}

int main() {
    std::vector<int> *parents = new std::vector<int>(1000);
    for (int round = 0; round < 3; round++) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; i++)
            threads.emplace_back([i] {
                containers(i);
                operators();
                library();
            });
        for (std::thread &thread : threads)
            thread.join();
    }
    std::cout << "done" << std::endl;
    pid_t child = fork();
    if (child == 0) {
        // What it has of its parent it may free.
        delete parents;
        containers(9);
        _exit(0);
    }
    waitpid(child, nullptr, 0);
    delete parents;
    return 0;
}
