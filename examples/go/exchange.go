// Puts a message into a queue that all languages share, and gets one.
//
//	go run . [NAME]
//
// cgo reads shoal.h itself; pkg-config says where it is.
package main

// #cgo pkg-config: shoal
// #include <stdlib.h>
// #include <shoal.h>
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

// Queue is a queue of messages.
type Queue struct{ handle *C.shoal_queue }

// call runs one function of the library. shoal_last_error reports the calling thread's error, so the goroutine stays
// in one thread until it has read it.
func call(function func() C.shoal_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if function() != C.SHOAL_OK {
		return errors.New(C.GoString(C.shoal_last_error()))
	}
	return nil
}

// Open opens the queue of this name, or creates it if there is none.
func Open(name string) (*Queue, error) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	options := C.shoal_queue_options{flags: C.SHOAL_CREATE}
	options.size = C.size_t(unsafe.Sizeof(options))
	queue := new(Queue)
	return queue, call(func() C.shoal_status {
		return C.shoal_queue_open(text, &options, &queue.handle, nil)
	})
}

// Put puts a message, and waits for room if there is none.
func (q *Queue) Put(message []byte) error {
	var data unsafe.Pointer
	if len(message) > 0 {
		data = unsafe.Pointer(&message[0])
	}
	return call(func() C.shoal_status {
		return C.shoal_queue_put(q.handle, data, C.size_t(len(message)), C.SHOAL_FOREVER)
	})
}

// Get returns the next message, of at most 4096 bytes.
func (q *Queue) Get() ([]byte, error) {
	buf := make([]byte, 4096)
	var size C.size_t
	err := call(func() C.shoal_status {
		return C.shoal_queue_get(q.handle, C.SHOAL_FOREVER, unsafe.Pointer(&buf[0]), C.size_t(len(buf)), &size)
	})
	return buf[:size], err
}

// Close frees the handle.
func (q *Queue) Close() { C.shoal_queue_free(q.handle) }

func exchange(name string) error {
	queue, err := Open(name)
	if err != nil {
		return err
	}
	defer queue.Close()
	if err := queue.Put([]byte("hello from Go")); err != nil {
		return err
	}
	message, err := queue.Get()
	if err == nil {
		fmt.Printf("Go got: %s\n", message)
	}
	return err
}

func main() {
	name := "jobs"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	if err := exchange(name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
