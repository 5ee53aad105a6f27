/* The load: asks Sir Launcelot's three questions from one thread and checks every byte of the answers.
 *
 *   load MODE HOST PORT [-c connections] [-k in flight] [-d seconds] [-w seconds of warm-up] [-g seconds to gather]
 *        [-t launcelot|get|set]
 *
 * With -t get or -t set it sends these commands of memcached instead, for values of 100 bytes under 4,096 keys, which
 * -t get stores first.
 *
 *   persistent     every connection asks one question, waits for its answer, asks the next
 *   pipelined      the same with -k questions in flight on every connection
 *   conversations  connect, three questions one after another, close, and again; -c at a time
 *   idle           one question on every connection, then silence until standard input ends
 *
 * Prints one JSON object on standard output. "measuring" and "measured" on standard error mark the window, so
 * that a monitor of the server's CPU can sample at the same moments. Latencies are in microseconds, of a question
 * or, in conversations, of everything from connect to the last answer.
 *
 * Only loopback is ever a target, and every run is bounded: in time, in questions and in errors.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NAME_Q "What is your name?"
#define QUEST_Q "What is your quest?"
#define COLOR_Q "What is your favorite color?"
#define NAME_A "My name is Sir Launcelot of Camelot."
#define QUEST_A "To seek the Holy Grail."
#define COLOR_A "Blue."

enum {
    KINDS = 3,                        /* questions in a conversation */
    KEYS = 4096,                      /* more than a cache of inputs or replies would hold: no server profits from one */
    VALUE = 100,                      /* bytes */
    LONGEST_MESSAGE = 256,
    MAX_CONNECTIONS = 20000,
    MAX_IN_FLIGHT = 256,              /* so that all questions in flight fit any socket buffer: no partial sends */
    MAX_SECONDS = 60,
    MAX_REQUESTS = 200 * 1000 * 1000,
    MAX_ERRORS = 10000,               /* enough to recognize a server that refuses everything */
    MAX_IDLE_SECONDS = 120,
    CHUNK = 16384,                    /* bytes asked from one recv */
    BATCH = 1024,                     /* events asked from one epoll_wait */
    TICK_MS = 10,                     /* how often the clock is looked at when nothing comes */
    DRAIN_MS = 500,                   /* messages in flight at the end may still be answered */
    CONNECTING_AT_ONCE = 128,         /* in idle mode: stay well inside anybody's backlog */
    /* A port in TIME_WAIT is taken for a second at least, and one address has 28,000: at 50,000 conversations a
       second one source address runs dry at once. 127.0.0.2 and the 63 after it never do. */
    SOURCES = 64,
    FINE = 64,                        /* histogram steps within a power of two: 1.6 % */
};

enum mode { PERSISTENT, PIPELINED, CONVERSATIONS, IDLE };
static const char *const MODES[] = {"persistent", "pipelined", "conversations", "idle"};

struct slot {
    int fd;                           /* -1 while it rests after an error, and once it is done */
    bool connecting, served, waiting; /* served: an answer came within the window */
    unsigned asked, answered;         /* questions on this connection */
    unsigned at;                      /* where in the cycle of answers the next byte belongs */
    uint64_t opened;                  /* ns */
    uint64_t *asked_at;               /* ns; a ring with a place for each question in flight */
};

static struct {
    uint64_t requests, conversations, slowest, counts[64 * FINE];
} tally;

static enum mode mode;
static unsigned connections = 64, in_flight = 1;
static double seconds = 2, warm_up = 0.3;
static double gather = 8; /* every connection may get its first answer before the warm-up begins: 64 forks take 3 s */
static struct sockaddr_storage target;
static socklen_t target_length;
static int poller;
static bool draining;
static uint64_t errors, wrong;
static unsigned live, answering; /* connections open; connections served */
static struct slot *slots;

enum topic { LAUNCELOT, GET, SET };
static const char *const TOPICS[] = {"launcelot", "get", "set"};
static enum topic topic;
static unsigned kinds = KINDS; /* different questions, asked one after another, again and again */
static char *question_text, *answer_text;
static unsigned *question_start, *answer_start; /* by number of the question */
static unsigned *answers_before;                /* by position in the cycle of answers */
static unsigned answer_cycle;                   /* bytes */

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "load: %s\n", what);
    exit(2);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void record(uint64_t ns) {
    if (ns > tally.slowest)
        tally.slowest = ns;
    unsigned place = (unsigned)ns;
    if (ns >= FINE) {
        unsigned power = 63u - (unsigned)__builtin_clzll(ns) - 6; /* 2^6 is FINE */
        place = (power + 1) * FINE + (unsigned)((ns >> power) & (FINE - 1));
    }
    tally.counts[place]++;
}

static double percentile_us(double share) {
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < 64 * FINE; i++)
        total += tally.counts[i];
    for (unsigned i = 0; i < 64 * FINE && total; i++) {
        seen += tally.counts[i];
        if ((double)seen >= share * (double)total)
            return (i < FINE ? i : (double)((uint64_t)(FINE + i % FINE) << (i / FINE - 1))) / 1e3;
    }
    return 0;
}

static void *room(size_t count, size_t size) {
    void *made = calloc(count, size);
    if (!made)
        fail("no memory");
    return made;
}

static unsigned write_command(enum topic command, unsigned number, char *into) {
    unsigned key = number * 2654435761u % KEYS; /* every key once in a cycle, in no order */
    if (command == GET)
        return (unsigned)sprintf(into, "get key:%05u\r\n", key);
    return (unsigned)sprintf(into, "set key:%05u 0 0 %d\r\n%0*u\r\n", key, VALUE, VALUE, key);
}

static unsigned write_question(unsigned number, char *into) {
    static const char *const questions[] = {NAME_Q, QUEST_Q, COLOR_Q};
    return topic == LAUNCELOT ? (unsigned)sprintf(into, "%s", questions[number]) : write_command(topic, number, into);
}

static unsigned write_answer(unsigned number, char *into) {
    static const char *const answers[] = {NAME_A, QUEST_A, COLOR_A};
    unsigned key = number * 2654435761u % KEYS;
    if (topic == GET)
        return (unsigned)sprintf(into, "VALUE key:%05u 0 %d\r\n%0*u\r\nEND\r\n", key, VALUE, VALUE, key);
    return (unsigned)sprintf(into, "%s", topic == SET ? "STORED\r\n" : answers[number]);
}

/* All questions and answers are cycles, so any run of them is one piece of a repeated text. */
static void write_texts(void) {
    unsigned runs = kinds + in_flight + 1, at = 0;
    question_text = room(runs, LONGEST_MESSAGE);
    question_start = room(runs + 1, sizeof *question_start);
    for (unsigned i = 0; i < runs; i++) {
        question_start[i] = at;
        at += write_question(i % kinds, question_text + at);
    }
    question_start[runs] = at;
    answer_text = room(kinds + CHUNK, LONGEST_MESSAGE);
    answer_start = room(kinds, sizeof *answer_start);
    for (unsigned i = 0; i < kinds; i++) {
        answer_start[i] = answer_cycle;
        answer_cycle += write_answer(i, answer_text + answer_cycle);
    }
    for (unsigned i = 0; i < CHUNK; i++)
        answer_text[answer_cycle + i] = answer_text[i];
    answers_before = room(answer_cycle + 1, sizeof *answers_before);
    for (unsigned i = 0, number = 0; i <= answer_cycle; i++) {
        while (number < kinds && (number + 1 < kinds ? answer_start[number + 1] : answer_cycle) <= i)
            number++;
        answers_before[i] = number;
    }
}

/* Store the values that -t get reads, over one connection. */
static void store_all(void) {
    static char command[LONGEST_MESSAGE], replies[KEYS * 8 + 1];
    size_t received = 0;
    int fd = socket(target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&target, target_length) < 0)
        fail("cannot connect to store the values");
    for (unsigned i = 0; i < KEYS; i++) {
        size_t length = write_command(SET, i, command);
        if (send(fd, command, length, MSG_NOSIGNAL) != (ssize_t)length)
            fail("cannot store the values");
    }
    while (received < KEYS * 8) {
        ssize_t length = recv(fd, replies + received, sizeof replies - received, 0);
        if (length <= 0)
            fail("the values were not stored");
        received += (size_t)length;
    }
    for (unsigned i = 0; i < KEYS; i++)
        if (memcmp(replies + i * 8, "STORED\r\n", 8) != 0)
            fail("a value was not stored");
    close(fd);
}

static bool ask(struct slot *slot, unsigned count, uint64_t now) {
    unsigned first = slot->asked % kinds, start = question_start[first];
    size_t length = question_start[first + count] - start;
    if (send(slot->fd, question_text + start, length, MSG_NOSIGNAL) != (ssize_t)length)
        return false;
    for (unsigned i = 0; i < count; i++)
        slot->asked_at[slot->asked++ % in_flight] = now;
    return true;
}

static void shut(struct slot *slot) {
    close(slot->fd); /* leaves the poller by itself */
    slot->fd = -1;
    live--;
}

static void give_up(struct slot *slot) {
    errors++;
    shut(slot);
}

/* Connects without waiting. On loopback the handshake is over before connect returns, so the first question is sent
   at once; where the server's backlog was full it goes when the kernel says so. */
static void begin(struct slot *slot, uint64_t now) {
    static unsigned turn;
    int on = 1;
    slot->fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (slot->fd < 0) {
        errors++;
        return;
    }
    live++;
    /* Conversations have three questions; else each connection begins elsewhere, so that all keys are in use. */
    slot->asked = slot->answered = topic == LAUNCELOT ? 0 : (unsigned)(slot - slots) * (kinds / connections);
    slot->at = answer_start[slot->asked % kinds];
    slot->opened = now;
    if (target.ss_family == AF_INET) {
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % SOURCES);
        /* The port is chosen at connect, by the whole four-tuple, not at bind for the address alone. */
        setsockopt(slot->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(slot->fd, (struct sockaddr *)&source, sizeof source) < 0) {
            give_up(slot);
            return;
        }
    }
    if (mode == PIPELINED) /* elsewhere nothing is unacknowledged when a question is sent */
        setsockopt(slot->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (mode != CONVERSATIONS) /* the cheapest: the generator should have time left; a short talk does not repay it */
        setsockopt(slot->fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    if (connect(slot->fd, (struct sockaddr *)&target, target_length) < 0 && errno != EINPROGRESS) {
        give_up(slot);
        return;
    }
    slot->connecting = !ask(slot, in_flight, now);
    if (slot->connecting && errno != EAGAIN) {
        give_up(slot);
        return;
    }
    struct epoll_event event = {.events = slot->connecting ? EPOLLOUT : EPOLLIN, .data.ptr = slot};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, slot->fd, &event) < 0)
        give_up(slot);
}

static void connected(struct slot *slot, uint64_t now) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = slot};
    slot->connecting = false;
    if (!ask(slot, in_flight, now) || epoll_ctl(poller, EPOLL_CTL_MOD, slot->fd, &event) < 0)
        give_up(slot);
}

static void receive(struct slot *slot, uint64_t now) {
    static char received[CHUNK];
    ssize_t length = recv(slot->fd, received, sizeof received, 0);
    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0) { /* the server must not close the connection */
        give_up(slot);
        return;
    }
    unsigned end = slot->at + (unsigned)length;
    unsigned count = end / answer_cycle * kinds + answers_before[end % answer_cycle] - answers_before[slot->at];
    if (memcmp(received, answer_text + slot->at, (size_t)length) != 0 || slot->answered + count > slot->asked) {
        wrong++;
        give_up(slot);
        return;
    }
    slot->at = end % answer_cycle;
    if (!count)
        return;
    if (!slot->served) {
        slot->served = true;
        answering++;
    }
    tally.requests += count;
    if (mode != CONVERSATIONS)
        for (unsigned i = 0; i < count; i++)
            record(now - slot->asked_at[(slot->answered + i) % in_flight]);
    slot->answered += count;
    if (mode == IDLE)
        return;
    if (mode == CONVERSATIONS && slot->answered == KINDS) {
        tally.conversations++;
        record(now - slot->opened);
        shut(slot);
        if (!draining)
            begin(slot, now);
    } else if (draining) {
        if (slot->answered == slot->asked)
            shut(slot);
    } else if (!ask(slot, count, now)) {
        give_up(slot);
    }
}

/* Handle ready connections, waiting TICK_MS at most; return the time. */
static uint64_t turn(void) {
    static struct epoll_event events[BATCH];
    int ready = epoll_wait(poller, events, BATCH, TICK_MS);
    uint64_t now = now_ns();
    for (int i = 0; i < ready; i++) {
        struct slot *slot = events[i].data.ptr;
        now = now_ns();
        if (slot->connecting)
            connected(slot, now);
        else
            receive(slot, now);
    }
    return now;
}

/* Reopen connections closed by an error, once a tick, so that a refusing server is not flooded. */
static void reopen(uint64_t now) {
    static uint64_t next;
    if (now < next || draining)
        return;
    next = now + TICK_MS * 1000000u;
    for (unsigned i = 0; i < connections && live < connections; i++)
        if (slots[i].fd < 0)
            begin(&slots[i], now);
}

/* Runs until the moment comes, or so many connections are served, or a bound is reached. */
static uint64_t run_until(uint64_t moment, unsigned enough) {
    uint64_t now = now_ns();
    while (now < moment && answering < enough && errors < MAX_ERRORS && tally.requests < MAX_REQUESTS) {
        now = turn();
        if (live < connections)
            reopen(now);
    }
    return now;
}

static void measure(void) {
    if (topic == GET)
        store_all();
    uint64_t start = now_ns();
    for (unsigned i = 0; i < connections; i++)
        begin(&slots[i], start);
    uint64_t gathered = run_until(start + (uint64_t)(gather * 1e9), connections);
    char all_answered_ms[32] = "null";
    if (answering == connections)
        snprintf(all_answered_ms, sizeof all_answered_ms, "%.1f", (double)(gathered - start) / 1e6);
    start = run_until(gathered + (uint64_t)(warm_up * 1e9), UINT_MAX);
    memset(&tally, 0, sizeof tally);
    answering = 0;
    for (unsigned i = 0; i < connections; i++)
        slots[i].served = false;
    fputs("measuring\n", stderr);
    double cpu = cpu_seconds();
    uint64_t end = run_until(start + (uint64_t)(seconds * 1e9), UINT_MAX);
    cpu = cpu_seconds() - cpu;
    fputs("measured\n", stderr);

    double wall = (double)(end - start) / 1e9;
    unsigned starved = connections - answering;
    uint64_t requests = tally.requests, conversations = tally.conversations;
    double middle = percentile_us(.5), high = percentile_us(.99), slowest = (double)tally.slowest / 1e3;

    draining = true; /* pending replies are still read and checked, so that the server sees orderly ends */
    for (end += DRAIN_MS * 1000000ull; live && now_ns() < end;)
        turn();
    printf("{\"mode\": \"%s\", \"connections\": %u, \"in_flight\": %u, \"seconds\": %.3f, \"requests\": %llu, "
           "\"requests_per_second\": %.1f, \"conversations\": %llu, \"conversations_per_second\": %.1f, "
           "\"errors\": %llu, \"wrong\": %llu, \"starved\": %u, \"unfinished\": %u, \"all_answered_ms\": %s, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, \"cpu\": %.3f}\n",
           MODES[mode], connections, in_flight, wall, (unsigned long long)requests, (double)requests / wall,
           (unsigned long long)conversations, (double)conversations / wall, (unsigned long long)errors,
           (unsigned long long)wrong, starved, live, all_answered_ms, middle, high, slowest, cpu / wall);
}

static void hold(void) {
    uint64_t now = now_ns(), limit = now + MAX_IDLE_SECONDS * 1000000000ull;
    for (unsigned next = 0; answering < connections && errors < MAX_ERRORS && now < limit; now = turn()) {
        while (next < connections && live < answering + CONNECTING_AT_ONCE)
            begin(&slots[next++], now);
        if (next == connections && live < connections)
            reopen(now);
    }
    printf("{\"mode\": \"idle\", \"open\": %u, \"errors\": %llu, \"wrong\": %llu}\n", answering,
           (unsigned long long)errors, (unsigned long long)wrong);
    fflush(stdout);
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char ignored[64];
    while (now < limit && poll(&input, 1, (int)((limit - now) / 1000000u)) > 0 &&
           read(STDIN_FILENO, ignored, sizeof ignored) > 0)
        now = now_ns();
    unsigned lost = 0;
    for (unsigned i = 0; i < connections; i++) /* there must be no input and no closed connection */
        lost += slots[i].fd < 0 || recv(slots[i].fd, ignored, sizeof ignored, MSG_PEEK) >= 0 || errno != EAGAIN;
    printf("{\"mode\": \"idle\", \"lost\": %u}\n", lost);
}

static double number(const char *text, double least, double most) {
    char *rest;
    double value = strtod(text, &rest);
    if (*rest || !(value >= least && value <= most))
        fail("a number is out of bounds");
    return value;
}

static void aim(const char *host, const char *port) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)&target;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&target;
    in_port_t number_of_port = htons((uint16_t)number(port, 1, 65535));
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1 && ntohl(v4->sin_addr.s_addr) >> 24 == 127) {
        v4->sin_family = AF_INET;
        v4->sin_port = number_of_port;
        target_length = sizeof *v4;
    } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr)) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = number_of_port;
        target_length = sizeof *v6;
    } else {
        fail("the host must be loopback, in digits: 127.x.x.x or ::1");
    }
}

int main(int count, char **words) {
    const char *usage = "load persistent|pipelined|conversations|idle HOST PORT [-c n] [-k n] [-d s] [-w s] [-g s] [-t what]";
    for (int option; (option = getopt(count, words, "c:k:d:w:g:t:")) != -1;) {
        if (option == 'c')
            connections = (unsigned)number(optarg, 1, MAX_CONNECTIONS);
        else if (option == 'k')
            in_flight = (unsigned)number(optarg, 1, MAX_IN_FLIGHT);
        else if (option == 'd')
            seconds = number(optarg, .05, MAX_SECONDS);
        else if (option == 'w')
            warm_up = number(optarg, 0, MAX_SECONDS);
        else if (option == 'g')
            gather = number(optarg, 0, MAX_SECONDS);
        else if (option == 't')
            while (strcmp(optarg, TOPICS[topic]) != 0)
                if (++topic > SET)
                    fail(usage);
                else
                    kinds = KEYS;
        else
            fail(usage);
    }
    if (count - optind != 3)
        fail(usage);
    while (strcmp(words[optind], MODES[mode]) != 0)
        if (++mode > IDLE)
            fail(usage);
    if (mode != PIPELINED)
        in_flight = 1;
    aim(words[optind + 1], words[optind + 2]);

    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    if (descriptors.rlim_cur < connections + 16)
        fail("too many connections for the descriptor limit");
    alarm(mode == IDLE ? MAX_IDLE_SECONDS + 10 : (unsigned)(gather + warm_up + seconds) + 4); /* the last resort */

    poller = epoll_create1(EPOLL_CLOEXEC);
    slots = calloc(connections, sizeof *slots);
    uint64_t *rings = calloc((size_t)connections * in_flight, sizeof *rings);
    if (poller < 0 || !slots || !rings)
        fail("no memory or no epoll");
    for (unsigned i = 0; i < connections; i++) {
        slots[i].fd = -1;
        slots[i].asked_at = rings + (size_t)i * in_flight;
    }
    write_texts();
    if (mode == IDLE)
        hold();
    else
        measure();
    return 0;
}
