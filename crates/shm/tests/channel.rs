//! What a channel promises, in one process: order, bounds, blocks, batches, growth.

use breakeven_shm::{Arena, Channel, ChannelConfig, InBatch, Message, OutBatch, TryRecvError, TrySendError, Wait};
use std::time::Duration;

/// Each behaviour is tested on a memory file and on the heap.
fn arenas() -> [Arena; 2] {
    let config = breakeven_shm::ArenaConfig { limit: 256 << 20, reserve: 1 << 30 };
    [Arena::create(config).unwrap(), Arena::heap(64 << 20, 64 << 20).unwrap()]
}

fn channel(arena: &Arena, maxsize: u32) -> Channel {
    Channel::create(arena, ChannelConfig { maxsize, claim_slots: 2 }).unwrap()
}

fn send(channel: &Channel, text: &str) -> Result<u64, TrySendError> {
    channel.try_send(7, text.as_bytes(), &mut Vec::new())
}

fn recv(channel: &Channel) -> Result<String, TryRecvError> {
    let mut message = Message::new();
    channel.try_recv(&mut message)?;
    assert_eq!(message.tag, 7);
    Ok(String::from_utf8(message.payload().to_vec()).unwrap())
}

#[test]
fn messages_come_in_order_and_are_numbered() {
    for arena in arenas() {
        let channel = channel(&arena, 0);
        for n in 0..10_000u64 {
            assert_eq!(send(&channel, &format!("message {n}")), Ok(n));
        }
        assert_eq!(channel.len(), 10_000);
        assert!(channel.statistics().rings > 1, "the ring has grown a chain");
        for n in 0..10_000 {
            assert_eq!(recv(&channel).unwrap(), format!("message {n}"));
        }
        assert_eq!(recv(&channel), Err(TryRecvError::Empty));
        assert_eq!(channel.statistics().rings, 1, "rings left behind are given back");
        arena.check_invariants().unwrap();
    }
}

#[test]
fn messages_of_every_length_go_through_a_small_ring() {
    for arena in arenas() {
        let channel = channel(&arena, 0);
        for round in 0..20 {
            for len in (0..=1024).step_by(7) {
                send(&channel, &"x".repeat(len)).unwrap();
                if round % 2 == 0 {
                    assert_eq!(recv(&channel).unwrap().len(), len);
                }
            }
            if round % 2 == 1 {
                for len in (0..=1024).step_by(7) {
                    assert_eq!(recv(&channel).unwrap().len(), len);
                }
            }
        }
        assert_eq!(channel.try_send(7, &[0; 1025], &mut Vec::new()), Err(TrySendError::TooLong));
    }
}

#[test]
fn a_bounded_channel_is_full_at_its_bound() {
    for arena in arenas() {
        let channel = channel(&arena, 2);
        send(&channel, "a").unwrap();
        send(&channel, "b").unwrap();
        assert_eq!(send(&channel, "c"), Err(TrySendError::Full));
        assert!(channel.is_full());
        assert_eq!(channel.wait_writable(Duration::from_millis(1)), Wait::TimedOut);
        assert_eq!(recv(&channel).unwrap(), "a");
        assert_eq!(channel.wait_writable(Duration::from_secs(10)), Wait::Ready);
        send(&channel, "c").unwrap();
    }
}

#[test]
fn blocks_travel_with_messages_and_come_back_when_dropped() {
    for arena in arenas() {
        let channel = channel(&arena, 0);
        let before = arena.statistics().in_use;
        let mut block = arena.alloc(100_000).unwrap();
        block.as_mut_slice().fill(42);
        let address = block.as_ptr();
        let mut blocks = vec![block, arena.alloc(10).unwrap()];
        channel.try_send(1, b"two", &mut blocks).unwrap();
        assert!(blocks.is_empty());
        let mut message = Message::new();
        channel.try_recv(&mut message).unwrap();
        assert_eq!(message.blocks.len(), 2);
        assert_eq!(message.blocks[0].len(), 100_000);
        assert_eq!(message.blocks[0].as_ptr(), address, "no copy was made");
        assert!(message.blocks[0].as_slice().iter().all(|&byte| byte == 42));
        message.blocks.clear();
        assert_eq!(arena.statistics().in_use, before);
        // Last in, first out: the next block of that size is the warm one.
        assert_eq!(arena.alloc(100_000).unwrap().as_ptr(), address);
    }
}

#[test]
fn batches_keep_order_and_respect_the_bound() {
    for arena in arenas() {
        let channel = channel(&arena, 100);
        let mut out = OutBatch::new();
        for n in 0..150u32 {
            out.push(3, &n.to_ne_bytes(), Vec::new());
        }
        assert_eq!(channel.try_send_batch(&mut out), Ok(100));
        assert_eq!(channel.try_send_batch(&mut out), Err(TrySendError::Full));
        let mut batch = InBatch::new();
        assert_eq!(channel.try_recv_batch(60, &mut batch), Ok(60));
        let mut got: Vec<u32> = Vec::new();
        let number = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
        got.extend(batch.drain().map(|(_, bytes, _)| number(bytes)));
        assert_eq!(channel.try_send_batch(&mut out), Ok(50));
        while channel.try_recv_batch(1000, &mut batch).is_ok() {
            got.extend(batch.drain().map(|(_, bytes, _)| number(bytes)));
        }
        assert_eq!(got, (0..150).collect::<Vec<_>>());
    }
}

#[test]
fn a_claim_names_the_message_that_was_taken_last() {
    for arena in arenas() {
        let channel = channel(&arena, 0);
        assert!(channel.set_claim_slot(1));
        assert!(!channel.set_claim_slot(2));
        send(&channel, "a").unwrap();
        send(&channel, "b").unwrap();
        assert_eq!(channel.claim(1), None);
        recv(&channel).unwrap();
        assert_eq!(channel.claim(1), Some(0));
        assert!(channel.was_taken(0));
        assert!(!channel.was_taken(1));
        recv(&channel).unwrap();
        assert_eq!(channel.claim(1), Some(1));
        channel.clear_claim(1);
        assert_eq!(channel.claim(1), None);
    }
}

#[test]
fn the_last_handle_ends_the_channel_with_all_it_holds() {
    for arena in arenas() {
        let before = arena.statistics();
        let first = channel(&arena, 0);
        let ticket = first.lend().unwrap();
        for _ in 0..5000 {
            let mut blocks = vec![arena.alloc(3000).unwrap()];
            first.try_send(1, b"with a block", &mut blocks).unwrap();
        }
        drop(first);
        let second = Channel::open(&arena, ticket, None).unwrap();
        assert_eq!(second.len(), 5000, "the lent handle kept it alive");
        drop(second);
        let after = arena.statistics();
        assert_eq!((after.in_use, after.channels), (before.in_use, 0));
        assert!(Channel::open(&arena, ticket, None).is_err());
        arena.check_invariants().unwrap();
    }
}

#[test]
fn the_event_descriptor_is_readable_while_there_are_messages() {
    let [arena, _] = arenas();
    let channel = channel(&arena, 0);
    let readable = |channel: &Channel| {
        let fd = channel.event_fd().unwrap();
        let mut poll = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut poll, Some(&timeout)).unwrap() == 1
    };
    send(&channel, "before").unwrap();
    channel.arm_event();
    assert!(readable(&channel), "armed with a message inside");
    recv(&channel).unwrap();
    assert!(!readable(&channel));
    send(&channel, "a").unwrap();
    send(&channel, "b").unwrap();
    recv(&channel).unwrap();
    assert!(readable(&channel));
    recv(&channel).unwrap();
    assert!(!readable(&channel));
}

#[test]
fn many_threads_lose_and_double_nothing() {
    for (arena, maxsize) in arenas().into_iter().zip([0, 16]) {
        let channel = channel(&arena, maxsize);
        let (threads, each) = (3u64, 20_000u64);
        let mut got: Vec<u64> = std::thread::scope(|scope| {
            for thread in 0..threads {
                let channel = &channel;
                scope.spawn(move || {
                    for n in 0..each {
                        let number = (thread * each + n).to_ne_bytes();
                        while channel.try_send(0, &number, &mut Vec::new()).is_err() {
                            channel.wait_writable(Duration::from_millis(100));
                        }
                    }
                });
            }
            let receivers: Vec<_> = (0..threads)
                .map(|_| {
                    let channel = &channel;
                    scope.spawn(move || {
                        let mut got: Vec<u64> = Vec::new();
                        let mut message = Message::new();
                        while (got.len() as u64) < each {
                            match channel.try_recv(&mut message) {
                                Ok(()) => got.push(u64::from_ne_bytes(message.payload().try_into().unwrap())),
                                Err(_) => {
                                    channel.wait_readable(Duration::from_millis(100));
                                }
                            }
                        }
                        for thread in 0..threads {
                            let of: Vec<_> = got.iter().filter(|&&n| n / each == thread).collect();
                            assert!(of.is_sorted(), "first in, first out per sender");
                        }
                        got
                    })
                })
                .collect();
            receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect()
        });
        got.sort_unstable();
        assert_eq!(got, (0..threads * each).collect::<Vec<_>>());
        arena.check_invariants().unwrap();
    }
}

#[test]
fn a_wait_that_watches_ends_for_either_reason() {
    use std::os::fd::AsRawFd;
    for arena in arenas() {
        let channel = channel(&arena, 0);
        let long = Duration::from_secs(60);
        let (reader, writer) = std::io::pipe().unwrap();
        let watched = [reader.as_raw_fd()];
        // A message that is there, one that comes early, and one that comes when the sleep is on descriptors.
        for delay in [0, 1, 30] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(delay));
                    send(&channel, "message").unwrap();
                });
                while recv(&channel).is_err() {
                    assert_ne!(channel.wait_readable_watching(&watched, long), Wait::Watched);
                }
            });
        }
        assert_eq!(channel.wait_readable_watching(&watched, Duration::from_millis(5)), Wait::TimedOut);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(30));
                drop(writer);
            });
            assert_eq!(channel.wait_readable_watching(&watched, long), Wait::Watched);
        });
        // A message comes first, and what is no descriptor is ignored.
        send(&channel, "message").unwrap();
        assert_eq!(channel.wait_readable_watching(&watched, long), Wait::Ready);
        recv(&channel).unwrap();
        assert_eq!(channel.wait_readable_watching(&[-1, 1 << 20], Duration::from_millis(20)), Wait::TimedOut);
    }
}

#[test]
fn the_event_descriptor_stays_right_for_those_who_asked_for_it() {
    let [arena, _] = arenas();
    let channel = channel(&arena, 0);
    channel.arm_event();
    assert_eq!(channel.wait_readable_watching(&[], Duration::from_millis(5)), Wait::TimedOut);
    let event = channel.event_fd().unwrap();
    let readable = || {
        let mut polled = [rustix::event::PollFd::new(&event, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    };
    assert!(!readable());
    send(&channel, "message").unwrap();
    assert!(readable());
    recv(&channel).unwrap();
    assert!(!readable());
}

#[test]
fn a_ticket_that_nobody_used_can_be_taken_back() {
    for arena in arenas() {
        let before = arena.statistics();
        let first = channel(&arena, 0);
        let ticket = first.lend().unwrap();
        first.lend().unwrap();
        first.end_loans();
        send(&first, "still there").unwrap();
        drop(first);
        assert_eq!(arena.statistics().in_use, before.in_use);
        assert!(Channel::open(&arena, ticket, None).is_err());
    }
}
