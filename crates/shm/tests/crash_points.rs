//! Death after the n-th store, for every n, of every operation.
//!
//! A second participant (its own mapping, its own identity, as another process would have) runs
//! the operation on a thread of its own and dies after store 1, 2, ... until the operation
//! survives. After each death the others go on: nothing hangs, every message arrives exactly once,
//! and all memory is accounted for.

#![cfg(debug_assertions)] // without, there are no crash points

use breakeven_shm::crash_points::run;
use breakeven_shm::{Arena, Blob, Channel, ChannelConfig, InBatch, Message, OutBatch};

fn arena() -> Arena {
    Arena::heap(512 << 20, 96 << 20).unwrap()
}

/// Runs `operation` as a participant that dies after its `after`-th store. True if it survived.
fn play(arena: &Arena, after: u64, operation: impl FnOnce(&Arena) + Send) -> bool {
    let victim = arena.again().unwrap();
    let survived = std::thread::scope(|scope| {
        // The thread ends with the death, and the kernel hands its locks on.
        scope.spawn(|| run(Some(after), || operation(&victim)).0.is_some()).join().unwrap()
    });
    victim.abandon();
    survived
}

/// Lets `operation` die at each of its stores in turn; `check` looks at the world afterwards and
/// is told whether the operation survived.
fn at_every_store(arena: &Arena, operation: impl Fn(&Arena) + Send + Sync, mut check: impl FnMut(bool)) {
    for after in 1.. {
        assert!(after < 10_000, "the operation never survives");
        let survived = play(arena, after, &operation);
        check(survived);
        arena.reap();
        arena.check_invariants().unwrap();
        if survived {
            assert!(after > 1, "the operation made no store at all");
            return;
        }
    }
}

fn open(arena: &Arena, channel: &Channel) -> Channel {
    Channel::open(arena, breakeven_shm::Ticket { id: channel.id(), lender: 0 }, None).unwrap()
}

/// Everything in the channel: tag, payload, sum of block bytes.
fn drain(channel: &Channel) -> Vec<(u16, Vec<u8>, u64)> {
    let mut all = Vec::new();
    let mut message = Message::new();
    let mut next = None;
    while channel.try_recv(&mut message).is_ok() {
        assert_eq!(*next.get_or_insert(message.sequence), message.sequence, "numbered without gaps");
        next = Some(message.sequence + 1);
        let sum = message.blocks.iter().flat_map(|block| block.as_slice()).map(|&b| u64::from(b));
        all.push((message.tag, message.payload().to_vec(), sum.sum()));
        message.blocks.clear();
    }
    let figures = channel.statistics();
    assert_eq!(figures.sent, figures.taken, "the counts have caught up with what happened");
    all
}

fn fill(arena: &Arena, len: usize, byte: u8) -> breakeven_shm::Block {
    let mut block = arena.alloc(len).unwrap();
    block.as_mut_slice().fill(byte);
    block
}

#[test]
fn alloc_and_release() {
    let arena = arena();
    for len in [100, 5000, 70_000] {
        drop([arena.alloc(len).unwrap(), arena.alloc(len).unwrap()]);
        let before = arena.statistics().in_use;
        at_every_store(
            &arena,
            |victim| drop([victim.alloc(len).unwrap(), victim.alloc(len).unwrap()]),
            |_| {
                arena.reap();
                assert_eq!(arena.statistics().in_use, before);
            },
        );
    }
}

#[test]
fn carving_fresh_blocks() {
    let arena = arena();
    let mut len = 16 << 10;
    for after in 1..40 {
        // Another size each time, so that there is never a free block of it.
        len += len / 4 + 1;
        if len > 4 << 20 {
            len = 300;
        }
        let before = arena.statistics().in_use;
        play(&arena, after, |victim| drop(victim.alloc(len).unwrap()));
        arena.reap();
        assert_eq!(arena.statistics().in_use, before);
        arena.check_invariants().unwrap();
    }
}

#[test]
fn sending_a_small_message() {
    let arena = arena();
    let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
    at_every_store(
        &arena,
        |victim| {
            let channel = open(victim, &channel);
            channel.try_send(1, b"victim", &mut Vec::new()).unwrap();
        },
        |survived| {
            channel.try_send(2, b"after", &mut Vec::new()).unwrap();
            let mut got = drain(&channel);
            assert_eq!(got.pop(), Some((2, b"after".to_vec(), 0)), "the channel works on");
            assert!(got.len() <= 1 && (!survived || got.len() == 1), "at most once: {got:?}");
        },
    );
}

#[test]
fn sending_blocks() {
    let arena = arena();
    let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
    drop(arena.alloc(50_000).unwrap());
    let before = arena.statistics().in_use;
    at_every_store(
        &arena,
        |victim| {
            let channel = open(victim, &channel);
            let mut blocks = vec![fill(victim, 50_000, 3), fill(victim, 300, 1)];
            channel.try_send(1, b"victim", &mut blocks).unwrap();
        },
        |survived| {
            arena.reap(); // before the message is taken: what it carries must stay
            let got = drain(&channel);
            assert!(got.len() <= 1 && (!survived || got.len() == 1));
            assert!(got.iter().all(|(_, _, sum)| *sum == 150_300), "the blocks are whole");
            arena.reap();
            assert_eq!(arena.statistics().in_use, before);
        },
    );
}

#[test]
fn receiving_blocks() {
    let arena = arena();
    let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
    let before = arena.statistics().in_use;
    at_every_store(
        &arena,
        |victim| {
            let channel = open(victim, &channel);
            let mut message = Message::new();
            if channel.try_recv(&mut message).is_err() {
                // First call of a round: the lead sends from outside, see below.
                unreachable!("a message was there");
            }
        },
        {
            let send = |tag| {
                let mut blocks = vec![fill(&arena, 50_000, 3)];
                channel.try_send(tag, b"x", &mut blocks).unwrap();
            };
            send(1);
            send(2);
            let channel = &channel;
            let arena = &arena;
            move |survived| {
                arena.reap();
                let got = drain(channel);
                // The victim took message 1 or did not; message 2 is there in any case.
                assert_eq!(got.last().map(|(tag, ..)| *tag), Some(2));
                assert!(got.len() == 1 || (got.len() == 2 && !survived));
                assert!(got.iter().all(|(_, _, sum)| *sum == 150_000));
                arena.reap();
                assert_eq!(arena.statistics().in_use, before);
                send(1);
                send(2);
            }
        },
    );
}

#[test]
fn growing_and_leaving_a_chain_of_rings() {
    let arena = arena();
    let payload = [9u8; 1000];
    // A channel per round: each victim fills the first ring and links the second.
    for after in (1..2500).step_by(1) {
        let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
        for _ in 0..31 {
            channel.try_send(0, &payload, &mut Vec::new()).unwrap();
        }
        let survived = play(&arena, after, |victim| {
            let channel = open(victim, &channel);
            for _ in 0..3 {
                channel.try_send(1, &payload, &mut Vec::new()).unwrap();
            }
            let mut message = Message::new();
            for _ in 0..33 {
                channel.try_recv(&mut message).unwrap();
            }
        });
        channel.try_send(2, b"after", &mut Vec::new()).unwrap();
        arena.reap();
        let got = drain(&channel);
        assert_eq!(got.last().map(|(tag, ..)| *tag), Some(2));
        let order: Vec<u16> = got.iter().map(|(tag, ..)| *tag).collect();
        assert!(order.is_sorted());
        assert_eq!(channel.statistics().rings, 1);
        drop(channel);
        arena.reap();
        assert_eq!(arena.statistics().in_use, 0);
        arena.check_invariants().unwrap();
        if survived {
            return;
        }
    }
    panic!("never survived");
}

/// The ring that a dead sender was about to leave is drained and given back by a receiver before
/// the next sender comes: that sender must not follow it to what its memory is by then.
#[test]
fn a_ring_that_its_sender_never_left() {
    let arena = arena();
    let payload = [9u8; 1000];
    drop(arena.alloc(1024 * 64 + 192).unwrap()); // warm: the same stores in each round
    for after in 1.. {
        let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
        for _ in 0..31 {
            channel.try_send(0, &payload, &mut Vec::new()).unwrap();
        }
        let survived = play(&arena, after, |victim| {
            let channel = open(victim, &channel);
            for _ in 0..3 {
                channel.try_send(1, &payload, &mut Vec::new()).unwrap();
            }
        });
        let taken = drain(&channel).len();
        let reused = fill(&arena, 512 * 64 + 192, 0xff);
        channel.try_send(2, b"after", &mut Vec::new()).unwrap();
        assert_eq!(drain(&channel), [(2, b"after".to_vec(), 0)]);
        assert_eq!(channel.statistics().sent, taken as u64 + 1);
        drop((reused, channel));
        arena.reap();
        assert_eq!(arena.statistics().in_use, 0);
        arena.check_invariants().unwrap();
        if survived {
            return;
        }
    }
}

/// A lender's account is not the next owner's of its slot.
#[test]
fn a_ticket_of_a_dead_lender_takes_nothing_from_others() {
    let arena = arena();
    let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
    let lender = arena.again().unwrap();
    let lent = open(&lender, &channel);
    let ticket = lent.lend().unwrap();
    std::mem::forget(lent);
    lender.abandon();
    assert_eq!(arena.reap(), 1);
    let heir = arena.again().unwrap();
    let kept = open(&heir, &channel); // in the lender's slot
    drop(channel);
    drop(Channel::open(&arena, ticket, None).unwrap());
    kept.try_send(1, b"still there", &mut Vec::new()).unwrap();
    assert_eq!(drain(&kept).len(), 1);
    drop(kept);
    assert_eq!(arena.statistics().in_use, 0);
}

/// A receiver that died after taking a message has made room, also if nobody receives after it.
#[test]
fn room_that_a_dead_receiver_made() {
    let arena = arena();
    let config = ChannelConfig { maxsize: 1, claim_slots: 0 };
    let channel = Channel::create(&arena, config).unwrap();
    channel.try_send(1, b"x", &mut Vec::new()).unwrap();
    at_every_store(
        &arena,
        |victim| open(victim, &channel).try_recv(&mut Message::new()).unwrap(),
        |_| {
            let waited = channel.wait_writable(std::time::Duration::from_millis(1));
            let sent = channel.try_send(2, b"y", &mut Vec::new());
            assert_eq!(sent.is_ok(), waited == breakeven_shm::Wait::Ready);
            assert_eq!(drain(&channel).len(), 1, "the old one or the new one");
            channel.try_send(1, b"x", &mut Vec::new()).unwrap();
        },
    );
}

/// A message is there to be taken, or the claim says who took it.
#[test]
fn claims() {
    let arena = arena();
    let config = ChannelConfig { maxsize: 0, claim_slots: 1 };
    let channel = Channel::create(&arena, config).unwrap();
    let sequence = std::sync::atomic::AtomicU64::new(0);
    let send = || {
        let sent = channel.try_send(1, b"x", &mut Vec::new()).unwrap();
        sequence.store(sent, std::sync::atomic::Ordering::Relaxed);
    };
    send();
    at_every_store(
        &arena,
        |victim| {
            let channel = open(victim, &channel);
            assert!(channel.set_claim_slot(0));
            channel.try_recv(&mut Message::new()).unwrap();
        },
        |survived| {
            let sent = sequence.load(std::sync::atomic::Ordering::Relaxed);
            let claimed = channel.claim(0) == Some(sent) && channel.was_taken(sent);
            assert!(claimed || !survived);
            assert_eq!(drain(&channel).len(), usize::from(!claimed));
            channel.clear_claim(0);
            send();
        },
    );
}

#[test]
fn batches() {
    let arena = arena();
    let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
    at_every_store(
        &arena,
        |victim| {
            let channel = open(victim, &channel);
            let mut out = OutBatch::new();
            for n in 0..20u8 {
                out.push(1, &[n], Vec::new());
            }
            channel.try_send_batch(&mut out).unwrap();
            let mut batch = InBatch::new();
            channel.try_recv_batch(5, &mut batch).unwrap();
        },
        |survived| {
            let got: Vec<u8> = drain(&channel).iter().map(|(_, bytes, _)| bytes[0]).collect();
            assert!(got.is_sorted(), "in order");
            assert!(got.is_empty() || got.last() == Some(&19), "a batch comes whole");
            assert!(!survived || got.len() == 15);
        },
    );
}

#[test]
fn making_and_ending_channels_and_blobs() {
    let arena = arena();
    at_every_store(
        &arena,
        |victim| {
            let channel = Channel::create(victim, ChannelConfig::default()).unwrap();
            let mut blocks = vec![victim.alloc(5000).unwrap()];
            channel.try_send(1, b"x", &mut blocks).unwrap();
            let blocks = vec![victim.alloc(5000).unwrap(), victim.alloc(10).unwrap()];
            let blob = Blob::publish(victim, 5, b"payload", blocks).unwrap();
            let again = Blob::open(victim, blob.id()).unwrap();
            assert_eq!(again.payload(), b"payload");
        },
        |_| {
            arena.reap();
            let figures = arena.statistics();
            assert_eq!((figures.in_use, figures.channels, figures.blobs), (0, 0, 0));
        },
    );
}

#[test]
fn reaping_itself() {
    let arena = arena();
    let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
    let before = arena.statistics().in_use;
    // Somebody dies with a channel, blocks in it, blocks in ours, and blocks of its own ...
    let leave_a_mess = || {
        let dead = arena.again().unwrap();
        let own = Channel::create(&dead, ChannelConfig::default()).unwrap();
        let mut blocks = vec![dead.alloc(5000).unwrap()];
        own.try_send(1, b"x", &mut blocks).unwrap();
        let mut blocks = vec![fill(&dead, 5000, 1)];
        open(&dead, &channel).try_send(1, b"x", &mut blocks).unwrap();
        std::mem::forget((own, dead.alloc(7000).unwrap()));
        dead.abandon();
    };
    leave_a_mess();
    // ... and the victim dies while it cleans up after it.
    at_every_store(
        &arena,
        |victim| {
            victim.reap();
        },
        |_| {
            arena.reap();
            let got = drain(&channel);
            assert!(got.len() == 1 && got[0].2 == 5000, "what a dead process sent stays whole");
            arena.reap();
            assert_eq!(arena.statistics().in_use, before);
            assert_eq!(arena.statistics().participants, 1);
            leave_a_mess();
        },
    );
}

mod sync {
    use super::{arena, at_every_store};
    use breakeven_shm::Arena;
    use breakeven_shm::sync::{Condition, Event, Mutex, ReleaseError, Round, Semaphore};
    use std::time::Duration;

    const SLICE: Duration = Duration::from_millis(60);

    fn acquire(mutex: &Mutex, thread: u64) {
        let mut round = Round::default();
        for _ in 0..500 {
            if mutex.try_acquire(thread).unwrap() || mutex.wait(thread, SLICE, &mut round).unwrap().0 {
                return;
            }
        }
        panic!("the lock is not to be had");
    }

    #[test]
    fn a_mutex() {
        for recursive in [false, true] {
            let arena = arena();
            let mutex = Mutex::create(&arena, recursive).unwrap();
            at_every_store(
                &arena,
                |victim: &Arena| {
                    let mutex = Mutex::open(victim, mutex.ticket()).unwrap();
                    acquire(&mutex, 1);
                    mutex.release(1).unwrap();
                },
                |_| {
                    acquire(&mutex, 2);
                    assert!(!mutex.try_acquire(3).unwrap(), "one has it");
                    mutex.release(2).unwrap();
                    assert!(!mutex.is_recovered());
                },
            );
        }
    }

    #[test]
    fn a_mutex_of_somebody_who_died_taking_it_over() {
        let arena = arena();
        let mutex = Mutex::create(&arena, false).unwrap();
        let hold = || {
            let first = arena.again().unwrap();
            let held = Mutex::open(&first, mutex.ticket()).unwrap();
            assert!(held.try_acquire(1).unwrap());
            std::mem::forget(held);
            first.abandon();
        };
        hold();
        at_every_store(
            &arena,
            |victim: &Arena| {
                let mutex = Mutex::open(victim, mutex.ticket()).unwrap();
                acquire(&mutex, 1);
                assert!(mutex.is_recovered());
            },
            |_| {
                // Killed after opening it only: still the first one's; else the victim's.
                acquire(&mutex, 2);
                assert!(mutex.is_recovered(), "whoever comes next learns of it");
                mutex.release(2).unwrap();
                hold();
            },
        );
        assert!(mutex.recoveries() > 1);
    }

    #[test]
    fn a_semaphore_has_exactly_what_it_had() {
        let arena = arena();
        let semaphore = Semaphore::create(&arena, 3, 3).unwrap();
        assert!(semaphore.try_acquire().unwrap());
        at_every_store(
            &arena,
            |victim: &Arena| {
                let semaphore = Semaphore::open(victim, semaphore.ticket()).unwrap();
                assert!(semaphore.try_acquire().unwrap());
                assert!(semaphore.try_acquire().unwrap());
                semaphore.release().unwrap();
            },
            |_| {
                arena.reap();
                assert_eq!((semaphore.permits(), semaphore.held()), (2, 1));
                // Also while others go on before the dead are found.
                assert!(semaphore.try_acquire().unwrap());
                semaphore.release().unwrap();
                assert_eq!((semaphore.permits(), semaphore.held()), (2, 1));
            },
        );
        semaphore.release().unwrap();
        assert_eq!(semaphore.release(), Err(ReleaseError::TooOften));
    }

    #[test]
    fn a_semaphore_that_others_use_before_the_dead_are_found() {
        let arena = arena();
        let semaphore = Semaphore::create(&arena, 3, 3).unwrap();
        at_every_store(
            &arena,
            |victim: &Arena| {
                let semaphore = Semaphore::open(victim, semaphore.ticket()).unwrap();
                assert!(semaphore.try_acquire().unwrap());
                semaphore.release().unwrap();
                assert!(semaphore.try_acquire().unwrap());
            },
            |_| {
                for _ in 0..3 {
                    assert!(semaphore.try_acquire().unwrap());
                    semaphore.release().unwrap();
                }
                arena.reap();
                assert_eq!((semaphore.permits(), semaphore.held()), (3, 0));
            },
        );
    }

    #[test]
    fn a_signal_does_not_come_back() {
        let arena = arena();
        let semaphore = Semaphore::create(&arena, 0, 10).unwrap();
        at_every_store(
            &arena,
            |victim: &Arena| {
                let semaphore = Semaphore::open(victim, semaphore.ticket()).unwrap();
                semaphore.release().unwrap();
                assert!(semaphore.try_acquire().unwrap());
            },
            |_| {
                arena.reap();
                assert!(semaphore.permits() <= 1, "it was sent once");
                while semaphore.try_acquire().unwrap() {}
            },
        );
    }

    #[test]
    fn an_event() {
        let arena = arena();
        let event = Event::create(&arena).unwrap();
        at_every_store(
            &arena,
            |victim: &Arena| {
                let event = Event::open(victim, event.ticket()).unwrap();
                event.set().unwrap();
                event.clear().unwrap();
                let since = event.since().unwrap();
                event.wait(since, Duration::from_millis(1));
            },
            |_| {
                let since = event.since().unwrap();
                event.set().unwrap();
                assert!(event.has_come(since) && event.is_set().unwrap());
                event.clear().unwrap();
            },
        );
    }

    /// One who waits dies at each store of coming, being notified and leaving; another waits all the
    /// while. Whoever is notified last has to be somebody alive.
    #[test]
    fn a_condition() {
        let arena = arena();
        let condition = Condition::create(&arena).unwrap();
        at_every_store(
            &arena,
            |victim: &Arena| {
                let condition = Condition::open(victim, condition.ticket()).unwrap();
                let place = condition.enter().unwrap().unwrap();
                condition.notify(1).unwrap();
                condition.leave(place);
            },
            |survived| {
                let place = condition.enter().unwrap().unwrap();
                arena.reap();
                assert!(condition.deaths() <= 1 && (!survived || condition.deaths() == 0));
                condition.notify(1).unwrap();
                assert!(condition.has_come(place), "the dead are passed over");
                assert!(condition.leave(place));
                assert_eq!((condition.waiting(), condition.deaths()), (0, 0));
                assert_eq!(condition.notify(usize::MAX).unwrap(), 0);
                // Every place is free again.
                let places: Vec<usize> = (0..Condition::MOST).map(|_| condition.enter().unwrap().unwrap()).collect();
                assert_eq!(condition.enter().unwrap(), None);
                places.into_iter().for_each(|place| assert!(!condition.leave(place)));
            },
        );
    }

    #[test]
    fn a_notification_of_the_dead_is_passed_on() {
        let arena = arena();
        let condition = Condition::create(&arena).unwrap();
        let other = arena.again().unwrap();
        let theirs = Condition::open(&other, condition.ticket()).unwrap();
        let first = theirs.enter().unwrap().unwrap();
        let mine = condition.enter().unwrap().unwrap();
        assert_eq!(condition.notify(1).unwrap(), 1);
        assert!(theirs.has_come(first) && !condition.has_come(mine), "who waits longest");
        std::mem::forget(theirs);
        other.abandon();
        arena.reap();
        assert!(condition.has_come(mine));
        assert!(condition.leave(mine));
    }

    #[test]
    fn handles_of_the_dead_are_taken_back() {
        let arena = arena();
        let before = arena.statistics();
        at_every_store(
            &arena,
            |victim: &Arena| {
                let mutex = Mutex::create(victim, true).unwrap();
                let semaphore = Semaphore::create(victim, 1, 1).unwrap();
                let event = Event::create(victim).unwrap();
                drop((mutex, semaphore, event, Condition::create(victim).unwrap()));
            },
            |_| {
                arena.reap();
                let now = arena.statistics();
                assert_eq!((now.in_use, now.locks), (before.in_use, 0));
            },
        );
    }
}

/// A consumer dies at each store of saying that a message is dealt with: the others can go on to the
/// end, and say it as often as there are messages, give or take the one that the dead had in hand.
#[test]
fn finishing_messages() {
    let arena = arena();
    let channel = Channel::create(&arena, ChannelConfig::default()).unwrap();
    let mut message = Message::new();
    at_every_store(
        &arena,
        |victim| {
            let channel = open(victim, &channel);
            channel.try_send(1, b"a", &mut Vec::new()).unwrap();
            let mut message = Message::new();
            channel.try_recv(&mut message).unwrap();
            assert!(channel.finish_one().unwrap());
        },
        |survived| {
            let unfinished = channel.unfinished();
            assert!(unfinished <= 1 && (!survived || unfinished == 0));
            channel.try_send(2, b"b", &mut Vec::new()).unwrap();
            let since = channel.times_finished().unwrap();
            while channel.try_recv(&mut message).is_ok() {}
            while channel.unfinished() > 0 {
                assert!(channel.finish_one().unwrap());
            }
            assert!(channel.has_finished(since));
            assert_eq!(channel.wait_finished(since, std::time::Duration::from_secs(60)), breakeven_shm::Wait::Ready);
            assert!(!channel.finish_one().unwrap(), "not more often than messages were sent");
        },
    );
}
