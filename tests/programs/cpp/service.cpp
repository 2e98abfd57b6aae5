// Small services as C++ has them: see programs/c/service.c. usage: service KIND GO
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <vector>

#define APART __attribute__((noinline, noclone, noipa))

static uint64_t seed = 88172645463325252u;
static uint32_t chance(uint32_t of) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return static_cast<uint32_t>(seed >> 33) % of;
}

struct Session {
    std::string user;
    std::vector<char> buffer;
    std::shared_ptr<Session> peer;
};

// A cache of so many entries, of which the one that was used least recently goes.
template <typename Key, typename Value> class Cache {
  public:
    explicit Cache(size_t entries) : entries(entries) {}
    APART void put(Key key, Value value) {
        auto found = places.find(key);
        if (found != places.end()) {
            order.splice(order.begin(), order, found->second);
            return;
        }
        order.emplace_front(key, std::move(value));
        places[key] = order.begin();
        if (order.size() > entries) {
            places.erase(order.back().first);
            order.pop_back();
        }
    }

  private:
    size_t entries;
    std::list<std::pair<Key, Value>> order;
    std::unordered_map<Key, typename std::list<std::pair<Key, Value>>::iterator> places;
};

static std::vector<Session *> forgotten;

APART static Session *open_session(int number) {
    auto *session = new Session;
    session->user = "user number " + std::to_string(number) + " of this service";
    session->buffer.resize(1500);
    return session;
}
APART static void close_session(Session *session) { delete session; }

// Every fourth session is never closed, beside a cache of 4,000 entries of a kilobyte.
static void sessions(long tick) {
    static Cache<long, std::string> cache(4000);
    for (int i = 0; i < 4; i++)
        cache.put(tick * 4 + i, std::string(1000, 'x'));
    if (tick % 5 == 0) {
        Session *session = open_session(static_cast<int>(tick));
        if (tick / 5 % 4 != 0)
            close_session(session);
        else
            forgotten.push_back(session);
    }
}
static void lru(long) {
    static Cache<uint32_t, std::string> cache(1000);
    for (int i = 0; i < 2; i++)
        cache.put(chance(5000), std::string(300 + chance(200), 'x'));
}
APART static void make_pair_of_sessions() {
    auto one = std::make_shared<Session>(), other = std::make_shared<Session>();
    one->buffer.resize(400);
    if (chance(10) == 0)
        one->peer = other, other->peer = one;
}
static void cycle(long) { make_pair_of_sessions(); }
APART static void enqueue(std::deque<std::string> &queue) { queue.push_back(std::string(500, 'q')); }
// Two come for each that is taken out.
static void queue(long tick) {
    static std::deque<std::string> waiting;
    enqueue(waiting);
    if (tick % 2 == 0)
        waiting.pop_front();
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 64;
    const std::pair<const char *, void (*)(long)> kinds[] = {
        {"sessions", sessions}, {"lru", lru}, {"cycle", cycle}, {"queue", queue}};
    while (access(argv[2], F_OK) != 0)
        usleep(10000);
    for (auto [name, tick] : kinds) {
        if (strcmp(name, argv[1]) != 0)
            continue;
        auto at = std::chrono::steady_clock::now();
        for (long number = 0;; number++) {
            at += std::chrono::milliseconds(10);
            std::this_thread::sleep_until(at);
            tick(number);
        }
    }
    fprintf(stderr, "no such kind: %s\n", argv[1]);
    return 64;
}
