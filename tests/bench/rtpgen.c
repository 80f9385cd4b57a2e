/* Sends RTP of many callers from one socket, and keeps all that comes back.
 *
 * Stream i speaks from 127.1.(i >> 8).(i & 255), one packet of 20 ms PCMU every 20 ms, the streams
 * spread evenly over the 20 ms. What it says is a loop of the audio file, begun at i * stride. Some
 * packets, by chance from a seed, are not sent. One loopback address a caller and one port for all
 * of them: so packets leave and come in batches, and the generator takes a fraction of its core.
 *
 *   rtpgen CALLS SECONDS LOSS SEED AUDIO STRIDE OUT
 *
 * Prints `ready PORT`; reads the name of a file with a struct destination a stream from its
 * standard input, then sends. Prints `done` at the end. OUT holds a struct head, then when each
 * packet was sent (0: not at all; calls * packets numbers), then a struct record a packet received.
 * Times are ns of CLOCK_MONOTONIC; of what is received, the kernel's own stamp.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256, FRAME = 160, HEADER = 12, ROOM = 256, TICK_NS = 500000, TAIL_MS = 500 };

struct destination { uint32_t ip; uint32_t port; }; /* host order */
struct head { uint64_t calls, packets, received, start_ns, cpu_ns; };
struct record {
    uint64_t ns;
    uint32_t stream, timestamp, ssrc;
    uint16_t seq;
    uint8_t kind, size;
    uint8_t payload[FRAME];
};

struct control { _Alignas(8) char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))]; };
static struct mmsghdr out[BATCH], in[BATCH];
static struct iovec out_at[BATCH], in_at[BATCH];
static struct sockaddr_in to[BATCH];
static struct control from[BATCH];
static uint8_t packets_out[BATCH][HEADER + FRAME], packets_in[BATCH][ROOM];
static _Alignas(8) char controls_in[BATCH][256];

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what) { perror(what); exit(1); }

static double chance(uint64_t x) { /* splitmix64 */
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return (double)((x ^ (x >> 31)) >> 11) / 9007199254740992.0;
}

static void put32(uint8_t *at, uint32_t v) { v = htonl(v); memcpy(at, &v, 4); }

static uint32_t get32(const uint8_t *at) { uint32_t v; memcpy(&v, at, 4); return ntohl(v); }

/* What has come into the records; how many there are now. */
static uint64_t take(int sock, struct record *records, uint64_t n, uint64_t most, uint64_t real) {
    for (;;) {
        for (int i = 0; i < BATCH; i++) in[i].msg_hdr.msg_controllen = sizeof controls_in[0];
        int got = recvmmsg(sock, in, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got && n < most; i++) {
            struct record *r = &records[n++];
            struct cmsghdr *c = CMSG_FIRSTHDR(&in[i].msg_hdr);
            for (; c; c = CMSG_NXTHDR(&in[i].msg_hdr, c)) {
                if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
                    struct in_pktinfo *p = (struct in_pktinfo *)CMSG_DATA(c);
                    r->stream = ntohl(p->ipi_addr.s_addr) - 0x7F010000u;
                } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
                    struct timespec t;
                    memcpy(&t, CMSG_DATA(c), sizeof t);
                    r->ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec - real;
                }
            }
            const uint8_t *p = packets_in[i];
            int size = (int)in[i].msg_len - HEADER;
            r->kind = p[1];
            r->seq = (uint16_t)(p[2] << 8 | p[3]);
            r->timestamp = get32(p + 4);
            r->ssrc = get32(p + 8);
            r->size = (uint8_t)(size < 0 ? 0 : size > FRAME ? FRAME : size);
            memcpy(r->payload, p + HEADER, r->size);
        }
        if (got < BATCH) return n;
    }
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "rtpgen: 7 arguments\n"); return 2; }
    uint64_t calls = strtoull(argv[1], NULL, 10);
    uint64_t packets = (uint64_t)(strtod(argv[2], NULL) * 50);
    double loss = strtod(argv[3], NULL);
    uint64_t seed = strtoull(argv[4], NULL, 10), stride = strtoull(argv[6], NULL, 10);

    int audio_file = open(argv[5], O_RDONLY);
    off_t audio_bytes = audio_file < 0 ? -1 : lseek(audio_file, 0, SEEK_END);
    if (audio_bytes < FRAME) fail(argv[5]);
    const uint8_t *audio = mmap(NULL, (size_t)audio_bytes, PROT_READ, MAP_SHARED, audio_file, 0);
    uint64_t frames = (uint64_t)audio_bytes / FRAME;

    uint64_t most = calls * (packets + 200);
    size_t bytes = sizeof(struct head) + calls * packets * 8 + most * sizeof(struct record);
    int file = open(argv[7], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, (off_t)bytes)) fail(argv[7]);
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED || audio == MAP_FAILED) fail("mmap");
    struct head *head = (struct head *)memory;
    uint64_t *sent = (uint64_t *)(head + 1);
    struct record *records = (struct record *)(sent + calls * packets);

    int sock = socket(AF_INET, SOCK_DGRAM, 0), on = 1, size = 4 << 20;
    setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(sock, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    setsockopt(sock, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    if (setsockopt(sock, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3)) fail("SO_BINDTODEVICE lo");
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t length = sizeof name;
    if (bind(sock, (struct sockaddr *)&name, sizeof name)) fail("bind");
    getsockname(sock, (struct sockaddr *)&name, &length);
    for (int i = 0; i < BATCH; i++) {
        out_at[i] = (struct iovec){packets_out[i], HEADER + FRAME};
        out[i].msg_hdr = (struct msghdr){.msg_name = &to[i], .msg_namelen = sizeof to[0],
            .msg_iov = &out_at[i], .msg_iovlen = 1,
            .msg_control = from[i].bytes, .msg_controllen = sizeof from[0].bytes};
        struct cmsghdr *c = CMSG_FIRSTHDR(&out[i].msg_hdr);
        c->cmsg_level = IPPROTO_IP;
        c->cmsg_type = IP_PKTINFO;
        c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
        to[i].sin_family = AF_INET;
        in_at[i] = (struct iovec){packets_in[i], ROOM};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &in_at[i], .msg_iovlen = 1,
            .msg_control = controls_in[i], .msg_controllen = sizeof controls_in[0]};
    }
    printf("ready %d\n", ntohs(name.sin_port));
    fflush(stdout);

    char path[4096];
    if (!fgets(path, sizeof path, stdin)) return 0;
    path[strcspn(path, "\n")] = 0;
    struct destination *destinations = calloc(calls, sizeof *destinations);
    FILE *list = fopen(path, "rb");
    if (!list || fread(destinations, sizeof *destinations, calls, list) != calls) fail(path);
    fclose(list);

    uint64_t real = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
    uint64_t start = clock_ns(CLOCK_MONOTONIC) + 20000000u, received = 0, next = 0;
    uint64_t all = calls * packets, stop = start + packets * 20000000u + TAIL_MS * 1000000ull;
    *head = (struct head){calls, packets, 0, start, 0};
    for (uint64_t wake = start; wake < stop; wake += TICK_NS) {
        struct timespec at = {(time_t)(wake / 1000000000u), (long)(wake % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        received = take(sock, records, received, most, real);
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        uint64_t due = now < start ? 0 : (now - start) * calls / 20000000u + 1;
        if (due > all) due = all;
        while (next < due) {
            int n = 0;
            uint64_t stamp = clock_ns(CLOCK_MONOTONIC);
            for (; next < due && n < BATCH; next++) {
                uint64_t k = next / calls, i = next % calls;
                if (loss > 0 && chance(seed * 0x100000001B3u + next) < loss) continue;
                sent[next] = stamp;
                uint8_t *p = packets_out[n];
                p[0] = 0x80;
                p[1] = k ? 0 : 0x80;
                p[2] = (uint8_t)(k >> 8);
                p[3] = (uint8_t)k;
                put32(p + 4, (uint32_t)k * FRAME);
                put32(p + 8, 0x10000u + (uint32_t)i);
                memcpy(p + HEADER, audio + (i * stride + k) % frames * FRAME, FRAME);
                to[n].sin_port = htons((uint16_t)destinations[i].port);
                to[n].sin_addr.s_addr = htonl(destinations[i].ip);
                struct in_pktinfo info = {0};
                info.ipi_spec_dst.s_addr = htonl(0x7F010000u + (uint32_t)i);
                memcpy(from[n].bytes + CMSG_LEN(0), &info, sizeof info);
                n++;
            }
            for (int done = 0; done < n;) {
                int left = sendmmsg(sock, out + done, (unsigned)(n - done), 0);
                done += left > 0 ? left : 1; /* an error is that datagram's alone */
            }
        }
    }
    head->received = take(sock, records, received, most, real);
    head->cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    puts("done");
    return 0;
}
