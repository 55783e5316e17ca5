/* The generator of bench/openloop.py, which says what it does.
 *
 * openloop HOST PORT REQUESTFILE RATE SECONDS CONNECTIONS
 * Sends the request in the file; prints {"latencies": [...], "lateness": [...]} in seconds. Exits
 * with 1 and a word on stderr when a call is not answered with 200 and a length.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { LARGEST = 1 << 20, PATIENCE_SECONDS = 30 };

/* A connection: when its call was due, and since when it has had none. */
struct connection {
    int socket;
    double due, free;
};

static char request[LARGEST], answer[LARGEST];

static void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    exit(1);
}

static void *array(size_t count, size_t size) {
    void *made = calloc(count + 1, size);
    if (made == NULL)
        fail("no memory\n");
    return made;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static int dial(const char *host, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    int on = 1, error = getaddrinfo(host, port, &hints, &found);
    if (error)
        fail("%s: %s\n", host, gai_strerror(error));
    int made = socket(found->ai_family, SOCK_STREAM, 0);
    if (made < 0 || connect(made, found->ai_addr, found->ai_addrlen))
        fail("connect: %s\n", strerror(errno));
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    freeaddrinfo(found);
    return made;
}

static size_t receive(int from, char *into, size_t room) {
    ssize_t size = recv(from, into, room, 0);
    if (size < 0)
        fail("receive: %s\n", strerror(errno));
    if (size == 0)
        fail("the connection was closed\n");
    return size;
}

/* Read one whole answer. */
static void read_answer(int from) {
    size_t size = 0;
    char *end = NULL;
    while (end == NULL) {
        if (size == LARGEST - 1)
            fail("a head without end\n");
        size += receive(from, answer + size, LARGEST - 1 - size);
        answer[size] = 0;
        end = strstr(answer, "\r\n\r\n");
    }
    if (strncmp(answer, "HTTP/1.1 200", 12))
        fail("%.200s\n", answer);
    char *length = strcasestr(answer, "\r\ncontent-length: ");
    if (length == NULL || length > end)
        fail("no length: %.200s\n", answer);
    long missing = atol(length + 18) - (long)(answer + size - end - 4);
    while (missing > 0)
        missing -= receive(from, answer, LARGEST);
}

static void print(const char *name, const double *values, long count) {
    printf("\"%s\": [", name);
    for (long at = 0; at < count; at++)
        printf("%s%.7f", at ? ", " : "", values[at]);
    printf("]");
}

int main(int count, char **words) {
    if (count != 7)
        fail("openloop HOST PORT REQUESTFILE RATE SECONDS CONNECTIONS\n");
    FILE *file = fopen(words[3], "rb");
    if (file == NULL)
        fail("%s: %s\n", words[3], strerror(errno));
    size_t size = fread(request, 1, LARGEST, file);
    double rate = atof(words[4]);
    long total = rate * atof(words[5]), sent = 0, answered = 0;
    int idle = atoi(words[6]), busy = 0;

    double *latencies = array(total, sizeof *latencies), *lateness = array(total, sizeof *lateness);
    struct connection **idles = array(idle, sizeof *idles), **busies = array(idle, sizeof *busies);
    struct pollfd *polled = array(idle, sizeof *polled);
    for (int at = 0; at < idle; at++) {
        idles[at] = array(1, sizeof **idles);
        idles[at]->socket = dial(words[1], words[2]);
    }
    double begun = now();
    for (int at = 0; at < idle; at++)
        idles[at]->free = begun;

    while (answered < total) {
        /* Each call whose turn has come, while a connection is free. */
        for (double at = now(); sent < total && idle && begun + sent / rate <= at;) {
            struct connection *used = idles[--idle];
            used->due = begun + sent / rate;
            lateness[sent++] = now() - (used->due > used->free ? used->due : used->free);
            if (send(used->socket, request, size, MSG_NOSIGNAL) != (ssize_t)size)
                fail("send: %s\n", strerror(errno));
            polled[busy] = (struct pollfd){.fd = used->socket, .events = POLLIN};
            busies[busy++] = used;
        }
        double wait = sent < total && idle ? begun + sent / rate - now() : 1;
        wait = wait > 0 ? wait : 0;
        struct timespec patience = {wait, (wait - (long)wait) * 1e9};
        if (ppoll(polled, busy, &patience, NULL) < 0)
            fail("poll: %s\n", strerror(errno));
        for (int at = 0; at < busy;) {
            if (!polled[at].revents) {
                at++;
                continue;
            }
            struct connection *done = busies[at];
            read_answer(done->socket);
            done->free = now();
            latencies[answered++] = done->free - done->due;
            idles[idle++] = done;
            polled[at] = polled[--busy];
            busies[at] = busies[busy];
        }
    }
    printf("{");
    print("latencies", latencies, total);
    printf(", ");
    print("lateness", lateness, total);
    printf("}\n");
    return 0;
}
