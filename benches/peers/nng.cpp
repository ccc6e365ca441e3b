// nng, PUSH to PULL over Unix sockets in the abstract namespace, so that no file is left. Every consumer
// listens at an address; every producer dials all of them.
//
// As with ZeroMQ, no message can mark the end, and messages that a producer has not sent when it ends are
// lost. Therefore every process stays until the counts on the page show that all messages were taken.
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

#include <algorithm>

#include "worker.hpp"

static void checked(int code) {
    if (code != 0) {
        throw std::runtime_error(nng_strerror(code));
    }
}

static std::string address(const std::string &name, size_t consumer) {
    return "abstract://" + name + "." + std::to_string(consumer);
}

/// The most messages that nng holds at one end.
static int depth(const Job &job) { return static_cast<int>(std::min<size_t>(job.depth, 8192)); }

class Sender {
    const Job &job;
    nng_socket out;
    nng_msg *message = nullptr;

  public:
    Sender(const Job &job, const std::string &name) : job(job) {
        checked(nng_push0_open(&out));
        checked(nng_socket_set_int(out, NNG_OPT_SENDBUF, depth(job)));
        checked(nng_socket_set_ms(out, NNG_OPT_RECONNMINT, 1));
        for (size_t consumer = 0; consumer < job.consumers; consumer++) {
            // It dials again while no process listens.
            checked(nng_dial(out, address(name, consumer).c_str(), nullptr, NNG_FLAG_NONBLOCK));
        }
    }
    ~Sender() { nng_close(out); }
    Sender(const Sender &) = delete;
    Sender &operator=(const Sender &) = delete;

    void *room() {
        checked(nng_msg_alloc(&message, job.size));
        return nng_msg_body(message);
    }
    // The library frees sent messages.
    void send() { checked(nng_sendmsg(out, message, 0)); }
    void send(const void *from) {
        std::memcpy(room(), from, job.size);
        send();
    }

    void finish() {}
};

class Receiver {
    const Job &job;
    nng_socket in;
    nng_msg *message = nullptr;

  public:
    Receiver(const Job &job, const std::string &name) : job(job) {
        checked(nng_pull0_open(&in));
        checked(nng_socket_set_int(in, NNG_OPT_RECVBUF, depth(job)));
        checked(nng_socket_set_ms(in, NNG_OPT_RECVTIMEO, 20));
        // The default limit of a message is 1 MiB.
        checked(nng_socket_set_size(in, NNG_OPT_RECVMAXSZ, 0));
        const size_t consumer = job.role == "take" ? job.worker - job.producers : 0;
        checked(nng_listen(in, address(name, consumer).c_str(), nullptr, 0));
    }
    ~Receiver() {
        nng_msg_free(message);
        nng_close(in);
    }
    Receiver(const Receiver &) = delete;
    Receiver &operator=(const Receiver &) = delete;

    const void *take() {
        nng_msg_free(message);
        message = nullptr;
        for (int code; (code = nng_recvmsg(in, &message, 0)) != 0;) {
            if (code != NNG_ETIMEDOUT) {
                checked(code);
            }
            if (job.is_over()) {
                return nullptr;
            }
        }
        if (nng_msg_len(message) != job.size) {
            throw std::runtime_error("a message of another length arrived");
        }
        return nng_msg_body(message);
    }
};

int main(int count, char **args) { return work<Sender, Receiver>(count, args); }
