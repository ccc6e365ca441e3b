# Puts a message into a queue that all languages share, and gets one.
#
#     ruby exchange.rb [NAME]
#
# The declarations are those of shoal.h; fiddle comes with Ruby. Fiddle releases Ruby's lock during a call
# (`need_gvl: false` is its default), so other threads run while a call waits.

require "fiddle/import"

# The part of libshoal that this program uses.
module Shoal
  extend Fiddle::Importer
  dlload ENV.fetch("SHOAL_LIBRARY", "libshoal.so.0")
  typealias "uint32_t", "unsigned int"
  typealias "uint64_t", "unsigned long long"
  typealias "int64_t", "long long"

  QueueOptions = struct [
    "size_t size", "uint64_t flags", "uint64_t capacity", "uint64_t max_capacity",
    "uint64_t max_items", "uint64_t max_attempts"
  ]
  extern "const char *shoal_last_error()"
  extern "uint32_t shoal_queue_open(const char *name, void *options, void *out, void *created)"
  extern "uint32_t shoal_queue_put(void *q, const void *data, size_t len, int64_t timeout_ns)"
  extern "uint32_t shoal_queue_get(void *q, int64_t timeout_ns, void *buf, size_t capacity, void *len)"
  extern "void shoal_queue_free(void *q)"

  FOREVER = -1
  CREATE = 1

  # Raises the error of a failed call.
  def self.check(status)
    raise shoal_last_error.to_s unless status.zero?
  end

  # A queue of messages.
  class Queue
    # Opens the queue of this name, or creates it if there is none.
    def initialize(name)
      options = QueueOptions.malloc(Fiddle::RUBY_FREE)
      options.to_ptr[0, QueueOptions.size] = "\0" * QueueOptions.size
      options.size = QueueOptions.size
      options.flags = CREATE
      Fiddle::Pointer.malloc(Fiddle::SIZEOF_VOIDP, Fiddle::RUBY_FREE) do |out|
        Shoal.check Shoal.shoal_queue_open(name, options, out, nil)
        @handle = out.ptr
      end
    end

    # Puts a string, and waits for room if there is none.
    def put(data)
      Shoal.check Shoal.shoal_queue_put(@handle, data, data.bytesize, FOREVER)
    end

    # The next message, of at most 4096 bytes.
    def get
      buf = "\0" * 4096
      len = "\0" * Fiddle::SIZEOF_SIZE_T
      Shoal.check Shoal.shoal_queue_get(@handle, FOREVER, buf, buf.bytesize, len)
      buf.byteslice(0, len.unpack1("J"))
    end

    # Frees the handle.
    def close
      Shoal.shoal_queue_free(@handle)
      @handle = nil
    end
  end
end

queue = Shoal::Queue.new(ARGV.fetch(0, "jobs"))
queue.put("hello from Ruby")
puts "Ruby got: #{queue.get}"
queue.close
