/* The floor: what one send(2) for each client and message costs, without a library in between.
 * One frame is built for each event. The handshake is answered without looking at the key, which
 * the clients of the comparison do not check. Arguments: users and servers, as every peer. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CLIENTS = 20000, CHUNK = 4096 };

static const char ANSWER[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    "\x81\x20{\"type\":\"server-list\",\"data\":{}}";
static const char JOIN[] = "\x81\x2a{\"type\":\"server-join\",\"data\":{\"users\":{}}}";
static const char *const STATUSES[] = {"online", "idle", "dnd"};

enum stage { UNUSED, CONNECTED, GREETED, JOINED };
static enum stage stages[MAX_CLIENTS + 64]; /* by file descriptor */
static int highest;
static long users, next_event;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void send_all(int fd, const char *bytes, size_t size) {
  while (size) {
    ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes += sent;
      size -= (size_t)sent;
    } else if (errno == EAGAIN) {
      struct pollfd writable = {.fd = fd, .events = POLLOUT};
      poll(&writable, 1, 1000);
    } else {
      return;
    }
  }
}

static void happen(void) {
  char frame[256];
  long number = next_event++;
  int size = snprintf(frame + 2, sizeof frame - 2,
                      "{\"type\":\"presence\",\"server\":\"232769614004748288\",\"seq\":%ld,"
                      "\"data\":{\"uid\":\"%ld\",\"status\":\"%s\"}}",
                      number, 100000000000000000L + number % users, STATUSES[number / users % 3]);
  frame[0] = (char)0x81;
  frame[1] = (char)size; /* below 126 for any number of events that a run has */
  for (int fd = 0; fd <= highest; fd++)
    if (stages[fd] == JOINED) send_all(fd, frame, (size_t)size + 2);
}

static void obey(void) { /* whole lines come at once: they are short, and the pipe is ours */
  char lines[CHUNK];
  ssize_t size = read(STDIN_FILENO, lines, sizeof lines - 1);
  if (size <= 0) exit(0);
  lines[size] = 0;
  for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
    long count = strncmp(line, "burst ", 6) ? 1 : atol(line + 6);
    while (count-- > 0) happen();
  }
}

static void welcome(int listener, int epoll) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= MAX_CLIENTS) die("too many clients");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    stages[fd] = CONNECTED;
    if (fd > highest) highest = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
}

static void hear(int fd) { /* a request, and then a message, each in one piece */
  char bytes[CHUNK];
  ssize_t size = recv(fd, bytes, sizeof bytes, 0);
  if (size <= 0 || (unsigned char)bytes[0] == 0x88) {
    stages[fd] = UNUSED;
    close(fd);
  } else if (stages[fd] == CONNECTED) {
    stages[fd] = GREETED;
    send_all(fd, ANSWER, sizeof ANSWER - 1);
  } else if (stages[fd] == GREETED) {
    send_all(fd, JOIN, sizeof JOIN - 1);
    stages[fd] = JOINED;
  }
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  next_event = users = atol(argv[1]);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
  if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) die("listen");
  getsockname(listener, (struct sockaddr *)&address, &length);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  event.data.fd = STDIN_FILENO;
  epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
  printf("port %d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) welcome(listener, epoll);
      else if (fd == STDIN_FILENO) obey();
      else hear(fd);
    }
  }
}
