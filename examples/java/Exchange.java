// Puts a message into a queue that all languages share, and gets one.
//
//     java --enable-native-access=ALL-UNNAMED Exchange.java [NAME]
//
// Java 22 or later, without any library: its foreign functions call those of shoal.h.

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;

public final class Exchange {
    /** The part of libshoal that this program uses. A size_t is a long. */
    static final class Shoal {
        static final long FOREVER = -1;
        static final long CREATE = 1;

        /** size, flags, capacity, max_capacity, max_items, max_attempts. */
        static final MemoryLayout QUEUE_OPTIONS = MemoryLayout.sequenceLayout(6, JAVA_LONG);

        private static final Linker LINKER = Linker.nativeLinker();
        private static final SymbolLookup LIBRARY = SymbolLookup.libraryLookup(
            System.getenv().getOrDefault("SHOAL_LIBRARY", "libshoal.so.0"), Arena.global());

        static final MethodHandle LAST_ERROR = function("shoal_last_error", FunctionDescriptor.of(ADDRESS));
        static final MethodHandle QUEUE_OPEN = function("shoal_queue_open",
            FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS, ADDRESS));
        static final MethodHandle QUEUE_PUT = function("shoal_queue_put",
            FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG, JAVA_LONG));
        static final MethodHandle QUEUE_GET = function("shoal_queue_get",
            FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, ADDRESS, JAVA_LONG, ADDRESS));
        static final MethodHandle QUEUE_FREE = function("shoal_queue_free",
            FunctionDescriptor.ofVoid(ADDRESS));

        private static MethodHandle function(String name, FunctionDescriptor descriptor) {
            return LINKER.downcallHandle(LIBRARY.find(name).orElseThrow(), descriptor);
        }

        /** Throws the error of a failed call. A virtual thread may change its carrier, so it is read at once. */
        static void check(int status) throws Throwable {
            if (status != 0) {
                MemorySegment text = (MemorySegment) LAST_ERROR.invokeExact();
                throw new IllegalStateException(text.reinterpret(1024).getString(0));
            }
        }
    }

    /** A queue of messages. */
    static final class Queue implements AutoCloseable {
        private final MemorySegment handle;

        /** Opens the queue of this name, or creates it if there is none. */
        Queue(String name) throws Throwable {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment options = arena.allocate(Shoal.QUEUE_OPTIONS);
                options.setAtIndex(JAVA_LONG, 0, Shoal.QUEUE_OPTIONS.byteSize());
                options.setAtIndex(JAVA_LONG, 1, Shoal.CREATE);
                MemorySegment out = arena.allocate(ADDRESS);
                Shoal.check((int) Shoal.QUEUE_OPEN.invokeExact(
                    arena.allocateFrom(name), options, out, MemorySegment.NULL));
                handle = out.get(ADDRESS, 0);
            }
        }

        /** Puts a message, and waits for room if there is none. */
        void put(byte[] message) throws Throwable {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment data = arena.allocateFrom(JAVA_BYTE, message);
                Shoal.check((int) Shoal.QUEUE_PUT.invokeExact(
                    handle, data, (long) message.length, Shoal.FOREVER));
            }
        }

        /** The next message, of at most 4096 bytes. */
        byte[] get() throws Throwable {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment buf = arena.allocate(4096);
                MemorySegment len = arena.allocate(JAVA_LONG);
                Shoal.check((int) Shoal.QUEUE_GET.invokeExact(
                    handle, Shoal.FOREVER, buf, buf.byteSize(), len));
                return buf.asSlice(0, len.get(JAVA_LONG, 0)).toArray(JAVA_BYTE);
            }
        }

        /** Frees the handle. */
        @Override
        public void close() {
            try {
                Shoal.QUEUE_FREE.invokeExact(handle);
            } catch (Throwable impossible) {
                throw new AssertionError(impossible);
            }
        }
    }

    public static void main(String[] args) throws Throwable {
        try (Queue queue = new Queue(args.length > 0 ? args[0] : "jobs")) {
            queue.put("hello from Java".getBytes(StandardCharsets.UTF_8));
            System.out.println("Java got: " + new String(queue.get(), StandardCharsets.UTF_8));
        }
    }
}
