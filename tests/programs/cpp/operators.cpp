// new and delete in their forms that do not fail, in several threads, until the file that STEADY_END names is there, and
// once more. Nothing is thrown: the judge's return probes would not survive it.
// usage: operators THREADS
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

struct alignas(64) Wide {
    unsigned char bytes[192];
};

static void work(unsigned number, const char *end) {
    for (bool last = false; !last;) {
        last = access(end, F_OK) == 0;
        std::map<int, std::string> texts;
        std::vector<std::unique_ptr<Wide>> wide;
        std::vector<long> grown;
        for (int i = 0; i < 400; i++) {
            texts[i % 97] = std::string(17 + (i * 7 + number * 3) % 900, 'x');
            wide.emplace_back(new Wide);
            grown.push_back(i);
            delete[] new (std::nothrow) char[31 + i * 5];
            ::operator delete(::operator new(41 + i, std::nothrow), std::nothrow);
            ::operator delete[](::operator new[](43 + i));
            ::operator delete(::operator new(0));
            void *p = ::operator new(100 + i, std::align_val_t{32});
            ::operator delete(p, 100 + i, std::align_val_t{32});
            free(realloc(malloc(51 + i), 61 + i * 3));
            if (i % 50 == 0)
                wide.clear();
        }
    }
}

int main(int argc, char **argv) {
    const char *end = getenv("STEADY_END");
    if (!end || argc < 2)
        return 2;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < strtoul(argv[1], nullptr, 10); i++)
        threads.emplace_back(work, i, end);
    for (auto &thread : threads)
        thread.join();
    return 0;
}
