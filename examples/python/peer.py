"""One side of a conversation between languages.

    python peer.py <queue-in> <queue-out> <map> <who> <count>

Puts <count> messages "<who>:<k>" into <queue-out>, then takes <count> messages from
<queue-in> and, for each, adds 1 to "from:<origin>" in <map>. Queues, map and messages are
plain bytes, so the other side may be C, C++, Rust or another Python.
"""

import sys
from collections import Counter

import shoal


def main() -> None:
    if len(sys.argv) != 6:
        sys.exit("usage: python peer.py <queue-in> <queue-out> <map> <who> <count>")
    incoming, outgoing, counts, who = sys.argv[1:5]
    count = int(sys.argv[5])

    seen: "Counter[str]" = Counter()
    with shoal.Queue[bytes](incoming) as inbox, shoal.Queue[bytes](outgoing) as outbox:
        with shoal.BytesMap(counts) as origins:
            for k in range(count):
                outbox.put_bytes(b"%s:%d" % (who.encode(), k))
            for _ in range(count):
                origin, _, _ = inbox.get_bytes().partition(b":")
                origins.add(b"from:" + origin)
                seen[origin.decode()] += 1

    heard = ", ".join(f"{n} from {origin}" for origin, n in sorted(seen.items()))
    print(f"{who}: put {count}, got {count} ({heard})")


if __name__ == "__main__":
    main()
