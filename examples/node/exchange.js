// Puts a message into a queue that all languages share, and gets one; then the output of a child.
//
//     npm install koffi
//     node exchange.js [NAME]
//
// The declarations are those of shoal.h. A call that waits uses `.async`: it sleeps in a thread of Node's
// pool, and the event loop continues. `shoal_last_error` is per thread, so after an asynchronous
// call only the status shows what happened.

const fs = require('fs');
const koffi = require('koffi');

const lib = koffi.load(process.env.SHOAL_LIBRARY || 'libshoal.so.0');
const libc = koffi.load('libc.so.6');

koffi.opaque('shoal_queue');
koffi.opaque('shoal_process');
const QueueOptions = koffi.struct('shoal_queue_options', {
  size: 'size_t', flags: 'uint64_t', capacity: 'uint64_t', max_capacity: 'uint64_t',
  max_items: 'uint64_t', max_attempts: 'uint64_t',
});
const SpawnOptions = koffi.struct('shoal_spawn_options', {
  size: 'size_t', file: 'const char *', argv: 'const char **', envp: 'const char **',
  env_set: 'const char **', env_unset: 'const char **', cwd: 'const char *',
  stdio: koffi.array('int32_t', 3), n_fds: 'uint32_t', fds: 'void *', flags: 'uint64_t',
  device_family: 'const char *', device_mask: 'const char *',
});
koffi.struct('shoal_exit', { kind: 'uint32_t', code: 'int32_t' });
koffi.struct('pollfd', { fd: 'int', events: 'short', revents: 'short' });

const lastError = lib.func('const char *shoal_last_error()');
const statusName = lib.func('const char *shoal_status_name(uint32_t status)');
const queueOpen = lib.func(
  'uint32_t shoal_queue_open(const char *name, const shoal_queue_options *options, _Out_ shoal_queue **out, void *created)');
const queuePut = lib.func('uint32_t shoal_queue_put(shoal_queue *q, const void *data, size_t len, int64_t timeout_ns)');
const queueGet = lib.func(
  'uint32_t shoal_queue_get(shoal_queue *q, int64_t timeout_ns, _Out_ uint8_t *buf, size_t capacity, _Out_ size_t *len)');
const queueFd = lib.func('uint32_t shoal_queue_fd(shoal_queue *q, _Out_ int *out)');
const queueFree = lib.func('void shoal_queue_free(shoal_queue *q)');
const spawn = lib.func('uint32_t shoal_process_spawn(const shoal_spawn_options *options, _Out_ shoal_process **out)');
const stdio = lib.func('uint32_t shoal_process_stdio(shoal_process *p, int which, _Out_ int *fd)');
const join = lib.func('uint32_t shoal_process_join(shoal_process *p, int64_t timeout_ns, _Out_ shoal_exit *end)');
const processFree = lib.func('void shoal_process_free(shoal_process *p)');
const poll = libc.func('int poll(_Inout_ pollfd *fds, unsigned long n, int timeout)');

const FOREVER = -1, CREATE = 1, PIPE = -2, POLLIN = 1;

/** Throws the error of a failed call. */
function check(status) {
  if (status !== 0) throw new Error(lastError() || statusName(status));
}

/** Calls in a thread of the pool, and waits for it without blocking the event loop. */
function later(func, ...args) {
  return new Promise((resolve, reject) =>
    func.async(...args, (err, result) => (err ? reject(err) : resolve(result))));
}

/** The next message, as bytes. */
async function get(queue) {
  const buf = Buffer.alloc(4096), len = [0];
  const status = await later(queueGet, queue, FOREVER, buf, buf.length, len);
  if (status !== 0) throw new Error(statusName(status));
  return buf.subarray(0, Number(len[0]));
}

/** What a program prints, and its exit code. */
async function output(...argv) {
  const child = [null], fd = [0], end = {};
  const options = { size: koffi.sizeof(SpawnOptions), argv: [...argv, null], stdio: [0, PIPE, 0] };
  check(spawn(options, child));
  check(stdio(child[0], 1, fd));
  const text = await fs.promises.readFile(`/proc/self/fd/${fd[0]}`, 'utf8');
  fs.closeSync(fd[0]);
  const status = await later(join, child[0], FOREVER, end);
  processFree(child[0]);
  if (status !== 0) throw new Error(statusName(status));
  return { text, code: end.code };
}

async function main() {
  const name = process.argv[2] || 'jobs', out = [null], fd = [0];
  check(queueOpen(name, { size: koffi.sizeof(QueueOptions), flags: CREATE }, out, null));
  const queue = out[0];
  const message = Buffer.from('hello from Node');
  check(queuePut(queue, message, message.length, FOREVER));
  console.log(`Node got: ${await get(queue)}`);

  // A descriptor that is readable while there is a message, for a program that waits for several things.
  const own = [null];
  check(queueOpen(null, null, own, null));
  check(queueFd(own[0], fd));
  const polled = [{ fd: fd[0], events: POLLIN, revents: 0 }];
  const readable = later(poll, polled, 1, 10000);
  check(queuePut(own[0], message, message.length, FOREVER));
  console.log(`descriptors that are readable: ${await readable}`);
  queueFree(own[0]);

  const { text, code } = await output('echo', 'hello from a child');
  console.log(`exit code ${code}: ${text.trim()}`);
  queueFree(queue);
}

main().catch((err) => { console.error(err.message); process.exit(1); });
