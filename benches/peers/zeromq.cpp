// ZeroMQ, PUSH to PULL over ipc://. Every consumer binds an address, in the abstract namespace,
// so that no file is left; every producer connects to all of them.
//
// No message can mark the end of the channel: a consumer reads from each producer in turn. And a producer that
// ends loses messages, whatever its linger time: messages that wait in the kernel while the consumer's own queue
// is full are dropped with the connection (in every third run of 4x4). Therefore every process stays until the
// counts on the page show that all messages were taken.
#include <zmq.h>

#include "worker.hpp"

static int checked(int rc) {
    if (rc < 0) {
        throw std::runtime_error(zmq_strerror(zmq_errno()));
    }
    return rc;
}

class Socket {
    void *context = zmq_ctx_new();

  public:
    void *socket;

    Socket(const Job &job, int kind) : socket(zmq_socket(context, kind)) {
        // The bound of each side; the default is 1000 messages of any size.
        option(kind == ZMQ_PUSH ? ZMQ_SNDHWM : ZMQ_RCVHWM, static_cast<int>(job.depth));
    }
    Socket(const Socket &) = delete;
    Socket &operator=(const Socket &) = delete;

    void option(int which, int value) {
        checked(zmq_setsockopt(socket, which, &value, sizeof value));
    }

    static std::string address(const std::string &name, size_t consumer) {
        return "ipc://@" + name + "." + std::to_string(consumer);
    }

    /// Ends once everything is sent.
    ~Socket() {
        zmq_close(socket);
        zmq_ctx_term(context);
    }
};

class Sender {
    const Job &job;
    Socket out;
    zmq_msg_t message;

  public:
    Sender(const Job &job, const std::string &name) : job(job), out(job, ZMQ_PUSH) {
        // A connection to an address that no process has bound yet is retried every millisecond.
        out.option(ZMQ_IMMEDIATE, 1);
        out.option(ZMQ_RECONNECT_IVL, 1);
        for (size_t consumer = 0; consumer < job.consumers; consumer++) {
            checked(zmq_connect(out.socket, Socket::address(name, consumer).c_str()));
        }
    }

    void *room() {
        checked(zmq_msg_init_size(&message, job.size));
        return zmq_msg_data(&message);
    }
    void send() { checked(zmq_msg_send(&message, out.socket, 0)); }
    void send(const void *from) {
        std::memcpy(room(), from, job.size);
        send();
    }

    void finish() {}
};

class Receiver {
    const Job &job;
    Socket in;
    zmq_msg_t message;

  public:
    Receiver(const Job &job, const std::string &name) : job(job), in(job, ZMQ_PULL) {
        zmq_msg_init(&message);
        in.option(ZMQ_RCVTIMEO, 20);
        const size_t consumer = job.role == "take" ? job.worker - job.producers : 0;
        checked(zmq_bind(in.socket, Socket::address(name, consumer).c_str()));
    }
    ~Receiver() { zmq_msg_close(&message); }
    Receiver(const Receiver &) = delete;
    Receiver &operator=(const Receiver &) = delete;

    const void *take() {
        while (zmq_msg_recv(&message, in.socket, 0) < 0) {
            if (zmq_errno() != EAGAIN && zmq_errno() != EINTR) {
                checked(-1);
            }
            if (job.is_over()) {
                return nullptr;
            }
        }
        if (zmq_msg_size(&message) != job.size) {
            throw std::runtime_error("a message of another length arrived");
        }
        return zmq_msg_data(&message);
    }
};

int main(int count, char **args) { return work<Sender, Receiver>(count, args); }
