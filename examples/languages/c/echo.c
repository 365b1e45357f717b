// TCP echo for many clients at once: sends back what it receives, until a client closes its half, and then closes the
// other. The listener is the descriptor that Keep.toml calls "echo"; that its connections are TLS is not seen here.
//
// usage: echo [CLIENTS]    ends after that many; without an argument, never

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LARGEST = 64, BUFFER = 16384 };

struct client {
    int fd;
    size_t start, end;  // what of the buffer is still to be sent
    int finished;       // it has closed its half
    char buffer[BUFFER];
};

static struct client clients[LARGEST];
static int connected;

// The descriptor of this name, by FD_NAMES ("stdin:stdout:stderr:echo"), or -1.
static int descriptor(const char *wanted) {
    const char *names = getenv("FD_NAMES");
    for (int fd = 0; names != NULL; fd++) {
        size_t length = strcspn(names, ":");
        if (length == strlen(wanted) && strncmp(names, wanted, length) == 0) return fd;
        names = names[length] == ':' ? names + length + 1 : NULL;
    }
    return -1;
}

static void forget(int index) {
    close(clients[index].fd);
    clients[index] = clients[--connected];
}

// Takes one step with a client; 0 when there will be no other.
static int step(struct client *client) {
    if (client->start == client->end && !client->finished) {
        ssize_t got = recv(client->fd, client->buffer, BUFFER, 0);
        if (got < 0) return errno == EAGAIN;
        client->start = 0;
        client->end = (size_t)got;
        client->finished = got == 0;
    }
    if (client->start < client->end) {
        ssize_t sent = send(client->fd, client->buffer + client->start, client->end - client->start, 0);
        if (sent < 0) return errno == EAGAIN;
        client->start += (size_t)sent;
    }
    if (client->finished) shutdown(client->fd, SHUT_WR);
    return !client->finished;
}

int main(int count, char **arguments) {
    long left = count > 1 ? strtol(arguments[1], NULL, 10) : -1;
    int listener = descriptor("echo");
    if (listener < 0) {
        fprintf(stderr, "echo: Keep.toml opens no descriptor called echo\n");
        return 2;
    }
    fcntl(listener, F_SETFL, O_NONBLOCK);
    while (left != 0 || connected > 0) {
        struct pollfd ready[LARGEST + 1];
        for (int i = 0; i < connected; i++) {
            int waits = clients[i].start < clients[i].end ? POLLOUT : POLLIN;
            ready[i] = (struct pollfd){.fd = clients[i].fd, .events = (short)waits};
        }
        int watched = connected, accepting = left != 0 && connected < LARGEST;
        if (accepting) ready[watched] = (struct pollfd){.fd = listener, .events = POLLIN};
        if (poll(ready, (nfds_t)(watched + accepting), -1) < 0) {
            perror("echo: poll");
            return 1;
        }
        // From the last to the first: who leaves is replaced by the last.
        for (int i = watched - 1; i >= 0; i--)
            if (ready[i].revents != 0 && !step(&clients[i])) forget(i);
        if (accepting && ready[watched].revents != 0) {
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) continue;
            fcntl(fd, F_SETFL, O_NONBLOCK);
            clients[connected].fd = fd;
            clients[connected].start = clients[connected].end = 0;
            clients[connected++].finished = 0;
            if (left > 0) left--;
        }
    }
    return 0;
}
