/* The least that a UDP server can do: on a tick, take every datagram and send it back.
 *
 *   udpecho TICK_MS        prints `ready PORT`, and ends with its standard input
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 512, ROOM = 2048 };
static struct mmsghdr messages[BATCH];
static struct iovec at[BATCH];
static struct sockaddr_in who[BATCH];
static char data[BATCH][ROOM];

int main(int argc, char **argv) {
    int64_t tick = (argc > 1 ? atoi(argv[1]) : 5) * 1000000ll;
    int sock = socket(AF_INET, SOCK_DGRAM, 0), size = 4 << 20;
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof name;
    if (bind(sock, (struct sockaddr *)&name, sizeof name)) { perror("bind"); return 1; }
    getsockname(sock, (struct sockaddr *)&name, &length);
    printf("ready %d\n", ntohs(name.sin_port));
    fflush(stdout);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t wake = now.tv_sec * 1000000000ll + now.tv_nsec;
    for (int64_t n = 0;; n++) {
        struct pollfd input = {0, POLLIN, 0};
        if (n % 100 == 0 && poll(&input, 1, 0) > 0) return 0;
        wake += tick;
        struct timespec then = {wake / 1000000000, wake % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL);
        for (int got = BATCH; got == BATCH;) {
            for (int i = 0; i < BATCH; i++) {
                at[i] = (struct iovec){data[i], ROOM};
                messages[i].msg_hdr = (struct msghdr){.msg_name = &who[i],
                    .msg_namelen = sizeof who[i], .msg_iov = &at[i], .msg_iovlen = 1};
            }
            got = recvmmsg(sock, messages, BATCH, MSG_DONTWAIT, NULL);
            for (int i = 0; i < got; i++) at[i].iov_len = messages[i].msg_len;
            for (int done = 0; done < got;) {
                int left = sendmmsg(sock, messages + done, (unsigned)(got - done), MSG_DONTWAIT);
                done += left > 0 ? left : 1;
            }
        }
    }
}
