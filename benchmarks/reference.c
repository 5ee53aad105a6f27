/* The yardstick: Sir Launcelot in C, on epoll, level-triggered, one thread.
 *
 * A question ends with '?' and has 4096 bytes at most; an unknown question is answered, too. It has no limits,
 * no deadlines, no counters and no log: it shows the limit of the kernel, and is not for production.
 *
 * Listens on 127.0.0.1, a port of the kernel's choice, named on standard error. Ends on SIGTERM, and by itself after
 * a quarter of an hour, in case it is left running.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LIMIT = 4096,          /* bytes of a question */
    CHUNK = 16384,         /* bytes asked from one recv */
    SHORTEST = 1,          /* "?" is a question, */
    LONGEST = 36,          /* and no answer is longer than the name's */
    BACKLOG = 1024,
    BATCH = 1024,          /* events asked from one epoll_wait */
    ACCEPTS = 64,          /* connections accepted before the others are served again */
    LIFETIME = 15 * 60,    /* seconds */
};

struct text {
    const char *bytes;
    size_t length;
};
#define TEXT(literal) {literal, sizeof literal - 1}

static const struct {
    struct text question, answer;
} KNOWN[] = {
    {TEXT("What is your name?"), TEXT("My name is Sir Launcelot of Camelot.")},
    {TEXT("What is your quest?"), TEXT("To seek the Holy Grail.")},
    {TEXT("What is your favorite color?"), TEXT("Blue.")},
};
static const struct text UNKNOWN = TEXT("I don't know that.");

struct connection {
    int fd;
    size_t begun;          /* bytes of a question whose '?' has not come */
    char *question;        /* NULL until a question first comes in pieces */
    size_t sent, unsent;   /* an answer that the peer did not take at once; nothing is read meanwhile */
    char *answer;
};

static int poller;

static _Noreturn void fail(const char *what) {
    perror(what);
    exit(111);
}

static struct text answer_to(const char *question, size_t length) {
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (length == KNOWN[i].question.length && memcmp(question, KNOWN[i].question.bytes, length) == 0)
            return KNOWN[i].answer;
    return UNKNOWN;
}

static void drop(struct connection *one) {
    close(one->fd); /* leaves the poller by itself */
    free(one->question);
    free(one->answer);
    free(one);
}

static void watch(struct connection *one, int what, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = one};
    if (epoll_ctl(poller, what, one->fd, &event) < 0)
        fail("epoll_ctl");
}

/* Sends the rest of an answer once the peer takes it. */
static void resume(struct connection *one) {
    ssize_t sent = send(one->fd, one->answer + one->sent, one->unsent, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            drop(one);
        return;
    }
    one->sent += (size_t)sent;
    one->unsent -= (size_t)sent;
    if (!one->unsent) {
        free(one->answer);
        one->answer = NULL;
        watch(one, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void reply(struct connection *one, const char *answer, size_t length) {
    ssize_t sent = send(one->fd, answer, length, MSG_NOSIGNAL);
    if (sent == (ssize_t)length)
        return;
    if (sent < 0 && errno != EAGAIN) {
        drop(one);
        return;
    }
    one->sent = 0;
    one->unsent = length - (sent < 0 ? 0 : (size_t)sent);
    one->answer = malloc(one->unsent);
    if (!one->answer) {
        drop(one);
        return;
    }
    memcpy(one->answer, answer + length - one->unsent, one->unsent);
    watch(one, EPOLL_CTL_MOD, EPOLLOUT);
}

static void serve(struct connection *one) {
    static char input[LIMIT + CHUNK], answers[(LIMIT + CHUNK) / SHORTEST * LONGEST];
    size_t begun = one->begun, answered = 0;
    ssize_t received = recv(one->fd, input + begun, CHUNK, 0);
    if (received < 0 && errno == EAGAIN)
        return;
    if (received <= 0) {
        drop(one);
        return;
    }
    if (begun)
        memcpy(input, one->question, begun);
    const char *at = input, *from = input + begun, *end = from + received;
    for (const char *mark; (mark = memchr(from, '?', (size_t)(end - from))) != NULL; at = from = mark + 1) {
        struct text answer = answer_to(at, (size_t)(mark + 1 - at));
        if (mark + 1 - at > LIMIT) {
            drop(one);
            return;
        }
        memcpy(answers + answered, answer.bytes, answer.length);
        answered += answer.length;
    }
    one->begun = (size_t)(end - at);
    if (one->begun) {
        if (one->begun > LIMIT || (!one->question && !(one->question = malloc(LIMIT)))) {
            drop(one);
            return;
        }
        memcpy(one->question, at, one->begun);
    }
    if (answered)
        reply(one, answers, answered);
}

static void welcome(int listener) {
    for (int i = 0; i < ACCEPTS; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct connection *one = calloc(1, sizeof *one);
        if (!one) {
            close(fd);
            return;
        }
        one->fd = fd;
        watch(one, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int open_listener(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, BACKLOG) < 0)
        fail("listen");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* connections inherit it */
    getsockname(fd, (struct sockaddr *)&address, &length);
    fprintf(stderr, "reference ready tcp://127.0.0.1:%u\n", ntohs(address.sin_port));
    return fd;
}

int main(void) {
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    alarm(LIFETIME);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = open_listener();
    struct epoll_event events[BATCH] = {{.events = EPOLLIN, .data.ptr = NULL}};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, events) < 0)
        fail("epoll_ctl");
    for (;;) {
        int ready = epoll_wait(poller, events, BATCH, -1);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *one = events[i].data.ptr;
            if (!one)
                welcome(listener);
            else if (one->unsent)
                resume(one);
            else
                serve(one);
        }
    }
}
