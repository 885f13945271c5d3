//! Nanoseconds a message: in one process, and across two. `cargo bench -p breakeven-shm --bench ring`.

#[path = "support/mod.rs"]
mod support;

use breakeven_shm::{Channel, ChannelConfig, InBatch, Message, OutBatch};
use std::time::Duration;
use support::{arena, compare, in_child};

fn main() {
    let arena = arena();
    let make = |maxsize| Channel::create(&arena, ChannelConfig { maxsize, claim_slots: 0 }).unwrap();
    let (channel, bounded) = (make(0), make(64));
    let mut message = Message::new();
    let mut none = Vec::new();
    let mut batch = InBatch::new();
    println!("one process, ns a message (put and get together)");
    compare(
        20_000,
        &mut [
            ("one message, 8 bytes", &mut || {
                channel.try_send(1, &[7; 8], &mut none).unwrap();
                channel.try_recv(&mut message).unwrap();
                1
            }),
            ("one message, 8 bytes, bounded", &mut || {
                bounded.try_send(1, &[7; 8], &mut Vec::new()).unwrap();
                bounded.try_recv(&mut Message::new()).unwrap();
                1
            }),
            ("one message, 500 bytes", &mut || {
                channel.try_send(1, &[7; 500], &mut Vec::new()).unwrap();
                channel.try_recv(&mut Message::new()).unwrap();
                1
            }),
            ("100 messages as a batch", &mut || {
                let mut out = OutBatch::new();
                (0..100).for_each(|_| out.push(1, &[7; 8], Vec::new()));
                channel.try_send_batch(&mut out).unwrap();
                channel.try_recv_batch(100, &mut batch).unwrap() as u64
            }),
        ],
    );

    println!("two processes, ns a message (one way)");
    const MESSAGES: u64 = 200_000;
    let pump = |channel: &Channel| {
        for number in 0..MESSAGES {
            while channel.try_send(1, &number.to_ne_bytes(), &mut Vec::new()).is_err() {
                channel.wait_writable(Duration::from_millis(100));
            }
        }
    };
    let stream = |channel: &Channel| {
        let child = in_child(|| pump(channel));
        let mut message = Message::new();
        for _ in 0..MESSAGES {
            while channel.try_recv(&mut message).is_err() {
                channel.wait_readable(Duration::from_millis(100));
            }
        }
        child.wait();
        MESSAGES
    };
    let mut stream_bounded = {
        let bounded = make(1000);
        move || stream(&bounded)
    };
    let unbounded = make(0);
    compare(
        1,
        &mut [
            ("stream, unbounded", &mut || {
                let child = in_child(|| pump(&unbounded));
                let mut message = Message::new();
                for _ in 0..MESSAGES {
                    while unbounded.try_recv(&mut message).is_err() {
                        unbounded.wait_readable(Duration::from_millis(100));
                    }
                }
                child.wait();
                MESSAGES
            }),
            ("stream, maxsize 1000", &mut stream_bounded),
        ],
    );
}
