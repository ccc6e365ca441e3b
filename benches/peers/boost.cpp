// Boost.Interprocess message_queue: one mutex, two conditions, slots of one size.
//
// The queue is named, and the first process creates it; the harness removes the name.
#include <boost/interprocess/ipc/message_queue.hpp>

#include "worker.hpp"

using boost::interprocess::message_queue;
using boost::interprocess::open_or_create;

class Sender {
    const Job &job;
    message_queue queue;
    std::vector<uint64_t> buf;

  public:
    Sender(const Job &job, const std::string &name)
        : job(job), queue(open_or_create, name.c_str(), job.depth, job.size),
          buf(job.size / 8, 1) {}

    void *room() { return buf.data(); }
    void send() { send(buf.data()); }
    void send(const void *message) { queue.send(message, job.size, 0); }

    /// One empty message for each consumer, behind all messages.
    void finish() {
        for (size_t consumer = 0; consumer < job.consumers; consumer++) {
            queue.send(nullptr, 0, 0);
        }
    }
};

class Receiver {
    const Job &job;
    message_queue queue;
    std::vector<uint64_t> buf;

  public:
    Receiver(const Job &job, const std::string &name)
        : job(job), queue(open_or_create, name.c_str(), job.depth, job.size),
          buf(job.size / 8, 1) {}

    const void *take() {
        message_queue::size_type len = 0;
        unsigned priority = 0;
        queue.receive(buf.data(), job.size, len, priority);
        if (len == 0) {
            return nullptr;
        }
        if (len != job.size) {
            throw std::runtime_error("a message of another length arrived");
        }
        return buf.data();
    }
};

int main(int count, char **args) { return work<Sender, Receiver>(count, args); }
