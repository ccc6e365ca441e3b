//! Batches of all sizes through a ring that grows and shrinks, while the processes at both
//! ends are killed at random moments and replaced.
//!
//! A killed consumer may lose the batch that it was taking. No other message may be missing between a
//! producer's first and last one, and none may be duplicated, changed or made up.

use std::time::{Duration, Instant};

use crate::common::{Child, FOREVER, NOWAIT, Random, alone, fork};
use shoal::{Options, Queue};

const BATCH: usize = 4;
/// The test continues until more messages than this have arrived, on a busy machine too.
const LEAST_MESSAGES: usize = 100;
const HEAD: usize = 8;

/// Message `index` of producer `who`, of a size and a content that follow from them.
fn message(who: u32, index: u32) -> Vec<u8> {
    let body = (index.wrapping_mul(2_654_435_761) >> 20) as usize % 3000;
    let bytes = (0..body).map(|at| (at as u32 ^ index ^ who) as u8);
    [who.to_le_bytes(), index.to_le_bytes()]
        .concat()
        .into_iter()
        .chain(bytes)
        .collect()
}

fn parse(data: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
    (word(0), word(4))
}

struct Stage {
    queue: Queue,
    results: Queue,
}

impl Stage {
    fn producer(&self, who: u32) -> Child {
        fork(|| {
            let mut next = 0;
            loop {
                let batch: Vec<_> = (next..next + 1 + next % BATCH as u32)
                    .map(|index| message(who, index))
                    .collect();
                match self.queue.put_many(&batch, FOREVER) {
                    Ok(put) => next += put as u32,
                    Err(_) => break,
                }
            }
        })
    }

    fn consumer(&self) -> Child {
        fork(|| {
            let (mut buf, mut lens) = (Vec::new(), Vec::new());
            while self
                .queue
                .get_many(&mut buf, &mut lens, BATCH, FOREVER)
                .is_ok()
            {
                let mut rest = &buf[..];
                let heads: Vec<_> = lens
                    .iter()
                    .map(|&len| {
                        let (data, after) = rest.split_at(len);
                        rest = after;
                        let (who, index) = parse(data);
                        assert_eq!(data, message(who, index), "changed on its way");
                        data[..HEAD].to_vec()
                    })
                    .collect();
                assert_eq!(self.results.put_many(&heads, FOREVER), Ok(heads.len()));
                buf.clear();
                lens.clear();
            }
        })
    }
}

#[test]
fn elastic_batches_survive_random_kills() {
    let _alone = alone();
    let options = Options::create().capacity(4096).max_capacity(1 << 18);
    let stage = Stage {
        queue: Queue::with_options(None, &options).unwrap(),
        results: Queue::anonymous().unwrap(),
    };
    let mut random = Random(0x5eed);
    let mut started = 0;
    let mut start = || {
        started += 1;
        stage.producer(started - 1)
    };
    let mut producers = [start(), start()];
    let mut consumers = [stage.consumer(), stage.consumer()];
    let (mut killed, begin) = (0, Instant::now());
    let length = Duration::from_secs(2);
    while begin.elapsed() < length || stage.results.len() <= LEAST_MESSAGES {
        std::thread::sleep(Duration::from_micros(random.below(5000)));
        let place = random.below(2) as usize;
        if random.below(2) == 0 {
            std::mem::replace(&mut producers[place], start()).kill();
        } else {
            std::mem::replace(&mut consumers[place], stage.consumer()).kill();
            killed += 1;
        }
    }
    stage.queue.close().unwrap();
    producers.into_iter().for_each(Child::ends_well);
    consumers.into_iter().for_each(Child::ends_well);
    assert_eq!((stage.queue.len(), stage.queue.bytes()), (0, 0));

    let mut seen = vec![Vec::new(); started as usize];
    while let Ok(head) = stage.results.get_vec(NOWAIT) {
        let (who, index) = parse(&head);
        seen[who as usize].push(index);
    }
    let mut lost = 0;
    for indices in &mut seen {
        let count = indices.len();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), count, "a message came twice");
        lost += indices.last().map_or(0, |&last| last as usize + 1 - count);
    }
    let total: usize = seen.iter().map(Vec::len).sum();
    println!("{total} messages of {started} producers; {lost} went with {killed} consumers");
    assert!(
        lost <= killed * BATCH,
        "{lost} lost with {killed} consumers"
    );
    assert!(total > LEAST_MESSAGES);
}
